"""Outer cross-validation over tasks: each rival tuned and fitted on training tasks, measured on held-out ones."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow._memory import require, table_bytes
from undertow.comparison.cell import BY_TIME, Cell, Plan, later_blocks, parts_of, run_cell, target_variance
from undertow.comparison.kept import KeptCells
from undertow.comparison.record import Comparison
from undertow.comparison.registry import chosen
from undertow.comparison.rivals import Rival
from undertow.comparison.worker import Worker
from undertow.estimators.row_weights import with_unit
from undertow.tasks import GroupedTable
from undertow.tasks.losses import WEIGHTINGS, weights_of

# Memory that a comparison takes beside its table, over the size of that, at least; measured by benchmarks/load.py.
_TO_COMPARE = 1.5
# One to hold out, and two to learn from in what they differ.
_LEAST_TASKS = 3
_NO_WEIGHTS = "left out: it takes no weights of rows"
_NO_LEVELS = "left out: it has no second random intercept"


def compare(
    table: GroupedTable,
    plan: Plan = Plan(),  # noqa: B008 (a value)
    *,
    n_repeats: int = 1,
    rivals: Sequence[str] | None = None,
    level: float = 0.95,
    time_limit: float | None = 120.0,
    cells: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare ways to predict new tasks on a grouped table, by cross-validation over tasks.

    Folds hold tasks out. On the other tasks each rival is standardised, tuned and fitted; each held-out task then gives
    it ``plan.n_support`` rows and is measured on its other rows, the same rows for all rivals.

    Parameters
    ----------
    table
        raw features and target, without an intercept; every task with more rows than that. Its weights are
        those of errors too, and rivals that take none are left out. With ``moments`` later tasks are also predicted
        by fits to earlier ones alone. What ``levels`` add is predicted from training tasks and taken off for all.
    plan
        support rows, folds, draws, limit of standardised values, seed and weighting.
    n_repeats
        times that folds are drawn anew.
    rivals
        names, see ``RIVALS``; None for all that are for targets of the table's kind.
    level
        of the intervals.
    time_limit
        seconds that a rival may take for a fold; one that takes longer is left out. Rivals then run in a second
        process; with None they run in this one, without a limit.
    cells
        file in which finished fits are kept; those of the same data and settings are read from it and not repeated.
    progress
        called with (done, total) fits.

    Returns
    -------
    Comparison
        each task's mean squared error under each rival, over the variance of the target; intervals, verdict.

    Raises
    ------
    InputError
        for a table with too few tasks or rows, and for settings that cannot be used. A rival that cannot be fitted
        raises nothing: its note says why.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> plan = ut.comparison.Plan(n_folds=3, n_draws=1)
    >>> found = ut.comparison.compare(table, plan, rivals=["pooled", "alone"], time_limit=None)
    >>> found.ranking()
    ['alone', 'pooled']
    """
    plan = checked(plan, n_repeats, level, time_limit)
    check_table(table, plan)
    what = f"a table of {table.n_rows:,} rows of {table.n_features} features is too large here: a comparison"
    require(_TO_COMPARE * table_bytes(table.n_rows, table.n_features), what, "Compare on some of its tasks.")
    asked = chosen(rivals, table.target_kind)
    unfit = {
        rival.name: why for rival in asked if (why := rival.unfit(table.n_features) or rival.unfit_target(table.y))
    }
    if table.weights is not None:
        unfit = {rival.name: _NO_WEIGHTS for rival in asked if not rival.weighted} | unfit
        weights, _ = with_unit(table.weights, table.weights_are, table.n_tasks)
        table = replace(table, weights=weights)
    if table.levels is not None:
        unfit = {rival.name: _NO_LEVELS for rival in asked if rival.target} | unfit
        table = replace(table, levels=np.unique(table.levels, return_inverse=True)[1])
    running = [rival.name for rival in asked if rival.name not in unfit]
    kept = None if cells is None else KeptCells(Path(cells), table, plan, time_limit)
    done: list[Cell] = []
    places = [(repeat, fold) for repeat in range(n_repeats) for fold in range(plan.n_folds)]
    places += [(BY_TIME, block) for block in range(len(later_blocks(table, plan)))]
    total = len(places) * len(running)
    if progress is not None:
        progress(0, total)
    with contextlib.ExitStack() as stack:
        worker = None if time_limit is None else stack.enter_context(Worker(table, plan, time_limit, running))

        def run(repeat: int, fold: int, name: str) -> Cell:
            cell = None if kept is None else kept.get(repeat, fold, name)
            if cell is None:
                run = worker.run if worker is not None else partial(run_cell, table, plan)
                cell = run(repeat, fold, name)
                if kept is not None and cell.lasting:
                    kept.add(cell)
            return cell

        for i in range(total):
            number, place = divmod(i, len(running))
            if running[place] not in unfit:
                done.append(run(*places[number], running[place]))
                if done[-1].left_out:
                    unfit[running[place]] = done[-1].left_out
            if progress is not None:
                progress(i + 1, total)
    settings = plan._asdict() | {
        "n_repeats": int(n_repeats),
        "level": float(level),
        "time_limit": time_limit,
        "target_variance": target_variance(table),
    }
    return _gathered(table, plan, asked, unfit, done, settings)


def checked(plan: Plan, n_repeats: int = 1, level: float = 0.95, time_limit: float | None = None) -> Plan:
    """Return a plan whose values, and those of the other arguments of ``compare``, can be used; else raise InputError.

    Needs no table: a command calls it before it reads one.
    """
    _check.whole_number(n_repeats, "n_repeats")
    if not 0 < _check.real(level, "level") < 1:
        raise InputError("level", level, "it must lie between 0 and 1.", "Use 0.95 for 95 %.")
    if time_limit is not None:
        _positive(time_limit, "time_limit")
    slopes = plan.random_slopes
    if slopes is not None:
        slopes = tuple(_check.whole_number(one, "random_slopes", minimum=0) for one in slopes)
    return Plan(
        _check.whole_number(plan.n_support, "n_support"),
        _check.whole_number(plan.n_folds, "n_folds", minimum=2),
        _check.whole_number(plan.n_draws, "n_draws"),
        None if plan.clip is None else _positive(plan.clip, "clip"),
        _check.whole_number(plan.seed, "seed", minimum=0),
        _check.one_of(plan.weighting, "weighting", WEIGHTINGS),
        None if plan.floor is None else _check.real(plan.floor, "floor"),
        slopes,
    )


def _positive(value: Any, name: str) -> float:
    """Return a limit that is a number above 0."""
    number = _check.real(value, name)
    if number <= 0:
        raise InputError(name, value, "it must be greater than 0.", ("Use ", Setting(name, "None"), " for no limit."))
    return number


def check_table(table: GroupedTable, plan: Plan) -> None:
    """Raise InputError where no rivals can be compared on a table by this plan."""
    if not isinstance(table, GroupedTable):
        way_out = "Make one with undertow.tasks.read_table."
        raise InputError("table", type(table).__name__, "it must be a GroupedTable.", way_out)
    few = table.counts <= plan.n_support
    if few.any():
        rule = (
            f"{int(few.sum())} of {table.n_tasks} tasks have no row left to be measured on, first {table.ids[few][0]}."
        )
        raise InputError("n_support", plan.n_support, rule, "Use fewer support rows, or table.select the others.")
    if table.levels is not None and plan.floor is not None:
        raise InputError("floor", plan.floor, "it is not offered beside a second grouping.", "Leave one of them out.")
    if not np.ptp(table.y) > 0:
        rule = f"The target {table.target} has one value only, {table.y[0]:g}: there is nothing to predict."
        raise InputError(None, rule=rule)
    if "intercept" in table.feature_names:
        rule = "The table has a feature 'intercept' already: every rival has its own."
        raise InputError(None, rule=rule, way_out="Leave the column out.")
    m = table.n_tasks
    if m < _LEAST_TASKS:
        rule = f"The table has {m} {'task' if m == 1 else 'tasks'} ({table.task}) with enough rows, and a comparison "
        rule += f"needs {_LEAST_TASKS}."
        raise InputError(None, rule=rule, way_out="Use a table of more tasks, or fewer support rows.")
    parts_of(table, plan, 0)  # raises where there are more folds than tasks
    if m - math.ceil(m / plan.n_folds) < 2:
        rule = f"a fold of {math.ceil(m / plan.n_folds)} of {m} tasks leaves fewer than two to train on."
        raise InputError("n_folds", plan.n_folds, rule, ("Use ", Setting("n_folds", m), "."))


def _gathered(
    table: GroupedTable,
    plan: Plan,
    asked: list[Rival],
    unfit: dict[str, str],
    done: list[Cell],
    settings: dict[str, Any],
) -> Comparison:
    n_repeats = settings["n_repeats"]
    m, c, rows = table.n_tasks, len(asked), (table.counts - plan.n_support).astype(float)
    column = {rival.name: i for i, rival in enumerate(asked)}
    losses = np.full((n_repeats, m, c), np.nan)
    of_folds = np.full((n_repeats * plan.n_folds, c), np.nan)
    seconds = np.full((2, n_repeats * plan.n_folds, c), np.nan)
    notes: dict[str, Counter[str]] = {rival.name: Counter() for rival in asked}
    parts = {repeat: parts_of(table, plan, repeat) for repeat in (BY_TIME, *range(n_repeats))}
    later = None if table.moments is None else np.full((m, c), np.nan)
    for cell in done:
        if cell.rival in unfit:
            continue
        part, i = parts[cell.repeat][cell.fold], column[cell.rival]
        if later is not None and cell.repeat == BY_TIME:
            later[part, i] = cell.losses
            continue
        number = cell.repeat * plan.n_folds + cell.fold
        losses[cell.repeat, part, i] = cell.losses
        weights = weights_of(rows[part], plan.weighting)
        of_folds[number, i] = weights @ np.array(cell.losses) / weights.sum()
        seconds[:, number, i] = cell.fit_seconds, cell.adapt_seconds
        notes[cell.rival].update(cell.notes)
    if len(unfit) == c:
        reasons = "; ".join(f"{name}, {why}" for name, why in unfit.items())
        raise InputError(None, rule=f"No rival could be measured: {reasons}.")
    fits = n_repeats * plan.n_folds
    return Comparison(
        names=tuple(rival.name for rival in asked),
        labels=tuple(rival.label for rival in asked),
        task_ids=table.ids,
        task_rows=rows,
        task_losses=losses.mean(axis=0),
        fold_losses=of_folds,
        fit_seconds=seconds[0].mean(axis=0),
        adapt_seconds=seconds[1].mean(axis=0),
        notes={name: unfit.get(name) or _counted(said, fits) for name, said in notes.items()},
        settings=settings,
        later_losses=later,
    )


def _counted(said: Counter[str], fits: int) -> str:
    return ", ".join(text if n == fits else f"{text} ({n} of {fits} fits)" for text, n in said.most_common())
