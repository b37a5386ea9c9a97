"""Labels as people hold them in memory, as one matrix of zeros and ones; and predictions back in the same form.

Labels may be one a row (strings or whole numbers), a list or a set for each row, or a matrix or table of zeros and ones
with a column for each label. Which of these they are is told by looking, and `multi_label` overrides what one sees.
"""

import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import DataError, column_names
from ..encode import encode_labels


@dataclass(frozen=True)
class Labels:
    "What was given: which labels there are, and which of them each row has."

    classes: np.ndarray  # (n_labels,), in the user's own type: strings or numbers
    matrix: np.ndarray  # (n_rows, n_labels), zeros and ones (uint8)
    multi_label: bool  # may a row have several?

    @property
    def names(self) -> list[str]:
        "The labels as a model's config names them."
        return [str(label) for label in self.classes]


def read_labels(given: Any, multi_label: bool | None = None, classes: np.ndarray | None = None) -> Labels:
    """Labels in any of the forms above; rows that are lists, sets or zeros and ones may have several.

    With `classes`, the labels of a trained model, the columns are in their order, and other labels are an error. Raises
    `DataError` for labels of mixed kinds, a missing or fractional one, and a matrix that is none of zeros and ones.
    """
    table = _as_matrix(given)
    if table is None:
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise DataError(f"{reprlib.repr(given)} is not a list of labels; give one entry for each text")
        entries = _entries(given)
        is_one_each = not any(_is_collection(entry) for entry in entries)
        rows = [(entry,) if is_one_each else entry for entry in entries]
        labels = _from_rows(rows, classes, not is_one_each)
    else:
        labels = _from_matrix(*table, classes)
    if multi_label is None or multi_label == labels.multi_label:
        return labels
    if not multi_label and len(wrong := np.flatnonzero(labels.matrix.sum(axis=1) != 1)):
        raise DataError(
            f"row {wrong[0]} has {labels.matrix[wrong[0]].sum()} labels, but multi_label=False asks for exactly one; "
            "correct the row, or leave multi_label out"
        )
    return Labels(labels.classes, labels.matrix, multi_label)


def _entries(given: Iterable[Any]) -> list[Any]:
    "The entries of a list or a column, of any library."
    if isinstance(given, (set, frozenset, Mapping)):
        raise DataError(f"a {type(given).__name__} has no order to set beside the texts; give a list of labels")
    if getattr(given, "ndim", 1) == 2:
        given = np.asarray(given)[:, 0]
    for method in ("to_pylist", "tolist", "to_list"):
        if callable(convert := getattr(given, method, None)):
            return list(convert())
    return [entry.item() if isinstance(entry, np.generic) else entry for entry in given]


def _is_collection(entry: Any) -> bool:
    return isinstance(entry, (list, tuple, set, frozenset, np.ndarray))


def _as_matrix(given: Any) -> tuple[np.ndarray, list[Any] | None] | None:
    "The values of a table or matrix and the names of its columns, if any; None where `given` is a column of labels."
    if callable(getattr(given, "toarray", None)):  # a sparse matrix
        given = given.toarray()
    if (names := column_names(given)) is not None:
        values = given.to_numpy() if hasattr(given, "to_numpy") else np.array([given[name] for name in names]).T
        return _zeros_and_ones(np.asarray(values), _check_names(names)), names
    if getattr(given, "ndim", 1) == 2 or _is_zeros_and_ones(given):
        values = np.asarray(given)
        if values.shape[1] == 1:
            return None  # one label a row, as a matrix of one column
        return _zeros_and_ones(values, range(values.shape[1])), None
    return None


def _is_zeros_and_ones(given: Any) -> bool:
    "Whether a list of lists is a matrix: rows of one length above one, of zeros and ones only."
    rows = given if isinstance(given, (list, tuple)) else []
    if not rows or not all(isinstance(row, (list, tuple, np.ndarray)) and len(row) == len(rows[0]) > 1 for row in rows):
        return False
    return all(not isinstance(value, str) and value in (0, 1) for row in rows for value in row)


def _check_names(names: list[Any]) -> list[Any]:
    "The names of a table's columns. `DataError` for columns without a name of their own, and for joined names."
    if unnamed := [i for i, name in enumerate(names) if name is None or (isinstance(name, str) and not name.strip())]:
        raise DataError(f"column {unnamed[0]} of the labels has no name; name each column after its label")
    if doubled := [name for name, count in Counter(map(str, names)).items() if count > 1]:
        raise DataError(f"two columns of the labels are called {doubled[0]!r}; rename one")
    if joined := [name for name in names if "|" in str(name)]:
        raise DataError(
            f"a column of the labels is called {joined[0]!r}, and '|' separates labels in results; rename it"
        )
    return names


def _zeros_and_ones(values: np.ndarray, names: Sequence[Any]) -> np.ndarray:
    "The matrix as zeros and ones. `DataError` for other values."
    try:
        numbers = values.astype(float)
    except (TypeError, ValueError):
        numbers = np.full(values.shape, np.nan)
    wrong = np.argwhere(~np.isin(numbers, (0, 1)))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"the labels are a table, and row {row} has {reprlib.repr(values[row, column])} in column "
            f"{str(names[column])!r}; give 0 or 1 there, or one column of labels in place of the table"
        )
    return numbers.astype(np.uint8)


def _from_matrix(matrix: np.ndarray, given: list[Any] | None, classes: np.ndarray | None) -> Labels:
    names = list(range(matrix.shape[1])) if given is None else given
    if classes is None:
        return Labels(np.array(names), matrix, True)
    if len(names) != len(classes) or (given is not None and set(map(str, given)) != {str(label) for label in classes}):
        raise DataError(
            f"the labels have the columns {', '.join(map(str, names[:8]))}, the model {', '.join(map(str, classes[:8]))}; "
            "give one column for each label of the model"
        )
    if given is not None:
        place = {str(name): i for i, name in enumerate(names)}
        matrix = matrix[:, [place[str(label)] for label in classes]]
    return Labels(classes, matrix, True)


def _from_rows(rows: list[Any], classes: np.ndarray | None, multi_label: bool) -> Labels:
    "From a collection of labels for each row."
    # a subclass of str, such as an Enum, becomes a plain string
    rows = [
        [str.__str__(label) if isinstance(label, str) else label for label in row] if _is_collection(row) else row
        for row in rows
    ]
    kinds: dict[str, int] = {}
    for i, row in enumerate(rows):
        if not _is_collection(row):
            raise DataError(f"row {i} has {reprlib.repr(row)}, others a list of labels; give a list in each row")
        for label in row:
            kinds.setdefault(_kind(label, i), i)
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise DataError(
            f"the labels are of mixed kinds, {one} in row {first} and {other} in row {second}; make them all the same"
        )
    if classes is None:
        classes = np.array(sorted({label for row in rows for label in row}))
    known = set(classes.tolist())
    for i, row in enumerate(rows):
        if unknown := [label for label in row if label not in known]:
            names = ", ".join(map(str, classes[:12]))
            raise DataError(f"row {i} has the label {unknown[0]!r}, which the model does not know; it has {names}")
    return Labels(classes, encode_labels(rows, classes.tolist()), multi_label)


def _kind(label: Any, row: int) -> str:
    "`strings` or `numbers`. `DataError` for what cannot be a label."
    if isinstance(label, str):
        if "|" in label:
            raise DataError(
                f"row {row} has the label {label!r}, but '|' separates the labels of a row in the results; split such "
                "cells into lists, for example by .str.split('|'), or rename the label"
            )
        return "strings"
    is_number = isinstance(label, (bool, int, float, np.number, np.bool_))
    if not is_number or not math.isfinite(label) or float(label) != int(label):
        is_missing = label is None or type(label).__name__ in ("NAType", "NaTType") or (is_number and math.isnan(label))
        what = "is missing" if is_missing else f"is {reprlib.repr(label)}"
        raise DataError(f"the label of row {row} {what}; give a string or a whole number, or drop the row")
    return "numbers"
