"""What decides the sign of a kernel's best train rate: random problems, one number of each, and the measured slope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from undertow.experiments.nonlinear_config import Config, Problem
from undertow.trials import paired

BORDER = 0.6
"""Where the sign turns, fitted on the 150 random problems of another seed (11)."""


@dataclass(frozen=True)
class Place:
    """Where a problem lies on the map, and the slope of its loss at train rate 0.

    rows: N / sqrt(p). heights: see ``height_spread``. slope: mean over runs of (loss at +step - loss at -step), as a
    share of the loss at 0, se its standard error.
    """

    rows: float
    heights: float
    slope: float
    se: float

    @property
    def sign(self) -> int:
        """Sign of the best train rate: against the slope; 0 within two standard errors."""
        return -int(np.sign(self.slope)) if abs(self.slope) > 2 * self.se else 0

    @property
    def index(self) -> float:
        """N heights / sqrt(p): below BORDER the best rate is expected to be negative."""
        return self.rows * self.heights


def height_spread(problem: Problem) -> float:
    """Variance over tasks of a task's height E_x y, over the variance of all else in a row: noise, and the rest of what
    sets tasks apart.

    y = (w.x + b)^2 + z with x ~ N(0, 1), w ~ N(0, nu^2 / p), b ~ N(mean, tau^2): a task's height is |w|^2 + b^2, with
    variance 2 nu^4 / p + 4 mean^2 tau^2 + 2 tau^4. Of the rest, 2 b w.x has mean square 4 E b^2 nu^2, and
    (w.x)^2 - |w|^2 has 2 nu^4 (1 + 2 / p).
    """
    nu, tau, mean, p = problem.task_std, problem.offset_std, problem.mean_offset, problem.n_features
    heights = 2 * nu**4 / p + 4 * mean**2 * tau**2 + 2 * tau**4
    rest = problem.noise_std**2 + 4 * (mean**2 + tau**2) * nu**2 + 2 * nu**4 * (1 + 2 / p)
    return heights / rest


def place(table: pa.Table, problem: Problem, part: str, source: str, step: float) -> Place:
    """The problem's place, from the runs of one part of the table."""
    rates, values = paired.by_run(table, source, part=part)
    low, zero, high = (int(abs(rates - at).argmin()) for at in (-step, 0.0, step))
    change = (values[:, high] - values[:, low]) / values[:, zero].mean()
    rows = problem.n_query * problem.n_tasks / np.sqrt(problem.n_features)
    se = change.std(ddof=1) / np.sqrt(len(change))
    return Place(float(rows), height_spread(problem), float(change.mean()), float(se))


def random_places(table: pa.Table, config: Config) -> list[Place]:
    """All random problems of the map."""
    return [
        place(table, config.map_of(index), f"map-{index:03d}", "analytic", config.map_step)
        for index in range(config.map_problems)
    ]


def network_places(table: pa.Table, config: Config) -> dict[str, Place]:
    """The four problems on which the network was trained."""
    problems = dict(zip(("a", "b", "a-exchanged", "b-exchanged"), (config.few, config.many, *config.exchanged()),
                        strict=True))  # fmt: skip
    return {name: place(table, problem, name, "network", 2 * config.map_step) for name, problem in problems.items()}


def told(places: list[Place]) -> tuple[int, int]:
    """Of how many problems with a decided sign the border tells it, and how many there are."""
    decided = [one for one in places if one.sign]
    return sum((one.index < BORDER) == (one.sign < 0) for one in decided), len(decided)
