"""What every experiment's Config shares: strict, frozen, and an unknown key is an error."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def evenly(low: float, high: float, count: int) -> tuple[float, ...]:
    """``count`` rates from low to high, rounded so that a config file shows -0.1 and not -0.09999999999999987."""
    return tuple(float(rate) for rate in np.linspace(low, high, count).round(10) + 0.0)


def _ascending(rates: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(rates)):
        raise ValueError("rates must ascend, each once: sort them and drop repeats")
    return rates


def _around_zero(rates: tuple[float, ...]) -> tuple[float, ...]:
    if 0.0 not in rates:
        raise ValueError("rates must contain exactly 0: gains are measured against it")
    return rates


Size = Annotated[int, Field(ge=1)]
Runs = Annotated[int, Field(ge=2)]
Scale = Annotated[float, Field(ge=0)]
# A file holds a list where the record holds a tuple, so only the outer type is taken leniently.
Rates = Annotated[tuple[float, ...], Field(min_length=2, strict=False), AfterValidator(_ascending)]
RatesWithZero = Annotated[Rates, AfterValidator(_around_zero)]


class Settings(BaseModel):
    """Strict and frozen. Unknown keys, wrong types and impossible sizes raise pydantic.ValidationError."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=False
    )


class ExperimentConfig(Settings):
    """Settings of one experiment.

    Parameters
    ----------
    seed
        seed of all draws.
    n_test_tasks, n_test_rows
        new tasks of a run, and rows to test on of each.

    Examples
    --------
    >>> from undertow import experiments
    >>> experiments.get("overparameterized").Config(seed=1, n_test_tasks=20).seed
    1
    """

    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed that all draws derive from")
    n_test_tasks: Size = Field(100, description="new tasks per run on which the raw loss is measured")
    n_test_rows: Size = Field(50, description="test rows of each new task")

    @model_validator(mode="after")
    def _something_to_measure(self) -> ExperimentConfig:
        scales = [getattr(self, name, 1.0) for name in ("noise_std", "task_std")]
        if sum(scale * scale for scale in scales) == 0:
            raise ValueError("noise_std and task_std are both 0: every loss is 0 then, so make one of them larger")
        return self
