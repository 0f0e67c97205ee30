r"""Tables with more columns than rows: the search works in the space that the rows span; its results are taken back.

Z = Y Q^T with orthonormal columns Q (p, r), r at most the number of rows. Gradient steps, ridges and isotropic
penalties do not depend on the axes, and all trained weights lie in the span, so that the search over Y with r columns
is that over Z, to rounding. A constant feature stays a column of its own. New tasks may leave the span: the rules act
on all columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow.choice.limits import LIMITS
from undertow.choice.plan import Found
from undertow.choice.record import Candidate
from undertow.choice.search import Searched, Settings
from undertow.linear.path import RatePath
from undertow.linear.rules import BlendRule, ProximalRule, Rule
from undertow.tasks.rows import TaskRows


@dataclass(frozen=True, eq=False)
class RowSpace:
    """The rotated rows and the way back."""

    rows: TaskRows
    """the same tasks with r (+ 1) columns"""
    basis: np.ndarray
    """(d, r + 1) orthonormal columns, the last one for the constant feature where there is one"""

    @classmethod
    def of(cls, rows: TaskRows, least_columns: int = LIMITS.row_space_columns) -> RowSpace | None:
        """Return the space of the rows, or None where it is not smaller, or there are few columns anyway."""
        standard, n = rows.standard, len(rows.y)
        p = len(standard.centre)
        if p <= least_columns or n >= p:
            return None
        z = rows.inputs()[:, :p].astype(np.float64)
        values, vectors = np.linalg.eigh(z @ z.T)
        kept = values > 8 * n * np.finfo(rows.x.dtype).eps * max(float(values[-1]), 0.0)
        if not kept.any():
            return None
        root = np.sqrt(values[kept])
        basis = z.T @ (vectors[:, kept] / root)
        # Orthonormal to rounding, also where small eigenvalues have lost digits.
        basis, triangle = np.linalg.qr(basis)
        basis = basis * np.sign(np.diagonal(triangle))
        inputs, r = z @ basis, basis.shape[1]
        plain = replace(standard, centre=np.zeros(r), spread=np.ones(r), clip=np.inf, low=np.zeros(r), high=np.zeros(r))
        if standard.intercept:
            basis = np.block([[basis, np.zeros((p, 1))], [np.zeros((1, r)), np.ones((1, 1))]])
        # Row numbers stay what they were, and with them the draws.
        return cls(replace(rows, x=inputs, standard=plain, places=np.arange(n)), basis)

    @property
    def ridge_factor(self) -> float:
        """What a ridge relative to the trace over all d columns is multiplied by to mean the same here."""
        return self.basis.shape[1] / self.basis.shape[0]

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """Return weights (..., d) of weights (..., r + 1)."""
        return weights @ self.basis.T

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of the same search among these columns."""
        ridges = [ridge * self.ridge_factor for ridge in settings.ridges]
        return replace(settings, ridges=ridges, rotated=True)

    def restored(self, searched: Searched) -> Searched:
        """Return the result of a search for all columns, with ridges as they were given."""
        best, surface = searched.best, searched.surface
        alone = None if best.unadapted is None else self.weights(best.unadapted)
        rules = tuple(self._rule(rule) for rule in best.rules)
        found = Found(self.weights(best.weights), rules, {}, unadapted=alone)
        candidates = {name: self._candidate(name, one) for name, one in searched.choice.candidates.items()}
        choice = replace(searched.choice, candidates=candidates)
        return searched._replace(
            best=found._replace(settings=choice.settings),
            choice=choice,
            surface=replace(surface, ridges=surface.ridges / self.ridge_factor),
            # Their sums are of these directions, which further rows would leave.
            parts={},
        )

    def _candidate(self, name: str, one: Candidate) -> Candidate:
        def given(settings: dict[str, float]) -> dict[str, float]:
            # The settings of a blend are shares, one of which may be that of the strategy "ridge".
            if name == "blend" or "ridge" not in settings:
                return settings
            return settings | {"ridge": settings["ridge"] / self.ridge_factor}

        return replace(one, settings=given(one.settings), of_folds=tuple(given(fold) for fold in one.of_folds))

    def path(self, path: RatePath) -> RatePath:
        """Return the path of weights of all columns."""
        return replace(
            path,
            weights=self.weights(path.weights).astype(path.weights.dtype),
            ridges=path.ridges / self.ridge_factor,
            init=np.zeros(len(self.basis)),
            problem=replace(path.problem, basis=self.basis),
        )

    def _rule(self, rule: Rule) -> Rule:
        if isinstance(rule, BlendRule):
            parts: Any = tuple(self._rule(part) for part in rule.parts)
            return BlendRule(parts, rule.shares, self.weights(rule.starts))
        if not isinstance(rule, ProximalRule) or rule.covariance is None:
            return rule
        # Isotropic, or of the intercept only: one variance for all features, of the span or not.
        intercept = self.rows.standard.intercept
        features = np.full(len(self.basis) - intercept, float(rule.covariance[0]))
        return ProximalRule(rule.ratio, np.append(features, rule.covariance[-1]) if intercept else features)
