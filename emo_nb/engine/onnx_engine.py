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
from .threads import available_cores

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
        try:
            self.digest = file_sha256(self.folder / MODEL_FILE)
        except OSError as error:
            raise ModelError(f"{self.folder / MODEL_FILE} cannot be read ({first_line(error)}); {_GET_ANEW}") from error
        if self.digest != settings.get("sha256"):
            raise ModelError(f"{self.folder / MODEL_FILE} is not the file that {SETTINGS_FILE} describes; {_GET_ANEW}")
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
        if self._session is None:
            from onnxruntime import InferenceSession, SessionOptions

            options = SessionOptions()
            threads = os.environ.get("OMP_NUM_THREADS", "")
            options.intra_op_num_threads = int(threads) if threads.isdecimal() else max(1, int(available_cores()[0]))
            source = self._graph or str(self.folder / MODEL_FILE)
            self._session = InferenceSession(source, options, providers=["CPUExecutionProvider"])
        feeds = dict(zip(INPUTS, (ids.astype(np.int64), mask.astype(np.int64)), strict=True))
        return np.asarray(self._session.run(OUTPUTS[:1], feeds)[0], dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        graph = self._graph or (self.folder / MODEL_FILE).read_bytes()
        return {**self.__dict__, "_graph": graph, "_session": None}  # a process that opens the pickle makes its own


def _config(folder: Path, settings: dict[str, Any]) -> Any:
    "What is asked of a transformers config, from an export's settings. `ModelError` where they are not whole."
    try:
        labels, multi_label = list(map(str, settings["labels"])), bool(settings["multi_label"])
        thresholds = dict(zip(labels, map(float, settings["thresholds"] or ()), strict=multi_label))
        return SimpleNamespace(
            id2label=dict(enumerate(labels)),
            num_labels=len(labels),
            problem_type=f"{'multi' if multi_label else 'single'}_label_classification",
            emo_nb_thresholds=thresholds,
            emo_nb_temperature=settings.get("temperature"),
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

    def __init__(self, folder: Path, max_length: int):
        from tokenizers import Tokenizer

        file = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers has no error of its own
            raise ModelError(f"{file} cannot be read as a tokenizer ({first_line(error)}); {_GET_ANEW}") from error
        self._tokenizer.no_padding()
        self.model_max_length = max_length

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
    return checkpoint, JsonTokenizer(Path(folder), checkpoint.config.max_length)
