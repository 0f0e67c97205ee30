"""Rows that are there twice: half of a task's copies are then support rows, which know the other half."""

from __future__ import annotations

import numpy as np

from undertow.tasks.grouped import GroupedTable
from undertow.tasks.wording import which_rows

# Beyond it sorting takes longer than it is worth.
_MOST_NUMBERS = 5_000_000
# Pairs of equal rows are copies where there are so many times as many as chance would make.
_TIMES = 10
# A smaller share of the rows moves an error little.
_LEAST = 0.05


def said_copies(table: GroupedTable) -> list[str]:
    """Return a note on rows that repeat another one of their task in all features and the target, if chance makes none.

    Of coded features many rows are equal by chance, and where targets are too nothing is said. Targets of few values
    are equal by chance anyway: there pairs of equal features must be rare by chance, and their targets hardly differ.
    """
    r = table.n_rows
    if r < 2 or r * (table.n_features + 2) > _MOST_NUMBERS:
        return []
    codes = np.repeat(np.arange(table.n_tasks), table.counts)
    whole = _groups(np.column_stack([codes, table.x, table.y]))
    repeats = _repeats(whole)
    if repeats.sum() < _LEAST * r:  # as of most tables, which are not sorted any further
        return []
    inputs = _groups(np.column_stack([codes, table.x]))
    pairs, alike = _pairs(inputs), _pairs(_groups(table.y[:, None])) / (r * (r - 1) / 2)
    agree = _pairs(whole)
    few = agree * (1 - alike) > _TIMES * alike * (pairs - agree) and pairs > _TIMES * _by_chance(table, pairs)
    if agree <= _TIMES * alike * pairs and not few:
        return []
    flags = np.zeros(int(table.rows.max()) + 1, dtype=bool)
    flags[table.rows[repeats]] = True
    return [
        f"{int(repeats.sum())} of {r} rows repeat another one of their task in all features and in {table.target} "
        f"({which_rows(flags)}): if they are copies, errors on held-out tasks are too low, since half of a pair may be "
        "known; leave copies out, or give each row once with its number as a weight"
    ]


def _by_chance(table: GroupedTable, pairs: float) -> float:
    """Pairs of rows of one task with equal features, if there are as many as of rows of different tasks."""
    starts, counts = table.offsets[:-1], table.counts.astype(float)
    varies = (np.minimum.reduceat(table.x, starts) < np.maximum.reduceat(table.x, starts)).any(axis=0)
    within = float((counts * (counts - 1) / 2).sum())
    between = table.n_rows * (table.n_rows - 1) / 2 - within
    if not varies.any() or not between:
        return within
    # A feature that a task has one value of says nothing of its rows, and would tell the tasks apart.
    return within * (_pairs(_groups(table.x[:, varies])) - pairs) / between


def _groups(values: np.ndarray) -> np.ndarray:
    """Number (R,) of the group of equal rows that each row (R, c) is of."""
    rows = np.ascontiguousarray(values + 0.0)  # one zero
    bytes_of_rows = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(bytes_of_rows, return_inverse=True)[1]


def _pairs(groups: np.ndarray) -> float:
    sizes = np.bincount(groups).astype(float)
    return float((sizes * (sizes - 1)).sum() / 2)


def _repeats(groups: np.ndarray) -> np.ndarray:
    """Whether a row (R,) comes after an equal one."""
    first = np.empty(int(groups.max()) + 1, dtype=np.int64)
    # Of several rows the last one written stays, which is the first one.
    first[groups[::-1]] = np.arange(len(groups))[::-1]
    return first[groups] < np.arange(len(groups))
