"""An exported classifier, computed by ONNX Runtime: nothing here needs torch or transformers.

The folder is one that `export_onnx` has written. Its files are checked against each other before an answer is given, and
stand for what a transformers checkpoint has: a `config` with labels and thresholds, a tokenizer, and logits of token ids.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..core import ConfigError, ModelError, first_line, read_json_object
from ..io.files import file_sha256
from .device import Backend
from .threads import available_cores, check_threads

MODEL_FILE, TOKENIZER_FILE, SETTINGS_FILE = "model.onnx", "tokenizer.json", "emo_nb.json"  # of an exported folder
INPUTS, OUTPUTS = ["input_ids", "attention_mask"], ["logits", "probabilities"]
BACKEND = Backend("cpu", "float32", None, "an exported model is computed by ONNX Runtime")
_GET_ANEW = "export the model anew"


def is_export(folder: str | Path) -> bool:
    "Whether a folder is one that `export_onnx` has written."
    return os.path.isfile(Path(folder) / SETTINGS_FILE) and not os.path.exists(Path(folder) / "config.json")


class OnnxCheckpoint:
    "An exported classifier's settings, as `config`, and its graph, of which a session is made when it is first needed."

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if missing := [name for name in ("onnxruntime", "tokenizers") if find_spec(name) is None]:
            raise ConfigError(f"{folder} is an exported model, which {missing[0]} opens; pip install 'emo_nb[onnx]'")
        settings = read_json_object(self.folder / SETTINGS_FILE, ModelError, _GET_ANEW)
        self.digest = _check_file(self.folder / MODEL_FILE, settings.get("sha256"))
        if "tokenizer_sha256" in settings:  # an earlier version did not write it
            _check_file(self.folder / TOKENIZER_FILE, settings["tokenizer_sha256"])
        self.config = _config(self.folder, settings)
        self._graph: bytes | None = None  # of one that was pickled, whose folder may be elsewhere
        self._session: Any = None

    @property
    def model(self) -> Any:
        "There is no transformers model: `ModelError`."
        raise ModelError(f"{self.folder} is an exported model, which can only predict; open the model it was made from")

    def sha256(self) -> str:
        "What tells this model from another."
        return self.digest

    def logits(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        "Logits (n_texts, n_labels) of token ids and attention mask, both (n_texts, n_tokens)."
        feeds = dict(zip(INPUTS, (ids.astype(np.int64), mask.astype(np.int64)), strict=True))
        file, n_labels = self.folder / MODEL_FILE, self.config.num_labels
        try:
            self._session = self._session or self._new_session()
            logits = np.asarray(self._session.run(OUTPUTS[:1], feeds)[0], dtype=np.float64)
        except Exception as error:  # those of onnxruntime have no class in common but this one
            if "allocate" in str(error):
                raise MemoryError(f"memory does not suffice for a batch of {ids.size} tokens") from error
            raise ModelError(f"{file} cannot be computed ({first_line(error)}); {_GET_ANEW}") from error
        if logits.shape[1:] != (n_labels,):
            raise ModelError(
                f"{file} has {logits.shape[-1]} outputs and {SETTINGS_FILE} {n_labels} labels; {_GET_ANEW}"
            )
        return logits

    def _new_session(self) -> Any:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.log_severity_level = 4  # what goes wrong is said once, in a sentence
        threads = os.environ.get("OMP_NUM_THREADS", "")
        wanted = int(threads) if threads.isdecimal() else 0
        options.intra_op_num_threads = wanted or max(1, int(available_cores()[0]))
        check_threads(options.intra_op_num_threads)
        return InferenceSession(
            self._graph or str(self.folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )

    def __getstate__(self) -> dict[str, Any]:
        graph = self._graph or (self.folder / MODEL_FILE).read_bytes()
        return {**self.__dict__, "_graph": graph, "_session": None}  # a process that opens the pickle makes its own


def _check_file(file: Path, sha256: object) -> str:
    "The SHA-256 of a file. `ModelError` where it is another than the settings say, or the file cannot be read."
    try:
        digest = file_sha256(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({first_line(error)}); {_GET_ANEW}") from error
    if digest != sha256:
        raise ModelError(f"{file} is not the file that {SETTINGS_FILE} describes; {_GET_ANEW}")
    return digest


def _config(folder: Path, settings: dict[str, Any]) -> Any:
    "What is asked of a transformers config, from an export's settings. `ModelError` where they are not whole."
    try:
        labels, multi_label = list(map(str, settings["labels"])), bool(settings["multi_label"])
        thresholds = dict(zip(labels, map(float, settings["thresholds"] or ()), strict=multi_label))
        if wrong := [f"the threshold {each}" for each in thresholds.values() if not 0 <= each <= 1]:
            raise ValueError(f"{wrong[0]} is not a number from 0 to 1")
        if int(settings["max_length"]) < 3:
            raise ValueError(f"max_length is {settings['max_length']}")
        return SimpleNamespace(
            id2label=dict(enumerate(labels)),
            num_labels=len(labels),
            problem_type=f"{'multi' if multi_label else 'single'}_label_classification",
            emo_nb_thresholds=thresholds,
            emo_nb_temperature=settings.get("temperature"),
            emo_nb_window_pooling=settings.get("window_pooling", "mean"),  # earlier exports lack it, and the next
            emo_nb_classes=settings.get("classes"),
            pad_token_id=int(settings["pad_token_id"]),
            max_length=int(settings["max_length"]),
            model_type="onnx",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / SETTINGS_FILE} lacks a setting or has a wrong one ({first_line(error)}); {_GET_ANEW}"
        ) from error


class JsonTokenizer:
    "A tokenizer of one JSON file, asked as transformers' tokenizers are."

    def __init__(self, folder: Path, max_length: int, pad_token_id: int = 0):
        from tokenizers import Tokenizer

        file = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers has no error of its own
            raise ModelError(f"{file} cannot be read as a tokenizer ({first_line(error)}); {_GET_ANEW}") from error
        self._tokenizer.no_padding()
        self.model_max_length, self.pad_token_id = max_length, pad_token_id

    def num_special_tokens_to_add(self) -> int:
        "How many tokens stand around those of a text."
        return int(self._tokenizer.num_special_tokens_to_add(False))

    def __call__(
        self,
        texts: list[str],
        truncation: bool = False,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        "Token ids of each text or, with `return_overflowing_tokens`, of each window, with the number of its text."
        if truncation:
            self._tokenizer.enable_truncation(max_length or self.model_max_length, stride=stride)
        else:
            self._tokenizer.no_truncation()
        ids, owners = [], []
        for number, encoding in enumerate(self._tokenizer.encode_batch(texts)):
            windows = [encoding, *(encoding.overflowing if return_overflowing_tokens else ())]
            ids += [window.ids for window in windows]
            owners += [number] * len(windows)
        return {"input_ids": ids, "overflow_to_sample_mapping": owners}


def open_export(folder: str | Path) -> tuple[OnnxCheckpoint, JsonTokenizer]:
    "An exported classifier and its tokenizer. Raises `ModelError` where its files do not belong together."
    checkpoint = OnnxCheckpoint(folder)
    return checkpoint, JsonTokenizer(Path(folder), checkpoint.config.max_length, checkpoint.config.pad_token_id)
