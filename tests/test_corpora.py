"""Reading and splitting: every row of every file form is accounted for, and no text stands on two sides of a split."""

import gzip
import json
import os
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from fuzzing import check_reading
from helpers import refusal
from sklearn.model_selection import train_test_split

from emo_nb.core import ConfigError, DataError, SourceError
from emo_nb.corpora import load_corpus, normalize_text, read_corpus, read_table
from emo_nb.explore import duplicates, label_counts
from emo_nb.prepare import SPLITS, balance, map_labels, split_rows
from emo_nb.sources import SAMPLE_DIR
from emo_nb.taxonomy import EMPATHETIC, GOEMOTIONS, TASKS

pytestmark = pytest.mark.usefixtures("alone")
DIALOGUES = SAMPLE_DIR / "empatheticdialogues"
RATERS = SAMPLE_DIR / "goemotions_raw.csv"


# The real corpora


@pytest.fixture(scope="session")
def empathetic(corpora_dir, tmp_path_factory) -> dict[str, Path]:
    "EmpatheticDialogues as archive, as unpacked folder, and its training file alone."
    folder = tmp_path_factory.mktemp("unpacked")
    path = corpora_dir / "empatheticdialogues.tar.gz"
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    folder /= "empatheticdialogues"
    return {"archive": path, "folder": folder, "one file": folder / "train.csv"}


@pytest.mark.corpora
@pytest.mark.parametrize("form", ["archive", "folder", "one file"])
def test_empathetic_dialogues_are_read_whole_and_with_the_studys_counts_as_the_study_did(empathetic, form):
    reading = load_corpus("empathetic", empathetic[form])
    wanted = {"train": 84_179} if form == "one file" else {"train": 84_179, "dev": 12_069, "test": 10_960}
    assert reading.frame.split.astype(str).value_counts().to_dict() == wanted
    assert check_reading(reading) == []
    reading = load_corpus("empathetic", empathetic[form], reading="study")
    assert (reading.rows, len(reading.frame)) == (84_179, 76_678)
    assert "7,501 lost" in str(reading)
    counts = {"surprised": 3952, "excited": 2935, "angry": 2740, "proud": 2719, "annoyed": 2642}
    assert label_counts(reading.frame).head(5).to_dict() == counts


ROLES = {"utterance": {"speaker", "listener"}, "prompt": {"prompt"}, "speaker": {"speaker"}, "dialogue": {"dialogue"}}


def check_conversations(place: Path, folder: Path, unit: str) -> int:
    "Each text is one line or one conversation of the files in a folder, word for word; how many there are."
    conversations: dict[str, list[list[str]]] = {}  # without the package
    for path in sorted(folder.glob("*.csv")):
        for line in path.read_text(encoding="utf-8").split("\n")[1:-1]:
            conversations.setdefault(line.split(",")[0], []).append(line.split(","))
    texts = {  # utterances are numbered from one, and the speaker begins
        "utterance": lambda lines: [line[5] for line in lines],
        "prompt": lambda lines: [lines[0][3]],
        "speaker": lambda lines: ["\n".join(line[5] for line in lines if int(line[1]) % 2)],
        "dialogue": lambda lines: ["\n".join(line[5] for line in lines)],
    }[unit]
    reading = read_corpus(place, unit)
    assert check_reading(reading) == []
    frame = reading.frame.sort_values("group", kind="stable")
    assert list(zip(frame.group, frame.text, frame.labels, strict=True)) == [
        (group, text.replace("_comma_", ","), (lines[0][2],))
        for group, lines in sorted(conversations.items())
        for text in texts(lines)
    ]
    assert set(frame.role) == ROLES[unit] and set(frame.split) == {"train", "dev", "test"}
    assert set(label_counts(frame).index) == set(EMPATHETIC)
    return len(frame)


@pytest.mark.parametrize("unit", ROLES)
@pytest.mark.parametrize("where", ["sample", pytest.param("corpus", marks=pytest.mark.corpora)])
def test_a_text_of_the_dialogues_is_what_the_unit_says(request, unit, where):
    if where == "sample":
        assert check_conversations(DIALOGUES, DIALOGUES, unit) == (773 if unit == "utterance" else 160)
    else:
        places = request.getfixturevalue("empathetic")
        rows = check_conversations(places["archive"], places["folder"], unit)
        assert rows == (107_208 if unit == "utterance" else 24_847)


@pytest.mark.corpora
def test_goemotions_is_read_whole_with_its_known_leaks(corpora_dir):
    for name, rows in (("goemotions_raw_sample.csv", 10_429), ("go_emotions_dataset_sample.csv", 4_999)):
        reading = load_corpus("goemotions-raw", corpora_dir / name)
        assert (reading.rows, check_reading(reading)) == (rows, [])
    reading = load_corpus("goemotions", corpora_dir)
    assert check_reading(reading) == []
    lines = [line.split("\t") for line in (corpora_dir / "goemotions/train.tsv").read_text("utf-8").splitlines()]
    train = reading.frame[reading.frame.split == "train"]
    assert list(zip(train.text, train.group, strict=True)) == [(text, comment) for text, _, comment in lines]
    assert list(train.labels) == [tuple(GOEMOTIONS[int(i)] for i in ids.split(",")) for _, ids, _ in lines]
    table = duplicates(reading.frame)
    assert table.rows.to_dict() == {"train": 43_410, "dev": 5_426, "test": 5_427}
    assert table.loc["train", "repeats, exact"] == 183
    assert table.loc["test", ["also in train, exact", "also in train, normalized"]].tolist() == [37, 109]


def test_the_raters_sample_is_read_as_it_stands():
    raw = pd.read_csv(RATERS, dtype=str)
    reading = read_corpus(RATERS)
    assert check_reading(reading, RATERS) == []
    ticks = raw[list(GOEMOTIONS)].to_numpy() == "1"
    wanted = [tuple(name for name, tick in zip(GOEMOTIONS, row, strict=True) if tick) for row in ticks]
    assert (list(reading.frame.text), list(reading.frame.labels)) == (list(raw.text), wanted)
    assert {len(labels) for labels in wanted} >= {0, 1, 2}


# Damaged rows

UTTERANCES = b"conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
RATER_HEADER = ("text,id," + ",".join(GOEMOTIONS) + "\n").encode()
JOY = ",".join("1" if label == "joy" else "0" for label in GOEMOTIONS).encode()


def as_json(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


DAMAGED = {  # name of the file: its bytes, the groups of the rows that can be read, line and reason of the others
    "train.csv": (
        UTTERANCES
        + b"c1,1,sad,p,7,good_comma_ one,,\nc1,2,sad\nc1,3,sad,p,7,caf\xe9,,\n"
        + b'c2,1,bored,p,7,hello,,\nc3,1,sad,p,7,,,\nc4,1,sad,p,7,a "quote,,\n',
        ["c1", "c4"],
        {3: "3 fields", 4: "utf-8", 5: "context", 6: "no text"},
    ),
    "train.tsv": (
        b"good\t1,2\ta\nshort\t1\ncaf\xe9\t1\tb\nx\t28\tc\n \t1\td\nx\t\te\nx\t\xc2\xb2\tf\nx\t-1\tg\n"
        + b'"good, too\t27\th\n',
        ["a", "h"],
        {2: "2 fields", 3: "utf-8", 4: "0 to 27", 5: "no text", 6: "0 to 27", 7: "0 to 27", 8: "0 to 27"},
    ),
    "goemotions_1.csv": (
        RATER_HEADER
        + b'"two\nlines",a,%b\ntwo,b,%b\n' % (JOY, JOY.replace(b"1", b"2"))
        + b'empty,c,%b\nshort,d,1\n"bro"ken,e,%b\n' % (JOY.replace(b"1", b""), JOY)
        + b"caf\xe9,f,%b\n,g,%b\ngood,h,%b\n" % (JOY, JOY, JOY),
        ["a", "h"],
        {4: "0 nor 1", 5: "0 nor 1", 6: "3 fields", 7: "quoting", 8: "utf-8", 9: "no text"},
    ),
    "train.jsonl": (
        as_json({"text": "good", "labels": [1, 2], "id": "a"})
        + b'{"text": \n[1]\n{"text": "caf\xe9", "labels": [1], "id": "b"}\n'
        + as_json({"text": "x", "labels": [28], "id": "c"}, {"text": None, "labels": [1], "id": "d"})
        + as_json({"text": "x", "labels": None, "id": "e"}, {"text": "x", "labels": [], "id": "f"})
        + as_json({"text": "half an emoji \ud83d", "labels": [1], "id": "g"}, {"text": "x", "labels": [1], "id": 8}),
        ["a", "8"],
        {2: "json", 3: "json", 4: "utf-8", 5: "0 to 27", 6: "no text", 7: "0 to 27", 8: "0 to 27", 9: "surrogate"},
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_rows_are_refused_by_line_and_reason_and_all_others_read(tmp_path, name):
    data, groups, damage = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    reading = read_corpus(tmp_path / name)
    assert list(reading.frame.group) == groups
    refused = check_reading(reading)
    assert [(file, line) for file, line, _ in refused] == [(name, line) for line in damage]
    assert not [reason for _, line, reason in refused if damage[line] not in reason.lower()]


def test_the_listener_is_not_taken_for_a_speaker_whose_lines_are_refused_or_missing(tmp_path):
    (tmp_path / "train.csv").write_bytes(UTTERANCES + b"c,1,sad\nc,2,sad,p,8,really?,,\nc,3,sad,p,7,yes,,\n")
    assert list(read_corpus(tmp_path / "train.csv").frame.role) == ["listener", "speaker"]
    (tmp_path / "train.csv").write_bytes(UTTERANCES + b"c,1,sad,p,7,yes,,\nd,2,sad,p,8,really?,,\n")
    assert check_reading(read_corpus(tmp_path / "train.csv", "speaker")) == [("train.csv", 3, "no text")]


SEVERAL = [("joy", "love"), ("joy",), ("love", "fear"), ("fear",), ("joy",)]
CELLS = [  # a column of labels, and what they are
    *(([by.join(labels) for labels in SEVERAL], SEVERAL) for by in ("|", ";", ",", " | ", ", ")),
    (["joy|love", "|", "joy"], [("joy", "love"), ("joy",)]),
]


@pytest.mark.parametrize(("cells", "labels"), CELLS, ids=lambda value: str(value[0]))
def test_several_labels_in_one_cell_are_taken_apart_unless_the_user_says_otherwise(tmp_path, cells, labels):
    frame = pd.DataFrame({"text": list("abcde")[: len(cells)], "label": cells})
    frame.to_csv(tmp_path / "own.csv", index=False)
    assert list(read_table(tmp_path / "own.csv", "text", "label").frame.labels) == labels
    whole = read_table(tmp_path / "own.csv", "text", "label", label_sep="none").frame.labels
    assert list(whole) == [(cell,) for cell in cells]
    frame = pd.DataFrame({"text": "a", "label": [list(names) for names in labels]})
    frame.to_json(tmp_path / "own.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "own.parquet")
    for name in ("own.jsonl", "own.parquet"):
        assert list(read_table(tmp_path / name, "text", "label").frame.labels) == labels


def test_an_own_table_is_named_by_its_place_and_may_be_many_files(tmp_path, monkeypatch):
    (tmp_path / "moods").mkdir()
    monkeypatch.chdir(tmp_path / "moods")
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("text,label,,\nx,y,,\n")
    for path, corpus, rows in ((".", "moods", 2), ("../moods", "moods", 2), ("a.csv", "a", 1)):
        frame = read_table(path, "text", "label").frame
        assert (frame.corpus.iloc[0], len(frame)) == (corpus, rows)


NO_TEXT, NO_LABEL = "no column 'text'", "no column 'label'"
UNUSABLE = {  # for a corpus; as a table of one's own, with the reason
    "empty": ("own.csv", b"", "empty"),
    "empty JSON": ("own.jsonl", b"", "empty"),
    "header only": ("own.csv", b"text,label\n", "no usable row"),
    "corpus's header only": ("train.csv", UTTERANCES, NO_TEXT),
    "corpus not in UTF-8": ("train.csv", UTTERANCES + b"c1,1,sad,p,7,caf\xe9,,\n", NO_TEXT),
    "no text column": ("own.csv", b"words,label\na,x\n", NO_TEXT, "'words', 'label'"),
    "no label column": ("own.csv", b"text,words\na,x\n", NO_LABEL),
    "no label": ("own.csv", b"text,label\na,\n", "no usable row", "not labelled (a blank)"),
    "a column twice": ("own.csv", b"text,text,label\na,b,x\n", "has the column 'text' twice"),
    "Latin-1": ("own.csv", "text;gefühl\na;x\n".encode("latin-1"), NO_LABEL),
    "half of UTF-16": ("own.csv", "text,label\na,x\n".encode("utf-16")[:-1], "damaged UTF-16"),
    "no Parquet": ("own.parquet", b"no parquet", "not a readable Parquet file"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_without_usable_rows_is_named_with_the_reason(tmp_path, what):
    name, data, *why = UNUSABLE[what]
    (tmp_path / name).write_bytes(data)
    with refusal(DataError, name, *why):
        read_table(tmp_path / name, "text", "label")
    for how in ("full", "study"):
        with refusal(DataError, name):
            read_corpus(tmp_path / name, reading=how)


# Archives


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None, **headers: str
) -> bytes:
    "One entry of an archive, of a size of its own or one that it claims."
    info = tarfile.TarInfo(name)
    info.pax_headers, info.type, info.linkname = headers, kind, "/etc/passwd"
    info.size = len(data) if size is None else size
    form = tarfile.PAX_FORMAT if headers else tarfile.GNU_FORMAT
    return info.tobuf(form, errors="surrogateescape") + data + bytes(-len(data) % 512)


TRAIN = (DIALOGUES / "train.csv").read_bytes()
GOOD, END, MORE = entry("train.csv", TRAIN), bytes(1024), entry("more.csv", os.urandom(5000))
PUBLISHER, CUT = "get the archive from its publisher", "cut short or damaged"
BAD = {  # what comes after a good table, and why it is refused
    "climbs": (entry("ok/../../../climbs.csv", b"x") + END, PUBLISHER),
    "absolute": (None, PUBLISHER),  # named in the test, below its own folder
    "symlink": (entry("link.csv", kind=tarfile.SYMTYPE) + END, PUBLISHER),
    "holes": (entry("holes.csv", kind=tarfile.GNUTYPE_SPARSE) + END, PUBLISHER),
    "unknown kind": (entry("volume.csv", kind=b"V") + END, PUBLISHER),
    "symlink of an odd name": (entry("half-\udcfc-line\n.txt", kind=tarfile.SYMTYPE) + END, PUBLISHER),
    "no end": (b"", CUT),
    "cut in a table": (MORE[:2000], CUT),
    "cut between tables": (MORE, CUT),
    "damaged header": (b"x" * 512 + MORE[512:] + END, CUT),
    "two tables of one name": (entry("other/train.csv", TRAIN) + END, "two tables of one name"),
    "size below zero": (entry("x.csv", size=-1024) + END, PUBLISHER),
    "size of a name below zero": (entry("x.csv", size=-1024, kind=tarfile.GNUTYPE_LONGNAME) + END, "headers"),
    "headers of headers": (entry("x", kind=tarfile.XHDTYPE) * 5000 + END, CUT),
    "many files": (b"".join(entry(f"{i}.txt") for i in range(1001)) + END, "more than 1,000 files"),
    "many long headers": (entry("x.txt", comment="x" * 7_000) * 600 + END, "headers"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_archive_that_is_dangerous_cut_or_false_is_refused_and_nothing_is_written(
    monkeypatch, tmp_path, what, tried
):
    entries, why = BAD[what]
    entries = entry(str(tmp_path / "absolute.csv"), b"x") + END if entries is None else entries
    inside = tmp_path / "a/b/c"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for name, pack in (("x.tar", bytes), ("x.tar.gz", gzip.compress)):
        (inside / name).write_bytes(pack(GOOD + entries))
        before = sorted(tmp_path.rglob("*"))
        with refusal(DataError, inside / name, why):
            read_corpus(inside / name)
        assert sorted(tmp_path.rglob("*")) == before
    tried("hostile archives", 2)


def test_an_archive_whose_gzip_is_cut_or_has_a_wrong_checksum_is_refused(tmp_path):
    whole = gzip.compress(GOOD + MORE + END)
    for data in (b"", whole[:100], whole[:-9], whole[:-8] + bytes(8)):
        (tmp_path / "x.tar.gz").write_bytes(data)
        with pytest.raises(DataError, match=CUT):
            read_corpus(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar", "DATA.TAR.GZ"])
def test_a_good_archive_is_read(tmp_path, name):
    data = entry("folder", kind=tarfile.DIRTYPE) + entry("a/readme.txt", b"x") + entry("b/readme.txt") + GOOD + END
    (tmp_path / name).write_bytes(data + b"whatever follows" if name == "x.tar" else gzip.compress(data))
    pd.testing.assert_frame_equal(read_corpus(tmp_path / name).frame, read_corpus(DIALOGUES / "train.csv").frame)


ZEROS = 10_000_000_000


def test_ten_gigabytes_of_zeros_are_refused_in_little_memory(tmp_path, tried):
    many = gzip.compress(bytes(ZEROS // 100)) * 100  # gzip files one after the other are one
    bombs = {
        entry("zeros.csv", size=ZEROS): "unpacks to more",
        entry("zeros.bin", size=ZEROS): "unpacks to more",
        entry("zeros", kind=tarfile.GNUTYPE_LONGNAME, size=ZEROS): "headers",
        END: "unpacks to more",
    }
    for start, why in bombs.items():
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(start) + many)
        tracemalloc.start()
        with refusal(DataError, tmp_path / "x.tar.gz", why):
            read_corpus(tmp_path / "x.tar.gz")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100e6
    tried("hostile archives", len(bombs))


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.tar.gz"])
def test_what_is_not_a_file_is_named_and_nobody_waits_for_it(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("none"), lambda path: path.symlink_to("../pipe")):
        (tmp_path / "data").mkdir()
        make(tmp_path / "data" / name)
        for given in (tmp_path / "data", tmp_path / "data" / name):
            with refusal((DataError, SourceError), given):
                read_corpus(given)
        shutil.rmtree(tmp_path / "data")


def test_a_folder_of_links_to_tables_is_read_and_a_place_without_a_table_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(entry("readme.txt", b"x") + END)
    for path in (tmp_path / "x.tar", tmp_path):
        with pytest.raises(DataError, match=rf"{path} holds no \.csv, \.tsv, \.jsonl or \.parquet file"):
            read_corpus(path)
    (tmp_path / "train.csv").symlink_to(DIALOGUES / "train.csv")
    pd.testing.assert_frame_equal(read_corpus(tmp_path).frame, read_corpus(DIALOGUES / "train.csv").frame)


# Splitting and balancing


@pytest.fixture(scope="module")
def labelled() -> pd.DataFrame:
    "Both samples with labels, and each GoEmotions text once more, shouted, under another id."
    raters = read_corpus(RATERS).frame
    shouted = raters.assign(text=raters.text.str.upper() + "!", group=raters.group + "x")
    frame = pd.concat([raters, shouted, read_corpus(DIALOGUES).frame], ignore_index=True)
    return map_labels(frame, TASKS["shared10"])


def test_the_group_split_leaks_nothing_and_is_the_same_every_time(labelled):
    splits = split_rows(labelled, "group", seed=1)
    rows = pd.concat([part.assign(side=name) for name, part in splits.items()])
    assert list(splits) == list(SPLITS) and set(rows.side) == set(SPLITS)
    assert rows.groupby(["corpus", "group"], observed=True).side.nunique().max() == 1
    assert rows.side.groupby(normalize_text(rows.text)).nunique().max() == 1
    assert 0.15 < len(splits["test"]) / len(labelled) < 0.25
    pd.testing.assert_frame_equal(splits["test"], split_rows(labelled, "group", seed=1)["test"])
    assert not splits["test"].index.equals(split_rows(labelled, seed=2)["test"].index)


def test_the_studys_split_has_the_studys_test_rows(labelled):
    splits = split_rows(labelled, "study")
    _, tested = train_test_split(labelled, test_size=0.2, stratify=labelled.targets.str[0], random_state=42)
    assert sum(map(len, splits.values())) == len(labelled)
    assert sorted(splits["test"].index) == sorted(tested.index)


def test_the_official_split_is_the_corpuss_own_without_its_leaks(labelled):
    dialogues = labelled[labelled.corpus == "empathetic"]
    splits = split_rows(dialogues, "official")
    assert all((splits[name].split == name).all() and len(splits[name]) for name in SPLITS)
    assert len(splits["test"]) == (dialogues.split == "test").sum()
    leak = dialogues[dialogues.split == "test"].head(1).assign(split="train", group="other")
    again = split_rows(pd.concat([dialogues, leak], ignore_index=True), "official")
    assert {name: len(rows) for name, rows in again.items()} == {name: len(rows) for name, rows in splits.items()}


def test_a_split_that_cannot_be_made_is_a_config_error(labelled):
    for how, rows, why in (
        ("nonsense", labelled, "nonsense"),
        ("official", labelled, "goemotions has no official split"),
        ("study", labelled[labelled.targets == ("joy",)].head(2), "'joy' has 2"),
    ):
        with pytest.raises(ConfigError, match=why):
            split_rows(rows, how)


def test_balance_caps_neutral_alone_and_shuffles():
    labels = ["neutral"] * 12_000 + ["joy"] * 11_000 + ["pride"] * 5
    frame = pd.DataFrame({"targets": [(label,) for label in labels]})
    balanced = balance(frame)
    assert balanced.targets.str[0].value_counts().to_dict() == {"joy": 11_000, "neutral": 10_000, "pride": 5}
    assert balanced.index.is_unique and not balanced.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(balanced, balance(frame))
