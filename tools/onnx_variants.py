"""Ways to run the shipped model in ONNX Runtime with 8 bits, compared with float32: `python tools/onnx_variants.py`.

Of each variant: how many of GoEmotions' dev texts keep their most probable label and their label set, the largest change
of a probability, macro-F1, the size of the file, and how many times as fast as float32 it is. The speeds are medians of
ratios: the variants take turns, several rounds, and each round divides float32's time by the variant's. Writes
results/onnx.json. Needs GoEmotions (EMO_NB_DATA) and emo_nb[onnx]; takes half an hour.
"""

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pandas as pd
from experiments import write_result
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from emo_nb.corpora import load_corpus
from emo_nb.encode import encode_labels, pad_batch, token_batches
from emo_nb.engine.checkpoints import label_names
from emo_nb.engine.onnx_export import (
    INPUTS,
    MAX_BATCH_TOKENS,
    Comparison,
    calibration_feeds,
    standalone_tokenizer,
    trace,
)
from emo_nb.engine.onnx_quantize import (
    MAX_CHANGE,
    compute_in_int8,
    largest_inputs,
    product_weights,
    rank_products,
    store_small,
    weight_products,
)
from emo_nb.model import load_shipped
from emo_nb.predict import TextScorer
from emo_nb.report import utc_now

MODEL = "goemotions28"
LIMITS = (0.01, 0.015, 0.02, 0.03, 0.04)  # root mean square change of a logit
ONE_BY_ONE = 200  # texts whose latency is measured
Graph = Any  # onnx.ModelProto
Batches = list[dict[str, np.ndarray]]


def by_onnxruntime(graph: Graph, leave_out: list[str] | None = None, **options: Any) -> Graph:
    "ONNX Runtime's own dynamic quantization, of the word embeddings too."
    with TemporaryDirectory() as name:
        before, after = Path(name, "before.onnx"), Path(name, "after.onnx")
        onnx.save(graph, before)
        quantize_dynamic(before, after, nodes_to_exclude=leave_out or [], **options)
        return onnx.load(after)


def weight_only(graph: Graph, block: int, **options: Any) -> Graph:
    "Weights in blocks of 8-bit numbers, multiplied with activations that are rounded in blocks as well."
    copied = type(graph)()
    copied.CopyFrom(graph)
    quantizer = MatMulNBitsQuantizer(copied, bits=8, block_size=block, accuracy_level=4, **options)
    quantizer.process()
    return quantizer.model.model


def without_last_layer(graph: Graph, layers: int) -> list[str]:
    "The names of all products with weights in the added layer, the pooler and the output layer."
    late = [f"layer.{layers - 1}/", "pooler", "classifier"]
    return [node.name for node in graph.graph.node if any(part in node.name for part in late)]


def variants(graph: Graph, layers: int, feeds: Batches) -> dict[str, Callable[[], Graph]]:
    "What makes each variant of a graph in float32."
    late = without_last_layer(graph, layers)
    names = [node.name for node in weight_products(graph)]
    largest = largest_inputs(graph, feeds)
    ort, blocks = partial(by_onnxruntime, graph), partial(weight_only, graph)
    ranked = rank_products(graph, feeds, largest)
    limited = {
        f"smoothed, by channel, change up to {limit}": partial(
            compute_in_int8, graph, ranked.index[ranked <= limit], largest
        )
        for limit in LIMITS
    }
    return {
        "float32": lambda: graph,
        "dynamic, by tensor": ort,
        "dynamic, by channel": partial(ort, per_channel=True),
        "dynamic, by channel, reduced range": partial(ort, per_channel=True, reduce_range=True),
        "dynamic, by channel, unsigned": partial(ort, per_channel=True, weight_type=QuantType.QUInt8),
        "dynamic, by channel, not the last layer": partial(ort, late, per_channel=True),
        "weights in blocks of 32, symmetric": partial(blocks, 32, is_symmetric=True),
        "weights in blocks of 32": partial(blocks, 32, is_symmetric=False),
        "weights in blocks of 32, not the last layer": partial(blocks, 32, is_symmetric=False, nodes_to_exclude=late),
        "weights in blocks of 128, not the last layer": partial(blocks, 128, is_symmetric=False, nodes_to_exclude=late),
        "smoothed, by channel, all": partial(compute_in_int8, graph, names, largest),
        "smoothed, by channel, not the last layer": partial(
            compute_in_int8, graph, [name for name in names if name not in late], largest
        ),
        **limited,
        "what export_onnx writes": lambda: store_small(
            compute_in_int8(graph, ranked.index[ranked <= MAX_CHANGE], largest)
        ),
        "8-bit weights, computed in float32": lambda: store_small(graph, product_weights(graph, late).__contains__),
    }


def session(graph: Graph, threads: int) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def batches(ids: list[list[int]], each_alone: bool = False) -> Batches:
    "Token ids and mask, in batches of texts of similar length, or each text alone."
    lengths = np.array([len(row) for row in ids])
    rows = [np.array([i]) for i in range(len(ids))] if each_alone else token_batches(lengths, MAX_BATCH_TOKENS)
    return [dict(zip(INPUTS, pad_batch([ids[i] for i in of], 0), strict=True)) for of in rows]


def speed(base: Graph, graph: Graph, work: Batches, threads: int, rounds: int) -> dict[str, float]:
    """The median `seconds` of a graph for all batches, and the median of float32's time over its own (`times`).

    The two take turns, and a first round warms up.
    """
    sessions, taken = [session(each, threads) for each in (base, graph)], []
    for _ in range(rounds + 1):
        taken.append([seconds(each, work) for each in sessions])
    own = np.array(taken[1:])
    return {
        "seconds": round(float(np.median(own[:, 1])), 4),
        "times": round(float(np.median(own[:, 0] / own[:, 1])), 2),
    }


def seconds(runner: InferenceSession, work: Batches) -> float:
    "How long all batches take."
    start = time.perf_counter()
    for batch in work:
        runner.run(["logits"], batch)
    return time.perf_counter() - start


def dev_rows(labels: list[str]) -> tuple[list[str], np.ndarray]:
    "Texts of GoEmotions' dev split, and their labels as ones and zeros."
    frame = load_corpus("goemotions").frame
    frame = frame[frame.split == "dev"]
    if frame.empty:
        raise SystemExit("GoEmotions' dev rows are needed; name the folder of the corpora in EMO_NB_DATA")
    return list(frame.text), encode_labels(frame.labels, labels)


def flags() -> dict[str, bool]:
    "Which instructions the processor has that decide how fast and how exactly 8-bit integers are multiplied."
    cpuinfo = Path("/proc/cpuinfo")
    known = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return {name: name in known for name in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only so many dev texts (all by default)")
    parser.add_argument("--timed", type=int, default=1000, help="how many of them are timed (1000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of timing (7)")
    parser.add_argument("--only", nargs="+", default=[], help="only variants whose names contain one of these words")
    parser.add_argument("--dry-run", action="store_true", help="print the table, and write nothing")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # ONNX Runtime's quantizers log every node
    started = utc_now()
    scorer = TextScorer(*load_shipped(MODEL))
    labels = label_names(scorer.config)
    texts, truth = dev_rows(labels)
    texts, truth = texts[: args.rows], truth[: args.rows]
    tokenizer = standalone_tokenizer(scorer.tokenizer, scorer.max_length)
    feeds = calibration_feeds(tokenizer, scorer.config)
    comparison = Comparison(scorer, tokenizer, texts, truth)
    base = trace(scorer.checkpoint)
    made, rows = variants(base, scorer.config.num_hidden_layers, feeds), []
    several, alone = batches(comparison.ids[: args.timed]), batches(comparison.ids[:ONE_BY_ONE], each_alone=True)
    work = {"bulk_2_threads": (several, 2), "bulk_1_thread": (several, 1), "one_text_1_thread": (alone, 1)}
    for name in [name for name in made if not args.only or any(word in name for word in args.only)]:
        graph = made[name]()
        comparison.add(name, graph)
        speeds = {what: speed(base, graph, *of, args.rounds) for what, of in work.items()}
        flat = {f"{what}_{key}": value for what, one in speeds.items() for key, value in one.items()}
        rows.append({**comparison.rows[-1], **flat})
        print(json.dumps(rows[-1]), flush=True)
    print(pd.DataFrame(rows).filter(regex="^(?!texts|model|.*seconds)").round(4).to_string(index=False))
    if not args.dry_run:
        write_result(
            "onnx", describe(args, rows), started, shlex.join(["python", "tools/onnx_variants.py", *sys.argv[1:]])
        )


def describe(args: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    "What results/onnx.json holds beside when, where and by what it was made."
    return {
        "model": MODEL,
        "data": "GoEmotions, official dev split",
        "seed": None,  # nothing is drawn
        "packages": {name: version(name) for name in ("onnx", "onnxruntime", "tokenizers")},
        "processor_flags": flags(),
        "rounds": args.rounds,
        "timed_texts": {"bulk": args.timed, "one_text": ONE_BY_ONE},
        "variants": rows,
    }


if __name__ == "__main__":
    main()
