"""What training does beside its steps: a progress bar, the running average of the weights, checkpoints to resume from.

A checkpoint is marked as complete after its last file is written, so one that a kill tore is recognised and removed.
Ctrl-C is put off until the current step is saved. The running average is part of the checkpoint: a resumed training
ends with the same weights as one that was never interrupted.
"""

import signal
import threading
from pathlib import Path
from typing import Any

from ..core import ConfigError, first_line, logger
from ..io.files import remove_path

DEV_METRICS = ("loss", "accuracy", "macro_f1", "average_precision")
COMPLETE_MARKER = "whole"  # a file in a checkpoint that was written to its end
OWNER_MARKER = "checkpoints of emo_nb"  # a file beside the checkpoints; without it, another program wrote them


def format_epoch(logs: dict[str, float]) -> str:
    "The dev metrics of one epoch in one line."
    metrics = [f"dev {name} {logs[f'eval_{name}']:.3f}" for name in DEV_METRICS if f"eval_{name}" in logs]
    return "   ".join([f"epoch {logs['epoch']:.0f}", *metrics]).replace("_", " ")


def progress_callback() -> Any:
    "The Trainer's progress bar, with one line for each epoch."
    from transformers.trainer_callback import ProgressCallback

    class EpochLines(ProgressCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self.training_bar is not None and "eval_loss" in logs:
                self.training_bar.write(format_epoch(logs))

    return EpochLines()


def stopping_callback(rounds: int) -> Any:
    "Stops a training after so many epochs without a better dev score, also where some of them were before a resumption."
    from transformers import EarlyStoppingCallback

    class EarlyStopping(EarlyStoppingCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
            self.early_stopping_patience_counter = saved.get("early_stopping_patience_counter", 0)
            super().on_train_begin(args, state, control, **kwargs)

    return EarlyStopping(early_stopping_patience=rounds)


class WeightAverage:
    """A running average of a model's weights, in which step t has the weight t**power.

    `swap` exchanges the average and the model's weights. Polynomial-decay averaging: Shamir and Zhang 2013, arXiv
    1212.1824.
    """

    def __init__(self, weights: list[Any], power: float):
        self.weights, self.power = weights, power
        self.average = [weight.clone() for weight in weights]
        self.is_swapped = False  # whether the model holds the average at the moment

    def update(self, step: int) -> None:
        "Take in the weights after a step, counted from 1."
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        get_ema_multi_avg_fn((step - 1) / (step + self.power))(self.average, self.weights, step)

    def swap(self) -> None:
        "Exchange the model's weights and the average."
        for weight, average in zip(self.weights, self.average, strict=True):
            before = weight.clone()
            weight.copy_(average)
            average.copy_(before)
        self.is_swapped = not self.is_swapped

    def save(self, file: Path) -> None:
        "Write the tensors that are not in the model."
        from safetensors.torch import save_file

        tensors = {str(i): average for i, average in enumerate(self.average)}
        save_file(tensors, file, {"stands_in": str(self.is_swapped)})

    def load(self, file: Path) -> None:
        "Read what `save` wrote."
        from safetensors import safe_open

        with safe_open(file, "pt") as tensors:
            for i, average in enumerate(self.average):
                average.copy_(tensors.get_tensor(str(i)))
            self.is_swapped = tensors.metadata()["stands_in"] == "True"


def averaging_callback(power: float, resume_from: Path | None = None) -> Any:
    "Keeps a `WeightAverage` and swaps it into the model while it is evaluated and saved, between two epochs."
    from transformers import TrainerCallback

    file = "averaging.safetensors"

    class Averaging(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self.average = WeightAverage([p.data for p in model.parameters() if p.requires_grad], power)
            if resume_from:
                self.average.load(resume_from / file)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.average.update(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                self.average.save(Path(args.output_dir, f"checkpoint-{state.global_step}", file))

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.average.is_swapped:
                self.average.swap()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.average.swap()

    return Averaging()


class DeferredInterrupt:
    "A context in which Ctrl-C is put off until the work is saved; a second one stops at once. Main thread only."

    def __init__(self) -> None:
        self.is_requested = False

    def __enter__(self) -> "DeferredInterrupt":
        self.in_main_thread = threading.current_thread() is threading.main_thread()  # no other may handle signals
        self.previous = signal.signal(signal.SIGINT, self._handle) if self.in_main_thread else None
        return self

    def __exit__(self, *_: Any) -> None:
        if self.in_main_thread:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, *_: Any) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        logger.warning("stopping as soon as this step is saved; Ctrl-C again stops at once")


def checkpoints_callback(every: int, interrupt: DeferredInterrupt) -> Any:
    """Saves a checkpoint every so many steps, marks complete ones, and keeps only the newest and the best.

    It must come after callbacks that save files of their own.
    """
    from torch.distributed import barrier
    from transformers import TrainerCallback

    class Checkpoints(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
            is_due = interrupt.is_requested or state.global_step % every == 0
            ends_epoch = state.global_step % len(train_dataloader) == 0  # the epoch's own checkpoint follows
            control.should_save |= is_due and not ends_epoch

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            name, folder = f"checkpoint-{state.global_step}", Path(args.output_dir)
            if args.world_size > 1:
                barrier()  # the random states of all processes belong to it
            if state.is_world_process_zero:
                (folder / name / COMPLETE_MARKER).touch()
                needed = {name, Path(state.best_model_checkpoint or name).name}
                for checkpoint in list_checkpoints(folder):
                    if checkpoint.name not in needed:
                        remove_path(checkpoint)
            if interrupt.is_requested:
                raise KeyboardInterrupt(f"all is saved in {name}")

    return Checkpoints()


def list_checkpoints(folder: Path) -> list[Path]:
    "The checkpoints in a folder, the oldest first."
    by_step = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*")}
    return [by_step[step] for step in sorted(filter(str.isdecimal, by_step), key=int)]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder, or None; incomplete ones are removed, and the folder is marked as ours.

    Raises `ConfigError` where another program's checkpoints are there, or nothing can be written.
    """
    checkpoints = list_checkpoints(folder)
    if checkpoints and not (folder / OWNER_MARKER).exists():
        raise ConfigError(f"{folder} holds checkpoints that another program wrote; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OWNER_MARKER).touch()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({first_line(error)}); name another folder") from error
    for checkpoint in checkpoints:
        if not (checkpoint / COMPLETE_MARKER).exists():
            remove_path(checkpoint)
    complete = [checkpoint for checkpoint in checkpoints if checkpoint.exists()]
    return complete[-1] if complete else None
