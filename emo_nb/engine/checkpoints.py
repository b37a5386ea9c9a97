"""A model's folder is checked before it is used: its settings, labels, weights and tokenizer must belong together.

A folder may come from anywhere. Code and pickles in it are refused by name, never run; `weights` and `tokenizers` have
the checks of theirs. `load_checkpoint` returns one type, `Checkpoint`, whatever the
architecture and the machine; it builds the transformers model only when one is needed, because importing
transformers' model code takes longer than reading the weights.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from ..core import RESERVED_COLUMNS, ModelError, first_line, logger, read_json_object
from .weights import (
    GET_ANEW,
    are_wrapped,
    bert_weights,
    check_loading_report,
    check_weights,
    is_plain_bert,
    safetensors_files,
)

PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification")

_TWO_HALVES = "a model of an encoder and a decoder is not trained as a classifier here"
_COMPANY = "with this architecture, an answer would depend on the other texts of its batch"
_NOT_TRAINED = {
    **dict.fromkeys(("t5", "mt5", "umt5"), "transformers has no text classifier for the encoder alone"),
    **dict.fromkeys(("canine", "perceiver"), "this architecture reads characters or bytes, and has no vocabulary"),
    "xmod": "this architecture has to be told the language of each text",
    **dict.fromkeys(("nystromformer", "yoso", "reformer"), _COMPANY),
    "xlnet": "this architecture's classifier reads the last place of a batch, which may be padding",
    "fnet": _COMPANY,
}


class Checkpoint:
    "A classifier's settings and weights. `model` is the transformers model, built when first asked for."

    def __init__(self, config: Any, weights: dict[str, Any] | None = None, model: Any = None):
        self.config, self._weights, self._model = config, weights, model

    @property
    def model(self) -> Any:
        "The transformers classifier, in evaluation mode."
        if self._model is None:
            from transformers import BertForSequenceClassification  # of other families the model is given

            with quiet_transformers():
                model = BertForSequenceClassification.from_pretrained(
                    None, config=self.config, state_dict=self._weights
                )
            vars(self.config).update(vars(model.config))  # transformers copies the config and adds to the copy
            for module in model.modules():
                if hasattr(module, "config"):
                    module.config = self.config
            model.name_or_path = self.config.name_or_path
            self._model, self._weights = model.eval(), None
        return self._model

    @property
    def has_adapter(self) -> bool:
        "Whether peft's adapters are on the model."
        return hasattr(self._model, "peft_config")

    def state_dict(self) -> dict[str, Any]:
        "The weights by name, as in a torch model."
        return self._model.state_dict() if self._weights is None else self._weights

    def sha256(self) -> str:
        "What tells this model from another: a hash of its weights, labels and thresholds."
        import torch

        weights = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            content = tensor.cpu().contiguous().view(-1).view(torch.uint8)  # NumPy knows no bfloat16
            weights.update(name.encode() + content.numpy().tobytes())
        label_settings = {k: v for k, v in self.config.to_dict().items() if k.startswith(("emo_nb", "id2"))}
        weights.update(json.dumps(label_settings, sort_keys=True).encode())
        return weights.hexdigest()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a saved classifier.

    Raises `ModelError` where the folder holds none, or where settings and weights do not belong together.
    """
    with quiet_transformers():
        config = load_config(folder)
    check_classifier_config(config, folder / "config.json")
    files = safetensors_files(folder)
    if is_plain_bert(config) and files == [folder / "model.safetensors"]:
        check_weights(files)
        return Checkpoint(config, bert_weights(config, files[0]))
    model, report = open_classifier(folder, config)
    _check_has_head(model, report, folder)
    check_loading_report(report, folder, may_be_unexpected=lambda name: "pooler." in name)
    return Checkpoint(model.config, model=model.eval())  # whose config is a copy


def _check_has_head(model: Any, report: dict[str, Any], folder: Path) -> None:
    "Raise `ModelError` where a folder holds an encoder, whose classifier transformers has filled with random numbers."
    is_classifier = any("SequenceClassification" in name for name in model.config.architectures or ())
    if not is_classifier and any(not name.startswith(f"{model.base_model_prefix}.") for name in report["missing_keys"]):
        raise ModelError(
            f"{folder} holds an encoder without a classification head; train one with `emo-nb run --encoder {folder}`, "
            "or name a saved classifier"
        )


def load_config(folder: Path, **changes: Any) -> Any:
    """The transformers config of a model, with these changes.

    Raises `ModelError` where it cannot be read, asks for code of its own, or belongs to an adapter.
    """
    from transformers import AutoConfig

    file = folder / "config.json"
    if os.path.isfile(folder / "adapter_config.json"):
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json) without its encoder; give the folder of the whole model"
        )
    if not os.path.isfile(file):
        raise ModelError(f"{folder} is not a saved model (no config.json); give a run directory or a model folder")
    if "auto_map" in read_json_object(file, ModelError, GET_ANEW):
        raise ModelError(f"{file} asks for code of its own (auto_map), which is never run; use a model without any")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, **changes)
    except Exception as error:  # each architecture has errors of its own
        raise ModelError(
            f"{file} describes no model that transformers knows ({first_line(error)}); use another"
        ) from error


def check_label_names(names: Sequence[Any], where: Path | str) -> None:
    "Raise `ModelError` unless all are names without a `|`, all differ, and none is that of another column of the results."
    names = list(names)
    if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise ModelError(f"{where}: the label {wrong[0]!r} is not a name; give it one")
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ModelError(f"{where}: two labels are called {doubled[0]!r}; rename one")
    if taken := [name for name in names if name in RESERVED_COLUMNS]:
        raise ModelError(f"{where}: the label {taken[0]!r} has the name of a column of the results; rename it")
    if joined := [name for name in names if "|" in name]:
        raise ModelError(f"{where}: the label {joined[0]!r} has a '|', which separates labels in results; rename it")


def check_classifier_config(config: Any, file: Path) -> None:
    "Raise `ModelError` where a classifier's config (read from `file`) contradicts itself."
    names, numbers = config.id2label, config.label2id or {}
    if not names or sorted(names) != list(range(len(names))):
        raise ModelError(f"{file}: id2label does not number its labels from 0 on; correct it, or get the model anew")
    check_label_names([names[i] for i in range(len(names))], file)
    stated = read_json_object(file, ModelError, GET_ANEW).get("num_labels", len(names))
    if stated != len(names) or any(numbers.get(name, i) != i for i, name in names.items()):
        raise ModelError(f"{file}: id2label, label2id and num_labels contradict each other; get the model anew")
    if config.problem_type not in PROBLEM_TYPES:
        raise ModelError(f"{file}: the problem_type {config.problem_type!r} is not a classification; use another model")
    pad, vocabulary = config.pad_token_id, config.vocab_size
    if pad is not None and not 0 <= pad < vocabulary:
        raise ModelError(
            f"{file}: the pad_token_id {pad} is outside the vocabulary of {vocabulary}; get the model anew"
        )
    _check_calibration(config, file)


def _check_calibration(config: Any, file: Path) -> None:
    "Raise `ModelError` where thresholds or temperature are not numbers in their range, or name unknown labels."
    thresholds, temperature = getattr(config, "emo_nb_thresholds", {}), getattr(config, "emo_nb_temperature", 1)
    if not isinstance(thresholds, dict) or not all(_is_finite(t) and 0 <= t <= 1 for t in thresholds.values()):
        raise ModelError(f"{file}: emo_nb_thresholds must map labels to numbers from 0 to 1; correct or remove it")
    if unknown := sorted(set(thresholds) - set(config.id2label.values())):
        raise ModelError(f"{file}: emo_nb_thresholds names {unknown[0]!r}, which is not a label; correct or remove it")
    if not _is_finite(temperature) or temperature <= 0:
        raise ModelError(f"{file}: emo_nb_temperature must be a number above 0; correct or remove it")


def _is_finite(value: Any) -> bool:
    "Whether a value is a finite number, and not True or False."
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_multi_label(config: Any) -> bool:
    """Whether each label has a probability of its own: its logit's sigmoid, not a share of the softmax.

    As in transformers' pipeline, a classifier with one output counts as such: the softmax of one number is always 1.
    """
    return config.problem_type == "multi_label_classification" or config.num_labels == 1


def label_names(config: Any) -> list[str]:
    "The labels of a classifier, in the order of its outputs."
    return [config.id2label[i] for i in range(config.num_labels)]


def saved_thresholds(config: Any) -> np.ndarray | None:
    "From which probability on each label counts, (n_labels,), by default 0.5; None for a single-label model."
    saved = getattr(config, "emo_nb_thresholds", {})
    return np.array([saved.get(label, 0.5) for label in label_names(config)]) if is_multi_label(config) else None


_QUIET, _quiet_blocks, _loud_again = RLock(), 0, ExitStack()  # what is quiet is so for all threads of a process


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' log lines and bars, which report weights that are meant to be new, and future changes.

    Where threads are in such blocks together, the last to leave makes the process as loud as it was before the first.
    """
    global _quiet_blocks
    with _QUIET:
        if not _quiet_blocks:
            _silence(_loud_again)
        _quiet_blocks += 1
    try:
        yield
    finally:
        with _QUIET:
            _quiet_blocks -= 1
            if not _quiet_blocks:
                _loud_again.close()


def _silence(afterwards: ExitStack) -> None:
    "Silence transformers and warnings; `afterwards` restores what was."
    import warnings

    from transformers.utils import logging

    afterwards.callback(logging.set_verbosity, logging.get_verbosity())
    if logging.is_progress_bar_enabled():
        afterwards.callback(logging.enable_progress_bar)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    afterwards.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")


def renew_head(model: Any, report: dict[str, Any], name: str) -> None:
    "Give a classifier a new head where its folder brought one; a warning says so."
    head = [child for part, child in model.named_children() if part != model.base_model_prefix]
    new = set(report["missing_keys"])
    brought = [part for part, _ in model.named_parameters() if not part.startswith(f"{model.base_model_prefix}.")]
    if all(part in new for part in brought):
        return
    logger.warning(
        "%s brings a classification head; it is replaced by a new one, for the labels of this training", name
    )
    for child in head:
        for parameter in child.parameters():
            parameter._is_hf_initialized = False  # or transformers would leave it as it is
        child.apply(model._init_weights)


def check_can_classify(config: Any, folder: Path) -> None:
    "Raise `ModelError` where an architecture has no classifier that can be trained on batches of texts."
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as classifiers

    kind = config.model_type
    if kind not in classifiers:
        raise ModelError(f"{folder}: transformers has no text classifier of this kind ({kind}); use another encoder")
    if why := (getattr(config, "is_encoder_decoder", False) and _TWO_HALVES) or _NOT_TRAINED.get(kind):
        raise ModelError(f"{folder}: {why} ({kind}); use another encoder, such as minilm")


def open_classifier(folder: Path, config: Any, dtype: str = "auto") -> tuple[Any, dict[str, Any]]:
    """The transformers classifier of a folder, and its report of missing, unexpected and mismatched weights.

    dtype is the number format of its weights, `auto` that of the files. Where each name of the weights begins with
    `module.`, as torch's wrapper for several GPUs leaves them, it is taken away.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    files = safetensors_files(folder)
    stored, is_wrapped = check_weights(files), are_wrapped(files)
    options = {"use_safetensors": True, "trust_remote_code": False, "attn_implementation": "eager", "dtype": dtype}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # they are in the report
    try:
        with quiet_transformers():
            with torch.device("meta"):  # takes no memory
                wanted = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
            if wanted.num_parameters() > 2 * stored:
                raise ModelError(
                    f"{folder}: its weights are {stored:,} numbers, but config.json asks for "
                    f"{wanted.num_parameters():,}; {GET_ANEW}"
                )
            if is_wrapped:
                options["key_mapping"] = {r"^module\.": ""}
            model, report = AutoModelForSequenceClassification.from_pretrained(folder, config=config, **options)
            if is_wrapped:
                model._weight_conversions = None  # or transformers would put the prefix back on saving
            return model, report
    except ModelError:
        raise
    except Exception as error:  # each architecture has errors of its own
        raise ModelError(
            f"{folder} cannot be opened as a classifier ({first_line(error)}); use another model"
        ) from error
