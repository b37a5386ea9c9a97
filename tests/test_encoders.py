"""Encoders of many architectures, with small random weights: trained, saved, opened elsewhere, or refused before that."""

import json
import re

import pytest
import torch
from helpers import change_json
from safetensors.torch import load_file, save_file
from test_foreign_models import SIZES
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, set_seed

from emo_nb import ModelError
from emo_nb.engine.pooling import MEAN_LAYERS, OWN_OPTIONS
from emo_nb.model import (
    add_lora,
    apply_temperature,
    find_encoder,
    load_model,
    load_tokenizer,
    new_classifier,
    save_model,
)

DECODER = {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {
    "bert": SIZES,
    "roberta": SIZES,
    "xlm-roberta": SIZES,
    "camembert": SIZES,
    "ernie": SIZES,
    "electra": {**SIZES, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "mpnet": SIZES,
    "albert": {**SIZES, "embedding_size": 16},
    "deberta": SIZES,
    "deberta-v2": {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "convbert": {**SIZES, "embedding_size": 16},
    "mobilebert": {**SIZES, "embedding_size": 16, "intra_bottleneck_size": 16, "num_attention_heads": 2},
    "rembert": {**SIZES, "input_embedding_size": 16, "output_embedding_size": 16},
    "modernbert": {**SIZES, "global_attn_every_n_layers": 2},
    "gte": SIZES,
    "nomic_bert": SIZES,
    "eurobert": {**SIZES, "num_key_value_heads": 2},
    "funnel": {
        "d_model": 32,
        "block_sizes": [1, 1],
        "n_head": 2,
        "d_head": 16,
        "d_inner": 64,
        "architectures": ["FunnelBaseModel"],
    },
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "gpt2": DECODER,
    "qwen3": {**SIZES, "num_key_value_heads": 1, "head_dim": 16},
    "modernbert-decoder": {**SIZES, "global_attn_every_n_layers": 2},
}


def encoder(folder, family, pooling=None, kind=AutoModel, **config):
    "An encoder of this family with small random weights, and what sentence-transformers would write beside it."
    tokenizer = load_tokenizer(find_encoder("minilm"))
    if family == "xlnet":
        tokenizer.padding_side = "left"  # as its own tokenizer has it, because its classifier reads the last token
    set_seed(1)
    config = {"vocab_size": len(tokenizer), "pad_token_id": 0, **SMALL[family], **config}
    kind.from_config(AutoConfig.for_model(family, **config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


def change_at_random(model):
    "As if the model had been trained."
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.mark.parametrize("family", SMALL)
def test_an_encoder_trains_and_what_is_saved_opens_in_transformers_and_in_peft(family, tmp_path):
    folder = encoder(tmp_path / "encoder", family, "lasttoken" if family == "gpt2" else "mean_tokens")
    tokenizer = load_tokenizer(folder)
    model = add_lora(new_classifier(folder, ["no", "yes"], family))
    batch = tokenizer(["well", "a longer text"], padding=True, return_tensors="pt", return_token_type_ids=False)
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    change_at_random(model)
    with torch.no_grad():
        before = model.eval()(**batch).logits
        apply_temperature(model, 2.5)
        expected = model(**batch).logits
        torch.testing.assert_close(expected, before / 2.5)
        save_model(model, tokenizer, tmp_path)
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
        torch.testing.assert_close(plain(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        loaded, _ = load_model(tmp_path / "model")
        torch.testing.assert_close(loaded.model(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        alone = {name: rows[:1] for name, rows in batch.items()}
        short = int(batch["attention_mask"][0].sum())
        cut = {
            name: rows[:, :short] if tokenizer.padding_side == "right" else rows[:, -short:]
            for name, rows in alone.items()
        }
        torch.testing.assert_close(
            plain(**cut).logits, expected[:1], atol=1e-2 if family == "convbert" else 1e-4, rtol=1e-4
        )
        code = (tmp_path / "adapter" / "README.md").read_text().split("```")[1].removeprefix("python\n")
        opened = {}
        exec(
            code.replace(repr(family), repr(str(folder))).replace('"adapter"', repr(str(tmp_path / "adapter"))), opened
        )
        adapted = opened["model"].eval()
        torch.testing.assert_close(adapted(**batch).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", MEAN_LAYERS)
def test_the_layer_that_is_added_starts_as_the_mean(family, tmp_path):
    folder = encoder(tmp_path, family, "mean_tokens")
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
    for family in OWN_OPTIONS:
        model = new_classifier(encoder(tmp_path / family, family, "mean_tokens"), ["no", "yes"])
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
    folder = encoder(tmp_path, family)
    if steps:
        (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    new_classifier(folder, ["no", "yes"], "mine")
    assert bool(caplog.text) == bool(said)
    assert not said or re.search(f"mine was trained .*{said}", caplog.text)


def test_a_list_of_steps_that_is_none_is_refused(tmp_path):
    folder = encoder(tmp_path, "bert")
    (folder / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(ModelError, match=r"modules\.json does not list"):
        new_classifier(folder, ["no", "yes"])


@pytest.mark.parametrize("family", ["t5", "bart", "fnet", "vit", "clip"])
def test_an_architecture_that_cannot_be_trained_is_refused_before_anything_is_read(family, tmp_path):
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"{family}.*use another encoder"):
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
    },
    "from several GPUs": lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
    "in bfloat16": lambda weights: {name: tensor.bfloat16() for name, tensor in weights.items()},
    "in float16": lambda weights: {name: tensor.half() for name, tensor in weights.items()},
}


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("how", STORED)
def test_an_encoder_is_trained_in_float32_however_it_is_stored(how, family, tmp_path):
    folder = encoder(tmp_path, family)
    expected = new_classifier(folder, ["no", "yes"]).state_dict()
    stored(STORED[how])(folder)
    if how.startswith("in "):
        change_json(folder / "config.json", dtype=how.removeprefix("in "))
    weights = new_classifier(folder, ["no", "yes"]).state_dict()
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    torch.testing.assert_close(weights, expected, atol=1e-2 if how.startswith("in ") else 0, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
@pytest.mark.parametrize("labels", [["no", "yes", "so"], ["a", "b"]])
def test_a_head_for_other_labels_is_replaced_and_that_is_said(family, labels, tmp_path, caplog):
    caplog.set_level("INFO", logger="emo_nb")
    encoder(tmp_path / "a", family, None, AutoModelForSequenceClassification, num_labels=3)
    before = load_file(tmp_path / "a" / "model.safetensors")
    model = new_classifier(tmp_path / "a", labels)
    head = [name for name in model.state_dict() if not name.startswith(model.base_model_prefix + ".")]
    for name, tensor in model.state_dict().items():
        if name in head:
            assert tensor.shape != before[name].shape or tensor.ndim == 1 or not torch.equal(tensor, before[name])
        else:
            torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
    assert "brings a classification head for other labels" in caplog.text
