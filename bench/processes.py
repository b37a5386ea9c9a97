"""Whole processes: a cold start, the commands of `make run`, files of texts, and measurements in company."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import MODEL, Measure, texts_to_predict

COMMAND = ["-m", "emo_nb"]
MEASURE = Path(__file__).with_name("measure.py")


def cold(command: list[str]) -> Measure:
    "Seconds until a fresh process has answered one text, and its memory."

    def measure(_: int) -> dict[str, Any]:
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as process:
            _, process.returncode, usage = os.wait4(process.pid, 0)
        assert process.returncode == 0, command
        return {"seconds": time.perf_counter() - start, "memory_mb": usage.ru_maxrss / 1024}

    return measure


def small_run(rows_per_label: int) -> dict[str, Any]:
    "The commands of `make run`, one after the other; with the test score, and the time of the parts."
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "run"
        rows = ("--rows-per-label", str(rows_per_label))
        explored = [
            cold([*COMMAND, "explore", "--corpus", corpus, "--out", f"{name}/{corpus}"])(0)
            for corpus in ("goemotions", "empathetic")
        ]
        run = cold([*COMMAND, "run", "--epochs", "2", "--out", str(out), *rows])(0)
        predicted = cold([*COMMAND, "predict", "--model", str(out), "one text", "another", "and a third"])(0)
        record, metrics = (json.loads((out / name).read_text()) for name in ("config.json", "metrics.json"))
        trained = record["epochs"] * record["rows"]["train"] / record["examples_per_second"]
        tested = record["seconds"] - record["train_seconds"]
        commands = (*explored, run, predicted)
        return {
            "seconds": sum(one["seconds"] for one in commands),
            "memory_mb": max(one["memory_mb"] for one in commands),
            "macro_f1": metrics["all"]["macro_f1"],
            "exploring": sum(one["seconds"] for one in explored),
            "before": run["seconds"] - trained - tested,
            "training": trained,
            "testing": tested,
            "predicting": predicted["seconds"],
        }


ON_RAY = """
import sys
from emo_nb.predict import TrainedClassifier
from emo_nb.scale.ray_data import predict_on_ray

model, file, out, cores = sys.argv[1:]
predict_on_ray(TrainedClassifier.from_pretrained(model), file, out, show_progress_bar=False, cores=int(cores))
"""


def file_of(rows: int, ray_cores: int | None = None, model: Path = MODEL, on: set[int] | None = None) -> dict[str, Any]:
    """A file of texts through `emo-nb predict`, its start included; and the memory that the process took at most.

    Or on a Ray cluster of this machine, or of the cores `on`, with workers of so many cores, whose memory is not counted.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory() as name:
        table, out = Path(name) / "in.csv", Path(name) / "out.parquet"
        pd.DataFrame({"text": texts_to_predict(rows)}).to_csv(table, index=False)
        command = [*COMMAND, "predict", "--model", str(model), "--file", str(table), "--out", str(out)]
        if ray_cores:
            command = ["-c", ON_RAY, str(model), str(table), str(out), str(ray_cores)]
        start = time.perf_counter()
        keep_to = None if on is None else lambda: os.sched_setaffinity(0, on)
        with subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL, preexec_fn=keep_to) as process:
            _, process.returncode, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        written = len(pd.read_parquet(out, columns=["label"]))
        assert written == rows, f"{written} rows of {rows} came out"
    return {"seconds": seconds, "per_second": rows / seconds, "memory_mb": usage.ru_maxrss / 1024}


def in_a_process(part: str, way: str, busy: int = 0, cores: int | None = None, **environment: str) -> Measure:
    "Another measurement, beside so many busy processes, bound to so many cores, or in another environment; and its memory."

    def measure(size: int) -> dict[str, Any]:
        company = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        allowed = None if cores is None else set(sorted(os.sched_getaffinity(0))[:cores])
        try:
            with subprocess.Popen(
                [sys.executable, MEASURE, part, way, str(size)],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | environment,
                preexec_fn=None if allowed is None else lambda: os.sched_setaffinity(0, allowed),
            ) as process:
                assert process.stdout is not None
                output = process.stdout.read()
        finally:
            for other in company:
                other.kill()
                other.wait()
        measurement = json.loads(output.splitlines()[-1])
        return {name: measurement[name] for name in ("per_second", "memory_mb")}

    return measure
