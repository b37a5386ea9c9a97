"""One reader for each format, used for training tables, prediction streams and evaluation alike: CSV/TSV, JSON, Parquet.

`open_table` yields a file's rows one after the other, so a file of any size is read in constant memory (a JSON document
that is not JSON Lines is read whole). Every row arrives: as its cells, or as the reason why it is refused, with the line
on which it begins. `read_table_file` collects them into a frame; `iter_texts` takes one column and stops at the first
row that is refused. What had to be decided to read a file is said in `Table.notes`.
"""

import json
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..core import ConfigError, DataError, TextError, first_line, warn_once
from .formats import is_json, is_parquet, open_stream, text_encoding, text_lines
from .json_tables import nested_cell, nested_names, open_json_table
from .parquet_tables import open_parquet_table
from .places import Place, find_files, is_remote, remote_errors
from .rows import HEADER_NAMES, Row, Table, is_unicode, loose_name, repair_surrogates
from .text_tables import SPLIT_LINE, open_text_table

_SCANNED = 2**22  # bytes of a file at an address; of others the whole
FILE_COLUMN, LINE_COLUMN = "file of emo_nb", "line of emo_nb"  # no column of a user has these names


@contextmanager
def open_table(
    name: str, source: Place | bytes, wanted: Sequence[str] | None = None, only: Sequence[str] | None = None
) -> Iterator[Table]:
    """Open a table: Parquet, JSON or JSON Lines by ending or content, and CSV or TSV for any other.

    `source` is a path, an address or the content, compressed or not. `wanted` names columns: where a first line holds them it is a
    header. Of Parquet, the columns `only` alone are read where they are there. Raises `DataError` for a file that is no table.
    """
    with open_stream(name, source) as (name, stream, head):
        try:
            if is_parquet(head) or Path(name).suffix.lower() == ".parquet":
                yield open_parquet_table(name, stream, only)
            elif is_json(name, head):
                yield open_json_table(name, stream, head)
            else:
                most = _SCANNED if not isinstance(source, bytes) and is_remote(source) else -1
                yield open_text_table(name, stream, head, wanted or (), most)
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is damaged {text_encoding(head).upper()}; save it as UTF-8") from error


@dataclass
class TableFile:
    "A whole file: its rows with their place (`FILE_COLUMN`, `LINE_COLUMN`), its refused rows (file, line, reason)."

    rows: pd.DataFrame
    refused: pd.DataFrame
    table: Table  # columns, notes, names of labels, lines

    @property
    def columns(self) -> list[str]:
        "The names of the columns, in JSON the keys of all rows with the paths into the first ones."
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
            if not row.refused and table.columns is None and not is_unicode(json.dumps(row.cells, ensure_ascii=False)):
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


def find_column(names: Sequence[str], wanted: str) -> str | None:
    "The column of that name, or the only one whose name differs from it by case and blanks."
    if wanted in names:
        return wanted
    alike = [name for name in names if loose_name(name) == loose_name(wanted)]
    return alike[0] if len(alike) == 1 else None


def is_goemotions_split(path: Path) -> bool:
    "Whether a `train.tsv` is GoEmotions': many data sets have one; this one's lines are text, label ids, comment id."
    with open(path, encoding="utf-8", errors="replace") as file:
        return bool(SPLIT_LINE.match(file.readline(10_000)))


# ---- texts to classify

Keep = Literal["all", "none"] | Sequence[str]  # which columns beside the texts; a single one may be a string
_FIRST_ROWS = 1000  # of a JSON file, whose keys are its columns


def iter_texts(place: Place, text_col: str | None = None) -> Iterator[str]:
    """The texts of a CSV, TSV, JSON or Parquet file, compressed or not, or the lines of any other, one after the other.

    Raises `DataError` where the column is missing, `TextError` where a row holds no text; both say where.
    """
    for text, _ in iter_rows(place, text_col):
        yield text


def iter_rows(place: Place, text_col: str | None = None, keep: Keep = "none") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each text with the cells of the columns to keep, by name: the same names in every row.

    `place` is a file, a folder, a pattern or an address (`find_files`); of several files, the name of each is kept as
    the column `file` where any are (`with_file_name`). `keep` is `all` (all columns but that of the texts), `none`, or
    their names. Raises as `iter_texts` does, and `DataError` where a column to keep is missing, or files differ in it.
    """
    files, keep = find_files(place), one_or_several(keep)
    if len(files) > 1:
        _check_same_columns(files, text_col, keep)
    for file in files:
        for text, kept in _rows_of_file(file, text_col, keep):
            yield text, with_file_name(file, kept) if len(files) > 1 and keep != "none" else kept


def one_or_several(keep: Keep) -> Keep:
    "The columns to keep; a single name as a list of one."
    return [keep] if isinstance(keep, str) and keep not in ("all", "none") else keep


def with_file_name(file: Place, kept: dict[str, Any]) -> dict[str, Any]:
    "The cells to keep, behind the name of their file; a column `file` of their own is kept as `input_file`."
    if {"file", "input_file"} <= set(kept):
        raise ConfigError("the column 'input_file' has a name that 'file' needs; rename it, or choose with --keep")
    return {"file": str(file), **{"input_file" if name == "file" else name: cell for name, cell in kept.items()}}


def _check_same_columns(files: Sequence[Place], text_col: str | None, keep: Keep) -> None:
    "Raise `DataError` where files have different columns to keep; their first rows are read."
    first = {file: next(_rows_of_file(file, text_col, keep), None) for file in files}
    columns = {file: set(row[1]) for file, row in first.items() if row is not None}  # of files with rows
    for file, names in columns.items():
        if differing := sorted(names ^ columns[other := next(iter(columns))]):
            raise DataError(
                f"{file} and {other} differ in the column {differing[0]!r}; choose columns that both have with --keep"
            )


def _rows_of_file(file: Place, text_col: str | None, keep: Keep) -> Iterator[tuple[str, dict[str, Any]]]:
    "The same of one file."
    if not is_remote(file) and not os.path.exists(file):
        raise TextError(f"{file} does not exist; give the path of a file with texts")
    try:
        with remote_errors(file):
            rows = _table_rows(file, text_col, keep) if text_col or _is_table(file) else _lines(file, keep)
            for number, (text, kept) in enumerate(rows, 1):
                if not isinstance(text, str):
                    raise TextError(
                        f"{file}: row {number} holds {reprlib.repr(text)}, which is not a text; fill or drop it, then "
                        "try again"
                    )
                yield text, kept
    except UnicodeDecodeError as error:
        raise TextError(f"{file} cannot be read as text (not UTF-8); save it as UTF-8") from error
    except OSError as error:
        raise TextError(f"{file} cannot be read ({first_line(error)}); name another, or repair it") from error


def _is_table(file: Place) -> bool:
    "Whether a file is a table by its ending or its content; any other is one text a line."
    with open_stream(str(file), file) as (name, _, head):
        suffix = Path(name).suffix.lower()
        return suffix in (".csv", ".tsv", ".parquet") or is_json(name, head) or is_parquet(head)


def _lines(file: Place, keep: Keep) -> Iterator[tuple[str, dict[str, Any]]]:
    if keep not in ("all", "none"):
        raise DataError(f"{file} has one text a line and no column {keep[0]!r} to keep; leave --keep out")
    with open_stream(str(file), file) as (_, stream, head):
        for line in text_lines(stream, head, None, strict=True):
            yield line.removesuffix("\n"), {}


def _table_rows(file: Place, text_col: str | None, keep: Keep) -> Iterator[tuple[Any, dict[str, Any]]]:
    "The cells of the column of texts, each with those to keep."
    only = None if keep == "all" else [text_col or "text", *(() if keep == "none" else keep)]
    with open_table(str(file), file, only or [text_col or "text"], only) as table:
        if table.columns is not None:
            yield from _flat_rows(file, table, text_col, keep)
        else:
            yield from _nested_rows(file, table, text_col, keep)


def _flat_rows(file: Place, table: Table, text_col: str | None, keep: Keep) -> Iterator[tuple[Any, dict[str, Any]]]:
    "The same of a table whose columns are known before its rows."
    assert table.columns is not None
    if not any(map(str.strip, table.columns)):
        raise DataError(f"{file} is empty; give a file with texts")
    column = _text_column(table.columns, text_col, file)
    if table.lines and table.has_header and not text_col and table.columns == [column]:
        _warn_of_odd_header(file, column)
    kept = _kept_columns(table.columns, column, keep, file)
    places = [table.columns.index(name) for name in (column, *kept)]
    for line, cells, refused in table.rows:
        if refused:
            raise TextError(f"{file}, line {line}: {refused}; repair it, then try again")
        text, *others = (cells[place] for place in places)
        yield text, dict(zip(kept, others, strict=True))


def _nested_rows(file: Place, table: Table, text_col: str | None, keep: Keep) -> Iterator[tuple[Any, dict[str, Any]]]:
    "The same of JSON, whose columns are the keys of its first rows; lists and objects are kept as JSON."
    first = list(islice(table.rows, _FIRST_ROWS))
    names = list(dict.fromkeys(str(key) for row in first if not row.refused for key in row.cells))
    known = list(dict.fromkeys(name for row in first if not row.refused for name in nested_names(row.cells)))
    kept = None
    for line, cells, refused in chain(first, table.rows):
        if refused:
            raise TextError(f"{file}, line {line}: {refused}; repair it, then try again")
        text_col = _text_column(nested_names(cells), text_col, f"{file}, line {line}")
        kept = _kept_columns(names if keep == "all" else known, text_col, keep, file) if kept is None else kept
        if keep == "all" and (late := [key for key in cells if str(key) not in names]):
            warn_once(
                f"{file}: the column {late[0]!r} first stands on line {line} and is not kept; give it to the first row"
            )
        yield nested_cell(cells, text_col), {repair_surrogates(name): _kept_cell(cells, name) for name in kept}


def _kept_cell(cells: dict[str, Any], name: str) -> Any:
    "A cell of a JSON row as it can be written to any table: halves of characters replaced, lists and objects as JSON."
    cell = nested_cell(cells, name)
    if isinstance(cell, (dict, list)):
        cell = json.dumps(cell, ensure_ascii=False)
    return repair_surrogates(cell) if isinstance(cell, str) else cell


def _kept_columns(names: Sequence[str], text_col: str, keep: Keep, file: Place) -> list[str]:
    "The names of the columns to keep. `DataError` where one is missing, or stands twice."
    if keep == "none":
        return []
    if keep == "all":
        chosen = [name for name in names if name != text_col]
    else:
        missing = [name for name in keep if find_column(names, name) is None]
        if missing:
            raise DataError(f"{file} has no column {missing[0]!r} to keep; its columns are: {list_names(names)}")
        chosen = [name for wanted in keep if (name := find_column(names, wanted)) is not None]
    if twice := [name for name in chosen if list(names).count(name) > 1 and chosen.count(name) > 1]:
        raise DataError(f"{file} has more than one column {twice[0]!r}; rename one, or leave it out with --keep")
    return list(dict.fromkeys(chosen))


def _warn_of_odd_header(file: Place, column: str) -> None:
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


def estimate_rows(place: Place) -> int:
    "How many rows there are, for a progress bar: exact for Parquet, else a count of line ends; 0 where nobody knows."
    try:
        return sum(0 if is_remote(file) else _rows_in(Path(file)) for file in find_files(place))
    except Exception:  # whoever reads the files says what is wrong with them
        return 0


def _rows_in(file: Path) -> int:
    if file.suffix.lower() == ".parquet":
        from pyarrow.parquet import read_metadata

        return max(0, read_metadata(file).num_rows)
    with open_stream(str(file), file) as (_, stream, _):
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))
