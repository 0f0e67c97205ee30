r"""Standardised space: where inner steps take place, and the way back to the user's units.

Features are centred and divided by their standard deviation, and a last feature "1" carries the intercept; so one rate
means the same along every feature. A rare indicator would take values of 10 and more and dominate gradient steps: a
column of two values is measured so that the larger one is at most ``INDICATOR``, which loses nothing. Values are cut
off on request only, since that does lose. Targets are centred, and scaled where they are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from undertow._check import InputError
from undertow._types import (
    AnyRows,
    FeatureCounts,
    PerRow,
    PerTarget,
    RowNumbers,
    SomeRows,
    SomeTargets,
    StandardRows,
    TargetCoefficients,
    Targets,
    TargetWeights,
    Vector,
)
from undertow.tasks.curve import Curve

# Rows at a time: sums are made in float64, and a float64 copy of all rows is never there. So few stay in the cache
# from one operation to the next.
_ROWS = 1024
# The same for sums, of which there are several: these numbers, and float64 ones of as many.
_NUMBERS = 1 << 15
_LARGEST = 1e307
# Deviations from the mean that a value may have: float32 holds their products.
_FARTHEST = 1e7


INDICATOR = 4.0
"""largest standardised value of a column of two values"""


class Columns(NamedTuple):
    """What columns are measured by, each (p,) float64."""

    mean: Vector
    deviation: Vector
    low: Vector
    """least value"""
    high: Vector
    """largest value"""


@dataclass(frozen=True, eq=False)
class Standard:
    """z = clip((x - centre) / spread), then a constant; targets (y - target_centre) / target_spread.

    Examples
    --------
    >>> import undertow as ut
    >>> train, test = ut.tasks.split_tasks(ut.tasks.read_table(ut.datasets.load_gapminder()), seed=0)
    >>> z, standard = train.standardized()
    >>> z.x.std(axis=0).round(6).tolist(), standard.clip
    ([1.0, 1.0, 1.0], inf)
    >>> test.standardized_as(standard).n_tasks
    43
    """

    centre: Vector
    """(p,) float64"""
    spread: Vector
    """(p,) float64; 1 for a constant feature"""
    clip: float
    """largest absolute value that is let through; infinity for no limit"""
    intercept: bool
    """whether a last column of ones is added"""
    target_centre: PerTarget
    """(q,) float64"""
    target_spread: PerTarget
    """(q,) float64"""
    low: Vector
    """(p,) least value of each feature that was fitted to"""
    high: Vector
    """(p,) largest value"""
    feature_names: tuple[str, ...] = ()
    """(p,) names of the features; none where they are not known"""
    curve: Curve | None = None
    """makes the last of the p columns, one for each target, of the features before them; None where there is none"""

    @classmethod
    def fit(
        cls,
        x: SomeRows,
        y: Targets,
        weights: PerRow | None,
        *,
        features: bool,
        targets: bool,
        intercept: bool,
        clip: float | None,
        order: RowNumbers | None = None,
    ) -> Standard:
        """Return the numbers of rows x (R, p) and targets y (R, q) with row weights (R,).

        Parameters
        ----------
        features, targets
            whether to scale to deviation 1; without ``intercept`` nothing is centred.
        order
            (R,) where in x the rows of y and weights stand; None for the same places.
        """
        rows, outcomes = _moments(x, weights, order), _moments(y, weights)
        return cls.of_moments(rows, outcomes, features=features, targets=targets, intercept=intercept, clip=clip)

    @classmethod
    def of_moments(
        cls,
        rows: Columns,
        outcomes: Columns,
        *,
        features: bool,
        targets: bool,
        intercept: bool,
        clip: float | None,
    ) -> Standard:
        """Return the numbers from means, deviations and ranges: of features, each (p,), and of targets, each (q,)."""
        (centre, spread, low, high), (target_centre, target_spread, _, _) = rows, outcomes
        p, q = len(centre), len(target_centre)
        if not intercept:
            # Deviation from 0: what is not centred must not be measured from its mean.
            spread, target_spread = np.hypot(spread, centre), np.hypot(target_spread, target_centre)
            centre, target_centre = np.zeros(p), np.zeros(q)
        else:
            spread = np.where(_two_valued(rows), np.maximum(spread, _farthest(rows) / INDICATOR), spread)
            # Only rows that weigh next to nothing beside others can lie farther away.
            spread, target_spread = (
                np.maximum(one, _farthest(of) / _FARTHEST) for one, of in ((spread, rows), (target_spread, outcomes))
            )
        return cls(
            centre,
            np.where(spread > 0, spread, 1.0) if features else np.ones(p),
            np.inf if clip is None or not features else float(clip),
            intercept,
            target_centre,
            np.where(target_spread > 0, target_spread, 1.0) if targets else np.ones(q),
            low,
            high,
        )

    @property
    def width(self) -> int:
        """Number of columns in standardised space, d: p, and one for the intercept."""
        return len(self.centre) + self.intercept

    @property
    def n_inputs(self) -> int:
        """Number of features that the user gives: p, less the columns of a curve."""
        return len(self.centre) - (0 if self.curve is None else self.curve.n_targets)

    def features(self, x: AnyRows, order: Any = None, out: Any = None) -> StandardRows:
        """Return rows x (..., p), or those of x (R, p) in the given order, as (..., d) in the precision of x.

        With a curve x has ``n_inputs`` columns. out: an array (R, d) to put them in; None for a new one.
        """
        n, p = len(x) if order is None else len(order), len(self.centre)
        if x.ndim != 2:
            return self.features(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.width)
        if self.curve is not None:
            x, order = x if order is None else x[order], None
            x = np.concatenate([x, self.curve.values(x).astype(x.dtype)], axis=1)
        z = np.empty((n, self.width), x.dtype) if out is None else out
        size = min(n, _ROWS)
        buffer = np.empty((size, p), x.dtype)
        # As many copies as a block has rows: one long loop in place of one for each row.
        centre, spread = (np.tile(one.astype(x.dtype), (size, 1)) for one in (self.centre, self.spread))
        for start in range(0, n, _ROWS):
            part = slice(start, min(start + _ROWS, n))
            place = part if order is None else _side_by_side(order[part])
            block, middle, unit = (one[: part.stop - start] for one in (buffer, centre, spread))
            if isinstance(place, slice):
                np.subtract(x[place], middle, out=block)
            else:
                # "clip" spares a second copy; positions are ours and in range.
                np.take(x, place, axis=0, out=block, mode="clip")
                block -= middle
            np.divide(block, unit, out=z[part, :p])
            if np.isfinite(self.clip):
                np.clip(z[part, :p], -self.clip, self.clip, out=z[part, :p])
            z[part, p:] = 1
        return z

    def targets(self, y: SomeTargets) -> SomeTargets:
        """Return targets (..., q) in standardised units."""
        return ((y - self.target_centre) / self.target_spread).astype(y.dtype)

    def clipped(self, x: SomeRows) -> FeatureCounts:
        """Return how many values of each column of x (R, p) the limit touches."""
        p = self.n_inputs
        none = np.zeros(p, dtype=np.int64)
        if not np.isfinite(self.clip):
            return none
        reach = self.clip * self.spread[:p]
        low, high = self.centre[:p] - reach, self.centre[:p] + reach
        parts = (x[start : start + _ROWS] for start in range(0, len(x), _ROWS))
        return sum((np.count_nonzero((part < low) | (part > high), axis=0) for part in parts), none)

    def far(self, x: SomeRows) -> np.ndarray:
        """Return which values of x (R, p) lie beyond all fitted ones of their column by more than its whole range.

        A prediction there rests on the straight line alone.
        """
        low, high = self.low[: self.n_inputs], self.high[: self.n_inputs]
        reach = high - low
        return (x < low - reach) | (x > high + reach)

    def restore_targets(self, y: SomeTargets) -> SomeTargets:
        """Return standardised predictions (..., q) in the unit of the targets."""
        return y * self.target_spread.astype(y.dtype) + self.target_centre.astype(y.dtype)

    def restore_weights(self, weights: TargetWeights) -> tuple[TargetCoefficients, SomeTargets]:
        """Return coefficients (..., q, p) and intercepts (..., q) in the user's units, from weights (..., q, d).

        With a curve these are the straight part's: of the features that the user gives, and where the curve is 0.
        """
        wide = np.asarray(weights, dtype=np.float64)
        p = len(self.centre)
        coef = wide[..., :p] / self.spread * self.target_spread[:, None]
        constant = wide[..., p] if self.intercept else np.zeros(wide.shape[:-1])
        intercept = self.target_centre + self.target_spread * constant - coef @ self.centre
        return coef[..., : self.n_inputs].astype(weights.dtype), intercept.astype(weights.dtype)


def _side_by_side(order: RowNumbers) -> RowNumbers | slice:
    """Places of rows, as a slice where they follow each other: these need not be gathered."""
    first, last = int(order[0]), int(order[-1])
    alike = last - first == len(order) - 1 and (order[1:] - order[:-1] == 1).all()
    return slice(first, last + 1) if alike else order


def _farthest(rows: Columns) -> Vector:
    return np.maximum(rows.mean - rows.low, rows.high - rows.mean)


def _two_valued(rows: Columns) -> np.ndarray:
    """Whether a column has two values only: then, and only then, its variance is as large as its mean and range allow.

    Source: Bhatia and Davis, "A better bound on the variance", American Mathematical Monthly 107 (2000).
    """
    # In units of the deviation, so that no square leaves the range of float64.
    unit = np.where(rows.deviation > 0, rows.deviation, 1.0)
    most = ((rows.mean - rows.low) / unit) * ((rows.high - rows.mean) / unit)
    return (rows.deviation > 0) & (most <= 1 + 1e-9)


def _refuse_huge(low: Vector, high: Vector) -> None:
    """Raise InputError for a column whose differences would leave the range of float64."""
    largest = np.maximum(-low, high)
    if (largest > _LARGEST).any():
        rule = f"a column holds {largest.max():g}: differences of such numbers leave the range of float64."
        raise InputError(None, rule=rule, way_out="Change its unit.")


def _moments(x: SomeRows, weights: PerRow | None, order: RowNumbers | None = None) -> Columns:
    """Weighted mean, standard deviation (divisor: sum of weights) and range of the columns, in float64."""
    if order is not None and len(order) == len(x) and (order == np.arange(len(x))).all():
        order = None
    n = len(x) if order is None else len(order)
    size = min(n, max(64, _NUMBERS // x.shape[1]))

    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    total = w.sum()

    def rows(start: int) -> np.ndarray:
        return x[start : start + size] if order is None else x[order[start : start + size]]

    def squared(block: np.ndarray, start: int) -> Vector:
        if weights is None:
            return np.einsum("rp,rp->p", block, block)
        return np.einsum("rp,rp,r->p", block, block, w[start : start + size])

    place = int(np.argmax(w > 0))
    first = x[place if order is None else order[place]].astype(np.float64)
    # About the mean of some rows, so that a large common offset costs no digits.
    some = np.linspace(0, n - 1, min(n, _ROWS)).astype(np.int64)
    some = some if w[some].any() else np.array([place])
    sample = x[some if order is None else order[some]].astype(np.float64)
    low, high = np.tile(first.astype(x.dtype), (2, size, 1))
    buffer = np.empty((size, x.shape[1]))
    shift, squares = np.zeros((2, x.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        centre = first + (w[some] / w[some].sum()) @ (sample - first)
        # As many copies as a block has rows: one long loop in place of one for each row.
        centres = np.tile(centre, (size, 1))
        for start in range(0, n, size):
            part, own = rows(start), w[start : start + size]
            # A row of weight 0 does not count. Many rows side by side: the loops over columns are short.
            counted = part if weights is None else part[own > 0]
            np.minimum(low[: len(counted)], counted, out=low[: len(counted)])
            np.maximum(high[: len(counted)], counted, out=high[: len(counted)])
            block = buffer[: len(part)]
            block[...] = part  # float32 is widened first: a subtraction that does both is slower
            block -= centres[: len(part)]
            shift += own @ block
            squares += squared(block, start)
        low, high = (one.astype(np.float64) for one in (low.min(axis=0), high.max(axis=0)))
        _refuse_huge(low, high)
        shift /= total
        mean, constant, variance = centre + shift, low == high, squares / total - shift**2
        if ((shift**2 > variance) & ~constant).any():  # some rows that say little of the others: about the mean
            variance = sum(squared(rows(start) - mean, start) for start in range(0, n, size)) / total
        spread = np.sqrt(variance.clip(0))
    lost = np.flatnonzero(~constant & ~((spread > 0) & np.isfinite(spread)))
    if len(lost):
        # Squares of very small or very large numbers leave the range of float64: measure these in their own unit.
        part = (x[:, lost] if order is None else x[order][:, lost]).astype(np.float64) - mean[lost]
        peak = np.abs(part).max(axis=0)
        spread[lost] = peak * np.sqrt((w[:, None] * (part / peak) ** 2).sum(axis=0) / total)
    # A constant column has spread 0 exactly, whatever rounding its mean suffered.
    return Columns(np.where(constant, first, mean), np.where(constant, 0.0, spread), low, high)
