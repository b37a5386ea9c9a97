"""Labels as one matrix of zeros and ones, texts as tokens, and both in batches that hold as many tokens each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .core import ConfigError

LABEL_SEPARATOR = "|"  # between the labels of one row, in files


def encode_labels(rows: Iterable[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Which of the labels each row has: (n_rows, n_labels), zeros and ones (uint8), columns in the order of `labels`.

    `rows` holds one tuple of labels each. Raises `ConfigError` for labels that are not among `labels`.
    """
    rows, column = list(rows), {label: i for i, label in enumerate(labels)}
    if unknown := sorted({label for row in rows for label in row} - set(column)):
        raise ConfigError(f"labels outside the task: {', '.join(unknown)}; map them onto: {', '.join(labels)}")
    matrix = np.zeros((len(rows), len(labels)), np.uint8)
    for i, row in enumerate(rows):
        matrix[i, [column[label] for label in row]] = 1
    return matrix


def decode_labels(matrix: np.ndarray, labels: Sequence[str]) -> list[tuple[str, ...]]:
    "The labels of each row of a matrix (n_rows, n_labels) of zeros and ones, or of booleans."
    names = np.array(labels, dtype=object)
    return [tuple(names[row]) for row in np.asarray(matrix, dtype=bool)]


def join_labels(rows: Iterable[Sequence[str]]) -> list[str]:
    "Each row's labels as one string, for a file: `joy|love`."
    return [LABEL_SEPARATOR.join(row) for row in rows]


def split_labels(cells: Iterable[str]) -> list[tuple[str, ...]]:
    "What `join_labels` made, as tuples again; an empty string is no label."
    return [tuple(cell.split(LABEL_SEPARATOR)) if cell else () for cell in cells]


class TextDataset:
    "Tokenised texts with their labels, one dict an item: what a PyTorch data loader and a Trainer take."

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any,  # a Hugging Face tokenizer; texts are truncated at its model_max_length
        labels: np.ndarray | None = None,  # (n_texts, n_labels), zeros and ones or probabilities
        multi_label: bool = False,  # give the row of the matrix as float32, not the number of its one label
    ):
        if labels is not None and len(labels) != len(texts):
            raise ConfigError(f"{len(texts)} texts and {len(labels)} rows of labels; give one row for each text")
        self.input_ids = tokenizer(list(texts), truncation=True, return_token_type_ids=False)["input_ids"]
        self.lengths = np.array([len(ids) for ids in self.input_ids])  # (n_texts,), in tokens
        self.labels = labels if labels is None else labels.astype(np.float32) if multi_label else labels.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        item = {"input_ids": self.input_ids[i], "attention_mask": [1] * len(self.input_ids[i])}
        return item if self.labels is None else {**item, "labels": self.labels[i]}


def text_lengths(texts: pd.Series, tokenizer: Any = None) -> pd.DataFrame:
    "Characters, words and, given a Hugging Face tokenizer, tokens of each text: one row a text."
    table = pd.DataFrame({"characters": texts.str.len(), "words": texts.str.split().str.len()})
    if tokenizer is not None:
        table["tokens"] = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    return table


def token_batches(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Indices of texts, the longest first, in batches of at most `max_tokens` tokens, padding included.

    What remains after the full batches comes in powers of two, so that there are few different shapes. Raises
    `ConfigError` where the longest text alone exceeds `max_tokens`.
    """
    if len(lengths) and lengths.max() > max_tokens:
        raise ConfigError(
            f"a batch of {max_tokens} tokens cannot hold the longest text, of {lengths.max()}; allow at least that many"
        )
    order = np.argsort(lengths, kind="stable")[::-1]
    while len(order):
        size = max_tokens // max(lengths[order[0]], 1)
        if len(order) < min(size, len(lengths)):
            size = 2 ** (len(order).bit_length() - 1)
        yield order[:size]
        order = order[size:]


def pad_batch(ids: Sequence[Sequence[int]], pad_token_id: int) -> tuple[np.ndarray, np.ndarray]:
    "Token ids and attention mask, both (n_texts, longest)."
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.full(mask.shape, pad_token_id)
    tokens[mask] = np.concatenate(ids)
    return tokens, mask.astype(np.int64)


def padding_share(batches: Sequence[np.ndarray], lengths: np.ndarray) -> float:
    "The share of padding among the tokens of these batches of indices."
    computed = sum(lengths[rows].max() * len(rows) for rows in batches)
    return float(1 - lengths[np.concatenate(batches)].sum() / computed)


class TokenBatchSampler:
    "A batch sampler for PyTorch: texts of similar length, as many tokens in each batch, another order each epoch."

    def __init__(
        self,
        lengths: np.ndarray,  # (n_texts,), in tokens
        batch_size: int,  # texts of mean length that a batch has room for, over all processes
        epochs: int = 1,
        seed: int = 42,
        world_size: int = 1,  # processes that train together
        rank: int = 0,  # which of them this is
    ):
        self.lengths, self.seed, self.world_size, self.rank = lengths, seed, world_size, rank
        if len(lengths) < world_size:
            raise ConfigError(f"{len(lengths)} rows are too few for {world_size} processes; start fewer processes")
        self.max_tokens = max(int(lengths.mean() * batch_size / world_size), lengths.max())
        self.window = 50 * batch_size
        needed = max(len(self._batches_of(epoch)) for epoch in range(epochs))
        self.count = -(-needed // world_size) * world_size  # the same in every epoch and process
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        "Choose the order of an epoch; the Trainer calls this."
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        batches = _halve_until(self._batches_of(self.epoch), self.count)
        order = np.random.default_rng((self.seed, self.epoch, 1)).permutation(len(batches))
        for i in order[self.rank :: self.world_size]:
            yield batches[i]

    def _batches_of(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.lengths))
        return _fill_batches(_sort_within_windows(order, self.lengths, self.window), self.lengths, self.max_tokens)


def _sort_within_windows(order: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
    "The same indices, sorted by length within each window of `size`, every second window from long to short."
    windows = [order[start : start + size] for start in range(0, len(order), size)]
    windows = [rows[np.argsort(lengths[rows])] for rows in windows]
    return np.concatenate([rows[::-1] if k % 2 else rows for k, rows in enumerate(windows)])


def _fill_batches(order: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[list[int]]:
    "Indices in this order, each batch filled up to `max_tokens`, padding included."
    batches: list[list[int]] = [[]]
    longest = 0
    for i in order.tolist():
        longest = max(longest, lengths[i])
        if longest * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
            longest = lengths[i]
        batches[-1].append(i)
    return batches


def _halve_until(batches: list[list[int]], count: int) -> list[list[int]]:
    "`count` batches: the largest are halved until there are as many."
    batches = list(batches)
    while len(batches) < count:
        batches.sort(key=len)
        rows = batches.pop()
        batches += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return batches
