"""Rows as an estimator is fitted to them: sorted by task, standardised, and those of tasks that are large enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow._memory import require, table_bytes
from undertow.estimators.linked import has_link, link_standard
from undertow.estimators.parameters import about_small, check_floor
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard

# Memory that a fit takes beside its table over the size of that, at least; measured by benchmarks/load.py.
_TO_FIT = 1.0


def standardised(
    estimator: Any,
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    offsets: np.ndarray,
    ids: np.ndarray,
    rows: np.ndarray,
    places: np.ndarray | None,
) -> tuple[TaskRows, TaskRows, list[str]]:
    """Return all rows, those of tasks with more than ``n_support`` of them, or all where one, and what was left out.

    targets (R, q) in the user's units, and weights (R,), are sorted by task; the other arrays as in ``TaskRows``.
    """
    sizes = f"a table of {len(rows):,} rows of {x.shape[1]} features is too large here: a fit"
    require(_TO_FIT * table_bytes(len(rows), x.shape[1]), sizes)
    precise = estimator.row_weights == "precision"
    check_floor(estimator, targets)
    standard = Standard.fit(
        x,
        targets,
        # How well a row was measured says nothing of the spread of features.
        None if precise else weights,
        features=estimator.standardize,
        targets=estimator.standardize and estimator.kind.scaled,
        intercept=estimator.fit_intercept,
        clip=estimator.clip if estimator.standardize else None,
        order=rows if places is None else places,
    )
    if has_link(estimator):
        standard = link_standard(estimator, standard, targets)
    in_order, y = estimator.support == "first", standard.targets(targets)
    everything = TaskRows(x, standard, y, weights, offsets, ids, rows, places, in_order, precise)
    if everything.n_tasks == 1:
        return everything, everything, []
    large = everything.large_enough(estimator.n_support, estimator.on_small)
    if large.n_tasks == everything.n_tasks:
        return everything, large, []
    return everything, large, [about_small(everything.n_tasks, large.n_tasks, estimator.n_support)]
