"""The test side, exact at all sizes: the loss after adapting to a new task, given E|omega* - w_0|^2.

    L = sigma^2/2 (1 + noise_r) + h_r/2 (nu^2 + Q)

with h_r = E tr (I - alpha_r S_r)^(2 k)/p and noise_r = E tr N(S_r)/n_r. For one step h_r = (1 - alpha_r)^2 +
alpha_r^2 (p + 1)/n_r and noise_r = alpha_r^2 p/n_r. omega* must not depend on the adaptation rows.
See docs/explanation/theory.md, "The test side".
"""

from __future__ import annotations

import numpy as np

from undertow.theory import wishart


def loss(
    p: int, n_adapt: int, adapt_rates: np.ndarray, distance: np.ndarray, task2: float, noise2: float, steps: int = 1
) -> np.ndarray:
    """Return the expected test loss, half a mean squared error.

    ``adapt_rates`` and ``distance`` (Q) broadcast; ``task2`` is nu^2 and ``noise2`` is sigma^2.
    """
    step = wishart.inner_step(adapt_rates, steps, p, n_adapt)
    return noise2 / 2 * (1 + step.noise * (p / n_adapt)) + step.square / 2 * (task2 + distance)


def best_rate(p: int, n_adapt: int, distance: np.ndarray, task2: float, noise2: float) -> np.ndarray:
    """Return the adapt rate with the least loss for one step, in [0, 1):

    alpha_r* = D / (D (1 + (p + 1)/n_r) + sigma^2 p/n_r),  D = nu^2 + Q.  It is 0 only where D is 0.
    """
    d = task2 + distance
    # Divided by D, so that an infinite mean distance gives the limit.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        noise = noise2 * (p / n_adapt) / d
    return np.where(d > 0, 1 / (1 + (p + 1) / n_adapt + noise), 0.0)
