r"""The mixed model of tasks: each task's weights are drawn around a common mean, and their spread is estimated.

.. math:: y_i = X_i w_i + z_i, \qquad w_i \sim N(\mu, \Sigma_w), \qquad z_i \sim N(0, \sigma^2 I) .

The weights of a new task are its best linear unbiased prediction (BLUP) from its support rows,

.. math:: \theta = \mu + \Sigma_w X^T (X \Sigma_w X^T + \sigma^2 I)^{-1} (y - X \mu) ,

which is the proximal rule of ``rules`` with a penalty of its own for every direction, and what gradient steps with a
rate per feature approach: Meta-SGD in closed form. Source: Laird & Ware, Biometrics 38 (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.linear.proximal_step import ridge_adapt
from undertow.mixed.likelihood import Model, evaluate
from undertow.mixed.scoring import Search, root_of, search_components, search_full
from undertow.mixed.statistics import Source, TaskStatistics
from undertow.mixed.steps import NOISE_FLOOR
from undertow.problem import MixedLinearRegression

STRUCTURES = {
    "none": "all tasks share their weights",
    "intercept": "tasks differ in the constant feature only",
    "isotropic": "one variance for all features, and one for constant features",
    "diagonal": "a variance for each feature",
    "full": "variances and correlations",
}

# A step of the search for a full covariance solves a problem in p (p + 1) / 2 unknowns.
FULL_FEATURES = 64


@dataclass(frozen=True, eq=False)
class MixedFit:
    """A fitted mixed model, in the units of the data it was fitted to."""

    mean: np.ndarray
    """mu (p,)"""
    task_covariance: np.ndarray
    """Sigma_w (p, p), or (p,) where it is diagonal"""
    noise_variance: float
    """sigma^2"""
    log_likelihood: float
    """of the tasks that the variances were estimated from; restricted where ``method`` is "reml" """
    mean_covariance: np.ndarray
    """(p, p) covariance of mu's estimate, the variances taken as known"""
    mean_scale: float
    """prior deviation of mu's weights, in target per root mean square of a feature; inf for a flat prior"""
    structure: str
    method: str
    converged: bool
    iterations: int
    """steps of the search"""
    evaluations: int
    """how often the search evaluated the likelihood"""
    n_tasks: int
    variance_tasks: int
    """number of tasks that the variances were estimated from"""
    outcome: str
    """what happened, in words"""

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return len(self.mean)

    @property
    def variances(self) -> np.ndarray:
        """(p,) variance of each weight over tasks."""
        return self.task_covariance if self.task_covariance.ndim == 1 else np.diagonal(self.task_covariance)

    @property
    def penalties(self) -> np.ndarray:
        """(p,) sigma^2 / variance of each weight: what the proximal rule charges for leaving the mean; inf where fixed.

        In half the *sum* of squared errors; divide by the number of support rows for half the mean. Exact for a
        diagonal covariance.
        """
        return np.divide(
            self.noise_variance, self.variances, out=np.full(self.n_features, np.inf), where=self.variances > 0
        )

    @property
    def noise_std(self) -> float:
        """sigma."""
        return math.sqrt(self.noise_variance)

    @property
    def task_std(self) -> float:
        """nu, with nu^2 = tr Sigma_w."""
        return math.sqrt(float(self.variances.sum()))

    def problem(self, input_covariance: Any = None) -> MixedLinearRegression:
        """Return the generative model with these estimates, for theory's prediction of the rates.

        input_covariance: Sigma_x, (p, p) or (p,); None means the identity.
        """
        return MixedLinearRegression(
            self.n_features,
            self.noise_std,
            mean_weights=self.mean,
            task_covariance=self.task_covariance,
            input_covariance=input_covariance,
        )

    def adapt(self, tasks: TaskBatch, noise_factor: float = 1.0) -> np.ndarray:
        """Return the BLUP of each task's weights from its support rows, (m, p).

        noise_factor: multiplies the noise variance; above 1 it holds the weights nearer to the mean.
        """
        return ridge_adapt(self.mean, tasks, noise_factor * self.noise_variance, task_covariance=self.task_covariance)

    def predict_variance(self, tasks: TaskBatch) -> np.ndarray:
        """Return the variance of a new target at each query row given the support rows, (m, n_v).

        sigma^2 included; the uncertainty of mu too, of the variances not.
        """
        tasks.validate()
        x, q = np.asarray(tasks.support_x, np.float64), np.asarray(tasks.query_x, np.float64)
        if tasks.support_mask is not None:
            x = np.where(tasks.support_mask[..., None], x, 0.0)
        if tasks.query_mask is not None:
            q = np.where(tasks.query_mask[..., None], q, 0.0)
        root = root_of(self.task_covariance)
        z, zq = (x * root, q * root) if root.ndim == 1 else (x @ root, q @ root)
        h = z @ z.transpose(0, 2, 1)
        h[:, np.arange(x.shape[1]), np.arange(x.shape[1])] += self.noise_variance
        gain = np.linalg.solve(h, z @ zq.transpose(0, 2, 1))
        own = (zq**2).sum(axis=2) - ((z @ zq.transpose(0, 2, 1)) * gain).sum(axis=1)
        rest = q - gain.transpose(0, 2, 1) @ x
        return self.noise_variance + own.clip(0) + ((rest @ self.mean_covariance) * rest).sum(axis=2)


def fit_mixed(
    tasks: Source | TaskStatistics,
    structure: str = "diagonal",
    *,
    method: str = "reml",
    mean_scale: float | None = None,
    row_weights: Any = None,
    task_weights: Any = None,
    max_tasks: int = 2000,
    max_iterations: int = 200,
    tolerance: float = 1e-6,
    near: MixedFit | None = None,
    seed: int = 0,
) -> MixedFit:
    """Estimate the mean, Sigma_w and sigma^2 by (restricted) maximum likelihood.

    tasks: a GroupedTable, a TaskBatch or several (support and query rows both count), or TaskStatistics made from them,
        which serve any number of fits. Tasks of one row are welcome.
    structure: of Sigma_w, see ``STRUCTURES``; "intercept" needs a constant feature.
    method: "reml", or "ml", which is biased when there are few tasks for the number of features.
    mean_scale: deviation of a normal prior around 0 on the mean's weights of all features that are not constant, in
        target per root mean square of a feature. math.inf for none. None chooses it by the likelihood with "reml", and
        means none with "ml". It matters with many features and few rows.
    row_weights, task_weights: see ``TaskStatistics.from_tasks``.
    max_tasks: variances are estimated from at most this many tasks, drawn at random with ``seed``; the mean from all.
        The standard error of a variance is then about sqrt(2 / max_tasks) times the variance of what single tasks'
        own rows say about that weight.
    max_iterations: most steps of each search. tolerance: the search stops when a step promises less log-likelihood.
    near: a fit of the same structure to similar tasks; the search starts from it and takes fewer steps.

    Raises InputError for tasks that do not fit together or an unknown name.
    """
    _check.one_of(structure, "structure", STRUCTURES)
    _check.one_of(method, "method", ("reml", "ml"))
    max_iterations = _check.whole_number(max_iterations, "max_iterations")
    max_tasks = _check.whole_number(max_tasks, "max_tasks")
    if isinstance(tasks, TaskStatistics):
        if row_weights is not None or task_weights is not None:
            raise InputError("weights are part of TaskStatistics: hand them to TaskStatistics.from_tasks.")
        stats = tasks
    else:
        stats = TaskStatistics.from_tasks(tasks, row_weights, task_weights)
    model = _model(stats, method, mean_scale)
    part = stats
    if stats.n_tasks > max_tasks:
        part = stats.select(np.random.default_rng(seed).choice(stats.n_tasks, max_tasks, replace=False))
    if structure == "full" and stats.n_features > FULL_FEATURES:
        raise InputError(
            f"structure='full' with {stats.n_features} features has {stats.n_features * (stats.n_features + 1) // 2} "
            f"variances and covariances: at most {FULL_FEATURES} features are possible. Use 'diagonal'."
        )
    if near is not None and near.structure != structure:
        raise InputError(f"near is a fit with structure={near.structure!r}: it must be {structure!r}, as this fit.")
    found = _search(part, structure, model, max_iterations, tolerance, near)
    return _record(stats, part, structure, method, model, found)


def shrunk_fit(stats: TaskStatistics, full: MixedFit, diagonal: MixedFit, share: float) -> MixedFit:
    """Return the model with a share (0 to 1) of the diagonal fit's Sigma_w and sigma^2 and the rest of the full one's.

    With few tasks for the p (p + 1) / 2 numbers of a full covariance it predicts better than either. The mean is made
    anew, with a prior chosen anew unless the full fit had none. Raises InputError for a share outside [0, 1].
    """
    share = _check.real(share, "share", minimum=0.0)
    if share > 1:
        raise InputError(f"share={share!r}: it must be at most 1, which is the diagonal fit.")
    ratio = stats.target_unit / stats.unit
    covariance = (1 - share) * _square(full.task_covariance) + share * _square(diagonal.task_covariance)
    noise = (1 - share) * full.noise_variance + share * diagonal.noise_variance
    model = _model(stats, full.method, math.inf if full.mean_scale == math.inf else None)
    inside = covariance / np.outer(ratio, ratio)
    end = evaluate(stats, root_of(inside), noise / stats.target_unit**2, model, keep=False)
    found = Search(inside, end.noise, end, full.converged and diagonal.converged, [end.value], 1)
    return _record(stats, stats, "full", full.method, model, found)


def _square(covariance: np.ndarray) -> np.ndarray:
    return np.diag(covariance) if covariance.ndim == 1 else covariance


def _model(stats: TaskStatistics, method: str, mean_scale: float | None) -> Model:
    penalised = ~stats.constant
    if method == "ml" and mean_scale is not None and math.isfinite(mean_scale):
        raise InputError(f"mean_scale={mean_scale!r}: a prior on the mean needs method='reml'. Use math.inf with 'ml'.")
    if mean_scale is None and method == "reml":
        return Model(True, None, penalised)
    if mean_scale is None or mean_scale == math.inf:
        return Model(method == "reml", 0.0, np.zeros(stats.n_features, dtype=bool))
    scale = _check.real(mean_scale, "mean_scale")
    if scale <= 0:
        raise InputError(f"mean_scale={mean_scale!r}: it must be greater than 0. Use math.inf for no prior.")
    return Model(True, (stats.target_unit / scale) ** 2, penalised)


def components_of(stats: TaskStatistics, structure: str) -> np.ndarray:
    """Return the (p, C) variances, in units of the statistics, that one unit of each component gives to the weights."""
    p = stats.n_features
    if structure == "none":
        return np.zeros((p, 0))
    if structure == "intercept":
        if not stats.constant.any():
            raise InputError(
                "structure='intercept' needs a constant feature, and none of these is: add one with "
                "table.with_intercept(), or use another structure."
            )
        return np.eye(p)[:, [int(np.flatnonzero(stats.constant)[0])]]
    if structure == "isotropic":
        # One variance in the features' own units; a constant feature says nothing about the unit of the others.
        kinds = [kind for kind in (~stats.constant & ~stats.zero, stats.constant) if kind.any()]
        columns = [np.where(kind, stats.unit**2, 0.0) for kind in kinds]
        return np.stack([c / c.max() for c in columns], axis=1) if columns else np.zeros((p, 0))
    return np.eye(p)[:, ~stats.zero]


def _search(
    stats: TaskStatistics, structure: str, model: Model, iterations: int, tolerance: float, near: MixedFit | None
) -> Search:
    start = None
    if near is not None:
        ratio = stats.unit / stats.target_unit
        factor = ratio**2 if near.task_covariance.ndim == 1 else np.outer(ratio, ratio)
        start = near.task_covariance * factor, max(near.noise_variance / stats.target_unit**2, 2 * NOISE_FLOOR)
    if structure != "full":
        return search_components(stats, components_of(stats, structure), model, iterations, tolerance, start)
    if start is None:
        rough = search_components(stats, components_of(stats, "diagonal"), model, iterations, 1e-2)
        found = search_full(stats, (rough.covariance, rough.noise), model, iterations, tolerance)
        return found._replace(evaluations=found.evaluations + rough.evaluations)
    return search_full(stats, start, model, iterations, tolerance)


def _record(
    stats: TaskStatistics, part: TaskStatistics, structure: str, method: str, model: Model, found: Search
) -> MixedFit:
    # The mean is that of all tasks.
    final = found.end if part is stats else evaluate(stats, root_of(found.covariance), found.noise, model, keep=False)
    ratio = stats.target_unit / stats.unit
    covariance = found.covariance
    covariance = covariance * (ratio**2 if covariance.ndim == 1 else np.outer(ratio, ratio))
    scale = math.inf if final.mean_precision == 0 else stats.target_unit / math.sqrt(final.mean_precision)
    # From the likelihood in units of the statistics to that in the user's: the restricted one has a density for the
    # rows less the flat weights, and depends on the units of the features that these belong to.
    flat = (~model.penalised if final.mean_precision > 0 else np.ones(stats.n_features, dtype=bool)) & model.restricted
    change = (part.total_rows - flat.sum()) * math.log(stats.target_unit) + float(np.log(stats.unit[flat]).sum())
    return MixedFit(
        mean=final.mean * ratio,
        task_covariance=covariance,
        noise_variance=found.noise * stats.target_unit**2,
        log_likelihood=found.value - change,
        mean_covariance=final.mean_covariance * np.outer(ratio, ratio),
        mean_scale=scale,
        structure=structure,
        method=method,
        converged=found.converged,
        iterations=found.iterations,
        evaluations=found.evaluations,
        n_tasks=stats.n_tasks,
        variance_tasks=part.n_tasks,
        outcome=_words(covariance, structure, found),
    )


def _words(covariance: np.ndarray, structure: str, found: Search) -> str:
    if not found.converged:
        return (
            f"Stopped after {found.iterations} steps, before the likelihood stood still: the estimates are usable, but "
            "allow more with max_iterations, or use a simpler structure."
        )
    if found.noise <= 2 * NOISE_FLOOR:
        return (
            "Converged with next to no noise: the spread of the weights explains every row. If the target is not free "
            "of noise, there are too many variances for these rows: use a simpler structure."
        )
    if structure == "none":
        return "Converged: all tasks share their weights."
    if covariance.ndim == 1:
        zero = int((covariance == 0).sum())
        if structure == "diagonal" and zero:
            return f"Converged: {zero} of {len(covariance)} weights are the same for all tasks (variance 0)."
        if zero == len(covariance):
            return "Converged: the data show no difference between tasks (variance 0)."
        return "Converged."
    deviations = np.sqrt(np.diagonal(covariance))
    deviations = np.where(deviations > 0, deviations, 1.0)
    values = np.linalg.eigvalsh(covariance / np.outer(deviations, deviations))
    rank = int((values > 1e-6 * values[-1]).sum())
    if rank < len(covariance):
        return (
            f"Converged: the weights of tasks differ in {rank} of {len(covariance)} directions (singular covariance)."
        )
    return "Converged."
