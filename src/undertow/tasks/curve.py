"""Curves: functions of the features that are common to all tasks, as one further column of a model for each target.

A curve is what is left of the common relation beside its straight part, so that it is a column like another one: tasks
may bend more or less, and a model without bending is the weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from undertow._types import AnyRows, Numbers, Real, TaskPositions

DEGREE = 3
# Rows at a time in all trees at once.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Splines:
    """A sum of cubic splines, one of each column that bends. Beyond the fitted range a spline stays where it is."""

    features: Numbers
    """(s,) numbers of the columns"""
    knots: Real
    """(s, k) of each, rising, the ends four times"""
    coef: Real
    """(s, k - 4, q) of the B-splines, for each target"""

    kind: ClassVar[str] = "splines"

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return self.coef.shape[2]

    def values(self, x: AnyRows) -> Real:
        """Return the curve (R, q) at rows x (R, p)."""
        return sum((self.of_feature(i, x[:, j]) for i, j in enumerate(self.features)), np.zeros((len(x), 1)))

    def of_feature(self, i: int, x: Real) -> Real:
        """Return what the column ``features[i]`` with values x (R,) adds to the curve, (R, q)."""
        # Half of what tasks take to import, and few models have a curve.
        from scipy.interpolate import BSpline

        knots = self.knots[i]
        return BSpline(knots, self.coef[i], DEGREE)(np.clip(x.astype(np.float64), knots[0], knots[-1]))


@dataclass(frozen=True, eq=False)
class Trees:
    """A sum of regression trees: a row goes to the left where its value is at most the threshold."""

    roots: Numbers
    """(t,) number of each tree's first node"""
    targets: Numbers
    """(t,) number of the target that a tree is of"""
    feature: Numbers
    """(nodes,) number of the column that a node asks for; -1 for a leaf"""
    threshold: Real
    """(nodes,)"""
    left: Numbers
    """(nodes,) number of the next node, above its own; 0 for a leaf"""
    right: Numbers
    """(nodes,)"""
    value: Real
    """(nodes,) what a leaf adds"""
    base: Real
    """(q,) what is added to"""

    kind: ClassVar[str] = "trees"

    @property
    def n_targets(self) -> int:
        """Number of targets, q."""
        return len(self.base)

    def values(self, x: AnyRows) -> Real:
        """Return the curve (R, q) at rows x (R, p)."""
        of_target = (self.targets[:, None] == np.arange(self.n_targets)).astype(np.float64)
        parts = (x[start : start + _ROWS].astype(np.float64) for start in range(0, max(len(x), 1), _ROWS))
        return np.concatenate([self.base + self.value[self._leaves(part)] @ of_target for part in parts])

    def _leaves(self, x: Real) -> TaskPositions:
        """Number of the leaf that each row comes to in each tree, (R, t)."""
        rows, node = np.arange(len(x))[:, None], np.tile(self.roots, (len(x), 1))
        while (inner := self.feature[node] >= 0).any():
            low = x[rows, self.feature[node].clip(0)] <= self.threshold[node]
            node = np.where(inner, np.where(low, self.left[node], self.right[node]), node)
        return node


Curve: TypeAlias = Splines | Trees
