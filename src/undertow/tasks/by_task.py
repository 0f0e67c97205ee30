"""What rows sorted by task have in common: where tasks stand, how some are taken, in which order rows are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from undertow._check import InputError
from undertow._types import Counts, Ids, Offsets, RowNumbers
from undertow.tasks import drawing

Rows = TypeVar("Rows", bound="ByTask")


class ByTask:
    """Rows of m tasks: task number i has the rows ``offsets[i] : offsets[i + 1]``. A base of frozen records."""

    offsets: Offsets
    ids: Ids
    rows: RowNumbers
    in_order: bool
    """whether rows of a task stand in their order in time, so that the first ones, not random ones, are support rows"""

    per_row: ClassVar[tuple[str, ...]]
    """fields with one entry for each row; None is allowed"""

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return len(self.ids)

    @property
    def counts(self) -> Counts:
        """(m,) number of rows of each task."""
        return np.diff(self.offsets)

    def select(self: Rows, tasks: Any) -> Rows:
        """Return the rows of the given tasks: distinct task numbers, a slice or a boolean array over tasks.

        Tasks stay in the order that they have here, whatever the order of the numbers; rows keep their original
        numbers.

        Raises
        ------
        InputError
            for a number out of range or twice there, or where no task is left.
        """
        try:
            numbers = np.arange(self.n_tasks)[tasks]
        except IndexError as error:
            rule = f"tasks: {error}. There are {self.n_tasks} tasks, numbered from 0."
            raise InputError(None, rule=rule) from None
        chosen = np.bincount(np.atleast_1d(numbers), minlength=self.n_tasks)
        if not chosen.any():
            raise InputError(None, rule="no task is selected: there must be at least one.")
        if chosen.max() > 1:
            raise InputError(
                None,
                rule=f"tasks holds {int(chosen.argmax())} {chosen.max()} times: each task can be there once.",
                way_out="Draw a batch, and select from that.",
            )
        chosen = chosen.astype(bool)
        if chosen.all():
            return self
        counts = self.counts[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        kept = np.arange(int(offsets[-1])) + np.repeat(self.offsets[:-1][chosen] - offsets[:-1], counts)
        values = {name: getattr(self, name) for name in self.per_row}
        changed: Any = {name: None if value is None else value[kept] for name, value in values.items()}
        return replace(self, offsets=offsets, ids=self.ids[chosen], **changed)  # type: ignore[type-var]

    def large_enough(self: Rows, n_support: int, on_small: str) -> Rows:
        """Return the tasks with more than ``n_support`` rows; smaller ones are left out, or raise InputError."""
        return self.select(drawing.large_enough(self.counts, self.ids, n_support, on_small))

    def random_order(self, seed: Any) -> RowNumbers:
        """Return (R,) positions, task after task, in random order within each; see ``drawing.random_order``.

        Rows that stand in their order stay in it.
        """
        if self.in_order:
            return np.arange(len(self.rows))
        return drawing.random_order(seed, self.rows, self.counts)


def sort_by_task(codes: RowNumbers, n_tasks: int = 0) -> tuple[RowNumbers, Offsets]:
    """Return the order (R,) that sorts rows by task, and the offsets (m + 1,) of all tasks, ``n_tasks`` at least."""
    return np.argsort(codes, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=n_tasks))])
