"""Any known form of GoEmotions or EmpatheticDialogues, or a table of your own, as one tidy frame with every row accounted for."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .core import ConfigError, DataError, first_line
from .io.archives import read_files
from .io.readers import (
    EMPATHETIC_COLUMNS,
    FILE_COLUMN,
    LINE_COLUMN,
    cell_text,
    list_names,
    read_table_file,
    refused_rows,
)
from .io.schema import SCHEMA_VERSION, TidyFrame, check_frame
from .sources import find_corpus, resolve_path
from .taxonomy import EMPATHETIC, GOEMOTIONS, UNITS

COLUMNS = tuple(name for name in TidyFrame.model_fields if name != "version")
_CATEGORIES = ("corpus", "perspective", "annotator", "role", "split")
_SPLIT_NAMES = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}


@dataclass(frozen=True)
class ReadResult:
    "What was read: the tidy frame, and an account of every row in the files."

    frame: pd.DataFrame  # tidy: columns are COLUMNS
    form: str  # the name of the form that was recognised
    files: dict[str, str]  # name -> SHA-256
    rows: int  # in the files, headers aside; of dialogues, texts of the unit
    refused: pd.DataFrame  # columns: file, line, reason
    origin: str = "given"  # how the files were found

    def __str__(self) -> str:
        refused = f"{len(self.refused):,} refused"
        if len(self.refused):
            first = self.refused.iloc[0]
            refused += f" (the first: {first.file} line {first.line}: {first.reason})"
        lost = self.rows - len(self.frame) - len(self.refused)
        refused += f", {lost:,} lost" if lost else ""
        files = ", ".join(self.files)
        return f"{self.form} ({self.origin}): {self.rows:,} rows in {files}; {len(self.frame):,} read, {refused}"


def as_tidy(rows: pd.DataFrame, **constant: object) -> pd.DataFrame:
    "A frame with exactly the tidy columns and types; `constant` fills whole columns."
    frame = rows.assign(**constant).reindex(columns=list(COLUMNS)).reset_index(drop=True)
    splits = pd.CategoricalDtype(["train", "dev", "test"])
    frame["group"] = frame.group.map(str)
    frame = frame.astype({"text": object, "group": object, **dict.fromkeys(_CATEGORIES, "category"), "split": splits})
    frame.attrs["schema"] = SCHEMA_VERSION
    return frame


def check_tidy(frame: pd.DataFrame, where: object = "the tidy frame") -> None:
    "Raise `DataError` where a frame does not fit the schema of the tidy frame."
    check_frame(frame, TidyFrame, where, DataError, "make it with `load_corpus`, `read_corpus` or `read_table`")


def normalize_text(texts: pd.Series) -> pd.Series:
    "Texts without case, punctuation and superfluous white space, to find duplicates; texts of signs only stay as they are."
    normalized = texts.str.casefold().str.replace(r"[^\w\s]|_", " ", regex=True).str.split().str.join(" ")
    return normalized.where(normalized != "", texts)


def official_split(rows: pd.DataFrame) -> pd.Series:
    "The official split of each row, where its file name begins with one."
    return rows[FILE_COLUMN].str.extract(r"^([a-z]+)\b", expand=False).map(_SPLIT_NAMES)


def goemotions_splits(rows: pd.DataFrame) -> pd.DataFrame:
    "`text, labels (ids), id`: the official splits. One row a comment, several labels possible."
    known = {str(number): label for number, label in enumerate(GOEMOTIONS)}

    def names(ids: object) -> tuple[str, ...] | None:
        numbers = ids.split(",") if isinstance(ids, str) else ids if isinstance(ids, (list, tuple, np.ndarray)) else []
        labels = [known.get(cell_text(number), "") for number in numbers]
        return tuple(dict.fromkeys(labels)) if labels and all(labels) else None

    labels = rows.labels.map(names)
    reason = np.where(labels.isna(), "labels are not ids from 0 to 27", "")
    return pd.DataFrame(
        {"text": rows.text, "labels": labels, "group": rows.id, "split": official_split(rows), "reason": reason}
    ).assign(corpus="goemotions", perspective="author", annotator="observer", role="comment")


def goemotions_raters(rows: pd.DataFrame) -> pd.DataFrame:
    "`text, id` and 28 columns of 0 and 1: one row for each rater of a comment."
    ticks = rows[list(GOEMOTIONS)].astype(str)
    names = np.array(GOEMOTIONS, dtype=object)
    labels = [tuple(names[row]) for row in (ticks == "1").to_numpy()]
    reason = np.where(ticks.isin(["0", "1"]).all(axis=1), "", "a label column holds neither 0 nor 1")
    return pd.DataFrame(
        {
            "text": rows.text,
            "labels": pd.Series(labels, index=rows.index, dtype=object),
            "group": rows.id,
            "reason": reason,
        }
    ).assign(corpus="goemotions", perspective="author", annotator="observer", role="comment")


def empathetic_utterances(rows: pd.DataFrame) -> pd.DataFrame:
    "`conv_id, utterance_idx, context, prompt, speaker_idx, utterance`: one row an utterance."
    return _empathetic(rows, "utterance").assign(role=np.where(is_speaker(rows), "speaker", "listener"))


def empathetic_prompts(rows: pd.DataFrame) -> pd.DataFrame:
    "The same files, one row a conversation: the situation in the speaker's own words."
    return _empathetic(rows.drop_duplicates([FILE_COLUMN, "conv_id"]), "prompt").assign(role="prompt")


def empathetic_speakers(rows: pd.DataFrame) -> pd.DataFrame:
    "One row a conversation: all that the speaker said, one line a turn."
    return _join_turns(rows, is_speaker(rows)).assign(role="speaker")


def empathetic_dialogues(rows: pd.DataFrame) -> pd.DataFrame:
    "One row a conversation: all that both said, one line a turn."
    return _join_turns(rows, pd.Series(True, index=rows.index)).assign(role="dialogue")


def is_speaker(rows: pd.DataFrame) -> pd.Series:
    "Whether each utterance is the speaker's, who has the odd turns."
    return rows.utterance_idx.str[-1:].isin(list("13579"))


def _join_turns(rows: pd.DataFrame, turns: pd.Series) -> pd.DataFrame:
    "The chosen turns of each conversation as one text, in their order; an empty text where there are none."
    key = [FILE_COLUMN, "conv_id"]
    text = rows.utterance[turns].groupby([rows[FILE_COLUMN], rows.conv_id], sort=False).agg("\n".join)
    firsts = rows.drop_duplicates(key)
    text = text.reindex(pd.MultiIndex.from_frame(firsts[key]), fill_value="")
    return _empathetic(firsts.assign(utterance=text.to_numpy()), "utterance")


def _empathetic(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    "What all units of EmpatheticDialogues have in common."
    reason = np.where(rows.context.isin(EMPATHETIC), "", "context is none of the 32")
    return pd.DataFrame(
        {
            "text": rows[column].str.replace("_comma_", ",", regex=False),
            "labels": pd.Series([(context,) for context in rows.context], index=rows.index, dtype=object),
            "group": rows.conv_id,
            "split": official_split(rows),
            "reason": reason,
        }
    ).assign(corpus="empathetic", perspective="reader", annotator="self")


FORMS = {
    "GoEmotions, one row a rater": ({"text", "id", *GOEMOTIONS}, goemotions_raters),
    "GoEmotions, official splits": ({"text", "labels", "id"}, goemotions_splits),
    "EmpatheticDialogues, utterances": (EMPATHETIC_COLUMNS, empathetic_utterances),
    "EmpatheticDialogues, prompts": (EMPATHETIC_COLUMNS, empathetic_prompts),
    "EmpatheticDialogues, speakers": (EMPATHETIC_COLUMNS, empathetic_speakers),
    "EmpatheticDialogues, dialogues": (EMPATHETIC_COLUMNS, empathetic_dialogues),
}


def recognize_form(name: str, rows: pd.DataFrame, unit: str = "utterance") -> str:
    "The name of the form that a table has; `DataError` where emo_nb knows none with its columns."
    hits = [form for form, (columns, _) in FORMS.items() if columns <= set(rows.columns)]
    if not hits:
        columns = list_names(rows.columns.drop([FILE_COLUMN, LINE_COLUMN], errors="ignore"), 6) or "none"
        raise DataError(
            f"{name} has none of the forms that emo_nb knows (its columns begin: {columns}); "
            "for a table of your own, name its columns with --text-col and --label-col"
        )
    return hits[UNITS.index(unit)] if FORMS[hits[0]][0] == EMPATHETIC_COLUMNS else hits[0]


def _form_columns(name: str, rows: pd.DataFrame, form: str) -> pd.DataFrame:
    "The columns of a form, as strings but for lists of labels. Raises `DataError` where one is there twice."
    columns = sorted(FORMS[form][0])
    if doubled := [column for column in columns if list(rows.columns).count(column) > 1]:
        raise DataError(f"{name} has the column {doubled[0]!r} twice; rename one")
    rows = rows[[FILE_COLUMN, LINE_COLUMN, *columns]].copy()
    for column in columns:
        if column != "labels" and pd.api.types.infer_dtype(rows[column], skipna=False) != "string":
            rows[column] = rows[column].map(cell_text).astype(object)
    return rows


def read_corpus(path: str | Path, unit: str = "utterance", reading: str = "full") -> ReadResult:
    """Read GoEmotions or EmpatheticDialogues, in whichever form the file, folder or archive at `path` has.

    `unit` says what one text of EmpatheticDialogues is (`UNITS`). `reading="study"` reads its training file as the
    original study did, which loses rows. Raises `DataError`, with file and reason.
    """
    for value, known, what in ((reading, ("full", "study"), "reading"), (unit, UNITS, "unit")):
        if value not in known:
            raise ConfigError(f"there is no {what} {value!r}; choose one of: {', '.join(known)}")
    path = Path(path)
    frames, refused, total, forms = [], [], 0, []
    files = list(read_files(path))
    if reading == "study":
        files = [(name, content) for name, content in files if name.startswith("train")] or files
    for name, content in files:
        rows, bad = _read_as_study(name, content) if reading == "study" else read_table_file(name, content)
        form = recognize_form(name, rows, unit)
        columns = _form_columns(name, rows, form)
        rows = FORMS[form][1](columns).assign(file=columns[FILE_COLUMN], line=columns[LINE_COLUMN])
        forms.append(form)
        total += max(len(rows), content.rstrip(b"\n").count(b"\n")) if reading == "study" else len(rows) + len(bad)
        frames.append(rows)
        refused.append(bad)
    if len(set(forms)) > 1:
        raise DataError(f"{path} holds files of different forms ({'; '.join(sorted(set(forms)))}); name one file")
    form = forms[0] + (", as the study read them" if reading == "study" else "")
    return _account_for(pd.concat(frames, ignore_index=True), refused, form, _file_hashes(files), total, path)


def _file_hashes(files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    "Name and SHA-256 of each file, so that a result can say what it was made of."
    return {name: hashlib.sha256(content).hexdigest() for name, content in files}


def _account_for(
    rows: pd.DataFrame, refused: list[pd.DataFrame], form: str, files: dict[str, str], total: int, path: Path
) -> ReadResult:
    "Set apart the rows that have a reason to be refused; the rest is the tidy frame."
    blank = rows.text.isna() | (rows.text.astype(str).str.strip() == "")
    rows["reason"] = np.where(blank & (rows.reason == ""), "no text", rows.reason)
    bad = rows[rows.reason != ""]
    good = as_tidy(rows[rows.reason == ""])
    if good.empty:
        first = f" (the first row was refused: {bad.iloc[0].reason})" if len(bad) else ""
        raise DataError(f"{path} has no usable row{first}; give rows with a text and labels")
    check_tidy(good, path)
    every = pd.concat([*refused, bad[["file", "line", "reason"]]], ignore_index=True)
    return ReadResult(good, form, files, total, every.sort_values(["file", "line"], ignore_index=True))


def load_corpus(
    corpus: str, path: str | Path | None = None, unit: str = "utterance", reading: str = "full"
) -> ReadResult:
    """Find a corpus by name (`goemotions`, `goemotions-raw`, `empathetic`) and read it.

    Raises what `find_corpus` and `read_corpus` raise, and `DataError` where `path` holds another corpus.
    """
    if reading == "study" and corpus != "empathetic":
        raise ConfigError(f"the study's reading is one of EmpatheticDialogues, not of {corpus}; read that in full")
    location = find_corpus(corpus, path)
    result = read_corpus(location.path, unit, reading)
    if (holds := result.frame.corpus.iloc[0]) != corpus.removesuffix("-raw"):
        raise DataError(f"{location.path} holds {holds}, not {corpus}; name the corpus with --corpus {holds}")
    return replace(result, origin=location.origin)


def _read_as_study(name: str, content: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    "A CSV as the original study read it: quotes honoured where there are none, bad lines skipped."
    try:
        rows = pd.read_csv(io.BytesIO(content), on_bad_lines="skip", dtype=str)
    except ValueError as error:
        raise DataError(f"{name} cannot be read as the study did ({first_line(error)}); read it in full") from error
    # pandas does not say which line a row came from
    return rows.reset_index(drop=True).assign(**{FILE_COLUMN: name, LINE_COLUMN: None}), refused_rows([])


def read_table(
    path: str | Path,
    text_col: str,
    label_col: str,
    group_col: str | None = None,  # rows with the same value stay on one side of a split
    name: str | None = None,  # of the corpus; the file's name by default
) -> ReadResult:
    """Read a table of your own, CSV, TSV, JSON Lines or Parquet, into the tidy frame.

    Raises `SourceError` for a missing file, `DataError` for a missing column or where no row is usable.
    """
    path = resolve_path(path)
    files = list(read_files(path))
    parts = [read_table_file(file, content) for file, content in files]
    rows = _choose_columns(path, [rows for rows, _ in parts], [c for c in (text_col, label_col, group_col) if c])
    labels = _split_joined(rows[label_col].map(_cell_labels))
    place = rows[FILE_COLUMN] + ":" + rows[LINE_COLUMN].astype(str)
    group = rows[group_col].map(cell_text) if group_col else place
    table = pd.DataFrame(
        {
            "text": rows[text_col].where(rows[text_col].map(lambda value: isinstance(value, str))),
            "labels": labels,
            "group": group.where(group != "", place),
            "file": rows[FILE_COLUMN],
            "line": rows[LINE_COLUMN],
            "reason": np.where(labels.isna(), "no label", ""),
        }
    ).assign(corpus=name or path.resolve().stem or "custom", role="comment")
    refused = [bad for _, bad in parts]
    total = len(rows) + sum(map(len, refused))
    return _account_for(table, refused, "own table", _file_hashes(files), total, path)


def _cell_labels(value: object) -> tuple[str, ...] | None:
    "A cell of the label column as a tuple of labels, each once; None where it, or an entry of its list, is no label."
    cells = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    labels = [cell_text(cell).strip() for cell in cells]
    return tuple(dict.fromkeys(labels)) if labels and all(labels) else None


def _split_joined(labels: pd.Series) -> pd.Series:
    """Labels that stand joined in one string, taken apart.

    At `|` always; at `;` or `,` where every part of the joined ones stands in at least two different cells.
    """
    for separator in "|;,":
        pieces = labels.map(lambda row, by=separator: _split_at(row, by))
        cells = pieces.dropna().drop_duplicates()
        occurrences = cells.map(set).explode().value_counts()  # in how many different cells each part stands
        joined = pieces[pieces.map(lambda row: len(row or ())) > labels.map(lambda row: len(row or ()))]
        if len(joined) and (separator == "|" or joined.explode().map(occurrences).min() > 1):
            return pieces
    return labels


def _split_at(row: tuple[str, ...] | None, separator: str) -> tuple[str, ...] | None:
    "The labels of one row, split at the separator; None stays None."
    pieces = [piece.strip() for label in row or () for piece in label.split(separator)]
    return tuple(dict.fromkeys(piece for piece in pieces if piece)) or None


def _choose_columns(path: Path, parts: list[pd.DataFrame], wanted: list[str]) -> pd.DataFrame:
    "These columns of all files. Raises `DataError` where one is missing, or is in a file twice."
    known = dict.fromkeys(
        column for rows in parts for column in rows.columns if column not in (FILE_COLUMN, LINE_COLUMN)
    )
    if missing := [column for column in wanted if column not in known]:
        columns = list_names(known) or "none, for it is empty"
        raise DataError(f"{path} has no column {missing[0]!r}; its columns are: {columns}; name one of them")
    if doubled := [column for column in wanted for rows in parts if list(rows.columns).count(column) > 1]:
        raise DataError(f"{path} has the column {doubled[0]!r} twice; rename one")
    chosen = [FILE_COLUMN, LINE_COLUMN, *wanted]
    return pd.concat([rows.loc[:, rows.columns.isin(chosen)] for rows in parts], ignore_index=True)
