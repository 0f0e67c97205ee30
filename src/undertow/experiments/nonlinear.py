"""A wide two-layer network on quadratic regression: the test loss against the train rate, beside the kernel's."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from undertow.experiments import network_runs
from undertow.experiments.network_runs import Part
from undertow.experiments.reading import loss_just_below_zero
from undertow.experiments.training_experiment import TrainingExperiment, cut_runs
from undertow.plots import style
from undertow.problem import Design, QuadraticRegression
from undertow.trials import paired
from undertow.trials.config import ExperimentConfig, Rates, RatesWithZero, Runs, Scale, Size
from undertow.trials.finding import Finding, sentence
from undertow.trials.optimum import just_below_zero
from undertow.trials.panel import Cell

RUNS_PER_CELL, KERNEL_RUNS_PER_CELL = 5, 50
SOURCES = {
    "network": "network, trained to convergence",
    "empirical": "exact, this network's own kernel",
    "analytic": "exact, kernel of infinite width",
}
TITLES = {"a": "noise outweighs what sets the tasks apart", "b": "tasks share a large part, little noise"}


class Config(ExperimentConfig):
    """Settings. All sizes, scales and grids are ours: the paper states no sizes that we could check."""

    n_features: Size = Field(20, description="p")
    n_tasks: Size = Field(10, description="m")
    n_support: Size = Field(10, description="n_t")
    n_query: Size = Field(2, description="n_v")
    n_adapt: Size = Field(10, description="n_r")
    n_test_rows: Size = Field(20, description="test rows of each new task")
    width: Annotated[int, Field(ge=2, multiple_of=2)] = Field(400, description="hidden units")
    antisymmetric: bool = Field(True, description="start at f0 = 0; False starts at a random function")
    task_std: Scale = Field(0.5, description="nu")
    noise_std: Scale = Field(1.0, description="part a: sigma")
    offset_std: Scale = Field(0.25, description="part a: tau, standard deviation of b; its mean is 0")
    shared_noise_std: Scale = Field(0.25, description="part b: sigma")
    shared_offset_std: Scale = Field(0.5, description="part b: tau")
    shared_mean_offset: float = Field(1.0, description="part b: mean of b")
    train_rates: RatesWithZero = Field(
        (-8.0, -6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.75, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5,
         0.75, 1.0, 1.5),
        description="train rates, in spectral units",
    )  # fmt: skip
    adapt_rate: Scale = Field(0.25, description="adapt rate, in spectral units")
    runs: Runs = Field(40, description="runs of parts a and b")
    kernel_runs: Runs = Field(400, description="more runs of both parts, for the kernel of infinite width alone")
    widths: Annotated[tuple[int, ...], Field(min_length=2, strict=False)] = Field(
        (100, 400, 1600), description="part w: widths"
    )
    width_rates: Rates = Field((-2.0, 0.0, 0.5), description="part w: train rates, in spectral units")
    width_runs: Runs = Field(5, description="part w: runs, on the data of part a")
    max_updates: Size = Field(5000, description="most updates of the outer loop")
    tolerance: Annotated[float, Field(gt=0)] = Field(1e-4, description="stop once the gradient has fallen so far")

    @model_validator(mode="after")
    def _fits(self) -> Config:
        rows = self.n_query * self.n_tasks
        parameters = (self.n_features + 2) * min(self.width, *self.widths)
        if rows >= parameters:
            raise ValueError(f"n_query * n_tasks = {rows}, and the smallest network has {parameters} parameters: "
                             "this experiment needs fewer query rows than parameters")  # fmt: skip
        if any(width < 2 or width % 2 for width in self.widths):
            raise ValueError("widths must be even: half of the units mirror the other half")
        if not set(self.width_rates) <= set(self.train_rates):
            raise ValueError("width_rates must be among train_rates: at the width of part a its own runs serve")
        if self.width_runs > self.runs:
            raise ValueError("width_runs must be at most runs: the widths train on the data of part a")
        return self


def parts(config: Config) -> list[Part]:
    """Parts a and b, and one for each other width."""
    p = config.n_features
    a = QuadraticRegression(p, config.noise_std, config.task_std, offset_std=config.offset_std)
    b = QuadraticRegression(
        p,
        config.shared_noise_std,
        config.task_std,
        mean_offset=config.shared_mean_offset,
        offset_std=config.shared_offset_std,
    )
    design = Design(config.n_tasks, config.n_support, config.n_query, config.n_adapt)

    def part(name: str, problem: QuadraticRegression, width: int, rates: tuple[float, ...]) -> Part:
        test = (config.n_test_tasks, config.n_test_rows)
        return Part(name, problem, design, width, config.antisymmetric, rates, config.adapt_rate, *test)

    return [
        part("a", a, config.width, config.train_rates),
        part("b", b, config.width, config.train_rates),
        part("a-kernel", a, 0, config.train_rates),
        part("b-kernel", b, 0, config.train_rates),
        # At the width of part a its own runs serve.
        *(part(f"w{width}", a, width, config.width_rates) for width in config.widths if width != config.width),
    ]


def cut(config: Config) -> list[Cell]:
    """Cells of RUNS_PER_CELL runs; the widths train on the data of part a."""
    cells = []
    for index, part in enumerate(parts(config)):
        if part.width == 0:
            cells += cut_runs(part.name, index, config.kernel_runs, KERNEL_RUNS_PER_CELL, config.seed)
            continue
        runs, stream = (config.runs, index) if index < 2 else (config.width_runs, 0)
        cells += cut_runs(part.name, index, runs, RUNS_PER_CELL, config.seed, stream)
    return cells


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train and solve one cell."""
    part = parts(config)[cell.panel]
    if part.width == 0:
        return network_runs.compute_kernel(part, cell)
    return network_runs.compute(part, cell, config.max_updates, config.tolerance)


def draw(table: pa.Table, config: Config) -> Figure:
    """Differences from rate 0 for both problems, and the distance from the kernels against the width."""
    looks = {"network": (style.BLUE, "o"), "empirical": (style.ORANGE, ""), "analytic": (style.GREEN, "")}
    with style.context():
        made, axes = style.figure(3, width=3.9)
        for one, name in zip(axes[0], ("a", "b"), strict=False):
            one.axhline(0.0, color=style.GREY, linewidth=0.7)
            one.axvline(0.0, color=style.GREY, linewidth=0.7)
            for source, (colour, marker) in looks.items():
                rates, values = paired.by_run(table, source, part=name)
                base = values[:, rates == 0.0].mean()
                difference, se = (100 * x / base for x in paired.differences(rates, values))
                if marker:
                    one.errorbar(
                        rates, difference, se, fmt=marker, color=colour, markersize=3.2, capsize=1.5,
                        elinewidth=0.9, zorder=3, label=f"{SOURCES[source]} \u00b1 standard error",
                    )  # fmt: skip
                else:
                    dashes = "--" if source == "analytic" else "-"
                    one.plot(rates, difference, dashes, color=colour, label=SOURCES[source])
            rates, values = paired.by_run(table, "analytic", part=f"{name}-kernel")
            difference, se = (100 * x / values[:, rates == 0.0].mean() for x in paired.differences(rates, values))
            one.fill_between(
                rates, difference - 2 * se, difference + 2 * se, color=style.GREEN, alpha=0.2, linewidth=0,
                label=f"kernel of infinite width, {len(values)} other runs, \u00b1 2 standard errors",
            )  # fmt: skip
            one.set_xscale("symlog", linthresh=1.0)
            one.set_xticks([tick for tick in (-8, -4, -2, -1, -0.5, 0, 0.5, 1) if rates[0] <= tick <= rates[-1]])
            one.xaxis.set_major_formatter(lambda value, _: style.signed(value))
            one.minorticks_off()
            one.set_xlabel("train rate, spectral units")
            one.set_ylabel("test loss, % from rate 0")
            one.set_title(f"{name}  {TITLES[name]}")
        last = axes[0, 2]
        for source, colour in (("empirical", style.ORANGE), ("analytic", style.GREEN)):
            for rate, dashes in zip(config.width_rates, ("-", "--", ":", "-."), strict=False):
                mean, se = _gaps(table, config, source, rate)
                last.errorbar(config.widths, mean, se, color=colour, linestyle=dashes, marker="o", markersize=3)
        for rate, dashes in zip(config.width_rates, ("-", "--", ":", "-."), strict=False):
            last.plot([], [], dashes, color=style.INK, label=f"c: rate {style.signed(rate)}")
        last.set_xscale("log")
        last.set_yscale("log")
        last.set_xticks(config.widths, [str(width) for width in config.widths])
        last.minorticks_off()
        last.set_xlabel("width")
        last.set_ylabel("relative distance of adapted values")
        last.set_title("c  network and kernel meet as width grows")
        style.shared_legend(made, axes, columns=3)
        return made


def _gaps(table: pa.Table, config: Config, source: str, rate: float) -> tuple[np.ndarray, np.ndarray]:
    means, errors = [], []
    for width in config.widths:
        name = "a" if width == config.width else f"w{width}"
        rates, values = paired.by_run(table, f"gap_{source}", part=name)
        mean, se = paired.mean_and_se(values[: config.width_runs])
        means.append(mean[rates == rate][0])
        errors.append(se[rates == rate][0])
    return np.array(means), np.array(errors)


def finding(table: pa.Table, config: Config) -> Finding:
    """Part a: the network's loss at the negative train rate next to 0 lies below its loss at 0."""
    network = just_below_zero(*paired.by_run(table, "network", part="a"))
    kernel = just_below_zero(*paired.by_run(table, "analytic", part="a-kernel"))
    best = paired.lowest(*paired.by_run(table, "network", part="a"), config.seed)
    more = [f"best train rate {paired.interval(best)}, in spectral units"]
    if kernel is not None:
        ends = (100 * kernel[key] for key in ("difference", "low", "high"))
        more.insert(0, f"the same for the kernel of infinite width, {config.kernel_runs} other runs: "
                    f"{sentence(*ends, unit='%')}")  # fmt: skip
    return loss_just_below_zero(network, *more)


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Where each curve is lowest and by how much, network against kernels, and the widths."""
    unit = parts(config)[0].unit
    lines = [f"1 spectral unit is a raw rate of {unit:.3f}; all sizes are ours."]
    for name in ("a", "b"):
        found = {}
        for source in SOURCES:
            rates, values = paired.by_run(table, source, part=name)
            found[source] = paired.lowest(rates, values, config.seed)
        lines.append(f"{name}: {TITLES[name]}. Lowest test loss at the train rate: "
                     + "; ".join(f"{SOURCES[s]} {paired.interval(f)}" for s, f in found.items()) + ".")  # fmt: skip
        rates, values = paired.by_run(table, "network", part=name)
        shown = [rate for rate in (-2.0, -1.0, -0.5, 0.5, 1.0) if rate in rates] or [rates[0], rates[-1]]
        for source in ("network", "empirical"):
            rates, values = paired.by_run(table, source, part=name)
            gains = "; ".join(f"{r:+g}: {paired.against_zero(rates, values, r)}" for r in shown)
            lines.append(f"{name}: difference from rate 0, same {len(values)} runs, {SOURCES[source]}: {gains}.")
        rates, many = paired.by_run(table, "analytic", part=f"{name}-kernel")
        best = paired.lowest(rates, many, config.seed)
        gains = "; ".join(f"{r:+g}: {paired.against_zero(rates, many, r)}" for r in shown)
        lines.append(
            f"{name}: {len(many)} other runs of the kernel of infinite width: lowest at {paired.interval(best)}; "
            f"{gains}."
        )
        best = found["network"]
        lines.append(f"{name}: the sign of the network's best rate is {paired.sign_of(best)}.")
        rates, values = paired.by_run(table, "empirical", part=name)
        apart = paired.by_run(table, "network", part=name)[1] - paired.by_run(table, "empirical", part=name)[1]
        mean, se = paired.mean_and_se(apart)
        k = int((abs(mean) / se).argmax())
        lines.append(
            f"{name}: the network's loss minus its kernel's is largest, in standard errors, at rate {rates[k]:+g}: "
            f"{mean[k]:+.4f} \u00b1 {se[k]:.4f}, where the loss is {values[:, k].mean():.3f}."
        )
    for source in ("empirical", "analytic"):
        for rate in config.width_rates:
            mean, se = _gaps(table, config, source, rate)
            slope = np.polyfit(np.log(config.widths), np.log(mean), 1)[0]
            gaps = ", ".join(f"{w}: {m:.3f} \u00b1 {s:.3f}" for w, m, s in zip(config.widths, mean, se, strict=True))
            lines.append(f"width, rate {rate:+g}, distance to the {source} kernel's adapted values: {gaps} "
                         f"(falls like width^{slope:.2f}).")  # fmt: skip
    table = table.filter(pc.field("width") > 0)
    done = table["converged"].to_numpy(zero_copy_only=False)
    lines.append(f"{done.mean():.1%} of {len(done)} trainings converged (gradient down by {config.tolerance:g}); "
                 f"updates: median {np.median(table['iterations'].to_numpy()):.0f}, most "
                 f"{table['iterations'].to_numpy().max()}.")  # fmt: skip
    return lines


EXPERIMENT = TrainingExperiment(
    name="nonlinear",
    claim="A wide ReLU network, much noise: the loss just below train rate 0 is lower than at 0.",
    short="loss falls below 0",
    run_time="6 min",
    quick_time="1 min",
    Config=Config,
    quick={
        "runs": 10,
        "train_rates": (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0),
        "widths": (100, 400),
        "width_runs": 2,
        "kernel_runs": 40,
        "n_test_tasks": 40,
    },
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut,
    compute=compute,
)
