"""Whether the common relation bends: a search with a curve beside the straight one, where held-out tasks say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from undertow._check import InputError, Setting
from undertow.choice.plan import fold_of_each, parts_of
from undertow.choice.search import Settings
from undertow.estimators.curves import Around, column_of_trees, promise, splines, trees
from undertow.estimators.training import Search, Trained, searched
from undertow.tasks.curve import Curve
from undertow.tasks.losses import NEGLIGIBLE, TaskLosses, mean_over_tasks
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard

EFFORTS = ("fast", "default", "thorough")
"""Straight lines only; a curve where a quick look promises something; every curve."""
STRAIGHT = "straight"
# A second search is worth its time where a quick look promises so many standard errors.
_PROMISE = 2.0


def with_curve(effort: str, everything: TaskRows, large: TaskRows, trained: Trained, settings: Settings) -> Trained:
    """Return what training leaves behind, of straight lines or with a curve. trained: the straight search.

    everything: all tasks; large: those that are searched on. Raises InputError for effort="thorough" where no curve can
    be fitted.
    """
    if effort == "fast":
        return trained
    if why := _unfit(everything, settings):
        if effort == "thorough":
            raise InputError("effort", "thorough", why, ("Use ", Setting("effort", "fast"), "."))
        return trained
    assert trained.model.uncertainty is not None
    of_task = fold_of_each(everything, large, parts_of(settings.cv, large, settings.seed))
    around = Around.of(everything, of_task, trained.model.uncertainty)
    tried = {STRAIGHT: trained}
    for kind, (curve, column) in _curves(around, settings, effort == "thorough").items():
        tried[kind] = _searched(everything, settings, curve, column)
    return _best(tried, everything.ids, of_task)


def _unfit(rows: TaskRows, settings: Settings) -> str:
    """Why no curve can be fitted; empty where it can."""
    limits, standard = settings.limits, rows.standard
    if not standard.intercept:
        return "a curve needs fit_intercept=True."
    if rows.n_columns > limits.curve_columns:
        return f"{rows.n_columns} columns: curves are fitted beside {limits.curve_columns} at most."
    if (numbers := len(rows.y) * rows.n_columns) > limits.curve_numbers:
        return f"{numbers} numbers (rows times columns): curves are fitted to {limits.curve_numbers:g} at most."
    return ""


def _curves(around: Around, settings: Settings, every: bool) -> dict[str, tuple[Curve, np.ndarray]]:
    """Curves that are worth a search, with their columns of folds; all of them with ``every``."""
    found: dict[str, tuple[Curve | None, np.ndarray]] = {}
    gains = {}
    if (bent := splines(around)) is not None:
        found["splines"], gains["splines"] = bent, promise(around, bent[1], settings.weighting)
    if every or _trees_promise(around, settings):
        column = column_of_trees(around, None, settings.n_jobs)
        found["trees"], gains["trees"] = (None, column), promise(around, column, settings.weighting)
    good = [kind for kind in found if every or _promises(*gains[kind])]
    if len(good) > 1 and not every:
        # Of two that promise alike the one that can be read, column by column.
        alike = gains["trees"][0] > gains["splines"][0] - gains["trees"][1]
        good = ["splines" if alike else "trees"]
    # Trees of all tasks are a sixth of the work, which those that are not used are spared.
    return {kind: (found[kind][0] or trees(around, settings.n_jobs), found[kind][1]) for kind in good}


def _trees_promise(around: Around, settings: Settings) -> bool:
    """Whether a few trees promise something on one fold, and on two together: all trees of all folds cost ten times as
    much, and of two folds both are by chance less often good."""
    column = np.zeros(around.y.shape)
    for fold in range(2):
        column += column_of_trees(around, fold, settings.n_jobs)
        if not _promises(*promise(around, column, settings.weighting, range(fold + 1))):
            return False
    return True


def _promises(gap: float, error: float) -> bool:
    return gap < -max(_PROMISE * error, NEGLIGIBLE / 100)


def _searched(everything: TaskRows, settings: Settings, curve: Curve, column: np.ndarray) -> Trained:
    """The search with a column (R, q) more, made fold by fold; its model makes it by the curve of all tasks."""
    rows = _with_column(everything, column)
    trained = searched(rows, rows.large_enough(settings.n_support, "drop"), settings)
    # Sums of tasks that the curve was fitted to cannot be added to those of others.
    search = replace(_search(trained), recipe=None, sums=None)
    model = replace(trained.model, standard=replace(rows.standard, curve=curve))
    return replace(trained, model=model, search=search, rows=rows)


def _with_column(rows: TaskRows, column: np.ndarray) -> TaskRows:
    """The rows with a column for each target, in units of its deviation."""
    numbers, old = rows.rows if rows.places is None else rows.places, rows.standard
    x = np.zeros((len(rows.x), rows.x.shape[1] + column.shape[1]), rows.x.dtype)
    x[:, : rows.x.shape[1]] = rows.x
    x[numbers, rows.x.shape[1] :] = column
    own = Standard.fit(
        column, rows.y, None if rows.precise else rows.weights, features=True, targets=False, intercept=True, clip=None
    )
    joined = {name: np.append(getattr(old, name), getattr(own, name)) for name in ("centre", "spread", "low", "high")}
    return replace(rows, x=x, standard=replace(old, **joined))


def _best(tried: dict[str, Trained], ids: np.ndarray, folds: np.ndarray) -> Trained:
    """What held-out tasks say: straight lines, unless a curve is better by a standard error and what is negligible.

    The error of the choice is nested: a fold's tasks are predicted by what the others choose.
    """
    losses = {kind: _held_out(one).of(_search(one).strategy) for kind, one in tried.items()}
    held_out = _held_out(tried[STRAIGHT])
    weights, of_task = held_out.weights, folds[np.searchsorted(ids, held_out.task_ids)]
    nested = np.empty(len(weights))
    for fold in np.unique(of_task):
        own = of_task == fold
        nested[own] = losses[_choice({kind: loss[~own] for kind, loss in losses.items()}, weights[~own])][own]
    errors = {kind: float(np.average(loss, weights=weights)) for kind, loss in (*losses.items(), ("chosen", nested))}
    kind = _choice(losses, weights)
    return replace(tried[kind], search=replace(_search(tried[kind]), curve=kind, curve_errors=errors))


def _search(trained: Trained) -> Search:
    assert trained.search is not None
    return trained.search


def _held_out(trained: Trained) -> TaskLosses:
    held_out = _search(trained).held_out
    assert held_out is not None
    return held_out


def _choice(losses: dict[str, np.ndarray], weights: np.ndarray) -> str:
    def better(kind: str) -> bool:
        gap, error = mean_over_tasks(losses[kind] - losses[STRAIGHT], weights)
        return gap < -max(error, NEGLIGIBLE / 100 * float(np.average(losses[STRAIGHT], weights=weights)))

    able = [kind for kind in losses if kind != STRAIGHT and better(kind)]
    return min(able, key=lambda kind: float(weights @ losses[kind]), default=STRAIGHT)
