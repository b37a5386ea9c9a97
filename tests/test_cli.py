"""The command `emo-nb`: what it prints and writes, and that every mistake ends in one sentence and exit code 2."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import COMMAND, check_mistake, plain, write_own

import emo_nb
from emo_nb.report import open_run

SAMPLE = Path(emo_nb.__file__).parent / "sample"
OWN = ("--text-col", "text", "--label-col", "label")

pytestmark = pytest.mark.usefixtures("here")


def command(*args, **options):
    "The real command in a process of its own."
    return subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, **options)


HELP = {
    "": "fetch explore run predict evaluate doubt export info",
    "fetch": "goemotions goemotions-raw empathetic all",
    "explore": "--corpus --data --reading --out",
    "run": "--task --corpus --preset --profile --encoder --method --split --text-unit --unit --data --text-col --label-col --seed",
    "predict": "TEXTS --model --file --format --out --force --threshold --top-k --long-texts --device --dtype",
    "doubt": "--data --text-col --label-col --folds --epochs --encoder --out --force",
    "export": "MODEL --to --int8 --out --force",
    "evaluate": "MODEL --data --text-col --text --label-col --label --map --restrict --out",
}


@pytest.mark.parametrize("name", HELP)
def test_help_names_all_there_is(emo, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "200")  # so that no name is broken
    code, out, _ = emo(*name.split(), "--help")
    assert code == 0
    assert not [word for word in HELP[name].split() if word.lower() not in plain(out).lower()]


# The whole way


def test_run_from_start_to_end(tiny, here):
    done = command("run", "--preset", "tiny")
    assert done.returncode == 0, done.stderr
    folder = here / "runs" / "shared10-lora-tiny-seed42"
    run = open_run(folder)
    out = plain(done.stdout)
    assert "The run directory: runs/shared10-lora-tiny-seed42" in out
    for corpus in ("goemotions", "empathetic", "all"):
        assert f"{corpus}: macro-F1 {run.metrics[corpus]['macro_f1']:.3f}" in out
    row = run.scores.loc["all", "fear"]
    assert f"fear {row.precision:.2f} {row.recall:.2f} {row.f1:.2f} {row.support:.0f}" in out
    assert done.stderr.count("BUILT-IN SAMPLE") == 2
    assert run.config["command"] == "emo-nb run --preset tiny"
    # the other run of the same seed, in another process, came to the same weights
    weights = [f / "model" / "model.safetensors" for f in (folder, tiny.folder)]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}) == 1
    assert "Warning: " not in done.stderr


@pytest.mark.parametrize(("name", "labels"), [("mine.csv", ("None", "upset")), ("2024.csv", ("0", "1"))])
def test_a_table_of_ones_own_runs_and_is_evaluated_again_whatever_it_and_its_labels_are_called(emo, here, name, labels):
    write_own(here / name, labels)
    code, _, err = emo("run", "--profile", "tiny", "--data", name, *OWN)  # the preset's name in earlier versions
    assert code == 0, err
    run = open_run(f"runs/custom-{Path(name).stem}-lora-tiny-seed42")
    assert run.config["labels"] == list(labels)
    assert set(run.scores.index) == {(Path(name).stem, label) for label in labels}
    assert set(run.predictions.label) == set(labels)
    for again in ((), ("--data", name, *OWN)):  # its own test rows, all rows
        code, out, err = emo("evaluate", run.folder, *again)
        assert code == 0, err
        assert f"{Path(name).stem}: macro-F1" in plain(out)
        assert all(f" {label} " in plain(out) for label in labels)


# predict

LINES = "Thank you so much\n\nI hate it, I do\n"


@pytest.mark.parametrize("way", ["arguments", "file", "stdin"])
def test_predict_takes_texts_from(emo, tiny, here, way):
    texts = LINES.splitlines()
    (here / "texts.txt").write_text(LINES)
    given = {"arguments": texts, "file": ["--file", "texts.txt"], "stdin": []}[way]
    code, out, err = emo("predict", "--model", tiny.folder, "--format", "jsonl", *given, stdin=LINES.encode())
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == texts
    labels = tiny.config["labels"]
    assert all(list(row) == ["text", "label", *labels] for row in rows)
    assert all(row["label"] == max(labels, key=row.get) for row in rows)


def test_csv_and_jsonl_say_the_same_as_the_table(emo, tiny):
    texts = ('so "proud", of you', "I hate it", "ünïcode 💔")
    written = {}
    for form in ("table", "csv", "jsonl"):
        code, written[form], err = emo("predict", "--model", tiny.folder, "--format", form, *texts)
        assert code == 0, err
        code, out, _ = emo(
            "predict", "--model", tiny.folder, "--format", form, "--out", "new/answer", "--force", *texts
        )
        assert (code, out, Path("new/answer").read_text(encoding="utf-8")) == (0, "", written[form])
    csv = pd.read_csv(io.StringIO(written["csv"]))
    pd.testing.assert_frame_equal(csv, pd.read_json(io.StringIO(written["jsonl"]), lines=True), atol=1e-6)
    assert list(csv.text) == list(texts)
    best = [row[2:].astype(float).nlargest(3) for _, row in csv.iterrows()]
    for text, line, top in zip(texts, written["table"].splitlines(), best, strict=True):
        assert plain(line) == " ".join([text, *(f"{label} {p:.2f}" for label, p in top.items())])


def test_thresholds_and_the_number_of_labels_can_be_said(emo, feelings):
    given = ("predict", "--model", feelings.folder, "--format", "jsonl", "I am so happy", "I hate it")
    for options, wanted in (
        (("--threshold", "0"), lambda row, labels: labels),
        (("--threshold", "1", "--threshold", "positive=0"), lambda row, labels: ["positive"]),
        (("--top-k", "2"), lambda row, labels: sorted(labels, key=row.get, reverse=True)[:2]),
    ):
        code, out, err = emo(*given, *options)
        assert code == 0, err
        for row in map(json.loads, out.splitlines()):
            assert row["labels"].split("|") == wanted(row, feelings.config["labels"])


def test_without_a_run_the_model_of_the_package_answers_and_that_is_said(emo):
    code, out, err = emo("predict", "Thank you so much, you saved my week", "--tokens-left-out", "--format", "jsonl")
    assert code == 0 and "goemotions28 answers" in err
    row = json.loads(out)
    assert row["label"] == "gratitude" and row["tokens_left_out"] == 0


def test_a_reader_of_the_pipe_may_stop_early(tiny):
    texts = [f"text {i}" for i in range(600)]  # more answers than a pipe holds
    args = [COMMAND, "predict", "--model", str(tiny.folder), "--format", "jsonl", *texts]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
    assert json.loads(first)["text"] == "text 0"
    assert complaints == ""


# explore, info, fetch


@pytest.mark.parametrize("reading", ["full", "study"])
def test_explore_prints_counts_and_writes_tables_and_figures(emo, reading):
    code, out, err = emo("explore", "--corpus", "empathetic", "--reading", reading, "--out", "new/tables")
    assert code == 0, err
    counts = pd.read_csv("new/tables/label_counts.csv", index_col=0)["rows"]
    assert all(f"{label} {n}" in plain(out) for label, n in counts.items())
    rows = len((SAMPLE / "empatheticdialogues" / "train.csv").read_text().splitlines()) - 1
    assert (len(counts), counts.sum()) == (32, rows) if reading == "full" else 100 < counts.sum() < rows
    assert {f"{name}.png" for name in ("label_counts", "lengths")} <= set(os.listdir("new/tables"))


def test_explore_counts_a_file_that_has_test_rows_alone(emo, official, here):
    code, out, err = emo("explore", "--corpus", "goemotions", "--data", official / "test.tsv", "--out", "tables")
    assert code == 0, err
    assert "no training rows" in out and (here / "tables" / "lengths.png").exists()
    code, out, err = emo("explore", "--corpus", "goemotions", "--data", official, "--out", "all")
    assert code == 0 and list(pd.read_csv("all/duplicates.csv").split) == ["dev", "test", "train"], err


def test_a_folder_is_predicted_into_a_file_in_it_also_after_an_interrupted_run(emo, tiny, here):
    (here / "texts" / "other.csv.part").mkdir(parents=True)
    write_own(here / "texts" / "moods.csv", ("anger", "joy"))
    for name in ("lock", "settings.json", "00000000.csv"):
        (here / "texts" / "other.csv.part" / name).write_text("text\nnone\n")
    options = ("--model", tiny.folder, "--file", "texts", "--text-col", "text", "--out", "texts/answers.csv")
    code, _, err = emo("predict", *options)
    assert code == 0, err
    assert len(pd.read_csv("texts/answers.csv")) == 24


def test_a_mount_point_is_never_replaced(emo, here, monkeypatch):
    (here / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    code, _, err = emo("run", "--preset", "tiny", "--out", "disk")
    check_mistake(code, err, ["disk is a mount point", "--out"])


def test_names_that_are_neither_a_file_nor_a_list_are_refused(emo, here):
    (here / "own.csv").write_text("text,label\na,0\nb,1\nc,0\nd,1\n")
    code, _, err = emo("explore", "--data", "own.csv", *OWN, "--label-names", "misspelt.txt")
    check_mistake(code, err, ["misspelt.txt", "neither a file"])


def test_a_pattern_may_begin_at_home(emo, tiny, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    write_own(here / "moods-1.csv", ("anger", "joy"))
    code, _, err = emo(
        "predict", "--model", tiny.folder, "--file", "~/moods-*.csv", "--text-col", "text", "--out", "out.CSV"
    )
    assert code == 0, err
    assert len(pd.read_csv("out.CSV")) == 24
    code, out, err = emo("explore", "--data", "~/moods-*.csv", *OWN)
    assert code == 0 and "24 rows" in out, err


def test_info_and_predict_take_the_newest_run(emo, tiny, here):
    code, out, _ = emo("info")
    assert code == 0
    assert f"emo_nb {emo_nb.__version__}" in plain(out)
    assert "none in runs/ yet" in plain(out)
    (here / "runs" / "lost").mkdir(parents=True)
    (here / "runs" / "lost" / "metrics.json").write_text("{}")  # of a run that has lost its model
    code, _, err = emo("predict", "I hate it")
    assert code == 0 and "goemotions28 answers" in err
    (here / "runs" / "one").symlink_to(tiny.folder)
    assert "newest run runs/one" in plain(emo("info")[1])
    code, out, _ = emo("predict", "I hate it")
    assert code == 0 and out.startswith("I hate it")


def test_the_real_process_says_offline_that_nothing_is_downloaded():
    done = command("fetch", "empathetic")
    check_mistake(done.returncode, done.stderr, ["nothing is downloaded"])
    assert not done.stdout


# Mistakes


@pytest.fixture
def spoilt(here, tiny):
    "The things that the mistakes below are made with, in the working directory."

    (here / "novel.txt").write_text("Call me Ishmael.\nSome years ago\n")
    (here / "empty.csv").write_text("")
    for name in ("broken.parquet", "cut.tar.gz"):
        (here / name).write_bytes(b"\x1f\x8bPAR1 and so on")
    with tarfile.open(here / "texts.tar", "w") as archive:
        archive.add(here / "novel.txt", "novel.txt")
    (here / "latin1.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    write_own(here / "own.csv", ("anger", "bliss"))
    write_own(here / "one.csv", ("anger",))
    write_own(here / "few.csv", ("a", "b", "c", "d", "e"), each=2)
    write_own(here / "bar.csv", ("a|b", "c"))
    os.mkfifo(here / "pipe")
    for name in ("folder", "finished"):
        (here / name).mkdir()
    (here / "finished" / "config.json").write_text("{}")
    (here / "tiny").symlink_to(tiny.folder)


RUN, RATERS = ("run", "--preset", "tiny"), SAMPLE / "goemotions_raw.csv"
LONG = "I am so happy that I could tell everybody about it, " * 8
MISTAKES = {
    "no such file": ((*RUN, "--data", "nowhere.csv"), "nowhere.csv does not exist"),
    "unknown form": ((*RUN, "--data", "novel.txt"), "novel.txt"),
    "no such label column": ((*RUN, "--data", "own.csv", *OWN[:3], "mood"), "'mood'", "'text', 'label'"),
    "text column alone": ((*RUN, "--data", "own.csv", *OWN[:2]), "--label-col"),
    "columns without data": ((*RUN, *OWN), "--data"),
    "empty own table": ((*RUN, "--data", "empty.csv", *OWN), "empty.csv"),
    "label outside the task": ((*RUN, "--data", "own.csv", *OWN, "--task", "shared10"), "bliss"),
    "one label": ((*RUN, "--data", "one.csv", *OWN), "'anger'", "two"),
    "too few of every label": ((*RUN, "--data", "few.csv", *OWN), "'a' has 2 and lacks 1", "'e' has 2", "three"),
    "a label that joins two": ((*RUN, "--data", "bar.csv", *OWN, "--label-sep", "none"), "'a|b'", "--map"),
    "no archive": ((*RUN, "--data", "cut.tar.gz"), "cut.tar.gz", "cut short"),
    "no such encoder": ((*RUN, "--encoder", "no-such/encoder"), "no-such/encoder"),
    "a text as an encoder": ((*RUN, "--encoder", LONG), "I am so happy"),
    "a text as a run": ((*RUN, "--out", LONG), "I am so happy"),
    "nobody's encoder": ((*RUN, "--encoder", "~nobody-of-that-name/model"), "~nobody-of-that-name"),
    "no encoder in the folder": ((*RUN, "--encoder", "folder"), "folder", "config.json"),
    "unknown task": ((*RUN, "--task", "happiness"), "'happiness'", "shared10"),
    "no official split": ((*RUN, "--split", "official", "--corpus", "goemotions"), "goemotions", "--split group"),
    "float16 on a CPU": ((*RUN, "--dtype", "float16", "--device", "cpu"), "float16 cannot train on a CPU"),
    "negative seed": ((*RUN, "--seed", "-1"), "seed", "-1"),
    "run onto a file": ((*RUN, "--out", "novel.txt"), "novel.txt is a file"),
    "run already there": ((*RUN, "--out", "finished"), "finished already exists", "--force"),
    "explore another corpus": (("explore", "--corpus", "empathetic", "--data", RATERS), "goemotions_raw.csv"),
    "no such model": (("predict", "hello", "--model", "nowhere"), "nowhere"),
    "model is a file": (("predict", "hello", "--model", "novel.txt"), "novel.txt"),
    "no model of that name": (("predict", "hello", "--model", "goemotions29"), "goemotions29", "goemotions28"),
    "threshold of no label": (("predict", "x", "--model", "tiny", "--threshold", "envy=0.3"), "'envy'", "anger"),
    "threshold outside": (("predict", "x", "--model", "tiny", "--threshold", "1.5"), "1.5", "from 0 to 1"),
    "threshold of words": (("predict", "x", "--model", "tiny", "--threshold", "high"), "'high'", "joy=0.4"),
    "no label at most": (("predict", "x", "--model", "tiny", "--top-k", "0"), "top_k", "not 0"),
    "top-k for a file": (
        ("predict", "--model", "tiny", "--file", "own.csv", "--text-col", "text", "--out", "x.csv", "--top-k", "99"),
        "top_k",
        "99",
    ),
    "no text": (("predict", "--model", "tiny"), "no text"),
    "file of texts not UTF-8": (("predict", "--model", "tiny", "--file", "latin1.txt"), "latin1.txt", "UTF-8"),
    "a text as a file of texts": (("predict", "--model", "tiny", "--file", LONG), "I am so happy"),
    "a text as a model": (("predict", "--model", LONG, "hello"), "I am so happy"),
    "a text as an answer": (("predict", "--model", "tiny", "hello", "--out", LONG), "I am so happy"),
    "no Parquet file": (("predict", "--model", "tiny", "--file", "broken.parquet"), "broken.parquet"),
    "a folder of texts": (("predict", "--model", "tiny", "--file", "folder", "--out", "x.csv"), "folder"),
    "an ending without a format": (("predict", "--model", "tiny", "hello", "--out", "x.json"), "x.json", ".jsonl"),
    "a compressed answer": (("predict", "--model", "tiny", "hello", "--out", "x.csv.gz"), "x.csv.gz", "--format"),
    "an archive of texts": (
        ("predict", "--model", "tiny", "--file", "texts.tar", "--out", "x.csv"),
        "tar archive",
        "unpack",
    ),
    "a pattern at home": (
        ("predict", "--model", "tiny", "--file", "~/nowhere-*.csv", "--out", "x.csv"),
        "nowhere-*.csv",
    ),
    "a text as an evaluated model": (("evaluate", LONG, "--data", "own.csv", *OWN), "I am so happy"),
    "answer below a file": (("predict", "--model", "tiny", "hello", "--out", "novel.txt/x"), "novel.txt/x"),
    "answer onto a folder": (("predict", "--model", "tiny", "hello", "--out", "folder"), "folder"),
    "a pipe of texts": (("predict", "--model", "tiny", "--file", "pipe", "--out", "x.csv"), "pipe is not a file"),
    "answer onto a pipe": (("predict", "--model", "tiny", "hello", "--out", "pipe"), "pipe is not a file"),
    "Parquet to the screen": (("predict", "--model", "tiny", "hello", "--format", "parquet"), "--out"),
    "evaluate a text": (("evaluate", LONG), "I am so happy"),
    "evaluate half a run": (("evaluate", "finished"), "finished is not a run directory"),
    "evaluate, columns without data": (("evaluate", "tiny", *OWN), "--data"),
    "evaluate, no label known": (("evaluate", "tiny", "--data", "few.csv", *OWN), "few"),
}


if not torch.cuda.is_available():
    MISTAKES["no GPU to predict on"] = (("predict", "--model", "tiny", "x", "--device", "cuda"), "a GPU was asked for")
    MISTAKES["no GPU to train on"] = ((*RUN, "--device", "cuda"), "a GPU was asked for")


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence_that_names_it(emo, here, name):
    args, *culprits = MISTAKES[name]
    before = sorted(os.listdir(here))
    code, _, err = emo(*args)
    check_mistake(code, err, culprits)
    assert sorted(os.listdir(here)) == before


def test_lines_on_standard_input_that_are_not_utf8_are_a_mistake_too(emo, tiny):
    code, _, err = emo("predict", "--model", tiny.folder, stdin="caf\xe9\n".encode("latin-1"))
    check_mistake(code, err, ["UTF-8"])
