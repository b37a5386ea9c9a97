"""Damaged tables by the thousand: real files with some bytes changed, read by every reader of tables.

`python tools/fuzzing.py` (`make fuzz`) tries FUZZ cases, a million where that is not set, on all processors. A case is
a number: FIRST=123 FUZZ=1 tries case 123 again. After 100,000 or more that lost nothing, results/fuzz.json says so.
"""

import faulthandler
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow.parquet import read_metadata

from emo_nb.core import DataError, EmoNbError
from emo_nb.corpora import COLUMNS, TEXT_UNITS, ReadResult, read_corpus, read_table
from emo_nb.io.archives import TABLE_SUFFIXES
from emo_nb.io.files import atomic_file
from emo_nb.io.readers import LINE_COLUMN, estimate_rows, is_goemotions_split, iter_texts, read_table_file
from emo_nb.io.writers import format_csv
from emo_nb.report import provenance, utc_now
from emo_nb.sources import SAMPLE_DIR
from emo_nb.taxonomy import GOEMOTIONS

MILLION, WORTH_A_RECORD = 1_000_000, 100_000
SECONDS = 10  # that a case may take
MOODS = ["glad", "sad", "glad|sad", "-1", "so, so", "", "NA"]


class Hang(BaseException):
    "A reader did not come to an end; no reader catches it."


# Real files, some dozens of rows each


def first_lines(file: Path) -> bytes:
    with open(file, "rb") as lines:
        return b"".join(islice(lines, 25))


def in_forms(name: str, rows: pd.DataFrame, labels: str = "") -> dict[str, bytes]:
    "One table as CSV, TSV, JSON Lines and Parquet; the column `labels` is a list of numbers in the last two."
    lists = rows.assign(**{labels: [[int(i) for i in ids.split(",")] for ids in rows[labels]]}) if labels else rows
    return {
        f"{name}.csv": rows.to_csv(index=False).encode(),
        f"{name}.tsv": rows.to_csv(index=False, sep="\t", lineterminator="\r\n").encode("utf-8-sig"),
        f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in lists.to_dict("records")).encode(),
        f"{name}.parquet": lists.to_parquet(compression=None),
    }


def quoted_at_random(texts: pd.Series) -> str:
    "A table separated by tabs and not quoted, with a quotation mark at the beginning or end of many texts."
    marks = [('"', ""), ("", '"'), ("", ""), ('"', '"'), ('so "', "")]
    lines = (f"{a}{text}{b}\tglad" for text, (a, b) in zip(texts, marks * len(texts), strict=False))
    return "text\tlabel\n" + "\n".join(lines) + "\n"


def archived(name: str, data: bytes) -> bytes:
    "A tar archive of one file."
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        info = tarfile.TarInfo(f"folder/{name}")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    "Name and bytes of small whole files: of every form that emo_nb reads."
    raters = first_lines(SAMPLE_DIR / "goemotions_raw.csv")
    dialogues = first_lines(SAMPLE_DIR / "empatheticdialogues/train.csv")
    raw = pd.read_csv(io.BytesIO(raters), dtype=str, keep_default_na=False)
    header, *lines = [line.split(",") for line in dialogues.decode().splitlines()]
    ids = [
        ",".join(str(i) for i, label in enumerate(GOEMOTIONS) if row[label] == "1") or "27" for _, row in raw.iterrows()
    ]
    official = pd.DataFrame({"text": raw.text, "labels": ids, "id": raw.id})
    plain = official.assign(text=official.text.str.replace(r"\s", " ", regex=True))
    own = pd.DataFrame({"text": raw.text, "label": (MOODS * 4)[: len(raw)], "thread": raw.subreddit, "": ""})
    answers = pd.DataFrame({"text": raw.text, "label": "sad", "glad": 0.25, "sad": 0.75})
    return {
        "train.csv": dialogues,
        "goemotions_1.csv": raters,
        "dev.tsv": "".join("\t".join(row) + "\n" for row in plain.to_numpy()).encode(),
        **in_forms("test-official", official, "labels"),
        **in_forms("raters", raw),
        **in_forms("valid", pd.DataFrame(lines, columns=header)),
        **in_forms("own", own),
        **in_forms("answers", answers),
        "loose.tsv": quoted_at_random(plain.text).encode(),
        "bars.csv": "".join(
            f"{label or 'sad'}|{text}|\n" for text, label in zip(plain.text, own.label, strict=True)
        ).encode(),
        "list.json": own.to_json(orient="records", indent=1).encode(),
        "own.csv.gz": gzip.compress(own.to_csv(index=False).encode(), mtime=0),
        "own-utf16.csv": own.to_csv(index=False).encode("utf-16"),
        "marks.csv": raw.to_csv(index=False, columns=["text", "joy", "anger", "love"]).encode(),
        "predictions.csv": format_csv(answers.assign(corpus="mine", predicted="glad", confidence=0.75)).encode(),
        "train-talk.tar.gz": gzip.compress(archived("train.csv", dialogues), mtime=0),
        "train-talk.tar": archived("train.csv", dialogues),
        "lines.txt": "\n".join(raw.text).encode(),
    }


# Damage

NASTY = [
    *(b"\x00", b"\r", b"\n", b"\r\n", b"\n\n", b" ", b'"', b'""', b'"\n"', b"'", b"\\", b",", b";", b"\t", b"|", b"\x1a", b"\x0c"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xff"),
    *(b"9" * 5000, b"1e999", b"-1", b"28", b"007", b"NaN", b"null", b"_comma_", b"conv_id,", b"text", b"=1+1", b"'=1+1"),
    *(b"[" * 100_000, b'{"a":' * 3000, b"\\ud800", b"x" * 200_000),
]  # fmt: skip
VALUES = [
    *(b"null", b"true", b"1", b"1.0", b"27.0", b"1e999", b"-0", b"NaN", b"Infinity", b"12345678901234567890", b"9" * 5000),
    *(b'""', b'" "', b'"\\ud800"', b'"\\u0000"', b'"a\\nb"', b"[]", b"{}", b"[[]]", b'["a", null]', b'{"text": 1}', b'["1", 2]'),
    *(b"[" * 400 + b"]" * 400, b"[" * 2000 + b"]" * 2000, b'{"a":' * 300 + b"1" + b"}" * 300),
]  # fmt: skip
CELL = re.compile(rb'"[^"\n]*"|\d+|(?<=[,;\t\n])[^,;\t\n"]+')  # what may be one cell


def place_in(dice: random.Random, data: bytes) -> tuple[int, int]:
    "A stretch of the data, mostly short."
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + dice.choice((1, 1, 1, 2, 4, 16, 100, 1000)))


def damaged(dice: random.Random, data: bytes) -> bytes:
    "The data with one thing wrong."
    start, end = place_in(dice, data)
    piece = data[start:end]
    way = dice.choice(("flip", "delete", "double", "cut", "splice", "insert", "insert", "value", "value", "value"))
    if way == "value" and (cells := list(CELL.finditer(data))):
        start, end = dice.choice(cells).span()
        piece = dice.choice(VALUES if dice.random() < 0.7 else NASTY)
    elif way == "flip":
        piece = bytes(byte ^ 1 << dice.randrange(8) for byte in piece[:4]) + piece[4:]
    elif way == "delete":
        piece = b""
    elif way == "double":
        piece *= dice.choice((2, 2, 50))
    elif way == "cut":
        end, piece = len(data), b""
    elif way == "splice":
        other = dice.choice(list(seeds().values()))
        end, piece = (end, other[slice(*place_in(dice, other))]) if dice.random() < 0.5 else (len(data), other[start:])
    elif way == "insert":
        piece = dice.choice(NASTY) + piece
    return data[:start] + piece + data[end:]


# A case: files, a reader, and what must hold of its answer

COLUMN_NAMES = {"raters": ("text", "joy", "id"), "valid": ("utterance", "context", "conv_id")}
COLUMN_NAMES |= {"test-official": ("text", "labels", "id"), "own": ("text", "label", "thread")}


def make_case(number: int, folder: Path) -> tuple[Callable[[], Any], list[Path]]:
    "The files of a case, written to an empty folder, and a reader that waits to be called."
    dice = random.Random(number)
    for _ in range(dice.choice((1, 1, 1, 1, 1, 1, 2))):
        name = dice.choice(list(seeds()))
        data = seeds()[name]
        for _ in range(dice.choice((0, 1, 1, 1, 2, 4))):
            data = damaged(dice, data)
        if dice.random() < 0.03:
            name = Path(name).stem + dice.choice((".csv", ".tsv", ".jsonl", ".parquet", ".tar.gz", ".tar", ".CSV", ""))
        file = folder / Path(name).name
        file.write_bytes(data)
    path = folder if dice.random() < 0.1 or len(list(folder.iterdir())) > 1 else file
    columns = COLUMN_NAMES.get(Path(name).stem, ("text", "label", "id"))
    readers: list[Callable[[], Any]] = [
        partial(read_corpus, path, dice.choice(TEXT_UNITS), dice.choice(("full", "full", "full", "study"))),
        partial(
            read_table,
            path,
            *columns[: dice.choice((0, 0, 2, 2, 2, 3))],
            label_sep=dice.choice((None, None, ",", "none")),
        ),
        partial(all_texts, file, dice.choice((None, columns[0]))),
    ]
    if file.suffix.lower() in TABLE_SUFFIXES:
        readers.append(partial(rows_and_texts, file, columns[0]))
    return dice.choice(readers), sorted(folder.iterdir())


def all_texts(file: Path, column: str | None) -> list[str]:
    assert estimate_rows(file) >= 0
    return list(iter_texts(file, column))


def rows_and_texts(file: Path, column: str) -> list[str]:
    "Every row is kept or refused; the texts to predict are those of the kept ones, up to the first that is refused."
    texts: list[str] = []
    stopped = ""
    try:
        texts.extend(iter_texts(file, column))
    except EmoNbError as error:
        stopped = str(error)
    try:
        table = read_table_file(str(file), file.read_bytes(), [column])
    except DataError:
        assert stopped or file.suffix == ".parquet"  # of which another column may be damaged
        raise
    rows, refused = table.rows, table.refused
    lines = [*rows[LINE_COLUMN], *refused.line]
    if counts := table.table.lines:
        of_no_row = counts["header"] + counts["blank"] + counts["continued"]
        assert counts["lines"] == len(lines) + of_no_row, f"{len(lines)} rows do not add up to the lines: {counts}"
        data = file.read_bytes()
        if not set(data) & {0, 13} and data[:2] not in (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"):
            assert counts["lines"] == data.count(b"\n") + (data[-1:] not in (b"", b"\n")), "a line is not counted"
    assert len(set(lines)) == len(lines), "a row is kept and refused, or twice"
    if (count := rows_in(file)) is not None and list(rows.columns).count(column) < 2:
        assert len(lines) == count, f"{count} rows, of which {len(lines)} are accounted for"
    halves = refused.reason.str.startswith("an unpaired surrogate")  # in a text to predict they are replaced
    first = refused.line[~halves].min() if not halves.all() else max(lines, default=0) + 1
    if list(rows.columns).count(column) != 1:
        assert not texts and (stopped or not lines or halves.any())
        return []
    before = rows.loc[rows[LINE_COLUMN] < first, column]
    good = list(takewhile(lambda cell: isinstance(cell, str), before))
    reached_first = len(good) == len(before) and first in set(refused.line)
    assert bool(stopped) == (len(good) < len(before) or reached_first) or halves.any(), stopped
    assert halves.any() or texts == good
    assert not reached_first or halves.any() or stopped.startswith(f"{file}, line {first}: "), stopped
    return texts


def check_reading(reading: ReadResult, *files: Path) -> list[tuple[str, int, str]]:
    "What the tidy frame promises, and that no row is lost; the refused rows: file, line, reason."
    frame, refused = reading.frame, reading.refused
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.dtypes.astype(str)) == ["object", "object", *["category"] * 4, "object", "category"]
    assert frame.index.equals(pd.RangeIndex(len(frame))) and len(frame) > 0
    assert list(frame.split.cat.categories) == ["train", "dev", "test"]
    assert {type(cell) for column in ("text", "group") for cell in frame[column]} == {str}
    assert all(text.strip() for text in frame.text), "a blank text"
    "".join(text + group for text, group in zip(frame.text, frame.group, strict=True)).encode()
    for labels in frame.labels:
        assert type(labels) is tuple and len(set(labels)) == len(labels), "a label twice"
        assert all(isinstance(label, str) and label.strip() for label in labels)
    assert list(refused.columns) == ["file", "line", "reason"]
    assert all(isinstance(reason, str) and reason for reason in refused.reason)
    str(reading).encode()
    study, accounted = "as the study read them" in reading.form, len(frame) + len(refused)
    assert reading.rows == accounted or (study and reading.rows > accounted), "rows are lost"
    known = len(files) == 1 and not study and "Empathetic" not in reading.form
    if known and (rows := rows_in(files[0])) is not None:
        assert reading.rows == rows, f"the file has {rows} rows"
        assert refused.line.is_unique
    return list(refused.itertuples(index=False, name=None))


def rows_in(file: Path) -> int | None:
    "How many rows a file has, where that can be told without the reader."
    data, suffix = file.read_bytes(), file.suffix.lower()
    if suffix == ".parquet":
        return read_metadata(io.BytesIO(data)).num_rows
    if file.stem == "bars" or data.startswith((b"\x1f\x8b", b"PAR1", b"[")):  # no header, or not what the name says
        return None
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if suffix == ".jsonl":
        return sum(1 for line in lines if line.strip(b" \t\r"))
    lines = [line for line in lines if line]
    if suffix in (".csv", ".tsv") and lines and not set(data) & set(b'"\r') and all(line.strip(b" ") for line in lines):
        return len(lines) - (not is_goemotions_split(file)) if len(lines[0]) < 9000 else None
    return None


def try_case(number: int, folder: Path) -> str:
    "Which end a case came to. Raises what a reader should not have raised, or what its answer lacks."
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reader, files = make_case(number, folder)
    signal.alarm(SECONDS)
    try:
        answer = reader()
    except EmoNbError as error:
        assert str(error).strip() and len(str(error).encode()) < 600
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028]", str(error)), "not one printable line"
        return "refused in a sentence"
    finally:
        signal.alarm(0)
    if isinstance(answer, ReadResult):
        check_reading(answer, *files)
    else:
        assert all(isinstance(text, str) for text in answer)
    return "read"


def try_cases(numbers: Iterable[int], root: Path) -> Counter[str]:
    "The ends of many cases; a failure names the case and leaves its files."
    before = signal.signal(signal.SIGALRM, hang)
    ends: Counter[str] = Counter()
    for number in numbers:
        folder = root / str(os.getpid())
        try:
            ends[try_case(number, folder)] += 1
        except (Exception, Hang) as error:
            kept = root / f"case-{number}"
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            raise AssertionError(f"case {number}, whose files are in {kept}: {error!r:.300}") from error
    shutil.rmtree(root / str(os.getpid()), ignore_errors=True)
    signal.signal(signal.SIGALRM, before)
    return ends


def hang(*_: object) -> None:
    raise Hang(f"after {SECONDS} s")


def main() -> None:
    from tqdm import tqdm

    first, count = (int(os.environ.get(name, default)) for name, default in (("FIRST", 0), ("FUZZ", MILLION)))
    started = utc_now()
    root = Path(tempfile.mkdtemp(prefix="emo_nb-fuzz-"))
    batches = [range(i, min(i + 500, first + count)) for i in range(first, first + count, 500)]
    ends: Counter[str] = Counter()
    with ProcessPoolExecutor(initializer=faulthandler.enable) as pool, tqdm(total=count, unit="case") as bar:
        try:
            for batch_ends in pool.map(partial(try_cases, root=root), batches):
                ends += batch_ends
                bar.update(batch_ends.total())
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(root)
    if count >= WORTH_A_RECORD:
        record = {"command": f"make fuzz FUZZ={count}", "first": first, "tried": count, "ends": ends}
        with atomic_file(Path(__file__).parent.parent / "results/fuzz.json") as temporary:
            temporary.write_text(json.dumps({**provenance(started), **record}, indent=1) + "\n")
    ends_in_words = (f"{n:,} {end}" for end, n in ends.items())
    print(f"{ends.total():,} cases from number {first:,}, none lost:", *ends_in_words, sep="\n  ")


if __name__ == "__main__":
    main()
