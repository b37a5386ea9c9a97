"""What is in the corpora: labels, agreement, lengths, duplicates, and what a mapping leaves out."""

from pathlib import Path
from typing import Any

import pandas as pd

from .core import ConfigError, first_line
from .corpora import check_tidy, normalize_text
from .encode import encode_labels, text_lengths
from .io.writers import format_csv
from .plots import plot_counts, plot_lengths, plot_matrix
from .taxonomy import TASKS, Task


def label_counts(frame: pd.DataFrame) -> pd.Series:
    "Rows of each label, the most frequent first; `frame.labels` holds tuples."
    return frame.labels.explode().dropna().value_counts().rename("rows")


def cooccurrence(frame: pd.DataFrame) -> pd.DataFrame:
    "Share of the rows with the row's label that also have the column's label; labels by frequency."
    names = list(label_counts(frame).index)
    has = encode_labels(frame.labels, names).astype(float)
    together = has.T @ has
    return pd.DataFrame(together / together.diagonal()[:, None], index=names, columns=names)


def agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """For each label, over comments with at least two raters: how often a second rater gives what a first one gave.

    Columns: `ratings` with the label; `agreement`, the share of the other raters who give it too; `chance`, the
    label's share of all ratings. Rows of one `group` are the ratings of one comment.
    """
    raters = frame.groupby("group")["text"].transform("size")
    several = frame[raters >= 2]
    if several.empty:
        return pd.DataFrame(columns=["ratings", "agreement", "chance"])
    given = several[["group", "labels"]].explode("labels").dropna().value_counts().rename("n").reset_index()
    given["others"] = given.group.map(several.groupby("group").size()) - 1
    by_label = given.assign(both=given.n * (given.n - 1), possible=given.n * given.others).groupby("labels")
    sums = by_label[["n", "both", "possible"]].sum()
    columns = {"ratings": sums.n, "agreement": sums.both / sums.possible, "chance": sums.n / len(several)}
    return pd.DataFrame(columns).sort_values("agreement", ascending=False, kind="stable").rename_axis("label")


def duplicates(frame: pd.DataFrame) -> pd.DataFrame:
    """For each split: rows that repeat an earlier one, and rows whose text also stands in the training split.

    Both exactly, and `normalized` (`normalize_text`). Without official splits, one row for the whole frame.
    """
    split = frame.split.astype(object).where(frame.split.notna(), "all")
    table = {}
    for name, rows in frame.groupby(split):
        table[name] = {"rows": len(rows)}
        for kind, texts in (("exact", frame.text), ("normalized", normalize_text(frame.text))):
            table[name][f"repeats, {kind}"] = int(texts[rows.index].duplicated().sum())
            train = set(texts[split == "train"])
            table[name][f"also in train, {kind}"] = 0 if name == "train" else int(texts[rows.index].isin(train).sum())
    return pd.DataFrame(table).T.rename_axis("split")


def coverage(frame: pd.DataFrame, task: Task) -> pd.DataFrame:
    "Per corpus: rows, rows that the task's map keeps and leaves out, rows that get several of the task's labels."
    table = {}
    for corpus, rows in frame.groupby("corpus", observed=True):
        n_labels = rows.labels.map(lambda own, corpus=corpus: len(task.labels_of(own, str(corpus))))
        kept, several = int((n_labels > 0).sum()), int((n_labels > 1).sum())
        table[corpus] = {"rows": len(rows), "kept": kept, "left out": len(rows) - kept, "several labels": several}
    return pd.DataFrame(table).T.rename_axis("corpus")


def left_out(frame: pd.DataFrame, task: Task) -> pd.Series:
    "The rows that the task's map leaves out, counted by their own labels."
    unmapped = [not task.labels_of(own, corpus) for own, corpus in zip(frame.labels, frame.corpus, strict=True)]
    return label_counts(frame[unmapped])


def examples(frame: pd.DataFrame, labels: pd.Series | None = None) -> pd.DataFrame:
    "The first text of each label. `labels` is a column of single labels; by default, the first of each row's own."
    labels = frame.labels.str[0] if labels is None else labels
    first = frame.assign(label=labels).dropna(subset="label").drop_duplicates("label")
    return first.set_index("label")[["text"]].sort_index()


def corpus_tables(frame: pd.DataFrame, tokenizer: Any = None) -> dict[str, pd.DataFrame]:
    "Every table of this page that the corpus allows, by name."
    lengths = text_lengths(frame.text, tokenizer)
    tables: dict[str, pd.DataFrame] = {
        "label_counts": label_counts(frame).to_frame(),
        "lengths": lengths.describe(percentiles=[0.5, 0.9, 0.99]).iloc[1:].round(1),
        "duplicates": duplicates(frame),
        "examples": examples(frame),
    }
    if (frame.labels.map(len) > 1).any():
        tables["cooccurrence"] = cooccurrence(frame).round(4)
    if frame.group.duplicated().any() and (frame.annotator == "observer").all():
        tables["agreement"] = agreement(frame).round(4)
    shared = TASKS["shared10"]
    if set(frame.corpus.unique()) <= set(shared.maps):
        tables["coverage"] = coverage(frame, shared)
        tables["left_out"] = left_out(frame, shared).to_frame()
    return tables


def explore_corpus(frame: pd.DataFrame, out: str | Path, tokenizer: Any = None) -> dict[str, pd.DataFrame]:
    """Write every table (CSV) and figure (PNG) of a corpus to the folder `out`; return the tables.

    Raises `DataError` where the frame is not tidy, `ConfigError` where the folder cannot be written.
    """
    check_tidy(frame)
    out = Path(out)
    tables = corpus_tables(frame, tokenizer)
    figures = {
        "label_counts": plot_counts(tables["label_counts"].rows, "Rows of each label"),
        "lengths": plot_lengths(text_lengths(frame.text, tokenizer), "Lengths of the texts"),
    }
    if "cooccurrence" in tables:
        figures["cooccurrence"] = plot_matrix(tables["cooccurrence"], "Per cent that also have that label")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            (out / f"{name}.csv").write_text(format_csv(table, index=True), encoding="utf-8", newline="\n")
        for name, figure in figures.items():
            figure.savefig(out / f"{name}.png", dpi=150)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({first_line(error)}); name another place") from error
    return tables
