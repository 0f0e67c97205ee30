"""Estimators on grouped tables, whose rows are sorted by task already."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from undertow._check import InputError
from undertow.estimators.base import MetaEstimator
from undertow.tasks import GroupedTable

Estimator = TypeVar("Estimator", bound=MetaEstimator)


def fit_table(estimator: Estimator, table: GroupedTable) -> Estimator:
    """Fit an estimator to a table of raw features and target, each task as it stands there, and return it.

    The result is that of ``fit(X, y, groups=...)`` on the rows in their original order, bit for bit: draws follow the
    original row numbers, ``table.rows``. Rows are neither put back into that order nor sorted again.
    ``feature_names_in_`` are the table's. Raises InputError as ``fit`` does, and for another kind of table.
    """
    if not isinstance(table, GroupedTable):
        raise InputError(
            "table", type(table).__name__, "it must be a GroupedTable.", "Make one with undertow.tasks.read_table."
        )
    targets = estimator._begin(table.y, table.x.dtype)
    estimator.n_features_in_ = table.n_features
    # As after a fit to a data frame.
    setattr(estimator, "feature_names_in_", np.array(table.feature_names, dtype=object))  # noqa: B010
    return estimator._fit_sorted(
        table.x, targets, None, table.offsets, table.ids, table.rows, places=np.arange(table.n_rows)
    )
