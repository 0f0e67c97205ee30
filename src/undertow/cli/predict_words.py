"""What ``undertow predict`` prints: the model, which tasks it knows, and what became of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import did_you_mean
from undertow.choice.words import short
from undertow.cli.new_table import NewTable
from undertow.cli.output import count
from undertow.cli.saved_model import Columns
from undertow.mixed.families import FAMILIES
from undertow.tasks import labels
from undertow.tasks.source import Source
from undertow.tasks.wording import some, which_rows

# Columns that are named in a line.
_COLUMNS = 4


def about_model(model: Path, estimator: Any, n_features: int) -> list[str]:
    """Return lines on a saved model."""
    strategy = getattr(estimator, "strategy_", "")
    kind = type(estimator).__name__ + (f" ({short(strategy)})" if strategy else "")
    if (link := estimator.model_.link) is not None:
        kind += f" (mixed model of the {FAMILIES[link.rule.family].link})"
    lines = [f"{model}: {kind}, {count(n_features, 'feature')}, fitted to {count(estimator.n_tasks_, 'task')}"]
    if strategy == "joint":
        lines.append("this model does not adapt, since that was best: all tasks are predicted by the common weights")
    return lines


def about_rows(
    estimator: Any,
    names: list[str],
    columns: Columns,
    opened: Source,
    new: NewTable,
    n_adapted: np.ndarray,
    known: np.ndarray,
) -> list[str]:
    """Return lines on the rows of a new table.

    names: (p,) features of the model. n_adapted: (R,). known: (m,) whether the model knows each task.
    """
    lines = [f"{opened.label}: {count(len(new.codes), 'row')} of {count(len(new.ids), 'task')} ({columns.task})"]
    lines += [f"note: {note}" for note in opened.notes]
    if columns.anonymous:
        lines.append("the model was saved without the ids of its tasks: all tasks are new to it, known ones too")
    lines += _about_tasks(estimator, new, n_adapted, known)
    support = new.complete & new.labelled & (new.codes >= 0)
    query = new.complete & ~new.labelled
    if new.y is None:
        where = "no target column is named" if columns.target is None else f"there is no column {columns.target!r}"
        hint = "" if columns.target is None else did_you_mean(columns.target, opened.names)
        lines.append(f"{where}: new tasks are predicted by the common weights.{hint}")
    else:
        adapted = np.unique(new.codes[support])
        rows = f"{count(int(support.sum()), 'row')} of {count(len(adapted), 'task')}"
        lines.append(f"adapted on {rows} (those with {columns.target}){_weighing(columns, new)}")
    of_query = np.unique(new.codes[query & (new.codes >= 0)])
    if query.any():
        lines.append(f"predicted {count(int(query.sum()), 'row')} of {count(len(of_query), 'task')}")
    elif not new.complete.any():
        lines.append("there is nothing to predict: no row has all features")
    else:
        which = "row" if new.complete.all() else "row with all features"
        lines.append(
            f"there is nothing to predict: every {which} has a {columns.target}. Leave it empty where it is unknown."
        )
    alone = of_query[~known[of_query] & (np.bincount(new.codes[support], minlength=len(new.ids))[of_query] == 0)]
    if new.y is not None and len(alone):
        which = "new task has" if len(alone) == 1 else "new tasks have"
        lines.append(f"{len(alone)} {which} no row with a target: the common weights predict ({some(new.ids[alone])})")
    if columns.classes:
        zero, one = columns.classes
        lines.append(f"probability: of {columns.target} {one}, 0.5 and more is predicted as {one} and less as {zero}")
    if getattr(estimator, "floor", None) is not None:
        lines.append(f"no prediction is below {estimator.floor:g}")
    lines += _about_levels(estimator, columns, new)
    return lines + _about_range(estimator, names, columns.dates, new) + _about_gaps(columns, new)


def _about_levels(estimator: Any, columns: Columns, new: NewTable) -> list[str]:
    """A line on levels of the second grouping that the model does not know."""
    if new.levels is None or not columns.random_intercept:
        return []
    found = np.unique(new.levels)
    unknown = found[labels.places(estimator.model_.levels.ids, found) < 0]
    if not len(unknown):
        return []
    name = ",".join(columns.random_intercept)
    which = "is not known: it adds" if len(unknown) == 1 else "are not known: they add"
    return [f"{len(unknown)} of {count(len(found), 'level')} of {name} {which} nothing ({some(unknown)})"]


def _weighing(columns: Columns, new: NewTable) -> str:
    if columns.weights is None:
        return ""
    return (
        f", weighted by {columns.weights}" if new.weights is not None else f", which weigh alike: no {columns.weights}"
    )


def _about_range(estimator: Any, names: list[str], dates: tuple[str, ...], new: NewTable) -> list[str]:
    """Lines on features whose values are cut off, or lie far beyond all that the model was fitted to."""
    standard, x = estimator.model_.standard, new.x[new.complete]
    lines, clipped = [], standard.clipped(x)
    if clipped.any():
        columns = ", ".join(f"{names[j]} {clipped[j]}" for j in np.flatnonzero(clipped)[:_COLUMNS])
        lines.append(f"cut off at {standard.clip:g} s.d., values in a column: {columns}")
    far = standard.far(x)
    if far.any():
        at, beyond = np.zeros(len(new.x), dtype=bool), np.flatnonzero(far.any(axis=0))
        at[new.complete] = far.any(axis=1)
        ranges = [
            (_spelled(values, names[j] in dates) for values in ((x[:, j].min(), x[:, j].max()), (low, high)))
            for j, low, high in zip(beyond, standard.low[beyond], standard.high[beyond], strict=True)
        ]
        columns = "; ".join(
            f"{names[j]} from {here} (fitted to {there})"
            for j, (here, there) in zip(beyond[:_COLUMNS], ranges, strict=False)
        )
        more = f"; {len(beyond) - _COLUMNS} more columns" if len(beyond) > _COLUMNS else ""
        which = f"{count(int(at.sum()), 'row')} ({which_rows(at)})"
        lines.append(
            f"far outside what the model was fitted to, so only as good as a straight line: {which}, {columns}{more}"
        )
    return lines


def _spelled(ends: tuple[float, float], is_date: bool) -> str:
    """Two ends of a range, as days of the calendar where they are days since 1970-01-01."""
    low, high = (np.datetime64(int(end), "D") if is_date else f"{end:.5g}" for end in ends)
    return f"{low} to {high}"


def _about_tasks(estimator: Any, new: NewTable, n_adapted: np.ndarray, known: np.ndarray) -> list[str]:
    """Lines on the tasks that the model knows, and on those whose ids look like known ones."""
    model, lines = estimator.model_, []
    if known.any():
        number = int(known.sum())
        line = f"{number} of {count(len(known), 'task')} {'is' if number == 1 else 'are'} known to the model"
        more = known[new.codes] & (new.codes >= 0) & (n_adapted > 0)
        if model.task_rows is not None:
            its = (
                "its training rows (--as-new treats it" if number == 1 else "their training rows (--as-new treats them"
            )
            line += f", with {its} as new)"
        elif more.any():
            line += "; the file does not hold their earlier rows: those with a new target adapt on new rows alone"
        lines.append(line)
        twice = _trained_on(estimator, new, known)
        if len(twice):
            lines.append(
                f"note: the labelled rows of {len(twice)} known {'task' if len(twice) == 1 else 'tasks'} are the rows "
                f"of training, which count twice now: leave them out ({some(twice)})"
            )
    elif model.knows_tasks and len(new.ids):
        lines.append("no task is known to the model: all are new")
    if model.knows_tasks:
        alike = labels.look_alikes(model.task_ids, new.ids[~known])
        if alike:
            pairs = ", ".join(f"{one!r} (known: {other!r})" for one, other in alike[:4])
            lines.append(
                f"spelled almost as known tasks, and taken for new ones: {pairs}{', ...' if alike[4:] else ''}"
            )
    return lines


def _trained_on(estimator: Any, new: NewTable, known: np.ndarray) -> np.ndarray:
    """Ids of known tasks whose labelled rows are as many as those of training, with the same means of all columns."""
    model = estimator.model_
    standard, rows = model.standard, model.task_rows
    support = new.complete & new.labelled & (new.codes >= 0)
    if rows is None or not standard.intercept or new.y is None or not support.any():
        return new.ids[:0]
    codes, p, d = new.codes[support], standard.n_inputs, standard.width
    n = np.bincount(codes, minlength=len(new.ids))
    y = estimator.targets_.columns(new.y[support], np.float64)
    if model.levels is not None:
        y = y - model.levels.of(None if new.levels is None else new.levels[support], len(y))
    z = np.column_stack([(new.x[support] - standard.centre[:p]) / standard.spread[:p], standard.targets(y)])
    sums = np.stack([np.bincount(codes, column, minlength=len(new.ids)) for column in z.T], axis=1)
    place, found = labels.places(model.task_ids, new.ids), []
    for i in np.flatnonzero(known & (n > 0) & (n == rows.totals[place].round())):
        own = rows.rows[rows.offsets[place[i]] : rows.offsets[place[i] + 1]].astype(np.float64)
        # With factors as with rows, products with the column of the intercept are sums over rows.
        mean = np.hstack([own[:, :p], own[:, d:]]).T @ own[:, d - 1] / n[i]
        if np.allclose(mean, sums[i] / n[i], rtol=1e-4, atol=1e-4):
            found.append(i)
    return new.ids[found]


def _about_gaps(columns: Columns, new: NewTable) -> list[str]:
    lines = []
    nowhere = new.codes < 0
    if nowhere.any():
        rows = "row has" if nowhere.sum() == 1 else "rows have"
        weights = "predicted by the common weights where the target is unknown, and not adapted on"
        lines.append(f"{int(nowhere.sum())} {rows} no {columns.task}: an unknown task, {weights}")
    return [*lines, *new.notes]
