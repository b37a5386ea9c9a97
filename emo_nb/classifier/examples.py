"""Texts with labels and groups, as `EmotionClassifier` takes them, read, checked and divided into train and dev."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core import RESERVED_COLUMNS, ConfigError, DataError, logger
from ..encode import decode_labels
from ..engine.label_forms import Labels, read_labels
from ..predict import check_texts

NAME = "texts"  # of the user's data, where a corpus has its name


@dataclass(frozen=True)
class Examples:
    "Texts with their labels and groups, one entry a row."

    texts: list[str]
    labels: Labels
    groups: np.ndarray  # (n_rows,), numbers

    def take(self, rows: np.ndarray) -> "Examples":
        "The rows at these positions."
        labels = replace(self.labels, matrix=self.labels.matrix[rows])
        return Examples([self.texts[i] for i in rows], labels, self.groups[rows])

    def frame(self) -> pd.DataFrame:
        "The rows as the table that splits and scores are made from."
        targets = pd.Series(decode_labels(self.labels.matrix, self.labels.names), dtype=object)
        return pd.DataFrame({"text": self.texts, "targets": targets, "group": self.groups.astype(str), "corpus": NAME})


def read_examples(
    texts: Iterable[str],
    labels: Any,
    multi_label: bool | None,
    groups: Iterable[Any] | None = None,
    classes: np.ndarray | None = None,
) -> Examples:
    "Texts, labels and groups, of the same length; by default each text is a group of its own."
    texts, known = check_texts(texts), read_labels(labels, multi_label, classes)
    _check_length(texts, "labels", len(known.matrix))
    if groups is None:
        return Examples(texts, known, np.arange(len(texts)))
    numbers, _ = pd.factorize(pd.Series(list(groups), dtype=object), use_na_sentinel=True)
    _check_length(texts, "groups", len(numbers))
    if len(missing := np.flatnonzero(numbers < 0)):
        raise DataError(f"the group of row {missing[0]} is missing; give each row one")
    return Examples(texts, known, numbers)


def _check_length(texts: list[str], what: str, n: int) -> None:
    if n != len(texts):
        raise DataError(f"there are {len(texts):,} texts, but the number of {what} is {n:,}; give one for each text")


def check_can_learn(labels: Labels) -> None:
    "Raise `DataError` where there are not two labels, or more labels than rows, or a label has no name of its own."
    if wrong := [name for name in labels.names if not name.strip() or name in RESERVED_COLUMNS]:
        raise DataError(f"the label {wrong[0]!r} is blank, or the name of a column of the results; rename it")
    n_rows, present = len(labels.matrix), labels.matrix.sum(axis=0) > 0
    if present.sum() < 2:
        named = f" ({labels.names[int(present.argmax())]!r})" if present.any() else ""
        raise DataError(f"the labels are of 1 class{named}, and a classifier needs two; add rows of another")
    if len(labels.names) > n_rows:
        raise DataError(f"there are {len(labels.names)} labels and only {n_rows} rows; give several rows of each label")


def hold_out(examples: Examples, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    "The positions of the rows of train and of dev."
    from ..prepare import hold_out as split

    splits = split(examples.frame(), share, seed)
    return splits["train"].index.to_numpy(), splits["dev"].index.to_numpy()


def read_eval_set(eval_set: Any, train: Examples) -> Examples:
    "The dev rows that the user gives; how many of their texts are in train too is logged."
    from ..corpora import normalize_text

    if not isinstance(eval_set, (tuple, list)) or len(eval_set) != 2:
        raise ConfigError("eval_set is a pair (texts, labels); give both")
    multi_label = train.labels.multi_label
    dev = read_examples(eval_set[0], eval_set[1], multi_label, classes=train.labels.classes)
    if not dev.labels.matrix.any():
        raise DataError("no row of eval_set has a label; give some that have one")
    shared = normalize_text(pd.Series(dev.texts)).isin(normalize_text(pd.Series(train.texts)))
    if shared.any():
        logger.warning("texts of eval_set that stand in the training texts too: %s", f"{shared.sum():,}")
    return dev


def log_examples(train: Examples, dev: Examples) -> None:
    "Say how many rows and labels there are, and what cannot be learnt or chosen for want of rows."
    names, kind = train.labels.names, "several labels a text" if train.labels.multi_label else "one label a text"
    logger.info(
        "%s training and %s dev rows; %s labels, %s", f"{len(train.texts):,}", f"{len(dev.texts):,}", len(names), kind
    )
    for part, examples, what in (
        ("training", train, "cannot be learnt"),
        ("dev", dev, "have thresholds that no row chose"),
    ):
        absent = [name for name, n in zip(names, examples.labels.matrix.sum(axis=0), strict=True) if not n]
        if absent and (part == "training" or train.labels.multi_label):
            logger.warning("labels without a %s row, which %s: %s", part, what, ", ".join(absent))
    if no_label := int((train.labels.matrix.sum(axis=1) == 0).sum()):
        logger.info("training rows without a label, which teach that a text may have none: %s", f"{no_label:,}")
