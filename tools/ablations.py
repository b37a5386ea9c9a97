"""What each choice of the recipe is worth: GoEmotions' 28 labels, one change at a time, scored on dev alone.

Called by tools/results.py. A change of a setting is a run of its own; a change of the loss, the targets or the model
is trained here with `fit`. Both are kept in runs/ablations/, and what is there already is not trained again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, f1_score
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from emo_nb.config import METHOD_DEFAULTS, Config
from emo_nb.corpora import load_corpus
from emo_nb.encode import TextDataset, encode_labels
from emo_nb.evaluate import choose_thresholds, f1_curve, fit_temperature, log_loss
from emo_nb.io.files import atomic_dir
from emo_nb.model import find_encoder, freeze_embeddings, load_tokenizer, new_classifier, save_model
from emo_nb.predict import TrainedClassifier
from emo_nb.report import Run
from emo_nb.run import load_examples, make_splits, run_experiment
from emo_nb.taxonomy import EMPATHETIC, get_task
from emo_nb.train import fit

FOLDER = Path(__file__).resolve().parent.parent / "runs" / "ablations"
LABELS = sorted(get_task("goemotions28").labels)
ENCODER_RATE = METHOD_DEFAULTS["finetune"]["learning_rate"]
SEEDS = ("the recipe", "another seed", "a third seed")


def make_config(**changes: Any) -> Config:
    "The recipe's settings, some of them changed."
    recipe = {"task": "goemotions28", "encoder": "minilm", "method": "finetune"}
    return Config.from_preset("full", **{**recipe, **changes})


@dataclass(frozen=True)
class Training:
    "What `fit` is given."

    model: Any
    texts: list[str]
    targets: np.ndarray  # (n_texts, n_labels)
    trained: dict[str, Path]  # the folders of the variants before this one
    loss: Callable[..., torch.Tensor] | None = None  # f(outputs, targets, num_items_in_batch); None: the model's own


Change = Callable[[Training], dict[str, Any]]  # to the fields of a Training that change


def new_model(labels: list[str] = LABELS, encoder: Path | None = None) -> Any:
    "The recipe's model, not yet trained."
    encoder, seed = encoder or find_encoder("minilm"), make_config().seed
    return freeze_embeddings(new_classifier(encoder, labels, "minilm", seed, multi_label=True))


def use_first_token(training: Training) -> dict[str, Any]:
    "An encoder that does not say that it was trained with mean pooling gets no added layer."
    with TemporaryDirectory() as folder:
        copytree(find_encoder("minilm"), folder, ignore=ignore_patterns("1_Pooling"), dirs_exist_ok=True)
        return {"model": new_model(encoder=Path(folder))}


def asymmetric_loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    "Easy negatives count little, very easy ones not at all. Ridnik et al. 2021, arXiv 2009.14119."
    gamma, clip = 4, 0.05
    p = outputs.logits.sigmoid()
    q = (1 - p + clip).clamp(max=1)
    positive = targets * (1 - p) * p.clamp(min=1e-8).log()
    negative = (1 - targets) * (1 - q) ** gamma * q.clamp(min=1e-8).log()
    return -(positive + negative).mean()


def adjust_logits(training: Training) -> dict[str, Any]:
    "The loss of logits to which the labels' log-odds are added. Menon et al. 2021, arXiv 2007.07314."
    log_odds = torch.from_numpy(logit(training.targets.mean(axis=0)))
    return {"loss": lambda outputs, targets, **others: cross_entropy(outputs.logits + log_odds, targets)}


def add_prompts(training: Training) -> dict[str, Any]:
    "EmpatheticDialogues' prompts as a second task; each text has targets for the labels of its own task only."
    frame = load_corpus("empathetic", text_unit="prompt").frame
    prompts = frame[frame.split == "train"]
    first, second = training.targets, encode_labels(prompts.labels, EMPATHETIC)
    targets = np.full(np.add(first.shape, second.shape), np.nan, np.float32)
    targets[: len(first), : len(LABELS)], targets[len(first) :, len(LABELS) :] = first, second

    def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        is_known = ~targets.isnan()
        return cross_entropy(outputs.logits[is_known], targets[is_known])

    return {
        "model": new_model([*LABELS, *(f"empathetic {label}" for label in EMPATHETIC)]),
        "texts": [*training.texts, *prompts.text],
        "targets": targets,
        "loss": loss,
    }


def distill(training: Training, teachers: Sequence[str]) -> dict[str, Any]:
    "Half of each target is the teachers' mean probability. Hinton et al. 2015, arXiv 1503.02531."
    logits = [predict_logits(training.trained[name], training.texts) for name in teachers]
    return {"targets": (training.targets + expit(logits).mean(axis=0)) / 2}


VARIANTS: dict[str, tuple[str, dict[str, Any] | Change]] = {  # in words, and as settings or as a change of the training
    "the recipe": ("full fine-tuning, two epochs, rates and averaging as TrainConfig has them", {}),
    "another seed": ("the recipe again, other rows first", {"seed": 43}),
    "a third seed": ("the recipe again, other rows first", {"seed": 44}),
    "one epoch": ("1 epoch for 2", {"epochs": 1}),
    "three epochs": ("3 epochs for 2", {"epochs": 3}),
    "slow head": ("the classifier learns at the encoder's rate", {"head_learning_rate": ENCODER_RATE}),
    "no averaging": ("the last step's weights", {"averaging_power": None}),
    "longer averaging": ("every step weighs the same in the average", {"averaging_power": 0}),
    "no layer decay": ("every layer learns at the last one's rate", {"layer_decay": 1}),
    "first token": ("transformers' own pooler, no added layer", use_first_token),
    "dropout": ("dropout 0.1 in the encoder", {"dropout": 0.1}),
    "embeddings trained": ("the embeddings learn, too", lambda training: {"model": training.model.requires_grad_()}),
    "smaller batches": ("batches of 32 texts for 64", {"batch_size": 32}),
    "label smoothing": ("targets 0.05 and 0.95", lambda training: {"targets": 0.05 + 0.9 * training.targets}),
    "asymmetric loss": ("asymmetric loss, gamma 4 and 1, clip 0.05", lambda training: {"loss": asymmetric_loss}),
    "logit adjustment": ("the labels' log-odds added in training", adjust_logits),
    "two heads": ("EmpatheticDialogues' prompts as a second task on the same encoder", add_prompts),
    "self-distillation": ("half of each target from the recipe's own model", partial(distill, teachers=SEEDS[:1])),
    "distillation": ("half of each target from the mean of the recipe's three seeds", partial(distill, teachers=SEEDS)),
    "LoRA": ("LoRA of rank 16", {"method": "lora"}),
}


def ablations(runs: dict[str, Run]) -> dict[str, Any]:
    """Dev scores of each variant, and of each way to choose thresholds for the recipe.

    `runs`: the variants that are runs of other experiments too, by name.
    """
    examples = load_examples(make_config())
    splits = make_splits(examples.rows, examples.task, make_config())
    truth, trained, logits = encode_labels(splits["dev"].targets, LABELS), {}, {}
    for name, (what, change) in VARIANTS.items():
        print(f"\n{name}: {what}", flush=True)
        trained[name] = folder = runs[name].folder if name in runs else FOLDER / name.replace(" ", "_")
        if not folder.exists():
            if isinstance(change, dict):
                run_experiment(make_config(**change, out=folder))
            else:
                train_changed(splits, change, trained, folder)
        logits[name] = predict_logits(folder, splits["dev"].text)[:, : len(LABELS)]
    scores = {name: {"what": what, **dev_scores(logits[name], truth)} for name, (what, _) in VARIANTS.items()}
    three = logit(expit([logits[name] for name in SEEDS]).mean(axis=0))
    scores["three models"] = {"what": "the mean probabilities of the recipe's three seeds", **dev_scores(three, truth)}
    precision = {name: average_precision_score(truth, logits[name], average=None) for name in (*SEEDS, "two heads")}
    recipe = expit(logits["the recipe"] / fit_temperature(logits["the recipe"], truth, True))
    return {
        "seed": make_config().seed,
        "dev_rows": len(truth),
        "variants": scores,
        "thresholds": {name: cross_validated_f1(recipe, truth, choose) for name, choose in THRESHOLDS.items()},
        "label_precision": pd.DataFrame(precision, LABELS).round(4).to_dict(),
    }


def train_changed(splits: Any, change: Change, trained: dict[str, Path], out: Path) -> None:
    "Train the recipe with a change of its loss, targets or model, and save the model to `out`."
    config, tokenizer = make_config(), load_tokenizer(find_encoder("minilm"), max_length=256)
    texts, dev_texts = (list(splits[name].text) for name in ("train", "dev"))
    targets, dev_targets = (encode_labels(splits[name].targets, LABELS) for name in ("train", "dev"))
    training = Training(new_model(), texts, targets.astype(np.float32), trained)
    training = replace(training, **change(training))
    n_added = training.targets.shape[1] - len(LABELS)  # labels of a second task
    train = TextDataset(training.texts, tokenizer, training.targets, multi_label=True)
    dev = TextDataset(dev_texts, tokenizer, np.pad(dev_targets, ((0, 0), (0, n_added))), multi_label=True)
    with TemporaryDirectory() as checkpoints, atomic_dir(out, "model") as folder:
        fit(training.model, tokenizer, train, dev, Path(checkpoints), config.train, config.seed, training.loss)
        save_model(training.model, tokenizer, folder)


def predict_logits(folder: Path, texts: Iterable[str]) -> np.ndarray:
    "The logits of a saved model before its temperature, (n_texts, n_labels)."
    classifier = TrainedClassifier.from_pretrained(folder)
    return classifier.logits(texts) * getattr(classifier.config, "emo_nb_temperature", 1)


def dev_scores(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    "Cross-validated macro-F1, mean average precision and the log-loss of a row, all at the best temperature."
    logits = logits / fit_temperature(logits, truth, True)
    return {
        "macro_f1": cross_validated_f1(expit(logits), truth, choose_thresholds),
        "average_precision": mean_average_precision(truth, logits),
        "log_loss": round(log_loss(logits, truth, True), 4),
    }


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    "The mean over labels of average precision: truth and scores are (n_rows, n_labels)."
    return round(float(average_precision_score(truth, scores, average="macro")), 4)


def cross_validated_f1(proba: np.ndarray, truth: np.ndarray, choose: Callable[..., np.ndarray]) -> float:
    "Macro-F1 where each fifth of the rows gets the thresholds chosen on the others; the mean over four draws."
    scores = []
    for draw in range(4):
        fold = np.random.default_rng(draw).permutation(len(truth)) % 5
        predicted = np.zeros(truth.shape, dtype=bool)
        for k in range(5):
            predicted[fold == k] = proba[fold == k] >= choose(proba[fold != k], truth[fold != k])
        scores.append(f1_score(truth, predicted, average="macro", zero_division=0))
    return round(float(np.mean(scores)), 4)


def best_thresholds(proba: np.ndarray, truth: np.ndarray, prior_rows: float, smoothing: float = 1e-3) -> np.ndarray:
    "Each label's best on its F1 curve, averaged with the mean curve of all labels, which weighs as so many rows."
    step = 0.1
    grid = expit(np.arange(-4, 3, step))
    curves = np.stack([f1_curve(p, y, grid) for p, y in zip(proba.T, truth.T, strict=True)])
    curves = gaussian_filter1d(curves, smoothing / step, axis=1, mode="nearest")
    return grid[(truth.sum(axis=0)[:, None] * curves + prior_rows * curves.mean(axis=0)).argmax(axis=1)]


THRESHOLDS: dict[str, Callable[..., np.ndarray]] = {
    "one half for all": lambda proba, truth: np.full(truth.shape[1], 0.5),
    "one for all, from dev": partial(best_thresholds, prior_rows=1e9),
    "each label's best": partial(best_thresholds, prior_rows=0),
    "each label's best, smoothed": partial(choose_thresholds, prior_rows=0),
    "smoothed, drawn to all labels' best": partial(best_thresholds, prior_rows=20, smoothing=0.5),
    "smoothed, drawn to what the model expects": choose_thresholds,
    "what the model expects": lambda proba, truth: choose_thresholds(proba, 0 * truth),
}
