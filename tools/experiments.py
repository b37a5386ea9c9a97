"""The runs that the experiments of results.py are made of, and the files that hold their results."""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from emo_nb.config import Config
from emo_nb.evaluate import SCORES
from emo_nb.io.files import atomic_file
from emo_nb.report import Run, open_run, provenance
from emo_nb.run import load_examples, make_splits

ROOT = Path(__file__).resolve().parent.parent
RUNS, RESULTS = ROOT / "runs" / "results", ROOT / "results"
SEEDS = (42, 43, 44)
RECORD_KEYS = (  # what a result file holds of a run's config.json
    *("command", "date", "seconds", "train_seconds", "memory_mb", "task", "corpus", "preset", "encoder", "method"),
    *("split", "text_unit", "seed", "rows", "parameters", "calibration", "files", "versions", "hardware"),
)


def train_run(name: str, *options: str) -> Run:
    "The run of that name below runs/results/, on all rows with the bundled encoder; trained where it is not there yet."
    folder = RUNS / name
    if not (folder / "metrics.json").exists():
        arguments = ["run", "--preset", "full", "--encoder", "minilm", *options, "--out", str(folder.relative_to(ROOT))]
        print(f"\n$ emo-nb {shlex.join(arguments)}", flush=True)
        subprocess.run([Path(sys.executable).with_name("emo-nb"), *arguments], cwd=ROOT, check=True)
    return open_run(folder)


def train_task(task: str, method: str = "finetune", seed: int = SEEDS[0]) -> Run:
    "The run of a task with its own split."
    return train_run(f"{task}-{method}-{seed}", "--task", task, "--method", method, "--seed", str(seed))


def train_shared(corpus: str = "both", split: str = "group") -> Run:
    "The run of the ten shared emotions in every layer, on one corpus or both."
    corpus_option = () if corpus == "both" else ("--corpus", corpus)
    options = (*corpus_option, "--method", "finetune", "--split", split, "--seed", str(SEEDS[0]))
    return train_run(f"shared10-{corpus}-{split}-{SEEDS[0]}", *options)


def summarize_run(run: Run) -> dict[str, Any]:
    "What a result file holds of a run: its record, the sizes of its folders (MB), its history and its scores."
    record = run.config | Config.from_record(run.config).to_record()  # a run of an earlier version, in today's names
    sizes = {
        part: round(sum(file.stat().st_size for file in (run.folder / part).iterdir()) / 1e6, 1)
        for part in ("model", "adapter")
        if (run.folder / part).is_dir()
    }
    history = pd.read_csv(run.folder / "history.csv").to_dict("records")
    return {**{key: record[key] for key in RECORD_KEYS}, "size_mb": sizes, "history": history, "metrics": run.metrics}


def summarize_seeds(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float]]]:
    "For each corpus, the `mean` of each overall score over runs and, where there are several, its `sd` (n - 1)."
    table = {}
    for corpus in runs[0].metrics:
        scores = pd.DataFrame([run.metrics[corpus] for run in runs])[[*SCORES, "calibration_error"]].astype(float)
        table[corpus] = {"mean": scores.mean().round(4).to_dict()}
        if len(runs) > 1:
            table[corpus]["sd"] = scores.std(ddof=1).round(4).to_dict()
    return table


def load_splits(run: Run) -> dict[str, pd.DataFrame]:
    "The rows of train, dev and test that a run was made of."
    config = Config.from_record(run.config)
    examples = load_examples(config)
    return make_splits(examples.rows, examples.task, config)


def write_result(name: str, record: dict[str, Any], started: datetime, command: str | None = None) -> None:
    "Write `record` to results/NAME.json, beside when and where it was made and by which command."
    about = {**provenance(started), "command": command or f"make results PART={name}"}
    with atomic_file(RESULTS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps({**about, **record}, indent=1) + "\n")
    print(f"results/{name}.json written", flush=True)
