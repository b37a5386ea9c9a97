"""A saved model on a table of one's own: what is scored, what is left out and said, and what is refused."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers import COMMAND, check_mistake, official_rows, plain, settle, write_official, write_own
from sklearn.metrics import f1_score, precision_recall_fscore_support

from emo_nb import EmotionClassifier
from emo_nb.config import Config
from emo_nb.core import ConfigError, DataError
from emo_nb.rescore import evaluate_run
from emo_nb.run import run
from emo_nb.rundir import open_run

OWN = ("--text", "words", "--label", "mood")
MOODS = ["glad", "glad", "furious", "furious", "down", "curious", "glad|curious", "puzzled", ""]
MAP = {"glad": "positive", "furious": "negative", "down": "negative", "curious": "ambiguous", "never used": "neutral"}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path, tmp_path_factory) -> Path:
    "An empty working directory, and no corpus but the sample."
    settle(monkeypatch, tmp_path_factory.mktemp("no-cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def moods(here) -> Path:
    "A table with other columns and labels than the model's, one row with two labels, one with none; and a map."
    rows = {"words": [f"text {i} of somebody else" for i in range(len(MOODS))], "mood": MOODS}
    pd.DataFrame(rows).to_csv(here / "moods.csv", index=False)
    (here / "map.json").write_text(json.dumps(MAP))
    return here / "moods.csv"


def test_a_foreign_table_is_scored_on_the_rows_whose_labels_the_map_knows(moods, feelings):
    said = []
    table, classifier = evaluate_run(feelings.folder, str(moods), "words", "mood", MAP, False, said.append)
    assert list(table.label) == [*["positive"] * 2, *["negative"] * 3, "ambiguous", "positive|ambiguous"]
    assert set(table.corpus) == {"moods"}
    chosen = dict(zip(classifier.labels, classifier.thresholds, strict=True))
    wanted = ["|".join(label for label in chosen if row[label] >= chosen[label]) for _, row in table.iterrows()]
    assert list(table.predicted) == wanted
    words = " ".join(said)
    assert "9 rows" in words and "1 refused" in words and "no label" in words
    assert "7 of 8 rows have a label that the model knows" in words
    assert "left out, with their rows: puzzled (1)" in words
    assert "labels of the model that no row has: neutral" in words


def test_without_a_map_the_same_names_mean_the_same(here, tiny):
    write_own(here / "own.csv", ("joy", "anger", "bliss"), each=3)
    said = []
    table, _ = evaluate_run(tiny.folder, "own.csv", "text", "label", progress=False, say=said.append)
    assert list(table.label) == ["joy"] * 3 + ["anger"] * 3
    assert "left out, with their rows: bliss (3)" in said


def test_a_run_with_several_labels_a_text_gives_its_predictions_again(feelings):
    table, classifier = evaluate_run(feelings.folder, progress=False, say=lambda line: None)
    assert classifier.multi_label and feelings.predictions.label.str.contains("|", regex=False).any()
    for column in ("corpus", "group", "text", "label"):
        assert list(table[column].astype(str)) == list(feelings.predictions[column])
    assert (table.predicted == feelings.predictions.predicted).mean() > 0.9  # bfloat16 where the machine has it


# The command line from end to end


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    "What the real command makes of the task with several labels, on the built-in sample."
    place = tmp_path_factory.mktemp("commanded")
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, place / "no-cache")
        args = [COMMAND, "run", "--task", "sentiment4", "--profile", "tiny"]
        done = subprocess.run(args, cwd=place, capture_output=True, text=True)
    return done, place / "runs" / "sentiment4-lora-tiny-seed42"


def test_a_task_with_several_labels_runs_from_start_to_end(commanded):
    done, folder = commanded
    assert done.returncode == 0, done.stderr
    made, out = open_run(folder), plain(done.stdout)
    assert made.config["multi_label"] and made.config["origins"] == {"goemotions": "built-in sample"}
    score = made.metrics["goemotions"]
    low, high = score["intervals"]["macro_f1"]
    assert f"goemotions: macro-F1 {score['macro_f1']:.3f} ({low:.3f} to {high:.3f})" in out
    for label, row in score["labels"].items():
        shown = [f"{row[name]:.2f}" for name in ("precision", "recall", "f1")]
        low, high = row["f1_interval"]
        assert f"{label} {' '.join(shown)} {row['support']} " in out and f"{low:.2f} to {high:.2f}" in out
    assert "these figures mean nothing" in out


@pytest.mark.parametrize("form", ["csv", "jsonl", "table"])
def test_its_model_predicts_in_each_format(commanded, emo, form):
    texts = ["Thank you so much", "I hate it", "why?"]
    code, out, err = emo("predict", "--model", commanded[1], "--format", form, *texts)
    assert code == 0, err
    wanted = EmotionClassifier.load(commanded[1]).predict(texts).round(6)
    if form == "table":
        best = [row[["ambiguous", "negative", "neutral", "positive"]].astype(float) for _, row in wanted.iterrows()]
        tops = [" ".join(f"{label} {p:.2f}" for label, p in row.nlargest(3).items()) for row in best]
        assert plain(out) == " ".join(f"{text} {top}" for text, top in zip(texts, tops, strict=True))
        return
    Path("answer").write_text(out)
    found = pd.read_csv("answer", keep_default_na=False) if form == "csv" else pd.read_json("answer", lines=True)
    assert list(found.columns) == ["text", "label", "labels", "ambiguous", "negative", "neutral", "positive"]
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, atol=2e-6)


def test_evaluate_scores_a_table_of_ones_own_says_what_is_left_out_and_writes_json(commanded, moods, emo):
    code, out, err = emo(
        "evaluate", commanded[1], "--data", moods, *OWN, "--map", "map.json", "--out", "new/scores.json"
    )
    assert code == 0, err
    words = plain(out)
    assert "left out, with their rows: puzzled (1)" in words
    assert "labels of the model that no row has: neutral" in words
    found = json.loads(Path("new/scores.json").read_text())["moods"]
    assert f"moods: macro-F1 {found['macro_f1']:.3f}" in words and f"{found['rows']} test rows" in words
    table, _ = evaluate_run(commanded[1], str(moods), "words", "mood", MAP, False, lambda line: None)
    names = ["ambiguous", "negative", "positive"]
    truth, said = ([[name in row.split("|") for name in names] for row in table[c]] for c in ("label", "predicted"))
    assert found["rows"] == 7
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0), abs=1e-4)
    wanted = precision_recall_fscore_support(truth, said, zero_division=0)
    for i, name in enumerate(names):
        row = found["labels"][name]
        assert [row[n] for n in ("precision", "recall", "f1", "support")] == pytest.approx(
            [column[i] for column in wanted], abs=1e-4
        )
    assert set(found["labels"]) == set(names)


def test_a_test_set_of_one_row_is_evaluated(commanded, here, emo):
    (here / "one.csv").write_text("text,label\nI hate it,negative\n")
    code, out, err = emo("evaluate", commanded[1], "--data", "one.csv", "--text", "text", "--label", "label")
    assert code == 0, err
    assert "1 test rows" in plain(out)


def test_an_own_table_with_several_labels_is_told_by_looking(here, emo):
    kinds = ("joy", "love", "joy|love", "fear")
    rows = [{"words": f"sentence {i} of {kind}", "mood": kind} for kind in kinds for i in range(8)]
    pd.DataFrame(rows).to_csv(here / "mine.csv", index=False)
    code, out, err = emo("run", "--profile", "tiny", "--data", "mine.csv", *OWN)
    assert code == 0, err
    assert "8 have several, all of them count" in out
    made = open_run("runs/own-mine-lora-tiny-seed42")
    assert made.config["multi_label"] and made.config["labels"] == ["fear", "joy", "love"]
    assert set(made.predictions.label) == set(kinds)
    code, out, err = emo("predict", "--model", made.folder, "--format", "jsonl", "so glad to see you")
    assert code == 0, err
    answer = json.loads(out)
    chosen = json.loads((made.folder / "model" / "config.json").read_text())["emo_nb_thresholds"]
    assert answer["labels"] == "|".join(label for label in ("fear", "joy", "love") if answer[label] >= chosen[label])


# Data that are thin


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    "A run whose dev lacks a label and whose test is one row, and what it said on the way."
    rows, place, said = official_rows(), tmp_path_factory.mktemp("thin"), []
    rows["dev"] = [row for row in rows["dev"] if not {"6", "7", "22", "26"} & set(row[1].split(","))]
    rows["test"] = rows["test"][:1]
    data = str(write_official(place / "data", rows))
    config = Config(task="sentiment4", profile="tiny", data=data, out=str(place / "run"), progress=False)
    return run(config, say=said.append), said


def test_a_label_that_dev_lacks_is_said_and_takes_a_threshold_from_the_others(thin):
    made, said = thin
    assert (
        "dev has no row labelled ambiguous: its threshold is the one that the model's own probabilities "
        "expect to be best" in said
    )
    chosen = json.loads((made.folder / "model" / "config.json").read_text())["emo_nb_thresholds"]
    others = [p for label, p in chosen.items() if label != "ambiguous"]
    assert min(others) <= chosen["ambiguous"] <= max(others)


def test_a_run_with_one_test_row_ends_well(thin):
    made, _ = thin
    assert made.config["rows"]["test"] == len(made.predictions) == made.metrics["goemotions"]["rows"] == 1
    low, high = made.metrics["goemotions"]["intervals"]["accuracy"]
    assert low == high == made.metrics["goemotions"]["accuracy"]


# Mistakes


@pytest.fixture
def spoilt(here, moods, feelings, tiny):
    "What the mistakes below are made with."
    ambiguous = {"6", "7", "22", "26"}  # confusion, curiosity, realization, surprise
    for part in ("dev", "test"):
        rows = official_rows()
        for other in {"train", "dev", "test"} - {part}:
            rows[other] = [row for row in rows[other] if not ambiguous & set(row[1].split(","))]
        write_official(here / f"only-{part}", rows)
    write_official(here / "no-test", {part: rows for part, rows in official_rows().items() if part != "test"})
    (here / "cut.json").write_text('{"glad": "positive"')
    (here / "list.json").write_text('["glad", "positive"]')
    (here / "numbers.json").write_text('{"glad": 1}')
    (here / "latin1.json").write_bytes('{"fröhlich": "positive"}'.encode("latin-1"))
    (here / "unknown.json").write_text('{"glad": "cheerful"}')
    (here / "beside.json").write_text('{"blissful": "positive"}')
    (here / "empty.json").write_text("{}")
    (here / "feelings").symlink_to(feelings.folder)
    (here / "tiny").symlink_to(tiny.folder)


SENTIMENT = ("run", "--task", "sentiment4", "--profile", "tiny", "--data")
SCORE = ("evaluate", "feelings", "--data", "moods.csv", *OWN)
MISTAKES = {
    "a label that only dev has": ((*SENTIMENT, "only-dev"), "dev has rows labelled ambiguous", "train has none"),
    "a label that only test has": ((*SENTIMENT, "only-test"), "test has rows labelled ambiguous", "train has none"),
    "no test rows": ((*SENTIMENT, "no-test"), "no row is left for test"),
    "a map onto a label that the model lacks": ((*SCORE, "--map", "unknown.json"), "cheerful"),
    "a map of none of the table's labels": ((*SCORE, "--map", "beside.json"), "moods", "glad", "positive", "--map"),
    "an empty map": ((*SCORE, "--map", "empty.json"), "moods", "glad", "positive"),
    "a map that is not whole": ((*SCORE, "--map", "cut.json"), "cut.json", "JSON"),
    "a map that is not UTF-8": ((*SCORE, "--map", "latin1.json"), "latin1.json", "JSON"),
    "a map that is a list": ((*SCORE, "--map", "list.json"), "list.json holds no JSON object; write it like"),
    "a map onto numbers": ((*SCORE, "--map", "numbers.json"), "numbers.json is no map"),
    "no such map": ((*SCORE, "--map", "nowhere.json"), "nowhere.json"),
    "a folder as a map": ((*SCORE, "--map", "only-dev"), "only-dev"),
    "a map without a table": (("evaluate", "feelings", "--map", "map.json"), "map", "--data", "--text-col"),
    "no map where one is needed": (SCORE, "moods", "glad", "ambiguous", "--map"),
    "half a table": (("evaluate", "feelings", "--data", "moods.csv", "--text", "words"), "--label-col"),
    "no such column": ((*SCORE[:-1], "feeling", "--map", "map.json"), "'feeling'", "words, mood"),
    "scores onto a folder": ((*SCORE, "--map", "map.json", "--out", "only-dev"), "only-dev"),
    "a corpus that the task has no map for": ((*SENTIMENT[:-1], "--corpus", "empathetic"), "sentiment4", "empathetic"),
    "a map and a table without columns": (
        ("evaluate", "tiny", "--data", "moods.csv", "--map", "map.json"),
        "--text-col",
    ),
}


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence_that_names_it(emo, here, name):
    args, *culprits = MISTAKES[name]
    before = sorted(here.iterdir())
    code, _, err = emo(*args)
    check_mistake(code, err, culprits)
    assert sorted(here.iterdir()) == before


def test_the_same_mistakes_are_errors_of_the_package_in_python(feelings, moods):
    for label_map, kind in (({"glad": "cheerful"}, ConfigError), ({"bliss": "positive"}, DataError)):
        with pytest.raises(kind) as caught:
            evaluate_run(feelings.folder, str(moods), "words", "mood", label_map, False, lambda line: None)
        assert "\n" not in str(caught.value)
