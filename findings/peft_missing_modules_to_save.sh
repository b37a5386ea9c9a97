#!/usr/bin/env bash
# peft: an adapter whose `modules_to_save` names a module that the base model lacks is loaded without a word.
#
# An adapter can bring whole modules (`modules_to_save`), for example a layer that was added before training. Where the
# base model has no module of that name, one would expect an error or at least a warning. peft 0.21.2 loads the rest of the
# adapter, drops the module's weights and says nothing; the model then computes something else.
#
# Seen: 16 of the adapter's 18 tensors belong to a layer that the base lacks; nothing is said of it; the logits of this
# small model differ by 0.006.
#
# The script makes an adapter for a BERT of two layers, whose second layer is in `modules_to_save`, and opens it on a BERT
# of one layer. It fails where peft raises an error or a warning, or where both models give the same logits.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import logging
import warnings

import peft
import torch
from transformers import BertConfig, BertForSequenceClassification

SIZES = dict(vocab_size=30, hidden_size=8, num_attention_heads=2, intermediate_size=16, num_labels=3)


def bert(layers):
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **SIZES)).eval()


settings = peft.LoraConfig(
    r=2, target_modules=["bert.encoder.layer.0.attention.self.query"], modules_to_save=["bert.encoder.layer.1"]
)
trained = peft.get_peft_model(bert(2), settings)
trained.save_pretrained("adapter")

records = []
handler = logging.Handler()
handler.emit = lambda record: records.append(record.getMessage())
logging.getLogger("peft").addHandler(handler)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    opened = peft.PeftModel.from_pretrained(bert(1), "adapter").eval()

said = [str(one.message) for one in caught] + records
ids = torch.tensor([[2, 5, 7, 3]])
with torch.inference_mode():
    difference = (trained.eval()(ids).logits - opened(ids).logits).abs().max().item()
stored = peft.utils.load_peft_weights("adapter")
dropped = [name for name in stored if "layer.1." in name]
print(f"peft {peft.__version__}: {len(dropped)} of the adapter's {len(stored)} tensors belong to a layer that the base lacks")
said = [words for words in said if "deprecated" not in words]
print("said:", said or "nothing", "; largest difference of the logits:", round(difference, 4))
assert dropped and difference > 1e-4
assert not [words for words in said if "layer.1" in words or "missing" in words.lower() or "unexpected" in words.lower()]
PY
