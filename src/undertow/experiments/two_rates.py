"""What the two experiments on isotropic inputs share: one panel for each rate, with the other one held fixed."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field

from undertow.experiments.reading import by_panel, curve
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression
from undertow.trials.config import ExperimentConfig, Rates, RatesWithZero, Runs, Scale, Size, evenly
from undertow.trials.panel import Panel


class TwoRatesConfig(ExperimentConfig):
    """Sizes, scales and grids of an experiment that sweeps each rate once. omega_0 = w_0 = 0 throughout."""

    n_features: Size = Field(description="p")
    n_tasks: Size = Field(description="m")
    n_support: Size = Field(description="n_t")
    n_query: Size = Field(description="n_v")
    n_adapt: Size = Field(description="n_r")
    noise_std: Scale = Field(1.0, description="sigma")
    task_std: Scale = Field(0.5, description="nu; nu^2 = E|w - w_0|^2")
    adapt_rates: Rates = Field(evenly(-0.4, 1.0, 29), description="panel a: adapt rates")
    fixed_train_rate: float = Field(0.2, description="panel a: the train rate")
    adapt_runs: Runs = Field(100, description="panel a: runs")
    train_rates: RatesWithZero = Field(evenly(-3.0, 1.5, 46), description="panel b: train rates")
    fixed_adapt_rate: float = Field(0.2, description="panel b: the adapt rate")
    train_runs: Runs = Field(1000, description="panel b: runs")


def panels(config: TwoRatesConfig) -> list[Panel]:
    """Panel a sweeps the adapt rate, panel b the train rate."""
    problem = MixedLinearRegression(config.n_features, config.noise_std, config.task_std)
    design = Design(config.n_tasks, config.n_support, config.n_query, config.n_adapt)
    test = (config.n_test_tasks, config.n_test_rows)
    return [
        Panel("a", problem, design, (config.fixed_train_rate,), config.adapt_rates, config.adapt_runs, *test),
        Panel("b", problem, design, config.train_rates, (config.fixed_adapt_rate,), config.train_runs, *test),
    ]


def draw(table: pa.Table, config: TwoRatesConfig, theories: tuple[str, ...], tangent: float | None = None) -> Figure:
    """Both panels: raw points with error bars as in the paper, the named theories where they exist, and the optima.

    tangent: a slope of the loss at train rate 0, drawn in panel b.
    """
    with style.context():
        made, axes = style.figure(2)
        titles = (
            f"a  the best adapt rate is positive (train rate {config.fixed_train_rate:g})",
            f"b  the best train rate is negative (adapt rate {config.fixed_adapt_rate:g})",
        )
        for one, panel, title, label, slope in zip(
            axes[0], panels(config), titles, ("adapt rate", "train rate"), (None, tangent), strict=True
        ):
            curve(table, panel, theories, slope).plot(one, xlabel=label, title=title)
        style.shared_legend(made, axes, columns=3)
        return made


def verdict(table: pa.Table, config: TwoRatesConfig) -> list[str]:
    """Distance from theory and the optima of both panels."""
    return by_panel(table, panels(config))
