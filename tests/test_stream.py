"""A file of any size through `emo-nb predict`: what an interruption leaves, what memory it takes, what it refuses."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from helpers import check_mistake, python

from emo_nb.core import ConfigError, EmoNbError
from emo_nb.corpora import read_corpus, read_table
from emo_nb.io.readers import estimate_rows, iter_texts
from emo_nb.predict import TrainedClassifier
from emo_nb.report import newest_run, open_run
from emo_nb.scale.files import predict_file
from emo_nb.sources import find_corpus

PARTS_OF_40 = "import emo_nb.scale.files as f; f.PART_ROWS = 40; from emo_nb.cli import main; main()"


def command(model, *args):
    "The command line in a process of its own, in parts of forty texts."
    return [sys.executable, "-c", PARTS_OF_40, "predict", "--model", str(model), *map(str, args)]


@pytest.fixture
def table(here):
    "A CSV file of 200 texts, some over several lines, some with quotes."
    texts = [f'row {i}\nsays "{"hooray" if i % 3 else "oh no"}",\tand that was {i % 7}' for i in range(200)]
    pd.DataFrame({"n": range(200), "text": texts}).to_csv(here / "in.csv", index=False)
    return here / "in.csv"


def killed_after(parts, args, folder):
    "Start a command, kill it once so many parts are there, and say which they are."
    with subprocess.Popen(args, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(folder.glob("[0-9]*"))) < parts:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9]*")}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(tiny, here, table, form):
    whole, broken = here / f"whole.{form}", here / f"broken.{form}"
    subprocess.run(command(tiny.folder, "--file", table, "--out", whole), check=True, capture_output=True)
    args = command(tiny.folder, "--file", table, "--out", broken)
    folder = here / f"broken.{form}.part"
    before = killed_after(2, args, folder)
    assert 2 <= len(before) < 5
    assert not broken.exists()
    os.link(folder / min(before), here / "kept")  # the same file under another name
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "200 rows written" in done.stderr
    assert broken.read_bytes() == whole.read_bytes()
    assert (here / "kept").stat().st_mtime_ns == min(before.items())[1], "what was done was done again"
    assert not folder.exists()
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[form]
    assert read(broken).text.tolist() == pd.read_csv(table).text.tolist()


def test_going_on_with_other_settings_is_refused_and_names_them(emo, tiny, here, table, monkeypatch):
    killed_after(2, command(tiny.folder, "--file", table, "--out", "out.csv"), here / "out.csv.part")
    monkeypatch.setattr("emo_nb.scale.files.PART_ROWS", 40)
    there = sorted((here / "out.csv.part").iterdir())
    args = ("predict", "--model", tiny.folder, "--file", table, "--out", "out.csv")
    code, _, err = emo(*args, "--format", "jsonl")
    check_mistake(code, err, ["another format"])
    code, _, err = emo(*args, "--top-k", "1")
    check_mistake(code, err, ["another top_k (None there, 1 here)"])
    table.write_text(table.read_text().replace("hooray", "hurrah"))
    code, _, err = emo(*args)
    check_mistake(code, err, ["another file;"])
    assert sorted((here / "out.csv.part").iterdir()) == there
    code, _, err = emo(*args, "--force")
    assert code == 0, err
    assert "hurrah" in pd.read_csv("out.csv").text[1]
    (here / "new.csv.part").mkdir()
    (here / "new.csv.part" / "letter.txt").write_text("mine")
    code, _, err = emo(*args[:-1], "new.csv")
    check_mistake(code, err, ["not made by emo_nb"])
    assert (here / "new.csv.part" / "letter.txt").read_text() == "mine"


def test_a_file_of_predictions_is_kept_unless_it_may_be_replaced(tiny, here, table):
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    args = command(tiny.folder, "--file", table, "--out", "out.csv")
    killed_after(2, args, here / "out.csv.part")
    parts = {file.name: file.stat().st_mtime_ns for file in (here / "out.csv.part").iterdir()}
    (here / "out.csv").write_text("somebody's own")
    (here / "folder.csv").mkdir()
    for out, words in (
        ("out.csv", "out.csv already exists and is kept; pass --force"),
        ("folder.csv", "not a file but"),
    ):
        with pytest.raises(ConfigError, match=words):
            predict_file(classifier, table, out, show_progress_bar=False)
    assert (here / "out.csv").read_text() == "somebody's own"
    assert {file.name: file.stat().st_mtime_ns for file in (here / "out.csv.part").iterdir()} == parts
    (here / "out.csv").unlink()
    os.link(here / "out.csv.part" / min(parts), here / "first part")
    assert subprocess.run(args, capture_output=True).returncode == 0
    assert len(pd.read_csv("out.csv")) == 200
    assert (here / "first part").stat().st_mtime_ns in parts.values(), "what was done was done again"
    assert predict_file(classifier, table, "out.csv", force=True, show_progress_bar=False) == 200


def test_long_texts_are_counted_over_the_whole_file_and_said_once(tiny, here, caplog, monkeypatch):
    monkeypatch.setattr("emo_nb.scale.files.PART_ROWS", 40)
    texts = ["so it goes " * (1 if i % 5 else 200) for i in range(100)]
    pd.DataFrame({"text": texts}).to_parquet("in.parquet")
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    said = ["20 of 100 texts are longer than 256 tokens; only their beginning is read"]
    predict_file(classifier, "in.parquet", "out.csv", show_progress_bar=False)
    assert caplog.messages == said
    classifier.predict_frame(texts)
    assert caplog.messages == said * 2
    predict_file(classifier, "out.csv", "again.csv", text_col="label", keep="none", show_progress_bar=False)
    assert caplog.messages == said * 2


def test_memory_does_not_grow_with_the_file(tiny, here):
    peaks = []
    for rows in (40, 1200):
        pd.DataFrame({"text": ["so it goes" + " " * 44_000] * rows}).to_csv("in.csv", index=False)
        with subprocess.Popen(command(tiny.folder, "--file", "in.csv", "--out", f"out{rows}.csv")) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert (here / "in.csv").stat().st_size > 50e6
    assert peaks[1] < 1.08 * peaks[0], f"peaks in MB: {peaks}"


LITTLE_MEMORY = """
import logging, resource, sys
from emo_nb.predict import TrainedClassifier
logging.basicConfig(format="%(message)s", stream=sys.stdout)
classifier = TrainedClassifier.from_pretrained(sys.argv[1])
texts = ["so it goes " * 100 + str(i) for i in range(80)]
expected = classifier.predict_proba(texts, max_batch_tokens=2000)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 140_000_000, resource.RLIM_INFINITY))
print(abs(classifier.predict_proba(texts, max_batch_tokens=60_000) - expected).max())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited in Linux's way")
def test_where_memory_runs_out_batches_are_halved_and_it_is_said_once(tiny):
    out = python(LITTLE_MEMORY, tiny.folder)
    assert float(out.splitlines()[-1]) < 1e-5
    assert out.count("batches are halved") == 1


TAKE_A_PATH = (
    read_corpus,
    lambda path: read_table(path, "text", "label"),
    lambda path: find_corpus("goemotions", path),
    lambda path: list(iter_texts(path)),
    open_run,
    newest_run,
    TrainedClassifier.from_pretrained,
)


@pytest.mark.parametrize("name", ["a" * 5000, "b/" * 3000 + "c", "a\0b", "none", "README.md/none", "~nobody/x"])
def test_a_name_that_no_file_has_or_can_have_is_refused_in_a_sentence_wherever_it_is_given(here, name):
    (here / "README.md").touch()
    for ending in ("", ".csv", ".parquet", ".tar.gz"):
        for take in TAKE_A_PATH:
            with pytest.raises(EmoNbError, match=r"does not exist|is not a|there is no run"):
                take(name + ending)
        assert estimate_rows(name + ending) == 0


def test_a_model_in_bfloat16_predicts_a_file(emo, tiny, here, table):
    TrainedClassifier.from_pretrained(tiny.folder).save_pretrained(here / "half", dtype="bfloat16")
    code, _, err = emo("predict", "--model", "half", "--file", table, "--text-col", "text", "--out", "out.csv")
    assert code == 0, err
    assert len(pd.read_csv("out.csv")) == 200


def test_a_file_is_never_predicted_into_itself(emo, tiny, here, table):
    before = table.read_bytes()
    (here / "link.csv").symlink_to(table)
    for out in (table, "link.csv", "./in.csv"):
        for more in ([], ["--format", "table"]):
            code, _, err = emo("predict", "--model", tiny.folder, "--file", "in.csv", "--out", out, *more)
            check_mistake(code, err, ["is the file that is read; name another with --out"])
    assert table.read_bytes() == before
