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
from typing import Any, BinaryIO

from ..core import DataError, first_line
from .archives import MAX_BYTES
from .places import Place, open_place

HEAD_BYTES = 1 << 16  # of a file, read to recognise its form

_FOREIGN = {  # first bytes -> what it is, and what to do
    b"\xd0\xcf\x11\xe0": ("an Excel workbook (.xls)", "save its sheet as CSV in UTF-8"),
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


_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # by the first bytes


@contextmanager
def open_stream(name: str, source: Place | bytes) -> Iterator[tuple[str, BinaryIO, bytes]]:
    """A file's name without `.gz` or `.zst`, its unpacked bytes and the first of them.

    Raises `DataError` for a format that is not read, a damaged compressed file, and what unpacks to more than `MAX_BYTES`.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open_place(source) as stream:
        magic = stream.read(4)
        kind = next((kind for first, kind in _COMPRESSION.items() if magic.startswith(first)), None)
        stream.seek(0)
        try:
            if kind:
                stream = io.BufferedReader(_Bounded(name, stream, kind))
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            refuse_foreign(name, head)
            yield re.sub(r"\.(gz|zst)$", "", name, flags=re.IGNORECASE), stream, head
        except (EOFError, gzip.BadGzipFile, zlib.error, _ZstdError) as error:
            raise DataError(f"{name} is cut short or damaged {kind} ({first_line(error)}); get it again") from error


class _ZstdError(Exception):
    "A damaged zstd file; pyarrow says it by an `OSError`, as a disk does."


class _Unclosed(io.RawIOBase):
    "A stream that stays open when pyarrow is done with it."

    def __init__(self, stream: Any):
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self.stream.readinto(buffer))


class _Bounded(io.RawIOBase):
    "The unpacked bytes of a compressed file, from any position; `DataError` beyond `MAX_BYTES`."

    def __init__(self, name: str, stream: BinaryIO, kind: str):
        self.name, self.stream, self.kind = name, stream, kind
        self._open()

    def _open(self) -> None:
        self.position = 0
        if self.kind == "gzip":
            self.unpacked: Any = gzip.GzipFile(fileobj=self.stream)
        else:
            from pyarrow import CompressedInputStream

            self.unpacked = CompressedInputStream(_Unclosed(self.stream), "zstd")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(2**20):
                pass
            position += self.position
        elif whence == io.SEEK_CUR:
            position += self.position
        if position < self.position:
            self.stream.seek(0)
            self._open()
        while self.position < position and self.read(min(position - self.position, 2**20)):
            pass
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self.unpacked.read(len(buffer))
        except OSError as error:
            raise error if self.kind == "gzip" else _ZstdError(first_line(error)) from error
        self.position += len(data)
        if self.position > MAX_BYTES:
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
    if head[257:262] == b"ustar":
        raise DataError(f"{name} is a tar archive; unpack it, and name the folder")
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
