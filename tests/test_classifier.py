"""`EmotionClassifier` in memory: what it takes, that it learns, and that it is what scikit-learn expects."""

import asyncio
import inspect
import os
import pickle
import random
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from helpers import refusal, settle
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from sklearn import exceptions
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.class_weight import compute_class_weight
from test_foreign_models import small
from test_train import OTHERS, WORDS
from transformers import ByT5Tokenizer

from emo_nb import ConfigError, DataError, EmotionClassifier, ModelError, SoftTargets, TextError, TrainConfig
from emo_nb.classifier import NotFittedError
from emo_nb.classifier.loss_weights import loss_weights
from emo_nb.engine.label_forms import read_labels
from emo_nb.predict import TrainedClassifier
from emo_nb.train import weighted_loss


def write_texts(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    "Texts in which one word says the label, and the labels."
    rng = np.random.default_rng(seed)
    labels = [list(WORDS)[i % len(WORDS)] for i in range(n)]
    return [" ".join(rng.permutation([*rng.choice(OTHERS, 6), rng.choice(WORDS[label])])) for label in labels], labels


TEXTS, LABELS = write_texts(160)
OTHER_TEXTS, OTHER_LABELS = write_texts(80, seed=1)
SETS = [{label, "joy"} if i % 3 == 0 else {label} for i, label in enumerate(LABELS)]
QUICK = {"encoder": "minilm", "epochs": 1, "lora_rank": 4}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def single():
    return EmotionClassifier("minilm", epochs=3).fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def several():
    return EmotionClassifier("minilm", epochs=3).fit(TEXTS, SETS)


# Fit and predict


def test_one_label_a_text_is_learnt_and_predicted_as_it_was_given(single):
    predicted = single.predict(OTHER_TEXTS)
    assert predicted.shape == (80,) and set(predicted) <= set(LABELS)
    assert single.score(OTHER_TEXTS, OTHER_LABELS) == (predicted == OTHER_LABELS).mean() > 0.8
    proba = single.predict_proba(OTHER_TEXTS)
    assert list(single.classes_) == sorted(WORDS) and proba.shape == (80, 4)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert len(single.history_) == 3 and sum(single.rows_.values()) == 160


def test_several_labels_a_text_are_learnt_and_predicted_as_zeros_and_ones(several):
    truth = read_labels([{label} for label in OTHER_LABELS], classes=several.classes_).matrix
    predicted = several.predict(OTHER_TEXTS)
    assert predicted.shape == (80, 4) and set(np.unique(predicted)) == {0, 1}
    others = [
        i for i, label in enumerate(several.classes_) if label != "joy"
    ]  # which a third of all texts have as well
    assert (predicted[:, others] == truth[:, others]).mean() > 0.8
    assert several.score(OTHER_TEXTS, [list(several.classes_[row == 1]) for row in predicted]) == 1


def test_a_fit_leaves_the_programs_own_random_numbers_as_they_were():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    seeded = EmotionClassifier(**QUICK, random_state=np.int64(7)).fit(TEXTS[:40], LABELS[:40])
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])
    again = EmotionClassifier(**QUICK, random_state=7).fit(TEXTS[:40], LABELS[:40])
    np.testing.assert_array_equal(seeded.predict_proba(TEXTS[:5]), again.predict_proba(TEXTS[:5]))


def test_more_tokens_than_usual_are_read_where_the_training_read_them(tmp_path):
    folder = small(tmp_path / "long", "bert", max_position_embeddings=1024)
    long = [f"{'so ' * 700} {text}" for text in TEXTS[:40]]
    classifier = EmotionClassifier(str(folder), epochs=1, max_length=800).fit(long, LABELS[:40])
    assert classifier.trained.max_length == 800
    assert classifier.predict_frame(long[0], tokens_left_out=True).tokens_left_out.item() == 0
    assert classifier.predict_proba([long[0]] * 3).shape == (3, 4)


def test_a_label_that_the_model_has_not_seen_counts_as_missed(single):
    assert single.score(OTHER_TEXTS[:2], [OTHER_LABELS[0], "never seen"]) in (0, 0.5)
    with refusal(DataError, "row 0 has the label 3"):
        single.score(["x"], [3])


class Mood(str, Enum):
    good, bad = "joy", "sadness"


def test_labels_and_weights_of_other_types_are_taken_for_what_they_are():
    labels = read_labels([Mood.good, Mood.bad, Mood.good])
    assert labels.classes.tolist() == ["joy", "sadness"] and labels.matrix.sum() == 3
    assert loss_weights(labels, {"joy": np.int64(3), "sadness": np.float32(1)}, None).tolist() == [3, 1, 3]


def test_thresholds_of_some_labels_leave_those_of_the_others_also_with_top_k(several):
    chosen, n = {several.classes_[0]: 0.2}, len(several.classes_)
    frames = [several.predict_frame(OTHER_TEXTS, thresholds=chosen, top_k=top_k) for top_k in (None, n)]
    alone, ranked = ([set(cell.split("|")) for cell in frame.labels] for frame in frames)
    assert alone == ranked
    numbered = EmotionClassifier(**QUICK).fit(TEXTS[:60], np.arange(60) % 2)
    frames = [numbered.predict_frame(OTHER_TEXTS[:9], thresholds=given) for given in ({1: 0.3}, {"1": 0.3})]
    assert frames[0].equals(frames[1])


def test_a_place_below_the_home_folder_may_be_written_with_a_tilde(single, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    single.save_pretrained("~/model")
    opened = EmotionClassifier.from_pretrained("~/model")
    np.testing.assert_allclose(opened.predict_proba(TEXTS[:2]), single.predict_proba(TEXTS[:2]), atol=1e-5)
    targets = SoftTargets.from_teacher(single, TEXTS[:2])
    targets.save("~/targets.npz")
    assert SoftTargets.load("~/targets.npz").proba.shape == targets.proba.shape
    assert {path.name for path in tmp_path.iterdir()} >= {"model", "targets.npz"}


def test_a_training_that_diverges_is_named():
    with refusal(ConfigError, "diverged", "lower learning rate"):
        EmotionClassifier("minilm", epochs=1, head_learning_rate=1e38).fit(TEXTS[:40], LABELS[:40])


def test_the_same_seed_gives_the_same_weights_and_parameters_stay_as_they_were():
    first = EmotionClassifier(**QUICK)
    before = first.get_params()
    assert first.fit(TEXTS[:60], LABELS[:60]) is first and first.get_params() == before
    again = clone(first)
    assert not hasattr(again, "trained_")
    again.fit(TEXTS[:60], LABELS[:60])
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    other = clone(first).set_params(random_state=7).fit(TEXTS[:60], LABELS[:60])
    assert not np.allclose(other.predict_proba(TEXTS[:4]), first.predict_proba(TEXTS[:4]))


def test_emotions_begin_from_the_model_in_the_package_and_other_labels_from_the_plain_encoder():
    settings, texts = {**QUICK, "encoder": None}, ["such a good day", "so sad, I cried", "I love it", "he left me"] * 8
    for labels, encoder in ((["joy", "sadness"] * 16, "goemotions28"), (["sunny", "rainy"] * 16, "minilm")):
        classifier = EmotionClassifier(**settings).fit([f"{text} {i}" for i, text in enumerate(texts)], labels)
        assert classifier.model.config.emo_nb_encoder == encoder


def test_every_setting_of_a_training_is_a_parameter_with_the_same_default():
    parameters = EmotionClassifier().get_params()
    assert {name: parameters[name] for name in vars(TrainConfig())} == vars(TrainConfig())


ONE_EACH = {
    "list": list,
    "numpy": np.array,
    "objects": lambda labels: np.array(labels, dtype=object),
    "column of one": lambda labels: np.array(labels)[:, None],
    "Series": lambda labels: pd.Series(labels, index=range(7, 7 + len(labels))),
    "categories": lambda labels: pd.Series(labels, dtype="category"),
    "polars": pl.Series,
    "pyarrow": pa.array,
    "datasets": lambda labels: Dataset.from_dict({"label": labels})["label"],
}


@pytest.mark.parametrize("kind", ONE_EACH.values(), ids=ONE_EACH)
@pytest.mark.parametrize("values", [["b", "a", "b"], [3, 1, 3]], ids=["strings", "numbers"])
def test_one_label_a_row_is_read_from_any_column(kind, values):
    labels = read_labels(kind(values))
    assert labels.classes.tolist() == sorted(set(values)) and not labels.multi_label
    assert labels.matrix.tolist() == [[0, 1], [1, 0], [0, 1]]


SEVERAL = {
    "lists": [["joy", "fear"], [], ["fear"]],
    "sets": [{"joy", "fear"}, set(), {"fear"}],
    "tuples in a Series": pd.Series([("joy", "fear"), (), ("fear",)]),
    "polars lists": pl.Series([["joy", "fear"], [], ["fear"]]),
    "pyarrow lists": pa.array([["joy", "fear"], [], ["fear"]]),
    "table": pd.DataFrame({"fear": [1, 0, 1], "joy": [1.0, 0.0, 0.0]}),
    "table of booleans": pd.DataFrame({"fear": [True, False, True], "joy": [True, False, False]}),
    "polars table": pl.DataFrame({"fear": [1, 0, 1], "joy": [1, 0, 0]}),
    "pyarrow table": pa.table({"fear": [1, 0, 1], "joy": [1, 0, 0]}),
    "datasets table": Dataset.from_dict({"fear": [1, 0, 1], "joy": [1, 0, 0]}),
}


@pytest.mark.parametrize("given", SEVERAL.values(), ids=SEVERAL)
def test_several_labels_a_row_are_read_from_lists_and_tables(given):
    labels = read_labels(given)
    assert labels.classes.tolist() == ["fear", "joy"] and labels.multi_label
    assert labels.matrix.tolist() == [[1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, csr_matrix, list], ids=["numpy", "torch", "sparse", "lists"])
def test_a_matrix_without_names_has_numbered_labels(kind):
    labels = read_labels(kind([[0, 1], [1, 1], [0, 0]]))
    assert labels.classes.tolist() == [0, 1] and labels.multi_label and labels.matrix.sum() == 3


def test_a_tables_columns_are_found_by_their_names_also_where_these_are_numbers():
    classes = read_labels(pd.DataFrame({1: [1, 0], 0: [0, 1]})).classes
    assert classes.tolist() == [1, 0]
    swapped = pd.DataFrame({0: [0, 1], 1: [1, 0]})
    assert read_labels(swapped, classes=classes).matrix.tolist() == [[1, 0], [0, 1]]
    assert read_labels(swapped.to_numpy(), classes=classes).matrix.tolist() == [[0, 1], [1, 0]]


def test_whether_a_text_may_have_several_labels_can_be_said():
    assert read_labels(["a", "b"], multi_label=True).multi_label
    assert not read_labels(pd.DataFrame({"a": [1, 0], "b": [0, 1]}), multi_label=False).multi_label
    with refusal(DataError, "row 1 has 2 labels"):
        read_labels([["a"], ["a", "b"]], multi_label=False)


def test_numbers_come_back_as_numbers_also_from_a_folder(tmp_path):
    fitted = EmotionClassifier(**QUICK).fit(pl.Series(TEXTS[:40]), np.arange(40) % 2 + 5)
    fitted.save_pretrained(tmp_path / "numbers")
    for classifier in (fitted, EmotionClassifier.from_pretrained(tmp_path / "numbers")):
        assert classifier.classes_.tolist() == [5, 6] and set(classifier.predict(TEXTS[:9])) <= {5, 6}


def test_weights_are_saved_in_the_format_that_is_asked_for(single, tmp_path):
    for dtype in (None, "float16", "bfloat16"):
        single.save_pretrained(tmp_path / str(dtype), dtype=dtype)
        stored = load_file(tmp_path / str(dtype) / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {getattr(torch, dtype or "float32")}
        again = EmotionClassifier.from_pretrained(tmp_path / str(dtype)).predict_proba(TEXTS[:9])
        np.testing.assert_allclose(again, single.predict_proba(TEXTS[:9]), atol=0.02)
    with refusal(ConfigError, "number format 'int8'"):
        single.save_pretrained(tmp_path / "int8", dtype="int8")


# Dev rows, groups and weights


def test_dev_rows_are_of_other_groups_and_have_each_label_where_that_is_possible(caplog):
    caplog.set_level("INFO", "emo_nb")
    groups = [f"writer {i // 8}" for i in range(80)]
    labels = [*LABELS[:78], "pride", "shame"]  # each once: no dev row can have them
    classifier = EmotionClassifier(**QUICK).fit(TEXTS[:80], labels, groups=groups)
    assert classifier.rows_["dev"] % 8 == 0 and sum(classifier.rows_.values()) == 80
    assert any("training and" in message and "6 labels" in message for message in caplog.messages)
    assert list(classifier.classes_) == sorted(set(labels))


def test_a_dev_set_of_ones_own_is_used_and_texts_that_it_shares_are_said(caplog):
    own_dev = ([*OTHER_TEXTS[:19], TEXTS[0]], [*OTHER_LABELS[:19], LABELS[0]])
    classifier = EmotionClassifier(**QUICK).fit(TEXTS[:60], LABELS[:60], eval_set=own_dev)
    assert classifier.rows_ == {"train": 60, "dev": 20}
    assert "texts of eval_set that stand in the training texts too: 1" in caplog.messages


def test_training_stops_early():
    stopped = EmotionClassifier("minilm", epochs=30, early_stopping_rounds=1).fit(TEXTS[:60], LABELS[:60])
    assert len(stopped.history_) < 30


def test_the_weights_of_rows_and_labels_are_those_of_scikit_learn_and_of_torch():
    labels = read_labels(["a", "a", "a", "b"])
    balanced = compute_class_weight("balanced", classes=labels.classes, y=np.array(["a", "a", "a", "b"]))
    assert loss_weights(labels, "balanced", None).tolist() == [*balanced[[0, 0, 0, 1]]]
    assert loss_weights(labels, {"b": 3}, [1, 1, 1, 1]).tolist() == [1, 1, 1, 3]
    sets = read_labels(pd.DataFrame({"a": [1, 1, 1, 0], "b": [0, 0, 0, 1]}))
    logits, truth = torch.randn(4, 2), torch.tensor(sets.matrix, dtype=torch.float32)
    weights = torch.tensor(loss_weights(sets, "balanced", None), dtype=torch.float32)
    pos_weight = torch.tensor([1 / 3, 3.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=pos_weight)
    torch.testing.assert_close(weighted_loss(logits, truth, weights, multi_label=True), expected)


def test_rows_without_weight_teach_nothing():
    is_spoilt = np.arange(160) // 4 % 2 == 1
    spoilt = [LABELS[(i + 1) % 160] if is_spoilt[i] else label for i, label in enumerate(LABELS)]
    weights = np.where(is_spoilt, 0.0, 1.0)
    right = OTHER_TEXTS[:40], OTHER_LABELS[:40]
    weighted = EmotionClassifier("minilm", epochs=4).fit(TEXTS, spoilt, sample_weight=weights, eval_set=right)
    assert weighted.score(OTHER_TEXTS[40:], OTHER_LABELS[40:]) > 0.7


# By scikit-learn's rules


def test_it_works_in_scikit_learns_tools():
    quick, few, truth = EmotionClassifier(**QUICK), TEXTS[:48], LABELS[:48]
    shout = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    assert make_pipeline(shout, quick).fit(few, truth).predict(few).shape == (48,)
    scores = cross_val_score(quick, few, truth, cv=GroupKFold(2), groups=np.arange(48) // 4)
    assert len(scores) == 2 and np.isfinite(scores).all()
    search = GridSearchCV(quick, {"lora_rank": [2, 4]}, cv=2).fit(few, truth)
    assert set(search.predict(few)) <= set(truth)
    calibrated = CalibratedClassifierCV(quick, cv=2).fit(few, np.array(truth))  # scikit-learn 1.4 wants an array
    np.testing.assert_allclose(calibrated.predict_proba(few).sum(axis=1), 1)
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    vote = VotingClassifier([("texts", quick), ("words", words)], voting="soft").fit(few, truth)
    assert set(vote.predict(few)) <= set(truth)


# The checks of check_estimator that hand numbers to `fit` cannot be made: check_estimator leaves them out, by the tags.
CHECKS = (
    *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr"),
    *("check_no_attributes_set_in_init", "check_mixin_order", "check_parameters_default_constructible"),
    *("check_get_params_invariance", "check_set_params", "check_do_not_raise_errors_in_init_or_set_params"),
    "check_estimators_unfitted",
)


@pytest.mark.parametrize("check", [check for check in CHECKS if hasattr(estimator_checks, check)])  # some are new
def test_it_passes_the_checks_of_scikit_learn_that_apply_to_texts(check):
    function = getattr(estimator_checks, check)
    wanted = EmotionClassifier if check == "check_parameters_default_constructible" else EmotionClassifier()
    arguments = (
        ["EmotionClassifier", EmotionClassifier()] if len(inspect.signature(function).parameters) > 1 else [wanted]
    )
    function(*arguments)


def test_predictions_do_not_depend_on_order_or_company(single):
    proba = single.predict_proba(TEXTS[:20])
    np.testing.assert_allclose(single.predict_proba(TEXTS[:20][::-1])[::-1], proba, atol=1e-5)
    np.testing.assert_allclose(np.vstack([single.predict_proba(text) for text in TEXTS[:5]]), proba[:5], atol=0.02)


@pytest.mark.parametrize("kind", ["pickle", "joblib", "folder"])
def test_a_copy_predicts_the_same_and_holds_the_weights_once(single, kind, tmp_path):
    expected = single.predict_proba(TEXTS[:30])
    n_bytes = sum(weight.nbytes for weight in single.model.state_dict().values())
    if kind == "folder":
        single.save_pretrained(tmp_path / "saved")
        again = EmotionClassifier.from_pretrained(tmp_path / "saved")
    elif kind == "pickle":
        content = pickle.dumps(single)
        assert len(content) < 1.1 * n_bytes
        again = pickle.loads(content)
    else:
        joblib.dump(single, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_allclose(again.predict_proba(TEXTS[:30]), expected, atol=1e-6)
    assert (again.predict(TEXTS[:30]) == single.predict(TEXTS[:30])).all()


def test_a_pickle_from_a_machine_with_a_gpu_opens_on_one_without(single, caplog):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    elsewhere = pickle.loads(pickle.dumps(single))
    elsewhere.trained_.device = "cuda"  # as it was where it was pickled
    again = pickle.loads(pickle.dumps(elsewhere))
    assert "torch finds none" in caplog.text
    np.testing.assert_allclose(again.predict_proba(TEXTS[:9]), single.predict_proba(TEXTS[:9]), atol=1e-6)


def test_threads_and_tasks_that_share_a_classifier_get_the_answers_that_each_gets_alone(single):
    asked = [[*TEXTS[i : i + 3], "so it goes " * (100 if i % 2 else 1)] for i in range(10)]  # some are truncated
    expected = [single.predict_proba(texts) for texts in asked]
    fresh = pickle.loads(pickle.dumps(single))  # nothing is laid out yet
    with ThreadPoolExecutor(4) as threads:
        in_threads = list(threads.map(fresh.predict_proba, asked))

    async def ask():
        return await asyncio.gather(*(asyncio.to_thread(fresh.predict_proba, texts) for texts in asked))

    for answers in (in_threads, asyncio.run(ask())):
        for answer, alone in zip(answers, expected, strict=True):
            np.testing.assert_allclose(answer, alone, atol=1e-6)


# Thresholds, top k, long texts, scores


def test_thresholds_and_top_k_are_what_the_user_says(several):
    proba = pd.DataFrame(several.predict_proba(TEXTS[:30]), columns=several.classes_)
    by_number = several.predict_frame(TEXTS[:30], thresholds=0.3)
    assert [set(filter(None, cell.split("|"))) for cell in by_number.labels] == [
        set(row.index[row >= 0.3]) for _, row in proba.iterrows()
    ]
    by_label = several.predict_frame(TEXTS[:30], thresholds={"joy": 1.0})
    saved = several.predict_frame(TEXTS[:30])
    assert not by_label.labels.str.contains("joy").any() and saved.labels.str.contains("joy").any()
    two = several.predict_frame(TEXTS[:30], top_k=2)
    assert list(two.labels) == ["|".join(row.nlargest(2).index) for _, row in proba.iterrows()]
    both = several.predict_frame(TEXTS[:30], thresholds=0.5, top_k=1)
    assert list(both.labels) == [row.idxmax() if row.max() >= 0.5 else "" for _, row in proba.iterrows()]


def test_a_single_label_model_gives_several_where_one_asks(single):
    assert "labels" not in single.predict_frame(TEXTS[:3])
    assert single.predict_frame(TEXTS[:3], top_k=3).labels.str.count(r"\|").tolist() == [2, 2, 2]


def test_windows_read_what_truncation_leaves_out():
    "The word that says the label stands behind what is truncated."
    filler = " ".join(OTHERS * 3)
    texts = [f"{filler} {text}" for text in OTHER_TEXTS]
    truncated = EmotionClassifier("minilm", epochs=3, max_length=32).fit(TEXTS, LABELS)
    windows = pickle.loads(pickle.dumps(truncated))
    windows.trained_.long_texts = "windows"
    assert windows.score(texts, OTHER_LABELS) > truncated.score(texts, OTHER_LABELS) + 0.2
    np.testing.assert_allclose(windows.predict_proba(TEXTS[:9]), truncated.predict_proba(TEXTS[:9]), atol=1e-5)
    left_out = [each.predict_frame(texts[:2], tokens_left_out=True).tokens_left_out for each in (truncated, windows)]
    assert (left_out[0] > 10).all() and (left_out[1] == 0).all()


def test_a_tokenizer_that_makes_no_windows_is_refused():
    trained = TrainedClassifier.from_pretrained("goemotions28")
    with refusal(ModelError, "makes no windows"):
        TrainedClassifier(trained.checkpoint, ByT5Tokenizer(), long_texts="windows")


def test_how_windows_are_pooled_is_chosen_on_dev():
    long = [f"{' '.join(OTHERS * 3)} {text}" for text in TEXTS]
    classifier = EmotionClassifier("minilm", epochs=1, max_length=32, long_texts="windows").fit(long, LABELS)
    assert classifier.trained_.config.emo_nb_window_pooling in ("mean", "max")
    np.testing.assert_allclose(classifier.predict_proba(long[:9]).sum(axis=1), 1)


def test_an_evaluation_has_scores_with_intervals_and_a_figure(single, several):
    result = single.evaluate(OTHER_TEXTS, OTHER_LABELS, groups=np.arange(80) // 2)
    assert result.overall.value["accuracy"] == single.score(OTHER_TEXTS, OTHER_LABELS)
    assert (result.overall.low <= result.overall.value).all() and (result.overall.value <= result.overall.high).all()
    assert list(result.by_label.index) == sorted(WORDS) and result.by_label.support.sum() == 80
    assert result.plot().axes
    assert "threshold" in several.evaluate(OTHER_TEXTS, [[label] for label in OTHER_LABELS]).by_label
    one_kind = single.evaluate(
        OTHER_TEXTS[:8] + OTHER_TEXTS[-8:], [OTHER_LABELS[0]] * 16
    )  # some are predicted otherwise
    assert list(one_kind.by_label.index) == [OTHER_LABELS[0]] and one_kind.plot().axes


# Bad input

GOOD = (["good day", "bad day", "fine day", "sad day"] * 3, ["joy", "sadness"] * 6)


def fit(texts=GOOD[0], labels=GOOD[1], settings=None, **options):
    EmotionClassifier(**(settings or {})).fit(texts, labels, **options)


MISTAKES = {
    "lengths": (lambda: fit(labels=GOOD[1][:5]), DataError, "12 texts, but the number of labels is 5"),
    "no text": (lambda: fit([], []), TextError, "no text"),
    "missing text": (lambda: fit([*GOOD[0][:11], None]), TextError, "position 11 (None)"),
    "missing label": (lambda: fit(labels=[*GOOD[1][:11], float("nan")]), DataError, "row 11 is missing"),
    "missing in pandas": (lambda: fit(labels=pd.Series([*GOOD[1][:11], pd.NA])), DataError, "row 11 is missing"),
    "fraction": (lambda: fit(labels=[0.5, *range(11)]), DataError, "row 0 is 0.5"),
    "one class": (lambda: fit(labels=["joy"] * 12), DataError, "1 class ('joy')"),
    "all differ": (lambda: fit(labels=list(range(12))), DataError, "no label stands in two groups"),
    "more labels than rows": (lambda: fit(labels=np.eye(12, 20, dtype=int)), DataError, "20 labels and only 12 rows"),
    "mixed kinds": (
        lambda: fit(labels=[1, *GOOD[1][1:]]),
        DataError,
        "mixed kinds, numbers in row 0 and strings in row 1",
    ),
    "mixed forms": (lambda: fit(labels=[["joy"], *GOOD[1][1:]]), DataError, "row 1 has 'sadness', others a list"),
    "joined": (lambda: fit(labels=["joy|fear", *GOOD[1][1:]]), DataError, "split such cells"),
    "other numbers": (
        lambda: fit(labels=pd.DataFrame({"a": [0, 2] * 6, "b": [1, 0] * 6})),
        DataError,
        "row 1 has",
        "'a'",
    ),
    "no names": (lambda: fit(labels=pd.DataFrame({"": [0, 1] * 6, "b": [1, 0] * 6})), DataError, "column 0", "no name"),
    "joined column": (
        lambda: fit(labels=pd.DataFrame({"a|b": [0, 1] * 6, "c": [1, 0] * 6})),
        DataError,
        "'a|b'",
        "rename",
    ),
    "reserved": (lambda: fit(labels=["text", "joy"] * 6), DataError, "'text'", "rename"),
    "groups": (lambda: fit(groups=["one"] * 12), DataError, "one group"),
    "short groups": (lambda: fit(groups=[1, 2]), DataError, "12 texts, but the number of groups is 2"),
    "missing group": (lambda: fit(groups=[None, *range(11)]), DataError, "group of row 0 is missing"),
    "weights": (lambda: fit(sample_weight=[1, -1] * 6), DataError, "sample_weight", "negative"),
    "weight count": (lambda: fit(sample_weight=[1]), DataError, "12 rows"),
    "class weight": (lambda: fit(settings={"class_weight": {"envy": 2}}), ConfigError, "'envy'", "joy, sadness"),
    "class weight kind": (lambda: fit(settings={"class_weight": "heavy"}), ConfigError, "'heavy'"),
    "eval set": (lambda: fit(eval_set=GOOD[0]), ConfigError, "pair (texts, labels)"),
    "eval label": (lambda: fit(eval_set=(["x"], ["envy"])), DataError, "'envy'", "joy, sadness"),
    "epochs": (lambda: fit(settings={"epochs": 0}), ConfigError, "epochs"),
    "fraction of dev": (lambda: fit(settings={"validation_fraction": 1}), ConfigError, "validation_fraction"),
    "seed": (lambda: fit(settings={"random_state": None}), ConfigError, "random_state"),
    "long texts": (lambda: fit(settings={"long_texts": "all"}), ConfigError, "truncate, windows"),
    "encoder": (lambda: fit(settings={"encoder": 3}), ConfigError, "encoder"),
    "no encoder": (lambda: fit(settings={"encoder": "nowhere/at-all"}), ModelError, "nowhere/at-all"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_in_a_sentence_before_any_training(mistake, alone):
    call, kind, *culprits = mistake
    with refusal(kind, *culprits):
        call()


def test_scikit_learn_sees_value_errors_and_its_own_error_before_fit():
    assert (
        issubclass(DataError, ValueError) and issubclass(TextError, ValueError) and issubclass(ConfigError, ValueError)
    )
    assert issubclass(NotFittedError, ModelError) and issubclass(NotFittedError, exceptions.NotFittedError)
    for ask in ("predict", "predict_proba", "predict_frame"):
        with refusal(NotFittedError, "not trained yet", "fit(texts, labels)"):
            getattr(EmotionClassifier(), ask)(["x"])


def test_impossible_thresholds_and_labels_are_refused(single, several):
    for thresholds, named in (({"envy": 0.2}, "'envy'"), (1.2, "1.2"), ({"joy": True}, "True"), ("0.3", "'0.3'")):
        with refusal(ConfigError, named):
            several.predict_frame(["x"], thresholds=thresholds)
    for top_k in (0, 5, 1.5, True):
        with refusal(ConfigError, "top_k is a number from 1 to 4", repr(top_k)):
            single.predict_frame(["x"], top_k=top_k)
    with refusal(DataError, "not exactly one label"):
        single.evaluate(["x"], [["joy", "fear"]])
    with refusal(DataError, "the columns a, the model anger"):
        several.score(["x"], pd.DataFrame({"a": [1]}))
    with refusal(DataError, "no row has a label"):
        several.evaluate(["x", "y"], [[], []])
    with refusal(DataError, "there are 2 rows", "(1,)"):
        single.score(["x", "y"], ["joy", "joy"], sample_weight=[1])


def test_the_progress_bar_shows_in_a_terminal_and_never_in_a_pipe(capfd):
    fit(settings=QUICK)
    assert capfd.readouterr() == ("", "")
    code = "from test_classifier import fit, QUICK; fit(settings=QUICK)"
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))  # not on Windows
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, cwd="tests"
    ) as process:
        os.close(terminal)
        with suppress(OSError):  # Linux's way to say that nobody writes any more
            shown = b""
            while chunk := os.read(screen, 2**16):
                shown += chunk
        os.close(screen)
        assert b"epoch 1" in process.stdout.read() and b"100%|" in shown
