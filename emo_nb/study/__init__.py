"""Saved models scored again, labels that a model doubts, baselines, comparisons, and the files in `results/`."""
