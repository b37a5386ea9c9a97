"""Training: the transformers Trainer, set up for short texts on a small machine."""

import math
import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .config import TrainConfig
from .core import logger
from .encode import TextDataset, TokenBatchSampler, padding_share
from .engine.callbacks import (
    DEV_METRICS,
    DeferredInterrupt,
    averaging_callback,
    checkpoints_callback,
    last_checkpoint,
    progress_callback,
)
from .engine.checkpoints import quiet_transformers
from .engine.device import Backend, check_can_train, choose_backend, forward_flops, measure_peak_flops
from .engine.forward import fast_training
from .engine.memory import is_out_of_memory, release_memory
from .io.files import explain_full_disk
from .model import output_layer


def layer_learning_rates(model: Any, settings: TrainConfig) -> dict[str, float]:
    """The learning rate of each trained parameter by name: `learning_rate * layer_decay ** layers above it`.

    The output layer, which starts from scratch, has `head_learning_rate`. Howard and Ruder 2018, arXiv 1801.06146.
    """
    settings = settings.resolved()
    assert settings.learning_rate is not None
    n_layers = getattr(model.config, "num_hidden_layers", 0)
    head = {id(parameter) for parameter in output_layer(model).parameters()}
    rates = {}
    for name, parameter in model.named_parameters():
        layer = re.search(r"\.layers?\.(\d+)\.", name)
        depth = 0 if "embeddings" in name else int(layer[1]) + 1 if layer else n_layers
        decayed = settings.learning_rate * settings.layer_decay ** (n_layers - depth)
        if parameter.requires_grad:
            rates[name] = settings.head_learning_rate if id(parameter) in head else decayed
    return rates


def build_optimizer(model: Any, settings: TrainConfig) -> Any:
    "AdamW with each parameter's own learning rate; biases and norms have no weight decay."
    import torch

    groups: dict[tuple[float, float], list[Any]] = {}
    by_name = dict(model.named_parameters())
    for name, rate in layer_learning_rates(model, settings).items():
        decay = settings.weight_decay if by_name[name].ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(by_name[name])
    parts = [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    return torch.optim.AdamW(parts, betas=(0.9, 0.98), eps=1e-6, fused=True)


def compute_dev_metrics(prediction: Any) -> dict[str, float]:
    "What an epoch is chosen by (`choice`): macro-F1, or mean average precision where a text may have several labels."
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    logits, truth = prediction.predictions, prediction.label_ids
    if truth.ndim == 1:
        chosen = logits.argmax(-1)
        macro = f1_score(truth, chosen, average="macro", zero_division=0)
        return {"accuracy": accuracy_score(truth, chosen), "macro_f1": macro, "choice": macro}
    has_rows = truth.any(axis=0)
    precision = average_precision_score(truth[:, has_rows], logits[:, has_rows], average="macro")
    return {"average_precision": precision, "choice": precision}


def build_trainer(callbacks: list[Any], **options: Any) -> Any:
    """A Trainer whose batches hold as many tokens each, and in whose loss every row counts the same.

    Where memory runs out, batches are computed in halves. Of its callbacks only `callbacks` write anything.
    """
    from torch.utils.data import DataLoader
    from transformers import Trainer
    from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
    from transformers.trainer_callback import PrinterCallback

    class ShortTextTrainer(Trainer):
        n_parts = 1  # that a batch is computed in

        def get_train_dataloader(self) -> Any:
            rows, args = self.train_dataset, self.args
            size, epochs = args.per_device_train_batch_size, math.ceil(args.num_train_epochs)
            sampler = TokenBatchSampler(rows.lengths, size, epochs, args.seed, args.world_size, args.process_index)
            loader = DataLoader(rows, batch_sampler=sampler, collate_fn=self.data_collator)
            loader.set_epoch = sampler.set_epoch
            self.mean_rows = len(rows) / sampler.count
            self.padding = padding_share([np.array(batch) for batch in sampler], rows.lengths)
            return loader

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **others: Any) -> Any:
            loss = super().compute_loss(model, inputs, return_outputs, **others)
            return loss if return_outputs else loss * (len(inputs["input_ids"]) / self.mean_rows)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            step, rows = super().training_step, len(inputs["input_ids"])
            parts = zip(*(tensor.tensor_split(min(self.n_parts, rows)) for tensor in inputs.values()), strict=True)
            try:
                return sum(step(model, dict(zip(inputs, part, strict=True)), num_items_in_batch) for part in parts)
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.n_parts >= rows or self.args.world_size > 1:
                    raise
            if self.n_parts == 1:
                logger.warning("memory does not suffice for %s texts at once; batches are halved", rows)
            self.n_parts *= 2
            model.zero_grad()
            release_memory()
            return self.training_step(model, inputs, num_items_in_batch)

    trainer = ShortTextTrainer(compute_metrics=compute_dev_metrics, **options)
    for kind in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(kind)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def fit(
    model: Any,  # a transformers classifier, with or without LoRA; trained in place
    tokenizer: Any,
    train: TextDataset,
    dev: TextDataset,
    folder: Path,  # for checkpoints; where there are some of emo_nb's, training resumes from the last one
    settings: TrainConfig | None = None,
    seed: int = 42,
    loss: Any = None,  # f(outputs, labels, num_items_in_batch) -> scalar; default: the model's own
    backend: Backend | None = None,  # default: what suits the machine
    show_progress_bar: bool = True,
) -> pd.DataFrame:
    """Train a model, keep the epoch that scores best on dev, and return the history: one row an epoch.

    The history's `attrs` hold the speed (`training_speed`). Ctrl-C stops after a checkpoint, a full disk with a
    `ConfigError`; the same call then resumes from the last complete checkpoint. Where `accelerate launch` started
    several processes, they train one model together, and each ends with it.
    """
    from accelerate.utils import broadcast_object_list
    from transformers import DataCollatorWithPadding

    settings = (settings or TrainConfig()).resolved()
    backend = backend or choose_backend()
    args = training_arguments(settings, folder, backend, seed, show_progress_bar)
    resume_from = None if args.process_index else last_checkpoint(folder)
    args.output_dir, resume_from = broadcast_object_list([args.output_dir, resume_from])  # the first process decides
    start, interrupt = time.perf_counter(), DeferredInterrupt()
    shown = [progress_callback()] if show_progress_bar else []
    averaged = (
        [averaging_callback(settings.averaging_power, resume_from)] if settings.averaging_power is not None else []
    )
    trainer = build_trainer(
        [*shown, *averaged, checkpoints_callback(settings.save_steps, interrupt)],
        model=model,
        train_dataset=train,
        eval_dataset=_longest_first(dev),
        compute_loss_func=loss,
        args=args,
        data_collator=DataCollatorWithPadding(tokenizer),
        optimizers=(build_optimizer(model, settings), None),
    )
    interruptible = interrupt if args.world_size == 1 else nullcontext()
    # peft looks up the base model of each checkpoint, in vain and with a warning
    with (
        quiet_transformers(),
        fast_training(model, backend, train.lengths.mean()),
        explain_full_disk(folder),
        interruptible,
    ):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        trainer.accelerator.wait_for_everyone()
    for name in (
        "forward",
        "_original_forward",
        "_is_accelerate_prepared",
    ):  # accelerate's wrapper would go on rounding
        model.__dict__.pop(name, None)
    history = training_history(trainer)
    history.attrs |= training_speed(trainer, backend, time.perf_counter() - start, resume_from)
    return history


def training_arguments(
    settings: TrainConfig, folder: Path, backend: Backend, seed: int = 42, show_progress_bar: bool = True
) -> Any:
    "The settings as transformers' `TrainingArguments`."
    from transformers import TrainingArguments

    check_can_train(backend)
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup_ratio,
        bf16=backend.dtype == "bfloat16",
        fp16=backend.dtype == "float16",
        use_cpu=backend.device == "cpu",
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="choice",
        logging_strategy="epoch",
        report_to="none",
        average_tokens_across_devices=False,  # the loss is a mean over rows
        ddp_find_unused_parameters=False,
        seed=seed,
        disable_tqdm=not show_progress_bar,
        dataloader_pin_memory=False,
    )


def _longest_first(rows: TextDataset) -> Any:
    "The rows by length: where memory does not suffice for the longest, it shows at once."
    from torch.utils.data import Subset

    return Subset(rows, np.argsort(rows.lengths)[::-1].tolist())  # type: ignore[arg-type]


def training_history(trainer: Any) -> pd.DataFrame:
    "The dev metrics, one row an epoch."
    history = pd.DataFrame([logs for logs in trainer.state.log_history if "eval_loss" in logs])
    columns = {f"eval_{name}": f"dev_{name}" for name in DEV_METRICS if f"eval_{name}" in history}
    return history[["epoch", *columns]].rename(columns=columns).round(4)


def training_speed(trainer: Any, backend: Backend, seconds: float, resume_from: Path | None = None) -> dict[str, float]:
    """Examples and tokens a second, scoring on dev included, and the share of padding among the tokens.

    `utilisation`, where the architecture's arithmetic is known: the share of the machine's peak that it amounts to.
    """
    model, lengths, args = trainer.model, trainer.train_dataset.lengths, trainer.args
    steps_before = int(resume_from.name.split("-")[1]) if resume_from else 0
    epochs = args.num_train_epochs * (1 - steps_before / trainer.state.global_step)
    speed = {
        "examples_per_second": round(epochs * len(lengths) / seconds, 1),
        "tokens_per_second": round(epochs * float(lengths.sum()) / seconds, 1),
        "padding": round(float(trainer.padding), 4),
    }
    if hasattr(model.config, "intermediate_size"):
        passes = 2 if hasattr(model, "peft_config") else 3
        rate = epochs * passes * forward_flops(model.config, lengths) / seconds
        speed["utilisation"] = round(rate / measure_peak_flops(backend) / args.world_size, 4)
    return speed
