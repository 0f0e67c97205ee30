"""Rates as points of a circle: every formula is written in (cos, sin) with sin / cos = rate."""

from __future__ import annotations

import numpy as np


def as_finite(rates: np.ndarray, steps: int = 1) -> np.ndarray:
    """Replace plus and minus infinity (one point) by one very large rate, and clip larger ones to it.

    Curves are flat there to a relative 1e-9, and no power up to 4 steps overflows.
    """
    far = 10.0 ** min(9.0, 70 / steps)
    return np.where(np.isinf(rates), far, np.clip(rates, -far, far))


def homogeneous(rates: np.ndarray, steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return (c, s) with c > 0, c^2 + s^2 = 1 and s / c = rate."""
    finite = as_finite(rates, steps)
    c = 1 / np.hypot(1.0, finite)
    return c, finite * c


class NaturalCircle:
    """The angle in which psi of one inner step is nearly a trigonometric polynomial of degree one.

    a = (1 + b tan t) / s2 with s2 = E tr S^2 / p and b^2 = s2 - 1. Then h(a) = E tr A^2 / p is (b^2/s2) / cos^2 t, so
    the leading-order psi = (n_v/p)(1 + a^2 p/n_t)/h is a combination of 1, cos 2t and sin 2t. The angle has period pi.

    clustered: psi has a cusp at infinity when a square matrix is inverted there, n_t near n_v. Then tan t = x + x^3
        with x the tangent of a second angle, whose equal spacing crowds the nodes (as cubes) towards infinity.
    """

    def __init__(self, p: int, n: int, *, clustered: bool = False) -> None:
        self.s2 = 1 + (p + 1) / n
        self.b = np.sqrt(self.s2 - 1)
        self.clustered = clustered

    def phase(self, rates: np.ndarray) -> np.ndarray:
        """Return exp(2 i angle) of each rate; infinity goes to -1."""
        with np.errstate(invalid="ignore"):
            x = (rates * self.s2 - 1) / self.b
            if self.clustered:  # the real root of x^3 + x = tan t
                x = 2 / np.sqrt(3) * np.sinh(np.arcsinh(1.5 * np.sqrt(3) * x) / 3)
            phase = (1 + 1j * x) / (1 - 1j * x)
        return np.where(np.isinf(rates), -1.0 + 0j, phase)

    def nodes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (c, s) of ``count`` equally spaced angles. Infinity is never among them."""
        angle = angles(count)
        cos, sin = np.cos(angle), np.sin(angle)
        if self.clustered:
            cos, sin = cos**3, sin * cos**2 + sin**3
        c, s = self.s2 * cos, cos + self.b * sin
        norm = np.hypot(c, s)
        return c / norm, s / norm


def angles(count: int) -> np.ndarray:
    """Equally spaced angles in (-pi/2, pi/2), symmetric, without the ends."""
    return (np.arange(count) + 0.5) * (np.pi / count) - np.pi / 2


def interpolate(values: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Evaluate at exp(2 i angle) the trigonometric interpolant of values (nodes, ...) at ``angles``."""
    count = len(values)
    orders = np.arange(count // 2)
    coefficients = np.exp(-2j * np.outer(orders, angles(count))) @ values / count
    coefficients[1:] *= 2
    # The highest order has no partner; its cosine is 0 at these nodes, so it is left out.
    return (phase[:, None] ** orders @ coefficients).real
