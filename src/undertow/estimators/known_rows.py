r"""What a model keeps of the rows of its tasks, so that further rows can be added to them later.

A linear rule sees the rows of a task through sums alone: with :math:`Z = [X, Y]` through :math:`Z'Z` and the sum of the
weights. The triangular factor R of a QR decomposition has :math:`R'R = Z'Z`, and at most as many rows as Z has columns.
It takes the place of Z where that is shorter, and in what is saved. A model of two values or of counts needs the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from undertow._batch import TaskBatch
from undertow._types import Counts, Numbers, Offsets, PerTask, Real, RowNumbers, SomeRows
from undertow.tasks.drawing import buckets
from undertow.tasks.rows import TaskRows

# About 4 MB of rows at a time.
_BATCH_NUMBERS = 1 << 19


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Letters: m tasks, w = d + q columns: standardised inputs, and targets."""

    rows: SomeRows
    """(any, w) rows of one task after the other; of a task with more rows than columns, a factor in their place"""
    offsets: Offsets
    """(m + 1,) where each task starts"""
    totals: PerTask
    """(m,) sum of the weights of each task's rows; their number where all weigh 1"""
    whole: bool = False
    """whether rows are kept and saved as they are, for a rule that no sums will do"""

    @classmethod
    def of(cls, rows: TaskRows, whole: bool = False) -> KnownRows:
        """Return what is to be kept of the inputs (R, d) and targets (R, q) of rows."""

        def fetch(place: RowNumbers | slice) -> SomeRows:
            y, d = rows.y[place], rows.n_columns
            z = np.empty((len(y), d + y.shape[1]), rows.x.dtype)
            rows.inputs(place, out=z[:, :d])
            z[:, d:] = y
            if rows.weights is not None:
                z *= np.sqrt(rows.weights[place])[:, None].astype(z.dtype)
            return z

        totals = rows.counts.astype(np.float64)
        if rows.weights is not None:
            totals = np.add.reduceat(rows.weights, rows.offsets[:-1])
        if whole:
            return cls(fetch(slice(None)), rows.offsets, totals, whole)
        return _reduced(fetch, rows.n_columns + rows.y.shape[1], rows.offsets, totals)

    @cached_property
    def factor(self) -> SomeRows:
        """(any, w) triangular factors of all tasks, at ``offsets``: no row of a task can be read from them.

        They are made when first asked for, to be saved or for intervals: adaptation has no use for them.
        """
        if self.whole:
            return self.rows
        factor = np.empty_like(self.rows)
        for tasks in self.chunks():
            _put_factors(factor, self.offsets, tasks, _padded(lambda place: self.rows[place], self.offsets, tasks)[0])
        return factor

    @property
    def counts(self) -> Counts:
        """(m,) rows that are kept of each task."""
        return np.diff(self.offsets)

    def take(self, tasks: Numbers) -> KnownRows:
        """Return what is kept of the tasks at these positions, in this order."""
        counts = self.counts[tasks]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        place = np.arange(int(offsets[-1])) + np.repeat(self.offsets[:-1][tasks] - offsets[:-1], counts)
        return KnownRows(self.rows[place], offsets, self.totals[tasks], self.whole)

    def joined(self, other: KnownRows, codes: Numbers, n_tasks: int) -> KnownRows:
        """Return the rows of both. codes: (m + m',) number of each task in the end, those of ``other`` last."""
        row_codes = np.repeat(codes, np.concatenate([self.counts, other.counts]))
        order = np.argsort(row_codes, kind="stable")
        rows = np.concatenate([self.rows, other.rows.astype(self.rows.dtype)])[order]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row_codes, minlength=n_tasks))])
        totals = np.bincount(codes, np.concatenate([self.totals, other.totals]), minlength=n_tasks)
        if self.whole:
            return KnownRows(rows, offsets, totals, True)
        return _reduced(lambda place: rows[place], rows.shape[1], offsets, totals)

    def batch(self, tasks: Numbers, n_inputs: int) -> TaskBatch:
        """Return the rows of some tasks as support rows, with weights that average 1 in each task."""
        counts, first = self.counts[tasks], self.offsets[tasks[0]]
        if (counts == counts[0]).all() and self.offsets[tasks[-1] + 1] - first == counts[0] * len(tasks):
            # Tasks side by side, alike in length: no copy is made.
            z, mask = self.rows[first : self.offsets[tasks[-1] + 1]].reshape(len(tasks), int(counts[0]), -1), None
        else:
            z, mask = _padded(lambda place: self.rows[place], self.offsets, tasks)
        mean = self.totals[tasks] / counts
        alike = bool((mean == 1).all())
        if not alike:
            z = z / np.sqrt(mean).astype(z.dtype)[:, None, None]
        x, y = z[..., :n_inputs], z[..., n_inputs:]
        return TaskBatch(x, y, x[:, :1], y[:, :1], support_mask=mask, support_weight=None if alike else mean)

    def chunks(self) -> Iterator[Numbers]:
        """Yield task numbers in groups of like length and bounded size."""
        yield from _chunks(np.arange(len(self.totals)), self.counts, self.rows.shape[1])


def _chunks(tasks: Numbers, counts: Counts, width: int) -> Iterator[Numbers]:
    for alike in buckets(counts[tasks]):
        own = tasks[alike]
        n = int(counts[own].max()) * width * len(own)
        yield from np.array_split(own, min(len(own), -(-n // _BATCH_NUMBERS)))


def _padded(fetch: Callable[[RowNumbers], SomeRows], offsets: Offsets, tasks: Numbers) -> tuple[Real, np.ndarray]:
    """Rows of some tasks (c, longest, w), shorter ones followed by zeros, and which are rows (c, longest)."""
    counts = np.diff(offsets)[tasks]
    slot = np.arange(int(counts.max()))
    mask = slot < counts[:, None]
    place = offsets[:-1][tasks][:, None] + np.where(mask, slot, 0)
    z = fetch(place.ravel()).reshape(*place.shape, -1)
    return z if mask.all() else z * mask[..., None].astype(z.dtype), mask


def _reduced(
    fetch: Callable[[RowNumbers | slice], SomeRows], width: int, offsets: Offsets, totals: PerTask
) -> KnownRows:
    """At most ``width`` rows for each task, with the same sums."""
    counts = np.diff(offsets)
    short, size = counts <= width, max(1, _BATCH_NUMBERS // width)
    if short.all():
        return KnownRows(fetch(slice(None)), offsets, totals)
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, width))])
    out = np.empty((int(starts[-1]), width), fetch(slice(0, 1)).dtype)
    place, into = np.flatnonzero(np.repeat(short, counts)), np.flatnonzero(np.repeat(short, np.diff(starts)))
    for first in range(0, len(place), size):
        out[into[first : first + size]] = fetch(place[first : first + size])
    for tasks in _chunks(np.flatnonzero(~short), counts, width):
        _put_factors(out, starts, tasks, _padded(fetch, offsets, tasks)[0])
    return KnownRows(out, starts, totals)


def _put_factors(out: SomeRows, starts: Offsets, tasks: Numbers, z: Real) -> None:
    """Write triangular factors of tasks' rows z (c, n, w), of as many rows as there is place for, into ``out``."""
    # Rows of zeros at the end stay zeros, and are no rows of the factor.
    reduced = np.asarray(np.linalg.qr(z, mode="r"))
    slot = np.arange(reduced.shape[1])
    mask = slot < np.diff(starts)[tasks][:, None]
    first, end = starts[tasks[0]], starts[tasks[-1] + 1]
    if mask.all() and end - first == mask.size:  # tasks side by side, which are copied in one piece
        out[first:end] = reduced.reshape(mask.size, -1)
    else:
        out[(starts[:-1][tasks][:, None] + slot)[mask]] = reduced[mask]
