"""A model's folder is checked before it is used: its settings, labels, weights and tokenizer must belong together.

A folder may come from anywhere. Code and pickles in it are refused by name, never run. Weights must be safetensors,
finite, and exactly those that the settings ask for: transformers fills missing ones with random numbers and drops
superfluous ones with no more than a log line. `load_checkpoint` returns one type, `Checkpoint`, whatever the
architecture and the machine; it builds the transformers model only when one is needed, because importing
transformers' model code takes longer than reading the weights.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core import RESERVED_COLUMNS, ModelError, first_line, logger, read_json_object, warn_once

GET_ANEW = "get the model anew"
PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

# Weights that older files hold beside what is learnt: positions, segments and attention masks
_BUFFERS = (
    *("position_ids", "token_type_ids", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias"),
    "rotary_emb.inv_freq",
)

_NO_LIMIT = 10**9  # tokens; transformers writes 1e30 where a tokenizer knows none
_TWO_HALVES = "a model of an encoder and a decoder is not trained as a classifier here"
_COMPANY = "with this architecture, an answer would depend on the other texts of its batch"
_NOT_TRAINED = {
    **dict.fromkeys(("t5", "mt5", "umt5"), _TWO_HALVES),
    "xmod": "this architecture has to be told the language of each text",
    **dict.fromkeys(("nystromformer", "yoso", "reformer"), _COMPANY),
    "xlnet": "this architecture's classifier reads the last place of a batch, which may be padding",
    "fnet": _COMPANY,
}

# Architectures whose position ids begin at 0; the others' begin after the padding token's id.
_POSITIONS_FROM_ZERO = ("bert", "distilbert", "electra", "albert", "mobilebert", "deberta", "deberta-v2", "modernbert")


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
        return Checkpoint(config, _bert_weights(config, files[0]))
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
    "Raise `ModelError` unless all are names, all differ, and none is that of another column of the results."
    names = list(names)
    if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise ModelError(f"{where}: the label {wrong[0]!r} is not a name; give it one")
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ModelError(f"{where}: two labels are called {doubled[0]!r}; rename one")
    if taken := [name for name in names if name in RESERVED_COLUMNS]:
        raise ModelError(f"{where}: the label {taken[0]!r} has the name of a column of the results; rename it")


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


def safetensors_files(folder: Path) -> list[Path]:
    "The safetensors files that hold a model's weights. `ModelError` names what is there in their place."
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        return _sharded_files(folder, index)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    why = f"; {pickles[0]} can run code when it is opened, and is refused" if pickles else ""
    raise ModelError(f"{folder} has no safetensors weights (no {whole.name}){why}: save the model as safetensors")


def _sharded_files(folder: Path, index: Path) -> list[Path]:
    parts = read_json_object(index, ModelError, GET_ANEW).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(name, str) for name in parts.values()):
        raise ModelError(f"{index} does not say which file holds which weights; get the model anew")
    files = [folder / name for name in sorted(set(parts.values()))]
    if foreign := [file for file in files if file.suffix != ".safetensors" or file.parent != folder]:
        raise ModelError(f"{index} names {foreign[0]}, which is not a safetensors file of its folder; {GET_ANEW}")
    if missing := [file for file in files if not file.is_file()]:
        raise ModelError(f"{missing[0]} is missing, a part of the model's weights; get it, or the model anew")
    return files


def check_weights(files: Sequence[Path]) -> int:
    """How many numbers the files hold. `ModelError` where a file is damaged, or weights are not finite fractions.

    numpy looks at them: torch would start its threads, and a process that has threads must not fork.
    """
    from safetensors import safe_open

    count = 0
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (it is not a dict)
                    count += (weights := tensors.get_tensor(name)).numel()
                    if problem := _weight_problem(name, weights):
                        raise ModelError(
                            f"{file}: the weights {name} {problem}; get the file anew, or use another model"
                        )
        except ModelError:
            raise
        except Exception as error:  # safetensors has errors of its own
            raise ModelError(f"{file} is not a complete safetensors file ({first_line(error)}); get it anew") from error
    return count


def _weight_problem(name: str, weights: Any) -> str:
    "What is wrong with a tensor of weights; an empty string where nothing is."
    import torch

    if not weights.is_floating_point():
        return "" if name.endswith(_BUFFERS) else f"are not fractions ({weights.dtype})"
    if weights.dtype == torch.bfloat16:  # which numpy does not know: infinity and NaN have all bits of the exponent set
        is_finite = (weights.view(torch.int16).numpy() & 0x7F80) != 0x7F80
    elif weights.dtype in (torch.float16, torch.float32, torch.float64):
        is_finite = np.isfinite(weights.numpy())
    else:
        return f"have a format that is not supported ({weights.dtype})"
    return "" if is_finite.all() else "hold NaN or infinity"


def _no_name(name: str) -> bool:
    return False


def check_loading_report(
    report: dict[str, Any],  # transformers' `output_loading_info`
    where: Path | str,
    may_be_missing: Callable[[str], bool] = _no_name,
    may_be_unexpected: Callable[[str], bool] = _no_name,
) -> None:
    """Raise `ModelError` where a folder's weights are not those that its config asks for.

    What may be missing may have another shape as well, as the head of a classifier for other labels.
    """
    mismatched = (names for names in report["mismatched_keys"] if not may_be_missing(names[0]))
    for name, stored, wanted in sorted(mismatched):
        shapes = f"have the shape {tuple(stored)}, and should have {tuple(wanted)}"
        raise ModelError(f"{where}: the weights {name} {shapes}: they are another model's; get the model anew")
    if missing := sorted(name for name in report["missing_keys"] if not may_be_missing(name)):
        raise ModelError(f"{where}: the weights {missing[0]} are missing; get the model anew")
    names = (name for name in report["unexpected_keys"] if not name.endswith(_BUFFERS))
    if unexpected := sorted(name for name in names if not may_be_unexpected(name)):
        raise ModelError(
            f"{where}: config.json asks for no weights {unexpected[0]}, which are there; get the model anew"
        )


def encoder_differences(model: Any, added: str = ".pooler.") -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """For `check_loading_report` of an encoder opened as a classifier: which weights may be missing, and unexpected.

    Missing: the head, the pooler, and names that contain `added`. Unexpected: those outside the encoder.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}

    def may_be_missing(name: str) -> bool:
        return not name.startswith(prefix) or ".pooler." in name or added in name

    def may_be_unexpected(name: str) -> bool:
        return name.removeprefix(prefix).split(".")[0] not in parts

    return may_be_missing, may_be_unexpected


@contextmanager
def quiet_transformers() -> Iterator[None]:
    "Without transformers' log lines and bars, which report weights that are meant to be new, and future changes."
    import warnings

    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def renew_head(model: Any, report: dict[str, Any], name: str) -> None:
    "Give a classifier a new head where its folder brought one, whose labels are others; that is logged."
    head = [child for part, child in model.named_children() if part != model.base_model_prefix]
    new = set(report["missing_keys"])
    brought = [part for part, _ in model.named_parameters() if not part.startswith(f"{model.base_model_prefix}.")]
    if all(part in new for part in brought):
        return
    logger.info("%s brings a classification head for other labels; it is replaced by a new one", name)
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
    if why := _NOT_TRAINED.get(kind) or (getattr(config, "is_encoder_decoder", False) and _TWO_HALVES):
        raise ModelError(f"{folder}: {why} ({kind}); use another encoder, such as minilm")


def open_classifier(folder: Path, config: Any, dtype: str = "auto") -> tuple[Any, dict[str, Any]]:
    """The transformers classifier of a folder, and its report of missing, unexpected and mismatched weights.

    dtype is the number format of its weights, `auto` that of the files. Where each name of the weights begins with
    `module.`, as torch's wrapper for several GPUs leaves them, it is taken away.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    files = safetensors_files(folder)
    stored, is_wrapped = check_weights(files), _are_wrapped(files)
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


def _are_wrapped(files: Sequence[Path]) -> bool:
    "Whether the names of the weights begin with the prefix that torch's wrapper for several GPUs leaves."
    from safetensors import safe_open

    with safe_open(files[0], "pt") as tensors:
        return all(name.startswith("module.") for name in tensors.keys())  # noqa: SIM118 (it is not a dict)


def is_plain_bert(config: Any) -> bool:
    "Whether a config describes a BERT classifier as transformers saves one, whose weights `_bert_shapes` lists."
    heads = config.num_attention_heads if config.model_type == "bert" else 0
    known = heads > 0 and config.num_hidden_layers > 0 and config.hidden_size % heads == 0
    return known and not config.is_decoder and config.architectures == ["BertForSequenceClassification"]


def _bert_weights(config: Any, file: Path) -> dict[str, Any]:
    """The weights of a plain BERT classifier, also by the names that TensorFlow and torch's wrapper for GPUs gave them.

    Raises `ModelError` where they are not those that the config asks for.
    """
    from safetensors.torch import load_file

    new_names = {".gamma": ".weight", ".beta": ".bias"}
    weights = {name.removeprefix("module."): tensor for name, tensor in load_file(file).items()}
    for name in [name for name in weights if name.endswith(tuple(new_names))]:
        stem, _, ending = name.rpartition(".")
        weights[stem + new_names[f".{ending}"]] = weights.pop(name)
    wanted, stored = _bert_shapes(config), {name: tuple(tensor.shape) for name, tensor in weights.items()}
    both = wanted.keys() & stored.keys()
    report = {
        "missing_keys": wanted.keys() - stored.keys(),
        "unexpected_keys": stored.keys() - wanted.keys(),
        "mismatched_keys": {(name, stored[name], wanted[name]) for name in both if stored[name] != wanted[name]},
    }
    check_loading_report(report, file)
    return {name: weights[name] for name in wanted}


def _bert_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    "The name and the shape of every weight of a BERT classifier with this config."
    d, f = config.hidden_size, config.intermediate_size
    linear = {f"attention.{name}": (d, d) for name in ("self.query", "self.key", "self.value", "output.dense")}
    linear |= {"intermediate.dense": (f, d), "output.dense": (d, f)}
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    layers = [f"bert.encoder.layer.{i}." for i in range(config.num_hidden_layers)]
    with_bias = {layer + name: shape for layer in layers for name, shape in linear.items()}
    with_bias |= {"bert.pooler.dense": (d, d), "classifier": (config.num_labels, d)}
    rows = {"word": config.vocab_size, "position": config.max_position_embeddings, "token_type": config.type_vocab_size}
    shapes: dict[str, tuple[int, ...]] = {
        f"bert.embeddings.{name}_embeddings.weight": (n, d) for name, n in rows.items()
    }
    for name in ("bert.embeddings.LayerNorm", *(layer + norm for layer in layers for norm in norms)):
        shapes |= {f"{name}.weight": (d,), f"{name}.bias": (d,)}
    for name, shape in with_bias.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def is_decoder(config: Any) -> bool:
    "Whether a token sees only those before it, so that the last one has read the text."
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as causal
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as masked

    return config.model_type in causal and config.model_type not in masked


def padding_token(tokenizer: Any, folder: Path) -> str:
    """A token of the tokenizer to fill batches up with, of a decoder, which reads the last token that is another one.

    It should therefore not be one that the tokenizer ends a text with; where there is no other, a warning says so.
    Raises `ModelError` where the tokenizer has no special token at all.
    """
    ids = tokenizer("a")["input_ids"]
    known = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, *tokenizer.all_special_tokens)
    tokens = [str(token) for token in known if token is not None]
    if not tokens:
        raise ModelError(f"{folder}: its tokenizer has no token to fill batches up with (pad_token); set one")
    if free := [token for token in tokens if tokenizer.convert_tokens_to_ids(token) not in ids]:
        return free[0]
    warn_once(f"{folder}: {tokens[0]!r} ends each text and fills batches up as well; the token before it is read")
    return tokens[0]


def check_tokenizer(tokenizer: Any, config: Any, folder: Path) -> None:
    """Limit the tokenizer's maximal length to the model's number of positions, or to 512 where neither has a limit.

    Raises `ModelError` where tokenizer and model do not belong together.
    """
    longest, vocabulary = tokenizer.model_max_length, config.vocab_size
    if not _is_finite(longest) or longest < 4:
        raise ModelError(
            f"{folder}: the tokenizer's model_max_length {longest!r} leaves no room for a text; correct it"
        )
    if (last := max(tokenizer.get_vocab().values(), default=-1)) >= vocabulary:
        raise ModelError(
            f"{folder}: the tokenizer numbers its tokens up to {last}, but config.json gives the model {vocabulary}; "
            "get the tokenizer that belongs to the model"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:  # XLNet, which has no limit, says -1
        from_zero = config.model_type in _POSITIONS_FROM_ZERO or is_decoder(config)
        longest = min(longest, positions - (0 if from_zero else (config.pad_token_id or 0) + 1))
        if longest < 4:
            raise ModelError(
                f"{folder}: config.json gives the model {positions} positions, too few for a text; use another"
            )
    tokenizer.model_max_length = longest if longest < _NO_LIMIT else 512
