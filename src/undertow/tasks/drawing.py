"""Which rows of a task are support and which are query, and arrays gathered in that order.

The order within a task follows keys, and a row's key is a hash of the seed and of the row's number in the
original table. So a task's draw does not depend on which other tasks are there, and no loop over tasks is
needed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import Counts, Features, Ids, Numbers, PerRow, Real, RowKeys, RowNumbers

# A batch is refused where its padding both dominates and is large: then buckets are the way.
_PADDED_BYTES = 1 << 30
_PADDED_RATIO = 4


def row_keys(seed: Any, rows: RowNumbers) -> RowKeys:
    """Return (R,) uint64 keys: two rounds of the SplitMix64 finaliser over row numbers, keyed by the seed.

    Each step can be undone, so that distinct rows have distinct keys. The finaliser is that of Steele, Lea
    and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    first, second = _words(seed)
    # Wrap-around is what the hash is made of.
    with np.errstate(over="ignore"):
        keys = _mix(rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + first)
        return _mix(keys ^ second)


def _words(seed: Any) -> np.ndarray:
    if isinstance(seed, np.random.Generator):
        return seed.integers(0, 1 << 64, size=2, dtype=np.uint64)
    return seed_sequence(seed).generate_state(2, np.uint64)


def seed_sequence(seed: Any) -> np.random.SeedSequence:
    """Return ``seed`` as a SeedSequence; raise InputError for None and for what cannot seed."""
    if isinstance(seed, np.random.SeedSequence):
        return seed
    try:
        if seed is None:
            raise TypeError
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError):
        raise InputError(
            f"seed={seed!r}: it must be a whole number of at least 0, or a SeedSequence. Draws are always seeded, so "
            "that they can be repeated."
        ) from None


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_order(seed: Any, rows: RowNumbers, counts: Counts) -> RowNumbers:
    """Return (R,) positions, task after task, in random order within each task.

    rows: (R,) original row numbers, sorted by task. counts: (m,) rows of each task.
    """
    task = np.repeat(np.arange(len(counts)), counts)
    return np.lexsort((row_keys(seed, rows), task))


def query_counts(counts: Counts, n_support: int, n_query: int | None) -> Counts:
    """Return (m,) query rows of each task: all that support leaves, or at most ``n_query`` of them."""
    left = counts - n_support
    return left if n_query is None else np.minimum(left, n_query)


class Plan(NamedTuple):
    """Which rows a draw takes: everything but the arrays that they are gathered from."""

    tasks: Counts
    """(m,) numbers of the tasks that take part"""
    order: RowNumbers
    """(R,) positions of all rows, in random order within each task"""
    n_support: int
    """support rows of every task"""
    n_queries: Counts
    """(m,) query rows of each task that takes part"""
    dtype: np.dtype
    """float64 or float32"""


def gather(x: Features, y: PerRow, ids: Ids, starts: Counts, plan: Plan, n_queries: Counts) -> TaskBatch:
    """Return the batch of the tasks whose rows start at ``starts`` in the plan's order, padded with zeros.

    ids, starts, n_queries: (m,) of the tasks in the batch.
    """
    order, n_support, dtype = plan.order, plan.n_support, plan.dtype
    support = order[starts[:, None] + np.arange(n_support)]
    widest = int(n_queries.max())
    slot = np.arange(widest)
    mask = slot < n_queries[:, None]
    ragged = not mask.all()
    # A padded slot points at the task's first query row; what it fetches is then overwritten by zero.
    query = order[starts[:, None] + n_support + (np.where(mask, slot, 0) if ragged else slot)]
    query_x, query_y = x[query].astype(dtype, copy=False), y[query].astype(dtype, copy=False)
    if ragged:
        query_x[~mask] = 0
        query_y[~mask] = 0
    return TaskBatch(
        x[support].astype(dtype, copy=False),
        y[support].astype(dtype, copy=False),
        query_x,
        query_y,
        query_mask=mask if ragged else None,
        ids=ids,
    )


def buckets(n_queries: Counts) -> list[Numbers]:
    """Return task indices in groups whose longest task has less than twice the query rows of the shortest."""
    # frexp gives the binary exponent exactly, where log2 may round up.
    exponent = np.frexp(n_queries.astype(np.float64))[1]
    return [np.flatnonzero(exponent == e) for e in np.unique(exponent)]


def refuse_padding(n_queries: Counts, n_features: int, dtype: Any) -> None:
    """Raise InputError where one batch of these tasks would be mostly padding, and large."""
    row = (n_features + 1) * np.dtype(dtype).itemsize
    padded, real = len(n_queries) * int(n_queries.max()) * row, int(n_queries.sum()) * row
    if padded > _PADDED_BYTES and padded > _PADDED_RATIO * real:
        raise InputError(
            f"one batch of {len(n_queries)} tasks with up to {int(n_queries.max())} query rows would take "
            f"{padded / 2**30:.1f} GiB, of which {real / 2**30:.2f} GiB are real rows: tasks are padded to "
            "the longest. Use draw_buckets(...), which makes several batches, or limit the query rows with "
            "n_query."
        )


def float_type(dtype: Any, *arrays: Real) -> np.dtype:
    """Return ``dtype`` as float64 or float32; raise InputError for others, and where a value does not fit."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind not in (np.float64, np.float32):
        raise InputError(f"dtype={dtype!r}: it must be float64 or float32.")
    if kind == np.float32:
        largest = max(max(float(a.max()), -float(a.min())) for a in arrays)
        if largest > float(np.finfo(np.float32).max):
            raise InputError(f"dtype=float32 cannot hold {largest:g}: use float64, or standardise the table first.")
    return kind


def support_rule(n_support: int) -> str:
    """Return why a task needs n_support + 1 rows, in words."""
    return f"with n_support={n_support} a task needs {n_support + 1}, one of them as a query row"


def enough_rows(counts: Counts, ids: Ids, least: int, rule: str, on_small: str) -> Numbers:
    """Return the numbers of the tasks with ``least`` rows or more; smaller ones raise, or are left out."""
    _check.one_of(on_small, "on_small", ("raise", "drop"))
    small = np.flatnonzero(counts < least)
    if not len(small):
        return np.arange(len(counts))
    have = ", ".join(f"task {ids[i].item()!r} has {counts[i]}" for i in small[:5])
    have += ", ..." if len(small) > 5 else ""
    if on_small == "raise":
        raise InputError(
            f"{len(small)} of {len(counts)} tasks have fewer than {least} rows ({have}): {rule}. Ask for "
            "fewer rows, or drop these tasks with on_small='drop'."
        )
    if len(small) == len(counts):
        raise InputError(
            f"no task has {least} rows or more ({have}), so on_small='drop' leaves none: {rule}. Ask for fewer."
        )
    return np.flatnonzero(counts >= least)
