"""The runs that the experiments of results.py are made of, and the files that hold what came out."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from emo_nb.config import Config
from emo_nb.core import whole_file
from emo_nb.evaluate import OVERALL
from emo_nb.run import choose_rows, gather
from emo_nb.rundir import Run, open_run, provenance

ROOT = Path(__file__).resolve().parent.parent
RUNS, RESULTS = ROOT / "runs" / "results", ROOT / "results"
SEEDS = (42, 43, 44)
KEPT = (
    *("command", "date", "seconds", "train_seconds", "memory_mb", "task", "corpus", "profile", "encoder", "method"),
    *("split", "unit", "seed", "rows", "parameters", "calibration", "files", "versions", "hardware"),
)


def made(name: str, *options: str) -> Run:
    "The run of that name, with all rows and the bundled encoder; trained where it is not there yet."
    folder = RUNS / name
    if not (folder / "metrics.json").exists():
        words = ["run", "--profile", "full", "--encoder", "minilm", *options, "--out", str(folder.relative_to(ROOT))]
        print(f"\n$ emo-nb {shlex.join(words)}", flush=True)
        subprocess.run([Path(sys.executable).with_name("emo-nb"), *words], cwd=ROOT, check=True)
    return open_run(folder)


def of_task(task: str, method: str = "full", seed: int = SEEDS[0]) -> Run:
    "The run of a task with its own splits."
    return made(f"{task}-{method}-{seed}", "--task", task, "--method", method, "--seed", str(seed))


def kept(run: Run) -> dict[str, Any]:
    "What a result file holds of a run."
    sizes = {
        part: round(sum(f.stat().st_size for f in (run.folder / part).iterdir()) / 1e6, 1)
        for part in ("model", "adapter")
        if (run.folder / part).is_dir()
    }
    history = pd.read_csv(run.folder / "history.csv").to_dict("records")
    return {**{key: run.config[key] for key in KEPT}, "size_mb": sizes, "history": history, "metrics": run.metrics}


def spread(runs: list[Run]) -> dict[str, dict[str, dict[str, float]]]:
    "Mean and, where there are several, standard deviation over seeds of each overall score, for each corpus."
    table = {}
    for corpus in runs[0].metrics:
        scores = pd.DataFrame([run.metrics[corpus] for run in runs])[[*OVERALL, "calibration_error"]].astype(float)
        table[corpus] = {"mean": scores.mean().round(4).to_dict()}
        if len(runs) > 1:
            table[corpus]["sd"] = scores.std(ddof=1).round(4).to_dict()
    return table


def parts_of(run: Run) -> tuple[dict[str, pd.DataFrame], list[str], bool]:
    "The rows that a run was made of, its labels, and whether a text may have several."
    config = Config.of(run.config)
    material = gather(config, say=lambda line: None)
    return choose_rows(material.rows, material.task, config), run.config["labels"], run.config["multi_label"]


def write(name: str, record: dict[str, Any], started: Any) -> None:
    "results/NAME.json, with where it came from."
    about = {**provenance(started), "command": f"make results PART={name}"}
    with whole_file(RESULTS / f"{name}.json") as beside:
        beside.write_text(json.dumps({**about, **record}, indent=1) + "\n")
    print(f"results/{name}.json written", flush=True)
