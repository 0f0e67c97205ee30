r"""Kernels of the two-layer ReLU network of infinite width, both layers trained.

.. math:: f(x) = n^{-1/2} \sum_{j=1}^{n} a_j \, \mathrm{relu}(w_j^T \tilde x), \qquad \tilde x = (x, 1),
          \qquad a_j, w_j \sim N(0, I) .

With t the angle between :math:`\tilde x` and :math:`\tilde x'` (arc-cosine kernels of Cho and Saul, NeurIPS 2009; the
tangent kernel of Jacot, Gabriel and Hongler, NeurIPS 2018):

.. math::
    \Sigma(x, x') &= \frac{|\tilde x| |\tilde x'|}{2\pi} \left( \sin t + (\pi - t) \cos t \right)
                   = \mathrm{E} f(x) f(x') , \\
    K(x, x') &= \Sigma(x, x') + \tilde x^T \tilde x' \, \frac{\pi - t}{2\pi} .

Both are the exact means over the initial parameters at every width; single networks scatter around them like
1 / sqrt(n).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from undertow._check import InputError

# Where |cos t| is above this, arccos of a rounded cosine would lose digits and the angle comes from a difference.
_NEAR = 0.99
# Pairs of rows in a piece: about 2 MB an array, which stays in the cache between one operation and the next.
_PIECE = 1 << 18


def relu_ntk(x: np.ndarray, z: np.ndarray | None = None, *, bias: bool = True) -> np.ndarray:
    """Return the neural tangent kernel K between rows x (n, p) and z (l, p), as (n, l) in float64.

    Parameters
    ----------
    x
        (n, p) rows.
    z
        None means x.
    bias
        append a coordinate 1 to the inputs (so that the network has biases in its first layer).

    Raises
    ------
    InputError
        unless both have the same number of columns.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> ut.kernel.relu_ntk(np.eye(2), bias=False).round(3).tolist()
    [[1.0, 0.159], [0.159, 1.0]]
    """
    return _kernel(x, z, bias, 2.0)


def relu_nngp(x: np.ndarray, z: np.ndarray | None = None, *, bias: bool = True) -> np.ndarray:
    """Return the covariance of the network's values before training at rows x (n, p) and z (l, p), as (n, l).

    That is the covariance of f0, the first of the two parts of ``relu_ntk``; arguments and errors are the same.

    Parameters
    ----------
    x, z, bias
        as in ``relu_ntk``.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> ut.kernel.relu_nngp(np.eye(2), bias=False).round(3).tolist()
    [[0.5, 0.159], [0.159, 0.5]]
    """
    return _kernel(x, z, bias, 1.0)


def linear_kernel(x: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
    """Return x.z for rows x (n, p) and z (l, p): with it ``kernel_path`` is ``undertow.rate_path``.

    Parameters
    ----------
    x, z
        (n, p), (l, p): rows; None for z means x.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> ut.kernel.linear_kernel(np.eye(2), np.array([[3.0, 4.0]])).tolist()
    [[3.0], [4.0]]
    """
    a = np.asarray(x, dtype=np.float64)
    return a @ (a if z is None else np.asarray(z, dtype=np.float64)).T


def _kernel(x: np.ndarray, z: np.ndarray | None, bias: bool, share: float) -> np.ndarray:
    """|x||z| (sin t + share (pi - t) cos t) / (2 pi): training the first layer adds the cosine term once more."""
    first = _Directions.of(x, bias)
    second = first if z is None or z is x else _Directions.of(z, bias)
    widths = [rows.units.shape[1] - bias for rows in (first, second)]
    if widths[0] != widths[1]:
        raise InputError(None, rule=f"rows have {widths[0]} and {widths[1]} features: both must have the same.")
    out = np.empty((len(first.units), len(second.units)))
    step = max(1, _PIECE // max(len(second.units), 1))
    for start in range(0, len(out), step):
        units = first.units[start : start + step]
        cosine = units @ second.units.T
        angle = _angles(units, second.units, cosine)
        piece = np.sin(angle) + share * (np.pi - angle) * cosine
        out[start : start + step] = piece * (first.lengths[start : start + step, None] / (2 * np.pi) * second.lengths)
    return out


class _Directions(NamedTuple):
    units: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, bias: bool) -> _Directions:
        rows = _rows(x, bias)
        lengths = np.linalg.norm(rows, axis=1)
        # A row of zeros has no direction; whatever its angle, the kernel is 0 there.
        return cls(rows / np.where(lengths > 0, lengths, 1.0)[:, None], lengths)


def _angles(first: np.ndarray, second: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Angles between unit rows (n, p) and (l, p), to all digits, from their cosines (n, l)."""
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    rows, columns = np.nonzero(np.abs(cosine) > _NEAR)
    step = max(1, _PIECE // first.shape[1])
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        sign = np.sign(cosine[i, j])
        small = 2 * np.arcsin(np.linalg.norm(first[i] - sign[:, None] * second[j], axis=1) / 2)
        angle[i, j] = np.where(sign > 0, small, np.pi - small)
    return angle


def _rows(x: np.ndarray, bias: bool) -> np.ndarray:
    a = np.asarray(x, dtype=np.float64)
    if a.ndim != 2:
        raise InputError(
            None, rule=f"rows have shape {a.shape}.", way_out="Give a matrix with one row per input, (n, p)."
        )
    return np.concatenate([a, np.ones((len(a), 1))], axis=1) if bias else a
