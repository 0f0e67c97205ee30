r"""Ids of tasks that start anew in each group, such as class 1 in every school, where the groups' column is not named.

With pairs (task, level of another column), :math:`\text{MS}_\text{pairs}` the mean square of the pairs' means beyond
the sum of an effect of the task and one of the level, and :math:`\text{MS}_\text{task}` that of tasks beside levels,

.. math:: F_1 = \text{MS}_\text{pairs} / \text{MS}_\text{within}, \quad
          F_2 = \text{MS}_\text{task} / \text{MS}_\text{pairs} .

Where ids start anew, pairs are the groups: F_1 is large, and F_2 is around 1, since rows of one id have nothing in
common. Where ids are ids, tasks differ and F_2 is large (Searle, Casella and McCulloch, "Variance Components", 1992,
chapter 4: crossed and nested classifications).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import fdtrc

from undertow._check import InputError
from undertow._types import PerRow, RowNumbers
from undertow.tasks.columns import codes_of, is_category
from undertow.tasks.source import Source

# A note is worth little where it comes by chance: once in a hundred tables.
_LEVEL = 0.01
# Larger tables are looked at in part.
_MOST_COLUMNS, _MOST_CELLS, _MOST_ROWS = 20, 1 << 24, 200_000
_MOST_TURNS = 200


class Restart(NamedTuple):
    """A column in whose levels the ids of tasks seem to start anew."""

    column: str
    pairs: float
    """p value of F_1: that pairs differ only as tasks and levels do"""
    tasks: float
    """p value of F_2: that an id has no meaning of its own"""

    def said(self, tasks: Sequence[str], target: str) -> str:
        """Return the finding as a sentence for a table read with these task columns."""
        name, both = ",".join(tasks), ",".join([self.column, *tasks])
        return (
            f"pairs of {self.column!r} and {name!r} differ in {target} (p = {self.pairs:.2g}), and rows of one "
            f"{name!r} have no mean in common (p = {self.tasks:.2g}): ids of {name!r} may start anew in each "
            f"{self.column!r}; name both as the task, {both!r}, if so"
        )


def find_restart(opened: Source, columns: Sequence[str], codes: RowNumbers, y: PerRow) -> Restart | None:
    """Return the column in which the tasks' ids start anew most clearly; None where there is none.

    columns: those that may be it. codes, y: (R,) task and target of each row; below 0, or NaN, where they are missing.
    """
    best = None
    for name in _label_columns(opened, columns[: max(1, _MOST_CELLS // max(1, len(y)))]):
        found = _tested(opened, name, codes, y)
        if found is not None and (best is None or found.pairs < best.pairs):
            best = found
    return best


def _label_columns(opened: Source, columns: Sequence[str]) -> list[str]:
    """Columns of text or whole numbers: what can name groups."""
    try:
        fetched = zip(columns, opened.each(columns), strict=True)
        kept = [name for name, column in fetched if is_category(column) or pa.types.is_integer(column.type)]
    except (InputError, OSError):  # what is wrong with a column that is not used never matters
        return []
    return kept[:_MOST_COLUMNS]


def _tested(opened: Source, name: str, codes: RowNumbers, y: PerRow) -> Restart | None:
    try:
        levels, _ = codes_of(opened.labels(name), name, "column", optional=True)
    except InputError:
        return None
    there = np.flatnonzero((codes >= 0) & (levels >= 0) & ~np.isnan(y))
    there = there[:: 1 + len(there) // _MOST_ROWS]
    if not len(there):
        return None
    _, task = np.unique(codes[there], return_inverse=True)
    _, level = np.unique(levels[there], return_inverse=True)
    found = p_values(task, level, y[there])
    if found is None:
        return None
    return Restart(name, *found) if found[0] < _LEVEL**2 and found[1] > _LEVEL else None


def p_values(task: RowNumbers, level: RowNumbers, y: PerRow) -> tuple[float, float] | None:
    """Return the p values of F_1 and F_2; None where they cannot be told.

    task, level: (R,) numbers from 0, each of them there. A task without a second level, and pairs of one row each on
    average, tell nothing.
    """
    pair, cell, counts = np.unique(task * (level.max() + 1) + level, return_inverse=True, return_counts=True)
    of_task, of_level = np.divmod(pair, level.max() + 1)
    n_tasks, n_levels, n_pairs = task.max() + 1, level.max() + 1, len(pair)
    free = n_pairs - n_tasks - n_levels + 1
    if n_tasks < 2 or free < 1 or len(y) < 2 * n_pairs or np.bincount(of_task).min() < 2:
        return None
    y = y - y.mean()
    means = np.bincount(cell, y) / counts
    within = float(np.square(y - means[cell]).sum()) / (len(y) - n_pairs)
    by_level, both = _left(means, counts, (of_level,)), _left(means, counts, (of_task, of_level))
    pairs, tasks = both / free, max(by_level - both, 0.0) / (n_tasks - 1)
    if not (within > 0 and pairs > 0):
        return None
    return float(fdtrc(free, len(y) - n_pairs, pairs / within)), float(fdtrc(n_tasks - 1, free, tasks / pairs))


def _left(means: np.ndarray, counts: np.ndarray, factors: Sequence[np.ndarray]) -> float:
    """Sum of squares of the pairs' means about the best sum of effects of these factors."""
    rest = means.copy()
    for _ in range(_MOST_TURNS if len(factors) > 1 else 1):
        moved = 0.0
        for factor in factors:
            effect = np.bincount(factor, counts * rest) / np.bincount(factor, counts)
            rest -= effect[factor]
            moved = max(moved, float(np.abs(effect).max()))
        if moved <= 1e-9 * float(np.abs(means).max()):
            break
    return float((counts * rest**2).sum())
