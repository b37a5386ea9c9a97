#!/usr/bin/env bash
# fastText: every probability is 0.00001 too large, so that the best ones are above 1.
#
# fastText is the classic quick baseline for texts and labels. `predict` is documented to return probabilities, and one
# would expect numbers from 0 to 1 whose sum over all labels is 1. fastText 0.9.2 adds 0.00001 to each before it takes the
# logarithm by which it ranks labels, and returns the exponential of that: a sure label has 1.00001, a sum over n labels
# exceeds 1 by n times as much, and what needs probabilities fails on the texts that are easiest. scikit-learn's log_loss
# raises ValueError.
#
# Seen: with three labels, sums of 1.00003; the largest probability 1.00001, with one softmax and with one logistic
# function a label (`loss="ova"`) alike.
#
# The script trains on texts of three words each and fails where no probability is above 1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q fasttext-wheel==0.9.2 numpy==1.26.4 scikit-learn==1.7.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import random
from importlib.metadata import version

import fasttext
import numpy as np
from sklearn.metrics import log_loss

WORDS = {"anger": "angry mad furious", "fear": "afraid scared worried", "joy": "happy glad cheerful"}
random.seed(0)
with open("train.txt", "w") as stream:
    for _ in range(3000):
        label = random.choice(list(WORDS))
        stream.write(f"__label__{label} {' '.join(random.choices(WORDS[label].split(), k=3))}\n")

for loss in ("softmax", "ova"):
    model = fasttext.train_supervised("train.txt", epoch=50, lr=1.0, loss=loss, thread=1, verbose=0)
    found = [dict(zip(*model.predict(text, k=3), strict=True)) for text in WORDS.values()]
    proba = np.array([[one[f"__label__{label}"] for label in WORDS] for one in found])
    print(f"fasttext-wheel {version('fasttext-wheel')}, {loss}: largest {proba.max():.6f}, sums {proba.sum(axis=1).round(6)}")
    assert proba.max() > 1.000005
    if loss == "softmax":
        assert np.allclose(proba.sum(axis=1), 1.00003, atol=2e-6)
        try:
            log_loss(list(WORDS), proba, labels=list(WORDS))
        except ValueError as error:
            print("log_loss:", error)
        else:
            raise SystemExit("log_loss takes them")
PY
