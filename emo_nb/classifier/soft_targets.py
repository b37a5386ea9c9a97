"""What a trained classifier says of texts, for another to learn from: the teacher's probabilities as soft targets.

A small classifier that learns from a large one comes nearer to it than it comes by the labels alone, above all where
there are more texts than labels. Hinton et al. 2015, arXiv 1503.02531; Mukherjee and Awadallah 2019, arXiv 1910.01769.
"""

import hashlib
import os
import reprlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from ..core import ConfigError, DataError, first_line, is_interactive
from ..io.files import atomic_file
from ..predict import BULK_TEXTS, TrainedClassifier, check_texts
from .examples import Examples

LABEL_SHARE = 0.5  # of the target of a row that has labels; the rest is the teacher's
Teacher = Union["SoftTargets", Any, Sequence[Any]]  # saved targets, a classifier, or several classifiers


@dataclass(frozen=True)
class SoftTargets:
    "A teacher's probabilities for texts. A text is known by its digest, so a file of them holds no text."

    labels: tuple[str, ...]
    multi_label: bool
    digests: np.ndarray  # (n_texts,), whole numbers of 64 bits
    proba: np.ndarray  # (n_texts, n_labels), float32

    @classmethod
    def from_teacher(
        cls,
        teacher: Any,  # a trained classifier, or several with the same labels: their mean is taken
        texts: Iterable[str],
    ) -> "SoftTargets":
        "Predict the texts. Raises `TextError` for what is no text, `DataError` for teachers whose labels differ."
        texts, teachers = check_texts(texts), _classifiers(teacher)
        first, shows_bar = teachers[0], is_interactive() and len(texts) > BULK_TEXTS
        total = np.zeros((len(texts), len(first.labels)), np.float32)
        for one in teachers:
            _no_targets(first).check_labels(one.labels, one.multi_label, "another teacher")
            order = [list(one.labels).index(label) for label in first.labels]
            total += one.predict_proba(texts, show_progress_bar=shows_bar)[:, order]
        return cls(tuple(first.labels), first.multi_label, _digests(texts), total / len(teachers))

    def save(self, file: str | Path) -> None:
        "Write a NumPy archive, probabilities in 16 bits. Raises `ConfigError` where it cannot be written."
        labels, proba = np.array(self.labels), self.proba.astype(np.float16)
        with atomic_file(os.path.expanduser(file)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, labels=labels, multi_label=self.multi_label, digests=self.digests, proba=proba)

    @classmethod
    def load(cls, file: str | Path) -> "SoftTargets":
        "Read what `save` wrote. Raises `DataError` for another file."
        try:
            with np.load(os.path.expanduser(file), allow_pickle=False) as arrays:
                labels, multi_label = tuple(arrays["labels"].tolist()), bool(arrays["multi_label"])
                targets = cls(labels, multi_label, arrays["digests"], arrays["proba"].astype(np.float32))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{file} does not hold soft targets ({first_line(error)}); make them with SoftTargets.from_teacher"
            ) from error
        if targets.proba.shape != (len(targets.digests), len(labels)) or not np.isfinite(targets.proba).all():
            raise DataError(f"{file} holds damaged soft targets; make them with SoftTargets.from_teacher")
        return targets

    def check_labels(self, labels: Sequence[str], multi_label: bool, whose: str = "the table of labels") -> None:
        "Raise `DataError` unless these are the labels of the targets, in whatever order, and of the same kind."
        if unknown := sorted(set(labels) - set(self.labels)):
            raise DataError(
                f"{whose} has the label {unknown[0]!r}, which the teacher lacks; give a teacher that knows it"
            )
        if lacking := sorted(set(self.labels) - set(labels)):
            raise DataError(f"the teacher has the label {lacking[0]!r}, which {whose} lacks; give one without it")
        if multi_label != self.multi_label:
            kind = "several labels" if self.multi_label else "exactly one label"
            raise DataError(
                f"the teacher gives a text {kind}, which {whose} does not; choose the same kind with multi_label"
            )

    def of(self, texts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        "The targets of texts, (n_texts, n_labels), columns in the order of `labels`. `DataError` for texts without any."
        place, digests = {digest: i for i, digest in enumerate(self.digests.tolist())}, _digests(texts).tolist()
        if missing := [i for i, digest in enumerate(digests) if digest not in place]:
            raise DataError(
                f"{len(missing):,} of {len(texts):,} texts have no saved target, among them {reprlib.repr(texts[missing[0]])}; "
                "make the targets of all of them with SoftTargets.from_teacher"
            )
        return self.proba[[place[digest] for digest in digests]][:, [self.labels.index(label) for label in labels]]


@dataclass(frozen=True)
class TrainingSet:
    "What a classifier is trained on, one entry a row."

    texts: list[str]
    targets: np.ndarray  # (n_texts, n_labels), zeros and ones (uint8), or probabilities (float32)
    weights: np.ndarray | None  # in the loss: (n_texts,) or (n_texts, n_labels)


def make_training_set(
    train: Examples, weights: np.ndarray | None, teacher: Teacher | None, unlabelled: Iterable[str] | None
) -> TrainingSet:
    """The examples and, below them, the texts without labels.

    With a teacher, the target of an example is half its labels and half the teacher's probabilities, and that of a text
    without labels is the latter. Raises `DataError` where the teacher's labels are not those of the examples, or saved
    targets are of other texts, and `ConfigError` for texts without labels where there is no teacher.
    """
    labels, more = train.labels, []
    if unlabelled is not None and not (isinstance(unlabelled, (list, tuple)) and not unlabelled):
        more = check_texts(unlabelled)
    if teacher is None:
        if more:
            raise ConfigError("unlabelled texts teach nothing by themselves; give a teacher that says what they are")
        return TrainingSet(train.texts, labels.matrix, weights)
    if isinstance(teacher, SoftTargets):
        teacher.check_labels(labels.names, labels.multi_label)
    else:
        for one in _classifiers(teacher):
            _no_targets(one).check_labels(labels.names, labels.multi_label)
        teacher = SoftTargets.from_teacher(teacher, train.texts + more)
    targets, n_labelled = teacher.of(train.texts + more, labels.names), len(train.texts)
    targets[:n_labelled] = LABEL_SHARE * labels.matrix + (1 - LABEL_SHARE) * targets[:n_labelled]
    if weights is not None:
        weights = np.concatenate([weights, np.ones((len(more), *weights.shape[1:]))])
    return TrainingSet(train.texts + more, targets, weights)


def _no_targets(classifier: Any) -> SoftTargets:
    "A classifier's targets of no text."
    return SoftTargets(tuple(classifier.labels), classifier.multi_label, np.empty(0), np.empty(0))


def _classifiers(teacher: Any) -> list[Any]:
    "One classifier, or several, as a list of what predicts. `ConfigError` for what is none."
    teachers = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
    teachers = [one.trained if hasattr(type(one), "trained") else one for one in teachers]
    if not teachers or not all(isinstance(one, TrainedClassifier) for one in teachers):
        raise ConfigError(
            f"a teacher is a trained classifier, several, or SoftTargets, not {reprlib.repr(teacher)}; give one"
        )
    return teachers


def _digests(texts: Iterable[str]) -> np.ndarray:
    "A number for each text, (n_texts,), that no other text has."
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.uint64)
