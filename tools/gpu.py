"""What is worth measuring on a GPU, in about ten minutes there.

    python tools/gpu.py               `make gpu`: all of it, where torch finds a GPU
    python tools/gpu.py --smallest    `make gpu-rehearsal`: that it runs, on any machine; its figures mean nothing

The full preset on both corpora; GoEmotions' 28 labels with MiniLM and, where its weights are there, with
all-mpnet-base-v2, every layer and three seeds; training and prediction beside the Trainer and the pipeline. Beside each
are its seconds, the memory of the GPU and how busy it was. All goes into results/gpu/.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from experiments import ROOT, SEEDS, summarize_run
from mpnet import FOLDER as MPNET

from emo_nb.io.files import atomic_file
from emo_nb.report import open_run, provenance, utc_now

RUNS = ROOT / "runs" / "gpu"
QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")


def watched(work: Callable[[], Any]) -> dict[str, float]:
    "The seconds that some work takes and, where there is a GPU, how busy it is (%) and its memory (MB), each second."
    seen: list[tuple[float, ...]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(1):
            try:
                line = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout.splitlines()[0]
                seen.append(tuple(map(float, line.split(","))))
            except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
                return

    watcher, start = threading.Thread(target=look), time.perf_counter()
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    about = {"seconds": round(time.perf_counter() - start, 1)}
    if seen:
        busy, memory = zip(*seen, strict=True)
        about |= {"busy_mean": round(mean(busy), 1), "busy_most": max(busy), "memory_mb_most": max(memory)}
    return about


def train(name: str, *options: str) -> dict[str, Any]:
    "A run of the command below runs/gpu/, made anew, and what was seen of the GPU."
    command = [sys.executable, "-m", "emo_nb", "run", *options, "--force", "--out", str(RUNS / name)]
    print(f"\n$ emo-nb {' '.join(command[3:])}", flush=True)
    seen = watched(lambda: subprocess.run(command, cwd=ROOT, check=True))
    return {**summarize_run(open_run(RUNS / name)), "seen": seen}


def plan(smallest: bool) -> dict[str, tuple[str, ...]]:
    "The options of each run, by its name."
    if smallest:
        return {"full": ("--preset", "tiny"), "goemotions28-minilm-42": ("--preset", "tiny", "--task", "goemotions28")}
    encoders = {"minilm": "minilm"} | ({"mpnet": str(MPNET)} if MPNET.is_dir() else {})
    runs: dict[str, tuple[str, ...]] = {"full": ("--preset", "full")}
    for name, encoder in encoders.items():
        for seed in SEEDS:
            options = ("--task", "goemotions28", "--method", "finetune", "--encoder", encoder, "--seed", str(seed))
            runs[f"goemotions28-{name}-{seed}"] = ("--preset", "full", *options)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a rehearsal on any machine")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu", help="folder for the JSON files")
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not given.smallest:
        parser.error("torch finds no GPU here; --smallest rehearses all of it on a CPU")
    started = utc_now()
    runs = {name: train(name, *options) for name, options in plan(given.smallest).items()}
    with atomic_file(given.out / "runs.json") as temporary:
        temporary.write_text(json.dumps({**provenance(started), "command": "make gpu", "runs": runs}, indent=1) + "\n")
    smallest = ["--smallest", "--out", str(given.out)] if given.smallest else []
    bench = [sys.executable, "bench/bench.py", *smallest, "train", "predict"]
    subprocess.run(bench, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
