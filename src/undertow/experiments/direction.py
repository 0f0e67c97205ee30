"""Which way should the inner step push? The exact outer solution beside outer loops that are trained by gradient."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from undertow.experiments import direction_runs
from undertow.experiments.direction_config import Config, LinearPart
from undertow.experiments.direction_figure import PARTS, draw, draw_details
from undertow.experiments.network_runs import Part
from undertow.experiments.training_experiment import TrainingExperiment, cut_parts
from undertow.problem import MixedLinearRegression
from undertow.trials import paired
from undertow.trials.finding import Finding, above, below, mean_interval, resampled, stated, weakest
from undertow.trials.optimum import empirical_optimum
from undertow.trials.panel import Cell

ARMS = {
    "exact": "exact",
    "descent": "gradient descent, converged",
    "adam": "Adam, converged",
    "descent_early": "gradient descent, stopped early",
    "adam_early": "Adam, stopped early",
}


def compute(config: Config, cell: Cell) -> pa.Table:
    """One cell; a row for each arm, run and rate."""
    name = tuple(PARTS)[cell.panel]
    table = _network(config, cell) if name == "network" else _linear(config, cell, getattr(config, name))
    return table.add_column(0, "part", pa.array([name] * len(table)))


def _linear(config: Config, cell: Cell, part: LinearPart) -> pa.Table:
    problem = MixedLinearRegression(part.n_features, config.noise_std, config.task_std)
    loops = config.loops
    options = (config.adapt_rate, config.start_std, loops.adam_step, loops.limits(), (20, 10))
    return direction_runs.linear(problem, part.design(config.n_adapt), cell, np.array(part.train_rates), *options)


def _network(config: Config, cell: Cell) -> pa.Table:
    net, loops = config.network, config.loops
    sizes = (config.n_test_tasks, 20)
    part = Part("network", net.quadratic, net.design, net.width, True, net.train_rates, net.adapt_rate, sizes)
    return direction_runs.network(part, cell, loops.network_adam_step, loops.limits(network=True))


def finding(table: pa.Table, config: Config) -> Finding:
    """In every part the exact solution's best train rate lies below 0, and the step there raises the support loss."""
    lines, ends, results = [], [], []
    for part in PARTS:
        rates, values = paired.by_run(table, "test_loss", part=part, arm="exact_zero")
        best = empirical_optimum(rates, values, config.seed)
        k = int(values.mean(axis=0).argmin())
        change = mean_interval(paired.by_run(table, "support_change", part=part, arm="exact_zero")[1][:, k])
        ends.append(best.ends)
        sign = resampled(below(best.low, best.high), len(values))
        # The step that is measured is that of the best point: it says nothing where that may lie on either side.
        results += [sign, above(*change[1:])] if sign == "confirmed" else [sign]
        edge = ", at the edge of the sweep" if best.at_edge else ""
        lines.append(
            f"{PARTS[part]}: best train rate {best.rate:+.2f} (95 %: {best.low:+.2f} to {best.high:+.2f}{edge}); "
            f"change of support loss {' ('.join(stated(*change))})"
        )
    return Finding(
        "best train rate",
        *max(ends, key=lambda one: one[2]),
        result=weakest(results),
        lines=tuple(lines),
    )


def verdict(table: pa.Table, config: Config) -> list[str]:
    """Where each arm is lowest and what the inner step does there; then why the trained loops differ."""
    lines = []
    tally: dict[str, list[str]] = {}
    for part in PARTS:
        for arm, label in ARMS.items():
            for start in ("zero", "random"):
                name = f"{arm}_{start}"
                rates, values = paired.by_run(table, "test_loss", part=part, arm=name)
                best = empirical_optimum(rates, values, config.seed)
                tally.setdefault(paired.sign_of(best), []).append(f"{PARTS[part]}: {label}, {start} start")
                k = int(values.mean(axis=0).argmin())
                changes = []
                for kind in ("support", "query", "new_query"):
                    change = paired.by_run(table, f"{kind}_change", part=part, arm=name)[1][:, k]
                    changes.append(f"{kind.replace('_', ' ')} {_signed(change)}")
                gain = paired.against_zero(rates, values, rates[k])
                lines.append(
                    f"{PARTS[part]}; {label}, {start} start: lowest at {paired.interval(best)}, {gain} from "
                    f"rate 0 (loss {values[:, rates == 0.0].mean():.3f} there); change in the step at "
                    f"{rates[k]:+g}: {', '.join(changes)}."
                )
    lines += ["Why the loops differ from the exact solution:", *_reasons(table, config), "Answer:"]
    for sign, arms in tally.items():
        meaning = {"negative": "the inner step should push to higher support loss",
                   "positive": "the inner step should push to lower support loss"}.get(sign, "not decided")  # fmt: skip
        lines.append(f"best rate {sign} ({meaning}) in {len(arms)} of {sum(map(len, tally.values()))} cases"
                     + ("." if len(arms) > 15 else ": " + "; ".join(arms) + "."))  # fmt: skip
    lines.append("the answer turns where few rows and noise do not dominate: nonlinear (part b) and anisotropic show "
                 "problems in which a positive rate is best.")  # fmt: skip
    return lines


def _reasons(table: pa.Table, config: Config) -> list[str]:
    lines = []

    def median(column: str, part: str, arm: str) -> float:
        return float(np.median(paired.by_run(table, column, part=part, arm=arm)[1]))

    for part in PARTS:
        lines.append(
            f"{PARTS[part]}, relative distance from the exact solution of the same start, median: "
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
            f"{PARTS[part]}: what the random start adds to the exact solution's test loss: "
            f"{_signed(extra[:, rates == 0.0][:, 0])} at rate 0, {_signed(extra[:, at])} at {rates[at]:+g}."
        )
        if part != "network":
            near = median("from_ridge", part, "descent_early_zero")
            far = median("from_exact", part, "descent_early_zero")
            lines.append(
                f"{PARTS[part]}: after {config.loops.early} updates gradient descent from zero is {near:.2g} "
                f"away from the ridge solution with ridge 1 / (step * updates), {far:.2g} from the exact solution "
                "without."
            )
            rates, ridge = paired.by_run(table, "test_loss", part=part, arm="ridge_zero")
            best = empirical_optimum(rates, ridge, config.seed)
            lines.append(f"{PARTS[part]}: that ridge solution is lowest at {paired.interval(best)}.")
        for arm in ("descent", "adam"):
            share = np.mean([paired.by_run(table, "converged", part=part, arm=f"{arm}_{start}")[1].mean()
                             for start in ("zero", "random")])  # fmt: skip
            lines.append(f"{PARTS[part]}: {100 * share:.1f} % of {ARMS[arm].split(',')[0]} runs brought the gradient "
                         f"down by {config.loops.tolerance:g}.")  # fmt: skip
    return lines


def _signed(values: np.ndarray) -> str:
    return f"{values.mean():+.3g} \u00b1 {values.std(ddof=1) / np.sqrt(len(values)):.1g}"


EXPERIMENT = TrainingExperiment(
    name="direction",
    claim="Much noise or few rows, exact outer solution: the best inner step pushes to higher support loss.",
    short="best step is uphill",
    run_time="2 min",
    quick_time="40 s",
    Config=Config,
    quick={
        "runs": 10,
        "over": {"train_rates": (-2.0, -1.0, -0.5, 0.0, 0.5)},
        "under": {"train_rates": (-1.0, -0.5, 0.0, 0.5)},
        "network": {"train_rates": (-8.0, 0.0, 0.5), "runs": 10},
        "loops": {"adam_updates": 600, "network_adam_updates": 60},
        "n_test_tasks": 20,
    },
    draw=draw,
    draw_details=draw_details,
    finding=finding,
    verdict=verdict,
    cut=cut_parts(lambda config: dict.fromkeys(PARTS, config.runs) | {"network": config.network.runs}, 10),
    compute=compute,
)
