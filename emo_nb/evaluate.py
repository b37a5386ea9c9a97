"""How good the predictions are: scores per corpus and label with their intervals, calibration, and thresholds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .core import ConfigError
from .encode import decode_labels, encode_labels, join_labels, split_labels

SCORES = ("macro_f1", "micro_f1", "weighted_f1", "accuracy", "top3")


def probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    "Probabilities (n_rows, n_labels) from logits of that shape: softmax, or a sigmoid per label for a multi-label task."
    from scipy.special import expit, softmax

    return expit(logits) if multi_label else softmax(logits, axis=1)


def prediction_table(
    rows: pd.DataFrame,  # with `text`, `targets` (tuples of labels), `corpus` and `group`
    proba: np.ndarray,  # (n_rows, n_labels)
    labels: Sequence[str],
    thresholds: np.ndarray | None = None,  # (n_labels,); None for a single-label task
) -> pd.DataFrame:
    """The labelled rows with what was predicted: the table that all scores are computed from, and `predictions.csv`.

    Columns: corpus, group, role and text; `label`, the true labels, and `predicted`, both joined by `|`; `confidence`,
    the highest probability; and the probability of each label, rounded to four decimals.
    """
    if proba.shape != (len(rows), len(labels)):
        raise ConfigError(
            f"{len(rows)} rows and {len(labels)} labels, but probabilities of shape {proba.shape}; give one for each "
            "row and label"
        )
    proba = proba.round(4)
    if thresholds is None:
        predicted = list(np.asarray(labels, dtype=object)[proba.argmax(axis=1)])
    else:
        predicted = join_labels(decode_labels(proba >= np.round(thresholds, 4), labels))
    kept = [column for column in ("corpus", "group", "role", "text") if column in rows]
    table = rows[kept].reset_index(drop=True)
    table = table.assign(label=join_labels(rows.targets), predicted=predicted, confidence=proba.max(axis=1))
    return pd.concat([table, pd.DataFrame(proba, columns=list(labels))], axis=1)


def truth_and_predicted(table: pd.DataFrame, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    "The true and the predicted labels of a prediction table, each (n_rows, n_labels), booleans."
    truth, predicted = (encode_labels(split_labels(table[c]), labels).astype(bool) for c in ("label", "predicted"))
    return truth, predicted


def by_corpus(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    "The rows of each corpus and, where there are several, all rows as `all`."
    corpora = {str(name): rows for name, rows in table.groupby("corpus", observed=True)}
    return corpora if len(corpora) == 1 else {**corpora, "all": table}


def label_scores(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    "Precision, recall, f1 and support of each corpus and label; labels without a row in a corpus are left out there."
    from sklearn.metrics import precision_recall_fscore_support

    parts = {}
    for name, rows in by_corpus(table).items():
        columns = precision_recall_fscore_support(*truth_and_predicted(rows, labels), zero_division=0)
        named = dict(zip(("precision", "recall", "f1", "support"), columns, strict=True))
        part = pd.DataFrame(named, index=list(labels))
        parts[name] = part[part.support > 0]
    return pd.concat(parts, names=["corpus", "label"])


def weighted_scores(
    table: pd.DataFrame, labels: Sequence[str], weights: np.ndarray | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The overall `SCORES`, and the F1 of each label that has a row: two frames with one row for each row of `weights`.

    `weights` is (n_samples, n_rows), how often each row counts in each sample; by default every row counts once.
    """
    weights = np.ones((1, len(table)), np.float32) if weights is None else weights
    truth, predicted = truth_and_predicted(table, labels)
    top3 = np.argsort(-table[list(labels)].to_numpy(), axis=1, kind="stable")[:, :3]
    exact, in_top3 = (truth == predicted).all(axis=1), np.take_along_axis(truth, top3, axis=1).any(axis=1)
    hits, n_predicted, n_true = (weights @ part.astype(np.float32) for part in (truth & predicted, predicted, truth))
    has_rows = truth.any(axis=0)
    f1 = (2 * hits / np.maximum(n_predicted + n_true, 1))[:, has_rows]
    columns = (
        f1.mean(axis=1),
        2 * hits.sum(axis=1) / (n_predicted + n_true).sum(axis=1),
        (f1 * n_true[:, has_rows]).sum(axis=1) / n_true.sum(axis=1),
        weights @ exact / weights.sum(axis=1),
        weights @ in_top3 / weights.sum(axis=1),
    )
    overall = pd.DataFrame(dict(zip(SCORES, columns, strict=True)))
    return overall, pd.DataFrame(f1, columns=np.array(labels)[has_rows])


def bootstrap_weights(groups: pd.Series, n_samples: int = 1000, seed: int = 0) -> np.ndarray:
    "How often each row counts in each bootstrap sample of whole groups: (n_samples, n_rows)."
    codes, names = pd.factorize(groups)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_samples)
    return drawn.astype(np.float32)[:, codes]


def confidence_intervals(samples: pd.DataFrame) -> dict[str, list[float]]:
    "The middle 95 % of each column."
    return {str(name): samples[name].quantile([0.025, 0.975]).round(4).tolist() for name in samples}


def compute_metrics(table: pd.DataFrame, labels: Sequence[str], thresholds: np.ndarray | None = None) -> dict[str, Any]:
    "Per corpus: the overall scores with their intervals, and the scores, interval and threshold of each label."
    by_label, metrics = label_scores(table, labels).round(4), {}
    for name, rows in by_corpus(table).items():
        overall, _ = weighted_scores(rows, labels)
        samples, f1_samples = weighted_scores(rows, labels, bootstrap_weights(group_keys(rows)))
        of_label = by_label.loc[name].to_dict("index")
        for label, interval in confidence_intervals(f1_samples).items():
            of_label[label]["f1_interval"] = interval
            if thresholds is not None:
                of_label[label]["threshold"] = round(float(thresholds[list(labels).index(label)]), 4)
        truth, proba = truth_and_predicted(rows, labels)[0], rows[list(labels)].to_numpy()
        metrics[name] = {
            **overall.iloc[0].astype(float).round(4).to_dict(),
            "majority": round(float(rows.label.value_counts(normalize=True).iloc[0]), 4),
            "calibration_error": round(calibration_error(calibration_curve(proba, truth, thresholds is not None)), 4),
            "rows": len(rows),
            "intervals": confidence_intervals(samples),
            "labels": of_label,
        }
    return metrics


def group_keys(rows: pd.DataFrame) -> pd.Series:
    "A name for the group of each row that no other corpus shares."
    return rows.corpus.astype(str) + "/" + rows.group


def metrics_table(metrics: dict[str, Any]) -> pd.DataFrame:
    "The overall scores of `compute_metrics`, one row a corpus."
    columns = [*SCORES, "majority", "calibration_error", "rows"]
    return pd.DataFrame({name: {c: m[c] for c in columns} for name, m in metrics.items()}).T.astype({"rows": int})


def log_loss(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    "Mean negative log-likelihood of a row; logits and truth are (n_rows, n_labels)."
    from scipy.special import log_softmax

    if multi_label:
        return float((np.logaddexp(0, logits) - truth * logits).sum(axis=1).mean())
    return float(-(truth * log_softmax(logits, axis=1)).sum(axis=1).mean())


def fit_temperature(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """The temperature between 0.1 and 10 that minimises the log loss of logits / temperature.

    logits and truth are (n_rows, n_labels), of rows that the model was not trained on. Guo et al. 2017, arXiv
    1706.04599.
    """
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log_t: log_loss(logits / np.exp(log_t), truth, multi_label), bounds=np.log([0.1, 10]), method="bounded"
    )
    return float(np.exp(best.x))


def calibration_curve(proba: np.ndarray, truth: np.ndarray, multi_label: bool, bins: int = 15) -> pd.DataFrame:
    """The reliability diagram as a table, one row for each bin that is not empty.

    Columns: bin, the mean `probability` in it, the `share` of its predictions that are true, their `count`. For a
    single-label task only each row's highest probability counts, for a multi-label task every one.
    """
    top = proba.argmax(axis=1)[:, None]
    stated, true = (a if multi_label else np.take_along_axis(a, top, 1) for a in (proba, truth.astype(float)))
    pairs = pd.DataFrame({"probability": stated.ravel(), "share": true.ravel()})
    number = np.minimum((pairs.probability * bins).astype(int), bins - 1)
    table = pairs.groupby(number).agg(
        probability=("probability", "mean"), share=("share", "mean"), count=("share", "size")
    )
    return table.rename_axis("bin").reset_index()


def calibration_error(curve: pd.DataFrame) -> float:
    "Expected calibration error of a `calibration_curve`."
    return float(np.average((curve.probability - curve.share).abs(), weights=curve["count"]))


def choose_thresholds(
    proba: np.ndarray, truth: np.ndarray, smoothing: float = 0.3, prior_rows: float = 30
) -> np.ndarray:
    """For each label the threshold with the best F1, (n_labels,), from calibrated probabilities of dev rows.

    proba and truth are (n_rows, n_labels). `smoothing` is the standard deviation, in log-odds, of the Gaussian that
    smooths each F1 curve; `prior_rows` is how many rows the F1 that the probabilities themselves expect weighs as
    much as, which steadies the thresholds of rare labels.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.special import expit

    step = 0.05
    grid = expit(np.arange(-4, 3, step))
    counted, expected = (
        np.stack([f1_curve(p, weights, grid) for p, weights in zip(proba.T, of.T, strict=True)])
        for of in (truth, proba)
    )
    curves = truth.sum(axis=0)[:, None] * counted + prior_rows * expected
    return grid[gaussian_filter1d(curves, smoothing / step, axis=1, mode="nearest").argmax(axis=1)]


def f1_curve(proba: np.ndarray, truth: np.ndarray, grid: np.ndarray) -> np.ndarray:
    "F1 of one label at each threshold of `grid`; proba and truth are (n_rows,). With probabilities as truth, the expected F1."
    order = np.argsort(proba)
    below = np.searchsorted(proba[order], grid)
    hits = truth.sum() - np.concatenate([[0], np.cumsum(truth[order])])[below]
    return 2 * hits / np.maximum(len(proba) - below + truth.sum(), 1)
