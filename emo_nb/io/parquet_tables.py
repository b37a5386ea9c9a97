"""Tables in Parquet, with the names of numbered labels that the datasets library keeps in the schema (`ClassLabel`)."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from ..core import DataError, EmoNbError, first_line
from .rows import Row, Table


def open_parquet_table(name: str, stream: BinaryIO, only: Sequence[str] | None) -> Table:
    "A Parquet file: the columns `only` where it has them, else all of its columns."
    from pyarrow.parquet import ParquetFile

    with parquet_errors(name):
        file = ParquetFile(stream, pre_buffer=False)  # which would read ahead, the whole file
        columns = file.schema_arrow.names
    if only and set(only) <= set(columns):
        columns = [column for column in columns if column in only]
    names = _class_labels(file.schema_arrow.metadata or {})
    return Table(columns, _parquet_rows(name, file, columns), label_names=names)


def _class_labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    "The names of numbered labels by column, as the datasets library writes them into the schema (`ClassLabel`)."
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        pairs = list(features.items())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}
    names = {}
    for column, feature in pairs:
        kind = feature[0] if isinstance(feature, list) and feature else feature
        kind = kind.get("feature", kind) if isinstance(kind, dict) else {}
        if isinstance(kind, dict) and isinstance(kind.get("names"), list):
            names[column] = list(map(str, kind["names"]))
    return names


def _parquet_rows(name: str, file: Any, columns: list[str] | None) -> Iterator[Row]:
    number = 0
    with parquet_errors(name):
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield Row(number, list(cells))


@contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    "Turn pyarrow's errors into a `DataError`."
    try:
        yield
    except (EmoNbError, GeneratorExit):
        raise
    except Exception as error:
        raise DataError(f"{name} is not a readable Parquet file ({first_line(error)}); write it anew") from error
