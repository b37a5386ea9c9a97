"""The command `emo-nb`: options in, function calls, tables out; what it prints is decided here and nowhere else."""

import gc
import logging
import os
import sys

import typer

from ..core import EmoNbError, logger
from ..engine.memory import limit_kernel_cache
from ..engine.threads import configure_threads
from . import data, training, using  # noqa: F401 (they add their commands to the app)
from .app import app
from .output import ConsoleHandler, print_table

__all__ = ["main", "print_table"]


def main() -> None:
    "Run the command line; exit code 2 and one sentence for a user's mistake."
    if hasattr(sys.stdout, "reconfigure"):  # Windows would write emoji in its code page, and fail
        sys.stdout.reconfigure(encoding="utf-8")
    if not sys.stderr.isatty():  # read when tqdm is first imported: no library's bar then writes into a log
        os.environ.setdefault("TQDM_DISABLE", "1")
    configure_threads()
    limit_kernel_cache()
    gc.set_threshold(50_000, 20, 50)  # imports make many objects and no garbage; Python would look for it all the time
    handler, before = ConsoleHandler(), (logger.level, logger.propagate)
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
