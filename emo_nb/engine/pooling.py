"""How an encoder sums up a text in one vector, and how a classifier of transformers can do the same.

sentence-transformers writes down beside an encoder how it was trained to be read: the mean of the vectors of all
tokens, the vector of the first token or of the last, or something else. A classifier of transformers reads the first
token, or in a decoder the last. Where that is not the encoder's own pooling, there are two ways to it that plain
transformers opens: an option of the architecture (ModernBERT, EuroBERT), or one layer more, whose first token starts as
the mean of all. Where neither is available, the classifier begins from the token that it reads, and a warning says so.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..core import ModelError, logger, read_json_object
from .tokenizers import is_decoder
from .weights import GET_ANEW

# The poolings by sentence-transformers' names: as switches in its older settings, and in the newer ones
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # longer than the mean, which the next layer norm takes away
    "pooling_mode_max_tokens": "max",
    "pooling_mode_weightedmean_tokens": "weighted mean",
    "pooling_mode_lasttoken": "last",
}
_NEWER_NAMES = {"mean_sqrt_len_tokens": "mean", "weightedmean": "weighted mean", "lasttoken": "last"}


class MeanLayer(NamedTuple):
    "Where an architecture keeps its layers and, in one of them, the parts that make it a mean."

    layers: str  # below the encoder
    queries: tuple[str, ...]  # what a token looks for in the others
    value: str
    attention_output: str
    feed_forward_output: str
    norm: str  # the last of the layer


_BERT_LAYER = MeanLayer(
    "encoder.layer",
    ("attention.self.query",),
    "attention.self.value",
    "attention.output.dense",
    "output.dense",
    "output.LayerNorm",
)
_LLAMA_LAYER = MeanLayer(
    "layers", ("self_attn.q_proj",), "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj", "post_mlp_layernorm"
)
# Architectures whose layers normalise after they have added to the residual, and whose attention has queries and values
# of its own: ConvBERT's also has convolutions, and the first DeBERTa's has one layer for queries, keys and values
MEAN_LAYERS = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "rembert", "data2vec-text"), _BERT_LAYER
    ),
    "deberta-v2": _BERT_LAYER._replace(
        queries=("attention.self.query_proj", "attention.self.pos_query_proj"), value="attention.self.value_proj"
    ),
    "mpnet": _BERT_LAYER._replace(
        queries=("attention.attn.q",), value="attention.attn.v", attention_output="attention.attn.o"
    ),
    "distilbert": MeanLayer(
        "transformer.layer",
        ("attention.q_lin",),
        "attention.v_lin",
        "attention.out_lin",
        "ffn.lin2",
        "output_layer_norm",
    ),
    "gte": _LLAMA_LAYER,
    "nomic_bert": _LLAMA_LAYER,
}
# The linear layer with a tanh between the first token and the output layer; ELECTRA, DeBERTa and DistilBERT have others
_TANH_LAYERS = {
    **{name: f"{name}.pooler.dense" for name in ("bert", "ernie", "gte", "nomic_bert", "rembert")},
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text"), "classifier.dense"),
}
# The value of an architecture's own option `classifier_pooling` for each pooling that it knows
OWN_OPTIONS = {"modernbert": {"cls": "cls", "mean": "mean"}, "eurobert": {"cls": "bos", "mean": "mean"}}


def pooling_mode(folder: Path) -> str | None:
    """How an encoder was trained to sum up a text: `mean`, `cls`, `last`, or another way, as `max` or `cls + dense`.

    None where its folder does not say. Raises `ModelError` where that cannot be read.
    """
    steps = _steps(folder)
    paths = [path for kind, path in steps if kind == "Pooling"] or ["1_Pooling"]
    file = folder / paths[0] / "config.json"
    if not file.is_file():
        return None
    settings = read_json_object(file, ModelError, GET_ANEW)
    modes = [mode for switch, mode in _POOLINGS.items() if settings.get(switch)]
    if named := settings.get("pooling_mode"):
        modes = [_NEWER_NAMES.get(name, name) for name in map(str, named if isinstance(named, list) else [named])]
    others = [kind.lower() for kind, _ in steps if kind not in ("Transformer", "Pooling", "Normalize")]
    return " + ".join([*modes, *others]) or None


def _steps(folder: Path) -> list[tuple[str, str]]:
    "The kind and the folder of each of the steps that sentence-transformers takes with an encoder."
    file = folder / "modules.json"
    if not file.is_file():
        return []
    try:
        return [
            (str(step["type"]).rpartition(".")[2], str(step["path"])) for step in json.loads(file.read_text("utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file} does not list the steps of an encoder; {GET_ANEW}") from error


def choose_head(config: Any, pooling: str | None, name: str) -> str:
    """What a new classifier reads: `first`, `last`, the architecture's `option`, or the `mean` of an added layer.

    Changes the config accordingly. Where it is not the encoder's own pooling, a warning says so, with its name.
    """
    options, reads = OWN_OPTIONS.get(config.model_type), "last" if is_decoder(config) else "first"
    if options and pooling in (None, *options):
        config.classifier_pooling = options[pooling] if pooling else config.classifier_pooling
        return "option"
    if pooling in (None, "last" if reads == "last" else "cls"):
        return reads
    if pooling == "mean" and config.model_type in MEAN_LAYERS:
        config.num_hidden_layers += 1
        return "mean"
    logger.warning(
        "%s was trained to sum up a text by %s; a classifier of its kind (%s) cannot, and begins from %s",
        name,
        pooling,
        config.model_type,
        f"its option {config.classifier_pooling!r}" if options else f"the {reads} token",
    )
    return "option" if options else reads


def added_layer(model: Any) -> str:
    "The name, within the whole model, of the layer that starts as a mean."
    parts = MEAN_LAYERS[model.config.model_type]
    return f"{model.base_model_prefix}.{parts.layers}.{model.config.num_hidden_layers - 1}"


MEAN_SCALE = 4.0  # how many times the mean is added to the first token


def init_mean_pooling(model: Any) -> None:
    """Set the last layer of a classifier, and what its head begins with, so that the first token starts as the mean.

    The layer attends evenly (its queries are zero), its values are the identity, and its output is added to the first
    token `MEAN_SCALE` times, which outweighs the token itself. A pooler or a head with a tanh passes it on. MPNet's
    layers share a bias that depends on the distance between two tokens, so there the mean is weighted by it.
    """
    import torch

    parts, layer = MEAN_LAYERS[model.config.model_type], model.get_submodule(added_layer(model))
    with torch.no_grad():
        for name in (*parts.queries, parts.feed_forward_output):
            _set_linear(layer, name, 0.0)
        _set_linear(layer, parts.value, 1.0)
        _set_linear(layer, parts.attention_output, MEAN_SCALE)
        layer.get_submodule(parts.norm).weight.fill_(0.5)  # keeps the tanh where it is nearly linear
        if (tanh := _TANH_LAYERS.get(model.config.model_type)) is not None:
            _set_linear(model, tanh, 1.0)


def _set_linear(module: Any, name: str, factor: float) -> None:
    "Make a linear layer of a module, where there is one of this name, the identity times a factor."
    if (linear := dict(module.named_modules()).get(name)) is not None:
        linear.weight.zero_()
        linear.weight.fill_diagonal_(factor)
        if linear.bias is not None:
            linear.bias.zero_()
