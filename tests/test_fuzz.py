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
from fuzzing import check_reading, try_cases
from helpers import check_mistake
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emo_nb.console import as_csv
from emo_nb.core import DataError, TextError
from emo_nb.corpora import UNITS, read
from emo_nb.evaluate import predictions
from emo_nb.own import read_own
from emo_nb.rundir import open_run, provenance, utc_now, write_results
from emo_nb.stream import texts_in
from emo_nb.tables import guarded, table_of, unguarded
from emo_nb.taxonomy import EMPATHETIC, GOEMOTIONS

pytestmark = pytest.mark.usefixtures("alone")
MANY = int(os.environ.get("FUZZ", 5000))  # damaged files
TABLES = max(50, MANY // 50)  # tables made by hypothesis, for each test and form


def many(examples: int = TABLES):
    "Settings for hypothesis: the same tables every time, one folder for all."
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=10_000, suppress_health_check=quiet
    )


# Damaged files


def test_a_damaged_file_is_read_with_all_its_rows_or_refused_in_a_sentence(tmp_path, tried):
    ends = try_cases(range(MANY), tmp_path)
    assert ends["read"] > MANY / 5 and ends["refused in a sentence"] > MANY / 10
    tried("damaged tables", ends.total())


# Whole tables of any content

NASTY = (
    "=1+1",
    "'=1",
    "-1",
    "@you",
    "\t",
    "\r",
    "\n",
    '"',
    '""',
    "NA",
    "nan",
    "null",
    "_comma_",
    "\ufeff",
    "\x00",
    "\u2028",
    "\x85",
    "|;,",
)
any_text = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(NASTY)).flatmap(
    lambda text: st.sampled_from((text, text, f"{text} ", f"so{text}sad"))
)
in_csv = any_text if sys.version_info >= (3, 11) else any_text.map(lambda text: text.replace("\x00", ""))
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Nd", "No", "Nl"], exclude_characters=",;\t\"'\ufeff"), max_size=8
)
label = st.sampled_from(["glad", "sad", "-1", "=so", "shock!", " padded ", "", "  ", "0", "Ärger", "'tis"])


def to_csv(columns: dict[str, list], path: Path, separator: str, quoting: int) -> None:
    "As Python's own writer does it."
    with open(path, "w", newline="", encoding="utf-8-sig" if quoting == csv.QUOTE_ALL else "utf-8") as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\r\n")
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


def to_jsonl(columns: dict[str, list], path: Path, ascii_only: bool) -> None:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), encoding="utf-8", newline="\n"
    )


FORMS: dict[str, Callable[[dict[str, list], Path], object]] = {
    "comma.csv": lambda columns, path: to_csv(columns, path, ",", csv.QUOTE_MINIMAL),
    "quoted.csv": lambda columns, path: to_csv(columns, path, ",", csv.QUOTE_ALL),
    "semicolon.csv": lambda columns, path: to_csv(columns, path, ";", csv.QUOTE_MINIMAL),
    "tab.tsv": lambda columns, path: to_csv(columns, path, "\t", csv.QUOTE_MINIMAL),
    "ascii.jsonl": lambda columns, path: to_jsonl(columns, path, True),
    "utf8.jsonl": lambda columns, path: to_jsonl(columns, path, False),
    "table.parquet": lambda columns, path: pd.DataFrame(columns).to_parquet(path),
}


@st.composite
def own_tables(draw, texts):
    "The columns of a table: texts, labels, groups and one of any name and content."
    rows = draw(st.lists(st.tuples(texts, label, st.sampled_from("abc"), texts), min_size=1, max_size=8))
    other = draw(names.filter(lambda name: name not in ("words", "mood", "thread")))
    columns = dict(zip(("words", "mood", "thread", other), map(list, zip(*rows, strict=True)), strict=True))
    return {name: columns[name] for name in draw(st.permutations(list(columns)))}


def texts_of(form: str):
    return any_text if form.endswith((".jsonl", ".parquet")) else in_csv


@pytest.mark.parametrize("form", FORMS)
def test_an_own_table_is_read_as_it_was_written(tmp_path, form, tried):
    @many()
    @given(own_tables(texts_of(form)))
    def check(columns):
        FORMS[form](columns, tmp_path / form)
        usable = [
            bool(text.strip() and mood.strip()) for text, mood in zip(columns["words"], columns["mood"], strict=True)
        ]
        if not any(usable):
            with pytest.raises(DataError, match="no usable row"):
                read_own(tmp_path / form, "words", "mood", "thread")
            return
        reading = read_own(tmp_path / form, "words", "mood", "thread")
        check_reading(reading, [tmp_path / form])
        kept = pd.DataFrame(columns)[usable]
        assert reading.frame.text.tolist() == kept.words.tolist()
        assert reading.frame.labels.tolist() == [(mood.strip(),) for mood in kept.mood]
        assert reading.frame.group.tolist() == kept.thread.tolist()
        assert reading.rows == len(usable)
        assert set(reading.refused.reason) <= {"no text", "no label"}

    check()
    tried("own tables of any content", TABLES)


@pytest.mark.parametrize("form", FORMS)
def test_the_texts_to_predict_are_those_that_stand_in_the_file(tmp_path, form, tried):
    @many()
    @given(own_tables(texts_of(form)))
    def check(columns):
        FORMS[form](columns, tmp_path / form)
        assert list(texts_in(tmp_path / form, "words")) == columns["words"]

    check()
    tried("files of texts of any content", TABLES)


# The corpora's own forms

plain_text = any_text.map(lambda text: "".join(c for c in text if c not in ",\t\r\n\ufeff"))
ids = st.lists(st.integers(0, 27), min_size=1, max_size=3, unique=True)


def to_splits(columns: dict[str, list], path: Path) -> None:
    "As GoEmotions' splits: no header, nothing quoted, labels with commas between."
    rows = zip(columns["text"], columns["labels"], columns["id"], strict=True)
    lines = (f"{text}\t{','.join(map(str, labels))}\t{name}\n" for text, labels, name in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


@pytest.mark.parametrize("form", ["train.tsv", "train.jsonl", "train.parquet"])
def test_rows_of_the_official_splits_are_read_as_they_were_written(tmp_path, form, tried):
    write = {"train.tsv": to_splits, "train.jsonl": FORMS["utf8.jsonl"], "train.parquet": FORMS["table.parquet"]}[form]

    @many()
    @given(st.lists(st.tuples(plain_text, ids), min_size=1, max_size=8))
    def check(rows):
        columns = {"text": [text for text, _ in rows], "labels": [found for _, found in rows]}
        columns["id"] = [f"c{i}" for i in range(len(rows))]
        write(columns, tmp_path / form)
        usable = [i for i, (text, _) in enumerate(rows) if text.strip()]
        if not usable:
            with pytest.raises(DataError, match="no usable row"):
                read(tmp_path / form)
            return
        reading = read(tmp_path / form)
        check_reading(reading, [tmp_path / form])
        assert reading.rows == len(rows)
        assert reading.frame.text.tolist() == [rows[i][0] for i in usable]
        assert reading.frame.labels.tolist() == [tuple(GOEMOTIONS[n] for n in rows[i][1]) for i in usable]
        assert reading.frame.group.tolist() == [f"c{i}" for i in usable]
        assert set(reading.frame.split) == {"train"}

    check()
    tried("corpora of any content", TABLES)


def to_plain(columns: dict[str, list], path: Path) -> None:
    "As EmpatheticDialogues: a header, nothing quoted."
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


@pytest.mark.parametrize("form", ["valid.csv", "valid.jsonl", "valid.parquet"])
def test_dialogues_are_read_as_they_were_written(tmp_path, form, tried):
    write = {"valid.csv": to_plain, "valid.jsonl": FORMS["ascii.jsonl"], "valid.parquet": FORMS["table.parquet"]}[form]
    turn = st.tuples(st.integers(0, 3), st.sampled_from([*EMPATHETIC, "bored"]), plain_text, plain_text)

    @many()
    @given(st.lists(turn, min_size=1, max_size=8), st.sampled_from(UNITS))
    def check(rows, unit):
        talks: dict[int, list] = {}
        for talk, mood, prompt, said in sorted(rows, key=lambda row: row[0]):
            talks.setdefault(talk, []).append(
                (f"t{talk}", str(len(talks.get(talk, [])) + 1), mood, prompt, "7", said, "")
            )
        lines = [line for talk in talks.values() for line in talk]
        keys = ("conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance", "tags")
        write(dict(zip(keys, map(list, zip(*lines, strict=True)), strict=True)), tmp_path / form)
        wanted = {
            "utterance": [(line[5], line[2]) for line in lines],
            "prompt": [(talk[0][3], talk[0][2]) for talk in talks.values()],
            "speaker": [("\n".join(line[5] for line in talk[::2]), talk[0][2]) for talk in talks.values()],
            "dialogue": [("\n".join(line[5] for line in talk), talk[0][2]) for talk in talks.values()],
        }[unit]
        usable = [(text.replace("_comma_", ","), (mood,)) for text, mood in wanted if text.strip() and mood != "bored"]
        if not usable:
            with pytest.raises(DataError, match="no usable row"):
                read(tmp_path / form, unit)
            return
        reading = read(tmp_path / form, unit)
        check_reading(reading, [tmp_path / form])
        assert reading.rows == len(wanted)
        assert list(zip(reading.frame.text, reading.frame.labels, strict=True)) == usable

    check()
    tried("corpora of any content", TABLES)


# What is written for a spreadsheet

COMPUTED = ("=", "+", "-", "@", "\t", "\r", "\n")  # OWASP's list
answer_label = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00|"), min_size=1, max_size=6)


@st.composite
def answers(draw):
    "A table like that of a prediction: texts, their labels and a probability for each label."
    labels = draw(
        st.lists(answer_label.filter(lambda name: name not in ("text", "label")), min_size=2, max_size=4, unique=True)
    )
    texts = draw(st.lists(in_csv, min_size=1, max_size=6))
    proba = np.linspace(-1, 1, len(texts) * len(labels)).reshape(len(texts), -1)
    said = [draw(st.sampled_from(labels)) for _ in texts]
    return pd.concat([pd.DataFrame({"text": texts, "label": said}), pd.DataFrame(proba, columns=labels)], axis=1)


def cells_of(written: str) -> list[list[str]]:
    "By a reader that is not ours."
    csv.field_size_limit(sys.maxsize)
    return list(csv.reader(io.StringIO(written, newline=""), strict=True))


def check_safe(written: str, numbers: int) -> None:
    "No cell is a formula, and the last columns are numbers."
    header, *rows = cells_of(written)
    for row in rows:
        words = len(row) - numbers
        assert not computed(row[:words])
        [float(cell) for cell in row[words:]]
    assert not computed(header)


def computed(cells: list[str]) -> list[str]:
    "Those that a spreadsheet would compute, plain numbers aside."
    return [cell for cell in cells if cell.startswith(COMPUTED) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", cell)]


def test_an_answer_in_csv_is_safe_to_open_and_is_read_back_as_it_was(tmp_path, tried):
    @many(2 * TABLES)
    @given(answers())
    @example(pd.DataFrame({"text": ["=1+1", "'=1", "''=1", "+1", "-1", "'"], "label": "-1", "-1": 0.5, "=joy": -0.5}))
    def check(table):
        written = as_csv(table)
        check_safe(written, table.shape[1] - 2)
        assert not [row[0] for row in cells_of(written)[1:] if row[0].startswith(COMPUTED)], "a text is never a number"
        (tmp_path / "answer.csv").write_text(written, encoding="utf-8", newline="\n")
        assert list(texts_in(tmp_path / "answer.csv")) == table.text.tolist()
        rows, refused = table_of("answer.csv", written.encode())
        assert len(refused) == 0
        assert rows.text.tolist() == table.text.tolist() and rows.label.tolist() == table.label.tolist()

    check()
    tried("answers in CSV, written and read back", 2 * TABLES)


@many(500)
@given(any_text)
def test_an_apostrophe_that_was_put_before_a_cell_comes_off_and_no_other(text):
    assert unguarded(guarded(text)) == text == unguarded(guarded(text, number=False))


def test_a_table_that_is_none_of_emo_nbs_keeps_its_apostrophes(tmp_path):
    texts = ["'=1+1", "'-_-'", "'tis"]
    rows = pd.DataFrame({"text": texts, "label": ["a", "b", "a"]})
    for others in ({"note": "x"}, {"a": [1, 0, 1], "b": [0, 1, 0]}):
        rows.assign(**others).to_csv(tmp_path / "mine.csv", index=False)
        assert read_own(tmp_path / "mine.csv", "text", "label").frame.text.tolist() == texts
        assert list(texts_in(tmp_path / "mine.csv")) == texts


def test_an_own_table_with_a_column_of_conversations_may_quote_its_texts(tmp_path):
    texts = ["hello, world", 'she said "hi"']
    rows = pd.DataFrame({"conv_id": ["c1", "c2"], "text": texts, "label": ["joy", "sad"]})
    rows.to_csv(tmp_path / "mine.csv", index=False)
    reading = read_own(tmp_path / "mine.csv", "text", "label", "conv_id")
    assert reading.frame.text.tolist() == texts == list(texts_in(tmp_path / "mine.csv"))
    assert not len(reading.refused)


def test_a_line_of_json_without_its_text_is_named_and_no_other_key_read_in_its_place(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "hello", "id": "1"}\n\n{"id": "2"}\n')
    with pytest.raises(DataError, match=r"in\.jsonl, line 3 has no column 'text'; its columns are: id"):
        list(texts_in(tmp_path / "in.jsonl"))
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "hello"}\n\x1c\n \t\r\n')
    with pytest.raises(TextError, match=r"line 2: not JSON"):
        list(texts_in(tmp_path / "in.jsonl"))


def test_an_own_table_is_named_by_its_place_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "moods").mkdir()
    monkeypatch.chdir(tmp_path / "moods")
    Path("a.csv").write_text("text,label\nx,y\n")
    for path in (".", "../moods", "a.csv"):
        assert read_own(path, "text", "label").frame.corpus.iloc[0] == ("a" if path == "a.csv" else "moods")


TEXTS = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "-_-",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "\uff1d1",
    "a;=1;",
    'a",=1',
    "NA",
]
if sys.version_info >= (3, 11):
    TEXTS.append("a\x00b")  # before, Python's reader of CSV takes no NUL


def test_a_runs_tables_are_safe_to_open_and_are_read_back_as_they_were(tmp_path):
    texts = [*TEXTS, "a megabyte\r\n" * 100_000]
    labels = ["=1+1", "-1", "@joy", "fear"]
    rows = pd.DataFrame(
        {"corpus": "+mine", "group": texts, "text": texts, "label": [labels[i % 4] for i in range(len(texts))]}
    )
    table = predictions(rows, np.eye(4)[np.arange(len(texts)) % 4], labels)
    record = provenance(utc_now()) | {
        "labels": labels,
        "files": {"mine.csv": "…"},
        "task": "own",
        "encoder": "minilm",
        "split": "group",
    }
    record |= {
        "seed": 1,
        "multi_label": False,
        "method": "lora",
        "rows": {"test": len(rows)},
        "calibration": {"temperature": 1},
    }
    write_results(tmp_path, record, table, pd.DataFrame({"epoch": [1.0], "loss": [-0.5]}))
    for name, numbers in (("predictions", 5), ("scores", 4), ("history", 2)):
        check_safe((tmp_path / f"{name}.csv").read_bytes().decode(), numbers)
    made = open_run(tmp_path)
    pd.testing.assert_frame_equal(made.predictions, table, check_dtype=False)
    assert set(made.scores.index) == {("+mine", label) for label in labels}
    assert read_own(tmp_path / "predictions.csv", "text", "label").frame.text.tolist() == texts


def test_the_command_writes_a_csv_that_is_safe_and_that_it_reads_back(emo, tiny, here):
    (here / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    for source, out in (("in.jsonl", "out.csv"), ("out.csv", "again.csv"), ("again.csv", "last.jsonl")):
        code, _, err = emo("predict", "--model", tiny.folder, "--file", source, "--out", out)
        assert code == 0, err
    written = (here / "out.csv").read_bytes()
    check_safe(written.decode(), 10)
    assert (here / "again.csv").read_bytes() == written
    assert [json.loads(line)["text"] for line in (here / "last.jsonl").read_text("utf-8").split("\n") if line] == TEXTS
    code, out, _ = emo(
        "predict", "--model", tiny.folder, "--format", "csv", "--", *(text for text in TEXTS if "\x00" not in text)
    )
    assert code == 0
    check_safe(out, 10)
    code, out, _ = emo("explore", "--corpus", "goemotions", "--out", "found")
    assert code == 0
    check_safe((here / "found/examples.csv").read_bytes().decode(), 0)


# What was found, one small file each


def as_json(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TALK = {"conv_id": "c", "utterance_idx": "1", "context": "sad", "prompt": "p", "speaker_idx": "7", "utterance": "u"}
COMMENT = {"text": "good", "labels": [1, 2], "id": "a"}
RATING = {"text": "good", "id": "a", **dict.fromkeys(GOEMOTIONS, 0)}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("name", "rows", "read_of_them"),
    [
        ("train.jsonl", [COMMENT, COMMENT | {"text": 7}, COMMENT | {"text": True}, COMMENT | {"text": {"a": 1}}], 3),
        ("train.jsonl", [COMMENT, COMMENT | {"labels": "9" * 5000}, COMMENT | {"labels": [[1]]}], 1),
        ("train.jsonl", [COMMENT, COMMENT | {"id": None}, COMMENT | {"id": [1]}, COMMENT | {"labels": "1,1"}], 4),
        ("train.jsonl", [COMMENT | RATING, COMMENT | RATING | {"joy": 1}, COMMENT | RATING | {"joy": 2}], 2),
        ("raters.jsonl", [RATING, RATING | {"joy": 1.0}, RATING | {"joy": None}, RATING | {"text": 3.5}], 3),
    ],
    ids=["no texts", "no ids", "no names", "two forms at once", "numbers"],
)
def test_values_of_a_kind_that_no_corpus_has_are_taken_as_words_or_refused(tmp_path, unit, name, rows, read_of_them):
    (tmp_path / name).write_bytes(as_json(*rows))
    reading = read(tmp_path / name, unit)
    check_reading(reading, [tmp_path / name])
    assert (len(reading.frame), reading.rows) == (read_of_them, len(rows))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("column", TALK)
@pytest.mark.parametrize("value", [None, 5, 1.5, True, ["a"], {}])
def test_a_conversation_with_a_value_of_any_kind_is_counted(tmp_path, unit, column, value):
    rows = [TALK, TALK | {"utterance_idx": "2"}, TALK | {"utterance_idx": "3", column: value}, TALK | {"conv_id": "d"}]
    (tmp_path / "train.jsonl").write_bytes(as_json(*rows))
    reading = read(tmp_path / "train.jsonl", unit)
    check_reading(reading, [tmp_path / "train.jsonl"])
    assert reading.rows >= (4 if unit == "utterance" else 2)


def test_a_conversation_in_which_the_speaker_says_nothing_is_refused_and_counted(tmp_path):
    listener = TALK | {"conv_id": "d", "utterance_idx": "2"}
    (tmp_path / "train.jsonl").write_bytes(as_json(TALK, listener))
    reading = read(tmp_path / "train.jsonl", "speaker")
    assert (len(reading.frame), list(reading.refused.reason), reading.rows) == (1, ["no text"], 2)


@pytest.mark.parametrize("how", ["full", "study"])
@pytest.mark.parametrize(
    "names", ["text,text,labels,id", "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,prompt"]
)
def test_a_column_that_stands_twice_is_named_or_the_first_one_read(tmp_path, how, names):
    row = ",".join({"labels": "1", "context": "sad"}.get(name, f"{name} 1") for name in names.split(","))
    (tmp_path / "train.csv").write_text(f"{names}\n{row}\n")
    if how == "full":
        with pytest.raises(DataError, match="twice"):
            read(tmp_path / "train.csv")
    else:
        assert len(read(tmp_path / "train.csv", reading=how).frame) == 1  # pandas gives the second another name


def test_whole_numbers_stay_whole_where_some_are_missing(tmp_path):
    big = 2**53 + 1
    rows = {"text": ["a", "b", "c"], "label": [big, None, 1], "thread": [big, big, None]}
    (tmp_path / "own.jsonl").write_bytes(
        as_json(*(dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)))
    )
    numbers = {name: pd.array(rows[name], "Int64") for name in ("label", "thread")}
    pd.DataFrame({**rows, **numbers}).to_parquet(tmp_path / "own.parquet")
    for file in ("own.jsonl", "own.parquet"):
        frame = read_own(tmp_path / file, "text", "label", "thread").frame
        assert frame.labels.tolist() == [(str(big),), ("1",)]
        assert frame.group.tolist() == [str(big), f"{file}:3"], "a row without a group is one of its own"


def test_rows_before_the_header_that_are_broken_are_counted(tmp_path):
    (tmp_path / "own.csv").write_bytes(b'"a"b,c\ntext,label\nx,y\n')
    reading = read_own(tmp_path / "own.csv", "text", "label")
    assert (reading.rows, list(reading.refused.line)) == (2, [1])
    with pytest.raises(DataError, match="line 1: broken quoting"):
        list(texts_in(tmp_path / "own.csv"))


def test_a_line_of_separators_is_a_row_and_a_line_of_controls_is_no_blank_one(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"good\t1\ta\n\t\t\n\n \r\n\x1c\n")
    (tmp_path / "own.jsonl").write_bytes(as_json({"text": "a", "label": "b"}) + b"\x1c\n\n \t\r\n")
    assert list(read(tmp_path / "train.tsv").refused.line) == [2, 5]
    assert list(read_own(tmp_path / "own.jsonl", "text", "label").refused.line) == [2]


def test_a_folder_whose_tables_have_columns_without_a_name_is_read(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"text,label,,\na,x,,\n")
    assert len(read_own(tmp_path, "text", "label").frame) == 2


def test_the_separator_is_the_headers_and_not_that_of_a_name_in_quotes(tmp_path):
    (tmp_path / "own.csv").write_bytes(b'text,label,"a;b;c;d"\r"one;two",x,1\r')
    assert read_own(tmp_path / "own.csv", "text", "label").frame.text.tolist() == ["one;two"]
    assert list(texts_in(tmp_path / "own.csv")) == ["one;two"]


@pytest.mark.parametrize("value", ["[" * 600 + "]" * 600, '{"a":' * 600 + "1" + "}" * 600])
@pytest.mark.parametrize("column", ["text", "label", "thread"])
def test_a_deep_value_in_json_is_refused_and_its_row_counted(tmp_path, column, value):
    row = json.dumps({"text": "a", "label": "b", "thread": "c", column: "HERE"}).replace('"HERE"', value)
    (tmp_path / "own.jsonl").write_text(row + "\n" + json.dumps({"text": "a", "label": "b", "thread": "c"}) + "\n")
    reading = read_own(tmp_path / "own.jsonl", "text", "label", "thread")
    check_reading(reading, [tmp_path / "own.jsonl"])
    assert (reading.rows, len(reading.frame)) == (2, 1 + (column == "thread"))
    if column == "text":
        with pytest.raises(TextError, match="row 1 holds no text but"):
            list(texts_in(tmp_path / "own.jsonl"))


def test_the_names_of_odd_columns_are_said_in_one_line_that_can_be_printed(tmp_path):
    (tmp_path / "own.jsonl").write_bytes(as_json({"a\nb": "x", "\ud800": "y", "long " * 100: "z", "\x1b[31m": "w"}))
    (tmp_path / "own.csv").write_bytes(b'"a\nb",\xff\n1,2\n')
    for read_it in (
        lambda: list(texts_in(tmp_path / "own.jsonl")),
        lambda: read_own(tmp_path / "own.csv", "text", "label"),
        lambda: read(tmp_path / "own.csv"),
    ):
        with pytest.raises(DataError, match="a b") as caught:
            read_it()
        said = str(caught.value).encode().decode()
        assert len(said.splitlines()) == 1 and "\x1b" not in said and len(said) < 500


@pytest.mark.parametrize("out", ["out.csv", None])
@pytest.mark.parametrize("source", ["broken.parquet", "none.csv", "none.parquet", "folder.csv", "empty.parquet"])
def test_a_file_to_predict_that_is_none_is_refused_in_a_sentence(emo, tiny, here, source, out):
    (here / "broken.parquet").write_bytes(b"PAR1 and so on")
    (here / "empty.parquet").touch()
    (here / "folder.csv").mkdir()
    code, _, err = emo("predict", "--model", tiny.folder, "--file", source, *(("--out", out) if out else ()))
    check_mistake(code, err, [source])
