"""Is the difference real, is the test set clean, and what is a pooled score made of?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core import DataError
from ..corpora import normalize_text
from ..encode import encode_labels, join_labels
from ..evaluate import bootstrap_weights, confidence_intervals, group_keys, weighted_scores
from .baselines import linear_logits, tfidf_features

NEAR_DUPLICATE = 0.95  # cosine similarity of mean embeddings


def compare_paired(
    first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[str], score: str = "macro_f1", n_samples: int = 1000
) -> dict[str, Any]:
    """How much better the second prediction table is than the first, on the same rows: a paired bootstrap over groups.

    Returns the `difference`, its 95 % `interval`, and the `share` of bootstrap samples in which it is above 0.
    """
    if list(first.text) != list(second.text) or list(first.label) != list(second.label):
        raise DataError("the two tables hold predictions on different rows; score both models on the same file")
    weights = np.vstack([np.ones((1, len(first)), np.float32), bootstrap_weights(group_keys(first), n_samples)])
    gap = weighted_scores(second, labels, weights)[0][score] - weighted_scores(first, labels, weights)[0][score]
    interval = confidence_intervals(gap[1:].to_frame())[score]
    return {"difference": round(float(gap[0]), 4), "interval": interval, "share": round(float((gap[1:] > 0).mean()), 4)}


def scores_by_part(table: pd.DataFrame, labels: Sequence[str], part: pd.Series) -> pd.DataFrame:
    "The overall scores of the rows of each part, with the 95 % interval of macro-F1; `part` is aligned with the table."
    scores = {}
    for name, rows in table.groupby(part.to_numpy()):
        samples, _ = weighted_scores(rows, labels, bootstrap_weights(group_keys(rows)))
        low, high = confidence_intervals(samples)["macro_f1"]
        score = weighted_scores(rows, labels)[0].iloc[0].astype(float)
        scores[name] = {**score.round(4), "macro_f1_low": low, "macro_f1_high": high, "rows": len(rows)}
    return pd.DataFrame(scores).T.astype({"rows": int})


def find_leaks(
    test: pd.Series, train: pd.Series, test_embeddings: np.ndarray, train_embeddings: np.ndarray
) -> pd.DataFrame:
    """How each test text stands in training: `leak` (exact, folded, near or none), `similarity`, `nearest`.

    The embeddings are (n_texts, size), of length 1, as `mean_embeddings` makes them. `folded` means equal after
    `normalize_text`, `near` a cosine similarity of at least `NEAR_DUPLICATE`.
    """
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train_embeddings)
    distance, nearest = neighbours.kneighbors(test_embeddings)
    similarity = 1 - distance[:, 0]
    kinds = [
        test.isin(set(train)),
        normalize_text(test).isin(set(normalize_text(train))),
        pd.Series(similarity >= NEAR_DUPLICATE, index=test.index),
    ]
    leak = np.select(kinds, ["exact", "folded", "near"], "none")
    text = train.to_numpy()[nearest[:, 0]]
    return pd.DataFrame({"leak": leak, "similarity": similarity.round(3), "nearest": text}, index=test.index)


def probe_corpus(train: pd.DataFrame, test: pd.DataFrame, labels: Sequence[str]) -> dict[str, float]:
    """How well a TF-IDF classifier tells the corpora apart, and what guessing the label from the corpus alone scores.

    Returns `corpus_accuracy`, `corpus_majority`, and the `accuracy` and `macro_f1` of each corpus's most frequent
    label, given to the rows that the classifier takes for that corpus's.
    """
    names = sorted(train.corpus.astype(str).unique())
    if len(names) < 2:
        raise DataError(
            f"the rows are all from {names[0]}; a probe for the corpus needs two corpora, so give rows of both"
        )
    known, truth = (encode_labels([(name,) for name in rows.corpus.astype(str)], names) for rows in (train, test))
    guess = linear_logits(known, False, *tfidf_features(train.text, test.text))[0].argmax(axis=1)
    joined = pd.Series(join_labels(train.targets), index=train.index)
    most_frequent = joined.groupby(train.corpus.astype(str)).agg(lambda label: label.mode()[0])
    columns = {"label": join_labels(test.targets), "predicted": [most_frequent[names[i]] for i in guess]}
    score = weighted_scores(test.assign(**columns, **dict.fromkeys(labels, 0.0)), labels)[0].iloc[0]
    return {
        "corpus_accuracy": round(float((guess == truth.argmax(axis=1)).mean()), 4),
        "corpus_majority": round(float(truth.mean(axis=0).max()), 4),
        **{name: round(float(score[name]), 4) for name in ("accuracy", "macro_f1")},
    }
