"""One cell of a comparison: one rival on one outer fold of one repeat. It fits, adapts to held-out tasks, measures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.comparison.registry import BY_NAME
from undertow.comparison.rivals import Model, NoFit, TooSlow, Training
from undertow.comparison.second import without_levels
from undertow.estimators.forward import blocks_of
from undertow.tasks import GroupedTable, Standard, folds

BY_TIME = -1
"""In place of a repeat's number: folds are blocks of the last third of the tasks, and fits are to those before."""

# A fit that can stop early does so a little before the process is ended from outside.
_EARLY = 0.9
# Tasks before a block that rivals can be fitted to.
_EARLIER = 3


class Plan(NamedTuple):
    """What all fits of a comparison share, besides the table.

    Examples
    --------
    >>> from undertow.comparison import Plan
    >>> Plan(n_support=4, n_folds=3).n_draws
    5
    """

    n_support: int = 5
    """rows that a held-out task brings"""
    n_folds: int = 5
    """folds of tasks"""
    n_draws: int = 5
    """random draws of support rows of each held-out task"""
    clip: float | None = None
    """largest standardised value of a feature; None for no limit"""
    seed: int = 0
    """of folds and draws"""
    weighting: str = "tasks"
    """what counts once in mean losses, and where rivals are tuned: each of the "tasks", or of their query "rows" """
    floor: float | None = None
    """what no prediction is below, such as 0 for counts; None for no limit"""
    random_slopes: tuple[int, ...] | None = None
    """numbers of the features that tasks differ in by the mixed models of "default"; None for all"""


@dataclass(frozen=True)
class Cell:
    """Result of one rival on one fold."""

    repeat: int
    fold: int
    rival: str
    losses: tuple[float, ...] = ()
    """mean squared error of each task of the fold, in units of the table's target variance, mean over draws"""
    fit_seconds: float = 0.0
    adapt_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    left_out: str = ""
    """why there are no losses; empty where there are"""
    lasting: bool = True
    """whether the same would come again; a process may end for reasons of its own"""


def parts_of(table: GroupedTable, plan: Plan, repeat: int) -> list[np.ndarray]:
    """Task numbers of each outer fold. The first repeat has the folds of ``undertow fit`` at this seed."""
    if repeat == BY_TIME:
        return [np.flatnonzero(late) for _, late in later_blocks(table, plan)]
    return folds(table.ids, plan.n_folds, _seed(plan, repeat))


def later_blocks(table: GroupedTable, plan: Plan) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (earlier, later) tasks, (m,) flags each, of each block of the last third; none where there is no order."""
    if table.moments is None:
        return []
    first = np.minimum.reduceat(table.moments, table.offsets[:-1])
    blocks = [one for one in blocks_of(first, plan.n_folds) if one[0].sum() >= _EARLIER]
    if not blocks:
        rule = f"no last third of the {table.n_tasks} tasks has {_EARLIER} or more strictly before it."
        raise InputError("task_order", "...", rule, "Leave it out.")
    return blocks


def held_out_draws(test: GroupedTable, plan: Plan, repeat: int) -> Iterator[list[TaskBatch]]:
    """Draws of support and query rows of held-out tasks: the same for all rivals."""
    for k in range(plan.n_draws):
        yield test.draw_buckets(plan.n_support, _seed(plan, repeat, k))


def _seed(plan: Plan, repeat: int, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(plan.seed, spawn_key=(*((1 << 16, repeat) if repeat > 0 else ()), *key))


def training_of(
    table: GroupedTable, plan: Plan, repeat: int, fold: int, deadline: float | None = None
) -> tuple[Training, GroupedTable, np.ndarray]:
    """The training tasks of a fold, its held-out tasks in raw units, and their numbers.

    What levels of a second grouping add is off all targets, see ``second``.
    """
    part = parts_of(table, plan, repeat)[fold]
    kept = np.ones(table.n_tasks, dtype=bool)
    kept[part] = False
    if repeat == BY_TIME:
        kept = later_blocks(table, plan)[fold][0]
    table = without_levels(table, kept, plan.seed)
    raw = table.select(kept)
    standard = Standard.fit(
        raw.x, raw.y[:, None], raw.copies, features=True, targets=True, intercept=True, clip=plan.clip
    )
    # The constant is added where rows are made.
    standard = replace(standard, intercept=False)
    settings = plan.n_support, plan.seed, deadline, plan.weighting, plan.random_slopes
    training = Training(raw, standard, *settings)
    return training, table.select(part), part


def target_variance(table: GroupedTable) -> float:
    """Variance of the target, each row counting as often as it stands for one."""
    return float(np.average((table.y - np.average(table.y, weights=table.copies)) ** 2, weights=table.copies))


def task_losses(model: Model, test: GroupedTable, plan: Plan, repeat: int, unit: float) -> np.ndarray:
    """Mean squared error of each held-out task (m,), mean over its query rows and draws, divided by ``unit``.

    Rows of a weighted table count by their weights.
    """
    total, weights = np.zeros(test.n_tasks), test.weights
    if weights is not None:
        # Weights travel with the rows as a last feature.
        test = replace(test, x=np.column_stack([test.x, weights]), weights=None)
    for draw in held_out_draws(test, plan, repeat):
        for batch in draw:
            support, query, by, of_rows = batch.support_x, batch.query_x, np.ones(batch.query_y.shape), None
            if weights is not None:  # a rival that takes none is left out
                support, query, by, of_rows = support[..., :-1], query[..., :-1], query[..., -1], support[..., -1]
            found = model.predict(support, batch.support_y, query, of_rows)
            if batch.query_mask is not None:
                by = np.where(batch.query_mask, by, 0.0)
            if plan.floor is not None:
                found = np.maximum(found, plan.floor)
            error = by * (found - batch.query_y) ** 2
            # Ids are sorted, in the table and so in each batch.
            total[np.searchsorted(test.ids, batch.ids)] += error.sum(axis=1) / by.sum(axis=1)
    return total / (plan.n_draws * unit)


def run_cell(table: GroupedTable, plan: Plan, repeat: int, fold: int, rival: str, limit: float | None = None) -> Cell:
    """Fit a rival without a fold's tasks and measure it on them. A fit that fails is a cell that says why."""
    BY_NAME[rival].prepare()
    start = time.monotonic()
    deadline = None if limit is None else start + _EARLY * limit
    training, test, _ = training_of(table, plan, repeat, fold, deadline)
    with warnings.catch_warnings(record=True) as said, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        begun = time.perf_counter()
        try:
            fitted = BY_NAME[rival].fit(training)
            fit_seconds = time.perf_counter() - begun
            begun = time.perf_counter()
            losses = task_losses(fitted.model, test, plan, repeat, target_variance(table))
            adapt_seconds = time.perf_counter() - begun
        except TooSlow:
            return Cell(repeat, fold, rival, left_out=too_slow(limit, repeat, fold))
        except (NoFit, InputError, np.linalg.LinAlgError, ArithmeticError) as error:
            return Cell(repeat, fold, rival, left_out=f"left out: {error} ({_place(repeat, fold)})")
    if not np.isfinite(losses).all():
        return Cell(repeat, fold, rival, left_out=f"left out: its predictions are not finite ({_place(repeat, fold)})")
    return Cell(
        repeat,
        fold,
        rival,
        tuple(losses.tolist()),
        fit_seconds,
        adapt_seconds,
        (*fitted.notes, *dict.fromkeys(_short(one) for one in said)),
    )


def _short(said: Any) -> str:
    """The first sentence of a warning."""
    return str(said.message).split(". ")[0].split("\n")[0][:100].rstrip(".")


def too_slow(limit: float | None, repeat: int, fold: int) -> str:
    """Why a rival has no losses when its time was up."""
    return f"left out: a fit took longer than {limit:g} s ({_place(repeat, fold)})"


def _place(repeat: int, fold: int) -> str:
    return f"repeat {repeat + 1}, fold {fold + 1}"
