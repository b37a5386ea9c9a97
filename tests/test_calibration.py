"""Temperature and thresholds: what they should be, that dev alone decides them, and that the checkpoint carries them."""

import json

import numpy as np
import pytest
import torch
from helpers import official_rows, settle, tiny_run, write_official
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score
from sklearn.metrics import log_loss as sklearn_log_loss
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from emo_nb import EmotionClassifier
from emo_nb.calibrate import (
    calibration_error,
    f1_curve,
    log_loss,
    probabilities,
    reliability,
    temperature,
    thresholds,
)
from emo_nb.config import Config
from emo_nb.evaluate import indicators
from emo_nb.run import choose_rows, gather, run

TEXTS = ["Thank you so much, you saved my week", "no", "I can't stop crying since he left, and nothing helps 💔", ""]


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch, tmp_path_factory):
    settle(monkeypatch, tmp_path_factory.mktemp("no-cache"))


def sure(rows: int, warmth: float, several: bool, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    "Logits that are right once they are divided by `warmth`, and labels drawn from what they then say."
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 5))
    if several:
        truth = (rng.random(logits.shape) < probabilities(logits, True)).astype(float)
    else:
        truth = np.array([rng.multinomial(1, row) for row in probabilities(logits, False)], float)
    return logits * warmth, truth


# Temperature


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("warmth", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_that_the_logits_need(warmth, several):
    logits, truth = sure(8000, warmth, several)
    assert temperature(logits, truth, several) == pytest.approx(warmth, rel=0.08)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_mends_what_is_said_too_surely_and_changes_no_order(several):
    logits, truth = sure(3000, 3.0, several)
    tested, true = sure(3000, 3.0, several, seed=5)
    warmth = temperature(logits, truth, several)
    before, after = (probabilities(tested / by, several) for by in (1, warmth))
    errors = [calibration_error(reliability(proba, true, several)) for proba in (before, after)]
    assert errors[1] < 0.03 < 0.1 < errors[0]
    assert log_loss(tested / warmth, true, several) < log_loss(tested, true, several)
    assert (before.argmax(1) == after.argmax(1)).all()


def test_the_loss_is_that_of_scikit_learn():
    logits, truth = sure(300, 1, False)
    wanted = sklearn_log_loss(truth.argmax(1), probabilities(logits, False))
    assert log_loss(logits, truth, False) == pytest.approx(wanted)
    logits, truth = sure(300, 1, True)
    said = probabilities(logits, True)
    wanted = sum(sklearn_log_loss(truth[:, j], said[:, j]) for j in range(5))
    assert log_loss(logits, truth, True) == pytest.approx(wanted)


@pytest.mark.parametrize("several", [False, True])
def test_the_reliability_table_is_that_of_scikit_learn(several):
    logits, truth = sure(2000, 2.0, several)
    proba = probabilities(logits, several)
    right = truth if several else truth[np.arange(2000), proba.argmax(1)]
    said = proba if several else proba.max(1)
    table = reliability(proba, truth, several)
    shares, means = calibration_curve(right.ravel(), said.ravel(), n_bins=15)
    np.testing.assert_allclose(table.share, shares)
    np.testing.assert_allclose(table.probability, means)
    assert table["count"].sum() == said.size


def test_a_calibration_error_made_by_hand():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.45, 0.55]])
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    # two say 0.9 and one is right, two say about 0.6 in bins of their own and both are right
    wanted = (2 * 0.4 + 0.4 + 0.45) / 4
    assert calibration_error(reliability(proba, truth, multi_label=False)) == pytest.approx(wanted)


# Thresholds


def test_the_curve_of_f1_is_scikit_learns_at_each_threshold():
    rng = np.random.default_rng(6)
    proba, truth = rng.random(500).round(2), rng.random(500) < 0.2
    grid = np.arange(0, 1.01, 0.05).round(2)  # ties with the probabilities: at the threshold a label counts
    wanted = [f1_score(truth, proba >= from_here, zero_division=0) for from_here in grid]
    np.testing.assert_allclose(f1_curve(proba, truth, grid), wanted)


def test_without_smoothing_a_threshold_is_the_best_one():
    logits, truth = sure(400, 1, True)
    proba = probabilities(logits - 1, True)
    for j, chosen in enumerate(thresholds(proba, truth, smoothing=0.001, prior_rows=0)):
        reached = f1_score(truth[:, j], proba[:, j] >= chosen)
        others = [f1_score(truth[:, j], proba[:, j] >= from_here) for from_here in np.linspace(0.02, 0.95, 94)]
        assert reached >= max(others) - 0.005


def test_with_true_probabilities_the_curve_to_expect_is_the_curve_that_is_counted():
    logits, truth = sure(40_000, 1, True)
    proba, grid = probabilities(logits, True)[:, 0], np.linspace(0.05, 0.9, 18)
    np.testing.assert_allclose(f1_curve(proba, proba, grid), f1_curve(proba, truth[:, 0], grid), atol=0.02)


def test_a_rare_label_leans_on_the_probabilities_and_a_common_one_does_not():
    logits, truth = sure(4000, 1, True)
    proba = probabilities(logits, True)[:, :1]
    one_hit = np.zeros((4000, 1))
    one_hit[np.argmax(proba)] = 1  # by itself it would take a threshold near one
    assert thresholds(proba, one_hit, prior_rows=0) > 0.9
    assert abs(thresholds(proba, one_hit) - thresholds(proba, truth[:, :1])) < 0.1
    unsure = probabilities(logits[:, :1] - 2, True)  # the count corrects probabilities that are too low
    assert thresholds(unsure, truth[:, :1]) < thresholds(unsure, np.zeros((4000, 1))) - 0.05


def test_a_label_without_a_row_takes_the_threshold_that_its_probabilities_expect_to_be_best():
    logits, truth = sure(40_000, 1, True)
    proba = probabilities(logits, True)
    found = thresholds(proba, np.zeros_like(truth))
    assert list(found) == pytest.approx(list(thresholds(proba, truth, prior_rows=0)), abs=0.05)


# Test rows decide nothing


def decided(folder) -> tuple[bytes, bytes, str]:
    "The weights, and the model's settings with temperature and thresholds, of a run on that folder's splits."
    made = run(
        Config(task="goemotions28", profile="tiny", data=str(folder), out=str(folder / "run"), progress=False),
        say=lambda line: None,
    )
    model = made.folder / "model"
    history = (made.folder / "history.csv").read_text()
    return (model / "model.safetensors").read_bytes(), (model / "config.json").read_bytes(), history


def shuffled(rows: list[list[str]]) -> list[list[str]]:
    "The same texts with each other's labels."
    labels = np.random.default_rng(7).permutation([row[1] for row in rows])
    return [[text, str(label), comment] for (text, _, comment), label in zip(rows, labels, strict=True)]


def test_the_labels_of_the_test_rows_change_neither_weights_nor_temperature_nor_thresholds(tmp_path):
    rows = {part: rows[::2] for part, rows in official_rows().items()}  # enough of each of the 28 labels
    weights, settings, history = decided(write_official(tmp_path / "as it is", rows))
    other_test = {**rows, "test": shuffled(rows["test"])}
    assert decided(write_official(tmp_path / "other test", other_test)) == (weights, settings, history)
    other_dev = {**rows, "dev": shuffled(rows["dev"])}
    _, settings_of_other_dev, history_of_other_dev = decided(write_official(tmp_path / "other dev", other_dev))
    assert settings_of_other_dev != settings and history_of_other_dev != history
    assert {"emo_nb_thresholds", "emo_nb_temperature"} <= json.loads(settings).keys()


# The checkpoint carries all of it


@pytest.fixture(
    scope="session", params=["one label, LoRA", "one label, full", "several labels, LoRA", "several labels, full"]
)
def made(request, basetemp):
    "A run of each kind."
    several, full = request.param.startswith("several"), request.param.endswith("full")
    if not several and not full:
        return request.getfixturevalue("tiny")
    if not several:
        return tiny_run(basetemp, task="empathetic32", method="full")
    data = str(request.getfixturevalue("official"))
    return tiny_run(basetemp, task="sentiment4", data=data, **({"method": "full"} if full else {}))


def test_a_checkpoint_says_the_same_in_plain_transformers(made):
    folder = made.folder / "model"
    ours = EmotionClassifier.load(made.folder, dtype="float32")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    several = made.config["multi_label"]
    assert model.config.problem_type == f"{'multi' if several else 'single'}_label_classification"
    proba = [(one.sigmoid() if several else one.softmax(-1)).tolist() for one in logits]
    assert list(model.config.id2label.values()) == ours.labels == made.config["labels"]
    np.testing.assert_allclose(proba, ours.predict_proba(TEXTS), atol=1e-5)
    said = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")(TEXTS)
    piped = [{one["label"]: one["score"] for one in answer} for answer in said]
    np.testing.assert_allclose([[row[label] for label in ours.labels] for row in piped], proba, atol=1e-5)


def test_a_checkpoint_carries_its_temperature_and_the_thresholds_that_its_predictions_use(made):
    settings = json.loads((made.folder / "model" / "config.json").read_text())
    assert 0.1 <= settings["emo_nb_temperature"] <= 10
    assert made.config["calibration"]["temperature"] == settings["emo_nb_temperature"]
    table = EmotionClassifier.load(made.folder).predict(TEXTS)
    if not made.config["multi_label"]:
        assert "emo_nb_thresholds" not in settings and "labels" not in table
        return
    chosen = settings["emo_nb_thresholds"]
    assert list(chosen) == made.config["labels"] and all(0 < p < 1 for p in chosen.values())
    wanted = ["|".join(label for label in chosen if row[label] >= chosen[label]) for _, row in table.iterrows()]
    assert list(table["labels"]) == wanted
    rows = made.predictions
    assert list(rows.predicted) == [
        "|".join(label for label in chosen if row[label] >= chosen[label]) for _, row in rows.iterrows()
    ]
    in_metrics = made.metrics["goemotions"]["labels"]
    assert {label: row["threshold"] for label, row in in_metrics.items()} == {
        label: chosen[label] for label in in_metrics
    }


def test_the_temperature_is_already_in_the_weights(made):
    "On the rows that chose the temperature, the saved checkpoint needs none."
    config = Config.of(made.config)
    material = gather(config, say=lambda line: None)
    dev = choose_rows(material.rows, material.task, config)["dev"]
    classifier = EmotionClassifier.load(made.folder)
    truth = indicators(dev.label, classifier.labels)
    if abs(made.config["calibration"]["temperature"] - 1) < 0.01:
        pytest.skip("this training happened to need none")
    assert temperature(classifier.logits(dev.text), truth, classifier.multi_label) == pytest.approx(1, abs=0.03)


def test_the_record_says_how_far_off_the_test_rows_are(made):
    proba, labels = made.predictions[made.config["labels"]].to_numpy(), made.config["labels"]
    truth = np.array([[name in row.split("|") for name in labels] for row in made.predictions.label])
    error = calibration_error(reliability(proba, truth, made.config["multi_label"]))
    assert made.config["calibration"]["error_after"] == pytest.approx(error, abs=0.005)  # rounded probabilities


def test_full_training_leaves_no_adapter_and_lora_trains_fewer_parameters(made):
    counts = made.config["parameters"]
    assert (made.folder / "adapter").exists() == (made.config["method"] == "lora")
    assert (counts["trained"] < 0.1 * counts["all"]) == (made.config["method"] == "lora")
    assert (counts["trained"] > 0.5 * counts["all"]) == (made.config["method"] == "full")
