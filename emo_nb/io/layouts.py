"""Published layouts of labelled texts: which of a table's columns holds what, where its user does not say it.

`recognize_layout` looks at the names of the columns. A layout that is not published anywhere is recognised by the usual
names of its columns (`text`, `label`, `emotion` …), by columns of 0 and 1, or, where there is no header, by what the
columns hold. What was recognised is said, and any column that the user names takes precedence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ..core import DataError
from ..taxonomy import EMPATHETIC, GOEMOTIONS
from .labels import is_indicator
from .readers import TableFile, find_column, list_names
from .rows import loose_name

SPLIT_NAMES = {"train": "train", "training": "train", "dev": "dev", "valid": "dev", "validation": "dev", "val": "dev"}
SPLIT_NAMES |= {"test": "test", "testing": "test"}


@dataclass(frozen=True)
class Layout:
    "What the columns of a table hold. The label is in `label`, or there is a column of 0 and 1 for each of `label_cols`."

    name: str
    text: str = ""
    label: str = ""
    label_cols: tuple[str, ...] = ()
    group: tuple[str, ...] = ()  # rows that agree in these stay on one side of a split
    split: str = ""  # train, dev or test
    keep: tuple[str, str] | None = None  # a column, and the only value with which a row counts
    needs: tuple[str, ...] = ()  # columns by which the layout is recognised, beside the above


SEMEVAL_2018 = (
    "anger",
    "anticipation",
    "disgust",
    "fear",
    "joy",
    "love",
    "optimism",
    "pessimism",
    "sadness",
    "surprise",
    "trust",
)

EMOTIONS = {*SEMEVAL_2018, *GOEMOTIONS, *EMPATHETIC}  # names by which a column of labels is known

PUBLISHED = (  # the first whose columns are all there
    Layout("SemEval-2018 task 1, E-c", "Tweet", label_cols=SEMEVAL_2018),
    Layout("SemEval-2018 task 1, classes of intensity", "Tweet", "Intensity Class"),
    Layout("MELD", "Utterance", "Emotion", group=("Dialogue_ID",), needs=("Utterance_ID",)),
    Layout("EmoryNLP", "Utterance", "Emotion", group=("Season", "Episode", "Scene_ID")),
    Layout("EmoryNLP", "transcript", "emotion", group=("scene_id",), needs=("utterance_id",)),
    Layout("ISEAR", "SIT", "Field1"),
    Layout("Label Studio", "data.text", "annotations"),
    Layout("Prodigy, choices", "text", "accept", keep=("answer", "accept")),
    Layout("Prodigy", "text", "label", keep=("answer", "accept")),
    Layout("spaCy", "text", "cats"),
)
_TEXTS = ("text", "tweet", "utterance", "sentence", "content", "comment", "transcript", "message", "review", "document")
_LABELS = ("labels", "label", "emotions", "emotion", "sentiment", "class", "category", "target")
_OTHERS = re.compile(
    r"id|split|answer|index|likes|retweets|example_very_unclear|(is|has)_.*|.*_(id|count)"
)  # never labels


def recognize_layout(file: TableFile) -> Layout | None:
    "The layout of a table, as far as it can be told: a published one, or one with the usual names; None if not even its text."
    names = file.columns
    for layout in PUBLISHED:
        wanted = (layout.text, *([layout.label] if layout.label else layout.label_cols), *layout.group, *layout.needs)
        wanted += layout.keep[:1] if layout.keep else ()
        column_of = {name: find_column(names, name) for name in wanted}
        if all(column_of.values()) and (not layout.keep or _are_decisions(file, column_of[layout.keep[0]])):
            return _with_names(layout, column_of)
    if not file.table.has_header:
        return _headless_layout(file)
    text = next((column for name in _TEXTS if (column := find_column(names, name))), "")
    label = next((column for name in _LABELS if (column := find_column(names, name))), "")
    return Layout("custom table", text, label, () if label else indicator_columns(file, text)) if text else None


def _are_decisions(file: TableFile, column: str | None) -> bool:
    "Whether a column says what Prodigy's users decided about each row."
    if column is None or file.columns.count(column) > 1:
        return False
    return set(file.column(column).dropna()) <= {"accept", "reject", "ignore"}


def _with_names(layout: Layout, column_of: dict[str, str | None]) -> Layout:
    "A layout with the names that its columns have in the file."
    name = {wanted: column or "" for wanted, column in column_of.items()}
    keep = (name[layout.keep[0]], layout.keep[1]) if layout.keep else None
    columns = tuple(name[one] for one in layout.label_cols), tuple(name[one] for one in layout.group)
    return replace(
        layout,
        text=name[layout.text],
        label=name.get(layout.label, ""),
        label_cols=columns[0],
        group=columns[1],
        keep=keep,
    )


def indicator_columns(file: TableFile, text: str) -> tuple[str, ...]:
    """The columns of 0 and 1 in a table that stand side by side, two at least; or those called like emotions.

    The latter may be blank, as they are in published test files.
    """
    rows, names = file.rows, [name for name in file.columns if name in file.rows.columns]
    runs: list[list[str]] = [[]]  # columns of labels stand side by side
    for name in names:
        is_other = name == text or not name.strip() or names.count(name) > 1 or _OTHERS.fullmatch(loose_name(name))
        if not is_other and is_indicator(rows[name], is_emotion=loose_name(name) in EMOTIONS):
            runs[-1].append(name)
        else:
            runs.append([])

    def sure(run: list[str]) -> int:
        return sum(loose_name(name) in EMOTIONS or rows[name].map(str).nunique() > 1 for name in run)

    best = max(runs, key=sure)
    return tuple(best) if sure(best) > 1 else ()


def _headless_layout(file: TableFile) -> Layout | None:
    "The layout of a table without a header: its longest column is the text, the one with fewest different cells the label."
    rows = file.rows
    lengths = {name: rows[name].str.count(r"[^\W\d_]").mean() for name in file.columns if len(rows)}  # letters
    if len(lengths) < 2:
        return None
    text = max(lengths, key=lambda name: lengths[name])
    others = [name for name in lengths if name != text and rows[name].str.fullmatch(r"\s*|-?\d*\.\d+").sum() == 0]
    kinds = {name: rows[name].nunique() for name in others}
    kinds = {name: count for name, count in kinds.items() if 1 < count < max(3, len(rows))}
    if not kinds:
        return None
    return Layout("no header", text, min(kinds, key=lambda name: kinds[name]))


def split_of_name(name: str) -> str | None:
    "The split that a file's name says: `train.csv`, `eng_dev.csv`, `2018-E-c-En-test.txt`; None where it says none or two."
    words = {SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", Path(name).name.lower()) if word in SPLIT_NAMES}
    return words.pop() if len(words) == 1 else None


# ---- TweetEval: texts, numbers and names in three files


def find_tweeteval(path: Path) -> list[tuple[str, Path, Path]]:
    "The splits at a path in TweetEval's layout: a name, the file of texts, the file of numbers; empty if it is not that."
    if path.is_dir():
        texts = sorted(path.glob("*_text.txt"))
    elif path.name.endswith(("_text.txt", "_labels.txt")):
        texts = [path.with_name(path.name.replace("_labels.txt", "_text.txt"))]
    else:
        return []
    pairs = [(file, file.with_name(file.name.replace("_text.txt", "_labels.txt"))) for file in texts]
    return [(text.name, text, numbers) for text, numbers in pairs if text.is_file() and numbers.is_file()]


def tweeteval_rows(text_file: Path, label_file: Path) -> pd.DataFrame:
    "Texts and numbers line by line, with their line. Raises `DataError` where the files have different numbers of lines."
    texts, numbers = (_read_lines(file) for file in (text_file, label_file))
    if len(texts) != len(numbers):
        raise DataError(
            f"{text_file} has {len(texts):,} lines and {label_file.name} {len(numbers):,}; they must have one for each text"
        )
    return pd.DataFrame({"text": texts, "label": numbers, "line": range(1, len(texts) + 1)}, dtype=object)


def _read_lines(file: Path) -> list[str]:
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8; save it as UTF-8") from error
    return [line.rstrip("\r") for line in (lines[:-1] if not lines[-1] else lines)]


def check_known(path: object, file: TableFile, missing: Sequence[str]) -> None:
    "Raise `DataError` where it cannot be told which column holds the texts or the labels."
    if not missing:
        return
    what = " and ".join({"text": "the texts", "label": "the labels"}[one] for one in missing)
    if not any(map(str.strip, file.columns)):
        raise DataError(f"{path} has no usable row{first_refusal(file)}; give rows with a text and labels")
    numbered = " (it has no header, so they are numbered)" if not file.table.has_header else ""
    number = "; where its first line is no header, number them from 1 on" if file.table.lines and not numbered else ""
    raise DataError(
        f"{path}: it cannot be told which column holds {what}; its columns are: {list_names(file.columns)}{numbered}; "
        f"name them with --text-col and --label-col (or --label-cols){number}"
    )


def first_refusal(file: TableFile) -> str:
    "The first refused row of a file with its reason, in brackets; that it is empty where there is none."
    if file.refused.empty:
        return " (it is empty)"
    return " ({file}, line {line}: {reason})".format(**file.refused.iloc[0])
