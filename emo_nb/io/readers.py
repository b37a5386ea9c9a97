"""One reader for each format, used for training tables, evaluation and prediction alike: CSV/TSV, JSON Lines, Parquet.

`open_table` yields a file's rows one after the other, so a file of any size is read in constant memory. Every row
arrives: as its cells, or as the reason why it is refused, with the line on which it begins. `read_table_file` collects
them into a frame; `iter_texts` takes one column and stops at the first row that is refused.

Two published layouts are recognised by their first line, because they look like CSV and are not: GoEmotions' splits
have no header, and in EmpatheticDialogues a quotation mark is an ordinary character (a comma is written `_comma_`).
"""

import csv
import io
import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from ..core import DataError, EmoNbError, TextError, first_line
from .writers import has_our_header, restore_row

FILE_COLUMN, LINE_COLUMN = "file of emo_nb", "line of emo_nb"  # no column of a user has these names
EMPATHETIC_COLUMNS = {"conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"}
_SPLIT_LINE = re.compile(r"[^\t]*\t\d+(,\d+)*\t\w+\r?$")  # text, label ids, comment id: the splits have no header
_HEAD_BYTES = 1 << 16  # of a file, read to recognise its layout
_NOT_UTF8 = "not UTF-8"


class Row(NamedTuple):
    "One row of a table."

    line: int  # on which it begins, from 1 on; in Parquet the number of the row
    cells: Any  # a list in the order of the columns, or in JSON Lines a dict; None where it is refused
    refused: str = ""  # the reason


@dataclass
class Table:
    "An open table: its columns where the file names them at its beginning (not in JSON Lines), and its rows."

    columns: list[str] | None
    rows: Iterator[Row]


@contextmanager
def open_table(name: str, source: Path | bytes, columns: Iterable[str] | None = None) -> Iterator[Table]:
    """Open a table by the ending of `name`: .parquet, .jsonl, and CSV or TSV for any other.

    `source` is a path or the content. `columns` limits what is read from Parquet. Raises `DataError` for a header or
    a Parquet file that cannot be read.
    """
    suffix = Path(name).suffix.lower()
    with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
        if suffix == ".parquet":
            yield _parquet_table(name, stream, columns)
        elif suffix == ".jsonl":
            yield Table(None, _json_rows(stream))
        else:
            yield _text_table(name, stream)


def _text_table(name: str, stream: BinaryIO) -> Table:
    "A CSV or TSV file, or one of the two published layouts."
    head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="surrogateescape")
    stream.seek(0)
    first = head.split("\n", 1)[0]
    if _SPLIT_LINE.match(first):
        columns = ["text", "labels", "id"]
        return Table(columns, _checked(_unquoted_rows(stream, "\t"), len(columns)))
    if set(first.strip().split(",")) >= EMPATHETIC_COLUMNS:
        columns = first.strip().split(",")
        return Table(columns, _checked(islice(_unquoted_rows(stream, ","), 1, None), len(columns)))
    lines = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    rows = _quoted_rows(lines, detect_separator(re.split(r"[\r\n]", head, maxsplit=1)[0]))
    header = next(rows, Row(1, []))
    if header.refused:
        raise DataError(f"{name}, line 1: {header.refused}; repair its header, then try again")
    ours = has_our_header(head, header.cells)
    columns = [column.encode(errors="replace").decode() for column in header.cells]  # they may stand in a message
    return Table(columns, _checked(_restored(rows, header.cells) if ours else rows, len(columns)))


def detect_separator(header: str) -> str:
    "Comma, semicolon or tab: the one that the header has most of, outside quotes."
    return max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)


def _unquoted_rows(stream: BinaryIO, separator: str) -> Iterator[Row]:
    "Rows of a file in which a quotation mark is an ordinary character, and only a newline ends a row."
    for number, line in enumerate(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="\n"), 1):
        if line.strip(" \r\n"):
            yield Row(number, line.removesuffix("\n").rstrip("\r").split(separator))


def _quoted_rows(lines: Iterable[str], separator: str) -> Iterator[Row]:
    "Rows of a CSV file with quoting; the line is the one on which the row begins."
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            if cells := next(reader):
                yield Row(number, cells)
        except StopIteration:
            return
        except csv.Error as error:
            span = f", which spans {reader.line_num - number + 1} lines" if reader.line_num > number else ""
            yield Row(number, None, f"broken quoting ({error}{span})")


def _restored(rows: Iterable[Row], header: list[str]) -> Iterator[Row]:
    "Rows of a file that emo_nb wrote, without the apostrophes that guard a spreadsheet."
    for row in rows:
        restorable = row.cells is not None and len(row.cells) == len(header)
        yield row._replace(cells=restore_row(header, row.cells)) if restorable else row


def _checked(rows: Iterable[Row], width: int) -> Iterator[Row]:
    "Refuse rows with a wrong number of cells, and rows that are not UTF-8."
    for row in rows:
        if row.refused:
            yield row
        elif len(row.cells) != width:
            yield Row(row.line, None, f"{len(row.cells)} fields where the header has {width}")
        elif not _is_unicode("".join(row.cells)):
            yield Row(row.line, None, _NOT_UTF8)
        else:
            yield row


def _is_unicode(text: str) -> bool:
    "Whether a string has no unpaired surrogates: bytes that were not UTF-8 are read as such."
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(stream: BinaryIO) -> Iterator[Row]:
    "Rows of a JSON Lines file: one object a line; blank lines are skipped."
    for number, line in enumerate(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="\n"), 1):
        if not line.strip(" \t\r\n"):
            continue
        if not _is_unicode(line):
            yield Row(number, None, _NOT_UTF8)
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, None, f"not JSON ({error})")
        else:
            yield Row(number, content) if isinstance(content, dict) else Row(number, None, "not a JSON object")


def _parquet_table(name: str, stream: BinaryIO, wanted: Iterable[str] | None) -> Table:
    "A Parquet file: all of its columns, or the `wanted` ones."
    from pyarrow.parquet import ParquetFile

    with _parquet_errors(name):
        file = ParquetFile(stream)
        names = file.schema_arrow.names
    columns = names if wanted is None else [column for column in names if column in set(wanted)]
    return Table(columns, _parquet_rows(name, file, None if wanted is None else columns))


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


def read_table_file(name: str, content: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    "A file's rows with their file and line (`FILE_COLUMN`, `LINE_COLUMN`), and its refused rows (file, line, reason)."
    rows: list[Any] = []
    refused = []
    with open_table(name, content) as table:
        for row in table.rows:
            if not row.refused and table.columns is None and not _is_unicode(json.dumps(row.cells, ensure_ascii=False)):
                row = Row(row.line, None, "an unpaired surrogate (half of a character)")
            if row.refused:
                refused.append((name, row.line, row.refused))
            elif table.columns is None:
                rows.append({**row.cells, FILE_COLUMN: name, LINE_COLUMN: row.line})
            else:
                rows.append([name, row.line, *row.cells])
    columns = None if table.columns is None else [FILE_COLUMN, LINE_COLUMN, *table.columns]
    return pd.DataFrame(rows, columns=columns, dtype=object), refused_rows(refused)


def refused_rows(rows: Iterable[tuple[str, int, str]]) -> pd.DataFrame:
    "A frame of refused rows: file, line, reason."
    return pd.DataFrame(list(rows), columns=["file", "line", "reason"])


def cell_text(value: Any) -> str:
    "A cell as a string: a whole number without its decimal point; empty for what is neither string nor number."
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (str, int, float)) and value == value else ""


def list_names(names: Iterable[object], most: int = 12) -> str:
    "The first names of columns, for a message: in one line, printable, each cut at 40 characters."
    return ", ".join(
        " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(name)[:40].encode(errors="replace").decode()).split())
        for name in islice(names, most)
    )


def is_goemotions_split(path: Path) -> bool:
    "Whether a `train.tsv` is GoEmotions': many data sets have one; this one's lines are text, label ids, comment id."
    with open(path, encoding="utf-8", errors="replace") as file:
        return bool(_SPLIT_LINE.match(file.readline(10_000)))


# ---- texts to classify


def iter_texts(file: str | Path, text_col: str | None = None) -> Iterator[str]:
    """The texts of a .csv, .tsv, .jsonl or .parquet file, or the lines of any other file, one after the other.

    Raises `DataError` where the column is missing, `TextError` where a row holds no text; both say where.
    """
    file = Path(file)
    if not os.path.exists(file):
        raise TextError(f"{file} does not exist; give the path of a file with texts")
    is_table = file.suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet")
    try:
        for number, text in enumerate(_column_cells(file, text_col) if is_table else _lines(file), 1):
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


def _lines(file: Path) -> Iterator[str]:
    with open(file, encoding="utf-8-sig") as lines:
        for line in lines:
            yield line.rstrip("\n")


def _column_cells(file: Path, text_col: str | None) -> Iterator[Any]:
    "The cells of the column of texts."
    wanted = [_text_column(_parquet_names(file), text_col, file)] if file.suffix.lower() == ".parquet" else None
    with open_table(str(file), file, wanted) as table:
        column = None if table.columns is None else _text_column(table.columns, text_col, file)
        for line, cells, refused in table.rows:
            if refused:
                raise TextError(f"{file}, line {line}: {refused}; repair it, then try again")
            if column is None or table.columns is None:
                text_col = _text_column(list(cells), text_col, f"{file}, line {line}")
                yield cells[text_col]
            else:
                yield cells[table.columns.index(column)]


def _parquet_names(file: Path) -> list[str]:
    from pyarrow.parquet import read_schema

    with _parquet_errors(str(file)):
        return list(read_schema(file).names)


def _text_column(names: list[str], wanted: str | None, where: object) -> str:
    "The column that holds the texts: the one asked for, the only one, or `text`."
    wanted = wanted or (names[0] if len(names) == 1 else "text")
    if names.count(wanted) != 1:
        problem = "no column" if wanted not in names else "more than one column"
        raise DataError(
            f"{where} has {problem} {wanted!r}; its columns are: {list_names(names)}; name one with --text-col"
        )
    return wanted


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
