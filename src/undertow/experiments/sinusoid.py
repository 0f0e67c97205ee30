"""Few-shot sine waves of Finn, Abbeel, Levine (ICML 2017) with train rates of both signs, and learned rates."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from pydantic import Field

from undertow.experiments.training_experiment import TrainingExperiment, cut_parts
from undertow.plots import style
from undertow.problem import Design, Sinusoid
from undertow.trials import paired
from undertow.trials.config import ExperimentConfig, Rates, RatesWithZero, Runs, Size
from undertow.trials.finding import Finding, below, counted, mean_interval, sentence, weakest
from undertow.trials.optimum import empirical_optimum
from undertow.trials.panel import Cell


class Config(ExperimentConfig):
    """Settings. Tasks, network, tasks per iteration and Adam's step are those of Finn et al., section 5.1.

    They train 70000 iterations; the default here is sized for a CPU. Our loss is half the mean squared error, so their
    rate 0.01 is 0.02 here.
    """

    shots: Annotated[tuple[Size, ...], Field(min_length=1, strict=False)] = Field(
        (5, 10), description="K: support rows, and as many query rows while training"
    )
    meta_batch: Size = Field(25, description="tasks per iteration")
    step: Annotated[float, Field(gt=0)] = Field(0.001, description="Adam's step")
    iterations: Size = Field(4000, description="iterations")
    train_rates: RatesWithZero = Field(
        (-0.04, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02, 0.04, 0.1), description="train rates"
    )
    adapt_rates: Rates = Field((0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), description="rates of the step on new tasks")
    learned_from: Rates = Field((0.0, 0.02), description="where all learned rates start (Meta-SGD)")
    runs: Runs = Field(4, description="seeds")
    n_test_tasks: Size = Field(600, description="new tasks")
    n_test_rows: Size = Field(50, description="test rows of each")


def compute(config: Config, cell: Cell) -> pa.Table:
    """Train at every rate, and with learned rates, on the same stream of tasks."""
    from undertow.experiments import sinusoid_runs

    shots, generator = config.shots[cell.panel], cell.generator()
    seed = int(generator.integers(2**31))
    test = Sinusoid().sample(Design(config.n_test_tasks, shots, config.n_test_rows), generator, np.float32)
    sizes = (config.meta_batch, config.iterations)
    return pa.concat_tables(
        [
            sinusoid_runs.maml(
                shots, cell.first_run, seed, test, config.train_rates, config.adapt_rates, config.step, sizes
            ),
            sinusoid_runs.meta_sgd(shots, cell.first_run, seed, test, config.learned_from, config.step, sizes),
        ]
    )


def best_adapted(table: pa.Table, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rates, adapt rates, errors (runs, k)), each train rate with the adapt rate best on average."""
    return paired.best_adapted(table, "test_mse", method="maml", shots=shots)


def draw(table: pa.Table, config: Config) -> Figure:
    """Error against the train rate for each number of shots, and the signs that learned rates take."""
    with style.context():
        made, axes = style.figure(len(config.shots) + 1, width=3.9)
        for one, shots in zip(axes[0], config.shots, strict=False):
            rates, _, values = best_adapted(table, shots)
            mean, se = paired.mean_and_se(values)
            one.errorbar(rates, mean, se, fmt="o-", markersize=3.2, capsize=1.5, label="one step at its best rate")
            for j, start in enumerate(config.learned_from):
                learned = _learned(table, shots, start, "test_mse")
                one.axhline(
                    learned.mean(), color=style.PALETTE[j + 1], linestyle="--",
                    label=f"learned rates, started at {start:g}",
                )  # fmt: skip
            one.axvline(0.0, color=style.GREY, linewidth=0.7)
            one.set_xscale("symlog", linthresh=0.005)
            one.set_xticks(rates, [style.signed(rate) for rate in rates], rotation=60 if len(rates) > 5 else 0)
            one.minorticks_off()
            one.set(xlabel="train rate", ylabel="mean squared error on new tasks")
            one.set_title(f"{counted(shots, 'shot')}, {config.iterations} iterations")
        last, names = axes[0, -1], _leaves(table)
        bars = [(shots, j) for shots in config.shots for j in range(len(config.learned_from))]
        for k, (shots, j) in enumerate(bars):
            start = config.learned_from[j]
            shares = np.array([_learned(table, shots, start, "negative", leaf) for leaf in names])
            # A start has one colour in all panels; fewer shots are paler.
            alpha = (config.shots.index(shots) + 1) / len(config.shots)
            last.barh(
                np.arange(len(names)) + (k - (len(bars) - 1) / 2) * 0.18, 100 * shares.mean(axis=1), 0.16,
                color=style.PALETTE[j + 1], alpha=alpha,
                label=f"right: {counted(shots, 'shot')}, rates started at {start:g}",
            )  # fmt: skip
        last.set_yticks(np.arange(len(names)), names)
        last.invert_yaxis()
        last.axvline(50.0, color=style.GREY, linewidth=0.7)
        last.set_xlim(0, 100)
        last.set(xlabel="% of learned rates below 0", title="signs of learned rates")
        style.shared_legend(made, axes, columns=3)
        return made


def _leaves(table: pa.Table) -> list[str]:
    names = table.filter(pc.field("method") == "meta_sgd")["leaf"].unique().to_pylist()
    return [name for name in names if name is not None]


def _learned(table: pa.Table, shots: int, start: float, column: str, leaf: str = "all") -> np.ndarray:
    chosen = (pc.field("method") == "meta_sgd") & (pc.field("shots") == shots) & (pc.field("leaf") == leaf)
    return table.filter(chosen & (pc.field("train_rate") == start))[column].to_numpy()


def finding(table: pa.Table, config: Config) -> Finding:
    """At every number of shots the best positive train rate has a lower error than the best rate that is not."""
    lines, found = [], []
    for shots in config.shots:
        rates, _, values = best_adapted(table, shots)
        ends = mean_interval(paired.positive_against_rest(rates, values))
        found.append(ends)
        lines.append(f"{counted(shots, 'shot')}: squared error at the best rate > 0 minus that at the best rate <= 0: "
                     f"{sentence(*ends)}")  # fmt: skip
    lines.append(f"{config.runs} seeds; each rate is chosen on the other seeds")
    return Finding(
        "error difference",
        *max(found, key=lambda ends: ends[2]),
        result=weakest([below(low, high) for _, low, high in found]),
        lines=tuple(lines),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Errors at each train rate, differences from rate 0, and the learned signs."""
    lines = []
    for shots in config.shots:
        rates, adapt, values = best_adapted(table, shots)
        mean, se = paired.mean_and_se(values)
        errors = "; ".join(
            f"{r:+g}: {m:.3f} \u00b1 {s:.3f} (adapted at {a:g})"
            for r, m, s, a in zip(rates, mean, se, adapt, strict=True)
        )
        lines.append(
            f"{counted(shots, 'shot')}: squared error after one step, each train rate at its best adapt rate: {errors}."
        )
        gains = "; ".join(f"{r:+g}: {paired.against_zero(rates, values, r)}" for r in rates if r)
        lines.append(f"{counted(shots, 'shot')}: difference from rate 0 in the same {len(values)} runs: {gains}.")
        best = empirical_optimum(rates, values, config.seed)
        edge = ", at the edge of the sweep" if best.at_edge else ""
        lines.append(
            f"{counted(shots, 'shot')}: lowest at train rate {best.rate:+.3f} (95 % interval {best.low:+.3f} to "
            f"{best.high:+.3f}{edge}); its sign is {paired.sign_of(best)}."
        )
        for start in config.learned_from:
            error, share, means = (
                _learned(table, shots, start, name) for name in ("test_mse", "negative", "rate_mean")
            )
            by_leaf = ", ".join(
                f"{leaf} {100 * _learned(table, shots, start, 'negative', leaf).mean():.0f} %"
                for leaf in _leaves(table)
                if leaf != "all"
            )
            lines.append(
                f"{counted(shots, 'shot')}, learned rates started at {start:g}: error {_text(error)}; "
                f"{100 * share.mean():.0f} % \u00b1 {100 * _se(share):.0f} % of them are negative "
                f"({by_leaf}); mean rate {_text(means)}; the step changes the support "
                f"error of new tasks by {_text(_learned(table, shots, start, 'support_change'))}."
            )
    lines.append(f"{config.iterations} iterations, {config.runs} seeds; Finn et al. train 70000 iterations.")
    return lines


def _se(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _text(values: np.ndarray) -> str:
    return f"{values.mean():.3f} \u00b1 {_se(values):.3f}"


EXPERIMENT = TrainingExperiment(
    name="sinusoid",
    claim="Sine waves without noise: a positive train rate is best.",
    short="best rate > 0",
    run_time="3 min",
    quick_time="40 s",
    Config=Config,
    quick={
        "shots": (10,),
        "iterations": 500,
        "train_rates": (-0.02, 0.0, 0.02),
        "adapt_rates": (0.0, 0.02, 0.1),
        "runs": 2,
        "n_test_tasks": 100,
    },
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: {f"shots{shots}": config.runs for shots in config.shots}, 1),
    compute=compute,
)
