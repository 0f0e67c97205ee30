"""Fit an estimator to a table of any size: chosen on some thousands of whole tasks, trained on the sums of all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow._memory import said
from undertow.estimators import MAMLRegressor, MAMLRegressorCV
from undertow.estimators.adding import published
from undertow.estimators.adding import recipe_of as recipe_of_fitted
from undertow.estimators.fitted import FittedModel
from undertow.estimators.linked import has_link
from undertow.estimators.parameters import about_small
from undertow.estimators.tables import fit_table, prepare, publish
from undertow.estimators.training import few_numbers
from undertow.mixed.model import MixedRule
from undertow.scale.asking import ask_spread, ask_weights, weights_of
from undertow.scale.job import Job, Run, is_large
from undertow.scale.memory import Ceiling
from undertow.scale.running import checked
from undertow.scale.sorted_table import SortedTable, sort
from undertow.scale.spread import Spread
from undertow.tasks import drawing
from undertow.tasks.wording import some

Regressor = TypeVar("Regressor", MAMLRegressor, MAMLRegressorCV)


def fit(
    estimator: Regressor,
    source: Any,
    task: str | None = None,
    target: str | None = None,
    features: Iterable[str] | None = None,
    *,
    executor: Any = None,
    memory: Any = "2GB",
    work: str | os.PathLike[str] | None = None,
    on_constant: str = "raise",
    like: MAMLRegressorCV | None = None,
) -> Regressor:
    """Fit an estimator to a table of any size, and return it: an ordinary fitted estimator.

    Parameters
    ----------
    estimator
        one of the four estimators; it is fitted in place.
    source
        a folder or glob of Parquet or CSV files, paths of files, a DuckDB relation, or a ``SortedTable``. Rows of
        one task may be scattered over the files.
    task, target, features
        names of columns; None for all other features.
    executor
        anything with ``submit``, as in concurrent.futures; None works in this process. Its workers must see the
        files of ``work``. The numbers are the same, to the last digit, for any executor and number of workers.
    memory
        ceiling of each process, in bytes or as "2GB", whatever the number of rows.
    work
        folder for the sorted rows (about 8 (p + 3) bytes each, and as much again while they are sorted) and for the
        sums of each fragment, so that a call after an interruption goes on; it is not emptied. None: a temporary
        one.
    on_constant
        features of one value: "raise", "drop" or "keep".
    like
        a fitted MAMLRegressorCV whose parameters, units and choice are taken, so that only sums are made; the
        result can be merged with it. Its features must be those of the source, in the same order.

    Raises
    ------
    InputError
        for what cannot be used, and where memory or disk are too small, with the numbers.

    Notes
    -----
    Weights, standardisation and counts are those of all rows. Rates, ratios, ridges, variances, shares of a blend and
    all that ``choice_`` says come from 4,000 tasks drawn at random, or fewer where these do not fit into the memory; of
    a smaller table from all tasks, and then the estimator is that of ``fit``. The tasks' own weights, for ``predict``
    with groups, are left out where they would take more than a sixth of the memory.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"shop": np.tile(np.arange(20), 10), "price": rng.standard_normal(200)})
    >>> frame["sales"] = frame["price"] + rng.standard_normal(20)[frame["shop"]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_csv(f"{folder}/sales.csv", index=False)
    ...     model = ut.scale.fit(ut.MAMLRegressor(adapt_rate=0.3), f"{folder}/*.csv", "shop", "sales", memory="1GB")
    >>> model.n_tasks_, model.coef_.shape
    (20, (1,))
    """
    ceiling = Ceiling.of(memory)
    checked(executor)
    _check.one_of(on_constant, "on_constant", ("raise", "drop", "keep"))
    if type(estimator) not in (MAMLRegressor, MAMLRegressorCV):
        name = type(estimator).__name__
        raise InputError("estimator", name, "it must be a MAMLRegressor or a MAMLRegressorCV.")
    if isinstance(source, SortedTable):
        place = None if work is None else Path(work)
        return fit_sorted(estimator, source, Run(ceiling, executor, place), on_constant, like)
    for value, role in ((task, "task"), (target, "target")):
        if value is None:
            raise InputError(role, None, "it is not given.", "Name the column.")
    with work_folder(work) as place:
        table = sort(source, str(task), str(target), features, folder=place, memory=memory)
        kept = None if work is None else place / "sums"
        return fit_sorted(estimator, table, Run(ceiling, executor, kept), on_constant, like)


@contextmanager
def work_folder(work: str | os.PathLike[str] | None) -> Iterator[Path]:
    """A folder for sorted rows and sums: the given one, or a temporary one that goes away."""
    if work is not None:
        yield Path(work)
        return
    with tempfile.TemporaryDirectory(prefix="undertow-") as place:
        yield Path(place)


def fit_sorted(
    estimator: Regressor,
    table: SortedTable,
    run: Run,
    on_constant: str = "raise",
    like: MAMLRegressorCV | None = None,
) -> Regressor:
    """Fit an estimator to a sorted table; see ``fit``."""
    _refuse_large_tasks(table, run.ceiling)
    if estimator.support == "first":
        rule = "rows that are read out of core are not brought into an order in time."
        raise InputError("support", "first", rule, "Fit in memory, or to random support rows.")
    if has_link(estimator):
        rule = "the likelihood of two values and of counts needs the rows themselves, all at once."
        raise InputError("rule", estimator.get_params()["rule"], rule, "Fit in memory, or leave the family out.")
    if like is not None:
        return _as_another(estimator, like, table, run)
    spread = reduce(Spread.__add__, map(Spread.from_bytes, run.each(ask_spread(), table, "means and deviations")))
    table, spread = _without_constants(table, spread, on_constant)
    large = np.arange(1)
    if table.n_tasks > 1:
        large = drawing.large_enough(table.counts, table.ids, estimator.n_support, estimator.on_small)
    d, n_rows = table.n_features + estimator.fit_intercept, int(table.counts[large].sum())
    if run.all_in_memory and _is_small(estimator, table, len(large), n_rows, d, run.ceiling):
        return fit_table(estimator, table.grouped(np.arange(table.n_tasks), run.ceiling.fragment))
    seed = prepare(estimator, table.features)
    standard = spread.standard(
        table.features,
        features=estimator.standardize,
        targets=estimator.standardize,
        intercept=estimator.fit_intercept,
        clip=estimator.clip if estimator.standardize else None,
    )
    job = Job(estimator, table, run, standard, large, n_rows, seed)
    trained, sums = job.searched() if isinstance(estimator, MAMLRegressorCV) else job.given()
    notes = []
    if len(large) < table.n_tasks:
        notes.append(about_small(table.n_tasks, len(large), estimator.n_support))
    model = _with_tasks(trained.model, table, run)
    return publish(estimator, trained, model, table.n_tasks, sums.n_clipped, notes)


def _as_another(estimator: Regressor, like: MAMLRegressorCV, table: SortedTable, run: Run) -> Regressor:
    """The estimator that another one has chosen for, from the sums of this table."""
    recipe = recipe_of_fitted(like)
    names = getattr(like, "feature_names_in_", None)
    if len(table.features) != like.n_features_in_ or (names is not None and list(names) != list(table.features)):
        known = like.n_features_in_ if names is None else list(names)
        raise InputError(
            "features", list(table.features), f"the estimator was fitted to {known}: they must be the same."
        )
    job = Job(like, table, run, recipe.standard, np.arange(table.n_tasks), table.n_rows, like.seed_)
    sums = job.summed(recipe)
    vars(estimator).update(vars(like))
    estimator.n_clipped_ = sums.n_clipped
    published(estimator, sums, table.ids, None)
    estimator.publish(_with_tasks(estimator.model_, table, run))
    return estimator


def _refuse_large_tasks(table: SortedTable, ceiling: Ceiling) -> None:
    largest = int(table.counts.max())
    if largest * table.row_bytes > ceiling.task:
        name = some(table.ids[[int(table.counts.argmax())]])
        raise InputError(
            "memory",
            ceiling.total,
            f"task {name} has {largest} rows of {said(table.row_bytes)}, and {said(ceiling.task)} are for the "
            "largest task, which must be whole.",
            "Allow more memory, or split the task.",
        )


def _without_constants(table: SortedTable, spread: Spread, on_constant: str) -> tuple[SortedTable, Spread]:
    constant = spread.constant[:-1]
    if on_constant == "keep" or not constant.any():
        return table, spread
    named = ", ".join(f"{table.features[j]!r} is {spread.low[j]:g}" for j in np.flatnonzero(constant)[:5])
    if on_constant == "raise" or constant.all():
        raise InputError(
            "on_constant",
            on_constant,
            f"{constant.sum()} of {table.n_features} features have one value in all rows ({named}): they say nothing.",
            ("Drop them with ", Setting("on_constant", "drop"), ", or choose other features."),
        )
    kept = np.flatnonzero(~constant)
    columns = np.append(kept, -1)
    parts = {name: getattr(spread, name)[columns] for name in ("mean", "squares", "low", "high")}
    return table.keep(kept.tolist()), Spread(spread.n, **parts)


def _is_small(estimator: Any, table: SortedTable, n_large: int, n_rows: int, d: int, ceiling: Ceiling) -> bool:
    """Whether the estimator is fitted in memory, as one that has never heard of fragments."""
    if table.n_rows * table.row_bytes > ceiling.draw:
        return False
    if isinstance(estimator, MAMLRegressorCV) or isinstance(estimator.rule, MixedRule) or table.n_tasks == 1:
        return not is_large(n_large, n_rows, d)
    return few_numbers(estimator.n_draws or 1, n_rows, d)


def _with_tasks(model: FittedModel, table: SortedTable, run: Run) -> FittedModel:
    """The model with each task's own weights, where these fit."""
    shape = (model.n_targets, table.n_tasks, model.omega.shape[1])
    if table.n_tasks == 1 or 8 * int(np.prod(shape)) > run.ceiling.tasks:
        return model
    known, at = np.empty(shape), 0
    for part in map(weights_of, run.each(ask_weights(model), table, "weights of each task")):
        known[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return replace(model, stored_omega=known)
