"""Fewer query rows than features: the test loss against both rates, at the sizes of the paper's figure 2."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow.experiments import two_rates
from undertow.experiments.config import Size, evenly
from undertow.experiments.experiment import Experiment


class Config(two_rates.TwoRatesConfig):
    """Settings. Sizes, scales, fixed rates, runs and test sizes are those of figure 2 of Bernacchia (ICLR 2021).

    The two grids of rates are ours.
    """

    n_features: Size = Field(60, description="p")
    n_tasks: Size = Field(3, description="m")
    n_support: Size = Field(30, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(20, description="n_r")

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
    return two_rates.draw(table, config, ("leading", "exact"))


EXPERIMENT = Experiment(
    name="overparameterized",
    title="Fewer query rows than features: both rates (figure 2 of the paper)",
    run_time="about 20 s",
    Config=Config,
    quick={
        "adapt_runs": 50,
        "train_runs": 100,
        "train_rates": evenly(-3.0, 1.5, 31),
        "adapt_rates": evenly(-0.4, 1.0, 15),
    },
    panels=two_rates.panels,
    draw=draw,
    verdict=two_rates.verdict,
)
