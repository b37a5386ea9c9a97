"""A labelled table of the user's own: which of its columns hold what, and each row as text, labels, group and split.

The columns are those that the user names, and where they name none, those of the layout that is recognised
(`layouts`). Whatever was decided on the way stands in `LabelledRows.notes`, in sentences for the user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from ..core import ConfigError, DataError, Unlabelled
from .archives import other_files, read_files
from .label_cells import is_missing, number_text
from .labels import (
    LabelColumn,
    read_indicator_columns,
    read_label_column,
    read_label_names,
    unique_labels,
)
from .layouts import (
    SPLIT_NAMES,
    Layout,
    check_known,
    find_tweeteval,
    first_refusal,
    indicator_columns,
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
    read_table_file,
    refused_rows,
)
from .rows import loose_name


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
    split_named: bool = False  # the user named the column of splits


def read_labelled_rows(
    path: Path,
    columns: NamedColumns,
    separator: str | None = None,
    names: str | Sequence[str] | Mapping[str, str] | None = None,
    unlabelled: str | None = None,
) -> LabelledRows:
    """Read the table at `path`, one file or several.

    `separator` and `names` are those of `read_label_column` and `read_label_names`; by default, a row
    that is marked as having none of the labels counts as such, and one whose label is blank is refused as not labelled;
    with `unlabelled`, both count (`negative`) or neither does (`drop`). Raises `DataError`,
    and `ConfigError` for impossible settings.
    """
    if unlabelled not in (None, *(ways := get_args(Unlabelled))):
        raise ConfigError(
            f"there is no way {unlabelled!r} to take rows without a label; choose one of: {', '.join(ways)}"
        )
    _check_columns(columns, names)
    label_names = None if names is None else read_label_names(names)
    if pairs := find_tweeteval(path):
        table, mapping = _read_tweeteval(path, pairs)
        label_names = label_names or mapping
    else:
        table = _read_files(path, columns)
    marks, known = (table.rows.attrs.pop(name, None) for name in ("marks", "names"))
    label_names = label_names or known
    if marks is not None:
        labels = read_indicator_columns(marks)
    else:
        labels = read_label_column(table.rows.labels, path, separator, label_names, are_numbers=bool(known))
    table.split_named = columns.split is not None
    _take_labels(table, labels, unlabelled, marks is not None)
    _set_splits(table)
    if odd := int(
        table.rows.text.map(lambda text: isinstance(text, str) and bool(text.strip()) and is_missing(text)).sum()
    ):
        labels.notes.append(f"texts that are a word for a missing value, such as nan: {odd:,}")
    table.notes = list(dict.fromkeys([*table.notes, *labels.notes]))
    return table


def _check_columns(columns: NamedColumns, names: object) -> None:
    "Raise `ConfigError` where the named columns contradict each other."
    if columns.label and columns.labels:
        raise ConfigError("labels stand in one column or in one for each label; give --label-col or --label-cols")
    if columns.labels and names is not None:
        raise ConfigError(
            "--label-names is for numbers in one column; columns of 0 and 1 have their names in the header"
        )
    if columns.text and columns.text in (columns.label, *columns.labels):
        raise ConfigError(f"{columns.text!r} cannot be the column of the texts and of the labels; name another")


def _read_files(path: Path, columns: NamedColumns) -> LabelledRows:
    "The rows of all files, their labels as they are written."
    contents = list(read_files(path))
    files = [(name, read_table_file(name, content, columns.wanted())) for name, content in contents]
    layouts, notes = _choose_layouts(path, files, columns)
    if len({(one.label, one.label_cols) for one in layouts.values()}) > 1:
        raise DataError(f"{path} holds files whose labels stand in different columns; name one file")
    parts, marks = [], []
    for name, file in files:
        if (layout := layouts.get(name)) is None:
            continue
        notes += [f"{name}: {note}" for note in [*file.table.notes, *_layout_notes(layout, columns, file)]]
        parts.append(_take_columns(name, file, layout, is_named=columns.group is not None))
        marks.append(
            pd.DataFrame({name: file.column(name) for name in layout.label_cols}) if layout.label_cols else None
        )
    rows = pd.concat(parts, ignore_index=True)
    if all(one is not None for one in marks):
        rows.attrs["marks"] = pd.concat([one for one in marks if one is not None], ignore_index=True)
    first = next(iter(layouts.values()))
    known = {
        name: tuple(file.table.label_names[first.label])
        for name, file in files
        if first.label in file.table.label_names
    }
    if len(set(known.values())) > 1:
        raise DataError(f"{path} holds files that number their labels otherwise ({', '.join(known)}); name one file")
    if known:
        rows.attrs["names"] = {str(number): name for number, name in enumerate(next(iter(known.values())))}
    refused = [file.refused for name, file in files if name in layouts]
    total = len(rows) + sum(map(len, refused))
    return LabelledRows(rows, refused, total, notes, first.name, contents)


def _choose_layouts(
    path: Path, files: Sequence[tuple[str, TableFile]], columns: NamedColumns
) -> tuple[dict[str, Layout], list[str]]:
    "The layout of each file, and what is left out; of several, a file without a usable column may be left out."
    layouts, left_out = {}, dict.fromkeys(other_files(path), "a file of another kind")
    problem: DataError | None = None
    for name, file in files:
        where = path if len(files) == 1 else f"{path}: {name}"
        try:
            layouts[name] = _choose_layout(where, file, columns)
        except DataError as error:
            if columns.wanted() and file.table.columns != []:
                if len(files) == 1:
                    raise
                raise DataError(f"{error}; or name one file, not the folder") from None
            problem, left_out[name] = error, "without texts or labels"
    if not layouts:
        raise (
            problem
            if problem
            else DataError(f"{path} has no usable row (its files are empty); give rows with a text and labels")
        )
    return layouts, [f"left out: {name}, {reason}" for name, reason in left_out.items()]


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
    check_known(where, file, missing)
    layout = Layout("custom table", text, label, label_cols)
    if known and (known.text, known.label, known.label_cols) == (text, label, label_cols):
        layout = known
    if columns.group:
        layout = replace(layout, group=(_named(where, file, columns.group),))
    split = _named(where, file, columns.split) if columns.split else find_column(file.columns, "split") or ""
    layout = replace(layout, split=split)
    used = (layout.text, layout.label, *layout.label_cols, *layout.group, split)
    if doubled := [name for name in used if name and file.columns.count(name) > 1]:
        raise DataError(f"{where} has the column {doubled[0]!r} twice; rename one")
    return layout


def _named(where: object, file: TableFile, wanted: str) -> str:
    "The column that the user names, if only nearly. Raises `DataError` where it is missing or there twice."
    columns = file.columns
    if (column := find_column(columns, wanted)) is None:
        if not any(map(str.strip, columns)):
            raise DataError(
                f"{where} has no column {wanted!r} and no usable row{first_refusal(file)}; give another file"
            )
        names = list_names(columns)
        numbered = "" if file.table.has_header else " (it has no header, so they are numbered)"
        number = (
            ", or number them from 1 on if this is no header"
            if file.table.lines and file.table.columns and not numbered
            else ""
        )
        remedy = "; ".join([*(note for note in file.table.notes if "UTF-8" in note), f"name one of them{number}"])
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
        recognised = f"read as {layout.name}: " if layout.name not in ("custom table", "no header") else ""
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
        group = [prefix + "/".join(key) if all(key) else row for key, row in zip(keys, place, strict=True)]
    labels: Any = file.column(layout.label) if layout.label else None
    if layout.label in file.table.label_names:
        labels = labels.map(lambda cell: None if cell == -1 else cell)  # as datasets marks what is not labelled
    if layout.name.startswith("Label Studio"):
        not_annotated = labels.map(lambda cell: isinstance(cell, list) and not cell)
    else:
        not_annotated = pd.Series(False, index=text.index)
    reason = np.where(not_annotated, "not annotated", text.map(_text_problem).to_numpy(dtype=object))
    if layout.keep:
        answers = file.column(layout.keep[0])
        reason = np.where(answers == layout.keep[1], reason, [f"{layout.keep[0]} is {answer!r}" for answer in answers])
    return pd.DataFrame(
        {
            "text": text.where(text.map(lambda cell: isinstance(cell, str))),
            "labels": labels,
            "group": group,
            "split": file.column(layout.split) if layout.split else None,
            "file": file.rows[FILE_COLUMN],
            "line": file.rows[LINE_COLUMN],
            "reason": reason,
        },
        dtype=object,
    )


def _text_problem(cell: Any) -> str:
    "Why a cell is no text; an empty string where it is one."
    if isinstance(cell, str) or cell is None or cell != cell:
        return "" if isinstance(cell, str) and cell.strip() else "no text"
    return f"no text but {cell!r:.40}"


def _take_labels(table: LabelledRows, labels: LabelColumn, unlabelled: str | None, has_marks: bool) -> None:
    "Set `labels` and `reason`. A row that is marked as having none is a negative; a blank is not labelled."
    rows, read = table.rows, labels.labels.map(unique_labels)
    blank = rows.labels.map(_is_blank) & (not has_marks) & (rows.reason == "")
    negative = read.map(lambda one: one == ()) & (rows.reason == "")
    are_several = negative.any() or any(len(one or ()) > 1 for one in read)
    if unlabelled == "negative":
        negative |= blank
    elif are_several and blank.any():
        table.notes.append(
            f"rows whose label is blank: {blank.sum():,}, taken as not labelled (--unlabelled negative takes them as "
            "having none of the labels)"
        )
    if unlabelled == "drop":
        rows["labels"] = [one or None for one in read]
    else:
        rows["labels"] = [() if no else one for one, no in zip(read, negative, strict=True)]
        if negative.any():
            table.notes.append(
                f"rows without a label: {negative.sum():,}, taken as having none of the labels (--unlabelled drop leaves "
                "them out)"
            )
    missing = rows.labels.isna() & (rows.reason == "")
    rows["reason"] = np.where(missing, np.where(labels.reasons == "", "no label", labels.reasons), rows.reason)


def _note_splits(table: LabelledRows, source: str, splits: pd.Series) -> None:
    "Set the splits, and say where they come from and how many rows each has."
    counts = ", ".join(f"{count:,} {split}" for split, count in splits.value_counts().items())
    table.notes.append(f"{source} the splits: {counts}")
    table.rows["split"] = splits


def _is_blank(cell: Any) -> bool:
    "Whether a cell of labels is empty; a word such as nan is not, for it says nothing of the text."
    return cell is None or (not cell.strip() if isinstance(cell, str) else isinstance(cell, float) and cell != cell)


def _set_splits(table: LabelledRows) -> None:
    "Set `split` where a column, or each file's name, plainly says it; else None."
    rows = table.rows
    by_column = rows.split.map(lambda cell: SPLIT_NAMES.get(loose_name(cell)))
    by_file = rows.file.map({name: split_of_name(name) for name in rows.file.unique()})
    named = rows.split.notna() & (rows.split.map(str).str.strip() != "")
    if by_column.nunique() > 1 and by_column.notna().sum() > len(rows) / 2:
        strange = by_column.isna() & (rows.reason == "")
        rows["reason"] = np.where(strange, [f"its split is {cell!r}" for cell in rows.split], rows.reason)
        _note_splits(table, "a column tells", by_column)
        return
    if table.split_named or (named.any() and by_column.nunique() > 1):
        strange = rows.split[by_column.isna()].iloc[0] if by_column.isna().any() else rows.split.iloc[0]
        raise DataError(
            f"the column of splits holds {strange!r}; it must say train, dev or test, and not one of them alone"
        )
    if named.any():
        table.notes.append(
            f"the column 'split' says {rows.split[named].iloc[0]!r} and does not tell splits, so it is not used"
        )
    if by_file.notna().all() and by_file.nunique() > 1:
        _note_splits(table, "the files' names tell", by_file)
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
