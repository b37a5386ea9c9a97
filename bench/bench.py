"""How fast emo_nb is beside what else its users could pick, as ratios from one run on one machine.

`python bench/bench.py [PART ...]` with the parts train, tuning, score, study, profile, predict, latency, engines, run,
start, rows, ray, length, threads, company, quota and memory. Every measurement is a process of its own; the ways take
turns, several rounds; medians are compared. Each part prints a table and writes results/bench/KIND/PART.json, where KIND
says what the machine multiplies with, so that those of different machines lie beside each other.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from common import EXPORT, EXPORT8, MODEL, ONNX, device, texts_to_predict
from measure import PARTS
from prediction import CPU_ONLY

from emo_nb.cli import print_table
from emo_nb.engine import onnx_export
from emo_nb.engine.checkpoints import load_config
from emo_nb.engine.device import machine_kind
from emo_nb.io.files import atomic_file
from emo_nb.predict import TrainedClassifier
from emo_nb.report import provenance, utc_now

ROOT = Path(__file__).resolve().parent.parent
SIZES: dict[str, list[int]] = {  # rows, but tokens for length, threads for threads, rows of a label for run
    "train": [8000],
    "tuning": [5000],
    "score": [20_000],
    "study": [5000],
    "profile": [4000],
    "predict": [5000],
    "latency": [300],
    "engines": [2000],
    "run": [600],
    "start": [1],
    "rows": [1_000, 10_000, 100_000, 1_000_000],
    "ray": [20_000, 200_000],  # a part of ten thousand texts for each of two workers, and ten
    "length": [8, 16, 32, 64, 128, 256],
    "threads": [1, 2],
    "company": [2000],
    "quota": [2000],
    "memory": [5000],
}
ROUNDS = {
    "train": 3,
    "tuning": 1,
    "score": 1,
    "study": 1,
    "profile": 1,
    "predict": 3,
    "latency": 3,
    "engines": 3,
    "run": 1,
    "start": 5,
    "rows": 1,
    "ray": 1,
    "length": 3,
    "threads": 3,
    "company": 3,
    "quota": 3,
    "memory": 1,
}
SLOW = {"the study's recipe": 15}  # measured on so many times fewer rows
MAIN = {
    "profile": "dense products",
    "tuning": "dev_macro_f1",
    "score": "seconds",
    "study": "seconds",
    "latency": "p50",
    "run": "seconds",
    "start": "seconds",
    "rows": "seconds",
    "ray": "seconds",
    "memory": "memory_mb",
}  # what is compared; texts a second elsewhere
MORE_IS_BETTER = ("per_second", "dev_macro_f1")
PEERS = ("onnxruntime", "onnx", "openvino", "ray")
# Keeps torch and its libraries to what older processors have; ONNX Runtime and OpenVINO would not obey
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def checkpoint(parts: list[str], smallest: bool) -> None:
    "The model of the package that all ways predict with, as a plain checkpoint and exported; another's is removed."
    classifier = TrainedClassifier.from_pretrained("goemotions28-fast" if smallest else "goemotions28")
    texts = texts_to_predict(32) if smallest else None  # on which an export is checked
    onnx_export.N_CALIBRATION = 16 if smallest else onnx_export.N_CALIBRATION
    layers = classifier.checkpoint.config.num_hidden_layers
    if MODEL.is_dir() and load_config(MODEL).num_hidden_layers != layers:
        for folder in (MODEL, ONNX, EXPORT, EXPORT8):
            shutil.rmtree(folder, ignore_errors=True)
    if not MODEL.is_dir():
        classifier.save_pretrained(MODEL)
    for folder, those in ((EXPORT, {"latency", "engines", "start", "memory"}), (EXPORT8, {"latency", "engines"})):
        if those & set(parts) and not folder.is_dir():
            onnx_export.export_onnx(classifier, folder, int8=folder == EXPORT8, texts=texts)


def measured(part: str, way: str, size: int, alone: bool) -> dict[str, float]:
    "One measurement, in a process of its own, or where all are in one."
    if not alone:
        return PARTS[part][way](size)
    command = [sys.executable, str(Path(__file__).with_name("measure.py")), part, way, str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{part}, {way}, {size} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ways_of(part: str) -> list[str]:
    "The ways of a part that can be measured here."
    all_of_them = device() == "cpu" and "ATEN_CPU_CAPABILITY" not in os.environ
    return [way for way in PARTS[part] if all_of_them or not way.endswith(CPU_ONLY)]


def a_part(part: str, sizes: list[int], rounds: int, alone: bool) -> dict[str, Any]:
    "All ways of a part in turn, so many rounds: for each size and way, what each round measured."
    measurements: dict[str, dict[str, dict[str, list[float]]]] = {str(size): {} for size in sizes}
    for turn in range(rounds):
        for size in sizes:
            for way in ways_of(part):
                measurement = measured(part, way, max(size // SLOW[way], 32) if way in SLOW else size, alone)
                for name, value in measurement.items():
                    measurements[str(size)].setdefault(way, {}).setdefault(name, []).append(value)
                print(f"round {turn + 1} of {rounds}, {part} {size:,}, {way}: {shown(measurement)}", flush=True)
    return measurements


def shown(measurement: dict[str, float]) -> str:
    "One measurement in a line."
    return ", ".join(f"{name} {value:,.4g}" for name, value in measurement.items())


NAMES = {
    "per_second": "a second",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "gflops": "GFLOP/s",
    "largest_change": "change",
    "same_first_label": "same label",
    "dev_average_precision": "dev AP",
    "dev_macro_f1": "dev macro-F1",
    "memory_mb": "MB",
}


def table_of(part: str, measurements: dict[str, Any]) -> pd.DataFrame:
    "Medians, the spread of what is compared, and how many times as good as the first peer each way is."
    measure, rows = MAIN.get(part, "per_second"), []
    for size, ways in measurements.items():
        compared = {way: median(values[measure]) for way, values in ways.items() if measure in values}
        for way, middle in compared.items():
            first = next(iter(compared.values()))
            values = ways[way]
            others = {NAMES.get(name, name): f"{median(each):,.3g}" for name, each in values.items() if name != measure}
            rows.append(
                {
                    part: f"{way}, {int(size):,}" if len(measurements) > 1 else way,
                    NAMES.get(measure, measure): f"{middle:,.4g}",
                    "spread": f"{min(values[measure]):,.4g} to {max(values[measure]):,.4g}",
                    "times": f"{middle / first if measure in MORE_IS_BETTER else first / middle:.2f}",
                    **others,
                }
            )
    return pd.DataFrame(rows).fillna("").set_index(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--smallest",
        action="store_true",
        help="a smaller model, all in one process, to see that it runs; its figures mean nothing",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench", help="folder of the kinds' folders")
    parser.add_argument("--rounds", type=int, help="how often each way takes its turn; each part's own by default")
    parser.add_argument("--avx2", action="store_true", help="keep torch to AVX2, as on a processor that has no more")
    given = parser.parse_args()
    if wrong := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(wrong)}; there is: {', '.join(PARTS)}")
    if given.avx2:
        os.environ.update(AVX2)  # of the processes that measure
    folder = given.out / ("avx2-kept" if given.avx2 else machine_kind())
    texts_to_predict(1)  # says at once where there is no corpus
    parts = given.parts or list(PARTS)
    checkpoint(parts, given.smallest)
    for part in parts:
        started = utc_now()
        sizes, rounds = (SIZES[part][:1], 1) if given.smallest else (SIZES[part], given.rounds or ROUNDS[part])
        measurements = a_part(part, [64 if given.smallest else size for size in sizes], rounds, not given.smallest)
        options = " --avx2" * given.avx2 + f" --rounds {given.rounds}" * bool(given.rounds)
        command = f"python bench/bench.py{options} {part}" if options else f"make bench PART={part}"
        record = {**provenance(started), "command": command, "rounds": rounds, "found": measurements}
        record["versions"] |= {name: version(name) for name in PEERS}
        with atomic_file(folder / f"{part}.json") as beside:
            beside.write_text(json.dumps(record, indent=1) + "\n")
        print_table(table_of(part, measurements), f"\n{part}: medians of {rounds}")


if __name__ == "__main__":
    main()
