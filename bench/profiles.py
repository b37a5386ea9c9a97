"""Where the time of training and of prediction goes, by torch's profiler."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common import Measure, texts_to_predict
from prediction import BULK, ONE_BY_ONE
from training import EmoNb

if TYPE_CHECKING:
    from emo_nb.core import Method

KINDS = {
    "attention": ("bmm", "softmax"),
    "activation": ("gelu",),
    "norms": ("layer_norm",),
    "copies": ("copy_",),
    "optimizer and average": ("adamw", "lerp", "vector_norm"),
    "dense products": ("aten::mm", "addmm", "linear_pointwise", "linear_dynamic"),
}


def where_time_goes(work: Callable[[], Any], thin: int = 16, of_all: bool = False) -> dict[str, float]:
    """The share of each kind of operation in the time of some work, from torch's profiler; LoRA's products are thin.

    `of_all`: in all of the time, that of Python and the tokenizer included.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    times: dict[str, float] = {}
    for event in seen.key_averages(group_by_input_shape=True):
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "all else")
        if kind == "dense products" and any(thin in shape for shape in event.input_shapes if shape):
            kind = "thin products"
        times[kind] = times.get(kind, 0) + event.self_cpu_time_total
    if of_all:
        times["outside torch"] = max(0.0, 1e6 * seconds - sum(times.values()))
    return {kind: times[kind] / sum(times.values()) for kind in sorted(times, key=lambda kind: -times[kind])}


def profile_of_training(method: "Method") -> Measure:
    "Where the time of `fit` goes."

    def measure(rows: int) -> dict[str, Any]:
        ours = EmoNb(method, rows)
        ours.seconds(64)
        return where_time_goes(ours.seconds)

    return measure


def profile_of_prediction(rows: int) -> dict[str, Any]:
    "Where the time of bulk prediction goes."
    predict, texts = BULK["emo_nb, bulk"](), texts_to_predict(rows)
    predict(texts)
    return where_time_goes(lambda: predict(texts))


def profile_of_one_text(rows: int) -> dict[str, Any]:
    "Where the time goes of texts that are predicted one after the other."
    predict, texts = ONE_BY_ONE["emo_nb"](), texts_to_predict(rows // 20)
    predict(texts[:1])
    return where_time_goes(lambda: [predict([text]) for text in texts], of_all=True)
