"""A saved model on a table of one's own: what is scored, what is left out and said, and what is refused."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from helpers import change_json, check_mistake, official_rows, plain, write_official, write_own
from test_foreign_models import small

from emo_nb import Config, evaluate_run, open_run, run_experiment
from emo_nb.evaluate import compute_metrics

OWN = ("--text", "words", "--label", "mood")
MOODS = ["glad", "glad", "furious", "furious", "down", "curious", "glad|curious", "puzzled", "[]"]
MAP = {"glad": "positive", "furious": "negative", "down": "negative", "curious": "ambiguous", "never used": "neutral"}
AMBIGUOUS = {"6", "7", "22", "26"}  # confusion, curiosity, realization, surprise


@pytest.fixture(autouse=True)
def in_empty_folder(here, caplog):
    caplog.set_level(logging.INFO, "emo_nb")


@pytest.fixture
def moods(here) -> Path:
    "A table with other columns and labels than the model's, one row with two labels, one with none; and a map."
    rows = {"words": [f"text {i} of somebody else" for i in range(len(MOODS))], "mood": MOODS}
    pd.DataFrame(rows).to_csv(here / "moods.csv", index=False)
    (here / "map.json").write_text(json.dumps(MAP))
    return here / "moods.csv"


def reached(table, thresholds) -> list[str]:
    "The labels of each row that reach their threshold."
    return ["|".join(label for label in thresholds if row[label] >= thresholds[label]) for _, row in table.iterrows()]


def test_a_table_of_ones_own_is_scored_on_the_rows_whose_labels_the_map_knows(moods, feelings, caplog):
    table, classifier = evaluate_run(feelings.folder, str(moods), "words", "mood", MAP, show_progress_bar=False)
    assert list(table.label) == [*["positive"] * 2, *["negative"] * 3, "ambiguous", "positive|ambiguous", ""]
    assert set(table.corpus) == {"moods"}
    assert list(table.predicted) == reached(table, dict(zip(classifier.labels, classifier.thresholds, strict=True)))
    assert "9 rows" in caplog.text and "0 refused" in caplog.text and "rows without a label: 1" in caplog.text
    assert "7 of 9 rows have a label that the model knows" in caplog.messages
    assert "labels that are left out: puzzled (1); rows that have no other and are left out: 1" in caplog.messages
    assert "labels of the model that no row has: neutral" in caplog.messages


def test_without_a_map_the_same_names_mean_the_same(here, tiny, caplog):
    write_own(here / "own.csv", ("joy", "anger", "bliss"), each=3)
    table, _ = evaluate_run(tiny.folder, "own.csv", "text", "label", show_progress_bar=False)
    assert list(table.label) == ["joy"] * 3 + ["anger"] * 3
    assert "labels that are left out: bliss (3); rows that have no other and are left out: 3" in caplog.messages


def test_a_model_of_the_package_is_scored_on_a_table_or_on_the_test_rows_of_a_corpus(moods, official, caplog):
    table, classifier = evaluate_run("sentiment4", str(moods), "words", "mood", MAP, show_progress_bar=False)
    assert set(table.corpus) == {"moods"} and len(table) == 8
    table, _ = evaluate_run("sentiment4", str(official), show_progress_bar=False)
    assert len(table) == sum(line.split("\t")[1] != "" for line in (official / "test.tsv").read_text().splitlines())
    assert compute_metrics(table, classifier.labels, classifier.thresholds)["goemotions"]["macro_f1"] > 0.5
    assert "the test rows are scored" in caplog.text


def test_a_model_of_one_label_is_scored_on_a_table(here):
    folder = small(here / "one", "bert", num_labels=1, id2label={0: "joy"}, label2id={"joy": 0})
    change_json(folder / "config.json", problem_type="multi_label_classification")
    (here / "own.csv").write_text('text,label\nso glad,"[""joy""]"\nso sad,[]\nhm,[]\nhooray,"[""joy""]"\n')
    table, classifier = evaluate_run(folder, "own.csv", "text", "label", show_progress_bar=False)
    assert classifier.labels == ["joy"] and len(table) == 4


def test_the_command_prints_the_scores_says_what_is_left_out_and_writes_json(feelings, moods, emo):
    code, out, err = emo("evaluate", feelings.folder, "--data", moods, *OWN, "--map", "map.json", "--out", "new/s.json")
    assert code == 0, err
    metrics = json.loads(Path("new/s.json").read_text())["moods"]
    assert "labels that are left out: puzzled (1); rows that have no other and are left out: 1" in plain(out)
    assert f"moods: macro-F1 {metrics['macro_f1']:.3f}" in plain(out) and "8 test rows" in plain(out)
    table, classifier = evaluate_run(feelings.folder, str(moods), "words", "mood", MAP, show_progress_bar=False)
    assert metrics == compute_metrics(table, classifier.labels, classifier.thresholds)["moods"]


def test_a_task_with_several_labels_runs_from_start_to_end(emo):
    code, out, err = emo("run", "--task", "sentiment4", "--preset", "tiny")
    assert code == 0, err
    run = open_run("runs/sentiment4-lora-tiny-seed42")
    assert run.config["multi_label"] and run.config["origins"] == {"goemotions": "built-in sample"}
    score = run.metrics["goemotions"]
    low, high = score["intervals"]["macro_f1"]
    assert f"goemotions: macro-F1 {score['macro_f1']:.3f} ({low:.3f} to {high:.3f})" in plain(out)
    for label, row in score["labels"].items():
        assert f"{label} {row['precision']:.2f} {row['recall']:.2f} {row['f1']:.2f} {row['support']} " in plain(out)
    assert "these figures mean nothing" in out
    Path("one.csv").write_text("text,label\nI hate it,negative\n")
    code, out, err = emo("evaluate", run.folder, "--data", "one.csv", "--text", "text", "--label", "label")
    assert code == 0, err
    assert "1 test rows" in plain(out)


def test_a_table_of_ones_own_with_several_labels_is_recognised(here, emo):
    kinds = ("joy", "love", "joy|love", "fear")
    rows = [{"words": f"sentence {i} of {kind}", "mood": kind} for kind in kinds for i in range(8)]
    pd.DataFrame(rows).to_csv(here / "mine.csv", index=False)
    code, out, err = emo("run", "--preset", "tiny", "--data", "mine.csv", *OWN)
    assert code == 0, err
    assert "8 of them have several: all of them are kept" in out
    run = open_run("runs/custom-mine-lora-tiny-seed42")
    assert run.config["multi_label"] and run.config["labels"] == ["fear", "joy", "love"]
    assert set(run.predictions.label) == set(kinds)
    code, out, err = emo("predict", "--model", run.folder, "--format", "jsonl", "so glad to see you")
    assert code == 0, err
    thresholds = json.loads((run.folder / "model" / "config.json").read_text())["emo_nb_thresholds"]
    answer = json.loads(out)
    assert [answer["labels"]] == reached(pd.DataFrame([answer]), thresholds)


def test_a_label_that_dev_lacks_and_a_test_of_one_row_are_enough_for_a_run(here, caplog):
    rows = official_rows()
    rows["dev"] = [row for row in rows["dev"] if not AMBIGUOUS & set(row[1].split(","))]
    places = {"data": write_official(here / "data", {**rows, "test": rows["test"][:1]}), "out": here / "run"}
    run = run_experiment(Config.from_preset("tiny", task="sentiment4", show_progress_bar=False, **places))
    assert "dev has no row labelled ambiguous: its threshold is the one that the model's own" in caplog.text
    thresholds = json.loads((run.folder / "model" / "config.json").read_text())["emo_nb_thresholds"]
    others = [p for label, p in thresholds.items() if label != "ambiguous"]
    assert min(others) <= thresholds["ambiguous"] <= max(others)
    scores = run.metrics["goemotions"]
    assert run.config["rows"]["test"] == len(run.predictions) == scores["rows"] == 1
    assert scores["intervals"]["accuracy"] == [scores["accuracy"]] * 2


# Mistakes


@pytest.fixture
def spoilt(here, moods, feelings):
    "What the mistakes below are made with."
    for split in ("dev", "test"):
        rows = official_rows()
        for other in {"train", "dev", "test"} - {split}:
            rows[other] = [row for row in rows[other] if not AMBIGUOUS & set(row[1].split(","))]
        write_official(here / f"only-{split}", rows)
    write_official(here / "no-test", {split: rows for split, rows in official_rows().items() if split != "test"})
    maps = {
        "unknown": '{"glad": "cheerful"}',
        "beside": '{"blissful": "positive"}',
        "list": "[]",
        "numbers": '{"glad": 1}',
    }
    for name, content in maps.items():
        (here / f"{name}.json").write_text(content)
    (here / "feelings").symlink_to(feelings.folder)


TRAIN = ("run", "--task", "sentiment4", "--preset", "tiny", "--data")
SCORE = ("evaluate", "feelings", "--data", "moods.csv", *OWN)
MISTAKES = {
    "a label that only dev has": ((*TRAIN, "only-dev"), "dev has rows labelled ambiguous", "train has none"),
    "a label that only test has": ((*TRAIN, "only-test"), "test has rows labelled ambiguous", "train has none"),
    "no test rows": ((*TRAIN, "no-test"), "no row is left for test"),
    "a map onto a label that the model lacks": ((*SCORE, "--map", "unknown.json"), "cheerful"),
    "a map of none of the table's labels": ((*SCORE, "--map", "beside.json"), "moods", "glad", "positive", "--map"),
    "no map where one is needed": (SCORE, "moods", "glad", "ambiguous", "--map"),
    "a map that is a list": ((*SCORE, "--map", "list.json"), "list.json does not hold a JSON object; write it like"),
    "a map onto numbers": ((*SCORE, "--map", "numbers.json"), "numbers.json does not map labels to labels"),
    "a map without a table": (("evaluate", "feelings", "--map", "map.json"), "map", "--data", "--text-col"),
    "no such column": ((*SCORE[:-1], "feeling", "--map", "map.json"), "'feeling'", "'words', 'mood'"),
    "scores onto a folder": ((*SCORE, "--map", "map.json", "--out", "only-dev"), "only-dev"),
    "other data than the run's": (
        ("evaluate", "feelings", "--data", "only-dev"),
        "not those that feelings was made of",
    ),
    "a corpus that the task has no map for": ((*TRAIN[:-1], "--corpus", "empathetic"), "sentiment4", "empathetic"),
}


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence_that_names_it(emo, here, name):
    args, *culprits = MISTAKES[name]
    before = sorted(here.iterdir())
    code, _, err = emo(*args)
    check_mistake(code, err, culprits)
    assert sorted(here.iterdir()) == before
