"""A BERT classifier's forward pass in as few steps as prediction on a CPU needs.

The same arithmetic as transformers' `BertForSequenceClassification`, without what only training needs:

- query, key and value are one matrix product, and every weight matrix is laid out once in oneDNN's own order;
- activation and residual sum are computed while a product is still in the cache;
- the last layer computes each text's first token only, because the classifier reads no other;
- batches are padded with empty rows to a round number of tokens, because oneDNN prepares its kernels anew for every
  shape that it has not met;
- for a few short texts, where reading the weights takes longer than multiplying, they are kept in float16 and
  multiplied in float32.

Attention always sums over at least 16 positions, so that a text's probabilities do not depend on the length of the
others in its batch.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F

from .weights import is_plain_bert
from .device import FUSED_ATTENTION_FROM


def supports_fast_bert(config: Any) -> bool:
    "Whether a config describes a model that `FastBert` computes, and torch has the products that it needs."
    has_products = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return has_products and is_plain_bert(config) and config.hidden_act == "gelu"


class PackedLinear:
    "One or more linear layers of the same input as one product, the weights in oneDNN's layout."

    def __init__(self, *layers: tuple[torch.Tensor, torch.Tensor]):  # weight and bias of each
        weights, biases = zip(*layers, strict=True)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), None)
        self.bias = torch.cat(biases)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        "x @ weight.T + bias."
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        "The same, through GELU."
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        "The same, plus another tensor of its shape."
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")


class Float16Linear(PackedLinear):
    "The same with weights in float16, which are multiplied and summed in float32."

    def __init__(self, *layers: tuple[torch.Tensor, torch.Tensor]):
        weights, biases = (torch.cat(parts) for parts in zip(*layers, strict=True))
        self.packed = torch.ops.quantized.linear_prepack_fp16(weights, biases)

    @staticmethod
    def is_available() -> bool:
        "Whether torch has this product on this machine."
        return torch.backends.quantized.engine in ("x86", "fbgemm")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        "x @ weight.T + bias."
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        "The same, through GELU."
        return F.gelu(self(x))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        "The same, plus another tensor of its shape."
        return self(x).add_(other)


class _FastBertLayer:
    "One layer; with `first_token_only`, it computes each text's first token only."

    def __init__(self, weights: dict[str, torch.Tensor], config: Any, first_token_only: bool, pack: type[PackedLinear]):
        def part(name: str, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
            return weights[f"{name}.weight"] * scale, weights[f"{name}.bias"] * scale

        self.heads, self.eps, self.first_token_only = (
            config.num_attention_heads,
            config.layer_norm_eps,
            first_token_only,
        )
        query = part("attention.self.query", (config.hidden_size // self.heads) ** -0.5)
        key, value = part("attention.self.key"), part("attention.self.value")
        self.projections = [pack(query), pack(key, value)] if first_token_only else [pack(query, key, value)]
        self.output, self.output_norm = pack(part("attention.output.dense")), part("attention.output.LayerNorm")
        self.up, self.down = pack(part("intermediate.dense")), pack(part("output.dense"))
        self.norm = part("output.LayerNorm")

    def __call__(self, x: torch.Tensor, texts: int, length: int, mask_bias: torch.Tensor | None) -> torch.Tensor:
        "From (tokens, width) to the same, or to (texts, width); `mask_bias` is added to the attention scores."
        tokens = texts * length
        if self.first_token_only:
            (key, value) = self._split_heads(self.projections[1](x)[:tokens], texts, length, 2)
            x, tokens = F.pad(x[:tokens:length], (0, 0, 0, -texts % 4)), texts
            (query,) = self._split_heads(self.projections[0](x)[:tokens], texts, 1, 1)
        else:
            query, key, value = self._split_heads(self.projections[0](x)[:tokens], texts, length, 3)
        context = torch.zeros_like(x)
        context[:tokens].view(texts, -1, *query.shape[1::2]).copy_(_attention(query, key, value, mask_bias))
        x = torch.layer_norm(self.output.plus(context, x), x.shape[1:], *self.output_norm, self.eps)
        return torch.layer_norm(self.down.plus(self.up.gelu(x), x), x.shape[1:], *self.norm, self.eps)

    def _split_heads(self, x: torch.Tensor, texts: int, length: int, parts: int) -> tuple[torch.Tensor, ...]:
        "(tokens, parts * width) as `parts` tensors of (texts, heads, length, width of a head)."
        return x.view(texts, length, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask_bias: torch.Tensor | None
) -> torch.Tensor:
    "Attention, (texts, length, heads, width of a head), from queries that are scaled already."
    if query.dtype == torch.float32 and key.shape[2] >= FUSED_ATTENTION_FROM:
        return F.scaled_dot_product_attention(query, key, value, mask_bias, scale=1.0).transpose(1, 2)
    scores, length = (query @ key.transpose(2, 3)).float(), key.shape[2]
    if mask_bias is not None:
        scores += mask_bias
    scores = F.pad(scores, (0, max(16 - length, 0)), value=-torch.inf)  # softmax sums fewer than 16 in another order
    return (scores.softmax(-1)[..., :length].to(value.dtype) @ value).transpose(1, 2)


class FastBert:
    """A BERT classifier for prediction on the CPU: token ids and attention mask in, logits out.

    `checkpoint` is a `Checkpoint` or a transformers model: anything with `config` and `state_dict()`. With
    `torch.float16` the weights of the layers are stored in float16, and everything is computed in float32.
    """

    def __init__(self, checkpoint: Any, dtype: torch.dtype = torch.float32):
        self.config, self.device = checkpoint.config, torch.device("cpu")
        pack = Float16Linear if dtype == torch.float16 and Float16Linear.is_available() else PackedLinear
        dtype = torch.float32 if dtype == torch.float16 else dtype
        weights = {name: weight.detach().to(dtype) for name, weight in checkpoint.state_dict().items()}

        def below(prefix: str) -> dict[str, torch.Tensor]:
            return {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}

        embeddings, count = below("bert.embeddings."), self.config.num_hidden_layers
        self.words = embeddings["word_embeddings.weight"]
        self.positions = embeddings["position_embeddings.weight"] + embeddings["token_type_embeddings.weight"][0]
        self.norm = (embeddings["LayerNorm.weight"], embeddings["LayerNorm.bias"], self.config.layer_norm_eps)
        layers = [below(f"bert.encoder.layer.{i}.") for i in range(count)]
        self.layers = [_FastBertLayer(each, self.config, i == count - 1, pack) for i, each in enumerate(layers)]
        self.head = [{k: v.float() for k, v in below(name).items()} for name in ("bert.pooler.dense.", "classifier.")]

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        "Both (texts, length); the result's `logits` are (texts, labels)."
        padding = -input_ids.shape[1] % 16 if input_ids.shape[1] > 64 else 0
        padding = min(padding, len(self.positions) - input_ids.shape[1])
        input_ids, attention_mask = F.pad(input_ids, (0, padding)), F.pad(attention_mask, (0, padding))
        texts, length = input_ids.shape
        x = F.embedding(input_ids, self.words) + self.positions[:length]
        x = torch.layer_norm(x, x.shape[2:], *self.norm).flatten(0, 1)
        x = F.pad(x, (0, 0, 0, -len(x) % (128 if len(x) > 128 else 4)))
        mask_bias = None
        if not attention_mask.all():
            mask_bias = (1 - attention_mask[:, None, None].float()) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, texts, length, mask_bias)
        pooler, classifier = self.head
        return SimpleNamespace(logits=F.linear(F.linear(x[:texts].float(), **pooler).tanh(), **classifier))
