"""Reading and splitting: every row of every file form is accounted for, and no text stands on two sides of a split."""

import gzip
import io
import json
import os
import random
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers import python
from sklearn.model_selection import train_test_split

from emo_nb import files
from emo_nb.config import Config
from emo_nb.core import ConfigError, DataError, SourceError
from emo_nb.corpora import COLUMNS, Reading, load, read
from emo_nb.explore import duplicates, fold, label_counts
from emo_nb.own import read_own
from emo_nb.prepare import balance, label_for, split
from emo_nb.run import gather
from emo_nb.sources import SAMPLE
from emo_nb.taxonomy import EMPATHETIC, GOEMOTIONS, TASKS

pytestmark = pytest.mark.usefixtures("alone")
SHARED10 = TASKS["shared10"]
DIALOGUES = SAMPLE / "empatheticdialogues"
RATERS = SAMPLE / "goemotions_raw.csv"


def assert_tidy(frame: pd.DataFrame) -> None:
    "Exactly the tidy columns and types, whatever the file was."
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.dtypes.astype(str)) == ["object", "object", *["category"] * 4, "object", "category"]
    assert frame.index.equals(pd.RangeIndex(len(frame)))
    assert {type(text) for text in frame.text} == {type(group) for group in frame.group} == {str}
    assert {type(labels) for labels in frame.labels} == {tuple}
    assert {type(label) for labels in frame.labels for label in labels} == {str}


def refused_rows(reading: Reading) -> list[tuple[str, int, str]]:
    "The account of the refused rows, after checking that it adds up."
    assert reading.rows == len(reading.frame) + len(reading.refused)
    return list(reading.refused.itertuples(index=False, name=None))


# the real corpora

SPLIT_ROWS = {"train": 84_179, "dev": 12_069, "test": 10_960}


@pytest.fixture(scope="session")
def empathetic_forms(corpora_dir, tmp_path_factory) -> dict[str, Path]:
    "EmpatheticDialogues as archive, as unpacked folder, and its training file alone."
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(corpora_dir / "empatheticdialogues.tar.gz") as archive:
        for member in archive.getmembers():
            if member.isfile():
                (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    return {
        "archive": corpora_dir / "empatheticdialogues.tar.gz",
        "folder": folder,
        "one file": folder / "train.csv",
    }


@pytest.mark.corpora
@pytest.mark.parametrize("form", ["archive", "folder", "one file"])
def test_empathetic_dialogues_are_read_whole(empathetic_forms, form):
    reading = load("empathetic", empathetic_forms[form])
    wanted = {"train": SPLIT_ROWS["train"]} if form == "one file" else SPLIT_ROWS
    assert reading.frame.split.astype(str).value_counts().to_dict() == wanted
    assert refused_rows(reading) == []
    assert_tidy(reading.frame)
    assert set(label_counts(reading.frame).index) == set(EMPATHETIC)


@pytest.mark.corpora
@pytest.mark.parametrize("form", ["archive", "folder", "one file"])
def test_the_studys_reading_has_the_studys_counts(empathetic_forms, form):
    reading = load("empathetic", empathetic_forms[form], reading="study")
    assert (reading.rows, len(reading.frame)) == (84_179, 76_678)
    assert "7,501 lost" in str(reading)
    assert label_counts(reading.frame).head(10).to_dict() == {
        "surprised": 3952,
        "excited": 2935,
        "angry": 2740,
        "proud": 2719,
        "annoyed": 2642,
        "sad": 2634,
        "afraid": 2510,
        "lonely": 2503,
        "terrified": 2487,
        "grateful": 2487,
    }


@pytest.fixture(scope="session")
def conversations(empathetic_forms) -> dict[str, list[list[str]]]:
    "The fields of each conversation's lines, in the order of the files and without the package."
    found: dict[str, list[list[str]]] = {}
    for path in sorted(empathetic_forms["folder"].glob("*.csv")):
        for line in path.read_text(encoding="utf-8").split("\n")[1:]:
            if line:
                found.setdefault(line.split(",")[0], []).append(line.split(","))
    return found


@pytest.mark.corpora
@pytest.mark.parametrize("unit", ["prompt", "speaker", "dialogue"])
def test_each_conversation_is_one_text_of_its_lines_in_order(corpora_dir, conversations, unit):
    said = {  # utterances are numbered from one, and the speaker begins
        "prompt": lambda lines: [lines[0][3]],
        "speaker": lambda lines: [line[5] for line in lines if int(line[1]) % 2],
        "dialogue": lambda lines: [line[5] for line in lines],
    }[unit]
    reading = load("empathetic", corpora_dir / "empatheticdialogues.tar.gz", unit=unit)
    assert refused_rows(reading) == []
    assert_tidy(reading.frame)
    wanted = {group: "\n".join(said(lines)).replace("_comma_", ",") for group, lines in conversations.items()}
    assert len(reading.frame) == len(wanted) > 24_000
    assert dict(zip(reading.frame.group, reading.frame.text, strict=True)) == wanted
    assert dict(zip(reading.frame.group, reading.frame.labels, strict=True)) == {
        group: (lines[0][2],) for group, lines in conversations.items()
    }


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "rows"), [("goemotions_raw_sample.csv", 10_429), ("go_emotions_dataset_sample.csv", 4_999)]
)
def test_goemotions_raters_are_read_whole(corpora_dir, name, rows):
    reading = load("goemotions-raw", corpora_dir / name)
    assert reading.rows == rows
    assert refused_rows(reading) == []
    assert_tidy(reading.frame)


@pytest.mark.corpora
def test_goemotions_splits_have_their_rows_and_their_known_leaks(corpora_dir):
    reading = load("goemotions", corpora_dir)
    assert refused_rows(reading) == []
    assert_tidy(reading.frame)
    table = duplicates(reading.frame)
    assert table.rows.to_dict() == {"train": 43_410, "dev": 5_426, "test": 5_427}
    assert table.loc["train", "repeats, exact"] == 183
    assert table.loc["test", ["also in train, exact", "also in train, folded"]].tolist() == [37, 109]


# the built-in sample


def test_the_raters_sample_has_what_the_corpus_has():
    raw = pd.read_csv(RATERS, dtype=str)
    reading = read(RATERS)
    assert refused_rows(reading) == [] and reading.rows == len(raw)
    assert_tidy(reading.frame)
    votes = raw.set_index("id")[list(GOEMOTIONS)].astype(int).groupby("id").sum()
    most = votes.eq(votes.max(axis=1), axis=0) & (votes > 0)
    assert most.sum().min() >= 20
    assert (most.sum(axis=1) > 1).any(), "no tie between labels"
    assert (reading.frame.labels.map(len) == 2).any(), "no rating with two labels"
    assert set(raw.groupby("id").size()) >= {1, 2, 3}
    assert raw.text.str.contains("[NAME]", regex=False).any()
    unclear = raw.example_very_unclear == "TRUE"
    assert unclear.any() and (reading.frame.labels[unclear].map(len) == 0).all()


def test_the_dialogues_sample_has_what_the_corpus_has():
    raw = b"".join(path.read_bytes() for path in DIALOGUES.glob("*.csv"))
    assert b"_comma_" in raw and b'"' in raw
    reading = read(DIALOGUES)
    assert refused_rows(reading) == [] and reading.rows == raw.count(b"\n") - 3
    assert_tidy(reading.frame)
    assert not reading.frame.text.str.contains("_comma_").any()
    dialogues = reading.frame.groupby("labels").group.nunique()
    assert set(dialogues.index) == {(context,) for context in EMPATHETIC} and dialogues.min() >= 4
    assert set(reading.frame.split) == {"train", "dev", "test"}


UNITS = {"utterance": {"speaker", "listener"}, "prompt": {"prompt"}, "speaker": {"speaker"}, "dialogue": {"dialogue"}}


@pytest.mark.parametrize("unit", UNITS)
def test_a_text_of_the_dialogues_is_what_the_unit_says(unit):
    raw = [line.split(",") for path in sorted(DIALOGUES.glob("*.csv")) for line in path.read_text().splitlines()[1:]]
    frame = read(DIALOGUES, unit=unit).frame
    assert_tidy(frame)
    assert set(frame.role) == UNITS[unit]
    assert len(frame) == (len(raw) if unit == "utterance" else len({row[0] for row in raw}))
    assert frame.group.nunique() == len({row[0] for row in raw})
    labelled = label_for(frame, TASKS["empathetic32"])
    assert (labelled.label == frame.labels.str[0]).all(), "no row is lost, and its context is its label"
    assert set(split(labelled, "official").part) == {"train", "dev", "test"}


def test_the_dialogues_task_reads_prompts_and_any_other_unit_on_demand():
    assert TASKS["empathetic32"].unit == "prompt" and TASKS["shared10"].unit == "utterance"
    for unit, role, others in ((None, "prompt", {"speaker"}), ("dialogue", "dialogue", set())):
        rows = gather(Config(task="empathetic32", unit=unit), say=lambda line: None).rows
        assert set(rows.role) == {role} | others and sum(rows.role == role) == 160
    with pytest.raises(ConfigError, match=r"'paragraph'.*utterance, prompt, speaker, dialogue"):
        read(DIALOGUES, unit="paragraph")


def test_the_studys_reading_of_the_sample_loses_rows():
    every = read(DIALOGUES / "train.csv").frame
    assert 0 < len(read(DIALOGUES, reading="study").frame) < len(every)


# damaged rows

UTTERANCES = b"conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
RATER_HEADER = ("text,id," + ",".join(GOEMOTIONS) + "\n").encode()


def ticks(*labels: str) -> bytes:
    "The 28 columns of a rating."
    return ",".join("1" if label in labels else "0" for label in GOEMOTIONS).encode()


def as_json(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(**columns: list) -> bytes:
    return pd.DataFrame(columns).to_parquet()


DAMAGED = {  # name of the file: its bytes, the groups of the rows that can be read, line and reason of the others
    "train.csv": (
        UTTERANCES
        + b"c1,1,sad,p,7,good_comma_ one,,\n"
        + b"c1,2,sad\n"
        + b"c1,3,sad,p,7,caf\xe9,,\n"
        + b"c2,1,bored,p,7,hello,,\n"
        + b"c3,1,sad,p,7,,,\n"
        + b'c4,1,sad,p,7,a "quote,,\n',
        ["c1", "c4"],
        [(3, "3 fields"), (4, "utf-8"), (5, "context"), (6, "no text")],
    ),
    "train.tsv": (
        b"good\t1,2\ta\nshort\t1\ncaf\xe9\t1\tb\nx\t28\tc\n \t1\td\nx\t\te\nx\t\xc2\xb2\tf\nx\t-1\tg\n"
        + b'"good, too\t27\th\n',
        ["a", "h"],
        [(2, "2 fields"), (3, "utf-8"), (4, "0 to 27"), (5, "no text"), *[(n, "0 to 27") for n in (6, 7, 8)]],
    ),
    "goemotions_1.csv": (
        RATER_HEADER
        + b'"two\nlines",a,%b\n' % ticks("joy")
        + b"two,b,%b\n" % ticks("joy").replace(b"1", b"2")
        + b"empty,c,%b\n" % ticks("joy").replace(b"1", b"")
        + b"short,d,1\n"
        + b'"bro"ken,e,%b\n' % ticks()
        + b"caf\xe9,f,%b\n" % ticks()
        + b",g,%b\n" % ticks()
        + b"good,h,%b\n" % ticks(),
        ["a", "h"],
        [(4, "0 nor 1"), (5, "0 nor 1"), (6, "3 fields"), (7, "quoting"), (8, "utf-8"), (9, "no text")],
    ),
    "train.jsonl": (
        as_json({"text": "good", "labels": [1, 2], "id": "a"})
        + b'{"text": \n[1]\n{"text": "caf\xe9", "labels": [1], "id": "b"}\n'
        + as_json({"text": "x", "labels": [28], "id": "c"}, {"text": None, "labels": [1], "id": "d"})
        + as_json({"text": "x", "labels": None, "id": "e"}, {"text": "x", "labels": [], "id": "f"})
        + as_json({"text": "half an emoji \ud83d", "labels": [1], "id": "g"}, {"text": "x", "labels": [1], "id": 8}),
        ["a", "8"],
        [
            (2, "json"),
            (3, "json"),
            (4, "utf-8"),
            (5, "0 to 27"),
            (6, "no text"),
            (7, "0 to 27"),
            (8, "0 to 27"),
            (9, "utf-8"),
        ],
    ),
    "train-00000-of-00001.parquet": (
        as_parquet(text=["good", "x", "x", None, "x"], labels=[[1, 2], [28], None, [1], []], id=list("abcde")),
        ["a"],
        [(2, "0 to 27"), (3, "0 to 27"), (4, "no text"), (5, "0 to 27")],
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_rows_are_refused_by_line_and_reason_and_all_others_read(tmp_path, name):
    data, groups, damage = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    reading = read(tmp_path / name)
    assert_tidy(reading.frame)
    assert list(reading.frame.group) == groups
    refused = refused_rows(reading)
    assert [(file, line) for file, line, _ in refused] == [(name, line) for line, _ in damage]
    for (_, _, reason), (line, wanted) in zip(refused, damage, strict=True):
        assert wanted in reason.lower(), f"line {line}"
    str(reading).encode()


def test_a_refused_first_utterance_does_not_make_the_listener_the_speaker(tmp_path):
    (tmp_path / "train.csv").write_bytes(UTTERANCES + b"c,1,sad\nc,2,sad,p,8,really?,,\nc,3,sad,p,7,yes,,\n")
    assert list(read(tmp_path / "train.csv").frame.role) == ["listener", "speaker"]


@pytest.mark.parametrize("how", ["full", "study"])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train.csv", b""),
        ("train.csv", UTTERANCES),
        ("train.csv", UTTERANCES + b"c1,1,sad,p,7,caf\xe9,,\n"),
        ("train.csv", b"a,b\n1,2\n"),
        ("train.csv", "text,label\n".encode("utf-16")),
        ("train.zip", b"PK\x03\x04\xff\xfe,\x80\n"),
        ("train.parquet", b"no parquet"),
        ("missing.csv", None),
    ],
    ids=["empty", "header only", "not UTF-8", "other columns", "UTF-16", "zip", "no parquet", "missing"],
)
def test_a_file_without_usable_rows_is_an_error_that_can_be_printed(tmp_path, how, name, data):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name) as caught:
        read(tmp_path / name, reading=how)
    str(caught.value).encode()


def test_a_reading_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="studdy"):
        read(RATERS, reading="studdy")


# tables of one's own

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "comma/mine.csv": lambda frame, path: frame.to_csv(path, index=False),
    "semicolon/mine.csv": lambda frame, path: frame.to_csv(path, index=False, sep=";"),
    "excel/mine.csv": lambda frame, path: frame.to_csv(
        path, index=False, sep=";", encoding="utf-8-sig", lineterminator="\r\n"
    ),
    "mine.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "mine.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "mine.parquet": lambda frame, path: frame.to_parquet(path),
}
TEXTS = ["one, two; three", 'she said "no"', "tab\there 🙂", "two\nlines", "no label", " "]


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    "labels", [["good", "bad", "good", "bad", None, "bad"], [1, 0, 1, 0, None, 0]], ids=["words", "numbers"]
)
def test_an_own_table_is_the_same_in_every_form(tmp_path, form, labels):
    column = pd.array(labels, dtype="string" if isinstance(labels[0], str) else "Int64")
    path = tmp_path / form
    path.parent.mkdir(exist_ok=True)
    WRITERS[form](pd.DataFrame({"words": TEXTS, "thread": list("aabbcc"), "feeling": column}), path)
    reading = read_own(path, "words", "feeling", "thread", name="mine")
    assert_tidy(reading.frame)
    assert list(reading.frame.text) == TEXTS[:4]
    assert list(reading.frame.labels) == [(str(label),) for label in labels[:4]]
    assert list(reading.frame.group) == list("aabb")
    assert set(reading.frame.corpus) == {"mine"}
    assert [reason for _, _, reason in refused_rows(reading)] == ["no label", "no text"]


@pytest.mark.parametrize("form", WRITERS)
def test_the_columns_of_an_own_table_may_have_any_name(tmp_path, form):
    path = tmp_path / form
    path.parent.mkdir(exist_ok=True)
    WRITERS[form](pd.DataFrame({"line": ["a", "b"], "file": ["x", "y"], "reason": ["p", "q"], "": ["", ""]}), path)
    frame = read_own(path, "line", "file").frame
    assert list(frame.text) == ["a", "b"] and list(frame.labels) == [("x",), ("y",)]


def test_columns_without_a_name_do_not_matter(tmp_path):
    (tmp_path / "own.csv").write_bytes(b"text,label,,\na,x,,\nb,y,,\n")
    assert list(read_own(tmp_path / "own.csv", "text", "label").frame.text) == ["a", "b"]


SEVERAL = [("joy", "love"), ("joy",), ("love", "fear"), ("fear",), ("joy",)]


@pytest.mark.parametrize("separator", ["|", ";", ",", " | ", "; ", ", "])
def test_several_labels_in_one_cell_are_taken_apart(tmp_path, separator):
    cells = [separator.join(labels) for labels in SEVERAL]
    pd.DataFrame({"text": list("abcde"), "label": cells}).to_csv(tmp_path / "own.csv", index=False)
    assert list(read_own(tmp_path / "own.csv", "text", "label").frame.labels) == SEVERAL


@pytest.mark.parametrize("form", ["own.jsonl", "own.parquet"])
def test_several_labels_as_a_list_are_taken_as_they_are(tmp_path, form):
    frame = pd.DataFrame({"text": list("abcde"), "label": [list(labels) for labels in SEVERAL]})
    WRITERS["mine" + Path(form).suffix](frame, tmp_path / form)
    assert list(read_own(tmp_path / form, "text", "label").frame.labels) == SEVERAL


@pytest.mark.parametrize("label", ["shock, disbelief", "rock; roll"])
def test_a_label_with_a_comma_or_semicolon_in_its_name_stays_one(tmp_path, label):
    pd.DataFrame({"text": list("abcd"), "label": [label, "calm"] * 2}).to_csv(tmp_path / "own.csv", index=False)
    reading = read_own(tmp_path / "own.csv", "text", "label")
    assert list(reading.frame.labels) == [(label,), ("calm",)] * 2


def test_a_cell_of_separators_alone_is_a_row_without_a_label(tmp_path):
    pd.DataFrame({"text": list("abc"), "label": ["joy|love", "|", "joy"]}).to_csv(tmp_path / "own.csv", index=False)
    reading = read_own(tmp_path / "own.csv", "text", "label")
    assert list(reading.frame.labels) == [("joy", "love"), ("joy",)]
    assert [reason for _, _, reason in refused_rows(reading)] == ["no label"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("own.csv", b"words,label\na,x\n", "no column 'text'.* words, label"),
        ("own.csv", b"text,words\na,x\n", "no column 'label'"),
        ("own.jsonl", b'{"words": "a", "label": "x"}\n', "no column 'text'"),
        ("own.csv", b"text,text,label\na,b,x\n", "text"),
        ("own.csv", "text;gefühl\na;x\n".encode("latin-1"), "no column 'label'"),
        ("own.csv", "text,label\na,x\n".encode("utf-16"), "no column 'text'"),
        ("own.csv", b"", "empty"),
        ("own.jsonl", b"", "empty"),
        ("own.csv", b"text,label\n", "no usable row"),
        ("own.csv", b"text,label\na,\n", "no usable row.*no label"),
        ("own.csv", None, "does not exist"),
    ],
    ids=[
        "no text column",
        "no label column",
        "no text column in JSON",
        "a column twice",
        "Latin-1",
        "UTF-16",
        "empty",
        "empty JSON",
        "header only",
        "no label",
        "missing",
    ],
)
def test_an_own_table_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, data, said):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises((DataError, SourceError), match=said) as caught:
        read_own(path, "text", "label")
    assert str(path) in str(caught.value)
    str(caught.value).encode()


# archives


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **headers: str
) -> tuple[tarfile.TarInfo, io.BytesIO]:
    "One entry of an archive."
    info = tarfile.TarInfo(name)
    info.pax_headers = headers
    info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
    return info, io.BytesIO(data)


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, io.BytesIO]) -> Path:
    "A tar.gz with a good table in front of the given entries."
    with tarfile.open(path, "w:gz") as archive:
        for info, data in (member("train.csv", (DIALOGUES / "train.csv").read_bytes()), *members):
            archive.addfile(info, data)
    return path


@pytest.fixture
def everything(monkeypatch, tmp_path) -> Callable[[], list[Path]]:
    "What lies in any place that an archive could have been unpacked to."
    inside = tmp_path / "a/b/c"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    return lambda: sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "bad",
    [
        member("../../climbs.csv", b"x"),
        member("ok/../../../climbs.csv", b"x"),
        member("ABSOLUTE", b"x"),
        member("link.csv", kind=tarfile.SYMTYPE),
        member("link.csv", kind=tarfile.LNKTYPE),
        member("device.csv", kind=tarfile.CHRTYPE),
        member("device.csv", kind=tarfile.BLKTYPE),
        member("pipe.csv", kind=tarfile.FIFOTYPE),
        member("holes.csv", kind=tarfile.GNUTYPE_SPARSE),
        member("volume.csv", kind=b"V"),
        member("notes.txt", kind=tarfile.SYMTYPE),
        member("half-\udcfc-line\n.csv", kind=tarfile.SYMTYPE),
    ],
    ids=[
        *("climbs", "climbs later", "absolute", "symlink", "hard link", "device", "block device", "pipe"),
        *("holes", "unknown kind", "symlink that is no table", "odd name"),
    ],
)
def test_a_dangerous_archive_is_refused_and_nothing_is_written(everything, tmp_path, bad, tried):
    info, data = bad
    if info.name == "ABSOLUTE":
        info.name = str(tmp_path / "absolute.csv")
    data.seek(0)
    path = archive_of(Path("x.tar.gz").resolve(), (info, data))
    before = everything()
    with pytest.raises(DataError, match="get the archive from its publisher") as caught:
        read(path)
    assert str(path) in str(caught.value) and repr(info.name) in str(caught.value)
    assert everything() == before
    tried("hostile archives", 1)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.95])
def test_a_truncated_archive_is_refused_and_nothing_is_written(everything, share):
    path = archive_of(Path("x.tar.gz").resolve(), member("more.bin", os.urandom(5000)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    before = everything()
    with pytest.raises(DataError, match="cut short or damaged"):
        read(path)
    assert everything() == before


def test_a_good_archive_is_read_and_nothing_is_written(everything):
    path = archive_of(Path("x.tar.gz").resolve(), member("readme.txt", b"x"), member("folder", kind=tarfile.DIRTYPE))
    before = everything()
    pd.testing.assert_frame_equal(read(path).frame, read(DIALOGUES / "train.csv").frame)
    assert everything() == before


@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_that_ends_between_two_tables_is_refused(tmp_path, packed):
    path = archive_of(tmp_path / "x.tar.gz", member("valid.csv", (DIALOGUES / "valid.csv").read_bytes()))
    whole = gzip.decompress(path.read_bytes())
    with tarfile.open(path) as archive:
        ends = [info.offset_data + -(-info.size // 512) * 512 for info in archive]
    path = path if packed else tmp_path / "x.tar"
    for data in (whole[: ends[0]], whole[: ends[1]], whole[: ends[0]] + b"x" * 512 + whole[ends[0] + 512 :]):
        path.write_bytes(gzip.compress(data) if packed else data)
        with pytest.raises(DataError, match="cut short or damaged"):
            read(path)
    path.write_bytes(gzip.compress(whole)[:-8] + bytes(8) if packed else whole + b"whatever follows")
    if packed:
        with pytest.raises(DataError, match="cut short or damaged"):  # gzip's own sum is wrong
            read(path)
    else:
        assert len(read(path).files) == 2


def test_two_tables_of_one_name_are_refused(tmp_path):
    table = (DIALOGUES / "train.csv").read_bytes()
    for name in ("train.csv", "./train.csv", "other/train.csv"):
        with pytest.raises(DataError, match=rf"'train.csv' and '{name}', two tables of one name"):
            read(archive_of(tmp_path / "x.tar.gz", member(name, table)))
    path = archive_of(tmp_path / "x.tar.gz", *[member(f"{part}/readme.txt") for part in "ab"])
    pd.testing.assert_frame_equal(read(path).frame, read(DIALOGUES / "train.csv").frame)


@pytest.mark.parametrize("size", [0, 512, 700])
def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch, tmp_path, size):
    path = archive_of(tmp_path / "x.tar.gz", member("zeros.bin", bytes(1_000_000)), member("small.bin", bytes(size)))
    monkeypatch.setattr(files, "MAX_BYTES", 500_000)
    with pytest.raises(DataError, match="500,000 bytes"):
        read(path)


ZEROS = 10_000_000_000


def header(info: tarfile.TarInfo, size: int) -> bytes:
    "An entry's header, which claims a size."
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


BOMBS = {
    "a table": (lambda: header(member("zeros.csv")[0], ZEROS), "unpacks to more"),
    "no table": (lambda: header(member("zeros.bin")[0], ZEROS), "unpacks to more"),
    "after the end": (lambda: bytes(1024), "unpacks to more"),
    "a long name": (lambda: header(member("zeros", kind=tarfile.GNUTYPE_LONGNAME)[0], ZEROS), "headers"),
    "an extended header": (lambda: header(member("zeros", kind=tarfile.XHDTYPE)[0], ZEROS), "headers"),
    "a header for all": (lambda: header(member("zeros", kind=tarfile.XGLTYPE)[0], ZEROS), "headers"),
}
READS = """
import resource, sys
from pathlib import Path
from emo_nb.files import files_of
for name in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        list(files_of(Path(name)))
    except Exception as error:
        print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


def test_ten_gigabytes_of_zeros_are_refused_in_little_memory(tmp_path, tried):
    many = gzip.compress(bytes(ZEROS // 100)) * 100  # gzip files one after the other are one
    for where, (start, _) in BOMBS.items():
        (tmp_path / f"{where}.tar.gz").write_bytes(gzip.compress(start()) + many)
    paths = [tmp_path / f"{where}.tar.gz" for where in BOMBS]
    assert max(path.stat().st_size for path in paths) < ZEROS // 1000
    said = python(READS, *paths).splitlines()
    for line, path, (_, why) in zip(said, paths, BOMBS.values(), strict=True):
        kind, megabytes, words = line.split(maxsplit=2)
        assert kind == "DataError" and why in words and str(path) in words
        assert int(megabytes) < 100
    tried("hostile archives", len(BOMBS))


def negative(kind: bytes = tarfile.REGTYPE) -> bytes:
    "A header that claims a size below zero, as GNU's format can."
    return header(member("x.csv", kind=kind)[0], -1024)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (lambda: negative(), "publisher|damaged"),
        (lambda: negative(tarfile.GNUTYPE_LONGNAME), "publisher|damaged"),
        (lambda: negative(tarfile.XHDTYPE), "publisher|damaged"),
        (lambda: member("x.csv", size="-1024")[0].tobuf(tarfile.PAX_FORMAT), "publisher|damaged"),
        (lambda: member("x.csv", **{"GNU.sparse.size": "many"})[0].tobuf(tarfile.PAX_FORMAT), "cut short or damaged"),
        (lambda: header(member("x", kind=tarfile.XHDTYPE)[0], 0) * 5000, "cut short or damaged"),
        (lambda: b"".join(header(member(f"{i}.txt")[0], 0) for i in range(1001)), "more than 1,000 files"),
        (lambda: member("x.csv", comment="x" * 9_000)[0].tobuf(tarfile.PAX_FORMAT), "headers"),
        (lambda: member("x.csv", comment="x" * 7_000)[0].tobuf(tarfile.PAX_FORMAT) * 600, "one name"),
        (lambda: member("x.txt", comment="x" * 7_000)[0].tobuf(tarfile.PAX_FORMAT) * 600, "headers"),
    ],
    ids=[
        *("size below zero", "name's size below zero", "extended size below zero", "extended size said below zero"),
        *("holes without a number", "headers of headers", "many files", "long header", "names", "many long headers"),
    ],
)
def test_an_archive_that_lies_about_itself_is_refused(tmp_path, entries, why, tried):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(entries() + bytes(1024)))
    with pytest.raises(DataError, match=why) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    tried("hostile archives", 1)


def test_damaged_archives_are_read_whole_or_refused(tmp_path, tried):
    damaged = int(os.environ.get("FUZZ", 10_000)) // 10
    rng = random.Random(0)
    whole = gzip.decompress(
        archive_of(tmp_path / "x.tar.gz", member("a.txt", b"x" * 600), member("b.csv", b"y", note="z")).read_bytes()
    )
    path = tmp_path / "x.tar"
    path.write_bytes(whole)
    good = list(files.files_of(path))
    for _ in range(damaged):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            assert len(list(files.files_of(path))) == len(good)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    tried("damaged archives", damaged)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link", "link to a pipe"])
def test_what_is_no_file_is_named_and_nobody_waits_for_it(tmp_path, kind, name):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("pipe")
        if kind == "link to a pipe":
            os.mkfifo(path.with_name("pipe"))
    for given in (path.parent, path):
        with pytest.raises((DataError, SourceError)) as caught:
            read(given)
        assert str(given) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_of_links_to_tables_is_read(tmp_path):
    (tmp_path / "train.csv").symlink_to(DIALOGUES / "train.csv")
    pd.testing.assert_frame_equal(read(tmp_path).frame, read(DIALOGUES / "train.csv").frame)


@pytest.mark.parametrize("how", ["full", "study"])
def test_an_archive_or_folder_without_a_table_is_named(tmp_path, how):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.addfile(*member("readme.txt", b"x"))
    for path in (tmp_path / "x.tar.gz", tmp_path):
        with pytest.raises(DataError, match=rf"{path} holds no \.csv, \.tsv, \.jsonl or \.parquet file"):
            read(path, reading=how)


def test_an_archive_whose_name_is_in_capitals_is_one(tmp_path):
    with tarfile.open(tmp_path / "DATA.TAR.GZ", "w:gz") as archive:
        archive.add(DIALOGUES / "train.csv", "train.csv")
    assert list(read(tmp_path / "DATA.TAR.GZ").files) == ["train.csv"]


# splitting and balancing


@pytest.fixture
def labelled() -> pd.DataFrame:
    "Both samples with labels, and each GoEmotions text once more, shouted, under another id."
    raters = read(RATERS).frame
    shouted = raters.assign(text=raters.text.str.upper() + "!", group=raters.group + "x")
    return label_for(pd.concat([raters, shouted, read(DIALOGUES).frame], ignore_index=True), SHARED10)


def test_the_group_split_leaks_nothing_and_is_the_same_every_time(labelled):
    parts = split(labelled, "group", seed=1)
    assert set(parts.part) == {"train", "dev", "test"}
    assert parts.groupby(["corpus", "group"], observed=True).part.nunique().max() == 1
    assert parts.part.groupby(fold(parts.text)).nunique().max() == 1
    assert 0.15 < (parts.part == "test").sum() / len(labelled) < 0.25
    pd.testing.assert_frame_equal(parts, split(labelled, "group", seed=1))
    assert not parts.index[parts.part == "test"].equals((again := split(labelled, seed=2)).index[again.part == "test"])


def test_the_studys_split_has_the_studys_test_rows(labelled):
    parts = split(labelled, "study")
    _, tested = train_test_split(labelled, test_size=0.2, stratify=labelled.label, random_state=42)
    assert len(parts) == len(labelled)
    assert sorted(parts.index[parts.part == "test"]) == sorted(tested.index)


def test_the_official_split_is_the_corpuss_own(labelled):
    dialogues = labelled[labelled.corpus == "empathetic"]
    parts = split(dialogues, "official")
    assert (parts.part == parts.split).all() and set(parts.part) == {"train", "dev", "test"}
    assert len(parts[parts.part == "test"]) == (dialogues.split == "test").sum()
    leak = dialogues[dialogues.split == "test"].head(1).assign(split="train", group="other")
    assert len(split(pd.concat([dialogues, leak], ignore_index=True), "official")) == len(parts)
    with pytest.raises(ConfigError, match="goemotions has no official split"):
        split(labelled, "official")


def test_a_split_that_cannot_be_made_is_a_config_error(labelled):
    with pytest.raises(ConfigError, match="nonsense"):
        split(labelled, "nonsense")
    with pytest.raises(ConfigError, match="'joy' has 2"):
        split(pd.concat([labelled[labelled.label == "joy"].head(2), labelled[labelled.label == "anger"]]), "study")


def test_balance_caps_neutral_alone_and_shuffles():
    labels = ["neutral"] * 12_000 + ["joy"] * 11_000 + ["pride"] * 5
    frame = pd.DataFrame({"label": labels, "text": [f"text {i}" for i in range(len(labels))]})
    balanced = balance(frame)
    assert balanced.label.value_counts().to_dict() == {"joy": 11_000, "neutral": 10_000, "pride": 5}
    assert balanced.index.is_unique and not balanced.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(balanced, balance(frame))
    assert set(balance(frame, cap=3, labels=("neutral", "joy", "pride")).label.value_counts()) == {3}
