"""Downloads: a file with a known SHA-256, fetched by pooch, and data sets of Hugging Face's hub and of Kaggle.

pooch writes to a temporary file, compares the hash and moves the file into place only if it is right; it retries when a
connection breaks. Three things are added here. One process downloads at a time, so that two runs started together do
not fetch the same file twice. Whether anybody answers is decided within `CONNECT_TIMEOUT`, because no socket timeout
covers a name server that hangs or a host with many addresses. And each failure becomes one sentence.
"""

import hashlib
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core import SourceError, UnreachableError, first_line
from .files import atomic_dir, file_sha256

CONNECT_TIMEOUT = 4  # until a server must have answered
READ_TIMEOUT = 10  # without a byte, before a connection counts as broken
RETRIES = 3
LOCK_SECONDS = 1800  # that another process may take for the same file


def cache_dir() -> Path:
    "The folder of downloaded files: `EMO_NB_CACHE`, or the user's cache folder."
    import platformdirs

    return Path(os.environ.get("EMO_NB_CACHE") or platformdirs.user_cache_dir("emo_nb"))


def has_hash(path: Path, sha256: str) -> bool:
    "Whether `path` is a readable file with this SHA-256."
    with suppress(OSError):
        return path.is_file() and file_sha256(path) == sha256
    return False


def is_reachable(url: str) -> bool:
    "Whether a server answers at `url` within `CONNECT_TIMEOUT`, whatever its answer."
    import requests

    answered = threading.Event()

    def ask() -> None:
        with suppress(Exception):
            try:
                with requests.get(url, stream=True, timeout=CONNECT_TIMEOUT):
                    answered.set()
            except requests.exceptions.SSLError:  # an answer, though not one to be trusted
                answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT)  # a refusal ends sooner
    return answered.is_set()


def download(url: str, sha256: str, target: Path) -> None:
    """Download one file to `target`, unless it is there with the right SHA-256.

    Raises `UnreachableError` where no server answers, `SourceError` where the file cannot be downloaded or written, or its
    content is another one.
    """
    from filelock import FileLock, Timeout

    if has_hash(target, sha256):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_SECONDS):
            if not has_hash(target, sha256):
                _retrieve(url, sha256, target)
    except Timeout:
        raise SourceError(
            f"another process has been downloading {target} for half an hour; end it, then try again"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{target.parent} cannot be written ({first_line(error)}); set EMO_NB_CACHE to another folder"
        ) from error


def _retrieve(url: str, sha256: str, target: Path) -> None:
    "Have pooch download the file; translate its errors."
    import pooch
    import requests
    from tqdm.auto import tqdm

    def with_bar(*args: Any) -> None:
        "One attempt, with a bar that is gone, also where the attempt fails, before anything else is printed."
        with tqdm(total=1, unit="B", unit_scale=True, leave=False, desc=target.name) as bar:  # pooch sets the total
            pooch.HTTPDownloader(progressbar=bar, timeout=READ_TIMEOUT)(*args)

    by_hand = "download it by hand, and name its folder in EMO_NB_DATA"
    if not is_reachable(url):
        raise UnreachableError(f"{url} cannot be reached (no answer within {CONNECT_TIMEOUT} seconds); {by_hand}")
    pooch.get_logger().setLevel(logging.ERROR)
    shelf = pooch.create(
        target.parent, base_url="", registry={target.name: sha256}, urls={target.name: url}, retry_if_failed=RETRIES
    )
    try:
        shelf.fetch(target.name, downloader=with_bar)
    except requests.RequestException as error:
        raise SourceError(f"{url} cannot be downloaded ({first_line(error)}); {by_hand}") from error
    except ValueError as error:  # pooch: the hash differs
        raise SourceError(f"{url} sends a file with another SHA-256 than the official one; {by_hand}") from error


def hub_is_reachable(kind: str, name: str) -> bool:
    "Whether Hugging Face's hub answers. Its own library would wait for ever; `HF_HUB_OFFLINE` is left to that library."
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or is_reachable(f"{constants.ENDPOINT}/api/{kind}/{name}")


def download_dataset(address: str) -> Path:
    """Download `hf:NAME`, `hf:NAME:CONFIG` or `kaggle:OWNER/NAME` with the hub's own library; return its folder.

    Raises `UnreachableError` where the hub does not answer, `SourceError` where the library is missing or fails.
    """
    hub, _, name = address.partition(":")
    package = {"hf": "datasets", "kaggle": "kagglehub"}[hub]
    try:
        if hub == "kaggle":
            import kagglehub

            return Path(kagglehub.dataset_download(name))
        return _from_hugging_face(address, name, cache_dir())
    except UnreachableError:
        raise
    except ImportError as error:
        raise SourceError(f"{address} needs the package {package}; pip install {package}") from error
    except Exception as error:  # each hub has many errors of its own
        raise SourceError(
            f"{address} cannot be downloaded with {package} ({first_line(error)}); get it by hand and name its folder"
        ) from error


def _from_hugging_face(address: str, name: str, cache: Path) -> Path:
    "The data set's splits as Parquet files in the cache."
    import datasets

    name, _, config = name.partition(":")
    target = cache / "hf" / hashlib.sha256(address.encode()).hexdigest()[:12] / "-".join(name.split("/")[-2:])
    if not os.path.exists(name) and not hub_is_reachable("datasets", name):
        if target.is_dir():
            return target  # downloaded before
        raise UnreachableError(
            f"{address} cannot be downloaded because the hub does not answer; get it by hand and name its folder"
        )
    with atomic_dir(target, ".from", force=True) as temporary:
        (temporary / ".from").write_text(address)
        for split, rows in datasets.load_dataset(name, config or None).items():
            rows.to_parquet(temporary / f"{split}.parquet")
    return target
