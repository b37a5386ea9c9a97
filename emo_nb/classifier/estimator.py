"""`EmotionClassifier`, and the `Evaluation` of one."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn import exceptions
from sklearn.base import BaseEstimator, ClassifierMixin

from ..config import TrainConfig
from ..core import ConfigError, DataError, Dtype, LongTexts, Method, ModelError, first_line, is_interactive, logger
from ..engine.random_states import restored_random_state
from ..evaluate import SCORES, compute_metrics, decide_labels, prediction_table
from ..predict import (
    BULK_TEXTS,
    MAX_BATCH_TOKENS,
    Backends,
    TrainedClassifier,
    check_long_texts,
    check_texts,
    check_windows,
    choose_backends,
    count_left_out,
    one_length_warning,
)
from .examples import NAME, Examples, check_can_learn, hold_out, log_examples, read_eval_set, read_examples
from .loss_weights import check_sample_weight, loss_weights
from .soft_targets import TrainingSet, Teacher, make_training_set

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Thresholds = float | Mapping[str, float]


class NotFittedError(ModelError, exceptions.NotFittedError):
    "A classifier that was neither fitted nor loaded is asked for something."


@dataclass(frozen=True)
class Evaluation:
    "Scores of a classifier on labelled texts: `overall`, `by_label`, and the `predictions` that they were computed from."

    overall: pd.DataFrame  # one row a score: value, and its 95 % interval from low to high
    by_label: pd.DataFrame  # one row a label: precision, recall, f1 with its interval, support, threshold
    predictions: pd.DataFrame  # one row a text: what `prediction_table` returns
    metrics: dict[str, Any]  # the same scores, as `compute_metrics` returns them

    def plot(self) -> "Figure":
        "The F1 of each label as a figure."
        from ..plots import plot_f1

        return plot_f1(pd.concat({NAME: self.by_label}, names=["corpus"]))

    def _repr_html_(self) -> str:
        return self.overall.round(3).to_html() + self.by_label.round(3).to_html()


class EmotionClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of texts, by default emotions, that is fitted in memory or loaded, with scikit-learn's interface.

    After `fit` or `from_pretrained` it has `classes_`, (n_labels,), the labels in the order of all probabilities;
    `trained_`, the model with its tokenizer; and after `fit` `history_`, the dev scores, one row an epoch.
    """

    def __init__(
        self,
        encoder: str
        | None = None,  # minilm, goemotions28 (both offline), a folder, a hub id; default: chosen by the labels
        method: Method = "lora",  # or finetune: train every layer
        *,
        multi_label: bool | None = None,  # may a text have several labels? told from the labels' form
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,  # of the labels in the loss
        validation_fraction: float = 0.1,  # share of the groups that chooses epoch and thresholds, without eval_set
        epochs: float = 3,  # at most; the one that scores best on dev is kept
        early_stopping_rounds: int | None = None,  # epochs without a better dev score, after which training stops
        batch_size: int | None = None,  # texts of mean length, whose tokens a batch has room for; the method's own
        learning_rate: float | None = None,  # of the encoder's last layer; the method's own
        head_learning_rate: float = 3e-2,  # of the output layer, which starts from scratch
        layer_decay: float = 0.8,  # a layer's rate, as a share of the rate of the one above
        warmup_ratio: float = 0.1,  # share of all steps
        weight_decay: float = 0.01,  # of AdamW; biases and norms have none
        averaging_power: float | None = 3,  # step t weighs t**power in the mean of the weights
        lora_rank: int = 16,  # dimensions of each adapter
        max_length: int = 256,  # tokens of a text that are read
        dropout: float = 0.0,  # in the encoder
        save_steps: int = 200,  # steps between checkpoints within an epoch
        long_texts: LongTexts = "truncate",  # or windows: predict all of a text that is longer than max_length
        random_state: int = 42,  # of every random choice
        device: str | None = None,  # a GPU where there is one
        dtype: str | None = None,  # the number format that the machine is fast at
        show_progress_bar: bool | None = None,  # None: in a terminal and in a notebook
    ):
        self.encoder = encoder
        self.method = method
        self.multi_label = multi_label
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.epochs = epochs
        self.early_stopping_rounds = early_stopping_rounds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.layer_decay = layer_decay
        self.warmup_ratio = warmup_ratio
        self.weight_decay = weight_decay
        self.averaging_power = averaging_power
        self.lora_rank = lora_rank
        self.max_length = max_length
        self.dropout = dropout
        self.save_steps = save_steps
        self.long_texts = long_texts
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.show_progress_bar = show_progress_bar

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = True, False, True
        tags.classifier_tags.multi_label = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "trained_")

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,  # a run directory, a model folder, a shipped model, or a hub id
        device: str | None = None,
        dtype: str | None = None,
        long_texts: LongTexts = "truncate",
    ) -> "EmotionClassifier":
        "Load a trained classifier. Raises `ModelError` where there is none, or one that cannot be used."
        return cls.from_trained(TrainedClassifier.from_pretrained(name, device, dtype, long_texts))

    load = from_pretrained  # the name in earlier versions

    @classmethod
    def from_trained(cls, trained: TrainedClassifier) -> "EmotionClassifier":
        "The same around a model that is in memory."
        loaded = cls(device=trained.device, dtype=trained.dtype, long_texts=trained.long_texts)
        loaded.trained_ = trained
        loaded.classes_ = np.array(getattr(trained.config, "emo_nb_classes", None) or trained.labels)
        return loaded

    @property
    def trained(self) -> TrainedClassifier:
        "The trained model with its tokenizer. Raises `NotFittedError` where there is none yet."
        if not hasattr(self, "trained_"):
            raise NotFittedError(
                "this classifier is not trained yet; call fit(texts, labels), or load one with "
                "EmotionClassifier.from_pretrained('goemotions28')"
            )
        return self.trained_

    @property
    def labels(self) -> list[str]:
        "The labels as strings, in the order of the probabilities."
        return self.trained.labels

    @property
    def thresholds(self) -> np.ndarray | None:
        "From which probability on each label counts, (n_labels,); None for a single-label model."
        return self.trained.thresholds

    @property
    def model(self) -> Any:
        "The transformers model."
        return self.trained.model

    @property
    def tokenizer(self) -> Any:
        "The Hugging Face tokenizer."
        return self.trained.tokenizer

    def fit(
        self,
        texts: Iterable[str],
        labels: Any,  # one label a row, a list or set of labels a row, or zeros and ones with a column for each label
        *,
        groups: Iterable[Any]
        | None = None,  # rows with the same value stay on one side of the split into train and dev
        sample_weight: Iterable[float] | None = None,  # of the rows in the loss
        eval_set: tuple[Iterable[str], Any] | None = None,  # texts and labels of dev, in place of rows split off
        teacher: Teacher
        | None = None,  # whose probabilities are half of each target: a classifier, several, SoftTargets
        unlabelled: Iterable[str] | None = None,  # more texts, whose whole target is the teacher's
    ) -> "EmotionClassifier":
        """Train on texts and labels, and on what a teacher says; epoch, temperature and thresholds are chosen on dev.

        Raises `TextError`, `DataError` or `ConfigError` before any training where texts, labels or settings cannot be
        used. What was done with the rows is logged to `emo_nb`, at level INFO.
        """
        from ..model import choose_encoder, find_encoder

        settings, backends = self._settings(), self._backends()
        examples = read_examples(texts, labels, self.multi_label, groups)
        check_can_learn(examples.labels)
        weights = loss_weights(examples.labels, self.class_weight, sample_weight)
        if eval_set is None:
            for_training, for_dev = hold_out(examples, self.validation_fraction, self.random_state)
            train, dev = examples.take(for_training), examples.take(for_dev)
            weights = None if weights is None else weights[for_training]
        else:
            train, dev = examples, read_eval_set(eval_set, examples)
        log_examples(train, dev)
        find_encoder(settings.encoder or choose_encoder(examples.labels.names))  # sooner said than a teacher is asked
        training_set = make_training_set(train, weights, teacher, unlabelled)
        with restored_random_state():
            trained, history = self._train(training_set, dev, settings, backends)
        if examples.labels.classes.dtype.kind != "U":
            trained.config.emo_nb_classes = examples.labels.classes.tolist()
        self.trained_, self.classes_, self.history_ = trained, examples.labels.classes, history
        self.rows_ = {"train": len(train.texts), "dev": len(dev.texts)}
        return self

    def _settings(self) -> TrainConfig:
        "The training settings among the parameters. Raises `ConfigError` for values that cannot be."
        check_long_texts(self.long_texts)
        if self.multi_label not in (None, True, False):
            raise ConfigError(
                f"multi_label is True, False or None, which tells it from the labels, not {self.multi_label!r}; give one"
            )
        if not isinstance(self.validation_fraction, (int, float)) or not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction is a number between 0 and 1, not {self.validation_fraction!r}; give one"
            )
        if not isinstance(self.random_state, (int, np.integer)) or not 0 <= self.random_state < 2**32:
            raise ConfigError(f"random_state is a whole number from 0 on, not {self.random_state!r}; give one")
        return TrainConfig(**{setting.name: getattr(self, setting.name) for setting in fields(TrainConfig)})

    def _backends(self) -> Backends:
        from ..engine.device import check_can_train

        backends = choose_backends(self.device, self.dtype)
        check_can_train(backends.bulk)
        return backends

    def _train(
        self,
        train: TrainingSet,
        dev: Examples,
        settings: TrainConfig,
        backends: Backends,
    ) -> tuple[TrainedClassifier, pd.DataFrame]:
        "A new model, fitted on train and calibrated on dev, and its history."
        from ..encode import TextDataset
        from ..model import choose_encoder, find_encoder, load_tokenizer, new_trainable_classifier
        from ..train import fit

        names, multi_label = dev.labels.names, dev.labels.multi_label
        encoder = settings.encoder or choose_encoder(names)
        settings, folder = replace(settings, encoder=encoder), find_encoder(encoder)
        logger.info("%s, encoder %s", settings.method, encoder)
        tokenizer = load_tokenizer(folder, settings.max_length)
        check_windows(self.long_texts, tokenizer)
        _log_truncated(train.texts + dev.texts, tokenizer)
        model = new_trainable_classifier(folder, names, settings, int(self.random_state), multi_label)
        data = TextDataset(train.texts, tokenizer, train.targets, multi_label, train.weights)
        dev_data = TextDataset(dev.texts, tokenizer, dev.labels.matrix, multi_label)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as checkpoints:
            seed = int(self.random_state)
            place, bar = Path(checkpoints), self._shows_bar()
            try:
                history = fit(model, tokenizer, data, dev_data, place, settings, seed, None, backends.bulk, bar)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the training was stopped") from None  # its checkpoints go with the folder
        model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        model = model.cpu().eval()
        trained = TrainedClassifier(model, tokenizer, self.device, self.dtype, self.long_texts, backends)
        with one_length_warning(is_said=True):
            trained.calibrate(dev.texts, dev.labels.matrix)
        if self.long_texts == "windows":
            trained.config.emo_nb_window_pooling = _choose_pooling(trained, dev)
        return trained, history

    def _shows_bar(self) -> bool:
        return is_interactive() if self.show_progress_bar is None else bool(self.show_progress_bar)

    def _scoring_options(self, texts: list[str], max_batch_tokens: int) -> dict[str, Any]:
        "A bar is shown for many texts only."
        return {
            "max_batch_tokens": max_batch_tokens,
            "show_progress_bar": len(texts) > BULK_TEXTS and self._shows_bar(),
        }

    def predict_proba(self, texts: str | Iterable[str], max_batch_tokens: int = MAX_BATCH_TOKENS) -> np.ndarray:
        "Probabilities (n_texts, n_labels), in the order of the texts and of `classes_`. Raises `TextError`."
        trained, texts = self.trained, check_texts(texts)
        return trained.predict_proba(texts, **self._scoring_options(texts, max_batch_tokens))

    def predict(self, texts: str | Iterable[str]) -> np.ndarray:
        """The labels of each text, in the form in which `fit` takes them.

        Single-label: an array (n_texts,) of labels. Multi-label: zeros and ones, (n_texts, n_labels), with a column for
        each label of `classes_`; 1 where the probability reaches the label's threshold.
        """
        proba = self.predict_proba(texts)
        if self.thresholds is None:
            return self.classes_[proba.argmax(axis=1)]
        return decide_labels(proba, self.thresholds).astype(int)

    def predict_frame(
        self,
        texts: str | Iterable[str],
        thresholds: Thresholds | None = None,  # in place of those saved with the model
        top_k: int | None = None,  # at most so many labels, the most probable first
        tokens_left_out: bool = False,  # add a column: how many tokens of the text were not read
        max_batch_tokens: int = MAX_BATCH_TOKENS,
    ) -> pd.DataFrame:
        """One row a text, in order: `text`, `label` (the most probable), and the probability of each label.

        A multi-label model adds `labels`: all that reach their threshold, joined by `|`; possibly none. So does any
        model where `thresholds` or `top_k` is given; with `top_k` alone no threshold counts.
        """
        trained, texts = self.trained, check_texts(texts)
        options = self._scoring_options(texts, max_batch_tokens)
        return trained.predict_frame(texts, thresholds, top_k, tokens_left_out, **options)

    def score(self, texts: Iterable[str], labels: Any, sample_weight: Iterable[float] | None = None) -> float:
        """Accuracy: the share of texts whose labels are all right, and no other given.

        A label that is new to a single-label model counts as missed. Raises `DataError` for labels of another kind.
        """
        known, given = self._known_classes(), read_examples(texts, labels, None)
        weights = None if sample_weight is None else check_sample_weight(sample_weight, len(given.texts))
        if given.labels.multi_label or self.trained.multi_label or given.labels.classes.dtype.kind != known.dtype.kind:
            given = read_examples(texts, labels, None, classes=known)
            predicted = decide_labels(self.predict_proba(given.texts), self.thresholds)
            right = (predicted == given.labels.matrix).all(axis=1)
        else:
            right = self.predict(given.texts) == given.labels.classes[given.labels.matrix.argmax(axis=1)]
        return float(np.average(right, weights=weights))

    def evaluate(self, texts: Iterable[str], labels: Any, groups: Iterable[Any] | None = None) -> Evaluation:
        """Scores on labelled texts that chose nothing, with 95 % intervals; the bootstrap draws whole groups.

        A single-label model takes one label a text. Raises `TextError` or `DataError` for what cannot be scored.
        """
        trained = self.trained
        examples = read_examples(texts, labels, None, groups, self._known_classes())
        if not trained.multi_label and len(wrong := np.flatnonzero(examples.labels.matrix.sum(axis=1) != 1)):
            raise DataError(f"row {wrong[0]} has not exactly one label, as this model's texts have; correct or drop it")
        if not examples.labels.matrix.any():
            raise DataError("no row has a label, so there is nothing to score; give some that have one")
        proba = self.predict_proba(examples.texts)
        table = prediction_table(examples.frame(), proba, trained.labels, trained.thresholds)
        metrics = compute_metrics(table, trained.labels, trained.thresholds)[NAME]
        intervals = metrics["intervals"]
        overall = pd.DataFrame({name: (metrics[name], *intervals[name]) for name in SCORES}, ("value", "low", "high")).T
        by_label = pd.DataFrame(metrics["labels"]).T.rename_axis("label")
        by_label[["low", "high"]] = by_label.pop("f1_interval").tolist()
        order = [c for c in ("precision", "recall", "f1", "low", "high", "support", "threshold") if c in by_label]
        return Evaluation(overall, by_label[order].infer_objects(), table, metrics)

    def _known_classes(self) -> np.ndarray:
        self.trained  # noqa: B018 (raises where there is none)
        return self.classes_

    def save_pretrained(
        self,
        folder: str | Path,
        evaluation: Evaluation | None = None,  # for the model card
        dataset: str | None = None,  # id on the hub of the data that were evaluated on
        dtype: Dtype | None = None,  # number format of the weights in the file; by default as they are
    ) -> None:
        """Save as a transformers checkpoint with a model card; `from_pretrained` and plain transformers open it.

        Labels, thresholds and how texts are pooled stand in its `config.json`; the temperature is part of the weights.
        """
        from ..report import write_memory_card

        trained, folder = self.trained, Path(os.path.expanduser(folder))
        trained.save_pretrained(folder, dtype)
        if hasattr(self, "rows_"):  # of a loaded one, emo_nb does not know how it was made
            metrics = None if evaluation is None else evaluation.metrics
            write_memory_card(folder, trained, self.get_params(), self.rows_, metrics, dataset)

    def export_onnx(
        self,
        folder: str | Path,  # that is written; one that is there is kept
        int8: bool = False,  # weights in 8 bits
        texts: Iterable[str] | None = None,  # on which the file is checked against the model; default: the sample's
        labels: Any = None,  # of these texts, to say macro-F1 before and after
        force: bool = False,  # replace the folder
    ) -> pd.DataFrame:
        "Write the model as ONNX, with its tokenizer and settings, and return how it agrees with the model; see `export_onnx`."
        from ..engine.onnx_export import export_onnx

        trained, truth = self.trained, None
        if labels is not None:
            examples = read_examples([] if texts is None else texts, labels, None, classes=self.classes_)
            texts, truth = examples.texts, examples.labels.matrix
        given = None if texts is None else check_texts(texts)
        return export_onnx(trained, Path(folder), int8, given, truth, show_progress_bar=self._shows_bar(), force=force)

    def push_to_hub(
        self,
        repo_id: str,  # OWNER/NAME
        evaluation: Evaluation | None = None,
        dataset: str | None = None,
        private: bool | None = None,  # the hub's default for the owner
        token: str | None = None,  # default: the one that `hf auth login` saved
    ) -> str:
        "Save, upload to the Hugging Face Hub, and return the address. Raises `ModelError` where the hub refuses."
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, evaluation, dataset)
            try:
                hub.create_repo(repo_id, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload by emo_nb"))
            except Exception as error:  # the hub's own, and those of the library that it connects with
                raise ModelError(
                    f"{repo_id} cannot be uploaded ({first_line(error)}); log in with `hf auth login`, or give a token "
                    "that may write there; or try again where the hub did not answer"
                ) from error


def _choose_pooling(trained: TrainedClassifier, dev: Examples) -> str:
    "How to pool the probabilities of windows: what is better on the long texts of dev; the mean where there are none."
    from sklearn.metrics import f1_score

    limit = trained.max_length
    long = np.flatnonzero(count_left_out(dev.texts, trained.tokenizer, limit))
    if not len(long):
        return "mean"
    texts, truth, scores = [dev.texts[i] for i in long], dev.labels.matrix[long], {}
    for how in ("mean", "max"):
        trained.config.emo_nb_window_pooling = how
        chosen = decide_labels(trained.predict_proba(texts), trained.thresholds)
        scores[how] = f1_score(truth, chosen, average="macro", zero_division=0)
    return max(scores, key=lambda how: scores[how])  # the mean where both are alike


def _log_truncated(texts: list[str], tokenizer: Any) -> None:
    "Say how many texts are longer than the model reads in training."
    limit = tokenizer.model_max_length
    if n_long := (count_left_out(texts, tokenizer, limit) > 0).sum():
        message = "%s of %s training and dev texts are longer than %s tokens; training reads their beginning only"
        logger.warning(message, f"{n_long:,}", f"{len(texts):,}", limit)
