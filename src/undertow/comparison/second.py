"""A second grouping of a table, for all rivals alike: what its levels add is taken off targets before anything else.

Levels are predicted from the training tasks of a fold alone, as ``undertow.estimators.levels`` does for the estimator:
those of training rows across folds. On held-out rows a rival adds what it predicts to what levels do, so that its error
is that of the target without them; a level that training tasks have not adds nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from undertow.comparison.plain import INNER_FOLDS
from undertow.estimators.levels import across_folds
from undertow.mixed.levels import LevelRows, fit_levels
from undertow.tasks import GroupedTable, folds


def without_levels(table: GroupedTable, kept: np.ndarray, seed: int) -> GroupedTable:
    """Return the table without its levels, predicted from the tasks ``kept``, (m,) flags; as it is without any.

    Raises InputError for too many levels.
    """
    return table if table.levels is None else _without(table, kept.tobytes(), seed)


@lru_cache(maxsize=1)
def _without(table: GroupedTable, flags: bytes, seed: int) -> GroupedTable:
    """The same for a table with levels; the last one is kept, for all rivals of a fold."""
    assert table.levels is not None
    kept = np.frombuffer(flags, dtype=bool)
    ids, codes = np.unique(table.levels, return_inverse=True)
    own, raw = np.repeat(kept, table.counts), table.select(kept)
    data, standard = raw.standardized(None, target=True)
    tasks = np.repeat(np.arange(raw.n_tasks), raw.counts)
    rows = LevelRows(data.with_intercept().x, data.y, tasks, codes[own], len(ids), raw.weights)
    fit, fold = fit_levels(rows), np.empty(raw.n_tasks, dtype=np.int64)
    for number, part in enumerate(folds(raw.ids, min(INNER_FOLDS, raw.n_tasks), seed)):
        fold[part] = number
    off = fit.effects[codes]
    off[own] = across_folds(rows, fit, fold[tasks])
    return replace(table, y=table.y - off * float(standard.target_spread[0]), levels=None)
