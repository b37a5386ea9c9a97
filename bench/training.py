"""Training: transformers' Trainer as the study used it, a tuned one, and emo_nb's own `fit`."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Measure, device, from_machine, memory_so_far, texts_and_targets

if TYPE_CHECKING:
    from emo_nb.core import Method

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


def with_trainer(kind: str, epochs: int = 1, scored: bool = False, tuning: str = "1e-3") -> Measure:
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

    def __init__(self, method: "Method", rows: int, share: float = 1, shortest: bool = False):
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


def with_emo_nb(method: "Method", scored: bool = False, share: float = 1, shortest: bool = False) -> Measure:
    "emo_nb's own `fit`; on a share of the rows, the first ones or the shortest ones."

    def measure(rows: int) -> dict[str, Any]:
        ours = EmoNb(method, rows, share, shortest)
        if scored:
            return {"seconds": ours.seconds(), **dev_score(ours.model, ours.tokenizer)}
        ours.seconds(64)
        return trained(ours.seconds(), ours.texts, ours.model, ours.tokenizer, 3 if method == "finetune" else 2)

    return measure


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
