"""Targets as columns of numbers, and predictions back as users want them: numbers, or labels of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
