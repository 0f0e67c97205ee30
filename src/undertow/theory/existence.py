"""Whether the mean distance exists: how fast the chance falls that the outer problem is nearly singular.

Let P(least singular value of B < eta) ~ eta^e. The mean of 1/eta^2 is finite for e > 2 and its variance for e > 4. One
direction v is nearly lost when every task loses it. A task loses it either because its query rows do, at the price of
n_v conditions, or because A = (I - a S)^k does: j eigenvalues of S come within eta^(1/k) of 1/a, which has the exponent
j (j + 1)/(2 k) since they repel each other, and v lies in their span, at the price of p - j conditions. The choice of
v gives p - 1 of the conditions back. See docs/explanation/theory.md, "Where the mean exists".
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from undertow.problem import Design

# Exponents are told up to here: beyond 4 the variance is finite too.
_ENOUGH = 6

MEAN, VARIANCE = 2, 4
"""Exponents that must be exceeded for a finite mean, and for a finite variance."""


def exponents(p: int, design: Design, rates: np.ndarray, steps: int) -> np.ndarray:
    """Return e at each rate, (k,), capped at 6. For N > p it is that of B, for N < p that of one task's rows."""
    m, n_t, n_v = design.n_tasks, min(design.n_support, 10**6), design.n_query
    sides = [_exponent(p, m, n_t, n_v, steps, side) for side in (0, 1, 2)]
    kind = np.where(np.isinf(rates), 2, rates > 0)
    return np.array(sides)[kind.astype(int)]


@lru_cache(maxsize=1024)
def _exponent(p: int, m: int, n_t: int, n_v: int, steps: int, side: int) -> float:
    """Side 0: rates <= 0, where A is never singular; 1: positive rates; 2: infinite ones, where A is S^steps."""
    n, q = n_v * m, min(n_t, p)
    if n < p:
        # At infinite rates the noise vanishes with the rows, and the mean exists wherever it does at rate 0.
        options = [(p, 0)] + ([(p - j, j * (j + 1)) for j in range(1, q + 1)] if side == 1 else [])
        return _least(1, options, n_v - 1, steps)
    if side == 0:
        return float(min(_ENOUGH, n - p + 1))
    if side == 2 and m == 1:
        return float(min(_ENOUGH, abs(n_t - p) + 1))  # E tr S^-1, where S has a rank
    if side == 1:
        options = [(n_v, 0)] + [(p - j, j * (j + 1)) for j in range(1, q + 1)]
    elif m * min(n_v, q) < p - 1:
        return float(_ENOUGH)  # the tasks leave directions alone, which are settled by what is of the next order
    else:
        options = [(min(n_v, q), 0)] + [(q - j, j * (abs(n_t - p) + j)) for j in range(1, q + 1)]
    return _least(m, options, p - 1, steps)


def _least(n_tasks: int, options: list[tuple[int, int]], free: int, steps: int) -> float:
    """Least exponent when each task chooses (conditions, 2 k times its exponent), and ``free`` conditions are given."""
    unit = 2 * steps
    most = free + _ENOUGH
    options = [(min(conditions, most), price) for conditions, price in options if price <= _ENOUGH * unit]
    if n_tasks * min(Fraction(price, unit) + conditions for conditions, price in options) >= most:
        return float(_ENOUGH)
    # Least total price for each total number of conditions, counted up to where it is enough by itself.
    total = np.full(most + 1, np.inf)
    total[0] = 0
    for _ in range(n_tasks):
        following = np.full(most + 1, np.inf)
        for conditions, price in options:
            moved = total[: most + 1 - conditions] + price
            following[conditions:] = np.minimum(following[conditions:], moved)
            following[most] = min(following[most], total[most - conditions :].min() + price)
        total = following
    excess = np.maximum(np.arange(most + 1) - free, 0)
    return float(min(_ENOUGH, (excess + total / unit).min()))
