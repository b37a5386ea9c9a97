"""Prediction: each way loads a model and returns a function from texts to probabilities, which is timed and checked."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from common import EXPORT, EXPORT8, MODEL, ONNX, Measure, Predictor, device, memory_so_far, texts_to_predict


def the_pipeline() -> Predictor:
    "transformers' pipeline, 32 texts a batch."
    from transformers import pipeline

    classify = pipeline(
        "text-classification", model=str(MODEL), top_k=None, function_to_apply="sigmoid", device=device()
    )
    labels = list(classify.model.config.id2label.values())

    def predict(texts: list[str]) -> np.ndarray:
        answers = classify(texts, batch_size=32, truncation=True)
        return np.array([[{one["label"]: one["score"] for one in row}[label] for label in labels] for row in answers])

    return predict


def plain_torch() -> Predictor:
    "The model as transformers loads it, called with sorted batches of 32."
    import torch

    from emo_nb.model import load_model

    checkpoint, tokenizer = load_model(MODEL)
    model = checkpoint.model.to(device())

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(array).to(device()) for name, array in batch.items()}
        with torch.inference_mode():
            return model(**tensors).logits.cpu().numpy()

    return in_batches(run, tokenizer)


def in_batches(run: Callable[[dict[str, np.ndarray]], np.ndarray], tokenizer: Any) -> Predictor:
    "Sort texts by length, run batches of 32, and put the answers back in order."

    def predict(texts: list[str]) -> np.ndarray:
        ids = tokenizer(texts, truncation=True, max_length=256)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        logits = []
        for start in range(0, len(order), 32):
            batch = tokenizer.pad({"input_ids": [ids[i] for i in order[start : start + 32]]}, return_tensors="np")
            logits.append(run({name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}))
        in_order = np.concatenate(logits)
        return 1 / (1 + np.exp(-in_order[np.argsort(order)]))

    return predict


def exported(name: str) -> Path:
    "The model as an ONNX file, in float32 or in int8; made once."
    from onnxruntime.quantization import quantize_dynamic

    file = ONNX / f"{name}.onnx"
    if not file.exists():
        ONNX.mkdir(parents=True, exist_ok=True)
        if name == "int8":
            quantize_dynamic(exported("fp32"), file)
        else:
            export(file)
    return file


def export(file: Path) -> None:
    "Write the model as ONNX with torch's own exporter."
    import onnx
    import torch

    from emo_nb.model import load_model

    checkpoint, tokenizer = load_model(MODEL)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = checkpoint.model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    names = ["input_ids", "attention_mask"]
    example = tokenizer(["one text", "and another"], padding=True, return_tensors="pt")
    shapes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in names}
    torch.onnx.export(
        Logits().eval(), tuple(example[name] for name in names), file, input_names=names, output_names=["logits"],
        dynamo=True, dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    exported = onnx.load(file)
    # shapes within the graph, which torch 2.6 gets wrong; whoever needs them infers them
    del exported.graph.value_info[:]
    onnx.save(exported, file)


def onnx_runtime(name: str) -> Callable[[], Predictor]:
    "ONNX Runtime on the CPU."

    def load() -> Predictor:
        import onnxruntime

        from emo_nb.model import load_tokenizer

        session = onnxruntime.InferenceSession(exported(name), providers=["CPUExecutionProvider"])
        return in_batches(lambda batch: session.run(None, batch)[0], load_tokenizer(MODEL))

    return load


def openvino() -> Predictor:
    "OpenVINO as it configures itself: bfloat16 where the processor has it."
    from openvino import Core

    from emo_nb.model import load_tokenizer

    compiled = Core().compile_model(exported("fp32"), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return in_batches(lambda batch: compiled(batch)[0], load_tokenizer(MODEL))


def emo_nb(dtype: str | None = None, for_bulk: bool = False, model: Path = MODEL) -> Callable[[], Predictor]:
    "emo_nb's classifier, in a number format or in those it chooses."

    def load() -> Predictor:
        from emo_nb.predict import TrainedClassifier

        classifier = TrainedClassifier.from_pretrained(model, dtype=dtype)
        return (classifier.for_bulk() if for_bulk else classifier).predict_proba

    return load


PREDICTORS: dict[str, Callable[[], Predictor]] = {
    "pipeline": the_pipeline,
    "torch, sorted": plain_torch,
    "ONNX Runtime": onnx_runtime("fp32"),
    "ONNX Runtime, int8": onnx_runtime("int8"),
    "OpenVINO": openvino,
    "emo_nb, float32": emo_nb("float32"),
}
CPU_ONLY = ("ONNX Runtime", "ONNX Runtime, int8", "ONNX Runtime in 8 bits", "OpenVINO")  # as they are installed here
ENGINES = {
    "torch": emo_nb(),
    "ONNX Runtime": emo_nb(model=EXPORT),
    "ONNX Runtime in 8 bits": emo_nb(model=EXPORT8),
}
BULK = {"emo_nb, bulk": emo_nb(for_bulk=True)}
ONE_BY_ONE = {
    "emo_nb": emo_nb(),
    "emo_nb, ONNX Runtime": emo_nb(model=EXPORT),
    "emo_nb, ONNX Runtime in 8 bits": emo_nb(model=EXPORT8),
}


def bulk(load: Callable[[], Predictor]) -> Measure:
    "Texts a second."

    def measure(rows: int) -> dict[str, Any]:
        texts = texts_to_predict(rows)
        predict = load()
        predict(texts[:64])
        start = time.perf_counter()
        answers = predict(texts)
        seconds, memory = time.perf_counter() - start, memory_so_far()
        return {
            "seconds": seconds,
            "per_second": rows / seconds,
            "memory_mb": memory,
            "gflops": needed(texts) / seconds / 1e9,
            **right(answers, texts),
        }

    return measure


def one_by_one(load: Callable[[], Predictor]) -> Measure:
    "Milliseconds of one text."

    def measure(rows: int) -> dict[str, Any]:
        texts = texts_to_predict(rows)
        predict = load()
        for text in texts[:20]:
            predict([text])
        took, answers = [], []
        for text in texts:
            start = time.perf_counter()
            answers.append(predict([text]))
            took.append(1000 * (time.perf_counter() - start))
        p50, p95 = np.percentile(took, [50, 95])
        return {"p50": p50, "p95": p95, "per_second": 1000 / np.mean(took), **right(np.concatenate(answers), texts)}

    return measure


def needed(texts: list[str]) -> float:
    "The arithmetic that the texts need."
    from emo_nb.engine.device import forward_flops
    from emo_nb.model import load_model

    checkpoint, tokenizer = load_model(MODEL)
    return forward_flops(
        checkpoint.config, np.array([len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]])
    )


def right(answers: np.ndarray, texts: list[str]) -> dict[str, float]:
    "The largest change of a probability against the plain float32 model, and how often the same label comes first."
    expected = expected_of(tuple(texts[:1000]))
    answers = answers[:1000]
    same = float((answers.argmax(1) == expected.argmax(1)).mean())
    if same < 0.8:  # common 8 bits keep nine of ten, on few texts fewer
        raise SystemExit(f"only {same:.0%} of the texts have the plain model's first label: no time is counted")
    return {"largest_change": float(np.abs(answers - expected).max()), "same_first_label": same}


@cache
def expected_of(texts: tuple[str, ...]) -> np.ndarray:
    "Probabilities of the plain float32 model."
    return plain_torch()(list(texts))


def of_length(tokens: int) -> dict[str, Any]:
    "Texts of exactly so many tokens, in bulk."
    from emo_nb.engine.device import forward_flops
    from emo_nb.engine.forward import prepare_for_inference
    from emo_nb.predict import MAX_BATCH_TOKENS, TrainedClassifier, batched_logits

    classifier = TrainedClassifier.from_pretrained(MODEL)
    model = prepare_for_inference(classifier.checkpoint, classifier.backends.bulk)
    ids = [[101, *[2204] * (tokens - 2), 102]] * (100 * MAX_BATCH_TOKENS // tokens)
    start = time.perf_counter()
    batched_logits(model, ids)
    seconds = time.perf_counter() - start
    per_text = forward_flops(model.config, np.array([tokens]))
    return {"per_second": len(ids) / seconds, "gflops": per_text * len(ids) / seconds / 1e9}


def on_threads(threads: int) -> dict[str, Any]:
    "Bulk prediction of 4,000 texts on so many threads."
    import torch

    torch.set_num_threads(threads)
    return bulk(BULK["emo_nb, bulk"])(4000)
