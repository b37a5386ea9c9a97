"""A labelled table of the user's own: which of its columns hold what, and each row as text, labels, group and split.

The columns are those that the user names, and where they name none, those of the layout that is recognised
(`layouts`). Whatever was decided on the way stands in `LabelledRows.notes`, in sentences for the user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import ConfigError, DataError
from .archives import read_files
from .labels import LabelColumn, number_text, read_indicator_columns, read_label_column, read_label_names, unique_labels
from .layouts import (
    SPLIT_NAMES,
    Layout,
    find_tweeteval,
    indicator_columns,
    no_columns_error,
    recognize_layout,
    split_of_name,
    tweeteval_rows,
)
from .readers import (
    FILE_COLUMN,
    LINE_COLUMN,
    TableFile,
    find_column,
    list_names,
    loose_name,
    read_table_file,
    refused_rows,
)

UNLABELLED = ("negative", "drop")


@dataclass(frozen=True)
class NamedColumns:
    "The columns that a user names; None and () where the layout says them."

    text: str | None = None
    label: str | None = None
    labels: tuple[str, ...] = ()  # columns of 0 and 1, one for each label
    group: str | None = None
    split: str | None = None

    def wanted(self) -> list[str]:
        "All that are named."
        return [name for name in (self.text, self.label, *self.labels, self.group, self.split) if name]


@dataclass
class LabelledRows:
    "The rows of a table: `text`, `labels`, `group`, `split`, `file`, `line`, and the `reason` why one is refused."

    rows: pd.DataFrame
    refused: list[pd.DataFrame]  # of rows that could not be read: file, line, reason
    total: int
    notes: list[str]
    layout: str
    contents: list[tuple[str, bytes]]  # name and content of each file


def read_labelled_rows(
    path: Path,
    columns: NamedColumns,
    separator: str | None = None,
    names: str | Sequence[str] | Mapping[str, str] | None = None,
    unlabelled: str | None = None,
) -> LabelledRows:
    """Read the table at `path`, one file or several.

    `separator` and `names` are those of `read_label_column` and `read_label_names`; `unlabelled` says whether a row
    without a label counts as one that has none of the labels (`negative`) or is refused (`drop`). Raises `DataError`,
    and `ConfigError` for impossible settings.
    """
    if unlabelled not in (None, *UNLABELLED):
        raise ConfigError(f"there is no way {unlabelled!r} to take rows without a label; choose one of: negative, drop")
    if columns.label and columns.labels:
        raise ConfigError("labels stand in one column or in one for each label; give --label-col or --label-cols")
    label_names = None if names is None else read_label_names(names)
    if pairs := find_tweeteval(path):
        table, mapping = _read_tweeteval(path, pairs)
        label_names = label_names or mapping
    else:
        table = _read_files(path, columns)
    marks = table.rows.attrs.pop("marks", None)
    if marks is not None:
        labels = read_indicator_columns(marks)
    else:
        labels = read_label_column(table.rows.labels, path, separator, label_names)
    _take_labels(table, labels, unlabelled, marks is not None)
    _set_splits(table)
    table.notes = list(dict.fromkeys([*table.notes, *labels.notes]))
    return table


def _read_files(path: Path, columns: NamedColumns) -> LabelledRows:
    "The rows of all files, their labels as they are written."
    contents = list(read_files(path))
    files = [(name, read_table_file(name, content, columns.wanted())) for name, content in contents]
    notes, parts, marks, layouts = [], [], [], []
    for name, file in files:
        if len(files) > 1 and not len(file.rows) and not file.table.columns:
            continue  # an empty file among others
        where = path if len(files) == 1 else f"{path}: {name}"
        layout = _choose_layout(where, file, columns)
        notes += [f"{name}: {note}" for note in [*file.table.notes, *_layout_notes(layout, columns, file)]]
        layouts.append(layout)
        parts.append(_take_columns(name, file, layout, is_named=columns.group is not None))
        marks.append(file.rows[list(layout.label_cols)] if layout.label_cols else None)
    if not parts:
        raise DataError(f"{path} has no usable row (its files are empty); give rows with a text and labels")
    if len({(one.label, one.label_cols) for one in layouts}) > 1:
        raise DataError(f"{path} holds files whose labels stand in different columns; name one file, or --label-col")
    rows = pd.concat(parts, ignore_index=True)
    if layouts[0].label_cols:
        rows.attrs["marks"] = pd.concat([one for one in marks if one is not None], ignore_index=True)
    refused = [file.refused for _, file in files]
    total = len(rows) + sum(map(len, refused))
    return LabelledRows(rows, refused, total, notes, layouts[0].name, contents)


def _choose_layout(where: object, file: TableFile, columns: NamedColumns) -> Layout:
    "The columns that the user names, and for the others those of the layout that is recognised."
    known = recognize_layout(file)
    text = _named(where, file, columns.text) if columns.text else known.text if known else ""
    label = _named(where, file, columns.label) if columns.label else ""
    label_cols = tuple(_named(where, file, name) for name in columns.labels)
    if text and not label and not label_cols:
        label_cols = known.label_cols if known else indicator_columns(file, text)
        label = known.label if known else ""
    missing = [one for one, there in (("text", text), ("label", label or label_cols)) if not there]
    if missing:
        raise no_columns_error(where, file, missing)
    layout = Layout("own table", text, label, label_cols)
    if known and (known.text, known.label, known.label_cols) == (text, label, label_cols):
        layout = known
    if columns.group:
        layout = replace(layout, group=(_named(where, file, columns.group),))
    split = _named(where, file, columns.split) if columns.split else find_column(file.columns, "split") or ""
    layout = replace(layout, split=split)
    used = (layout.text, layout.label, *layout.label_cols, *layout.group, split)
    if doubled := [name for name in used if file.columns.count(name) > 1]:
        raise DataError(f"{where} has the column {doubled[0]!r} twice; rename one")
    return layout


def _named(where: object, file: TableFile, wanted: str) -> str:
    "The column that the user names, if only nearly. Raises `DataError` where it is missing or there twice."
    columns = file.columns
    if (column := find_column(columns, wanted)) is None:
        names = list_names(columns) if any(map(str.strip, columns)) else "none, for it is empty"
        numbered = "" if file.table.has_header else " (it has no header, so they are numbered)"
        remedy = "name one of them" + (
            ", or number them from 1 on if this is no header" if file.table.lines and not numbered else ""
        )
        raise DataError(f"{where} has no column {wanted!r}; its columns are: {names}{numbered}; {remedy}")
    return column


def _layout_notes(layout: Layout, columns: NamedColumns, file: TableFile) -> list[str]:
    "Which columns are read, where the user did not name them just so."
    notes = []
    pairs = [
        (columns.text, layout.text),
        (columns.label, layout.label),
        *zip(columns.labels, layout.label_cols, strict=False),
    ]
    notes += [
        f"the column {column!r} is taken for {wanted!r}" for wanted, column in pairs if wanted and column != wanted
    ]
    labels = f"the columns of 0 and 1 {list_names(layout.label_cols)}" if layout.label_cols else repr(layout.label)
    if not columns.text or not (columns.label or columns.labels):
        recognised = f"read as {layout.name}: " if layout.name not in ("own table", "no header") else ""
        notes.append(f"{recognised}texts in {layout.text!r}, labels in {labels}")
    if layout.group and not columns.group:
        notes.append(f"rows with the same {list_names(layout.group)} stay on one side of a split")
    return notes


def _take_columns(name: str, file: TableFile, layout: Layout, is_named: bool) -> pd.DataFrame:
    "A file's rows with the columns of `LabelledRows.rows`, their labels as they are written."
    text = file.column(layout.text)
    place = file.rows[FILE_COLUMN] + ":" + file.rows[LINE_COLUMN].astype(str)
    group: Any = place
    if layout.group:
        keys = zip(*(file.column(column).map(number_text) for column in layout.group), strict=True)
        prefix = "" if is_named else f"{name}:"  # a published number counts within its file
        group = [prefix + "/".join(key) if all(key) else own for key, own in zip(keys, place, strict=True)]
    labels: Any = file.column(layout.label) if layout.label else None
    if layout.label in file.table.label_names:
        labels = labels.map(lambda cell: _class_names(cell, file.table.label_names[layout.label]))
    reason = np.where(text.map(lambda cell: isinstance(cell, str)), "", "no text")
    if layout.keep:
        answers = file.column(layout.keep[0])
        reason = np.where(answers == layout.keep[1], reason, [f"{layout.keep[0]} is {answer!r}" for answer in answers])
    return pd.DataFrame(
        {
            "text": text.where(reason != "no text"),
            "labels": labels,
            "group": group,
            "split": file.column(layout.split) if layout.split else None,
            "file": file.rows[FILE_COLUMN],
            "line": file.rows[LINE_COLUMN],
            "reason": reason,
        },
        dtype=object,
    )


def _class_names(cell: Any, names: Sequence[str]) -> Any:
    "The names of a number or of a list of numbers (`ClassLabel`); anything else stays as it is."
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [_class_names(one, names) for one in cell]
    is_number = isinstance(cell, (int, np.integer)) and -1 <= cell < len(names)
    return (None if cell == -1 else names[int(cell)]) if is_number else cell  # -1: not labelled


def _take_labels(table: LabelledRows, labels: LabelColumn, unlabelled: str | None, has_marks: bool) -> None:
    "Set `labels` and `reason`. In a table of several labels, a row that is marked as having none is a negative."
    rows = table.rows
    blank = rows.labels.map(lambda cell: isinstance(cell, str) and not cell.strip()) & ~has_marks
    read = labels.labels.map(unique_labels)
    several = has_marks or any(len(one or ()) > 1 for one in read)
    negative = blank | read.map(lambda one: one == ())
    if several and unlabelled != "drop":
        rows["labels"] = [() if no else one for one, no in zip(read, negative, strict=True)]
        if count := int((negative & (rows.reason == "")).sum()):
            table.notes.append(
                f"rows without a label: {count:,}, taken as having none of the labels (--unlabelled drop leaves them out)"
            )
    else:
        rows["labels"] = [one or None for one in read]
    missing = rows.labels.isna() & (rows.reason == "")
    rows["reason"] = np.where(missing, np.where(labels.reasons == "", "no label", labels.reasons), rows.reason)


def _set_splits(table: LabelledRows) -> None:
    "Set `split` where a column, or each file's name, plainly says it; else None."
    rows = table.rows
    by_column = rows.split.map(lambda cell: SPLIT_NAMES.get(loose_name(cell)))
    by_file = rows.file.map({name: split_of_name(name) for name in rows.file.unique()})
    for source, splits in (("a column", by_column), ("the files' names", by_file)):
        if splits.notna().all() and splits.nunique() > 1:
            counts = ", ".join(f"{count:,} {split}" for split, count in splits.value_counts().items())
            table.notes.append(f"{source} tell the splits: {counts}".replace("a column tell", "a column tells"))
            rows["split"] = splits
            return
    if by_file.nunique() > 1:
        table.notes.append("not every file's name says a split, so all rows are taken together")
    rows["split"] = None


def _read_tweeteval(path: Path, pairs: list[tuple[str, Path, Path]]) -> tuple[LabelledRows, dict[str, str] | None]:
    "The rows of TweetEval's files, and the names of their numbers where `mapping.txt` is there."
    parts = []
    for name, text_file, label_file in pairs:
        rows = tweeteval_rows(text_file, label_file).assign(file=name, reason="", split=None)
        parts.append(rows.assign(group=[f"{name}:{line}" for line in rows.line]).rename(columns={"label": "labels"}))
    every = pd.concat(parts, ignore_index=True)
    contents = [(file.name, file.read_bytes()) for _, *both in pairs for file in both]
    mapping = (path if path.is_dir() else path.parent) / "mapping.txt"
    notes = [f"read as TweetEval: labels in {', '.join(label_file.name for *_, label_file in pairs)}"]
    if mapping.is_file():
        notes.append("the labels' names come from mapping.txt")
    names = read_label_names(str(mapping)) if mapping.is_file() else None
    return LabelledRows(every, [refused_rows([])], len(every), notes, "TweetEval", contents), names
