"""Rate and time: what the sign of the train rate is worth where the outer loop is stopped before it converges."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field, model_validator

from undertow import theory
from undertow.experiments.training_experiment import CellExperiment, cut_parts
from undertow.plots import style
from undertow.problem import Design, MixedLinearRegression
from undertow.trials import paired
from undertow.trials.conditional import loss_at
from undertow.trials.config import ExperimentConfig, RatesWithZero, Runs, Scale, Size, evenly
from undertow.trials.descent import distance_given_inputs, weights_at
from undertow.trials.finding import Conclusion, Finding, above, below, resampled, sentence, weakest
from undertow.trials.optimum import BOOTSTRAP
from undertow.trials.panel import Cell

PARTS = {"few": "fewer query rows than features", "many": "more query rows than features"}


def _ascending(times: tuple[int, ...]) -> tuple[int, ...]:
    if list(times) != sorted(set(times)) or times[0] < 1:
        raise ValueError("times must ascend from 1 on, each once")
    return times


class Config(ExperimentConfig):
    """Settings. Sizes of the first part are those of figure 2 of the paper; all others are ours.

    The loop starts at omega_0 = 0.
    """

    n_features: tuple[Size, Size] = Field((60, 30), strict=False, description="p of both parts")
    n_tasks: tuple[Size, Size] = Field((3, 20), strict=False, description="m of both parts")
    n_support: Size = Field(30, description="n_t")
    n_query: tuple[Size, Size] = Field((2, 5), strict=False, description="n_v of both parts")
    n_adapt: Size = Field(20, description="n_r")
    noise_std: Scale = Field(1.0, description="sigma")
    task_std: Scale = Field(0.5, description="nu; nu^2 = E|w - w_0|^2")
    start_distance: Annotated[float, Field(gt=0)] = Field(1.0, description="|w_0 - omega_0|: what there is to learn")
    train_rates: RatesWithZero = Field(evenly(-2.0, 0.4, 25), description="train rates")
    shown_rates: Annotated[tuple[float, ...], Field(min_length=1, strict=False)] = Field(
        (-1.0, 0.0, 0.2), description="those of panel c"
    )
    times: Annotated[tuple[int, ...], Field(min_length=2, strict=False), AfterValidator(_ascending)] = Field(
        (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512),
        description="updates after which the loop is stopped",
    )
    step: Annotated[float, Field(gt=0, le=1)] = Field(0.25, description="of the outer loop, times its lambda_max")
    adapt_rate: float = Field(0.2, description="adapt rate")
    runs: Runs = Field(400, description="runs of each part")

    @model_validator(mode="after")
    def _sides(self) -> Config:
        for (p, m, n_v), side in zip(
            zip(self.n_features, self.n_tasks, self.n_query, strict=True), (1, -1), strict=True
        ):
            if side * (p - m * n_v) < 2:
                raise ValueError(
                    f"n_query * n_tasks = {m * n_v} with n_features = {p} is not on the part's side of N = p"
                )
        if missing := set(self.shown_rates) - set(self.train_rates):
            raise ValueError(f"shown_rates {sorted(missing)} are not among train_rates")
        return self

    def problem(self, part: str) -> MixedLinearRegression:
        """The tasks of a part; all of w_0 lies along its first weight, which is as good as any."""
        p = self.n_features[list(PARTS).index(part)]
        return MixedLinearRegression(p, self.noise_std, self.task_std, self.start_distance * np.eye(p)[0])

    def design(self, part: str) -> Design:
        """Sizes of a part."""
        i = list(PARTS).index(part)
        return Design(self.n_tasks[i], self.n_support, self.n_query[i], self.n_adapt)


def compute(config: Config, cell: Cell) -> pa.Table:
    """One row for each run, train rate and time (infinite: the solution).

    raw: the expected loss on a new task of a loop on sampled labels; conditional: its mean given the inputs.
    """
    part, generator = list(PARTS)[cell.panel], cell.generator()
    problem, design = config.problem(part), config.design(part)
    rates, times = np.array(config.train_rates), np.array([*config.times, np.inf])
    drawn = [problem.sample(design, generator) for _ in range(cell.runs)]
    raw = np.stack(
        [((weights_at(one, rates, times, config.step) - problem.mean_weights) ** 2).sum(axis=-1) for one in drawn]
    )
    inputs = (np.stack([one.support_x for one in drawn]), np.stack([one.query_x for one in drawn]))
    mean = distance_given_inputs(problem, *inputs, rates, times, config.step)
    run, rate, time = np.meshgrid(np.arange(cell.first_run, cell.first_run + cell.runs), rates, times, indexing="ij")
    columns = {"run": run.ravel(), "train_rate": rate.ravel(), "time": time.ravel()}
    columns |= {"raw": loss_of(config, part, raw).ravel(), "conditional": loss_of(config, part, mean).ravel()}
    return pa.table({"part": [part] * run.size, **columns})


def loss_of(config: Config, part: str, distance: np.ndarray) -> np.ndarray:
    """The expected loss on a new task, given the distance from w_0."""
    return loss_at(config.problem(part), config.n_adapt, config.adapt_rate, distance)


def losses(table: pa.Table, config: Config, part: str, column: str = "conditional") -> np.ndarray:
    """(runs, rates, times), the last time infinite."""
    rows = table.filter(pc.field("part") == part)
    order = np.lexsort([rows[name].to_numpy() for name in ("time", "train_rate", "run")])
    return rows[column].to_numpy()[order].reshape(-1, len(config.train_rates), len(config.times) + 1)


def converged(config: Config, part: str) -> np.ndarray:
    """(rates,) theory's loss at the end."""
    return np.asarray(
        theory.expected_loss(
            config.problem(part), config.design(part), np.array(config.train_rates), config.adapt_rate,
            init_distance=config.start_distance,
        )
    )  # fmt: skip


def stopped(config: Config, part: str) -> np.ndarray:
    """(rates,) the loss at the best time to leading order in N/p, N < p.

    There the N eigenvalues of G are alike, so that a share f of the way to omega* is gone along all of them at once:
    Q = d^2 (1 - (2 f - f^2) N/p) + f^2 V with V what tasks and noise add at the end, least at f = r / (r + V),
    r = d^2 N/p.
    """
    problem, design, rates = config.problem(part), config.design(part), np.array(config.train_rates)
    d2, share = config.start_distance**2, design.n_query_rows / problem.n_features
    added = np.asarray(theory.expected_distance(problem, design, rates))
    reach = d2 * share
    return loss_of(config, part, d2 - reach**2 / (reach + added))


def draw(table: pa.Table, config: Config) -> Figure:
    """Loss against the train rate, converged and at the best time, in both parts; loss against time."""
    with style.context():
        made, axes = style.figure(3, width=3.8)
        rates = np.array(config.train_rates)
        for one, part, letter in zip(axes[0], PARTS, "ab", strict=False):
            given, raw = losses(table, config, part), losses(table, config, part, "raw")
            best = given.mean(axis=0).argmin(axis=1)
            pick = np.arange(len(rates))
            one.plot(rates, converged(config, part), color=style.ORANGE, label="theory")
            if part == "few":
                one.plot(
                    rates, stopped(config, part), color=style.PURPLE, linestyle="--", label="theory, leading order"
                )
            for column, words in ((np.full(len(rates), -1), "converged"), (best, "stopped at\nits best time")):
                mean, se = paired.mean_and_se(raw[:, pick, column])
                style.measured(one, rates, mean, se)
                exact = given[:, pick, column].mean(axis=0)
                one.plot(rates, exact, ".", color=style.INK, markersize=4, zorder=4, label="measured, given the inputs")
                style.label_end(one, words, rates[-1], exact[-1])
            one.axvline(0.0, color=style.GREY, linewidth=0.7, zorder=0)
            _least(one, config, part)
            one.set(xlabel="train rate", ylabel="test loss after adaptation")
            one.set_title(f"{letter}  {PARTS[part]}:\nstopped in time, the sign matters less")
        _course(axes[0, 2], table, config)
        style.shared_legend(made, axes, columns=4)
        return made


def _least(axes: Any, config: Config, part: str) -> None:
    least = theory.least_loss(config.problem(part), config.design(part))
    style.least_below(axes, f"{least:.2f}")


def _course(axes: Any, table: pa.Table, config: Config) -> None:
    given, raw = losses(table, config, "many"), losses(table, config, "many", "raw")
    end = converged(config, "many")
    for rate in config.shown_rates:
        k = config.train_rates.index(rate)
        mean = given[:, k, :-1].mean(axis=0)
        axes.plot(config.times, mean, color=style.INK, linewidth=1.0)
        style.measured(axes, config.times, *paired.mean_and_se(raw[:, k, :-1]), label=None)
        axes.plot([config.times[-1], 1.6 * config.times[-1]], [end[k]] * 2, color=style.ORANGE, linewidth=2)
        style.label_end(axes, f"rate {style.signed(rate)}", 1.6 * config.times[-1], end[k])
    axes.set_xscale("log")
    axes.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    axes.minorticks_off()
    _least(axes, config, "many")
    axes.set_xlabel("updates of the outer loop")
    axes.set_title("c  more query rows: early on the sign\ndoes not matter, at the end it does")


def shares(table: pa.Table, config: Config, part: str) -> tuple[float, float, float, float, float]:
    """Gain of the best negative rate at the best times as a share of that at the end, with its interval from resampled
    runs, each of which chooses its rates and times anew; and both gains, relative to the loss at rate 0.
    """
    values = losses(table, config, part)
    runs, rates = len(values), np.array(config.train_rates)
    counts = np.random.default_rng([config.seed, runs]).multinomial(runs, np.full(runs, 1 / runs), size=BOOTSTRAP)
    means = np.concatenate([values.mean(axis=0)[None], np.tensordot(counts, values, axes=1) / runs])
    at_best, at_end, zero = means.min(axis=2), means[:, :, -1], int(np.flatnonzero(rates == 0)[0])
    gains = [1 - one[:, rates < 0].min(axis=1) / one[:, zero] for one in (at_best, at_end)]
    ratio = gains[0] / gains[1]
    low, high = np.quantile(ratio[1:], [0.025, 0.975])
    return float(ratio[0]), float(low), float(high), float(gains[0][0]), float(gains[1][0])


def finding(table: pa.Table, config: Config) -> Finding:
    """In both parts a negative rate gains at the best times, but less than at the end: a share between 0 and 1."""
    found = {part: shares(table, config, part) for part in PARTS}
    conclusions: list[Conclusion] = [
        resampled(weakest([above(low, high), below(low, high, 1.0)]), config.runs)
        for _, low, high, *_ in found.values()
    ]
    lines = [
        f"{words}: share of the converged loop's gain from a negative rate that is left at the best times: "
        f"{sentence(*(100 * x for x in found[part][:3]), unit='%')}; "
        f"{100 * found[part][3]:.1f} % of {100 * found[part][4]:.1f} %"
        for part, words in (("few", "N < p"), ("many", "N > p"))
    ]
    return Finding(
        "share of the gain left",
        *(100 * x for x in max(found.values(), key=lambda ends: ends[2])[:3]),
        unit="%",
        result=weakest(conclusions),
        lines=tuple(lines),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Distance from theory at the end, the best times, and until when the sign does not matter."""
    lines, rates = [], np.array(config.train_rates)
    for part, words in PARTS.items():
        given = losses(table, config, part)
        mean, se = paired.mean_and_se(given)
        off = mean[:, -1] - converged(config, part)
        lines.append(f"{words}: converged, {len(rates)} points against theory: largest deviation "
                     f"{100 * abs(off / mean[:, -1]).max():.2f} % of the loss, largest |z| "
                     f"{abs(off / se[:, -1]).max():.2f}.")  # fmt: skip
        if part == "few":
            early = mean.min(axis=1) / stopped(config, part) - 1
            lines.append(
                f"{words}: at the best time, against the leading order: "
                f"{100 * early.min():+.2f} % to {100 * early.max():+.2f} %."
            )
        for rate in config.shown_rates:
            row = mean[config.train_rates.index(rate)]
            best = int(row.argmin())
            when = "at the end" if best == len(config.times) else f"after {config.times[best]} updates"
            lines.append(f"{words}: rate {rate:+g}: lowest {when}, {row[best]:.4f}; at the end {row[-1]:.4f}.")
        lowest = mean.argmin(axis=0)
        signs = [f"{rates[k]:+.1f} at {time}" for k, time in zip(lowest, [*config.times, "the end"], strict=True)]
        lines.append(f"{words}: best train rate by number of updates: {', '.join(signs)}.")
    return lines


EXPERIMENT = CellExperiment(
    name="time",
    claim="An outer loop stopped at its best time gains less from a negative rate than one that has converged.",
    short="part of the gain is left",
    run_time="6 s",
    quick_time="2 s",
    Config=Config,
    quick={"runs": 100, "train_rates": (-2.0, -1.5, -1.0, -0.5, 0.0, 0.2)},
    draw=draw,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: dict.fromkeys(PARTS, config.runs), 50),
    compute=compute,
    by_name=True,
)
