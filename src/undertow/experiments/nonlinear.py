"""A wide two-layer network on quadratic regression: where a negative rate wins, where a positive one, what decides."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from undertow.experiments import network_runs
from undertow.experiments.nonlinear_config import Config
from undertow.experiments.nonlinear_figure import SIGNS, draw
from undertow.experiments.nonlinear_map import BORDER, network_places, random_places, told
from undertow.experiments.reading import loss_just_below_zero
from undertow.experiments.training_experiment import TrainingExperiment
from undertow.trials import paired
from undertow.trials.finding import Finding, mean_interval, sentence
from undertow.trials.optimum import empirical_optimum, just_below_zero
from undertow.trials.panel import Cell, cut_runs

RUNS_PER_CELL, KERNEL_RUNS_PER_CELL = 5, 50
SOURCES = {
    "network": "network, trained to convergence",
    "empirical": "exact, this network's own kernel",
    "analytic": "exact, kernel of infinite width",
}
TITLES = {"a": "few query rows, tasks of nearly equal height", "b": "more rows, tasks at different heights"}


def cut(config: Config) -> list[Cell]:
    """Cells of RUNS_PER_CELL runs of a network, or of KERNEL_RUNS_PER_CELL of the kernel alone."""
    return [
        cell
        for index, (part, runs) in enumerate(config.parts())
        for cell in cut_runs(part.name, index, runs, RUNS_PER_CELL if part.width else KERNEL_RUNS_PER_CELL, config.seed)
    ]


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train and solve one cell."""
    part, _ = config.parts()[cell.panel]
    if part.width == 0:
        return network_runs.compute_kernel(part, cell)
    return network_runs.compute(part, cell, config.max_updates, config.tolerance)


def finding(table: pa.Table, config: Config) -> Finding:
    """Part a: the network's loss at the negative train rate next to 0 lies below its loss at 0."""
    rates, values = paired.by_run(table, "network", part="a")
    best = empirical_optimum(rates, values, config.seed)
    right, decided = told(random_places(table, config))
    more = [
        f"best train rate {paired.interval(best)}, in spectral units; where tasks differ in height (b) the loss "
        f"at +0.5 against the loss at 0: {_change(table, 'b', 0.5)}",
        f"N (variance between tasks / within) / sqrt(p) against {BORDER:g} tells the best rate's sign in {right} of "
        f"{decided} random problems",
    ]
    return loss_just_below_zero(just_below_zero(rates, values), *more)


def _change(table: pa.Table, part: str, rate: float) -> str:
    rates, values = paired.by_run(table, "network", part=part)
    at = int(abs(rates - rate).argmin())
    ends = mean_interval(100 * (values[:, at] - values[:, rates == 0.0][:, 0]) / values[:, rates == 0.0].mean())
    return sentence(*ends, unit="%")


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Where each curve is lowest and by how much, network against kernels, and the map."""
    units = ", ".join(f"{part.unit:.4f} ({part.name})" for part, _ in config.parts()[:2])
    lines = [f"1 spectral unit is a raw rate of {units}."]
    for name, problem in (("a", config.few), ("b", config.many)):
        lines += _curves(table, config, name, problem.train_rates)
    for name, one in network_places(table, config).items():
        lines.append(
            f"map, network {name}: N / sqrt(p) {one.rows:.2f}, variance between tasks / within {one.heights:.3f}, "
            f"product {one.index:.3f}; loss at {2 * config.map_step:+g} minus loss at {-2 * config.map_step:+g}: "
            f"{100 * one.slope:+.2f} % \u00b1 {100 * one.se:.2f} %: best rate {SIGNS[one.sign][1]}."
        )
    places = random_places(table, config)
    signs = np.array([one.sign for one in places])
    right, decided = told(places)
    lines.append(
        f"map, kernel: {len(places)} random problems: best rate negative in {(signs < 0).sum()}, positive in "
        f"{(signs > 0).sum()}, within two standard errors of 0 in {(signs == 0).sum()}; the border {BORDER:g} tells "
        f"{right} of the {decided} decided ones."
    )
    trained = table.filter(pc.field("width") > 0)
    done, updates = (trained[key].to_numpy(zero_copy_only=False) for key in ("converged", "iterations"))
    lines.append(f"{100 * done.mean():.1f} % of {len(done)} trainings converged (gradient down by "
                 f"{config.tolerance:g}); updates: median {np.median(updates):.0f}, most {updates.max()}.")  # fmt: skip
    return lines


def _curves(table: pa.Table, config: Config, name: str, rates: tuple[float, ...]) -> list[str]:
    found = {s: empirical_optimum(*paired.by_run(table, s, part=name), config.seed) for s in SOURCES}
    lines = [f"{name}: {TITLES[name]}. Lowest test loss at the train rate: "
             + "; ".join(f"{SOURCES[s]} {paired.interval(f)}" for s, f in found.items()) + "."]  # fmt: skip
    shown = [rate for rate in rates if rate]
    for source, part, words in (("network", name, SOURCES["network"]), ("empirical", name, SOURCES["empirical"]),
                                ("analytic", f"{name}-kernel", "kernel of infinite width")):  # fmt: skip
        swept, values = paired.by_run(table, source, part=part)
        gains = "; ".join(f"{rate:+g}: {paired.against_zero(swept, values, rate)}" for rate in shown)
        lines.append(f"{name}: difference from rate 0, {len(values)} runs, {words}: {gains}.")
    kernel = paired.by_run(table, "empirical", part=name)[1]
    mean, se = paired.mean_and_se(paired.by_run(table, "network", part=name)[1] - kernel)
    k = int((abs(mean) / se).argmax())
    lines.append(
        f"{name}: the network's loss minus its kernel's is largest, in standard errors, at rate {rates[k]:+g}: "
        f"{mean[k]:+.4f} \u00b1 {se[k]:.4f}, where the loss is {kernel[:, k].mean():.3f}."
    )
    return lines


EXPERIMENT = TrainingExperiment(
    name="nonlinear",
    claim="A wide ReLU network, few query rows: the loss just below train rate 0 is lower than at 0.",
    short="loss falls below 0",
    run_time="2 min",
    quick_time="15 s",
    Config=Config,
    quick={
        "few": {"train_rates": (-8.0, -2.0, -0.5, 0.0, 0.5, 1.0), "runs": 20},
        "many": {"train_rates": (-0.5, 0.0, 0.5, 1.0), "runs": 10},
        "exchanged_runs": 5,
        "kernel_runs": 50,
        "map_problems": 20,
        "map_runs": 12,
    },
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut,
    compute=compute,
)
