"""Labels that a model doubts: each row is predicted by a model that was not trained on it, and cleanlab ranks the rows.

Northcutt et al. 2021, arXiv 1911.00068 (confident learning); for several labels a text, Thyagarajan et al. 2022, arXiv
2211.13895.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..classifier import EmotionClassifier, Examples, read_examples
from ..core import ConfigError, DataError, logger
from ..encode import decode_labels, join_labels
from ..evaluate import decide_labels
from ..prepare import connect_groups


def doubtful(
    texts: Iterable[str],
    labels: Any,  # in any form that `EmotionClassifier.fit` takes
    groups: Iterable[Any] | None = None,  # rows with the same value, or the same text, are predicted by the same model
    folds: int = 5,  # models that are trained, each on the rows of the other folds
    classifier: EmotionClassifier | None = None,  # with the settings for the training; default: on plain MiniLM
) -> pd.DataFrame:
    """All rows, the most doubtful label first, with what the model would say; the index is a row's position.

    Columns: `text`; `given`, its labels, and `suggested`, the model's, each joined by `|`; `probability`, which the model
    gives to what it would say (of several labels: to the surest one that differs from what is given); `quality`,
    cleanlab's score from 0 to 1, low where the label is doubtful; `is_issue`, whether cleanlab counts it as an error.
    Raises `ConfigError` where cleanlab is not installed or `folds` is impossible, and the errors of `fit`.
    """
    _check_cleanlab()
    estimator = EmotionClassifier("minilm") if classifier is None else classifier
    examples = read_examples(texts, labels, estimator.multi_label, groups)
    estimator._settings()  # which refuses what cannot be, before anything is split
    # a copy of a text would vouch for the label of the other
    connected = connect_groups(pd.Series(examples.texts), pd.Series(examples.groups))
    proba, suggested = _predict_out_of_fold(estimator, examples, connected.to_numpy(), folds)
    quality, is_issue = _rank(examples, proba)
    differs = suggested != examples.labels.matrix
    surest = np.where(differs, np.maximum(proba, 1 - proba), 0).max(axis=1)
    agreed = proba.max(axis=1)
    names = examples.labels.names
    table = pd.DataFrame(
        {
            "text": examples.texts,
            "given": join_labels(decode_labels(examples.labels.matrix, names)),
            "suggested": join_labels(decode_labels(suggested, names)),
            "probability": np.where(differs.any(axis=1), surest, agreed) if examples.labels.multi_label else agreed,
            "quality": quality,
            "is_issue": is_issue,
        }
    )
    return table.sort_values("quality", kind="stable")


def _check_cleanlab() -> None:
    from importlib.util import find_spec

    if find_spec("cleanlab") is None:
        raise ConfigError(
            "doubtful labels are found with cleanlab, which is not installed; pip install 'emo_nb[doubt]'"
        )


def _predict_out_of_fold(
    estimator: EmotionClassifier, examples: Examples, groups: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    "Probabilities and labels, each (n_rows, n_labels), by models that were not trained on a row or its group."
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = len(np.unique(groups))
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= n_groups:
        raise ConfigError(
            f"folds is a whole number from 2 to the number of groups, {n_groups:,}, not {folds!r}; give one"
        )
    matrix, names = examples.labels.matrix, examples.labels.names
    table = pd.DataFrame(matrix, columns=names)
    proba, suggested = np.empty(matrix.shape), np.zeros_like(matrix)
    strata = np.where(matrix.any(axis=1), matrix.argmax(axis=1), -1)
    if folds > (most := np.unique(strata, return_counts=True)[1].max()):
        raise ConfigError(f"no label has rows for {folds} folds, the most frequent has {most}; ask for fewer folds")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(estimator.random_state))
    for number, (train, test) in enumerate(splitter.split(matrix, strata, groups), 1):
        if not len(test):
            raise DataError(f"the groups are too few, or too large, for {folds} folds; ask for fewer folds")
        logger.info("fold %s of %s: predicting %s rows", number, folds, f"{len(test):,}")
        fold = clone(estimator).set_params(multi_label=examples.labels.multi_label)
        fold.fit([examples.texts[i] for i in train], table.iloc[train], groups=groups[train])
        proba[test] = fold.predict_proba([examples.texts[i] for i in test])
        suggested[test] = decide_labels(proba[test], fold.thresholds)
    return proba, suggested


def _rank(examples: Examples, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "cleanlab's quality of each row's labels, and whether it counts them as an error, each (n_rows,)."
    matrix = examples.labels.matrix
    if examples.labels.multi_label:
        from cleanlab.multilabel_classification import filter as issues
        from cleanlab.multilabel_classification import get_label_quality_scores

        given = [np.flatnonzero(row).tolist() for row in matrix]
        return get_label_quality_scores(given, proba), issues.find_label_issues(given, proba, n_jobs=1)
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores as single_quality

    numbers = matrix.argmax(axis=1)
    return single_quality(numbers, proba), find_label_issues(numbers, proba, n_jobs=1)
