"""TaskBatch: a task is four arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from undertow import _check
from undertow._types import Counts


class TaskBatch(NamedTuple):
    """A batch of m tasks, each with support rows (for the inner step) and query rows (for the loss).

    When tasks have different numbers of rows, arrays are padded with zeros to the longest task and the masks say
    which rows are real; every routine here treats padded rows as absent. When they are new tasks, the support rows
    are the adaptation rows and the query rows are the test rows.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((4, 7, 2)), rng.standard_normal((4, 7))
    >>> tasks = ut.TaskBatch(support_x=x[:, :5], support_y=y[:, :5], query_x=x[:, 5:], query_y=y[:, 5:])
    >>> tasks.n_tasks, tasks.n_query_rows, tasks.select([0, 2]).n_tasks
    (4, 8, 2)
    """

    support_x: Any
    """(m, n_t, p) inputs of the support rows"""
    support_y: Any
    """(m, n_t) targets of the support rows"""
    query_x: Any
    """(m, n_v, p) inputs of the query rows"""
    query_y: Any
    """(m, n_v) targets of the query rows"""
    support_mask: Any = None
    """(m, n_t) True where a support row is real; None when all are"""
    query_mask: Any = None
    """(m, n_v) True where a query row is real; None when all are"""
    ids: Any = None
    """(m,) what the tasks are called; None when they have no names"""
    support_weight: Any = None
    """(m,) mean weight of the support rows of each task, which themselves come times the roots of weights that average
    1: a gradient step follows a mean, and a penalty is held against a sum; None when it is 1"""

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return self.support_x.shape[0]

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return self.support_x.shape[-1]

    @property
    def support_counts(self) -> Counts:
        """(m,) number of real support rows of each task."""
        return _counts(self.support_mask, self.support_x)

    @property
    def query_counts(self) -> Counts:
        """(m,) number of real query rows of each task."""
        return _counts(self.query_mask, self.query_x)

    @property
    def n_query_rows(self) -> int:
        """N, the number of real query rows in all tasks together."""
        return int(self.query_counts.sum())

    def select(self, tasks: Any) -> TaskBatch:
        """Return the batch of the given tasks (an index array, a slice or a boolean array over tasks)."""
        return TaskBatch(*(None if field is None else field[tasks] for field in self))

    def validate(self, *, finite: bool = True) -> TaskBatch:
        """Return the batch as arrays (float32 or float64, masks bool), or raise InputError for what does not fit.

        Parameters
        ----------
        finite
            also look at every value, which reads all the data once.
        """
        batch = self._as_arrays()
        m, p = (batch.support_x.shape[0], batch.support_x.shape[-1]) if batch.support_x.ndim == 3 else (0, 0)
        for name in ("support", "query"):
            x, y, mask = (getattr(batch, f"{name}_{part}") for part in ("x", "y", "mask"))
            if x.ndim != 3 or x.shape[0] != m or x.shape[2] != p or p == 0:
                raise _refused(
                    f"{name}_x has shape {x.shape}: it must be (tasks, rows, features), with at least one feature and "
                    "as many tasks and features for query rows as for support rows."
                )
            if y.shape != x.shape[:2]:
                raise _refused(f"{name}_y has shape {y.shape}: with this {name}_x it must be {x.shape[:2]}.")
            if mask is not None and mask.shape != x.shape[:2]:
                raise _refused(f"{name}_mask has shape {mask.shape}: it must be {x.shape[:2]}.")
            counts = getattr(batch, f"{name}_counts")
            if m == 0 or counts.min() == 0:
                which = "the batch holds no task" if m == 0 else f"task number {int(counts.argmin())} has none"
                raise _refused(f"every task needs at least one {name} row: {which}.")
            if finite:
                _check.finite(x if mask is None else np.where(mask[..., None], x, 0), f"{name}_x")
                _check.finite(y if mask is None else np.where(mask, y, 0), f"{name}_y")
        weight = batch.support_weight
        if weight is not None and (np.shape(weight) != (m,) or not (np.asarray(weight) >= 0).all()):
            raise _refused(f"support_weight must hold {m} numbers that are not negative, one for each task.")
        return batch

    def _as_arrays(self) -> TaskBatch:
        """The same batch as floating-point arrays and boolean masks; itself where it holds just that already."""
        changed = {}
        for name in ("support_x", "support_y", "query_x", "query_y"):
            value = getattr(self, name)
            array = np.asarray(value) if not isinstance(value, np.ndarray) else value
            kind = np.dtype(array.dtype)
            if kind not in (np.dtype(np.float64), np.dtype(np.float32)):
                if kind.kind not in "fiub":
                    raise _refused(f"{name} has dtype {kind}: it must hold numbers.")
                small = kind.kind == "f" and kind.itemsize <= 4
                array = array.astype(np.float32 if small else np.float64)
            if array is not value:
                changed[name] = array
        for name in ("support_mask", "query_mask"):
            value = getattr(self, name)
            if value is None or (isinstance(value, np.ndarray) and value.dtype == bool):
                continue
            array = np.asarray(value)
            if not np.isin(array, (0, 1)).all():
                raise _refused(f"{name} holds other values than True and False: it says which rows are real.")
            changed[name] = array.astype(bool)
        return self._replace(**changed) if changed else self


def _refused(rule: str) -> _check.InputError:
    return _check.InputError(None, rule=rule)


def _counts(mask: Any, x: Any) -> Counts:
    if mask is None:
        return np.full(x.shape[0], x.shape[1])
    return np.asarray(mask).sum(axis=1)
