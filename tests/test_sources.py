"""Finding and downloading: right bytes or one clear sentence, and the places in their order, against a real web server."""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from helpers import check_mistake, python, refusal

from emo_nb import sources
from emo_nb.core import SourceError, UnreachableError
from emo_nb.corpora import load_corpus, read_corpus, read_table
from emo_nb.io import download
from emo_nb.sources import REMOTE_FILES, SAMPLE_DIR, download_corpus, find_corpus
from emo_nb.taxonomy import GOEMOTIONS

pytestmark = pytest.mark.usefixtures("alone")
FILES = {
    f"/{name}.tsv": "".join(f"{'so it goes ' * 9}{i}\t{i % 28}\t{name}{i}\n" for i in range(rows)).encode()
    for name, rows in {"train": 5000, "dev": 20, "test": 21}.items()
}
TRAIN = FILES["/train.tsv"]
RATERS = (SAMPLE_DIR / "goemotions_raw.csv").read_bytes()
DIALOGUES = {path.name: path.read_bytes() for path in (SAMPLE_DIR / "empatheticdialogues").glob("*.csv")}


@dataclass
class Site:
    "A web server on this machine: what it serves, what goes wrong with its next answers, and what it was asked."

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    faults: list[str] = field(default_factory=list)
    pause: float = 0  # seconds after every 16 KiB
    url: str = ""
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.asked.append(self.path)
        fault, body = site.faults.pop(0) if site.faults else "", site.files.get(self.path, b"")
        status = 500 if fault == "error" else 200 if body else 404
        body = body if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = len(body) // 2 if fault in ("cut", "stall") else len(body)
        with suppress(ConnectionError):
            for at in range(0, end, 1 << 14):
                self.wfile.write(body[at : min(end, at + (1 << 14))])
                time.sleep(site.pause)
            if fault == "stall":
                site.over.wait()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    "A site that serves the GoEmotions splits, and a package that is not offline and takes it for the official one."
    site = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = site  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        official(monkeypatch, site.url)
        monkeypatch.delenv("EMO_NB_OFFLINE")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield site
        site.over.set()
        server.shutdown()


def official(monkeypatch, address: str) -> None:
    "Take an address for that of the splits."
    remotes = [
        replace(remote, url=address + path, sha256=hashlib.sha256(data).hexdigest())
        for remote, (path, data) in zip(REMOTE_FILES["goemotions"], FILES.items(), strict=True)
    ]
    monkeypatch.setitem(REMOTE_FILES, "goemotions", tuple(remotes))


def kept(cache: Path) -> dict[str, bytes]:
    "The files of the cache, locks aside."
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {f"/{path.name}": path.read_bytes() for path in files}


# Downloads


def test_a_download_shows_its_progress_and_is_repeated_only_where_a_file_is_damaged_or_missing(site, alone, capsys):
    site.pause = 0.01
    assert download_corpus("goemotions") == alone
    assert kept(alone) == FILES
    assert re.search(r"train\.tsv: +[1-9]\d?%", capsys.readouterr().err)
    asked = list(site.asked)
    assert set(asked) == set(FILES)
    assert download_corpus("goemotions") == alone
    assert find_corpus("goemotions").origin == "cache"
    assert site.asked == asked and not capsys.readouterr().err
    for spoil in (lambda file: file.write_bytes(FILES["/dev.tsv"][:-1]), lambda file: file.unlink()):
        site.asked.clear()
        spoil(alone / "goemotions/dev.tsv")
        assert find_corpus("goemotions").origin == "download"
        assert set(site.asked) == {"/dev.tsv"} and kept(alone) == FILES


FAULTS = ["error"] * 3, ["", "cut", "cut"], ["", "stall", "error", "cut"]


@pytest.mark.parametrize("faults", FAULTS, ids=" ".join)
def test_a_download_with_a_fault_ends_with_the_whole_files(site, alone, monkeypatch, faults, tried):
    monkeypatch.setattr(download, "READ_TIMEOUT", 1)
    site.faults = list(faults)
    download_corpus("goemotions")
    assert kept(alone) == FILES and not site.faults
    tried("downloads with a fault", 1)


OTHER = {**FILES, "/train.tsv": TRAIN + b"x"}
FAILURES = {
    "404": ({}, ""),
    "another SHA-256": (OTHER, ""),
    "Connection broken": (FILES, "cut"),
    "500": (FILES, "error"),
}
FAILURES["timed out"] = (FILES, "stall")


@pytest.mark.parametrize("why", FAILURES)
def test_a_failed_download_says_so_keeps_nothing_wrong_and_can_be_repeated(site, alone, monkeypatch, emo, why, tried):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(download, "RETRIES", 1)
    site.files, fault = FAILURES[why]
    site.faults = [fault] * 3
    code, _, err = emo("explore", "--corpus", "goemotions")
    check_mistake(code, err, [f"{site.url}/train.tsv", why, "EMO_NB_DATA"])  # and no sample in its place
    assert kept(alone) == {} and site.asked == ["/train.tsv"] * 3  # does anybody answer? and two tries
    site.files = FILES
    download_corpus("goemotions")
    assert kept(alone) == FILES
    tried("downloads with a fault", 1)


DOWNLOADS = """
import json, sys
from emo_nb import sources
sources.REMOTE_FILES["goemotions"] = tuple(sources.RemoteFile(*fields) for fields in json.loads(sys.argv[1]))
sources.download_corpus("goemotions")
"""


def downloading() -> subprocess.Popen:
    "A process of its own that downloads the corpus into the cache."
    remotes = json.dumps([astuple(remote) for remote in REMOTE_FILES["goemotions"]])
    return subprocess.Popen([sys.executable, "-c", DOWNLOADS, remotes], stderr=subprocess.PIPE, text=True)


def test_processes_that_download_at_once_end_with_one_good_file(site, alone, tried):
    site.pause = 0.03
    processes = [downloading() for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert kept(alone) == FILES
    assert sorted(site.asked) == sorted(2 * list(FILES))  # once whether anybody answers, once for the file
    tried("downloads of several processes at once", 1)


def test_a_killed_download_leaves_nothing_wrong_and_its_place_to_the_next(site, alone, tmp_path, monkeypatch, tried):
    kills = int(os.environ.get("KILLS", 3))
    for kill in range(kills):
        cache = tmp_path / f"cache{kill}"
        monkeypatch.setenv("EMO_NB_CACHE", str(cache))
        site.asked.clear()
        site.pause = 0.05
        first = downloading()
        while len(site.asked) < 2 and first.poll() is None:
            time.sleep(0.002)
        second = downloading() if kill % 2 else None  # it waits for the lock, or has not come yet
        time.sleep(0.4 * kill / kills)
        first.kill()
        first.communicate()
        assert not (cache / "goemotions/train.tsv").exists()
        site.pause = 0
        second = second or downloading()
        errors = second.communicate()[1]
        assert second.returncode == 0, errors
        assert FILES.items() <= kept(cache).items()
    tried("kills of a download", kills)


def test_a_cache_that_cannot_be_written_is_a_source_error(site, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMO_NB_CACHE", str(tmp_path / "file" / "cache"))
    with refusal(SourceError, "EMO_NB_CACHE"):
        download_corpus("goemotions")


# Where nobody answers


@pytest.mark.parametrize("what", ["refuses", "is silent", "has a name that is never found"])
def test_where_nobody_answers_the_sample_takes_over_within_ten_seconds_and_says_so(site, monkeypatch, caplog, what):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: site.over.wait() if host == "slow" else look_up(host, *a, **k)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes a call, and says nothing
        address = "http://slow" if "name" in what else f"http://127.0.0.1:{listener.getsockname()[1]}"
        official(monkeypatch, address)
        if what == "refuses":
            listener.close()
        began = time.monotonic()
        location = find_corpus("goemotions")
        assert time.monotonic() - began < 10
    assert location.origin == "built-in sample" and SAMPLE_DIR in location.path.parents
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "goemotions" in warning.getMessage() and "BUILT-IN SAMPLE" in warning.getMessage()
    with refusal(UnreachableError, "train.tsv", "EMO_NB_DATA"):
        download_corpus("goemotions")


def test_a_server_that_is_not_believed_is_not_taken_for_none(site, monkeypatch):
    official(monkeypatch, site.url.replace("http:", "https:"))
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(SourceError, match="cannot be downloaded") as caught:
        find_corpus("goemotions")
    assert not isinstance(caught.value, UnreachableError)


def test_offline_every_corpus_has_its_sample_and_nobody_is_asked(site, monkeypatch, caplog):
    monkeypatch.setenv("EMO_NB_OFFLINE", "1")
    for corpus in sources.FILE_PATTERNS:
        location = find_corpus(corpus)
        assert location.origin == "built-in sample" and SAMPLE_DIR in location.path.parents
        assert len(read_corpus(location.path).frame) > 500
    assert not site.asked
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


# Places


def test_places_are_tried_in_order(site, alone, monkeypatch, tmp_path, caplog):
    for name in ("given", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.tsv").write_bytes(TRAIN)
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path / "data"))

    def found(path: Path | None = None) -> tuple[str, Path]:
        location = find_corpus("goemotions", path)
        return location.origin, location.path

    assert found(tmp_path / "given") == ("given", tmp_path / "given")
    assert found() == ("EMO_NB_DATA", tmp_path / "data")
    (tmp_path / "data/train.tsv").write_text("sentence\tlabel\na fine film\t1\n")  # another data set's
    os.mkfifo(tmp_path / "data/goemotions_1.csv")  # not a file
    assert not site.asked
    assert found() == ("download", alone / "goemotions")
    assert found() == ("cache", alone / "goemotions")
    assert load_corpus("goemotions").rows == 5041
    assert not caplog.records
    shutil.rmtree(alone)
    (alone / "goemotions_raw").mkdir(parents=True)  # another corpus in the cache
    shutil.copy(SAMPLE_DIR / "goemotions_raw.csv", alone / "goemotions_raw/goemotions_1.csv")
    assert found() == ("download", alone / "goemotions")


def test_a_place_is_named_or_named_as_missing(monkeypatch, tmp_path):
    missing = str(tmp_path / "missing")
    for path in (SAMPLE_DIR / "goemotions_raw.csv", SAMPLE_DIR):
        monkeypatch.setenv("EMO_NB_DATA", str(path))
        location = find_corpus("goemotions")
        assert (location.path, location.origin) == (SAMPLE_DIR / "goemotions_raw.csv", "EMO_NB_DATA")
    for wrong, culprit in ((("goemotions", missing), missing), (("nonsense",), "goemotions-raw")):
        with refusal(SourceError, culprit):
            find_corpus(*wrong)
    monkeypatch.setenv("EMO_NB_DATA", missing)
    with refusal(SourceError, "EMO_NB_DATA", missing):
        find_corpus("goemotions")


KAGGLE = [  # a corpus, its files below /kaggle/input, and its rows
    ("goemotions", "datasets/x/go-emotions", {"go_emotions_dataset.csv": RATERS}, 1798),
    ("goemotions", "goemotions/data", {path[1:]: data for path, data in FILES.items()}, 5041),
    ("goemotions-raw", "goemotions/data/full_dataset", {f"goemotions_{i}.csv": RATERS for i in (1, 2, 3)}, 3 * 1798),
    ("empathetic", "empathetic-dialogues/empatheticdialogues", DIALOGUES, 773),
]


def test_a_corpus_is_found_where_kaggle_and_colab_put_it(monkeypatch, tmp_path):
    for corpus, folder, files, rows in KAGGLE:
        place = tmp_path / folder / "input"
        (place / folder).mkdir(parents=True)
        for name, content in files.items():
            (place / folder / name).write_bytes(content)
        monkeypatch.setattr(sources, "Path", lambda path, place=place: place if path == "/kaggle/input" else Path(path))
        assert find_corpus(corpus).origin == "Kaggle"
        assert load_corpus(corpus).rows == load_corpus(corpus, place).rows == rows
    monkeypatch.setenv("COLAB_RELEASE_TAG", "1")
    monkeypatch.setattr(sources, "Path", lambda path: place if path == "/content" else Path(path))
    assert find_corpus("empathetic").origin == "Colab"


# Hubs

HUB_README = """---
configs:
- {config_name: raw, data_files: [{split: train, path: raw/train-*}]}
- config_name: simplified
  data_files: [{split: train, path: simplified/train-*}, {split: validation, path: simplified/validation-*}]
  default: true
---
"""


@pytest.fixture
def hub_copy(monkeypatch, tmp_path) -> Path:
    "A folder laid out like the hub's copy of GoEmotions, and `datasets` with a cache of the test's own."
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = tmp_path / "go_emotions"
    tables = {
        "raw/train": {"text": ["rated"], "id": ["a"], **{name: int(name in ("joy", "love")) for name in GOEMOTIONS}},
        "simplified/train": {"text": ["one"], "labels": [[17]], "id": ["b"]},
        "simplified/validation": {"text": ["two"], "labels": [[2, 3]], "id": ["c"]},
    }
    for name, columns in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_parquet(folder / f"{name}-0.parquet")
    (folder / "README.md").write_text(HUB_README)
    return folder


def test_the_hubs_data_sets_are_read(hub_copy):
    for config in ("", ":simplified"):
        frame = load_corpus("goemotions", f"hf:{hub_copy}{config}").frame
        rows = list(zip(frame.text, frame.labels, frame.split, strict=True))
        assert rows == [("one", ("joy",), "train"), ("two", ("anger", "annoyance"), "dev")]
    frame = load_corpus("goemotions-raw", f"hf:{hub_copy}:raw").frame
    assert list(zip(frame.text, frame.labels, frame.group, strict=True)) == [("rated", ("joy", "love"), "a")]
    own = read_table(f"hf:{hub_copy}:simplified", "text", "labels")
    assert set(own.frame.corpus) == {f"{hub_copy.parent.name}-go_emotions"} and not any(
        "from" in note for note in own.notes
    )


def test_a_hubs_failure_is_an_error_of_one_line_and_a_missing_package_is_named(hub_copy, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for address in (f"hf:{hub_copy}:none", f"hf:{tmp_path / 'empty'}", "kaggle:not-a-handle", "kaggle:"):
        with refusal(SourceError, address, "cannot be downloaded"):
            find_corpus("goemotions", address)
    for address, package in (("hf:a/b", "datasets"), ("kaggle:a/b", "kagglehub")):
        monkeypatch.setitem(sys.modules, package, None)
        with refusal(SourceError, address, f"pip install {package}"):
            find_corpus("goemotions", address)


FROM_HUB = """
from emo_nb.core import EmoNbError
from emo_nb.io import download
from emo_nb.model import find_encoder
download.CONNECT_TIMEOUT = 1  # given up as after four seconds, but sooner
for find, name in ((find_encoder, "some/encoder"), (download.download_dataset, "hf:some/data")):
    try:
        print(find(name))
    except EmoNbError as error:
        print(error)
"""


def test_a_hub_that_says_nothing_is_given_up_and_what_was_downloaded_before_is_used(alone, tmp_path):
    def found() -> list[str]:
        with socket.create_server(("127.0.0.1", 0)) as hub:  # takes a call, and says nothing
            address = f"http://127.0.0.1:{hub.getsockname()[1]}"
            env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
            return python(FROM_HUB, env=env, timeout=200).splitlines()

    encoder, data = found()
    assert encoder.startswith("encoder 'some/encoder' cannot be downloaded")
    assert data.startswith("hf:some/data cannot be downloaded because the hub does not answer")
    folder = tmp_path / "hub/models--some--encoder"
    for file, text in (("refs/main", "abc"), ("snapshots/abc/config.json", "{}")):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(text)
    before = alone / "hf" / hashlib.sha256(b"hf:some/data").hexdigest()[:12] / "some-data"
    before.mkdir(parents=True)
    assert found() == [str(folder / "snapshots/abc"), str(before)]
