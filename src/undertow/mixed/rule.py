"""The mixed model as a rule of adaptation: how tasks may differ, and how that is estimated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MixedRule:
    """Weights of a task are its best linear unbiased prediction under a mixed model; see ``fit_mixed``."""

    structure: str = "diagonal"
    """of the task covariance, a name of ``undertow.mixed.STRUCTURES``"""
    method: str = "reml"
    """"reml", or "ml" """
    mean_scale: float | None = None
    """deviation of a prior on the mean's weights; None chooses it, infinity means none"""
