"""Where the corpora come from: a path you give, `EMO_NB_DATA`, the cache, a download, or the built-in sample."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .core import SourceError, UnreachableError, logger
from .io.download import cache_dir, download, download_dataset, has_hash
from .io.readers import is_goemotions_split


@dataclass(frozen=True)
class RemoteFile:
    "One official file: its place in the cache, its address, and its SHA-256."

    name: str
    url: str
    sha256: str


_SPLITS_URL = "https://github.com/google-research/google-research/raw/master/goemotions/data"
_RAW_URL = "https://storage.googleapis.com/gresearch/goemotions/data/full_dataset"
REMOTE_FILES = {
    "goemotions": tuple(
        RemoteFile(f"goemotions/{split}.tsv", f"{_SPLITS_URL}/{split}.tsv", sha256)
        for split, sha256 in {
            "train": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
            "dev": "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
            "test": "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
        }.items()
    ),
    "goemotions-raw": tuple(
        RemoteFile(f"goemotions_raw/goemotions_{part}.csv", f"{_RAW_URL}/goemotions_{part}.csv", sha256)
        for part, sha256 in {
            1: "cac049036bad5d68d1081f72b65f2cc51e4df82af05e3e22cfa747051cac1af3",
            2: "f699ecc5aa425c1720c1d02475f1e41815244b680bd75b282eb770d2c76cd84d",
            3: "467f1e7191af00f2e76cc7f425885c2dc304bea8aff284b10e8c460d22f2e1af",
        }.items()
    ),
    "empathetic": (
        RemoteFile(
            "empatheticdialogues.tar.gz",
            "https://dl.fbaipublicfiles.com/parlai/empatheticdialogues/empatheticdialogues.tar.gz",
            "56f234d77b7dd1f005fd365bb17769cfe346c3c84295b69bc069c8ccb83be03d",
        ),
    ),
}


def download_corpus(corpus: str, folder: Path | None = None) -> Path:
    """Download the official files of a corpus into `folder` (default: the cache), and return the folder.

    Files that are there with the right SHA-256 stay. Raises `UnreachableError` where nobody answers (or
    `EMO_NB_OFFLINE` is set), `SourceError` where a file cannot be had or written, or has another SHA-256.
    """
    if os.environ.get("EMO_NB_OFFLINE"):
        raise UnreachableError("EMO_NB_OFFLINE is set, so nothing is downloaded; unset it, or name a path with --data")
    folder = folder or cache_dir()
    for remote in REMOTE_FILES[corpus]:
        download(remote.url, remote.sha256, folder / remote.name)
    return folder


_RATER_FILES = (
    "goemotions_1.csv",
    "goemotions_raw*.csv",
    "go_emotions_dataset*.csv",
    "goemotions*.csv",
    "go_emotions*.csv",
)
FILE_PATTERNS = {
    "goemotions": ("goemotions/train.tsv", "train.tsv", *_RATER_FILES),
    "goemotions-raw": _RATER_FILES,
    "empathetic": (
        "empatheticdialogues.tar.gz",
        "empatheticdialogues/train.csv",
        "*empathetic*.tar.gz",
        "*empathetic*.csv",
    ),
}
_FIRST_OF_SEVERAL = {"train.tsv", "train.csv", "goemotions_1.csv"}  # each stands for all files beside it


def search_folder(folder: Path, corpus: str) -> Path | None:
    "The file or folder at most four levels below `folder` that holds the corpus, or None."
    if folder.is_file():
        return folder if any(folder.match(pattern) for pattern in FILE_PATTERNS[corpus]) else None
    for pattern in FILE_PATTERNS[corpus]:
        for depth in range(5):
            for hit in sorted(folder.glob("*/" * depth + pattern)):
                if hit.is_file() and (hit.name != "train.tsv" or is_goemotions_split(hit)):
                    return hit.parent if hit.name in _FIRST_OF_SEVERAL else hit
    return None


def search_places() -> Iterator[tuple[str, Path]]:
    "The folders in which a corpus may be, each with the name of its origin, in the order in which they are searched."
    if chosen := os.environ.get("EMO_NB_DATA"):
        if not os.path.exists(chosen):
            raise SourceError(f"EMO_NB_DATA names {chosen}, which does not exist; correct it or unset it")
        yield "EMO_NB_DATA", Path(chosen)
    yield "Kaggle", Path("/kaggle/input")
    if "COLAB_RELEASE_TAG" in os.environ:
        yield "Colab", Path("/content")
    yield "cache", cache_dir()


SAMPLE_DIR = Path(str(files("emo_nb"))) / "sample"


@dataclass(frozen=True)
class Location:
    "Where a corpus is, and how it was found."

    corpus: str
    path: Path
    origin: str  # "given", "EMO_NB_DATA", "Kaggle", "Colab", "cache", "download" or "built-in sample"


def find_local(corpus: str) -> Location | None:
    "Where a corpus already is: `EMO_NB_DATA`, Kaggle, Colab or the cache; None where it would have to be downloaded."
    for origin, folder in search_places():
        if origin == "cache" and not all(has_hash(folder / file.name, file.sha256) for file in REMOTE_FILES[corpus]):
            continue  # downloaded by half, damaged since, or another corpus
        if hit := search_folder(folder, corpus):
            return Location(corpus, hit, origin)
    return None


def find_corpus(corpus: str, path: str | Path | None = None) -> Location:
    """Find a corpus: at a given path, where it already is, by a download, or as the built-in sample.

    Raises `SourceError` for a path that does not exist, a corpus that emo_nb does not know, and a download that was
    answered but failed. The sample takes its place only where nobody answers.
    """
    if corpus not in FILE_PATTERNS:
        raise SourceError(f"there is no corpus {corpus!r}; choose one of: {', '.join(FILE_PATTERNS)}")
    if path is not None:
        given = resolve_path(path)
        return Location(corpus, (search_folder(given, corpus) or given) if given.is_dir() else given, "given")
    if local := find_local(corpus):
        return local
    try:
        folder = download_corpus(corpus)
        return Location(corpus, search_folder(folder, corpus) or folder, "download")
    except UnreachableError as error:
        logger.warning(
            "*** %s: using the BUILT-IN SAMPLE, whose figures mean nothing (no corpus found; %s) ***", corpus, error
        )
    return Location(corpus, search_folder(SAMPLE_DIR, corpus) or SAMPLE_DIR, "built-in sample")


def resolve_path(path: str | Path) -> Path:
    "The file or folder at a path, or a downloaded data set (`hf:…`, `kaggle:…`). Raises `SourceError` where there is none."
    path = download_dataset(str(path)) if str(path).startswith(("hf:", "kaggle:")) else Path(os.path.expanduser(path))
    if not os.path.exists(path):
        raise SourceError(f"{path} does not exist; give the path of a file or folder with the data")
    return path
