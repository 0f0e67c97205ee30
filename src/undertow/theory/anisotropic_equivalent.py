"""Deterministic equivalent for correlated inputs, with its finite-size corrections, in both regimes.

docs/explanation/theory.md, "General covariance", gives the derivation and what the corrections were measured to be
worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from undertow.problem import Design
from undertow.theory import anisotropic_leading as leading
from undertow.theory.anisotropic_leading import Angles, Pieces, Spectrum
from undertow.theory.anisotropic_system import STEP, Sizes, State, System

_MANY = 1e7  # tasks, as good as infinitely many
_ONE = 1 + 1e-6  # task: exactly one leaves an unknown of the equations at 0
_TRUST = 0.04  # relative deviation from the leading order at which half of its small-n_t correction is believed


def overparameterized(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Pieces:
    """N < r: the equivalent and its corrections of relative order 1/r. ``metrics`` is (j, r)."""
    n, n_v, m, r = design.n_query_rows, design.n_query, design.n_tasks, len(spectrum.inputs)
    # Both ratios make the result exact for isotropic inputs, where the corrections are 1 / (r - N) and 1 / (r - n_v).
    total_ratio = (r - n) / (r - n - 1) if n < r - 1 else 1.0
    own_ratio = (r - n_v) / (r - n_v - 1) if n_v < r - 1 else 1.0
    pieces = []
    for _, state in System(spectrum.inputs, angles, _sizes(design)).tilted(metrics):
        used = m * state.share * state.resolvent
        left = used * (1 - used)
        mean_shift = (used * left).sum(axis=1) / left.sum(axis=1) ** 2
        shift = 1 + total_ratio * mean_shift
        own = state.share * state.others * state.resolvent
        if m > 1:
            own = own / (1 + own_ratio * state.share / (n_v * state.others))
            tasks_shift = shift
        else:
            tasks_shift = 1.0  # one task: what it adds for itself is what it loses to itself
        start = -(state.resolvent @ spectrum.gap)
        pieces.append((start, m * tasks_shift * (own @ spectrum.tasks), m * shift * state.label))
    return _derivatives(pieces)


def underparameterized(spectrum: Spectrum, design: Design, angles: Angles, metrics: np.ndarray) -> Pieces:
    """N > r + 1: the equivalent, made exact at rate 0 and for many tasks. ``metrics`` is (j, r)."""
    n, m, r = design.n_query_rows, design.n_tasks, len(spectrum.inputs)
    zero = Angles(np.append(angles.cosine, 1.0), np.append(angles.sine, 0.0))
    at_zero = tasks_at_zero(spectrum, design, metrics)
    if m == 1:
        return _one_task(spectrum, design, zero, metrics, at_zero)
    solved = [list(System(spectrum.inputs, zero, sizes).tilted(metrics)) for sizes in (_sizes(design), _many(design))]
    here, many = _both(spectrum.tasks, design, solved)
    tasks = here.tasks[:-1] * at_zero / here.tasks[-1] if spectrum.tasks.any() else here.tasks[:-1]
    noise = here.noise[:-1] * (n - r) / (n - r - 1)
    # For many tasks the exact coefficient of 1/m is known; the equivalent misses its terms of relative order 1/n_t.
    exact = leading.underparameterized(spectrum, design, zero, metrics)
    strays = _strays(spectrum, design, solved, here, many)
    noise = noise * _believed(exact.noise / (many.noise * (_MANY / m)), np.maximum(strays.noise, strays.start))
    if spectrum.tasks.any():
        tasks = tasks * _believed(exact.tasks / (many.tasks * (_MANY / m)), np.maximum(strays.noise, strays.tasks))
    return Pieces(here.start[:-1], tasks, noise)


def _believed(ratio: np.ndarray, stray: np.ndarray) -> np.ndarray:
    """The correction ``ratio`` relative to rate 0, as far as the first order in 1/m is to be trusted."""
    return (ratio[:-1] / ratio[-1]) ** (1 / (1 + stray / _TRUST))


_Solved: TypeAlias = Sequence[tuple[np.ndarray, State]]
"""the D of each metric and the solved state there"""


def _both(tasks: np.ndarray, design: Design, solved: Sequence[_Solved]) -> list[Pieces]:
    """The limits of large sizes for tasks of these variances: as many as there are, and many."""
    return [_limit(tasks, sizes, one) for sizes, one in zip((_sizes(design), _many(design)), solved, strict=True)]


def _strays(spectrum: Spectrum, design: Design, solved: Sequence[_Solved], here: Pieces, many: Pieces) -> Pieces:
    """How far each part, (k, 1), is from its own first order in 1/m, relative to rate 0; ``start`` is for white tasks.

    Noise is corrected as beside white tasks, whatever the tasks are: without any, and with hardly any, alike.
    """
    white, white_many = here, many
    if not spectrum.tasks.any() or np.ptp(spectrum.tasks) > 0:
        # The states do not depend on the tasks' variances.
        white, white_many = _both(np.ones_like(spectrum.inputs), design, solved)

    def stray(ours: np.ndarray, limit: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # no tasks: 0/0, and not used
            ratio = limit / ours
        return np.abs(ratio[:-1] / ratio[-1] - 1).max(axis=1, keepdims=True)

    return Pieces(stray(white.tasks, white_many.tasks), stray(here.tasks, many.tasks), stray(here.noise, many.noise))


def _one_task(spectrum: Spectrum, design: Design, zero: Angles, metrics: np.ndarray, at_zero: np.ndarray) -> Pieces:
    """m = 1, N > r + 1: the weights follow the task, whatever the rate; noise has a mean for rates <= 0 only.

    (I - a S)^-2 has no mean for a > 0, since the spectrum of S has density at 1/a.
    """
    finite = zero.sine <= 0
    chosen = Angles(zero.cosine[finite], zero.sine[finite])
    n, r = design.n_query_rows, len(spectrum.inputs)
    noise = np.full((len(finite), len(metrics)), np.inf)
    sizes = Sizes(design.n_support, design.n_query, _ONE)
    solved = list(System(spectrum.inputs, chosen, sizes).tilted(metrics))
    noise[finite] = _limit(spectrum.tasks, sizes, solved).noise * (n - r) / (n - r - 1)
    noise = noise[:-1]
    return Pieces(np.zeros_like(noise), np.broadcast_to(at_zero, noise.shape).copy(), noise)


def _limit(tasks: np.ndarray, sizes: Sizes, solved: _Solved) -> Pieces:
    """The limit of large sizes, as it is."""
    pieces = []
    for _, state in solved:
        own = (state.share * state.others * state.resolvent) @ tasks
        pieces.append((np.zeros_like(own), sizes.n_tasks * own, sizes.n_tasks * state.label))
    return _derivatives(pieces)


def _derivatives(pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Pieces:
    start, tasks, noise = (np.stack([np.imag(p[i]) / STEP for p in pieces], axis=1) for i in range(3))
    return Pieces(start, tasks, noise)


def _many(design: Design) -> Sizes:
    return Sizes(design.n_support, design.n_query, _MANY)


def _sizes(design: Design) -> Sizes:
    return Sizes(design.n_support, design.n_query, design.n_tasks)


def tasks_at_zero(spectrum: Spectrum, design: Design, metrics: np.ndarray) -> np.ndarray:
    """(j,) exact part of the task spread at rate 0, N > r + 1.

    With W = sum_i W_i ~ Wishart(N) and W^-1/2 W_i W^-1/2 a matrix Beta independent of W:
    m E[W^-1 W_i Sigma_w W_i W^-1] = m {x Sigma_w + y E[tr(W Sigma_w) W^-1]}.
    """
    n, n_v, m, r = design.n_query_rows, design.n_query, design.n_tasks, len(spectrum.inputs)
    if m == 1:
        return metrics @ spectrum.tasks
    y = n_v * (n - n_v) / (n * (n + 2) * (n - 1))
    x = n_v * (n_v + 2) / (n * (n + 2)) - y
    spread = n * (spectrum.inputs @ spectrum.tasks) * (metrics @ (1 / spectrum.inputs))
    return m * (x * (metrics @ spectrum.tasks) + y * (spread - 2 * metrics @ spectrum.tasks) / (n - r - 1))
