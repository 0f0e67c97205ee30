"""Outer cross-validation over tasks: each rival tuned and fitted on training tasks, measured on held-out ones."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError
from undertow.comparison.cell import Cell, Plan, parts_of, run_cell
from undertow.comparison.kept import KeptCells
from undertow.comparison.record import Comparison
from undertow.comparison.registry import chosen
from undertow.comparison.rivals import Rival
from undertow.comparison.worker import Worker
from undertow.tasks import GroupedTable

_NO_LIMIT = "Use time_limit=None for no limit."


def compare(
    table: GroupedTable,
    n_support: int = 5,
    *,
    n_folds: int = 5,
    n_draws: int = 5,
    n_repeats: int = 1,
    rivals: Sequence[str] | None = None,
    clip: float | None = 4.0,
    level: float = 0.95,
    seed: int = 0,
    time_limit: float | None = 120.0,
    cells: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare ways to predict new tasks on a grouped table, by cross-validation over tasks.

    Folds hold tasks out. On the other tasks each rival is standardised, tuned and fitted; each held-out task then gives
    it ``n_support`` rows and is measured on its other rows, the same rows for all rivals.

    table: raw features and target, without an intercept; every task with more than ``n_support`` rows.
    n_draws: random draws of support rows of each held-out task. n_repeats: times that folds are drawn anew.
    rivals: names, see ``RIVALS``; None for all. clip: largest standardised value, None for no limit.
    level: of the intervals. time_limit: seconds that a rival may take for a fold; one that takes longer is left out.
        Rivals then run in a second process; with None they run in this one, without a limit.
    cells: file in which finished fits are kept; those of the same data and settings are read from it and not repeated.
    progress: called with (done, total) fits.
    Raises InputError for a table with too few tasks or rows, and for settings that cannot be used. A rival that cannot
    be fitted raises nothing: its note says why.
    """
    plan = Plan(
        _check.positive_int(n_support, "n_support"),
        _check.positive_int(n_folds, "n_folds", minimum=2),
        _check.positive_int(n_draws, "n_draws"),
        None if clip is None else _check.real(clip, "clip", hint="Use None for no limit."),
        _check.positive_int(seed, "seed", minimum=0),
    )
    if plan.clip is not None and plan.clip <= 0:
        raise InputError(f"clip={clip!r}: it must be greater than 0. Use None for no limit.")
    n_repeats = _check.positive_int(n_repeats, "n_repeats")
    if not 0 < _check.real(level, "level") < 1:
        raise InputError(f"level={level!r}: it must lie between 0 and 1.")
    if time_limit is not None and not _check.real(time_limit, "time_limit", hint=_NO_LIMIT) > 0:
        raise InputError(f"time_limit={time_limit!r}: it must be greater than 0. {_NO_LIMIT}")
    asked = chosen(rivals)
    _check_table(table, plan)
    unfit = {rival.name: why for rival in asked if (why := rival.unfit(table.n_features))}
    running = [rival for rival in asked if rival.name not in unfit]
    kept = None if cells is None else KeptCells(Path(cells), table, plan, time_limit)
    total = n_repeats * n_folds * len(running)
    done: list[Cell] = []
    if progress is not None:
        progress(0, total)
    with contextlib.ExitStack() as stack:
        worker = (
            None
            if time_limit is None
            else stack.enter_context(Worker(table, plan, time_limit, [r.name for r in running]))
        )
        for number in range(n_repeats * n_folds):
            repeat, fold = divmod(number, n_folds)
            for rival in running:
                if rival.name not in unfit:
                    cell = None if kept is None else kept.get(repeat, fold, rival.name)
                    if cell is None:
                        cell = (
                            run_cell(table, plan, repeat, fold, rival.name)
                            if worker is None
                            else worker.run(repeat, fold, rival.name)
                        )
                        if kept is not None and cell.lasting:
                            kept.add(cell)
                    if cell.left_out:
                        unfit[rival.name] = cell.left_out
                    done.append(cell)
                if progress is not None:
                    progress(number * len(running) + running.index(rival) + 1, total)
    settings = plan._asdict() | {
        "n_repeats": n_repeats,
        "level": float(level),
        "time_limit": time_limit,
        "target_variance": float(np.var(table.y)),
    }
    return _gathered(table, plan, n_repeats, asked, unfit, done, settings)


def _check_table(table: GroupedTable, plan: Plan) -> None:
    if not isinstance(table, GroupedTable):
        raise InputError(f"table={type(table).__name__}: give a GroupedTable, from undertow.tasks.read_table.")
    few = table.counts <= plan.n_support
    if few.any():
        raise InputError(
            f"n_support={plan.n_support}: {int(few.sum())} of {table.n_tasks} tasks have no row left to be measured "
            f"on, first {table.ids[few][0]}. Use fewer support rows, or table.select the others."
        )
    if not np.ptp(table.y) > 0:
        raise InputError(f"the target {table.target} has one value only, {table.y[0]:g}: there is nothing to predict.")
    if "intercept" in table.feature_names:
        raise InputError("the table has a feature 'intercept' already: every rival has its own. Leave the column out.")
    if table.n_tasks - math.ceil(table.n_tasks / plan.n_folds) < 2:
        raise InputError(
            f"{table.n_tasks} tasks in {plan.n_folds} folds leave fewer than two tasks to train on: use more tasks."
        )
    parts_of(table, plan, 0)  # raises where there are more folds than tasks


def _gathered(
    table: GroupedTable,
    plan: Plan,
    n_repeats: int,
    asked: list[Rival],
    unfit: dict[str, str],
    done: list[Cell],
    settings: dict[str, Any],
) -> Comparison:
    m, c, rows = table.n_tasks, len(asked), (table.counts - plan.n_support).astype(float)
    column = {rival.name: i for i, rival in enumerate(asked)}
    losses = np.full((n_repeats, m, c), np.nan)
    of_folds = np.full((n_repeats * plan.n_folds, c), np.nan)
    seconds = np.full((2, n_repeats * plan.n_folds, c), np.nan)
    notes: dict[str, Counter[str]] = {rival.name: Counter() for rival in asked}
    parts = [parts_of(table, plan, repeat) for repeat in range(n_repeats)]
    for cell in done:
        if cell.rival in unfit:
            continue
        part, i = parts[cell.repeat][cell.fold], column[cell.rival]
        number = cell.repeat * plan.n_folds + cell.fold
        losses[cell.repeat, part, i] = cell.losses
        of_folds[number, i] = rows[part] @ np.array(cell.losses) / rows[part].sum()
        seconds[:, number, i] = cell.fit_seconds, cell.adapt_seconds
        notes[cell.rival].update(cell.notes)
    if len(unfit) == c:
        raise InputError(
            "no rival could be measured: " + "; ".join(f"{name}, {why}" for name, why in unfit.items()) + "."
        )
    fits = n_repeats * plan.n_folds
    return Comparison(
        tuple(rival.name for rival in asked),
        tuple(rival.label for rival in asked),
        table.ids,
        rows,
        losses.mean(axis=0),
        of_folds,
        seconds[0].mean(axis=0),
        seconds[1].mean(axis=0),
        {name: unfit.get(name) or _counted(said, fits) for name, said in notes.items()},
        settings,
    )


def _counted(said: Counter[str], fits: int) -> str:
    return ", ".join(text if n == fits else f"{text} ({n} of {fits} fits)" for text, n in said.most_common())
