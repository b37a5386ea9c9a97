"""What each choice is worth: GoEmotions' 28 labels, one change at a time, one seed, scored on dev alone.

Called by tools/results.py. Each variant is trained with the package's own `fit`, or is a run that is there already;
its logits are kept in runs/ablations/, so that a variant already trained is not trained again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from emo_nb.calibrate import f1_curve, log_loss, probabilities, temperature, thresholds
from emo_nb.config import METHODS, Config
from emo_nb.corpora import load
from emo_nb.encode import TextDataset, encode_targets
from emo_nb.model import find_encoder, new_classifier, tokenizer_of, with_layers
from emo_nb.predict import EmotionClassifier
from emo_nb.run import choose_rows, gather
from emo_nb.rundir import Run
from emo_nb.taxonomy import EMPATHETIC
from emo_nb.train import TrainSettings, fit

KEPT = Path(__file__).resolve().parent.parent / "runs" / "ablations"
SETTINGS = TrainSettings(epochs=2, **METHODS["full"])


def bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    "Binary cross-entropy, the multi-label default."
    return F.binary_cross_entropy_with_logits(logits, targets)


def asymmetric(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 4, clip: float = 0.05) -> torch.Tensor:
    "Asymmetric loss (Ridnik et al. 2021): easy negatives count little, very easy ones not at all."
    p = logits.sigmoid()
    missed = (1 - p + clip).clamp(max=1)
    positive = targets * p.clamp(min=1e-8).log() * (1 - p)
    negative = (1 - targets) * missed.clamp(min=1e-8).log() * (1 - missed) ** gamma
    return -(positive + negative).mean()


def masked(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    "Binary cross-entropy over the targets that are known; the others are NaN."
    known = ~targets.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], targets[known])


@dataclass(frozen=True)
class Variant:
    "One change to the recipe."

    what: str
    settings: TrainSettings = SETTINGS
    loss: Callable[..., torch.Tensor] | None = None
    targets: Callable[[np.ndarray], np.ndarray] = field(default=lambda targets: targets)
    change: Callable[[Any], Any] = field(default=lambda model: model)
    encoder_says: str = "mean"  # how the head reads the encoder
    two_heads: bool = False
    teachers: tuple[str, ...] = ()  # variants whose mean probabilities are half of each target


def dropout(model: Any, p: float = 0.1) -> Any:
    "The encoder's own dropout, which emo_nb turns off."
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
    return model


def adjusted(targets: np.ndarray) -> Callable[..., torch.Tensor]:
    "Logit adjustment (Menon et al. 2021): train on logits to which the labels' log-odds are added."
    share = torch.from_numpy(targets.mean(axis=0)).logit()
    return lambda logits, wanted: bce(logits + share, wanted)


SEEDS = ("the recipe", "another seed", "a third seed")
VARIANTS = {
    "the recipe": Variant("full fine-tuning, two epochs, rates and averaging as TrainSettings has them"),
    "another seed": Variant("the recipe again, other rows first"),
    "a third seed": Variant("the recipe again, other rows first"),
    "one epoch": Variant("1 epoch for 2", replace(SETTINGS, epochs=1)),
    "three epochs": Variant("3 epochs for 2", replace(SETTINGS, epochs=3)),
    "slow head": Variant(
        "the classifier learns at the encoder's rate", replace(SETTINGS, head_rate=SETTINGS.learning_rate)
    ),
    "no averaging": Variant("the last step's weights", replace(SETTINGS, averaging=None)),
    "longer averaging": Variant("every step weighs the same in the average", replace(SETTINGS, averaging=0)),
    "no layer decay": Variant("every layer learns at the last one's rate", replace(SETTINGS, layer_decay=1)),
    "first token": Variant("transformers' own pooler, no added layer", encoder_says="first"),
    "dropout": Variant("dropout 0.1 in the encoder", change=dropout),
    "embeddings trained": Variant("the embeddings learn, too", change=lambda model: model.requires_grad_()),
    "smaller batches": Variant("batches of 32 texts for 64", replace(SETTINGS, batch_size=32)),
    "label smoothing": Variant("targets 0.05 and 0.95", targets=lambda y: 0.05 + 0.9 * y),
    "asymmetric loss": Variant("asymmetric loss, gamma 4 and 1, clip 0.05", loss=asymmetric),
    "logit adjustment": Variant("the labels' log-odds added in training", loss=adjusted),
    "two heads": Variant("EmpatheticDialogues' prompts as a second task on the same encoder", two_heads=True),
    "self-distillation": Variant("half of each target from the recipe's own model", teachers=("the recipe",)),
    "distillation": Variant("half of each target from the mean of the recipe's three seeds", teachers=SEEDS),
    "LoRA": Variant("LoRA of rank 16"),
}


def ablations(runs: dict[str, Run]) -> dict[str, Any]:
    """Dev scores of each variant, and of each way to choose thresholds for the recipe.

    `runs`: those of the variants that are there as runs.
    """
    material = gather(Config(task="goemotions28"), say=lambda line: None)
    parts = choose_rows(material.rows, material.task, Config(task="goemotions28", profile="full"))
    labels = sorted(material.task.labels)
    truth = encode_targets(labels, list(parts["dev"].targets))
    KEPT.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, variant in VARIANTS.items():
        if not file_of(name).exists():
            print(f"\n{name}: {variant.what}", flush=True)
            np.savez(file_of(name), **(of_run(runs[name], parts) if name in runs else trained(variant, parts, labels)))
        rows[name] = {"what": variant.what, **scored(np.load(file_of(name))["dev"], truth)}
    together = logit(mean_probabilities(SEEDS, "dev"))
    rows["three models"] = {"what": "the mean probabilities of the recipe's three seeds", **scored(together, truth)}
    recipe = np.load(file_of("the recipe"))["dev"]
    recipe = probabilities(recipe / temperature(recipe, truth, True), True)
    ways = {name: across_folds(recipe, truth, way) for name, way in THRESHOLDS.items()}
    both_heads = {name: by_label(np.load(file_of(name))["dev"], truth, labels) for name in (*SEEDS, "two heads")}
    return {
        "seed": SETTINGS.seed,
        "dev_rows": len(truth),
        "variants": rows,
        "thresholds": ways,
        "label_precision": both_heads,
    }


def file_of(name: str) -> Path:
    "Where a variant's logits are kept."
    return KEPT / f"{name.replace(' ', '_')}.npz"


def mean_probabilities(names: tuple[str, ...], part: str) -> np.ndarray:
    "The mean over variants of what they say about a part."
    return np.mean([probabilities(np.load(file_of(name))[part], True) for name in names], axis=0)


def of_run(run: Run, parts: dict[str, Any]) -> dict[str, np.ndarray]:
    "The logits of a run, before its temperature."
    classifier = EmotionClassifier.load(run.folder)
    warmth = classifier.model.config.emo_nb_temperature
    return {part: classifier.logits(parts[part].text) * warmth for part in ("dev", "train")}


def trained(variant: Variant, parts: dict[str, Any], labels: list[str]) -> dict[str, np.ndarray]:
    "Train a variant; its logits on dev, and on train for those that it will teach."
    minilm = find_encoder("minilm")
    tokenizer = tokenizer_of(minilm, max_length=256)
    truth = {part: encode_targets(labels, list(parts[part].targets)) for part in ("train", "dev")}
    texts, targets, heads = list(parts["train"].text), variant.targets(truth["train"]), list(labels)
    if variant.teachers:
        targets = ((targets + mean_probabilities(variant.teachers, "train")) / 2).astype(np.float32)
    loss = variant.loss(truth["train"]) if variant.loss is adjusted else variant.loss
    if variant.two_heads:
        texts, targets, heads, loss = with_prompts(texts, targets, heads)
    model = new_classifier(minilm, heads, "minilm", variant.settings.seed, multi_label=True)
    if variant.encoder_says == "first":
        model = plain(minilm, heads, variant.settings.seed)
    model = variant.change(with_layers(model))
    dev_targets = np.pad(truth["dev"], ((0, 0), (0, len(heads) - len(labels))))
    dev = TextDataset(list(parts["dev"].text), tokenizer, dev_targets)
    with TemporaryDirectory() as folder:
        ours = (lambda outputs, wanted, num_items_in_batch=None: loss(outputs.logits, wanted)) if loss else None
        fit(model, tokenizer, TextDataset(texts, tokenizer, targets), dev, Path(folder), variant.settings, ours)
    classifier = EmotionClassifier(model, tokenizer)
    return {part: classifier.logits(parts[part].text)[:, : len(labels)].astype(np.float32) for part in ("dev", "train")}


def with_prompts(texts: list[str], targets: np.ndarray, heads: list[str]) -> tuple[Any, ...]:
    "GoEmotions' comments and EmpatheticDialogues' prompts, each with targets for its own labels only."
    frame = load("empathetic", unit="prompt").frame
    prompts = frame[frame.split == "train"]
    other = encode_targets(EMPATHETIC, list(prompts.labels))
    both = np.full((len(targets) + len(other), len(heads) + len(EMPATHETIC)), np.nan, dtype=np.float32)
    both[: len(targets), : len(heads)], both[len(targets) :, len(heads) :] = targets, other
    return [*texts, *prompts.text], both, [*heads, *(f"empathetic {label}" for label in EMPATHETIC)], masked


def plain(folder: Path, heads: list[str], seed: int) -> Any:
    "transformers' classifier as it comes: no added layer, the first token through a fresh pooler."
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(heads), problem_type="multi_label_classification", hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    return model


def scored(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    "Macro-F1 with thresholds from other folds of dev, mean average precision, log-loss a row; all with the best temperature."
    logits = logits / temperature(logits, truth, True)
    return {
        "macro_f1": across_folds(probabilities(logits, True), truth, thresholds),
        "average_precision": round(float(average_precision_score(truth, logits, average="macro")), 4),
        "log_loss": round(log_loss(logits, truth, True), 4),
    }


def by_label(logits: np.ndarray, truth: np.ndarray, labels: list[str]) -> dict[str, float]:
    "Average precision of each label on dev."
    found = average_precision_score(truth, logits, average=None)
    return {label: round(float(value), 4) for label, value in zip(labels, found, strict=True)}


def across_folds(proba: np.ndarray, truth: np.ndarray, way: Callable[..., np.ndarray], folds: int = 5) -> float:
    "Macro-F1 on dev where each fifth of the rows gets the thresholds that suit the other four; mean of four draws."
    found = []
    for draw in range(4):
        fold = np.random.default_rng(draw).permutation(len(truth)) % folds
        said = np.zeros(truth.shape, dtype=bool)
        for k in range(folds):
            said[fold == k] = proba[fold == k] >= way(proba[fold != k], truth[fold != k])
        hits = (said & (truth > 0)).sum(axis=0)
        found.append((2 * hits / np.maximum(said.sum(axis=0) + truth.sum(axis=0), 1)).mean())
    return round(float(np.mean(found)), 4)


GRID = expit(np.arange(-4, 3, 0.1))


def curves(proba: np.ndarray, truth: np.ndarray) -> np.ndarray:
    "F1 of each label over the grid: (n_labels, n_grid)."
    return np.stack([f1_curve(proba[:, j], truth[:, j], GRID) for j in range(truth.shape[1])])


def drawn(proba: np.ndarray, truth: np.ndarray, prior_rows: float = 20) -> np.ndarray:
    "Each label's best on its smoothed curve, averaged with the mean curve of all labels."
    smooth, rows = gaussian_filter1d(curves(proba, truth), 5, axis=1, mode="nearest"), truth.sum(axis=0)[:, None]
    return GRID[((rows * smooth + prior_rows * smooth.mean(axis=0)) / (rows + prior_rows)).argmax(axis=1)]


THRESHOLDS: dict[str, Callable[..., np.ndarray]] = {
    "one half for all": lambda proba, truth: np.full(truth.shape[1], 0.5),
    "one for all, from dev": lambda proba, truth: np.full(truth.shape[1], GRID[curves(proba, truth).mean(0).argmax()]),
    "each label's best": lambda proba, truth: GRID[curves(proba, truth).argmax(axis=1)],
    "each label's best, smoothed": lambda proba, truth: thresholds(proba, truth, prior_rows=0),
    "smoothed, drawn to all labels' best": drawn,
    "smoothed, drawn to what the model expects": thresholds,
    "what the model expects": lambda proba, truth: thresholds(proba, 0 * truth),
}
