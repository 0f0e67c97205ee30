"""Strategies on held-out tasks: the loss of each, and the gain of the one used over the others, in pairs."""

from __future__ import annotations

from undertow.choice import words as said
from undertow.choice.record import Choice
from undertow.report import words
from undertow.report.charts.intervals import gained
from undertow.report.figure import Figure


def strategies(choice: Choice) -> Figure | None:
    """Figure of the gain of the strategy used over each other one; None where only one was tried."""
    names = [row.name for row in said.rows(choice) if row.name in choice.best_gains]
    if not names:
        return None
    gains = [choice.best_gains[name] for name in names]
    return Figure(
        name="strategies",
        title=f"Gain of the strategy used over each other one ({words.strategy(choice.strategy)})",
        note="Where the interval holds 0, the difference is not significant.",
        **gained(
            [words.strategy(name) for name in names],
            [(one.percent, one.low, one.high) for one in gains],
            words.level(choice.interval.level),
            "Interval chart",
            "Gain of the strategy used, in per cent of the other's mean squared error",
        ),
    )
