"""A table in fragments and an estimator: what is chosen on drawn tasks, and trained on the sums of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from undertow._check import InputError, Setting
from undertow._memory import said
from undertow.choice.limits import LIMITS
from undertow.choice.plan import default_draws
from undertow.estimators.fitted import FittedModel
from undertow.estimators.further import retrained, signed_paths
from undertow.estimators.parameters import given_settings, train_given, train_searched
from undertow.estimators.sums import Recipe, Sums, merge
from undertow.estimators.training import Trained, draws_of, recipe_of, trained_by_sums
from undertow.linear.rules import ProximalRule
from undertow.mixed.model import MixedRule
from undertow.scale.asking import ask_sums
from undertow.scale.memory import Ceiling
from undertow.scale.running import answers
from undertow.scale.sorted_table import SortedTable
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard

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


def is_large(n_large: int, n_rows: int, d: int) -> bool:
    """Whether the choice is made on some of the tasks, as a ``Plan`` has it."""
    return n_large > LIMITS.large_tasks and float(n_rows) * d**2 > LIMITS.large_work


@dataclass(frozen=True, eq=False)
class Job:
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
        if estimator.effort == "thorough":
            rule = "a table that is not held in memory is fitted by straight lines."
            raise InputError("effort", "thorough", rule, ("Use ", Setting("effort", "default"), "."))
        drawn = self.draw(least=max(3, int(estimator.cv)))
        with_rows = drawn.large_enough(estimator.n_support, "drop")
        trained = train_searched(estimator, drawn, with_rows, self.seed, curves=False)
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
            priors={} if is_large(large, self.n_rows, d) else search.recipe.priors,
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
        return replace(chosen, omega=omega, rules=rules, task_ids=ids, stored_omega=None, task_rows=None)

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
        return TaskRows.of_table(self.table.grouped(tasks, self.run.ceiling.fragment), self.standard)

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
