"""Ticks of logarithmic axes at numbers that people count in: 1, 2, 5 and 10 times a power of ten."""

from __future__ import annotations

import math

import numpy as np

_LEADING = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))


def logarithmic(low: float, high: float, most: int = 8) -> list[float]:
    """Ticks from ``low`` to ``high``, both positive: as many as fit without exceeding ``most``."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for leading in _LEADING:
        every = [float(f"{a * 10.0**k:.1g}") for k in range(first, last + 1) for a in leading]
        found = [one for one in every if low <= one <= high]
        if len(found) <= most:
            break
    return found[:: math.ceil(len(found) / most)] if found else [float(f"{math.sqrt(low * high):.2g}")]


def around_zero(low: float, high: float, linear: float, most: int = 4) -> list[float]:
    """Ticks of an axis that is linear within +-``linear`` and logarithmic beyond: 0, and both sides as far as they go.

    low <= 0 <= high.
    """
    far = max(-low, high)
    if far <= linear:
        return [float(one) for one in np.unique([low, 0.0, high])]
    side = logarithmic(linear, far, most)
    return [*(-one for one in side[::-1] if -one >= low), 0.0, *(one for one in side if one <= high)]
