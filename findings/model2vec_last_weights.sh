#!/usr/bin/env bash
# model2vec: after `fit`, a classifier has the weights of the last epoch, and not of the best one.
#
# `StaticModelForClassification.fit` promises the best weights, and its training stops early by the accuracy on the
# validation rows. model2vec 0.8.0 leaves the choice of the checkpoint to Lightning's default, which watches no score and
# keeps the last one. With a patience of five, the model that is returned is therefore five checks past the best.
#
# Seen: the validation rows have the opposite labels of the training rows, so every epoch makes their accuracy worse. The
# accuracy of the model that `fit` returns is 0.17 after one epoch, and 0.00 where early stopping ends the training five
# epochs after the best.
#
# The script fails where the returned model is as good on the validation rows as the model after the first epoch.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q torch==2.13.0 "model2vec[train]==0.8.0" lightning==2.6.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
import model2vec
import numpy as np
from model2vec import StaticModel
from model2vec.train import StaticModelForClassification
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

rng = np.random.default_rng(0)
words = ["[PAD]", "[UNK]", *(f"word{i}" for i in range(40))]
tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = Whitespace()
static = StaticModel(rng.normal(size=(len(words), 16)).astype(np.float32), tokenizer)
texts = [f"word{i % 40}" for i in range(400)]
labels = ["even" if i % 2 else "odd" for i in range(400)]
opposite = ["odd" if label == "even" else "even" for label in labels]


def accuracy(**settings):
    "On the validation rows, of the model that `fit` returns."
    model = StaticModelForClassification.from_static_model(model=static)
    model.fit(texts, labels, X_val=texts, y_val=opposite, batch_size=32, device="cpu", **settings)
    return (model.predict(texts) == np.array(opposite)).mean()


first, stopped = accuracy(max_epochs=1), accuracy(early_stopping_patience=5)
print(f"model2vec {model2vec.__version__}: validation accuracy {first:.2f} after one epoch, {stopped:.2f} after early stopping")
assert first > stopped
PY
tail -n 1 "$folder/log"
