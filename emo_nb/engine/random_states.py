"""The random generators of the program that trains a model."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def restored_random_state() -> Iterator[None]:
    "After the block, Python, NumPy and torch draw what they would have drawn without it, whatever was seeded in it."
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
