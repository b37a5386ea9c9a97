"""What all of the benchmark shares: the rows, the model, the processor or the GPU, and the memory taken so far."""

import resource
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Measure = Callable[[int], dict[str, Any]]  # of a size: rows, tokens or threads
Predictor = Callable[[list[str]], np.ndarray]  # probabilities, (n_texts, n_labels)

MODEL = Path("runs/bench/model")  # a checkpoint that `bench.py` writes
ONNX = Path("runs/bench/onnx")
EXPORT, EXPORT8 = Path("runs/bench/export"), Path("runs/bench/export8")  # what `export_onnx` makes of it; in 8 bits


def texts_and_targets(part: str, rows: int | None = None) -> tuple[list[str], np.ndarray, list[str]]:
    "Texts of GoEmotions' official split, their 28 labels as ones and zeros, and the labels."
    from emo_nb.encode import encode_labels
    from emo_nb.taxonomy import get_task

    task, frame = get_task("goemotions28"), goemotions()
    frame = frame[frame.split == part]
    if frame.empty:
        raise SystemExit(f"the benchmark needs GoEmotions' {part} rows; name the folder of the corpora in EMO_NB_DATA")
    if rows:
        frame = frame.sample(min(rows, len(frame)), random_state=0)
    labels = sorted(task.labels)
    return list(frame.text), encode_labels(frame.labels, labels), labels


@cache
def goemotions() -> Any:
    "GoEmotions' tidy frame."
    from emo_nb.corpora import load_corpus

    return load_corpus("goemotions").frame


def texts_to_predict(rows: int) -> list[str]:
    "Texts of the test split, repeated where they are too few."
    texts, _, _ = texts_and_targets("test")
    return (texts * (rows // len(texts) + 1))[:rows]


@cache
def device() -> str:
    "What is measured: the GPU that emo_nb would take, else the processor."
    from emo_nb.engine.device import find_accelerator

    return find_accelerator() or "cpu"


def from_machine() -> str:
    "The number format that emo_nb would choose here."
    from emo_nb.engine.device import choose_backend

    return choose_backend(device()).dtype


def memory_so_far() -> float:
    "The most memory that this process has taken, in MB: asked before the answers are checked, which takes more."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
