"""Which encoders can be trained: small random checkpoints of many architectures, and what real ones are at hand.

    python tools/encoders.py [FOLDER ...]

Each is opened as a classifier with LoRA, takes one step on a batch of texts, and is saved. The saved model is opened
in plain transformers, the saved adapter in plain peft on the encoder, and their probabilities are compared with the
classifier's. The small ones say that they were trained for the mean of all tokens (decoders: for the last one). MiniLM
and the encoders in the folders given (by default all-mpnet-base-v2) have real weights. Writes results/encoders.json.
"""

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from experiments import write_result
from mpnet import find_mpnet
from peft import PeftModel
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, set_seed

from emo_nb.engine.pooling import pooling_mode
from emo_nb.engine.tokenizers import is_decoder
from emo_nb.model import (
    adapter_settings,
    add_lora,
    apply_temperature,
    find_encoder,
    load_tokenizer,
    new_classifier,
    save_model,
)
from emo_nb.report import utc_now

TEXTS = ["well", "and a longer text, with a few words more"]
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_BOTTLENECK = {"embedding_size": 16, "intra_bottleneck_size": 16}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
# The settings of a small model of each architecture
SMALL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "ernie", "mpnet", "deberta"), _SIZES),
    **dict.fromkeys(("data2vec-text", "gte", "nomic_bert"), _SIZES),
    **{name: {**_SIZES, "embedding_size": 16} for name in ("electra", "albert", "convbert")},
    **{name: {**_SIZES, "global_attn_every_n_layers": 2} for name in ("modernbert", "modernbert-decoder")},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "deberta-v2": {**_SIZES, **_RELATIVE},
    "mobilebert": {**_SIZES, **_BOTTLENECK},
    "rembert": {**_SIZES, "input_embedding_size": 16, "output_embedding_size": 16},
    "eurobert": {**_SIZES, "num_key_value_heads": 2},
    "funnel": {"d_model": 32, "block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_inner": 64}
    | {"architectures": ["FunnelBaseModel"]},
    "gpt2": _GPT,
    "qwen3": {**_SIZES, "num_key_value_heads": 1, "head_dim": 16},
}


def natural_pooling(family: str) -> str:
    "The pooling that most encoders of an architecture are trained for, by sentence-transformers' name."
    return "lasttoken" if is_decoder(AutoConfig.for_model(family)) else "mean_tokens"


def make_small(folder: Path, family: str, pooling: str | None = None, kind: Any = AutoModel, **settings: Any) -> Path:
    "A small encoder of this architecture with random weights, and what sentence-transformers would write beside it."
    tokenizer = load_tokenizer(find_encoder("minilm"))
    set_seed(1)
    settings = {"vocab_size": len(tokenizer), "pad_token_id": 0, **SMALL[family], **settings}
    kind.from_config(AutoConfig.for_model(family, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


def probabilities_elsewhere(folder: Path, name: str, out: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Any]:
    """The probabilities of a classifier that took a step, those of its saved model and of its saved adapter; its config.

    The model is opened in transformers, the adapter in peft, on the encoder in the folder.
    """
    tokenizer = load_tokenizer(folder, 128)
    model = add_lora(new_classifier(folder, ["no", "yes"], name))
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                parameter.add_(parameter.grad.sign() + torch.randn_like(parameter), alpha=0.05)
        apply_temperature(model, 2.5)
        expected = model.eval()(**batch).logits.softmax(-1)
        save_model(model, tokenizer, out)
        saved = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
        encoder = AutoModelForSequenceClassification.from_pretrained(folder, **adapter_settings(saved.config))
        adapted = PeftModel.from_pretrained(encoder, out / "adapter").eval()
        answers = [one(**batch).logits.softmax(-1) for one in (saved, adapted)]
    return expected, *answers, saved.config


def try_encoder(folder: Path, name: str) -> dict[str, Any]:
    "What was done for an encoder, and the largest difference between the probabilities here and elsewhere."
    with TemporaryDirectory() as out:
        expected, model, adapter, config = probabilities_elsewhere(folder, name, Path(out))
    return {
        "parameters": sum(weights.numel() for weights in AutoModel.from_pretrained(folder).parameters()),
        "pooling": pooling_mode(folder),
        "reads": config.emo_nb_head,
        "model": float((model - expected).abs().max()),
        "adapter": float((adapter - expected).abs().max()),
    }


def main() -> None:
    started, real = utc_now(), {"all-MiniLM-L6-v2": find_encoder("minilm")}
    real |= {folder.name: folder for folder in [Path(name) for name in sys.argv[1:]] or [find_mpnet()]}
    logging.getLogger("emo_nb").setLevel("ERROR")
    small = {}
    for family in SMALL:
        with TemporaryDirectory() as place:
            small[family] = try_encoder(make_small(Path(place) / "encoder", family, natural_pooling(family)), family)
    record = {"small": small, "real": {name: try_encoder(folder, name) for name, folder in real.items()}}
    write_result("encoders", record, started, "python tools/encoders.py" + " FOLDER" * len(sys.argv[1:]))


if __name__ == "__main__":
    main()
