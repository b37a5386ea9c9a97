"""Tables in characters: CSV, TSV and files separated by bars, whether they quote their fields or not.

Quotation marks. In a file separated by commas or semicolons, quotes enclose a field. In a file separated by tabs or bars
they are ordinary characters, unless the file shows otherwise: every field with a quote is a well-formed quoted one, or
more rows fit the header if quotes enclose. A quote that opens a field and swallows whole rows is refused alone, with its
line, and the lines after it are read. So the lines of a text file always add up: header, rows, further lines of rows,
blank lines, refused lines.

Two published layouts are recognised by their first line, because they look like CSV and are not: GoEmotions' splits
have no header, and in EmpatheticDialogues a quotation mark is an ordinary character (a comma is written `_comma_`).
"""

import csv
import io
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from ..core import DataError
from .formats import HEAD_BYTES, text_encoding, text_lines
from .rows import HEADER_NAMES, NOT_UTF8, Row, Table, is_unicode, loose_name
from .writers import has_our_header, restore_row

EMPATHETIC_COLUMNS = {"conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"}
SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SPLIT_LINE = re.compile(r"[^\t]*\t\d+(,\d+)*\t\w+\r?$")  # text, label ids, comment id: the splits have no header


def open_text_table(
    name: str,
    stream: BinaryIO,
    head: bytes,
    wanted: Sequence[str],
    most: int = -1,  # bytes that are read beforehand to learn how the file is quoted; by default all of it
) -> Table:
    "A CSV or TSV file, or one of the two published layouts."
    start = head.decode(text_encoding(head), errors="replace").removeprefix("\ufeff")
    first, lines = start.split("\n", 1)[0], Counter[str]()
    if SPLIT_LINE.match(first):
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
    beginning = stream if most < 0 else io.BytesIO(stream.read(most))
    has_quotes, known = _holds_quotes(beginning), None
    enclose = separator not in "\t|" or (has_quotes and _quotes_enclose(beginning, head, separator, newline))
    if separator in "\t|" and has_quotes:
        notes.append("quotation marks " + ("enclose fields" if enclose else "are part of the text"))
    if enclose and has_quotes:
        known = _known_cells(beginning, head, separator, newline)
    stream.seek(0)
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
    if not table.has_header:
        width = len(cells) - (separator == "|" and cells[-1].strip() == "")
        table.columns = [str(number) for number in range(1, width + 1)]
        table.notes.append("no header: its columns are numbered from 1 on")
        table.rows = _checked(chain([header], following), width, separator)
        return table
    table.lines["header"] += above + bool(header.cells)
    if has_our_header(start, header.cells):
        following = _restored(following, header.cells)
    cells = _complete_header(cells, below, table.notes)
    table.columns = [cell.encode(errors="replace").decode() for cell in cells]  # they may stand in a message
    table.rows = _checked(_without_headers(following, cells), len(cells), separator)
    return table


def _complete_header(cells: list[str], below: Sequence[list[str]], notes: list[str]) -> list[str]:
    "The header, with a name for the rows' names where R wrote the table; what is odd about it is noted."
    if not is_unicode("".join(cells)):
        notes.append("its header is not UTF-8; save the file as UTF-8")
    if not _has_row_names(cells, below):
        return cells
    notes.append("its rows have names and its header none for them, as R writes a table")
    return ["", *cells]


def _has_row_names(header: list[str], rows: Sequence[list[str]]) -> bool:
    "Whether every row has one cell more than the header, and begins with its number."
    numbers = [cells[0] for cells in rows if len(cells) == len(header) + 1]
    return bool(numbers) and len(numbers) == len(rows) and numbers == [str(i) for i in range(1, len(rows) + 1)]


def _is_ruler(cells: Sequence[str]) -> bool:
    "Whether a row is the line of dashes below the header of a Markdown table."
    filled = [cell.strip() for cell in cells if cell.strip()]
    return len(cells) > 1 and bool(filled) and all(re.fullmatch(":?-{2,}:?", cell) for cell in filled)


def _without_headers(rows: Iterable[Row], header: list[str]) -> Iterator[Row]:
    "Refuse the header where it stands again, as in files that were joined."
    names = [loose_name(cell) for cell in header]
    for row in rows:
        if row.cells and _is_ruler(row.cells):
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
            yield Row(number, line.rstrip("\r\n").split(separator))
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
        cells, problem = _next_record(reader)
        if cells is None and not problem:
            return
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


def _next_record(reader: Iterator[list[str]]) -> tuple[list[str] | None, str]:
    "The cells of the next record and what is wrong with it; neither at the end."
    try:
        return next(reader), ""
    except StopIteration:
        return None, ""
    except csv.Error as error:
        words = str(error)
    if "new-line" in words:
        return None, "a carriage return within a field that has no quotes"
    return (
        None,
        f"broken quoting ({'a quotation mark is opened and never closed' if 'unexpected end' in words else words})",
    )


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
        elif not is_unicode("".join(cells)):
            yield Row(row.line, None, NOT_UTF8)
        else:
            yield row if cells is row.cells else Row(row.line, cells)


def _width_problem(cells: list[str], width: int, separator: str) -> str:
    "Why a row does not fit its header, with the likeliest cause."
    cause = ""
    if len(cells) > width:
        at_end = not "".join(cells[width:]).strip()
        cause = f" (a {separator} at the end of the line?)" if at_end else f" (a {separator} within a field?)"
    return f"{len(cells)} field{'s'[: len(cells) != 1]} where the header has {width}{cause}"
