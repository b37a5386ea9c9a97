"""Texts predicted on the machines of a Ray cluster, or by several processes of one machine, with Ray Data.

Workers read the files, which may lie at addresses of fsspec; each worker holds the model once, and its tokens are
batched as anywhere else. `predict_on_ray` writes a folder of Parquet files, one a part, named so that their order is
that of the texts; parts that are there are not computed again. `predict_dataset` is a step in your own pipeline.
"""

import json
import os
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from ..core import DataError, EmoNbError, TextError
from ..io.files import atomic_dir, atomic_file, check_output_dir, partial_dir
from ..io.places import Place, check_can_be_read_twice, find_files, is_remote
from ..io.readers import estimate_rows, iter_rows, one_or_several, with_file_name
from ..io.writers import link_parts, write_parquet
from ..predict import BULK_TEXTS, TrainedClassifier, check_top_k, one_length_warning, resolve_thresholds
from .files import PART_ROWS, job_settings, kept_names, predict_rows
from .ray_cluster import check_machines, connected, explained, one_row_a_block, ray_data, worker_options

if TYPE_CHECKING:
    from ray.data import Dataset

MARKER = "_emo_nb.json"  # in a folder of parts: what they are made of; readers of Parquet pass over such a name
_Rows = list[tuple[str, dict[str, Any]]]  # texts, each with the cells to keep


def predict_dataset(
    data: "Dataset | Place",  # with a column of texts; or files, as `predict_file` takes them
    classifier: Any,  # an `EmotionClassifier`, the `TrainedClassifier` that it holds, or what opens one: a name or a folder
    text_col: str = "text",
    thresholds: float | Mapping[str, float] | None = None,  # in place of those saved with the model
    top_k: int | None = None,  # at most so many labels, the most probable first
    keep: str | Sequence[str] = "all",  # columns beside the predictions: all, none, or their names
    cores: int | None = None,  # of one worker
) -> "Dataset":
    """A dataset of Ray Data with its predictions, computed when it is read: what `predict_frame` returns, in order.

    The columns kept stand before the predictions. Raises `ConfigError` for thresholds or labels that cannot be, for
    cores that no machine of the cluster has, and where Ray is not installed, and `DataError` where a column is missing.
    What is wrong with a text is raised by Ray when the dataset is read, with the sentence of a `TextError` in it.
    """
    trained = _opened(classifier, thresholds, top_k).for_bulk()
    if isinstance(data, (str, Path)):
        data, text_col, keep = _read_dataset(data, text_col, keep), "text", "all"
    names, keep = data.columns() or [], one_or_several(keep)
    if missing := [name for name in [text_col, *([] if isinstance(keep, str) else keep)] if name not in names]:
        raise DataError(f"the dataset has no column {missing[0]!r}; its columns are: {', '.join(map(repr, names))}")
    kept = {"all": names, "none": []}.get(keep, keep) if isinstance(keep, str) else list(keep)
    columns = kept_names([name for name in kept if name != text_col], trained.labels)
    check_machines([])
    worker = (text_col, columns, {"thresholds": thresholds, "top_k": top_k})
    options = worker_options(trained, cores, *worker)
    return data.map_batches(_FrameWorker, batch_format="pandas", batch_size=PART_ROWS, **options)


def predict_on_ray(
    classifier: Any,  # an `EmotionClassifier`, the `TrainedClassifier` that it holds, or what opens one: a name or a folder
    place: Place,  # a file, a folder, a pattern or an address, as `predict_file` takes them, that all machines see
    out: str | Path,  # the folder to write, which all machines see
    text_col: str | None = None,
    force: bool = False,  # replace `out`, and begin anew where an interrupted call could be resumed
    show_progress_bar: bool = True,
    thresholds: float | Mapping[str, float] | None = None,  # in place of those saved with the model
    top_k: int | None = None,  # at most so many labels, the most probable first
    tokens_left_out: bool = False,  # add a column: how many tokens of a text were not read
    keep: str | Sequence[str] = "all",  # columns of a table beside the predictions: all, none, or their names
    address: str | None = None,  # of a cluster, or auto; None: processes of this machine
    cores: int | None = None,  # of one worker
) -> int:
    """Predict files of any number and size into a folder of Parquet files; return the number of rows written.

    The same answers as `predict_file`. Finished parts are kept in `OUT.part` until all is done, and the same call
    resumes there. Raises as `predict_file` does, and `ConfigError` where the cluster cannot be reached, or one of its
    machines lacks emo_nb, has another version of it, or does not see the files.
    """
    out, trained = Path(out), _opened(classifier, thresholds, top_k)
    check_output_dir(out, MARKER, force)
    files = find_files(place)
    for file in files:
        check_can_be_read_twice(file)
    if (first := next(iter_rows(place, text_col, keep), None)) is None:
        raise TextError(f"{place} holds no text; give a file with a text in each row")
    kept_names(first[1], trained.labels)  # a mistake in them is said before any work
    answers = {"thresholds": thresholds, "top_k": top_k, "tokens_left_out": tokens_left_out}
    trained = trained.for_bulk() if estimate_rows(place) > BULK_TEXTS or is_remote(place) else trained
    settings = job_settings(trained, place, text_col, "parquet", answers, keep, "ray")
    with connected(address), one_row_a_block(), partial_dir(out, settings, force) as folder:
        check_machines([*_places(files), str(folder)])
        done = {part.stem: _count_rows(part) for part in folder.glob("[0-9]*.parquet")}
        how: dict[str, Any] = {"text_col": text_col, "keep": keep, "part_rows": PART_ROWS, "is_only": len(files) == 1}
        read = partial(_read_parts, **how, done=frozenset(done))
        parts = _dataset_of_files(files).map_batches(read, batch_size=1, num_cpus=0)
        parts = parts.map_batches(_PartWorker, batch_size=1, **worker_options(trained, cores, folder, answers))
        total = estimate_rows(place) if show_progress_bar else None
        with tqdm(total=total, initial=sum(done.values()), disable=not show_progress_bar) as bar:
            rows = sum(done.values()) + _count_as_written(parts, bar)
        _publish(folder, out, settings, force)
    return rows


def _opened(classifier: Any, thresholds: Any, top_k: int | None) -> TrainedClassifier:
    "The classifier; a mistake in what is asked of it is said at once."
    if isinstance(classifier, (str, Path)):
        classifier = TrainedClassifier.from_pretrained(classifier)
    trained = getattr(classifier, "trained", classifier)
    resolve_thresholds(thresholds, trained.labels)
    check_top_k(top_k, trained.labels)
    return trained


def _read_dataset(place: Place, text_col: str, keep: str | Sequence[str]) -> "Dataset":
    "The rows of files as a dataset: the columns to keep, and the texts in `text`."
    _, kept = next(iter_rows(place, text_col, keep), ("", {}))
    if "text" in kept:
        raise DataError(f"{place} has another column 'text' beside {text_col!r}; choose columns to keep without it")
    files = find_files(place)

    def read(batch: dict[str, Any]) -> Iterator[pd.DataFrame]:
        for part in _rows_in_parts(batch, text_col, keep, PART_ROWS, len(files) == 1):
            yield pd.DataFrame([{**kept, "text": text} for text, kept in part])

    return _dataset_of_files(files).map_batches(read, batch_size=1, num_cpus=0)


def _dataset_of_files(files: Sequence[Place]) -> "Dataset":
    "A row for each file: its number, its name, and the place where each machine finds it."
    named = [{"number": n, "file": str(files[n]), "place": place} for n, place in enumerate(_places(files))]
    return ray_data().from_items(named, override_num_blocks=len(files))


def _places(files: Sequence[Place]) -> list[str]:
    "Where files are, whatever the folder of the process that opens them."
    return [str(file) if is_remote(file) else os.path.abspath(file) for file in files]


def _rows_in_parts(
    batch: dict[str, Any], text_col: str | None, keep: str | Sequence[str], part_rows: int, is_only: bool
) -> Iterator[_Rows]:
    "The rows of the file in a batch of one, in parts; of several files, each row with the name of its own."
    rows = iter_rows(str(batch["place"][0]), text_col, keep)
    while part := list(islice(rows, part_rows)):
        if not is_only and keep != "none":
            part = [(text, with_file_name(batch["file"][0], kept)) for text, kept in part]
        yield part


class _FrameWorker:
    "Predicts the batches of a dataset."

    def __init__(self, model: Any, text_col: str, columns: dict[str, str], answers: dict[str, Any]):
        self.classifier, self.text_col, self.columns, self.answers = model(), text_col, columns, answers

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        table = self.classifier.predict_frame(frame[self.text_col], **self.answers)
        kept = frame[list(self.columns)].rename(columns=self.columns).reset_index(drop=True)
        return pd.concat([kept, table], axis=1)


def _read_parts(
    batch: dict[str, Any],
    text_col: str | None,
    keep: str | Sequence[str],
    part_rows: int,
    is_only: bool,
    done: frozenset[str],
) -> Iterator[dict[str, Any]]:
    "The parts of a file that are not done yet, one after the other: name, and rows, or an error, in a pickle."
    try:
        for count, part in enumerate(_rows_in_parts(batch, text_col, keep, part_rows, is_only)):
            if (name := f"{batch['number'][0]:06}-{count:06}") not in done:
                yield {"part": [name], "rows": [pickle.dumps(part)]}
    except EmoNbError as error:
        yield {"part": [""], "rows": [pickle.dumps(error)]}


class _PartWorker:
    "Predicts parts and writes each into the folder, where it appears complete."

    def __init__(self, model: Any, folder: Path, answers: dict[str, Any]):
        self.classifier, self.folder, self.answers = model(), folder, answers

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts, problem = Counter[str](), b""
        try:
            counts.update(self._write(batch["part"][0], pickle.loads(batch["rows"][0])))
        except EmoNbError as error:  # Ray would add words of its own to it
            problem = pickle.dumps(error)
        return {**{name: [counts[name]] for name in ("texts", "truncated", "max_length")}, "error": [problem]}

    def _write(self, name: str, rows: _Rows | EmoNbError) -> Counter[str]:
        "Write a part; how many texts it has, and how many of them are longer than the model reads."
        if isinstance(rows, EmoNbError):
            raise rows
        with one_length_warning(is_said=True) as counts, atomic_file(self.folder / f"{name}.parquet") as temporary:
            write_parquet(predict_rows(self.classifier, rows, **self.answers), temporary, True)
        return counts


def _count_as_written(parts: "Dataset", bar: Any) -> int:
    "Have the parts computed; how many rows they have. Raises what a worker met."
    with explained(), one_length_warning() as counts:
        for part in parts.iter_rows():
            if part["error"]:
                error: EmoNbError = pickle.loads(part["error"])
                raise error
            bar.update(part["texts"])
            counts.update(texts=part["texts"], truncated=part["truncated"])
            counts["max_length"] = max(counts["max_length"], part["max_length"])
    return counts["texts"]


def _count_rows(part: Path) -> int:
    from pyarrow.parquet import read_metadata

    return read_metadata(part).num_rows


def _publish(folder: Path, out: Path, settings: dict[str, Any], force: bool) -> None:
    "Make the folder of results of finished parts, which stay where they are until it is complete."
    with atomic_dir(out, MARKER, force) as results:
        link_parts(sorted(folder.glob("[0-9]*.parquet")), results)
        (results / MARKER).write_text(json.dumps(settings, indent=1))
