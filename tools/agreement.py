"""How near the model in the package comes to the people who gave the labels, and how near they come to each other.

    python tools/agreement.py

Reads GoEmotions' raw form, one row a rater, and the official splits. Where a comment of the test set has a rater's row,
the model's probabilities are held against that rater's labels. The cross-entropy and the Brier score are linear in the
labels (but for a constant of the latter), so their means over single raters are those for the raters' distribution.
Writes results/agreement.json.
"""

from typing import Any

import numpy as np
import pandas as pd
from experiments import write_result

from emo_nb import EmotionClassifier, load_corpus
from emo_nb.encode import encode_labels
from emo_nb.evaluate import bootstrap_weights, confidence_intervals, decide_labels
from emo_nb.report import utc_now


def probability_scores(proba: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    "Cross-entropy and Brier score of a text, summed over the labels, with intervals; both arrays (n_rows, n_labels)."
    proba = proba.clip(1e-4, 1 - 1e-4)
    losses = {
        "cross_entropy": -(truth * np.log(proba) + (1 - truth) * np.log(1 - proba)).sum(axis=1),
        "brier": ((proba - truth) ** 2).sum(axis=1),
    }
    intervals = confidence_intervals(
        pd.DataFrame({name: weights @ loss / weights.sum(axis=1) for name, loss in losses.items()})
    )
    return {name: {"mean": round(float(loss.mean()), 4), "interval": intervals[name]} for name, loss in losses.items()}


def agreement(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    "Micro-F1 of the labels of one against those of the other, the same in both directions; (n_rows, n_labels)."
    both, either = (first & second).sum(axis=1), first.sum(axis=1) + second.sum(axis=1)
    samples = pd.DataFrame({"micro_f1": 2 * (weights @ both) / np.maximum(weights @ either, 1)})
    return {
        "micro_f1": round(float(2 * both.sum() / either.sum()), 4),
        "interval": confidence_intervals(samples)["micro_f1"],
    }


def rater_pairs(raters: pd.DataFrame) -> pd.DataFrame:
    "The first two raters of each comment that has several."
    pairs = raters.groupby("group").labels.agg(list)
    pairs = pairs[pairs.map(len) > 1]
    return pd.DataFrame({"first": pairs.str[0], "second": pairs.str[1], "group": pairs.index})


def main() -> None:
    started, classifier = utc_now(), EmotionClassifier.from_pretrained("goemotions28")
    raw, official = load_corpus("goemotions-raw"), load_corpus("goemotions")
    labels, frame = classifier.labels, official.frame
    raters = raw.frame[raw.frame.labels.map(len) > 0]  # who gave none found the comment unclear
    test = frame[frame.split == "test"].drop_duplicates("group").set_index("group")
    rows = raters[raters.group.isin(test.index)]
    truth = encode_labels(rows.labels, labels).astype(bool)
    weights = bootstrap_weights(rows.group)
    proba = classifier.predict_proba(rows.text)
    of_train = encode_labels(frame.labels[frame.split == "train"], labels).mean(axis=0)
    decided = encode_labels(test.labels[rows.group], labels).astype(bool)
    given = {
        "the model": proba,
        "the model's labels": decide_labels(proba, classifier.thresholds).astype(float),
        "the official labels": decided.astype(float),
        "how frequent each label is in train": np.tile(of_train, (len(rows), 1)),
    }
    pairs = rater_pairs(raters[raters.group.isin(frame.group)])  # on the others, no two raters agreed
    one, other = (encode_labels(pairs[name], labels).astype(bool) for name in ("first", "second"))
    record = {
        "rows": {
            "raters": len(raw.frame),
            "comments": raw.frame.group.nunique(),
            "test": len(rows),
            "pairs": len(pairs),
        },
        "probabilities": {name: probability_scores(p, truth, weights) for name, p in given.items()},
        "agreement": {
            "the model and a rater": agreement(decide_labels(proba, classifier.thresholds), truth, weights),
            "a rater and another": agreement(one, other, bootstrap_weights(pairs.group)),
            "the official labels and one of their raters": agreement(decided, truth, weights),
        },
        "files": {**raw.files, **official.files},
    }
    write_result("agreement", record, started, "python tools/agreement.py")


if __name__ == "__main__":
    main()
