"""Which way should the inner step push? The exact outer solution beside outer loops that are trained by gradient."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pydantic import Field

from undertow.experiments import direction_runs, paired
from undertow.experiments.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size, evenly
from undertow.experiments.network_runs import Part
from undertow.experiments.panel import Cell
from undertow.experiments.training_experiment import TrainingExperiment, cut_runs
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression, QuadraticRegression

RUNS_PER_CELL = 10
PARTS = ("over", "under", "network")
PART_NAMES = {
    "over": "linear, N < p",
    "under": "linear, N > p",
    "network": "network",
}
ARMS = {
    "exact": "exact",
    "descent": "gradient descent, converged",
    "adam": "Adam, converged",
    "descent_early": "gradient descent, stopped early",
    "adam_early": "Adam, stopped early",
}


class Config(ExperimentConfig):
    """Settings. Part over has the sizes of the paper's figure 2; all others, and all optimiser settings, are ours."""

    noise_std: Scale = Field(1.0, description="sigma, in all parts")
    task_std: Scale = Field(0.5, description="nu, in all parts")
    n_features: Size = Field(60, description="part over: p")
    n_tasks: Size = Field(3, description="part over: m")
    n_support: Size = Field(30, description="part over: n_t")
    n_query: Size = Field(2, description="part over: n_v")
    n_adapt: Size = Field(20, description="n_r of both linear parts")
    under_features: Size = Field(20, description="part under: p")
    under_tasks: Size = Field(10, description="part under: m")
    under_support: Size = Field(10, description="part under: n_t")
    under_query: Size = Field(4, description="part under: n_v")
    train_rates: RatesWithZero = Field(
        (-4.0, -3.0, -2.5, -2.0, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5),
        description="part over: train rates",
    )
    under_rates: RatesWithZero = Field(evenly(-1.5, 0.5, 17), description="part under: train rates")
    adapt_rate: Scale = Field(0.2, description="adapt rate of the linear parts")
    start_std: Scale = Field(0.5, description="linear parts: E|omega_0|^2 of the random start, as a root")
    runs: Runs = Field(60, description="runs of each linear part")
    network_features: Size = Field(20, description="network: p")
    network_tasks: Size = Field(10, description="network: m")
    network_support: Size = Field(10, description="network: n_t and n_r")
    network_query: Size = Field(2, description="network: n_v")
    offset_std: Scale = Field(0.25, description="network: tau of the quadratic problem")
    width: Annotated[int, Field(ge=2, multiple_of=2)] = Field(400, description="network: hidden units")
    network_rates: RatesWithZero = Field(
        (-8.0, -4.0, -2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0), description="network: train rates, in spectral units"
    )
    network_adapt_rate: Scale = Field(0.25, description="network: adapt rate, in spectral units")
    network_runs: Runs = Field(20, description="network: runs")
    max_updates: Size = Field(5000, description="most updates of gradient descent")
    adam_updates: Size = Field(1500, description="linear parts: updates over which Adam's step falls to 0")
    adam_step: Annotated[float, Field(gt=0)] = Field(0.01, description="linear parts: Adam's first step")
    network_adam_updates: Size = Field(300, description="network: updates over which Adam's step falls to 0")
    network_adam_step: Annotated[float, Field(gt=0)] = Field(0.01, description="network: Adam's first step")
    tolerance: Annotated[float, Field(gt=0)] = Field(1e-4, description="stop once the gradient has fallen so far")
    early: Size = Field(4, description="updates of gradient descent when it is stopped early")
    adam_early: Size = Field(10, description="updates of Adam when it is stopped early")


def cut(config: Config) -> list[Cell]:
    """Cells of RUNS_PER_CELL runs of each part."""
    runs = (config.runs, config.runs, config.network_runs)
    return [
        cell
        for index, (name, count) in enumerate(zip(PARTS, runs, strict=True))
        for cell in cut_runs(name, index, count, RUNS_PER_CELL, config.seed)
    ]


def compute(config: Config, cell: Cell) -> pa.Table:
    """One cell; a row for each arm, run and rate."""
    name = PARTS[cell.panel]
    if name == "network":
        problem = QuadraticRegression(
            config.network_features, config.noise_std, config.task_std, offset_std=config.offset_std
        )
        design = Design(config.network_tasks, config.network_support, config.network_query)
        sizes = (config.n_test_tasks, 20)
        part = Part(name, problem, design, config.width, True, config.network_rates, config.network_adapt_rate, *sizes)
        limits = (config.max_updates, config.network_adam_updates, config.tolerance, config.early, config.adam_early)
        table = direction_runs.network(part, cell, config.network_adam_step, limits)
    else:
        limits = (config.max_updates, config.adam_updates, config.tolerance, config.early, config.adam_early)
        over = name == "over"
        p = config.n_features if over else config.under_features
        design = (
            Design(config.n_tasks, config.n_support, config.n_query, config.n_adapt)
            if over
            else Design(config.under_tasks, config.under_support, config.under_query, config.n_adapt)
        )
        rates = np.array(config.train_rates if over else config.under_rates)
        problem = MixedLinearRegression(p, config.noise_std, config.task_std)
        options = (config.adapt_rate, config.start_std, config.adam_step, limits, (20, 10))
        table = direction_runs.linear(problem, design, cell, rates, *options)
    return table.add_column(0, "part", pa.array([name] * len(table)))


def draw(table: pa.Table, config: Config) -> Figure:
    """Above: the test loss of each arm from zero; below: what the inner step does to the loss, for the exact solution
    and gradient descent."""
    colours = dict(zip(ARMS, style.PALETTE, strict=False))
    with style.context():
        made, axes = style.figure(3, 2, width=3.9, height=3.0)
        for j, part in enumerate(PARTS):
            top, bottom = axes[0, j], axes[1, j]
            for arm, label in ARMS.items():
                for start, dashes in (("zero", "-"), ("random", ":")):
                    rates, values = paired.by_run(table, "test_loss", part=part, arm=f"{arm}_{start}")
                    base = values[:, rates == 0.0].mean()
                    difference, se = (100 * x / base for x in paired.differences(rates, values))
                    lift = {"descent": 1.0, "adam": 1.0}.get(arm, 0.0)
                    top.errorbar(
                        rates, difference, se, color=colours[arm], linestyle=dashes, elinewidth=0.7,
                        linewidth=1.2 if lift else 1.8, zorder=2 + lift,
                        label=f"{label}, {'zero' if start == 'zero' else 'random'} start",
                    )  # fmt: skip
            top.axhline(0.0, color=style.GREY, linewidth=0.7)
            top.set_ylabel("test loss, % from rate 0")
            top.set_title(f"{'abc'[j]}  {PART_NAMES[part]}: test loss")
            for name, colour, label in (
                ("support", style.INK, "support loss of the training tasks"),
                ("query", style.SKY, "query loss of the training tasks"),
                ("new_query", style.GREY, "query loss of new tasks, same step"),
            ):
                rates, change = paired.by_run(table, f"{name}_change", part=part, arm="exact_zero")
                mean, se = paired.mean_and_se(change)
                bottom.errorbar(rates, mean, se, color=colour, label=f"below: {label}")
            bottom.axhline(0.0, color=style.GREY, linewidth=0.7)
            shown = paired.by_run(table, "support_before", part=part, arm="exact_zero")[1].mean()
            bottom.set_yscale("symlog", linthresh=0.5 * shown)
            bottom.set_ylabel("change of the loss in the inner step")
            bottom.set_title(f"{'def'[j]}  exact solution: what the step does")
            for one in (top, bottom):
                one.axvline(0.0, color=style.GREY, linewidth=0.7)
                one.set_xlabel("train rate, spectral units" if part == "network" else "train rate")
        style.shared_legend(made, axes, columns=4)
        return made


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Where each arm is lowest and what the inner step does there; then why the trained loops differ."""
    lines = []
    tally: dict[str, list[str]] = {}
    for part in PARTS:
        for arm, label in ARMS.items():
            for start in ("zero", "random"):
                name = f"{arm}_{start}"
                rates, values = paired.by_run(table, "test_loss", part=part, arm=name)
                best = paired.lowest(rates, values, config.seed)
                tally.setdefault(paired.sign_of(best), []).append(f"{PART_NAMES[part]}: {label}, {start} start")
                k = int(values.mean(axis=0).argmin())
                changes = []
                for kind in ("support", "query", "new_query"):
                    change = paired.by_run(table, f"{kind}_change", part=part, arm=name)[1][:, k]
                    changes.append(f"{kind.replace('_', ' ')} {_signed(change)}")
                gain = paired.against_zero(rates, values, rates[k])
                lines.append(
                    f"{PART_NAMES[part]}; {label}, {start} start: lowest at {paired.interval(best)}, {gain} from "
                    f"rate 0 (loss {values[:, rates == 0.0].mean():.3f} there); change in the step at "
                    f"{rates[k]:+g}: {', '.join(changes)}."
                )
    lines += ["Why the loops differ from the exact solution:", *_reasons(table, config), "Answer:"]
    for sign, arms in tally.items():
        meaning = {"negative": "the inner step should push to higher support loss",
                   "positive": "the inner step should push to lower support loss"}.get(sign, "not decided")  # fmt: skip
        lines.append(f"best rate {sign} ({meaning}) in {len(arms)} of {sum(map(len, tally.values()))} cases"
                     + ("." if len(arms) > 15 else ": " + "; ".join(arms) + "."))  # fmt: skip
    lines.append("all parts are problems in which noise outweighs what sets the tasks apart: nonlinear (part b) and "
                 "anisotropic show problems in which a positive rate is best.")  # fmt: skip
    return lines


def _reasons(table: pa.Table, config: Config) -> list[str]:
    lines = []

    def median(column: str, part: str, arm: str) -> float:
        return float(np.median(paired.by_run(table, column, part=part, arm=arm)[1]))

    for part in PARTS:
        lines.append(
            f"{PART_NAMES[part]}, relative distance from the exact solution of the same start, median: "
            + "; ".join(
                f"{label} {median('from_exact', part, f'{arm}_zero'):.2g} (zero), "
                f"{median('from_exact', part, f'{arm}_random'):.2g} (random)"
                for arm, label in ARMS.items()
                if arm != "exact"
            )
            + "."
        )
        rates, zero = paired.by_run(table, "test_loss", part=part, arm="exact_zero")
        random = paired.by_run(table, "test_loss", part=part, arm="exact_random")[1]
        extra = random - zero
        at = int(abs(rates - -1.0).argmin())
        lines.append(
            f"{PART_NAMES[part]}: what the random start adds to the exact solution's test loss: "
            f"{_signed(extra[:, rates == 0.0][:, 0])} at rate 0, {_signed(extra[:, at])} at {rates[at]:+g}."
        )
        if part != "network":
            near = median("from_ridge", part, "descent_early_zero")
            far = median("from_exact", part, "descent_early_zero")
            lines.append(f"{PART_NAMES[part]}: after {config.early} updates gradient descent from zero is {near:.2g} "
                         f"away from the ridge solution with ridge 1 / (step * updates), {far:.2g} from the exact "
                         "solution without.")  # fmt: skip
            rates, ridge = paired.by_run(table, "test_loss", part=part, arm="ridge_zero")
            best = paired.lowest(rates, ridge, config.seed)
            lines.append(f"{PART_NAMES[part]}: that ridge solution is lowest at {paired.interval(best)}.")
        for arm in ("descent", "adam"):
            share = np.mean([paired.by_run(table, "converged", part=part, arm=f"{arm}_{start}")[1].mean()
                             for start in ("zero", "random")])  # fmt: skip
            lines.append(f"{PART_NAMES[part]}: {share:.1%} of {ARMS[arm].split(',')[0]} runs brought the gradient "
                         f"down by {config.tolerance:g}.")  # fmt: skip
    return lines


def _signed(values: np.ndarray) -> str:
    return f"{values.mean():+.3g} \u00b1 {values.std(ddof=1) / np.sqrt(len(values)):.1g}"


EXPERIMENT = TrainingExperiment(
    name="direction",
    title="Should the inner step push to higher or lower loss? Exact solution and outer loops trained by gradient",
    run_time="about 2 min",
    Config=Config,
    quick={
        "runs": 10,
        "train_rates": (-2.0, -1.0, -0.5, 0.0, 0.5),
        "under_rates": (-1.0, -0.5, 0.0, 0.5),
        "network_rates": (-2.0, -0.5, 0.0, 0.5),
        "network_runs": 5,
        "adam_updates": 600,
        "network_adam_updates": 150,
        "n_test_tasks": 20,
    },
    draw=draw,
    verdict=verdict,
    cut=cut,
    compute=compute,
)
