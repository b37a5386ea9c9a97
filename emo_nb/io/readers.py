"""One reader for each format, used for training tables, evaluation and prediction alike: CSV/TSV, JSON, Parquet.

`open_table` yields a file's rows one after the other, so a file of any size is read in constant memory (a JSON document
that is not JSON Lines is read whole). Every row arrives: as its cells, or as the reason why it is refused, with the line
on which it begins. `read_table_file` collects them into a frame; `iter_texts` takes one column and stops at the first
row that is refused. What had to be decided to read a file is said in `Table.notes`.

Quotation marks. In a file separated by commas or semicolons, quotes enclose a field. In a file separated by tabs or bars
they are ordinary characters, unless the file shows otherwise: a quoted header, a doubled quote within a quoted field, or
rows that have the header's number of fields only if quotes enclose. A quote that opens a field and swallows whole rows is
refused alone, with its line, and the lines after it are read. So the lines of a text file always add up: header, rows,
further lines of rows, blank lines, refused lines.

Two published layouts are recognised by their first line, because they look like CSV and are not: GoEmotions' splits
have no header, and in EmpatheticDialogues a quotation mark is an ordinary character (a comma is written `_comma_`).
"""

import csv
import json
import os
import re
import reprlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pandas as pd

from ..core import DataError, EmoNbError, TextError, first_line, warn_once
from .formats import HEAD_BYTES, is_json, is_parquet, open_stream, text_encoding, text_lines
from .writers import has_our_header, restore_row

FILE_COLUMN, LINE_COLUMN = "file of emo_nb", "line of emo_nb"  # no column of a user has these names
EMPATHETIC_COLUMNS = {"conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"}
SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SPLIT_LINE = re.compile(r"[^\t]*\t\d+(,\d+)*\t\w+\r?$")  # text, label ids, comment id: the splits have no header
_NOT_UTF8 = "not UTF-8 (perhaps Windows-1252; save the file as UTF-8)"
HEADER_NAMES = {"text", "tweet", "utterance", "sentence", "label", "labels", "emotion", "sentiment"}  # of any header


class Row(NamedTuple):
    "One row of a table."

    line: int  # on which it begins, from 1 on; in Parquet the number of the row
    cells: Any  # a list in the order of the columns, or in JSON a dict; None where it is refused
    refused: str = ""  # the reason


@dataclass
class Table:
    "An open table: its columns where the file names them at its beginning (not in JSON), and its rows."

    columns: list[str] | None
    rows: Iterator[Row]
    notes: list[str] = field(default_factory=list)  # what was decided to read it
    label_names: dict[str, list[str]] = field(
        default_factory=dict
    )  # column -> names of its numbers, as Parquet has them
    has_header: bool = True
    # of a text file, counted while its rows are read: all lines, header, blank, continued (further lines of a row)
    lines: Counter[str] = field(default_factory=Counter)


@contextmanager
def open_table(
    name: str, source: Path | bytes, wanted: Sequence[str] | None = None, only: str | None = None
) -> Iterator[Table]:
    """Open a table: Parquet, JSON or JSON Lines by ending or content, and CSV or TSV for any other.

    `source` is a path or the content, gzipped or not. `wanted` names columns: where a first line holds them it is a
    header. Of Parquet, the column `only` alone is read where it is there. Raises `DataError` for a file that is no table.
    """
    with open_stream(name, source) as (name, stream, head):
        try:
            if is_parquet(head) or Path(name).suffix.lower() == ".parquet":
                yield _parquet_table(name, stream, only)
            elif is_json(name, head):
                yield _json_table(name, stream, head)
            else:
                yield _text_table(name, stream, head, wanted or ())
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is damaged {text_encoding(head).upper()}; save it as UTF-8") from error


# ---- CSV and TSV


def _text_table(name: str, stream: BinaryIO, head: bytes, wanted: Sequence[str]) -> Table:
    "A CSV or TSV file, or one of the two published layouts."
    start = head.decode(text_encoding(head), errors="replace").removeprefix("\ufeff")
    first, lines = start.split("\n", 1)[0], Counter[str]()
    if _SPLIT_LINE.match(first):
        rows = _unquoted_rows(text_lines(stream, head, "\n"), "\t", lines)
        return Table(["text", "labels", "id"], _checked(rows, 3, "\t"), has_header=False, lines=lines)
    if set(first.strip().split(",")) >= EMPATHETIC_COLUMNS:
        columns = first.strip().split(",")
        rows = _unquoted_rows(text_lines(stream, head, "\n"), ",", lines)
        lines["header"] = len(list(islice(rows, 1)))
        return Table(columns, _checked(rows, len(columns), ","), lines=lines)
    separator, is_announced = detect_separator(name, start)
    notes = [] if separator == "," else [f"separated by {SEPARATOR_NAMES.get(separator, separator)}s"]
    newline = "\n" if "\n" in start else ""  # a carriage return alone ends a line only where there is nothing else
    has_quotes, known = _holds_quotes(stream), None
    enclose = separator not in "\t|" or (has_quotes and _quotes_enclose(stream, head, separator, newline))
    if separator in "\t|" and has_quotes:
        notes.append("quotation marks " + ("enclose fields" if enclose else "are part of the text"))
    if enclose and has_quotes:
        known = _known_cells(stream, head, separator, newline)
    text = text_lines(stream, head, newline)
    others = first.split(separator)[1:]
    skip_blanks = bool(others) and all(cell.startswith(" ") for cell in others)  # before a quotation mark
    rows = (
        _quoted_rows(text, separator, lines, known, skip_blanks) if enclose else _unquoted_rows(text, separator, lines)
    )
    if is_announced:
        lines["header"] = len(list(islice(rows, 1)))
    return _headed_table(name, start, rows, separator, Table(None, rows, notes, lines=lines), wanted)


def _headed_table(
    name: str, start: str, rows: Iterator[Row], separator: str, table: Table, wanted: Sequence[str]
) -> Table:
    "The table with its columns: those of its header, or numbers from 1 on where it has none."
    header, above = Row(1, []), 0
    for above, header in enumerate(rows):  # lines of blanks may come before it  # noqa: B007
        if header.refused or "".join(header.cells).strip():
            break
    if header.refused:
        raise DataError(f"{name}, line {header.line}: {header.refused}; repair its header, then try again")
    ahead = list(islice(rows, 1000))
    following: Iterator[Row] = chain(ahead, rows)
    cells = [header.cells[0].removeprefix("\ufeff"), *header.cells[1:]] if header.cells else []
    below = [row.cells for row in ahead if row.cells]
    table.has_header = _is_header(cells, below, wanted)
    if table.has_header:
        table.lines["header"] += above + bool(header.cells)
        if not _is_unicode("".join(cells)):
            table.notes.append("its header is not UTF-8; save the file as UTF-8")
        if has_our_header(start, header.cells):
            following = _restored(following, header.cells)
        if _has_row_names(cells, below):
            cells = ["", *cells]
            table.notes.append("its rows have names and its header none for them, as R writes a table")
        table.columns = [cell.encode(errors="replace").decode() for cell in cells]  # they may stand in a message
        table.rows = _checked(_without_headers(following, cells), len(cells), separator)
        return table
    width = len(cells) - (separator == "|" and cells[-1].strip() == "")
    table.columns = [str(number) for number in range(1, width + 1)]
    table.notes.append("no header: its columns are numbered from 1 on")
    table.rows = _checked(chain([header], following), width, separator)
    return table


def _has_row_names(header: list[str], rows: Sequence[list[str]]) -> bool:
    "Whether every row has one cell more than the header, and begins with its number."
    numbers = [cells[0] for cells in rows if len(cells) == len(header) + 1]
    return bool(numbers) and len(numbers) == len(rows) and numbers == [str(i) for i in range(1, len(rows) + 1)]


def _without_headers(rows: Iterable[Row], header: list[str]) -> Iterator[Row]:
    "Refuse the header where it stands again, as in files that were joined."
    names = [loose_name(cell) for cell in header]
    for row in rows:
        if row.cells and len(row.cells) > 1 and all(re.fullmatch(r"\s*:?-{2,}:?\s*|", cell) for cell in row.cells):
            yield row._replace(cells=None, refused="a line of dashes")
            continue
        again = row.cells and [loose_name(cell.removeprefix("\ufeff")) for cell in row.cells] == names
        yield row._replace(cells=None, refused="the header again") if again and any(names) else row


def detect_separator(name: str, start: str) -> tuple[str, bool]:
    """The separator of a file that begins with `start`, and whether its first line is Excel's `sep=`.

    Of comma, semicolon, tab and bar in the first line, the one of which most lines have as many; in a `.tsv`, the tab.
    """
    if announced := re.match(r'"?sep=([^\r\n])"?[\r\n]', start, re.IGNORECASE):
        return announced[1], True
    lines = [line for line in re.split(r"\r\n|\r|\n", re.sub(r'"[^"]*"', "", start)) if line.strip(" ")]
    lines = lines[: -1 if len(start) > HEAD_BYTES // 2 and len(lines) > 1 else None][:50] or [""]
    if Path(name).suffix.lower() == ".tsv" and "\t" in lines[0]:
        return "\t", False

    def consistency(separator: str) -> tuple[float, bool, int]:
        counts = [line.count(separator) for line in lines]
        return counts[1:].count(counts[0]) / max(1, len(lines) - 1), separator != "|", counts[0]

    return max([one for one in "\t,;|" if one in lines[0]] or [","], key=consistency), False


def _is_header(first: list[str], others: Sequence[list[str]], wanted: Sequence[str]) -> bool:
    """Whether a first line is a header.

    It is none where the user numbers the columns, or where it is like the lines below: one of its cells stands again in
    the same column, or is a number as all below it are.
    """
    names = {loose_name(cell) for cell in first}
    numbers = [str(number) for number in range(len(first))]
    if names & (({loose_name(name) for name in wanted} - set(map(str, range(100)))) | HEADER_NAMES):
        return True
    is_numbered = bool(wanted) and all(name.isdecimal() and 1 <= int(name) <= len(first) for name in wanted)
    if len(first) < 2 or (first == numbers and not is_numbered):
        return not is_numbered or first == wanted
    if is_numbered:
        return first == numbers and set(wanted) <= set(first)
    if wanted and set(wanted) <= set(first):
        return True
    rows = [cells for cells in others if len(cells) == len(first) and cells != first]
    for cell, column in zip(first, zip(*rows, strict=True), strict=False):
        if cell.strip() and (cell in column or (len(column) > 1 and all(map(_is_number, (cell, *column))))):
            return False
    return True


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", cell))


def _holds_quotes(stream: BinaryIO) -> bool:
    "Whether there is a quotation mark in a stream, which is left at its beginning."
    holds = any(b'"' in block for block in iter(lambda: stream.read(2**20), b""))
    stream.seek(0)
    return holds


def _quotes_enclose(stream: BinaryIO, head: bytes, separator: str, newline: str) -> bool:
    """Whether a file separated by tabs or bars shows that quotes enclose its fields; the stream is left at its beginning.

    They do where every field with a quote is a well-formed quoted one, or where more rows fit the header if they do.
    """
    text = text_lines(stream, head, newline)
    rows = _unquoted_rows(text, separator, Counter())
    header = next(rows, Row(1, [""])).cells
    well_formed, lost = all(_QUOTED.fullmatch(cell) for cell in header if '"' in cell), 0
    for row in rows:
        lost += _fitted(row.cells, len(header), separator) is None
        well_formed = well_formed and all(_QUOTED.fullmatch(cell) for cell in row.cells if '"' in cell)
    stream.seek(0)
    if well_formed or not lost:
        return well_formed
    known = _known_cells(stream, head, separator, newline)
    text = text_lines(stream, head, newline)
    quoted = _quoted_rows(text, separator, Counter(), known)
    lost_quoted = sum(bool(row.refused) or _fitted(row.cells, len(header), separator) is None for row in quoted)
    stream.seek(0)
    return lost_quoted < lost


_QUOTED = re.compile(r'"(?:[^"]|"")*"\r?')
_MOST_KNOWN = 5000  # cells of a column that are remembered


def _known_cells(stream: BinaryIO, head: bytes, separator: str, newline: str) -> list[set[str]]:
    "The cells of each column in rows of one line: what a line looks like that is a row; the stream is rewound."
    text, lines = text_lines(stream, head, newline), Counter[str]()
    rows = _quoted_rows(text, separator, lines)
    known: list[set[str]] = [set() for _ in next(rows, Row(1, [])).cells or ()]
    before = lines["continued"]
    for row in rows:
        if row.cells and len(row.cells) == len(known) and lines["continued"] == before:
            for cell, seen in zip(row.cells, known, strict=True):
                if cell.strip() and len(seen) < _MOST_KNOWN:
                    seen.add(cell)
        before = lines["continued"]
    stream.seek(0)
    return known


def _unquoted_rows(text: Iterable[str], separator: str, lines: Counter[str]) -> Iterator[Row]:
    "Rows of a file in which a quotation mark is an ordinary character; every line is a row."
    for number, line in enumerate(text, 1):
        lines["lines"] += 1
        if line.strip(" \r\n"):
            yield Row(number, line.removesuffix("\n").rstrip("\r").split(separator))
        else:
            lines["blank"] += 1


class _Lines:
    "Lines of a text, of which some can be given back; `taken` are those taken since it was last emptied."

    def __init__(self, text: Iterable[str]):
        self.text, self.returned, self.taken = iter(text), deque[str](), list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.taken.append(self.returned.popleft() if self.returned else next(self.text))
        return self.taken[-1]

    def give_back(self, lines: Sequence[str]) -> None:
        self.returned.extendleft(reversed(lines))


def _quoted_rows(
    text: Iterable[str],
    separator: str,
    lines: Counter[str],
    known: list[set[str]] | None = None,  # cells of each column (`_known_cells`)
    skip_blanks: bool = False,  # between a separator and a quotation mark
) -> Iterator[Row]:
    """Rows of a CSV file with quoting; the line is the one on which the row begins.

    Of a row with broken quoting only the first line is refused, and the next row begins on the line after it.
    """
    csv.field_size_limit(2**31 - 1)
    source, number = _Lines(text), 1
    options: Any = {"delimiter": separator, "strict": True, "skipinitialspace": skip_blanks}
    reader = csv.reader(source, **options)
    while True:
        source.taken.clear()
        cells, problem = None, ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "a quotation mark is opened and never closed"
            words = str(error)
            problem = f"broken quoting ({unclosed if 'unexpected end' in words else error})"
            if "new-line" in words:
                problem = "a carriage return within a field that has no quotes"
        if len(source.taken) > 1 and not problem and known and _swallows_rows(source.taken, separator, known):
            problem = "broken quoting (a quotation mark opens here, and what follows up to the next looks like rows)"
        if problem:
            source.give_back(source.taken[1:])
            reader = csv.reader(source, **options)
        count = 1 if problem else len(source.taken)
        lines["lines"] += count
        lines["blank" if cells == [] else "continued"] += count - bool(cells or problem)
        if cells or problem:
            yield Row(number, None if problem else cells, problem)
        number += count


def _swallows_rows(taken: Sequence[str], separator: str, known: list[set[str]]) -> bool:
    """Whether lines within one row in quotes are rows themselves.

    Such a line has as many fields as the header, and a field that belongs to no quoted text is known from other rows.
    Where no row is known, most of at least three lines have as many fields.
    """
    lines, width = [line.rstrip("\r\n").split(separator) for line in taken], len(known)
    rows = [cells for cells in lines if len(cells) == width]
    opened, closed = _open_field(lines[0]), next((i for i, cell in enumerate(lines[-1]) if cell.count('"') % 2), 0)
    if width < 2 or not rows:
        return False
    if not any(known[i] for i in range(width) if i != opened):
        return len(taken) > 2 and 2 * len(rows) > len(taken) and not any(c[:1] == " " for row in rows for c in row[1:])
    if opened < width - 1 and any(cells[-1] in known[-1] for cells in lines[1:-1]):
        return True  # texts may hold separators themselves
    outside = {0: range(opened + 1, width), len(lines) - 1: range(closed)}  # of the quotes, in the first and last line
    inside = [i for i in range(width) if i != opened]
    return any(
        cells[i] in known[i]
        for number, cells in enumerate(lines)
        if len(cells) == width
        for i in outside.get(number, inside)
    )


def _open_field(cells: Sequence[str]) -> int:
    "The field of a line whose quotation mark is still open at its end."
    is_open, opened = False, 0
    for i, cell in enumerate(cells):
        if cell.count('"') % 2:
            is_open = not is_open
            opened = i if is_open else opened
    return opened


def _restored(rows: Iterable[Row], header: list[str]) -> Iterator[Row]:
    "Rows of a file that emo_nb wrote, without the apostrophes that guard a spreadsheet."
    for row in rows:
        restorable = row.cells is not None and len(row.cells) == len(header)
        yield row._replace(cells=restore_row(header, row.cells)) if restorable else row


def _fitted(cells: list[str], width: int, separator: str) -> list[str] | None:
    "The cells of a row of the header's width; a bar at the end of a line closes it. None where they do not fit."
    if separator == "|" and len(cells) == width + 1 and not cells[-1].strip():
        cells = cells[:-1]
    return cells if len(cells) == width else None


def _checked(rows: Iterable[Row], width: int, separator: str) -> Iterator[Row]:
    "Refuse rows with a wrong number of cells, and rows that are not UTF-8."
    for row in rows:
        if row.refused:
            yield row
        elif (cells := _fitted(row.cells, width, separator)) is None:
            yield Row(row.line, None, _width_problem(row.cells, width, SEPARATOR_NAMES.get(separator, separator)))
        elif not _is_unicode("".join(cells)):
            yield Row(row.line, None, _NOT_UTF8)
        else:
            yield row._replace(cells=cells)


def _width_problem(cells: list[str], width: int, separator: str) -> str:
    "Why a row does not fit its header, with the likeliest cause."
    cause = ""
    if len(cells) > width:
        at_end = not "".join(cells[width:]).strip()
        cause = f" (a {separator} at the end of the line?)" if at_end else f" (a {separator} within a field?)"
    return f"{len(cells)} field{'s'[: len(cells) != 1]} where the header has {width}{cause}"


def _is_unicode(text: str) -> bool:
    "Whether a string has no unpaired surrogates: bytes that were not UTF-8 are read as such."
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- JSON


def _json_table(name: str, stream: BinaryIO, head: bytes) -> Table:
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
        if not _is_unicode(line):
            yield Row(number, None, _NOT_UTF8)
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
    if not _is_unicode(text):
        raise ValueError(_NOT_UTF8)
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


def _table_in(value: Any) -> list[dict[str, Any]] | None:
    "The rows of a table as pandas writes one into an object, in any orientation; None where it is none."
    if not isinstance(value, dict) or not value:
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        rows = [row for row in value["data"] if isinstance(row, list) and len(row) == len(value["columns"])]
        return [dict(zip(map(str, value["columns"]), row, strict=True)) for row in rows]
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


# ---- Parquet


def _parquet_table(name: str, stream: BinaryIO, only: str | None) -> Table:
    "A Parquet file: the column `only` where it has it, else all of its columns."
    from pyarrow.parquet import ParquetFile

    with _parquet_errors(name):
        file = ParquetFile(stream)
        columns = file.schema_arrow.names
    if only in columns:
        columns = [column for column in columns if column == only]
    names = _class_labels(file.schema_arrow.metadata or {})
    return Table(columns, _parquet_rows(name, file, columns), label_names=names)


def _class_labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    "The names of numbered labels by column, as the datasets library writes them into the schema (`ClassLabel`)."
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        pairs = list(features.items())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}
    names = {}
    for column, feature in pairs:
        kind = feature[0] if isinstance(feature, list) and feature else feature
        kind = kind.get("feature", kind) if isinstance(kind, dict) else {}
        if isinstance(kind, dict) and isinstance(kind.get("names"), list):
            names[column] = list(map(str, kind["names"]))
    return names


def _parquet_rows(name: str, file: Any, columns: list[str] | None) -> Iterator[Row]:
    number = 0
    with _parquet_errors(name):
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield Row(number, list(cells))


@contextmanager
def _parquet_errors(name: str) -> Iterator[None]:
    "Turn pyarrow's errors into a `DataError`."
    try:
        yield
    except (EmoNbError, GeneratorExit):
        raise
    except Exception as error:
        raise DataError(f"{name} is not a readable Parquet file ({first_line(error)}); write it anew") from error


@dataclass
class TableFile:
    "A whole file: its rows with their place (`FILE_COLUMN`, `LINE_COLUMN`), its refused rows (file, line, reason)."

    rows: pd.DataFrame
    refused: pd.DataFrame
    table: Table  # columns, notes, names of labels, lines

    @property
    def columns(self) -> list[str]:
        "The names of the columns, in JSON those of the first row with the paths into it."
        cells = self.rows.drop(columns=[FILE_COLUMN, LINE_COLUMN])
        names = list(cells.columns) if self.table.columns is None else list(self.table.columns)
        rows = cells.head(200).to_dict("records") if cells.columns.is_unique else []
        inner = [path for row in rows for path in nested_names(row) if "." in path]
        return [*names, *(path for path in dict.fromkeys(inner) if path not in names)]

    def column(self, name: str) -> pd.Series:
        "A column, or what stands at a path into the objects of JSON rows."
        if name in self.rows.columns:
            return self.rows[name]
        root = self.rows.get(name.split(".")[0], pd.Series(None, index=self.rows.index, dtype=object))
        cells = [nested_cell({name.split(".")[0]: cell}, name) for cell in root]
        return pd.Series(cells, index=self.rows.index, dtype=object)


def read_table_file(name: str, content: bytes, wanted: Sequence[str] | None = None) -> TableFile:
    "All rows of a file, those that are refused apart; `wanted` names columns that its header may have."
    rows: list[Any] = []
    refused = []
    with open_table(name, content, wanted) as table:
        for row in table.rows:
            if not row.refused and table.columns is None and not _is_unicode(json.dumps(row.cells, ensure_ascii=False)):
                row = Row(row.line, None, "an unpaired surrogate (half of a character)")
            if row.refused:
                refused.append((name, row.line, row.refused))
            elif table.columns is None:
                rows.append({**row.cells, FILE_COLUMN: name, LINE_COLUMN: row.line})
            else:
                rows.append([name, row.line, *row.cells])
    columns = None if table.columns is None and rows else [FILE_COLUMN, LINE_COLUMN, *(table.columns or [])]
    return TableFile(pd.DataFrame(rows, columns=columns, dtype=object), refused_rows(refused), table)


def refused_rows(rows: Iterable[tuple[str, int, str]]) -> pd.DataFrame:
    "A frame of refused rows: file, line, reason."
    return pd.DataFrame(list(rows), columns=["file", "line", "reason"])


def list_names(names: Iterable[object], most: int = 12) -> str:
    "The first names of columns, for a message: quoted, so that blanks show, and each cut at 40 characters."
    return ", ".join(repr(str(name)[:40].encode(errors="replace").decode()) for name in islice(names, most))


def loose_name(name: object) -> str:
    "A name without differences of case and blanks."
    return " ".join(str(name).split()).casefold()


def find_column(names: Sequence[str], wanted: str) -> str | None:
    "The column of that name, or the only one whose name differs from it by case and blanks."
    if wanted in names:
        return wanted
    alike = [name for name in names if loose_name(name) == loose_name(wanted)]
    return alike[0] if len(alike) == 1 else None


def is_goemotions_split(path: Path) -> bool:
    "Whether a `train.tsv` is GoEmotions': many data sets have one; this one's lines are text, label ids, comment id."
    with open(path, encoding="utf-8", errors="replace") as file:
        return bool(_SPLIT_LINE.match(file.readline(10_000)))


# ---- texts to classify


def iter_texts(file: str | Path, text_col: str | None = None) -> Iterator[str]:
    """The texts of a CSV, TSV, JSON or Parquet file, gzipped or not, or the lines of any other, one after the other.

    Raises `DataError` where the column is missing, `TextError` where a row holds no text; both say where.
    """
    file = Path(file)
    if not os.path.exists(file):
        raise TextError(f"{file} does not exist; give the path of a file with texts")
    try:
        cells = _column_cells(file, text_col) if text_col or _is_table(file) else _lines(file)
        for number, text in enumerate(cells, 1):
            if not isinstance(text, str):
                raise TextError(
                    f"{file}: row {number} holds {reprlib.repr(text)}, which is not a text; fill or drop it, then "
                    "try again"
                )
            yield text
    except UnicodeDecodeError as error:
        raise TextError(f"{file} cannot be read as text (not UTF-8); save it as UTF-8") from error
    except OSError as error:
        raise TextError(f"{file} cannot be read ({first_line(error)}); name another, or repair it") from error


def _is_table(file: Path) -> bool:
    "Whether a file is a table by its ending or its content; any other is one text a line."
    with open_stream(str(file), file) as (name, _, head):
        suffix = Path(name).suffix.lower()
        return suffix in (".csv", ".tsv", ".parquet") or is_json(name, head) or is_parquet(head)


def _lines(file: Path) -> Iterator[str]:
    with open_stream(str(file), file) as (_, stream, head):
        for line in text_lines(stream, head, None, strict=True):
            yield line.removesuffix("\n")


def _column_cells(file: Path, text_col: str | None) -> Iterator[Any]:
    "The cells of the column of texts."
    with open_table(str(file), file, [text_col or "text"], text_col or "text") as table:
        if table.columns is not None and not any(map(str.strip, table.columns)):
            raise DataError(f"{file} is empty; give a file with texts")
        column = None if table.columns is None else _text_column(table.columns, text_col, file)
        if column is not None and table.lines and table.has_header and not text_col and table.columns == [column]:
            _warn_of_odd_header(file, column)
        for line, cells, refused in table.rows:
            if refused:
                raise TextError(f"{file}, line {line}: {refused}; repair it, then try again")
            if column is None or table.columns is None:
                text_col = _text_column(nested_names(cells), text_col, f"{file}, line {line}")
                yield nested_cell(cells, text_col)
            else:
                yield cells[table.columns.index(column)]


def _warn_of_odd_header(file: Path, column: str) -> None:
    "Warn where the name of the only column is not a usual one: it may be a text."
    if loose_name(column) not in HEADER_NAMES:
        warn_once(
            f"the first line of {file}, {column!r:.60}, is taken for the name of its column (--text-col 1 reads it)"
        )


def _text_column(names: list[str], wanted: str | None, where: object) -> str:
    "The column that holds the texts: the one asked for, the only one, or `text`."
    wanted = wanted or (names[0] if len(names) == 1 else "text")
    if (column := find_column(names, wanted)) is None:
        raise DataError(
            f"{where} has no column {wanted!r}; its columns are: {list_names(names)}; name one with --text-col"
        )
    if names.count(column) > 1:
        raise DataError(f"{where} has more than one column {column!r}; rename one")
    if column != wanted:
        warn_once(f"the column {column!r} is taken for {wanted!r}")
    return column


def estimate_rows(file: str | Path) -> int:
    "How many rows a file has, for a progress bar: exact for Parquet, a count of line ends otherwise, 0 if unreadable."
    file = Path(file)
    try:
        if file.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_metadata

            return max(0, read_metadata(file).num_rows)
        with open(file, "rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))
    except Exception:  # whoever reads the file says what is wrong with it
        return 0
