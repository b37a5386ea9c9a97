"""What the command prints: tables and scores for people, how to go on after Ctrl-C, and the package's log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd


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


def write_table(table: "pd.DataFrame", file_format: str, out: Path | None) -> None:
    "Print a table of predictions, or write it to a file that appears complete."
    from ..io.files import atomic_file
    from ..io.writers import FORMATTERS, WRITERS

    if out is None:
        sys.stdout.write(FORMATTERS[file_format](table))
        return
    with atomic_file(out) as temporary:
        if file_format in WRITERS:
            WRITERS[file_format](table, temporary, True)
        else:
            temporary.write_text(FORMATTERS[file_format](table), encoding="utf-8", newline="\n")
    typer.echo(f"{len(table):,} rows written to {out}", err=True)


class ConsoleHandler(logging.Handler):
    "Progress to standard output, warnings to standard error, both without a prefix."

    def emit(self, record: logging.LogRecord) -> None:
        "Show the message of the record."
        typer.echo(record.getMessage(), err=record.levelno >= logging.WARNING)
