"""A model's forward pass with less work: a copy laid out for prediction, and layers that train with fewer products.

For prediction, a BERT on a CPU becomes a `FastBert`; any other model is copied to the device and number format. For
training, `fast_training` replaces the forward function of some layers while it lasts: the last layer computes each
text's first token only and, on a CPU, each layer with LoRA is one product in place of three; in bfloat16, the
embeddings come in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .device import Backend, best_cpu_dtype


def prepare_for_inference(checkpoint: Any, backend: Backend) -> Any:
    "A copy of a classifier (a `Checkpoint`) that only predicts, on the backend's device and in its number format."
    from copy import deepcopy

    import torch

    dtype = getattr(torch, backend.dtype)
    if backend.device == "cpu" and backend.dtype in ("float32", "float16", best_cpu_dtype()[0]):
        from .fast_bert import FastBert, supports_fast_bert

        if supports_fast_bert(checkpoint.config) and not checkpoint.has_adapter:
            return FastBert(checkpoint, dtype)
    if backend.device == "cpu" and backend.dtype == "float16":
        dtype = torch.float32
    model = deepcopy(checkpoint.model).to(backend.device, dtype).eval()
    model.set_attn_implementation(backend.attention_for())
    for module, forward in first_token_forward(model).items():
        module.forward = forward
    return model


@contextmanager
def fast_training(model: Any, backend: Backend, mean_length: float = 20) -> Iterator[None]:
    "While it lasts, the model computes the same with less work, on texts of this mean length in tokens."
    classifier = model.get_base_model() if hasattr(model, "get_base_model") else model
    classifier.set_attn_implementation(backend.attention_for(mean_length))
    replaced = first_token_forward(classifier)
    if backend.device == "cpu":
        replaced |= merged_lora_forwards(model, backend.dtype)
    if backend.device == "cpu" and backend.dtype == "bfloat16":
        replaced |= bfloat16_embeddings(model)
    with replaced_forwards(replaced):
        yield


@contextmanager
def replaced_forwards(forwards: dict[Any, Any]) -> Iterator[None]:
    "While it lasts, each module computes with the function given for it."
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def first_token_forward(model: Any) -> dict[Any, Any]:
    "{last layer: forward} that computes the first token only; empty unless `model` is a BERT classifier."
    from transformers.models.bert.modeling_bert import BertCrossAttention, BertForSequenceClassification

    if not isinstance(model, BertForSequenceClassification):
        return {}
    layer = model.bert.encoder.layer[-1]

    def forward(hidden_states: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
        first = hidden_states[:, :1]
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        context, _ = BertCrossAttention.forward(layer.attention.self, first, hidden_states, mask)
        return layer.feed_forward_chunk(layer.attention.output(context, first))

    return {layer: forward}


def bfloat16_embeddings(model: Any) -> dict[Any, Any]:
    "{embeddings: forward} that returns bfloat16, so that all residual sums are in it."
    modules = [module for name, module in model.named_modules() if name.endswith("bert.embeddings")]
    return {
        module: lambda *args, original=module.forward, **named: original(*args, **named).bfloat16()
        for module in modules
    }


def merged_lora_forwards(model: Any, dtype: str = "bfloat16") -> dict[Any, Any]:
    "{layer with LoRA: forward} that multiplies by weight + scale * B @ A, one product in this format in place of three."
    from peft.tuners.lora import Linear

    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and _is_plain_lora(layer)]
    return {layer: _merged_lora_forward(layer, dtype) for layer in layers}


def _is_plain_lora(layer: Any) -> bool:
    "Whether a layer is a linear one with one adapter, a bias, no dropout and no variant of LoRA."
    import torch

    adapters = layer.active_adapters
    return (
        isinstance(layer.base_layer, torch.nn.Linear)  # GPT-2's have their weights transposed
        and layer.base_layer.bias is not None
        and len(adapters) == 1
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[adapters[0]], torch.nn.Identity)
    )


def _merged_lora_forward(layer: Any, dtype: str) -> Any:
    import torch

    base = layer.base_layer
    weight, bias = (part.detach().to(getattr(torch, dtype)) for part in (base.weight, base.bias))
    adapter = layer.active_adapters[0]
    a, b, scale = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]
    function = _merged_lora_function()

    def forward(x: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return function.apply(x.to(weight.dtype), weight, bias, a, b, scale)

    return forward


def _merged_lora_function() -> Any:
    "The autograd function of a linear layer with LoRA merged into its weight; only A and B have gradients."
    import torch

    class MergedLora(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
            a, b = a.to(weight.dtype), b.to(weight.dtype) * scale
            weight, rows = torch.addmm(weight, b, a), x.flatten(0, -2)
            ctx.save_for_backward(rows, weight, a, b)
            ctx.scale = scale
            return torch.addmm(bias, rows, weight.T).unflatten(0, x.shape[:-1])

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            rows, weight, a, b = ctx.saved_tensors
            grad = grads[0].flatten(0, -2)
            grad_a, grad_b = (grad @ b).T @ rows, grad.T @ (rows @ a.T) * ctx.scale
            grad_x = (grad @ weight).unflatten(0, grads[0].shape[:-1]) if ctx.needs_input_grad[0] else None
            return grad_x, None, None, grad_a.float(), grad_b.float(), None

    return MergedLora
