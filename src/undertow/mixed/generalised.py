r"""The mixed model of two values and of counts: log odds, or the log of a mean, are linear, and tasks differ in them.

.. math:: g(E[y_i \mid w_i]) = X_i w_i , \qquad w_i \sim N(\mu, \Sigma_w) , \qquad \Sigma_w \text{ diagonal} ,

with the canonical link g (see ``families``). The mean and the deviations maximise Laplace's approximation of the
likelihood (see ``laplace``), as ``glmer`` of lme4 does; the weights of a task are the mode given its rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

from undertow import _check
from undertow._check import InputError, Setting
from undertow.mixed.families import FAMILIES, Family, check_targets
from undertow.mixed.lapack import lifted
from undertow.mixed.laplace import LinkRows, Modes, evaluate, information, modes
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.tasks.grouped import GroupedTable

STRUCTURES = ("none", "intercept", "diagonal")
"""Structures of Sigma_w: what ``fit_generalised`` knows of those of ``undertow.mixed.STRUCTURES``."""
MEAN_SCALE = 10.0
"""Deviation of the prior on the mean's weights unless it is given, in units of the link per root mean square of a
feature: hardly felt, but weights stay finite where a feature parts the values."""
DEVIATION_SCALE = 2.5
"""Of the half-normal prior on deviations between tasks, in the same units, where the mean has one: without it the mean
count of a new task, exp(variance / 2) times a middling one's, has no bound where counts are nearly all 0."""

_MOST_VARYING = 32
# Of a deviation, per root mean square of the feature: odds of e^20 are those of certainty.
_LARGEST = 20.0
_START, _SMALL = 0.3, 0.1
_RESTARTS = 3
# Log-likelihood per standard error at which the search ends, and below which it has arrived; gain, relative.
_SLOPE, _SETTLED, _GAIN = 1e-6, 1e-3, 1e-15
_NEWTON_STEPS, _NEAR = 50, 1e-6
_NO_VALUE = 1e300
# Information on a direction, per row: below it the weights have run away.
_NO_INFORMATION = 1e-7


@dataclass(frozen=True, eq=False)
class GeneralisedFit:
    """A fitted generalised linear mixed model, on the scale of its link, in the units of the features.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> shop, x = np.repeat(np.arange(30), 10), np.stack([rng.standard_normal(300), np.ones(300)], axis=1)
    >>> y = rng.poisson(np.exp(0.5 * x[:, 0] + 0.3 * rng.standard_normal(30)[shop]))
    >>> fit = ut.mixed.fit_generalised(ut.tasks.GroupedTable.from_arrays(x, y, shop), family="poisson")
    >>> fit.mean.round(1).tolist(), fit.n_rows
    ([0.5, -0.0], 300)
    """

    family: str
    structure: str
    mean: Float[np.ndarray, " p"]
    """(p,) mu"""
    task_covariance: Float[np.ndarray, " p"]
    """(p,) the diagonal of Sigma_w"""
    mean_covariance: Float[np.ndarray, "p p"]
    """(p, p) of mu's estimate, the variances taken as known: of penalised least squares at the modes, lme4's
    ``vcov(use.hessian = FALSE)``"""
    log_likelihood: float
    """by Laplace's approximation, without the prior"""
    mean_scale: float
    """deviation of the prior on the mean's weights of features that vary; inf for none"""
    dispersion: float
    """mean of (y - mean)^2 / variance at the tasks' modes; counts far above 1 vary more than Poisson's do"""
    converged: bool
    evaluations: int
    n_tasks: int
    n_rows: int
    outcome: str
    """what happened, in words"""

    @property
    def rule(self) -> LaplaceRule:
        """Its adaptation from the mean: the mode of the task's weights given its rows."""
        return LaplaceRule(self.family, self.task_covariance)


class _Search(NamedTuple):
    mean: np.ndarray
    scale: np.ndarray
    modes: Modes
    evaluations: int
    converged: bool


def fit_generalised(
    tasks: GroupedTable | LinkRows,
    structure: str = "intercept",
    *,
    family: str,
    mean_scale: float | None = None,
) -> GeneralisedFit:
    """Estimate the mean and the variances of the tasks' weights by Laplace's approximation of the likelihood.

    Parameters
    ----------
    tasks
        a table, or rows sorted by task; with a constant feature (``table.with_intercept()``) for the intercept. Tasks
        of one row are welcome. Row weights are copies.
    structure
        "none", "intercept" (tasks differ in the constant feature only), or "diagonal" (a variance for each feature).
    family
        "binomial" for targets of 0 and 1, "poisson" for counts.
    mean_scale
        deviation of a normal prior around 0 on the mean's weights of all features that are not constant, in units of
        the link per root mean square of a feature; None for 10, math.inf for none. With a prior the deviations have a
        half-normal one of scale 2.5.

    Returns
    -------
    GeneralisedFit
        ``mean`` (p,) and ``task_covariance`` (p,), a diagonal, on the scale of the link; ``outcome`` in words.

    Raises
    ------
    InputError
        for targets of another kind or of one value only, an unknown name, precision weights, and, without a prior,
        where a feature parts the values, so that no finite weights are the likeliest.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa, undertow as ut
    >>> rng = np.random.default_rng(0)
    >>> ward = np.repeat(np.arange(200), 10)
    >>> visits = rng.poisson(np.exp(0.5 + 0.7 * rng.standard_normal(200)[ward]))
    >>> columns = {"ward": ward, "age": rng.standard_normal(2000), "visits": visits}
    >>> table = ut.tasks.read_table(pa.table(columns), "ward", "visits").with_intercept()
    >>> fit = ut.mixed.fit_generalised(table, family="poisson")
    >>> bool(abs(fit.task_covariance[1] ** 0.5 - 0.7) < 0.1)
    True
    """
    rows = _rows_of(tasks)
    _check.one_of(structure, "structure", STRUCTURES)
    own = FAMILIES[_check.one_of(family, "family", FAMILIES)]
    check_targets(rows.y, family)
    prior = MEAN_SCALE if mean_scale is None else _scale(mean_scale)
    unit = np.sqrt(np.average(rows.x**2, axis=0, weights=rows.weights))
    unit = np.where(unit > 0, unit, 1.0)
    rows = rows._replace(x=rows.x / unit)
    constant = (rows.x == rows.x[0]).all(axis=0)
    varying = _varying(rows, structure, constant)
    precision = np.where(constant & (rows.x[0] != 0), 0.0, prior**-2.0)
    # A feature of zeros has no weight, whatever the prior.
    precision = np.where(~rows.x.any(axis=0), 1.0, precision)
    found = _search(rows, own, varying, precision, 0.0 if prior == math.inf else DEVIATION_SCALE**-2.0)
    known = information(rows, own, varying, found.scale, found.modes)
    if prior == math.inf:
        _refuse_separated(known + np.diag(precision), len(rows.y), family)
    covariance = np.zeros(len(unit))
    covariance[varying] = found.scale**2
    mean = own.mean(found.modes.eta)
    at = evaluate(rows, own, varying, found.mean, found.scale, found.modes.v)
    spread = np.maximum(own.variance(found.modes.eta), 1e-12)
    return GeneralisedFit(
        family,
        structure,
        found.mean / unit,
        covariance / unit**2,
        np.linalg.inv(known + np.diag(precision)) / np.outer(unit, unit),
        at.value,
        float(prior),
        float(np.average((rows.y - mean) ** 2 / spread, weights=rows.weights)),
        found.converged,
        found.evaluations,
        len(rows.offsets) - 1,
        len(rows.y),
        _outcome(found, structure),
    )


def _rows_of(tasks: GroupedTable | LinkRows) -> LinkRows:
    if isinstance(tasks, LinkRows):
        return tasks
    if tasks.weights is not None and tasks.weights_are == "precision":
        rule = "two values and counts have no precision beside their mean."
        raise InputError("weights_are", tasks.weights_are, rule, ("Use ", Setting("weights_are", "frequency"), "."))
    weights = np.ones(tasks.n_rows) if tasks.weights is None else tasks.weights
    return LinkRows(tasks.x.astype(np.float64), tasks.y.astype(np.float64), tasks.offsets, weights)


def _scale(given: float) -> float:
    if given != math.inf and _check.real(given, "mean_scale", hint="Use math.inf for no prior.") <= 0:
        raise InputError("mean_scale", given, "it must be greater than 0.", "Use math.inf for no prior.")
    return float(given)


def _varying(rows: LinkRows, structure: str, constant: np.ndarray) -> Int[np.ndarray, " r"]:
    """The columns whose weights vary between tasks."""
    there = rows.x.any(axis=0)
    if structure == "none":
        return np.zeros(0, dtype=np.int64)
    if structure == "intercept":
        if not (constant & there).any():
            way_out = "Add one with table.with_intercept(), or use another structure."
            raise InputError("structure", structure, "it needs a constant feature, and none of these is.", way_out)
        return np.flatnonzero(constant & there)[-1:]
    found = np.flatnonzero(there)
    if len(found) > _MOST_VARYING:
        rule = f"{len(found)} features would vary between tasks; at most {_MOST_VARYING} can."
        raise InputError("structure", structure, rule, ("Use ", Setting("structure", "intercept"), "."))
    return found


class _Objective:
    """The penalised log-likelihood, with the modes of the last point as the start of the next."""

    def __init__(
        self, rows: LinkRows, family: Family, varying: np.ndarray, precision: np.ndarray, of_scale: float = 0.0
    ) -> None:
        self.rows, self.family, self.varying, self.precision = rows, family, varying, precision
        self._of_scale = of_scale
        self.evaluations = 0
        self._v = np.zeros((len(rows.offsets) - 1, len(varying)))

    def at(self, mean: np.ndarray, scale: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Value, and slopes by the mean and the deviations; -inf where it is no number."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = evaluate(self.rows, self.family, self.varying, mean, scale, self._v)
        self.evaluations += 1
        if not np.isfinite(found.value):
            return -math.inf, np.zeros_like(mean), np.zeros_like(scale)
        self._v = found.modes.v
        prior = 0.5 * float(self.precision @ mean**2) + 0.5 * self._of_scale * float(scale @ scale)
        by_scale = found.by_scale - self._of_scale * scale
        return found.value - prior, found.by_mean - self.precision * mean, by_scale

    def modes(self, mean: np.ndarray, scale: np.ndarray) -> Modes:
        rows = self.rows
        return modes(rows, self.family, rows.x @ mean, rows.x[:, self.varying], scale, self._v)

    def curvature(self, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        known = information(self.rows, self.family, self.varying, scale, self.modes(mean, scale))
        return lifted(known + np.diag(self.precision))


def _search(rows: LinkRows, family: Family, varying: np.ndarray, precision: np.ndarray, of_scale: float) -> _Search:
    """Maximise over the mean and the deviations; again from above 0 where one ends there though more is likelier."""
    whole = _Objective(rows, family, varying, precision, of_scale)
    mean = _without_spread(rows, family, precision)
    scale, converged = np.full(len(varying), _START), True
    for _ in range(_RESTARTS):
        mean, scale, converged = _climbed(whole, mean, scale)
        lifted_ = _off_zero(whole, mean, scale)
        if lifted_ is None:
            break
        scale = lifted_
    return _Search(mean, scale, whole.modes(mean, scale), whole.evaluations, converged)


def _without_spread(rows: LinkRows, family: Family, precision: np.ndarray) -> np.ndarray:
    """The mean where tasks do not differ, by Newton's steps, from weights whose predictions are the mean target."""
    whole = _Objective(rows, family, np.zeros(0, dtype=np.int64), precision)
    mean, none = np.zeros(rows.x.shape[1]), np.zeros(0)
    value, slope, _ = whole.at(mean, none)
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(whole.curvature(mean, none), slope)
        if float(step @ slope) < _NEAR:
            break
        length = 1.0
        while length > 1e-10:
            new = whole.at(mean + length * step, none)
            if new[0] >= value:
                break
            length *= 0.5
        else:
            break
        mean, value, slope = mean + length * step, new[0], new[1]
    return mean


def _climbed(whole: _Objective, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The maximum near a point, in units of the mean's standard errors and of about those of the deviations."""
    p, unit = len(mean), 1 / math.sqrt(2 * len(whole.rows.offsets))
    turn = np.linalg.inv(np.linalg.cholesky(whole.curvature(mean, scale))).T

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_mean, by_scale = whole.at(mean + turn @ point[:p], unit * point[p:])
        return -value if value > -math.inf else _NO_VALUE, -np.append(turn.T @ by_mean, unit * by_scale)

    start = np.append(np.zeros(p), scale / unit)
    bounds = [(None, None)] * p + [(0.0, _LARGEST / unit)] * len(scale)
    options = {"gtol": _SLOPE, "ftol": _GAIN, "maxiter": 500, "maxcor": 20}
    end = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    free = np.append(np.ones(p, dtype=bool), (end.x[p:] > 0) & (end.x[p:] < _LARGEST / unit))
    # Where rounding ends the search the slope says whether it had arrived.
    settled = bool((np.abs(end.jac[free]) < _SETTLED).all())
    return mean + turn @ end.x[:p], unit * end.x[p:], settled


def _off_zero(whole: _Objective, mean: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """Deviations with one of those at 0 lifted, where that is likelier: at 0 itself the slope by a deviation is 0."""
    value = whole.at(mean, scale)[0]
    for k in np.flatnonzero(scale < _SMALL):
        trial = scale.copy()
        trial[k] = _SMALL
        if whole.at(mean, trial)[0] > value + _SETTLED:
            return trial
    return None


def _refuse_separated(known: np.ndarray, n_rows: int, family: str) -> None:
    """Raise InputError where rows say next to nothing of some direction of the mean."""
    if np.linalg.eigvalsh(known)[0] < _NO_INFORMATION * n_rows:
        what = "parts the two values" if family == "binomial" else "marks rows whose counts are all 0"
        rule = f"a feature, or several together, {what} or says what others say: no finite weights are the likeliest."
        raise InputError("mean_scale", math.inf, rule, "Leave it out, which holds them by a weak prior.")


def _outcome(found: _Search, structure: str) -> str:
    said = "the search has settled" if found.converged else "the search has ended short of the maximum"
    if len(found.scale) and not found.scale.any():
        said += "; tasks differ no more than chance allows"
    if (found.scale >= _LARGEST).any():
        said += "; a variance has grown to its limit: rows of a task are all alike"
    return f"{said} ({found.evaluations} evaluations)"
