"""Rows of tasks, a block of tasks of like length at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError

# Numbers in a block of tasks, about 2 MB: its few temporary copies stay in the second-level cache.
BLOCK_NUMBERS = 1 << 18


class Piece(NamedTuple):
    """Some tasks of like length, b of them."""

    tasks: Int[np.ndarray, " b"]
    """(b,) positions of the tasks"""
    rows: Float[np.ndarray, "b k p1"]
    """(b, k, p + 1) features and target; a task's real rows come first, zeros after them"""
    weights: Float[np.ndarray, "b k"] | None
    """(b, k), 0 for a padded row; None where all are 1"""


def batch_pieces(batches: list[TaskBatch], pairs: Any) -> Iterator[Piece]:
    """Yield the tasks of batches; pairs: for each batch the weights of support and of query rows, None for 1."""
    if pairs is None:
        pairs = [(None, None)] * len(batches)
    elif len(pairs) != len(batches) or any(len(pair) != 2 for pair in pairs):
        raise InputError(
            None, rule="row_weights: each batch needs a pair of arrays, the weights of its support and its query rows."
        )
    start = 0
    for batch, pair in zip(batches, pairs, strict=True):
        yield from _one_batch(batch, pair, start)
        start += batch.n_tasks


def _groups(lengths: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield positions of tasks of like length, so many that their rows, padded to the longest, make one block."""
    order = np.argsort(lengths, kind="stable")
    longest = np.maximum(lengths[order], 1)
    start = 0
    while start < len(order):
        size = min(len(order) - start, max(1, BLOCK_NUMBERS // int(longest[start] * width)))
        # At most double: tasks much longer than the first wait for the next block.
        size = min(size, int(np.searchsorted(longest[start:], 2 * longest[start], side="right")))
        while size > 1 and size * int(longest[start + size - 1]) * width > BLOCK_NUMBERS:
            size -= max(1, size // 8)
        yield order[start : start + size]
        start += size


def _one_batch(batch: TaskBatch, pair: Any, start: int) -> Iterator[Piece]:
    m, n_t, p = batch.support_x.shape
    n = n_t + batch.query_x.shape[1]
    plain = all(one is None for one in (batch.support_mask, batch.query_mask, batch.support_weight, *pair))
    weights = None if plain else _batch_weights(batch, pair)
    lengths = np.full(m, n) if weights is None else (weights > 0).sum(axis=1)
    for part in _groups(lengths, p + 1):
        # Blocks of whole batches are slices, which are copied faster than chosen tasks.
        chosen = slice(part[0], part[-1] + 1) if weights is None else part
        rows = np.empty((len(part), n, p + 1))
        rows[:, :n_t, :p], rows[:, :n_t, p] = batch.support_x[chosen], batch.support_y[chosen]
        rows[:, n_t:, :p], rows[:, n_t:, p] = batch.query_x[chosen], batch.query_y[chosen]
        each = None
        if weights is not None:
            each = weights[part]
            k = max(1, int(lengths[part].max()))
            order = np.argsort(each <= 0, axis=1, kind="stable")[:, :k]
            each = np.take_along_axis(each, order, axis=1)
            # Whatever stands in a padded row must not turn into NaN when it is multiplied by zero.
            rows = np.where(each[..., None] > 0, np.take_along_axis(rows, order[..., None], axis=1), 0.0)
        yield Piece(part + start, rows, each)


def _batch_weights(batch: TaskBatch, pair: Any) -> np.ndarray:
    parts = []
    for name, given in zip(("support", "query"), pair, strict=True):
        rows, mask = getattr(batch, f"{name}_y"), getattr(batch, f"{name}_mask")
        each = checked_weights(given, rows.shape, f"row_weights of {name} rows")
        each = np.ones(rows.shape) if each is None else each
        if name == "support" and batch.support_weight is not None:
            each = each * np.asarray(batch.support_weight, dtype=np.float64)[:, None]
        parts.append(each if mask is None else np.where(mask, each, 0.0))
    return np.concatenate(parts, axis=1)


def row_pieces(
    fetch: Callable[[np.ndarray], np.ndarray],
    y: Float[np.ndarray, " R"],
    offsets: Int[np.ndarray, " m1"],
    row_weights: Float[np.ndarray, " R"] | None,
) -> Iterator[Piece]:
    """Yield rows sorted by task; fetch: returns the features (..., p) of the rows at positions (...)."""
    counts, p = np.diff(offsets), fetch(np.arange(1)).shape[-1]
    for part in _groups(counts, p + 1):
        slot = np.arange(int(counts[part].max()))
        real = slot < counts[part, None]
        place = offsets[part, None] + np.where(real, slot, 0)
        rows = np.empty((*place.shape, p + 1))
        rows[..., :p], rows[..., p] = fetch(place), y[place]
        weights = None if row_weights is None else np.where(real, row_weights[place], 0.0)
        if not real.all():
            rows[~real] = 0.0
            weights = real.astype(np.float64) if weights is None else weights
        yield Piece(part, rows, weights)


def checked_weights(given: Any, shape: tuple[int, ...], name: str) -> Float[np.ndarray, ...] | None:
    """Return weights of a shape, or raise InputError; None where none are given."""
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape != shape:
        raise InputError(None, rule=f"{name} have shape {weights.shape}: it must be {shape}.")
    _check.finite(weights, name)
    if weights.min() < 0:
        raise InputError(None, rule=f"{name} hold {weights.min():g}: a weight cannot be negative.")
    return weights
