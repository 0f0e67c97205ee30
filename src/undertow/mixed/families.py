r"""Families of targets with their canonical links: linear in the features is the log odds, or the log of the mean.

.. math:: \log f(y \mid \eta) = y \eta - b(\eta) + c(y) , \qquad E[y] = b'(\eta) , \qquad \mathrm{var}(y) = b''(\eta) ,

with :math:`b = \log(1 + e^\eta)` for two values (0 and 1) and :math:`b = e^\eta` for counts. Source: McCullagh &
Nelder, Generalized Linear Models (1989), chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, gammaln, ndtri, pdtr

from undertow._check import InputError, Setting

# The trapezoid rule over +-8 deviations: its error falls exponentially with the number of nodes (Trefethen & Weideman,
# SIAM Review 56, 2014), also where the logistic curve is steep beside the spread.
_NODES = np.linspace(-8.0, 8.0, 161)
_SHARES = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
# Of a distribution function, which is no smooth curve: as close, and not so far out.
_FEW_NODES = np.linspace(-5.0, 5.0, 101)
_FEW_SHARES = np.exp(-0.5 * _FEW_NODES**2) / np.exp(-0.5 * _FEW_NODES**2).sum()
_AT_ONCE = 4096
# A mean beyond it is no count that anybody has seen; the exponential of more leaves the range of float64.
_MOST = 700.0
_MOST_COUNT = 1e15


@dataclass(frozen=True, eq=False)
class Family:
    """A family of targets with its canonical link; functions of eta, of any shape."""

    name: str
    link: str
    """what the features add up to, in words"""
    cumulant: Callable[[np.ndarray], np.ndarray]
    """b"""
    mean: Callable[[np.ndarray], np.ndarray]
    """b'"""
    variance: Callable[[np.ndarray], np.ndarray]
    """b''"""
    third: Callable[[np.ndarray], np.ndarray]
    """b'''"""
    constant: Callable[[np.ndarray], np.ndarray]
    """c, of y"""


def _exp(eta: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(eta, _MOST))


def _spread(eta: np.ndarray) -> np.ndarray:
    return expit(eta) * expit(-eta)


FAMILIES = {
    "binomial": Family(
        "binomial",
        "log odds",
        lambda eta: np.logaddexp(0.0, eta),
        expit,
        _spread,
        lambda eta: _spread(eta) * (expit(-eta) - expit(eta)),
        np.zeros_like,
    ),
    "poisson": Family("poisson", "log of the mean", _exp, _exp, _exp, _exp, lambda y: -gammaln(y + 1)),
}
"""By name: "binomial" for two values, logit link; "poisson" for counts, log link."""


def check_kind(y: Float[np.ndarray, " R"], family: str) -> None:
    """Raise InputError for targets that cannot be of a family."""
    odd = y[~np.isin(y, (0.0, 1.0))] if family == "binomial" else y[(y < 0) | (y != np.round(y))]
    if len(odd):
        what = "it takes targets of 0 and 1" if family == "binomial" else "counts are whole numbers from 0 on"
        way_out = ("Leave ", Setting("family"), " out for a target of other numbers.")
        raise InputError("family", family, f"y holds {odd[0]:g}: {what}.", way_out)


def check_targets(y: Float[np.ndarray, " R"], family: str) -> None:
    """Raise InputError for targets that cannot be of a family, and for those that have no finite fit."""
    check_kind(y, family)
    if family == "binomial" and y.min() == y.max():
        rule = f"y is {y[0]:g} in all rows: no odds are finite."
        raise InputError(None, rule=rule, way_out="Both values must occur.")
    if family == "poisson" and not y.any():
        rule = "y is 0 in all rows: the log of its mean is not finite."
        raise InputError(None, rule=rule, way_out="Some count must be above 0.")


def average(family: str, eta: Float[np.ndarray, " R"], variance: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Return the mean of a new target (R,) where what is linear is normal with mean eta (R,) and variance (R,)."""
    eta, variance = eta.astype(np.float64), variance.astype(np.float64)
    if family == "poisson":
        return _exp(eta + 0.5 * variance)
    out = np.empty(len(eta))
    for start in range(0, len(eta), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        out[part] = expit(eta[part, None] + np.sqrt(variance[part, None]) * _NODES) @ _SHARES
    return out


def count_quantiles(
    eta: Float[np.ndarray, " R"], variance: Float[np.ndarray, " R"], share: float
) -> Float[np.ndarray, " R"]:
    """Return the least count (R,) that a new one is at or below with a probability of ``share``, the log mean normal.

    By bisection on the mixture of Poisson distributions.
    """
    eta, spread = eta.astype(np.float64), np.sqrt(variance.astype(np.float64))
    out = np.empty(len(eta))
    for start in range(0, len(eta), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        means = np.minimum(_exp(eta[part, None] + spread[part, None] * _FEW_NODES), _MOST_COUNT)

        def reached(count: np.ndarray, means: np.ndarray = means) -> np.ndarray:
            return (count >= 0) & (pdtr(count[:, None].clip(0), means) @ _FEW_SHARES >= share)

        # About where the mean's own quantile is; where that is not wide enough, between all that can be.
        near = np.minimum(_exp(eta[part] + spread[part] * ndtri(share)), _MOST_COUNT)
        low, high = np.floor(near - 5 * np.sqrt(near) - 5).clip(-1), np.ceil(near + 5 * np.sqrt(near) + 5)
        low = np.where(reached(low), -1.0, low)
        high = np.where(reached(high), high, np.ceil(means[:, -1] + 20 * np.sqrt(means[:, -1]) + 20))
        while (high - low > 1).any():
            middle = np.floor((low + high) / 2)
            there = reached(middle)
            low, high = np.where(there, low, middle), np.where(there, middle, high)
        out[part] = high
    return out
