"""Encoders of many architectures, with small random weights: trained, saved, opened elsewhere, or refused before that."""

import json
import re
import warnings
from collections.abc import Iterable
from threading import Event, Thread

import numpy as np
import pytest
import torch
from encoders import SMALL, TEXTS, make_small, natural_pooling, probabilities_elsewhere
from helpers import change_json
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from emo_nb import EmotionClassifier, ModelError
from emo_nb.engine.checkpoints import quiet_transformers
from emo_nb.engine.pooling import MEAN_LAYERS, OWN_OPTIONS
from emo_nb.model import load_tokenizer, new_classifier
from emo_nb.predict import TrainedClassifier


def known(families: Iterable[str]) -> list[str]:
    "The architectures that this version of transformers has."
    return [family for family in families if family in CONFIG_MAPPING]


@pytest.mark.parametrize("family", known(SMALL))
def test_an_encoder_trains_and_what_is_saved_opens_in_transformers_and_in_peft(family, tmp_path):
    folder = make_small(tmp_path / "encoder", family, natural_pooling(family))
    expected, *elsewhere, _ = probabilities_elsewhere(folder, family, tmp_path)
    for answers in elsewhere:
        torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)
    classifier = TrainedClassifier.from_pretrained(tmp_path / "model", "cpu", "float32")
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)
    if family != "convbert":  # whose convolutions read the padding beside a text
        np.testing.assert_allclose(classifier.predict_proba(TEXTS[:1]), expected[:1], atol=1e-5)


SENTENCES = [f"{word} text {i}" + " more" * (i % 5) for i in range(8) for word in ("good", "bad")]
MOODS = ["glad", "cross"] * 8


@pytest.mark.parametrize("family", known(SMALL))
def test_an_encoder_is_fitted_in_the_machines_own_format_and_what_is_saved_answers_alike(family, tmp_path):
    folder = make_small(tmp_path / "encoder", family, natural_pooling(family))
    fitted = EmotionClassifier(str(folder), epochs=1, show_progress_bar=False).fit(SENTENCES, MOODS)
    fitted.save_pretrained(tmp_path / "saved")
    again = EmotionClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(SENTENCES), fitted.predict_proba(SENTENCES), atol=1e-5)
    assert (again.predict(SENTENCES) == fitted.predict(SENTENCES)).all()


def test_a_fitted_classifier_as_an_encoder_leaves_nothing_of_its_labels_and_thresholds(tmp_path):
    folder = make_small(tmp_path / "encoder", "bert", "mean_tokens")
    quick = {"epochs": 1, "show_progress_bar": False}
    EmotionClassifier(str(folder), **quick).fit(SENTENCES, [["joy"], ["joy", "sad"]] * 8).save_pretrained(
        tmp_path / "a"
    )
    EmotionClassifier(str(tmp_path / "a"), **quick).fit(SENTENCES, [1, 0] * 8).save_pretrained(tmp_path / "b")
    last = EmotionClassifier(str(tmp_path / "b"), **quick).fit(SENTENCES, MOODS)
    last.save_pretrained(tmp_path / "c")
    again = EmotionClassifier.from_pretrained(tmp_path / "c")
    assert again.predict(SENTENCES).tolist() == last.predict(SENTENCES).tolist()
    assert again.classes_.tolist() == ["cross", "glad"]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_what_is_trained_from_weights_of_several_gpus_opens_in_transformers(family, tmp_path):
    folder = make_small(tmp_path / "encoder", family)
    stored(STORED["from several GPUs"])(folder)
    fitted = EmotionClassifier(str(folder), epochs=1, show_progress_bar=False).fit(SENTENCES, MOODS)
    fitted.save_pretrained(tmp_path / "saved")
    _, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())


def test_a_decoder_reads_the_token_that_its_tokenizer_ends_a_text_with(tmp_path):
    folder = make_small(tmp_path, "qwen3", "lasttoken", pad_token_id=None, max_position_embeddings=64)
    change_json(folder / "tokenizer.json", padding=None)  # its texts end in [SEP], which is to be the padding as well
    names = {"eos_token": "[SEP]", "pad_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), padding_side="left", **names
    ).save_pretrained(folder)
    tokenizer, model = load_tokenizer(folder), new_classifier(folder, ["no", "yes"]).eval()
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.padding_side == "right" and tokenizer.model_max_length == 64
    one, other = (tokenizer(text, return_tensors="pt", return_token_type_ids=False) for text in ("a b", "a b c"))
    other["input_ids"][0, :-1] = one["input_ids"][0, 1]
    with torch.no_grad():
        states = model.base_model(**other).last_hidden_state[0, -1]
        torch.testing.assert_close(model(**other).logits[0], model.score(states))


@pytest.mark.parametrize("family", known(MEAN_LAYERS))
def test_the_layer_that_is_added_starts_as_the_mean(family, tmp_path):
    folder = make_small(tmp_path, family, "mean_tokens")
    model = new_classifier(folder, ["no", "yes"]).eval()
    texts = ["well, well, that is a text", "and this is a text of another length, with many more tokens in it"]
    batch = load_tokenizer(folder)(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        states, mask = model(**batch, output_hidden_states=True).hidden_states, batch["attention_mask"][..., None]
    mean = (states[-2] * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.layer_norm(states[-2][:, 0] + 4 * mean, mean.shape[1:]) / 2
    most = 0.05 if family == "mpnet" else 1e-3  # its positions have weights, here small random ones
    torch.testing.assert_close(states[-1][:, 0], expected, atol=most, rtol=0)
    assert model.config.emo_nb_head == "mean"


def test_an_architecture_that_has_a_mean_of_its_own_takes_it(tmp_path):
    for family in known(OWN_OPTIONS):
        model = new_classifier(make_small(tmp_path / family, family, "mean_tokens"), ["no", "yes"])
        assert model.config.classifier_pooling == "mean" and model.config.num_hidden_layers == 2


STEPS = [
    {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path[2:] or 'Transformer'}"}
    for i, path in enumerate(["", "1_Pooling", "2_Dense", "3_Normalize"])
]


@pytest.mark.parametrize(
    ("family", "settings", "steps", "said"),
    [
        ("bert", {"pooling_mode_max_tokens": True}, [], "by max"),
        ("bert", {"pooling_mode": ["mean", "max"]}, [], r"by mean \+ max"),
        ("bert", {"pooling_mode_cls_token": True}, STEPS, r"by cls \+ dense"),
        ("modernbert", {"pooling_mode_max_tokens": True}, [], "by max.* its option 'cls'"),
        ("distilbert", {"pooling_mode_weightedmean_tokens": True}, [], "by weighted mean"),
        ("roberta", {"pooling_mode": "lasttoken"}, [], "by last"),
        ("albert", {"pooling_mode_mean_tokens": True}, [], "by mean"),
        ("gpt2", {"pooling_mode": "mean"}, [], "by mean.* last token"),
        ("bert", {"pooling_mode": "cls"}, STEPS[:2], None),
        ("bert", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, [], None),
        ("gpt2", {"pooling_mode_lasttoken": True}, [], None),
        ("mpnet", {"pooling_mode_mean_sqrt_len_tokens": True}, [], None),
    ],
)
def test_a_pooling_that_cannot_be_had_is_said(family, settings, steps, said, tmp_path, caplog):
    folder = make_small(tmp_path, family)
    if steps:
        (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    new_classifier(folder, ["no", "yes"], "mine")
    assert bool(caplog.text) == bool(said)
    assert not said or re.search(f"mine was trained .*{said}", caplog.text)


def test_a_list_of_steps_that_is_none_is_refused(tmp_path):
    folder = make_small(tmp_path, "bert")
    (folder / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(ModelError, match=r"modules\.json does not list"):
        new_classifier(folder, ["no", "yes"])


def test_a_tokenizer_without_any_special_token_is_refused_for_a_decoder(tmp_path):
    folder = make_small(tmp_path, "gpt2")
    change_json(folder / "tokenizer.json", padding=None)
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"no token to fill batches up with \(pad_token\); set one"):
        load_tokenizer(folder)


def test_a_model_without_positions_and_with_a_larger_vocabulary_than_its_tokenizer_reads_512_tokens(tmp_path):
    load_tokenizer(make_small(tmp_path, "bert"), 10**30).save_pretrained(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", model_max_length=10**30)
    sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 2, "vocab_size": 2**15, "pad_token_id": 0}
    AutoModel.from_config(AutoConfig.for_model("bloom", **sizes)).save_pretrained(tmp_path)
    fitted = EmotionClassifier(str(tmp_path), epochs=1, show_progress_bar=False).fit(SENTENCES, MOODS)
    assert load_tokenizer(tmp_path).model_max_length == 512
    assert fitted.predict_proba(SENTENCES).shape == (16, 2)


def test_fewer_positions_than_the_maximal_length_are_said_and_too_few_for_a_text_are_refused(tmp_path, caplog):
    folder = make_small(tmp_path / "few", "bert", max_position_embeddings=16)
    assert load_tokenizer(folder, 64).model_max_length == 16
    assert "few reads 16 tokens at most, and not the 64 asked for" in caplog.text
    with pytest.raises(ModelError, match="gives the model 3 positions, too few for a text; use another"):
        load_tokenizer(make_small(tmp_path / "too few", "bert", max_position_embeddings=3))


@pytest.mark.parametrize("family", ["t5", "bart", "fnet", "xlnet", "nystromformer", "vit", "clip"])
def test_an_architecture_that_cannot_be_trained_is_refused_before_anything_is_read(family, tmp_path):
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"{family}.*use another encoder"):
        new_classifier(tmp_path, ["no", "yes"])


@pytest.mark.parametrize(
    ("family", "settings", "why"),
    [
        ("t5", {"is_encoder_decoder": False}, "no text classifier for the encoder alone"),
        ("canine", {}, "reads characters or bytes"),
        ("perceiver", {}, "reads characters or bytes"),
    ],
)
def test_an_architecture_is_refused_for_what_it_is(family, settings, why, tmp_path):
    AutoConfig.for_model(family, **settings).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"{why}.* \({family}\); use another encoder"):
        new_classifier(tmp_path, ["no", "yes"])


def stored(change):
    def harm(folder):
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return harm


STORED = {
    "with buffers": lambda weights: {
        **weights,
        "embeddings.token_type_ids": torch.zeros(1, 8, dtype=torch.int64),
        "encoder.layer.0.attention.masked_bias": torch.tensor(-1e4),
        "encoder.layer.0.attention.bias": torch.ones(1, 8, dtype=torch.bool),
        "h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8),  # GPT-2's names
        "h.0.attn.masked_bias": torch.tensor(-1e4),
    },
    "from several GPUs": lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
    "in bfloat16": lambda weights: {name: tensor.bfloat16() for name, tensor in weights.items()},
    "in float16": lambda weights: {name: tensor.half() for name, tensor in weights.items()},
}


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("how", STORED)
def test_an_encoder_is_trained_in_float32_however_it_is_stored(how, family, tmp_path):
    folder = make_small(tmp_path, family)
    weights = new_classifier(folder, ["no", "yes"]).state_dict()
    expected = {name: tensor.clone() for name, tensor in weights.items()}  # no longer mapped from the file
    stored(STORED[how])(folder)
    if how.startswith("in "):
        change_json(folder / "config.json", dtype=how.removeprefix("in "))
    weights = new_classifier(folder, ["no", "yes"]).state_dict()
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    torch.testing.assert_close(weights, expected, atol=1e-2 if how.startswith("in ") else 0, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
@pytest.mark.parametrize("labels", [["no", "yes", "so"], ["a", "b"]])
def test_a_head_is_replaced_and_that_is_said(family, labels, tmp_path, caplog):
    make_small(tmp_path / "a", family, None, AutoModelForSequenceClassification, num_labels=3)
    before = load_file(tmp_path / "a" / "model.safetensors")
    model = new_classifier(tmp_path / "a", labels)
    head = [name for name in model.state_dict() if not name.startswith(model.base_model_prefix + ".")]
    for name, tensor in model.state_dict().items():
        if name in head:
            assert tensor.shape != before[name].shape or tensor.ndim == 1 or not torch.equal(tensor, before[name])
        else:
            torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
    assert "brings a classification head; it is replaced" in caplog.text


def test_a_decoder_without_a_padding_token_is_trained_and_predicts_in_company_as_alone(tmp_path, caplog):
    make_small(tmp_path / "encoder", "gpt2", pad_token_id=None)
    make_small(tmp_path / "classifier", "gpt2", None, AutoModelForSequenceClassification, pad_token_id=None)
    for name in ("encoder", "classifier"):
        file = str(tmp_path / name / "tokenizer.json")
        change_json(tmp_path / name / "tokenizer.json", padding=None)
        PreTrainedTokenizerFast(tokenizer_file=file, eos_token="[SEP]").save_pretrained(tmp_path / name)
    model = new_classifier(tmp_path / "encoder", ["no", "yes"])
    assert model.config.pad_token_id == load_tokenizer(tmp_path / "encoder").pad_token_id == 102
    assert "'[SEP]' ends each text and fills batches up as well" in caplog.text
    classifier = TrainedClassifier.from_pretrained(tmp_path / "classifier", "cpu", "float32")
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), alone, atol=1e-5)


def test_threads_that_load_together_leave_warnings_and_logs_as_they_were():
    before = logging.get_verbosity(), list(warnings.filters)
    first_in, second_in = Event(), Event()

    def first():
        with quiet_transformers():
            first_in.set()
            second_in.wait(10)

    thread = Thread(target=first)
    thread.start()
    first_in.wait(10)
    with quiet_transformers():
        second_in.set()
        thread.join()
        assert logging.get_verbosity() == logging.ERROR
    assert (logging.get_verbosity(), list(warnings.filters)) == before
