"""How much each row, or each label of a row, counts in the loss: `class_weight` and `sample_weight`."""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..core import ConfigError, DataError
from ..engine.label_forms import Labels


def loss_weights(labels: Labels, class_weight: Any, sample_weight: Iterable[float] | None) -> np.ndarray | None:
    """How much each row, (n_rows,), or each label of each row, (n_rows, n_labels), counts in the loss.

    The mean of `sample_weight` becomes 1. A single-label row has the weight of its label. In a multi-label task a
    label's weight is that of its positive rows, and `balanced` gives positive and negative rows of a label the same
    total.
    """
    rows = None if sample_weight is None else check_sample_weight(sample_weight, len(labels.matrix))
    if class_weight is None:
        return rows
    of_label = _class_weights(labels, class_weight)
    if labels.multi_label:
        weights = np.where(labels.matrix > 0, of_label, 1.0)
        return weights if rows is None else weights * rows[:, None]
    weights = of_label[labels.matrix.argmax(axis=1)]
    return weights if rows is None else weights * rows


def check_sample_weight(sample_weight: Iterable[float], n_rows: int) -> np.ndarray:
    "Weights of rows, (n_rows,), scaled to the mean 1. `DataError` where they are not one for each row."
    try:
        weights = np.array(list(sample_weight), float)
    except (TypeError, ValueError) as error:
        raise DataError("sample_weight should be one number for each row; give these") from error
    if weights.shape != (n_rows,):
        raise DataError(
            f"there are {n_rows} rows, and sample_weight has the shape {weights.shape}; give one for each row"
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise DataError("sample_weight has a number that is negative or not finite, or only zeros; correct it")
    return weights / weights.mean()


def _class_weights(labels: Labels, class_weight: Any) -> np.ndarray:
    "The weight of each label, (n_labels,)."
    n_rows, counts = len(labels.matrix), np.maximum(labels.matrix.sum(axis=0, dtype=float), 1)
    if class_weight == "balanced":
        return (n_rows - counts) / counts if labels.multi_label else n_rows / (len(counts) * counts)
    if not isinstance(class_weight, Mapping):
        raise ConfigError(
            f"class_weight is 'balanced' or a dict from labels to numbers, not {class_weight!r}; give one"
        )
    by_name = {str(label): weight for label, weight in class_weight.items()}
    if unknown := sorted(by_name.keys() - set(labels.names)):
        raise ConfigError(
            f"class_weight names {unknown[0]!r}, which is not a label; choose from {', '.join(labels.names)}"
        )
    for name, weight in by_name.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= float(weight) < np.inf:
            raise ConfigError(f"class_weight has {weight!r} for {name!r}; give a number of 0 or more")
    return np.array([float(by_name.get(name, 1)) for name in labels.names])
