"""More query rows than features: one task drawn exactly, m tasks added by free convolution.

With W_i = B_i^T B_i of task i, the resolvent of the sum seen from one task is (W_1 + omega)^-1 for a number omega, once
the other tasks' matrices are free of it. So every coefficient is a mean over one task, and omega solves
E tr W_1 (W_1 + omega)^-1 = p/m. Here the one task is drawn at its finite size, where the deterministic equivalent takes
the limit of that too; the rest is the same. See docs/explanation/theory.md, "Deterministic equivalents".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from undertow.problem import Design
from undertow.theory import equivalent, underparameterized, wishart
from undertow.theory._rates import NaturalCircle, angles, homogeneous, interpolate
from undertow.theory.records import Coefficients

# Beyond these sizes the deterministic equivalent is as good, and cheaper.
MOST_FEATURES, MOST_ROWS = 200, 40
_WORK = 8e3  # draws times the cost of one, which is an eigenvalue problem of min(n_v, p) rows
_NODES, _MOST_NODES, _INTERPOLATION = 16, 64, 4e-3


def applies(p: int, design: Design) -> bool:
    """Whether sizes are small enough to draw one task, and there are several."""
    return p <= MOST_FEATURES and min(design.n_query, p) <= MOST_ROWS and design.n_tasks > 1


class FreeSum:
    """Task and noise coefficients of Q on the circle of rates, by means over draws that are the same for all rates."""

    def __init__(self, p: int, design: Design, steps: int) -> None:
        self._p, self._m, self._steps, self._n_support = p, design.n_tasks, steps, design.n_support
        self._n_query = design.n_query
        rows, rank = min(design.n_query, p), min(p, design.n_support)
        n_draws = int(np.clip(_WORK / (4 + rows**2 / 8), 64, 3000))
        self._values = wishart.eigenvalue_draws(p, design.n_support, n_draws)
        self._x, self._null_gram = _query_rows(p, design.n_query, rank, n_draws)
        exact = np.array(underparameterized.at_zero(p, design))
        self._scale = exact / self._at(1.0, 0.0)

    def at(self, c: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return (nodes, 2): the coefficients of nu^2 and sigma^2, scaled to be exact at rate 0."""
        return self._scale * np.array([self._at(cj, sj) for cj, sj in zip(c, s, strict=True)])

    def _at(self, c: float, s: float) -> np.ndarray:
        k, m, x, values = self._steps, self._m, self._x, self._values
        power = (c - s * values) ** k
        gram = (x * (power**2)[:, None, :]) @ x.swapaxes(1, 2) + c ** (2 * k) * self._null_gram
        eigenvalues, vectors = np.linalg.eigh(gram)
        eigenvalues = eigenvalues.clip(1e-14 * eigenvalues[:, -1:])
        # Variance of the query residuals' noise along each eigenvector: 1 + u^T X_v N(S) X_v^T u / n_t.
        growth = (c**k - power) ** 2 / values / self._n_support
        noise = c ** (2 * k) + ((vectors.swapaxes(1, 2) @ x) ** 2 @ growth[:, :, None])[..., 0]
        weights = self._weights(c, s, eigenvalues, noise)
        omega = _subordinate(eigenvalues, weights, self._p / m)
        shrunk = eigenvalues / (eigenvalues + omega)
        slope = weights @ (shrunk * (1 - shrunk)).sum(axis=1)
        task, label = (weights @ x.sum(axis=1) for x in (shrunk**2, noise * shrunk**2 / eigenvalues))
        return (1 - 1 / m) / slope * np.array([task, self._p * label])

    def _weights(self, c: float, s: float, eigenvalues: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Weights of the draws with which E tr W, E tr W^2 and E tr B^T M B W are exact, as control variates.

        These make the leading order in 1/m exact, so that few draws are enough. With several steps those means rest on
        draws that are too rare to be seen, and all weights are equal.
        """
        if self._steps > 1:
            return np.full(len(eigenvalues), 1 / len(eigenvalues))
        rate, unit, one = np.array([s / c]), c ** (2 * self._steps), Design(1, self._n_support, self._n_query)
        h = wishart.inner_step(rate, self._steps, self._p, self._n_support).square[0]
        lead, n_v = underparameterized.leading(self._p, one, rate, self._steps), self._n_query
        known = np.array([self._p * h, self._p * lead.task[0] * h**2 * unit, lead.noise[0] * h**2 * unit]) * unit
        drawn = np.stack([n_v * eigenvalues, eigenvalues**2, noise * eigenvalues]).sum(axis=2).T / n_v**2
        x = drawn / known - 1
        centred, n = x - x.mean(axis=0), len(x)
        # The third repeats the first at rate 0: a solution of least norm.
        return (1 - centred @ (np.linalg.pinv(centred.T @ centred / n, rcond=1e-10) @ x.mean(axis=0))) / n


def _query_rows(p: int, n_query: int, rank: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw X_v on the eigenvectors of S, (draws, q, rank), and the Gram of its part in the null space, (draws, q, q).

    Only X_v^T X_v matters, so that with n_v > p rows its p x p root is drawn.
    """
    rows = min(n_query, p)
    generator = np.random.default_rng([20210114, p, n_query, rank])
    x = generator.standard_normal((n_draws, rows, p))
    if n_query > p:
        index = np.arange(p)
        x = np.triu(x, 1)
        x[:, index, index] = np.sqrt(generator.chisquare(np.arange(n_query, n_query - p, -1), (n_draws, p)))
        # The root is triangular in a basis of its own, which a random rotation makes independent of that of S.
        turn = np.linalg.qr(generator.standard_normal((n_draws, p, p)))[0]
        x = x @ turn
    null = x[:, :, rank:]
    return np.ascontiguousarray(x[:, :, :rank]), null @ null.swapaxes(1, 2)


def _subordinate(eigenvalues: np.ndarray, weights: np.ndarray, target: float) -> float:
    """Solve E sum_j lambda_j/(lambda_j + omega) = target for omega > 0, by bisection of its logarithm."""
    low, high = np.log(eigenvalues.min()) - 40, np.log(weights @ eigenvalues.sum(axis=1) / target)
    while high - low > 1e-12 * max(1.0, abs(high)):
        middle = 0.5 * (low + high)
        omega = np.exp(middle)
        if weights @ (eigenvalues / (eigenvalues + omega)).sum(axis=1) > target:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def coefficients(p: int, design: Design, rates: np.ndarray, steps: int = 1) -> Coefficients:
    """Return the coefficients of Q, (k,) each, for N > p + 1, where ``applies``; exact at rate 0."""
    if steps > 1:  # not smooth enough on the circle to interpolate
        c, s = homogeneous(rates, steps)
        values = _free_sum(p, design.n_tasks, design.n_support, design.n_query, steps).at(c, s)
        return Coefficients(np.zeros(len(rates)), values[:, 0], values[:, 1])
    parts = equivalent.coefficients(p, design, rates, steps)
    circle = NaturalCircle(p, design.n_support)
    values = _ratio(p, design.n_tasks, design.n_support, design.n_query)
    # Divided by its own value at rate 0, where the limit is exact: the curve has no step there.
    ratio = interpolate(values, circle.phase(rates)) / interpolate(values, circle.phase(np.zeros(1)))
    ratio[rates == 0] = 1.0  # to the last bit
    return Coefficients(parts.offset, parts.task * ratio[:, 0], parts.noise * ratio[:, 1])


@lru_cache(maxsize=16)
def _free_sum(p: int, n_tasks: int, n_support: int, n_query: int, steps: int) -> FreeSum:
    return FreeSum(p, Design(n_tasks, n_support, n_query), steps)


@lru_cache(maxsize=256)
def _ratio(p: int, n_tasks: int, n_support: int, n_query: int) -> np.ndarray:
    """Ratio to the deterministic equivalent at the nodes, (nodes, 2): it varies little, so that few nodes do."""
    circle, design = NaturalCircle(p, n_support), Design(n_tasks, n_support, n_query)
    drawn = FreeSum(p, design, 1)

    def at(count: int) -> np.ndarray:
        c, s = circle.nodes(count)
        limit = equivalent.coefficients(p, design, s / c)
        return drawn.at(c, s) / np.stack([limit.task, limit.noise], axis=1)

    values = at(_NODES)
    while len(values) < _MOST_NODES:
        finer = at(2 * len(values))
        miss = np.abs(interpolate(values, np.exp(2j * angles(len(finer)))) / finer - 1).max()
        values = finer
        if miss < _INTERPOLATION:
            break
    return values
