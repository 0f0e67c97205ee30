"""Strategies on held-out tasks: the loss of each, and the gain of the one used over the others, in pairs."""

from __future__ import annotations

from undertow.choice.record import Choice
from undertow.report import words
from undertow.report.charts.intervals import intervals
from undertow.report.figure import Entry, Figure, Table


def order(choice: Choice) -> list[str]:
    """Strategies, least held-out loss first."""
    return sorted(choice.losses, key=lambda name: choice.losses[name][0])


def strategies(choice: Choice, level: float) -> Figure | None:
    """Figure of the gain of the strategy used over each other one; None where only one was tried."""
    names = [name for name in order(choice) if name in choice.best_gains]
    if not names:
        return None
    gains = [choice.best_gains[name] for name in names]
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
            tip=f"gain ({words.level(level)} interval)",
        ),
        summary="Interval chart: "
        + "; ".join(f"over {label} {words.gain(one)}" for label, one in zip(labels, gains, strict=True))
        + ".",
        legend=(Entry("blue", "line", f"gain with its {words.level(level)} interval, paired by task"),),
        note="An interval that holds 0 does not tell the two strategies apart.",
        table=Table(
            "Gain of the strategy used, per cent of the other's mean squared error",
            ("over", "gain", "from", "to"),
            [
                (label, words.signed(one.percent), words.signed(one.low), words.signed(one.high))
                for label, one in zip(labels, gains, strict=True)
            ],
        ),
    )
