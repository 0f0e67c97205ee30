"""Are the intervals and verdicts of MAMLRegressorCV calibrated? Simulated problems whose best train rate is known.

For each design (calibration_designs.py) many training tables are drawn. The truth is the rate with the least expected
loss on new tasks, mean over other training tables of that size (each solved at every rate), at its best adaptation
rate, at the ridge that the table's search picked. Its error comes from ten batches of those tables. Reported: how often
the interval holds the truth (nominal 95 %), how often the verdict names a sign, and the right one, and how often gains
over rivals lie in their intervals. At a true optimum of 0 no sign is right.

    OPENBLAS_NUM_THREADS=1 python benchmarks/calibration.py [NAME ...] [--set old|zero|fresh] [--tables 300]
        [--seed 0] [--jobs 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from calibration_designs import FRESH, OLD, SETTINGS, ZERO, Setting, with_noise
from scipy.optimize import brentq

import undertow as ut
from undertow import _circle
from undertow.choice.gram_path import solve
from undertow.choice.plan import Plan
from undertow.choice.proximal_family import gather_moments
from undertow.choice.search import RIDGES
from undertow.linear import LossSurface, circle
from undertow.tasks import folds
from undertow.tasks.by_task import sort_by_task
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard

N_RATES = 101
BATCHES = 10
SETS = {"old": OLD, "zero": ZERO, "fresh": FRESH}


class Truth(NamedTuple):
    """Expected losses of one design. Letters: R ridges, k angles around the circle, b batches of tables."""

    angles: np.ndarray
    ridges: np.ndarray
    batches: np.ndarray
    """(b, k, R) mean loss of each batch at the adaptation rate that is best on the mean of all"""

    def best(self, ridge: float) -> int:
        """Position of the best rate at a ridge."""
        return int(self._loss(ridge).mean(axis=0).argmin())

    def gain(self, ridge: float) -> float:
        """Gain of the best rate over rate 0, in per cent."""
        mean = self._loss(ridge).mean(axis=0)
        zero = mean[np.abs(self.angles).argmin()]
        return float(100 * (zero - mean.min()) / zero) if zero > 0 else 0.0

    def slope(self, ridge: float, position: int) -> tuple[float, float]:
        """Slope of the loss over the angle at a position, and its standard error."""
        loss, k = self._loss(ridge), len(self.angles)
        slope = (loss[:, (position + 1) % k] - loss[:, position - 1]) / (2 * np.pi / k)
        return float(slope.mean()), float(slope.std(ddof=1) / np.sqrt(len(slope)))

    def angle_error(self, ridge: float) -> float:
        """Standard error of the best angle: that of the slope over the second derivative, from 9 points about it."""
        best, k = self.best(ridge), len(self.angles)
        around = np.arange(-4, 5)
        bend = 2 * np.polyfit(around * np.pi / k, self._loss(ridge).mean(axis=0)[(best + around) % k], 2)[0]
        return float(self.slope(ridge, best)[1] / bend) if bend > 0 else np.inf

    def _loss(self, ridge: float) -> np.ndarray:
        return self.batches[..., int(np.abs(np.log(self.ridges / ridge)).argmin())]


def ridges_of(setting: Setting) -> np.ndarray:
    """Ridges that the search of a design may pick."""
    return np.array(RIDGES) if setting.ridge is None else np.array([setting.ridge])


def truth(setting: Setting, n_tables: int, seed: int, angles: np.ndarray | None = None) -> Truth:
    """Return expected losses, mean over ``n_tables`` tables; a rate means the same multiple of each table's unit."""
    angles = _circle.grid(N_RATES)[:-1] if angles is None else angles
    return of_products(angles, ridges_of(setting), expected_products(setting, n_tables, seed, angles))


def of_products(angles: np.ndarray, ridges: np.ndarray, products: np.ndarray) -> Truth:
    """Return losses at the adaptation rates that are best on the mean of all batches."""
    whole = LossSurface(np.tan(angles), products.mean(axis=0), 1.0, ridges)
    powers = circle.powers(whole.best_adapt_rate, products.shape[-1] - 1)
    return Truth(angles, ridges, 0.5 * np.einsum("kri,bkrij,krj->bkr", powers, products, powers))


def expected_products(setting: Setting, n_tables: int, seed: int, angles: np.ndarray) -> np.ndarray:
    """Return mean products of errors on new tasks (b, k, R, s + 1, s + 1)."""
    plain, ridges, s = setting.ridge is not None, ridges_of(setting), setting.steps
    products = np.zeros((BATCHES, len(angles), len(ridges), s + 1, s + 1))
    n_new = 20_000 if setting.problem.p < 20 else 4000
    shared, batch = None, -1
    n_draws = 1 if plain else 10
    for i in range(n_tables):
        x, y, groups = setting.draw(1_000_000 * (seed + 1) + i)
        standard = Standard.fit(
            x, y[:, None], None, features=not plain, targets=not plain, intercept=not plain, clip=None if plain else 4.0
        )
        order, offsets = sort_by_task(groups)
        rows = TaskRows(x, standard, standard.targets(y[order, None]), None, offsets, np.unique(groups), order)
        plan = Plan(rows, rows, folds(rows.ids, 5, 0), setting.n_support, n_draws, 0)
        moments, _ = gather_moments(plan, s, None)
        c, _ = circle.coefficients(_circle.rates_of(angles, moments.scale), moments.scale, s)
        weights = solve(moments.gram.sum(axis=0), 1, c, ridges, moments.eps)[:, :, 0]
        if plain and (shared is None or i * BATCHES // n_tables != batch):
            # Plain tables of a batch share new tasks; where a table is standardised, its new tasks are, each time anew.
            batch = i * BATCHES // n_tables
            shared = ut.Moments.from_tasks(setting.new_tasks(n_new, 1000 * (seed + 1) + batch), steps=s)
        new = shared
        if new is None:
            tasks = setting.new_tasks(500, 10_000_000 * (seed + 1) + i)
            new = ut.Moments.from_tasks(_standardised(tasks, standard), steps=s)
        one = new.quadratic(weights.reshape(-1, weights.shape[-1])).reshape(products.shape[1:]) / new.weight
        products[i * BATCHES // n_tables] += one / (n_tables / BATCHES)
    return products


def zero_noise(name: str, n_tables: int = 4000, seed: int = 77) -> float:
    """Noise at which the slope of the expected loss at rate 0 is 0, other things being as in the design.

    Weights and noise add up in expected products: weights' + noise^2 times those of unit noise alone.
    """
    setting, angles = SETTINGS[name], np.array([-0.05, 0.0, 0.05])
    alone = replace(setting.problem, noise=1.0, spread=0.0, means=(0.0,) * len(setting.problem.scales))
    weights = expected_products(with_noise(setting, 0.0), n_tables, seed, angles)
    noise = expected_products(replace(setting, problem=alone), n_tables, seed, angles)

    def slope(size: float) -> float:
        loss = of_products(angles, ridges_of(setting), weights + size**2 * noise).batches.mean(axis=0)[:, 0]
        return float(loss[2] - loss[0])

    # Kinds of tasks that differ pull the best rate up only while there is little noise.
    root: Any = brentq(slope, 0.0, 1.0 if len(setting.problem.scales) > 1 else 30.0, xtol=1e-4)
    return float(root)


def _standardised(tasks: ut.TaskBatch, standard: Standard) -> ut.TaskBatch:
    def features(x: np.ndarray) -> np.ndarray:
        return standard.features(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    def targets(y: np.ndarray) -> np.ndarray:
        return standard.targets(y.reshape(-1, 1)).reshape(y.shape)

    return ut.TaskBatch(
        features(tasks.support_x), targets(tasks.support_y), features(tasks.query_x), targets(tasks.query_y)
    )


def fit(setting: Setting, seed: int) -> Any:
    """Fit one table; return the estimator."""
    x, y, groups = setting.draw(seed)
    options: dict[str, Any] = {"steps": setting.steps, "random_state": 0}
    if setting.ridge is not None:
        options |= {
            "rules": "gradient", "ridges": [setting.ridge], "standardize": False, "fit_intercept": False,
            "n_draws": 1, "n_rates": N_RATES,
        }  # fmt: skip
    else:
        # All is as users run it, but for the mixed models, which no interval rests on, and curves, beside which another
        # rate is the best one.
        options |= {"rules": ("gradient", "proximal"), "effort": "fast"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ut.MAMLRegressorCV(setting.n_support, **options).fit(x, y, groups=groups)


def _ridge(model: Any) -> float:
    """Ridge of the gradient rule, on which the interval rests."""
    return float(np.ravel(model.rate_path_.ridges)[0])


class Outcome(NamedTuple):
    """What one table gave."""

    held: bool
    whole: bool
    named: float
    """sign that the verdict names, 0 for none"""
    right: bool
    length: float
    gains: dict[str, tuple[float, float, float]]


def outcome(setting: Setting, known: Truth, seed: int) -> Outcome:
    """Fit one table and hold its choice against the truth."""
    model = fit(setting, seed)
    choice, interval = model.choice_, model.choice_.interval
    at = known.angles[known.best(_ridge(model))]
    named = {"negative": -1.0, "positive": 1.0}.get(choice.verdict, 0.0)
    ends = np.arctan([interval.low_spectral, interval.high_spectral])
    rate = float(np.inf if abs(at) > np.pi / 2 - 1e-9 else 0.0 if abs(at) < 1e-9 else np.tan(at))
    return Outcome(
        rate * interval.scale in interval,
        interval.whole_circle,
        named,
        named != 0 and named == np.sign(rate) and np.isfinite(rate),
        1.0 if interval.whole_circle else float(((ends[1] - ends[0]) % np.pi) / np.pi),
        {name: (g.low, g.percent, g.high) for name, g in choice.gains.items()},
    )


def measure(name: str, n_tables: int, seed: int) -> dict[str, Any]:
    """All figures of one design."""
    setting, start = SETTINGS[name], time.process_time()
    n_tables = min(n_tables, setting.tables) if setting.tables < 300 else n_tables
    # A default table costs ten draws; wide ones cost time.
    n_truth = 200 if setting.ridge is None else 400 if setting.problem.p >= 20 else 1500
    known = truth(setting, max(BATCHES, min(n_truth, 5 * n_tables)), seed)
    found = [outcome(setting, known, 10_000 * seed + i) for i in range(n_tables)]
    typical = _ridge(fit(setting, 10_000 * seed)) if setting.ridge is None else setting.ridge
    best, zero = known.best(typical), int(np.abs(known.angles).argmin())
    slope, slope_error = known.slope(typical, zero)
    coverage = float(np.mean([one.held for one in found]))
    gains = {}
    for rival in found[0].gains:
        low, percent, high = np.array([one.gains[rival] for one in found]).T
        # Of the choice as it is made: its own expected gain, estimated by the mean over tables.
        gains[rival] = {
            "mean_percent": float(percent.mean()),
            "coverage": float(np.mean((low <= percent.mean()) & (percent.mean() <= high))),
        }
    return {
        "tables": n_tables,
        "seed": seed,
        "best_rate": float(np.tan(known.angles[best])) if abs(known.angles[best]) < 1.57 else "inf",
        "best_angle": float(known.angles[best]),
        "best_angle_error": known.angle_error(typical),
        "slope_at_zero_in_errors": slope / slope_error if slope_error > 0 else 0.0,
        "gain_over_zero_percent": known.gain(typical),
        "coverage": coverage,
        "coverage_error": float(np.sqrt(coverage * (1 - coverage) / n_tables)),
        "share_of_circle": float(np.mean([one.length for one in found])),
        "whole_circle": float(np.mean([one.whole for one in found])),
        "sign_named": float(np.mean([one.named != 0 for one in found])),
        "right_sign": float(np.mean([one.right for one in found])),
        "gains": gains,
        "processor_seconds": time.process_time() - start,
    }


def line(name: str, found: dict[str, Any]) -> str:
    """One line for people."""
    gains = ", ".join(f"{rival} {one['coverage']:.3f}" for rival, one in found["gains"].items())
    rate = found["best_rate"]
    return (
        f"{name:27s} best {rate if isinstance(rate, str) else format(rate, '+.3g')} (angle {found['best_angle']:+.3f} "
        f"({found['best_angle_error']:.3f}), slope at 0 {found['slope_at_zero_in_errors']:+.1f} errors, gain "
        f"{found['gain_over_zero_percent']:.2g} %): coverage {found['coverage']:.3f} ({found['coverage_error']:.3f}), "
        f"{100 * found['share_of_circle']:.0f} % of the circle, sign named {found['sign_named']:.3f}, rightly "
        f"{found['right_sign']:.3f}; gains: {gains}; {found['processor_seconds']:.0f} s"
    )


def main() -> None:
    """Run the designs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"designs: {', '.join(SETTINGS)}")
    parser.add_argument("--set", choices=list(SETS), help="all designs of one set")
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="other tables for another seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with designs of its own")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    names = options.names or list(SETS[options.set] if options.set else SETTINGS)
    unknown = [name for name in names if name not in SETTINGS]
    if unknown:
        parser.error(f"no design {', '.join(unknown)}; there are: {', '.join(SETTINGS)}")
    run = partial(measure, n_tables=options.tables, seed=options.seed)
    report: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        results = map(run, names)
        if options.jobs > 1:
            pool = ProcessPoolExecutor(options.jobs, get_context("spawn"))
            results = stack.enter_context(pool).map(run, names)
        for name, found in zip(names, results, strict=True):
            report[name] = found
            print(line(name, found), flush=True)
            if options.out:
                with open(options.out, "w") as file:
                    json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
