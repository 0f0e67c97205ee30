"""Is the error that the theory states for correlated inputs kept? The tables of theory.md.

Random problems of a seed: 3 to 80 features, 1 to 80 support rows, N/p of .05 to .95 (and at least 4 rows below p) or
1.1 to 25 (at least 2 above); inputs white, log-normal (spread .5, 1, 1.5), 1/k or with one spike; task variances
equal or log-normal, in the axes of the inputs or not; sigma = nu = |omega_0 - w_0| = 1. Inputs are drawn, weights and
noise are averaged in closed form given them; for N > p the same draws at rate 0, where the mean is known, correct the
others by their ratio. An error is the relative one of tr Sx E(omega* - w_0)(omega* - w_0)^T, of all sources together
and of each alone, at rates of both signs up to infinity, in units of 1 / (largest eigenvalue of Sx + tr Sx / n_t),
about 1 / the largest eigenvalue of S. "Kept" is the share of problems whose errors, less one standard error of the
simulation, stay below those of ``theory.method_for`` at every rate; "stated" the median of the latter.

    OPENBLAS_NUM_THREADS=1 python benchmarks/theory_accuracy.py [--seed 1] [--problems 100] [--seconds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np

import undertow as ut
from undertow.theory import anisotropic

RATES = np.array((0.0, -10.0, -4.0, -1.5, -0.7, -0.2, 0.2, 0.6, 1.0, 1.5, 4.0, 10.0, np.inf))
SOURCES = ("all", "start", "tasks", "noise")
KINDS = {"0": [0], "ordinary": [4, 5, 6, 7], "far": [1, 2, 3, 8, 9, 10, 11, 12]}
# The simulation of a problem ends when its largest relative standard error is this small.
ENOUGH = 0.0015


class Setting(NamedTuple):
    """A random problem in the axes of its inputs, where only diagonals matter."""

    inputs: np.ndarray
    tasks: np.ndarray
    design: ut.Design
    rates: np.ndarray

    @property
    def below(self) -> bool:
        """Whether N < p."""
        return self.design.n_query_rows < len(self.inputs)

    def problem(self, noise: float = 1.0, tasks: float = 1.0) -> ut.MixedLinearRegression:
        """The problem with these sizes of its sources."""
        return ut.MixedLinearRegression(
            len(self.inputs), noise, task_covariance=tasks * self.tasks, input_covariance=self.inputs
        )


def setting(number: int, below: bool, seed: int) -> Setting:
    """Return problem ``number`` with N < p or N > p, always the same."""
    g = np.random.default_rng([seed, number, below])
    while True:
        p, n_t, n_v = (int(np.exp(g.uniform(np.log(low), np.log(81)))) for low in (3, 1, 1))
        ratio = np.exp(g.uniform(*np.log((0.05, 0.95) if below else (1.1, 25))))
        m = round(ratio * p / n_v)
        n = m * n_v
        if m >= 1 and n_v <= 40 and (p - n >= 4 if below else n - p >= 2 and m > 1):
            break
    kind = g.integers(6)
    spread = (0.5, 1.0, 1.5)[kind % 3]
    values = np.exp(spread * g.normal(size=p)) if kind < 3 else np.ones(p)
    values = 1 / np.arange(1, p + 1) if kind == 3 else values
    values = np.where(np.arange(p) == 0, p / 2, 1.0) if kind == 4 else values
    values = values / values.mean()
    tasks = np.ones(p) / p
    if g.random() < 0.5:
        turn = np.linalg.qr(g.normal(size=(p, p)))[0] if g.random() < 0.5 else np.eye(p)
        own = np.exp(g.normal(size=p))
        tasks = turn**2 @ (own / own.sum())
    return Setting(values, tasks, ut.Design(m, n_t, n_v, 10), RATES / (values.max() + values.sum() / n_t))


def simulated(case: Setting, seconds: float, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return means (k, 3) over drawn inputs of the parts by start, tasks and noise, and their standard errors."""
    (m, n_t, n_v), p = (case.design.n_tasks, case.design.n_support, case.design.n_query), len(case.inputs)
    g, root = np.random.default_rng(seed), np.sqrt(case.inputs)
    batch = int(np.clip(3e6 / (m * (n_v + n_t) * p), 1, 200))
    parts, start = [], time.process_time()
    while True:
        xt, xv = (g.standard_normal((batch, m, rows, p)) * root for rows in (n_t, n_v))
        parts.append(np.stack([_parts(case, rate, xt, xv) for rate in case.rates], axis=1))
        runs, spent = batch * len(parts), time.process_time() - start
        if runs >= 60 and (len(parts) % 4 == 0 or spent > seconds):
            samples = np.concatenate(parts)
            error = samples.std(axis=0)[:, 1:] / samples.mean(axis=0)[:, 1:] / np.sqrt(runs)
            if spent > seconds or (runs > 400 and error.max() < ENOUGH):
                break
    mean = samples.mean(axis=0)
    if case.below:
        return mean, samples.std(axis=0, ddof=1) / np.sqrt(runs)
    ratio = np.divide(mean, mean[0], out=np.zeros_like(mean), where=mean[0] > 0)
    known = predicted(case, case.rates[:1])[0]
    rest = (samples - ratio * samples[:, :1]).std(axis=0, ddof=1) / np.sqrt(runs)
    return ratio * known, np.divide(rest * known, mean[0], out=np.zeros_like(mean), where=mean[0] > 0)


def _parts(case: Setting, rate: float, xt: np.ndarray, xv: np.ndarray) -> np.ndarray:
    """(runs, 3) by the definition, given the inputs (runs, m, n, p)."""
    runs, m, n_v, p = xv.shape
    k = xv @ xt.swapaxes(-1, -2) / xt.shape[2]
    # At infinity rows X_v S lose rank where n_v > n_t: the limit is asked for.
    c, s = (1.0, rate) if np.isfinite(rate) else (1e-4 * case.inputs.max() if n_v >= xt.shape[2] else 0.0, -1.0)
    rows, noise = c * xv - s * (k @ xt), c**2 * np.eye(n_v) + s**2 * (k @ k.swapaxes(-1, -2))
    flat = rows.reshape(runs, m * n_v, p)
    if case.below:
        inverse = np.linalg.solve(flat @ flat.swapaxes(-1, -2), flat).swapaxes(-1, -2)
    else:
        inverse = np.linalg.solve(flat.swapaxes(-1, -2) @ flat, flat.swapaxes(-1, -2))
    own = inverse.reshape(runs, p, m, n_v).swapaxes(1, 2)
    weight = own.swapaxes(-1, -2) @ (case.inputs[:, None] * own)
    gap = (np.eye(p) - inverse @ flat) if case.below else np.zeros((1, p, p))
    start = np.broadcast_to((case.inputs[:, None] * gap**2).sum(axis=(-1, -2)) / p, runs)
    tasks = (weight * ((rows * case.tasks) @ rows.swapaxes(-1, -2))).sum(axis=(-1, -2, -3))
    return np.stack([start, tasks, (weight * noise).sum(axis=(-1, -2, -3))], axis=1)


def predicted(case: Setting, rates: np.ndarray) -> np.ndarray:
    """Return the three parts (k, 3) as "auto" gives them; that of the start is averaged over its direction."""
    p = len(case.inputs)
    zero, even = np.zeros(p), np.ones(p) / np.sqrt(p)  # a form that is diagonal: its mean over directions

    def value(noise: float, tasks: float, offset: np.ndarray) -> np.ndarray:
        problem = case.problem(noise, tasks)
        method = ut.theory.method_for(problem, case.design, rates).method
        return anisotropic.excess_coefficients(problem, case.design, rates, offset, method)[:, 0]

    start = value(0.0, 0.0, even) if case.below else np.zeros(len(rates))
    return np.stack([start, value(0.0, 1.0, zero), value(1.0, 0.0, zero)], axis=1)


def stated(case: Setting, source: str) -> np.ndarray:
    """Return the relative error that is stated for a source alone, or for all, at each rate."""
    sizes = {"all": (1.0, 1.0), "start": (0.0, 0.0), "tasks": (0.0, 1.0), "noise": (1.0, 0.0)}[source]
    problem = case.problem(*sizes)
    return np.array([ut.theory.method_for(problem, case.design, r).expected_relative_error for r in case.rates])


def measured(case: Setting, seconds: float, seed: list[int]) -> dict:
    """Return means, standard errors and predictions of a problem, and the errors that are stated."""
    mean, error = simulated(case, seconds, seed)
    d = case.design
    return {
        "below": case.below, "sizes": [len(case.inputs), d.n_tasks, d.n_support, d.n_query],
        "inputs": case.inputs.tolist(), "tasks": case.tasks.tolist(), "rates": case.rates.tolist(),
        "mean": mean.tolist(), "error": error.tolist(), "predicted": predicted(case, case.rates).tolist(),
        "stated": {source: stated(case, source).tolist() for source in SOURCES if case.below or source != "start"},
    }  # fmt: skip


def errors(row: dict, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return relative errors of a source at each rate and their standard errors."""
    mean, error, got = (np.array(row[name]) for name in ("mean", "error", "predicted"))
    if source == "all":
        mean, error, got = mean.sum(axis=1), np.hypot.reduce(error, axis=1), got.sum(axis=1)
    else:
        j = SOURCES.index(source) - 1
        mean, error, got = mean[:, j], error[:, j], got[:, j]
    # A simulation of a mean that does not exist shows a number all the same.
    return np.where(np.isinf(got), 0.0, np.abs(got / mean - 1)), error / mean


def report(found: list[dict]) -> None:
    """Print errors in percent, median / 90 % quantile / largest, and how the stated ones were kept."""
    print("| | problems | rate 0 | ordinary | far | kept | stated, ordinary | stated, far |")
    print("|---|---|---|---|---|---|---|---|")
    for below in (True, False):
        rows = [row for row in found if row["below"] is below]
        for source in SOURCES if below else SOURCES[:1] + SOURCES[2:]:
            off, spread = (np.array(part) for part in zip(*(errors(row, source) for row in rows), strict=True))
            said = np.array([row["stated"][source] for row in rows])
            cells = []
            for places in KINDS.values():
                worst = 100 * off[:, places].max(axis=1)
                cells.append(" / ".join(f"{round(v, 3):.2g}" for v in (*np.quantile(worst, (0.5, 0.9)), worst.max())))
            kept = 100 * (off - spread <= said + 1e-9).all(axis=1).mean()
            sizes = [100 * np.median(said[:, KINDS[name]].max(axis=1)) for name in ("ordinary", "far")]
            name = f"$N {'<' if below else '>'} p$, all" if source == "all" else f"— {source} alone"
            print(f"| {name} | {len(rows)} | {' | '.join(cells)} | {kept:.0f} % | {sizes[0]:.2g} | {sizes[1]:.2g} |")


def main() -> None:
    """Measure all problems and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--problems", type=int, default=100, help="on each side of N = p")
    parser.add_argument("--seconds", type=float, default=3.0, help="of simulation, each problem")
    parser.add_argument("--out")
    options = parser.parse_args()
    found = []
    for number in range(options.first, options.first + options.problems):
        for below in (True, False):
            found.append(measured(setting(number, below, options.seed), options.seconds, [options.seed, number, below]))
            if options.out:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found[-1]) + "\n")
    report(found)


if __name__ == "__main__":
    main()
