"""Tables of every kind, whole and damaged: what is read is what was written, or it is refused in a sentence."""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import check_reading, rows_and_texts, try_cases
from helpers import refusal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emo_nb.core import DataError
from emo_nb.corpora import read_table
from emo_nb.evaluate import prediction_table
from emo_nb.io.readers import iter_texts
from emo_nb.io.writers import FORMATTERS
from emo_nb.report import open_run, write_run

pytestmark = pytest.mark.usefixtures("alone")
MANY = int(os.environ.get("FUZZ", 2500))  # damaged files
TABLES = max(50, MANY // 50)  # tables made by hypothesis, for each test and form


def many(examples: int = TABLES):
    "Settings for hypothesis: the same tables every time, one folder for all."
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=10_000, suppress_health_check=quiet
    )


def test_a_damaged_file_is_read_with_all_its_rows_or_refused_in_a_sentence(tmp_path, tried):
    ends = try_cases(range(MANY), tmp_path)
    assert ends["read"] > MANY / 5 and ends["refused in a sentence"] > MANY / 10
    tried("damaged tables", ends.total())


# Whole tables of any content

NASTY = (
    *("=1+1", "'=1", "-1", "@you", "\t", "\r", "\n", '"', '""', "NA", "nan", "null", "_comma_"),
    *("\ufeff", "\x00", "\u2028", "\x85", "|;,"),
)
any_text = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(NASTY)).flatmap(
    lambda text: st.sampled_from((text, text, f"{text} ", f"so{text}sad"))
)
in_csv = any_text if sys.version_info >= (3, 11) else any_text.map(lambda text: text.replace("\x00", ""))
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Nd", "No", "Nl"], exclude_characters=",;\t\"'\ufeff"), max_size=8
)
moods = st.sampled_from(["glad", "sad", "-1", "=so", "shock!", " padded ", "", "  ", "0", "Ärger", "'tis"])


CSV = {"index": False, "lineterminator": "\r\n"}  # with which a lone \r is quoted, too
FORMS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "comma.csv": lambda frame, path: frame.to_csv(path, **CSV),
    "excel.csv": lambda frame, path: frame.to_csv(path, **CSV, sep=";", quoting=csv.QUOTE_ALL, encoding="utf-8-sig"),
    "semicolon.csv": lambda frame, path: frame.to_csv(path, **CSV, sep=";"),
    "tab.tsv": lambda frame, path: frame.to_csv(path, **CSV, sep="\t"),
    "ascii.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "utf8.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True, force_ascii=False),
    "table.parquet": lambda frame, path: frame.to_parquet(path),
}


@st.composite
def own_tables(draw, texts):
    "The columns of a table: texts, labels, groups and one of any name and content."
    rows = draw(st.lists(st.tuples(texts, moods, st.sampled_from("abc"), texts), min_size=1, max_size=8))
    other = draw(names.filter(lambda name: name not in ("words", "mood", "thread")))
    columns = dict(zip(("words", "mood", "thread", other), map(list, zip(*rows, strict=True)), strict=True))
    return {name: columns[name] for name in draw(st.permutations(list(columns)))}


@pytest.mark.parametrize("form", FORMS)
def test_an_own_table_is_read_as_it_was_written_to_train_on_and_to_predict(tmp_path, form, tried):
    path = tmp_path / form

    @many()
    @given(own_tables(any_text if form.endswith((".jsonl", ".parquet")) else in_csv))
    def check(columns):
        FORMS[form](pd.DataFrame(columns), path)
        assert list(iter_texts(path, "words")) == columns["words"]
        rows = list(zip(columns["words"], columns["mood"], columns["thread"], strict=True))
        usable = [(text, (mood.strip(),), group) for text, mood, group in rows if text.strip() and mood.strip()]
        if not usable:
            with pytest.raises(DataError, match="no usable row"):
                read_table(path, "words", "mood", "thread")
            return
        reading = read_table(path, "words", "mood", "thread")
        check_reading(reading, path)
        frame = reading.frame
        assert list(zip(frame.text, frame.labels, frame.group, strict=True)) == usable
        assert reading.rows == len(rows)

    check()
    tried("own tables of any content", TABLES)


# What is written for a spreadsheet

COMPUTED = ("=", "+", "-", "@", "\t", "\r", "\n")  # OWASP's list


def check_safe(written: str, numbers: int) -> list[str]:
    "No cell is a formula, and the last columns are numbers; the first column. By a reader that is not ours."
    csv.field_size_limit(sys.maxsize)
    header, *rows = csv.reader(io.StringIO(written, newline=""), strict=True)
    words = len(header) - numbers
    cells = [*header, *(cell for row in rows for cell in row[:words])]
    assert not [cell for cell in cells if cell.startswith(COMPUTED) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", cell)]
    assert all(float(cell) is not None for row in rows for cell in row[words:])
    return [row[0] for row in rows]


@many(2 * TABLES)
@given(st.lists(in_csv, min_size=1, max_size=6), st.sampled_from(["=joy", "-1", "'=1", "Ärger"]))
@example(["=1+1", "'=1", "''=1", "+1", "-1", "'"], "-1")
def test_an_answer_in_csv_is_safe_to_open_and_is_read_back_as_it_was(tmp_path, texts, name):
    table = pd.DataFrame({"text": texts, "label": name, name: 0.5, "sad": -0.5})
    written = FORMATTERS["csv"](table)
    assert not [text for text in check_safe(written, 2) if text.startswith(COMPUTED)], "a text is never a number"
    path = tmp_path / "answer.csv"
    path.write_text(written, encoding="utf-8", newline="\n")
    assert rows_and_texts(path, "text") == texts
    assert list(iter_texts(path, "label")) == [name] * len(texts)


def test_a_table_that_emo_nb_did_not_write_keeps_its_apostrophes(tmp_path):
    rows = pd.DataFrame({"text": ["'=1+1", "'-_-'", "'tis"], "label": ["a", "b", "a"]})
    for others in ({"note": "x"}, {"a": [1, 0, 1], "b": [0, 1, 0]}):
        rows.assign(**others).to_csv(tmp_path / "mine.csv", index=False)
        assert read_table(tmp_path / "mine.csv", "text", "label").frame.text.tolist() == rows.text.tolist()
        assert list(iter_texts(tmp_path / "mine.csv")) == rows.text.tolist()


TEXTS = ['=HYPERLINK("http://x","y")', "+1", "-1", "-_-", "@SUM(A1)", "\t=1", "\r=1", "'=1", "\uff1d1", "a;=1;"]
TEXTS += ['a",=1', "NA", *(["a\x00b"] if sys.version_info >= (3, 11) else [])]  # before, csv reads no NUL


def test_a_runs_tables_are_safe_to_open_and_are_read_back_as_they_were(tiny, tmp_path):
    texts = [*TEXTS, "a megabyte\r\n" * 100_000]
    labels = ["=1+1", "-1", "@joy", "fear"]
    targets = [(labels[i % 4],) for i in range(len(texts))]
    rows = pd.DataFrame({"corpus": "+mine", "group": texts, "text": texts, "targets": targets})
    table = prediction_table(rows, np.eye(4)[np.arange(len(texts)) % 4], labels)
    record = {**tiny.config, "labels": labels, "files": {"mine.csv": "…"}, "task": "custom"}
    (tmp_path / "model").mkdir()
    write_run(tmp_path, record, table, pd.DataFrame({"epoch": [1.0], "loss": [-0.5]}))
    for name, numbers in (("predictions", 5), ("scores", 4), ("history", 2)):
        check_safe((tmp_path / f"{name}.csv").read_bytes().decode(), numbers)
    run = open_run(tmp_path)
    pd.testing.assert_frame_equal(run.predictions, table, check_dtype=False)
    assert set(run.scores.index) == {("+mine", label) for label in labels}
    assert read_table(tmp_path / "predictions.csv", "text", "label").frame.text.tolist() == texts


def test_the_command_writes_a_csv_that_is_safe_and_that_it_reads_back(emo, tiny, here):
    (here / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    for source, out in (("in.jsonl", "out.csv"), ("out.csv", "again.csv"), ("again.csv", "last.jsonl")):
        code, _, err = emo("predict", "--model", tiny.folder, "--file", source, "--out", out)
        assert code == 0, err
    check_safe((here / "out.csv").read_bytes().decode(), 10)
    assert (here / "again.csv").read_bytes() == (here / "out.csv").read_bytes()
    assert [json.loads(line)["text"] for line in (here / "last.jsonl").read_text("utf-8").split("\n") if line] == TEXTS
    assert emo("explore", "--corpus", "goemotions", "--out", "tables")[0] == 0
    check_safe((here / "tables/examples.csv").read_bytes().decode(), 0)


# Faults that were found, one small file each


def test_whole_numbers_stay_whole_where_some_are_missing(tmp_path):
    big = 2**53 + 1
    columns = {"label": [big, None, 1], "thread": [big, big, None]}
    frame = pd.DataFrame({"text": list("abc"), **{name: pd.array(cells, "Int64") for name, cells in columns.items()}})
    for form in ("ascii.jsonl", "table.parquet"):
        FORMS[form](frame, tmp_path / form)
        rows = read_table(tmp_path / form, "text", "label", "thread").frame
        assert rows.labels.tolist() == [(str(big),), ("1",)]
        assert rows.group.tolist() == [str(big), f"{form}:3"], "a row without a group is one of its own"


ODD_CSV = {  # a table, the texts that are read, the lines that are refused
    "a quoted text beside conversations": (b'conv_id,text,label\nc1,"a, b",x\nc2,"a ""b""",y\n', ["a, b", 'a "b"'], []),
    "separators in a quoted name": (b'text,label,"a;b;c;d"\r"one;two",x,1\r', ["one;two"], []),
    "columns without a name": (b"text,label,,\na,x,,\nb,y,,\n", ["a", "b"], []),
    "a broken quote in the middle": (b'text,label\na,x\n"b"b,x\nc,x\n', ["a", "c"], [3]),
}


@pytest.mark.parametrize("what", ODD_CSV)
def test_an_odd_csv_is_read_and_its_refused_lines_are_where_prediction_stops(tmp_path, what):
    data, texts, refused = ODD_CSV[what]
    path = tmp_path / "own.csv"
    path.write_bytes(data)
    reading = read_table(path, "text", "label")
    assert [line for _, line, _ in check_reading(reading, path)] == refused
    assert reading.frame.text.tolist() == texts
    assert rows_and_texts(path, "text") == (texts[:1] if refused else texts)
    path.write_bytes(b'"a"b,c\n' + data)
    with refusal(DataError, "own.csv, line 1: broken quoting"):
        rows_and_texts(path, "text")


def test_a_line_of_json_without_its_text_is_named_and_no_other_key_read_in_its_place(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "hello", "id": "1"}\n\n{"id": "2"}\n')
    with refusal(DataError, "in.jsonl, line 3 has no column 'text'; its columns are: 'id'"):
        list(iter_texts(tmp_path / "in.jsonl"))
