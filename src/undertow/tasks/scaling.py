"""Standardised features, and the numbers that repeat it on other tasks and undo it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._types import AnyRows, FeatureCounts, Features, Flags, Vector


@dataclass(frozen=True, eq=False)
class Scaling:
    """Centre and scale of features and target: z = (x - centre) / scale, then clipped to [-clip, clip].

    Numbers come from all rows of one table together, each row counted once; the scale is the standard
    deviation with divisor R. A constant feature (an intercept) is left as it is: centre 0, scale 1.
    """

    feature_names: tuple[str, ...]
    """(p,) names of the features, in order"""
    centre: Vector
    """(p,) mean of each feature, in its own unit"""
    scale: Vector
    """(p,) standard deviation of each feature, in its own unit"""
    constant: Flags
    """(p,) whether a feature had one value only: such a one is neither scaled nor clipped"""
    clip: float | None
    """largest absolute standardised value that is let through; None for no limit"""
    clipped: FeatureCounts
    """(p,) how many values of each feature were clipped in the table that gave these numbers"""
    target_centre: float = 0.0
    """what is subtracted from the target, in its unit"""
    target_scale: float = 1.0
    """what the target is then divided by, in its unit"""

    @property
    def n_clipped(self) -> int:
        """Number of values that were clipped, in all features together."""
        return int(self.clipped.sum())

    def apply(self, table: Any) -> Any:
        """Return a GroupedTable with the same features, standardised with these numbers.

        Raises InputError where the features are not those of this scaling.
        """
        if table.feature_names != self.feature_names:
            raise InputError(
                f"the table has features {list(table.feature_names)}, this scaling has "
                f"{list(self.feature_names)}: they must be the same, in the same order. Read both tables "
                "with the same features=[...]."
            )
        x = self.features(table.x)
        y = (table.y - self.target_centre) / self.target_scale
        return replace(table, x=x, y=y)

    def features(self, x: AnyRows) -> AnyRows:
        """Return (..., p) raw features standardised and clipped."""
        z = (x - self.centre) / self.scale
        if self.clip is None:
            return z
        # Constant features pass: a limit on an intercept of 10 would change its meaning.
        limits = np.where(self.constant, np.inf, self.clip)
        return np.clip(z, -limits, limits, out=z)

    def restore_features(self, z: AnyRows) -> AnyRows:
        """Return (..., p) standardised features in their own units; what was clipped stays clipped."""
        return z * self.scale + self.centre

    def restore_target(self, y: Any) -> Any:
        """Return standardised targets or predictions, of any shape, in the unit of the target."""
        return y * self.target_scale + self.target_centre


def fit_scaling(table: Any, clip: float | None, target: bool) -> Scaling:
    """Return the Scaling of a GroupedTable's own rows."""
    x, y = table.x, table.y
    centre, scale, constant = centre_and_scale(x)
    y_centre, y_scale = centre_and_scale(y[:, None])[:2] if target else (np.zeros(1), np.ones(1))
    scaling = Scaling(
        table.feature_names,
        centre,
        scale,
        constant,
        clip,
        np.zeros(len(centre), dtype=np.int64),
        float(y_centre[0]),
        float(y_scale[0]),
    )
    if clip is None:
        return scaling
    unclipped = replace(scaling, clip=None).features(x)
    return replace(scaling, clipped=((np.abs(unclipped) > clip) & ~constant).sum(axis=0))


def centre_and_scale(x: Features) -> tuple[Vector, Vector, Flags]:
    """Return mean, standard deviation and constancy of each column; 0, 1 and True for a constant one."""
    high, low = x.max(axis=0), x.min(axis=0)
    # In units of about the largest value, squares neither overflow nor vanish; a power of two divides without rounding.
    unit = np.ldexp(1.0, np.frexp(np.maximum(high, -low))[1] - 1)
    z = x / unit
    mean = z.mean(axis=0)
    z -= mean
    spread = np.sqrt(np.einsum("rp,rp->p", z, z) / len(z))
    # Not spread == 0: the mean of equal values may differ from them by rounding.
    constant = high == low
    return np.where(constant, 0.0, mean * unit), np.where(constant, 1.0, spread * unit), constant
