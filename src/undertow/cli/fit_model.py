"""The estimator of ``undertow fit``, and the rates at which a step shrinks the error of a task."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import typer

from undertow import _check
from undertow._check import InputError
from undertow.cli.output import console, count
from undertow.estimators import MAMLRegressorCV, fit_table
from undertow.estimators.bending import EFFORTS
from undertow.estimators.parameters import check_shared
from undertow.linear import stability_limit
from undertow.tasks import GroupedTable
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.wording import some


def estimator_of(
    settings: dict[str, Any], on_small: str, floor: float | None = None, slopes: list[str] | None = None
) -> MAMLRegressorCV:
    """The default estimator at the settings of a command. floor: of predictions; slopes: see ``slopes_of``."""
    return MAMLRegressorCV(
        settings["n_support"],
        settings["folds"],
        n_draws=settings["draws"],
        clip=settings["clip"],
        on_small=on_small,
        weighting=settings["weighting"],
        effort=settings["effort"],
        random_slopes=slopes,
        support="random" if settings["order"] is None else "first",
        row_weights=settings["weights_are"],
        floor=floor,
        random_state=settings["seed"],
    )


def slopes_of(raw: GroupedTable, asked: list[str] | None) -> list[str] | None:
    """Return the columns that tasks vary in by the mixed models, as asked or by a formula; None for all.

    A column of text stands for its indicators. Raises InputError for what is no feature.
    """
    formula, encoding = raw.formula, raw.encoding
    if formula is not None and formula.structure:
        if asked is not None:
            raise InputError("random_slopes", asked, "the formula says it.", "Leave out one of the two.")
        return None if formula.random_slopes is None else [n for n in formula.random_slopes if n in raw.feature_names]
    if asked is None:
        return None
    found = []
    for name in asked:
        levels = [] if encoding is None else encoding.levels.get(name, ())
        own = {name, *(f"{name}={level}" for level in levels)} & set(raw.feature_names)
        if not own:
            near = _check.did_you_mean(name, raw.feature_names)
            raise InputError(
                "random_slopes", name, "it is no feature.", f"They are {some(raw.feature_names, 30)}.{near}"
            )
        found += [one for one in raw.feature_names if one in own]
    return found


def unfitted(table: GroupedTable, settings: dict[str, Any]) -> MAMLRegressorCV:
    """The default estimator for a table, its parameters checked; InputError also where there are too few tasks."""
    if table.n_tasks < 3:
        rule = f"The table has {count(table.n_tasks, 'task')} with enough rows, and a choice of strategies needs 3."
        raise InputError(None, rule=rule, way_out="Use a table of more tasks, or fewer support rows.")
    floor = 0.0 if table.target_kind == "count" else None
    estimator = estimator_of(settings, "raise", floor, slopes_of(table, settings["random_slopes"]))
    check_shared(estimator)
    _check.one_of(estimator.effort, "effort", EFFORTS)
    return estimator


def fit_estimator(estimator: MAMLRegressorCV, table: GroupedTable) -> None:
    """Fit to the rows of a table, and say each warning once."""
    to = console(stderr=True)
    with warnings.catch_warnings(record=True) as said, to.status("comparing strategies"):
        warnings.simplefilter("always")
        fit_table(estimator, table)
    for text in dict.fromkeys(str(one.message) for one in said):
        typer.echo(f"Warning: {text}", err=True)


def stable_rates(table: GroupedTable, estimator: MAMLRegressorCV) -> np.ndarray:
    """Raw rate (m,) up to which a step shrinks the error on a task's support rows, of the first draw of these."""
    rows = TaskRows.of_table(table, estimator.model_.standard)
    limits = np.empty(table.n_tasks)
    for batch, tasks, _ in rows.draw(estimator.n_support, np.random.SeedSequence(estimator.seed_, spawn_key=(0,))):
        limits[tasks] = stability_limit(of_target(batch, 0))
    return limits
