"""`python -m emo_nb`, the same as the command `emo-nb`; also what `accelerate launch -m emo_nb run …` starts."""

from emo_nb.cli import main

if __name__ == "__main__":
    main()
