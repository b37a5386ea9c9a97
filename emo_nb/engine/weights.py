"""Weights of a model's folder: which files hold them, whether they are sound, whether they are those that are asked for.

Weights must be safetensors, finite, and exactly those that the settings ask for: transformers fills missing ones with
random numbers and drops superfluous ones with no more than a log line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import ModelError, first_line, read_json_object

GET_ANEW = "get the model anew"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

# Weights that older files hold beside what is learnt: positions, segments and attention masks
_BUFFERS = (
    *("position_ids", "token_type_ids", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias"),
    "rotary_emb.inv_freq",
)


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


def are_wrapped(files: Sequence[Path]) -> bool:
    "Whether the names of the weights begin with the prefix that torch's wrapper for several GPUs leaves."
    from safetensors import safe_open

    with safe_open(files[0], "pt") as tensors:
        return all(name.startswith("module.") for name in tensors.keys())  # noqa: SIM118 (it is not a dict)


def is_plain_bert(config: Any) -> bool:
    "Whether a config describes a BERT classifier as transformers saves one, whose weights `_bert_shapes` lists."
    heads = config.num_attention_heads if config.model_type == "bert" else 0
    known = heads > 0 and config.num_hidden_layers > 0 and config.hidden_size % heads == 0
    return known and not config.is_decoder and config.architectures == ["BertForSequenceClassification"]


def bert_weights(config: Any, file: Path) -> dict[str, Any]:
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
