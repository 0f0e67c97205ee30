"""A fitted mixed model as a record: what it predicts for new tasks, and what happened in the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.linear.proximal_step import ridge_adapt
from undertow.linear.ridge_solve import weighed
from undertow.linear.rules import ProximalRule
from undertow.mixed.scoring import Search, root_of
from undertow.mixed.steps import NOISE_FLOOR
from undertow.problem import MixedLinearRegression


@dataclass(frozen=True, eq=False)
class MixedFit:
    """A fitted mixed model, in the units of the data it was fitted to.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=2, noise_std=0.5, task_std=1.0)
    >>> tasks = problem.sample(ut.Design(n_tasks=200, n_support=5, n_query=5), seed=0)
    >>> fit = ut.mixed.fit_mixed(tasks, "diagonal")
    >>> fit.mean.shape, fit.variances.round(1).tolist(), round(fit.noise_std, 1)
    ((2,), [0.5, 0.5], 0.5)
    >>> fit.adapt(tasks).shape
    (200, 2)
    """

    mean: Float[np.ndarray, " p"]
    """mu (p,)"""
    task_covariance: Float[np.ndarray, "p p"] | Float[np.ndarray, " p"]
    """Sigma_w (p, p), or (p,) where it is diagonal; the variance of a lone intercept may be negative"""
    noise_variance: float
    """sigma^2"""
    log_likelihood: float
    """of the tasks that the variances were estimated from; restricted where ``method`` is "reml" """
    mean_covariance: Float[np.ndarray, "p p"]
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
    most_rows: float
    """rows of the largest task, or their weight"""
    reach: float
    """where the variance is negative: largest eigenvalue of X |Sigma_w| X^T up to which a task is adapted, so that it
    has fewer known rows than the largest task of the fit, and room for another; else inf"""
    outcome: str
    """what happened, in words"""

    @property
    def n_features(self) -> int:
        """Number of features, p."""
        return len(self.mean)

    @property
    def variances(self) -> Float[np.ndarray, " p"]:
        """(p,) variance of each weight over tasks."""
        return self.task_covariance if self.task_covariance.ndim == 1 else np.diagonal(self.task_covariance)

    @property
    def full_covariance(self) -> Float[np.ndarray, "p p"]:
        """Sigma_w as a matrix, also where it is diagonal."""
        return np.diag(self.task_covariance) if self.task_covariance.ndim == 1 else self.task_covariance

    @property
    def repels(self) -> bool:
        """Whether the intercept's variance is negative: rows of a task repel each other."""
        return self.task_covariance.ndim == 1 and bool((self.task_covariance < 0).any())

    @property
    def rule(self) -> ProximalRule:
        """Its adaptation from the mean, as a rule: next to no noise is still a penalty; negative where rows repel."""
        noise = max(self.noise_variance, 1e-12)
        if not self.repels:
            return ProximalRule(noise, self.task_covariance)
        return ProximalRule(-noise, np.abs(self.task_covariance), reach=self.reach)

    @property
    def icc(self) -> float:
        """Intraclass correlation: of two rows of a task that differ in nothing but noise, of structure "intercept"."""
        between = float(self.variances.sum())
        return between / (between + self.noise_variance)

    @property
    def penalties(self) -> Float[np.ndarray, " p"]:
        """(p,) sigma^2 / variance of each weight: what the proximal rule charges for leaving the mean; inf where fixed.
        Negative with the variance.

        In half the *sum* of squared errors; divide by the number of support rows for half the mean. Exact for a
        diagonal covariance.
        """
        return np.divide(
            self.noise_variance, self.variances, out=np.full(self.n_features, np.inf), where=self.variances != 0
        )

    @property
    def noise_std(self) -> float:
        """sigma."""
        return math.sqrt(self.noise_variance)

    @property
    def task_std(self) -> float:
        """nu, with nu^2 = tr Sigma_w; 0 where the variance is negative."""
        return math.sqrt(max(float(self.variances.sum()), 0.0))

    def problem(self, input_covariance: Any = None) -> MixedLinearRegression:
        """Return the generative model with these estimates, for theory's prediction of the rates.

        Parameters
        ----------
        input_covariance
            Sigma_x, (p, p) or (p,); None means the identity.

        Raises
        ------
        InputError
            for a negative variance, which no weights drawn at random have.
        """
        if self.repels:
            raise InputError(
                None,
                rule=f"the intercept's variance is {self.task_covariance.min():g}: no weights of tasks are drawn so.",
                way_out="Fit another structure.",
            )
        return MixedLinearRegression(
            self.n_features,
            self.noise_std,
            mean_weights=self.mean,
            task_covariance=self.task_covariance,
            input_covariance=input_covariance,
        )

    def adapt(self, tasks: TaskBatch, noise_factor: float = 1.0) -> Float[np.ndarray, "m p"]:
        """Return the BLUP of each task's weights from its support rows, (m, p).

        Parameters
        ----------
        noise_factor
            multiplies the noise variance; above 1 it holds the weights nearer to the mean.
        """
        rule = self.rule
        ratio = noise_factor * math.copysign(self.noise_variance, rule.ratio)
        return ridge_adapt(self.mean, tasks, ratio, rule.covariance, rule.reach)

    def predict_variance(self, tasks: TaskBatch) -> Float[np.ndarray, "m n"]:
        """Return the variance of a new target at each query row given the support rows, (m, n_v).

        sigma^2 included; the uncertainty of mu too, of the variances not.
        """
        tasks.validate()
        x, q = weighed(tasks)[0].astype(np.float64), np.asarray(tasks.query_x, np.float64)
        if tasks.query_mask is not None:
            q = np.where(tasks.query_mask[..., None], q, 0.0)
        root = root_of(self.task_covariance)
        z, zq = (x * root, q * root) if root.ndim == 1 else (x @ root, q @ root)
        sign = -1.0 if self.repels else 1.0
        if self.repels:
            z = np.where(((z**2).sum(axis=(1, 2)) < self.reach)[:, None, None], z, 0.0)
        h = sign * z @ z.transpose(0, 2, 1)
        h[:, np.arange(x.shape[1]), np.arange(x.shape[1])] += self.noise_variance
        shared = sign * z @ zq.transpose(0, 2, 1)
        gain = np.linalg.solve(h, shared)
        own = sign * (zq**2).sum(axis=2) - (shared * gain).sum(axis=1)
        rest = q - gain.transpose(0, 2, 1) @ x
        own = own if self.repels else own.clip(0)
        return self.noise_variance + own + ((rest @ self.mean_covariance) * rest).sum(axis=2)


def outcome_of(covariance: Float[np.ndarray, "p p"] | Float[np.ndarray, " p"], structure: str, found: Search) -> str:
    """Return in words what happened in a search."""
    if not found.converged:
        return (
            f"Not converged after {found.iterations} iterations: the estimates are usable, but allow more with "
            "max_iterations, or use a simpler structure."
        )
    if found.noise <= 2 * NOISE_FLOOR:
        return (
            "Converged with next to no noise: the spread of the weights explains every row. If the target is not free "
            "of noise, there are too many variances for these rows: use a simpler structure."
        )
    if structure == "none":
        return "Converged: all tasks share their weights."
    if covariance.ndim == 1 and covariance.min(initial=0) < 0:
        return "Converged: rows of a task repel each other (the intercept's variance is negative)."
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
