"""What is worth measuring on a GPU, in about ten minutes there.

    python tools/gpu.py               `make gpu`: all of it, where torch finds a GPU
    python tools/gpu.py --smallest    `make gpu-rehearsal`: that it runs, on any machine; its figures mean nothing

Training and prediction beside the Trainer and the pipeline; GoEmotions' 28 labels with MiniLM, every layer and three
seeds; the full preset on both corpora, by the cell for a GPU of the page about the full run, which keeps its output; and
the 28 labels again with all-mpnet-base-v2. Beside each run are its seconds, the memory of the GPU and how busy it was. What cannot be had or fails
is said and left out, and nothing is begun when the time is over. All goes into results/gpu/, after each run.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import nbformat
from experiments import ROOT, SEEDS, summarize_run
from mpnet import find_mpnet
from nbclient.exceptions import CellExecutionError
from pages import WITH_CUDA, run_page

from emo_nb.config import Config
from emo_nb.core import ModelError
from emo_nb.io.files import atomic_file
from emo_nb.model import find_encoder
from emo_nb.report import open_run, provenance, utc_now

RUNS = ROOT / "runs" / "gpu"
PAGE = ROOT / "nbs" / "results" / "21_full_run.ipynb"
PRESET = ("--preset", "full")  # as its cell has it
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


def train_on_the_page(options: tuple[str, ...]) -> dict[str, Any]:
    """The page of the full run, run below runs/gpu/ with its cell for a GPU, and what was seen of the GPU.

    `options` take the place of the preset's in that cell; where they are the preset's, the page keeps what it printed.
    """
    page, folder = RUNS / PAGE.name, RUNS / "runs" / "full"  # the cell writes beside its page
    shutil.rmtree(folder, ignore_errors=True)
    notebook = nbformat.read(PAGE, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(f"run {shlex.join(PRESET)} --out", f"run {shlex.join(options)} --out")
    RUNS.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, page)
    print(f"\nthe cell for a GPU of {PAGE.name}: emo-nb run {shlex.join(options)}", flush=True)
    seen = watched(lambda: nbformat.write(run_page(page, WITH_CUDA), page))
    if options == PRESET:
        shutil.copy(page, PAGE)
    return {**summarize_run(open_run(folder)), "seen": seen}


def full_preset() -> tuple[str, ...]:
    "The options of the full preset; with the bundled encoder where its own cannot be had."
    try:
        find_encoder(str(Config.from_preset("full").train.encoder))
    except ModelError as error:
        print(f"{error}; the full preset is run with minilm", flush=True)
        return (*PRESET, "--encoder", "minilm")
    return PRESET


def larger_encoder() -> str | None:
    "The folder of all-mpnet-base-v2, where it can be had."
    try:
        return str(find_mpnet())
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"all-mpnet-base-v2 cannot be had ({error}); it is left out", flush=True)
        return None


def plan(smallest: bool) -> dict[str, tuple[str, ...]]:
    "The options of each run, by its name."
    if smallest:
        return {"goemotions28-minilm-42": ("--preset", "tiny", "--task", "goemotions28"), "full": ("--preset", "tiny")}
    runs = {f"goemotions28-minilm-{seed}": on_28_labels("minilm", seed) for seed in SEEDS} | {"full": full_preset()}
    if encoder := larger_encoder():
        runs |= {f"goemotions28-mpnet-{seed}": on_28_labels(encoder, seed) for seed in SEEDS}
    return runs


def on_28_labels(encoder: str, seed: int) -> tuple[str, ...]:
    options = ("--task", "goemotions28", "--method", "finetune", "--encoder", encoder, "--seed", str(seed))
    return ("--preset", "full", *options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a rehearsal on any machine")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu", help="folder for the JSON files")
    parser.add_argument("--minutes", type=float, default=9, help="nothing is begun after so many")
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not given.smallest:
        parser.error("torch finds no GPU here; --smallest rehearses all of it on a CPU")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for the page's cell
    started, end = utc_now(), time.perf_counter() + 60 * given.minutes
    smallest = ["--smallest"] if given.smallest else []
    bench = [sys.executable, "bench/bench.py", *smallest, "--out", str(given.out / "bench"), "train", "predict"]
    if subprocess.run(bench, cwd=ROOT).returncode:
        print("the benchmark failed; going on", flush=True)
    runs: dict[str, Any] = {}
    for name, options in plan(given.smallest).items():
        if time.perf_counter() > end:
            print(f"{name} is left out: {given.minutes:g} minutes are over", flush=True)
            continue
        try:
            runs[name] = train_on_the_page(options) if name == "full" else train(name, *options)
        except (subprocess.CalledProcessError, CellExecutionError) as error:
            print(f"{name} failed (…{str(error)[-500:]}); going on", flush=True)
            continue
        with atomic_file(given.out / "runs.json") as temporary:
            record = {**provenance(started), "command": "make gpu", "runs": runs}
            temporary.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
