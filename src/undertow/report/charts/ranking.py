"""Rivals by their mean error, and by their difference from one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertow.report import words
from undertow.report.charts.intervals import gained, intervals
from undertow.report.figure import Entry, Figure, Table


def ranking(labels: Sequence[str], means: np.ndarray, errors: np.ndarray, marked: int, std: float, unit: str) -> Figure:
    """Figure of mean MSE / variance (c,) with two standard errors (c,), in the order given.

    marked: position of the one that the report is about. std: of the target, whose name is ``unit``.
    """
    ends = [(mean - 2 * error, mean + 2 * error) for mean, error in zip(means, errors, strict=True)]
    said = [f"{words.loss(mean)} ± {words.number(2 * error, 2)}" for mean, error in zip(means, errors, strict=True)]
    return Figure(
        name="ranking",
        title="Mean squared error on held-out tasks",
        spec=intervals(
            labels,
            means.tolist(),
            ends,
            said,
            axis="mean squared error / variance",
            tip="MSE / variance",
            zero=False,
            marked=marked,
        ),
        summary="Dot chart, least error first: "
        + "; ".join(f"{label} {text}" for label, text in zip(labels, said, strict=True))
        + ".",
        legend=(
            Entry("orange", "dot", labels[marked]),
            Entry("blue", "dot", "rivals"),
            Entry("grey", "line", "±2 standard errors over tasks"),
        ),
        note=(
            "Tasks differ much in how hard they are, for all rivals alike: where lines overlap here, the difference in "
            "pairs, below, may still be significant."
        ),
        table=Table(
            "Mean squared error on held-out tasks, least first",
            ("strategy", "MSE / variance", "s.e.", f"root MSE ({unit})", "R²"),
            [
                (
                    label,
                    words.loss(mean),
                    words.number(error, 2),
                    words.number(np.sqrt(mean) * std),
                    words.fixed(1 - mean),
                )
                for label, mean, error in zip(labels, means, errors, strict=True)
            ],
        ),
    )


def differences(
    label: str,
    rivals: Sequence[str],
    percents: Sequence[tuple[float, float, float]],
    verdicts: Sequence[str],
    kind: str,
) -> Figure:
    """Figure of what ``label`` gains over each rival: estimate and interval in per cent of the rival's error.

    verdicts: what each interval says. kind: level of the intervals, in words.
    """
    return Figure(
        name="differences",
        title=f"{label} against each rival",
        note=f"Right of 0 {label} is better. Where the interval holds 0, the difference is not significant.",
        **gained(
            rivals,
            percents,
            kind,
            f"Interval chart of the gain of {label}",
            f"Gain of {label}, per cent of the rival's mean squared error",
            verdicts,
        ),
    )
