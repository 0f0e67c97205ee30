"""One block of linear attention, trained on tasks: does it learn the step with the best matrix as its rate?"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from pydantic import Field

from undertow import theory
from undertow.experiments.training_experiment import TrainingExperiment, cut_parts
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression
from undertow.trials.config import ExperimentConfig, Runs, Scale, Size
from undertow.trials.finding import Finding, mean_interval, sentence, within
from undertow.trials.panel import Cell

MARGIN = 0.01
"""The block has learned the step where its loss is within this share of the step's."""
STEPS = {
    "none": "no step",
    "scalar": "one rate",
    "diagonal": "a rate for each weight",
    "full": "a matrix of rates",
    "block": "attention, trained",
    "posterior": "posterior mean",
}


class Config(ExperimentConfig):
    """Settings; all sizes are ours. Neighbouring features are correlated, and w_0 = 0."""

    correlation: Annotated[float, Field(gt=-1, lt=1)] = Field(0.6, description="of neighbours; its powers further off")
    task_variances: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2, strict=False)] = Field(
        (1.0, 0.05, 1.0, 0.05, 1.0), description="variance of each weight over tasks; as many as features"
    )
    noise_std: Scale = Field(0.5, description="sigma")
    n_adapt: Size = Field(40, description="n_r: rows of a task, while training too")
    n_query: Size = Field(10, description="query rows of a task while training")
    meta_batch: Size = Field(64, description="tasks per iteration")
    iterations: Size = Field(6000, description="iterations")
    step: Annotated[float, Field(gt=0)] = Field(0.02, description="Adam's first step; it falls along half a cosine")
    runs: Runs = Field(10, description="seeds")
    n_test_tasks: Size = Field(4000, description="new tasks of each run")

    @property
    def problem(self) -> MixedLinearRegression:
        """The tasks."""
        p = len(self.task_variances)
        inputs = self.correlation ** abs(np.subtract.outer(np.arange(p), np.arange(p)))
        return MixedLinearRegression(
            p, self.noise_std, task_covariance=np.array(self.task_variances), input_covariance=inputs
        )

    @property
    def design(self) -> Design:
        """Sizes of one iteration."""
        return Design(self.meta_batch, self.n_adapt, self.n_query, self.n_adapt)


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train and test the runs of a cell."""
    from undertow.experiments import attention_runs

    seeds = cell.generator().integers(2**31, size=cell.runs)
    sizes = (config.n_test_tasks, config.iterations, config.step)
    return attention_runs.compute(config.problem, config.design, *sizes, seeds, cell.first_run)


def losses(table: pa.Table, step: str) -> np.ndarray:
    """(runs,) mean loss on new tasks."""
    return table.filter(pc.field("step") == step)["loss"].to_numpy()


def rates(table: pa.Table, step: str) -> np.ndarray:
    """(runs, entries) rates of a step."""
    return np.array(table.filter(pc.field("step") == step)["rate"].to_pylist())


def expected(config: Config) -> dict[str, float]:
    """The exact loss of each step, and the least possible loss."""
    problem, design = config.problem, config.design
    best = {name: theory.optimal_matrix_rate(problem, design, name) for name in ("scalar", "diagonal", "full")}
    found = {name: theory.step_loss(problem, design, rate) for name, rate in {"none": 0.0, **best}.items()}
    return {**found, "block": found["full"], "posterior": theory.least_loss(problem, design)}


def draw(table: pa.Table, config: Config) -> Figure:
    """The losses of all steps, the block's matrix beside the best one, and the best rate of each weight."""
    exact, problem = expected(config), config.problem
    with style.context():
        made, axes = style.figure(3, width=3.7)
        ladder, entries, weights = axes[0]
        for height, name in enumerate(STEPS):
            mean, low, high = mean_interval(losses(table, name))
            ends = [[mean - low], [high - mean]]
            style.measured(ladder, [mean], [height], None, xerr=ends, markersize=5, label="measured, 95 % interval")
            ladder.plot([exact[name]], [height], "|", color=style.ORANGE, markersize=16, markeredgewidth=2,
                        label="theory, exact")  # fmt: skip
        ladder.axvline(exact["posterior"], color=style.GREEN, linestyle=(0, (6, 2)), linewidth=1.2,
                       label="least possible loss")  # fmt: skip
        ladder.set_xscale("log")
        ticks = [round(exact[name], 2) for name in STEPS if name != "block"]
        ladder.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ladder.minorticks_off()
        ladder.set_yticks(range(len(STEPS)), list(STEPS.values()))
        ladder.invert_yaxis()
        ladder.set(xlabel="loss on new tasks", title="a  attention takes the step\nwith the best matrix of rates")
        gamma = theory.optimal_matrix_rate(problem, config.design).ravel()
        _pairs(entries, gamma, rates(table, "block"))
        entries.set(xlabel="entry of the best matrix, theory", ylabel="the block's entry", title="b  entry by entry")
        diagonal, place = theory.optimal_matrix_rate(problem, config.design, "diagonal"), np.arange(problem.n_features)
        trained = rates(table, "trained")
        weights.plot(place, diagonal, "_", color=style.ORANGE, markersize=20, markeredgewidth=2)
        style.measured(weights, place, trained.mean(axis=0), 2 * trained.std(axis=0, ddof=1), label=None)
        weights.axhline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
        weights.set_xticks(place, [f"{variance:g}" for variance in config.task_variances])
        weights.set(xlabel="variance of the weight over tasks", ylabel="its best rate")
        weights.set_title("c  one rate for each weight:\nnegative where tasks hardly differ")
        style.shared_legend(made, axes, columns=3)
        return made


def _pairs(axes: Any, best: np.ndarray, found: np.ndarray) -> None:
    ends = np.array([best.min(), best.max()]) + 0.1 * np.ptp(best) * np.array([-1, 1])
    axes.plot(ends, ends, color=style.ORANGE)
    style.measured(axes, best, found.mean(axis=0), 2 * found.std(axis=0, ddof=1), label=None)


def finding(table: pa.Table, config: Config) -> Finding:
    """The block's loss lies within MARGIN of that of the best matrix, on the same new tasks."""
    exact = expected(config)
    ends = mean_interval(100 * (losses(table, "block") - losses(table, "full")) / exact["full"])
    diagonal = theory.optimal_matrix_rate(config.problem, config.design, "diagonal")
    return Finding(
        "loss against the matrix",
        *ends,
        unit="%",
        result=within(np.array([ends[1]]), np.array([ends[2]]), 100 * MARGIN),
        lines=(
            f"the block's loss against that of the best matrix of rates: {sentence(*ends, unit='%')}; limit "
            f"{100 * MARGIN:g} %",
            f"exact losses: no step {exact['none']:.3f}, one rate {exact['scalar']:.3f}, a rate for each weight "
            f"{exact['diagonal']:.3f}, a matrix {exact['full']:.3f}; least possible {exact['posterior']:.3f}",
            f"best rate for each weight: {', '.join(f'{rate:+.2f}' for rate in diagonal)}",
        ),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Each step's loss beside theory, and how far learned rates are from the best ones."""
    exact, lines = expected(config), []
    for name, words in STEPS.items():
        found = losses(table, name)
        mean, se = found.mean(), found.std(ddof=1) / np.sqrt(len(found))
        line = f"{words}: loss {mean:.4f} \u00b1 {se:.4f}, theory {exact[name]:.4f}"
        lines.append(line + (f", |z| {abs(mean - exact[name]) / se:.2f}." if name != "block" else "."))
    for name, best, words in (("block", "full", "the block's matrix"), ("trained", "diagonal", "trained rates")):
        goal = theory.optimal_matrix_rate(config.problem, config.design, best).ravel()
        off = abs(rates(table, name).mean(axis=0) - goal).max()
        lines.append(f"{words}: largest distance of a mean entry from the best one {off:.4f}, in units of the rate.")
    return lines


EXPERIMENT = TrainingExperiment(
    name="attention",
    claim="One block of linear attention, trained on tasks, learns the step with the best matrix of rates.",
    short="loss of that step",
    run_time="30 s",
    quick_time="11 s",
    Config=Config,
    quick={"runs": 5, "iterations": 2000, "n_test_tasks": 2000},
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: {"runs": config.runs}, 5),
    compute=compute,
    by_name=True,
)
