"""Settings of ``direction``: two linear parts, a network, and the outer loops that are trained on all three."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from undertow.experiments.nonlinear_config import FewRows
from undertow.problem import Design
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Settings, Size, evenly


class LinearPart(Settings):
    """Sizes and rates of a linear part."""

    n_features: Size = Field(description="p")
    n_tasks: Size = Field(description="m")
    n_support: Size = Field(description="n_t")
    n_query: Size = Field(description="n_v")
    train_rates: RatesWithZero = Field(description="train rates")

    def design(self, n_adapt: int) -> Design:
        """The sizes as a Design."""
        return Design(self.n_tasks, self.n_support, self.n_query, n_adapt)


class OverPart(LinearPart):
    """Fewer query rows than features, at the sizes of the paper's figure 2."""

    n_features: Size = Field(60, description="p")
    n_tasks: Size = Field(3, description="m")
    n_support: Size = Field(30, description="n_t")
    n_query: Size = Field(2, description="n_v")
    train_rates: RatesWithZero = Field(
        (-4.0, -3.0, -2.5, -2.0, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5), description="train rates"
    )


class UnderPart(LinearPart):
    """More query rows than features."""

    n_features: Size = Field(20, description="p")
    n_tasks: Size = Field(10, description="m")
    n_support: Size = Field(10, description="n_t")
    n_query: Size = Field(4, description="n_v")
    train_rates: RatesWithZero = Field(evenly(-1.5, 0.5, 17), description="train rates")


class NetworkPart(FewRows):
    """A wide two-layer network on the quadratic problem of part a of ``nonlinear``."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = Field(400, description="hidden units")
    train_rates: RatesWithZero = Field(
        (-32.0, -12.0, -5.0, -2.0, -0.5, 0.0, 0.5), description="train rates, in spectral units"
    )
    adapt_rate: Scale = Field(0.25, description="adapt rate, in spectral units")
    runs: Runs = Field(20, description="runs")


class OuterLoops(Settings):
    """How the outer loops are trained, and after how many updates they are stopped early."""

    max_updates: Size = Field(5000, description="most updates of gradient descent")
    tolerance: Annotated[float, Field(gt=0)] = Field(1e-4, description="stop once the gradient has fallen so far")
    early: Size = Field(4, description="updates of gradient descent when it is stopped early")
    adam_early: Size = Field(10, description="updates of Adam when it is stopped early")
    adam_updates: Size = Field(1500, description="linear parts: updates over which Adam's step falls to 0")
    adam_step: Annotated[float, Field(gt=0)] = Field(0.01, description="linear parts: Adam's first step")
    network_adam_updates: Size = Field(300, description="network: updates over which Adam's step falls to 0")
    network_adam_step: Annotated[float, Field(gt=0)] = Field(0.01, description="network: Adam's first step")

    def limits(self, network: bool = False) -> tuple[int, int, float, int, int]:
        """Most updates of descent and of Adam, tolerance, and the updates after which each is stopped early."""
        adam = self.network_adam_updates if network else self.adam_updates
        return self.max_updates, adam, self.tolerance, self.early, self.adam_early


class Config(ExperimentConfig):
    """Settings. Parts over and network have the sizes of the paper's figure 2; all else is ours.

    A part that is given as a dictionary takes its class's defaults for what the dictionary leaves out.
    """

    noise_std: Scale = Field(1.0, description="sigma, in both linear parts")
    task_std: Scale = Field(0.5, description="nu, in both linear parts")
    n_adapt: Size = Field(20, description="n_r of both linear parts")
    adapt_rate: Scale = Field(0.2, description="adapt rate of the linear parts")
    start_std: Scale = Field(0.5, description="linear parts: E|omega_0|^2 of the random start, as a root")
    runs: Runs = Field(60, description="runs of each linear part")
    # A file holds a dictionary where the record holds a record.
    over: OverPart = Field(OverPart.model_validate({}), strict=False, description="linear part with N < p")
    under: UnderPart = Field(UnderPart.model_validate({}), strict=False, description="linear part with N > p")
    network: NetworkPart = Field(NetworkPart.model_validate({}), strict=False, description="the network")
    loops: OuterLoops = Field(OuterLoops.model_validate({}), strict=False, description="the outer loops")
