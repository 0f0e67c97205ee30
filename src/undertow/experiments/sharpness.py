"""Support and query rows that are the same: a negative train rate is sharpness-aware minimisation, and flattens."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field

from undertow.experiments.training_experiment import TrainingExperiment, cut_parts
from undertow.plots import style
from undertow.trials import paired
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size
from undertow.trials.finding import Finding, below, half_width, mean_interval, sentence, weakest, within
from undertow.trials.panel import Cell

MARGIN = 0.1
"""Theory fits where the mean eigenvalue is within this share of it."""
KINDS = {"normalised": "normalised step (SAM)", "plain": "plain step"}


class Config(ExperimentConfig):
    """Settings; all are ours. y = tanh(x W) v + z, with W and v of a teacher that is drawn anew for each run."""

    n_features: Size = Field(5, description="inputs")
    n_rows: Size = Field(100, description="training rows")
    n_test_rows: Size = Field(1000, description="test rows")
    teacher_units: Size = Field(8, description="hidden units of the teacher")
    noise_std: Scale = Field(0.3, description="sigma")
    hidden: Annotated[tuple[Size, ...], Field(min_length=1, strict=False)] = Field((40, 40), description="hidden units")
    step: Annotated[float, Field(gt=0)] = Field(0.2, description="step of gradient descent")
    iterations: Size = Field(4000, description="updates")
    normalised_rates: RatesWithZero = Field(
        (-0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01), description="rates of the normalised step; -rho of SAM"
    )
    plain_rates: RatesWithZero = Field(
        (-0.1, -0.05, -0.02, -0.01, 0.0, 0.02, 0.05), description="rates of the plain step"
    )
    runs: Runs = Field(10, description="runs: data sets and starts")

    def rates(self, kind: str) -> tuple[float, ...]:
        """The rates of a kind of step."""
        return self.normalised_rates if kind == "normalised" else self.plain_rates


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train the nets of a cell side by side."""
    from undertow.experiments import sharpness_runs

    kind, generator = list(KINDS)[cell.panel], cell.generator()
    parts: list[tuple[np.ndarray, ...]] = []
    for _ in range(cell.runs):
        inner = generator.standard_normal((config.n_features, config.teacher_units))
        outer = generator.standard_normal(config.teacher_units) / math.sqrt(config.teacher_units)
        rows: list[np.ndarray] = []
        for n in (config.n_rows, config.n_test_rows):
            x = generator.standard_normal((n, config.n_features))
            rows += [x, 1.5 * np.tanh(x @ inner) @ outer + config.noise_std * generator.standard_normal(n)]
        parts.append(tuple(rows))
    data = [np.stack(column) for column in zip(*parts, strict=True)]
    seeds = generator.integers(2**31, size=cell.runs)
    settings = ((config.n_features, *config.hidden, 1), config.iterations, config.step)
    return sharpness_runs.compute(kind, config.rates(kind), data, seeds, cell.first_run, settings)


def edge_of_stability(step: float, rate: Any) -> np.ndarray:
    """The largest curvature along which gradient descent does not grow, with each gradient taken after an inner step.

    On a quadratic with curvature c an update multiplies by 1 - step c (1 - rate c): it does not grow while
    step c (1 - rate c) <= 2. For rate < 0 that is c <= (sqrt(1 + 8 |rate|/step) - 1)/(2 |rate|), below 2/step; for a
    positive rate above step/8 it holds up to 1/rate, where the update turns uphill. For the normalised step the rate
    is rate / |gradient|: Long and Bartlett, "Sharpness-aware minimization and the edge of stability", JMLR 2024
    (arXiv:2309.12488).
    """
    rate = np.asarray(rate, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(1 - 8 * rate / step, 0.0))
        found = np.where(8 * rate <= step, (1 - root) / (2 * rate), 1 / rate)
    return np.where(rate == 0, 2 / step, found)


def tops(table: pa.Table, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Rates (k,) and the largest eigenvalues (runs, k)."""
    return paired.by_run(table, "top", kind=kind)


def edges(table: pa.Table, config: Config, kind: str) -> np.ndarray:
    """(runs, k) theory's largest eigenvalue; for the normalised step from each net's own gradient."""
    rates, gradient = paired.by_run(table, "gradient", kind=kind)
    return edge_of_stability(
        config.step, rates / gradient if kind == "normalised" else np.tile(rates, (len(gradient), 1))
    )


def draw(table: pa.Table, config: Config) -> Figure:
    """The largest eigenvalue against the rate of both kinds of step, beside theory; the test loss."""
    with style.context():
        made, axes = style.figure(3, width=3.8)
        for one, (kind, words), letter in zip(axes[0], KINDS.items(), "ab", strict=False):
            rates, values = tops(table, kind)
            mean, se = paired.mean_and_se(np.log(values))
            middle, ends = np.exp(mean), half_width(len(values)) * se
            if kind == "plain":
                fine = np.linspace(rates[0], rates[-1], 201)
                line = edge_of_stability(config.step, fine)
                one.plot(fine[line < 1.3 * np.nanmax(middle)], line[line < 1.3 * np.nanmax(middle)], color=style.ORANGE,
                         label="theory: edge of stability")  # fmt: skip
            else:
                below_zero = rates <= 0
                line = np.exp(np.log(edges(table, config, kind)[:, below_zero]).mean(axis=0))
                one.plot(rates[below_zero], line, color=style.ORANGE)
            bars = [middle * (1 - np.exp(-ends)), middle * (np.exp(ends) - 1)]
            style.measured(one, rates, middle, bars, label="measured, 95 % interval")
            one.set_ylim(0, 1.15 * np.nanmax(middle))
            one.axvline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
            one.set(xlabel="train rate, same rows for support and query", ylabel="largest eigenvalue of the Hessian")
            one.set_title(f"{letter}  {words}:\nthe lower the rate, the flatter the net")
        _test_losses(axes[0, 2], table, config)
        style.shared_legend(made, axes)
        return made


def _test_losses(axes: Any, table: pa.Table, config: Config) -> None:
    for (kind, words), mark, colour in zip(KINDS.items(), "os", (style.BLUE, style.SKY), strict=True):
        rates, values = paired.by_run(table, "test_loss", kind=kind)
        mean, se = paired.mean_and_se(100 * (values / values[:, rates == 0.0] - 1))
        axes.errorbar(rates, mean, half_width(len(values)) * se, marker=mark, markersize=4, color=colour,
                      linewidth=0.8, label=f"c: {words}")  # fmt: skip
    style.zero_lines(axes)
    base = paired.by_run(table, "test_loss", kind="plain")
    least = 100 * (config.noise_std**2 / 2 / base[1][:, base[0] == 0.0].mean() - 1)
    style.least_below(axes, f"{least:.0f} %".replace("-", "\u2212"))
    axes.set(xlabel="train rate", ylabel="test loss, % from rate 0", title="c  here the flatter net predicts better")


def finding(table: pa.Table, config: Config) -> Finding:
    """The largest eigenvalue at the lowest normalised rate lies below that at 0; theory fits at all rates below 0."""
    rates, values = tops(table, "normalised")
    ends = tuple(float(np.exp(x)) for x in mean_interval(np.log(values[:, 0] / values[:, rates == 0.0][:, 0])))
    off = []
    for kind in KINDS:
        swept, found = tops(table, kind)
        off.append(paired.mean_and_se(np.log(found / edges(table, config, kind))[:, swept < 0]))
    middle, se = np.concatenate(off, axis=1)
    half = half_width(config.runs, number=len(middle)) * se
    test = paired.by_run(table, "test_loss", kind="normalised")[1]
    change = mean_interval(100 * (test[:, 0] / test[:, rates == 0.0][:, 0] - 1))
    return Finding(
        "eigenvalue over that at 0",
        *ends,
        unit="times",
        result=weakest([below(ends[1], ends[2], 1.0), within(middle - half, middle + half, MARGIN)]),
        lines=(
            f"largest eigenvalue of the Hessian at normalised rate {rates[0]:+g} over that at 0: "
            f"{sentence(*ends, unit='times')}",
            f"edge of stability: within {100 * max(abs(middle - half).max(), abs(middle + half).max()):.1f} % of the "
            f"eigenvalue at all {len(middle)} negative rates (simultaneous 95 % intervals; limit {100 * MARGIN:g} %)",
            f"test loss there against that at 0: {sentence(*change, unit='%')}",
        ),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Eigenvalues beside theory, gradients and losses at each rate of both kinds."""
    lines = []
    for kind, words in KINDS.items():
        rates, values = tops(table, kind)
        theory = edges(table, config, kind)
        loss, test, gradient = (
            paired.by_run(table, name, kind=kind)[1].mean(axis=0) for name in ("loss", "test_loss", "gradient")
        )
        for k, rate in enumerate(rates):
            mean, low, high = mean_interval(values[:, k])
            lines.append(f"{words}, rate {rate:+g}: largest eigenvalue {mean:.2f} ({low:.2f} to {high:.2f}), edge "
                         f"{theory[:, k].mean():.2f}; gradient {gradient[k]:.4f}, training loss {loss[k]:.5f}, test "
                         f"loss {test[k]:.4f}.")  # fmt: skip
    return lines


EXPERIMENT = TrainingExperiment(
    name="sharpness",
    claim="The same rows for support and query: a negative rate makes a net flat, as the edge of stability says.",
    short="flatter below 0",
    run_time="35 s",
    quick_time="16 s",
    Config=Config,
    quick={
        "runs": 4,
        "iterations": 2000,
        "normalised_rates": (-0.1, -0.02, 0.0, 0.01),
        "plain_rates": (-0.1, -0.02, 0.0, 0.05),
    },
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: dict.fromkeys(KINDS, config.runs), 5, shared=True),
    compute=compute,
    by_name=True,
)
