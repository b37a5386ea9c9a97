"""The whole way once, from a `Config` to a run directory; and scoring a saved run again."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .config import CORPORA, Config, check_own_table
from .core import ConfigError, DataError, logger
from .corpora import ReadResult, load_corpus, read_table
from .encode import TextDataset, encode_labels
from .engine.callbacks import last_checkpoint
from .engine.device import Backend, check_can_train, choose_backend, distributed_rank
from .evaluate import calibration_curve, calibration_error, prediction_table, probabilities, truth_and_predicted
from .io.files import atomic_dir, check_output_dir, partial_dir
from .model import (
    add_lora,
    count_parameters,
    find_encoder,
    freeze_embeddings,
    load_tokenizer,
    new_classifier,
    save_model,
)
from .predict import EmotionClassifier
from .prepare import SPLITS, balance, deduplicate, map_labels, sample_per_label, split_rows
from .report import Run, open_run, provenance, run_figures, utc_now, write_run
from .taxonomy import TASKS, Task, custom_task, get_task
from .train import fit


@dataclass(frozen=True)
class Examples:
    "The labelled rows of a run, their task, and where they came from."

    rows: pd.DataFrame  # with `targets`
    task: Task
    files: dict[str, str]  # name -> SHA-256
    origins: dict[str, str]  # corpus -> how it was found


def load_examples(config: Config) -> Examples:
    "Read the corpora or the user's own table, and keep the rows that the task has a label for."
    if config.text_col and config.label_col and config.data:
        table = read_table(config.data, config.text_col, config.label_col)
        name = str(table.frame.corpus.iloc[0])
        task, results = _task_of_table(config, table, name), {name: table}
    else:
        task = get_task(config.task_name)
        corpora = CORPORA[config.corpus] if config.corpus else task.maps
        unit = config.unit or task.unit
        results = {corpus: load_corpus(corpus, config.data, unit) for corpus in corpora if task.map_for(corpus)}
    for result in results.values():
        logger.info("%s", result)
    frame = pd.concat([result.frame for result in results.values()], ignore_index=True)
    if "prompt" in set(frame.role):
        frame = pd.concat([frame, first_turns(config.data)], ignore_index=True)
    rows = map_labels(frame, task)
    several = sum(len(task.labels_of(own, corpus)) > 1 for own, corpus in zip(rows.labels, rows.corpus, strict=True))
    which = "all of them count" if task.multi_label else "the first counts"
    logger.info(
        "%s of %s rows have a label of the task; %s have several, %s",
        *(f"{n:,}" for n in (len(rows), len(frame), several)),
        which,
    )
    files = {f"{corpus}/{name}": sha for corpus, result in results.items() for name, sha in result.files.items()}
    return Examples(rows, task, files, {corpus: result.origin for corpus, result in results.items()})


def first_turns(path: str | None = None) -> pd.DataFrame:
    "The first utterance of each conversation of EmpatheticDialogues; they stand beside the prompts in training."
    return load_corpus("empathetic", path).frame.drop_duplicates("group")


def _task_of_table(config: Config, table: ReadResult, name: str) -> Task:
    "The task of a user's own table: its own labels, or a built-in task whose labels it uses."
    task = custom_task(table.frame.labels, name)
    if config.task_name == "custom":
        return task
    named = get_task(config.task_name)
    encode_labels([task.labels], named.labels)  # refuses labels outside the task
    return replace(named, split="group", maps={name: {label: label for label in named.labels}})


def make_splits(rows: pd.DataFrame, task: Task, config: Config) -> dict[str, pd.DataFrame]:
    "The rows of train, dev and test: split, then (training rows only) balanced, deduplicated and cut to size."
    how = config.split or task.split
    if how == "official" and not config.split and rows.split.isna().any():
        how = "group"  # the form at hand has no official split
    if how == "study":  # the study balanced first, then split
        rows = balance(rows, labels=task.capped, seed=config.seed)
    splits = split_rows(rows, how, config.seed)
    if "prompt" in set(rows.role):  # first turns are there to learn from only
        splits |= {name: splits[name][splits[name].role == "prompt"] for name in ("dev", "test")}
    if how != "study":
        splits["train"] = deduplicate(balance(splits["train"], labels=task.capped, seed=config.seed))
    if config.first_turns_only:
        turns = splits["train"].sort_index()
        splits["train"] = turns[(turns.role == "comment") | ~turns.duplicated(["corpus", "group"])]
    sizes = (config.train_rows_per_label, config.dev_rows_per_label, config.test_rows_per_label)
    for name, size in zip(SPLITS, sizes, strict=True):
        if size is not None:
            splits[name] = sample_per_label(splits[name], size, config.seed)
    _check_splits(splits, how)
    return splits


def _check_splits(splits: dict[str, pd.DataFrame], how: str) -> None:
    "Raise `DataError` where a split is empty, or where dev or test has a label that train lacks."
    for name, rows in splits.items():
        if rows.empty:
            raise DataError(f"no row is left for {name}: there are too few for a split by {how}; add rows")
    known = set(splits["train"].targets.explode())
    for name in ("dev", "test"):
        if unknown := sorted(set(splits[name].targets.explode()) - known):
            raise DataError(
                f"{name} has rows labelled {', '.join(unknown)}, but train has none; add such rows or drop the label"
            )


def run_experiment(config: Config) -> Run | None:
    """Read, split, tokenise, train, calibrate, evaluate, save: one `Config` in, one run directory out.

    Raises an `EmoNbError` for settings or data that cannot be used, before any training. What happens is logged to
    `emo_nb`, at level INFO. Where `accelerate launch` started several processes, all of them train, and the first one
    does the rest; the others return None.
    """
    rank, world_size = distributed_rank()
    if rank:
        logger.setLevel(logging.ERROR)  # the first process says what there is to say
    out, settings, backend = config.run_dir, config.train, choose_backend(config.device, config.dtype, config.attention)
    check_output_dir(out, "metrics.json", config.force)
    check_can_train(backend)
    started, encoder = utc_now(), find_encoder(settings.encoder)
    tokenizer = load_tokenizer(encoder, settings.max_length)
    examples = load_examples(config)
    splits = make_splits(examples.rows, examples.task, config)
    model = _new_model(encoder, examples.task, config)
    record = _new_record(config, examples, splits, model)
    _log_record(record, splits["dev"], len(examples.rows))
    with _checkpoint_dir(config, out, {"data files": examples.files, "number of processes": world_size}) as folder:
        history = _train(model, tokenizer, splits, record["labels"], config, backend, folder)
        if rank:
            return None
        record |= history.attrs | {"train_seconds": round((utc_now() - started).total_seconds(), 1)}
        with atomic_dir(out, "metrics.json", config.force) as run_dir:
            model = save_model(model, tokenizer, run_dir)
            classifier = EmotionClassifier(model, tokenizer, config.device, config.dtype)
            _test_and_write(run_dir, classifier, examples.rows, splits, record, history, started)
    return open_run(out)


def _new_model(encoder: Path, task: Task, config: Config) -> Any:
    "The encoder with a new head, ready to be trained with LoRA or in every layer."
    settings = config.train
    labels = sorted(task.labels)
    model = new_classifier(encoder, labels, settings.encoder, config.seed, task.multi_label, settings.dropout)
    return add_lora(model, settings.lora_rank) if settings.method == "lora" else freeze_embeddings(model)


def _new_record(config: Config, examples: Examples, splits: dict[str, pd.DataFrame], model: Any) -> dict[str, Any]:
    "What decides a run and what it is made of, as `config.json` will hold it."
    return replace(config, train=config.train.resolved()).to_record() | {
        "task": config.task_name,
        "labels": sorted(examples.task.labels),
        "multi_label": examples.task.multi_label,
        "processes": distributed_rank()[1],
        "rows": {name: len(rows) for name, rows in splits.items()},
        "parameters": count_parameters(model),
        "files": examples.files,
        "origins": examples.origins,
    }


def _log_record(record: dict[str, Any], dev: pd.DataFrame, total: int) -> None:
    "Say how many rows and parameters there are, and which labels of a multi-label task dev lacks."
    left_out = total - sum(record["rows"].values())
    sizes = ", ".join(f"{n:,} {name}" for name, n in record["rows"].items())
    logger.info("%s; %s left out (leaks, repeats, size)", sizes, f"{left_out:,}")
    if record["multi_label"] and (missing := sorted(set(record["labels"]) - set(dev.targets.explode()))):
        logger.info(
            "dev has no row labelled %s: its threshold is the one that the model's own probabilities expect to be best",
            ", ".join(missing),
        )
    parameters = "{all:,} parameters, {trained:,} trained".format(**record["parameters"])
    logger.info("%s, encoder %s: %s", record["method"], record["encoder"], parameters)


def _train(
    model: Any,
    tokenizer: Any,
    splits: dict[str, pd.DataFrame],
    labels: list[str],
    config: Config,
    backend: Backend,
    folder: Path,  # for checkpoints
) -> pd.DataFrame:
    "Fit on train; choose epoch, temperature and thresholds on dev. Returns the history, one row an epoch."
    rank, _ = distributed_rank()
    if not rank and (checkpoint := last_checkpoint(folder)):
        logger.info("resuming an interrupted run from %s", checkpoint.name)
    multi_label = model.config.problem_type == "multi_label_classification"
    truth = {name: encode_labels(splits[name].targets, labels) for name in ("train", "dev")}
    train, dev = (TextDataset(list(splits[name].text), tokenizer, truth[name], multi_label) for name in truth)
    progress = config.show_progress_bar
    history = fit(model, tokenizer, train, dev, folder, config.train, config.seed, None, backend, progress)
    if not rank:
        classifier = EmotionClassifier(model, tokenizer, config.device, config.dtype)
        classifier.calibrate(splits["dev"].text, truth["dev"])
    return history


def _checkpoint_dir(config: Config, out: Path, others: dict[str, Any]) -> AbstractContextManager[Path]:
    "Where a run keeps its checkpoints until it is done. `ConfigError` where a run with other settings was interrupted."
    if distributed_rank()[0]:
        return nullcontext(out.with_name(f"{out.name}.part"))
    elsewhere = ("out", "force", "show_progress_bar", "data")
    settings = {name: value for name, value in config.to_record().items() if name not in elsewhere}
    return partial_dir(out, settings | others, config.force)


def _test_and_write(
    folder: Path,  # that becomes the run directory
    classifier: EmotionClassifier,
    rows: pd.DataFrame,  # all labelled rows
    splits: dict[str, pd.DataFrame],
    record: dict[str, Any],
    history: pd.DataFrame,
    started: datetime,
) -> None:
    "Predict the test rows; write the record, the scores, the predictions and the figures."
    from .plots import plot_calibration

    labels, speed = classifier.labels, "{examples_per_second:,.0f} examples a second, {padding:.1%} of them padding"
    logger.info("%s; testing on %s rows", speed.format(**history.attrs), f"{len(splits['test']):,}")
    logits = classifier.logits(splits["test"].text, show_progress_bar=record["show_progress_bar"])
    proba = probabilities(logits, classifier.multi_label)
    table = prediction_table(splits["test"], proba, labels, classifier.thresholds)
    temperature = classifier.config.emo_nb_temperature
    curves = _calibration_curves(logits, table, temperature, classifier)
    record["calibration"] = {
        "temperature": temperature,
        "reliability": {name: curve.round(4).to_dict("list") for name, curve in curves.items()},
        **{f"error_{name}": round(calibration_error(curve), 4) for name, curve in curves.items()},
    }
    write_run(folder, {**record, **provenance(started)}, table, history, classifier.thresholds)
    figures = run_figures(rows, splits["train"], table, classifier.tokenizer, labels)
    figures["calibration"] = plot_calibration(curves, "Calibration, before and after the temperature")
    (folder / "figures").mkdir()
    for name, figure in figures.items():
        figure.savefig(folder / "figures" / f"{name}.png", dpi=150)


def _calibration_curves(
    logits: np.ndarray, table: pd.DataFrame, temperature: float, classifier: EmotionClassifier
) -> dict[str, pd.DataFrame]:
    "The calibration on the test rows without and with the temperature."
    truth, _ = truth_and_predicted(table, classifier.labels)
    return {
        name: calibration_curve(probabilities(scaled, classifier.multi_label).round(4), truth, classifier.multi_label)
        for name, scaled in (("before", logits * temperature), ("after", logits))
    }


def evaluate_run(
    folder: str | Path,
    data: str | None = None,  # where the corpus is, or a table of your own
    text_col: str | None = None,
    label_col: str | None = None,
    label_map: dict[str, str] | None = None,  # from the table's labels to the model's; default: same names
    show_progress_bar: bool = True,
) -> tuple[pd.DataFrame, EmotionClassifier]:
    """Predict again with a saved run: its own test rows, or all rows of a labelled table; return table and classifier.

    Raises `ConfigError` where the data are not those of the run or the map names an unknown label, `DataError` where
    no row has a label of the model, `ModelError` where the folder is not a run directory.
    """
    check_own_table(data, text_col, label_col)
    saved = open_run(folder)
    classifier = EmotionClassifier.from_pretrained(folder)
    if text_col and label_col and data:
        task = TASKS.get(saved.config["task"]) or Task("custom", tuple(classifier.labels), classifier.multi_label)
        rows = _rows_of_table(read_table(data, text_col, label_col), task, label_map)
    elif label_map:
        raise ConfigError("a map is for a table of your own; name it with --data, --text-col and --label-col")
    else:
        rows = _test_rows(saved, data)
    proba = classifier.predict_proba(rows.text, show_progress_bar=show_progress_bar)
    return prediction_table(rows, proba, classifier.labels, classifier.thresholds), classifier


def _rows_of_table(table: ReadResult, task: Task, label_map: dict[str, str] | None) -> pd.DataFrame:
    "The rows of a user's table with the labels of a model's task; what is left out is logged."
    logger.info("%s", table)
    frame, name = table.frame, str(table.frame.corpus.iloc[0])
    counts = frame.labels.explode().value_counts()
    mapping = {label: label for label in task.labels} if label_map is None else label_map
    task = replace(task, name=name, maps={name: mapping})
    if not set(counts.index) & set(mapping):
        raise DataError(
            f"no label of {name} is one of the model's; it has {', '.join(counts.index[:8])}, the model "
            f"{', '.join(task.labels)}; say which means which with --map"
        )
    rows = map_labels(frame, task)
    logger.info("%s of %s rows have a label that the model knows", f"{len(rows):,}", f"{len(frame):,}")
    if left_out := [f"{label} ({n:,})" for label, n in counts.items() if label not in mapping]:
        logger.info("left out, with their rows: %s", ", ".join(left_out))
    if absent := sorted(set(task.labels) - set(rows.targets.explode())):
        logger.info("labels of the model that no row has: %s", ", ".join(absent))
    return rows


def _test_rows(saved: Run, data: str | None) -> pd.DataFrame:
    "The test rows that a run was made with."
    config = Config.from_record(saved.config)
    config = replace(config, data=data or config.data)
    examples = load_examples(config)
    if examples.files != saved.config["files"]:
        raise ConfigError(
            f"the data found are not those that {saved.folder} was made of, so its test rows cannot be told from its "
            "training rows; name the same data with --data or EMO_NB_DATA"
        )
    return make_splits(examples.rows, examples.task, config)["test"]
