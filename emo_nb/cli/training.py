"""`emo-nb run`, `evaluate` and `doubt`: what is trained, what is scored again, and labels that a model doubts."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core import ConfigError, read_json_object
from .app import app
from .data import read_corpus, read_own_table
from .options import (
    DataPath,
    DeviceOption,
    DtypeOption,
    MapFile,
    TaskOption,
    CorpusOption,
    PresetOption,
    RowsOption,
    EncoderOption,
    MethodOption,
    SplitOption,
    TextUnitOption,
    EpochsOption,
    SeedOption,
    RunDirOption,
    RunForceOption,
    AttentionOption,
    takes_table_options,
)
from .output import print_metrics, print_table, resumable, write_table


@app.command("run")
@takes_table_options
def run(
    task: TaskOption = None,
    corpus: CorpusOption = None,
    preset: PresetOption = "small",
    rows_per_label: RowsOption = None,
    encoder: EncoderOption = None,
    method: MethodOption = "lora",
    split: SplitOption = None,
    text_unit: TextUnitOption = None,
    data: DataPath = None,
    *,
    columns: dict[str, Any],
    map_file: MapFile = None,
    epochs: EpochsOption = None,
    seed: SeedOption = 42,
    out: RunDirOption = None,
    force: RunForceOption = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attention: AttentionOption = None,
) -> None:
    """Read, label, split, train, evaluate and save: the whole way, into a run directory.

    A table of your own is CSV, TSV, JSON Lines, JSON or Parquet, with a column of texts and one of labels. Several
    labels of a text stand in one cell, as joy|love or as a list, or in columns of 0 and 1. Its labels are shown before
    the training: emo-nb run --data own.csv --text-col text --label-col label

    Give an interrupted command again, and it resumes from its last checkpoint.
    """
    from ..config import Config
    from ..engine.memory import keep_freed_memory
    from ..run import run_experiment

    places = {
        "task": task,
        "corpus": corpus,
        "split": split,
        "text_unit": text_unit,
        "data": data,
        "out": out,
        "force": force,
    }
    machine = {"device": device, "dtype": dtype, "attention": attention}
    changes: dict[str, Any] = {"encoder": encoder, "epochs": epochs, "label_map": read_label_map(map_file)}
    changes = {name: value for name, value in changes.items() if value is not None} | columns
    if rows_per_label is not None:
        changes["train_rows_per_label"] = _rows_per_label(rows_per_label)
    keep_freed_memory()
    with resumable("from its last checkpoint"):
        result = run_experiment(Config.from_preset(preset, method=method, seed=seed, **places, **machine, **changes))
    if result is None:
        return
    print_metrics(result.metrics)
    if sample := [corpus for corpus, origin in result.config["origins"].items() if origin == "built-in sample"]:
        typer.secho(
            f"*** {', '.join(sample)} came from the BUILT-IN SAMPLE: these figures mean nothing. ***", fg="yellow"
        )
    typer.echo(f'\nThe run directory: {result.folder}\nUse it: emo-nb predict --model {result.folder} "your text"')


def _rows_per_label(value: str) -> int | None:
    "A number of rows, or None for all of them."
    if value == "all":
        return None
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ConfigError(f"--rows-per-label is a number of at least 1, or all, not {value!r}; give one of these")
    return int(value)


@app.command()
@takes_table_options
def evaluate(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run directory; with --data also a model folder, or goemotions28.")
    ],
    data: DataPath = None,
    *,
    columns: dict[str, Any],
    map_file: MapFile = None,
    restrict: Annotated[
        bool,
        typer.Option(
            "--restrict", help="Also score the model as if it could say no label but those that the table or --map has."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the scores to this file as well, as JSON. A file that is there is kept.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")] = False,
) -> None:
    """Score a saved run again on its own test rows, or any model on a labelled table of your own.

    Where that table has other labels, a map says which of the model's each of them means. The file map.json holds, for
    example, {"glad": "joy", "cross": "anger"}, and the command is
    emo-nb evaluate runs/mine --data own.csv --text-col text --label-col label --map map.json
    """
    from ..evaluate import compute_metrics, restricted_metrics
    from ..io.files import atomic_file, check_output_file
    from ..study.evaluation import evaluate_run

    if out:
        check_output_file(out, force)
    label_map, in_terminal = read_label_map(map_file), sys.stderr.isatty()
    table, classifier = evaluate_run(folder, data, label_map=label_map, show_progress_bar=in_terminal, **columns)
    metrics = compute_metrics(table, classifier.labels, classifier.thresholds)
    if restrict:
        names = set(label_map.values()) if label_map else None
        metrics |= restricted_metrics(table, classifier.labels, names, classifier.thresholds)
    print_metrics(metrics)
    if out:
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps(metrics, indent=1))


def read_label_map(file: Path | None) -> dict[str, str] | None:
    "A JSON object from one set of labels to another. `ConfigError` where the file holds anything else."
    if file is None:
        return None
    remedy = """write it like {"their label": "the model's label"}"""
    labels = read_json_object(file, ConfigError, remedy)
    if not all(isinstance(label, str) for label in labels.values()):
        raise ConfigError(f"{file} does not map labels to labels; {remedy}")
    return labels


@app.command()
@takes_table_options
def doubt(
    data: Annotated[
        str, typer.Option(help="A labelled table of your own, or a corpus: a file, a folder or an archive.")
    ],
    *,
    columns: dict[str, Any],
    folds: Annotated[int, typer.Option(help="Models to train, each on the rows of the other folds.")] = 5,
    epochs: Annotated[float, typer.Option(help="Of each training.")] = 3,
    encoder: Annotated[str, typer.Option(help="minilm, a folder or a hub id.")] = "minilm",
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 42,
    show: Annotated[int, typer.Option(help="Rows to print.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Write all rows to this .csv, .jsonl or .parquet file. One that is there is kept."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")] = False,
) -> None:
    """Rows whose label a model doubts, the most doubtful first, and what it would say in its place.

    Each row is predicted by a model that was not trained on it: emo-nb doubt --data own.csv --text-col text --label-col label
    """
    from ..classifier import EmotionClassifier
    from ..io.files import check_output_file
    from ..io.writers import output_format
    from ..study.doubt import doubtful

    if out:
        output_format(out)
        check_output_file(out, force)
    own = read_own_table(data, columns)
    frame = own.frame if own else read_corpus(None, data, columns, "full")
    places = own.places if own else tuple(frame.group)  # of a corpus, the ids
    classifier = EmotionClassifier(encoder, epochs=epochs, random_state=seed)
    is_single = (frame.labels.map(len) == 1).all()
    labels = frame.labels.str[0] if is_single else list(frame.labels)
    table = doubtful(frame.text, labels, frame.group, folds, classifier)
    table.insert(0, "row", [places[i] for i in table.index])
    print_table(
        table.head(show).set_index("row").drop(columns="is_issue"),
        f"{table.is_issue.sum():,} doubtful rows of {len(table):,}",
    )
    if out:
        write_table(table, output_format(out), out)
