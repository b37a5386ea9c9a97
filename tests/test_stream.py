"""A file of any size through `emo-nb predict`: what an interruption leaves, what memory it takes, what it refuses."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from helpers import check_mistake

from emo_nb.core import DataError, EmoNbError
from emo_nb.corpora import read
from emo_nb.own import read_own
from emo_nb.predict import BULK, EmotionClassifier
from emo_nb.rundir import newest_run, open_run
from emo_nb.sources import find
from emo_nb.stream import predict_file, rows_about, texts_in

PARTS_OF_40 = "import emo_nb.stream as s; s.CHUNK = 40; from emo_nb.cli import main; main()"


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
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda file: pd.read_json(file, lines=True)}[form]
    assert read(broken).text.tolist() == pd.read_csv(table).text.tolist()


def test_going_on_with_other_settings_is_refused_and_names_them(emo, tiny, here, table, monkeypatch):
    killed_after(2, command(tiny.folder, "--file", table, "--out", "out.csv"), here / "out.csv.part")
    monkeypatch.setattr("emo_nb.stream.CHUNK", 40)
    there = sorted((here / "out.csv.part").iterdir())
    args = ("predict", "--model", tiny.folder, "--file", table, "--out", "out.csv")
    code, _, err = emo(*args, "--format", "jsonl")
    assert code == 2
    assert "another format" in err
    table.write_text(table.read_text().replace("hooray", "hurrah"))
    code, _, err = emo(*args)
    assert code == 2
    assert "another file;" in err
    assert sorted((here / "out.csv.part").iterdir()) == there
    code, _, err = emo(*args, "--force")
    assert code == 0, err
    assert "hurrah" in pd.read_csv("out.csv").text[1]


def test_a_folder_that_is_no_interrupted_run_is_left_alone(emo, tiny, here, table):
    (here / "out.csv.part").mkdir()
    (here / "out.csv.part" / "letter.txt").write_text("mine")
    code, _, err = emo("predict", "--model", tiny.folder, "--file", table, "--out", "out.csv")
    assert code == 2
    assert "none of emo_nb's" in err
    assert (here / "out.csv.part" / "letter.txt").read_text() == "mine"


def test_memory_does_not_grow_with_the_file(tiny, here):
    peaks = []
    for rows in (40, 1200):
        pd.DataFrame({"text": ["so it goes" + " " * 44_000] * rows}).to_csv("in.csv", index=False)
        with subprocess.Popen(command(tiny.folder, "--file", "in.csv", "--out", "out.csv")) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert (here / "in.csv").stat().st_size > 50e6
    assert peaks[1] < 1.08 * peaks[0], f"peaks in MB: {peaks}"


@pytest.mark.corpora
def test_bulk_work_says_the_same_as_one_text_at_a_time_within_rounding(tiny, corpora_dir):
    from emo_nb.corpora import load

    texts = load("goemotions", corpora_dir / "goemotions").frame.text.head(BULK + 200).tolist()
    classifier = EmotionClassifier.load(tiny.folder)
    bulk, few = classifier.predict_proba(texts), classifier.predict_proba(texts[:200])
    assert np.abs(bulk[:200] - few).max() < 0.02
    exact = EmotionClassifier.load(tiny.folder, dtype="float32").predict_proba(texts)
    assert np.abs(exact[:200] - few).max() < 1e-5


LITTLE_MEMORY = """
import logging, resource, sys
from emo_nb.predict import EmotionClassifier
logging.basicConfig(format="%(message)s")
classifier = EmotionClassifier.load(sys.argv[1])
texts = ["so it goes " * 100 + str(i) for i in range(80)]
expected = classifier.predict_proba(texts, tokens=2000)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 140_000_000, resource.RLIM_INFINITY))
print(abs(classifier.predict_proba(texts, tokens=60_000) - expected).max())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited in Linux's way")
def test_where_memory_runs_out_batches_are_halved_and_it_is_said_once(tiny):
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, tiny.folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
    assert done.stderr.count("batches are halved") == 1


@pytest.mark.parametrize("name", ["a" * 5000, "b/" * 3000 + "c", "a\0b", "none", "README.md/none", "~nobody/x"])
@pytest.mark.parametrize("ending", ["", ".csv", ".parquet", ".tar.gz"])
def test_a_name_that_no_file_has_or_can_have_is_refused_in_a_sentence_wherever_it_is_given(here, name, ending):
    (here / "README.md").touch()
    path = name + ending
    for give in (
        lambda: read(path),
        lambda: read_own(path, "text", "label"),
        lambda: find("goemotions", path),
        lambda: list(texts_in(path)),
        lambda: open_run(path),
        lambda: newest_run(path),
        lambda: EmotionClassifier.load(path),
    ):
        with pytest.raises(EmoNbError, match=r"does not exist|is not a|there is no run"):
            give()
    assert rows_about(path) == 0


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_to_predict_into_a_file_is_refused_and_not_waited_for(tiny, here, kind):
    os.mkfifo(here / "in.csv") if kind == "pipe" else (here / "in.csv").mkdir()
    with pytest.raises(DataError, match=r"in\.csv is no file but a folder, a pipe or a device; name a file"):
        predict_file(EmotionClassifier.load(tiny.folder), "in.csv", "out.csv")
    assert [path.name for path in here.iterdir()] == ["in.csv"]


def test_a_file_is_never_predicted_into_itself(emo, tiny, here, table):
    before = table.read_bytes()
    (here / "link.csv").symlink_to(table)
    for out in (table, "link.csv", "./in.csv"):
        for more in ([], ["--format", "table"]):
            code, _, err = emo("predict", "--model", tiny.folder, "--file", "in.csv", "--out", out, *more)
            check_mistake(code, err, ["is the file that is read; name another with --out"])
    assert table.read_bytes() == before
