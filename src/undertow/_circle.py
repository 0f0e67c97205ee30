r"""Angles and rates: a rate lives on a circle, since alpha -> +inf and alpha -> -inf give the same fit.

tan(phi) = rate / scale, with ``scale`` the spectral unit: 1 / lambda_max of the mean support second moment.
"""

from __future__ import annotations

import numpy as np

from undertow._check import InputError
from undertow._types import Rates, SomeRates


def grid(n_rates: int = 101) -> Rates:
    """Return ``n_rates`` angles, uniform on [-pi/2, pi/2]: 0 exactly in the middle, both ends the rate infinity.

    Raises InputError when ``n_rates`` is even or less than 3, since then 0 is not among them.
    """
    if n_rates < 3 or n_rates % 2 == 0:
        raise InputError("n_rates", n_rates, "it must be odd and at least 3, so that 0 is one of the rates.")
    half = n_rates // 2
    return np.arange(-half, half + 1) * (np.pi / 2 / half)


def angles_of(rates: SomeRates, scale: float) -> SomeRates:
    """Angles phi = arctan(rate / scale) in [-pi/2, pi/2] of raw rates (infinities included)."""
    return np.asarray(np.arctan(np.asarray(rates, dtype=np.float64) / scale))


def rates_of(angles: SomeRates, scale: float) -> SomeRates:
    """Raw rates scale * tan(phi); -inf and +inf at the ends."""
    angles = np.asarray(angles, dtype=np.float64)
    ends = np.abs(angles) >= np.pi / 2
    return np.where(ends, np.copysign(np.inf, angles), scale * np.tan(np.where(ends, 0.0, angles)))
