"""Settings of ``nonlinear``: two problems on which a network is trained, and the random ones of the map."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from undertow.experiments.network_runs import Part
from undertow.problem import Design, QuadraticRegression
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Settings, Size


class Problem(Settings):
    """Sizes, scales and rates of one problem on which the network is trained."""

    n_features: Size = Field(description="p")
    n_tasks: Size = Field(description="m")
    n_support: Size = Field(description="n_t")
    n_query: Size = Field(description="n_v")
    n_adapt: Size = Field(description="n_r")
    task_std: Scale = Field(description="nu")
    noise_std: Scale = Field(description="sigma")
    offset_std: Scale = Field(description="tau, standard deviation of b")
    mean_offset: float = Field(description="mean of b")
    train_rates: RatesWithZero = Field(description="train rates, in spectral units")
    runs: Runs = Field(description="runs")

    @property
    def quadratic(self) -> QuadraticRegression:
        """The generative model."""
        return QuadraticRegression(
            self.n_features, self.noise_std, self.task_std, mean_offset=self.mean_offset, offset_std=self.offset_std
        )

    @property
    def design(self) -> Design:
        """The sizes as a Design."""
        return Design(self.n_tasks, self.n_support, self.n_query, self.n_adapt)


class FewRows(Problem):
    """Panel a, at the sizes of the paper's figure 2: few query rows, and tasks of nearly equal height."""

    n_features: Size = Field(60, description="p")
    n_tasks: Size = Field(3, description="m")
    n_support: Size = Field(30, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    task_std: Scale = Field(1.0, description="nu")
    noise_std: Scale = Field(0.5, description="sigma")
    offset_std: Scale = Field(0.25, description="tau, standard deviation of b")
    mean_offset: float = Field(0.0, description="mean of b")
    train_rates: RatesWithZero = Field(
        (-32.0, -16.0, -10.0, -7.0, -5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0),
        description="train rates, in spectral units",
    )
    runs: Runs = Field(60, description="runs")


class ManyRows(Problem):
    """Panel b: more query rows, and tasks that lie at different heights."""

    n_features: Size = Field(20, description="p")
    n_tasks: Size = Field(10, description="m")
    n_support: Size = Field(10, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(10, description="n_r")
    task_std: Scale = Field(0.5, description="nu")
    noise_std: Scale = Field(0.25, description="sigma")
    offset_std: Scale = Field(0.5, description="tau, standard deviation of b")
    mean_offset: float = Field(1.0, description="mean of b")
    train_rates: RatesWithZero = Field(
        (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0), description="train rates, in spectral units"
    )
    runs: Runs = Field(30, description="runs")


class Config(ExperimentConfig):
    """Settings. The sizes of panel a are those of the paper's figure 2; all scales and grids, and all else, are ours.

    A problem that is given as a dictionary takes its class's defaults for what the dictionary leaves out.
    """

    few: FewRows = Field(FewRows.model_validate({}), strict=False, description="panel a")
    many: ManyRows = Field(ManyRows.model_validate({}), strict=False, description="panel b")
    width: Annotated[int, Field(ge=2, multiple_of=2)] = Field(400, description="hidden units")
    antisymmetric: bool = Field(True, description="start at f0 = 0; False starts at a random function")
    adapt_rate: Scale = Field(0.25, description="adapt rate, in spectral units")
    n_test_tasks: Size = Field(40, description="new tasks per run on which the loss is measured")
    n_test_rows: Size = Field(20, description="test rows of each new task")
    kernel_runs: Runs = Field(400, description="other runs of both problems, for the kernel of infinite width alone")
    exchanged_runs: Runs = Field(20, description="runs of each problem with the scales of the other")
    map_problems: Size = Field(100, description="random problems of the map, solved in the kernel of infinite width")
    map_runs: Runs = Field(24, description="runs of each of them")
    map_step: Annotated[float, Field(gt=0)] = Field(
        0.25, description="train rate on either side of 0 between which the map's slope is taken, in spectral units"
    )
    max_updates: Size = Field(5000, description="most updates of the outer loop")
    tolerance: Annotated[float, Field(gt=0)] = Field(1e-4, description="stop once the gradient has fallen so far")

    @model_validator(mode="after")
    def _fits(self) -> Config:
        for problem in (self.few, self.many):
            rows, parameters = problem.n_query * problem.n_tasks, (problem.n_features + 2) * self.width
            if rows >= parameters:
                raise ValueError(f"n_query * n_tasks = {rows}, and the network has {parameters} parameters: "
                                 "this experiment needs fewer query rows than parameters")  # fmt: skip
        return self

    def exchanged(self) -> tuple[Problem, Problem]:
        """Each problem's sizes with the scales of the other, at rate 0 and one step to either side."""
        names = ("task_std", "noise_std", "offset_std", "mean_offset")
        rates = (-2 * self.map_step, 0.0, 2 * self.map_step)
        more = {"train_rates": rates, "runs": self.exchanged_runs}
        return (
            self.few.model_copy(update={name: getattr(self.many, name) for name in names} | more),
            self.many.model_copy(update={name: getattr(self.few, name) for name in names} | more),
        )

    def map_of(self, index: int) -> Problem:
        """The map's random problem of this index: sizes and scales over wide ranges, from the seed."""
        g = np.random.default_rng([self.seed, 4217, index])
        log = lambda low, high: float(np.exp(g.uniform(np.log(low), np.log(high))))  # noqa: E731  (four uses)
        n_rows = log(4, 60)
        n_query = max(1, round(log(1, n_rows / 2)))
        n_support = round(log(5, 40))
        return Problem(
            n_features=round(log(5, 100)),
            n_tasks=max(2, round(n_rows / n_query)),
            n_support=n_support,
            n_query=n_query,
            n_adapt=n_support,
            task_std=log(0.25, 1.5),
            noise_std=float(g.choice([0.0, 0.25, 0.5, 1.0, 1.5])),
            offset_std=float(g.uniform(0, 1)),
            mean_offset=float(g.choice([0.0, 0.5, 1.0, 1.5])),
            train_rates=(-self.map_step, 0.0, self.map_step),
            runs=self.map_runs,
        )

    def part(self, name: str, problem: Problem, width: int) -> Part:
        """A problem as a Part; ``width`` 0 is the kernel of infinite width alone."""
        test = (self.n_test_tasks, self.n_test_rows)
        return Part(name, problem.quadratic, problem.design, width, self.antisymmetric, problem.train_rates,
                    self.adapt_rate, test)  # fmt: skip

    def parts(self) -> list[tuple[Part, int]]:
        """Every part with its number of runs: the panels, the exchanged problems, the other runs and the map."""
        first, second = self.exchanged()
        return [
            (self.part("a", self.few, self.width), self.few.runs),
            (self.part("b", self.many, self.width), self.many.runs),
            (self.part("a-exchanged", first, self.width), self.exchanged_runs),
            (self.part("b-exchanged", second, self.width), self.exchanged_runs),
            (self.part("a-kernel", self.few, 0), self.kernel_runs),
            (self.part("b-kernel", self.many, 0), self.kernel_runs),
            *(
                (self.part(f"map-{index:03d}", self.map_of(index), 0), self.map_runs)
                for index in range(self.map_problems)
            ),
        ]
