"""Every architecture trains, saves, loads and predicts alike, and what computes faster computes the same."""

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from test_foreign_models import small
from transformers import PreTrainedModel

from emo_nb import load_corpus
from emo_nb.engine.checkpoints import Checkpoint, load_checkpoint
from emo_nb.engine.device import Backend, best_cpu_dtype, choose_backend
from emo_nb.engine.fast_bert import FastBert, supports_fast_bert
from emo_nb.engine.forward import fast_training, first_token_forward, merged_lora_forwards, replaced_forwards
from emo_nb.model import (
    add_lora,
    find_encoder,
    freeze_embeddings,
    load_tokenizer,
    new_classifier,
)
from emo_nb.predict import TrainedClassifier
from emo_nb.sources import SAMPLE_DIR

needs_bfloat16 = pytest.mark.skipif(best_cpu_dtype()[0] != "bfloat16", reason="this processor has no bfloat16")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    "Real texts of one to some hundred tokens."
    short = load_corpus("goemotions", str(SAMPLE_DIR)).frame.text.head(20).tolist()
    return [*short, " ".join(short[:6]), " ".join(short)]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(find_encoder("minilm"), max_length=256)


def logits_of(model, tokenizer, texts) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, truncation=True, return_token_type_ids=False, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.float()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", None])
@pytest.mark.parametrize("family", ["trained", "bert", "distilbert", "roberta"])
def test_a_checkpoint_is_one_type_whose_model_gives_the_probabilities_of_prediction(
    tiny, tmp_path, texts, family, dtype
):
    folder = tiny.folder if family == "trained" else small(tmp_path / "model", family)
    classifier = TrainedClassifier.from_pretrained(folder, "cpu", dtype)
    assert type(classifier.checkpoint) is Checkpoint
    proba = classifier.predict_proba(texts)
    assert isinstance(classifier.model, PreTrainedModel)
    expected = logits_of(classifier.model, classifier.tokenizer, texts).softmax(-1)
    np.testing.assert_allclose(proba, expected, atol={"bfloat16": 2e-2, "float16": 1e-3}.get(dtype, 1e-5))
    again = TrainedClassifier(classifier.model, classifier.tokenizer, "cpu", dtype)  # not by way of a folder
    np.testing.assert_allclose(again.predict_proba(texts), proba, atol=1e-6)


def by_joblib(classifier):
    joblib.dump(classifier, file := io.BytesIO())
    return joblib.load(io.BytesIO(file.getvalue()))


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "joblib": by_joblib,
    "pickle": lambda c: pickle.loads(pickle.dumps(c)),
}


@pytest.mark.parametrize(("family", "dtype"), [("trained", "float32"), ("several", None), ("roberta", None)])
def test_a_copy_answers_alike_whatever_was_predicted_before_and_does_not_grow(
    tiny, feelings, tmp_path, texts, family, dtype
):
    folder = {"trained": tiny.folder, "several": feelings.folder}.get(family) or small(tmp_path / "model", "roberta")
    classifier, sizes = TrainedClassifier.load(folder, "cpu", dtype), []  # the name in earlier versions
    expected = TrainedClassifier.from_pretrained(folder, "cpu", dtype).predict_frame(texts)
    for before in ([], [*texts[:1], *["so"] * 1001]):
        if before:
            classifier.predict_frame(before)
        sizes.append(len(pickle.dumps(classifier)))
        for make in COPIES.values():
            pd.testing.assert_frame_equal(make(classifier).predict_frame(texts), expected, atol=1e-6)
    assert max(sizes) < 1.01 * sizes[0]


@pytest.mark.parametrize("dtype", ["float32", "float16", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_fast_bert_gives_the_logits_of_transformers(tiny, texts, dtype):
    checkpoint, tokenizer = load_checkpoint(tiny.folder / "model"), load_tokenizer(tiny.folder / "model")
    if not supports_fast_bert(checkpoint.config):
        pytest.skip("this torch has no oneDNN")
    fast = FastBert(checkpoint, getattr(torch, dtype))
    for some in (texts, texts[:1], texts[-1:], [texts[-1], *texts[:7]]):
        expected, most = (
            logits_of(checkpoint.model, tokenizer, some),
            {"float32": 1e-5, "float16": 1e-2}.get(dtype, 0.1),
        )
        torch.testing.assert_close(logits_of(fast, tokenizer, some), expected, atol=most, rtol=1e-5)


@pytest.fixture(scope="module")
def adapted(tokenizer):
    "A model with an adapter that has learnt something."
    model = add_lora(new_classifier(find_encoder("minilm"), ["anger", "joy", "sadness"], "minilm")).eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_computing_the_first_token_only_changes_no_logit(adapted, tokenizer, texts, attention):
    model = adapted.get_base_model()
    model.set_attn_implementation(attention)
    expected = logits_of(model, tokenizer, texts)
    replaced = first_token_forward(model)
    assert len(replaced) == 1
    with replaced_forwards(replaced):
        torch.testing.assert_close(logits_of(model, tokenizer, texts), expected, atol=1e-5, rtol=1e-5)


def logits_and_gradients(model, batch, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    "Logits and all gradients, each as one vector."
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(**batch).logits
    logits.float().logsumexp(-1).mean().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    return logits.detach().float().flatten(), gradients


@pytest.fixture(params=["LoRA", "every layer"])
def trained(request, adapted):
    "A model to train, each way."
    if request.param == "LoRA":
        return adapted
    return freeze_embeddings(new_classifier(find_encoder("minilm"), ["anger", "joy", "sadness"], "minilm")).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_fast_training_has_the_logits_and_gradients_of_transformers_and_peft(trained, tokenizer, texts, attention):
    batch = tokenizer(texts[:20], padding=True, return_token_type_ids=False, return_tensors="pt")
    expected = logits_and_gradients(trained, batch, "float32")
    with fast_training(trained, Backend("cpu", "float32", attention, "a test")):
        fast = logits_and_gradients(trained, batch, "float32")
    for one, true in zip(fast, expected, strict=True):
        torch.testing.assert_close(one, true, atol=1e-5, rtol=1e-4)


@needs_bfloat16
def test_fast_training_has_nearly_these_gradients_in_bfloat16(trained, tokenizer, texts):
    batch = tokenizer(texts[:20], padding=True, return_token_type_ids=False, return_tensors="pt")
    exact = logits_and_gradients(trained, batch, "float32")
    rounded = logits_and_gradients(trained, batch, "bfloat16")
    is_lora = hasattr(trained, "peft_config")
    assert len(merged_lora_forwards(trained)) == (7 * 6 + 1 if is_lora else 0)  # six in each layer, and the pooler
    with fast_training(trained, Backend("cpu", "bfloat16", "eager", "a test")):
        merged = logits_and_gradients(trained, batch, "bfloat16")
    least = 0.01 if is_lora else 0.05  # what is added up from layer to layer is rounded, too
    for one, other, true in zip(merged, rounded, exact, strict=True):
        assert (one - true).norm() < max(2 * (other - true).norm(), least * true.norm())
        assert torch.nn.functional.cosine_similarity(one, true, dim=0) > 0.999
    assert not [module for module in trained.modules() if "forward" in module.__dict__]


def test_one_backend_is_chosen_for_the_machine_and_a_request_is_granted_where_it_can_be():
    assert choose_backend("cpu").dtype == best_cpu_dtype()[0]
    assert choose_backend("cpu", "float32").dtype == "float32"
    assert choose_backend("cpu", "bfloat16").dtype == best_cpu_dtype()[0], "float32 where it would be emulated"
    assert [choose_backend("cpu", "float32").attention_for(length) for length in (20, 200)] == ["eager", "sdpa"]
    assert choose_backend("cpu", attention="sdpa").attention_for(20) == "sdpa"
