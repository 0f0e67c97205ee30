"""Are the intervals and verdicts of MAMLRegressorCV calibrated? Simulated problems whose best training rate is known.

For each problem many training tables are drawn. The truth is the rate with the least expected loss on new tasks, mean
over training tables of that size (each solved at every rate, at the same ridge), at its best adaptation rate. Reported:
how often the interval holds it (nominal 95 %), how often the verdict names a sign, how often it names the wrong one,
and how often the gain over no inner loop lies in its interval. At a true optimum of 0 no sign is right.

    OPENBLAS_NUM_THREADS=1 python benchmarks/calibration.py [--tables 400] [--problems NAME ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

import numpy as np

import undertow as ut
from undertow.linear import LossSurface, circle
from undertow.linear.choice import uniform_angles
from undertow.linear.rate_search import solve

N_RATES = 101


class TwoKinds:
    """Tasks of two kinds, each with an input scale and mean weights of its own: the fits of all rates stay apart."""

    n_features = 4
    input_covariance = np.full(4, 1.0)

    def __init__(self, scales: tuple[float, float], means: tuple[float, float]) -> None:
        self.scales, self.means = np.array(scales), np.array(means)

    def sample(self, design: ut.Design, seed: int) -> ut.TaskBatch:
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 2, design.n_tasks)
        weights = self.means[kind, None] + 0.3 * rng.standard_normal((design.n_tasks, 4))

        def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
            x = self.scales[kind, None, None] * rng.standard_normal((design.n_tasks, n, 4))
            return x, (x @ weights[..., None])[..., 0] + 0.5 * rng.standard_normal((design.n_tasks, n))

        return ut.TaskBatch(*rows(design.n_support), *rows(design.n_query))


class Setting(NamedTuple):
    problem: ut.MixedLinearRegression | TwoKinds
    n_tasks: int
    n_rows: int
    n_support: int
    ridge: float


def uneven(p: int) -> np.ndarray:
    """Input variances: half .2, half 1.8. Then the best rate need not be negative."""
    return np.repeat([0.2, 1.8], p // 2)


SETTINGS = {
    "few tasks": Setting(ut.MixedLinearRegression(10, 1.0, 0.5), 20, 12, 4, 1e-6),
    "many tasks": Setting(ut.MixedLinearRegression(10, 1.0, 0.5), 150, 12, 4, 1e-6),
    "ten tasks": Setting(ut.MixedLinearRegression(5, 1.0, 1.0), 10, 14, 4, 1e-3),
    "tasks nearly alike": Setting(ut.MixedLinearRegression(5, 0.3, 0.01), 40, 15, 5, 1e-6),
    "wide, noisy": Setting(ut.MixedLinearRegression(60, 1.0, 0.5), 16, 33, 30, 1e-6),
    "positive best": Setting(ut.MixedLinearRegression(12, 0.3, 1.0, input_covariance=uneven(12)), 80, 17, 12, 1e-6),
    "best near 0": Setting(ut.MixedLinearRegression(12, 0.95, 1.0, input_covariance=uneven(12)), 60, 17, 12, 1e-6),
    "two kinds": Setting(TwoKinds((0.5, 1.5), (-1.0, 1.0)), 200, 14, 5, 1e-6),
    "two kinds, close": Setting(TwoKinds((0.8, 1.2), (-1.0, 1.0)), 200, 14, 5, 1e-6),
    "flat": Setting(ut.MixedLinearRegression(4, 0.5, 1.0), 300, 20, 10, 1e-6),
}


def draw(setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tasks = setting.problem.sample(ut.Design(setting.n_tasks, 1, setting.n_rows - 1), seed=seed)
    x = np.concatenate([tasks.support_x, tasks.query_x], axis=1).reshape(-1, setting.problem.n_features)
    y = np.concatenate([tasks.support_y, tasks.query_y], axis=1).reshape(-1)
    return x, y, np.repeat(np.arange(setting.n_tasks), setting.n_rows)


def truth(setting: Setting, n_tables: int, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Raw rates around the circle and the expected loss at each, at the best adaptation rate."""
    rates = circle.rates_of(uniform_angles(N_RATES), unit)
    new = ut.Moments.from_tasks(setting.problem.sample(ut.Design(20_000, setting.n_support, 10), seed=999))
    products = np.zeros((len(rates), 2, 2))
    for seed in range(n_tables):
        x, y, groups = draw(setting, 1_000_000 + seed)
        table = ut.tasks.GroupedTable.from_arrays(x, y, groups)
        moments = ut.Moments.from_tasks(table.draw(setting.n_support, np.random.SeedSequence(0, spawn_key=(0,))))
        c, _ = circle.coefficients(rates, moments.scale, 1)
        weights = solve(moments.gram, 1, c, np.array([setting.ridge]), moments.eps)[:, 0, 0]
        products += new.quadratic(weights)
    return rates, LossSurface(rates, products / n_tables / new.weight, unit, np.zeros(1)).best_loss


def measure(setting: Setting, n_tables: int) -> dict[str, float]:
    unit = 1 / float(
        np.max(np.ones(1) if setting.problem.input_covariance is None else setting.problem.input_covariance)
    )
    rates, loss = truth(setting, max(200, n_tables // 2), unit)
    best, zero = int(loss.argmin()), int(np.flatnonzero(rates == 0)[0])
    sign = 0.0 if best == zero else float(np.sign(rates[best]))
    true_gain = 100 * (loss[zero] - loss[best]) / loss[zero]
    held, whole, named, wrong, length, gain = [], [], [], [], [], []
    for seed in range(n_tables):
        x, y, groups = draw(setting, seed)
        model = ut.MAMLRegressorCV(
            setting.n_support, rules="gradient", ridges=[setting.ridge], standardize=False, fit_intercept=False,
            clip=None, n_draws=1, n_rates=N_RATES, random_state=0,
        ).fit(x, y, groups=groups)  # fmt: skip
        choice = model.choice_
        interval = choice.interval
        held.append(rates[best] / model.scale_ in interval)
        whole.append(interval.whole_circle)
        named.append(choice.verdict in ("negative", "positive"))
        wrong.append(named[-1] and (sign == 0 or (choice.verdict == "negative") != (sign < 0)))
        ends = np.arctan([interval.low, interval.high])
        length.append(1.0 if interval.whole_circle else ((ends[1] - ends[0]) % np.pi) / np.pi)
        g = choice.gains["step"]
        gain.append((g.low, g.percent, g.high))
    gain = np.array(gain)
    return {
        "true_rate": float(rates[best]),
        "true_gain_percent": float(true_gain),
        "coverage": float(np.mean(held)),
        "share_of_circle": float(np.mean(length)),
        "whole_circle": float(np.mean(whole)),
        "sign_named": float(np.mean(named)),
        "wrong_sign": float(np.mean(wrong)),
        "mean_gain_percent": float(gain[:, 1].mean()),
        # Of the choice as it is made: its own expected gain, estimated by the mean over tables.
        "gain_coverage": float(np.mean((gain[:, 0] <= gain[:, 1].mean()) & (gain[:, 1].mean() <= gain[:, 2]))),
        "tables": n_tables,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--problems", nargs="*", default=list(SETTINGS))
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    report = {}
    for name in options.problems:
        report[name] = found = measure(SETTINGS[name], options.tables)
        print(
            f"{name:20s} best rate {found['true_rate']:+.3g} (gain over 0 {found['true_gain_percent']:.2g} %): "
            f"coverage {found['coverage']:.3f}, {100 * found['share_of_circle']:.0f} % of the circle, sign named "
            f"{found['sign_named']:.3f}, wrongly {found['wrong_sign']:.3f}; gain coverage {found['gain_coverage']:.3f}",
            flush=True,
        )
    if options.out:
        with open(options.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
