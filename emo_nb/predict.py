"""`EmotionClassifier`: texts in, probabilities out; and `predict_file` for a file of any size."""

import hashlib
import json
import os
import reprlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .core import ConfigError, ModelError, TextError, first_line, logger
from .encode import decode_labels, join_labels, pad_batch, token_batches
from .engine.checkpoints import Checkpoint
from .engine.device import Backend, choose_backend
from .engine.forward import prepare_for_inference
from .engine.memory import is_out_of_memory, release_memory
from .evaluate import choose_thresholds, fit_temperature, probabilities
from .model import apply_temperature, load_model

FEW_TOKENS = 48  # in all texts together: on a CPU, so few are computed with weights stored in float16
BULK_TEXTS = 1000  # more texts than this are computed in the machine's fastest number format
MAX_BATCH_TOKENS = 2048  # in one batch, padding included
MAX_LENGTH = 512  # tokens of one text


def check_texts(texts: str | Iterable[str]) -> list[str]:
    """One text, a list or a Series, as a list of texts, their halves of characters joined or replaced.

    Raises `TextError`, with the positions, where an entry is not a string.
    """
    if isinstance(texts, pd.DataFrame):
        raise TextError(
            f"a table is not a list of texts; give one of its columns: {', '.join(map(str, texts.columns))}"
        )
    if not isinstance(texts, Iterable):
        raise TextError(f"{texts!r} is not a list of texts; give a list, or a string")
    entries = [texts] if isinstance(texts, str) else list(texts)
    if not entries:
        raise TextError("there is no text to classify; give at least one")
    if wrong := [i for i, text in enumerate(entries) if not isinstance(text, str)]:
        shown = ", ".join(f"{i} ({reprlib.repr(entries[i])})" for i in wrong[:5]) + (", …" if len(wrong) > 5 else "")
        raise TextError(
            f"{len(wrong)} of {len(entries)} entries are not texts, at position {shown}; drop or replace them"
        )
    return [text if text.isascii() else _repair_surrogates(text) for text in entries]


def _repair_surrogates(text: str) -> str:
    "The text with surrogate pairs joined, and U+FFFD in place of an unpaired surrogate."
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class EmotionClassifier:
    """A trained classifier with its tokenizer: `EmotionClassifier.from_pretrained(folder).predict(texts)`.

    `labels` are its labels in the order of all probabilities; `multi_label` says whether a text may have several, and
    `thresholds`, (n_labels,), from which probability on each counts. `model` is the transformers model.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str | None = None, dtype: str | None = None):
        checkpoint = model if isinstance(model, Checkpoint) else Checkpoint(model.config, model=model)
        self.checkpoint, self.config, self.tokenizer = checkpoint, checkpoint.config, tokenizer
        self.bulk, self.exact = choose_backend(device, dtype), choose_backend(device, dtype or "float32")
        self.few = choose_backend("cpu", dtype or "float16") if self.bulk.device == "cpu" else self.exact
        self.labels = [self.config.id2label[i] for i in range(self.config.num_labels)]
        self.multi_label = self.config.problem_type == "multi_label_classification"
        self.max_length = min(tokenizer.model_max_length, MAX_LENGTH)  # tokens
        self._prepared: dict[Backend, Any] = {}

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | None = None, dtype: str | None = None
    ) -> "EmotionClassifier":
        "Load a run directory, or any folder with a transformers classifier. Raises `ModelError`."
        folder = Path(folder)
        inner = folder / "model" if os.path.isdir(folder / "model") else folder
        choose_backend(device, dtype)  # an impossible device is refused before anything is read
        return cls(*load_model(inner), device, dtype)

    load = from_pretrained  # the name in earlier versions

    def save_pretrained(self, folder: str | Path) -> None:
        "Save the model and its tokenizer as a transformers checkpoint, which `from_pretrained` opens."
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def model(self) -> Any:
        "The transformers model, built when first asked for: prediction on a CPU does without it."
        return self.checkpoint.model

    @property
    def thresholds(self) -> np.ndarray | None:
        "From which probability on each label counts, (n_labels,); None for a single-label model."
        saved = getattr(self.config, "emo_nb_thresholds", {})
        return np.array([saved.get(label, 0.5) for label in self.labels]) if self.multi_label else None

    def for_bulk(self) -> "EmotionClassifier":
        "The same classifier, computing any number of texts in the machine's fastest number format."
        return EmotionClassifier(self.checkpoint, self.tokenizer, self.bulk.device, self.bulk.dtype)

    def logits(
        self, texts: str | Iterable[str], max_batch_tokens: int = MAX_BATCH_TOKENS, show_progress_bar: bool = False
    ) -> np.ndarray:
        "The outputs before softmax or sigmoid, (n_texts, n_labels)."
        from tqdm.auto import tqdm

        ids = self._tokenize(check_texts(texts))
        n_tokens = sum(map(len, ids))
        backend = self.bulk if len(ids) > BULK_TEXTS else self.few if n_tokens <= FEW_TOKENS else self.exact
        if backend not in self._prepared:
            self._prepared[backend] = prepare_for_inference(self.checkpoint, backend)
        with tqdm(total=len(ids), unit="text", disable=not show_progress_bar) as bar:
            logits = batched_logits(self._prepared[backend], ids, max_batch_tokens, bar)
        return _check_finite(logits, backend.dtype)

    def predict_proba(
        self, texts: str | Iterable[str], max_batch_tokens: int = MAX_BATCH_TOKENS, show_progress_bar: bool = False
    ) -> np.ndarray:
        "Probabilities (n_texts, n_labels), in the order of the texts and of `labels`. Raises `TextError`."
        return probabilities(self.logits(texts, max_batch_tokens, show_progress_bar), self.multi_label)

    def predict(
        self, texts: str | Iterable[str], max_batch_tokens: int = MAX_BATCH_TOKENS, show_progress_bar: bool = False
    ) -> pd.DataFrame:
        """One row a text, in order: `text`, `label` (the most probable), and the probability of each label.

        A multi-label model adds `labels`: all that reach their threshold, joined by `|`; possibly none. Raises
        `TextError` where an entry is not a text.
        """
        texts = check_texts(texts)
        proba = self.predict_proba(texts, max_batch_tokens, show_progress_bar)
        columns = {"text": texts, "label": np.array(self.labels, dtype=object)[proba.argmax(axis=1)]}
        if self.multi_label:
            columns["labels"] = join_labels(decode_labels(proba >= self.thresholds, self.labels))
        return pd.concat([pd.DataFrame(columns), pd.DataFrame(proba, columns=self.labels)], axis=1)

    def calibrate(self, texts: Iterable[str], truth: np.ndarray) -> None:
        """Fit the temperature and, for a multi-label model, the thresholds on rows the model was not trained on.

        `truth` is (n_texts, n_labels), zeros and ones. The temperature goes into the weights, so that plain
        transformers gives calibrated probabilities too; the thresholds go into the config.
        """
        logits = self.logits(texts)
        temperature = fit_temperature(logits, truth, self.multi_label)
        apply_temperature(self.model, temperature)
        self._prepared.clear()
        if self.multi_label:
            chosen = choose_thresholds(probabilities(logits / temperature, True), truth)
            named = zip(self.labels, chosen, strict=True)
            self.config.emo_nb_thresholds = {label: round(float(value), 4) for label, value in named}

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        "Token ids of each text, truncated at `max_length`; a warning says how many were."
        options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        ids = self.tokenizer(texts, truncation=False, **options)["input_ids"]
        if n_truncated := sum(len(row) > self.max_length for row in ids):
            message = "%s of %s texts are longer than %s tokens; only their beginning is read"
            logger.warning(message, n_truncated, len(texts), self.max_length)
            ids = self.tokenizer(texts, truncation=True, max_length=self.max_length, **options)["input_ids"]
        return ids


def batched_logits(
    model: Any, ids: list[list[int]], max_batch_tokens: int = MAX_BATCH_TOKENS, bar: Any = None
) -> np.ndarray:
    "Logits (n_texts, n_labels) of tokenised texts; batches are halved where memory runs out. `bar` is a tqdm bar."
    import torch

    logits = np.empty((len(ids), model.config.num_labels))
    waiting = list(token_batches(np.array([len(row) for row in ids]), max_batch_tokens))
    has_halved = False
    with torch.inference_mode():
        while waiting:
            rows = waiting.pop()
            batch = pad_batch([ids[i] for i in rows], model.config.pad_token_id or 0)
            try:
                input_ids, mask = (torch.from_numpy(array).to(model.device) for array in batch)
                logits[rows] = model(input_ids=input_ids, attention_mask=mask).logits.double().cpu().numpy()
            except RuntimeError as error:
                if len(rows) == 1 or not is_out_of_memory(error):
                    raise
            else:
                if bar is not None:
                    bar.update(len(rows))
                continue
            if not has_halved:
                logger.warning("memory does not suffice for %s texts at once; batches are halved", len(rows))
            has_halved = True
            release_memory()
            waiting = [half for batch in (*waiting, rows) for half in np.array_split(batch, 2) if len(half)]
    return logits


def _check_finite(logits: np.ndarray, dtype: str) -> np.ndarray:
    "The logits, (n_texts, n_labels). `ModelError` where one is NaN or infinite."
    if len(wrong := np.flatnonzero(~np.isfinite(logits).all(axis=1))):
        raise ModelError(
            f"the model returned NaN or infinity for text {wrong[0]}: its weights are damaged, or their products too "
            f"large for {dtype}; use another model{'' if dtype == 'float32' else ', or float32'}"
        )
    return logits


PART_ROWS = 10_000  # texts in one part of a file


def check_not_same_file(file: Path, out: Path) -> None:
    "Raise `ConfigError` where the predictions would replace the texts."
    if os.path.exists(file) and os.path.exists(out) and os.path.samefile(file, out):
        raise ConfigError(f"{out} is the file that is read; name another with --out")


def predict_file(
    classifier: EmotionClassifier,
    file: str | Path,  # .csv, .tsv, .jsonl, .parquet, or one text a line
    out: str | Path,
    text_col: str | None = None,
    file_format: str | None = None,  # csv, jsonl or parquet; default: what `out` ends in
    force: bool = False,  # begin anew, whatever is beside `out`
    show_progress_bar: bool = True,
) -> int:
    """Predict a file of any size into another, in constant memory; return the number of rows written.

    Finished parts are kept in `OUT.part` until all is done, and the same call resumes there. Raises `ConfigError`
    where they belong to another file, model or setting, `DataError` where the file is a pipe (it is read more than
    once), `TextError` where a row holds no text.
    """
    from tqdm.auto import tqdm

    from .io.archives import check_regular_file
    from .io.files import atomic_file, partial_dir
    from .io.readers import estimate_rows, iter_texts
    from .io.writers import WRITERS, concatenate_parts

    file, out = Path(file), Path(out)
    file_format = file_format or out.suffix[1:]
    if file_format not in WRITERS:
        raise ConfigError(f"the ending of {out} names no format; end it in .csv, .jsonl or .parquet, or pass --format")
    check_regular_file(file)
    check_not_same_file(file, out)
    expected = estimate_rows(file)
    classifier = classifier.for_bulk() if expected > BULK_TEXTS else classifier
    with partial_dir(out, _job_settings(classifier, file, text_col, file_format), force) as folder:
        parts = sorted(folder.glob(f"[0-9]*.{file_format}"))
        texts = iter_texts(file, text_col)
        rows = sum(1 for _ in islice(texts, len(parts) * PART_ROWS))
        with tqdm(total=expected, initial=rows, unit="text", disable=not show_progress_bar) as bar:
            while part := list(islice(texts, PART_ROWS)):
                parts.append(folder / f"{len(parts):08}.{file_format}")
                with atomic_file(parts[-1]) as temporary:
                    WRITERS[file_format](classifier.predict(part), temporary, rows == 0)
                rows += len(part)
                bar.update(len(part))
        if parts:
            concatenate_parts(parts, out)
    if not rows:
        raise TextError(f"{file} holds no text; give a file with a text in each row")
    return rows


def _job_settings(classifier: EmotionClassifier, file: Path, text_col: str | None, file_format: str) -> dict[str, Any]:
    "Everything that decides the predictions of a file: its content, the model, the formats."
    weights = hashlib.sha256()
    for name, tensor in sorted(classifier.checkpoint.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().view(-1).numpy().tobytes())
    own = {k: v for k, v in classifier.config.to_dict().items() if k.startswith(("emo_nb", "id2"))}
    weights.update(json.dumps(own, sort_keys=True).encode())
    return {
        "file": _file_hash(file),
        "text column": text_col,
        "model": weights.hexdigest(),
        "format": file_format,
        "number format": f"{classifier.bulk.dtype} on {classifier.bulk.device}",
        "texts a part": PART_ROWS,
    }


def _file_hash(file: Path) -> str:
    "SHA-256 of a file. Raises `TextError` where it cannot be read."
    content = hashlib.sha256()
    try:
        with open(file, "rb") as stream:
            for block in iter(lambda: stream.read(2**20), b""):
                content.update(block)
    except OSError as error:
        raise TextError(f"{file} cannot be read ({first_line(error)}); name another, or repair it") from error
    return content.hexdigest()
