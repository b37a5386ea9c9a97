"""What only the results pages and the tools use: baselines, comparisons, leaks, and the files in `results/`."""
