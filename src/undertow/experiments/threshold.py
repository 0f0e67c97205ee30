"""N through p: the double descent of the outer problem, and what the sign of the train rate does to its height."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field

from undertow import theory
from undertow.experiments.experiment import Experiment
from undertow.experiments.reading import agreement
from undertow.plots import style
from undertow.plots.regimes import RegimeCurve
from undertow.problem import Design, MixedLinearRegression
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size
from undertow.trials.finding import Finding, above, sentence, weakest
from undertow.trials.panel import Panel
from undertow.trials.summary import rows_of

HEAVY = 7
"""The loss has moments of order below (|N - p| + 1)/2: up to this distance its sample variance has no variance."""

RATE_COLOURS = (style.BLUE, style.AMBER, style.PURPLE, style.SKY)
"""Orange is theory and green the least possible loss in all figures."""

ENOUGH_RUNS = 200
"""With fewer runs no z is told where tails are heavy: the rare huge losses that make up the mean are missing."""


def _rising(counts: tuple[int, ...]) -> tuple[int, ...]:
    if any(a >= b for a, b in pairwise(counts)):
        raise ValueError("n_tasks must ascend, each once: sort them and drop repeats")
    return counts


class Config(ExperimentConfig):
    """Settings. All sizes are ours, not the paper's; N = n_query * n_tasks goes from well below p to well above."""

    n_features: Size = Field(40, description="p")
    n_tasks: Annotated[tuple[Size, ...], Field(min_length=2, strict=False), AfterValidator(_rising)] = Field(
        (2, 4, 6, 7, 8, 9, 10, 11, 12, 14, 17, 20, 25, 30, 40), description="m, ascending"
    )
    n_support: Size = Field(20, description="n_t")
    n_query: Size = Field(4, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    noise_std: Scale = Field(1.0, description="sigma")
    task_std: Scale = Field(0.5, description="nu; nu^2 = E|w - w_0|^2")
    train_rates: RatesWithZero = Field((-0.5, 0.0, 0.2), description="train rates")
    adapt_rate: float = Field(0.2, description="adapt rate")
    runs: Runs = Field(200, description="runs at each N")


def panels(config: Config) -> list[Panel]:
    """One panel for each number of tasks."""
    problem = MixedLinearRegression(config.n_features, config.noise_std, config.task_std)
    return [
        Panel(
            name=f"m{n_tasks}",
            problem=problem,
            design=Design(n_tasks, config.n_support, config.n_query, config.n_adapt),
            train_rates=config.train_rates,
            adapt_rates=(config.adapt_rate,),
            runs=config.runs,
            n_test_tasks=config.n_test_tasks,
            n_test_rows=config.n_test_rows,
            seek_optimum=False,
        )
        for n_tasks in config.n_tasks
    ]


def regime_curve(table: pa.Table, config: Config, train_rate: float) -> RegimeCurve:
    """The measured loss and theory at one train rate, against N."""
    points = [
        {name: column[config.train_rates.index(train_rate)] for name, column in rows_of(table, panel.name).items()}
        for panel in panels(config)
    ]
    column = lambda name: np.array([point[name] for point in points])  # noqa: E731  (one line, used five times)
    return RegimeCurve(
        n_rows=column("n_query_rows"),
        mean=column("raw_mean"),
        se=column("raw_se"),
        median=column("conditional_median"),
        theory=column("theory"),
        threshold=config.n_features,
    )


def draw(table: pa.Table, config: Config) -> Figure:
    """One curve for each train rate; the band where the mean is infinite is marked and holds medians only."""
    with style.context():
        made, axes = style.figure(1, width=6.4, height=4.2)
        one, p = axes[0, 0], config.n_features
        for index, rate in enumerate(config.train_rates):
            look = RATE_COLOURS[index % len(RATE_COLOURS)]
            regime_curve(table, config, rate).plot(
                one, color=look, label=f"train rate {style.signed(rate)}: measured, mean \u00b1 standard error"
            )
        one.plot([], [], color=style.INK, label="theory of the mean")
        first = panels(config)[0]
        least = theory.least_loss(first.problem, first.design)
        one.axhline(least, color=style.GREEN, linewidth=1.2, linestyle=(0, (6, 2)), label="least possible loss")
        one.axvspan(p - 1, p + 1, color="#E6E6E6", zorder=0, label="p \u2212 1 to p + 1: the mean is infinite")
        one.plot(
            [], [], linestyle="", marker="D", markerfacecolor="none", color=style.INK, label="median, given the inputs"
        )
        one.set(xlabel=f"N, query rows in all tasks (p = {p} features)", ylabel="test loss after adaptation")
        one.set_title(f"The test loss peaks where N = p, adapt rate {config.adapt_rate:g}")
        style.shared_legend(made, axes, columns=2)
        return made


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory on both sides, where the peak is, and how the rates compare."""
    every, p = panels(config), config.n_features
    curves = [regime_curve(table, config, rate) for rate in config.train_rates]
    n_rows = curves[0].n_rows
    lines = []
    away = abs(n_rows - p)
    groups = (
        (f"N <= p - {HEAVY + 1}", n_rows < p - HEAVY),
        (f"N >= p + {HEAVY + 1}", n_rows > p + HEAVY),
        (f"2 <= |N - p| <= {HEAVY}, heavy tails", (away > 1) & (away <= HEAVY)),
    )
    for label, side in groups:
        chosen = [panel for panel, here in zip(every, side, strict=True) if here]
        if chosen and label.endswith("heavy tails") and config.runs < ENOUGH_RUNS:
            points = len(chosen) * len(config.train_rates)
            lines.append(f"{label}: {points} points, too few runs ({config.runs}, not {ENOUGH_RUNS}) for z.")
        elif chosen:
            lines += agreement(table, chosen, label)
    inside = ", ".join(str(rows) for rows in n_rows[away <= 1])
    if inside:
        lines.append(
            f"N = {inside}: the mean is infinite for p - 1 <= N <= p + 1 (p = {p}); only medians are used there."
        )
    for rate, one in zip(config.train_rates, curves, strict=True):
        top = int(one.median.argmax())
        lines.append(f"train rate {rate:+g}: the median loss is highest at N = {n_rows[top]}, {one.median[top]:.3g}.")
    medians = np.array([one.median for one in curves])
    ordered = int((np.diff(medians, axis=0) > 0).all(axis=0).sum())
    lines.append(f"the median loss rises with the train rate at {ordered} of {len(n_rows)} values of N.")
    return lines


def finding(table: pa.Table, config: Config) -> Finding:
    """At every train rate the median loss at N = p lies above the highest median at another N.

    The ends of a ratio's 95 % interval are those of the two medians' 97.5 % intervals.
    """
    curves = [regime_curve(table, config, rate) for rate in config.train_rates]
    at = int(abs(curves[0].n_rows - config.n_features).argmin())
    ratios = [_peak(table, config, rate, at) for rate in config.train_rates]
    least = min(ratios, key=lambda ends: ends[1])
    peaks = ", ".join(
        f"{one.median[at]:.3g} at {rate:+g}" if rate else f"{one.median[at]:.3g} at 0"
        for rate, one in zip(config.train_rates, curves, strict=True)
    )
    return Finding(
        "peak over rest",
        *least,
        unit="times",
        result=weakest([above(low, high, 1.0) for _, low, high in ratios]),
        lines=(
            f"median loss at N = {curves[0].n_rows[at]} (p = {config.n_features}) over the highest at another N: "
            f"{sentence(*least, unit='times')}",
            f"this is the least of {len(ratios)} train rates; median loss at the peak by train rate: {peaks}",
        ),
    )


def _peak(table: pa.Table, config: Config, train_rate: float, at: int) -> tuple[float, float, float]:
    """Median loss at the position ``at`` over the highest of the others, and the ends of its interval."""
    k = config.train_rates.index(train_rate)
    points = [rows_of(table, panel.name) for panel in panels(config)]
    median, low, high = (
        np.array([point[f"conditional_median{end}"][k] for point in points]) for end in ("", "_low", "_high")
    )
    rest = np.delete(np.arange(len(points)), at)
    top = rest[median[rest].argmax()]
    with np.errstate(divide="ignore", invalid="ignore"):
        # A median without an interval has infinite ends; a loss is not negative.
        return median[at] / median[top], max(low[at], 0.0) / high[rest].max(), high[at] / max(low[top], 0.0)


EXPERIMENT = Experiment(
    name="threshold",
    claim="The test loss peaks where there are as many query rows as features.",
    short="peak at N = p",
    run_time="30 s",
    quick_time="20 s",
    Config=Config,
    quick={"runs": 50, "n_tasks": (2, 6, 8, 9, 10, 11, 12, 15, 20)},
    panels=panels,
    draw=draw,
    finding=finding,
    verdict=verdict,
)
