"""Means and deviations of all rows, from those of fragments: what standardises features and target."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from undertow._check import InputError
from undertow._types import Vector
from undertow.tasks.standard import Columns, Standard


@dataclass(frozen=True, eq=False)
class Spread:
    """Of n rows and w columns, the p features and the target last."""

    n: int
    mean: Vector
    """(w,)"""
    squares: Vector
    """(w,) sum of squares about the mean"""
    low: Vector
    """(w,) least value"""
    high: Vector
    """(w,) largest value"""

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Make it from rows (n, w)."""
        mean = values.mean(axis=0)
        squares = np.zeros(values.shape[1])
        for start in range(0, len(values), 1024):
            rest = values[start : start + 1024] - mean
            squares += np.einsum("rw,rw->w", rest, rest)
        return cls(len(values), mean, squares, values.min(axis=0), values.max(axis=0))

    def __add__(self, other: Spread) -> Spread:
        """Of both; source: Chan, Golub & LeVeque, The American Statistician 37 (1983)."""
        n = self.n + other.n
        step = other.mean - self.mean
        return Spread(
            n,
            self.mean + step * (other.n / n),
            self.squares + other.squares + step**2 * (self.n * other.n / n),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def constant(self) -> np.ndarray:
        """(w,) whether a column has one value."""
        return self.low == self.high

    def standard(
        self, names: tuple[str, ...], *, features: bool, targets: bool, intercept: bool, clip: float | None
    ) -> Standard:
        """Return the standardisation, as ``Standard.fit`` does from the rows themselves."""
        deviation = np.sqrt(self.squares / self.n)
        lost = np.flatnonzero(~self.constant & ~((deviation > 0) & np.isfinite(deviation)))
        if len(lost):
            name = (*names, "the target")[lost[0]]
            raise InputError(
                None,
                rule=f"squares of {name!r}, from {self.low[lost[0]]:g} to {self.high[lost[0]]:g}, leave the range of "
                "float64.",
                way_out="Change its unit.",
            )
        mean = np.where(self.constant, self.low, self.mean)
        deviation = np.where(self.constant, 0.0, deviation)
        every = mean, deviation, self.low, self.high
        return Standard.of_moments(
            Columns(*(one[:-1] for one in every)),
            Columns(*(one[-1:] for one in every)),
            features=features,
            targets=targets,
            intercept=intercept,
            clip=clip,
        )

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file."""
        from safetensors.numpy import save

        arrays = {name: getattr(self, name) for name in ("mean", "squares", "low", "high")}
        return save(arrays | {"n": np.array([self.n])}, {"sums": json.dumps("spread")})

    @classmethod
    def from_bytes(cls, data: bytes) -> Spread:
        """Return that of ``to_bytes``."""
        from safetensors.numpy import load

        arrays = load(data)
        return cls(int(arrays.pop("n")[0]), **arrays)
