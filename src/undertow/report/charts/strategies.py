"""Strategies on held-out tasks: the loss of each, and the gain of the one used over the others, in pairs."""

from __future__ import annotations

from undertow.choice import words as said
from undertow.choice.record import Choice
from undertow.report import words
from undertow.report.charts.intervals import intervals
from undertow.report.figure import Entry, Figure, Table


def strategies(choice: Choice) -> Figure | None:
    """Figure of the gain of the strategy used over each other one; None where only one was tried."""
    names = [row.name for row in said.rows(choice) if row.name in choice.best_gains]
    if not names:
        return None
    gains = [choice.best_gains[name] for name in names]
    kind = words.level(choice.interval.level)
    labels = [words.strategy(name) for name in names]
    return Figure(
        name="strategies",
        title=f"Gain of the strategy used over each other one ({words.strategy(choice.strategy)})",
        spec=intervals(
            labels,
            [one.percent for one in gains],
            [(one.low, one.high) for one in gains],
            [words.gain(one) for one in gains],
            axis="lower mean squared error, %",
            tip=f"gain ({kind} interval)",
        ),
        summary="Interval chart: "
        + "; ".join(f"over {label} {words.gain(one)}" for label, one in zip(labels, gains, strict=True))
        + ".",
        legend=(Entry("blue", "line", f"gain with its {kind} interval, paired by task"),),
        note="Where the interval holds 0, the difference is not significant.",
        table=Table(
            "Gain of the strategy used, in per cent of the other's mean squared error",
            ("over", "gain", "from", "to"),
            [
                (label, words.percent(one.percent), words.percent(one.low), words.percent(one.high))
                for label, one in zip(labels, gains, strict=True)
            ],
        ),
    )
