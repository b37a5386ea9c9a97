"""How tables are written: CSV that is safe to open in a spreadsheet, JSON Lines, Parquet, and a table for people.

A spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`, and the text of a stranger may begin so. Such a cell
is written with an apostrophe before it; emo_nb takes the apostrophe off again when it reads a file of its own, which it
knows by its header.
"""

import csv
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import ConfigError, DataError, first_line
from .files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

# How a cell begins that a spreadsheet may compute; a sign may be full-width
_FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\x00-\x1f]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # characters that end a line or control a terminal


def escape_formula(cell: Any, keep_numbers: bool = True) -> Any:
    "A cell with an apostrophe before what a spreadsheet would compute; with `keep_numbers`, `-1` stays a number."
    if not isinstance(cell, str) or not _FORMULA.match(cell) or (keep_numbers and _NUMBER.fullmatch(cell)):
        return cell
    return "'" + cell


def unescape_formula(cell: Any) -> Any:
    "The cell as it was before `escape_formula`."
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _FORMULA.match(cell, 1) else cell


def format_csv(table: "pd.DataFrame", index: bool = False, header: bool = True) -> str:
    """A table as CSV that a spreadsheet can open: strings are quoted, numbers are not, nothing is computed.

    Python 3.10, whose csv module cannot write NUL, writes U+FFFD for it.
    """
    import pandas as pd

    names = table.rename(columns=escape_formula, index=escape_formula if index else None)
    safe = names.apply(
        lambda column: (
            column
            if pd.api.types.is_numeric_dtype(column)
            else column.astype(object).map(lambda cell: escape_formula(cell, column.name != "text"))
        )
    )
    if sys.version_info < (3, 11):
        safe = safe.map(lambda cell: cell.replace("\x00", "\ufffd") if isinstance(cell, str) else cell)
    return safe.to_csv(index=index, header=header, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")


def read_formatted_csv(file: Path, text_columns: Iterable[str]) -> "pd.DataFrame":
    "A table that `format_csv` wrote, as it was. Raises `OSError` or `ValueError` where it cannot be read."
    import pandas as pd
    from pyarrow import csv, string  # pandas would end a text at a NUL

    whole = csv.ReadOptions(block_size=file.stat().st_size + 1)
    types = csv.ConvertOptions(column_types=dict.fromkeys(text_columns, string()), strings_can_be_null=False)
    table = csv.read_csv(file, whole, csv.ParseOptions(newlines_in_values=True), types).to_pandas()
    return table.rename(columns=unescape_formula).apply(
        lambda column: column if pd.api.types.is_numeric_dtype(column) else column.map(unescape_formula)
    )


def has_our_header(text: str, header: list[str]) -> bool:
    "Whether `format_csv` may have written the file that begins with `text`: it quotes every name of the header."
    quoted = io.StringIO()
    csv.writer(quoted, quoting=csv.QUOTE_ALL, lineterminator="").writerow(header)
    known = _label_column(header) > 0 or {"predicted", "confidence"} <= set(header)
    return known and text.startswith(quoted.getvalue())


def restore_row(header: list[str], cells: list[str]) -> list[str]:
    "The cells of a row in a file of ours, without apostrophes where the row is one of emo_nb's predictions."
    if "predicted" in header or cells[_label_column(header)] in header:
        return [unescape_formula(cell) for cell in cells]
    return cells


def _label_column(header: list[str]) -> int:
    "The place of the column `label` in predictions, which follows that of the texts; 0 where there is none."
    pairs = list(pairwise(header))
    return pairs.index(("text", "label")) + 1 if ("text", "label") in pairs else 0


def format_table(table: "pd.DataFrame") -> str:
    "The three most probable emotions of each text, for people; `table` is what `predict_frame` returns."
    width, numbers = 48, table.select_dtypes("number").columns.drop("tokens_left_out", errors="ignore")
    lines = []
    for _, row in table.iterrows():
        top = row[numbers].astype(float).nlargest(3)
        text = re.sub(_CONTROL, " ", row.text)
        shown = text if len(text) <= width else text[: width - 1] + "…"
        lines.append(f"{shown:{width}}  " + "  ".join(f"{label} {p:.2f}" for label, p in top.items()))
    return "\n".join(lines) + "\n"


def format_jsonl(table: "pd.DataFrame") -> str:
    "One JSON object a row."
    return table.round(6).to_json(
        orient="records", lines=True, force_ascii=False, date_format="iso", date_unit="us", double_precision=15
    )


FORMATTERS: dict[str, Callable[["pd.DataFrame"], str]] = {
    "table": format_table,
    "jsonl": format_jsonl,
    "csv": lambda table: format_csv(table.round(6)),
}


def write_csv(table: "pd.DataFrame", file: Path, first: bool) -> None:
    "Rows of a CSV file; only the first part has the header."
    file.write_text(format_csv(table.round(6), header=first), encoding="utf-8", newline="\n")


def write_jsonl(table: "pd.DataFrame", file: Path, first: bool) -> None:
    "One JSON object a line. `DataError` where a column to keep holds bytes."
    try:
        lines = format_jsonl(table)
    except (UnicodeDecodeError, OverflowError) as error:
        raise DataError(
            f"a column to keep has values that JSON cannot hold ({first_line(error)}); choose others with --keep, or "
            "write .parquet"
        ) from error
    file.write_text(lines, encoding="utf-8", newline="\n")


def write_parquet(table: "pd.DataFrame", file: Path, first: bool) -> None:
    "A Parquet file of its own; a column of numbers in one input file and of text in another is text, as are huge numbers."
    mixed = [name for name in table.select_dtypes(object) if _is_mixed(table[name]) or _is_huge(table[name])]
    with _named_kinds():
        table.assign(**{name: table[name].map(str, na_action="ignore") for name in mixed}).to_parquet(file, index=False)


def _is_mixed(column: "pd.Series") -> bool:
    "Whether text stands beside numbers, and nothing else does."
    kinds = set(map(type, column.dropna()))
    return str in kinds and len(kinds) > 1 and kinds <= {str, int, float, bool}


def _is_huge(column: "pd.Series") -> bool:
    "Whether a whole number has no room in the 64 bits of pyarrow's integers."
    return any(isinstance(cell, int) and not -(2**63) <= cell < 2**63 for cell in column)


WRITERS: dict[str, Callable[["pd.DataFrame", Path, bool], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def output_format(out: Path, given: str | None = None) -> str:
    "The format in which to write a table to `out`: the one given, or what its name ends in; `ConfigError` for neither."
    file_format = given or out.suffix[1:].lower()
    if file_format not in WRITERS:
        raise ConfigError(f"the ending of {out} names no format; end it in .csv, .jsonl or .parquet, or pass --format")
    return file_format


def concatenate_parts(parts: list[Path], out: Path) -> None:
    "Write the parts into one file, which appears complete or not at all."
    with atomic_file(out) as temporary:
        if parts[0].suffix == ".parquet":
            _concatenate_parquet(parts, temporary)
        else:
            with open(temporary, "wb") as whole:
                for part in parts:
                    with open(part, "rb") as stream:
                        shutil.copyfileobj(stream, whole)


def _concatenate_parquet(parts: list[Path], temporary: Path) -> None:
    "Write Parquet files into one; a column that one part leaves empty has the kind that others give it."
    from pyarrow.parquet import ParquetFile, ParquetWriter, read_schema

    with _named_kinds():
        schema = _common_schema([read_schema(part) for part in parts])
        with ParquetWriter(temporary, schema) as writer:
            for part in parts:
                writer.write_table(ParquetFile(part).read().cast(schema))


def link_parts(parts: list[Path], folder: Path) -> None:
    "Parquet files under their names in another folder, all of one schema: one that differs is written anew."
    from pyarrow.parquet import read_schema, read_table, write_table

    with _named_kinds():
        schemas = [read_schema(part) for part in parts]
        whole = _common_schema(schemas)
        for part, schema in zip(parts, schemas, strict=True):
            if schema.equals(whole):
                _link_or_copy(part, folder / part.name)
            else:
                write_table(read_table(part, partitioning=None).cast(whole), folder / part.name)


def _link_or_copy(file: Path, target: Path) -> None:
    "A second name of a file or, where the file system knows none, a copy."
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _common_schema(schemas: list[Any]) -> Any:
    "The schema of all parts: of a column that one leaves empty, the kind that others give it; of numbers and text, text."
    from pyarrow import string, unify_schemas
    from pyarrow.types import is_boolean, is_floating, is_integer, is_large_string, is_string

    def is_text(name: str) -> set[bool]:
        kinds = [schema.field(name).type for schema in schemas]
        texts = [is_string(kind) or is_large_string(kind) for kind in kinds]
        numbers = [is_integer(kind) or is_floating(kind) or is_boolean(kind) for kind in kinds]
        return {text for text, number in zip(texts, numbers, strict=True) if text or number}

    for at, name in enumerate(schemas[0].names):
        if len(is_text(name)) > 1:
            schemas = [schema.set(at, schema.field(at).with_type(string())) for schema in schemas]
    return unify_schemas(schemas, promote_options="permissive")


@contextmanager
def _named_kinds() -> Iterator[None]:
    "Turn pyarrow's error about a column of mixed kinds, which Parquet cannot hold, into a `DataError`."
    from pyarrow import ArrowInvalid, ArrowTypeError

    try:
        yield
    except (ArrowInvalid, ArrowTypeError) as error:
        raise DataError(
            f"a column to keep has values of different kinds, which Parquet cannot hold ({first_line(error)}); choose "
            "others with --keep, or write .jsonl"
        ) from error
