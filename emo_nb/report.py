"""What a run leaves: a directory that a stranger can open, with its record, scores, predictions, figures and cards.

`write_run` writes it, `open_run` reads it and holds every file against its schema. The record says everything that
decided the run, with the SHA-256 of its data, the versions and the machine. Each folder with a model has a card of its
own, made from the template `model_card.md`, because a checkpoint is often passed on without the rest.
"""

import json
import os
import platform
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .core import ModelError, first_line, logger, read_json_object
from .encode import text_lengths
from .engine.shipped import SHIPPED_ENCODER
from .evaluate import compute_metrics, label_scores
from .io.schema import (
    SCHEMA_VERSION,
    Metrics,
    Predictions,
    Record,
    RunRecord,
    ScoreTable,
    check_frame,
    check_record,
)
from .io.writers import format_csv, read_formatted_csv
from .engine.checkpoints import load_config
from .engine.device import find_accelerator, processor_features
from .model import MINILM, adapter_settings, hub_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN_FILES = ("config.json", "metrics.json", "predictions.csv", "scores.csv", "model")
_MAKE_AGAIN = "the run is damaged, make it again"
_TEXT_COLUMNS = ("corpus", "group", "text", "label", "predicted")  # strings, though a label may be called 0 or None
HUB_IDS = {"goemotions": "google-research-datasets/go_emotions", "empathetic": "facebook/empathetic_dialogues"}


@dataclass(frozen=True)
class Run:
    "A run directory's contents: its folder, its record, its test predictions and its scores."

    folder: Path
    config: dict[str, Any]  # the record: all settings, and what the run was made of
    predictions: pd.DataFrame
    scores: pd.DataFrame
    metrics: dict[str, Any]


def utc_now() -> datetime:
    "The time, in UTC."
    return datetime.now(timezone.utc)


def provenance(started: datetime) -> dict[str, Any]:
    "When, how long, by which command, with which versions, on which machine; and the version of the record's schema."
    import torch

    packages = ("emo_nb", "torch", "transformers", "peft", "accelerate", "scikit-learn", "pandas", "numpy")
    is_command = Path(sys.argv[0]).stem == "emo-nb" or Path(sys.argv[0]).parts[-2:] == ("emo_nb", "__main__.py")
    return {
        "schema": SCHEMA_VERSION,
        "date": started.isoformat(timespec="seconds"),
        "seconds": round((utc_now() - started).total_seconds(), 1),
        "command": shlex.join(["emo-nb", *sys.argv[1:]]) if is_command else None,
        "memory_mb": _peak_memory(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "hardware": {
            "processor": _processor_name(),
            "features": processor_features(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else find_accelerator(),
        },
    }


def _peak_memory() -> int | None:
    "The peak memory of this process in MB; None where the system does not report it."
    if sys.platform != "linux":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _processor_name() -> str:
    "The processor's name as torch reports it, or its architecture."
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(capabilities.get("cpu_name") or platform.machine())


def write_run(
    folder: Path,
    record: dict[str, Any],
    table: pd.DataFrame,  # predictions on the test rows
    history: pd.DataFrame,
    thresholds: np.ndarray | None = None,
) -> None:
    "Write config.json, metrics.json, the tables (CSV) and the model cards of a run."
    labels = record["labels"]
    (folder / "config.json").write_text(json.dumps(record, indent=1))
    metrics = compute_metrics(table, labels, thresholds)
    (folder / "metrics.json").write_text(json.dumps({"schema": SCHEMA_VERSION, **metrics}, indent=1))
    tables = {
        "scores": format_csv(label_scores(table, labels).round(4), index=True),
        "history": format_csv(history),
        "predictions": format_csv(table),
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="\n")
    for name in ("model", "adapter"):
        if (folder / name).is_dir():
            with _side_product(folder, f"{name}/README.md") as file:
                settings = adapter_settings(load_config(folder / "model"))
                card = model_card(record, metrics, _loading_instructions(record, name, settings))
                file.write_text(card, encoding="utf-8", newline="\n")
    if (folder / "model").is_dir():
        note = f"task {record['task']}, split: {record['split_used']}"
        scores = {HUB_IDS[corpus]: metrics[corpus] for corpus in _known_corpora(record) if corpus in metrics}
        _write_eval_results(folder / "model", scores, note, record.get("date"))


def _write_eval_results(
    folder: Path, scores: Mapping[str, Mapping[str, Any]], note: str = "", date: str | None = None
) -> None:
    "Macro-F1 and accuracy on each data set (by its id on the hub) in the form that the hub reads: `.eval_results/*.yaml`."
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    for dataset, of_dataset in scores.items():
        entries = [
            EvalResultEntry(dataset, name, of_dataset[name], date=date, notes="; ".join(filter(None, (words, note))))
            for name, words in (("macro_f1", "macro-F1"), ("accuracy", "all labels right"))
        ]
        with _side_product(folder, f".eval_results/{dataset.replace('/', '--')}.yaml") as file:
            file.parent.mkdir(exist_ok=True)
            file.write_text(yaml_dump(eval_result_entries_to_yaml(entries)), encoding="utf-8")


def write_memory_card(
    folder: Path,
    trained: Any,  # a `TrainedClassifier`
    settings: Mapping[str, Any],  # method, random_state
    rows: Mapping[str, int],  # of train and dev
    metrics: dict[str, Any] | None = None,  # as `compute_metrics` returns them
    dataset: str | None = None,  # id on the hub of the data that were evaluated on
) -> None:
    "The card of a classifier that was fitted in memory and, where its evaluation's data are named, its `.eval_results`."
    config = trained.config
    record = {
        "task": "Emotion in text" if dataset is None else dataset,
        "encoder": config.emo_nb_encoder,
        "labels": trained.labels,
        "multi_label": trained.multi_label,
        "method": settings["method"],
        "seed": settings["random_state"],
        "split_used": "texts in memory, by group",
        "files": {},
        "rows": rows,
        "calibration": {"temperature": getattr(config, "emo_nb_temperature", 1.0)},
        "command": "EmotionClassifier.fit",
    }
    by_data = {} if metrics is None else {dataset or "texts": metrics}
    with _side_product(folder, "README.md") as file:
        card = model_card(record, by_data, _loading_instructions(record, "model"))
        file.write_text(card, encoding="utf-8", newline="\n")
    if dataset is not None and metrics is not None:
        _write_eval_results(folder, {dataset: metrics}, date=utc_now().isoformat(timespec="seconds"))


@contextmanager
def _side_product(folder: Path, name: str) -> Iterator[Path]:
    "The path of a file that a run can do without: where the block fails, a warning says why, and the run goes on."
    try:
        yield folder / name
    except Exception as error:  # libraries that draw and format have errors of their own
        with suppress(OSError):
            (folder / name).unlink()
        logger.warning("%s was not written (%s); the rest of the run is saved", name, first_line(error))


def run_figures(
    rows: pd.DataFrame, train: pd.DataFrame, table: pd.DataFrame, tokenizer: Any, labels: list[str]
) -> dict[str, Callable[[], "Figure"]]:
    "By name, what draws the figures of a run: labels before and after balancing, lengths, confusion, F1."
    from .plots import plot_confusion, plot_counts, plot_f1, plot_lengths

    def draw_labels() -> "Figure":
        parts = {"all rows": rows, "training rows": train}
        counts = pd.DataFrame({name: part.targets.explode().value_counts() for name, part in parts.items()})
        return plot_counts(counts.reindex(labels).fillna(0), "Rows of each label, before and after balancing")

    return {
        "labels": draw_labels,
        "lengths": lambda: plot_lengths(text_lengths(train.text, tokenizer), "Lengths of the training texts"),
        "confusion": lambda: plot_confusion(table, labels),
        "f1": lambda: plot_f1(label_scores(table, labels)),
    }


def write_figures(folder: Path, figures: Mapping[str, Callable[[], "Figure"]]) -> None:
    "Draw figures and save them in `folder/figures`. One that fails is left out, and a warning says why."
    with warnings.catch_warnings(record=True) as caught:
        for name, draw in figures.items():
            with _side_product(folder, f"figures/{name}.png") as file:
                file.parent.mkdir(exist_ok=True)
                draw().savefig(file, dpi=150)
    if any("missing from font" in str(warning.message) for warning in caught):
        logger.warning("the figures show some characters as boxes, because matplotlib's font does not have them")


def open_run(folder: str | Path) -> Run:
    "Read a run directory. Raises `ModelError` where the folder is none, is damaged, or was written by a newer emo_nb."
    folder = Path(folder)
    if missing := [name for name in RUN_FILES if not os.path.exists(folder / name)]:
        raise ModelError(f"{folder} is not a run directory (no {missing[0]}); make one with `emo-nb run`")
    config = read_json_object(folder / "config.json", ModelError, _MAKE_AGAIN)
    check_record(config, RunRecord, folder / "config.json", ModelError, _MAKE_AGAIN)
    table = _read_run_table(folder / "predictions.csv", Predictions)
    if missing := [label for label in config["labels"] if label not in table]:
        raise ModelError(f"{folder / 'predictions.csv'} has no column for the label {missing[0]!r}; {_MAKE_AGAIN}")
    scores = _read_run_table(folder / "scores.csv", ScoreTable).set_index(["corpus", "label"])
    return Run(folder, config, table, scores, _read_metrics(folder / "metrics.json"))


def _read_metrics(file: Path) -> dict[str, Any]:
    "The scores in a metrics.json, by corpus."
    metrics = read_json_object(file, ModelError, _MAKE_AGAIN)
    # a corpus may be called `schema`, too
    schema_version = metrics.pop("schema") if isinstance(metrics.get("schema"), int) else 0
    check_record({"schema": schema_version, "corpora": metrics}, Metrics, file, ModelError, _MAKE_AGAIN)
    return metrics


def _read_run_table(file: Path, model: type[Record]) -> pd.DataFrame:
    "A CSV file of a run directory, checked against its schema."
    try:
        table = read_formatted_csv(file, _TEXT_COLUMNS)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise ModelError(f"{file} cannot be read as CSV ({first_line(error)}); {_MAKE_AGAIN}") from error
    check_frame(table, model, file, ModelError, _MAKE_AGAIN)
    return table


def newest_run(root: str | Path = "runs") -> Path:
    "The run directory below `root` that was finished last. Raises `ModelError` where there is none."
    files = Path(root).glob("*/metrics.json") if os.path.isdir(root) else ()
    # a hidden one is being written, or was when its process was killed
    runs = [file.parent for file in files if (file.parent / "model").is_dir() and file.parent.name[0] != "."]
    if not runs:
        raise ModelError(
            f"there is no run in {Path(root)}/ yet; make one with `emo-nb run`, or name a model with --model"
        )
    return max(runs, key=lambda run: (run / "metrics.json").stat().st_mtime)


def licence(record: dict[str, Any]) -> tuple[str, str]:
    "The licence that follows from the data, by the hub's name, and the reason."
    corpora = _known_corpora(record)
    if "empathetic" in corpora:
        return "cc-by-nc-4.0", "EmpatheticDialogues is CC BY-NC 4.0, so the model may not be used commercially"
    if corpora:
        return "apache-2.0", "as its data"
    return "other", "that of its data, which emo_nb does not know"


def model_card(
    record: dict[str, Any],
    metrics: dict[str, Any],
    loading: str,  # how to load the model
    thresholds: str = "`emo_nb_thresholds` in `config.json`",  # where they are
) -> str:
    "A model card (Markdown with the hub's YAML header) from a run's record and its metrics."
    from huggingface_hub import ModelCard

    licence_name, reason = licence(record)
    variables = {
        **{name: record[name] for name in ("multi_label", "method", "seed")},
        "split": record["split_used"],
        **{name: _markdown_text(record[name]) for name in ("task", "encoder")},
        **{name: [_markdown_text(each) for each in record[name]] for name in ("labels", "files")},
        "command": " ".join((record.get("command") or "emo_nb.run").replace("`", "'").split()),
        "temperature": record["calibration"]["temperature"],
        "rows": ", ".join(f"{n:,} {split}" for split, n in record["rows"].items()),
        "loading": loading,
        "thresholds": thresholds,
        "licence": licence_name,
        "licence_reason": reason,
        "own_data": not _known_corpora(record),
        "results_table": _results_markdown(metrics) if metrics else "",
        "labels_table": _labels_markdown(metrics) if metrics else "",
    }
    template = Path(__file__).with_name("model_card.md")
    data = _card_data(record, metrics, licence_name)
    return str(ModelCard.from_template(data, template_path=str(template), **variables))


def _known_corpora(record: dict[str, Any]) -> list[str]:
    "Which of the two corpora a run was made of; none where it was made of a table of the user's own."
    corpora = {name.split("/")[0] for name in record["files"]}
    return [corpus for corpus in HUB_IDS if corpus in corpora and record["task"] != "custom"]


def _card_data(record: dict[str, Any], metrics: dict[str, Any], licence_name: str) -> Any:
    "The header of a model card, as the hub's `ModelCardData`."
    from huggingface_hub import EvalResult, ModelCardData

    corpora = _known_corpora(record)
    task = "text-classification"
    results = [
        EvalResult(
            task,
            HUB_IDS[corpus] if corpus in corpora else corpus,
            corpus,
            "f1",
            score["macro_f1"],
            metric_name="macro-F1",
        )
        for corpus, score in metrics.items()
    ]
    return ModelCardData(
        language="en" if corpora else None,
        license=licence_name,
        library_name="transformers",
        pipeline_tag=task,
        base_model=MINILM if record["encoder"] == SHIPPED_ENCODER else hub_id(record["encoder"]),
        datasets=[HUB_IDS[corpus] for corpus in corpora] or None,
        model_name=f"emo_nb {record['task']}",
        eval_results=results or None,
    )


def _loading_instructions(record: dict[str, Any], part: str, settings: dict[str, Any] | None = None) -> str:
    "How to load the folder `model` of a run, or the folder `adapter`, whose encoder is opened with these settings."
    if part == "model":
        function = "sigmoid" if record["multi_label"] else "softmax"
        return f"""    from transformers import pipeline
    classify = pipeline("text-classification", model="this folder", top_k=None, function_to_apply="{function}")
    classify("What a day!")

or `EmotionClassifier.from_pretrained("this folder")` from emo_nb."""
    encoder = json.dumps(hub_id(record["encoder"]), ensure_ascii=False)
    given = ", ".join(f"{name}={value!r}" for name, value in (settings or {}).items())
    if record["encoder"] == SHIPPED_ENCODER:  # which no hub has
        encoder = f"emo_nb.model.find_encoder({encoder})"
    return f"""This folder holds what was trained, without the encoder. The folder `model`, beside this one, holds all of it
and is the simpler choice. On an encoder that you have already:

    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification
    encoder = AutoModelForSequenceClassification.from_pretrained({encoder}, {given})
    model = PeftModel.from_pretrained(encoder, "this folder")

Its outputs are in the order of the labels above."""


def _markdown_text(text: object) -> str:
    "A name as Markdown shows it as it is, on one line, also in a cell of a table."
    line = " ".join(str(text).split())
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])|^(?=[#+-])", r"\\\g<0>", line)


def _results_markdown(metrics: dict[str, Any]) -> str:
    "One row a corpus."
    lines = ["| corpus | macro-F1 | micro-F1 | accuracy | calibration error | rows |", "|---|---|---|---|---|---|"]
    for corpus, m in metrics.items():
        low, high = m["intervals"]["macro_f1"]
        lines.append(
            f"| {_markdown_text(corpus)} | {m['macro_f1']:.3f} ({low:.3f} to {high:.3f}) | {m['micro_f1']:.3f} "
            f"| {m['accuracy']:.3f} | {m['calibration_error']:.3f} | {m['rows']:,} |"
        )
    return "\n".join(lines)


def _labels_markdown(metrics: dict[str, Any]) -> str:
    "One row a label, over all test rows."
    lines = ["| label | precision | recall | F1 | rows |", "|---|---|---|---|---|"]
    for label, m in list(metrics.values())[-1]["labels"].items():
        scores = " | ".join(f"{m[name]:.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"| {_markdown_text(label)} | {scores} | {m['support']:,.0f} |")
    return "\n".join(lines)
