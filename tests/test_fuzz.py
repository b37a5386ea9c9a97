"""Tables of every kind, whole and damaged: what is read is what was written, or it is refused in a sentence."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import check_reading, try_cases
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emo_nb.console import as_csv
from emo_nb.core import DataError
from emo_nb.corpora import UNITS, read
from emo_nb.evaluate import predictions
from emo_nb.own import read_own
from emo_nb.rundir import open_run, write_results
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
    tried("damaged tables, one reader each", ends.total())


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
    tried(f"own tables, {form}", TABLES)


@pytest.mark.parametrize("form", FORMS)
def test_the_texts_to_predict_are_those_that_stand_in_the_file(tmp_path, form, tried):
    @many()
    @given(own_tables(texts_of(form)))
    def check(columns):
        FORMS[form](columns, tmp_path / form)
        assert list(texts_in(tmp_path / form, "words")) == columns["words"]

    check()
    tried(f"texts to predict, {form}", TABLES)


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
    tried(f"official splits, {form}", TABLES)


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
    tried(f"dialogues, {form}", TABLES)


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
    return [cell for cell in cells if cell.startswith(COMPUTED) and not cell[1:].isdecimal()]


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
    pd.DataFrame({"text": texts, "label": ["a", "b", "a"], "note": "x"}).to_csv(tmp_path / "mine.csv", index=False)
    assert read_own(tmp_path / "mine.csv", "text", "label").frame.text.tolist() == texts
    assert list(texts_in(tmp_path / "mine.csv")) == texts


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
    labels = ["=1+1", "-1", "@joy", "fear"]
    rows = pd.DataFrame(
        {"corpus": "+mine", "group": TEXTS, "text": TEXTS, "label": [labels[i % 4] for i in range(len(TEXTS))]}
    )
    table = predictions(rows, np.eye(4)[np.arange(len(TEXTS)) % 4], labels)
    record = {"labels": labels, "files": {"mine.csv": "…"}, "task": "own", "encoder": "minilm", "split": "group"}
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
    assert read_own(tmp_path / "predictions.csv", "text", "label").frame.text.tolist() == TEXTS


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
