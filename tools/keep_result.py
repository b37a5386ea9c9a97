"""Keep what a run reported: its scores and where they came from as results/NAME.json, its figures for the site.

Usage: python tools/keep_result.py RUN_DIR NAME
"""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from emo_nb.rundir import open_run

ROOT = Path(__file__).resolve().parent.parent
KEPT = (
    "command",
    "date",
    "seconds",
    "task",
    "corpus",
    "profile",
    "encoder",
    "method",
    "split",
    "seed",
    "rows",
    "parameters",
)
ABOUT = ("files", "versions", "hardware")


def main(folder: str, name: str) -> None:
    run = open_run(folder)
    record = {key: run.config[key] for key in (*KEPT, *ABOUT)}
    record["history"] = pd.read_csv(run.folder / "history.csv").to_dict("records")
    target = ROOT / "results" / f"{name}.json"
    target.write_text(json.dumps({**record, "metrics": run.metrics}, indent=1) + "\n")
    images = ROOT / "nbs" / "images"
    images.mkdir(exist_ok=True)
    for figure in ("f1", "confusion"):
        shutil.copy(run.folder / "figures" / f"{figure}.png", images / f"{name}_{figure}.png")
    print(f"kept {target.relative_to(ROOT)} and two figures in {images.relative_to(ROOT)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
