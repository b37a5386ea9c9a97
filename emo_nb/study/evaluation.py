"""A saved model scored again: a run on its own test rows, any model on a labelled table that it has never seen."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..config import CORPORA, Config, check_table_options
from ..core import ConfigError, DataError, logger
from ..corpora import ReadResult, load_corpus, read_table
from ..evaluate import prediction_table
from ..predict import TrainedClassifier
from ..prepare import map_labels
from ..report import Run, open_run
from ..run import corpus_at, load_examples, log_left_out, make_splits, table_name
from ..taxonomy import TASKS, Task

if TYPE_CHECKING:
    from ..classifier import EmotionClassifier

_NO_TABLE = "a map is for a table of your own; name it with --data, --text-col and --label-col"


def evaluate_run(
    folder: str | Path,  # a run directory; with `data`, whatever else `EmotionClassifier.from_pretrained` opens
    data: str | None = None,  # where the corpus is, or a table of your own
    text_col: str | None = None,
    label_col: str | None = None,
    label_map: Mapping[str, str] | None = None,  # from the table's labels to the model's; default: same names
    show_progress_bar: bool = True,
    **options: Any,  # label_cols, label_sep, label_names, group_col, unlabelled: as `read_table` takes them
) -> tuple[pd.DataFrame, "EmotionClassifier"]:
    """Predict again with a saved model; return the table of predictions and the classifier.

    A run is scored on its own test rows, or on all rows of a labelled table; any other model on such a table, or on the
    test rows of a corpus. Raises `ConfigError` where the data are not those of the run or the map names an unknown label,
    `DataError` where no row has a label of the model, `ModelError` where there is no such model. That of a run is loaded last.
    """
    from ..classifier import EmotionClassifier  # brings scikit-learn, which no other step of a run needs at once

    given = {"text_col": text_col, "label_col": label_col, **options}
    given = {name: value for name, value in given.items() if value is not None}
    check_table_options(data, given)
    if label_map and not data:
        raise ConfigError(_NO_TABLE)
    table = read_table(data, **given) if data and given else None
    if data and not os.path.isdir(os.path.join(folder, "model")):  # any model but a run's
        trained = TrainedClassifier.from_pretrained(folder)
        rows = _rows_for(trained, table, data, label_map)
    else:
        rows = _rows_to_score(open_run(folder), data, table, label_map)
        trained = TrainedClassifier.from_pretrained(folder)
    proba = trained.predict_proba(rows.text, show_progress_bar=show_progress_bar)
    return prediction_table(rows, proba, trained.labels, trained.thresholds), EmotionClassifier.from_trained(trained)


def _rows_for(
    trained: TrainedClassifier, table: ReadResult | None, data: str, label_map: Mapping[str, str] | None
) -> pd.DataFrame:
    "The labelled rows of a table, or the test rows of a corpus, with the labels of any model."
    task = Task("custom", tuple(trained.labels), trained.multi_label)
    if table is None and (corpus := corpus_at(data)) is not None:
        table = _read_test_rows(corpus, data)
        task = next((known for known in TASKS.values() if set(known.labels) == set(task.labels)), task)
        label_map = label_map or task.maps.get(table_name(table))
    return _rows_of_table(table or read_table(data), task, label_map)


def _read_test_rows(name: str, data: str) -> ReadResult:
    "The official test rows of a corpus, or all of its rows where it has none."
    corpus = load_corpus(name, data)
    test = corpus.frame[corpus.frame.split == "test"]
    if test.empty:
        return corpus
    logger.info("of %s rows, the test rows are scored", f"{len(corpus.frame):,}")
    return replace(corpus, frame=test, rows=len(test) + len(corpus.refused))


def _rows_to_score(
    saved: Run, data: str | None, table: ReadResult | None, label_map: Mapping[str, str] | None
) -> pd.DataFrame:
    "The labelled rows of a table, which may be recognised by its layout, or else the run's own test rows."
    if table is None and data and not _made_of_table(saved) and corpus_at(data) is None:
        table = read_table(data)
    if table is not None:
        _warn_of_training_files(saved, table)
        names = tuple(saved.config["labels"])
        task = TASKS.get(saved.config["task"]) or Task("custom", names, saved.config["multi_label"])
        return _rows_of_table(table, task, label_map)
    if label_map:
        raise ConfigError(_NO_TABLE)
    return _test_rows(saved, data)


def _made_of_table(saved: Run) -> bool:
    "Whether a run was made of a table of the user's own."
    settings, corpora = Config.from_record(saved.config), set(CORPORA["both"])
    return (
        settings.has_own_table
        or not set(saved.config.get("origins", ())) <= corpora
        or (saved.config["task"] not in TASKS)
    )


def _test_rows(saved: Run, data: str | None) -> pd.DataFrame:
    "The test rows that a run was made with."
    config = Config.from_record(saved.config)
    config = replace(config, data=data or config.data)
    other = ConfigError(
        f"the data found are not those that {saved.folder} was made of, so its test rows cannot be told from its "
        "training rows; name the same data with --data or EMO_NB_DATA, or score the run on the table by naming its "
        "columns with --text-col and --label-col"
    )
    try:
        examples = load_examples(config)
    except DataError as error:
        raise other from error
    if examples.files != saved.config["files"]:
        raise other
    return make_splits(examples.rows, examples.task, config)["test"]


def _rows_of_table(table: ReadResult, task: Task, label_map: Mapping[str, str] | None) -> pd.DataFrame:
    "The rows of a user's table with the labels of a model's task; what is left out is logged."
    logger.info("%s", table)
    for note in table.notes:
        logger.info("%s", note)
    frame, name = table.frame, table_name(table)
    counts = frame.labels.explode().value_counts()
    mapping = {label: label for label in task.labels} if label_map is None else label_map
    task = replace(task, name=name, maps={name: mapping}, keep_unlabelled=task.multi_label)
    if not set(counts.index) & set(mapping):
        raise DataError(
            f"no label of {name} ({', '.join(map(repr, counts.index[:8]))}) is a label of the model "
            f"({', '.join(map(repr, task.labels))}); map them with --map"
        )
    rows = map_labels(frame, task)
    logger.info(
        "%s of %s rows have a label that the model knows", f"{(rows.targets.map(len) > 0).sum():,}", f"{len(frame):,}"
    )
    log_left_out(frame.labels, mapping, task.multi_label)
    if absent := sorted(set(task.labels) - set(rows.targets.explode())):
        logger.info("labels of the model that no row has: %s", ", ".join(absent))
    several = sum(len(task.labels_of(labels, name)) > 1 for labels in rows.labels)
    if several and not task.multi_label:
        logger.warning("rows with several labels, of which the first in the task's order counts: %s", f"{several:,}")
    return rows


def _warn_of_training_files(saved: Run, table: ReadResult) -> None:
    "Warn where a table is one that the run was made of, and say that its own splits are not looked at."
    if known := [name for name, sha256 in table.files.items() if sha256 in saved.config["files"].values()]:
        message = "the model was made of %s, so most rows are training rows; evaluate without --data scores the test rows alone"
        logger.warning(message, ", ".join(known))
    elif table.frame.split.notna().any():
        logger.info("all rows are scored, whatever split the table says they are in")
