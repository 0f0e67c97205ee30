"""Where the best rate, ridge and variance of a new task are negative: rows that repel each other, spiked inputs."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow import theory
from undertow.experiments.training_experiment import CellExperiment, cut_parts
from undertow.plots import style
from undertow.plots.regimes import LossCurve
from undertow.problem import Design, MixedLinearRegression
from undertow.trials import paired
from undertow.trials.config import ExperimentConfig, Rates, Runs, Scale, Size, evenly
from undertow.trials.finding import Conclusion, Finding, below, mean_interval, resampled, sentence, weakest
from undertow.trials.optimum import Optimum, empirical_optimum
from undertow.trials.panel import Cell


class Config(ExperimentConfig):
    """Settings; all sizes are ours. Rows of a group have variance 1 and mean 0."""

    group_size: Annotated[int, Field(ge=3)] = Field(6, description="rows of a group in panel a")
    n_adapt: Size = Field(3, description="rows of it that are seen; another one is predicted")
    correlations: Annotated[tuple[float, ...], Field(min_length=1, strict=False)] = Field(
        (-0.2, -0.1, 0.0, 0.3), description="correlations of rows within a group"
    )
    adapt_rates: Rates = Field(evenly(-1.4, 0.8, 12), description="panel a: adapt rates")
    n_groups: Size = Field(1000, description="groups of each run")
    runs: Runs = Field(100, description="runs of panel a")
    n_features: Size = Field(200, description="panel b: p")
    n_rows: Size = Field(50, description="panel b: rows of a new task")
    spike: Annotated[float, Field(ge=0)] = Field(20.0, description="panel b: one input variance is 1 + spike, others 1")
    noise_std: Scale = Field(0.5, description="panel b: sigma")
    ratios: Rates = Field(evenly(-35.0, 100.0, 28), description="panel b: ratios of ridge regression")
    ridge_runs: Runs = Field(200, description="panel b: runs")

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.n_adapt >= self.group_size:
            raise ValueError(f"n_adapt = {self.n_adapt} leaves no row of a group of {self.group_size} to predict")
        low = -1 / (self.group_size - 1)
        if any(not low - 1e-12 <= rho <= 1 for rho in self.correlations):
            raise ValueError(f"correlations of {self.group_size} rows lie between {low:.4g} and 1")
        if min(self.correlations) >= 0:
            raise ValueError("correlations must hold a negative one: the claim is about it")
        return self

    @property
    def problem(self) -> MixedLinearRegression:
        """Panel b: all that tasks differ by lies along the direction of the large inputs."""
        inputs, tasks = np.ones(self.n_features), np.zeros(self.n_features)
        inputs[0], tasks[0] = 1 + self.spike, 1.0
        return MixedLinearRegression(self.n_features, self.noise_std, task_covariance=tasks, input_covariance=inputs)

    @property
    def design(self) -> Design:
        """Panel b: one new task."""
        return Design(1, self.n_rows, 1)


def compute(config: Config, cell: Cell) -> pa.Table:
    """One row for each run and point: part, run, correlation (null in panel b), rate (or ratio) and loss."""
    generator, numbers = cell.generator(), range(cell.first_run, cell.first_run + cell.runs)
    if cell.panel == 0:
        found = [
            ("groups", run, rho, config.adapt_rates, _group_losses(config, rho, generator))
            for run in numbers
            for rho in config.correlations
        ]
    else:
        found = [("ridge", run, None, config.ratios, _ridge_losses(config, generator)) for run in numbers]
    columns: dict[str, list[Any]] = {name: [] for name in ("part", "run", "correlation", "rate", "loss")}
    for part, run, rho, rates, losses in found:
        for rate, loss in zip(rates, losses, strict=True):
            for name, value in zip(columns, (part, run, rho, rate, float(loss)), strict=True):
                columns[name].append(value)
    schema = [("part", pa.string()), ("run", pa.int64())] + [(name, pa.float64()) for name in list(columns)[2:]]
    return pa.table(columns, schema=pa.schema(schema))


def _group_losses(config: Config, correlation: float, generator: np.random.Generator) -> np.ndarray:
    """(rates,) loss of the last row of each group when the first ones move an intercept from 0 by one step."""
    size = config.group_size
    white = generator.standard_normal((config.n_groups, size))
    mean = white.mean(axis=1, keepdims=True)
    # The mean of a group has its own size; at -1/(size - 1) it is 0 and the rows sum to zero.
    rows = np.sqrt(1 - correlation) * (white - mean) + np.sqrt(max(1 + (size - 1) * correlation, 0.0)) * mean
    seen, last = rows[:, : config.n_adapt].mean(axis=1), rows[:, -1]
    return ((np.multiply.outer(config.adapt_rates, seen) - last) ** 2).mean(axis=1) / 2


def _ridge_losses(config: Config, generator: np.random.Generator) -> np.ndarray:
    """(ratios,) loss of ridge regression on one draw of the rows, averaged over weights and noise."""
    problem = config.problem
    h, psi = np.asarray(problem.input_covariance), np.asarray(problem.task_covariance)
    x = generator.standard_normal((config.n_rows, config.n_features)) * np.sqrt(h)
    values, vectors = np.linalg.eigh(x @ x.T)
    turned = vectors.T @ x  # theta = turned' (values + ratio)^{-1} vectors' y
    spiked = psi > 0
    losses = []
    for ratio in config.ratios:
        solve = turned / (values + ratio)[:, None]
        left = np.eye(config.n_features)[:, spiked] - solve.T @ turned[:, spiked]
        tasks = (h[:, None] * left**2 * psi[spiked]).sum()
        losses.append(problem.noise_std**2 * (1 + (h * solve**2).sum()) + tasks)
    return np.array(losses) / 2


def group_loss(config: Config, correlation: float, rates: np.ndarray) -> np.ndarray:
    """The expected loss of panel a, exact."""
    n = config.n_adapt
    return (1 - 2 * rates * correlation + rates**2 * (1 + (n - 1) * correlation) / n) / 2


def best_rates(table: pa.Table, config: Config) -> dict[float, Optimum]:
    """Where each correlation's loss is lowest; the loss is a parabola, so that the vertex is exact."""
    return {
        rho: empirical_optimum(*paired.by_run(table, "loss", "rate", part="groups", correlation=rho), config.seed)
        for rho in config.correlations
    }


def best_ratio(table: pa.Table, config: Config) -> Optimum:
    """Where the loss of ridge regression is lowest."""
    return empirical_optimum(*paired.by_run(table, "loss", "rate", part="ridge"), config.seed)


def expected_ratio(config: Config) -> float:
    """The best ratio by the deterministic equivalent."""
    fine = np.linspace(config.ratios[0], config.ratios[-1], 2001)
    return float(fine[np.asarray(theory.proximal_loss(config.problem, config.design, fine)).argmin()])


def draw(table: pa.Table, config: Config) -> Figure:
    """Loss against the adapt rate, whose axis is also one of ratios and of variances; loss against the ratio."""
    with style.context():
        made, axes = style.figure(2, width=4.9, height=4.0)
        _groups(axes[0, 0], table, config)
        ratios, values = paired.by_run(table, "loss", "rate", part="ridge")
        mean, se = paired.mean_and_se(values)
        found = best_ratio(table, config)
        curve = LossCurve(
            ratios,
            mean,
            se,
            theories={"equivalent": np.asarray(theory.proximal_loss(config.problem, config.design, ratios))},
            best=found.ends,
            least=theory.least_loss(config.problem, config.design),
        )
        title = f"b  spiked inputs, {config.n_features} features, {config.n_rows} rows:\nthe best ridge is negative"
        curve.plot(axes[0, 1], xlabel="ratio of ridge regression", title=title)
        style.shared_legend(made, axes, columns=2)
        return made


def _groups(axes: Any, table: pa.Table, config: Config) -> None:
    n, fine = config.n_adapt, np.linspace(config.adapt_rates[0], config.adapt_rates[-1], 201)
    axes.axvline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
    for rho in config.correlations:
        rates, values = paired.by_run(table, "loss", "rate", part="groups", correlation=rho)
        mean, se = paired.mean_and_se(values)
        exact = group_loss(config, rho, fine)
        axes.plot(fine, exact, color=style.ORANGE, label="theory, exact")
        style.measured(axes, rates, mean, se)
        best = theory.group_rate(rho, n)
        axes.plot(best, group_loss(config, rho, np.asarray(best)), "^", color=style.INK, markersize=7, zorder=5,
                  label="best rate; for normal rows the least possible loss")  # fmt: skip
        sums = "\n(groups sum to 0)" if abs(rho + 1 / (config.group_size - 1)) < 1e-9 else ""
        style.label_end(axes, f"correlation {style.signed(rho)}{sums}", fine[-1], exact[-1])
    axes.set_ylim(0.35, 0.95)
    ticks = [rate for rate in (-1.0, -0.5, 0.0, 0.5) if fine[0] <= rate <= fine[-1]]
    axes.set_xticks([fine[0], *ticks], ["rate\nridge ratio\nvariance", *(_three(rate, n) for rate in ticks)])
    axes.set_ylabel("loss on another row of the group")
    axes.set_title("a  where rows repel each other the best rate,\nridge and variance (\u25b2) are negative")
    axes.set_xlabel(f"adapt rate on {n} of {config.group_size} rows, and its two other names")


def _three(rate: float, n: int) -> str:
    ratio = n / rate - n if rate else np.inf
    ridge = "\u00b1\u221e" if np.isinf(ratio) else style.signed(ratio)
    return f"{style.signed(rate)}\n{ridge}\n{style.signed(1 / ratio)}"


def finding(table: pa.Table, config: Config) -> Finding:
    """The best adapt rate is below 0 at every negative correlation, and so is the best ratio of panel b."""
    every = best_rates(table, config)
    found = {rho: best for rho, best in every.items() if rho < 0}
    strongest, ridge = min(found), best_ratio(table, config)
    first = found[strongest]
    parts: list[Conclusion] = [resampled(below(*one.ends[1:]), config.runs) for one in found.values()]
    parts.append(resampled(below(*ridge.ends[1:]), config.ridge_runs))
    rate = theory.group_rate(strongest, config.n_adapt)
    others = "; ".join(
        f"{rho:g}: {one.rate:+.3f}, theory {theory.group_rate(rho, config.n_adapt):+.3f}"
        for rho, one in every.items()
        if rho != strongest
    )
    return Finding(
        "best adapt rate",
        *first.ends,
        result=weakest(parts),
        lines=(
            f"best adapt rate at correlation {strongest:+g}: {sentence(*first.ends)}; theory "
            f"{rate:+.3f}, as a ratio {config.n_adapt / rate - config.n_adapt:+.3g}",
            f"at correlation {others}",
            f"best ratio, spiked inputs: {sentence(*ridge.ends)}; for large sizes, by the "
            f"deterministic equivalent, {expected_ratio(config):+.1f}",
        ),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory, and what the negative side gains."""
    lines = []
    for rho in config.correlations:
        rates, values = paired.by_run(table, "loss", "rate", part="groups", correlation=rho)
        mean, se = paired.mean_and_se(values)
        z = abs(mean - group_loss(config, rho, rates)) / se
        exact = group_loss(config, rho, np.array([theory.group_rate(rho, config.n_adapt), 0.0]))
        lines.append(f"a: correlation {rho:+g}: largest |z| against exact theory {z.max():.2f} at {len(z)} points; the "
                     f"best rate takes {100 * (1 - exact[0] / exact[1]):.1f} % off the loss at 0.")  # fmt: skip
    ratios, values = paired.by_run(table, "loss", "rate", part="ridge")
    mean, se = paired.mean_and_se(values)
    exact = np.asarray(theory.proximal_loss(config.problem, config.design, ratios))
    off = abs(mean / exact - 1).max()
    lines.append(f"b: largest deviation from the deterministic equivalent {100 * off:.2f} % of the loss, "
                 f"standard errors up to {100 * (se / exact).max():.2f} %.")  # fmt: skip
    if 0.0 in ratios:
        zero, best = values[:, ratios == 0.0][:, 0], values[:, int(mean.argmin())]
        change = sentence(*mean_interval(100 * (best - zero) / zero.mean()), unit="%")
        lines.append(f"b: the lowest point against the loss at ratio 0: {change}.")
    return lines


EXPERIMENT = CellExperiment(
    name="repel",
    claim="Rows that repel each other, and spiked inputs: the best rate and ridge on a new task are negative.",
    short="best rate < 0",
    run_time="2 s",
    quick_time="2 s",
    Config=Config,
    quick={"runs": 20, "ridge_runs": 40, "ratios": evenly(-35.0, 100.0, 10)},
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: {"groups": config.runs, "ridge": config.ridge_runs}, 20),
    compute=compute,
    by_name=True,
)
