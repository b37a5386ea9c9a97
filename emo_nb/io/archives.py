"""The tables at a path: one file, the files of a folder, or the members of a tar archive.

Archives come from the network, so they are read defensively. Nothing is extracted to disk; a member must be a plain
file below the archive's own root; and an archive that unpacks to gigabytes, holds thousands of members or ends early is
refused by name. Reading goes to the very end, where gzip keeps its checksum.
"""

import gzip
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..core import DataError, first_line

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MAX_BYTES = 2_000_000_000  # that one archive may unpack to
MAX_MEMBERS = 1000
MAX_HEADER_BYTES, MAX_TOTAL_HEADER_BYTES = 1 << 13, 1 << 21  # of one member, of all of them
_NO_TABLE = "holds no .csv, .tsv, .jsonl or .parquet file; name a place that does"


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each table at `path`: a file, a folder's files, or an archive's members.

    Raises `DataError` where nothing is there, no table is there, or something cannot be read.
    """
    if not os.path.exists(path):  # os.path answers False for a name that no file can have, where pathlib raises
        raise DataError(f"{path} does not exist; give the path of a file or folder with tables")
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar")) and path.is_file():
        yield from _archive_files(path)
        return
    tables = [path]
    if path.is_dir():
        try:
            files = [file for file in sorted(path.iterdir()) if file.name[0] != "."]
            # a folder of tables may hold settings in .json; one without tables holds tables in it
            tables = [file for file in files if is_table_name(file.name)] or _other_tables(files)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); name another, or repair it") from error
        if not tables:
            inside = [file.name for file in files if _holds_tables(file)]
            raise DataError(f"{path} {_NO_TABLE}" + (f" (such as its folder {inside[0]!r})" if inside else ""))
    for table in tables:
        yield printable_name(table.name), _read_bytes(table)


def _holds_tables(folder: Path) -> bool:
    "Whether a path is a folder with a table in it, as far as one may look."
    try:
        return any(map(is_table_name, os.listdir(folder)))
    except OSError:
        return False


def _other_tables(files: list[Path]) -> list[Path]:
    "The JSON documents of a folder, or else its .txt files that are named after a split."
    documents = [file for file in files if file.name.lower().removesuffix(".gz").endswith(".json")]
    splits = [file for file in files if file.suffix == ".txt" and re.search(r"train|dev|val|test", file.stem)]
    return documents or splits


def other_files(path: Path) -> list[str]:
    "The names of files beside the tables of a folder that may hold data and are not read."
    kinds = (".json", ".txt", ".xlsx", ".xls", ".zip", ".xml", ".pkl")
    if not path.is_dir() or not any(is_table_name(file.name) for file in path.iterdir()):
        return []
    return sorted(file.name for file in path.iterdir() if file.suffix.lower() in kinds and file.name[0] != ".")


def is_table_name(name: str) -> bool:
    "Whether a name ends as one of a table does, compressed or not."
    return Path(name.lower().removesuffix(".gz").removesuffix(".zst")).suffix in TABLE_SUFFIXES


def printable_name(name: str) -> str:
    "A file name that can stand in a message: one line, without unpaired surrogates."
    return "".join(char if char.isprintable() else "?" for char in name)


def check_regular_file(path: Path) -> None:
    "Raise `DataError` for a folder, a pipe or a device: a pipe can block for ever, and can be read only once."
    if os.path.exists(path) and not path.is_file():
        raise DataError(f"{path} is not a file but a folder, a pipe or a device; name a file, or move it away")


def _read_bytes(path: Path) -> bytes:
    check_regular_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name another, or repair it") from error


class _BoundedTar:
    "An archive's unpacked bytes as `tarfile` reads them: forward only, and within the limits above."

    def __init__(self, stream: io.BufferedIOBase, path: Path):
        self.stream, self.path, self.header, self.header_bytes = stream, path, b"", 0
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        "The next bytes of a header; `tarfile` calls this for headers only."
        self.header_bytes += size
        if not 0 <= size <= MAX_HEADER_BYTES or self.header_bytes > MAX_TOTAL_HEADER_BYTES:
            raise DataError(
                f"{self.path} has larger headers than an archive of text files; get it from its publisher again"
            )
        self.header = self.read_content(size)
        return self.header

    def read_content(self, size: int) -> bytes:
        "The next bytes of a member."
        self.check_position(self.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> None:
        "Skip forward to a position."
        if position < self.tell():
            raise tarfile.ReadError("a size below zero")
        self.check_position(position)
        self.stream.seek(position)

    def check_position(self, position: int) -> None:
        "Raise `DataError` beyond `MAX_BYTES`."
        if position > MAX_BYTES:
            raise DataError(f"{self.path} unpacks to more than {MAX_BYTES:,} bytes; unpack it and name the folder")


def _archive_files(path: Path) -> Iterator[tuple[str, bytes]]:
    "Name and content of each table in a tar archive, gzipped or not; nothing is written to disk."
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            yield from _archive_members(_BoundedTar(stream, path))
    except DataError:
        raise
    except Exception as error:  # tarfile, gzip and zlib each raise errors of their own for damaged bytes
        raise DataError(f"{path} is cut short or damaged ({first_line(error)}); fetch it again") from error


def _archive_members(stream: _BoundedTar) -> Iterator[tuple[str, bytes]]:
    seen: dict[str, str] = {}  # file name -> path within the archive
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        for count, member in enumerate(archive, 1):
            inside = PurePosixPath(member.name)
            _check_member(member, inside, count, stream)
            if not is_table_name(inside.name) or inside.name[0] == ".":
                continue
            name = printable_name(inside.name)
            if name in seen:
                raise DataError(
                    f"{stream.path} holds {seen[name]!r} and {member.name!r}, two tables of one name; rename one"
                )
            seen[name] = member.name
            content = stream.read_content(member.size)
            if len(content) < member.size:
                raise tarfile.ReadError("unexpected end of data")
            yield name, content
    if stream.header != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for the end of the archive
        raise tarfile.ReadError("its end is missing")
    while stream.read_content(MAX_HEADER_BYTES):  # gzip's checksum comes last
        pass
    if not seen:
        raise DataError(f"{stream.path} {_NO_TABLE}")


def _check_member(member: tarfile.TarInfo, inside: PurePosixPath, count: int, stream: _BoundedTar) -> None:
    "Raise `DataError` for a member that is not a plain file below the archive's root, and for one too many."
    is_plain = (member.isfile() and not member.issparse() and member.size >= 0) or member.isdir()
    if not is_plain or inside.is_absolute() or ".." in inside.parts:
        raise DataError(
            f"{stream.path} holds {member.name!r}, which is not a plain file below its own folder; get the archive "
            "from its publisher again"
        )
    if count > MAX_MEMBERS:
        raise DataError(f"{stream.path} holds more than {MAX_MEMBERS:,} files; unpack it and name the folder")
    stream.check_position(stream.tell() + member.size)
