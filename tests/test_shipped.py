"""The model in the package: what is merged is what was trained, every byte is checked, and it serves as an encoder."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import python, refusal, tiny_run
from peft import PeftModel
from safetensors.torch import load_file
from ship import adapter_tensors, new_model, rounded, write_shipped
from transformers import AutoModelForSequenceClassification

from emo_nb import ModelError
from emo_nb.engine.shipped import (
    ADAPTER,
    FAST,
    FAST_FOLDER,
    FOLDER,
    HASHES,
    SETTINGS,
    SHIPPED,
    base_weights,
    read_shipped,
    shipped_checkpoint,
)
from emo_nb.evaluate import probabilities
from emo_nb.model import find_encoder, load_shipped, load_tokenizer, new_classifier
from emo_nb.predict import TrainedClassifier
from emo_nb.taxonomy import TASKS

TEXTS = ["Thank you so much, you saved my week", "I can't stop crying since he left", "ok"]


@pytest.fixture(scope="module")
def minilm():
    return find_encoder("minilm")


def logits_of(model, tokenizer) -> np.ndarray:
    with torch.inference_mode():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.double().numpy()


def test_the_start_is_that_of_every_classifier_but_for_what_is_random_there(minilm):
    weights, model = base_weights(minilm), new_classifier(minilm, ["a", "b"], "minilm", multi_label=True)
    usual = {name: tensor.numpy() for name, tensor in model.state_dict().items() if not name.startswith("classifier")}
    assert usual.keys() == weights.keys()
    copied = [name for name, weight in weights.items() if not np.array_equal(weight, usual[name])]
    assert {name.split(".layer.6.")[1] for name in copied} == {
        *(
            "attention.self.key.weight",
            "attention.self.key.bias",
            "intermediate.dense.weight",
            "intermediate.dense.bias",
        )
    }
    assert all(np.array_equal(weights[name], weights[name.replace("layer.6", "layer.5")]) for name in copied)
    assert all(weight.dtype == np.float32 for weight in weights.values())


def test_a_merged_adapter_gives_the_probabilities_of_peft(minilm, tmp_path):
    labels = ["anger", "joy", "neutral"]
    model = new_model(labels).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_((parameter + torch.randn_like(parameter) * 0.02).half())
    tasks = {"goemotions28": {"labels": labels, "temperature": 1.3, "thresholds": dict.fromkeys(labels, 0.4)}}
    write_shipped(tmp_path, rounded(adapter_tensors(model)), tasks)
    classifier = TrainedClassifier(shipped_checkpoint("goemotions28", minilm, tmp_path), load_tokenizer(minilm))
    expected = probabilities(logits_of(model, classifier.tokenizer) / 1.3, True)
    assert expected.std(axis=0).min() > 0.01, "the texts differ"
    for dtype, most in (("float32", 1e-5), (None, 1e-3)):
        proba = TrainedClassifier(classifier.checkpoint, classifier.tokenizer, dtype=dtype).predict_proba(TEXTS)
        np.testing.assert_allclose(proba, expected, atol=most)
    plain = probabilities(logits_of(classifier.model, classifier.tokenizer), True)
    np.testing.assert_allclose(plain, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("goemotions28", ["gratitude", "sadness"]),
        (FAST, ["gratitude", "sadness"]),
        ("ekman7", ["joy", "sadness"]),
        ("sentiment4", ["positive", "negative"]),
    ],
)
def test_a_shipped_model_answers_as_it_should(name, first, tmp_path):
    classifier = TrainedClassifier(*load_shipped(name))
    assert classifier.labels == sorted(TASKS[name.removesuffix("-fast")].labels) and classifier.multi_label
    answers = classifier.predict_frame(TEXTS)
    assert answers.label.tolist()[:2] == first == answers.labels.tolist()[:2]
    folder = FAST_FOLDER if name == FAST else FOLDER
    scores = json.loads((folder / "scores.json").read_text())[name]["test"]
    saved = [scores["labels"][label]["threshold"] for label in classifier.labels]
    assert classifier.thresholds.tolist() == saved
    classifier.save_pretrained(tmp_path)
    again = TrainedClassifier.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-6)


def test_the_quick_model_is_its_adapter_on_some_layers_of_the_whole_one(minilm):
    settings, adapter = read_shipped(FAST_FOLDER)
    whole, quick = (load_shipped(name)[0].state_dict() for name in ("goemotions28", FAST))
    assert len(settings["layers"]) == 4
    for name, weight in quick.items():
        number = name.split(".")[3] if ".layer." in name else None
        origin = name.replace(f".layer.{number}.", f".layer.{settings['layers'][int(number)]}.") if number else name
        if f"{name.removesuffix('.weight')}.lora_A" in adapter:
            assert 0 < (weight - whole[origin]).norm() < whole[origin].norm(), name
        elif not name.startswith("classifier"):
            assert torch.equal(weight, whole[origin]), name


@pytest.mark.parametrize("name", [ADAPTER, SETTINGS, HASHES])
def test_a_changed_byte_is_refused(name, minilm, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "shipped")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with refusal(ModelError, "reinstall emo_nb"):
        shipped_checkpoint("goemotions28", minilm, folder)
    (folder / name).unlink()
    with refusal(ModelError, "reinstall emo_nb"):
        shipped_checkpoint("goemotions28", minilm, folder)


def test_another_name_is_refused():
    with refusal(ModelError, "shared10", *SHIPPED):
        load_shipped("shared10")


def test_the_files_are_small_and_the_first_answer_loads_nothing_heavy():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2_000_000
    assert sum(file.stat().st_size for file in FAST_FOLDER.iterdir()) < 4_000_000
    code = """if True:
        import sys
        from emo_nb.model import load_shipped
        from emo_nb.predict import TrainedClassifier
        TrainedClassifier(*load_shipped("goemotions28")).predict_frame("Good morning")
        print(*sys.modules)"""
    heavy = {"peft", "sklearn", "matplotlib", "datasets", "accelerate", "transformers.models.bert.modeling_bert"}
    own = set(python("import sys; from transformers import AutoTokenizer; print(*sys.modules)").split())
    assert not heavy & set(python(code).split()) - own  # transformers 5.0 loads some of these itself


def test_the_encoder_is_written_once_and_again_where_a_byte_has_changed(alone, minilm):
    folder = find_encoder("goemotions28")
    file = folder / "model.safetensors"
    assert folder.parent == alone and {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}
    written = file.stat().st_mtime_ns, file.read_bytes()
    assert find_encoder("goemotions28") == folder and file.stat().st_mtime_ns == written[0]
    file.write_bytes(b"\0" + written[1][1:])
    assert find_encoder("goemotions28") == folder and file.read_bytes() == written[1]
    checkpoint, tokenizer = load_shipped("goemotions28")
    model = new_classifier(folder, ["a", "b"], "goemotions28")
    assert model.config.emo_nb_head == "first"
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = [one.bert(**batch).pooler_output for one in (model.eval(), checkpoint.model)]
    torch.testing.assert_close(*pooled, atol=1e-5, rtol=1e-5)


def test_a_cache_that_cannot_be_written_is_named(alone):
    alone.write_text("a file, no folder")
    with refusal(ModelError, "EMO_NB_CACHE"):
        find_encoder("goemotions28")


def test_a_run_on_the_encoder_leaves_a_model_and_an_adapter_that_open_elsewhere(alone, official, basetemp):
    run = tiny_run(basetemp, task="sentiment4", data=str(official), encoder="goemotions28")
    assert "find_encoder" in (run.folder / "adapter/README.md").read_text()
    classifier = TrainedClassifier.from_pretrained(run.folder)
    expected = logits_of(AutoModelForSequenceClassification.from_pretrained(run.folder / "model"), classifier.tokenizer)
    encoder = AutoModelForSequenceClassification.from_pretrained(find_encoder("goemotions28"), num_labels=4)
    adapted = PeftModel.from_pretrained(encoder, run.folder / "adapter").eval()
    np.testing.assert_allclose(logits_of(adapted, classifier.tokenizer), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), probabilities(expected, True), atol=1e-3)
