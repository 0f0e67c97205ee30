"""Kinds of targets: how they become columns of numbers, how predictions are given back and what they score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import check_classification_targets

from undertow._check import InputError


@dataclass(frozen=True)
class Numbers:
    """Targets that are numbers: one (R,), or several (R, q)."""

    flat: bool
    """whether there is one target without an axis of its own"""

    def columns(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Return targets (R, q)."""
        return y.reshape(len(y), -1).astype(dtype, copy=False)

    def restored(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions (R, q) in the shape of the targets."""
        return predictions[:, 0] if self.flat else predictions


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of classes: two are one column of -1 and 1, more are a column each."""

    classes: np.ndarray
    """(c,) sorted"""

    flat = False

    def columns(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Return targets (R, 1) or (R, c). Raises InputError for a label that is no class."""
        strange = ~np.isin(y, self.classes)
        if strange.any():
            raise InputError(
                None,
                rule=f"y holds {y[strange].tolist()[0]!r}, which was no class in training ({self.classes.tolist()}).",
                way_out="Adaptation and score need the same classes.",
            )
        code = np.searchsorted(self.classes, y)
        if len(self.classes) == 2:
            return (2 * code - 1).astype(dtype)[:, None]
        return (2 * (code[:, None] == np.arange(len(self.classes))) - 1).astype(dtype)

    def restored(self, predictions: np.ndarray) -> np.ndarray:
        """Return the label of the largest prediction of each row."""
        if predictions.shape[1] == 1:
            return self.classes[(predictions[:, 0] > 0).astype(int)]
        return self.classes[predictions.argmax(axis=1)]


@dataclass(frozen=True)
class Kind:
    """What sets a regression and a classification apart."""

    read: Callable[[np.ndarray], Numbers | Labels]
    """from checked targets y of ``fit`` to how they become columns"""
    metric: Callable[..., float]
    """metric(truth, predictions, sample_weight=...)"""
    scaled: bool
    """whether columns of targets are standardised"""
    validation: dict[str, Any] = field(default_factory=dict)
    """options of scikit-learn's check of X and y"""


def _numbers(y: np.ndarray) -> Numbers:
    return Numbers(flat=y.ndim == 1)


def _labels(y: np.ndarray) -> Labels:
    check_classification_targets(y)
    classes = np.unique(y)
    if len(classes) < 2:
        raise InputError(
            None, rule=f"y has one class only, {classes.tolist()[0]!r}: a classifier needs samples of two classes."
        )
    return Labels(classes)


REGRESSION = Kind(_numbers, r2_score, True, {"multi_output": True, "y_numeric": True})
CLASSIFICATION = Kind(_labels, accuracy_score, False)
