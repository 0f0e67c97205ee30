"""The mixed model as a family of strategies: one for each structure of the task covariance.

On large tables one fit serves all folds and the estimator: its variances come from some hundred tasks that no error is
measured on, with a relative standard error of about sqrt(2 / tasks), and its mean from the moments of all training
tasks, without weighing them by the task covariance: with thousands of tasks that changes nothing worth the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from undertow._workers import each
from undertow.choice.plan import Family, Found, Plan
from undertow.mixed.fit import MixedFit
from undertow.mixed.mean import mean_sums
from undertow.mixed.model import fit_mixed, shrunk_fit
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks.rows import TaskRows

PREFIX = "mixed_"
SHRUNK = "shrunk"

# To compare strategies a thousandth of log-likelihood changes no prediction. What a fold's fit keeps of its start,
# which has seen the fold, is less.
_FOLD_TOLERANCE = 1e-3
# Without an inner group too, some steps: the start is right to the first order, and the shares of a blend, which these
# fits serve, do not ask for more. On 80 made tables of 12 to 160 tasks the error of the blend is within 0.01 standard
# errors of that by converged fits. Where a fold is far from all others, fewer than eight steps would show it.
_INNER_STEPS = 10
_INNER_TOLERANCE = 1e-2

# On a large table the variances come from so many tasks that a step of their search takes this many multiplications.
_SPARED_WORK = 4e7
_LARGE_TOLERANCE = 1e-1
# A step costs two eigendecompositions, and with about as many columns as rows the last steps are many.
_WIDE_STEPS = 20
# The diagonal fit's share in the shrunk covariance.
_SHARE = 0.5


class MixedFamily:
    """The mixed model: mean, task covariance and noise by restricted maximum likelihood, from all rows."""

    def __init__(
        self,
        plan: Plan,
        structures: Sequence[str],
        pooled: Family | None = None,
        rotated: bool = False,
        slopes: Sequence[int] | None = None,
    ):
        rows = plan.everything
        self.plan = plan
        self.structures, self.slopes = tuple(structures), slopes
        self.pooled = pooled if plan.is_large else None
        """strategy "joint", whose weights are the mean on large tables"""
        if self.pooled is not None:
            rows = plan.rows.select(_spared(plan))
        self.statistics = [task_statistics(rows, j, rotated) for j in range(rows.y.shape[1])]
        # Tasks too short to be tested are training tasks of every fold.
        position = np.searchsorted(rows.ids, plan.rows.ids)
        self._tested = [position[part] for part in plan.folds]
        self._last: tuple[tuple[int, ...], list[TaskStatistics]] = (), []
        self._fits: dict[tuple[str, int | None, int | None], list[MixedFit]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the strategies; with both a diagonal and a full covariance also one half-way between them."""
        both = {"diagonal", "full"} <= set(self.structures)
        return [PREFIX + name for name in (*self.structures, *((SHRUNK,) if both else ()))]

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        """Return the model ("mixed_" and its structure) without an outer fold and one of its inner groups."""
        structure = strategy.removeprefix(PREFIX)
        fits = self.fits(structure) if self.pooled is not None else self.fits(structure, outer, inner)
        rules = tuple(fit.rule for fit in fits)
        if self.pooled is not None:
            return Found(self.pooled.found("joint", outer, inner).weights, rules, _settings(fits))
        means = np.stack([fit.mean for fit in fits])
        if outer is not None:
            return Found(means, rules, _settings(fits))
        sums = tuple(mean_sums(fit, own) for fit, own in zip(fits, self.statistics, strict=True))
        return Found(means, rules, _settings(fits), sums)

    def settings(self, strategy: str) -> dict[str, float]:
        """Return what is estimated from all tasks, in standardised units, mean over targets."""
        return _settings(self.fits(strategy.removeprefix(PREFIX)))

    def fits(self, structure: str, outer: int | None = None, inner: int | None = None) -> list[MixedFit]:
        """Return the fit of each target, without an outer fold and one of its inner groups."""
        outer, inner = self.plan.shared(outer, inner)
        key = structure, outer, inner
        if key not in self._fits:
            self._fits[key] = [self._fit(structure, outer, inner, j) for j in range(len(self.statistics))]
        return self._fits[key]

    def prepare(self, nested: bool) -> None:
        """Make the fits that will be asked for, on several workers: of all tasks, without each outer fold, and, for a
        nested choice, without an inner group of each too; the later ones start from the earlier ones."""
        outer = range(len(self.plan.folds))
        levels = [[(None, None)], [(fold, None) for fold in outer]]
        if nested:
            each_group = ((fold, i) for fold in outer for i in range(len(self.plan.groups(fold))))
            levels.append(list(dict.fromkeys(self.plan.shared(*one) for one in each_group)))
        # On a large table one fit serves all, and starts from that of the first structure.
        for level in levels[:1] if self.pooled is not None else levels:
            self.fits(self.structures[0], *level[0])
            keys = [(name, *without) for without in level for name in self.structures]
            each(lambda key: self.fits(*key), keys, self.plan.n_jobs)

    def _without(self, folds: tuple[int, ...]) -> list[TaskStatistics]:
        """Statistics of each target without some folds; the last ones asked for are kept, for all structures."""
        last = self._last
        if folds and folds != last[0]:
            unseen = np.concatenate([self._tested[fold] for fold in folds])
            kept = np.setdiff1d(np.arange(self.statistics[0].n_tasks), unseen)
            self._last = last = folds, [one.select(kept) for one in self.statistics]
        return last[1] if folds else self.statistics

    def _fit(self, structure: str, outer: int | None, inner: int | None, target: int) -> MixedFit:
        statistics, limits = self._without(self.plan.without(outer, inner))[target], self.plan.limits
        if structure == SHRUNK:
            full, diagonal = (self.fits(name, outer, inner)[target] for name in ("full", "diagonal"))
            return shrunk_fit(statistics, full, diagonal, _SHARE)
        slopes = None if structure == "intercept" else self.slopes
        if self.pooled is not None:
            near = None if structure == self.structures[0] or structure == "full" else self.fits(self.structures[0])
            start = None if near is None else replace(near[target], structure=structure)
            return fit_mixed(statistics, structure, near=start, tolerance=_LARGE_TOLERANCE, slopes=slopes)
        # The start of a search without a fold has seen the fold; that of one without an inner group too has not, to the
        # first order in what a fold does.
        near = None if outer is None else self.fits(structure)[target]
        if near is not None and inner is not None:
            near = _extrapolated(near, [self.fits(structure, k)[target] for k in self.plan.without(outer, inner)])
        options: dict[str, Any] = {"near": near, "seed": self.plan.seed, "slopes": slopes}
        if inner is not None:
            options |= {"max_iterations": _INNER_STEPS, "tolerance": _INNER_TOLERANCE}
        elif statistics.n_features > limits.diagonal_columns:
            steps: dict[str, Any] = {"max_iterations": _WIDE_STEPS, "tolerance": _LARGE_TOLERANCE}
            return fit_mixed(statistics, structure, near=near, slopes=slopes, **steps)
        elif outer is None:
            return fit_mixed(statistics, structure, max_tasks=limits.variance_tasks, **options)
        else:
            options["tolerance"] = _FOLD_TOLERANCE
        return fit_mixed(statistics, structure, max_tasks=limits.fold_variance_tasks, **options)


def _extrapolated(every: MixedFit, without: Sequence[MixedFit]) -> MixedFit:
    """Near the fit without several folds: from that of all tasks what each of the folds changes is taken off."""
    covariance = every.task_covariance + sum(one.task_covariance - every.task_covariance for one in without)
    noise = every.noise_variance + sum(one.noise_variance - every.noise_variance for one in without)
    if covariance.ndim == 1:
        covariance = np.maximum(covariance, np.min([one.task_covariance for one in (every, *without)], axis=0))
    return replace(every, task_covariance=covariance, noise_variance=max(noise, 0.1 * every.noise_variance))


def _settings(fits: Sequence[MixedFit]) -> dict[str, float]:
    settings = {
        "noise_std": float(np.mean([fit.noise_std for fit in fits])),
        "task_std": float(np.mean([fit.task_std for fit in fits])),
    }
    # Of a negative variance the standard deviation says nothing.
    return settings | ({"icc": float(np.mean([fit.icc for fit in fits]))} if any(fit.repels for fit in fits) else {})


def _spared(plan: Plan) -> np.ndarray:
    """Numbers of some tasks that no error is measured on."""
    tested = np.concatenate([plan.tested(fold) for fold in range(len(plan.folds))])
    rest = np.setdiff1d(np.arange(plan.rows.n_tasks), tested)
    d = plan.rows.n_columns
    work = _SPARED_WORK / (min(float(np.median(plan.rows.counts)), d) * d**2)
    most = int(np.clip(work, 256, plan.limits.variance_tasks))
    return rest[np.linspace(0, len(rest) - 1, min(most, len(rest))).round().astype(int)]


def task_statistics(rows: TaskRows, target: int, rotated: bool = False) -> TaskStatistics:
    """Statistics of the mixed model for one target; rotated: all features are given one unit, whatever their axes."""
    options: dict[str, Any] = {"precise": rows.precise, "common_unit": rotated}
    return TaskStatistics.from_rows(rows.inputs, rows.y[:, target], rows.offsets, rows.weights, **options)
