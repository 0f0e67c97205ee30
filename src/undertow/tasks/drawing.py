"""Which rows of a task are support and which are query, and arrays gathered in that order.

The order within a task follows keys, and a row's key is a hash of the seed and of the row's number in the
original table. So a task's draw does not depend on which other tasks are there, and no loop over tasks is
needed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow._types import Counts, Ids, Numbers, Real, RowKeys, RowNumbers, TaskMask, TaskNumbers, TaskPositions
from undertow.tasks.wording import some

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
        rule = "it must be a whole number of at least 0, or a SeedSequence."
        raise InputError("seed", seed, rule, "Draws are always seeded, so that they can be repeated.") from None


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_order(seed: Any, rows: RowNumbers, counts: Counts) -> RowNumbers:
    """Return (R,) positions, task after task, in random order within each task.

    rows: (R,) original row numbers, sorted by task. counts: (m,) rows of each task.
    """
    keys, m = row_keys(seed, rows), len(counts)
    if (counts != counts[0]).any():
        return _order_within(keys, np.repeat(np.arange(m, dtype=np.uint64), counts), (m - 1).bit_length())
    # The same order, by many short sorts in place of a long one.
    return (np.argsort(keys.reshape(m, -1), axis=1) + counts[0] * np.arange(m)[:, None]).reshape(-1)


def _order_within(keys: np.ndarray, codes: np.ndarray, bits: int) -> RowNumbers:
    """Order by codes below 2^bits, then by keys: one sort of numbers that hold both, a third of the time of two."""
    both = codes << np.uint64(64 - bits) | keys >> np.uint64(bits)
    order = np.argsort(both)
    sorted_both = both[order]
    if (sorted_both[1:] == sorted_both[:-1]).any():
        # The bits that were left out decide.
        return np.lexsort((keys, codes))
    return order


class Draw(NamedTuple):
    """Which rows a draw takes."""

    tasks: TaskNumbers
    """(m,) numbers of the tasks that take part"""
    order: RowNumbers
    """(R,) positions of all rows, in random order within each task"""
    n_support: int
    """support rows of every task"""
    n_queries: Counts
    """(m,) query rows of each task that takes part"""


def positions(
    order: RowNumbers, starts: TaskNumbers, n_support: int, n_queries: Counts
) -> tuple[TaskPositions, TaskPositions, TaskMask]:
    """Return where support rows (m, n_support) and query rows (m, longest) stand, and which of the latter are real.

    starts: (m,) where each task starts in ``order``. A padded slot points at the task's first query row.
    """
    slot = np.arange(int(n_queries.max()))
    mask = slot < n_queries[:, None]
    first = starts[:, None]
    return order[first + np.arange(n_support)], order[first + n_support + np.where(mask, slot, 0)], mask


def buckets(n_queries: Counts) -> list[Numbers]:
    """Return task indices in groups whose longest task has less than twice the query rows of the shortest."""
    # frexp gives the binary exponent exactly, where log2 may round up.
    exponent = np.frexp(n_queries.astype(np.float64))[1]
    return [np.flatnonzero(exponent == e) for e in np.unique(exponent)]


def refuse_padding(n_queries: Counts, n_features: int, dtype: Any, most: int = _PADDED_BYTES) -> None:
    """Raise InputError where one batch of these tasks would be mostly padding, and take more than ``most`` bytes."""
    row = (n_features + 1) * np.dtype(dtype).itemsize
    padded, real = len(n_queries) * int(n_queries.max()) * row, int(n_queries.sum()) * row
    if padded > most and padded > _PADDED_RATIO * real:
        raise InputError(
            None,
            rule=f"one batch of {len(n_queries)} tasks with up to {int(n_queries.max())} query rows would take "
            f"{padded / 2**30:.1f} GiB, of which {real / 2**30:.2f} GiB are real rows: tasks are padded to the "
            "longest.",
            way_out=(
                "Use draw_buckets, which makes several batches, or limit the query rows with ",
                Setting("n_query"),
                ".",
            ),
        )


def float_type(dtype: Any, *arrays: Real) -> np.dtype:
    """Return ``dtype`` as float64 or float32; raise InputError for others, and where a value does not fit."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind not in (np.float64, np.float32):
        raise InputError("dtype", dtype, "it must be float64 or float32.")
    if kind == np.float32:
        largest = max(max(float(a.max()), -float(a.min())) for a in arrays)
        if largest > float(np.finfo(np.float32).max):
            way_out = "Use float64, or standardise the table first."
            raise InputError("dtype", "float32", f"it cannot hold {largest:g}.", way_out)
    return kind


def large_enough(counts: Counts, ids: Ids, n_support: int, on_small: str) -> Numbers:
    """Return the numbers of the tasks with more than ``n_support`` rows; smaller ones raise, or are left out."""
    return enough_rows(counts, ids, Setting("n_support", n_support), on_small, n_query=1)


def enough_rows(counts: Counts, ids: Ids, asked: Setting, on_small: str, n_query: int = 0, hint: str = "") -> Numbers:
    """Return the numbers of the tasks with enough rows; smaller ones raise, or are left out.

    asked: the argument that asks for so many rows. n_query: how many query rows a task needs besides. hint: a sentence
    on what may have made tasks small.
    """
    _check.one_of(on_small, "on_small", ("raise", "drop"))
    least = asked.value + n_query
    small = np.flatnonzero(counts < least)
    if not len(small):
        return np.arange(len(counts))
    have = ", ".join(f"task {some(ids[[i]])} has {counts[i]}" for i in small[:5])
    have += ", ..." if len(small) > 5 else ""
    needed = f"{least} rows, one of them a query row" if n_query else f"{least} rows"
    if on_small == "raise" and (len(small) < len(counts) or counts.max() == 1):
        rule = f"{len(small)} of {len(counts)} tasks have fewer than {needed} ({have})."
        way_out = (
            "Ask for fewer rows, or drop these tasks with ",
            Setting("on_small", "drop"),
            ".",
            f" {hint}." * bool(hint),
        )
        if counts.max() == 1 and not hint:
            way_out = ("Each row has a task of its own: name with ", Setting("task"), " what rows of a group share.")
        raise InputError(*asked, rule, way_out)
    if len(small) == len(counts):
        raise InputError(*asked, f"no task has {needed} ({have}).", "Ask for fewer rows." + f" {hint}." * bool(hint))
    return np.flatnonzero(counts >= least)
