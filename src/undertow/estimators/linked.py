"""Models of two values and of counts: what is linear is the log odds, or the log of the mean, and no sums will do.

The expected target of a new row is a mean over what is left open of its task's weights, which is the spread of all
tasks where none of its rows is known: the mean of a curve is not the curve at the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow.choice.uncertainty import checked_level
from undertow.estimators.known_rows import KnownRows
from undertow.mixed.families import check_kind
from undertow.mixed.generalised import GeneralisedFit, fit_generalised
from undertow.mixed.laplace import LinkRows
from undertow.mixed.laplace_rule import LaplaceRule
from undertow.mixed.model import MixedRule
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.standard import Standard


@dataclass(frozen=True, eq=False)
class Link:
    """Letters: d standardised columns, r of them with weights that vary between tasks."""

    rule: LaplaceRule
    spread: np.ndarray
    """(r, r) covariance of the varying weights around the common ones, given the rows adapted to"""
    mean_covariance: np.ndarray
    """(d, d) of the common weights' estimate"""
    dispersion: float
    """see ``GeneralisedFit``"""

    @classmethod
    def of(cls, fit: GeneralisedFit, low: float) -> Link:
        """Return the link of a fit. low: the smaller of two values, 0 or -1."""
        rule = replace(fit.rule, low=low)
        return cls(rule, np.diag(rule.variances[rule.varying]), fit.mean_covariance, fit.dispersion)

    def check(self, targets: np.ndarray) -> None:
        """Raise InputError for targets (n, 1) of further rows that cannot be of the family."""
        check_kind((targets[:, 0].astype(np.float64) - self.rule.low) / (1 - self.rule.low), self.rule.family)

    def after(self, theta: np.ndarray, task: TaskBatch) -> Link:
        """Return the same for one task, its weights theta (d,) adapted to its rows."""
        return replace(self, spread=self.rule.spread(theta[None], task)[0])

    def open(
        self, z: np.ndarray, places: np.ndarray | None, omega: np.ndarray | None, rows: KnownRows | None
    ) -> np.ndarray:
        """Variance (R,) of what is linear at rows z (R, d), given what is known of their tasks.

        places: (R,) of the tasks among those whose weights omega (1, m, d) and rows are known; -1 for a new one.
        """
        out = self.rule.variance(z, self.spread)
        if places is None or omega is None or rows is None:
            return out
        seen = np.flatnonzero(places >= 0)
        tasks, which = np.unique(places[seen], return_inverse=True)
        known, spread = rows.take(tasks), np.zeros((len(tasks), *self.spread.shape))
        for part in known.chunks():
            batch = of_target(known.batch(part, z.shape[1]), 0)
            spread[part] = self.rule.spread(omega[0, tasks[part]], batch)
        out[seen] = self.rule.variance(z[seen], spread[which])
        return out

    def mean(self, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Expected target (R, 1), in the precision of eta (R,)."""
        return self.rule.mean(eta.astype(np.float64), variance)[:, None].astype(eta.dtype)

    def interval(self, eta: np.ndarray, variance: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Ends (R, 1) of the interval that is to hold a share ``level`` of new counts, alike much beyond each end."""
        if self.rule.family != "poisson":
            rule = "a target of two values is predicted by its probability, which says all of its spread."
            raise InputError("interval", level, rule, "Leave it out.")
        level = checked_level(level)
        eta = eta.astype(np.float64)
        low, high = (self.rule.quantiles(eta, variance, 0.5 + sign * level / 2)[:, None] for sign in (-1, 1))
        return low, high


def has_link(estimator: Any) -> bool:
    """Whether an estimator was given the rule of a model of two values or of counts."""
    rule = getattr(estimator, "rule", None)
    return isinstance(rule, MixedRule) and rule.family != "normal"


def link_standard(estimator: Any, standard: Standard, targets: np.ndarray) -> Standard:
    """Return the standard that leaves targets (R, q) as they are.

    Raises InputError where targets, or a parameter, do not go with the family of the rule.
    """
    family = estimator.rule.validate().family
    way_out = ("Leave ", Setting("family"), " out.")
    if not estimator.fit_intercept:
        rule = f"family={family!r} needs the intercept."
        raise InputError("fit_intercept", False, rule, ("Use ", Setting("fit_intercept", True), "."))
    if estimator.row_weights == "precision":
        rule = "two values and counts have no precision beside their mean."
        raise InputError("row_weights", "precision", rule, ("Use ", Setting("row_weights", "frequency"), "."))
    if not estimator.kind.scaled and family != "binomial":
        raise InputError("family", family, "classes are no counts.", "Use MAMLRegressor for counts.")
    if targets.shape[1] > 1:
        what = "targets" if estimator.kind.scaled else "classes"
        only = "one target" if estimator.kind.scaled else "two classes"
        raise InputError(
            "family", family, f"it is a model of {only}, and there are {targets.shape[1]} {what}.", way_out
        )
    return replace(standard, target_centre=np.zeros(1), target_spread=np.ones(1))


def fit_link(rows: TaskRows, rule: MixedRule, structure: str, low: float) -> tuple[np.ndarray, Link]:
    """Return the common weights (1, d) and the link, fitted to all rows. low: the smaller of two values, 0 or -1."""
    y = (rows.y[:, 0].astype(np.float64) - low) / (1 - low)
    weights = np.ones(len(y)) if rows.weights is None else rows.weights.astype(np.float64)
    each = LinkRows(rows.inputs().astype(np.float64), y, rows.offsets, weights)
    fit = fit_generalised(each, structure, family=rule.family, mean_scale=rule.mean_scale)
    return fit.mean[None], Link.of(fit, low)
