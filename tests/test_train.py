"""Each kind of model learns what can be learnt and keeps its calibration; training survives little memory and Ctrl-C."""

import json
import os
from functools import wraps

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import official_rows, python, refusal, settle, write_official
from transformers import DataCollatorWithPadding

from emo_nb import Config, ConfigError, TrainConfig, run_experiment
from emo_nb.core import ModelError
from emo_nb.encode import TextDataset, encode_labels, split_labels
from emo_nb.engine.callbacks import COMPLETE_MARKER, OWNER_MARKER, WeightAverage, last_checkpoint
from emo_nb.engine.device import choose_backend
from emo_nb.evaluate import calibration_curve, calibration_error, fit_temperature
from emo_nb.model import find_encoder, freeze_embeddings, load_tokenizer, new_classifier
from emo_nb.predict import TrainedClassifier, batched_logits
from emo_nb.run import load_examples, make_splits
from emo_nb.train import build_trainer, fit, training_arguments

# Words that say nothing of an emotion by themselves, so that their meaning is learnt from these rows alone
WORDS = {
    "anger": ("river", "stone", "paper", "window", "spoon"),
    "fear": ("ladder", "carpet", "engine", "bottle", "garden"),
    "joy": ("copper", "ticket", "basket", "mirror", "button"),
    "sadness": ("candle", "blanket", "hammer", "feather", "lantern"),
}
OTHERS = ("we", "saw", "it", "near", "them", "when", "my", "brother", "and", "I", "walked", "home", "from", "work")
KINDS = [(number, method) for number in ("one", "several") for method in ("lora", "finetune")]
FLOOR = 0.65  # of macro-F1 on test rows: three seeds of each kind gave 0.72 or more, chance gives 0.5 or less
EVERY_ROW = dict.fromkeys(("train_rows_per_label", "dev_rows_per_label", "test_rows_per_label"))


@pytest.fixture(autouse=True, scope="module")
def only_the_sample(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, tmp_path_factory.mktemp("no-cache"))
        yield


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def trained(request, tmp_path_factory):
    "A run of each kind on 320 texts in which a word says the label (in one of eight, at random), or two words say two."
    (number, method), place, rng = request.param, tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    rows = []
    for i in range(320):
        labels = rng.choice(list(WORDS), 2 if number == "several" and i % 3 == 0 else 1, replace=False)
        cues = [rng.choice(WORDS[label]) for label in (rng.choice(list(WORDS), 1) if i % 8 == 7 else labels)]
        words = rng.permutation([*rng.choice(OTHERS, 8), *cues])
        rows.append({"text": " ".join(words), "label": "|".join(labels)})
    pd.DataFrame(rows).to_csv(place / "table.csv", index=False)
    own = {"data": place / "table.csv", "text_col": "text", "label_col": "label", "out": place / "run"}
    config = Config.from_preset(
        "tiny", **own, **EVERY_ROW, encoder="minilm", method=method, epochs=3, show_progress_bar=False
    )
    return request.param, run_experiment(config)


def test_what_can_be_learnt_is_learnt(trained):
    (_, method), run = trained
    assert run.metrics["table"]["macro_f1"] > FLOOR
    share = run.config["parameters"]["trained"] / run.config["parameters"]["all"]
    assert share < 0.1 if method == "lora" else share > 0.4
    assert (run.folder / "adapter").exists() == (method == "lora")


def test_the_checkpoint_carries_its_temperature_and_the_thresholds_that_its_predictions_use(trained):
    (number, _), run = trained
    config = json.loads((run.folder / "model" / "config.json").read_text())
    assert 0.1 <= config["emo_nb_temperature"] == run.config["calibration"]["temperature"] <= 10
    table = TrainedClassifier.from_pretrained(run.folder).predict_frame(["the river", "a candle and a mirror", ""])
    if number == "one":
        assert "emo_nb_thresholds" not in config and "labels" not in table
        return
    chosen = config["emo_nb_thresholds"]
    assert list(chosen) == run.config["labels"] == list(WORDS) and all(0 < p < 1 for p in chosen.values())
    assert {label: row["threshold"] for label, row in run.metrics["table"]["labels"].items()} == chosen
    for rows, column in ((table, "labels"), (run.predictions, "predicted")):
        reached = ["|".join(label for label in chosen if row[label] >= chosen[label]) for _, row in rows.iterrows()]
        assert list(rows[column]) == reached


def test_the_temperature_is_already_in_the_weights_and_the_record_says_how_far_off_test_rows_are(trained):
    (number, _), run = trained
    config = Config.from_record(run.config)
    examples = load_examples(config)
    dev = make_splits(examples.rows, examples.task, config)["dev"]  # the rows that chose the temperature
    logits, labels = TrainedClassifier.from_pretrained(run.folder).logits(dev.text), run.config["labels"]
    several, truth = number == "several", encode_labels(split_labels(run.predictions.label), labels)
    assert fit_temperature(logits, encode_labels(dev.targets, labels), several) == pytest.approx(
        1, abs=0.08
    )  # its prior pulls towards 1 each time
    error = calibration_error(calibration_curve(run.predictions[labels].to_numpy(), truth, several))
    assert run.config["calibration"]["error_after"] == pytest.approx(error, abs=0.005)  # rounded probabilities


def test_the_labels_of_test_rows_change_neither_weights_nor_temperature_nor_thresholds(tmp_path):
    rows = {split: rows[::2] for split, rows in official_rows().items()}  # enough of each of the 28 labels

    def outcome(shuffled=None) -> tuple[bytes, bytes, str]:
        "Weights, config and history of a run in which the texts of this split have each other's labels."
        given, place = dict(rows), tmp_path / str(shuffled)
        if shuffled:
            labels = np.random.default_rng(7).permutation([labels for _, labels, _ in rows[shuffled]])
            given[shuffled] = [[row[0], str(label), row[2]] for row, label in zip(rows[shuffled], labels, strict=True)]
        options = {"data": write_official(place, given), "out": place / "run", "show_progress_bar": False}
        folder = run_experiment(Config.from_preset("tiny", task="goemotions28", **options)).folder
        files = ("model/model.safetensors", "model/config.json", "history.csv")
        return tuple((folder / file).read_bytes() for file in files)

    as_they_are, other_dev = outcome(), outcome("dev")
    assert outcome("test") == as_they_are
    assert other_dev[1] != as_they_are[1] and other_dev[2] != as_they_are[2]
    assert {"emo_nb_thresholds", "emo_nb_temperature"} <= json.loads(as_they_are[1]).keys()


# Where memory runs out


def test_where_memory_runs_out_training_halves_its_batches_says_so_once_and_learns_the_same(tmp_path, caplog):
    minilm = find_encoder("minilm")
    tokenizer, labels = load_tokenizer(minilm, max_length=64), np.eye(2, dtype=np.uint8)
    texts = [f"so it goes {i} " * (1 + i % 3) for i in range(96)]
    rows, dev = (TextDataset(texts[:n], tokenizer, labels[np.arange(n) % 2]) for n in (96, 2))
    settings = TrainConfig(epochs=1, batch_size=32, warmup_ratio=0, averaging_power=None)

    def weights_after(most):
        def loss(outputs, labels, num_items_in_batch=None):
            if len(labels) > most:
                torch.empty(2**60, dtype=torch.uint8)  # torch's own error where memory runs out
            return torch.nn.functional.cross_entropy(outputs.logits, labels)

        model = freeze_embeddings(new_classifier(minilm, ["fear", "joy"], "minilm"))
        fit(model, tokenizer, rows, dev, tmp_path / str(most), settings, loss=loss, show_progress_bar=False)
        return model.classifier.weight.detach()

    enough = weights_after(1000)
    assert "memory" not in caplog.text
    little = weights_after(12)
    assert caplog.text.count("batches are halved") == 1
    assert float((little - enough).norm() / enough.norm()) < 0.05


def test_a_loss_of_ones_own_is_given_the_shares_of_labels_and_is_refused_beside_weights(tmp_path):
    minilm = find_encoder("minilm")
    tokenizer, labels = load_tokenizer(minilm, max_length=64), np.eye(2, dtype=np.uint8)[np.arange(8) % 2]
    texts, shares = [f"so it goes {i}" for i in range(8)], labels * np.float32(0.6) + np.float32(0.2)
    dev, given = TextDataset(texts, tokenizer, labels), []

    def loss(outputs, labels, num_items_in_batch=None):
        if outputs.logits.requires_grad:
            given.extend(labels.tolist())
        return torch.nn.functional.cross_entropy(outputs.logits, labels)

    def train(**weights):
        model, rows = new_classifier(minilm, ["fear", "joy"]), TextDataset(texts, tokenizer, shares, **weights)
        settings = TrainConfig(epochs=1)
        fit(model, tokenizer, rows, dev, tmp_path / "checkpoints", settings, loss=loss, show_progress_bar=False)

    train()
    np.testing.assert_allclose(sorted(given), sorted(shares.tolist()))
    with refusal(ConfigError, "the rows' weights"):
        train(weights=np.ones(8))


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("n_parts", [2, 3])
def test_a_divided_batch_has_the_gradient_of_the_whole_one_whichever_way_a_loss_takes_its_mean(
    n_parts, several, tmp_path
):
    minilm = find_encoder("minilm")
    tokenizer, labels = load_tokenizer(minilm, max_length=64), np.eye(3, dtype=np.uint8)[np.arange(16) % 3]
    rows = TextDataset([f"so it goes {i} " * (1 + i % 3) for i in range(16)], tokenizer, labels, several)
    sums = torch.nn.functional.binary_cross_entropy_with_logits if several else torch.nn.functional.cross_entropy

    def by_mean(outputs, labels, num_items_in_batch=None):
        return sums(outputs.logits, labels)

    def by_count(outputs, labels, num_items_in_batch=None):
        return sums(outputs.logits, labels, reduction="sum") / num_items_in_batch

    def gradient(loss, parts):
        model = freeze_embeddings(new_classifier(minilm, ["fear", "joy", "love"], "minilm", multi_label=several))
        settings = TrainConfig("minilm", batch_size=16).resolved()
        args = training_arguments(settings, tmp_path, choose_backend("cpu", "float32"), show_progress_bar=False)
        collate = DataCollatorWithPadding(tokenizer)
        trainer = build_trainer(
            [],
            model=model,
            train_dataset=rows,
            eval_dataset=rows,
            args=args,
            data_collator=collate,
            compute_loss_func=loss,
        )
        trainer.n_parts = parts
        batches, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, torch.device("cpu"))
        trainer.training_step(model, batches[0], count)
        return model.classifier.weight.grad

    whole = gradient(by_mean, 1)
    for loss in (None, by_mean, by_count):
        torch.testing.assert_close(gradient(loss, n_parts), whole, atol=1e-6, rtol=1e-4)


def test_where_memory_runs_out_prediction_halves_its_batches_and_another_error_is_not_hidden(tiny, caplog):
    classifier = TrainedClassifier.from_pretrained(tiny.folder, dtype="float32")
    ids = classifier.tokenizer(list(tiny.predictions.text[:30]))["input_ids"]

    class Little:
        "The model in a memory that holds few texts."

        config, device, most, words = classifier.config, torch.device("cpu"), 3, "could not create a primitive"

        def __call__(self, **batch):
            if len(batch["input_ids"]) > self.most:
                raise RuntimeError(self.words)
            return classifier.model(**batch)

    little = Little()
    np.testing.assert_allclose(batched_logits(little, ids), batched_logits(classifier.model, ids), atol=1e-4)
    assert caplog.text.count("batches are halved") == 1
    little.most = 0
    with refusal(ModelError, "memory does not suffice for one text", "free some"):
        batched_logits(little, ids)
    little.most, little.words = 3, "another mistake"
    with pytest.raises(RuntimeError, match=little.words):
        batched_logits(little, ids)


def test_where_memory_runs_out_on_dev_rows_these_are_computed_in_halves_too(tmp_path, monkeypatch):
    minilm = find_encoder("minilm")
    tokenizer, labels = load_tokenizer(minilm, max_length=64), np.eye(2, dtype=np.uint8)
    rows = TextDataset([f"so it goes {i}" for i in range(32)], tokenizer, labels[np.arange(32) % 2])

    def dev_loss(most):
        model, settings = freeze_embeddings(new_classifier(minilm, ["fear", "joy"], "minilm")), TrainConfig(epochs=1)
        forward = type(model).forward

        @wraps(forward)
        def little(self, *args, input_ids=None, **inputs):
            if not self.training and len(input_ids) > most:
                torch.empty(2**60, dtype=torch.uint8)
            return forward(self, *args, input_ids=input_ids, **inputs)

        monkeypatch.setattr(type(model), "forward", little)
        history = fit(model, tokenizer, rows, rows, tmp_path / str(most), settings, show_progress_bar=False)
        monkeypatch.undo()
        return history.dev_loss.item()

    assert dev_loss(5) == pytest.approx(dev_loss(1000), abs=2e-3)


# Beside the steps


def test_a_resumed_training_remembers_how_long_it_has_not_become_better(tmp_path, monkeypatch):
    minilm = find_encoder("minilm")
    tokenizer, labels = load_tokenizer(minilm, max_length=64), np.eye(2, dtype=np.uint8)
    rows = TextDataset([f"so it goes {i}" for i in range(16)], tokenizer, labels[np.arange(16) % 2])

    def epochs(folder, scores):
        answers = iter(scores)

        def score(_):
            value = next(answers)
            if value is None:
                raise KeyboardInterrupt
            return {"accuracy": value, "macro_f1": value, "choice": value}

        monkeypatch.setattr("emo_nb.train.compute_dev_metrics", score)
        model = freeze_embeddings(new_classifier(minilm, ["fear", "joy"], "minilm"))
        settings = TrainConfig(epochs=9, early_stopping_rounds=2)
        return len(fit(model, tokenizer, rows, rows, folder, settings, show_progress_bar=False))

    assert epochs(tmp_path / "whole", [0.9, 0.5, 0.5, 0.5, 0.5]) == 3
    with pytest.raises(KeyboardInterrupt):
        epochs(tmp_path / "stopped", [0.9, 0.5, None])
    assert epochs(tmp_path / "stopped", [0.5, 0.5, 0.5]) == 3


def test_a_warm_up_of_one_is_all_steps(tmp_path):
    args = training_arguments(TrainConfig(warmup_ratio=1.0).resolved(), tmp_path, choose_backend("cpu", "float32"))
    assert args.get_warmup_steps(50) == 50


def test_the_average_of_weights_is_that_of_its_formula_and_survives_a_checkpoint(tmp_path):
    weight, steps = torch.zeros(3), torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    average = WeightAverage([weight], power=3)
    for step, value in enumerate(steps, 1):
        weight.copy_(value)
        average.update(step)
    average.swap()
    t = torch.arange(1.0, 21)[:, None]
    factors = t * (t + 1) * (t + 2)  # t**3 for large t
    torch.testing.assert_close(weight, (factors * steps).sum(0) / factors.sum())
    average.save(tmp_path / "average")
    again = WeightAverage([weight], power=3)
    again.load(tmp_path / "average")
    again.swap()
    torch.testing.assert_close(weight, steps[-1])
    assert not again.is_swapped


INTERRUPTED = """
import os, signal, sys, time
from emo_nb.engine.callbacks import DeferredInterrupt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without it
try:
    with DeferredInterrupt() as interrupt:
        for i in range(int(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGINT)
        print("saved", interrupt.is_requested)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)  # another thread may take the signal, and the main thread hear of it a moment later
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_is_put_off_until_the_work_is_saved_and_a_second_one_is_not():
    assert [python(INTERRUPTED, times).split() for times in (1, 2)] == [["saved", "True", "stopped"], ["stopped"]]


def test_incomplete_checkpoints_are_removed_and_those_of_another_program_are_refused(tmp_path):
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    with pytest.raises(ConfigError, match="another program wrote"):
        last_checkpoint(tmp_path)
    for file in (OWNER_MARKER, f"checkpoint-9/{COMPLETE_MARKER}", f"checkpoint-10/{COMPLETE_MARKER}"):
        (tmp_path / file).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10", "checkpoint-9", OWNER_MARKER]
