"""Scores are scikit-learn's, intervals as wide as they should be, temperature and thresholds what the data call for."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn import calibration, metrics

from emo_nb import ConfigError
from emo_nb.encode import TextDataset, split_labels
from emo_nb.evaluate import (
    SCORES,
    calibration_curve,
    calibration_error,
    choose_thresholds,
    compute_metrics,
    fit_temperature,
    label_scores,
    log_loss,
    prediction_table,
    probabilities,
    truth_and_predicted,
)
from emo_nb.model import find_encoder, load_tokenizer
from emo_nb.plots import plot_confusion

LABELS = ["anger", "fear", "joy", "love", "pride", "sadness"]
SEEN = LABELS[:-1]  # no row has the last, though some are given it
BOTH = pytest.mark.parametrize("several", [False, True])


def rows_of(labels, group=None, corpus="one") -> pd.DataFrame:
    "Labelled rows, each a group of its own where no groups are given."
    group = [str(i) for i in range(len(labels))] if group is None else group
    return pd.DataFrame({"corpus": corpus, "group": group, "text": "a text", "targets": split_labels(labels)})


@pytest.fixture(scope="module", params=[False, True], ids=["single", "several"])
def table(request) -> pd.DataFrame:
    "400 rows with one label, two in five predicted right; or with several labels, and some predicted to have none."
    rng = np.random.default_rng(1)
    proba = rng.permuted(np.tile(np.arange(1, 7) / 21, (400, 1)), axis=1)  # no ties
    if request.param:
        truth = rng.random((400, len(SEEN))) < 0.3
        truth[~truth.any(axis=1), 0] = True
        labels, proba = ["|".join(np.array(SEEN)[row]) for row in truth], proba * rng.uniform(0.5, 1, (400, 1))
        return prediction_table(rows_of(labels), proba, LABELS, np.linspace(0.12, 0.22, len(LABELS)))
    best = np.array(LABELS)[proba.argmax(1)]
    right = (rng.random(400) < 0.4) & (best != LABELS[-1])
    return prediction_table(rows_of(list(np.where(right, best, rng.choice(SEEN, 400)))), proba, LABELS)


def test_all_scores_are_those_of_scikit_learn(table):
    truth, predicted = (
        np.array([[name in row.split("|") for name in LABELS] for row in table[column]])
        for column in ("label", "predicted")
    )
    scores, f1 = compute_metrics(table, LABELS)["one"], metrics.f1_score
    top3 = [set(table.loc[i, LABELS].astype(float).nlargest(3).index) for i in range(400)]
    expected = {
        "macro_f1": f1(truth[:, :-1], predicted[:, :-1], average="macro"),
        "micro_f1": f1(truth, predicted, average="micro"),
        "weighted_f1": f1(truth, predicted, average="weighted", zero_division=0),
        "accuracy": metrics.accuracy_score(truth, predicted),
        "top3": np.mean([bool(top & set(row.split("|"))) for top, row in zip(top3, table.label, strict=True)]),
        "majority": table.label.value_counts().max() / len(table),
        "rows": len(table),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    columns = metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
    by_label = pd.DataFrame(columns, ["precision", "recall", "f1", "support"], LABELS).T.drop(LABELS[-1])
    pd.testing.assert_frame_equal(
        label_scores(table, LABELS).loc["one"], by_label, check_names=False, check_dtype=False
    )
    in_metrics = pd.DataFrame(scores["labels"]).T[by_label.columns].astype(float)
    np.testing.assert_allclose(in_metrics, by_label, atol=1e-4)
    if "" not in set(table.predicted):
        counts = metrics.confusion_matrix(table.label, table.predicted, labels=LABELS)[:-1]
        drawn = plot_confusion(table, LABELS).axes[0].images[0].get_array()
        np.testing.assert_allclose(drawn, counts / counts.sum(axis=1, keepdims=True))


def test_a_probability_at_its_threshold_counts_and_a_label_is_known_by_its_whole_name():
    proba = np.array([[0.30004, 0.2999, 0, 0, 0, 0]])
    assert list(prediction_table(rows_of(["anger"]), proba, LABELS, np.full(6, 0.3)).predicted) == ["anger"]
    table = pd.DataFrame({"label": ["joy|love", "lovely", ""], "predicted": ["", "love", "lovely|joy"]})
    truth, predicted = truth_and_predicted(table, ["joy", "love", "lovely"])
    assert truth.tolist() == [[True, True, False], [False, False, True], [False, False, False]]
    assert predicted.tolist() == [[False, False, False], [False, True, False], [True, False, True]]


def test_probabilities_or_texts_of_another_number_than_the_labels_are_refused():
    for shape in ((2, 6), (4, 6), (3, 5)):
        with pytest.raises(ConfigError, match=rf"3 rows and 6 labels.*\({shape[0]}, {shape[1]}\)"):
            prediction_table(rows_of(["joy", "love", "joy"]), np.zeros(shape), LABELS)
    with pytest.raises(ConfigError, match="2 texts and 3 rows of labels"):
        TextDataset(["one", "two"], load_tokenizer(find_encoder("minilm")), np.zeros((3, 2)))


# Intervals


def right_rows(rows: int, share: float) -> np.ndarray:
    return np.random.default_rng(3).random(rows) < share


def metrics_of(right, group=None, corpus="one"):
    "The metrics where just these rows are predicted right."
    proba = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    return compute_metrics(
        prediction_table(rows_of(["no"] * len(right), group, corpus), proba, ["no", "yes"]), ["no", "yes"]
    )


def accuracy_interval(*given) -> list[float]:
    return metrics_of(*given)["one"]["intervals"]["accuracy"]


def test_the_interval_of_accuracy_is_that_of_the_normal_approximation():
    right = right_rows(2000, 0.7)
    share = right.mean()
    expected = norm.interval(0.95, share, np.sqrt(share * (1 - share) / len(right)))
    assert accuracy_interval(right) == pytest.approx(list(expected), abs=0.003)
    assert accuracy_interval(np.array([True])) == [1.0, 1.0]


def test_an_interval_holds_its_score_and_is_the_same_every_time(table):
    scores = compute_metrics(table, LABELS)["one"]
    intervals = [(scores[name], scores["intervals"][name]) for name in SCORES]
    intervals += [(row["f1"], row["f1_interval"]) for row in scores["labels"].values()]
    assert all(low < score < high for score, (low, high) in intervals)
    assert compute_metrics(table, LABELS)["one"] == scores


def test_where_all_is_right_an_interval_has_no_width_however_few_rows_a_label_has():
    labels = [f"label {i}" for i in range(28)]
    truth = np.eye(28, dtype=np.uint8).repeat(2, axis=0)
    rows = pd.DataFrame({"corpus": "own", "group": [str(i) for i in range(56)], "text": "x"})
    rows["targets"] = [(labels[i],) for i in truth.argmax(axis=1)]
    metrics = compute_metrics(prediction_table(rows, truth * 0.9, labels), labels)["own"]
    assert set(map(tuple, metrics["intervals"].values())) == {(1.0, 1.0)}
    assert all(one["f1_interval"] == [1.0, 1.0] for one in metrics["labels"].values())


def test_repeated_rows_of_a_group_narrow_no_interval_and_equal_names_in_two_corpora_are_two_groups():
    right, groups = right_rows(500, 0.6), [str(i) for i in range(500)]
    fourfold = np.repeat(right, 4)
    once, grouped, independent = (
        np.ptp(accuracy_interval(*given)) for given in ((right,), (fourfold, np.repeat(groups, 4)), (fourfold,))
    )
    assert grouped == pytest.approx(once, rel=0.01)
    assert grouped == pytest.approx(2 * independent, rel=0.15)
    corpus, pairs = ["one", "two"] * 250, [str(i // 2) for i in range(500)]
    apart = [f"{group} of {name}" for group, name in zip(pairs, corpus, strict=True)]
    same, different = (metrics_of(right, given, corpus) for given in (pairs, apart))
    assert set(same) == {"one", "two", "all"}
    assert same == different


# Temperature and thresholds


def logits_of(rows: int, temperature: float, several: bool, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    "Logits that are right once they are divided by `temperature`, and labels drawn from what they then say."
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 5))
    if several:
        truth = (rng.random(logits.shape) < probabilities(logits, True)).astype(float)
    else:
        truth = np.array([rng.multinomial(1, row) for row in probabilities(logits, False)], float)
    return logits * temperature, truth


@BOTH
def test_the_temperature_is_the_one_that_the_logits_need_and_corrects_overconfidence(several):
    for needed in (0.4, 1.0, 3.0):
        temperature = fit_temperature(*logits_of(8000, needed, several), several)
        assert temperature == pytest.approx(needed, rel=0.08)
    logits, truth = logits_of(3000, 3.0, several, seed=5)
    before, after = (probabilities(logits / t, several) for t in (1, temperature))
    errors = [calibration_error(calibration_curve(proba, truth, several)) for proba in (before, after)]
    assert errors[1] < 0.03 < 0.1 < errors[0]
    assert log_loss(logits / temperature, truth, several) < log_loss(logits, truth, several)


@BOTH
def test_loss_and_calibration_curve_are_those_of_scikit_learn(several):
    logits, truth = logits_of(2000, 2.0, several)
    proba = probabilities(logits, several)
    columns = zip(truth.T, proba.T, strict=True) if several else [(truth.argmax(1), proba)]
    expected = sum(metrics.log_loss(true, stated) for true, stated in columns)
    assert log_loss(logits, truth, several) == pytest.approx(expected)
    right = truth if several else truth[np.arange(2000), proba.argmax(1)]
    stated = proba if several else proba.max(1)
    curve = calibration_curve(proba, truth, several)
    shares, means = calibration.calibration_curve(right.ravel(), stated.ravel(), n_bins=15)
    np.testing.assert_allclose(curve.share, shares)
    np.testing.assert_allclose(curve.probability, means)
    gaps = np.abs(curve.share - curve.probability) * curve["count"]
    assert calibration_error(curve) == pytest.approx(gaps.sum() / stated.size)


def test_without_smoothing_a_threshold_is_the_best_one():
    logits, truth = logits_of(400, 1, True)
    proba, f1 = probabilities(logits - 1, True), metrics.f1_score
    for j, threshold in enumerate(choose_thresholds(proba, truth, smoothing=0.001, prior_rows=0)):
        others = [f1(truth[:, j], proba[:, j] >= other) for other in np.linspace(0.02, 0.95, 94)]
        assert f1(truth[:, j], proba[:, j] >= threshold) >= max(others) - 0.005


def test_a_rare_label_leans_on_the_probabilities_and_a_common_one_does_not():
    logits, truth = logits_of(40_000, 1, True)
    proba = probabilities(logits, True)
    best, without_rows = choose_thresholds(proba, truth, prior_rows=0), choose_thresholds(proba, np.zeros_like(truth))
    assert list(without_rows) == pytest.approx(list(best), abs=0.05), "what the probabilities expect to be best"
    proba, truth = proba[:4000, :1], truth[:4000, :1]
    one_hit = np.zeros((4000, 1))
    one_hit[np.argmax(proba)] = 1  # by itself it would take a threshold near one
    assert choose_thresholds(proba, one_hit, prior_rows=0) > 0.9
    assert abs(choose_thresholds(proba, one_hit) - choose_thresholds(proba, truth)) < 0.1
    low = probabilities(logits[:4000, :1] - 2, True)  # the count corrects probabilities that are too low
    assert choose_thresholds(low, truth) < choose_thresholds(low, 0 * truth) - 0.05
