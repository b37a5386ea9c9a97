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
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emo_nb.core import DataError, TextError
from emo_nb.corpora import UNITS, read_corpus, read_table
from emo_nb.evaluate import prediction_table
from emo_nb.io.readers import iter_texts
from emo_nb.io.writers import FORMATTERS, escape_formula, unescape_formula
from emo_nb.report import open_run, provenance, utc_now, write_run
from emo_nb.taxonomy import GOEMOTIONS

pytestmark = pytest.mark.usefixtures("alone")
MANY = int(os.environ.get("FUZZ", 5000))  # damaged files
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


def to_csv(columns: dict[str, list], path: Path, separator: str, quoting: int = csv.QUOTE_MINIMAL) -> None:
    "As Python's own writer does it."
    with open(path, "w", newline="", encoding="utf-8-sig" if quoting == csv.QUOTE_ALL else "utf-8") as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\r\n")
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


def to_jsonl(columns: dict[str, list], path: Path, ascii_only: bool) -> None:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    lines = (json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


FORMS: dict[str, Callable[[dict[str, list], Path], object]] = {
    "comma.csv": lambda columns, path: to_csv(columns, path, ","),
    "quoted.csv": lambda columns, path: to_csv(columns, path, ",", csv.QUOTE_ALL),
    "semicolon.csv": lambda columns, path: to_csv(columns, path, ";"),
    "tab.tsv": lambda columns, path: to_csv(columns, path, "\t"),
    "ascii.jsonl": lambda columns, path: to_jsonl(columns, path, True),
    "utf8.jsonl": lambda columns, path: to_jsonl(columns, path, False),
    "table.parquet": lambda columns, path: pd.DataFrame(columns).to_parquet(path),
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
        FORMS[form](columns, path)
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
answer_label = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00|"), min_size=1, max_size=6)


@st.composite
def answers(draw):
    "A table like that of a prediction: texts, their labels and a probability for each label."
    unreserved = answer_label.filter(lambda name: name not in ("text", "label"))
    labels = draw(st.lists(unreserved, min_size=2, max_size=4, unique=True))
    texts = draw(st.lists(in_csv, min_size=1, max_size=6))
    proba = np.linspace(-1, 1, len(texts) * len(labels)).reshape(len(texts), -1)
    predicted = [draw(st.sampled_from(labels)) for _ in texts]
    return pd.concat([pd.DataFrame({"text": texts, "label": predicted}), pd.DataFrame(proba, columns=labels)], axis=1)


def check_safe(written: str, numbers: int) -> list[str]:
    "No cell is a formula, and the last columns are numbers; the first column. By a reader that is not ours."
    csv.field_size_limit(sys.maxsize)
    header, *rows = csv.reader(io.StringIO(written, newline=""), strict=True)
    words = len(header) - numbers
    cells = [*header, *(cell for row in rows for cell in row[:words])]
    assert not [cell for cell in cells if cell.startswith(COMPUTED) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", cell)]
    assert all(float(cell) is not None for row in rows for cell in row[words:])
    return [row[0] for row in rows]


def test_an_answer_in_csv_is_safe_to_open_and_is_read_back_as_it_was(tmp_path, tried):
    path = tmp_path / "answer.csv"

    @many(2 * TABLES)
    @given(answers())
    @example(pd.DataFrame({"text": ["=1+1", "'=1", "''=1", "+1", "-1", "'"], "label": "-1", "-1": 0.5, "=joy": -0.5}))
    def check(table):
        written = FORMATTERS["csv"](table)
        texts = check_safe(written, table.shape[1] - 2)
        assert not [text for text in texts if text.startswith(COMPUTED)], "a text is never a number"
        path.write_text(written, encoding="utf-8", newline="\n")
        assert rows_and_texts(path, "text") == table.text.tolist()
        assert list(iter_texts(path, "label")) == table.label.tolist()

    check()
    tried("answers in CSV, written and read back", 2 * TABLES)


@many(500)
@given(any_text)
def test_an_apostrophe_that_was_put_before_a_cell_comes_off_and_no_other(text):
    assert unescape_formula(escape_formula(text)) == text == unescape_formula(escape_formula(text, keep_numbers=False))


def test_a_table_that_emo_nb_did_not_write_keeps_its_apostrophes(tmp_path):
    rows = pd.DataFrame({"text": ["'=1+1", "'-_-'", "'tis"], "label": ["a", "b", "a"]})
    for others in ({"note": "x"}, {"a": [1, 0, 1], "b": [0, 1, 0]}):
        rows.assign(**others).to_csv(tmp_path / "mine.csv", index=False)
        assert read_table(tmp_path / "mine.csv", "text", "label").frame.text.tolist() == rows.text.tolist()
        assert list(iter_texts(tmp_path / "mine.csv")) == rows.text.tolist()


TEXTS = ['=HYPERLINK("http://x","y")', "+1", "-1", "-_-", "@SUM(A1)", "\t=1", "\r=1", "'=1", "\uff1d1", "a;=1;"]
TEXTS += ['a",=1', "NA", *(["a\x00b"] if sys.version_info >= (3, 11) else [])]  # before, csv reads no NUL


def test_a_runs_tables_are_safe_to_open_and_are_read_back_as_they_were(tmp_path):
    texts = [*TEXTS, "a megabyte\r\n" * 100_000]
    labels = ["=1+1", "-1", "@joy", "fear"]
    targets = [(labels[i % 4],) for i in range(len(texts))]
    rows = pd.DataFrame({"corpus": "+mine", "group": texts, "text": texts, "targets": targets})
    table = prediction_table(rows, np.eye(4)[np.arange(len(texts)) % 4], labels)
    record = provenance(utc_now()) | {"labels": labels, "files": {"mine.csv": "…"}, "task": "custom", "seed": 1}
    record |= {"encoder": "minilm", "split": "group", "multi_label": False, "method": "lora"}
    record |= {"rows": {"test": len(rows)}, "calibration": {"temperature": 1}}
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
    printable = [text for text in TEXTS if "\x00" not in text]
    code, out, _ = emo("predict", "--model", tiny.folder, "--format", "csv", "--", *printable)
    assert code == 0
    check_safe(out, 10)
    assert emo("explore", "--corpus", "goemotions", "--out", "tables")[0] == 0
    check_safe((here / "tables/examples.csv").read_bytes().decode(), 0)


# Faults that were found, one small file each


def as_json(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TALK = {"conv_id": "c", "utterance_idx": "1", "context": "sad", "prompt": "p", "speaker_idx": "7", "utterance": "u"}
COMMENT = {"text": "good", "labels": [1, 2], "id": "a"}
RATING = {"text": "good", "id": "a", **dict.fromkeys(GOEMOTIONS, 0)}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([COMMENT, COMMENT | {"text": 7}, COMMENT | {"text": True}, COMMENT | {"text": {"a": 1}}], 3),
        ([COMMENT, COMMENT | {"labels": "9" * 5000}, COMMENT | {"labels": [[1]]}], 1),
        ([COMMENT, COMMENT | {"id": None}, COMMENT | {"id": [1]}, COMMENT | {"labels": "1,1"}], 4),
        ([COMMENT | RATING, COMMENT | RATING | {"joy": 1}, COMMENT | RATING | {"joy": 2}], 2),
        ([RATING, RATING | {"joy": 1.0}, RATING | {"joy": None}, RATING | {"text": 3.5}], 3),
    ],
    ids=["texts", "label ids", "comment ids", "two forms at once", "ratings"],
)
def test_values_of_a_kind_that_no_corpus_has_are_taken_as_words_or_refused(tmp_path, rows, kept):
    (tmp_path / "train.jsonl").write_bytes(as_json(*rows))
    reading = read_corpus(tmp_path / "train.jsonl")
    check_reading(reading, tmp_path / "train.jsonl")
    assert (len(reading.frame), reading.rows) == (kept, len(rows))


@pytest.mark.parametrize("unit", UNITS)
def test_a_conversation_with_a_value_of_any_kind_is_counted(tmp_path, unit):
    path = tmp_path / "train.jsonl"
    for column in TALK:
        for value in (None, 5, 1.5, True, ["a"], {}):
            third = TALK | {"utterance_idx": "3", column: value}
            path.write_bytes(as_json(TALK, TALK | {"utterance_idx": "2"}, third, TALK | {"conv_id": "d"}))
            reading = read_corpus(path, unit)
            check_reading(reading, path)
            assert reading.rows >= (4 if unit == "utterance" else 2), (column, value)
    path.write_bytes(as_json(TALK, TALK | {"conv_id": "d", "utterance_idx": "2"}))
    reasons = list(read_corpus(path, unit).refused.reason)
    assert reasons == (["no text"] if unit == "speaker" else []), "in d, the speaker says nothing"


@pytest.mark.parametrize(
    "names", ["text,text,labels,id", "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,prompt"]
)
def test_a_column_that_is_there_twice_is_named(tmp_path, names):
    (tmp_path / "train.csv").write_text(f"{names}\n{names}\n")
    with pytest.raises(DataError, match="twice"):
        read_corpus(tmp_path / "train.csv")


def test_whole_numbers_stay_whole_where_some_are_missing(tmp_path):
    big = 2**53 + 1
    columns = {"text": ["a", "b", "c"], "label": [big, None, 1], "thread": [big, big, None]}
    to_jsonl(columns, tmp_path / "own.jsonl", True)
    numbers = {name: pd.array(columns[name], "Int64") for name in ("label", "thread")}
    pd.DataFrame({**columns, **numbers}).to_parquet(tmp_path / "own.parquet")
    for file in ("own.jsonl", "own.parquet"):
        frame = read_table(tmp_path / file, "text", "label", "thread").frame
        assert frame.labels.tolist() == [(str(big),), ("1",)]
        assert frame.group.tolist() == [str(big), f"{file}:3"], "a row without a group is one of its own"


ODD_CSV = {  # a table, the texts that are read, the lines that are refused
    "a quoted text beside conversations": (b'conv_id,text,label\nc1,"a, b",x\nc2,"a ""b""",y\n', ["a, b", 'a "b"'], []),
    "separators in a quoted name": (b'text,label,"a;b;c;d"\r"one;two",x,1\r', ["one;two"], []),
    "columns without a name": (b"text,label,,\na,x,,\nb,y,,\n", ["a", "b"], []),
    "a broken quote in the middle": (b'text,label\na,x\n"b"b,x\nc,x\n', ["a", "c"], [3]),
}


@pytest.mark.parametrize("what", ODD_CSV)
def test_an_odd_csv_is_read_and_its_refused_lines_are_where_prediction_stops(tmp_path, what):
    data, texts, refused = ODD_CSV[what]
    (tmp_path / "own.csv").write_bytes(data)
    reading = read_table(tmp_path / "own.csv", "text", "label")
    check_reading(reading, tmp_path / "own.csv")
    assert (reading.frame.text.tolist(), list(reading.refused.line)) == (texts, refused)
    if refused:
        with pytest.raises((DataError, TextError), match=f"line {refused[0]}: broken quoting"):
            list(iter_texts(tmp_path / "own.csv"))
    else:
        assert list(iter_texts(tmp_path / "own.csv")) == texts


def test_a_header_with_broken_quoting_is_refused_by_its_line(tmp_path):
    (tmp_path / "own.csv").write_bytes(b'"a"b,c\ntext,label\nx,y\n')
    for read_it in (
        lambda: read_table(tmp_path / "own.csv", "text", "label"),
        lambda: [*iter_texts(tmp_path / "own.csv")],
    ):
        with pytest.raises(DataError, match=r"own.csv, line 1: broken quoting"):
            read_it()


def test_a_line_of_json_without_its_text_is_named_and_no_other_key_read_in_its_place(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "hello", "id": "1"}\n\n{"id": "2"}\n')
    with pytest.raises(DataError, match=r"in\.jsonl, line 3 has no column 'text'; its columns are: id"):
        list(iter_texts(tmp_path / "in.jsonl"))
