"""Strategies, verdicts and gains in words: the one place that the command line, figures, reports and docs read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, SupportsFloat

from undertow.choice.record import Choice, Gain, RateInterval, Verdict
from undertow.tasks.losses import NEGLIGIBLE

# A task with a larger share of all rows is named.
_MUCH = 0.1


class Strategy(NamedTuple):
    """How a strategy trains the common weights and adapts them to a task.

    Examples
    --------
    >>> from undertow.choice import words
    >>> words.STRATEGIES["signed"].trained, words.STRATEGIES["signed"].adapted
    ('step at a signed rate', 'gradient step')
    """

    name: str
    trained: str
    """what the inner loop does while the common weights are trained"""
    adapted: str
    """what is done on a new task"""
    short: str
    """a few words for tables and axes"""
    rule: str
    """family of the rule: "gradient", "proximal", "mixed", or "blend" """


_MIXED = "random-effects estimate (REML)"
_BLUP = "best linear unbiased prediction"

STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy("joint", "no inner loop", "nothing", "common weights, no adaptation", "gradient"),
        Strategy("step", "no inner loop", "gradient step", "gradient step, no inner loop", "gradient"),
        Strategy("tied", "step at the adapt rate", "gradient step", "gradient step, one rate for both", "gradient"),
        Strategy("signed", "step at a signed rate", "gradient step", "gradient step, signed train rate", "gradient"),
        Strategy("pooled_ridge", "no inner loop", "ridge regression towards omega", "ridge towards omega", "proximal"),
        Strategy("ridge", "ridge inner loop", "ridge regression towards omega", "ridge, in training too", "proximal"),
        Strategy("mixed_intercept", _MIXED, _BLUP, "mixed model, random intercept", "mixed"),
        Strategy("mixed_isotropic", _MIXED, _BLUP, "mixed model, one slope variance", "mixed"),
        Strategy("mixed_diagonal", _MIXED, _BLUP, "mixed model, variance per slope", "mixed"),
        Strategy("mixed_full", _MIXED, _BLUP, "mixed model, full covariance", "mixed"),
        Strategy("mixed_shrunk", _MIXED, _BLUP, "mixed model, shrunk covariance", "mixed"),
        Strategy("blend", "each part by itself", "weighted mean of its parts", "blend of strategies", "blend"),
    )
}  # fmt: skip


_SIMPLEST = (
    "joint", "mixed_intercept", "step", "pooled_ridge", "tied", "mixed_isotropic", "signed", "ridge",
    "mixed_diagonal", "mixed_full", "mixed_shrunk", "blend",
)  # fmt: skip
"""Strategies by how many numbers they choose; among equals, the better known one first."""

NO_ROWS = "no_rows"
"""Among held-out errors: those of tasks without rows, predicted by common weights."""


def short(strategy: str) -> str:
    """Return a strategy in a few words; a name that is not known as it is."""
    if strategy == NO_ROWS:
        return "prediction without rows"
    return STRATEGIES[strategy].short if strategy in STRATEGIES else strategy


def number(value: float, digits: int = 4) -> str:
    """Return a number to so many digits, from a thousand on in full and with thousands separated, as "11,340"."""
    text = f"{value:.{digits}g}"
    rounded = float(text)
    if not 1000 <= abs(rounded) < 1e15:
        return text
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def percent(value: float) -> str:
    """Return a percentage with its sign: two decimals, or whole where it is 10 or more."""
    if math.isinf(value):
        return f"{value:+} %"
    # Adding 0 takes the sign from a rounded zero.
    return f"{round(value):+d} %" if abs(value) >= 9.995 else f"{round(value, 2) + 0.0:+.2f} %"


def interval_of(gain: Gain, level: float = 0.95) -> str:
    """Return the confidence interval of a gain, such as "95 % CI -0.11 to +0.03 %"."""
    return f"{100 * level:g} % CI {between(gain.low, gain.high)}"


def between(low: float, high: float) -> str:
    """Return an interval in per cent, such as "-0.11 to +0.03 %"."""
    return f"{percent(low).removesuffix(' %')} to {percent(high)}"


def compared(low: float, high: float) -> str:
    """Say how a strategy compares with a rival, from the ends of the interval of its gain over it."""
    return "is better than" if low > 0 else "is worse than" if high < 0 else "does not differ significantly from"


def rate(value: float) -> str:
    """Return a rate with three digits and its sign; 0 and inf as such."""
    return "inf" if math.isinf(value) else "0" if value == 0 else f"{value:+.3g}"


def rates_between(interval: RateInterval) -> str:
    """Return the interval of the best train rate in spectral units."""
    if interval.whole_circle:
        return "the whole circle of rates"
    through = " through infinity" if interval.low_spectral > interval.high_spectral else ""
    return f"{rate(interval.low_spectral)} to {rate(interval.high_spectral)}{through}"


def verdict_sentence(choice: Choice) -> str:
    """Say what held-out tasks say about the sign of the train rate: conclusion, statistic, interval."""
    gain, level = choice.gains["step"], choice.interval.level
    figures = f"gain of the signed train rate over no inner loop {percent(gain.percent)} ({interval_of(gain, level)})"
    where = f"{100 * level:g} % interval of the best rate: {rates_between(choice.interval)}, spectral"
    if choice.verdict is Verdict.NEGLIGIBLE:
        return f"The inner loop is not worth it here: {figures}, below {NEGLIGIBLE:g} %."
    if choice.verdict is Verdict.UNDETERMINED:
        return f"The sign of the best train rate is undetermined ({where}); {figures}."
    significant = "" if gain.low > 0 else ", not significant"
    return f"The best train rate is {choice.verdict.value} ({where}); {figures}{significant}."


def parts_of_blend(choice: Choice, most: int = 3) -> str:
    """Return the largest parts of a blend with their shares; an empty text for a single strategy."""
    if choice.strategy != "blend":
        return ""
    parts = [f"{100 * share:.0f} % {short(name)}" for name, share in choice.settings.items()]
    rest = len(parts) - most
    return "; ".join(parts[:most]) + (f"; {rest} more" if rest > 0 else "")


def weight_note(choice: Choice, task: str = "") -> str:
    """Say where one task has far more rows than others, and what follows; an empty text where none has.

    task: what an id is called after, such as the name of the task column.
    """
    return large_task(*choice.largest, choice.n_tasks, choice.n_effective, choice.weighting, task)


def large_task(largest: str, held: float, n_tasks: int, n_effective: float, weighting: str, task: str = "") -> str:
    """Say the same of the task ``largest`` with a share ``held`` of the rows.

    It has far more rows where it has more than a tenth, and more than twice the mean. n_effective: see
    ``tasks.losses.effective_number``.
    """
    if held <= max(_MUCH, 2 / n_tasks):
        return ""
    rows = f"One task ({f'{task} {largest}'.strip()}) has {100 * held:.0f} % of the rows"
    if weighting == "tasks":
        return f"{rows}; every task counts once, in training and in errors."
    return f"{rows}, and each row counts: errors rest on {n_effective:.3g} of {n_tasks} tasks in effect."


def repelling(choice: Choice) -> str:
    """Say that rows of a task repel each other, where the strategy used says so; else an empty text."""
    used = choice.settings if choice.strategy == "blend" else {choice.strategy: 1.0}
    icc = choice.candidates["mixed_intercept"].settings.get("icc", 0.0) if "mixed_intercept" in used else 0.0
    if icc >= 0:
        return ""
    n = choice.n_support
    return (
        f"Rows of a task repel each other (ICC {icc:.3g}): {n} row{'s' * (n != 1)} move{'s' * (n == 1)} its intercept "
        f"by {rate(n * icc / (1 + (n - 1) * icc))} times their mean residual."
    )


def recommended(choice: Choice) -> str:
    """Return the strategy to use, such as "Recommended: blend of strategies"."""
    return f"Recommended: {short(choice.strategy)}"


def held_out_error(choice: Choice) -> str:
    """Say what error a new task has with and without rows of its own, and whether adaptation to them gains."""
    best = choice.candidates[choice.strategy]
    error = f"held-out MSE {share(best.mse)} of the target's variance (s.e. {share(best.standard_error)})"
    if choice.strategy == "joint":
        return f"{error}. No way to adapt has a lower held-out error."
    gain = best.gain
    significant = ", not significant" if gain.low <= 0 <= gain.high else ""
    return (
        f"{error}, {share(choice.mse_at_zero)} without rows of the task. "
        f"Gain from adaptation {percent(gain.percent)} ({interval_of(gain, choice.interval.level)}){significant}."
    )


def recommendation(choice: Choice) -> str:
    """Say which strategy to use, its error with and without rows of the task, and whether adaptation gains."""
    return f"{recommended(choice)}; {held_out_error(choice)}"


def simplest(choice: Choice) -> str:
    """Name the simplest strategy that the paired errors of held-out tasks cannot separate from the one used.

    An empty text where all others are separated from it.
    """
    # A blend of one part is that part.
    gains = {
        name: gain
        for name, gain in choice.best_gains.items()
        if len(choice.candidates[name].settings) > 1 or name != "blend"
    }
    alike = [name for name, gain in gains.items() if gain.low <= 0 <= gain.high]
    if not alike:
        return ""
    names = [*alike, choice.strategy]
    name = min(names, key=lambda one: _SIMPLEST.index(one) if one in _SIMPLEST else len(_SIMPLEST))
    others = (
        f"any of the {len(gains)} others" if len(alike) == len(gains) else f"{len(alike)} of the {len(gains)} others"
    )
    which = "it is the simplest" if name == choice.strategy else f"the simplest: {short(name)}"
    return f"Held-out tasks cannot separate {others} from it; {which}."


def by_time(found: Mapping[str, float], choice: Choice) -> str:
    """Say what error later tasks have under fits to earlier ones, beside random folds; empty where nobody asked.

    found: ``by_time_`` of an estimator.
    """
    if not found:
        return ""
    low, high = found["difference_low"], found["difference_high"]
    drift = (
        "tasks drift, and the first is that of a task to come"
        if low > 0
        else "later tasks are easier than that"
        if high < 0
        else "no drift can be told"
    )
    return (
        f"By time: {found['n_tasks']:.0f} later tasks have MSE {share(found['mse'])} (s.e. "
        f"{share(found['standard_error'])}) by fits to earlier tasks, {share(found['mse_at_zero'])} without rows, and "
        f"{share(found['mse_on_random_folds'])} on random folds (difference {found['difference']:+.4f}, "
        f"{100 * choice.interval.level:g} % CI {low:+.4f} to {high:+.4f}): {drift}."
    )


def against_signed(choice: Choice) -> str:
    """Compare the strategy used with the signed gradient step; an empty text where it is that step itself."""
    if "signed" not in choice.best_gains:
        return ""
    gain = choice.best_gains["signed"]
    return (
        f"The {short(choice.strategy)} {compared(gain.low, gain.high)} the gradient step with a signed train rate "
        f"(gain {percent(gain.percent)}, {interval_of(gain, choice.interval.level)})."
    )  # fmt: skip


class Row(NamedTuple):
    """One strategy in a table, as text."""

    name: str
    strategy: str
    mse: str
    """share of the target's variance"""
    standard_error: str
    at_zero: str
    """error of its common weights on tasks without rows"""
    gain: str
    """over the prediction of a task without rows"""
    interval: str
    """of the gain"""
    train: str
    """train rate in spectral units, or ratio"""
    adapt: str
    """adapt rate in spectral units, or ratio"""
    part: str
    """share in the blend that is used"""


def rows(choice: Choice) -> list[Row]:
    """Return all strategies with their held-out errors and settings, the least error first."""
    parts = choice.settings if choice.strategy == "blend" else {}
    found = []
    for name, one in sorted(choice.candidates.items(), key=lambda item: item[1].mse):
        # The common weights may be what predicts without rows: they gain nothing over themselves.
        gain = (
            ("", "")
            if one.gain.standard_error == 0
            else (percent(one.gain.percent), between(one.gain.low, one.gain.high))
        )
        part = f"{100 * parts[name]:.0f} %" if name in parts else ""
        # The settings of a blend are the shares of strategies.
        pair = ("", "") if name == "blend" else (_setting(one.settings, "train"), _setting(one.settings, "adapt"))
        figures = share(one.mse), share(one.standard_error), share(one.mse_at_zero)
        found.append(Row(name, short(name), *figures, *gain, *pair, part))
    return found


def _setting(settings: Mapping[str, float], kind: str) -> str:
    if f"{kind}_rate_spectral" in settings:
        return rate(settings[f"{kind}_rate_spectral"])
    return f"ratio {settings[f'{kind}_ratio']:.3g}" if f"{kind}_ratio" in settings else ""


def share(error: SupportsFloat) -> str:
    """Return an error as a share of the variance: four decimals, or three digits where these would show less."""
    error = float(error)
    return f"{error:.4f}" if error == 0 or error >= 0.001 else f"{error:.3g}"
