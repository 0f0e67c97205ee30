r"""Likelihood of the mixed model, from rows that stand for each task.

With :math:`H_i = \sigma^2 I + X_i \Sigma_w X_i^T = F_i F_i^T`, :math:`A_i = F_i^{-1} X_i`, :math:`e_i = F_i^{-1} (y_i -
X_i \mu)` and the precision of the mean, :math:`P = \sum_i A_i^T A_i + \Lambda`,

.. math:: -2 \ell = \sum_i \left[ \log |H_i| + |e_i|^2 \right] + \mu^T \Lambda \mu + \log |P| - \log |\Lambda| ,

restricted likelihood for a mean with prior variance :math:`1 / \Lambda` (flat where 0, which drops its term from the
last logarithm); maximum likelihood leaves the last two terms out.

Sources: Patterson & Thompson, Biometrika 58 (1971); Laird & Ware, Biometrics 38 (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from undertow.mixed.lapack import eigh, lifted, put_solution
from undertow.mixed.statistics import Block, TaskStatistics

# Triangles of this many rows are solved one by one; smaller ones all at once, row by row.
_LONG = 16


@dataclass(frozen=True)
class Model:
    """What is maximised: restricted or plain likelihood, and what is known of the mean."""

    restricted: bool
    mean_precision: float | None
    """precision of the prior of each penalised weight of the mean; None to choose it by the likelihood itself"""
    penalised: Bool[np.ndarray, " p"]
    """(p,) which weights of the mean have that prior"""


class Part(NamedTuple):
    """A block of tasks, with features and residuals of unit covariance."""

    block: Block
    a: Float[np.ndarray, "b k p"]
    """(b, k, p) A"""
    e: Float[np.ndarray, "b k"]
    """(b, k) e"""


@dataclass(frozen=True)
class Evaluation:
    """The likelihood at one Sigma_w and sigma^2, with the mean that belongs to it."""

    value: float
    """log-likelihood, in units of the statistics"""
    mean: Float[np.ndarray, " p"]
    """(p,)"""
    mean_covariance: Float[np.ndarray, "p p"]
    """(p, p) P^{-1}"""
    mean_precision: float
    prior: Float[np.ndarray, " p"]
    """(p,) diagonal of Lambda"""
    noise: float
    gram: Float[np.ndarray, "p p"]
    """(p, p) sum of A^T A"""
    squares: float
    """sum of |e|^2, and of what no feature reaches"""
    rows: float
    """number of rows, weights counted in"""
    parts: list[Part]
    """none, unless kept"""
    restricted: bool

    @property
    def scale_slope(self) -> float:
        """Derivative of the log-likelihood by log c where both Sigma_w and sigma^2 are multiplied by c."""
        known = float((self.mean_covariance * self.gram).sum()) if self.restricted else 0.0
        return 0.5 * (self.squares + known - self.rows)


def evaluate(
    stats: TaskStatistics,
    root: Float[np.ndarray, "p q"] | Float[np.ndarray, " p"],
    noise: float,
    model: Model,
    keep: bool = True,
) -> Evaluation:
    """Return the likelihood at Sigma_w = root root^T and sigma^2 = noise.

    root: (p, q) with q <= p columns, or (p,) for a diagonal one, an entry below 0 standing for a negative variance: all
        H must be positive definite. keep: also keep what the derivatives need.
    """
    p = stats.n_features
    gram = np.zeros((p + 1, p + 1))
    logs, total, solved = 0.0, 0.0, []
    used, signs = np.flatnonzero(root) if root.ndim == 1 else np.arange(0), None
    if root.ndim == 1:
        root = root[used]
        signs = None if (root > 0).all() else np.sign(root)
    for block in stats.blocks:
        b, k, _ = block.rows.shape
        if root.shape == (1,):
            both, log_h = _with_one(block, int(used[0]), float(root[0]), noise)
        elif root.size:
            z = block.rows[..., used] * root if root.ndim == 1 else block.rows.reshape(b * k, p + 1)[:, :p] @ root
            z = z.reshape(b, k, -1)
            h = (z if signs is None else z * signs) @ z.transpose(0, 2, 1)
            h.reshape(b, k * k)[:, :: k + 1] += noise
            factor = _factored(h)
            both = _solved(factor, block.rows)
            log_h = 2 * np.log(factor.reshape(b, k * k)[:, :: k + 1]).sum(axis=1)
        else:
            both, log_h = block.rows / np.sqrt(noise), k * np.log(noise)
        logs += float(block.weights @ (log_h + (block.counts - k) * np.log(noise)))
        total += float(block.weights @ block.counts)
        flat = both.reshape(b * k, p + 1)
        solved.append((block, both, flat))
        if not (block.weights == 1).all():
            flat = flat * np.repeat(np.sqrt(block.weights), k)[:, None]
        gram += flat.T @ flat
    mean, covariance, precision, terms, flat_dimensions = _mean(gram, model)
    prior = np.where(model.penalised, precision, 0.0)
    left = np.append(-mean, 1.0)
    parts = [Part(block, both[..., :p], (flat @ left).reshape(both.shape[:2])) for block, both, flat in solved]
    # From the residuals, and not as a difference of two sums: without noise, next to nothing would be left of that.
    squares = sum(float(b.weights @ ((e**2).sum(axis=1) + b.residual / noise)) for b, _, e in parts)
    logs += terms + squares + float(prior @ mean**2)
    value = -0.5 * (logs + (total - (flat_dimensions if model.restricted else 0)) * np.log(2 * np.pi))
    parts = parts if keep else []
    return Evaluation(
        float(value), mean, covariance, precision, prior, noise, gram[:p, :p], squares, total, parts, model.restricted
    )


def _with_one(block: Block, feature: int, deviation: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """F^{-1} rows and log |H| where one weight alone varies, without a Cholesky factor.

    With z = deviation * x of that feature, s the sign of its variance and t = sigma^2 + s |z|^2, the symmetric root is
    :math:`H^{-1/2} = [I - s z z^T / (\\sqrt t (\\sqrt t + \\sigma))] / \\sigma`.
    """
    z = block.rows[..., feature] * deviation
    largest = noise + math.copysign(1.0, deviation) * (z**2).sum(axis=1)
    if not largest.min() > 0:
        raise np.linalg.LinAlgError("The rows have no density: they repel each other too much.")
    root, sigma = np.sqrt(largest), math.sqrt(noise)
    turned = z * (math.copysign(1.0, deviation) / (root * (root + sigma)))[:, None]
    both = (block.rows - turned[..., None] * (z[:, None] @ block.rows)) / sigma
    return both, np.log(largest) + (z.shape[1] - 1) * math.log(noise)


def _factored(h: Float[np.ndarray, "b k k"]) -> Float[np.ndarray, "b k k"]:
    """Cholesky factors; where the noise is lost beside the spread, with as much more of it as rounding needs."""
    try:
        return np.linalg.cholesky(h)
    except np.linalg.LinAlgError:
        return np.linalg.cholesky(lifted(h))


def _solved(factor: Float[np.ndarray, "b k k"], rows: Float[np.ndarray, "b k w"]) -> Float[np.ndarray, "b k w"]:
    """F^{-1} rows, for lower triangles F."""
    k = factor.shape[1]
    if k >= _LONG:
        out = rows.copy()
        for one, own in zip(factor, out, strict=True):
            put_solution(one, own)
        return out
    out = np.empty_like(rows)
    scale = 1.0 / np.diagonal(factor, axis1=1, axis2=2)[..., None]
    np.multiply(rows[:, 0], scale[:, 0], out=out[:, 0])
    for j in range(1, k):
        rest = rows[:, j] - (factor[:, j : j + 1, :j] @ out[:, :j])[:, 0]
        np.multiply(rest, scale[:, j], out=out[:, j])
    return out


def _mean(gram: np.ndarray, model: Model) -> tuple[np.ndarray, np.ndarray, float, float, int]:
    """Mean, its covariance, its prior precision, log |P| - log |Lambda|, and the number of flat directions."""
    p = len(gram) - 1
    matrix, right = gram[:p, :p].copy(), gram[:p, p]
    precision = 0.0
    if model.penalised.any():
        precision = _best_precision(gram, model.penalised) if model.mean_precision is None else model.mean_precision
        matrix[np.arange(p), np.arange(p)] += precision * model.penalised
    covariance, values, dropped = _inverted(matrix)
    mean = covariance @ right
    if not model.restricted:
        return mean, covariance, precision, 0.0, 0
    # A direction that is left out has neither a term in log |P| nor one in log |Lambda|.
    n_penalised = (
        int(model.penalised.sum()) - round(float((dropped[model.penalised] ** 2).sum())) if precision > 0 else 0
    )
    terms = float(np.log(values).sum()) - (n_penalised * np.log(precision) if n_penalised else 0.0)
    return mean, covariance, precision, terms, len(values) - n_penalised


def _inverted(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse, the eigenvalues that are not 0, and the directions of the others.

    Collinear features: directions without any information are left at 0, as the solution of least norm does.
    """
    values, vectors = eigh(matrix)
    first = int(np.searchsorted(values, 16 * len(values) * np.finfo(float).eps * max(values[-1], 0.0), side="right"))
    values, inside = values[first:], vectors[:, first:]
    return (inside / values) @ inside.T, values, vectors[:, :first]


# Weights of the mean are in units of target per standard deviation: beyond this range of precisions nothing changes.
_LOGS = np.linspace(np.log(1e-6), np.log(1e10), 75)
_PRECISIONS = np.exp(_LOGS)


def _best_precision(gram: np.ndarray, penalised: np.ndarray) -> float:
    """The prior precision of the mean with the highest likelihood, all else given: a search in one number."""
    p = len(gram) - 1
    inside, outside = np.flatnonzero(penalised), np.flatnonzero(~penalised)
    rows = gram[inside]
    reduced, right = rows[:, inside], rows[:, p]
    if len(outside):
        cross, rest = rows[:, outside], gram[outside]
        solved = cross @ _inverted(rest[:, outside])[0]
        reduced, right = reduced - solved @ cross.T, right - solved @ rest[:, p]
    values, vectors = eigh(reduced)
    values, squares = values.clip(0), (right @ vectors) ** 2
    kappas = _PRECISIONS[:, None]
    each = (np.log1p(values / kappas) - squares / (values + kappas)).sum(axis=1)
    best = int(each.argmin())
    if best in (0, len(_PRECISIONS) - 1):
        return float(_PRECISIONS[best])
    low, log, high = _LOGS[best - 1 : best + 2].tolist()
    below, here, above = each[best - 1 : best + 2].tolist()
    # Newton's method in the logarithm, from the vertex of a parabola, halving where it would leave the bracket.
    log += 0.25 * (high - low) * (below - above) / max(below - 2 * here + above, 1e-300)
    log = min(max(log, low), high)
    for _ in range(50):
        kappa = math.exp(log)
        inverse = 1.0 / (values + kappa)
        ratio, pull = values * inverse, squares * inverse**2
        slope = kappa * float(pull.sum()) - float(ratio.sum())
        bend = kappa * float(ratio @ inverse + pull @ ((values - kappa) * inverse))
        low, high = (log, high) if slope < 0 else (low, log)
        following = log - slope / bend if bend > 0 else low
        following = following if low < following < high else 0.5 * (low + high)
        step, log = following - log, following
        # What is left after a step of Newton's is its square.
        if abs(step) < 1e-5:
            break
    return math.exp(log)
