"""Tables as people have them: how labels are written, quotes, formats, published layouts. Each is read right or refused."""

import gzip
import json
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import check_reading
from helpers import official_rows, refusal

from emo_nb.core import ConfigError, DataError
from emo_nb.corpora import read_table
from emo_nb.io.labels import read_label_names
from emo_nb.io.readers import iter_texts, read_table_file
from emo_nb.taxonomy import GOEMOTIONS

pytestmark = pytest.mark.usefixtures("alone")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def rows(path: Path, *columns: str, **options) -> list[tuple[str, tuple[str, ...]]]:
    "Texts and labels; every row and every line of the file is accounted for."
    result = read_table(path, *columns, **options)
    check_reading(result)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files if "TweetEval" not in result.form else []:
        table = read_table_file(file.name, file.read_bytes(), columns)
        counts = table.table.lines
        of_no_row = counts["header"] + counts["blank"] + counts["continued"]
        assert not counts or counts["lines"] == len(table.rows) + len(table.refused) + of_no_row
    return list(zip(result.frame.text, result.frame.labels, strict=True))


# How labels are written

LABELS = {  # a cell of a CSV file, and its labels; None where there are none
    "['joy', 'love']": ("joy", "love"),
    "['joy']": ("joy",),
    '["joy", "love"]': ("joy", "love"),
    "('joy',)": ("joy",),
    "('joy')": ("joy",),
    "{'joy'}": ("joy",),
    "[17 25]": ("17", "25"),
    "[17, 25]": ("17", "25"),
    "['joy' 'love']": ("joy", "love"),
    "array(['joy', 'love'], dtype=object)": ("joy", "love"),
    '["it\'s, well, love"]': ("it's, well, love",),
    '{"choices": ["joy", "love"]}': ("joy", "love"),
    '"joy"': ("joy",),
    " joy ": ("joy",),
    "joy|love": ("joy", "love"),
    "joy;love": ("joy", "love"),
    "joy, love": ("joy", "love"),
    "1.0": ("1",),
    "-1": ("-1",),
    "[pos]": ("[pos]",),
    "[/anger]": ("[/anger]",),
    "(happy)": ("(happy)",),
    "$$": ("$$",),
    "[np.str_('joy'), np.str_('love')]": ("joy", "love"),
    "[np.int64(17)]": ("17",),
    "array(['joy', 'love'], dtype='<U4')": ("joy", "love"),
    "tensor([3, 17])": ("3", "17"),
    "[b'joy']": ("joy",),
    "'joy', 'love'": ("joy", "love"),
    "\"['joy', 'love']\"": ("joy", "love"),
    '[{"label": "joy", "score": 0.98}, {"label": "love", "score": 0.02}]': ("joy",),
    "[0.1, 0.7, 0.2]": None,
    "[1, 0, 0]": None,
    "anger, rage|love": None,
    "[joy, love]": None,
    "{joy,love}": None,
    '{"rating": 4}': None,
    '[{"name": "joy"}]': None,
    "None": ("None",),
    "NA": None,
    "\\N": None,
    "nan": None,
    "NULL": None,
    "['joy', nan]": None,
}


@pytest.mark.parametrize("cell", LABELS)
def test_the_written_form_of_a_label_is_not_its_name_whatever_stands_in_other_rows(tmp_path, cell):
    for others in (["love", "anger"], ["joy", "love", "anger", "fear"]):
        cells = [cell, *others, "other"]
        texts = [f"text {i}" for i in range(len(cells))]
        pd.DataFrame({"text": texts, "label": cells}).to_csv(tmp_path / "own.csv", index=False)
        wanted = LABELS[cell]
        assert dict(rows(tmp_path / "own.csv", "text", "label")).get("text 0") == wanted


VECTORS = (
    ["1,0,0", "0,1,0"],
    ["1 0 0", "0 1 0"],
    [[True, False, False], [False, True, False]],
    ["[1, 0, 0]", "[0, 1, 0]"],
    ["[1 0 0]", "[0 1 0]"],
    ["[1. 0. 0.]", "[0. 1. 0.]"],
    [[1, 0, 0], [0, 1, 0]],
)


@pytest.mark.parametrize("cells", VECTORS, ids=str)
def test_a_vector_of_0_and_1_needs_names(tmp_path, cells):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(120)], "label": cells * 60})
    frame.to_json(tmp_path / "own.jsonl", orient="records", lines=True)
    with refusal(DataError, "own.jsonl", "vectors of 0 and 1", "--label-names"):
        read_table(tmp_path / "own.jsonl", "text", "label")
    read = rows(tmp_path / "own.jsonl", "text", "label", label_names=["joy", "anger", "fear"])
    assert read[:2] == [("text 0", ("joy",)), ("text 1", ("anger",))] and len(read) == 120


def test_lists_of_numbers_are_no_vectors_and_take_names(tmp_path):
    path = write(tmp_path, "own.jsonl", "".join(f'{{"text": "t", "label": {ids}}}\n' for ids in ([0], [0, 1], [2])))
    assert [labels for _, labels in rows(path, "text", "label")] == [("0",), ("0", "1"), ("2",)]
    named = [("joy",), ("joy", "anger"), ("fear",)]
    assert [labels for _, labels in rows(path, "text", "label", label_names="joy,anger,fear")] == named
    result = read_table(path, "text", "label", label_names=["joy", "anger"])
    assert result.refused.reason.tolist() == ["the label '2' has no name among the 2 given"]


NAMES = (
    "joy\nanger\n",
    "0\tjoy\n1\tanger\n",
    "id\tlabel\n0\tjoy\n1\tanger\n",
    "anger\t1\njoy\t0\n",
    '["joy", "anger"]',
    '{"0": "joy", "1": "anger"}',
    '{"joy": 0, "anger": 1}',
)


def test_labels_that_count_from_1_take_no_names_that_count_from_0(tmp_path):
    path = write(tmp_path, "own.csv", "text,label\na,1\nb,2\nc,3\n")
    with refusal(DataError, "counts its labels from 1 to 3"):
        read_table(path, "text", "label", label_names=["joy", "anger", "fear"])
    names = write(tmp_path, "names.txt", "1\tjoy\n2\tanger\n3\tfear\n")
    assert [labels for _, labels in rows(path, "text", "label", label_names=str(names))] == [
        ("joy",),
        ("anger",),
        ("fear",),
    ]


@pytest.mark.parametrize("bad", ["x", "2", "0.7"])
def test_one_odd_cell_hides_no_column_of_labels(tmp_path, bad):
    header, texts = "text,admiration,amusement,gratitude,pride,likes\n", "abcdefgh"
    cells = [
        "1,0,0,0,3",
        f"0,0,{bad},0,0",
        "0,0,1,0,1",
        "0,0,0,1,0",
        "0,1,0,0,0",
        "1,1,0,0,1",
        "0,0,1,1,0",
        "0,0,0,1,1",
    ]
    path = write(tmp_path, "own.csv", header + "".join(f"{t},{c}\n" for t, c in zip(texts, cells, strict=True)))
    read = dict(rows(path))
    assert read["c"] == ("gratitude",) and read["d"] == ("pride",) and read["g"] == ("gratitude", "pride")
    assert read.get("b") == {"x": None}.get(bad, ("gratitude",))


@pytest.mark.parametrize("content", NAMES)
def test_names_of_numbers_are_read_from_a_file(tmp_path, content):
    assert read_label_names(str(write(tmp_path, "names.txt", content))) == {"0": "joy", "1": "anger"}
    with refusal(ConfigError, "'nowhere.txt'"):
        read_label_names("nowhere.txt")


@pytest.mark.parametrize("content", ["", "\n\n", "joy\tgood\nanger\tbad\n", "0\tjoy\nanger\n"])
def test_a_file_that_names_no_numbers_is_refused(tmp_path, content):
    with refusal(ConfigError, "names.txt"):
        read_label_names(str(write(tmp_path, "names.txt", content)))


def test_columns_of_labels_are_named_by_their_paths(tmp_path):
    lines = json_lines({"text": "a", "lab": {"joy": 1, "anger": 0}}, {"text": "b", "lab": {"joy": 0, "anger": 1}})
    path = write(tmp_path, "own.jsonl", lines)
    read = read_table(path, "text", label_cols="lab.joy,lab.anger").frame.labels
    assert list(read) == [("lab.joy",), ("lab.anger",)]


@pytest.mark.parametrize("header", ["text,label,answer", "text,label,answer,answer"])
def test_a_column_called_answer_is_not_prodigys_unless_it_holds_decisions(tmp_path, header):
    more = ",Well" * (header.count("answer") - 1)
    path = write(tmp_path, "own.csv", f"{header}\nHow are you?,joy,Fine{more}\nGo away,anger,No{more}\n")
    assert rows(path, "text", "label") == [("How are you?", ("joy",)), ("Go away", ("anger",))]


def test_a_row_of_another_width_is_refused_and_not_lost(tmp_path):
    table = {"columns": ["text", "label"], "data": [["a", "joy"], ["b"], ["c", "anger"]]}
    result = read_table(write(tmp_path, "own.json", json.dumps(table)), "text", "label")
    assert (result.rows, len(result.frame), len(result.refused)) == (3, 2, 1)


def test_names_of_numbers_may_be_many():
    names = [f"emotion number {i}" for i in range(32)]
    assert list(read_label_names(",".join(names)).values()) == names


def test_whether_a_comma_separates_labels_does_not_depend_on_the_rows_that_were_drawn(tmp_path):
    splits = official_rows()
    every = [(text, [GOEMOTIONS[int(i)] for i in ids.split(",")]) for part in splits.values() for text, ids, _ in part]
    draw = random.Random(0)
    for _ in range(20):
        drawn = draw.sample(every, 40)
        pd.DataFrame([(text, ",".join(names)) for text, names in drawn], columns=["text", "label"]).to_csv(
            tmp_path / "own.csv", index=False
        )
        assert [labels for _, labels in rows(tmp_path / "own.csv", "text", "label")] == [tuple(n) for _, n in drawn]
        whole = rows(tmp_path / "own.csv", "text", "label", label_sep="none")
        assert [labels for _, labels in whole] == [(",".join(names),) for _, names in drawn]
    result = read_table(tmp_path / "own.csv", "text", "label")
    assert any("',' separates labels" in note and "--label-sep" in note for note in result.notes)


def test_names_in_brackets_without_quotes_are_a_list_only_if_the_user_says_so(tmp_path):
    path = write(tmp_path, "own.csv", 'text,label\na,"[joy, love]"\nb,[joy]\n')
    result = read_table(path, "text", "label")
    assert list(result.frame.labels) == [("[joy]",)] and any("--label-sep" in note for note in result.notes)
    assert "[joy, love]" in result.refused.reason[0] and "--label-sep" in result.refused.reason[0]
    assert rows(path, "text", "label", label_sep=",") == [("a", ("joy", "love")), ("b", ("joy",))]
    assert rows(path, "text", "label", label_sep="none") == [("a", ("[joy, love]",)), ("b", ("[joy]",))]


def test_a_column_for_each_label_is_read_and_a_blank_is_no_zero(tmp_path):
    table = "id,text,joy,anger,note\n1,a,1,0,x\n2,b,0,0,y\n3,c,,,z\n4,d,1,1,w\n5,e,2,0,v\n6,f,0.0,1.0,u\n7,g,x,1,t\n"
    path = write(tmp_path, "own.csv", table)
    read = [("a", ("joy",)), ("b", ()), ("d", ("joy", "anger")), ("e", ("joy",)), ("f", ("anger",))]
    assert rows(path, "text", label_cols=("joy", "anger")) == read
    result = read_table(path, "text", label_cols=("joy", "anger"), unlabelled="drop")
    assert result.refused[["line", "reason"]].values.tolist() == [
        [3, "no label"],
        [4, "not labelled (a blank)"],
        [8, "a label column holds neither 0 nor 1, as 'x' under 'joy'"],
    ]
    clean = write(tmp_path, "clean.csv", "id,text,joy,anger,note\n1,a,1,0,x\n2,b,0,1,y\n")
    assert rows(clean, "text") == rows(clean) == [("a", ("joy",)), ("b", ("anger",))]


def test_an_empty_list_is_a_negative_and_a_blank_is_not_labelled_unless_the_user_says_otherwise(tmp_path):
    path = write(tmp_path, "own.csv", "text,label\na,joy|love\nb,\nc,[]\nd,nan\n")
    result = read_table(path, "text", "label")
    assert rows(path, "text", "label") == [("a", ("joy", "love")), ("c", ())]
    assert result.refused[["line", "reason"]].values.tolist()[0] == [3, "not labelled (a blank)"]
    assert [note.split(",")[0] for note in result.notes[:2]] == [
        "rows whose label is blank: 1",
        "rows without a label: 1",
    ]
    assert rows(path, "text", "label", unlabelled="negative") == [("a", ("joy", "love")), ("b", ()), ("c", ())]
    assert rows(path, "text", "label", unlabelled="drop") == [("a", ("joy", "love"))]
    one = write(tmp_path, "one.csv", "text,label\na,joy\nb,\n")
    assert rows(one, "text", "label") == [("a", ("joy",))] and not read_table(one, "text", "label").notes


# Quotes

LONE = 'text\tlabel\n"why me\tsadness\nlovely day\tjoy\nhe said go away"\tanger\n'
PLAIN = [('"why me', ("sadness",)), ("lovely day", ("joy",)), ('he said go away"', ("anger",))]
QUOTES: dict[str, tuple[str, list[tuple[str, tuple[str, ...]]], list[int]]] = {  # content, rows, refused lines
    "lone.tsv": (LONE, PLAIN, []),
    "lone.csv": (LONE, PLAIN, []),
    "bars.csv": (LONE.replace("\t", "|"), PLAIN, []),
    "ragged.tsv": (LONE + "no tab\n", PLAIN, [5]),
    "commas.csv": (LONE.replace("\t", ","), PLAIN[1:], [2]),
    "never closed.csv": ('text,label\na,x\n"b,x\nc,x\n', [("a", ("x",)), ("c", ("x",))], [3]),
    "pandas.tsv": ('text\tlabel\n"a\nb"\tx\n"say ""hi"""\ty\n', [("a\nb", ("x",)), ('say "hi"', ("y",))], []),
    "all quoted.tsv": ('"text"\t"label"\n"a"\t"x"\n', [("a", ("x",))], []),
    "doubled.tsv": ('text\tlabel\n"say ""hi"""\ty\nb\tx\n', [('say "hi"', ("y",)), ("b", ("x",))], []),
    "lines.csv": (
        'text,label\n"one\ntwo, and\n\nthree",x\nb,y\n',
        [("one\ntwo, and\n\nthree", ("x",)), ("b", ("y",))],
        [],
    ),
    "blank.csv": ("text,label\n\na,x\n\n\nb,y\n", [("a", ("x",)), ("b", ("y",))], []),
    "chat.csv": (
        'text,label\n"10:01,hi\n10:02,hello\n10:03,bye",x\nb,y\n',
        [("10:01,hi\n10:02,hello\n10:03,bye", ("x",)), ("b", ("y",))],
        [],
    ),
    "two lines.csv": (
        'text,label\n"why me,sad\nhe said go away",x\nb,sad\n',
        [('he said go away"', ("x",)), ("b", ("sad",))],
        [2],
    ),
    "ids.csv": (
        'id,label,text\n1,x,"why me\n2,y,he said go away"\n3,y,b\n',
        [('he said go away"', ("y",)), ("b", ("y",))],
        [2],
    ),
    "return.tsv": ("text\tlabel\na\rb\tx\nc\ty\n", [("a\rb", ("x",)), ("c", ("y",))], []),
    "return.csv": ("text,label\na\rb,x\nc,y\n", [("c", ("y",))], [2]),
    "excel tab.tsv": ('text\tlabel\n"Hello, you"\tx\nb\t"x, y"\n', [("Hello, you", ("x",)), ("b", ("x", "y"))], []),
    "blanks.csv": ('id, text, label\n1, "so, so", x\n', [("so, so", ("x",))], []),
    "empty columns.csv": ("text,label,,\na,x,,\n", [("a", ("x",))], []),
    "blank first.csv": ("  \ntext,label\na,x\n", [("a", ("x",))], []),
    "again twice.csv": ("text,label\na,x\n\ufeffText,Label\nb,y\n", [("a", ("x",)), ("b", ("y",))], [3]),
    "again.csv": ("text,label\na,x\ntext,label\nb,y\n", [("a", ("x",)), ("b", ("y",))], [3]),
    "excel.csv": ("sep=;\r\ntext;label\r\na, b;x\r\n", [("a, b", ("x",))], []),
    "comma in header.tsv": ("text\tlabel\tid, raw\na\tx\t1\n", [("a", ("x",))], []),
}


@pytest.mark.parametrize("name", QUOTES)
def test_no_quote_swallows_a_row_and_all_lines_add_up(tmp_path, name):
    content, wanted, refused = QUOTES[name]
    path = write(tmp_path, name, content)
    assert rows(path, "text", "label") == wanted
    assert read_table(path, "text", "label").refused.line.tolist() == refused
    if not refused and name.endswith(".tsv"):  # one of the two commands, and the other
        assert list(iter_texts(path)) == [text for text, _ in wanted]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_in_each_line_of_a_tab_separated_file_is_kept_however_many_quotes_it_has(tmp_path, end):
    draw = random.Random(1)
    texts = ["".join(draw.choice("ab \"',;") for _ in range(9)).strip() or "x" for _ in range(500)]
    path = write(tmp_path, "own.tsv", f"label\ttext{end}" + "".join(f"x\t{text}{end}" for text in texts))
    result = read_table(path, "text", "label")
    kept = dict(zip(result.frame.group, result.frame.text, strict=True))
    assert len(kept) + len(result.refused) == 500
    quoted = [note for note in result.notes if "quotation marks" in note]
    assert len(quoted) == 1
    if "part of the text" in quoted[0]:
        assert list(kept.values()) == texts


# Everything refused, and other formats

TABLE = "text,label\nhello,joy\nbye,sadness\n"
HELLO = [("hello", ("joy",)), ("bye", ("sadness",))]
READ = {
    "utf16.csv": TABLE.encode("utf-16"),
    "bare16.csv": TABLE.encode("utf-16-le"),
    "packed.csv.gz": gzip.compress(TABLE.encode()),
    "packed.csv": gzip.compress(TABLE.encode()),
    "array.jsonl": json.dumps([{"text": t, "label": x} for t, (x,) in HELLO]).encode(),
    "array.csv": json.dumps([{"text": t, "label": x} for t, (x,) in HELLO], indent=1).encode(),
    "lines.json": b"".join(json.dumps({"text": t, "label": x}).encode() + b"\n" for t, (x,) in HELLO),
    "lines.ndjson": b"".join(json.dumps({"text": t, "label": x}).encode() + b"\n" for t, (x,) in HELLO),
    "columns.json": json.dumps({"text": {"0": "hello", "1": "bye"}, "label": {"0": "joy", "1": "sadness"}}).encode(),
    "server.json": json.dumps({"rows": [{"row_idx": 0, "row": {"text": t, "label": x}} for t, (x,) in HELLO]}).encode(),
    "missing key.json": b'{"text": {"1": "hello", "2": "bye"}, "label": {"2": "sadness", "1": "joy"}}',
    "lists.json": b'{"text": ["hello", "bye"], "label": ["joy", "sadness"]}',
    "split.json": b'{"columns": ["text", "label"], "index": [0, 1], "data": [["hello", "joy"], ["bye", "sadness"]]}',
    "index.json": b'{"r1": {"text": "hello", "label": "joy"}, "r2": {"text": "bye", "label": "sadness"}}',
    "turns.json": b'[[{"text": "hello", "label": "joy"}], [{"text": "bye", "label": "sadness"}]]',
    "results.json": b'{"results": [{"text": "hello", "label": "joy", "items": [{}, {}]}, {"text": "bye", "label": "sadness"}]}',
    "R.tsv": b'"text"\t"label"\n"1"\t"hello"\t"joy"\n"2"\t"bye"\t"sadness"\n',
    "two marks.csv": b"\xef\xbb\xbf\xef\xbb\xbftext,label\nhello,joy\nbye,sadness\n",
    "blanks.csv": b" Text ,LABEL\nhello,joy\nbye,sadness\n",
    "bars.txt": b"text|label|\nhello|joy|\nbye|sadness|\n",
    "trailing bar.txt": b"text|label\nhello|joy|\nbye|sadness|\n",
}


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_read(tmp_path, name):
    path = write(tmp_path, name, READ[name])
    assert rows(path, "text", "label") == HELLO
    if path.suffix != ".txt":
        assert list(iter_texts(path)) == ["hello", "bye"]


CANNOT = {  # name, content, what the sentence says
    "commas.csv": (
        "text,label\nhello,joy,\nbye,sadness,\n",
        "line 2: 3 fields where the header has 2 (a comma at the end of the line?)",
    ),
    "western.csv": (
        "text,label\nhéllo,joy\nçava,sad\n".encode("cp1252"),
        "line 2: not UTF-8 (perhaps Windows-1252; save the file as UTF-8)",
    ),
    "few.csv": ("text,label\nhello\nbye\n", "line 2: 1 field where the header has 2"),
    "within.csv": ("text,label\nhello, you,joy\n", "line 2: 3 fields where the header has 2 (a comma within a field?)"),
    "none.csv": ("text,label\nhello,nan\n", "line 2: no label ('nan')"),
    "book.csv": (b"PK\x03\x04" + b"\0" * 30 + b"xl/workbook.xml", "an Excel workbook (.xlsx); save its sheet as CSV"),
    "old.csv": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)"),
    "packed.csv": (b"PK\x03\x04rows.csv", "a zip archive; unpack it"),
    "cut.csv.gz": (gzip.compress(TABLE.encode() * 99)[:60], "cut short or damaged gzip"),
    "page.csv": ("<!DOCTYPE html><html></html>", "a web page"),
    "broken.json": ('[{"text": "a"', "not JSON"),
    "blank label.csv": ("text, label\nhello,\n", "line 2: not labelled (a blank)"),
    "names.csv": ("text, lable\nhello,joy\n", "no column 'label'; its columns are: 'text'"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_read_is_named_with_its_first_line_and_cause(tmp_path, name):
    content, why = CANNOT[name]
    path = write(tmp_path, name, content)
    with refusal(DataError, name, why):
        read_table(path, "text", "label")


def test_a_table_without_a_header_is_told_by_its_rows_or_by_columns_in_numbers(tmp_path):
    path = write(tmp_path, "own.csv", "hello,joy\nbye,sadness\n")
    with refusal(DataError, "'hello', 'joy'", "number them"):
        read_table(path, "text", "label")
    assert rows(path, "1", "2") == HELLO
    path = write(tmp_path, "own.csv", '"1","bad","it broke"\n"2","great","love it"\n')
    assert rows(path, "3", "1") == [("it broke", ("1",)), ("love it", ("2",))]
    path = write(tmp_path, "own.tsv", "joy\tone two three\nanger\tfour five six\njoy\tseven eight\n")
    assert [labels for _, labels in rows(path)] == [("joy",), ("anger",), ("joy",)]
    with refusal(DataError, "no header", "'1', '2'"):
        read_table(path, "text", "label")


# Published layouts, in files of our own making

SEMEVAL = "ID\tTweet\tanger\tanticipation\tdisgust\tfear\tjoy\tlove\toptimism\tpessimism\tsadness\tsurprise\ttrust\n"
MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
CHOICE = {"from_name": "mood", "to_name": "text", "type": "choices"}


def studio(number: int, text: str, *labels: str) -> dict:
    result = [{"value": {"choices": list(labels)}, **CHOICE}]
    return {"id": number, "annotations": [{"id": number, "completed_by": 1, "result": result}], "data": {"text": text}}


def json_lines(*objects: dict) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


LAYOUTS: dict[str, tuple[dict[str, str], list[tuple[str, tuple[str, ...]]]]] = {
    "BRIGHTER": (
        {"eng.csv": 'id,text,anger,fear,joy\ne1,"No, never",1,0,0\ne2,Well,0,0,0\ne3,Oh!,0,1,1\n'},
        [("No, never", ("anger",)), ("Well", ()), ("Oh!", ("fear", "joy"))],
    ),
    "BRIGHTER, intensities": (
        {"eng.csv": "id,text,anger,fear,joy\ne1,No,3,0,0\ne2,Well,0,0,0\ne3,Oh!,0,1,2\n"},
        [("No", ("anger",)), ("Well", ()), ("Oh!", ("fear", "joy"))],
    ),
    "EmoInt": (
        {"anger.txt": "10000\tHow the f!\tanger\t0.938\n10001\tSo my boss\tjoy\t0.938\n10002\tNot so\tanger\t0.5\n"},
        [("How the f!", ("anger",)), ("So my boss", ("joy",)), ("Not so", ("anger",))],
    ),
    "SemEval-2018 E-c": (
        {
            "2018-E-c-En-dev.txt": f'{SEMEVAL}1\t"so it begins\t1{chr(9).join(" 0000000001")}\n2\tgood\t0\t0\t0\t0\t1\t1\t1\t0\t0\t0\t0\n'
            f"3\tof the test file\t{chr(9).join(['NONE'] * 11)}\n"
        },
        [('"so it begins', ("anger", "trust")), ("good", ("joy", "love", "optimism"))],
    ),
    "SemEval-2018 V-oc": (
        {
            "2018-Valence-oc-En-dev.txt": "ID\tTweet\tAffect Dimension\tIntensity Class\n1\tfine, I guess\tvalence\t0: neutral\n2\tYes!\tvalence\t3: very\n"
        },
        [("fine, I guess", ("0: neutral",)), ("Yes!", ("3: very",))],
    ),
    "SemEval-2013 to 2016 A": (
        {
            "twitter-2013train-A.txt": '264183816548130816\tpositive\tGas, by my "house\n2631\tnegative\tTheo Walcott is still\n2632\tpositive\tit is "not\n'
        },
        [('Gas, by my "house', ("positive",)), ("Theo Walcott is still", ("negative",)), ('it is "not', ("positive",))],
    ),
    "TweetEval": (
        {
            "train_text.txt": '"Worry is\nno "more\n',
            "train_labels.txt": "2\n0\n",
            "test_text.txt": "ok\n",
            "test_labels.txt": "1\n",
            "mapping.txt": "0\tanger\n1\tjoy\n2\toptimism\n",
        },
        [("ok", ("joy",)), ('"Worry is', ("optimism",)), ('no "more', ("anger",))],
    ),
    "dair-ai/emotion, JSON Lines": (
        {"train.jsonl": json_lines({"text": "i feel low", "label": 0}, {"text": "i feel fine", "label": 1})},
        [("i feel low", ("0",)), ("i feel fine", ("1",))],
    ),
    "dair-ai/emotion, text": (
        {"train.txt": "i feel low, really;sadness\ni feel fine;joy\ni feel so bad;sadness\n"},
        [("i feel low, really", ("sadness",)), ("i feel fine", ("joy",)), ("i feel so bad", ("sadness",))],
    ),
    "ISEAR": (
        {"isear.csv": "ID|CITY|EMOT|SIT|Field1\n11|1|1|When I, once more|joy|\n12|1|3|A snake.|fear|\n"},
        [("When I, once more", ("joy",)), ("A snake.", ("fear",))],
    ),
    "ISEAR, two columns": (
        {"isear.csv": "joy|When I, once more|\nfear|A snake.|\njoy|A gift, at last.|\n"},
        [("When I, once more", ("joy",)), ("A snake.", ("fear",)), ("A gift, at last.", ("joy",))],
    ),
    "MELD": (
        {
            "train_sent_emo.csv": MELD
            + '1,"Well, no",Ross,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\n2,Oh!,Joey,surprise,positive,0,1,8,21,"00:16:21","00:16:23"\n'
        },
        [("Well, no", ("neutral",)), ("Oh!", ("surprise",))],
    ),
    "EmoryNLP, CSV": (
        {
            "emorynlp_dev.csv": "Sr No.,Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n1,Hey!,['Ross'],Joyful,4,1,1,15\n2,No.,['Joey'],Mad,4,2,1,15\n"
        },
        [("Hey!", ("Joyful",)), ("No.", ("Mad",))],
    ),
    "EmoryNLP, JSON": (
        {
            "dev.json": json.dumps(
                {
                    "episodes": [
                        {
                            "episode_id": "e1",
                            "scenes": [
                                {
                                    "scene_id": "s1",
                                    "utterances": [
                                        {
                                            "utterance_id": "u1",
                                            "speakers": ["Ross"],
                                            "transcript": "Hey!",
                                            "tokens": [["Hey"]],
                                            "emotion": "Joyful",
                                        },
                                        {
                                            "utterance_id": "u2",
                                            "speakers": ["Joey"],
                                            "transcript": "No.",
                                            "tokens": [["No"]],
                                            "emotion": "Mad",
                                        },
                                    ],
                                }
                            ],
                        }
                    ]
                }
            )
        },
        [("Hey!", ("Joyful",)), ("No.", ("Mad",))],
    ),
    "doccano": (
        {
            "all.jsonl": json_lines(
                {"id": 1, "text": "a", "label": ["joy", "love"]}, {"id": 2, "text": "b", "label": []}
            )
        },
        [("a", ("joy", "love")), ("b", ())],
    ),
    "Label Studio, JSON": (
        {"export.json": json.dumps([studio(1, "a", "joy"), studio(2, "b", "joy", "love")], indent=2)},
        [("a", ("joy",)), ("b", ("joy", "love"))],
    ),
    "Label Studio, opinions": (
        {
            "export.json": json.dumps(
                [
                    {
                        "annotations": [
                            {"was_cancelled": True, "result": studio(0, "", "fear")["annotations"][0]["result"]},
                            {"result": [{"value": {"rating": 4}}, {"value": {"choices": ["joy"]}}], "meta": {"n": 3}},
                        ],
                        "data": {"text": "a"},
                    },
                    {"annotations": [], "data": {"text": "b"}},
                    studio(3, "c", "joy", "love"),
                ]
            )
        },
        [("a", ("joy",)), ("c", ("joy", "love"))],
    ),
    "Label Studio, JSON Lines": (
        {"export.jsonl": json_lines(studio(1, "a", "joy"), studio(2, "b", "love"))},
        [("a", ("joy",)), ("b", ("love",))],
    ),
    "spaCy cats": (
        {
            "train.jsonl": json_lines(
                {"text": "a", "cats": {"joy": 1.0, "fear": 0.0}}, {"text": "b", "cats": {"joy": 0, "fear": 1}}
            )
        },
        [("a", ("joy",)), ("b", ("fear",))],
    ),
    "Prodigy": (
        {
            "mood.jsonl": json_lines(
                {"text": "a", "label": "joy", "answer": "accept"},
                {"text": "b", "label": "joy", "answer": "reject"},
                {"text": "c", "label": "fear", "answer": "accept"},
            )
        },
        [("a", ("joy",)), ("c", ("fear",))],
    ),
    "Prodigy, choices": (
        {
            "mood.jsonl": json_lines(
                {"text": "a", "options": [{"id": "joy"}], "accept": ["joy"], "answer": "accept"},
                {"text": "b", "accept": ["joy", "fear"], "answer": "accept"},
                {"text": "c", "accept": [], "answer": "ignore"},
            )
        },
        [("a", ("joy",)), ("b", ("joy", "fear"))],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read_without_help(tmp_path, layout):
    files, wanted = LAYOUTS[layout]
    paths = [write(tmp_path, name, content) for name, content in files.items()]
    assert rows(paths[0] if len(paths) == 1 else tmp_path) == wanted
    assert read_table(paths[0]).notes


def test_brighters_own_files_are_read_whole_and_rows_without_labels_refused(corpora_dir):
    if not (folder := corpora_dir / "brighter").is_dir():
        pytest.skip("EMO_NB_DATA holds no brighter")
    result = read_table(folder)
    published = pd.concat(pd.read_csv(folder / f"eng_{part}.csv") for part in ("dev", "train")).set_index("text")
    assert list(result.frame.text) == list(published.index)
    names = published.columns[1:]
    assert list(result.frame.labels) == [tuple(names[row == 1]) for row in published[names].to_numpy()]
    assert result.frame.split.value_counts().to_dict() == {"train": 2764, "dev": 115, "test": 0}
    assert set(zip(result.refused.file, result.refused.reason, strict=True)) == {
        ("eng_test.csv", "not labelled (a blank)")
    }
    assert len(result.refused) == 2765


def test_names_of_numbers_in_a_parquet_file_are_read(tmp_path):
    names = {"names": ["sadness", "joy"], "_type": "ClassLabel"}
    for cells, feature, wanted in (
        ([0, 1], names, [("sadness",), ("joy",)]),
        ([[0, 1], [1]], {"feature": names, "_type": "Sequence"}, [("sadness", "joy"), ("joy",)]),
        ([[0, 1], []], {"feature": names, "_type": "Sequence"}, [("sadness", "joy"), ()]),
    ):
        metadata = {"huggingface": json.dumps({"info": {"features": {"text": {"_type": "Value"}, "label": feature}}})}
        table = pa.table({"text": ["a", "b"], "label": cells}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "train.parquet")
        for columns in ((), ("text", "label")):
            assert [labels for _, labels in rows(tmp_path / "train.parquet", *columns)] == wanted
    names["names"].reverse()
    metadata = {"huggingface": json.dumps({"info": {"features": {"text": {"_type": "Value"}, "label": names}}})}
    pq.write_table(pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata(metadata), tmp_path / "test.parquet")
    with refusal(DataError, "number their labels otherwise"):
        read_table(tmp_path, "text", "label")


def test_splits_are_kept_where_the_files_or_a_column_plainly_tell_them(tmp_path):
    folder = tmp_path / "moods"
    folder.mkdir()
    for name in ("eng_train.csv", "eng_dev.csv", "eng_test.csv"):
        write(folder, name, f"text,label\n{name},joy\n{name} too,fear\n")
    frame = read_table(folder, "text", "label").frame
    assert frame.split.astype(str).tolist() == ["dev", "dev", "test", "test", "train", "train"]
    path = write(tmp_path, "own.csv", "text,label,Split\na,joy,train\nb,joy,validation\nc,fear,test\n")
    assert read_table(path, "text", "label").frame.split.astype(str).tolist() == ["train", "dev", "test"]
    pd.DataFrame({"text": ["a", "b"], "label": "x", "split": ["train", "test"]}).to_parquet(tmp_path / "own.parquet")
    assert read_table(tmp_path / "own.parquet", "text", "label").frame.split.astype(str).tolist() == ["train", "test"]
    path = write(
        tmp_path, "odd.csv", "text,label,split\na,joy,train\nb,joy,test\nc,fear,unused\nd,fear,\ne,joy,train\n"
    )
    result = read_table(path, "text", "label")
    assert result.frame.split.astype(str).tolist() == ["train", "test", "train"]
    assert result.refused.reason.tolist() == ["its split is 'unused'", "its split is ''"]
    path = write(tmp_path, "one.csv", "text,label,split\na,joy,train\nb,fear,train\n")
    result = read_table(path, "text", "label")
    assert result.frame.split.isna().all() and any("'split' says 'train'" in note for note in result.notes)
    with refusal(DataError, "'train'"):
        read_table(path, "text", "label", split_col="split")
    write(folder, "more.csv", "text,label\nz,joy\n")
    assert read_table(folder, "text", "label").frame.split.isna().all()
    assert read_table(folder / "eng_train.csv", "text", "label").frame.split.isna().all()


def test_the_dialogues_of_a_published_layout_are_groups_within_their_file(tmp_path):
    for name in ("train.csv", "test.csv"):
        lines = "".join(f'{i},text {name} {i},X,joy,p,{i // 2},{i},8,21,"0","1"\n' for i in range(4))
        write(tmp_path, name, MELD + lines)
    frame = read_table(tmp_path).frame
    assert frame.group.nunique() == 4 and frame.groupby("group").size().tolist() == [2] * 4
