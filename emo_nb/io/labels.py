"""The labels of a table: in one column, in a column for each label, and as numbers with names.

A cell is read by itself (`label_cells`), never by the company it has in the column, so that a reading does not depend on
which rows were drawn. The one exception is a column of vectors of 0 and 1, which has no names in it.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import ConfigError, DataError, first_line, split_names
from .label_cells import BRACKETS, Cell, is_missing, number_text, read_label_cell, shorten

_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


@dataclass
class LabelColumn:
    "The labels of each row (None where there is none), the reasons for those, and what was decided to read them."

    labels: pd.Series
    reasons: pd.Series
    notes: list[str]


def read_label_column(
    cells: pd.Series,
    where: object,
    separator: str | None = None,
    names: Mapping[str, str] | None = None,
    are_numbers: bool = False,  # known from a schema: a list of 0 and 1 is then no vector
) -> LabelColumn:
    """The labels in a column.

    `separator` is what stands between labels in one string, `none` where nothing does; by default a bar, a semicolon or a
    comma. `names` gives numbers their names. Raises `DataError` for vectors of 0 and 1 whose labels have no names, and
    for names that are counted from 0 where the labels are counted from 1.
    """
    read = [read_label_cell(cell, separator) for cell in cells]
    if width := 0 if are_numbers else _vector_width(read, names):
        if names is None or len(names) != width:
            shown = next(cell for cell, one in zip(cells, read, strict=True) if one.labels)
            given = f"; {len(names)} names were given" if names else ""
            raise DataError(
                f"{where} holds vectors of 0 and 1, such as {shorten(shown)}, one number for each of {width} labels{given}; "
                "name all labels, in order, with --label-names"
            )
        read = [_decode_vector(cell, list(names.values())) for cell in read]
    read = [cell if width or are_numbers else _without_vector(cell) for cell in read]
    if names is not None and not width:
        _check_numbering(read, names, where)
        read = [_named(cell, names) for cell in read]
    labels = pd.Series([cell.labels for cell in read], index=cells.index, dtype=object)
    notes = _notes(read, names, separator)
    return LabelColumn(labels, pd.Series([c.reason for c in read], index=cells.index, dtype=object), notes)


def _without_vector(cell: Cell) -> Cell:
    "The cell; refused where it is a vector of 0 and 1 in a column of something else."
    labels = cell.labels or ()
    is_vector = cell.is_list and len(labels) > max(2, len(set(labels))) and set(labels) <= {"0", "1"}
    return Cell(None, "a vector of 0 and 1, which names no label", True) if is_vector else cell


def _check_numbering(cells: Sequence[Cell], names: Mapping[str, str], where: object) -> None:
    "Raise `DataError` where names count from 0 and labels from 1: all of them would be shifted by one."
    labels = {label for cell in cells for label in cell.labels or ()}
    if list(names) == [str(i) for i in range(len(names))] and str(len(names)) in labels and "0" not in labels:
        raise DataError(
            f"{where} counts its labels from 1 to {len(names)}, and the names count from 0; give --label-names a file with "
            "the number, a tab and the name in each line"
        )


def _notes(cells: Sequence[Cell], names: Mapping[str, str] | None, separator: str | None) -> list[str]:
    "What a user should know about how the column was read."
    remarks = Counter(cell.remark for cell in cells if cell.remark)
    notes = [f"{remark} (in cells: {count:,})" for remark, count in sorted(remarks.items())]
    labels = {label for cell in cells for label in cell.labels or ()}
    if names is None and labels and all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in labels):
        fractions = " with fractions, which look like scores" if any("." in label for label in labels) else ""
        notes.append(f"labels are numbers{fractions} (--label-names gives whole numbers names)")
    brackets = [label for label in labels if BRACKETS.fullmatch(label)]
    if brackets and separator is None:
        notes.append(f"labels such as {min(brackets)!r} keep their brackets (--label-sep , reads them as lists)")
    return notes


def _vector_width(cells: Sequence[Cell], names: Mapping[str, str] | None) -> int:
    """The length of the vectors in a column of vectors of 0 and 1, which nearly all of its cells must be; else 0.

    With more names than that, lists without repetition are numbers of labels.
    """
    labelled = [cell for cell in cells if cell.labels]
    widths = Counter(
        len(cell.labels) for cell in labelled if cell.is_list and cell.labels and set(cell.labels) <= {"0", "1"}
    )
    widths.pop(1, None)
    if not widths:
        return 0
    width, count = widths.most_common(1)[0]
    if (
        names is not None
        and len(names) > width
        and all(len(set(c.labels or ())) == len(c.labels or ()) for c in labelled)
    ):
        return 0
    return width if count >= 0.9 * len(labelled) else 0


def _decode_vector(cell: Cell, names: Sequence[str]) -> Cell:
    "The labels that a vector marks with 1."
    if cell.labels is None:
        return cell
    if not cell.is_list or len(cell.labels) != len(names) or not set(cell.labels) <= {"0", "1"}:
        return Cell(None, f"not a vector of {len(names)} numbers 0 and 1")
    return Cell(tuple(name for name, mark in zip(names, cell.labels, strict=True) if mark == "1"), "", True)


def _named(cell: Cell, names: Mapping[str, str]) -> Cell:
    "The cell with names in place of numbers."
    if cell.labels is None:
        return cell
    known = set(names.values())
    if unknown := [label for label in cell.labels if label not in names and label not in known]:
        return Cell(None, f"the label {unknown[0]!r} has no name among the {len(names)} given")
    return cell._replace(labels=tuple(names.get(label, label) for label in cell.labels))


def unique_labels(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    "Each label once."
    return None if labels is None else tuple(dict.fromkeys(labels))


# ---- one column for each label


def read_indicator_columns(columns: pd.DataFrame) -> LabelColumn:
    """The labels of rows that have a column of 0 and 1 for each label: the names of the columns with a 1.

    An intensity of 2 or 3 counts as given, and so does a fraction from one half on; both are said. A blank is not a 0: a
    row with one has not been labelled.
    """
    marks = columns.map(_indicator)
    names = np.array(columns.columns, dtype=object)
    values = marks.to_numpy(dtype=float)
    blank, wrong = (values == -1).any(axis=1), (values == -2).any(axis=1)
    labels = [None if b or w else tuple(names[row >= 0.5]) for row, b, w in zip(values, blank, wrong, strict=True)]
    reasons = np.where(wrong, "a label column holds neither 0 nor 1", np.where(blank, "not labelled (a blank)", ""))
    if wrong.any():
        row, column = np.argwhere(values == -2)[0]
        cell = shorten(columns.iloc[row, column])
        reasons = np.where(wrong, f"a label column holds neither 0 nor 1, as {cell} under {names[column]!r}", reasons)
    if len(values) > 1 and (values >= 1).all():
        raise DataError("the columns of labels hold no 0, so every row has every label; name columns of 0 and 1")
    notes = [f"no row has the label {name!r}" for name in names[~(values >= 0.5).any(axis=0)]]
    if (values > 1).any():
        notes.append("numbers above 1 in the label columns count as given")
    if ((values > 0) & (values < 1)).any():
        notes.append("fractions in the label columns count as given from 0.5 on")
    index = columns.index
    return LabelColumn(
        pd.Series(labels, index=index, dtype=object), pd.Series(reasons, index=index, dtype=object), notes
    )


def _indicator(value: Any) -> float:
    "What a cell under a label says: a number from 0 on; -1 for a blank, -2 for anything else."
    text = number_text(value).strip().casefold()
    if is_missing(text) or text == "none":
        return -1.0
    if text in _TRUE | _FALSE:
        return float(text in _TRUE)
    try:
        number = float(text)
    except ValueError:
        return -2.0
    return number if 0 <= number <= 3 and (number <= 1 or number.is_integer()) else -2.0


def is_indicator(column: pd.Series, is_emotion: bool = False) -> bool:
    """Whether a column holds 0, 1 and blanks only, but for one row or a tenth of them.

    Under the name of an emotion intensities and fractions will do as well, and half of the rows may hold anything.
    """
    marks = [_indicator(value) for value in column]
    odd = sum(mark == -2 if is_emotion else mark not in (-1, 0, 1) for mark in marks)
    return odd <= (0.5 * len(marks) if is_emotion else max(1, 0.1 * len(marks))) and odd < len(marks)


# ---- names for numbers


def read_label_names(given: str | Sequence[str] | Mapping[Any, Any]) -> dict[str, str]:
    """Names for numbers as `{number: name}`: from names in order, a mapping, or a file.

    A file may be a JSON list or object (from number to name, or from name to number), lines of `number, tab, name`, or
    one name a line. Raises `ConfigError` where nothing of this kind can be read.
    """
    if isinstance(given, Mapping):
        pairs = {str(key): str(value) for key, value in given.items()}
        swapped = all(re.fullmatch(r"\d+", value) for value in pairs.values())
        return {value: key for key, value in pairs.items()} if swapped else pairs
    if not isinstance(given, (str, Path)):
        return {str(number): str(name) for number, name in enumerate(given)}
    if not os.path.isfile(given):  # pathlib raises an error for a name that is too long
        names = split_names(str(given))
        if len(names) < 2:
            raise ConfigError(f"{str(given)!r} is neither a file nor names separated by commas; give the labels' names")
        return read_label_names(names)
    return _names_in_file(Path(given))


def _names_in_file(file: Path) -> dict[str, str]:
    "Names for numbers from a file."
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({first_line(error)}); give a file with the labels' names") from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        lines = [[cell.strip() for cell in line.split("\t")] for line in text.splitlines() if line.strip()]
        content = _numbered_names(file, lines) if any(len(line) > 1 for line in lines) else [line[0] for line in lines]
    if not isinstance(content, (list, dict)) or not content:
        raise ConfigError(f"{file} holds no names of labels; write a list, or an object from number to name")
    return read_label_names(content)


def _numbered_names(file: Path, lines: list[list[str]]) -> dict[str, str]:
    "Names for numbers from lines of both, the number before or behind, perhaps below a header."
    for number, name in ((0, 1), (1, 0)):
        rows = lines if lines[0][min(number, len(lines[0]) - 1)].isdecimal() else lines[1:]
        if rows and all(len(row) > 1 and row[number].isdecimal() for row in rows):
            return {row[number]: row[name] for row in rows}
    raise ConfigError(f"{file} has no number beside each name; write a number, a tab and a name on each line")
