"""Files and folders that appear complete or not at all, and the folder in which an interrupted job keeps what is done.

A result is written beside its destination, under a hidden name, and renamed when it is complete. A process that is
killed therefore leaves either the old file or the new one, never half of one. Long jobs keep finished parts in
`OUT.part`, locked by the process at work, with a record of the settings: the same command resumes there, and a command
with other settings is refused.
"""

import errno
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core import ConfigError, first_line, read_json_object

SETTINGS_FILE, LOCK_FILE = "settings.json", "lock"  # in a partial directory

_DISK_FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors and torch report a full disk in words of their own
_DISK_FULL_WORDS = ("No space left", "File too large", "Disk quota", "PytorchStreamWriter failed")


def file_sha256(path: str | Path) -> str:
    "The SHA-256 of a file, which is read block by block. Raises `OSError` where it cannot be read."
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; rename it to `path` when the block ends without an error.

    A link is followed, so that it stays a link. Raises `ConfigError` where `path` cannot be written, or is a folder,
    a pipe or a device.
    """
    path = Path(os.path.realpath(path))
    if os.path.exists(path) and not path.is_file():
        raise ConfigError(f"{path} is not a file but a folder, a pipe or a device; name another place")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({first_line(error)}); name another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    "Turn any library's error about a full disk, raised while the block writes to `path`, into a `ConfigError`."
    try:
        yield
    except Exception as error:
        is_full = getattr(error, "errno", None) in _DISK_FULL_ERRNO
        if not is_full and not any(words in str(error) for words in _DISK_FULL_WORDS):
            raise
        raise ConfigError(
            f"{path} cannot be written because the disk is full ({first_line(error)}); free some space, then give the "
            "same command again"
        ) from error


@contextmanager
def explain_unwritable(path: str | Path) -> Iterator[None]:
    "The same for every error of the file system."
    try:
        with explain_full_disk(Path(path)):
            yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({first_line(error)}); name another place") from error


@contextmanager
def atomic_dir(path: str | Path, marker: str, force: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; rename it to `path` when the block ends without an error.

    Raises `ConfigError` where `path` cannot be written, or exists and may not be replaced (`check_output_dir`).
    """
    path = Path(os.path.realpath(path))
    temporary, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{end}") for end in ("", ".old"))
    check_output_dir(path, marker, force)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({first_line(error)}); name another place with --out") from error
    try:
        with explain_full_disk(path):
            yield temporary
        check_output_dir(path, marker, force)  # another process may have been quicker
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_output_dir(path: Path, marker: str, force: bool) -> None:
    "Raise `ConfigError` where `path` exists, unless it is an empty folder or, with `force`, one that holds `marker`."
    if os.path.isfile(path):  # os.path answers False for a name that no file can have, where pathlib raises
        raise ConfigError(f"{path} is a file, not a folder; name another place with --out")
    if os.path.ismount(path):
        raise ConfigError(f"{path} is a mount point, which cannot be replaced; name a folder in it with --out")
    if not os.path.exists(path) or not any(path.iterdir()):
        return
    if not force:
        raise ConfigError(
            f"{path} already exists and is kept; pass --force to replace it, or name another folder with --out"
        )
    if not (path / marker).exists():
        raise ConfigError(
            f"{path} was not made by emo_nb (it holds no {marker}) and is never replaced; name another with --out"
        )


def check_output_file(path: Path, force: bool = False) -> None:
    """Raise `ConfigError` where no file can be written at `path`, or one is there already and `force` is not given.

    What can be known without writing is checked: a command asks before its long work.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"{path} is not a file but a folder, a pipe or a device; name another with --out")
    if os.path.exists(path) and not force:
        raise ConfigError(
            f"{path} already exists and is kept; pass --force to replace it, or name another file with --out"
        )
    try:
        with suppress(FileNotFoundError):
            os.stat(path)  # a name may be too long, or lie below a file
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({first_line(error)}); name another place with --out") from error
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"{path} cannot be written ({parent} is read-only); name another place with --out")


@contextmanager
def partial_dir(out: Path, settings: dict[str, Any], force: bool = False) -> Iterator[Path]:
    """The folder `OUT.part` for the finished parts of a job, locked while the block runs, removed when it ends well.

    Raises `ConfigError` where the folder belongs to another program, another process is at work in it, or it was
    begun with other `settings`; `force` empties it first.
    """
    from filelock import FileLock, Timeout

    folder = out.absolute().with_name(f"{out.name}.part")
    present = {path.name for path in folder.iterdir()} if os.path.isdir(folder) else set()
    if present - {LOCK_FILE} and not (folder / SETTINGS_FILE).exists():
        raise ConfigError(
            f"{folder} was not made by emo_nb (it holds no {SETTINGS_FILE}); move it away, or name another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"another process is at work in {folder}; wait until it ends, or name another --out"
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({first_line(error)}); name another place with --out") from error
    with lock:
        _remove_leftovers(Path(os.path.realpath(out)))
        if force:
            _empty(folder)
        _record_settings(folder, settings)
        yield folder
        _empty(folder)
    with suppress(OSError):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def remove_path(path: Path) -> None:
    "Remove a file or a folder. A folder is renamed first, so that a half-removed one is never taken for a complete one."
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    condemned = path.with_name(f".{path.name.removeprefix('.')}.gone")
    shutil.rmtree(condemned, ignore_errors=True)
    os.replace(path, condemned)
    shutil.rmtree(condemned)


def _remove_leftovers(path: Path) -> None:
    "Remove temporary files of killed processes beside `path`; restore what one of them was about to replace."
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}*"):
        if leftover.suffix == ".old" and not path.exists():
            os.replace(leftover, path)
        else:
            remove_path(leftover)


def _empty(folder: Path) -> None:
    """Remove everything in a partial directory but its lock.

    The newest entry goes first, so that a kill in between leaves what an earlier stop would have left; the settings
    go last.
    """
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == SETTINGS_FILE, -path.stat().st_mtime_ns)):
        if path.name != LOCK_FILE:
            remove_path(path)


def _record_settings(folder: Path, settings: dict[str, Any]) -> None:
    "Write the settings of a job into its partial directory; `ConfigError` where different ones are recorded there."
    file = folder / SETTINGS_FILE
    current = json.loads(json.dumps(settings, default=lambda number: number.item()))  # of numpy's
    recorded = read_json_object(file, ConfigError, "begin anew with --force") if file.exists() else current
    changed = [name for name in current if current[name] != recorded.get(name)]
    if changed:
        changes = ", another ".join(_describe_change(name, recorded.get(name), current[name]) for name in changed)
        raise ConfigError(
            f"{folder} holds an interrupted run with another {changes}; continue with the settings it began with, or "
            "begin anew with --force"
        )
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(current, indent=1))


def _describe_change(name: str, recorded: Any, current: Any) -> str:
    "The name of a setting, with both values where they are short."
    description = f"{name} ({recorded} there, {current} here)"
    return description if len(description) < 80 else name
