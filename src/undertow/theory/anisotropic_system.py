"""Fixed-point equations of the deterministic equivalent for correlated inputs, and their solution at many rates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from undertow.theory.anisotropic_leading import Angles

STEP = 1e-100  # of the complex-step derivatives: exact to rounding, since nothing is subtracted
_TINY = 1e-120  # stands for a rate of 0, where the logarithms of the support unknowns would be infinite
_TOLERANCE = 1e-9


class Sizes(NamedTuple):
    """n_t, n_v and m as real numbers: the equivalent is analytic in them, and limits are taken along them."""

    n_support: float
    n_query: float
    n_tasks: float


class State(NamedTuple):
    """The equivalent at given unknowns: (k, r) diagonals and (k,) traces."""

    share: np.ndarray
    """e, what one task adds to the inverse of the mean resolvent"""
    others: np.ndarray
    """Omega = D + (m - 1) e, the inverse resolvent that one task meets"""
    resolvent: np.ndarray
    """R = 1 / (D + m e), the mean resolvent"""
    label: np.ndarray
    """(k,) what label noise is multiplied by, before the derivative"""
    update: np.ndarray
    """(k, 4) the unknowns that follow from these"""


class System:
    """The equations, for N < r (``over``) and for N > r; docs/explanation/theory.md, "General covariance", derives
    them.

    Each task has rows B_i = X_v (c I - s S_i). D is a ridge that goes to 0 (N > r), or the metric in which the solution
    is nearest to its start (N < r; D = 1). The unknowns, (k, 4), are log psi11, psi12 / s, log psi22 and log theta.
    """

    def __init__(self, inputs: np.ndarray, angles: Angles, sizes: Sizes) -> None:
        self.inputs, self.sizes, self.rank = inputs, sizes, len(inputs)
        self.over = sizes.n_query * sizes.n_tasks < self.rank
        self.base = 1.0 if self.over else 0.0
        self.cosine = angles.cosine
        self.sine = np.where(np.abs(angles.sine) < _TINY, _TINY, angles.sine)

    def state(self, unknowns: np.ndarray, ridge: np.ndarray | float) -> State:
        """Evaluate the equivalent with D = ``ridge``: the base, or the base with a tilt to differentiate along."""
        x, (n_t, n_v, m), c, s = self.inputs, self.sizes, self.cosine, self.sine
        p11, p22, theta = (np.exp(unknowns[:, i, None]) for i in (0, 2, 3))
        p12 = s[:, None] * unknowns[:, 1, None]
        mean = c[:, None] - x * p12
        damped = 1 + theta * x**2 * p22
        share = theta * x * (p11 + mean**2 / damped)
        resolvent = 1 / (ridge + m * share)
        others = ridge + (m - 1) * share
        # Entries of the 2 x 2 blocks G = [[Omega + theta psi11 Sx, mean], [mean, -damped / (theta Sx)]]^-1, whose first
        # one is the resolvent; the last is taken as -G22 / theta > 0.
        g12 = theta * x * mean / damped * resolvent
        g22 = x * (others + theta * x * p11) / damped * resolvent
        t11, t12, t22 = (g @ x for g in (resolvent, g12, g22))
        t, theta = s / n_t, theta[:, 0]
        u = 1 - t * t12
        scale = 1 / (u * u + t * t * t11 * t22 * theta)
        label = c**2 * theta + t * theta * (p11[:, 0] * t12 + p12[:, 0] * t22)
        kept = resolvent @ (ridge + np.zeros_like(x))
        if self.over:
            rows = unknowns[:, 3] + np.log(kept / (self.rank - m * n_v))
        else:
            rows = np.log(n_v - (self.rank - kept) / m)
        update = [np.log(s * t * t22 * scale), u * scale, np.log(s * t * t11 * scale), rows]
        return State(share, others, resolvent, label, np.stack(update, axis=1))

    def solve(self) -> np.ndarray:
        """Return the unknowns, (k, 4), or raise ArithmeticError (a defect: no sizes are known that do it)."""
        n_t, n_v, m = self.sizes
        unknowns = np.empty((len(self.sine), 4))
        unknowns[:, 0] = np.log(self.sine**2 / n_t * (self.inputs @ self.inputs))
        unknowns[:, 1] = 1.0
        unknowns[:, 2] = np.log(self.sine**2 / n_t * self.inputs.sum())
        unknowns[:, 3] = 0.0 if self.over else np.log(n_v - self.rank / m)
        # Averaged fixed-point steps lead to the branch where all resolvents are positive; Newton steps end on it.
        for steps in (30, 100, 300, 1000, 3000):
            for _ in range(steps):
                unknowns = self._average(unknowns)
            polished = self._newton(unknowns)
            if (self._error(polished) < _TOLERANCE).all():
                return polished
        raise ArithmeticError(f"the deterministic equivalent did not converge for {self.sizes} and rank {self.rank}.")

    def tilted(self, metrics: np.ndarray) -> Iterator[tuple[np.ndarray, State]]:
        """Yield for each metric C the D = base + i STEP C and the solved state there.

        The imaginary part of any quantity, divided by STEP, is its derivative along C.
        """
        unknowns = self.solve()
        jacobian = self._jacobian(unknowns)
        for metric in metrics:
            ridge = self.base + 1j * STEP * metric
            tilt = np.imag(self._residual(unknowns.astype(np.complex128), ridge))
            slope = -np.linalg.solve(jacobian, tilt[..., None])[..., 0]
            yield ridge, self.state(unknowns + 1j * slope, ridge)

    def _average(self, unknowns: np.ndarray) -> np.ndarray:
        """One half step towards the update. For N < r the last unknown is led by ``_rows`` instead."""
        moved = unknowns.copy()
        if self.over:
            moved[:, 3] = self._rows(unknowns)
        update = self.state(moved, self.base).update
        if self.over:
            update[:, 3] = moved[:, 3]
        return (moved + update) / 2

    def _rows(self, unknowns: np.ndarray) -> np.ndarray:
        """Log theta nearer to tr R = r - N: a cut Newton step on the logit, which is nearly linear in log theta."""
        moved = unknowns.astype(np.complex128)
        moved[:, 3] += 1j * STEP
        kept = self.state(moved, self.base).resolvent.sum(axis=1)
        target = self.rank - self.sizes.n_tasks * self.sizes.n_query
        logit = np.log(kept / (self.rank - kept))
        goal = np.log(target / (self.rank - target))
        return unknowns[:, 3] + np.clip((goal - logit.real) / (logit.imag / STEP), -3, 3)

    def _residual(self, unknowns: np.ndarray, ridge: np.ndarray | float) -> np.ndarray:
        return self.state(unknowns, ridge).update - unknowns

    def _jacobian(self, unknowns: np.ndarray) -> np.ndarray:
        columns = []
        for i in range(4):
            moved = unknowns.astype(np.complex128)
            moved[:, i] += 1j * STEP
            columns.append(np.imag(self._residual(moved, self.base)) / STEP)
        return np.stack(columns, axis=2)

    def _newton(self, unknowns: np.ndarray) -> np.ndarray:
        """Newton steps that are taken only where they reduce the error."""
        for _ in range(25):
            error = self._error(unknowns)
            if (error < _TOLERANCE * 1e-3).all():
                break
            jacobian, residual = self._jacobian(unknowns), self._residual(unknowns, self.base)
            step = np.zeros_like(unknowns)
            usable = np.flatnonzero(np.isfinite(jacobian).all(axis=(1, 2)) & np.isfinite(residual).all(axis=1))
            usable = usable[np.linalg.det(jacobian[usable]) != 0]
            step[usable] = -np.linalg.solve(jacobian[usable], residual[usable][..., None])[..., 0]
            step *= np.minimum(1, 2 / np.maximum(np.abs(step).max(axis=1), _TINY))[:, None]
            better = np.zeros(len(error), dtype=bool)
            trial = unknowns
            for fraction in (1.0, 0.3, 0.1):
                trial = np.where(better[:, None], trial, unknowns + fraction * step)
                better = self._error(trial) < error
            unknowns = np.where(better[:, None], trial, unknowns)
            if not better.any():
                break
        return unknowns

    def _error(self, unknowns: np.ndarray) -> np.ndarray:
        """(k,) largest residual; all unknowns are logarithms or of order 1."""
        with np.errstate(all="ignore"):
            error = np.abs(self._residual(unknowns, self.base)).max(axis=1)
        return np.where(np.isfinite(error), error, np.inf)
