"""What every part of the package shares: one family of errors, the logger, and a few helpers without dependencies."""

import json
import logging
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

logger = logging.getLogger("emo_nb")

# What a setting may be, in Python and on the command line
Dtype = Literal["float32", "bfloat16", "float16"]  # number formats in which models are computed and stored
Device = Literal["cpu", "cuda", "mps", "xpu"]
Method = Literal["lora", "finetune"]  # train adapters, or every layer
Split = Literal["group", "study", "official"]  # how rows are split into train, dev and test
Attention = Literal["eager", "sdpa"]
Unlabelled = Literal["negative", "drop"]  # rows without a label: texts that have none of them, or left out
LongTexts = Literal["truncate", "windows"]  # read the beginning of a long text, or all of it in overlapping windows

# The columns of a table of predictions; no label may be called like one of them.
RESERVED_COLUMNS = frozenset(
    {"text", "label", "labels", "tokens_left_out", "corpus", "group", "role", "predicted", "confidence"}
)


class EmoNbError(Exception):
    """A mistake that the user can correct. Its message is one sentence: what is wrong, where, and what to do.

    Those about what a function was given are also a `ValueError`, which scikit-learn's tools expect.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class DataError(EmoNbError, ValueError):
    "A file, a table or labels that cannot be used as they are."


class SourceError(EmoNbError):
    "A corpus that cannot be found or downloaded."


class UnreachableError(SourceError):
    "A server that did not answer: usually, there is no network."


class ModelError(EmoNbError):
    "An encoder or a saved model that is missing, damaged or not supported."


class ConfigError(EmoNbError, ValueError):
    "Settings that contradict each other or do not suit the data."


class TextError(EmoNbError, ValueError):
    "A text that cannot be classified; the message gives its position."


def column_names(table: Any) -> list[Any] | None:
    "The names of the columns of a table of pandas, polars, pyarrow or datasets; None of what has no columns."
    if getattr(table, "ndim", 2) == 1:  # a series, whose index may have an entry of this name
        return None
    names = getattr(table, "column_names", getattr(table, "columns", None))  # pyarrow's `columns` are arrays
    return None if names is None else list(names)


def first_line(error: BaseException) -> str:
    "The first line of an error's message, at most 160 printable characters; the name of its class if it has none."
    line = (getattr(error, "strerror", None) or str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return "".join(char if char.isprintable() else "?" for char in line)


def read_json_object(file: Path, error: type[EmoNbError], remedy: str) -> dict[str, Any]:
    "The object in a JSON file. Raises `error`, ending in `remedy`, where the file cannot be read or holds something else."
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{file} cannot be read as JSON ({first_line(problem)}); {remedy}") from problem
    if not isinstance(content, dict):
        raise error(f"{file} does not hold a JSON object; {remedy}")
    return content


def split_names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    "Names that are given one by one or in one string with commas, where blanks and empty names do not count."
    if isinstance(names, str):
        return tuple(name for part in names.split(",") if (name := part.strip()))
    return tuple(names or ())


@cache
def warn_once(message: str) -> None:
    "Log a warning the first time it is given; later calls with the same message do nothing."
    logger.warning("%s", message)


def is_interactive() -> bool:
    "Whether a person watches: standard error is a terminal, or the code runs in a notebook."
    if (shell := sys.modules.get("IPython")) is not None and (running := shell.get_ipython()) is not None:
        return hasattr(running, "kernel") or sys.stderr.isatty()
    return sys.stderr is not None and sys.stderr.isatty()
