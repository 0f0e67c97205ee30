"""How often the interval of a gain holds it, where noise is skewed and tasks differ in their level.

Each design is drawn many times and fitted as users fit it, but for curves. A gain's truth is its mean over the tables:
that of the choice as it is made. Tasks have 12 rows (or 6 to 60), 3 features, slopes that vary with deviation .2, and
an intercept of deviation tau; noise of variance 1 is normal, t with 4 degrees of freedom, or log-normal. Reported:
coverage at 95 % and the median half width, in per cent, with the standard error of the ratio that the estimator uses
(jackknife) and with that of the difference over the rival's mean error. With ``--own`` the truth is the gain of the
fit at hand on 4,000 new tasks, of a signed train rate over three rivals, in designs of calibration_designs.py.

    OPENBLAS_NUM_THREADS=1 python benchmarks/gain_coverage.py [--tables 60] [--own "ten tasks" "wide, noisy" ...]
"""

from __future__ import annotations

import argparse
import math
import warnings
from typing import NamedTuple

import numpy as np
from calibration import fit
from calibration_designs import SETTINGS

import undertow as ut
from undertow.choice.interval import gain
from undertow.linear import adapt
from undertow.tasks.losses import mean_over_tasks, t_quantile


class Design(NamedTuple):
    """One population, and the size of a table."""

    noise: str
    tasks: int
    rows: tuple[int, int]
    tau: float
    intercepts: str = "normal"


DESIGNS = [Design(noise, m, (12, 12), tau) for noise in ("normal", "t", "log-normal") for m in (12, 40, 120)
           for tau in (0.5, 1.5)]  # fmt: skip
DESIGNS += [Design("normal", 60, (6, 60), 1.0), Design("log-normal", 60, (6, 60), 1.0)]
DESIGNS += [Design("normal", 60, (12, 12), 1.0, "t")]
PAIRS = (("no_rows", "used"), ("joint", "step"), ("step", "used"), ("step", "signed"))


def drawn(kind: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Values of mean 0 and variance 1."""
    if kind == "normal":
        return rng.standard_normal(size)
    if kind == "t":
        return rng.standard_t(4, size) / math.sqrt(2)
    return (np.exp(rng.standard_normal(size)) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))


def fitted(design: Design, seed: int) -> ut.MAMLRegressorCV:
    """Draw a table and fit to it."""
    rng = np.random.default_rng([7, seed, design.tasks])
    counts = rng.integers(design.rows[0], design.rows[1] + 1, design.tasks)
    groups = np.repeat(np.arange(design.tasks), counts)
    x = rng.standard_normal((len(groups), 3))
    weights = np.array([0.5, 0.3, 0.0]) + 0.2 * rng.standard_normal((design.tasks, 3))
    level = design.tau * drawn(design.intercepts, rng, design.tasks)
    y = (x * weights[groups]).sum(axis=1) + level[groups] + drawn(design.noise, rng, len(groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ut.MAMLRegressorCV(5, effort="fast", n_draws=4).fit(x, y, groups=groups)


def of_difference(rival: np.ndarray, ours: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Low, per cent, high with the standard error of the difference."""
    base = float(weights @ rival / weights.sum())
    mean, error = mean_over_tasks(rival - ours, weights)
    half = t_quantile(weights, 0.95) * math.sqrt(2) * error
    return 100 * (mean - half) / base, 100 * mean / base, min(100 * (mean + half) / base, 100.0)


def of_the_fit(name: str, n_tables: int) -> None:
    """Print how often intervals hold the gain that the fit at hand has on new tasks."""
    setting = SETTINGS[name]
    new = setting.new_tasks(4000, 5)
    held: dict[str, list[bool]] = {"step": [], "tied": [], "joint": []}
    for seed in range(n_tables):
        model = fit(setting, seed)
        path, choice, losses = model.rate_path_, model.choice_, model.held_out_
        true = {}
        for one in (*held, "signed"):
            rates = choice.candidates[one].settings
            place = int(np.abs(np.arctan(path.train_rates) - math.atan(rates["train_rate"])).argmin())
            theta = adapt(path.weights[place].ravel(), new, rates["adapt_rate"])
            true[one] = float(np.mean(((new.query_x @ theta[..., None])[..., 0] - new.query_y) ** 2))
        for one in held:
            found = gain(losses.of(one), losses.of("signed"), losses.weights)
            held[one].append(found.low <= 100 * (1 - true["signed"] / true[one]) <= found.high)
    print(name, ", ".join(f"over {one} {np.mean(inside):.3f}" for one, inside in held.items()), sep=": ", flush=True)


def main() -> None:
    """Run all designs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=60)
    parser.add_argument("--own", nargs="+", default=[], help="designs of calibration_designs.py with a set ridge")
    options = parser.parse_args()
    for name in options.own:
        of_the_fit(name, options.tables)
    if options.own:
        return
    for design in DESIGNS:
        found: dict[tuple[str, str], list[list[tuple[float, float, float]]]] = {pair: [[], []] for pair in PAIRS}
        for seed in range(options.tables):
            model = fitted(design, seed)
            losses = model.held_out_
            assert losses is not None
            for pair in PAIRS:
                rival, ours = (losses.of(model.strategy_ if name == "used" else name) for name in pair)
                one = gain(rival, ours, losses.weights)
                found[pair][0].append((one.low, one.percent, one.high))
                found[pair][1].append(of_difference(rival, ours, losses.weights))
        for pair, (ratio, difference) in found.items():
            said = [f"{pair[1]} over {pair[0]} {np.mean([one[1] for one in ratio]):+.1f} %"]
            for name, ends in (("ratio", ratio), ("difference", difference)):
                low, percent, high = np.array(ends).T
                mean = percent.mean()
                held = np.mean((low <= mean) & (mean <= high))
                said.append(f"{name} {held:.3f}, half width {np.median(high - low) / 2:.1f}")
            print(
                f"{design.noise}, {design.tasks} tasks of {design.rows}, tau {design.tau}: {'; '.join(said)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
