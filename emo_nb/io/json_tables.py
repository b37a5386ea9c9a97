"""Tables in JSON: JSON Lines, read line by line, and documents with a list of objects in any of the usual shapes."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ..core import DataError, first_line
from .formats import text_encoding, text_lines
from .rows import NOT_UTF8, Row, Table, is_unicode


def open_json_table(name: str, stream: BinaryIO, head: bytes) -> Table:
    "JSON Lines, or a JSON document with a list of objects."
    lines, promised = Counter[str](), Path(name).suffix.lower() in (".jsonl", ".ndjson")
    text = text_lines(stream, head, "\n")
    first, second = ([line for line in islice(text, 100) if line.strip()] + ["", ""])[:2]
    text.close()
    stream.seek(0)
    follows = second.lstrip().startswith("{")
    in_lines = (
        not first or (promised and not re.match(r'\[\s*[{"\[]', first.lstrip())) or (follows and _is_object(first))
    )
    if not in_lines:
        try:
            rows = list(_document_rows(stream.read().decode(text_encoding(head), "surrogateescape")))
            return Table(None, iter(rows), ["a JSON document, whose rows are counted"])
        except (ValueError, RecursionError) as error:
            if not promised and not (follows and _is_object(second)):
                raise DataError(f"{name} is not JSON ({first_line(error)}); repair it") from error
            stream.seek(0)
    return Table(None, _json_rows(text_lines(stream, head, "\n"), lines), lines=lines)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json_rows(text: Iterable[str], lines: Counter[str]) -> Iterator[Row]:
    "Rows of a JSON Lines file: one object a line; blank lines are skipped."
    for number, line in enumerate(text, 1):
        lines["lines"] += 1
        if not line.strip(" \t\r\n"):
            lines["blank"] += 1
            continue
        if not is_unicode(line):
            yield Row(number, None, NOT_UTF8)
            continue
        try:
            content = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            yield Row(number, None, f"not JSON ({error})")
        else:
            yield _json_row(number, content)


def _json_row(number: int, content: Any) -> Row:
    "A row of JSON: an object, or a text alone."
    content = {"text": content} if isinstance(content, str) else content
    return Row(number, content) if isinstance(content, dict) else Row(number, None, "not a JSON object")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    "The pairs of an object. Raises `ValueError` where a key stands twice."
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(
            f"the key {next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)!r:.40} stands twice"
        )
    return content


_NESTS = ("episodes", "scenes", "utterances")  # keys of records under which a document goes on


def _document_rows(text: str) -> Iterator[Row]:
    "Rows of a JSON document: the objects of its list, counted from 1. Texts alone are rows with a `text`."
    if not is_unicode(text):
        raise ValueError(NOT_UTF8)
    for number, record in enumerate(_records(json.loads(text, object_pairs_hook=_unique_keys), {}), 1):
        yield _json_row(number, record)


def _records(value: Any, above: dict[str, Any]) -> Iterator[Any]:
    "The records in a JSON value, each with the numbers and strings of the objects that it stands in."
    if isinstance(value, list):
        for one in value:
            is_dialogue = isinstance(one, list) and one and all(isinstance(turn, dict) for turn in one)
            yield from _records(one, above) if is_dialogue or _nest(one, _NESTS) else [_below(one, above)]
    elif nest := _nest(value, None if not above else _NESTS):
        here = {key: one for key, one in value.items() if isinstance(one, (str, int, float))}
        yield from _records(value[nest], {**above, **here})
    elif (table := _table_in(value)) is not None:
        yield from table
    else:
        yield _below(value, above)


def _table_in(value: Any) -> list[Any] | None:
    """The rows of a table as pandas writes one into an object, in any orientation; None where it is none.

    A row that does not fit the columns stays as it is, and is refused by whoever reads it.
    """
    if not isinstance(value, dict) or not value:
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        names = list(map(str, value["columns"]))
        fits = [isinstance(row, list) and len(row) == len(names) for row in value["data"]]
        return [
            dict(zip(names, row, strict=True)) if fit else row for row, fit in zip(value["data"], fits, strict=True)
        ]
    columns = list(value.values())
    if all(isinstance(one, list) for one in columns) and len({len(one) for one in columns}) == 1 and columns[0]:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not all(isinstance(one, dict) for one in columns):
        return None
    if all(key.isdecimal() for one in columns for key in one):  # {column: {row: cell}}
        keys = dict.fromkeys(key for one in columns for key in one)
        return [{name: one.get(key) for name, one in value.items()} for key in keys]
    return columns  # {row: {column: cell}}


def _below(record: Any, above: dict[str, Any]) -> Any:
    "A record with what its surroundings say; a data server's `row` in place of its wrapping."
    if isinstance(record, dict) and isinstance(record.get("row"), dict):
        record = record["row"]
    return {**above, **record} if isinstance(record, dict) else record


def _nest(value: Any, keys: Sequence[str] | None) -> str | None:
    "The one key of an object, of these or of any, under which there is a list of objects."
    if not isinstance(value, dict):
        return None
    lists = [key for key, one in value.items() if isinstance(one, list) and one and isinstance(one[0], dict)]
    if keys is None and "rows" in lists:  # beside a description of the columns
        return "rows"
    return lists[0] if len(lists) == 1 and (keys is None or lists[0] in keys) else None


def nested_cell(cells: dict[str, Any], name: str) -> Any:
    "A cell of a JSON row by its key or its path, such as `data.text`; a list on the way gives a list."
    if name in cells or "." not in name:
        return cells.get(name)
    value: Any = cells
    for key in name.split("."):
        if isinstance(value, list):
            parts = [one[key] for one in value if isinstance(one, dict) and key in one]
            value = [part for one in parts for part in (one if isinstance(one, list) else [one])]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def nested_names(cells: dict[str, Any], most: int = 3) -> list[str]:
    "The keys of a JSON row, and the paths into the objects in it."
    names = []
    for key, value in cells.items():
        value = value[0] if isinstance(value, list) and value else value
        inner = nested_names(value, most - 1) if isinstance(value, dict) and most else []
        names += [str(key), *(f"{key}.{name}" for name in inner)]
    return names
