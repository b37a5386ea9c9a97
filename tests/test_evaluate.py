"""Scores are scikit-learn's, intervals as wide as they should be, temperature and thresholds what the data call for."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn import calibration
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import log_loss as sklearn_log_loss

from emo_nb import ConfigError
from emo_nb.encode import TextDataset, split_labels
from emo_nb.evaluate import (
    SCORES,
    bootstrap_weights,
    calibration_curve,
    calibration_error,
    choose_thresholds,
    compute_metrics,
    f1_curve,
    fit_temperature,
    label_scores,
    log_loss,
    prediction_table,
    probabilities,
    truth_and_predicted,
    weighted_scores,
)
from emo_nb.model import find_encoder, load_tokenizer
from emo_nb.plots import plot_confusion

LABELS = ["anger", "fear", "joy", "love", "pride", "sadness"]
UNSEEN = "sadness"  # no row has it, though some are given it


def rows_of(labels, group=None, corpus="one") -> pd.DataFrame:
    "Labelled rows, each a group of its own where no groups are given."
    group = [str(i) for i in range(len(labels))] if group is None else group
    return pd.DataFrame({"corpus": corpus, "group": group, "text": "a text", "targets": split_labels(labels)})


@pytest.fixture(scope="module")
def single() -> pd.DataFrame:
    "400 rows with one label, two in five of them predicted right."
    rng, names = np.random.default_rng(1), np.array(LABELS)
    proba = rng.permuted(np.tile(np.arange(1, 7) / 21, (400, 1)), axis=1)  # no ties
    label = np.where(rng.random(400) < 0.4, names[proba.argmax(1)], rng.choice(names, 400))
    label[label == UNSEEN] = "joy"
    return prediction_table(rows_of(list(label)), proba, LABELS)


@pytest.fixture(scope="module")
def several() -> pd.DataFrame:
    "400 rows with one to three labels, and thresholds that some rows reach with no label."
    rng = np.random.default_rng(2)
    truth = rng.random((400, len(LABELS))) < 0.3
    truth[:, LABELS.index(UNSEEN)] = False
    truth[~truth.any(axis=1), 0] = True
    labels = ["|".join(np.array(LABELS)[row]) for row in truth]
    proba = rng.permuted(np.tile(np.arange(1, 7) / 21, (400, 1)), axis=1) * rng.uniform(0.5, 1, (400, 1))
    table = prediction_table(rows_of(labels), proba, LABELS, np.linspace(0.12, 0.22, len(LABELS)))
    assert (table.predicted == "").any() and table.predicted.str.contains("|", regex=False).any()
    return table


@pytest.fixture(params=["single", "several"])
def table(request) -> pd.DataFrame:
    return request.getfixturevalue(request.param)


def test_all_scores_are_those_of_scikit_learn(table):
    truth, predicted = (
        np.array([[name in row.split("|") for name in LABELS] for row in table[column]])
        for column in ("label", "predicted")
    )
    metrics, seen = compute_metrics(table, LABELS)["one"], [i for i, name in enumerate(LABELS) if name != UNSEEN]
    expected = {
        "macro_f1": f1_score(truth[:, seen], predicted[:, seen], average="macro"),
        "micro_f1": f1_score(truth, predicted, average="micro"),
        "weighted_f1": f1_score(truth, predicted, average="weighted", zero_division=0),
        "accuracy": accuracy_score(truth, predicted),
        "majority": table.label.value_counts().max() / len(table),
        "rows": len(table),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    columns = precision_recall_fscore_support(truth, predicted, zero_division=0)
    by_label = pd.DataFrame(columns, ["precision", "recall", "f1", "support"], LABELS).T.drop(UNSEEN)
    scores = label_scores(table, LABELS).loc["one"]
    pd.testing.assert_frame_equal(scores, by_label, check_names=False, check_dtype=False)
    in_metrics = pd.DataFrame(metrics["labels"]).T[by_label.columns].astype(float)
    np.testing.assert_allclose(in_metrics, by_label, atol=1e-4)


def test_top_three_counts_a_row_with_one_of_its_labels_among_the_three_most_probable(single, several):
    expected = top_k_accuracy_score(single.label, single[LABELS], k=3, labels=LABELS)
    assert compute_metrics(single, LABELS)["one"]["top3"] == pytest.approx(expected, abs=1e-4)
    hits = [
        bool(set(row.label.split("|")) & set(several.loc[i, LABELS].astype(float).nlargest(3).index))
        for i, row in several.iterrows()
    ]
    assert 0 < np.mean(hits) < 1
    assert compute_metrics(several, LABELS)["one"]["top3"] == pytest.approx(np.mean(hits), abs=1e-4)


def test_the_confusion_figure_is_scikit_learns_matrix_by_rows(single):
    counts = confusion_matrix(single.label, single.predicted, labels=LABELS)[:-1]
    drawn = plot_confusion(single, LABELS).axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, counts / counts.sum(axis=1, keepdims=True))


def test_a_small_case_computed_by_hand():
    proba = [[0.9, 0.8, 0.1, 0.2], [0.1, 0.7, 0.2, 0.3], [0.2, 0.3, 0.4, 0.1], [0.6, 0.1, 0.2, 0.3]]
    labels = ["a", "b", "c", "d"]
    table = prediction_table(rows_of(["a|b", "a", "d", "a"]), np.array(proba), labels, np.full(4, 0.5))
    assert list(table.predicted) == ["a|b", "b", "", "a"]
    metrics = compute_metrics(table, labels, np.full(4, 0.5))["one"]
    # a: two of three found, none wrongly; b: one found, one wrongly; d: never predicted; c: in no row
    f1 = {"a": 4 / 5, "b": 2 / 3, "d": 0.0}
    assert {label: row["f1"] for label, row in metrics["labels"].items()} == pytest.approx(f1, abs=1e-4)
    assert metrics["macro_f1"] == pytest.approx(sum(f1.values()) / 3, abs=1e-4)
    assert metrics["micro_f1"] == pytest.approx(2 * 3 / (4 + 5), abs=1e-4)
    assert metrics["weighted_f1"] == pytest.approx((3 * 4 / 5 + 2 / 3 + 0) / 5, abs=1e-4)
    assert metrics["accuracy"] == 0.5  # the first row and the last
    assert metrics["top3"] == 0.5  # not the second, whose a comes last, nor the third, whose d does
    assert metrics["majority"] == 0.5
    assert {row["threshold"] for row in metrics["labels"].values()} == {0.5}


def test_a_model_that_predicts_nothing_scores_nothing():
    table = prediction_table(rows_of(["anger|joy", "fear"]), np.full((2, 6), 0.1), LABELS, np.full(6, 0.5))
    metrics = compute_metrics(table, LABELS, np.full(6, 0.5))["one"]
    assert [metrics[name] for name in ("macro_f1", "micro_f1", "weighted_f1", "accuracy")] == [0, 0, 0, 0]
    assert set(metrics["labels"]) == {"anger", "joy", "fear"}


def test_a_probability_at_its_threshold_counts():
    proba = np.array([[0.30004, 0.2999, 0, 0, 0, 0]])
    assert list(prediction_table(rows_of(["anger"]), proba, LABELS, np.full(6, 0.3)).predicted) == ["anger"]


def test_labels_are_told_apart_by_their_whole_name():
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


def accuracy_interval(right: np.ndarray, group=None, corpus="one") -> list[float]:
    "The interval of accuracy where just these rows are predicted right."
    return metrics_of(right, group, corpus)["one"]["intervals"]["accuracy"]


def metrics_of(right, group=None, corpus="one"):
    proba = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    table = prediction_table(rows_of(["no"] * len(right), group, corpus), proba, ["no", "yes"])
    return compute_metrics(table, ["no", "yes"])


def test_the_interval_of_accuracy_is_that_of_the_normal_approximation():
    right = right_rows(2000, 0.7)
    share = right.mean()
    expected = norm.interval(0.95, share, np.sqrt(share * (1 - share) / len(right)))
    assert accuracy_interval(right) == pytest.approx(list(expected), abs=0.003)
    assert accuracy_interval(np.array([True])) == [1.0, 1.0]


def test_a_bootstrap_draws_whole_groups_and_a_weight_is_how_often_a_row_counts(table):
    groups = pd.Series(["a", "b", "a", "c", "c", "c"])
    weights = bootstrap_weights(groups, n_samples=200)
    assert all((weights[:, groups == name] == weights[:, groups == name][:, :1]).all() for name in "abc")
    assert set(weights[:, [0, 1, 3]].sum(axis=1)) == {3}, "as many groups as there are, in each sample"
    assert len(np.unique(weights, axis=0)) == 10, "all ways to draw three out of three"
    weights = bootstrap_weights(table.group, n_samples=3, seed=5)
    overall, f1 = weighted_scores(table, LABELS, weights)
    for sample, weight in enumerate(weights.astype(int)):
        expected, expected_f1 = weighted_scores(table.loc[table.index.repeat(weight)], LABELS)
        assert overall.loc[sample].to_dict() == pytest.approx(expected.iloc[0].to_dict())
        assert f1.loc[sample].to_dict() == pytest.approx(expected_f1.iloc[0].to_dict())


def test_rows_that_repeat_each_other_in_a_group_do_not_make_the_interval_narrower():
    right, groups = right_rows(500, 0.6), [str(i) for i in range(500)]
    once, fourfold, taken_for_independent = (
        np.ptp(accuracy_interval(*given))
        for given in ((right, groups), (np.repeat(right, 4), np.repeat(groups, 4)), (np.repeat(right, 4),))
    )
    assert fourfold == pytest.approx(once, rel=0.01)
    assert fourfold == pytest.approx(2 * taken_for_independent, rel=0.15)


def test_groups_of_two_corpora_are_two_groups_even_if_they_have_the_same_name():
    right, corpus = right_rows(300, 0.6), ["one", "two"] * 150
    pairs = [str(i // 2) for i in range(300)]
    apart = [f"{group} of {name}" for group, name in zip(pairs, corpus, strict=True)]
    same, different = (metrics_of(right, groups, corpus) for groups in (pairs, apart))
    assert set(same) == {"one", "two", "all"}
    assert same == different


def test_an_interval_holds_its_score_and_is_the_same_every_time(table):
    metrics = compute_metrics(table, LABELS)["one"]
    intervals = [(metrics[name], metrics["intervals"][name]) for name in SCORES]
    intervals += [(row["f1"], row["f1_interval"]) for row in metrics["labels"].values()]
    assert all(low < score < high for score, (low, high) in intervals)
    assert compute_metrics(table, LABELS)["one"] == metrics


# Calibration

BOTH = pytest.mark.parametrize("several", [False, True])


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
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_that_the_logits_need(temperature, several):
    assert fit_temperature(*logits_of(8000, temperature, several), several) == pytest.approx(temperature, rel=0.08)


@BOTH
def test_the_temperature_corrects_overconfidence_and_changes_no_order(several):
    temperature = fit_temperature(*logits_of(3000, 3.0, several), several)
    logits, truth = logits_of(3000, 3.0, several, seed=5)
    before, after = (probabilities(logits / t, several) for t in (1, temperature))
    errors = [calibration_error(calibration_curve(proba, truth, several)) for proba in (before, after)]
    assert errors[1] < 0.03 < 0.1 < errors[0]
    assert log_loss(logits / temperature, truth, several) < log_loss(logits, truth, several)
    assert (before.argmax(1) == after.argmax(1)).all()


@BOTH
def test_loss_and_calibration_curve_are_those_of_scikit_learn(several):
    logits, truth = logits_of(2000, 2.0, several)
    proba = probabilities(logits, several)
    expected = (
        sum(sklearn_log_loss(truth[:, j], proba[:, j]) for j in range(5))
        if several
        else sklearn_log_loss(truth.argmax(1), proba)
    )
    assert log_loss(logits, truth, several) == pytest.approx(expected)
    right = truth if several else truth[np.arange(2000), proba.argmax(1)]
    stated = proba if several else proba.max(1)
    curve = calibration_curve(proba, truth, several)
    shares, means = calibration.calibration_curve(right.ravel(), stated.ravel(), n_bins=15)
    np.testing.assert_allclose(curve.share, shares)
    np.testing.assert_allclose(curve.probability, means)
    assert curve["count"].sum() == stated.size


def test_a_calibration_error_computed_by_hand():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.45, 0.55]])
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    # two say 0.9 and one is right, two say about 0.6 in bins of their own and both are right
    expected = (2 * 0.4 + 0.4 + 0.45) / 4
    assert calibration_error(calibration_curve(proba, truth, multi_label=False)) == pytest.approx(expected)


# Thresholds


def test_the_f1_curve_is_scikit_learns_at_each_threshold():
    rng = np.random.default_rng(6)
    proba, truth = rng.random(500).round(2), rng.random(500) < 0.2
    grid = np.arange(0, 1.01, 0.05).round(2)  # ties with the probabilities: at the threshold a label counts
    expected = [f1_score(truth, proba >= threshold, zero_division=0) for threshold in grid]
    np.testing.assert_allclose(f1_curve(proba, truth, grid), expected)


def test_without_smoothing_a_threshold_is_the_best_one():
    logits, truth = logits_of(400, 1, True)
    proba = probabilities(logits - 1, True)
    for j, threshold in enumerate(choose_thresholds(proba, truth, smoothing=0.001, prior_rows=0)):
        others = [f1_score(truth[:, j], proba[:, j] >= other) for other in np.linspace(0.02, 0.95, 94)]
        assert f1_score(truth[:, j], proba[:, j] >= threshold) >= max(others) - 0.005


def test_a_rare_label_leans_on_the_probabilities_and_a_common_one_does_not():
    logits, truth = logits_of(4000, 1, True)
    proba, none = probabilities(logits, True)[:, :1], np.zeros((4000, 1))
    one_hit = none.copy()
    one_hit[np.argmax(proba)] = 1  # by itself it would take a threshold near one
    assert choose_thresholds(proba, one_hit, prior_rows=0) > 0.9
    assert abs(choose_thresholds(proba, one_hit) - choose_thresholds(proba, truth[:, :1])) < 0.1
    low = probabilities(logits[:, :1] - 2, True)  # the count corrects probabilities that are too low
    assert choose_thresholds(low, truth[:, :1]) < choose_thresholds(low, none) - 0.05


def test_a_label_without_a_row_takes_the_threshold_that_its_probabilities_expect_to_be_best():
    logits, truth = logits_of(40_000, 1, True)
    proba = probabilities(logits, True)
    expected = choose_thresholds(proba, truth, prior_rows=0)
    assert list(choose_thresholds(proba, np.zeros_like(truth))) == pytest.approx(list(expected), abs=0.05)
