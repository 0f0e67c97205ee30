"""The strategies of the estimators' search in words, for verdicts, figures and reports."""

from __future__ import annotations

from dataclasses import replace

from undertow.choice.record import Choice, Gain
from undertow.tasks.losses import NEGLIGIBLE

VERDICTS = ("negative", "positive", "no evidence either way", "the inner loop is not worth it here")

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


def decide(choice: Choice) -> Choice:
    """Return the choice with its verdict and explanation filled in."""
    step, interval = choice.gains["step"], choice.interval
    gains = f"held-out gain over no inner loop {percent(step.percent)}, interval {_ends(step)}"
    where = "any rate may be the best" if interval.whole_circle else f"best training rate {interval} in spectral units"
    if interval.contains_infinity or interval.contains_zero:
        signed = ""
    else:
        signed = "negative" if interval.high < 0 else "positive"
    if step.high < NEGLIGIBLE:
        verdict = VERDICTS[3]
        text = f"A signed training rate cannot gain as much as {NEGLIGIBLE:g} % here ({gains})."
    elif signed and step.low > 0:
        verdict, text = signed, f"The best training rate is {signed} ({where}; {gains})."
    elif signed:
        verdict = signed
        text = (
            f"The best training rate is {signed} ({where}), but what it gains over no inner loop cannot be told from "
            f"chance ({gains})."
        )
    else:
        verdict = VERDICTS[2]
        text = f"The tasks do not tell the sign of the best training rate ({where}; {gains})."
    if choice.strategy not in ("signed", "step", "tied", "joint"):
        text += f" {_used(choice)}"
    return replace(choice, verdict=verdict, explanation=text)


def _used(choice: Choice) -> str:
    """What is used in place of a gradient step, and what it is worth."""
    over = choice.best_gains["signed"]
    used = describe(choice.strategy)
    if choice.strategy == "blend":
        used += f" ({'; '.join(f'{100 * share:.0f} % {describe(name)}' for name, share in choice.settings.items())})"
    if over.low > 0:
        return (
            f"One gradient step is not the best way to adapt here: {used} has a loss lower by "
            f"{percent(over.percent).lstrip('+')} (interval {_ends(over)}), and is used."
        )
    return (
        f"Used is {used}; its held-out gain over the signed gradient step, {percent(over.percent)}, cannot be told "
        f"from chance (interval {_ends(over)})."
    )


def percent(value: float) -> str:
    """Return a percentage with its sign: two digits, or whole where it is 10 or more."""
    return f"{value:+.0f} %" if abs(value) >= 9.95 else f"{value:+.2g} %"


def _ends(one: Gain) -> str:
    return f"{percent(one.low).removesuffix(' %')} to {percent(one.high)}"
