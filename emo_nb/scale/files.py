"""A file of any size predicted into another, in constant memory, in parts that are kept where the work is interrupted."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..core import ConfigError, TextError, warn_once
from ..io.files import atomic_file, check_output_file, partial_dir
from ..io.places import check_can_be_read_twice, find_files, fingerprint, is_remote
from ..io.readers import estimate_rows, iter_rows
from ..io.writers import WRITERS, concatenate_parts, output_format
from ..predict import BULK_TEXTS, TrainedClassifier, check_top_k, one_length_warning, resolve_thresholds

PART_ROWS = 10_000  # texts in one part of a file


def predict_file(
    classifier: Any,  # an `EmotionClassifier`, or the `TrainedClassifier` that it holds
    file: str | Path,  # .csv, .tsv, .jsonl, .parquet, or one text a line; a folder, a pattern or an address of such
    out: str | Path,
    text_col: str | None = None,
    file_format: str | None = None,  # csv, jsonl or parquet; default: what `out` ends in
    force: bool = False,  # replace `out`, and begin anew where an interrupted call could be resumed
    show_progress_bar: bool = True,
    thresholds: float | Mapping[str, float] | None = None,  # in place of those saved with the model
    top_k: int | None = None,  # at most so many labels, the most probable first
    tokens_left_out: bool = False,  # add a column: how many tokens of a text were not read
    keep: str | Sequence[str] = "all",  # columns of a table beside the predictions: all, none, or their names
) -> int:
    """Predict a file of any size into another, in constant memory; return the number of rows written.

    Finished parts are kept in `OUT.part` until all is done, and the same call resumes there. Raises `ConfigError`
    where `out` exists, or the parts belong to another file, model or setting, `DataError` where the file is a pipe (it
    is read more than once) or lacks a column, `TextError` where a row holds no text.
    """
    out, trained = Path(out), getattr(classifier, "trained", classifier)
    resolve_thresholds(thresholds, trained.labels)  # a mistake in them is said before anything is read
    check_top_k(top_k, trained.labels)
    file_format = check_file_job(file, out, file_format, force)
    _, kept = next(iter_rows(file, text_col, keep), ("", {}))
    kept_names(kept, trained.labels)
    expected = estimate_rows(file)
    trained = trained.for_bulk() if expected > BULK_TEXTS or is_remote(file) else trained
    answers = {"thresholds": thresholds, "top_k": top_k, "tokens_left_out": tokens_left_out}
    settings = job_settings(trained, file, text_col, file_format, answers, keep)
    with one_length_warning(), partial_dir(out, settings, force) as folder:
        texts = iter_rows(file, text_col, keep)
        parts, rows = predict_parts(trained, texts, folder, file_format, expected, show_progress_bar, **answers)
        if parts:
            check_output_file(out, force)  # another process may have been quicker
            concatenate_parts(parts, out)
    if not rows:
        raise TextError(f"{file} holds no text; give a file with a text in each row")
    return rows


def predict_parts(
    classifier: TrainedClassifier,
    rows: Iterator[tuple[str, dict[str, Any]]],  # texts, each with the cells to keep beside its predictions
    folder: Path,
    file_format: str,  # csv, jsonl or parquet
    expected: int = 0,  # how many texts there are, for the progress bar
    show_progress_bar: bool = False,
    **answers: Any,  # thresholds, top_k: as `predict_frame` takes them
) -> tuple[list[Path], int]:
    "Predict texts in parts of `PART_ROWS`, each a file in `folder`; return the files and the number of rows in them."
    parts = sorted(folder.glob(f"[0-9]*.{file_format}"))
    n_rows = sum(1 for _ in islice(rows, len(parts) * PART_ROWS))
    with tqdm(total=expected, initial=n_rows, unit="text", disable=not show_progress_bar) as bar:
        while part := list(islice(rows, PART_ROWS)):
            parts.append(folder / f"{len(parts):08}.{file_format}")
            with atomic_file(parts[-1]) as temporary:
                WRITERS[file_format](predict_rows(classifier, part, **answers), temporary, n_rows == 0)
            n_rows += len(part)
            bar.update(len(part))
    return parts, n_rows


def predict_rows(
    classifier: TrainedClassifier, rows: Sequence[tuple[str, Mapping[str, Any]]], **answers: Any
) -> pd.DataFrame:
    "What `predict_frame` returns for the texts, behind the cells to keep, which are of the same names in each row."
    table = classifier.predict_frame([text for text, _ in rows], **answers)
    names = kept_names(rows[0][1], classifier.labels) if rows else {}
    kept = pd.DataFrame([cells for _, cells in rows], dtype=object, columns=list(names)).rename(columns=names)
    return pd.concat([kept, table], axis=1)


def kept_names(names: Iterable[str], labels: Sequence[str]) -> dict[str, str]:
    """The columns of the input that are kept, each with its name: `input_label` for one that is called as one of ours.

    Of a table that holds predictions of these labels, these are not kept, since new ones take their place. Raises
    `ConfigError` where `input_label` is another column.
    """
    names, ours = list(names), {"text", "label", "labels", "tokens_left_out", *labels}
    if {"label", *labels} <= set(names):
        names = [name for name in names if name not in ours]
    kept = {name: f"input_{name}" if name in ours else name for name in names}
    if twice := [name for name, count in Counter(kept.values()).items() if count > 1]:
        raise ConfigError(
            f"the column {twice[0]!r} has a name that another one needs; rename it, or choose with --keep"
        )
    if renamed := [f"{name!r} as {new!r}" for name, new in kept.items() if name != new]:
        warn_once(f"columns of the input that are called like those of the predictions are kept: {', '.join(renamed)}")
    return kept


def check_file_job(place: str | Path, out: Path, file_format: str | None = None, force: bool = False) -> str:
    "The format in which to write predictions to `out`. Raises `ConfigError` or `DataError` where that cannot be."
    file_format = output_format(out, file_format)
    for file in find_files(place):
        check_can_be_read_twice(file)
        check_not_same_file(file, out)
    check_output_file(out, force)
    return file_format


def check_not_same_file(file: str | Path, out: Path) -> None:
    "Raise `ConfigError` where the predictions would replace the texts."
    if os.path.exists(file) and os.path.exists(out) and os.path.samefile(file, out):
        raise ConfigError(f"{out} is the file that is read; name another with --out")


def job_settings(
    classifier: TrainedClassifier,
    place: str | Path,
    text_col: str | None,
    file_format: str,
    answers: Mapping[str, Any],
    keep: str | Sequence[str] = "all",
    engine: str | None = None,  # that divides the texts into parts; None: this process
) -> dict[str, Any]:
    "Everything that decides the predictions of a file: its content, the model, the formats, the thresholds."
    return {
        "file": _hash_files(place),
        "text column": text_col,
        "choice of columns": keep if isinstance(keep, str) else list(keep),
        "model": classifier.checkpoint.sha256(),
        "format": file_format,
        "number format": f"{classifier.backends.bulk.dtype} on {classifier.backends.bulk.device}",
        "texts a part": PART_ROWS,
        "long texts": classifier.long_texts,
        "engine": engine,
        **{name: None if value is False else value for name, value in answers.items()},
    }


def _hash_files(place: str | Path) -> str:
    "What tells these files from others, their names and order included where there are several."
    files = find_files(place)
    if len(files) == 1:
        return fingerprint(files[0])
    return hashlib.sha256("".join(f"{file}\0{fingerprint(file)}\0" for file in files).encode()).hexdigest()
