r"""The mixed model of tasks: each task's weights are drawn around a common mean, and their spread is estimated.

.. math:: y_i = X_i w_i + z_i, \qquad w_i \sim N(\mu, \Sigma_w), \qquad z_i \sim N(0, \sigma^2 I) .

The weights of a new task are its best linear unbiased prediction (BLUP) from its support rows,

.. math:: \theta = \mu + \Sigma_w X^T (X \Sigma_w X^T + \sigma^2 I)^{-1} (y - X \mu) ,

which is the proximal rule of ``rules`` with a penalty of its own for every direction, and what gradient steps with a
rate per feature approach: Meta-SGD in closed form. Source: Laird & Ware, Biometrics 38 (1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from undertow import _check
from undertow._check import InputError, Setting
from undertow.mixed import generalised
from undertow.mixed.families import FAMILIES
from undertow.mixed.fit import MixedFit, outcome_of
from undertow.mixed.likelihood import Model, evaluate
from undertow.mixed.scoring import Search, root_of, search_components, search_full, search_repelling
from undertow.mixed.statistics import Source, TaskStatistics
from undertow.mixed.steps import NOISE_FLOOR

STRUCTURES = {
    "none": "all tasks share their weights",
    "intercept": "tasks differ in the constant feature only, or their rows repel each other (negative variance)",
    "isotropic": "one variance for all features, and one for constant features",
    "diagonal": "a variance for each feature",
    "full": "variances and correlations",
}

# A step of the search for a full covariance solves a problem in p (p + 1) / 2 unknowns.
FULL_FEATURES = 64


# Log-likelihood that a negative variance must gain over 0: 1 % of tables whose rows are independent get one.
_REJECTED = 0.5 * 5.412


@dataclass(frozen=True)
class MixedRule:
    """Adaptation by the best linear unbiased prediction (BLUP) of a mixed model, whose numbers are all estimated.

    Checked where it is used, not where it is made: see ``validate``.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressor(rule=ut.MixedRule("intercept")).fit(table.x, table.y, groups=table.groups)
    >>> model.task_intercept_.shape
    (142,)
    """

    structure: str = "diagonal"
    """of Sigma_w, see ``STRUCTURES``; "intercept" needs a constant feature"""
    method: str = "reml"
    """restricted maximum likelihood, or "ml", which is biased when there are few tasks for the number of features"""
    mean_scale: float | None = None
    """deviation of a normal prior around 0 on the mean's weights of all features that are not constant, in target per
    root mean square of a feature; math.inf for none; None chooses it by the likelihood with "reml", and means none with
    "ml". It matters with many features and few rows. Of another family, in units of its link, and None means 10."""
    family: str = "normal"
    """of the target: "normal", "binomial" for two values (logit link) or "poisson" for counts (log link). The last two
    are fitted by Laplace's approximation, with structure "none", "intercept" or "diagonal" """
    slopes: Sequence[int | str] | None = None
    """features whose weights differ between tasks, beside constant ones; None for all. Numbers, or names where an
    estimator is fitted to named columns. Of structures "isotropic", "diagonal" and "full" """

    def validate(self) -> MixedRule:
        """Return the rule itself; raises InputError for an unknown name, and a scale that is no positive number."""
        _check.one_of(self.family, "family", ("normal", *FAMILIES))
        _check.one_of(self.structure, "structure", STRUCTURES if self.family == "normal" else generalised.STRUCTURES)
        if self.family != "normal" and self.method != "reml":
            rule = ("it does nothing beside ", Setting("family", self.family), ", whose likelihood is Laplace's.")
            raise InputError("method", self.method, rule, "Leave it out.")
        _check.one_of(self.method, "method", ("reml", "ml"))
        if self.slopes is not None:
            idle = self.structure in ("none", "intercept")
            if idle or self.family != "normal":
                what = Setting("structure", self.structure) if idle else Setting("family", self.family)
                raise InputError("slopes", list(self.slopes), ("it is not offered beside ", what, "."), "Leave it out.")
        scale = self.mean_scale
        if scale is None or scale == math.inf:
            return self
        if _check.real(scale, "mean_scale", hint="Use math.inf for no prior.") <= 0:
            raise InputError("mean_scale", scale, "it must be greater than 0.", "Use math.inf for no prior.")
        if self.method == "ml":
            raise InputError(
                "mean_scale",
                scale,
                ("a prior on the mean needs ", Setting("method", "reml"), "."),
                ("Use math.inf with ", Setting("method", "ml"), "."),
            )
        return self

    def fit(self, tasks: Source | TaskStatistics, *, max_tasks: int = 2000, seed: int = 0) -> MixedFit:
        """Return what ``fit_mixed`` estimates from tasks; raises InputError for another family than "normal"."""
        if self.family != "normal":
            raise InputError("family", self.family, "this fits the normal model.", "Use fit_generalised.")
        own = {"method": self.method, "mean_scale": self.mean_scale, "slopes": self.slopes}
        return fit_mixed(tasks, self.structure, max_tasks=max_tasks, seed=seed, **own)  # type: ignore[arg-type]


def fit_mixed(
    tasks: Source | TaskStatistics,
    structure: str = "diagonal",
    *,
    method: str = "reml",
    mean_scale: float | None = None,
    max_tasks: int = 2000,
    max_iterations: int = 200,
    tolerance: float = 1e-6,
    near: MixedFit | None = None,
    seed: int = 0,
    slopes: Sequence[int | str] | None = None,
) -> MixedFit:
    """Estimate the mean, Sigma_w and sigma^2 by (restricted) maximum likelihood.

    Parameters
    ----------
    tasks
        a GroupedTable, a TaskBatch or several (support and query rows both count), or TaskStatistics made from
        them, which serve any number of fits and may have weights of rows and tasks. Tasks of one row are welcome.
    structure, method, mean_scale, slopes
        see ``MixedRule``.
    max_tasks
        variances are estimated from at most this many tasks, drawn at random with ``seed``; the mean from all. The
        standard error of a variance is then about sqrt(2 / max_tasks) times the variance of what single tasks' own
        rows say about that weight.
    max_iterations
        most steps of each search.
    tolerance
        the search stops when a step promises less log-likelihood.
    near
        a fit of the same structure to similar tasks; the search starts from it and takes fewer steps.
    seed
        of the tasks that the variances are estimated from.

    Returns
    -------
    MixedFit
        ``mean`` (p,), ``task_covariance`` (p, p), ``noise_std``, ``outcome`` in words; ``adapt`` gives the BLUP of new
        tasks.

    Raises
    ------
    InputError
        for tasks that do not fit together or an unknown name.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=2, noise_std=0.5, task_std=1.0)
    >>> fit = ut.mixed.fit_mixed(problem.sample(ut.Design(n_tasks=500, n_support=5, n_query=5), seed=0), "isotropic")
    >>> round(fit.noise_std, 1), round(fit.task_std, 1)
    (0.5, 1.0)
    """
    rule = MixedRule(structure, method, mean_scale, slopes=slopes).validate()
    max_iterations = _check.whole_number(max_iterations, "max_iterations")
    max_tasks = _check.whole_number(max_tasks, "max_tasks")
    stats = tasks if isinstance(tasks, TaskStatistics) else TaskStatistics.from_tasks(tasks)
    varies = _varying(stats, slopes)
    if structure == "full" and (n := int(varies.sum())) > FULL_FEATURES:
        raise InputError(
            "structure",
            structure,
            f"{n} features have {n * (n + 1) // 2} variances and covariances; at most {FULL_FEATURES} features are "
            "possible.",
            ("Use ", Setting("structure", "diagonal"), "."),
        )
    if near is not None and near.structure != structure:
        raise InputError(
            "structure", structure, f"near is a fit of {near.structure!r}.", "Give a fit of the same structure."
        )
    model = _model(stats, rule)
    part = stats
    if stats.n_tasks > max_tasks:
        part = stats.select(np.random.default_rng(seed).choice(stats.n_tasks, max_tasks, replace=False))
    if structure == "intercept":
        found = _search_intercept(part, stats.most_rows, model, max_iterations, tolerance, near)
    else:
        found = _search(part, structure, varies, model, max_iterations, tolerance, near)
    return _record(stats, part, rule, model, found)


def shrunk_fit(stats: TaskStatistics, full: MixedFit, diagonal: MixedFit, share: float) -> MixedFit:
    """Return the model with a share (0 to 1) of the diagonal fit's Sigma_w and sigma^2 and the rest of the full one's.

    With few tasks for the p (p + 1) / 2 numbers of a full covariance it predicts better than either. The mean is made
    anew, with a prior chosen anew unless the full fit had none. Raises InputError for a share outside [0, 1].
    """
    share = _check.real(share, "share", minimum=0.0)
    if share > 1:
        raise InputError("share", share, "it must be at most 1, which is the diagonal fit.")
    ratio = stats.target_unit / stats.unit
    covariance = (1 - share) * full.full_covariance + share * diagonal.full_covariance
    noise = (1 - share) * full.noise_variance + share * diagonal.noise_variance
    rule = MixedRule("full", full.method, math.inf if full.mean_scale == math.inf else None)
    model = _model(stats, rule)
    inside = covariance / np.outer(ratio, ratio)
    end = evaluate(stats, root_of(inside), noise / stats.target_unit**2, model, keep=False)
    found = Search(inside, end.noise, end, full.converged and diagonal.converged, [end.value], 1)
    return _record(stats, stats, rule, model, found)


def _model(stats: TaskStatistics, rule: MixedRule) -> Model:
    if rule.mean_scale is None and rule.method == "reml":
        return Model(True, None, ~stats.constant)
    if rule.mean_scale is None or rule.mean_scale == math.inf:
        return Model(rule.method == "reml", 0.0, np.zeros(stats.n_features, dtype=bool))
    return Model(True, (stats.target_unit / float(rule.mean_scale)) ** 2, ~stats.constant)


def _varying(stats: TaskStatistics, slopes: Sequence[int | str] | None) -> Bool[np.ndarray, " p"]:
    """Return which weights differ between tasks, (p,); raise InputError for numbers that no feature has."""
    if slopes is None:
        return np.ones(stats.n_features, dtype=bool)
    numbers = [_check.whole_number(one, "slopes", minimum=0) for one in slopes]
    if any(one >= stats.n_features for one in numbers):
        rule = f"features are numbered from 0 to {stats.n_features - 1}."
        raise InputError("slopes", numbers, rule, "Give others.")
    return stats.constant | np.isin(np.arange(stats.n_features), numbers)


def components_of(
    stats: TaskStatistics, structure: str, varies: Bool[np.ndarray, " p"] | None = None
) -> Float[np.ndarray, "p c"]:
    """Return the (p, C) variances, in units of the statistics, that one unit of each component gives to the weights.

    varies: which weights differ between tasks; None for all.
    """
    p = stats.n_features
    own = ~stats.zero if varies is None else varies & ~stats.zero
    if structure == "none":
        return np.zeros((p, 0))
    if structure == "intercept":
        if not stats.constant.any():
            raise InputError(
                "structure",
                structure,
                "it needs a constant feature, and none of these is.",
                "Add one with table.with_intercept(), or use another structure.",
            )
        return np.eye(p)[:, [int(np.flatnonzero(stats.constant)[0])]]
    if structure == "isotropic":
        # One variance in the features' own units; a constant feature says nothing about the unit of the others.
        kinds = [kind for kind in (~stats.constant & own, stats.constant) if kind.any()]
        columns = [np.where(kind, stats.unit**2, 0.0) for kind in kinds]
        return np.stack([c / c.max() for c in columns], axis=1) if columns else np.zeros((p, 0))
    return np.eye(p)[:, own]


def _search(
    stats: TaskStatistics,
    structure: str,
    varies: np.ndarray,
    model: Model,
    iterations: int,
    tolerance: float,
    near: MixedFit | None,
) -> Search:
    start = _start(stats, near)
    if structure != "full":
        return search_components(stats, components_of(stats, structure, varies), model, iterations, tolerance, start)
    if start is None:
        rough = search_components(stats, components_of(stats, "diagonal", varies), model, iterations, 1e-2)
        found = search_full(stats, (rough.covariance, rough.noise), model, iterations, tolerance, varies)
        return found._replace(evaluations=found.evaluations + rough.evaluations)
    return search_full(stats, start, model, iterations, tolerance, varies)


def _start(stats: TaskStatistics, near: MixedFit | None) -> tuple[np.ndarray, float] | None:
    if near is None:
        return None
    ratio = stats.unit / stats.target_unit
    factor = ratio**2 if near.task_covariance.ndim == 1 else np.outer(ratio, ratio)
    return near.task_covariance * factor, max(near.noise_variance / stats.target_unit**2, 2 * NOISE_FLOOR)


def _search_intercept(
    stats: TaskStatistics, most_rows: float, model: Model, iterations: int, tolerance: float, near: MixedFit | None
) -> Search:
    """Search among variances from 0 on, and below 0 where that ends at 0 and the data reject it, or starts below."""
    component = components_of(stats, "intercept")
    start, zero = _start(stats, near), None
    if start is None or start[0].min() >= 0:
        zero = search_components(stats, component, model, iterations, tolerance, start)
        if zero.covariance.any() or most_rows < 2:
            return zero
        start = zero.covariance, zero.noise
    variance, noise = float(start[0] @ component[:, 0]), start[1]
    # Another table may have larger tasks than that of the start.
    first = max(variance, -0.5 * noise / most_rows), noise
    found = search_repelling(stats, component, most_rows, model, iterations, tolerance, first)
    if zero is None:
        return found
    used = found.evaluations + zero.evaluations
    return (found if found.value > zero.value + _REJECTED else zero)._replace(evaluations=used)


def _reach(covariance: np.ndarray, stats: TaskStatistics) -> float:
    if covariance.ndim == 2 or not (covariance < 0).any():
        return math.inf
    return (stats.most_rows - 0.5) * float(-covariance @ stats.unit**2)


def _record(stats: TaskStatistics, part: TaskStatistics, rule: MixedRule, model: Model, found: Search) -> MixedFit:
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
        structure=rule.structure,
        method=rule.method,
        converged=found.converged,
        iterations=found.iterations,
        evaluations=found.evaluations,
        n_tasks=stats.n_tasks,
        variance_tasks=part.n_tasks,
        most_rows=stats.most_rows,
        reach=_reach(covariance, stats),
        outcome=outcome_of(covariance, rule.structure, found),
    )
