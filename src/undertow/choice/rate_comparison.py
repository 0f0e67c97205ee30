r"""What a signed train rate is worth on a grouped table: losses on tasks that neither the fit nor the choice has seen.

Outer folds hold tasks out; on the tasks that remain, an inner cross-validation chooses rates and ridge for each
strategy. Losses of strategies are compared in pairs, task by task: tasks are the independent units, so standard errors
are over tasks and not over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.choice.rate_picks import RIDGES, STRATEGIES, Pick, candidate_rates, cross_validate, pick
from undertow.linear import circle
from undertow.linear.moments import Moments, sum_moments
from undertow.linear.path import rate_path
from undertow.linear.surface import LossSurface, evaluate
from undertow.tasks import GroupedTable, folds
from undertow.tasks.losses import NEGLIGIBLE, mean_over_tasks


@dataclass(frozen=True, eq=False)
class RateComparison:
    """Both rates chosen on all tasks, and the held-out loss of each strategy. Losses are half mean squared errors."""

    picks: dict[str, Pick]
    """strategy -> rates and ridge chosen by cross-validation over all tasks"""
    fold_picks: dict[str, list[Pick]]
    """strategy -> what was chosen without each outer fold"""
    task_ids: np.ndarray
    """(m,) names of the tasks"""
    task_losses: np.ndarray
    """(m, 4) held-out loss of each task under each strategy, in the order of ``STRATEGIES``"""
    task_rows: np.ndarray
    """(m,) number of query rows of each task"""
    surface: LossSurface
    """cross-validated loss over train rate, ridge and adapt rate"""
    curve: np.ndarray
    """(k,) cross-validated loss at each train rate, with the ridge of the signed pick and the best adapt rate"""
    curve_adapt_rates: np.ndarray
    """(k,) those adapt rates"""
    curve_errors: np.ndarray
    """(k,) standard error over tasks of the curve's difference from train rate 0"""
    weights: dict[str, np.ndarray]
    """strategy -> omega (p,), trained on all tasks at the picked rate and ridge"""
    scale: float
    """spectral unit of a rate"""

    def mean_loss(self, strategy: str) -> tuple[float, float]:
        """Held-out loss of a strategy, and its standard error over tasks."""
        return self._mean(self.task_losses[:, _column(strategy)])

    def difference(self, strategy: str, other: str) -> tuple[float, float]:
        """Held-out loss of a strategy minus that of another, paired by task, and its standard error."""
        return self._mean(self.task_losses[:, _column(strategy)] - self.task_losses[:, _column(other)])

    def _mean(self, values: np.ndarray) -> tuple[float, float]:
        return mean_over_tasks(values, self.task_rows)

    @property
    def verdict(self) -> str:
        """What the held-out losses say about the sign of the train rate, in one or two sentences."""
        base, _ = self.mean_loss("step")
        gain, error = (100 * value / base for value in self.difference("step", "signed"))
        side = "lower" if gain >= 0 else "higher"
        figures = f"held-out loss {abs(gain):.2g} % {side}, standard error {error:.2g} %"
        rates = [p.train_rate for p in self.fold_picks["signed"]]
        signs = {"negative" if rate < 0 else "positive" if rate > 0 else "zero" for rate in rates}
        sign = signs.pop() if len(signs) == 1 else "not always of the same sign"
        if abs(gain) <= 2 * error:
            text = f"No evidence either way: a signed train rate does as well as no inner loop ({figures})."
        elif abs(gain) < NEGLIGIBLE:
            text = f"The sign hardly matters here: a signed train rate and no inner loop are next to equal ({figures})."
        elif gain > 0:
            text = f"A signed train rate helps here ({figures}); the rates chosen are {sign}."
        else:
            text = f"No inner loop (train rate 0) is better here than a chosen signed rate ({figures})."
        step, step_error = (100 * value / self.mean_loss("joint")[0] for value in self.difference("joint", "step"))
        if step <= 2 * step_error:
            text += " The adaptation step itself brings nothing that can be told from chance."
        return text


def compare_rates(
    table: GroupedTable,
    n_support: int = 5,
    *,
    n_folds: int = 5,
    n_draws: int = 5,
    ridges: Any = RIDGES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RateComparison:
    """Choose both rates on a grouped table and measure on held-out tasks what the choice is worth.

    table: standardised features, usually with an intercept and a standardised target; at least ``n_folds`` tasks of
        more than ``n_support`` rows.
    n_draws: random draws of support and query rows of each task; all of them are used, which makes the moments and the
        losses less noisy. progress: called with (done, total) as paths are solved.
    Raises InputError for a table with too few tasks or rows.
    """
    n_draws, n_support = _check.positive_int(n_draws, "n_draws"), _check.positive_int(n_support, "n_support")
    seed = _check.positive_int(seed, "seed", minimum=0)
    if not isinstance(table, GroupedTable):
        raise InputError(f"table={type(table).__name__}: give a GroupedTable, from undertow.tasks.read_table.")
    few = table.counts <= n_support
    if few.any():
        raise InputError(
            f"n_support={n_support}: {int(few.sum())} of {table.n_tasks} tasks have no row left for the loss, first "
            f"{table.ids[few][0]}. Use fewer support rows, or table.select the others."
        )
    if not np.ptp(table.y) > 0:
        raise InputError(f"the target {table.target} has one value only, {table.y[0]:g}: there is nothing to predict.")
    parts = folds(table.ids, n_folds, seed)
    tables = [_Fold(table.select(part), n_support, n_draws, seed) for part in parts]
    moments = [fold.moments() for fold in tables]
    whole = sum_moments(moments)
    rates = candidate_rates(whole.scale)
    total, done = n_folds * n_folds, 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    surface = cross_validate(moments, rates, ridges, tick)
    picks = {name: pick(surface, name) for name in STRATEGIES}
    fold_picks: dict[str, list[Pick]] = {name: [] for name in STRATEGIES}
    losses = np.empty((table.n_tasks, len(STRATEGIES)))
    for i, part in enumerate(parts):
        others = [m for j, m in enumerate(moments) if j != i]
        inner = cross_validate(others, rates, ridges, tick) if len(others) > 1 else surface
        chosen = [pick(inner, name) for name in STRATEGIES]
        for one in chosen:
            fold_picks[one.strategy].append(one)
        trained = sum_moments(others)
        weights = np.stack([_train(trained, one) for one in chosen])
        adapt = np.array([one.adapt_rate for one in chosen])
        losses[part] = tables[i].task_losses(weights, adapt)
    curve, adapt, of_tasks = _curve(surface, picks["signed"], moments, tables)
    rows = (table.counts - n_support).astype(float)
    zero = int(np.flatnonzero(rates == 0)[0])
    order = np.argsort(np.concatenate(parts))
    difference = (of_tasks - of_tasks[:, [zero]])[order]
    errors = np.array([mean_over_tasks(column, rows)[1] for column in difference.T])
    return RateComparison(
        picks,
        fold_picks,
        table.ids,
        losses,
        rows,
        surface,
        curve,
        adapt,
        errors,
        {name: _train(whole, one) for name, one in picks.items()},
        whole.scale,
    )


@dataclass(frozen=True)
class _Fold:
    """Tasks of one fold and their draws. Draws are made anew each time: they are cheap, and memory is not."""

    table: GroupedTable
    n_support: int
    n_draws: int
    seed: int

    def draws(self) -> Iterator[list[TaskBatch]]:
        """Each draw of support and query rows, as batches of tasks of like length."""
        for k in range(self.n_draws):
            yield self.table.draw_buckets(self.n_support, np.random.SeedSequence(self.seed, spawn_key=(k,)))

    def moments(self) -> Moments:
        """Moments of all draws together."""
        return sum_moments(Moments.from_tasks(draw) for draw in self.draws())

    def task_losses(self, weights: np.ndarray, adapt_rates: np.ndarray) -> np.ndarray:
        """Loss of each task (m, k), mean over the draws, under weights (k, p) with their own adapt rates (k,)."""
        total = np.zeros((self.table.n_tasks, len(weights)))
        c = circle.powers(adapt_rates, 1)
        for draw in self.draws():
            surface = evaluate(adapt_rates, weights, 1.0, np.zeros(1), draw, per_task=True)
            assert surface.task_products is not None  # per_task=True
            # Ids are sorted, in the table and so in each batch.
            place = np.searchsorted(self.table.ids, np.concatenate([batch.ids for batch in draw]))
            total[place] += 0.5 * np.einsum("ki,mkij,kj->mk", c, surface.task_products, c, optimize=True)
        return total / self.n_draws


def _train(moments: Moments, chosen: Pick) -> np.ndarray:
    return rate_path(moments, chosen.train_rate, ridge=chosen.ridge, steps=moments.steps).weights[0]


def _column(strategy: str) -> int:
    return list(STRATEGIES).index(_check.one_of(strategy, "strategy", STRATEGIES))


def _curve(
    surface: LossSurface, chosen: Pick, moments: list[Moments], tables: list[_Fold]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-validated loss over the train rate, its adapt rates, and the loss of each task, fold after fold."""
    r = int(np.flatnonzero(surface.ridges == chosen.ridge)[0])
    rates, adapt = surface.train_rates, surface.best_adapt_rate[:, r]
    of_tasks = []
    for i, fold in enumerate(tables):
        others = sum_moments(m for j, m in enumerate(moments) if j != i)
        weights = rate_path(others, rates, ridge=chosen.ridge, steps=others.steps).weights
        of_tasks.append(fold.task_losses(weights, adapt))
    return surface.best_loss[:, r], adapt, np.concatenate(of_tasks)
