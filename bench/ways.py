"""What is timed: one way in one process. `python bench/ways.py PART WAY` prints a JSON object as its last line.

Preparation (imports, loading, a first small batch) is not counted, except where the start itself is what is timed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

MODEL = Path("runs/bench/model")  # of a run that `bench.py` makes
ONNX = Path("runs/bench/onnx")
EXPORT, EXPORT8 = Path("runs/bench/export"), Path("runs/bench/export8")  # what `export_onnx` makes of it; in 8 bits


def texts_and_targets(part: str, rows: int | None = None) -> tuple[list[str], np.ndarray, list[str]]:
    "Texts of GoEmotions' official split, their 28 labels as ones and zeros, and the labels."
    from emo_nb.encode import encode_labels
    from emo_nb.taxonomy import get_task

    task, frame = get_task("goemotions28"), goemotions()
    frame = frame[frame.split == part]
    if frame.empty:
        raise SystemExit(f"the benchmark needs GoEmotions' {part} rows; name the folder of the corpora in EMO_NB_DATA")
    if rows:
        frame = frame.sample(min(rows, len(frame)), random_state=0)
    labels = sorted(task.labels)
    return list(frame.text), encode_labels(frame.labels, labels), labels


@cache
def goemotions() -> Any:
    "GoEmotions' tidy frame."
    from emo_nb.corpora import load_corpus

    return load_corpus("goemotions").frame


def texts_to_predict(rows: int) -> list[str]:
    "Texts of the test split, repeated where they are too few."
    texts, _, _ = texts_and_targets("test")
    return (texts * (rows // len(texts) + 1))[:rows]


# ---- training


TUNINGS: dict[str, tuple[float, float | None]] = {  # of a tuned Trainer, tried on dev: rates of LoRA and of the head
    "1e-4": (1e-4, None),
    "1e-3": (1e-3, None),
    "1e-2": (1e-2, None),
    "1e-3, head 1e-2": (1e-3, 1e-2),
    "1e-3, head 3e-2": (1e-3, 3e-2),
    "3e-3, head 1e-2": (3e-3, 1e-2),
}
TUNED = "1e-3, head 3e-2"  # the best of them


def begin_at(model: Any, shares: np.ndarray) -> None:
    "Let the head begin at the labels' frequencies."
    import torch

    model.classifier.bias.data = torch.logit(torch.from_numpy(shares).float(), eps=1e-4)


def two_rates(model: Any, rate: float, head_rate: float) -> Any:
    "AdamW with a rate for LoRA and one for the head."
    import torch

    groups: dict[float, list[Any]] = {rate: [], head_rate: []}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            groups[head_rate if "classifier" in name else rate].append(weights)
    return torch.optim.AdamW([{"params": those, "lr": at} for at, those in groups.items()], weight_decay=0.0)


def with_trainer(
    kind: str, epochs: int = 1, scored: bool = False, tuning: str = "1e-3"
) -> Callable[[int], dict[str, Any]]:
    """transformers' Trainer with LoRA: as the study did it, or tuned as its documentation advises.

    A head with a rate of its own also begins at the labels' frequencies.
    """
    rate, head_rate = TUNINGS[tuning]

    def measure(rows: int) -> dict[str, Any]:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

        from emo_nb.encode import TextDataset
        from emo_nb.model import find_encoder, load_tokenizer

        study = kind == "study"
        texts, targets, labels = texts_and_targets("train", rows)
        folder = find_encoder("minilm")
        tokenizer = load_tokenizer(folder, max_length=128)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=len(labels), problem_type="multi_label_classification"
        )
        if head_rate:
            begin_at(model, targets.mean(axis=0))
        modules = ["query", "value"] if study else "all-linear"
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules=modules))
        padding: dict[str, Any] = {"padding": "max_length", "max_length": 128} if study else {}
        bf16 = not study and from_machine() == "bfloat16"

        def seconds(rows: slice) -> float:
            data = TextDataset(texts[rows], tokenizer, targets[rows], multi_label=True)
            with tempfile.TemporaryDirectory() as name:
                args = TrainingArguments(
                    output_dir=name, num_train_epochs=epochs, learning_rate=rate, bf16=bf16, use_cpu=device() == "cpu",
                    per_device_train_batch_size=16 if study else 64, save_strategy="no", disable_tqdm=True,
                    train_sampling_strategy="random" if study else "group_by_length", report_to="none",
                )  # fmt: skip
                collator = DataCollatorWithPadding(tokenizer, **padding)
                optimizers = (two_rates(model, rate, head_rate) if head_rate else None, None)
                trainer = Trainer(model, args, collator, data, optimizers=optimizers)
                start = time.perf_counter()
                trainer.train()
                return time.perf_counter() - start

        if scored:
            return {"seconds": seconds(slice(None)), **dev_score(model, tokenizer)}
        seconds(slice(64))
        return trained(seconds(slice(None)), texts, model, tokenizer)

    return measure


class EmoNb:
    "emo_nb's own `fit`, with LoRA or with every layer, ready to be timed."

    def __init__(self, method: str, rows: int, share: float = 1, shortest: bool = False):
        from emo_nb.config import TrainConfig
        from emo_nb.engine.memory import keep_freed_memory
        from emo_nb.model import add_lora, find_encoder, freeze_embeddings, load_tokenizer, new_classifier

        keep_freed_memory()  # as the command does
        texts, targets, labels = texts_and_targets("train", rows)
        chosen = np.argsort([len(text) for text in texts], kind="stable") if shortest else np.arange(rows)
        chosen = np.sort(chosen[: round(rows * share)])
        self.texts, self.targets = [texts[i] for i in chosen], targets[chosen]
        folder = find_encoder("minilm")
        self.tokenizer = load_tokenizer(folder, max_length=128)
        model = new_classifier(folder, labels, "minilm", multi_label=True)
        self.model = add_lora(model) if method == "lora" else freeze_embeddings(model)
        self.settings = TrainConfig(method=method, epochs=1)

    def seconds(self, rows: int | None = None) -> float:
        "One epoch on so many rows."
        from emo_nb.encode import TextDataset
        from emo_nb.train import fit

        data, few = (TextDataset(self.texts[:n], self.tokenizer, self.targets[:n], True) for n in (rows, 32))
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            fit(self.model, self.tokenizer, data, few, Path(name), self.settings, show_progress_bar=False)
            return time.perf_counter() - start


def with_emo_nb(
    method: str, scored: bool = False, share: float = 1, shortest: bool = False
) -> Callable[[int], dict[str, Any]]:
    "emo_nb's own `fit`; on a share of the rows, the first ones or the shortest ones."

    def measure(rows: int) -> dict[str, Any]:
        ours = EmoNb(method, rows, share, shortest)
        if scored:
            return {"seconds": ours.seconds(), **dev_score(ours.model, ours.tokenizer)}
        ours.seconds(64)
        return trained(ours.seconds(), ours.texts, ours.model, ours.tokenizer, 3 if method == "finetune" else 2)

    return measure


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


def profile_of_training(method: str) -> Callable[[int], dict[str, Any]]:
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
    predict(texts[0])
    return where_time_goes(lambda: [predict([text]) for text in texts], of_all=True)


def dev_score(model: Any, tokenizer: Any, draws: int = 200) -> dict[str, float]:
    "Macro-F1 on all dev rows, with thresholds from them, and its standard deviation over draws of the rows."
    from sklearn.metrics import f1_score

    from emo_nb.evaluate import choose_thresholds, fit_temperature, probabilities
    from emo_nb.predict import batched_logits

    dev, truth, _ = texts_and_targets("dev")
    model.eval()
    logits = batched_logits(model, tokenizer(dev, truncation=True, max_length=128)["input_ids"])
    proba = probabilities(logits / fit_temperature(logits, truth, True), True)
    predicted = proba >= choose_thresholds(proba, truth)
    rng, n = np.random.default_rng(0), len(truth)
    drawn = [f1_score(truth[i], predicted[i], average="macro", zero_division=0) for i in rng.integers(0, n, (draws, n))]
    return {"dev_macro_f1": float(f1_score(truth, predicted, average="macro")), "sd": float(np.std(drawn))}


@cache
def device() -> str:
    "What is measured: the GPU that emo_nb would take, else the processor."
    from emo_nb.engine.device import find_accelerator

    return find_accelerator() or "cpu"


def from_machine() -> str:
    "The number format that emo_nb would choose here."
    from emo_nb.engine.device import choose_backend

    return choose_backend(device()).dtype


def trained(seconds: float, texts: list[str], model: Any, tokenizer: Any, passes: int = 2) -> dict[str, Any]:
    "Examples a second; arithmetic a second; and how well up to 1,000 dev rows are ranked, to see that something was learnt."
    from sklearn.metrics import average_precision_score

    from emo_nb.engine.device import forward_flops
    from emo_nb.predict import batched_logits

    memory = memory_so_far()
    dev, truth, _ = texts_and_targets("dev", min(1000, 2 * len(texts)))
    model.eval()
    logits = batched_logits(model, tokenizer(dev, truncation=True, max_length=128)["input_ids"])
    known = truth.any(axis=0)
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=128)["input_ids"]]
    return {
        "seconds": seconds,
        "per_second": len(texts) / seconds,
        "gflops": passes * forward_flops(model.config, np.array(lengths)) / seconds / 1e9,
        "memory_mb": memory,
        "dev_average_precision": float(average_precision_score(truth[:, known], logits[:, known], average="macro")),
    }


# ---- prediction: each loads and returns a function from texts to probabilities


def the_pipeline() -> Callable[[list[str]], np.ndarray]:
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


def plain_torch() -> Callable[[list[str]], np.ndarray]:
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


def in_batches(run: Callable[[dict[str, np.ndarray]], np.ndarray], tokenizer: Any) -> Callable[[list[str]], np.ndarray]:
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


def onnx_runtime(name: str) -> Callable[[], Callable[[list[str]], np.ndarray]]:
    "ONNX Runtime on the CPU."

    def load() -> Callable[[list[str]], np.ndarray]:
        import onnxruntime

        from emo_nb.model import load_tokenizer

        session = onnxruntime.InferenceSession(exported(name), providers=["CPUExecutionProvider"])
        return in_batches(lambda batch: session.run(None, batch)[0], load_tokenizer(MODEL))

    return load


def openvino() -> Callable[[list[str]], np.ndarray]:
    "OpenVINO as it configures itself: bfloat16 where the processor has it."
    from openvino import Core

    from emo_nb.model import load_tokenizer

    compiled = Core().compile_model(exported("fp32"), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return in_batches(lambda batch: compiled(batch)[0], load_tokenizer(MODEL))


def emo_nb(
    dtype: str | None = None, for_bulk: bool = False, model: Path = MODEL
) -> Callable[[], Callable[[list[str]], np.ndarray]]:
    "emo_nb's classifier, in a number format or in those it chooses."

    def load() -> Callable[[list[str]], np.ndarray]:
        from emo_nb.predict import TrainedClassifier

        classifier = TrainedClassifier.from_pretrained(model, dtype=dtype)
        return (classifier.for_bulk() if for_bulk else classifier).predict_proba

    return load


PREDICTORS: dict[str, Callable[[], Callable[[list[str]], np.ndarray]]] = {
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


def bulk(load: Callable[[], Callable[[list[str]], np.ndarray]]) -> Callable[[int], dict[str, Any]]:
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


def one_by_one(load: Callable[[], Callable[[list[str]], np.ndarray]]) -> Callable[[int], dict[str, Any]]:
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


def memory_so_far() -> float:
    "The most memory that this process has taken, in MB: asked before the answers are checked, which takes more."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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


# ---- the machine, a cold start, and how cost grows


def peak(_: int) -> dict[str, Any]:
    "The most that products of matrices reach here, in billions of operations a second."
    from emo_nb.engine.device import choose_backend, measure_peak_flops

    backends = {dtype: choose_backend(device(), dtype) for dtype in ("float32", "bfloat16")}
    return {
        dtype: measure_peak_flops(backend, repeats=20) / 1e9
        for dtype, backend in backends.items()
        if backend.dtype == dtype  # bfloat16 is not granted where it would be emulated
    }


def cold(command: list[str]) -> Callable[[int], dict[str, Any]]:
    "Seconds until a fresh process has answered one text, and its memory."

    def measure(_: int) -> dict[str, Any]:
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as process:
            _, process.returncode, usage = os.wait4(process.pid, 0)
        assert process.returncode == 0, command
        return {"seconds": time.perf_counter() - start, "memory_mb": usage.ru_maxrss / 1024}

    return measure


def small_run(rows_per_label: int) -> dict[str, Any]:
    "The commands of `make run`, one after the other; with the test score, and the time of the parts."
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "run"
        rows = ("--rows-per-label", str(rows_per_label))
        explored = [
            cold([*COMMAND, "explore", "--corpus", corpus, "--out", f"{name}/{corpus}"])(0)
            for corpus in ("goemotions", "empathetic")
        ]
        run = cold([*COMMAND, "run", "--epochs", "2", "--out", str(out), *rows])(0)
        predicted = cold([*COMMAND, "predict", "--model", str(out), "one text", "another", "and a third"])(0)
        record, metrics = (json.loads((out / name).read_text()) for name in ("config.json", "metrics.json"))
        trained = record["epochs"] * record["rows"]["train"] / record["examples_per_second"]
        tested = record["seconds"] - record["train_seconds"]
        commands = (*explored, run, predicted)
        return {
            "seconds": sum(one["seconds"] for one in commands),
            "memory_mb": max(one["memory_mb"] for one in commands),
            "macro_f1": metrics["all"]["macro_f1"],
            "exploring": sum(one["seconds"] for one in explored),
            "before": run["seconds"] - trained - tested,
            "training": trained,
            "testing": tested,
            "predicting": predicted["seconds"],
        }


ON_RAY = """
import sys
from emo_nb.predict import TrainedClassifier
from emo_nb.scale.ray_data import predict_on_ray

model, file, out, cores = sys.argv[1:]
predict_on_ray(TrainedClassifier.from_pretrained(model), file, out, show_progress_bar=False, cores=int(cores))
"""


def file_of(rows: int, ray_cores: int | None = None, model: Path = MODEL, on: set[int] | None = None) -> dict[str, Any]:
    """A file of texts through `emo-nb predict`, its start included; and the memory that the process took at most.

    Or on a Ray cluster of this machine, or of the cores `on`, with workers of so many cores, whose memory is not counted.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory() as name:
        table, out = Path(name) / "in.csv", Path(name) / "out.parquet"
        pd.DataFrame({"text": texts_to_predict(rows)}).to_csv(table, index=False)
        command = [*COMMAND, "predict", "--model", str(model), "--file", str(table), "--out", str(out)]
        if ray_cores:
            command = ["-c", ON_RAY, str(model), str(table), str(out), str(ray_cores)]
        start = time.perf_counter()
        keep_to = None if on is None else lambda: os.sched_setaffinity(0, on)
        with subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL, preexec_fn=keep_to) as process:
            _, process.returncode, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        written = len(pd.read_parquet(out, columns=["label"]))
        assert written == rows, f"{written} rows of {rows} came out"
    return {"seconds": seconds, "per_second": rows / seconds, "memory_mb": usage.ru_maxrss / 1024}


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


# ---- company, and less of the machine


def in_a_process(
    part: str, way: str, busy: int = 0, cores: int | None = None, **environment: str
) -> Callable[[int], dict[str, Any]]:
    "Another measurement, beside so many busy processes, bound to so many cores, or in another environment; and its memory."

    def measure(size: int) -> dict[str, Any]:
        company = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        allowed = None if cores is None else set(sorted(os.sched_getaffinity(0))[:cores])
        try:
            with subprocess.Popen(
                [sys.executable, __file__, part, way, str(size)],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | environment,
                preexec_fn=None if allowed is None else lambda: os.sched_setaffinity(0, allowed),
            ) as process:
                assert process.stdout is not None
                output = process.stdout.read()
        finally:
            for other in company:
                other.kill()
                other.wait()
        measurement = json.loads(output.splitlines()[-1])
        return {name: measurement[name] for name in ("per_second", "memory_mb")}

    return measure


COMMAND = ["-m", "emo_nb"]
READY = "from emo_nb.predict import TrainedClassifier as T; T.from_pretrained({!r}).predict_proba('one text')"
WORK = (("training", "train", "emo_nb, LoRA"), ("prediction", "predict", "emo_nb, bulk"))
MACHINE: dict[str, Callable[[int], dict[str, Any]]] = {"peak": peak}
PARTS: dict[str, dict[str, Callable[[int], dict[str, Any]]]] = {
    "train": MACHINE
    | {
        "the study's recipe": with_trainer("study"),
        "a tuned Trainer": with_trainer("tuned"),
        "emo_nb, LoRA": with_emo_nb("lora"),
        "emo_nb, every layer": with_emo_nb("finetune"),
    },
    "tuning": {name: with_trainer("tuned", epochs=3, scored=True, tuning=name) for name in TUNINGS},
    "score": {
        "a tuned Trainer, one epoch": with_trainer("tuned", scored=True, tuning=TUNED),
        "a tuned Trainer, three epochs": with_trainer("tuned", epochs=3, scored=True, tuning=TUNED),
        "emo_nb, LoRA, a quarter of an epoch": with_emo_nb("lora", scored=True, share=1 / 4),
        "emo_nb, LoRA, three eighths": with_emo_nb("lora", scored=True, share=3 / 8),
        "emo_nb, LoRA, half an epoch": with_emo_nb("lora", scored=True, share=1 / 2),
        "emo_nb, LoRA, the shortest two fifths": with_emo_nb("lora", scored=True, share=2 / 5, shortest=True),
        "emo_nb, LoRA, the shorter half": with_emo_nb("lora", scored=True, share=1 / 2, shortest=True),
        "emo_nb, LoRA, four fifths": with_emo_nb("lora", scored=True, share=4 / 5),
        "emo_nb, LoRA, one epoch": with_emo_nb("lora", scored=True),
        "emo_nb, every layer, one epoch": with_emo_nb("finetune", scored=True),
    },
    "study": {
        "the study's recipe, one epoch": with_trainer("study", scored=True),
        "emo_nb, LoRA, a sixteenth of an epoch": with_emo_nb("lora", scored=True, share=1 / 16),
        "emo_nb, LoRA, a quarter of an epoch": with_emo_nb("lora", scored=True, share=1 / 4),
        "emo_nb, LoRA, one epoch": with_emo_nb("lora", scored=True),
    },
    "profile": {
        "training, LoRA": profile_of_training("lora"),
        "training, every layer": profile_of_training("finetune"),
        "prediction, bulk": profile_of_prediction,
        "prediction, one text": profile_of_one_text,
    },
    "predict": MACHINE | {way: bulk(load) for way, load in (PREDICTORS | BULK).items()},
    "latency": {way: one_by_one(load) for way, load in (PREDICTORS | ONE_BY_ONE).items()},
    "engines": {
        **{f"emo_nb, {engine}, bulk": bulk(load) for engine, load in ENGINES.items()},
        **{f"emo_nb, {engine}, one by one": one_by_one(load) for engine, load in ENGINES.items()},
    },
    "run": {"make run": small_run},
    "start": {
        "package and model": cold(["-c", READY.format(str(MODEL))]),
        "emo-nb predict": cold([*COMMAND, "predict", "--model", str(MODEL), "one text"]),
        "package and exported model": cold(["-c", READY.format(str(EXPORT))]),
        "emo-nb predict, exported": cold([*COMMAND, "predict", "--model", str(EXPORT), "one text"]),
        "the export's example": cold([str(EXPORT / "example.py")]),
    },
    "rows": {"emo-nb predict": file_of},
    "ray": {
        "emo-nb predict": file_of,
        "Ray, workers of one core": partial(file_of, ray_cores=1),
        "Ray, a worker of two cores": partial(file_of, ray_cores=2),
        "Ray, one worker on one core": partial(file_of, ray_cores=1, on={0}),
    },
    "length": {"emo_nb, bulk": of_length},
    "threads": {"emo_nb, bulk": on_threads},
    "company": {
        f"{name}{', beside two busy processes' if busy else ', alone'}": in_a_process(part, way, busy)
        for name, part, way in WORK
        for busy in (0, 2)
    }
    | {
        f"{name}, alone, threads that spin": in_a_process(part, way, OMP_WAIT_POLICY="active")
        for name, part, way in WORK
    },
    "quota": {
        f"{name}, {cores} cores" if cores > 1 else f"{name}, bound to one core": in_a_process(part, way, cores=cores)
        for name, part, way in WORK
        for cores in (2, 1)
    },
    "memory": {
        f"{part}: {way}": in_a_process(part, way)
        for part, ways in (
            ("train", ("a tuned Trainer", "emo_nb, LoRA", "emo_nb, every layer")),
            ("predict", (*PREDICTORS, *BULK)),
        )
        for way in ways
    }
    | {
        "a file: emo-nb predict": lambda rows: file_of(20 * rows),
        "a file: emo-nb predict, exported model": lambda rows: file_of(20 * rows, model=EXPORT),
    },
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("way")
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    if given.way.startswith("emo_nb"):  # in a process like the command's
        from emo_nb.engine.memory import limit_kernel_cache
        from emo_nb.engine.threads import configure_threads

        configure_threads()
        limit_kernel_cache()
    print(json.dumps(PARTS[given.part][given.way](given.size)))
