"""One cell of a column of labels, in any of the ways in which people and programs write it.

A cell that could mean two things is refused, with the option that says which.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

SEPARATORS = "|;,"  # of labels in one cell, where the user names none
NO_SEPARATOR = "none"  # said by a user whose labels' names hold separators
_MISSING = {"nan", "<na>", "null", "nat", "na", "n/a", "\\n", "#n/a", "#ref!", "#value!", "#name?", "#div/0!"}
_CALL = re.compile(
    r"(?:np\.|torch\.)?(?:array|list|tuple|set|frozenset|tensor|Counter|OrderedDict)\((.*?)(?:,\s*dtype=[^)]*)?\)",
    re.DOTALL,
)
_SCALAR_CALL = re.compile(r"np\.\w+\(([^()]*)\)")  # NumPy 2 writes np.str_('joy')
BRACKETS = re.compile(r"\[.*\]|\(.*\)|\{.*\}", re.DOTALL)
_BITS = re.compile(r"[01](?:\s*[\s,;|]\s*[01])+")  # a vector without brackets


class Cell(NamedTuple):
    "What one cell of a column of labels says."

    labels: tuple[str, ...] | None  # None: there is no label
    reason: str = ""  # why there is none
    is_list: bool = False  # written as a list, not as a string
    remark: str = ""  # what a user should know about how it was read


BLANK = Cell(None, "not labelled (a blank)")


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
    if BRACKETS.fullmatch(text):
        if separator in (",", " "):  # its user speaks of lists
            return _read_items(text[1:-1].split(separator))
        if any(one in text for one in SEPARATORS):
            return Cell(
                None, f"{shorten(text)} may be a list or a name; say which with --label-sep , or --label-sep none"
            )
    separators = [one for one in ([separator] if separator else SEPARATORS) if one in text]
    if len(separators) > 1:
        both = " and ".join(map(repr, separators[:2]))
        return Cell(None, f"both {both} stand in {shorten(text)}; say which separates labels with --label-sep")
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
    if len(text) > 2 and text[0] == text[-1] == '"' and BRACKETS.fullmatch(text[1:-1].strip()):
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
    elif not BRACKETS.fullmatch(text):
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
            return Cell(None, f"no label (an entry of its list is {shorten(item)})", True)
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


def shorten(value: Any) -> str:
    "A cell for a message: in one line, at most 40 characters."
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
