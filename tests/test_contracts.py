"""What is written can be read again; what is damaged, foreign or of a newer version is refused in one sentence."""

import json
import os
import random
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import check_mistake, python, settle

import emo_nb
from emo_nb.config import Config
from emo_nb.contracts import SCHEMA, Provenance, RunRecord, Scores, TidyFrame, fields_of
from emo_nb.core import ConfigError, DataError, EmoNbError, ModelError, SourceError
from emo_nb.corpora import COLUMNS, check_tidy, load
from emo_nb.explore import explore
from emo_nb.prepare import balance, label_for, split
from emo_nb.results import beside_published, result
from emo_nb.rundir import open_run, utc_now
from emo_nb.taxonomy import TASKS, task_named

ROOT = Path(__file__).resolve().parent.parent
FUZZ = int(os.environ.get("FUZZ", "0")) // 50 or 150
NEWER = f"newer emo_nb (version {SCHEMA + 1}; this one knows {SCHEMA}); update emo_nb"
ODD = (None, "", "x", "42", -1, 0, 1.5, True, [], ["x"], {}, {"x": 1}, float("nan"), 10**400, "\ud800", "a\nb")


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch, tmp_path_factory):
    settle(monkeypatch, tmp_path_factory.mktemp("no-cache"))


def one_sentence(error: EmoNbError, *culprits: object) -> None:
    "One line, of a length that people read, which names the culprits and nothing of pydantic's."
    words = str(error)
    assert "\n" not in words and len(words.encode(errors="replace")) < 600
    assert "pydantic" not in words and "validation error" not in words
    assert not [culprit for culprit in culprits if str(culprit) not in words], words


@pytest.fixture
def copied(tiny, tmp_path) -> Path:
    "A run directory to spoil, without its weights."
    return shutil.copytree(tiny.folder, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors", "*.png"))


def change(file: Path, **fields) -> None:
    "Other values for some keys of a JSON file; those that are None vanish."
    said = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in said.items() if key not in fields or value is not None}))


# Run directories


def test_a_run_says_its_version_and_is_opened_as_it_was_written(tiny):
    config, found = (json.loads((tiny.folder / name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["schema"] == found.pop("schema") == SCHEMA
    again = open_run(tiny.folder)
    assert (again.config, again.metrics) == (config, found)
    assert set(found) == {"goemotions", "empathetic", "all"}
    assert set(fields_of(RunRecord).index) <= set(config)


def test_a_run_without_a_version_is_read_where_it_holds_what_is_needed(copied, tiny):
    for name in ("config.json", "metrics.json"):
        change(copied / name, schema=None)
    change(copied / "config.json", memory_mb=None, origins=None, processes=None)
    again = open_run(copied)
    assert again.metrics == tiny.metrics
    assert again.config["files"] == tiny.config["files"]
    pd.testing.assert_frame_equal(again.predictions, tiny.predictions)


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_run_of_a_newer_emo_nb_is_refused_by_its_version(copied, name, emo):
    change(copied / name, schema=SCHEMA + 1)
    code, _, err = emo("evaluate", copied)
    check_mistake(code, err, [str(copied / name), NEWER])


NEEDED = [name for name, row in fields_of(RunRecord).iterrows() if row.needed == "yes"]


@pytest.mark.parametrize("field", NEEDED)
def test_a_field_that_is_missing_from_a_run_is_named(copied, field):
    change(copied / "config.json", **{field: None})
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, copied / "config.json", f"{field} is missing", "make it again")


WRONG = {
    "a seed in words": ("config.json", {"seed": "42"}, "seed should be a valid integer, not '42'"),
    "labels that are one string": ("config.json", {"labels": "joy|anger"}, "labels should be a valid list"),
    "one label": ("config.json", {"labels": ["joy"]}, "labels: list should have at least 2 items"),
    "a label without a name": ("config.json", {"labels": ["joy", " "]}, "labels[1]"),
    "files as a list": ("config.json", {"files": ["train.csv"]}, "files should be a valid dictionary"),
    "no threads": ("config.json", {"hardware": {"processor": "x", "threads": 0, "gpu": None}}, "hardware.threads"),
    "a cold model": ("config.json", {"calibration": {"temperature": 0}}, "calibration.temperature"),
    "a version in words": ("config.json", {"schema": "one"}, "schema should be a valid integer"),
    "a corpus that is a number": ("metrics.json", {"all": 0.5}, "corpora.all should be"),
    "a corpus without scores": ("metrics.json", {"all": {}}, "corpora.all.macro_f1 is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_field_of_a_wrong_type_is_named_with_what_stands_there(copied, what):
    name, changes, words = WRONG[what]
    change(copied / name, **changes)
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, copied / name, words, "make it again")


DEEP = b'{"a":' * 100_000
JSON_DAMAGE = {
    "empty": b"",
    "cut": b'{"task": "own", "fi',
    "no text": b"\xff\xfe\x00",
    "without end": DEEP,
    "a list": b"[1]",
    "null": b"null",
    "a number of many digits": b'{"seed": 1' + b"0" * 10_000 + b"}",
}


@pytest.mark.parametrize("what", JSON_DAMAGE)
@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_damaged_json_file_of_a_run_is_named(copied, name, what):
    (copied / name).write_bytes(JSON_DAMAGE[what])
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, copied / name, "make it again")


TABLE_DAMAGE = {
    "empty": lambda words: b"",
    "header only": lambda words: words.split(b"\n")[0] + b"\n",
    "no text": lambda words: b"\xff\xfe\x00" + words,
    "no header": lambda words: b"\n".join(words.split(b"\n")[1:]),
    "a broken quote": lambda words: words + b'"joy,\n',
    "rows too long": lambda words: words + b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22\n",
    "a row cut": lambda words: words[:-40],
    "words for numbers": lambda words: words.replace(b"0.", b"none."),
    "a share above one": lambda words: words.replace(b",0.", b",7."),
    "another table": lambda words: b"a,b\n1,2\n",
    "zeros": lambda words: bytes(len(words)),
}


@pytest.mark.parametrize("what", TABLE_DAMAGE)
@pytest.mark.parametrize("name", ["predictions.csv", "scores.csv"])
def test_a_damaged_table_of_a_run_is_named(copied, name, what):
    file = copied / name
    file.write_bytes(TABLE_DAMAGE[what](file.read_bytes()))
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, file, "make it again")


def test_a_folder_in_place_of_a_table_and_a_label_without_its_column_are_named(copied):
    table = pd.read_csv(copied / "predictions.csv", keep_default_na=False)
    table.drop(columns="joy").to_csv(copied / "predictions.csv", index=False)
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, "predictions.csv", "'joy'")
    (copied / "scores.csv").unlink()
    (copied / "scores.csv").mkdir()
    table.to_csv(copied / "predictions.csv", index=False)
    with pytest.raises(ModelError) as caught:
        open_run(copied)
    one_sentence(caught.value, "scores.csv")


def places(value, at=()):
    "The path to every value in a JSON value."
    yield at
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in steps:
        yield from places(one, (*at, step))


def mutated(value, rng):
    "The JSON value with something taken away, or something odd in one place."
    value = json.loads(json.dumps(value))
    *path, last = rng.choice([at for at in places(value) if at])
    holder = value
    for step in path:
        holder = holder[step]
    if rng.random() < 0.3:
        del holder[last]
    else:
        holder[last] = rng.choice(ODD)
    return value


def test_a_run_with_anything_changed_is_opened_or_refused_by_an_error_of_the_package(copied, tried):
    rng, refused = random.Random(1), 0
    for name in ("config.json", "metrics.json"):
        whole = json.loads((copied / name).read_text())
        for _ in range(FUZZ):
            (copied / name).write_text(json.dumps(mutated(whole, rng)))
            try:
                open_run(copied)
            except ModelError as error:
                one_sentence(error, copied)
                refused += 1
        (copied / name).write_text(json.dumps(whole))
    assert refused > FUZZ / 4
    open_run(copied)
    tried("changed run records", 2 * FUZZ)


def test_a_part_folder_with_damaged_settings_is_refused_and_force_begins_anew(here, emo):
    part = here / "run.part"
    part.mkdir()
    for said in (b'{"seed": 4', b"[]", DEEP):
        (part / "settings.json").write_bytes(said)
        code, _, err = emo("run", "--profile", "tiny", "--out", "run")
        check_mistake(code, err, [str(part / "settings.json"), "--force"])


# Result files


@pytest.fixture
def results(monkeypatch, tmp_path) -> Path:
    "A copy of the results, which `result` finds first."
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(ROOT / "results", tmp_path / "results")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "results").glob("*.json")))
def test_every_result_of_the_project_keeps_to_its_schema(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert result(name) == json.loads((ROOT / "results" / f"{name}.json").read_text())


def test_a_result_that_is_written_now_has_a_version_and_is_read(tiny, results, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    experiments = __import__("experiments")
    monkeypatch.setattr(experiments, "RESULTS", results)
    experiments.write("mine", {"runs": {"tiny": experiments.kept(tiny)}}, utc_now())
    found = result("mine")
    assert found["schema"] == SCHEMA
    assert found["runs"]["tiny"]["metrics"] == tiny.metrics
    change(results / "mine.json", schema=None)
    assert result("mine") == {key: value for key, value in found.items() if key != "schema"}


SPOILT = {
    "newer": ("leaks", {"schema": SCHEMA + 1}, NEWER),
    "no machine": ("leaks", {"hardware": None}, "hardware is missing"),
    "seconds in words": ("leaks", {"seconds": "many"}, "seconds should be a valid number, not 'many'"),
    "a run without a seed": ("splits", {"runs": {"group": {}}}, "runs.group."),
    "no baselines": ("ekman7", {"baselines": None}, "baselines is missing"),
    "rounds of a bench": ("bench_train", {"rounds": 0}, "rounds should be greater"),
    "measures of a bench": ("bench_train", {"found": {"8": {"emo_nb": {"seconds": 1.5}}}}, "found.8.emo_nb.seconds"),
    "a published score": ("published", {"models": [{"task": "ekman7"}]}, "models[0].model is missing"),
    "nothing published": ("published", {"models": []}, "models: list should have at least 1 item"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_result_that_does_not_keep_to_its_schema_is_refused(results, what):
    name, changes, words = SPOILT[what]
    change(results / f"{name}.json", **changes)
    with pytest.raises(DataError) as caught:
        result(name)
    one_sentence(caught.value, results / f"{name}.json", words)


@pytest.mark.parametrize("what", JSON_DAMAGE)
def test_a_damaged_result_is_named(results, what):
    (results / "leaks.json").write_bytes(JSON_DAMAGE[what])
    with pytest.raises(DataError) as caught:
        result("leaks")
    one_sentence(caught.value, results / "leaks.json", "make results")


def test_a_result_with_anything_changed_is_read_or_refused_by_an_error_of_the_package(results, tried):
    rng, refused = random.Random(2), 0
    for name in ("ekman7", "splits", "bench_train", "published"):
        whole = json.loads((results / f"{name}.json").read_text())
        for _ in range(FUZZ // 4):
            (results / f"{name}.json").write_text(json.dumps(mutated(whole, rng)))
            try:
                result(name)
            except DataError as error:
                one_sentence(error, name)
                refused += 1
    assert refused > FUZZ / 4
    tried("changed result files", FUZZ // 4 * 4)


def test_a_task_that_nobody_published_scores_for_is_refused_by_name(results):
    with pytest.raises(ConfigError) as caught:
        beside_published("shared10")
    one_sentence(caught.value, "'shared10'", "goemotions28")


# The tidy frame


def test_what_is_read_is_tidy_and_still_is_after_a_day_in_a_parquet_file(tmp_path):
    for corpus in ("goemotions", "goemotions-raw", "empathetic"):
        frame = load(corpus).frame
        check_tidy(frame)
        assert frame.attrs["schema"] == SCHEMA
    frame.to_parquet(tmp_path / "frame.parquet")
    again = pd.read_parquet(tmp_path / "frame.parquet")
    assert again.attrs["schema"] == SCHEMA
    with pytest.raises(DataError) as caught:
        label_for(again, TASKS["empathetic32"])
    one_sentence(caught.value, "labels[0] should be a valid tuple")
    again["labels"] = again.labels.map(tuple)
    wanted = label_for(frame, TASKS["empathetic32"])
    found = label_for(again, TASKS["empathetic32"])
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)  # pandas 3 reads words as str


@pytest.mark.parametrize("column", COLUMNS)
def test_a_frame_without_a_column_is_no_tidy_frame(column):
    with pytest.raises(DataError) as caught:
        label_for(load("empathetic").frame.drop(columns=column), TASKS["shared10"])
    one_sentence(caught.value, f"{column} is missing")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("text", None, "text[3] should be a valid string, not None"),
        ("text", " \n", "text[3]"),
        ("labels", "joy", "labels[3] should be a valid tuple, not 'joy'"),
        ("labels", (7,), "labels[3][0] should be a valid string, not 7"),
        ("perspective", "god", "perspective[3] should be 'author' or 'reader', not 'god'"),
        ("role", None, "role[3]"),
        ("group", 3.0, "group[3]"),
        ("split", "training", "split[3] should be 'train', 'dev' or 'test', not 'training'"),
    ],
)
def test_an_entry_that_does_not_belong_is_named_with_its_row(column, value, words):
    frame = load("empathetic").frame
    entries = frame[column].astype(object)
    entries.iat[3] = value
    with pytest.raises(DataError) as caught:
        label_for(frame.assign(**{column: entries}), TASKS["shared10"])
    one_sentence(caught.value, words)


def test_a_tidy_frame_of_a_newer_emo_nb_is_refused_and_one_without_a_version_is_read():
    frame = load("empathetic").frame
    frame.attrs = {"schema": SCHEMA + 1}
    with pytest.raises(DataError) as caught:
        label_for(frame, TASKS["shared10"])
    one_sentence(caught.value, NEWER)
    frame.attrs = {}
    assert len(label_for(frame, TASKS["shared10"])) > 50


@pytest.mark.corpora
def test_the_real_corpora_are_tidy(corpora_dir):
    for name in ("empatheticdialogues.tar.gz", "goemotions"):
        for unit in ("utterance", "dialogue"):
            check_tidy(load("goemotions" if name == "goemotions" else "empathetic", corpora_dir / name, unit).frame)


# Settings and names


ODDER = (*ODD, b"x", Path("x"), np.int64(3), pd.Series(["x"]), object(), {"a"}, lambda: 1)


@pytest.mark.parametrize("field", [field.name for field in fields(Config)])
def test_a_setting_of_any_type_is_refused_by_name_or_can_be_written_down(field):
    for value in ODDER:
        try:
            config = Config(**{field: value})
        except ConfigError as error:
            one_sentence(error)
        else:
            assert Config(**json.loads(json.dumps(asdict(config)))) == config


def test_a_task_is_named_by_a_name():
    for name in ODD:
        with pytest.raises(ConfigError) as caught:
            task_named(name)
        one_sentence(caught.value, "shared10")


def test_the_errors_are_at_hand_in_the_package_and_cost_nothing():
    kinds = {name for name in emo_nb.__all__ if name.endswith("Error")}
    assert kinds == {kind.__name__ for kind in (EmoNbError, *family(EmoNbError))}
    loaded = python("from emo_nb import EmoNbError, ModelError; import sys; print(*sys.modules)").split()
    assert not {"torch", "pandas", "numpy", "pydantic"} & set(loaded)
    assert issubclass(emo_nb.UnreachableError, SourceError) and emo_nb.EmoNbError is EmoNbError


def family(kind: type) -> set[type]:
    "All kinds of an error."
    return {one for child in kind.__subclasses__() for one in (child, *family(child))}


@pytest.mark.parametrize("model", [TidyFrame, Provenance, RunRecord, Scores])
def test_the_schema_for_readers_says_what_each_field_means(model):
    table = fields_of(model)
    assert len(table) == len(model.model_fields) and not table.index.duplicated().any()
    described = table.meaning.str.len() > 0
    assert described.mean() > 0.5 and not table.type.str.contains(r"\.\w|Optional|NoneType").any()


# Paths that are none, and rows from another place

LONG = "I am so happy that I could tell everybody about it, " * 8


@pytest.mark.parametrize(
    "args",
    [
        ("predict", "--model", LONG, "hello"),
        ("predict", "--model", "{tiny}", "--file", LONG),
        ("predict", "--model", "{tiny}", "hello", "--out", LONG),
        ("evaluate", LONG),
        ("run", "--profile", "tiny", "--encoder", LONG),
        ("run", "--profile", "tiny", "--out", LONG),
        ("run", "--profile", "tiny", "--encoder", "~nobody-of-that-name/model"),
    ],
)
def test_a_text_where_a_path_belongs_is_a_mistake_like_any_other(here, emo, tiny, args):
    code, _, err = emo(*(arg.format(tiny=tiny.folder) for arg in args))
    check_mistake(code, err, ["I am so happy" if LONG in args else "~nobody-of-that-name"])
    assert not list(here.iterdir())


def test_a_message_stays_in_one_line_whatever_it_quotes(tmp_path):
    with pytest.raises(ModelError) as caught:
        open_run(tmp_path / "first\nsecond\u2028third")
    one_sentence(caught.value, "first second third")


def test_rows_that_have_no_labels_of_a_task_are_told_where_to_get_them():
    frame = load("empathetic").frame
    for step, column in ((split, "'targets'"), (balance, "'label'")):
        with pytest.raises(DataError) as caught:
            step(frame)
        one_sentence(caught.value, column, "label_for")


def test_explore_takes_a_tidy_frame_and_the_name_of_a_folder(tmp_path):
    frame = load("empathetic").frame
    explore(frame, str(tmp_path / "out"))
    assert (tmp_path / "out" / "label_counts.csv").is_file()
    with pytest.raises(DataError) as caught:
        explore(frame.drop(columns="labels"), tmp_path / "other")
    one_sentence(caught.value, "labels is missing")
    assert not (tmp_path / "other").exists()
