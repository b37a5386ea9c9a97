"""A classifier that learns from another: what it knows afterwards, and what is refused before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import refusal, settle
from test_classifier import OTHERS, WORDS

from emo_nb import ConfigError, DataError, EmotionClassifier, ModelError, SoftTargets
from emo_nb.classifier import NotFittedError

TAUGHT, UNTAUGHT = slice(0, 2), slice(2, 5)  # the words of each label that labelled rows have, and the others


def write_texts(n: int, words: slice, seed: int) -> tuple[list[str], list[str]]:
    "Texts in which one of these words of a label says which it is, and the labels."
    rng = np.random.default_rng(seed)
    labels = [list(WORDS)[i % len(WORDS)] for i in range(n)]
    cues = [rng.choice(WORDS[label][words]) for label in labels]
    return [" ".join(rng.permutation([*rng.choice(OTHERS, 6), cue])) for cue in cues], labels


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module", params=["one label", "several labels"])
def lesson(request):
    "A teacher that knows all words, and labelled rows with the first words only, in the form of either task."
    form = list if request.param == "one label" else lambda labels: [[label] for label in labels]
    texts, labels = write_texts(200, slice(0, 5), seed=0)
    teacher = EmotionClassifier("minilm", epochs=5).fit(texts, form(labels))
    texts, labels = write_texts(120, TAUGHT, seed=1)
    return teacher, texts, form(labels)


def accuracy(classifier: EmotionClassifier) -> float:
    "The share of other texts with untaught words whose most probable label is right."
    texts, labels = write_texts(120, UNTAUGHT, seed=3)
    return float(np.mean(classifier.classes_[classifier.predict_proba(texts).argmax(axis=1)] == labels))


def test_a_student_learns_from_unlabelled_texts_what_only_its_teacher_knows(lesson, tmp_path):
    teacher, texts, labels = lesson
    more, _ = write_texts(160, UNTAUGHT, seed=2)
    alone = EmotionClassifier("minilm", epochs=3).fit(texts, labels)
    taught = EmotionClassifier("minilm", epochs=3).fit(texts, labels, teacher=teacher, unlabelled=more)
    assert taught.classes_.tolist() == alone.classes_.tolist() and taught.rows_ == alone.rows_
    assert accuracy(teacher) > 0.9 and accuracy(taught) > 0.8 > 0.6 > accuracy(alone)


def test_a_mistake_is_said_before_a_teacher_is_asked_and_no_more_texts_are_none(lesson):
    teacher, texts, labels = lesson

    class Busy:
        labels, multi_label = teacher.labels, teacher.multi_label

        def predict_proba(self, texts, **_):
            raise AssertionError("the teacher was asked")

    with refusal(ModelError, "no-such/encoder"):
        EmotionClassifier("no-such/encoder").fit(texts, labels, teacher=Busy())
    taught = EmotionClassifier("minilm", epochs=1).fit(texts, labels, teacher=teacher, unlabelled=[])
    assert taught.rows_["train"] + taught.rows_["dev"] == 120


def test_saved_targets_are_found_by_text_whatever_the_order_of_texts_and_labels(lesson, tmp_path):
    teacher, texts, labels = lesson
    SoftTargets.from_teacher([teacher, teacher], texts).save(tmp_path / "targets.npz")
    targets = SoftTargets.load(tmp_path / "targets.npz")
    found = targets.of(texts[::-1], teacher.labels[::-1])
    np.testing.assert_allclose(found[::-1, ::-1], teacher.predict_proba(texts), atol=1e-3)
    assert texts[0].encode() not in (tmp_path / "targets.npz").read_bytes()
    student = EmotionClassifier("minilm", epochs=1).fit(texts, labels, teacher=targets, sample_weight=[1.0] * 120)
    assert student.rows_["train"] + student.rows_["dev"] == 120


def test_what_cannot_teach_is_refused_in_a_sentence_before_any_training(lesson, tmp_path):
    teacher, texts, labels = lesson
    targets, student = SoftTargets.from_teacher(teacher, texts), EmotionClassifier("minilm")
    others = ["joyful" if "joy" in label else "other" for label in labels]
    has_several = teacher.trained.multi_label
    other_kind = [label[0] if has_several else [label] for label in labels]
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", labels=np.array(["joy"]))
    replace(targets, proba=targets.proba[:-1]).save(tmp_path / "damaged.npz")
    fewer = [[labels[0], labels[1]][i % 2] for i in range(len(texts))]
    mistakes = {
        "'joyful', which": lambda: student.fit(texts, others, teacher=teacher),
        "which the table of labels lacks": lambda: student.fit(texts, fewer, teacher=targets),
        "another teacher": lambda: SoftTargets.from_teacher(
            [teacher, EmotionClassifier.from_pretrained("ekman7")], texts
        ),
        "the same kind": lambda: student.fit(texts, other_kind, teacher=targets),
        "2 of": lambda: student.fit(texts, labels, teacher=targets, unlabelled=["a", "b"]),
        "not trained yet": lambda: student.fit(texts, labels, teacher=EmotionClassifier()),
        "give a teacher": lambda: student.fit(texts, labels, unlabelled=texts),
        "not 'goemotions28'": lambda: student.fit(texts, labels, teacher="goemotions28"),
        "text.npz does not hold": lambda: SoftTargets.load(tmp_path / "text.npz"),
        "other.npz does not hold": lambda: SoftTargets.load(tmp_path / "other.npz"),
        "damaged.npz holds damaged": lambda: SoftTargets.load(tmp_path / "damaged.npz"),
        "missing.npz does not hold": lambda: SoftTargets.load(tmp_path / "missing.npz"),
    }
    for expected, mistake in mistakes.items():
        with refusal((ConfigError, DataError, NotFittedError), expected):
            mistake()
