"""How labels may be written in the cells of a table, and what each writing means.

A cell is read by itself, never by the company it has in the column, so that a reading does not depend on which rows were
drawn. The one exception is a column of vectors of 0 and 1, which has no names in it. A cell that could mean two things is
refused, with the option that says which.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core import ConfigError, DataError, first_line

SEPARATORS = "|;,"  # of labels in one cell, where the user names none
NO_SEPARATOR = "none"  # said by a user whose labels' names hold separators
_MISSING = {"nan", "<na>", "null", "nat", "na", "n/a", "\\n", "#n/a", "#ref!", "#value!", "#name?", "#div/0!"}
_CALL = re.compile(
    r"(?:np\.|torch\.)?(?:array|list|tuple|set|frozenset|tensor|Counter|OrderedDict)\((.*?)(?:,\s*dtype=[^)]*)?\)",
    re.DOTALL,
)
_SCALAR_CALL = re.compile(r"np\.\w+\(([^()]*)\)")  # NumPy 2 writes np.str_('joy')
_BRACKETS = re.compile(r"\[.*\]|\(.*\)|\{.*\}", re.DOTALL)
_BITS = re.compile(r"[01](?:\s*[\s,;|]\s*[01])+")  # a vector without brackets
_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


class Cell(NamedTuple):
    "What one cell of a column of labels says."

    labels: tuple[str, ...] | None  # None: there is no label
    reason: str = ""  # why there is none
    is_list: bool = False  # written as a list, not as a string
    remark: str = ""  # what a user should know about how it was read


BLANK = Cell(None, "not labelled (a blank)")


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
                f"{where} holds vectors of 0 and 1, such as {_shown(shown)}, one number for each of {width} labels{given}; "
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
    brackets = [label for label in labels if _BRACKETS.fullmatch(label)]
    if brackets and separator is None:
        notes.append(f"labels such as {min(brackets)!r} keep their brackets (--label-sep , reads them as lists)")
    return notes


def read_label_cell(value: Any, separator: str | None = None) -> Cell:
    "What a cell says: a name, a number, a list in any writing, names joined by a separator, or nothing."
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return _read_string(value.strip(), separator)
    if isinstance(value, Mapping):
        return _read_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        return _read_items(items)
    text = number_text(value)
    return Cell((text,)) if text else BLANK


def _read_string(text: str, separator: str | None) -> Cell:
    "A cell that is a string."
    if is_missing(text):
        return Cell(None, f"no label ({text!r})") if text else BLANK
    if separator == NO_SEPARATOR:
        return Cell((text,))
    if (items := _parse_list(text)) is not None:
        return read_label_cell(items)
    if _BITS.fullmatch(text) and separator in (None, ",", ";", "|", " "):
        return Cell(tuple(re.findall("[01]", text)), "", True)
    if _BRACKETS.fullmatch(text):
        if separator in (",", " "):  # its user speaks of lists
            return _read_items(text[1:-1].split(separator))
        if any(one in text for one in SEPARATORS):
            return Cell(
                None, f"{_shown(text)} may be a list or a name; say which with --label-sep , or --label-sep none"
            )
    separators = [one for one in ([separator] if separator else SEPARATORS) if one in text]
    if len(separators) > 1:
        both = " and ".join(map(repr, separators[:2]))
        return Cell(None, f"both {both} stand in {_shown(text)}; say which separates labels with --label-sep")
    parts = text.split(separators[0]) if separators else [text]
    names = tuple(dict.fromkeys(name for part in parts if (name := _plain_name(part))))
    if not names:
        return BLANK
    several = len(names) > 1 and f"{separators[0]!r} separates labels; --label-sep none keeps it as a part of a name"
    return Cell(names, remark=several or "")


def is_missing(text: str) -> bool:
    "Whether a string is how programs write that there is no value, or blank."
    return not text.strip() or text.strip().casefold() in _MISSING


def _plain_name(text: str) -> str:
    "A label's name without blanks or quotes around it, and a whole number without its point."
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _parse_list(text: str) -> Any:
    "The list, tuple, set or object that a string writes out, as Python, JSON or NumPy does; None where it is none."
    if len(text) > 2 and text[0] == text[-1] == '"' and _BRACKETS.fullmatch(text[1:-1].strip()):
        text = text[1:-1].strip()
    text = _SCALAR_CALL.sub(r"\1", text)
    if call := _CALL.fullmatch(text):
        text = call[1].strip()
        if not text:
            return []
        if text[0] not in "[({":
            text = f"[{text}]"
    elif re.fullmatch(r"b'[^']*'|b\"[^\"]*\"", text):
        text = f"[{text}]"
    elif not _BRACKETS.fullmatch(text):
        return None
    for parse in (json.loads, _parse_numpy, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, tuple, set, dict)):
            return value
        if isinstance(value, str) and text[0] == "(":  # ('joy') is no tuple, but was meant as one
            return [value]
    return None


def _parse_numpy(text: str) -> list[Any]:
    "`[17 25]`, `['joy' 'love']`, `[0.1, nan]`. Raises `ValueError` for anything else."
    item = r"b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|[+-]?\d+\.?\d*(?:e[+-]?\d+)?|True|False|nan|None"
    if text[0] != "[" or not re.fullmatch(rf"\s*(?:(?:{item})(?:\s*,\s*|\s+|$))*", text[1:-1]):
        raise ValueError
    return [None if one == "nan" else ast.literal_eval(one) for one in re.findall(item, text[1:-1])]


def _read_items(items: Sequence[Any]) -> Cell:
    "A cell that is a list: of names or numbers, or of objects that have them."
    if items and all(isinstance(item, Mapping) for item in items):
        return _read_objects(items)
    if items and all(isinstance(item, (bool, np.bool_)) for item in items):
        items = [int(item) for item in items]
    if any(isinstance(item, (float, np.floating)) and not float(item).is_integer() for item in items if item == item):
        return Cell(None, "a list of fractions, which are scores and no labels", True)
    labels: list[str] = []
    for item in items:
        item = item.decode(errors="replace") if isinstance(item, bytes) else item
        name = _plain_name(item) if isinstance(item, str) else number_text(item)
        if not name or is_missing(name):
            return Cell(None, f"no label (an entry of its list is {_shown(item)})", True)
        labels.append(name)
    return Cell(tuple(labels), "", True)


_NO_LABEL_INSIDE = Cell(None, "objects without a label, choices or scores", True)


def _read_objects(items: Sequence[Mapping[Any, Any]]) -> Cell:
    "A list of objects: labels with scores, or the annotations of several people, of which all count."
    cells = [_read_mapping(item) for item in items if not item.get("was_cancelled")]
    if not cells:
        return Cell(None, "no label (its annotations were cancelled)", True)
    if not any(cell.labels is not None for cell in cells):
        return cells[0]
    kinds = {frozenset(cell.labels) for cell in cells if cell.labels is not None}
    is_opinion = any("result" in item for item in items)
    remark = "annotators differ, and all of their labels are taken" if is_opinion and len(kinds) > 1 else ""
    return Cell(tuple(dict.fromkeys(label for cell in cells for label in cell.labels or ())), "", True, remark)


def _read_mapping(value: Mapping[Any, Any]) -> Cell:
    "A cell that is an object: labels with scores (spaCy's cats), choices, a label, or an annotation of Label Studio's."
    if isinstance(value.get("result"), list):
        chosen = [one["value"].get("choices") for one in value["result"] if isinstance(one, Mapping)
                  and isinstance(one.get("value"), Mapping)]  # fmt: skip
        choices = [choice for one in chosen if isinstance(one, list) for choice in one]
        return _read_items(choices) if choices else _NO_LABEL_INSIDE
    for key in ("choices", "labels", "label"):
        if key in value:
            score = value.get("score", 1)
            if isinstance(score, (int, float)) and score < 0.5:
                return Cell((), "", True)
            return read_label_cell(value[key], NO_SEPARATOR)._replace(is_list=True)
    scores = {str(name): score for name, score in value.items() if isinstance(score, (bool, int, float))}
    if not value or len(scores) < len(value) or (len(scores) < 2 and max(scores.values()) > 1):
        return _NO_LABEL_INSIDE
    labels = tuple(name for name, score in scores.items() if score >= 0.5)
    if not labels and any(scores.values()):
        return Cell(None, "no label (none of its scores reaches 0.5)", True)
    return Cell(labels, "", True, "numbers above 1 count as given" if max(scores.values()) > 1 else "")


def number_text(value: Any) -> str:
    "A number as a string, a whole one without its decimal point; empty for what is neither string nor number."
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (float, Decimal)) and value == value and value % 1 == 0:
        return str(int(value))
    return str(value) if isinstance(value, (str, int, float, Decimal)) and value == value else ""


def _shown(value: Any) -> str:
    "A cell for a message: in one line, at most 40 characters."
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


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
        cell = _shown(columns.iloc[row, column])
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
    if not text or text in _MISSING or text == "none":
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
