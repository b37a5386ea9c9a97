#!/usr/bin/env bash
# imbalanced-learn: a row of indicators that has none of the labels is given the first label.
#
# The samplers take labels as a matrix of ones and zeros, one column a label. They refuse rows with several labels in a
# sentence, because they balance single labels. A row with none (all zeros: a text without any of the emotions) is no
# single label either, so one would expect the same refusal, or to find the row unchanged. imbalanced-learn 0.14.2 takes
# each row's largest column as its label, which is the first where all are zero; it counts the row to that label,
# returns it with a one that was not there, and says nothing.
#
# Seen: of eight rows, two have no label; RandomOverSampler returns both as rows of the first label, and copies the
# other labels up to a number that counts them in; with two labels in a row it raises ValueError.
#
# The script fails where a row without labels is refused, left out or returned as it was.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q imbalanced-learn==0.14.2 scikit-learn==1.7.2 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import warnings

import imblearn
import numpy as np
from imblearn.over_sampling import RandomOverSampler

rows = np.arange(8).reshape(-1, 1)
joy, fear, anger, none, both = [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0]
labels = np.array([joy, joy, joy, fear, fear, anger, none, none])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    drawn, drawn_labels = RandomOverSampler(random_state=0).fit_resample(rows, labels)
returned = {int(row): answer.tolist() for row, answer in zip(drawn[:, 0], drawn_labels, strict=True)}
print(f"imbalanced-learn {imblearn.__version__}: rows 6 and 7 had {none} and have {returned[6]} and {returned[7]}")
print("rows of each label:", drawn_labels.sum(axis=0).tolist(), "; warnings:", len(caught))
assert returned[6] == returned[7] == joy and drawn_labels.sum(axis=0).tolist() == [5, 5, 5] and not caught
try:
    RandomOverSampler(random_state=0).fit_resample(rows, np.array([joy, joy, joy, fear, fear, anger, both, both]))
except ValueError as error:
    print("rows with two labels:", error)
else:
    raise SystemExit("rows with two labels are taken")
PY
