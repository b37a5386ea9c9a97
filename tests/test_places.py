"""Texts in several files, in compressed ones and at addresses: the same answers, and one sentence where they cannot be had."""

import gzip
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFile
from helpers import refusal

from emo_nb.core import ConfigError, DataError, SourceError, TextError
from emo_nb.corpora import read_table
from emo_nb.io.places import fingerprint
from emo_nb.io.readers import estimate_rows, iter_rows, iter_texts
from emo_nb.predict import TrainedClassifier
from emo_nb.scale.files import predict_file

TABLE = pd.DataFrame({"id": range(600), "text": [f"text {i}, {'good' if i % 2 else 'bad'}" for i in range(600)]})


class Ranges(SimpleHTTPRequestHandler):
    "A file server that answers requests for a range of bytes, as large ones do, and counts the bytes that it sent."

    sent = 0

    def do_GET(self):
        if "403" in self.path or "500" in self.path:
            return self.send_error(int(Path(self.path).stem))
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        if not wanted or not path.is_file():
            return super().do_GET()
        start, _, end = wanted.removeprefix("bytes=").partition("-")
        content = path.read_bytes()
        part = content[int(start) : int(end) + 1]
        type(self).sent += len(part)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self):
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(here):
    "The address of the working directory."
    (here / "served").mkdir()
    Ranges.sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(here / "served"))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "csv.zst", "jsonl.zst"])
def test_a_compressed_table_is_read_as_it_is(here, ending):
    text = TABLE.to_csv(index=False) if ending.startswith("csv") else TABLE.to_json(orient="records", lines=True)
    packed = gzip.compress(text.encode()) if ending.endswith("gz") else pa.compress(text.encode(), "zstd", asbytes=True)
    Path(f"in.{ending}").write_bytes(packed)
    rows = list(iter_rows(f"in.{ending}", keep="all"))
    assert [text for text, _ in rows] == list(TABLE.text)
    assert [int(cells["id"]) for _, cells in rows] == list(TABLE.id)
    assert abs(estimate_rows(f"in.{ending}") - 600) <= 1
    Path(f"cut.{ending}").write_bytes(packed[: len(packed) // 2])
    with refusal((DataError, TextError), f"cut.{ending}", "cut short or damaged"):
        list(iter_texts(f"cut.{ending}"))


def test_a_folder_or_a_pattern_is_read_file_by_file_and_each_row_says_which(emo, tiny, here):
    Path("texts/more").mkdir(parents=True)
    TABLE[:3].to_csv("texts/a.csv", index=False)
    TABLE[3:5].to_csv("texts/more/b.csv", index=False)
    Path("texts/.hidden.csv").write_text("none\n")
    Path("texts/notes.md").write_text("none\n")
    for name in (".ipynb_checkpoints/a.csv", "_delta_log/0.jsonl"):
        Path("texts", name).parent.mkdir()
        Path("texts", name).write_text('{"text": "none"}\n')
    for place, n_rows in (("texts", 5), ("texts/*.csv", 3), ("texts/**/*.csv", 5)):
        code, _, errors = emo("predict", "--model", tiny.folder, "--file", place, "--out", "out.csv", "--force")
        assert code == 0, errors
        table = pd.read_csv("out.csv")
        assert list(table.text) == list(TABLE.text[:n_rows]) and list(table.id) == list(range(n_rows))
    assert [Path(file).name for file in table.file] == ["a.csv"] * 3 + ["b.csv"] * 2
    TABLE[5:].rename(columns={"id": "number"}).to_csv("texts/c.csv", index=False)
    for place, said in (
        ("texts", "choose columns that both have with --keep"),
        ("no/*.csv", "names no file with texts"),
    ):
        code, _, errors = emo("predict", "--model", tiny.folder, "--file", place, "--out", "other.csv")
        assert code == 2 and said in errors and not Path("other.csv").exists()
    assert (
        predict_file(
            TrainedClassifier.from_pretrained(tiny.folder), "texts", "other.csv", keep="none", show_progress_bar=False
        )
        == 600
    )


def test_an_address_is_read_block_by_block_with_the_answers_of_the_file(tiny, server, here):
    TABLE.to_parquet("served/in.parquet", row_group_size=100)
    large = pd.DataFrame({"text": [f"{i}, " + "x" * 100 * (i % 7) for i in range(150_000)]})
    large.to_csv("served/large.csv", index=False)
    large.to_json("served/large.jsonl", orient="records", lines=True)
    large.to_parquet("served/large.parquet", row_group_size=2000, compression=None, use_dictionary=False)
    TABLE.to_csv("served/in.csv", index=False)
    classifier = TrainedClassifier.from_pretrained(tiny.folder, dtype="float32")
    predict_file(classifier, "served/in.csv", "expected.csv", show_progress_bar=False)
    with fsspec.open("memory://texts/in.csv", "w") as stream:
        stream.write(Path("served/in.csv").read_text())
    for address in (f"{server}/in.csv", f"{server}/in.parquet", "memory://texts/in.csv", "memory://texts/*.csv"):
        predict_file(classifier, address, "out.csv", force=True, show_progress_bar=False)
        table, expected = pd.read_csv("out.csv"), pd.read_csv("expected.csv")
        pd.testing.assert_frame_equal(table[["id", "text", "label"]], expected[["id", "text", "label"]])
    for name in ("large.csv", "large.jsonl", "large.parquet"):
        Ranges.sent = 0
        assert next(iter_texts(f"{server}/{name}")) == large.text[0]
        assert 0 < Ranges.sent < 0.6 * Path("served", name).stat().st_size
    before = fingerprint("memory://texts/in.csv")
    with fsspec.open("memory://texts/in.csv", "w") as stream:
        stream.write("text\nanother\n")
    assert fingerprint("memory://texts/in.csv") != before


def test_a_copy_that_breaks_off_or_cannot_be_kept_is_said(here, monkeypatch):
    with fsspec.open("memory://mood/own.csv", "w") as file:
        file.write("text,label\na,joy\nb,fear\n")
    Path("cache").write_text("a file in the way")
    monkeypatch.setenv("EMO_NB_CACHE", str(here / "cache"))
    with refusal(SourceError, "memory://mood/own.csv", "EMO_NB_CACHE"):
        read_table("memory://mood/own.csv", "text", "label")
    monkeypatch.setenv("EMO_NB_CACHE", str(here / "other"))

    def hang_up(*_):
        raise OSError("the connection was reset")

    monkeypatch.setattr(MemoryFile, "read", hang_up)
    with refusal(DataError, "memory://mood/own.csv", "the connection was reset"):
        read_table("memory://mood/own.csv", "text", "label")
    assert not any(Path("other").rglob("own.csv"))


@pytest.mark.parametrize(
    ("name", "said"), [("403.csv", "may not be read"), ("500.csv", "answers 500"), ("404.csv", "does not exist")]
)
def test_what_a_server_refuses_is_not_called_missing(server, name, said):
    with refusal((DataError, TextError), f"{server}/{name}", said):
        list(iter_texts(f"{server}/{name}"))


@pytest.mark.parametrize("place", [".", "*.csv.zst", "memory://moods/*.gz", "memory://moods/a.csv.gz", "SERVER/a.csv"])
def test_a_labelled_table_is_read_from_wherever_texts_are(server, here, place):
    for part, name in ((TABLE[:300], "a"), (TABLE[300:], "b")):
        table = part.assign(label=["joy" if i % 2 else "anger" for i in part.id]).to_csv(index=False).encode()
        Path(f"served/{name}.csv").write_bytes(table)
        Path(f"{name}.csv.zst").write_bytes(pa.compress(table, "zstd", asbytes=True))
        with fsspec.open(f"memory://moods/{name}.csv.gz", "wb") as stream:
            stream.write(gzip.compress(table))
    n_rows = 300 if "/a." in place else 600
    frame = read_table(place.replace("SERVER", server), "text", "label").frame
    assert list(frame.text) == list(TABLE.text[:n_rows])
    assert frame.labels.value_counts().to_dict() == {("joy",): n_rows // 2, ("anger",): n_rows // 2}


def test_a_column_called_file_is_kept_beside_the_names_of_the_files(here):
    for name in "ab":
        TABLE[:2].assign(file=f"scan {name}").to_csv(f"{name}.csv", index=False)
    kept = [cells for _, cells in iter_rows("*.csv", keep="all")]
    assert [cells["file"] for cells in kept] == ["a.csv", "a.csv", "b.csv", "b.csv"]
    assert [cells["input_file"] for cells in kept] == ["scan a", "scan a", "scan b", "scan b"]
    for name in "cd":
        TABLE[:2].assign(file="x", input_file="y").to_csv(f"{name}.csv", index=False)
    with refusal(ConfigError, "'input_file'", "--keep"):
        list(iter_rows("[cd].csv", keep="all"))


def test_files_without_rows_are_passed_over_and_those_of_one_name_told_apart(here):
    for year in ("2024", "2025"):
        (here / year).mkdir()
        TABLE[:2].assign(label=["joy", "anger"]).to_csv(here / year / "train.csv", index=False)
    Path("2025/empty.csv").write_text("")
    Path("2025/header.csv").write_text("id,text,label\n")
    Path("2025/_emo_nb.json").write_text("{}")
    assert len(list(iter_rows(".", "text", "all"))) == 4
    frame = read_table("**/train.csv", "text", "label").frame
    assert list(frame.text) == [*TABLE.text[:2]] * 2 and frame.group.nunique() == 4
    with fsspec.open("memory://years/2025/a.txt", "wt") as stream:
        stream.write("one\ntwo\n")
    assert list(iter_texts("memory://years/**")) == ["one", "two"]


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("memory://nowhere.csv", TextError, "does not exist"),
        ("s3://bucket/texts.csv", ConfigError, "pip install s3fs"),
        ("gopher://host/texts.csv", DataError, "gopher"),
        ("sftp://host/texts.csv", ConfigError, "pip install paramiko"),
        ("http://127.0.0.1:1/texts.csv", TextError, "its server does not answer"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(tiny, here, address, kind, said):
    with refusal(kind, address, said):
        read_table(address, "text", "label")
    with refusal(kind, address, said):
        predict_file(TrainedClassifier.from_pretrained(tiny.folder), address, "out.csv", show_progress_bar=False)
