"""Few distinct tasks, each drawn many times: what their number does to the loss and to the best rate."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow import theory
from undertow.experiments.training_experiment import CellExperiment, cut_parts
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression
from undertow.trials import paired
from undertow.trials.conditional import loss_at, transposed_pseudoinverse
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size, evenly
from undertow.trials.finding import Finding, below, half_width, resampled, sentence, weakest, within
from undertow.trials.optimum import Optimum, empirical_optimum
from undertow.trials.panel import Cell

MARGIN = 0.01
"""Where N > p theory fits if it is within this share of the loss."""
PARTS = {"many": "more query rows than features", "few": "fewer query rows than features"}


class Config(ExperimentConfig):
    """Settings; all sizes are ours. The data sets are as many at every number of distinct tasks."""

    n_features: Size = Field(20, description="p")
    n_support: Size = Field(10, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(20, description="n_r")
    data_sets: Size = Field(24, description="data sets, where N > p")
    few_data_sets: Size = Field(6, description="data sets, where N < p")
    noise_std: Scale = Field(1.0, description="sigma")
    task_std: Scale = Field(2.0, description="nu; nu^2 = E|w - w_0|^2")
    train_rates: RatesWithZero = Field(evenly(-2.0, 0.4, 25), description="train rates")
    shown_rates: Annotated[tuple[float, ...], Field(min_length=1, strict=False)] = Field(
        (-0.5, 0.0, 0.2), description="those of panel a"
    )
    adapt_rate: float = Field(0.2, description="adapt rate")
    runs: Runs = Field(1000, description="runs of each part")

    @model_validator(mode="after")
    def _sides(self) -> Config:
        p, n_v = self.n_features, self.n_query
        if n_v * self.data_sets < p + 2 or n_v * self.few_data_sets > p - 2:
            raise ValueError("n_query * data_sets must be at least n_features + 2, n_query * few_data_sets at most - 2")
        if missing := set(self.shown_rates) - set(self.train_rates):
            raise ValueError(f"shown_rates {sorted(missing)} are not among train_rates")
        return self

    @property
    def problem(self) -> MixedLinearRegression:
        """The tasks."""
        return MixedLinearRegression(self.n_features, self.noise_std, self.task_std)

    def sets(self, part: str) -> int:
        """Data sets of a part."""
        return self.data_sets if part == "many" else self.few_data_sets

    def numbers(self, part: str) -> list[int]:
        """How many of the data sets' tasks are distinct: all divisors of their number."""
        sets = self.sets(part)
        return [m for m in range(1, sets + 1) if sets % m == 0]

    def design(self, n_tasks: int) -> Design:
        """Sizes with so many distinct tasks."""
        return Design(n_tasks, self.n_support, self.n_query, self.n_adapt)


def compute(config: Config, cell: Cell) -> pa.Table:
    """One row for each run, number of distinct tasks and train rate: the expected loss given the inputs.

    All numbers of tasks share the inputs of a run: the first data sets are of the first task, and so on.
    """
    part, generator = list(PARTS)[cell.panel], cell.generator()
    sets, problem, rates = config.sets(part), config.problem, np.array(config.train_rates)
    support, query = (
        generator.standard_normal((cell.runs, sets, n, config.n_features)) for n in (config.n_support, config.n_query)
    )
    numbers = config.numbers(part)
    distance = distances(problem, support, query, rates, numbers)
    losses = loss_at(problem, config.n_adapt, config.adapt_rate, distance)
    run, m, rate = np.meshgrid(np.arange(cell.first_run, cell.first_run + cell.runs), numbers, rates, indexing="ij")
    columns = {"run": run.ravel(), "n_tasks": m.ravel(), "train_rate": rate.ravel(), "loss": losses.ravel()}
    return pa.table({"part": [part] * losses.size, **columns})


def distances(
    problem: MixedLinearRegression, support: np.ndarray, query: np.ndarray, rates: np.ndarray, numbers: list[int]
) -> np.ndarray:
    """E[|omega* - w_0|^2 | inputs] of the solution nearest to w_0: (runs, numbers of distinct tasks, rates).

    support: (r, M, n_t, p), query: (r, M, n_v, p). With omega* - w_0 = sum_d C_d u_d + noise, data sets of one task
    share u_d, so that their C_d add up before they are squared.
    """
    r, sets, n_v, p = query.shape
    cross = query @ support.swapaxes(-1, -2) / support.shape[2]  # (r, M, n_v, n_t)
    shrunk = cross @ support
    out = np.empty((r, len(numbers), len(rates)))
    assert problem.task_std is not None  # set in __post_init__
    for k, rate in enumerate(rates):
        blocks = query - rate * shrunk
        dual = transposed_pseudoinverse(blocks.reshape(r, sets * n_v, p)).reshape(blocks.shape)
        each = dual.swapaxes(-1, -2) @ blocks  # C_d: (r, M, p, p)
        noise = (dual**2).sum(axis=(1, 2, 3)) + rate**2 * ((dual.swapaxes(-1, -2) @ cross) ** 2).sum(axis=(1, 2, 3))
        for j, m in enumerate(numbers):
            tasks = (each.reshape(r, m, sets // m, p, p).sum(axis=2) ** 2).sum(axis=(1, 2, 3))
            out[:, j, k] = problem.task_std**2 / p * tasks + problem.noise_std**2 * noise
    return out


def expected(config: Config, part: str, n_tasks: int, rates: Any) -> np.ndarray:
    """Theory's loss with so many distinct tasks."""
    draws = config.sets(part) // n_tasks
    return np.asarray(theory.repeated_loss(config.problem, config.design(n_tasks), draws, rates, config.adapt_rate))


def measured(table: pa.Table, part: str, n_tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates and losses (runs, k)."""
    return paired.by_run(table, "loss", part=part, n_tasks=n_tasks)


def best(table: pa.Table, config: Config, part: str, n_tasks: int) -> Optimum:
    """The best train rate with so many distinct tasks."""
    return empirical_optimum(*measured(table, part, n_tasks), config.seed)


def expected_best(config: Config, part: str, n_tasks: int) -> float:
    """Theory's best train rate within the sweep: the vertex of the parabola through the lowest points of a fine one."""
    fine = np.linspace(config.train_rates[0], config.train_rates[-1], 97)
    return empirical_optimum(fine, expected(config, part, n_tasks, fine)[None], config.seed).rate


def draw(table: pa.Table, config: Config) -> Figure:
    """Loss against the number of distinct tasks at three rates; the best rate against it, in both parts."""
    with style.context():
        made, axes = style.figure(3, width=3.9)
        for one, part, letter in zip(axes[0], PARTS, "ab", strict=False):
            numbers = np.array(config.numbers(part))
            for rate in config.shown_rates:
                lines = np.array([expected(config, part, int(m), rate) for m in numbers])
                found = [measured(table, part, int(m)) for m in numbers]
                k = config.train_rates.index(rate)
                mean, se = np.array([paired.mean_and_se(values[:, [k]]) for _, values in found])[:, :, 0].T
                one.plot(numbers, lines, color=style.ORANGE, label="theory")
                style.measured(one, numbers, mean, se)
                style.label_end(one, f"rate {style.signed(rate)}", numbers[-1], lines[-1])
            least = theory.least_loss(config.problem, config.design(1))
            style.least_below(one, f"{least:.2f}")
            _tasks_axis(one, numbers)
            one.set_ylabel("test loss after adaptation")
            change = "falls" if part == "many" else "rises"
            one.set_title(f"{letter}  {PARTS[part]}:\nwith more distinct tasks the loss {change}")
        _best_rates(axes[0, 2], table, config)
        style.shared_legend(made, axes, columns=2)
        return made


def _best_rates(axes: Any, table: pa.Table, config: Config) -> None:
    for part, words in (("many", "N > p"), ("few", "N < p")):
        numbers = config.numbers(part)
        found = [best(table, config, part, m) for m in numbers]
        lines = [expected_best(config, part, m) for m in numbers]
        axes.plot(numbers, lines, color=style.ORANGE)
        middle = np.array([one.rate for one in found])
        ends = [middle - [one.low for one in found], np.array([one.high for one in found]) - middle]
        style.measured(axes, numbers, middle, np.maximum(ends, 0), label=None)
        style.label_end(axes, words, numbers[-1], lines[-1])
    _tasks_axis(axes, config.numbers("many"))
    axes.set_ylim(top=0.0)
    axes.set_ylabel("best train rate (95 % interval)")
    axes.set_title("c  the best rate is negative at any m,\nfurther out with few tasks (N > p)")


def _tasks_axis(axes: Any, numbers: Any) -> None:
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel("distinct tasks, m")


def off(table: pa.Table, config: Config, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point from theory as a share of it, and its standard error, (points,) each."""
    pairs = []
    for m in config.numbers(part):
        rates, values = measured(table, part, m)
        mean, se = paired.mean_and_se(values)
        exact = expected(config, part, m, rates)
        pairs.append((mean / exact - 1, se / exact))
    distance, se = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return distance, se


def finding(table: pa.Table, config: Config) -> Finding:
    """N > p: the best rate with one task drawn again and again lies below that with distinct ones; theory fits."""
    numbers = config.numbers("many")
    one, many = (best(table, config, "many", m) for m in (numbers[0], numbers[-1]))
    # The ends of the difference's interval are those of the two intervals, so that it is too wide.
    ends = (one.rate - many.rate, one.low - many.high, one.high - many.low)
    distance, se = off(table, config, "many")
    half = half_width(config.runs, number=len(distance)) * se
    furthest = max(abs(distance - half).max(), abs(distance + half).max())
    few = [best(table, config, "few", m).rate for m in config.numbers("few")]
    return Finding(
        "best rate, one task less all",
        *ends,
        result=weakest(
            [resampled(below(ends[1], ends[2]), config.runs), within(distance - half, distance + half, MARGIN)]
        ),
        lines=(
            f"N > p: best train rate with one task minus that with {numbers[-1]} distinct ones: {sentence(*ends)}; "
            f"{one.rate:+.2f} and {many.rate:+.2f}, theory {expected_best(config, 'many', 1):+.2f} and "
            f"{expected_best(config, 'many', numbers[-1]):+.2f}",
            f"N < p: best train rate {min(few):+.2f} to {max(few):+.2f} at any number of them, theory "
            f"{expected_best(config, 'few', 1):+.2f}",
            f"N > p: theory within {100 * furthest:.2f} % of the loss at all {len(distance)} points (simultaneous 95 % "
            f"intervals; limit {100 * MARGIN:g} %)",
        ),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory and the best rate at each number of distinct tasks."""
    lines = []
    for part, words in PARTS.items():
        method = theory.method_for(config.problem, config.design(config.sets(part)), -1.0).method
        distance, se = off(table, config, part)
        lines.append(f"{words}: {len(distance)} points against theory ({method}): "
                     f"largest deviation {100 * abs(distance).max():.2f} % of the loss, "
                     f"largest |z| {abs(distance / se).max():.2f}.")  # fmt: skip
        for m in config.numbers(part):
            _, values = measured(table, part, m)
            zero = values[:, config.train_rates.index(0.0)]
            lines.append(f"{words}: {m} distinct tasks, each drawn {config.sets(part) // m} times: loss at rate 0 "
                         f"{zero.mean():.4f}; lowest at {paired.interval(best(table, config, part, m))}; theory "
                         f"{expected_best(config, part, m):+.2f}.")  # fmt: skip
    return lines


EXPERIMENT = CellExperiment(
    name="diversity",
    claim="Few distinct tasks drawn again and again: the best train rate lies further below 0 (N > p), as theory says.",
    short="rate falls with repeats",
    run_time="9 s",
    quick_time="4 s",
    Config=Config,
    quick={"runs": 400, "train_rates": (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.2)},
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: dict.fromkeys(PARTS, config.runs), 50),
    compute=compute,
    by_name=True,
)
