"""What every reader of tables yields: rows, each with its cells or the reason why it is refused, and what they came from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NOT_UTF8 = "not UTF-8 (perhaps Windows-1252; save the file as UTF-8)"
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


def is_unicode(text: str) -> bool:
    "Whether a string has no unpaired surrogates: bytes that were not UTF-8 are read as such."
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def repair_surrogates(text: str) -> str:
    "The text with surrogate pairs joined, and U+FFFD in place of an unpaired surrogate."
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def loose_name(name: object) -> str:
    "A name without differences of case and blanks."
    return " ".join(str(name).split()).casefold()
