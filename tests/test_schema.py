"""What is written can be read again; what is damaged, foreign or of a newer version is refused in one sentence."""

import json
import os
import random
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import change_json, check_mistake, check_sentence, refusal

from emo_nb.config import Config, TrainConfig
from emo_nb.core import ConfigError, DataError, ModelError
from emo_nb.corpora import COLUMNS, check_tidy, load_corpus
from emo_nb.explore import explore_corpus
from emo_nb.io.schema import SCHEMA_VERSION, RunRecord
from emo_nb.prepare import balance, map_labels, split_rows
from emo_nb.report import open_run
from emo_nb.study.results import BENCH_KINDS, load_bench, load_result
from emo_nb.taxonomy import TASKS

ROOT = Path(__file__).resolve().parent.parent
FUZZ = int(os.environ.get("FUZZ", "0")) // 50 or 150
NEWER = f"newer emo_nb (version {SCHEMA_VERSION + 1}; this one knows {SCHEMA_VERSION}); update emo_nb"
ODD = (None, "", "x", "42", -1, 0, 1.5, True, [], ["x"], {}, {"x": 1}, float("nan"), 10**400, "\ud800", "a\nb")

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def copied(tiny, tmp_path) -> Path:
    "A run directory to spoil, without its weights."
    return shutil.copytree(tiny.folder, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors", "*.png"))


@pytest.fixture
def results(monkeypatch, tmp_path) -> Path:
    "A copy of the results, which `load_result` finds first."
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(ROOT / "results", tmp_path / "results")


# Run directories


def test_a_run_says_its_version_and_is_opened_as_it_was_written(tiny, copied):
    config, metrics = (json.loads((tiny.folder / name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["schema"] == metrics.pop("schema") == SCHEMA_VERSION
    run = open_run(tiny.folder)
    assert (run.config, run.metrics) == (config, metrics)
    assert set(metrics) == {"goemotions", "empathetic", "all"}
    assert {field.alias or name for name, field in RunRecord.model_fields.items()} <= set(config)
    # without a version, it is read where it holds what is needed
    for name in ("config.json", "metrics.json"):
        change_json(copied / name, schema=None)
    change_json(copied / "config.json", memory_mb=None, origins=None, processes=None, preset=None)
    run = open_run(copied)
    assert (run.metrics, run.config["files"]) == (metrics, config["files"])
    pd.testing.assert_frame_equal(run.predictions, tiny.predictions)


def test_a_run_of_a_newer_emo_nb_is_refused_by_its_version(copied, emo):
    for name in ("metrics.json", "config.json"):
        change_json(copied / name, schema=SCHEMA_VERSION + 1)
        code, _, err = emo("evaluate", copied)
        check_mistake(code, err, [str(copied / name), NEWER])


REQUIRED = [field.alias or name for name, field in RunRecord.model_fields.items() if field.is_required()]
CHANGED = [
    ("run/config.json", {"seed": "42"}, "seed should be a valid integer, not '42'"),
    ("run/config.json", {"labels": ["joy"]}, "labels: list should have at least 2 items"),
    ("run/metrics.json", {"all": {}}, "corpora.all.macro_f1 is missing"),
    *(("run/config.json", {name: None}, f"{name} is missing") for name in REQUIRED),
    ("results/leaks.json", {"schema": SCHEMA_VERSION + 1}, NEWER),
    ("results/leaks.json", {"hardware": None}, "hardware is missing"),
    ("results/splits.json", {"runs": {"group": {}}}, "runs.group."),
    ("results/ekman7.json", {"baselines": None}, "baselines is missing"),
    ("results/bench/avx512-bf16/train.json", {"found": {"8": {"emo_nb": {"seconds": 1.5}}}}, "found.8.emo_nb.seconds"),
    ("results/published.json", {"models": []}, "models: list should have at least 1 item"),
]


def read(file: Path):
    "The run or the result that a file belongs to."
    name = file.parts[file.parts.index("results") + 1 :] if "results" in file.parts else ()
    return load_result("/".join(name).removesuffix(".json")) if name else open_run(file.parent)


@pytest.mark.parametrize(("name", "changes", "words"), CHANGED)
def test_a_field_that_is_missing_or_of_a_wrong_type_is_named(copied, results, tmp_path, name, changes, words):
    change_json(tmp_path / name, **changes)
    with refusal((ModelError, DataError), tmp_path / name, words):
        read(tmp_path / name)


DEEP = b'{"a":' * 100_000
JSON_DAMAGE = [b"", b'{"task": "own", "fi', b"\xff\xfe\x00", DEEP, b"[1]", b'{"seed": 1' + b"0" * 10_000 + b"}"]
TABLE_DAMAGE = [
    lambda data: b"",
    lambda data: data.split(b"\n")[0] + b"\n",  # the header only
    lambda data: b"\n".join(data.split(b"\n")[1:]),  # no header
    lambda data: b"\xff\xfe\x00" + data,
    lambda data: data[:-40],
    lambda data: data.replace(b"0.", b"none."),
    lambda data: data.replace(b",0.", b",7."),  # shares above one
    lambda data: b"a,b\n1,2\n",
]


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "predictions.csv", "scores.csv", "leaks.json"])
def test_a_damaged_file_is_named(copied, results, name):
    file = (results if name == "leaks.json" else copied) / name
    whole = file.read_bytes()
    for damage in TABLE_DAMAGE if name.endswith("csv") else JSON_DAMAGE:
        file.write_bytes(damage(whole) if callable(damage) else damage)
        with refusal((ModelError, DataError), file, "make it again" if file.parent == copied else "make results"):
            read(file)
    file.unlink()
    file.mkdir()
    with refusal((ModelError, DataError), name):
        read(file)


def mutated(value, rng):
    "The JSON value with something taken away, or something odd in one place."
    if not value or not isinstance(value, dict | list) or rng.random() < 0.1:
        return rng.choice(ODD)
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(value, dict) and rng.random() < 0.2:
        return {name: one for name, one in value.items() if name != key}
    items = value.copy()
    items[key] = mutated(value[key], rng)
    return items


def test_a_record_with_anything_changed_is_read_or_refused_by_an_error_of_the_package(copied, results, tried):
    rng = random.Random(1)
    files = [copied / "config.json", copied / "metrics.json"]
    files += [results / f"{name}.json" for name in ("ekman7", "splits", "bench/avx512-bf16/train", "published")]
    for file in files:
        whole, refused = json.loads(file.read_text()), 0
        for _ in range(FUZZ):
            file.write_text(json.dumps(mutated(whole, rng)))
            try:
                read(file)
            except (ModelError, DataError) as error:
                check_sentence(error, file.parent)
                refused += 1
        assert refused > FUZZ / 10, file
        file.write_text(json.dumps(whole))
        read(file)
    tried("changed records", len(files) * FUZZ)


def test_a_part_folder_with_damaged_settings_is_refused_and_force_begins_anew(here, emo):
    part = here / "run.part"
    part.mkdir()
    for content in (b'{"seed": 4', b"[]", DEEP):
        (part / "settings.json").write_bytes(content)
        code, _, err = emo("run", "--preset", "tiny", "--out", "run")
        check_mistake(code, err, [str(part / "settings.json"), "--force"])


# Result files


RESULTS = ROOT / "results"
NAMES = sorted(str(path.relative_to(RESULTS).with_suffix("")) for path in RESULTS.rglob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_result_of_the_project_keeps_to_its_schema(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result, written = load_result(name), json.loads((ROOT / "results" / f"{name}.json").read_text())
    if name in TASKS:  # whose methods and baselines had other names
        assert set(result["runs"]) == {"finetune", "lora"} and "tfidf" in result["baselines"]
        assert list(result["runs"].values()) == list(written["runs"].values())
    else:
        assert result == written


# The tidy frame


def test_what_is_read_is_tidy_and_still_is_after_a_day_in_a_parquet_file(tmp_path):
    for corpus in ("goemotions", "goemotions-raw", "empathetic"):
        frame = load_corpus(corpus).frame
        check_tidy(frame)
        assert frame.attrs["schema"] == SCHEMA_VERSION
    frame.to_parquet(tmp_path / "frame.parquet")
    again = pd.read_parquet(tmp_path / "frame.parquet")
    assert again.attrs["schema"] == SCHEMA_VERSION
    with refusal(DataError, "labels[0] should be a valid tuple"):
        map_labels(again, TASKS["empathetic32"])
    again["labels"] = again.labels.map(tuple)
    wanted, labelled = (map_labels(rows, TASKS["empathetic32"]) for rows in (frame, again))
    pd.testing.assert_frame_equal(labelled, wanted, check_dtype=False)  # pandas 3 reads words as str


ENTRIES = [
    ("text", " \n", "text[3]"),
    ("labels", "joy", "labels[3] should be a valid tuple, not 'joy'"),
    ("labels", (7,), "labels[3][0] should be a valid string, not 7"),
    ("group", 3.0, "group[3]"),
    ("split", "training", "split[3] should be 'train', 'dev' or 'test', not 'training'"),
]


def test_a_frame_that_is_not_tidy_is_refused_by_column_and_row(tmp_path):
    frame = load_corpus("empathetic").frame
    foreign = {f"{column} is missing": frame.drop(columns=column) for column in COLUMNS}
    for column, value, words in ENTRIES:
        entries = frame[column].astype(object)
        entries.iat[3] = value
        foreign[words] = frame.assign(**{column: entries})
    foreign[NEWER] = frame.copy()
    foreign[NEWER].attrs = {"schema": SCHEMA_VERSION + 1}
    for words, rows in foreign.items():
        with refusal(DataError, words):
            map_labels(rows, TASKS["shared10"])
    with refusal(DataError, "labels is missing"):
        explore_corpus(frame.drop(columns="labels"), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    frame.attrs = {}
    assert len(map_labels(frame, TASKS["shared10"])) > 50
    for step in (split_rows, balance):
        with refusal(DataError, "'targets'", "map_labels"):
            step(frame)


# Settings, names and paths


@pytest.mark.parametrize("kind", [Config, TrainConfig])
def test_a_setting_of_any_type_is_refused_by_name_or_can_be_written_down(kind):
    for field in fields(kind):
        for value in (*ODD, b"x", Path("x"), np.int64(3), {"a"}):
            try:
                config = Config(**{field.name: value}) if kind is Config else Config(train=kind(**{field.name: value}))
            except ConfigError as error:
                check_sentence(error)
            else:
                assert Config.from_record(json.loads(json.dumps(config.to_record()))) == config
    with refusal(ConfigError, "train should be a TrainConfig"):
        Config.from_preset("small", train={"epochs": 2})


@pytest.mark.parametrize("name", ["epochs", "learning_rate", "head_learning_rate", "weight_decay", "averaging_power"])
def test_an_infinite_setting_is_refused(name):
    with refusal(ConfigError, name):
        TrainConfig(**{name: float("inf")})


def test_a_machine_of_another_kind_is_shown_beside_those_of_the_project(tmp_path, monkeypatch):
    assert set(BENCH_KINDS) <= {folder.name for folder in (RESULTS / "bench").iterdir()}
    shutil.copytree(RESULTS / "bench", tmp_path / "results" / "bench")
    (tmp_path / "results" / "bench" / "avx2-kept").rename(tmp_path / "results" / "bench" / "avx2")
    shutil.copytree(RESULTS / "bench" / "avx2-kept", tmp_path / "results" / "bench" / "avx2-kept")
    monkeypatch.chdir(tmp_path)
    assert set(load_bench("train")) >= {*BENCH_KINDS, "avx2"}
