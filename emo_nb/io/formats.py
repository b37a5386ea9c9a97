"""What a file is, by its first bytes: its compression, its encoding, and the formats that are named and not read.

The ending of a name says what its giver believed. A workbook saved as `.csv`, a web page saved as `.json` or a table in
UTF-16 is told by its bytes, so that the answer is its name and not a list of nonsense columns.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..core import DataError, first_line
from .archives import MAX_BYTES

HEAD_BYTES = 1 << 16  # of a file, read to recognise its form

_FOREIGN = {  # first bytes -> what it is, and what to do
    b"\xd0\xcf\x11\xe0": ("an Excel workbook (.xls)", "save its sheet as CSV in UTF-8"),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", "unpack it first"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it first"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it first"),
    b"Rar!": ("a rar archive", "unpack it first"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
    b"%PDF": ("a PDF document", "export the table as CSV"),
    b"ARROW1": ("an Arrow file", "save it as Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "save it as Parquet"),
    b"\x93NUMPY": ("a NumPy array", "save it as CSV"),
    b"\x89HDF": ("an HDF5 file", "save the table as CSV"),
    b"$FL": ("an SPSS file", "export the table as CSV"),
    b"<stata_dta>": ("a Stata file", "export the table as CSV"),
    b"{\\rtf": ("a text document (RTF)", "export the table as CSV"),
    b"version https://git-lfs": ("a pointer of Git LFS in place of the file", "fetch it with git lfs pull"),
    b"404: Not Found": ("a server's answer that there is no such file", "download it from another address"),
    b"__label__": ("in fastText's format", "write a table with a column of texts and one of labels"),
}


@contextmanager
def open_stream(name: str, source: Path | bytes) -> Iterator[tuple[str, BinaryIO, bytes]]:
    """A file's name without `.gz`, its unpacked bytes and the first of them.

    Raises `DataError` for a format that is not read, damaged gzip, and what unpacks to more than `MAX_BYTES`.
    """
    with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        try:
            if is_gzip:
                stream = io.BufferedReader(_BoundedGzip(name, stream))
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            refuse_foreign(name, head)
            yield re.sub(r"\.gz$", "", name, flags=re.IGNORECASE), stream, head
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{name} is cut short or damaged gzip ({first_line(error)}); get it again") from error


class _BoundedGzip(io.RawIOBase):
    "The unpacked bytes of a gzip file; `DataError` beyond `MAX_BYTES`."

    def __init__(self, name: str, stream: BinaryIO):
        self.name, self.unpacked = name, gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self.unpacked.seek(position, whence)

    def tell(self) -> int:
        return self.unpacked.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.unpacked.read(len(buffer))
        if self.tell() > MAX_BYTES:
            raise DataError(f"{self.name} unpacks to more than {MAX_BYTES:,} bytes; unpack it and name the file")
        buffer[: len(data)] = data
        return len(data)


def refuse_foreign(name: str, head: bytes) -> None:
    "Raise `DataError`, with a remedy, where a file's first bytes are those of a format that is not read."
    for magic, (what, remedy) in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{name} is {what}; {remedy}")
    if re.match(rb"BZh[1-9]1AY&SY", head):
        raise DataError(f"{name} is compressed with bzip2; unpack it first")
    if head.startswith(b"PK\x03\x04"):
        if b"word/" in head or b"opendocument" in head:
            raise DataError(f"{name} is a document or a workbook of an office program; save its table as CSV in UTF-8")
        if b"xl/" in head or b"[Content_Types].xml" in head:
            raise DataError(f"{name} is an Excel workbook (.xlsx); save its sheet as CSV in UTF-8")
        raise DataError(f"{name} is a zip archive; unpack it, and name the file or folder")
    is_markup = re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", head, re.IGNORECASE)
    if is_markup and not name.lower().endswith(".txt"):
        raise DataError(f"{name} is a web page or an XML file; download or export the table itself")
    if (
        text_encoding(head) == "utf-8-sig"
        and not is_parquet(head)
        and sum(head.count(byte) for byte in range(9)) > 0.1 * len(head)
    ):
        raise DataError(f"{name} is a binary file of a format that is not read; export the table as CSV")


def text_encoding(head: bytes) -> str:
    "UTF-16 or UTF-32 where the first bytes show it; UTF-8, with or without its mark, otherwise."
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    sample = head[:1000]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if len(sample) > 8 and zeros.count(0) > 0.4 * len(zeros) and sample.count(0) == zeros.count(0):
            return encoding
    return "utf-8-sig"


def text_lines(
    stream: BinaryIO, head: bytes, newline: str | None = "", strict: bool = False
) -> Generator[str, None, None]:
    """The lines of a stream that begins with `head`; the stream stays open.

    Bytes that are not UTF-8 are read as unpaired surrogates, or raise `UnicodeDecodeError` if `strict`.
    """
    encoding = text_encoding(head)
    lenient = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
    text = io.TextIOWrapper(stream, encoding, "strict" if strict else lenient, newline)
    try:
        for line in text:  # noqa: UP028 (`yield from` would close the text, and with it the stream)
            yield line
    finally:
        with suppress(ValueError):  # the stream may be closed by now
            text.detach()


def is_parquet(head: bytes) -> bool:
    "Whether a file is Parquet, whatever its name ends in."
    return head.startswith(b"PAR1")


def is_json(name: str, head: bytes) -> bool:
    "Whether a file is JSON or JSON Lines: by its ending, or because it begins as a list of objects or an object."
    if Path(name).suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return True
    text = head.decode(text_encoding(head), errors="replace").lstrip()
    if not re.match(r'\[\s*[{"]|\{\s*"[^"]*"\s*:', text):
        return False
    for part in (text, text.split("\n", 1)[0]):  # a text may begin with a bracket, too
        with suppress(ValueError, RecursionError):
            return isinstance(json.loads(part), (dict, list))
    return len(head) == HEAD_BYTES and Path(name).suffix.lower() != ".txt"
