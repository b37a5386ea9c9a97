"""The figures of an evaluation: those of scikit-learn, those made by hand, and intervals as wide as they should be."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from emo_nb.core import ConfigError
from emo_nb.encode import TextDataset
from emo_nb.evaluate import OVERALL, draws, indicators, metrics, plot_confusion, predictions, scores, tally
from emo_nb.model import find_encoder, tokenizer_of

LABELS = ["anger", "fear", "joy", "love", "pride", "sadness"]
UNSEEN = "sadness"  # no row has it, though some are given it


def random_proba(rng: np.random.Generator, rows: int) -> np.ndarray:
    "Probabilities of which no two in a row are the same, so that all agree on which three are the highest."
    return rng.permuted(np.tile(np.arange(1, len(LABELS) + 1) / 21, (rows, 1)), axis=1)


def rows_of(label: list[str], group: object = None, corpus: object = "one") -> pd.DataFrame:
    "Labelled rows, each a group of its own where no groups are given."
    group = [str(i) for i in range(len(label))] if group is None else group
    return pd.DataFrame({"corpus": corpus, "group": group, "text": "a text", "label": label})


@pytest.fixture(scope="module")
def single() -> pd.DataFrame:
    "400 rows with one label, two in five of them called right."
    rng = np.random.default_rng(1)
    proba = random_proba(rng, 400)
    names = np.array(LABELS)
    label = np.where(rng.random(400) < 0.4, names[proba.argmax(1)], rng.choice(names, 400))
    label[label == UNSEEN] = "joy"
    return predictions(rows_of(list(label)), proba, LABELS)


@pytest.fixture(scope="module")
def several() -> pd.DataFrame:
    "400 rows with one to three labels, and thresholds that some rows reach with no label."
    rng = np.random.default_rng(2)
    truth = rng.random((400, len(LABELS))) < 0.3
    truth[:, LABELS.index(UNSEEN)] = False
    truth[~truth.any(axis=1), 0] = True
    label = ["|".join(np.array(LABELS)[row]) for row in truth]
    proba = random_proba(rng, 400) * rng.uniform(0.5, 1, (400, 1))
    table = predictions(rows_of(label), proba, LABELS, np.linspace(0.12, 0.22, len(LABELS)))
    assert (table.predicted == "").any() and table.predicted.str.contains("|", regex=False).any()
    return table


@pytest.fixture(params=["single", "several"])
def table(request) -> pd.DataFrame:
    return request.getfixturevalue(request.param)


def truth_and_said(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "Ones and zeros made without the package."
    return tuple(
        np.array([[name in row.split("|") for name in LABELS] for row in table[c]]) for c in ("label", "predicted")
    )


def test_overall_scores_are_those_of_scikit_learn(table):
    truth, said = truth_and_said(table)
    seen = [i for i, name in enumerate(LABELS) if name != UNSEEN]
    found = metrics(table, LABELS)["one"]
    assert found["macro_f1"] == pytest.approx(f1_score(truth[:, seen], said[:, seen], average="macro"), abs=1e-4)
    assert found["micro_f1"] == pytest.approx(f1_score(truth, said, average="micro"), abs=1e-4)
    assert found["weighted_f1"] == pytest.approx(f1_score(truth, said, average="weighted", zero_division=0), abs=1e-4)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said), abs=1e-4)
    assert found["majority"] == pytest.approx(table.label.value_counts().max() / len(table), abs=1e-4)
    assert found["rows"] == len(table)


def test_the_scores_of_each_label_are_those_of_scikit_learn(table):
    truth, said = truth_and_said(table)
    wanted = precision_recall_fscore_support(truth, said, zero_division=0)
    wanted = pd.DataFrame(wanted, index=["precision", "recall", "f1", "support"], columns=LABELS).T.drop(UNSEEN)
    found = scores(table, LABELS).loc["one"]
    pd.testing.assert_frame_equal(found, wanted, check_names=False, check_dtype=False)
    in_json = pd.DataFrame(metrics(table, LABELS)["one"]["labels"]).T
    np.testing.assert_allclose(in_json[wanted.columns].astype(float), wanted, atol=1e-4)


def test_top_three_is_scikit_learns_where_a_text_has_one_label(single):
    wanted = top_k_accuracy_score(single.label, single[LABELS], k=3, labels=LABELS)
    assert metrics(single, LABELS)["one"]["top3"] == pytest.approx(wanted, abs=1e-4)


def test_top_three_is_a_hit_where_one_of_several_labels_is_among_them(several):
    hits = [
        bool(set(row.label.split("|")) & set(several.loc[i, LABELS].astype(float).nlargest(3).index))
        for i, row in several.iterrows()
    ]
    assert 0 < np.mean(hits) < 1
    assert metrics(several, LABELS)["one"]["top3"] == pytest.approx(np.mean(hits), abs=1e-4)


def test_the_confusion_figure_is_scikit_learns_matrix_by_rows(single):
    counts = confusion_matrix(single.label, single.predicted, labels=LABELS)[:-1]
    drawn = plot_confusion(single, LABELS).axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, counts / counts.sum(axis=1, keepdims=True))


def test_a_small_case_made_by_hand():
    proba = [[0.9, 0.8, 0.1, 0.2], [0.1, 0.7, 0.2, 0.3], [0.2, 0.3, 0.4, 0.1], [0.6, 0.1, 0.2, 0.3]]
    labels, label = ["a", "b", "c", "d"], ["a|b", "a", "d", "a"]
    table = predictions(rows_of(label), np.array(proba), labels, np.full(4, 0.5))
    assert list(table.predicted) == ["a|b", "b", "", "a"]
    found = metrics(table, labels, np.full(4, 0.5))["one"]
    # a: two of three found, none wrongly; b: one found, one wrongly; d: never said; c: nobody's, never said
    f1 = {"a": 4 / 5, "b": 2 / 3, "d": 0.0}
    assert {label: row["f1"] for label, row in found["labels"].items()} == pytest.approx(f1, abs=1e-4)
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 3, abs=1e-4)
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 5), abs=1e-4)
    assert found["weighted_f1"] == pytest.approx((3 * 4 / 5 + 2 / 3 + 0) / 5, abs=1e-4)
    assert found["accuracy"] == 0.5  # the first row and the last
    assert found["top3"] == 0.5  # not the second, whose a comes last, nor the third, whose d does
    assert found["majority"] == 0.5
    assert {row["threshold"] for row in found["labels"].values()} == {0.5}


def test_a_model_that_says_nothing_scores_nothing():
    table = predictions(rows_of(["anger|joy", "fear"]), np.full((2, 6), 0.1), LABELS, np.full(6, 0.5))
    found = metrics(table, LABELS, np.full(6, 0.5))["one"]
    assert [found[name] for name in ("macro_f1", "micro_f1", "weighted_f1", "accuracy")] == [0, 0, 0, 0]
    assert set(found["labels"]) == {"anger", "joy", "fear"}


def test_a_probability_at_its_threshold_counts():
    table = predictions(rows_of(["anger"]), np.array([[0.30004, 0.2999, 0, 0, 0, 0]]), LABELS, np.full(6, 0.3))
    assert list(table.predicted) == ["anger"]


# Intervals


def right_and_wrong(rows: int, share: float, seed: int = 3) -> np.ndarray:
    "Which rows are called right."
    return np.random.default_rng(seed).random(rows) < share


def called(right: np.ndarray, group: object = None, corpus: object = "one") -> pd.DataFrame:
    "A table in which just these rows are called right."
    proba = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    return predictions(rows_of(["no"] * len(right), group, corpus), proba, ["no", "yes"])


def test_the_interval_of_accuracy_is_that_of_the_normal_approximation():
    right = right_and_wrong(2000, 0.7)
    low, high = metrics(called(right), ["no", "yes"])["one"]["intervals"]["accuracy"]
    share = right.mean()
    wanted = norm.interval(0.95, share, np.sqrt(share * (1 - share) / len(right)))
    assert [low, high] == pytest.approx(list(wanted), abs=0.003)


def test_rows_of_one_group_are_drawn_together():
    groups = pd.Series(["a", "b", "a", "c", "c", "c"])
    weights = draws(groups, n=200)
    assert weights.shape == (200, 6)
    for name in "abc":
        one, *others = weights[:, groups == name].T
        assert all((one == other).all() for other in others)
    assert set(weights[:, [0, 1, 3]].sum(axis=1)) == {3}, "as many groups as there are, in each draw"
    assert len(np.unique(weights, axis=0)) == 10, "all ways to draw three out of three"


def test_rows_that_repeat_each_other_in_a_group_do_not_make_the_interval_narrower():
    right = right_and_wrong(500, 0.6)
    groups = [str(i) for i in range(500)]

    def width(table: pd.DataFrame) -> float:
        low, high = metrics(table, ["no", "yes"])["one"]["intervals"]["accuracy"]
        return high - low

    once, fourfold = width(called(right, groups)), width(called(np.repeat(right, 4), np.repeat(groups, 4)))
    taken_for_independent = width(called(np.repeat(right, 4)))
    assert fourfold == pytest.approx(once, rel=0.01)
    assert fourfold == pytest.approx(2 * taken_for_independent, rel=0.15)


def test_groups_of_two_corpora_are_two_groups_even_if_they_are_called_the_same():
    right, corpus = right_and_wrong(300, 0.6), ["one", "two"] * 150
    pairs = [str(i // 2) for i in range(300)]
    apart = [f"{group} of {name}" for group, name in zip(pairs, corpus, strict=True)]
    same, different = (metrics(called(right, groups, corpus), ["no", "yes"]) for groups in (pairs, apart))
    assert set(same) == {"one", "two", "all"}
    assert same == different


def test_an_interval_holds_its_score_and_is_the_same_every_time(table):
    found = metrics(table, LABELS)["one"]
    for name in OVERALL:
        low, high = found["intervals"][name]
        assert low < found[name] < high
    for row in found["labels"].values():
        assert row["f1_interval"][0] < row["f1"] < row["f1_interval"][1]
    assert metrics(table, LABELS) == metrics(table, LABELS)


def test_a_weight_is_how_often_a_row_counts(table):
    weights = draws(table.group, n=3, seed=5)
    totals, f1 = tally(table, LABELS, weights)
    for way, weight in enumerate(weights.astype(int)):
        again = table.loc[table.index.repeat(weight)]
        wanted, wanted_f1 = tally(again, LABELS)
        assert totals.loc[way].to_dict() == pytest.approx(wanted.iloc[0].to_dict())
        assert f1.loc[way].to_dict() == pytest.approx(wanted_f1.iloc[0].to_dict())


# What does not fit together


def test_one_test_row_is_enough_for_figures():
    found = metrics(called(np.array([True])), ["no", "yes"])["one"]
    assert (found["rows"], found["accuracy"], found["intervals"]["accuracy"]) == (1, 1.0, [1.0, 1.0])


@pytest.mark.parametrize("shape", [(2, 6), (4, 6), (3, 5)])
def test_predictions_of_another_length_than_the_labels_are_refused(shape):
    with pytest.raises(ConfigError, match=r"3 rows and 6 labels") as caught:
        predictions(rows_of(["joy", "love", "joy"]), np.zeros(shape), LABELS)
    assert str(shape) in str(caught.value) and "\n" not in str(caught.value)


def test_texts_of_another_length_than_the_labels_are_refused():
    with pytest.raises(ConfigError, match="2 texts and 3 labels"):
        TextDataset(["one", "two"], tokenizer_of(find_encoder("minilm")), np.zeros(3, int))


def test_labels_are_told_apart_by_their_whole_name():
    found = indicators(pd.Series(["joy|love", "lovely", ""]), ["joy", "love", "lovely"])
    assert found.tolist() == [[True, True, False], [False, False, True], [False, False, False]]
