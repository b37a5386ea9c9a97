"""Encoders of other families than the bundled one: head, LoRA, temperature, saving and loading, with small random weights."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertTokenizerFast

from emo_nb.calibrate import fold_in
from emo_nb.model import find_encoder, load_model, new_classifier, save_model, tokenizer_of, with_lora

SMALL = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 32},
    "roberta": {},
    "deberta-v2": {},
    "modernbert": {"global_attn_every_n_layers": 2},
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("family", SMALL)
def test_another_family_trains_saves_and_loads(family, tmp_path):
    sizes = SMALL[family] if family == "distilbert" else {**SIZES, **SMALL[family]}
    tokenizer = tokenizer_of(find_encoder("minilm"))
    assert isinstance(tokenizer, BertTokenizerFast)
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")

    model = with_lora(new_classifier(tmp_path / "encoder", ["no", "yes"], family))
    batch = tokenizer(
        ["well", "a longer text than that"], padding=True, return_tensors="pt", return_token_type_ids=False
    )
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert any("lora_B" in name for name in trained) and any("classifier" in name for name in trained)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        before = model.eval()(**batch).logits
        fold_in(model, 2.5)
        expected = model(**batch).logits
        torch.testing.assert_close(expected, before / 2.5)
        save_model(model, tokenizer, tmp_path)
        loaded, _ = load_model(tmp_path / "model")
        torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-4, rtol=1e-4)
