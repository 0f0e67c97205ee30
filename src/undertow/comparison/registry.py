"""All rivals, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from undertow._check import InputError, did_you_mean
from undertow.choice.words import short
from undertow.comparison import boosted_intercept, generalised, meta, mixedlm, mixedlm_rust, plain, trees
from undertow.comparison.rivals import Rival

_STATSMODELS: Any = {"imports": "statsmodels.regression.mixed_linear_model", "to_install": '"undertow[compare]"'}


def _ours(strategy: str) -> Rival:
    return Rival(strategy, short(strategy), partial(meta.fit, strategy=strategy), weighted=True)


_ALL = (
    Rival("pooled", "pooled least squares", plain.fit_pooled, weighted=True),
    Rival("alone", "ridge, each task alone", plain.fit_alone),
    _ours("pooled_ridge"),
    Rival("mixedlm", "MixedLM, random intercept", partial(mixedlm.fit, slopes=False), **_STATSMODELS),
    Rival("mixedlm_slopes", "MixedLM, random slopes", partial(mixedlm.fit, slopes=True), **_STATSMODELS, most_slopes=5),
    Rival(
        "mixedlm_rs",
        "mixedlm-rs, random slopes",
        mixedlm_rust.fit,
        imports="mixedlm_rs",
        to_install="mixedlm-rs",
        most_slopes=12,
        by_name=True,
    ),
    Rival(
        "logistic_mixed",
        "logistic mixed, random intercept",
        generalised.fit_of("binomial"),
        weighted=True,
        target="two-valued",
    ),
    Rival(
        "poisson_mixed", "Poisson mixed, random intercept", generalised.fit_of("poisson"), weighted=True, target="count"
    ),
    Rival("trees", "boosted trees, support means", trees.fit, imports="sklearn.ensemble"),
    Rival(
        "gpboost",
        "gpboost, trees and random intercept",
        boosted_intercept.fit,
        imports="gpboost",
        to_install="gpboost",
        by_name=True,
    ),
    _ours("step"),
    _ours("tied"),
    _ours("signed"),
    Rival("default", "MAMLRegressorCV default", meta.fit_default, weighted=True),
)

BY_NAME = {rival.name: rival for rival in _ALL}

RIVALS = {rival.name: rival.label for rival in _ALL}
"""name -> label of each rival that ``compare`` knows"""


def chosen(names: Sequence[str] | None, target_kind: str | None = None) -> list[Rival]:
    """Return the rivals of these names, in the order in which they are shown, or raise InputError.

    names: None for all, but for those that need a package of their own which is missing, and those for another kind of
    target than ``target_kind``, where that is known.
    """
    if names is None:
        able = [rival for rival in _ALL if not (rival.by_name and rival.unfit(0))]
        return [rival for rival in able if target_kind is None or rival.target in ("", target_kind)]
    asked = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in asked if name not in BY_NAME]
    if unknown or not asked:
        known = f"choose among {', '.join(BY_NAME)}."
        rule = f"there is no {unknown[0]!r}; {known}" if unknown and len(asked) > 1 else known
        raise InputError("rivals", asked, rule, "".join(did_you_mean(one, BY_NAME) for one in unknown[:1]).strip())
    return [rival for rival in _ALL if rival.name in asked]
