"""Where texts are: in a file, in the files of a folder or a pattern, or at an address that fsspec knows.

Addresses are those of fsspec's file systems: `https://`, `s3://`, `gs://`, `hf://` and so on. What is there is read block
by block, as it is needed; a labelled table alone is copied first (`local_copy`).
"""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..core import ConfigError, DataError, EmoNbError, SourceError, TextError, first_line
from .archives import check_regular_file
from .files import LOCK_FILE, atomic_dir, file_sha256

Place = str | Path  # a path, or an address with `://`
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt")
_COMPRESSED = ("", ".gz", ".zst")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}


def is_remote(place: Place) -> bool:
    "Whether a place is an address, and not a path of this machine."
    return "://" in str(place) and not os.path.exists(place)


def find_files(place: Place) -> list[Place]:
    """The file, the tables of a folder and the folders in it, or the files that a pattern with `*` fits, by name.

    Raises `TextError` where there is none, and `ConfigError` or `DataError` for an address that cannot be reached.
    """
    place = place if is_remote(place) else os.path.expanduser(place)
    if is_remote(place):
        files: list[Place] = list(_remote_files(str(place)))
    elif os.path.isdir(place):
        files = sorted(path for path in Path(place).rglob("*") if _is_input(path, Path(place)) and _has_content(path))
    elif os.path.exists(place) or not glob.has_magic(str(place)):
        files = [Path(place)]
    else:
        files = sorted(path for name in glob.glob(str(place), recursive=True) if _has_content(path := Path(name)))
    if not files:
        raise TextError(f"{place} names no file with texts; name a file, a folder with tables, or another pattern")
    return files


def _has_content(path: Path) -> bool:
    "Whether a path is a file with content: of several, Spark leaves some empty."
    return path.is_file() and path.stat().st_size > 0


def _is_input(path: Path, folder: Path) -> bool:
    "Whether a path in a folder is that of a table, and no part of a job at work there."
    below = path.relative_to(folder)
    jobs = (folder / parent for parent in below.parents if parent.name.endswith(".part"))
    return _is_table_name(below.as_posix()) and not any((job / LOCK_FILE).exists() for job in jobs)


def _is_table_name(name: str) -> bool:
    "Whether a name, with folders before it, ends as a table does, and neither it nor a folder is hidden."
    is_hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return not is_hidden and name.lower().endswith(tuple(t + c for t in _TABLES for c in _COMPRESSED))


def _remote_files(place: str) -> Iterator[str]:
    with remote_errors(place):
        files, path = _file_system(place)
        if place.startswith(("http:", "https:")):  # which have no folders, and queries that look like patterns
            names = [path]
        elif glob.has_magic(path):
            names = sorted(name for name, facts in files.glob(path, detail=True).items() if facts["type"] == "file")
        elif not files.isdir(path):
            names = [path]
        else:
            names = sorted(name for name in files.find(path) if _is_table_name(name.removeprefix(path).lstrip("/")))
        for name in names:
            yield place if name == path else files.unstrip_protocol(name)


def _file_system(place: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    return url_to_fs(place)


@contextmanager
def remote_errors(place: Place) -> Iterator[None]:
    "Turn what a file system raises about an address into one sentence; errors about a path stay as they are."
    try:
        yield
    except EmoNbError:
        raise
    except Exception as error:  # each file system has errors of its own
        if not is_remote(place):
            raise
        if isinstance(error, ImportError):
            if (package := _PACKAGES.get(str(place).partition("://")[0])) is None:
                raise ConfigError(
                    f"{place} cannot be read ({first_line(error)}); install what reads such addresses, or copy the file here"
                ) from error
            raise ConfigError(
                f"{place} is read with {package}, which is not installed; pip install {package}"
            ) from error
        status = _http_status(error)
        if isinstance(error, FileNotFoundError) and status in (None, 404):
            raise TextError(
                f"{place} does not exist, or its server does not answer; give the path or the address of a file with texts"
            ) from error
        why = f"the server answers {status}" if status else first_line(error)
        if isinstance(error, PermissionError) or status in (401, 403):
            raise DataError(f"{place} may not be read ({why}); log in there, or ask its owner") from error
        raise DataError(f"{place} cannot be read ({why}); name another place, or copy the file here") from error


def _http_status(error: BaseException | None) -> int | None:
    "What a server answered, of an error or of the one that caused it: fsspec calls 403 a file that is not found, too."
    while error is not None:
        for holder in (error, getattr(error, "response", None)):
            for name in ("status", "status_code"):
                if isinstance(status := getattr(holder, name, None), int):
                    return status
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def open_place(place: Place) -> Iterator[BinaryIO]:
    "The bytes of a file, which can be read again from any position. Raises as `find_files` does."
    if not is_remote(place):
        with open(place, "rb") as stream:
            yield stream
        return
    with remote_errors(place):
        files, path = _file_system(str(place))
        stream = files.open(path, "rb")
    with stream:
        yield stream


def local_copy(place: Place, cache: Path) -> Path:
    """A copy of the file at an address, or a folder with copies of those that a pattern fits, below `cache`.

    Made once for each state of the files; of several of one name, each gets a number. Raises as `find_files` does.
    """
    files = find_files(place)
    names = [str(file).replace("\\", "/").rsplit("/", 1)[-1] for file in files]
    if len(set(names)) < len(names):
        parts = [name.partition(".") for name in names]  # a name may say which split it is, by how it begins
        names = [f"{stem}-{number:03}{dot}{ending}" for number, (stem, dot, ending) in enumerate(parts)]
    state = "".join(f"{file}\0{fingerprint(file)}\0" for file in files)
    parent = re.sub(r"\W+", "-", str(place).rpartition("/")[0].rpartition("/")[2]).strip("-") or "files"
    folder = cache / hashlib.sha256(state.encode()).hexdigest()[:16] / parent
    try:
        if not folder.exists():
            _copy(files, names, folder)
    except ConfigError as error:
        if not folder.exists():  # which it does where another process was quicker
            raise SourceError(
                f"no copy of {place} can be written below {cache}; set EMO_NB_CACHE to another folder"
            ) from error
    return folder / names[0] if len(files) == 1 else folder


def _copy(files: Sequence[Place], names: Sequence[str], folder: Path) -> None:
    "Copy files into a new folder, which appears complete."
    with atomic_dir(folder, names[0]) as temporary:
        for file, name in zip(files, names, strict=True):
            with remote_errors(file), open_place(file) as source, open(temporary / name, "wb") as target:
                shutil.copyfileobj(source, target)


def check_can_be_read_twice(place: Place) -> None:
    "Raise `DataError` for a pipe or a device."
    if not is_remote(place):
        check_regular_file(Path(place))


def fingerprint(place: Place) -> str:
    "What tells a file from another: the SHA-256 of its content or, of an address, of what its server says of it."
    if is_remote(place):
        with remote_errors(place):
            files, path = _file_system(str(place))
            facts = json.dumps(files.info(path), default=str, sort_keys=True)
            return hashlib.sha256(facts.encode()).hexdigest()
    try:
        return file_sha256(place)
    except OSError as error:
        raise TextError(f"{place} cannot be read ({first_line(error)}); name another, or repair it") from error
