"""Weights of rows, of either kind: checked, and put in the unit in which a model counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from undertow._check import InputError, Setting

# A row of so many medians leaves no digit of the others in a sum of squares.
_MOST = 1e12


def checked(sample_weight: Any, x: np.ndarray) -> np.ndarray:
    """Return the weights of rows x (R, p) as float64, one above 0 among them. Raises InputError for others."""
    weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        # Newer versions of scikit-learn have said so already.
        raise InputError(None, rule="sample_weight holds only zero weights: at least one row must count.")
    return np.asarray(weights)


def with_unit(weights: np.ndarray, kind: str, n_tasks: int) -> tuple[np.ndarray, float]:
    """Return weights to fit to, and the unit that they were divided by.

    Of "precision" only ratios count: the unit is the geometric mean, with which sum log w, the weights' own part of the
    log-likelihood, is 0; a row of that weight has the noise of the model. It is 1 for "frequency".
    Raises InputError for a weight beside which the others are lost to rounding, and for copies that add up to fewer
    rows than there are tasks.
    """
    positive = weights[weights > 0]
    largest, median = float(positive.max()), float(np.median(positive))
    if largest / _MOST > median:
        raise InputError(
            None,
            rule=f"sample_weight goes up to {largest:.3g}, and half of the weights are at most {median:.3g}: beside a "
            f"weight {_MOST:g} times as large these are lost to rounding.",
            way_out="Limit the weights.",
        )
    if kind == "precision":
        # An exact sum, so that no digit depends on the order of rows.
        unit = math.exp(math.fsum(np.log(positive).tolist()) / len(positive))
        return weights / unit, unit
    if weights.sum() < n_tasks:
        raise InputError(
            "row_weights",
            kind,
            f"as copies of rows these weights add up to {weights.sum():.3g} rows for {n_tasks} tasks.",
            (
                "Give numbers of copies, or say ",
                Setting("row_weights", "precision"),
                " where only ratios mean something.",
            ),
        )
    return weights, 1.0
