"""The strategies of the estimators' search in words, for verdicts, figures and reports."""

from __future__ import annotations

WORDS = {
    "joint": "no adaptation",
    "step": "a gradient step, no inner loop",
    "tied": "a gradient step, one positive rate",
    "signed": "a gradient step, signed train rate",
    "pooled_ridge": "ridge towards pooled weights",
    "ridge": "ridge, in training too",
    "mixed_intercept": "a mixed model, intercepts differ",
    "mixed_isotropic": "a mixed model, one variance",
    "mixed_diagonal": "a mixed model, a variance per weight",
    "mixed_full": "a mixed model, full covariance",
    "mixed_shrunk": "a mixed model, shrunk covariance",
    "blend": "a blend of strategies",
}


def describe(strategy: str) -> str:
    """Return a strategy in a few words; a name that is not known as it is."""
    return WORDS.get(strategy, strategy)
