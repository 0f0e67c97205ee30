"""The gradient rule as a family of strategies: signed rates chosen from the moments of folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertow.choice.plan import Found, Plan
from undertow.choice.rate_picks import candidate_rates
from undertow.choice.rate_search import RatePick, RateSearch, search_rates, solve
from undertow.linear.block_moments import BlockMoments
from undertow.linear.circle import coefficients
from undertow.linear.rules import GradientRule

GRADIENT = ("joint", "step", "tied", "signed")


class GradientFamily:
    """Signed rates: no inner loop, one tied rate, or a free one."""

    def __init__(self, plan: Plan, moments: BlockMoments, ridges: Sequence[float], steps: Sequence[int], n_rates: int):
        self.moments = moments
        self.rates = candidate_rates(moments.scale, n_rates)
        self.ridges = np.asarray(ridges, dtype=np.float64)
        self.searches: dict[int, RateSearch] = {
            k: search_rates(moments.first(k), self.rates, self.ridges) for k in sorted(set(steps))
        }

    def pick(self, strategy: str, leave_out: int | None = None) -> RatePick:
        """Return the best rates, ridge and number of steps."""
        picks = [search.pick(strategy, leave_out) for search in self.searches.values()]
        return min(picks, key=lambda one: one.loss)

    def found(self, strategy: str, fold: int | None = None) -> Found:
        """Return the strategy chosen and trained on all tasks, or without one fold."""
        best = self.pick(strategy, fold)
        moments = self.moments.first(best.steps)
        gram = moments.gram.sum(axis=0) if fold is None else moments.without(fold)
        # The raw rate means the same in every fold, whose own spectral units differ a little.
        c, _ = coefficients(np.array([best.train_rate]), moments.scale, best.steps)
        weights = solve(gram, moments.n_targets, c, np.array([best.ridge]), moments.eps)[0, 0]
        rule = GradientRule(best.adapt_rate, best.steps)
        settings = {
            "train_rate": best.train_rate,
            "adapt_rate": best.adapt_rate,
            "ridge": best.ridge,
            "steps": best.steps,
        }
        return Found(weights, (rule,) * moments.n_targets, settings)
