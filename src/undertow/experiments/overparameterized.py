"""Fewer query rows than features: the test loss against both rates, at the sizes of the paper's figure 2."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow.experiments import two_rates
from undertow.experiments.experiment import Experiment
from undertow.experiments.reading import best_rate, from_exact_theory
from undertow.trials.config import Runs, Size, evenly
from undertow.trials.finding import Finding, below, resampled, weakest, within
from undertow.trials.summary import optima_of

MARGIN = 0.01
"""Theory fits where it is within this share of the loss: the train rate moves the loss by some per cent."""


class Config(two_rates.TwoRatesConfig):
    """Settings. Sizes, scales, fixed rates and test sizes are those of figure 2 of Bernacchia (ICLR 2021).

    The two grids of rates are ours. Panel b has four times the paper's 1000 runs: in the first 1000 of seed 0 the raw
    means lie up to 3.5 standard errors above exact theory, in the other 3000 about 1.
    """

    n_features: Size = Field(60, description="p")
    n_tasks: Size = Field(3, description="m")
    n_support: Size = Field(30, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    train_runs: Runs = Field(4000, description="panel b: runs")

    @model_validator(mode="after")
    def _fewer_rows_than_features(self) -> Config:
        rows = self.n_query * self.n_tasks
        if rows > self.n_features - 2:
            raise ValueError(
                f"n_query * n_tasks = {rows} with n_features = {self.n_features}: this experiment needs at most "
                "n_features - 2 query rows, else the mean loss is infinite or the problem is not overparameterized"
            )
        return self


def draw(table: pa.Table, config: Config) -> Figure:
    """Both panels, with exact and leading-order theory."""
    return two_rates.draw(table, config, ("exact", "leading"))


def finding(table: pa.Table, config: Config) -> Finding:
    """The best train rate lies below 0, and every point within MARGIN of exact theory."""
    panels = two_rates.panels(config)
    best = optima_of(table, "b")["conditional"]
    ends = (best["rate"], best["low"], best["high"])
    lows, highs = from_exact_theory(table, panels)
    furthest = max(abs(lows).max(initial=0), abs(highs).max(initial=0))
    return Finding(
        "best train rate",
        *ends,
        result=weakest([resampled(below(*ends[1:]), config.train_runs), within(lows, highs, MARGIN)]),
        lines=(
            f"best train rate {best_rate(table, panels[1])}",
            f"exact theory: within {100 * furthest:.2f} % of the loss at all {len(lows)} points (simultaneous 95 % "
            f"intervals; limit {100 * MARGIN:g} %)",
        ),
    )


EXPERIMENT = Experiment(
    name="overparameterized",
    claim="Fewer query rows than features: the best train rate is negative, and exact theory fits.",
    short="best rate < 0",
    run_time="75 s",
    quick_time="9 s",
    Config=Config,
    quick={
        "adapt_runs": 50,
        "train_runs": 100,
        "train_rates": evenly(-3.0, 1.5, 31),
        "adapt_rates": evenly(-0.4, 1.0, 15),
    },
    panels=two_rates.panels,
    draw=draw,
    finding=finding,
    verdict=two_rates.verdict,
)
