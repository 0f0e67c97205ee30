"""Fit an estimator to a table of any size: chosen on some thousands of whole tasks, trained on the sums of all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow.choice.limits import LIMITS
from undertow.choice.plan import default_draws
from undertow.estimators import MAMLRegressor, MAMLRegressorCV
from undertow.estimators.adding import published
from undertow.estimators.adding import recipe_of as recipe_of_fitted
from undertow.estimators.fitted import FittedModel
from undertow.estimators.further import retrained, signed_paths
from undertow.estimators.parameters import given_settings, train_given, train_searched
from undertow.estimators.sums import Recipe, Sums, merge
from undertow.estimators.tables import fit_table, prepare, publish
from undertow.estimators.training import Trained, draws_of, few_numbers, recipe_of, trained_by_sums
from undertow.linear.rules import ProximalRule
from undertow.mixed.model import MixedRule
from undertow.scale.asking import ask_spread, ask_sums, ask_weights, task_rows, weights_of
from undertow.scale.memory import Ceiling, said
from undertow.scale.running import answers, checked
from undertow.scale.sorted_table import SortedTable, sort
from undertow.scale.spread import Spread
from undertow.tasks import drawing
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard

Regressor = TypeVar("Regressor", MAMLRegressor, MAMLRegressorCV)

# So many tasks say what rate is stable, as in memory.
_LIMIT_TASKS = 500


@dataclass(frozen=True, eq=False)
class Run:
    """Where and how fragments are read. Tests give fewer tasks to choose on than ``LIMITS`` say."""

    ceiling: Ceiling
    executor: Any = None
    kept: Path | None = None
    """folder of the answers, for a call that goes on after an interruption; None for none"""
    quiet: bool = False
    choose_on: int = LIMITS.large_tasks
    """tasks that the choice is made on, where the table is large"""
    all_in_memory: bool = True
    """whether a table that is small is fitted in memory"""

    def each(self, question: bytes, table: SortedTable, words: str) -> Iterator[bytes]:
        """Yield what fragments answer, in their order."""
        fragments = table.fragments(self.ceiling.fragment)
        return answers(question, fragments, self.executor, self.kept, words, self.quiet)


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
    job = _Job(estimator, table, run, standard, large, n_rows, seed)
    trained, sums = job.searched() if isinstance(estimator, MAMLRegressorCV) else job.given()
    notes = []
    if len(large) < table.n_tasks:
        notes.append(
            f"{table.n_tasks - len(large)} of {table.n_tasks} tasks have no more than n_support={estimator.n_support} "
            "rows: they cannot give both support and query rows, and on_small='drop' leaves them out."
        )
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
    job = _Job(like, table, run, recipe.standard, np.arange(table.n_tasks), table.n_rows, like.seed_)
    sums = job.summed(recipe)
    vars(estimator).update(vars(like))
    estimator.n_clipped_ = sums.n_clipped
    published(estimator, sums, table.ids, None)
    estimator.publish(_with_tasks(estimator.model_, table, run))
    return estimator


def _refuse_large_tasks(table: SortedTable, ceiling: Ceiling) -> None:
    largest = int(table.counts.max())
    if largest * table.row_bytes > ceiling.task:
        name = table.ids[int(table.counts.argmax())].item()
        raise InputError(
            "memory",
            ceiling.total,
            f"task {name!r} has {largest} rows of {said(table.row_bytes)}, and {said(ceiling.task)} are for the "
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
            f"{constant.sum()} of {table.n_features} features have one value in all rows ({named}): they tell nothing.",
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
        return not _is_large(n_large, n_rows, d)
    return few_numbers(estimator.n_draws or 1, n_rows, d)


def _is_large(n_large: int, n_rows: int, d: int) -> bool:
    # As a ``Plan`` has it.
    return n_large > LIMITS.large_tasks and float(n_rows) * d**2 > LIMITS.large_work


@dataclass(frozen=True, eq=False)
class _Job:
    """An estimator and the table that it is trained on, once both are checked."""

    estimator: Any
    table: SortedTable
    run: Run
    standard: Standard
    large: np.ndarray
    """numbers of the tasks with rows enough"""
    n_rows: int
    """of these tasks"""
    seed: int

    def searched(self) -> tuple[Trained, Sums]:
        """Choose on drawn tasks, and solve the weights from the sums of all."""
        estimator = self.estimator
        if not isinstance(estimator.cv, int | np.integer):
            rule = "a table that is not held in memory is parted by the search itself."
            raise InputError("cv", estimator.cv, rule, "Give a number of folds.")
        drawn = self.draw(least=max(3, int(estimator.cv)))
        with_rows = drawn.large_enough(estimator.n_support, "drop")
        trained = train_searched(estimator, drawn, with_rows, self.seed)
        search = trained.search
        if search is None or search.choice is None or search.recipe is None:
            raise InputError(
                "memory",
                self.run.ceiling.total,
                f"the choice is made on {drawn.n_tasks} tasks of {len(drawn.y)} rows, which are too few for "
                f"{self.table.n_features} features.",
                "Allow more memory, or choose fewer features.",
            )
        d, large = self.standard.width, len(self.large)
        recipe = replace(
            search.recipe,
            n_draws=estimator.n_draws or default_draws(self.n_rows, d, search.recipe.steps, LIMITS.most_draws),
            # On a large table the mean of a mixed model is that of "joint", as in memory.
            priors={} if _is_large(large, self.n_rows, d) else search.recipe.priors,
        )
        sums = self.summed(recipe)
        found = retrained(search.choice, recipe, sums)
        search = replace(search, paths=signed_paths(search.choice, sums), recipe=recipe, sums=sums)
        model = replace(self.model(trained.model, found.weights, found.rules), unadapted=found.unadapted)
        return replace(trained, model=model, scale=sums.blocks.scale, search=search), sums

    def given(self) -> tuple[Trained, Sums]:
        """Train at the settings of the estimator; variances of a mixed model come from drawn tasks."""
        settings, notes = given_settings(self.estimator, self.seed)
        if isinstance(settings.rule, MixedRule):
            return self._mixed()
        recipe = recipe_of(settings, self.standard, draws_of(settings, self.n_rows, self.standard.width))
        sums = self.summed(recipe)
        some = np.linspace(0, len(self.large) - 1, min(_LIMIT_TASKS, len(self.large))).round().astype(int)
        rows = self.rows_of(self.large[np.unique(some)])
        trained = trained_by_sums(settings, rows, sums)
        model = replace(trained.model, task_ids=self.table.ids)
        return replace(trained, model=model, notes=(*notes, *trained.notes)), sums

    def _mixed(self) -> tuple[Trained, Sums]:
        drawn = self.draw(least=3)
        trained = train_given(self.estimator, drawn, drawn, self.seed)
        ((rule,), (mean,)) = trained.model.rules, trained.means
        assert isinstance(rule, ProximalRule)
        recipe = Recipe(
            self.standard,
            self.estimator.n_support,
            n_draws=0,
            seed=self.seed,
            steps=0,
            spreads={"mixed": (rule,)},
            priors={"mixed": mean.prior[None]},
        )
        sums = self.summed(recipe)
        omega = mean._replace(information=sums.mixed["mixed"][0]).mean
        model = self.model(trained.model, omega[None], (rule,))
        return replace(trained, model=model), sums

    def model(self, chosen: FittedModel, omega: np.ndarray, rules: Any) -> FittedModel:
        """Return the model of all tasks. chosen: that of the drawn tasks, whose errors speak of intervals."""
        ids = self.table.ids
        return replace(chosen, omega=omega, rules=rules, task_ids=ids, task_omega=None, task_rows=None)

    def draw(self, least: int) -> TaskRows:
        """Return some thousands of whole tasks, or as many as fit. least: raise InputError where they are fewer."""
        table, ceiling = self.table, self.run.ceiling
        m = table.n_tasks
        drawn = np.random.default_rng(self.seed).choice(m, min(self.run.choose_on, m), replace=False)
        fit = np.cumsum(table.counts[drawn]) * table.row_bytes <= ceiling.draw
        if fit.sum() < least:
            raise InputError(
                "memory",
                ceiling.total,
                f"{said(ceiling.draw)} are for the tasks that the choice is made on, which holds {int(fit.sum())} of "
                f"{float(np.mean(table.counts)):.0f} rows on average, and {least} are the least.",
                "Allow more memory.",
            )
        return self.rows_of(drawn[fit])

    def rows_of(self, tasks: np.ndarray) -> TaskRows:
        """Return the rows of some tasks, standardised as all are."""
        return task_rows(self.table.select(tasks, self.run.ceiling.fragment), self.standard)

    def summed(self, recipe: Recipe) -> Sums:
        """Return the sums over all tasks, added up in the order of the fragments."""
        d = self.standard.width
        size = 8 * (((recipe.steps + 1) * (d + 1)) ** 2 + (len(recipe.ratios) + len(recipe.priors)) * (d + 1) ** 2)
        if size > self.run.ceiling.sums:
            raise InputError(
                "memory",
                self.run.ceiling.total,
                f"sums for {self.table.n_features} features take {said(size)}, and {said(self.run.ceiling.sums)} are "
                "for those of a fragment.",
                "Allow more memory, or choose fewer features.",
            )
        return reduce(merge, map(Sums.from_bytes, self.run.each(ask_sums(recipe), self.table, "sums of all tasks")))


def _with_tasks(model: FittedModel, table: SortedTable, run: Run) -> FittedModel:
    """The model with each task's own weights, where these fit."""
    shape = (model.n_targets, table.n_tasks, model.omega.shape[1])
    if table.n_tasks == 1 or 8 * int(np.prod(shape)) > run.ceiling.tasks:
        return model
    known, at = np.empty(shape), 0
    for part in map(weights_of, run.each(ask_weights(model), table, "weights of each task")):
        known[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return replace(model, task_omega=known)
