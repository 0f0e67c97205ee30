"""GroupedTable: rows of many tasks as plain arrays, sorted by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow._types import Features, Ids, Numbers, Offsets, PerRow, RowIds, RowNumbers
from undertow.tasks import drawing
from undertow.tasks.by_task import ByTask, sort_by_task
from undertow.tasks.columns import refuse_merged
from undertow.tasks.encoding import Encoding
from undertow.tasks.formula import Formula
from undertow.tasks.standard import Standard


@dataclass(frozen=True, eq=False)
class GroupedTable(ByTask):
    """Rows of m tasks, sorted by task; within a task in the order of the original table.

    Letters: R rows in all, m tasks, p features. Task number i has the rows ``offsets[i] : offsets[i + 1]``.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> shop, price = np.repeat(np.arange(20), 10), rng.standard_normal(200)
    >>> sold = price + rng.standard_normal(20)[shop] + 0.5 * rng.standard_normal(200)
    >>> table = ut.tasks.GroupedTable.from_arrays(price[:, None], sold, shop, feature_names=["price"], task="shop")
    >>> table
    GroupedTable(20 tasks (shop) of 10 to 10 rows, 200 rows, 1 features, target target)
    >>> table.draw(n_support=4, seed=0).query_x.shape
    (20, 6, 1)
    """

    x: Features
    """(R, p) features, each in its own unit until standardised"""
    y: PerRow
    """(R,) target"""
    offsets: Offsets
    """(m + 1,) where each task starts; the last is R"""
    ids: Ids
    """(m,) what the tasks are called, sorted"""
    feature_names: tuple[str, ...]
    """(p,) names of the columns of x"""
    task: str
    """name of the task column"""
    target: str
    """name of the target column"""
    rows: RowNumbers
    """(R,) number of each row in the original table, counted from 0"""
    n_left_out: int = 0
    """how many tasks read_table left out since they have too few rows"""
    notes: tuple[str, ...] = ()
    """what read_table did to the table, in sentences"""
    in_order: bool = False
    """whether the first rows of a task are its support rows, and not random ones: rows stand in their order in time"""
    encoding: Encoding | None = None
    """how read_table made the features, to make them of another table"""
    task_columns: tuple[str, ...] = ()
    """columns whose labels make the tasks' ids, where there are several"""
    weights: PerRow | None = None
    """(R,) weight of each row, above 0; None where all are 1"""
    weights_are: str = "frequency"
    """what weights are, see ``Reading`` """
    weights_from: str | None = None
    """name of the column of weights"""
    target_kind: str = "number"
    """what the target is: "number", "two-valued" or "count" """
    classes: tuple[str, ...] = ()
    """labels of the target that are 0 and 1; none unless it has two values"""

    levels: RowIds | None = None
    """(R,) level of each row in a second grouping; None where there is none"""
    levels_from: tuple[str, ...] = ()
    """names of the columns of these"""
    moments: PerRow | None = None
    """(R,) numbers by which tasks came one after the other, a task's being its least; None where nothing is known"""
    formula: Formula | None = None
    """what it was read by; its ``structure`` is that of the tasks' weights, for ``undertow.mixed.MixedRule`` """

    per_row = ("x", "y", "rows", "weights", "levels", "moments")

    def __post_init__(self) -> None:
        for name in ("x", "y", "offsets", "ids", "rows"):
            # A view, so that the caller's own array stays writeable.
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        groups: Any,
        *,
        feature_names: Sequence[str] | None = None,
        task: str = "task",
        target: str = "target",
    ) -> GroupedTable:
        """Return the table of (R, p) features, (R,) targets and the (R,) ids of the tasks that the rows
        belong to.

        Parameters
        ----------
        feature_names
            (p,) names; None for x0, x1, and so on.

        Raises
        ------
        InputError
            for shapes that do not fit, for values that are not finite, and for ids that cannot be sorted.
        """
        x, y, groups = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), np.asarray(groups)
        if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1] or groups.shape != x.shape[:1]:
            shapes = f"x has shape {x.shape}, y {y.shape}, groups {groups.shape}"
            raise InputError(None, rule=f"{shapes}: they must be (R, p), (R,) and (R,), none empty.")
        _check.finite(x, "x")
        _check.finite(y, "y")
        names = tuple(f"x{j}" for j in range(x.shape[1])) if feature_names is None else tuple(feature_names)
        if len(names) != x.shape[1] or len(set(names)) < len(names):
            rule = f"it must hold {x.shape[1]} distinct names, one for each feature."
            raise InputError("feature_names", list(names), rule)
        refuse_merged(groups, "groups")
        try:
            ids, codes = np.unique(groups, return_inverse=True)
        except TypeError:
            rule = "groups mixes kinds of ids that cannot be sorted."
            raise InputError(None, rule=rule, way_out="Make them all text or all numbers.") from None
        return cls.from_codes(x, y, codes, ids, names, task, target)

    @classmethod
    def from_codes(
        cls,
        x: Features,
        y: PerRow,
        codes: RowNumbers,
        ids: Ids,
        feature_names: tuple[str, ...],
        task: str,
        target: str,
    ) -> GroupedTable:
        """Return the table of checked rows whose tasks are numbered: row r belongs to task ``ids[codes[r]]``."""
        order, offsets = sort_by_task(codes, len(ids))
        return cls(
            x=x[order],
            y=y[order],
            offsets=offsets,
            ids=ids,
            feature_names=feature_names,
            task=task,
            target=target,
            rows=order,
        )

    @property
    def n_rows(self) -> int:
        """Number of rows, R."""
        return len(self.y)

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return self.x.shape[1]

    @property
    def copies(self) -> PerRow | None:
        """(R,) how many rows each row stands for; None where each is one. A precision says nothing of that."""
        return None if self.weights_are == "precision" else self.weights

    @property
    def task_noun(self) -> str:
        """What an id is called after: the task column; nothing where ids of several columns name these."""
        return "" if self.task_columns else self.task

    @property
    def groups(self) -> RowIds:
        """(R,) id of the task of each row, as scikit-learn's ``groups``."""
        return np.repeat(self.ids, self.counts)

    def __repr__(self) -> str:
        low, high = (int(self.counts.min()), int(self.counts.max())) if self.n_tasks else (0, 0)
        return (
            f"GroupedTable({self.n_tasks} tasks ({self.task}) of {low} to {high} rows, {self.n_rows} rows, "
            f"{self.n_features} features, target {self.target})"
        )

    def with_intercept(self) -> GroupedTable:
        """Return the table with a last feature "intercept" that is 1 in every row.

        Raises
        ------
        InputError
            where a feature of that name is there already.
        """
        if "intercept" in self.feature_names:
            rule = "the table has a feature 'intercept' already."
            raise InputError(None, rule=rule, way_out="Rename it, or leave the call out.")
        x = np.concatenate([self.x, np.ones((self.n_rows, 1))], axis=1)
        return replace(self, x=x, feature_names=(*self.feature_names, "intercept"))

    def standardized(self, clip: float | None = None, *, target: bool = False) -> tuple[GroupedTable, Standard]:
        """Return the table with features centred and scaled to deviation 1, and the numbers used.

        A column of two values is scaled further where the larger one would be above 4 (see ``Standard``).

        Parameters
        ----------
        clip
            largest absolute value, in standard deviations; ``standard.clipped(table.x)`` says how many values it
            touches. None or infinity for no limit.
        target
            also centre and scale the target (it is never clipped).

        Raises
        ------
        InputError
            for another limit, and where there is an intercept already.

        Notes
        -----
        A constant feature becomes 0, so the intercept comes last (``with_intercept``). Use
        ``other.standardized_as(standard)`` for test tasks, so that they are measured in the unit of the training tasks.
        """
        if clip is not None and clip != np.inf and _check.real(clip, "clip") <= 0:
            raise InputError(
                "clip", clip, "it must be greater than 0.", ("Use ", Setting("clip", np.inf), " for no limit.")
            )
        y = self.y[:, None]
        standard = Standard.fit(self.x, y, self.copies, features=True, targets=target, intercept=True, clip=clip)
        plain = replace(standard, intercept=False, feature_names=self.feature_names)
        if not target:
            plain = replace(plain, target_centre=np.zeros(1))
        return self.standardized_as(plain), plain

    def standardized_as(self, standard: Standard) -> GroupedTable:
        """Return the table with the same features, measured by the numbers of another table.

        Raises
        ------
        InputError
            where the features are not those of ``standard``, or one is an intercept.
        """
        if self.feature_names != standard.feature_names:
            raise InputError(
                None,
                rule=f"the table has features {list(self.feature_names)}, and the one that gave the numbers has "
                f"{list(standard.feature_names)}: they must be the same, in the same order.",
                way_out=("Read both tables with the same ", Setting("features"), "."),
            )
        if "intercept" in self.feature_names:
            raise InputError(
                None, rule="an intercept would become 0.", way_out="Standardise first, then call with_intercept()."
            )
        return replace(self, x=standard.features(self.x), y=standard.targets(self.y[:, None])[:, 0])

    def draw(
        self,
        n_support: int,
        seed: Any = 0,
        n_query: int | None = None,
        *,
        dtype: Any = np.float64,
        on_small: str = "raise",
    ) -> TaskBatch:
        """Return a batch: ``n_support`` random support rows of each task, and its other rows as query rows.

        Parameters
        ----------
        n_support
            n_t, support rows of every task.
        seed
            a whole number, a SeedSequence, or a Generator (which then advances).
        n_query
            at most this many random query rows for each task; None for all that are left.
        dtype
            float64 or float32.
        on_small
            a task needs n_support + 1 rows; "raise" names those that have fewer, "drop" leaves them out.

        Returns
        -------
        TaskBatch
            support_x (m, n_support, p), query_x (m, longest, p) and so on, with ``ids``. Shorter tasks are padded
            with zeros and ``query_mask`` says which rows are real; it is None where all are.

        Raises
        ------
        InputError
            also where one batch would be huge and nearly all padding: see draw_buckets.

        Notes
        -----
        The draw of a task depends on the seed and on the original numbers of its rows, and on nothing else: not on the
        other tasks that are there, nor on n_query or dtype. Support rows of a smaller n_support are the first of a
        larger one.
        """
        kind = drawing.float_type(dtype, self.x, self.y)
        draw = self._draw(n_support, seed, n_query, on_small)
        drawing.refuse_padding(draw.n_queries, self.n_features, kind)
        return self._gather(draw, np.arange(len(draw.tasks)), kind)

    def draw_buckets(
        self,
        n_support: int,
        seed: Any = 0,
        n_query: int | None = None,
        *,
        dtype: Any = np.float64,
        on_small: str = "raise",
    ) -> list[TaskBatch]:
        """Return the draw of ``draw`` in batches of tasks of like length: padding at most doubles memory.

        A batch holds the tasks with 2^k to 2^(k+1) - 1 query rows; the batches come in order of length, tasks
        in their order, and ``ids`` says which they are. For the same seed every task has the same rows as in
        ``draw``.
        """
        kind = drawing.float_type(dtype, self.x, self.y)
        draw = self._draw(n_support, seed, n_query, on_small)
        return [self._gather(draw, tasks, kind) for tasks in drawing.buckets(draw.n_queries)]

    def _draw(self, n_support: int, seed: Any, n_query: int | None, on_small: str) -> drawing.Draw:
        n_support = _check.whole_number(n_support, "n_support")
        most = None if n_query is None else _check.whole_number(n_query, "n_query")
        if self.weights is not None:
            rule = "a batch of rows has no place for the weights of this table."
            raise InputError(None, rule=rule, way_out="Use an estimator, or read the table without weights.")
        tasks = drawing.large_enough(self.counts, self.ids, n_support, on_small)
        left = self.counts[tasks] - n_support
        return drawing.Draw(tasks, self.random_order(seed), n_support, left if most is None else np.minimum(left, most))

    def _gather(self, draw: drawing.Draw, chosen: Numbers, dtype: np.dtype) -> TaskBatch:
        """The batch of some of the tasks that take part, padded with zeros."""
        tasks = draw.tasks[chosen]
        support, query, mask = drawing.positions(
            draw.order, self.offsets[tasks], draw.n_support, draw.n_queries[chosen]
        )
        query_x, query_y = self.x[query].astype(dtype, copy=False), self.y[query].astype(dtype, copy=False)
        ragged = not mask.all()
        if ragged:
            query_x[~mask] = 0
            query_y[~mask] = 0
        support_x, support_y = self.x[support].astype(dtype, copy=False), self.y[support].astype(dtype, copy=False)
        return TaskBatch(
            support_x, support_y, query_x, query_y, query_mask=mask if ragged else None, ids=self.ids[tasks]
        )
