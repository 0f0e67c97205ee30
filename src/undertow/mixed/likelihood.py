r"""Likelihood of the mixed model and its derivatives, from rows that stand for each task.

With :math:`H_i = \sigma^2 I + X_i \Sigma_w X_i^T`, :math:`A_i = H_i^{-1/2} X_i`, :math:`e_i = H_i^{-1/2} (y_i - X_i
\mu)` and the precision of the mean, :math:`P = \sum_i A_i^T A_i + \Lambda`,

.. math:: -2 \ell = \sum_i \left[ \log |H_i| + |e_i|^2 \right] + \mu^T \Lambda \mu + \log |P| - \log |\Lambda| ,

restricted likelihood for a mean with prior variance :math:`1 / \Lambda` (flat where 0, which drops its term from the
last logarithm); maximum likelihood leaves the last two terms out. The score is

.. math:: \frac{\partial \ell}{\partial \Sigma_w} = \tfrac12 \sum_i A_i^T \left[ e_i e_i^T - I + A_i P^{-1} A_i^T
          \right] A_i .

Sources: Patterson & Thompson, Biometrika 58 (1971); Laird & Ware, Biometrics 38 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_lapack_funcs

from undertow.mixed.statistics import Block, TaskStatistics

# The products of p^2 x p^2 that a full covariance needs are summed over at most about this many tasks.
_CURVATURE_TASKS = 512

(_trtri,) = get_lapack_funcs(("trtri",), dtype=np.float64)


@dataclass(frozen=True)
class Model:
    """What is maximised: restricted or plain likelihood, and what is known of the mean."""

    restricted: bool
    mean_precision: float | None
    """precision of the prior of each penalised weight of the mean; None to choose it by the likelihood itself"""
    penalised: np.ndarray
    """(p,) which weights of the mean have that prior"""


class _Part(NamedTuple):
    block: Block
    inverse: np.ndarray
    """(b, k, k) inverse of the Cholesky factor of H"""
    a: np.ndarray
    """(b, k, p)"""
    e: np.ndarray
    """(b, k)"""


@dataclass(frozen=True)
class Evaluation:
    """The likelihood at one Sigma_w and sigma^2, with the mean that belongs to it."""

    value: float
    """log-likelihood, in units of the statistics"""
    mean: np.ndarray
    """(p,)"""
    mean_covariance: np.ndarray
    """(p, p) P^{-1}"""
    mean_precision: float
    noise: float
    parts: list[_Part]
    restricted: bool


class Score(NamedTuple):
    """Derivatives of the log-likelihood."""

    covariance: np.ndarray
    """(p, p) by Sigma_w, or its diagonal (p,)"""
    noise: float
    """by sigma^2"""


def evaluate(stats: TaskStatistics, root: np.ndarray, noise: float, model: Model, keep: bool = True) -> Evaluation:
    """Return the likelihood at Sigma_w = root root^T and sigma^2 = noise.

    root: (p, q) with q <= p columns, or (p,) for a diagonal one. keep: also keep what ``score`` needs.
    """
    p = stats.n_features
    gram = np.zeros((p + 1, p + 1))
    logs, parts = 0.0, []
    for block in stats.blocks:
        b, k, _ = block.rows.shape
        if root.any():
            z = block.x * root if root.ndim == 1 else block.x @ root
            h = z @ z.transpose(0, 2, 1)
            h[:, np.arange(k), np.arange(k)] += noise
            factor = np.linalg.cholesky(h)
            inverse = _lower_inverse(factor)
            both = inverse @ block.rows
            log_h = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        else:
            inverse = np.broadcast_to(np.eye(k) / np.sqrt(noise), (b, k, k))
            both, log_h = block.rows / np.sqrt(noise), k * np.log(noise)
        logs += float(block.weights @ (log_h + (block.counts - k) * np.log(noise) + block.residual / noise))
        flat = both * np.sqrt(block.weights)[:, None, None] if (block.weights != 1).any() else both
        flat = flat.reshape(b * k, p + 1)
        gram += flat.T @ flat
        if keep:
            parts.append(_Part(block, inverse, both[..., :p], both[..., p]))
    mean, covariance, precision, terms, flat_dimensions = _mean(gram, model)
    logs += terms + float(gram[p, p] - gram[:p, p] @ mean)
    rows = stats.total_rows - (flat_dimensions if model.restricted else 0)
    value = -0.5 * (logs + rows * np.log(2 * np.pi))
    parts = [part._replace(e=part.e - part.a @ mean) for part in parts]
    return Evaluation(value, mean, covariance, precision, noise, parts, model.restricted)


def _lower_inverse(factor: np.ndarray) -> np.ndarray:
    """Inverse of lower triangles (b, k, k)."""
    if factor.shape[1] < 12:
        return np.linalg.inv(factor)
    # A loop over tasks, but of a routine that knows the triangle: three times faster than the general inverse.
    out = np.empty_like(factor)
    for i, one in enumerate(factor):
        # The transpose of C order is Fortran order: no copy is made.
        out[i] = _trtri(one.T, lower=0)[0].T
    return out


def _mean(gram: np.ndarray, model: Model) -> tuple[np.ndarray, np.ndarray, float, float, int]:
    """Mean, its covariance, its prior precision, log |P| - log |Lambda|, and the number of flat directions."""
    p = len(gram) - 1
    matrix, right = gram[:p, :p], gram[:p, p]
    precision = 0.0
    if model.penalised.any():
        precision = _best_precision(gram, model.penalised) if model.mean_precision is None else model.mean_precision
    shifted = matrix + np.diag(np.where(model.penalised, precision, 0.0))
    values, vectors = np.linalg.eigh(shifted)
    # Collinear features: directions without any information are left at 0, as the solution of least norm does.
    kept = values > 16 * p * np.finfo(float).eps * max(values[-1], 0.0)
    inverse = np.divide(1.0, values, out=np.zeros(p), where=kept)
    covariance = (vectors * inverse) @ vectors.T
    mean = covariance @ right
    n_penalised = int(model.penalised.sum()) if precision > 0 else 0
    if not model.restricted:
        return mean, covariance, precision, 0.0, 0
    terms = float(np.log(values[kept]).sum()) - (n_penalised * np.log(precision) if n_penalised else 0.0)
    return mean, covariance, precision, terms, int(kept.sum()) - n_penalised


def _best_precision(gram: np.ndarray, penalised: np.ndarray) -> float:
    """The prior precision of the mean with the highest likelihood, all else given: a search in one number."""
    p = len(gram) - 1
    inside = np.append(penalised, False)
    outside = np.append(~penalised, False)
    reduced = gram[np.ix_(inside, inside)]
    right = gram[inside, p]
    if outside.any():
        cross = gram[np.ix_(inside, outside)]
        solved = cross @ np.linalg.pinv(gram[np.ix_(outside, outside)], hermitian=True)
        reduced, right = reduced - solved @ cross.T, right - solved @ gram[outside, p]
    values, vectors = np.linalg.eigh(reduced)
    values, squares = values.clip(0), (vectors.T @ right) ** 2

    def cost(logs: np.ndarray) -> np.ndarray:
        each = np.exp(logs)[:, None]
        return (np.log1p(values / each) - squares / (values + each)).sum(axis=1)

    # Weights of the mean are in units of target per standard deviation: beyond this range nothing changes.
    low, high = np.log(1e-6), np.log(1e10)
    grid = np.linspace(low, high, 149)
    for _ in range(6):
        best = int(cost(grid).argmin())
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 33)
    return float(np.exp(grid[int(cost(grid).argmin())]))


def score(at: Evaluation, full: bool) -> Score:
    """Return the derivatives by Sigma_w (its diagonal unless ``full``) and by sigma^2."""
    p = len(at.mean)
    total = np.zeros((p, p) if full else p)
    noise = 0.0
    for block, inverse, a, e in at.parts:
        b, k, _ = a.shape
        w = block.weights
        middle = _middle(at, a)
        g = (a.transpose(0, 2, 1) @ e[..., None])[..., 0]
        product = middle @ a
        if full:
            total += (a * w[:, None, None]).reshape(b * k, p).T @ product.reshape(b * k, p) + (g * w[:, None]).T @ g
        else:
            total += w @ ((a * product).sum(axis=1) + g**2)
        squared = inverse @ inverse.transpose(0, 2, 1)
        bend = (e[:, None, :] @ squared @ e[..., None])[:, 0, 0]
        noise += float(
            w
            @ (
                (squared * middle).sum(axis=(1, 2))
                + bend
                + block.residual / at.noise**2
                - (block.counts - k) / at.noise
            )
        )
    return Score(0.5 * total, 0.5 * noise)


def _middle(at: Evaluation, a: np.ndarray) -> np.ndarray:
    """A P^{-1} A^T - I, (b, k, k)."""
    k = a.shape[1]
    middle = np.zeros((len(a), k, k))
    if at.restricted:
        np.matmul(a @ at.mean_covariance, a.transpose(0, 2, 1), out=middle)
    middle[:, np.arange(k), np.arange(k)] -= 1.0
    return middle


def information(at: Evaluation, components: np.ndarray) -> np.ndarray:
    """Return the expected information of Sigma_w = sum_c v_c diag(components[:, c]) and sigma^2, (C + 1, C + 1)."""
    p, c = components.shape
    total = np.zeros((c + 1, c + 1))
    # p x p products of a task only where there are about as many components as features.
    wide = c == 0 or 2 * c > p
    for block, inverse, a, _ in at.parts:
        w = block.weights
        k = a.shape[1]
        squared = inverse @ inverse.transpose(0, 2, 1)
        if wide:
            g = a.transpose(0, 2, 1) @ a
            g **= 2
            total[:c, :c] += components.T @ np.tensordot(w, g, axes=1) @ components
            total[:c, c] += components.T @ (w @ (a * (squared @ a)).sum(axis=1))
        else:
            kernels = np.stack([(a * components[:, j]) @ a.transpose(0, 2, 1) for j in range(c)], axis=1)
            flat = kernels.reshape(len(a), c, k * k)
            total[:c, :c] += ((flat * w[:, None, None]).transpose(1, 0, 2).reshape(c, -1)) @ (
                flat.transpose(1, 0, 2).reshape(c, -1).T
            )
            total[:c, c] += w @ (flat * squared.reshape(len(a), 1, k * k)).sum(axis=2)
        total[c, c] += float(w @ ((squared**2).sum(axis=(1, 2)) + (block.counts - k) / at.noise**2))
    total[c, :c] = total[:c, c]
    return 0.5 * total


def factor_information(at: Evaluation, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the expected information of Sigma_w = L L^T by L, and of sigma^2.

    factor: L (p, p). Returns (p, p, p, p), whose [r, s, t, u] belongs to L[r, s] and L[t, u]; the (p, p) cross
    information of L and sigma^2; and that of sigma^2.
    """
    p = len(factor)
    turned, crossed, noise = np.zeros((p * p, p * p)), np.zeros((p * p, p * p)), 0.0
    bend = np.zeros((p, p))
    # A search needs no exact curvature: of many tasks, evenly spaced ones stand for all.
    stride = -(-sum(len(part.a) for part in at.parts) // _CURVATURE_TASKS)
    for block, inverse, a, _ in at.parts:
        total_weight = block.weights.sum()
        block = Block(*(field[::stride] for field in block))
        inverse, a = inverse[::stride], a[::stride]
        w = block.weights * (total_weight / max(block.weights.sum(), 1e-300))
        b, k, _ = a.shape
        squared = inverse @ inverse.transpose(0, 2, 1)
        g = a.transpose(0, 2, 1) @ a
        m = g @ factor
        weighted = (m * w[:, None, None]).reshape(b, p * p)
        turned += weighted.T @ m.reshape(b, p * p)
        crossed += (g * w[:, None, None]).reshape(b, p * p).T @ (factor.T @ m).reshape(b, p * p)
        bend += (a * w[:, None, None]).reshape(b * k, p).T @ (squared @ a).reshape(b * k, p)
        noise += 0.5 * float(w @ ((squared**2).sum(axis=(1, 2)) + (block.counts - k) / at.noise**2))
    # tr(G D G D') for D = e_r L_s^T + L_s e_r^T and D' likewise, summed over tasks.
    shape = (p, p, p, p)
    total = turned.reshape(shape).transpose(0, 3, 2, 1) + crossed.reshape(shape).transpose(0, 2, 1, 3)
    return total, bend @ factor, noise
