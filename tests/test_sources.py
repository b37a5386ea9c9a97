"""Finding and fetching: right bytes or one clear sentence, and the places in their order, against a real web server."""

import gzip
import hashlib
import json
import logging
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from filelock import FileLock
from helpers import python

from emo_nb import download, sources, transfer
from emo_nb.core import SourceError, UnreachableError
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
    cuts: int = 0  # answers that stop after a share of the body
    stalls: int = 0  # answers that fall silent there
    drips: int = 0  # answers that go on there with a byte now and then, without end
    share: float = 0.5
    pause: float = 0  # seconds after every 16 KiB
    endless: bool = False
    lies: int = 0  # bytes more than there are that it announces
    errors: int = 0  # answers that are 500
    ranges: bool = True
    skew: int = 0  # bytes by which its ranges are off
    compresses: bool = False
    moved: str = ""  # the files lie below this address, and it says so
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    sent: list[int] = field(default_factory=list)  # bytes of each body
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        path, asked = self.path.removeprefix("/elsewhere"), self.headers.get("Range")
        if site.moved and path == self.path:
            return self.answer(302, Location=f"{site.moved}{path}")
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
        self.answer(206 if start else 200, body[start + site.skew if start else 0 :], **headers)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        "Announce the body, send it as well as this site does, hang up."
        site: Site = self.server.site  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body) + site.lies), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        site.sent.append(0)
        with suppress(ConnectionError):
            for piece in self.pieces(site, body):
                self.wfile.write(piece)
                site.sent[-1] += len(piece)

    def pieces(self, site: Site, body: bytes) -> Iterator[bytes]:
        share = body[: int(len(body) * site.share)]
        for fault in ("cuts", "stalls", "drips"):
            if body and (left := getattr(site, fault)):
                setattr(site, fault, left - 1)
                yield share
                while fault != "cuts" and not site.over.wait(0.02):
                    yield b"x" if fault == "drips" else b""
                return
        for at in range(0, len(body), 1 << 14):
            yield body[at : at + (1 << 14)]
            time.sleep(site.pause)
        while site.endless and not site.over.is_set():
            yield bytes(1 << 14)

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
    site.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def kept(cache: Path) -> dict[str, bytes]:
    "The files of the cache, parts of unfinished downloads and locks aside."
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix not in (".part", ".lock")]
    return {f"/{path.name}": path.read_bytes() for path in files}


@pytest.fixture
def hasty(monkeypatch) -> None:
    "Less patience, so that tests of silence take less time."
    monkeypatch.setattr(transfer, "SILENCE", 0.25)
    monkeypatch.setattr(transfer, "PAUSE", 0.02)


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"cuts": 1},
        {"cuts": 2},
        {"cuts": 9, "share": 0.1},
        {"cuts": 1, "ranges": False},
        {"errors": 2},
        {"errors": 1, "cuts": 1, "stalls": 1, "drips": 1},
        {"moved": "/elsewhere", "cuts": 1},
        {"compresses": True},
        {"compresses": True, "cuts": 1},
        {"lies": 1000},
        {"lies": 1000, "ranges": False},
        {"cuts": 1, "skew": 1},
        {"cuts": 1, "skew": -1},
    ],
    ids=str,
)
def test_fetch_ends_with_the_whole_files(site, alone, hasty, monkeypatch, faults, tried):
    monkeypatch.setattr(transfer, "SILENCE", 1)  # a busy machine is silent at times, too
    vars(site).update(faults)
    assert fetch("goemotions") == alone
    assert kept(alone) == FILES
    assert not list(alone.rglob("*.part"))
    tried("downloads with a fault", 1)


@pytest.mark.parametrize("fault", ["cuts", "stalls", "drips"])
def test_an_answer_may_end_at_any_tenth_of_the_file(site, tmp_path, hasty, fault, tried):
    for ranges in (True, False):
        for tenth in range(10):
            vars(site).update({"ranges": ranges, "share": tenth / 10, fault: 1})
            folder = tmp_path / f"{fault}{tenth}{ranges}"
            assert kept(fetch("goemotions", folder)) == FILES
            assert getattr(site, fault) == 0
    tried("downloads with a fault", 20)


def test_a_resumed_download_asks_only_for_the_rest(site, alone):
    site.cuts = 1
    fetch("goemotions")
    (path, none), (again, asked) = site.asked[:2]
    assert path == again == "/train.tsv" and none is None
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= site.sent[0]
    assert site.sent[1] == len(TRAIN) - start


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"files": {}}, "answers 404"),
        pytest.param({"files": {**FILES, "/train.tsv": b"other bytes"}}, "wrong SHA-256", id="other bytes"),
        pytest.param({"files": {**FILES, "/train.tsv": TRAIN[:-1]}}, "wrong SHA-256", id="a byte too few"),
        pytest.param({"files": {**FILES, "/train.tsv": TRAIN + b"x"}}, "wrong SHA-256", id="a byte too many"),
        ({"lies": -1000}, "wrong SHA-256"),
        ({"cuts": 99}, "breaks off"),
        ({"cuts": 99, "share": 0}, "breaks off"),
        ({"errors": 99}, "answers 500"),
        ({"stalls": 99}, "nothing comes"),
        ({"drips": 99, "share": 0}, "nothing comes"),
        ({"endless": True, "lies": 10**12}, "more than 1,000,000 bytes"),
        ({"moved": "/round"}, "one address to the next"),
        ({"moved": "ftp://127.0.0.1"}, "ftp://"),
        ({"moved": "file:///etc/passwd?"}, "file://"),
        ({"moved": "http://[1"}, "cannot be fetched"),
    ],
    ids=str,
)
def test_a_failed_fetch_says_so_in_a_line_keeps_nothing_wrong_and_can_be_repeated(
    site, alone, hasty, monkeypatch, fault, why, tried
):
    monkeypatch.setattr(transfer, "MAX_FILE", 1_000_000)
    usual = dict(vars(site))
    vars(site).update(fault)
    with pytest.raises(SourceError, match=re.escape(why)) as caught:
        fetch("goemotions")
    said = str(caught.value)
    assert f"{site.url}/train.tsv" in said and "\n" not in said and not re.search("Error|Exception|object at", said)
    assert not isinstance(caught.value, UnreachableError)
    assert ("SHA-256" in said) == ("SHA-256" in why)
    assert kept(alone) == {}
    vars(site).update({name: usual[name] for name in fault})
    fetch("goemotions")
    assert kept(alone) == FILES
    tried("downloads with a fault", 1)


def test_a_download_that_takes_too_long_ends_and_goes_on_the_next_time(site, alone, monkeypatch):
    monkeypatch.setattr(transfer, "TOTAL", 0.3)
    site.pause = 0.1
    with pytest.raises(SourceError, match="what came is kept"):
        fetch("goemotions")
    came = (alone / "goemotions/train.tsv.part").stat().st_size
    assert 0 < came < len(TRAIN) and kept(alone) == {}
    site.pause = 0
    fetch("goemotions")
    assert ("/train.tsv", f"bytes={came}-") in site.asked
    assert kept(alone) == FILES


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "part",
    [b"", TRAIN[:1000], TRAIN, b"x" * 1000, TRAIN + b"x", TRAIN * 2],
    ids=["empty", "the beginning", "all of it", "other bytes", "too much", "twice"],
)
def test_what_an_earlier_download_left_is_used_or_thrown_away(site, alone, part, ranges, tried):
    site.ranges = ranges
    left = alone / "goemotions/train.tsv.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(part)
    fetch("goemotions")
    assert kept(alone) == FILES
    assert (site.asked[0][0] == "/train.tsv") == (part != TRAIN)
    tried("downloads with a fault", 1)


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(site, alone):
    find("goemotions")
    (alone / "goemotions/dev.tsv").write_bytes(FILES["/dev.tsv"][:-1])
    hit = find("goemotions")
    assert (hit.origin, [path for path, _ in site.asked[3:]]) == ("download", ["/dev.tsv"])
    assert kept(alone) == FILES


# machines without a network


def silent(stack: ExitStack, backlog: int) -> int:
    "The port of a socket that nobody looks after; with a short backlog that is full already, not even its host answers."
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=backlog))
    port = listener.getsockname()[1]
    for _ in range(8 if not backlog else 0):
        visitor = stack.enter_context(socket.socket())
        visitor.setblocking(False)
        visitor.connect_ex(("127.0.0.1", port))
    return port


def dripping(stack: ExitStack) -> int:
    "The port of a server whose headers never end, and come a byte at a time."
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def drip() -> None:
        with suppress(OSError):
            visitor, _ = listener.accept()
            visitor.sendall(b"HTTP/1.1 200 OK\r\nX-Never: ")
            while listener.fileno() >= 0:
                visitor.sendall(b"x")
                time.sleep(0.1)

    threading.Thread(target=drip, daemon=True).start()
    return listener.getsockname()[1]


@pytest.fixture
def names(site, monkeypatch) -> None:
    "Two names more: one is looked up without end, the other has many addresses."
    look_up = socket.getaddrinfo

    def looked_up(host, *args, **options):
        if host == "slow.invalid":
            site.over.wait()
        if host == "many.invalid":
            return look_up("127.0.0.1", *args, **options) * 8
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


@pytest.fixture
def nowhere(site, names) -> Iterator[dict[str, str]]:
    "Addresses where nobody answers, each in its own way."
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            refused = free.getsockname()[1]  # nobody listens here once it is closed
        ports = {
            "refuses": refused,
            "lets no one in": silent(stack, backlog=0),
            "is silent": silent(stack, backlog=9),
            "drips its headers": dripping(stack),
        }
        addresses = {what: f"http://127.0.0.1:{port}/train.tsv" for what, port in ports.items()}
        addresses["lets no one in at many addresses"] = f"http://many.invalid:{ports['lets no one in']}/train.tsv"
        addresses["has a name that is never found"] = "http://slow.invalid/train.tsv"
        yield {**addresses, "has no name": "http://nowhere.invalid/train.tsv"}


def test_a_machine_without_a_network_decides_within_ten_seconds(nowhere, monkeypatch, tmp_path, tried):
    def decides(what: str) -> tuple[float, str]:
        folder = tmp_path / what
        if left := what.endswith("with a part"):
            (folder / "goemotions").mkdir(parents=True)
            (folder / "goemotions/train.tsv.part").write_bytes(TRAIN[:1000])
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="cannot be fetched") as caught:
            fetch(what, folder)
        assert kept(folder) == {} and len(list(folder.rglob("*.part"))) == left
        return time.monotonic() - began, str(caught.value)

    cases = {what + rest: url for what, url in nowhere.items() for rest in ("", ", with a part")}
    for what, url in cases.items():
        remotes = [replace(remote, url=url) for remote in download.REMOTES["goemotions"]]
        monkeypatch.setitem(download.REMOTES, what, tuple(remotes))
    with ThreadPoolExecutor(len(cases)) as pool:
        took = dict(zip(cases, pool.map(decides, cases), strict=True))
    assert not {what: seconds for what, (seconds, _) in took.items() if seconds > 10}
    assert not [said for _, said in took.values() if "\n" in said or re.search("Error|Exception|object at", said)]
    tried("downloads with a fault", len(cases))


@pytest.mark.parametrize("what", ["refuses", "lets no one in"])
def test_a_silent_address_gives_the_sample(nowhere, alone, monkeypatch, what):
    left = alone / "goemotions/train.tsv.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(TRAIN[:1000])
    remote = replace(download.REMOTES["goemotions"][0], url=nowhere[what])
    monkeypatch.setitem(download.REMOTES, "goemotions", (remote,))
    assert find("goemotions").origin == "built-in sample"


# several processes

FETCHES = """
import json, sys
from emo_nb import download
download.REMOTES["goemotions"] = tuple(download.Remote(*fields) for fields in json.loads(sys.argv[1]))
download.fetch("goemotions")
"""


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # no file may be longer


def fetching(first: str = "") -> subprocess.Popen:
    "A process of its own that fetches the corpus into the cache."
    remotes = json.dumps([astuple(remote) for remote in download.REMOTES["goemotions"]])
    return subprocess.Popen([sys.executable, "-c", first + FETCHES, remotes], stderr=subprocess.PIPE, text=True)


def part_of(process: subprocess.Popen, cache: Path, least: int) -> int:
    "Wait until so many bytes have arrived; how many there are."
    part = cache / "goemotions/train.tsv.part"
    while process.poll() is None:
        with suppress(FileNotFoundError):
            if (have := part.stat().st_size) >= least:
                return have
        time.sleep(0.002)
    raise AssertionError(process.communicate()[1])


def test_processes_that_fetch_at_once_end_with_one_good_file(site, alone, tried):
    site.pause = 0.03
    processes = [fetching() for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert kept(alone) == FILES
    assert sorted(path for path, _ in site.asked) == sorted(FILES)  # nobody asked twice
    tried("downloads of several processes at once", 1)


def test_a_killed_download_leaves_its_place_to_the_next(site, alone, tmp_path, monkeypatch, tried):
    kills = int(os.environ.get("KILLS", 6))
    for kill in range(kills):
        cache = tmp_path / f"cache{kill}"
        monkeypatch.setenv("EMO_NB_CACHE", str(cache))
        site.pause = 0.02
        site.asked.clear()
        first = fetching()
        part_of(first, cache, least=1)
        second = fetching() if kill % 2 else None  # it waits for the lock, or has not come yet
        have = part_of(first, cache, least=len(TRAIN) * 4 * kill // (5 * kills))
        first.kill()
        first.communicate()
        site.pause = 0
        second = second or fetching()
        errors = second.communicate()[1]
        assert second.returncode == 0, errors
        assert kept(cache) == FILES
        (_, none), (path, asked), *_ = site.asked
        assert none is None and path == "/train.tsv"
        assert int(asked.removeprefix("bytes=").removesuffix("-")) >= have
    tried("kills of a download", kills)


def test_a_server_that_is_not_believed_is_not_one_that_is_not_there(site, monkeypatch):
    remotes = [replace(each, url=each.url.replace("http:", "https:")) for each in download.REMOTES["goemotions"]]
    monkeypatch.setitem(download.REMOTES, "goemotions", tuple(remotes))
    with pytest.raises(SourceError, match="cannot be fetched") as caught:
        find("goemotions")
    assert not isinstance(caught.value, UnreachableError)
    assert transfer.answers(site.url) and transfer.answers(site.url.replace("http:", "https:"))


def test_a_disk_that_fills_up_ends_in_a_sentence_and_what_came_is_kept_for_the_next(site, alone, tried):
    error = fetching(FULL).communicate()[1].splitlines()[-1]
    assert error == (
        f"emo_nb.core.SourceError: {alone / 'goemotions'} cannot be written (File too large); "
        "set EMO_NB_CACHE to another folder"
    )
    assert not kept(alone)
    fetch("goemotions")
    assert kept(alone) == FILES
    assert site.asked[1] == ("/train.tsv", "bytes=100000-")
    tried("a disk that fills up in a download", 1)


def test_who_waits_for_another_process_for_too_long_says_so(site, alone, monkeypatch):
    monkeypatch.setattr(transfer, "TOTAL", 0.3)
    (alone / "goemotions").mkdir(parents=True)
    with (
        FileLock(alone / "goemotions/.train.tsv.lock"),
        pytest.raises(SourceError, match=r"another process.*train\.tsv"),
    ):
        fetch("goemotions")
    assert not site.asked


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


def test_another_data_sets_train_tsv_is_not_taken_for_goemotions(site, alone, monkeypatch, tmp_path):
    (tmp_path / "sst").mkdir()
    (tmp_path / "sst/train.tsv").write_text("sentence\tlabel\na fine film\t1\n")
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path))
    assert find("goemotions").origin == "download"


@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link"])
def test_what_is_no_file_is_not_taken_for_a_corpus(site, monkeypatch, tmp_path, kind):
    for name in ("train.tsv", "goemotions_1.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        {"pipe": os.mkfifo, "folder": os.mkdir, "broken link": lambda at: os.symlink("nowhere", at)}[kind](path)
    monkeypatch.setenv("EMO_NB_DATA", str(tmp_path / "data"))
    assert find("goemotions").origin == "download"


FROM_HUB = """
import sys
from emo_nb import transfer
from emo_nb.core import EmoNbError
from emo_nb.download import from_hub
from emo_nb.model import find_encoder
transfer.ANSWER = 1  # given up as in four seconds, but sooner
for find, name in ((find_encoder, "some/encoder"), (from_hub, "hf:some/data")):
    try:
        print(find(name))
    except EmoNbError as error:
        print(error)
"""


def test_a_hub_that_says_nothing_is_given_up_and_what_was_fetched_before_is_used(alone, tmp_path):
    def found() -> list[str]:
        with socket.create_server(("127.0.0.1", 0)) as hub:  # takes a call, and says nothing
            address = f"http://127.0.0.1:{hub.getsockname()[1]}"
            env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
            return python(FROM_HUB, env=env, timeout=100).splitlines()

    encoder, data = found()
    assert encoder.startswith("encoder 'some/encoder' cannot be had")
    assert data.startswith("hf:some/data cannot be had: the hub does not answer")
    folder = tmp_path / "hub/models--some--encoder"
    for file, text in (("refs/main", "abc"), ("snapshots/abc/config.json", "{}")):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(text)
    before = alone / "hf" / hashlib.sha256(b"hf:some/data").hexdigest()[:12]
    before.mkdir(parents=True)
    assert found() == [str(folder / "snapshots/abc"), str(before)]
