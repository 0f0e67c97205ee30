r"""Rates on a circle.

A rate a -> +inf and a -> -inf give the same fit, so a path of fits is computed in homogeneous form. With
tan(phi) = a / scale, k inner steps at rate a are, up to the factor cos(phi)^k that no least-squares fit notices,

.. math:: (I - aS)^k \cos^k\phi = \sum_j c_j S^j, \qquad
          c_j = \binom{k}{j} \cos^{k-j}\phi \, (-\mathrm{scale} \sin\phi)^j .

``scale`` is the spectral unit, 1 / lambda_max of the mean support second moment: at rate = scale the inner step just
cancels the error along the strongest direction, on average over tasks.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np

from undertow import _check, _circle
from undertow._types import Coefficients, Rates, SomeCoefficients, SomeRates


def asked(train_rates: Any, rate_unit: str, scale: float) -> Rates:
    """Return raw rates (k,): those given in ``rate_unit``, or for None a grid that is uniform on the circle."""
    _check.one_of(rate_unit, "rate_unit", ("raw", "spectral"))
    if train_rates is None:
        return _circle.rates_of(_circle.grid(), scale)
    rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
    return rates * scale if rate_unit == "spectral" else rates


def coefficients(rates: Rates, scale: float, steps: int) -> tuple[Coefficients, Rates]:
    """Homogeneous coefficients (k, steps + 1) of S^0 .. S^steps at raw ``rates``, and cos(phi) (k,)."""
    with np.errstate(over="ignore"):
        t = rates / scale
    infinite = np.isinf(t)
    finite = np.where(infinite, 0.0, t)
    # From the rate itself and not from its angle: cos(arctan t) would lose the last digits at large rates.
    cos = np.where(infinite, 0.0, 1 / np.hypot(1.0, finite))
    sin = np.where(infinite, np.sign(np.where(infinite, t, 0.0)), finite * cos)
    return homogeneous(cos, -scale * sin, steps), cos


def powers(rates: SomeRates, steps: int) -> SomeCoefficients:
    """Plain coefficients (..., steps + 1) of S^0 .. S^steps in (I - rate S)^steps, for finite rates."""
    rates = np.asarray(rates, dtype=np.float64)
    return homogeneous(np.ones_like(rates), np.negative(rates, out=np.empty_like(rates)), steps)


def homogeneous(first: SomeRates, second: SomeRates, steps: int) -> SomeCoefficients:
    """Coefficients of the binomial (first + second s)^steps, (..., steps + 1)."""
    binomial = np.array([comb(steps, j) for j in range(steps + 1)], dtype=np.float64)
    return binomial * _up_to(first, steps)[..., ::-1] * _up_to(second, steps)


def _up_to(base: SomeRates, steps: int) -> SomeCoefficients:
    """Powers 0 .. steps, (..., steps + 1), by multiplication: a tenth of the time of ``**``."""
    out = np.ones((*np.shape(base), steps + 1))
    for j in range(steps):
        np.multiply(out[..., j], base, out=out[..., j + 1])
    return out
