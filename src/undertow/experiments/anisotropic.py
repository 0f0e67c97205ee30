"""The limit of the claim: with inputs of unequal variance and little noise a positive train rate is best."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field, model_validator

from undertow.experiments.experiment import Experiment
from undertow.experiments.reading import best_rate, by_panel, curve
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size, evenly
from undertow.trials.finding import Finding, above, resampled, stated
from undertow.trials.panel import Panel
from undertow.trials.summary import optima_of

_TITLES = {
    "a": "a  unequal variances: positive (adapt {first:g})",
    "b": "b  unequal variances: positive (adapt {second:g})",
    "c": "c  equal variances: negative (adapt {first:g})",
}


def _positive(values: tuple[float, ...]) -> tuple[float, ...]:
    if min(values) <= 0:
        raise ValueError("input variances must be positive")
    return values


class Config(ExperimentConfig):
    """Settings. All sizes are ours, not the paper's, which treats equal input variances only.

    At adapt rate 0 the slope of the loss at train rate 0 has the sign of sigma^2 - nu^2 Var(lambda), lambda the
    input variances of mean 1 (leading order in 1/m): here .09 - .64, so the optimum is positive. Panel c is the same
    problem with all variances equal to their mean.
    """

    n_features: Size = Field(20, description="p")
    n_tasks: Size = Field(80, description="m")
    n_support: Size = Field(20, description="n_t")
    n_query: Size = Field(5, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    noise_std: Scale = Field(0.3, description="sigma")
    task_std: Scale = Field(1.0, description="nu; nu^2 = E|w - w_0|^2")
    input_variances: Annotated[tuple[float, ...], Field(min_length=1, strict=False), AfterValidator(_positive)] = Field(
        (0.2, 1.8), description="eigenvalues of Sigma_x, each for an equal share of the features"
    )
    train_rates: RatesWithZero = Field(evenly(-0.3, 0.4, 29), description="train rates")
    adapt_rates: Annotated[tuple[float, float], Field(strict=False)] = Field(
        (0.0, 0.2), description="adapt rate of panels a and c, and of panel b"
    )
    runs: Runs = Field(200, description="runs of each panel")

    @model_validator(mode="after")
    def _shares(self) -> Config:
        if self.n_features % len(self.input_variances):
            raise ValueError(
                f"n_features = {self.n_features} cannot be shared equally by {len(self.input_variances)} variances"
            )
        if self.n_query * self.n_tasks < self.n_features + 2:
            raise ValueError(f"n_query * n_tasks must be at least n_features + 2 = {self.n_features + 2}")
        return self


def panels(config: Config) -> list[Panel]:
    """a and b: unequal variances at two adapt rates. c: equal variances, at the first of them."""
    variances = np.repeat(config.input_variances, config.n_features // len(config.input_variances))
    unequal, equal = (
        MixedLinearRegression(config.n_features, config.noise_std, config.task_std, input_covariance=covariance)
        for covariance in (
            variances,
            None if math.isclose(variances.mean(), 1.0) else np.full_like(variances, variances.mean()),
        )
    )
    design = Design(config.n_tasks, config.n_support, config.n_query, config.n_adapt)
    test = (config.runs, config.n_test_tasks, config.n_test_rows)
    first, second = config.adapt_rates
    return [
        Panel("a", unequal, design, config.train_rates, (first,), *test),
        Panel("b", unequal, design, config.train_rates, (second,), *test),
        Panel("c", equal, design, config.train_rates, (first,), *test),
    ]


def draw(table: pa.Table, config: Config) -> Figure:
    """Three panels over the train rate, with every theory that exists there."""
    first, second = config.adapt_rates
    with style.context():
        made, axes = style.figure(3, width=3.6)
        for one, panel in zip(axes[0], panels(config), strict=True):
            title = _TITLES[panel.name].format(first=first, second=second)
            curve(table, panel, ("exact", "equivalent", "leading")).plot(one, xlabel="train rate", title=title)
        style.shared_legend(made, axes, columns=3)
        return made


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory and the optimum of each panel."""
    return by_panel(table, panels(config))


def finding(table: pa.Table, config: Config) -> Finding:
    """The best train rate of panel a lies above 0."""
    a, _, _ = panels(config)
    found = {name: [optima_of(table, name)["conditional"][key] for key in ("rate", "low", "high")] for name in "abc"}
    others = [" (".join(stated(*found[name])) + ")" for name in "bc"]
    return Finding(
        "best train rate",
        *found["a"],
        result=resampled(above(*found["a"][1:]), config.runs),
        lines=(
            f"best train rate {best_rate(table, a)}",
            f"at adapt rate {config.adapt_rates[1]:g} instead of {config.adapt_rates[0]:g} {others[0]}; "
            f"with equal variances {others[1]}",
        ),
    )


EXPERIMENT = Experiment(
    name="anisotropic",
    claim="Inputs of unequal variance: a positive train rate can be best.",
    short="best rate > 0",
    run_time="15 s",
    quick_time="9 s",
    Config=Config,
    quick={"runs": 25, "train_rates": evenly(-0.3, 0.4, 15)},
    panels=panels,
    draw=draw,
    finding=finding,
    verdict=verdict,
)
