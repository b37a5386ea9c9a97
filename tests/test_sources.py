"""Finding and fetching: right bytes or one clear sentence, and the places in their order, against a real web server."""

import gzip
import hashlib
import logging
import random
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from emo_nb import download, sources
from emo_nb.core import SourceError
from emo_nb.corpora import COLUMNS, load, read
from emo_nb.download import fetch
from emo_nb.sources import SAMPLE, find
from emo_nb.taxonomy import GOEMOTIONS

pytestmark = pytest.mark.usefixtures("alone")
NAMES = ("train.tsv", "dev.tsv", "test.tsv")


def split_file(rows: int, seed: int) -> bytes:
    "A GoEmotions split with texts that compress badly, so that a compressed copy is long too."
    rng = random.Random(seed)
    return "".join(f"{rng.getrandbits(400):x}\t{i % 28}\tid{seed}{i}\n" for i in range(rows)).encode()


FILES = {
    f"/{name}": split_file(rows, seed) for seed, (name, rows) in enumerate(zip(NAMES, (5000, 20, 20), strict=True))
}
TRAIN = FILES["/train.tsv"]


@dataclass
class Site:
    "A web server on this machine: what it serves, what it does wrong, and what it was asked."

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    cuts: int = 0  # answers that stop half-way through the body
    errors: int = 0  # answers that are 500
    ranges: bool = True
    compresses: bool = False
    moved: bool = False  # the files lie elsewhere, and it says where
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    sent: list[int] = field(default_factory=list)  # bytes of each body


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        path, asked = self.path.removeprefix("/elsewhere"), self.headers.get("Range")
        if site.moved and path == self.path:
            return self.answer(302, Location=f"/elsewhere{path}")
        site.asked.append((path, asked))
        if site.errors:
            site.errors -= 1
            return self.answer(500)
        if path not in site.files:
            return self.answer(404)
        body, headers = site.files[path], {}
        if site.compresses and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers = gzip.compress(body, mtime=0), {"Content-Encoding": "gzip"}
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        if start and start >= len(body):
            return self.answer(416)
        rest = body[start:]
        cut, site.cuts = site.cuts > 0, max(site.cuts - 1, 0)
        self.answer(206 if start else 200, rest, rest[: len(rest) // 2] if cut else rest, **headers)

    def answer(self, status: int, body: bytes = b"", sent: bytes = b"", **headers: str) -> None:
        "Announce `body`, send only `sent`, hang up."
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)
        self.server.site.sent.append(len(sent))  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    "A site that serves the GoEmotions splits, and a package that is not offline and takes it for the official one."
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = site  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    remotes = [
        replace(remote, url=site.url + path, sha256=hashlib.sha256(FILES[path]).hexdigest())
        for remote in download.REMOTES["goemotions"]
        for path in [f"/{Path(remote.name).name}"]
    ]
    monkeypatch.setitem(download.REMOTES, "goemotions", tuple(remotes))
    monkeypatch.delenv("EMO_NB_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def kept(cache: Path) -> dict[str, bytes]:
    "The files of the cache, parts of unfinished downloads aside."
    return {f"/{p.name}": p.read_bytes() for p in cache.rglob("*") if p.is_file() and p.suffix != ".part"}


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"cuts": 1},
        {"cuts": 2},
        {"cuts": 1, "ranges": False},
        {"errors": 2},
        {"moved": True, "cuts": 1},
        {"compresses": True},
        {"compresses": True, "cuts": 1},
    ],
    ids=str,
)
def test_fetch_ends_with_the_whole_files(site, alone, faults):
    vars(site).update(faults)
    assert fetch("goemotions") == alone
    assert kept(alone) == FILES
    assert not list(alone.rglob("*.part"))


def test_a_resumed_download_asks_only_for_the_rest(site, alone):
    site.cuts = 1
    fetch("goemotions")
    (path, none), (again, asked) = site.asked[:2]
    assert path == again == "/train.tsv" and none is None
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= site.sent[0]
    assert site.sent[1] == len(TRAIN) - start


@pytest.mark.parametrize(
    "fault",
    [
        {"files": {}},
        {"files": {**FILES, "/train.tsv": b"other bytes"}},
        {"files": {**FILES, "/train.tsv": TRAIN[:-1]}},
        {"files": {**FILES, "/train.tsv": TRAIN + b"x"}},
        {"cuts": 99},
        {"errors": 99},
    ],
    ids=["404", "other bytes", "too short", "too long", "always cut", "always 500"],
)
def test_a_failed_fetch_says_so_in_a_line_keeps_nothing_wrong_and_can_be_repeated(site, alone, fault):
    vars(site).update(fault)
    with pytest.raises(SourceError) as caught:
        fetch("goemotions")
    assert f"{site.url}/train.tsv" in str(caught.value) and "\n" not in str(caught.value)
    assert kept(alone) == {}
    vars(site).update(files=FILES, cuts=0, errors=0)
    fetch("goemotions")
    assert kept(alone) == FILES


def test_an_address_where_nobody_answers_is_an_error_of_one_line(site, alone, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as free:
        port = free.server_port  # nobody listens here once it is closed
    remote = replace(download.REMOTES["goemotions"][0], url=f"http://127.0.0.1:{port}/train.tsv")
    monkeypatch.setitem(download.REMOTES, "goemotions", (remote,))
    with pytest.raises(SourceError, match="cannot be fetched") as caught:
        fetch("goemotions")
    assert "\n" not in str(caught.value)
    assert kept(alone) == {}


@pytest.mark.parametrize(
    ("part", "at_once"),
    [(b"", True), (TRAIN[:1000], True), (TRAIN, True), (b"x" * 1000, False), (TRAIN + b"x", False)],
    ids=["empty", "the beginning", "all of it", "other bytes", "too much"],
)
def test_what_an_earlier_download_left_is_used_or_thrown_away(site, alone, part, at_once):
    left = alone / "goemotions/train.tsv.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(part)
    if not at_once:
        with pytest.raises(SourceError, match="SHA-256"):
            fetch("goemotions")
        assert kept(alone) == {}
    fetch("goemotions")
    assert kept(alone) == FILES


def test_a_cache_that_cannot_be_written_is_a_source_error(site, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMO_NB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SourceError, match="EMO_NB_CACHE"):
        fetch("goemotions")


def test_places_are_tried_in_order(site, alone, monkeypatch, tmp_path, caplog):
    for name in ("given", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.tsv").write_bytes(TRAIN)
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path / "data"))

    def found(path: Path | None = None) -> tuple[str, Path, int]:
        hit = find("goemotions", path)
        return hit.origin, hit.path, len(site.asked)

    assert found(tmp_path / "given") == ("given", tmp_path / "given", 0)
    assert found() == ("EMO_NB_DATA", tmp_path / "data", 0)
    (tmp_path / "data/train.tsv").unlink()
    assert found() == ("download", alone / "goemotions", 3)
    assert found() == ("cache", alone / "goemotions", 3)
    assert load("goemotions").rows == 5040
    assert not caplog.records
    shutil.rmtree(alone)
    site.files.clear()
    with pytest.raises(SourceError, match="cannot be fetched"):  # somebody answers, so the sample stays out of it
        found()
    monkeypatch.setenv("EMO_NB_OFFLINE", "1")
    assert found() == ("built-in sample", SAMPLE / "goemotions_raw.csv", 4)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "goemotions" in warning.getMessage() and "BUILT-IN SAMPLE" in warning.getMessage()


@pytest.mark.parametrize("corpus", sources.PATTERNS)
def test_offline_every_corpus_has_its_sample_and_nobody_is_asked(site, monkeypatch, caplog, corpus):
    monkeypatch.setenv("EMO_NB_OFFLINE", "1")
    hit = find(corpus)
    assert hit.origin == "built-in sample" and SAMPLE in hit.path.parents
    assert len(read(hit.path).frame) > 500
    assert not site.asked
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_corpus_fetched_by_half_is_not_taken_for_the_whole(site, alone):
    del site.files["/test.tsv"]
    with pytest.raises(SourceError):
        fetch("goemotions")
    site.files.update(FILES)
    find("goemotions")
    assert kept(alone) == FILES


def test_what_the_cache_holds_of_one_corpus_is_not_taken_for_another(site, alone):
    (alone / "goemotions_raw").mkdir(parents=True)
    shutil.copy(SAMPLE / "goemotions_raw.csv", alone / "goemotions_raw/goemotions_1.csv")
    assert find("goemotions").path == alone / "goemotions"


def test_places_that_do_not_exist_are_named(monkeypatch, tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(SourceError, match="missing"):
        find("goemotions", missing)
    with pytest.raises(SourceError, match="goemotions-raw"):
        find("nonsense")
    monkeypatch.setenv("EMO_NB_DATA", missing)
    with pytest.raises(SourceError, match=r"EMO_NB_DATA.*missing"):
        find("goemotions")


def test_emo_nb_data_may_name_the_corpus_itself(monkeypatch):
    for path in (SAMPLE / "goemotions_raw.csv", SAMPLE):
        monkeypatch.setenv("EMO_NB_DATA", str(path))
        assert find("goemotions").path == SAMPLE / "goemotions_raw.csv"
        assert find("goemotions").origin == "EMO_NB_DATA"


KAGGLE = {  # a corpus's files below /kaggle/input, and the rows there
    "one file": (
        "goemotions",
        {"go-emotions-google-emotions-dataset/go_emotions_dataset.csv": "goemotions_raw.csv"},
        1798,
    ),
    "one file, mounted by owner": (
        "goemotions",
        {"datasets/shivamb/go-emotions-google-emotions-dataset/go_emotions_dataset.csv": "goemotions_raw.csv"},
        1798,
    ),
    "splits": ("goemotions", {f"goemotions/data/{name}": FILES[f"/{name}"] for name in NAMES}, 5040),
    "splits, mounted by owner": (
        "goemotions",
        {f"datasets/debarshichanda/goemotions/data/{name}": FILES[f"/{name}"] for name in NAMES},
        5040,
    ),
    "raters": (
        "goemotions-raw",
        {f"goemotions/data/full_dataset/goemotions_{i}.csv": "goemotions_raw.csv" for i in (1, 2, 3)},
        3 * 1798,
    ),
    "dialogues": (
        "empathetic",
        {
            f"empathetic-dialogues/empatheticdialogues/{n}.csv": f"empatheticdialogues/{n}.csv"
            for n in ("train", "valid")
        },
        619,
    ),
}


@pytest.mark.parametrize("layout", KAGGLE)
def test_a_corpus_is_found_where_kaggle_puts_it(monkeypatch, tmp_path, layout):
    corpus, files, rows = KAGGLE[layout]
    for name, source in files.items():
        target = tmp_path / "input" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source if isinstance(source, bytes) else (SAMPLE / source).read_bytes())
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path / "input"))
    assert find(corpus).origin == "EMO_NB_DATA"
    assert load(corpus).rows == rows
    assert load(corpus, tmp_path / "input").rows == rows


HUB_README = """---
configs:
- config_name: raw
  data_files:
  - split: train
    path: raw/train-*
- config_name: simplified
  data_files:
  - split: train
    path: simplified/train-*
  - split: validation
    path: simplified/validation-*
  - split: test
    path: simplified/test-*
  default: true
---
"""


@pytest.fixture
def hub_copy(monkeypatch, tmp_path) -> Path:
    "A folder laid out like the hub's copy of GoEmotions, and `datasets` with a cache of the test's own."
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = tmp_path / "go_emotions"
    for config in ("raw", "simplified"):
        (folder / config).mkdir(parents=True)
    for split in ("train", "validation", "test"):
        frame = pd.DataFrame({"text": [f"{split} one", f"{split} two"], "labels": [[17], [2, 3]], "id": ["a", "b"]})
        frame.to_parquet(folder / f"simplified/{split}-00000-of-00001.parquet")
    raters = pd.DataFrame({"text": ["rated"], "id": ["a"], "example_very_unclear": [False]})
    raters.assign(**{name: int(name in ("joy", "love")) for name in GOEMOTIONS}).to_parquet(
        folder / "raw/train-00000-of-00001.parquet"
    )
    (folder / "README.md").write_text(HUB_README)
    return folder


@pytest.mark.parametrize("config", ["", ":simplified"])
def test_the_hubs_splits_become_the_tidy_frame(hub_copy, config):
    frame = load("goemotions", f"hf:{hub_copy}{config}").frame
    assert tuple(frame.columns) == COLUMNS
    rows = zip(frame.text, frame.labels, frame.split, strict=True)
    assert set(rows) == {
        (f"{text} {number}", labels, split)
        for text, split in (("train", "train"), ("validation", "dev"), ("test", "test"))
        for number, labels in (("one", ("joy",)), ("two", ("anger", "annoyance")))
    }


def test_the_hubs_raters_become_the_tidy_frame(hub_copy):
    frame = load("goemotions-raw", f"hf:{hub_copy}:raw").frame
    assert list(zip(frame.text, frame.labels, frame.group, strict=True)) == [("rated", ("joy", "love"), "a")]


def test_kagglehubs_folder_is_read(monkeypatch, tmp_path):
    pytest.importorskip("kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    owner = tmp_path / "kagglehub/datasets/shivamb"
    folder = owner / "go-emotions-google-emotions-dataset/versions/1"
    folder.mkdir(parents=True)
    shutil.copy(SAMPLE / "goemotions_raw.csv", folder / "go_emotions_dataset.csv")
    (folder.parents[1] / "1.complete").touch()
    hit = find("goemotions", "kaggle:shivamb/go-emotions-google-emotions-dataset/versions/1")
    assert hit.path == folder / "go_emotions_dataset.csv"
    assert read(hit.path).rows == 1798


@pytest.mark.parametrize(("address", "package"), [("hf:a/b", "datasets"), ("kaggle:a/b", "kagglehub")])
def test_a_missing_hub_package_is_named(monkeypatch, address, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SourceError, match=rf"{address}.*pip install {package}"):
        find("goemotions", address)


def test_a_hubs_failure_is_an_error_of_one_line(monkeypatch, hub_copy, tmp_path):
    shutil.rmtree(hub_copy / "simplified")
    (tmp_path / "empty").mkdir()
    for address in (f"hf:{hub_copy}:simplified", f"hf:{tmp_path / 'empty'}", "kaggle:not-a-handle", "kaggle:"):
        with pytest.raises(SourceError, match="cannot be had") as caught:
            find("goemotions", address)
        assert address in str(caught.value) and "\n" not in str(caught.value)


def test_a_hubs_failure_without_words_is_a_source_error_too(monkeypatch):
    def silent(handle: str) -> str:
        raise TimeoutError

    hub = ModuleType("kagglehub")
    hub.dataset_download = silent  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    with pytest.raises(SourceError, match="kaggle:a/b cannot be had through kagglehub"):
        find("goemotions", "kaggle:a/b")


def test_a_silent_address_gives_the_sample(site, alone, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as free:
        port = free.server_port  # nobody listens here once it is closed
    remote = replace(download.REMOTES["goemotions"][0], url=f"http://127.0.0.1:{port}/train.tsv")
    monkeypatch.setitem(download.REMOTES, "goemotions", (remote,))
    assert find("goemotions").origin == "built-in sample"


def test_another_data_sets_train_tsv_is_not_taken_for_goemotions(site, alone, monkeypatch, tmp_path):
    (tmp_path / "sst").mkdir()
    (tmp_path / "sst/train.tsv").write_text("sentence\tlabel\na fine film\t1\n")
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path))
    assert find("goemotions").origin == "download"
