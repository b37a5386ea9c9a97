"""How labels may be written in the cells of a table, and what each writing means.

A cell is read by itself, never by the company it has in the column, so that a reading does not depend on which rows were
drawn. The exceptions raise an error in place of a guess: a column of vectors of 0 and 1, whose labels have no names, and
names in brackets without quotes, of which nobody can tell whether they are a list.
"""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core import ConfigError, DataError, first_line

SEPARATORS = "|;,"  # of labels in one cell, where the user names none
NO_SEPARATOR = "none"  # said by a user whose labels' names hold separators
_MISSING = {"nan", "<na>", "null", "#n/a", "nat"}  # how programs write that there is no value
_BRACKETS = re.compile(r"(?:array|set|frozenset)?\(?[\[({].*[\])}]\)?(?:, dtype=\w+\))?", re.DOTALL)
_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


class Cell(NamedTuple):
    "What one cell of a column of labels says."

    labels: tuple[str, ...] | None  # None: there is no label
    reason: str = ""  # why there is none
    is_list: bool = False  # written as a list, not as a string
    joined_by: str = ""  # the separator that was found in it


@dataclass
class LabelColumn:
    "The labels of each row (None where there is none), the reasons for those, and what was decided to read them."

    labels: pd.Series
    reasons: pd.Series
    notes: list[str]


def read_label_column(
    cells: pd.Series, where: object, separator: str | None = None, names: Mapping[str, str] | None = None
) -> LabelColumn:
    """The labels in a column.

    `separator` is what stands between labels in one string, `none` where nothing does; by default a bar, a semicolon or a
    comma. `names` gives numbers their names. Raises `DataError` for vectors of 0 and 1 without names, and for names in
    brackets without quotes.
    """
    read = [read_label_cell(cell, separator) for cell in cells]
    width = _vector_width(read)
    if width:
        if names is None or len(names) != width:
            raise DataError(
                f"{where} holds vectors of 0 and 1, such as {_shown(cells.iloc[0])}, whose {width} labels have no names; "
                "name them all, in order, with --label-names"
            )
        read = [_decode_vector(cell, list(names.values())) for cell in read]
    elif names is not None:
        read = [_named(cell, names) for cell in read]
    labels = pd.Series([cell.labels for cell in read], index=cells.index, dtype=object)
    return LabelColumn(
        labels, pd.Series([c.reason for c in read], index=cells.index, dtype=object), _notes(read, names)
    )


def _notes(cells: Sequence[Cell], names: Mapping[str, str] | None) -> list[str]:
    "What a user should know about how the column was read."
    notes = []
    for separator in sorted({cell.joined_by for cell in cells} - {""}):
        count = sum(cell.joined_by == separator for cell in cells)
        notes.append(
            f"cells in which {separator!r} separates labels: {count:,} (--label-sep none keeps it as a part of a name)"
        )
    labels = {label for cell in cells for label in cell.labels or ()}
    if names is None and labels and all(re.fullmatch(r"-?\d+", label) for label in labels):
        notes.append("labels are numbers (--label-names gives them names)")
    return notes


def read_label_cell(value: Any, separator: str | None = None) -> Cell:
    "What a cell says: a name, a number, a list in any writing, names joined by a separator, or nothing."
    if isinstance(value, str):
        return _read_string(value.strip(), separator)
    if isinstance(value, Mapping):
        return _read_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        return _read_items(items)
    text = number_text(value)
    return Cell((text,)) if text else Cell(None, "no label")


def _read_string(text: str, separator: str | None) -> Cell:
    "A cell that is a string."
    if not text or text.casefold() in _MISSING:
        return Cell(None, f"no label ({text!r})" if text else "no label")
    if separator != NO_SEPARATOR and _BRACKETS.fullmatch(text):
        if (items := _parse_list(text)) is not None:
            return read_label_cell(items)
        inner = text[1:-1]
        if separator:  # its user speaks of lists
            return _read_items(inner.split(separator))
        if any(one in inner for one in SEPARATORS) and separator is None:
            raise DataError(
                f"the label {_shown(text)} may be a list whose names have no quotes; say so with --label-sep "
                f"{next(one for one in SEPARATORS if one in inner)!r}, or keep it as a name with --label-sep none"
            )
    by = SEPARATORS if separator is None else "" if separator == NO_SEPARATOR else separator
    found = next((one for one in ([by] if separator else by) if one and one in text), "")
    pattern = re.escape(by) if separator else f"[{re.escape(by)}]"
    parts = re.split(pattern, text) if found else [text]
    names = tuple(dict.fromkeys(name for part in parts if (name := _plain_name(part))))
    return Cell(names, joined_by=found if len(names) > 1 else "") if names else Cell(None, "no label")


def _plain_name(text: str) -> str:
    "A label's name without blanks or quotes around it, and a whole number without its point."
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _parse_list(text: str) -> Any:
    "The list, tuple, set or object that a string writes out, as Python, JSON or NumPy does; None where it is none."
    for parse in (json.loads, _parse_numpy, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, tuple, set, dict)):
            return value
        if isinstance(value, str) and text[0] == "(":  # ('joy') is no tuple, but was meant as one
            return [value]
    return [] if text in ("set()", "frozenset()") else None


def _parse_numpy(text: str) -> list[Any]:
    "`[17 25]`, `['joy' 'love']`, `array(['joy'], dtype=object)`. Raises `ValueError` for anything else."
    inner = re.fullmatch(r"(?:array\(|(?:frozen)?set\()?[\[{](.*?)[\]}](?:, dtype=\w+)?\)?", text, re.DOTALL)
    item = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[+-]?\d+\.?\d*(?:e[+-]?\d+)?|True|False|nan|None"
    if inner is None or not re.fullmatch(rf"\s*(?:(?:{item})(?:\s*,\s*|\s+|$))*", inner[1]):
        raise ValueError
    return [None if one == "nan" else ast.literal_eval(one) for one in re.findall(item, inner[1])]


def _read_items(items: Sequence[Any]) -> Cell:
    "A cell that is a list: of names or numbers, or of objects that have them."
    labels: list[str] = []
    for item in items:
        if isinstance(item, Mapping):
            inner = _read_mapping(item)
            labels += inner.labels or ()
            continue
        name = _plain_name(item) if isinstance(item, str) else number_text(item)
        if not name or name.casefold() in _MISSING:
            return Cell(None, f"no label (an entry of its list is {_shown(item)})", True)
        labels.append(name)
    return Cell(tuple(labels), "", True)


def _read_mapping(value: Mapping[Any, Any]) -> Cell:
    "A cell that is an object: labels with numbers (spaCy's cats), or with choices or a label somewhere in it."
    numbers = {str(name): number for name, number in value.items() if isinstance(number, (bool, int, float))}
    if value and len(numbers) == len(value) and not {"label", "labels"} & set(value):
        return Cell(tuple(name for name, number in numbers.items() if number >= 0.5), "", True)
    for key in ("choices", "labels", "label"):
        if key in value:
            inner = read_label_cell(value[key], NO_SEPARATOR)
            return inner._replace(is_list=True)
    inside = [one for one in value.values() if isinstance(one, (Mapping, list))]
    labels = [label for one in inside for label in _labels_inside(one)]
    return Cell(tuple(dict.fromkeys(labels)), "", True) if labels else Cell(None, "no label", True)


def _labels_inside(value: Any) -> Iterable[str]:
    "The labels in an object, or in the objects of a list."
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Mapping):
            yield from _read_mapping(one).labels or ()


def number_text(value: Any) -> str:
    "A number as a string, a whole one without its decimal point; empty for what is neither string nor number."
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (str, int, float)) and value == value else ""


def _shown(value: Any) -> str:
    "A cell for a message: in one line, at most 40 characters."
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _vector_width(cells: Sequence[Cell]) -> int:
    """The length of the vectors in a column of vectors of 0 and 1, and 0 for any other column.

    Lists of labels' numbers are no vectors: these repeat 0 or 1, or all have one length.
    """
    lists = [cell.labels for cell in cells if cell.is_list and cell.labels]
    vectors = [one for one in lists if len(one) > 1 and set(one) <= {"0", "1"}]
    if not vectors:
        return 0
    is_certain = any(len(set(one)) < len(one) for one in vectors)
    alike = len(vectors) == len(lists) and len({len(one) for one in lists}) == 1
    return len(vectors[0]) if is_certain or alike else 0


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

    A whole number above 1 counts as given, a fraction from one half on; both are said. A blank is not a 0: a row with
    one has not been labelled.
    """
    marks = columns.map(_indicator)
    names = np.array(columns.columns, dtype=object)
    values = marks.to_numpy(dtype=float)
    blank, wrong = (values == -1).any(axis=1), (values == -2).any(axis=1)
    labels = [None if b or w else tuple(names[row >= 0.5]) for row, b, w in zip(values, blank, wrong, strict=True)]
    reasons = np.where(wrong, "a label column holds neither 0 nor 1", np.where(blank, "not labelled (a blank)", ""))
    if wrong.any():
        row, column = np.argwhere(values == -2)[0]
        cell = _shown(columns.iloc[row, column])
        reasons = np.where(wrong, f"a label column holds neither 0 nor 1, as {cell} under {names[column]!r}", reasons)
    notes = []
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
    if not text or text in _MISSING:
        return -1.0
    if text in _TRUE | _FALSE:
        return float(text in _TRUE)
    try:
        number = float(text)
    except ValueError:
        return -2.0
    return number if number >= 0 and math.isfinite(number) else -2.0


def is_indicator(column: pd.Series) -> bool:
    "Whether a column holds 0 and 1 only, each at least once, and perhaps blanks."
    values = set(map(_indicator, column))
    return values <= {0.0, 1.0, -1.0} and {0.0, 1.0} <= values


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
    if not Path(given).is_file():
        names = [name.strip() for name in str(given).split(",") if name.strip()]
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
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        if all(len(line) > 1 and line[0].strip().isdecimal() for line in lines):
            return {line[0].strip(): line[1].strip() for line in lines}
        return read_label_names([line[0].strip() for line in lines])
    if not isinstance(content, (list, dict)) or not content:
        raise ConfigError(f"{file} holds no names of labels; write a list, or an object from number to name")
    return read_label_names(content)
