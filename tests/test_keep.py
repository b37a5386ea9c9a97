"""A table's other columns beside its predictions: which are kept, under which name, in every format."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import check_mistake, refusal
from pyarrow.parquet import read_schema

from emo_nb.core import ConfigError, DataError, warn_once
from emo_nb.io.files import partial_dir
from emo_nb.io.readers import iter_rows, iter_texts
from emo_nb.io.writers import link_parts
from emo_nb.predict import TrainedClassifier
from emo_nb.scale.files import job_settings, predict_file

KEPT = pd.DataFrame(
    {
        "id": [7, 8, 9],
        "text": ["Thank you!", "I miss him", "=1+1"],
        "label": ["thanks", None, "sum"],
        "when": ["-2 days", "now", "then"],
    }
)
READERS = {
    "csv": lambda file: pd.read_csv(file, keep_default_na=False),
    "jsonl": lambda file: pd.read_json(file, lines=True),
    "parquet": pd.read_parquet,
}


def write_table(table, file):
    {"csv": lambda: table.to_csv(file, index=False), "tsv": lambda: table.to_csv(file, index=False, sep="\t")}.get(
        file.suffix[1:],
        lambda: (
            table.to_parquet(file) if file.suffix == ".parquet" else table.to_json(file, orient="records", lines=True)
        ),
    )()


PAIRS = [
    ("csv", "csv"),
    ("csv", "parquet"),
    ("tsv", "jsonl"),
    ("jsonl", "csv"),
    ("jsonl", "parquet"),
    ("parquet", "jsonl"),
]


@pytest.mark.parametrize(("source", "ending"), PAIRS)
def test_a_tables_other_columns_stand_before_the_predictions(emo, tiny, here, source, ending):
    write_table(KEPT, here / f"in.{source}")
    warn_once.cache_clear()
    code, _, errors = emo("predict", "--model", tiny.folder, "--file", f"in.{source}", "--out", f"out.{ending}")
    assert code == 0 and "'label' as 'input_label'" in errors
    table = READERS[ending](here / f"out.{ending}")
    assert list(table.columns[:5]) == ["id", "input_label", "when", "text", "label"]
    assert [int(number) for number in table.id] == [7, 8, 9]
    assert [cell or None for cell in table.input_label] == ["thanks", None, "sum"]
    assert list(iter_texts(here / f"out.{ending}")) == list(KEPT.text)
    if ending == "csv":
        assert table.when[0] == "'-2 days" and [
            cells["when"] for _, cells in iter_rows("out.csv", keep=["when"])
        ] == list(KEPT.when)


def test_columns_to_keep_are_chosen_or_left_out(emo, tiny, here):
    write_table(KEPT, here / "in.csv")
    for keep, expected in (("none", ["text", "label"]), ("when, ID", ["when", "id"])):
        code, _, errors = emo("predict", "--model", tiny.folder, "--file", "in.csv", "--keep", keep, "--format", "csv")
        assert code == 0, errors
        assert (
            predict_file(
                TrainedClassifier.from_pretrained(tiny.folder),
                "in.csv",
                "o.csv",
                keep=keep.split(", ") if keep != "none" else keep,
                force=True,
                show_progress_bar=False,
            )
            == 3
        )
        assert list(pd.read_csv("o.csv").columns[:2]) == expected


def test_a_column_that_one_part_leaves_empty_and_one_of_mixed_kinds(tiny, here, monkeypatch):
    monkeypatch.setattr("emo_nb.scale.files.PART_ROWS", 2)
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    rows = [{"text": "a", "n": None}, {"text": "b", "n": None, "nested": {"x": [1]}}, {"text": "c", "n": 3}]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    predict_file(classifier, "in.jsonl", "out.parquet", show_progress_bar=False)
    table = pd.read_parquet("out.parquet")
    assert table.n.isna().tolist() == [True, True, False] and table.nested[1] == '{"x": [1]}'
    Path("in.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"text": "d", "n": "four"}])))
    predict_file(classifier, "in.jsonl", "mixed.parquet", show_progress_bar=False)
    assert pd.read_parquet("mixed.parquet").n.tolist() == [None, None, "3", "four"]
    assert predict_file(classifier, "in.jsonl", "mixed.jsonl", show_progress_bar=False) == 4
    Path("both").mkdir()
    for name, when in (("a", "2026"), ("b", pd.Timestamp(2026, 1, 1))):
        pd.DataFrame({"text": ["one", "two"], "when": [when, when]}).to_parquet(f"both/{name}.parquet")
    with refusal(DataError, "different kinds", "--keep"):
        predict_file(classifier, "both", "both.parquet", show_progress_bar=False)
    pd.DataFrame({"text": ["a"], "image": [b"\xff\xd8"]}).to_parquet("in.parquet")
    with refusal(DataError, "values that JSON cannot hold", "--keep"):
        predict_file(classifier, "in.parquet", "image.jsonl", show_progress_bar=False)


def test_files_whose_columns_differ_are_refused_before_any_work(emo, tiny, here):
    Path("texts").mkdir()
    write_table(pd.DataFrame({"text": ["hello"], "id": [1]}), here / "texts/a.csv")
    write_table(pd.DataFrame({"text": ["bye"], "name": ["x"]}), here / "texts/b.csv")
    code, _, err = emo("predict", "--model", tiny.folder, "--file", "texts", "--out", "out.csv")
    check_mistake(code, err, ["a.csv", "b.csv", "the column 'id'", "--keep"])
    code, _, err = emo("predict", "--model", tiny.folder, "--file", "texts", "--out", "out.csv", "--keep", "none")
    assert code == 0, err


def test_parts_of_another_engine_are_not_taken_up(tiny, here):
    write_table(KEPT, here / "in.csv")
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    answers = {"thresholds": None, "top_k": None, "tokens_left_out": False}
    with (
        pytest.raises(KeyboardInterrupt),
        partial_dir(here / "out.parquet", job_settings(classifier, "in.csv", None, "parquet", answers, engine="ray")),
    ):
        raise KeyboardInterrupt
    with refusal(ConfigError, "another engine (ray there, None here)"):
        predict_file(classifier, "in.csv", "out.parquet", show_progress_bar=False)


def test_numbers_and_times_are_kept_to_the_last_digit(tiny, here):
    exact = {"text": "a", "tiny": 1e-12, "long": 0.12345678901234, "when": "2026-01-02T03:04:05.123456", "id": 2**63}
    (here / "in.jsonl").write_text(json.dumps(exact))
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    for ending, read in (
        ("jsonl", partial(pd.read_json, lines=True, convert_dates=False)),
        ("parquet", pd.read_parquet),
    ):
        keep = ["tiny", "long", "when"] if ending == "jsonl" else "all"  # pandas writes no larger integers as JSON
        predict_file(classifier, "in.jsonl", f"out.{ending}", keep=keep, show_progress_bar=False)
        row = read(f"out.{ending}").iloc[0]
        assert (row["tiny"], row["long"], row["when"]) == (exact["tiny"], exact["long"], exact["when"])
    assert row["id"] == str(2**63)


def test_one_column_is_kept_by_its_name_and_numbers_of_numpy_are_settings(tiny, here):
    KEPT.to_csv("in.csv", index=False)
    how = {"keep": "id", "top_k": np.int64(2), "thresholds": np.float32(0.4), "show_progress_bar": False}
    predict_file(TrainedClassifier.from_pretrained(tiny.folder), "in.csv", "out.csv", **how)
    assert list(pd.read_csv("out.csv").columns[:2]) == ["id", "text"]


def test_a_key_that_comes_late_is_kept_where_it_is_named_and_said_where_it_is_not(tiny, here, caplog, monkeypatch):
    lines = ['{"text": "a"}', '{"text": "b", "late": 5}']
    (here / "in.jsonl").write_text("\n".join(lines))
    assert [kept for _, kept in iter_rows("in.jsonl", keep=["late"])] == [{"late": None}, {"late": 5}]
    monkeypatch.setattr("emo_nb.io.readers._FIRST_ROWS", 1)
    warn_once.cache_clear()
    assert [kept for _, kept in iter_rows("in.jsonl", keep="all")] == [{}, {}]
    assert "'late'" in caplog.text and "line 2" in caplog.text


def test_where_a_file_has_one_name_only_parts_are_copied(here, monkeypatch):
    KEPT[["id"]].to_parquet("0.parquet")
    Path("out").mkdir()

    def link(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr("os.link", link)
    link_parts([Path("0.parquet")], Path("out"))
    assert pd.read_parquet("out").equals(KEPT[["id"]])


def test_finished_parts_become_a_folder_of_one_schema(here):
    cells = {"0": [None, 7], "1": ["x", "seven"], "2": ["y", "8"]}
    for name, (note, number) in cells.items():
        pd.DataFrame({"note": [note], "id": [number]}).to_parquet(f"{name}.parquet")
    (here / "all").mkdir()
    link_parts([here / f"{name}.parquet" for name in cells], here / "all")
    assert pd.read_parquet("all").note.tolist() == [None, "x", "y"]
    assert pd.read_parquet("all").id.tolist() == ["7", "seven", "8"]
    assert Path("all/1.parquet").samefile("1.parquet")
    assert len({read_schema(file).to_string(show_schema_metadata=False) for file in Path("all").iterdir()}) == 1


def test_what_cannot_be_kept_is_refused_before_a_model_is_loaded(emo, tiny, here):
    write_table(KEPT.assign(input_label="x"), here / "in.csv")
    Path("lines.txt").write_text("one\ntwo\n")
    for options, said in (
        (("--file", "in.csv", "--keep", "name"), "no column 'name' to keep; its columns are: 'id'"),
        (("--file", "lines.txt", "--keep", "name"), "one text a line and no column 'name'"),
        (("--file", "in.csv"), "'input_label' has a name that another one needs"),
        (("--file", "in.csv", "--keep", ","), "separated by commas"),
        (("--keep", "name", "hello"), "name the file with --file"),
    ):
        code, _, errors = emo("predict", "--model", tiny.folder, *options, "--out", "out.csv")
        assert code == 2 and said in errors and not Path("out.csv").exists(), errors
