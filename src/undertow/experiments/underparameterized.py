"""More query rows than features: the best train rate is negative where noise dominates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow.experiments import two_rates
from undertow.experiments.experiment import Experiment
from undertow.experiments.reading import best_rate, loss_just_below_zero
from undertow.trials.conditional import adaptation_metric
from undertow.trials.config import RatesWithZero, Runs, Size, evenly
from undertow.trials.finding import Finding
from undertow.trials.summary import optima_of, rows_of


class Config(two_rates.TwoRatesConfig):
    """Settings. All sizes are ours, not the paper's.

    They were chosen so that the effect is large enough to see: the noise is larger than the spread of the tasks, and
    N = 100 query rows are not many for p = 30 features. With many more rows, or with tasks that differ much, the curve
    is flat around 0.
    """

    n_features: Size = Field(30, description="p")
    n_tasks: Size = Field(20, description="m")
    n_support: Size = Field(30, description="n_t")
    n_query: Size = Field(5, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    fixed_train_rate: float = Field(0.0, description="panel a: the train rate, 0 because theory is exact there")
    train_rates: RatesWithZero = Field(evenly(-3.0, 1.0, 41), description="panel b: train rates")
    train_runs: Runs = Field(500, description="panel b: runs")

    @model_validator(mode="after")
    def _more_rows_than_features(self) -> Config:
        rows = self.n_query * self.n_tasks
        if rows < self.n_features + 2:
            raise ValueError(
                f"n_query * n_tasks = {rows} with n_features = {self.n_features}: this experiment needs at least "
                "n_features + 2 query rows, else the mean loss is infinite or the problem is not underparameterized"
            )
        return self


def draw(table: pa.Table, config: Config) -> Figure:
    """Both panels, with every theory that exists there, and the slope at train rate 0."""
    return two_rates.draw(table, config, ("exact", "equivalent", "leading"), slope_at_zero(config))


def slope_at_zero(config: Config) -> float:
    """The slope of the loss at train rate 0, at leading order: H/2 times 2 sigma^2 p / (N - p - 1).

    The second factor is the slope of E|omega* - w_0|^2: B = X_v (I - alpha S) is near (1 - alpha) X_v, so the noise
    that B's pseudoinverse lets through, sigma^2 tr (B'B)^{-1}, grows like 1 + 2 alpha, from sigma^2 p / (N - p - 1).
    H (``adaptation_metric``) turns a distance into loss after adaptation.
    """
    panel = two_rates.panels(config)[1]
    n_rows, p = panel.design.n_query_rows, config.n_features
    assert panel.design.n_adapt is not None  # set by Design
    metric = float(adaptation_metric(panel.problem, panel.design.n_adapt, config.fixed_adapt_rate))
    return metric / 2 * 2 * config.noise_std**2 * p / (n_rows - p - 1)


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory and the optima, and the slope at train rate 0."""
    rows = rows_of(table, "b")
    zero = int(np.flatnonzero(rows["train_rate"] == 0.0)[0])
    lines = two_rates.verdict(table, config)
    if 0 < zero < len(rows["train_rate"]) - 1:
        rise, run = (rows[name][zero + 1] - rows[name][zero - 1] for name in ("conditional_mean", "train_rate"))
        lines.append(f"b: slope of the loss at train rate 0: leading order {slope_at_zero(config):.4f}; measured "
                     f"between the neighbours, given the inputs, {rise / run:.4f}.")  # fmt: skip
    return lines


def finding(table: pa.Table, config: Config) -> Finding:
    """The loss at the negative train rate next to 0 lies below the loss at 0."""
    panel = two_rates.panels(config)[1]
    return loss_just_below_zero(optima_of(table, "b")["below_zero"], f"best train rate {best_rate(table, panel)}")


EXPERIMENT = Experiment(
    name="underparameterized",
    claim="More query rows than features, much noise: the loss just below train rate 0 is lower than at 0.",
    short="loss falls below 0",
    run_time="15 s",
    quick_time="8 s",
    Config=Config,
    quick={
        "adapt_runs": 50,
        "train_runs": 50,
        "train_rates": evenly(-3.0, 1.0, 33),
        "adapt_rates": evenly(-0.4, 1.0, 15),
    },
    panels=two_rates.panels,
    draw=draw,
    finding=finding,
    verdict=verdict,
)
