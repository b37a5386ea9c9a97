"""An ONNX model in 8 bits: which products are computed with integers, and how the other weights are stored.

Dynamic quantization as it is commonly done, of every product with one scale a tensor, changes what a small encoder
says, because a few channels of BERT's activations are ten times as large as the rest and use up the 256 steps. Here

- activations are divided by a factor for each channel, by which the weights are multiplied, so that the large channels
  no longer decide the scale (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438);
- weights have a scale and a zero point for each output;
- each product is first quantized alone, on a few texts, and those that change the outputs least are quantized together.
  The rest, mostly the second halves of the feed-forward networks and what is close to the output, stays in float32.

All nodes are standard ONNX operators, which ONNX Runtime fuses when it loads the model.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

MAX_CHANGE = 0.03  # root mean square change of a logit up to which products are quantized
SMOOTHING = 0.9  # how much of the difference between channels moves from the activations to the weights
BLOCK = 32  # weights that share a scale where they are stored in 8 bits and multiplied in float32
_MIN_SIZE = 2**14  # weights in a matrix from which on it is stored in a smaller format
_FLOAT = 1  # onnx.TensorProto.FLOAT

Feeds = Sequence[Mapping[str, np.ndarray]]  # the inputs of each batch, by name


def quantize_products(model: Any, feeds: Feeds) -> Any:
    """A copy of an ONNX model in which as many products are computed with 8-bit integers as the logits tolerate.

    `feeds` are batches of a few hundred representative texts. Products are taken in the order of `rank_products` until
    the change of the logits that is to be expected reaches `MAX_CHANGE`.
    """
    largest = largest_inputs(model, feeds)
    ranked = rank_products(model, feeds, largest)
    return compute_in_int8(model, ranked.index[ranked <= MAX_CHANGE], largest)


def rank_products(model: Any, feeds: Feeds, largest: Mapping[str, np.ndarray]) -> pd.Series:
    """The products with weights, those first that change the logits least for each weight when quantized alone.

    The value of each is the change that is expected of it and all before it together: the root of the sum of squares of
    the root mean square changes, as if they were independent. Products of one input come together.
    """
    expected, of_input = _logits(model, feeds), defaultdict(list)
    for node in weight_products(model):
        of_input[node.input[0]].append(node.name)
    sizes, rows = _sizes(model), []
    for nodes in of_input.values():
        changed = _logits(compute_in_int8(model, nodes, largest), feeds)
        square = float(((changed - expected) ** 2).mean())
        rows.append((square / sum(sizes[node] for node in nodes), square, nodes))
    rows.sort(key=lambda row: row[0])
    total = np.sqrt(np.cumsum([square for _, square, _ in rows]))
    return pd.Series({node: change for change, (_, _, nodes) in zip(total, rows, strict=True) for node in nodes})


def _logits(model: Any, feeds: Feeds) -> np.ndarray:
    "Those of all batches, (rows, labels)."
    return np.concatenate([batch[0] for batch in run_model(model, feeds, ["logits"])]).astype(float)


def open_session(content: bytes) -> Any:
    "An ONNX Runtime session on the CPU, with as many threads as torch has."
    import torch
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_model(model: Any, feeds: Feeds, outputs: Sequence[str]) -> list[list[np.ndarray]]:
    "These outputs of an ONNX model: for each batch, each output as (rows, width)."
    session = open_session(model.SerializeToString())
    batches = (session.run(list(outputs), dict(feed)) for feed in feeds)
    return [[values.reshape(-1, values.shape[-1]) for values in batch] for batch in batches]


def largest_inputs(model: Any, feeds: Feeds) -> dict[str, np.ndarray]:
    "The largest absolute value of each channel, (width,), of the inputs of all products with weights, by their names."
    from onnx import helper

    names = sorted({node.input[0] for node in weight_products(model)})
    watched = _copy(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, _FLOAT, None) for name in names)
    of_batches = ([np.abs(values).max(axis=0) for values in batch] for batch in run_model(watched, feeds, names))
    return {name: np.max(values, axis=0) for name, values in zip(names, zip(*of_batches, strict=True), strict=True)}


def weight_products(model: Any) -> list[Any]:
    "The MatMul nodes of an ONNX model whose second factor is a matrix of weights."
    weights = {each.name for each in model.graph.initializer if len(each.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]


def product_weights(model: Any, leave_out: Sequence[str] = ()) -> set[str]:
    "The names of the weights of products, but for those of the nodes that are left out."
    return {node.input[1] for node in weight_products(model) if node.name not in leave_out}


def _sizes(model: Any) -> dict[str, int]:
    "The number of weights of each product, by the name of its node."
    counts = {each.name: int(np.prod(each.dims)) for each in model.graph.initializer}
    return {node.name: counts[node.input[1]] for node in weight_products(model)}


def _copy(model: Any) -> Any:
    copied = type(model)()
    copied.CopyFrom(model)
    return copied


class GraphEditor:
    "Replaces nodes in a copy of an ONNX model; `finish` also removes the weights that nothing reads any more."

    def __init__(self, model: Any):
        from onnx import helper, numpy_helper

        self._make_node, self._from_array = helper.make_node, numpy_helper.from_array
        self.model = _copy(model)
        self.weights = {each.name: numpy_helper.to_array(each) for each in self.model.graph.initializer}
        self._added: dict[str, list[Any]] = defaultdict(list)  # by the name of the node before which they stand
        self._removed: set[str] = set()

    def constant(self, name: str, value: np.ndarray) -> str:
        "Add a constant; its name is returned."
        self.model.graph.initializer.append(self._from_array(np.asarray(value), name))
        return name

    def add(
        self, before: Any, kind: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any
    ) -> str:
        "Add a node before another one; the name of its first output is returned."
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        node = self._make_node(kind, list(inputs), names, name=f"{names[0]}/{kind}", **attributes)
        self._added[before.name].append(node)
        return names[0]

    def remove(self, node: Any) -> None:
        "Leave a node out."
        self._removed.add(node.name)

    def finish(self) -> Any:
        "The edited model."
        graph, nodes = self.model.graph, []
        for node in graph.node:
            nodes += self._added[node.name] + ([] if node.name in self._removed else [node])
        read = {name for node in nodes for name in node.input}
        kept = [each for each in graph.initializer if each.name in read]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        return self.model


def to_uint8(weights: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    "Weights as `steps` (uint8), with the `scale` (float32) and `zero` point (uint8) of each slice along `axis`."
    low = np.minimum(weights.min(axis=axis, keepdims=True), 0)
    high = np.maximum(weights.max(axis=axis, keepdims=True), 0)
    scale = np.maximum((high - low) / 255, 1e-30).astype(np.float32)
    zero = np.round(-low / scale).clip(0, 255)
    steps = (np.round(weights / scale) + zero).clip(0, 255)
    return {"steps": steps.astype(np.uint8), "scale": scale, "zero": zero.astype(np.uint8)}


# ---- products of integers


def compute_in_int8(model: Any, names: Sequence[str], largest: Mapping[str, np.ndarray]) -> Any:
    """A copy of an ONNX model in which the products of these names multiply 8-bit integers.

    `largest` is what `largest_inputs` returns. Products of one input share its quantization.
    """
    edited = GraphEditor(model)
    by_input = defaultdict(list)
    for node in weight_products(edited.model):
        if node.name in set(names):
            by_input[node.input[0]].append(node)
    for source, nodes in by_input.items():
        matrices = [edited.weights[node.input[1]] for node in nodes]
        factor = _smoothing_factor(largest[source], matrices)
        divided = _divide(edited, nodes[0], source, factor)
        _quantize(edited, divided, nodes, [matrix * factor[:, None] for matrix in matrices])
    return edited.finish()


def _smoothing_factor(largest: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    "By what each channel of an input is divided, (width,); the geometric mean of the factors is 1."
    weights = np.abs(np.concatenate(matrices, axis=1)).max(axis=1)
    factor = np.maximum(largest, 1e-5) ** SMOOTHING / np.maximum(weights, 1e-5) ** (1 - SMOOTHING)
    return (factor / np.exp(np.log(factor).mean())).astype(np.float32)


def _divide(edited: GraphEditor, before: Any, source: str, factor: np.ndarray) -> str:
    "The name of an input divided by a factor for each channel."
    by = edited.constant(f"{before.name}/smoothing", 1 / factor)
    return edited.add(before, "Mul", [source, by], f"{before.name}/smooth")


def _quantize(edited: GraphEditor, source: str, nodes: Sequence[Any], matrices: Sequence[np.ndarray]) -> None:
    """Quantize an input once, and multiply it by each of the matrices.

    The weights are signed: where a processor has VNNI, ONNX Runtime multiplies unsigned ones half as fast.
    """
    steps, scale, zero = (f"{nodes[0].name}/input_{part}" for part in ("steps", "scale", "zero"))
    edited.add(nodes[0], "DynamicQuantizeLinear", [source], [steps, scale, zero])
    for node, matrix in zip(nodes, matrices, strict=True):
        parts = to_uint8(matrix, axis=0)
        parts |= {part: (parts[part].astype(np.int16) - 128).astype(np.int8) for part in ("steps", "zero")}
        weight, weight_scale, weight_zero = (
            edited.constant(f"{node.name}/weight_{part}", value if part == "steps" else value[0])
            for part, value in ((part, parts[part]) for part in ("steps", "scale", "zero"))
        )
        both = edited.add(node, "Mul", [scale, weight_scale], f"{node.name}/scales")
        sums = edited.add(node, "MatMulInteger", [steps, weight, zero, weight_zero], f"{node.name}/sums")
        floats = edited.add(node, "Cast", [sums], f"{node.name}/floats", to=_FLOAT)
        edited.add(node, "Mul", [floats, both], node.output[0])
        edited.remove(node)


# ---- weights that are stored in a smaller format, and multiplied in float32


def store_small(model: Any, in_8_bits: Callable[[str], bool] = lambda name: False) -> Any:
    """A copy of an ONNX model that takes less room, and is computed in float32 all the same.

    Of the large matrices, those whose names `in_8_bits` accepts are stored in blocks of 8-bit numbers, the others in
    float16; a runtime turns both into float32 when it loads the model. Tables that a Gather reads are stored in 8 bits
    too, with a scale for each row, and only the rows that are read become float32.
    """
    edited = GraphEditor(model)
    readers = defaultdict(list)
    for node in edited.model.graph.node:
        for name in node.input:
            readers[name].append(node)
    for name, matrix in edited.weights.items():
        if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.size < _MIN_SIZE or not readers[name]:
            continue
        if all(node.op_type == "Gather" and node.input[0] == name for node in readers[name]):
            _store_table(edited, name, matrix, readers[name])
        else:
            store = _store_blocks if len(matrix) % BLOCK == 0 and in_8_bits(name) else _store_float16
            _read_instead(readers[name], name, store(edited, name, matrix, readers[name][0]))
    return edited.finish()


def _store_table(edited: GraphEditor, name: str, table: np.ndarray, readers: Sequence[Any]) -> None:
    "Store a table by rows: each has its scale and zero point."
    constants = {part: edited.constant(f"{name}/{part}", value) for part, value in to_uint8(table, axis=1).items()}
    for node in readers:
        rows = {
            part: edited.add(node, "Gather", [constant, node.input[1]], f"{node.name}/{part}")
            for part, constant in constants.items()
        }
        _dequantize(edited, node, rows, node.output[0])
        edited.remove(node)


def _dequantize(edited: GraphEditor, before: Any, parts: Mapping[str, str], output: str) -> str:
    "(steps - zero) * scale, in operators that a runtime computes once where all three are constants."
    steps, zero = (
        edited.add(before, "Cast", [parts[part]], f"{output}/float_{part}", to=_FLOAT) for part in ("steps", "zero")
    )
    centred = edited.add(before, "Sub", [steps, zero], f"{output}/centred")
    return edited.add(before, "Mul", [centred, parts["scale"]], output)


def _store_blocks(edited: GraphEditor, name: str, matrix: np.ndarray, before: Any) -> str:
    "Store a matrix, (inputs, outputs), in blocks of `BLOCK` inputs with a scale and zero point each; the new name."
    blocks = to_uint8(matrix.reshape(-1, BLOCK, matrix.shape[1]), axis=1)
    constants = {part: edited.constant(f"{name}/{part}", value) for part, value in blocks.items()}
    whole = _dequantize(edited, before, constants, f"{name}/blocks")
    shape = edited.constant(f"{name}/shape", np.array(matrix.shape))
    return edited.add(before, "Reshape", [whole, shape], f"{name}/float32")


def _store_float16(edited: GraphEditor, name: str, matrix: np.ndarray, before: Any) -> str:
    "Store a matrix in float16; the new name."
    half = edited.constant(f"{name}/float16", matrix.astype(np.float16))
    return edited.add(before, "Cast", [half], f"{name}/float32", to=_FLOAT)


def _read_instead(readers: Sequence[Any], old: str, new: str) -> None:
    "Let these nodes read another tensor."
    for node in readers:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
