"""Estimators on grouped tables, whose rows are sorted by task already."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from undertow._check import InputError, Setting
from undertow.estimators.base import MetaEstimator
from undertow.estimators.fitted import FittedModel
from undertow.estimators.inputs import task_codes
from undertow.estimators.row_weights import with_unit
from undertow.estimators.training import Trained
from undertow.tasks import GroupedTable

Estimator = TypeVar("Estimator", bound=MetaEstimator)


def fit_table(estimator: Estimator, table: GroupedTable) -> Estimator:
    """Fit an estimator to a table of raw features and target, each task as it stands there, and return it.

    The result is that of ``fit(X, y, groups=..., sample_weight=...)`` on the rows in their original order, bit for bit:
    draws follow the original row numbers, ``table.rows``. Rows are neither put back into that order nor sorted again.
    ``feature_names_in_`` are the table's.

    Parameters
    ----------
    estimator
        one of the four estimators; it is fitted in place.
    table
        raw rows, as ``read_table`` returns them.

    Raises
    ------
    InputError
        as ``fit`` does, and for another kind of table.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.estimators.fit_table(ut.MAMLRegressor(adapt_rate=0.3), table)
    >>> model.feature_names_in_.tolist(), model.n_tasks_
    (['year', 'log_pop', 'log_gdp'], 142)
    """
    if not isinstance(table, GroupedTable):
        raise InputError(
            "table", type(table).__name__, "it must be a GroupedTable.", "Make one with undertow.tasks.read_table."
        )
    if table.in_order and estimator.support != "first":
        rule = "the rows of the table stand in their order in time, and random ones would be support rows."
        raise InputError("support", estimator.support, rule, ("Use ", Setting("support", "first"), "."))
    if table.weights is not None and estimator.row_weights != table.weights_are:
        rule = f"the weights of the table are of the kind {table.weights_are!r}."
        raise InputError("row_weights", estimator.row_weights, rule, "Say the same in both places.")
    targets, weights = estimator._begin(table.y, table.x.dtype), table.weights
    if weights is not None:
        weights, estimator.weight_unit_ = with_unit(weights, table.weights_are, table.n_tasks)
    estimator.n_features_in_ = table.n_features
    # As after a fit to a data frame.
    setattr(estimator, "feature_names_in_", np.array(table.feature_names, dtype=object))  # noqa: B010
    return estimator._fit_sorted(
        table.x,
        targets,
        weights,
        table.offsets,
        table.ids,
        table.rows,
        places=np.arange(table.n_rows),
        second=None if table.levels is None else task_codes(table.levels, table.n_rows, "levels"),
        moments=table.moments,
    )


def prepare(estimator: MetaEstimator, feature_names: Sequence[str]) -> int:
    """Check the parameters of an estimator of one numeric target before it is trained elsewhere; return its seed."""
    estimator._begin(np.zeros(1), np.dtype(np.float64))
    estimator.n_features_in_ = len(feature_names)
    setattr(estimator, "feature_names_in_", np.array(feature_names, dtype=object))  # noqa: B010
    return estimator.seed_


def publish(
    estimator: Estimator, trained: Trained, model: FittedModel, n_tasks: int, n_clipped: int, notes: Sequence[str] = ()
) -> Estimator:
    """Make a prepared estimator a fitted one: what was trained elsewhere, and the model with what it knows of tasks."""
    estimator.n_clipped_, estimator.n_tasks_ = n_clipped, n_tasks
    estimator._publish_training(trained)
    estimator.publish(model)
    for note in (*notes, *trained.notes):
        warnings.warn(note, stacklevel=4)
    return estimator
