"""The verdict of a choice in plain words for those who have to act on it, and its key figures."""

from __future__ import annotations

import math

import numpy as np

from undertow.choice.record import Choice
from undertow.choice.words import VERDICTS
from undertow.report import words
from undertow.report.figure import Key
from undertow.tasks import GroupedTable
from undertow.tasks.losses import NEGLIGIBLE

_HEADLINES = {
    VERDICTS[0]: "A negative training rate is best for these tasks",
    VERDICTS[1]: "A positive training rate is best for these tasks",
    VERDICTS[2]: "These tasks do not show which sign the training rate should have",
    VERDICTS[3]: "Train without an inner loop: a signed training rate is not worth it here",
}

_SIMPLE = "Training without an inner loop (rate 0) is the simple choice."

_MEANING = {
    VERDICTS[0]: (
        "Meta-training with inner steps that go uphill gives a better start for new tasks than training without an "
        "inner loop, as far as these tasks can tell."
    ),
    VERDICTS[1]: (
        "Meta-training with inner steps gives a better start for new tasks than training without an inner loop, as far "
        "as these tasks can tell."
    ),
    VERDICTS[2]: (
        "The interval of the best training rate holds 0 or infinity, so it is not known whether inner steps should go "
        f"downhill or uphill. {_SIMPLE}"
    ),
    VERDICTS[3]: (
        f"By its own interval, a signed training rate gains less than {NEGLIGIBLE:g} % of the mean squared error over "
        "training without an inner loop. Leave the inner loop out."
    ),
}


def headline(choice: Choice) -> str:
    """The verdict in one line."""
    return _HEADLINES.get(choice.verdict, choice.verdict)


def meaning(choice: Choice) -> str:
    """What the verdict means for training."""
    text, step = _MEANING.get(choice.verdict, ""), choice.gains["step"]
    if choice.verdict == VERDICTS[2] and choice.interval.whole_circle:
        text = f"No training rate can be ruled out: no inner loop, downhill or uphill. {_SIMPLE}"
    if choice.verdict not in VERDICTS[:2] or step.low > 0:
        return text
    kind = f"{words.level(choice.interval.level)} interval {words.between(step.low, step.high)}"
    return (
        f"{text} How much that is worth is not known: the gain on held-out tasks, {words.percent(step.percent)}, "
        f"cannot be told from chance ({kind})."
    )


def advice(choice: Choice) -> str:
    """What to do with a new task."""
    name = words.strategy(choice.strategy)
    if choice.strategy == "joint":
        return f"For a new task use the {name}: no way to adapt had a lower error on held-out tasks."
    text = f"To adapt to a new task, use this: {name}."
    over = choice.best_gains.get("joint")
    if over is None:
        return text
    kind = f"{words.level(choice.interval.level)} interval {words.between(over.low, over.high)}"
    if over.low > 0:
        size = f"{words.number(over.percent, 2)}\u00a0%"
        return f"{text} On held-out tasks it lowers the mean squared error by {size} against no adaptation ({kind})."
    return (
        f"Used here is this: {name}. Its gain over no adaptation, {words.percent(over.percent)}, cannot be told from "
        f"chance ({kind}): the common weights as they are do as well, as far as can be seen."
    )


def _made_of(choice: Choice) -> str:
    """What the strategy used is, in a line: of a blend the largest shares."""
    if choice.strategy != "blend":
        return "the least error on held-out tasks of those that may be used"
    shares = list(choice.settings.items())
    named = ", ".join(
        f"{words.strategy(name).replace(', ', ' with ')} {words.share(part)}" for name, part in shares[:2]
    )
    return named + (f", and {words.count(len(shares) - 2, 'other')}" if len(shares) > 2 else "")


def error(mse: float, target_std: float) -> str:
    """Root mean squared error in the target's unit, from a mean squared error over the variance."""
    return words.number(math.sqrt(max(mse, 0.0)) * target_std)


def keys(choice: Choice, raw: GroupedTable, scale: float) -> list[Key]:
    """Key figures of the first screen."""
    step, kind = choice.gains["step"], words.level(choice.interval.level)
    std = float(np.std(raw.y))
    used, common = (2 * choice.losses[name][0] for name in (choice.strategy, "joint"))
    probability = choice.interval.sign_probability
    return [
        Key(
            "Gain of a signed rate over no inner loop",
            words.percent(step.percent),
            f"{kind} interval {words.between(step.low, step.high)}",
        ),
        Key(
            "Best training rate",
            words.rate(choice.train_rate),
            f"{kind} interval: {words.interval(choice.interval)}; in units of 1/\u2060λmax = {words.number(scale)}",
        ),
        Key("Sign probability", f"{words.share(probability)} negative", "share of bootstrap curves"),
        Key("Strategy used", words.strategy(choice.strategy), _made_of(choice)),
        Key(
            f"Error on a new task, {raw.target}",
            error(used, std),
            f"root mean squared, after {words.count(choice.n_support, 'support row')}; without adaptation "
            f"{error(common, std)}",
        ),
        Key(
            "Data",
            words.count(raw.n_tasks, "task"),
            f"{words.count(raw.n_rows, 'row')}, {words.count(raw.n_features, 'feature')}"
            + (f"; {words.count(raw.n_left_out, 'task')} left out" if raw.n_left_out else ""),
        ),
    ]
