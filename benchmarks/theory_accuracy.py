"""How far off are the deterministic equivalent and the leading order for correlated inputs? The tables of theory.md.

Random problems: 6 to 80 features, 2 to 80 support rows, N/p of .08 to .95 or 1.1 to 25 and at least 4 rows away from p;
inputs white, log-normal (spread .5, 1, 1.5), 1/k or with one spike; task covariance white or log-normal, not aligned;
sigma = nu = 1, E |omega_0 - w_0|^2 = 1. Inputs are drawn, weights and noise are averaged in closed form given them. An
error is the largest relative error of tr Sx E(omega* - w_0)(omega* - w_0)^T over the rates, Monte Carlo error included;
"stated" is the share of problems whose error, less one standard error, stays below that of ``theory.method_for``.

    OPENBLAS_NUM_THREADS=1 python benchmarks/theory_accuracy.py [--problems 100] [--seconds 4] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np

import undertow as ut
from undertow.theory import anisotropic

# In units of 1 / (largest eigenvalue of Sx + tr Sx / n_t), about 1 / the largest eigenvalue of S.
ORDINARY, FAR = (-1.0, -0.3, 0.0, 0.2, 0.6), (-4.0, 1.5)
SOURCES = ("all", "start", "tasks", "noise")


class Setting(NamedTuple):
    """A random problem: rows of its parts are start, tasks and noise."""

    inputs: np.ndarray
    tasks: np.ndarray
    design: ut.Design
    rates: np.ndarray


def setting(number: int, below: bool) -> Setting:
    """Return problem ``number`` with N < p or N > p, always the same."""
    g = np.random.default_rng([20210117, number, below])
    while True:
        p, n_t, n_v = (int(np.exp(g.uniform(np.log(low), np.log(81)))) for low in (6, 2, 1))
        ratio = np.exp(g.uniform(*np.log((0.08, 0.95) if below else (1.1, 25))))
        m = round(ratio * p / n_v)
        if m >= 1 and n_v <= 40 and (p - m * n_v >= 4 if below else m * n_v - p >= 4 and m > 1):
            break
    kind = g.integers(6)
    spread = (0.5, 1.0, 1.5)[kind % 3]
    values = np.exp(spread * g.normal(size=p)) if kind < 3 else np.ones(p)
    values = 1 / np.arange(1, p + 1) if kind == 3 else values
    values = np.where(np.arange(p) == 0, p / 2, 1.0) if kind == 4 else values
    values = values / values.mean()
    tasks = np.eye(p) / p
    if g.random() < 0.5:
        turn = np.linalg.qr(g.normal(size=(p, p)))[0]
        own = np.exp(g.normal(size=p))
        tasks = (turn * (own / own.sum())) @ turn.T
    unit = 1 / (values.max() + values.sum() / n_t)
    last = -30.0 if n_v >= n_t else np.inf
    return Setting(values, tasks, ut.Design(m, n_t, n_v, 10), unit * np.array([*ORDINARY, *FAR, last]))


def simulated(case: Setting, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return means (k, 3) over drawn inputs of the parts by start, tasks and noise, and their standard errors."""
    p, m = len(case.inputs), case.design.n_tasks
    n_t, n_v = case.design.n_support, case.design.n_query
    g, root = np.random.default_rng(7), np.sqrt(case.inputs)
    sums, squares = np.zeros((2, len(case.rates), 3))
    runs, start = 0, time.process_time()
    while runs < 200 or (runs < 6000 and time.process_time() - start < seconds):
        xt, xv = (g.standard_normal((m, rows, p)) * root for rows in (n_t, n_v))
        k = xv @ xt.swapaxes(1, 2) / n_t
        u, kk = k @ xt, k @ k.swapaxes(1, 2)
        for i, rate in enumerate(case.rates):
            rows = u if np.isinf(rate) else xv - rate * u
            flat = rows.reshape(m * n_v, p)
            inverse = np.linalg.pinv(flat, rcond=1e-14)
            own = inverse.reshape(p, m, n_v).swapaxes(0, 1)
            weighed = case.inputs[:, None] * own
            gap = np.eye(p) - inverse @ flat
            noise = kk if np.isinf(rate) else np.eye(n_v) + rate**2 * kk
            back = own @ rows
            part = np.array(
                [
                    (case.inputs[:, None] * gap**2).sum() / p if m * n_v < p else 0.0,
                    (case.inputs[:, None] * back * (back @ case.tasks)).sum(),
                    (weighed * (own @ noise)).sum(),
                ]
            )
            sums[i] += part
            squares[i] += part**2
        runs += 1
    mean = sums / runs
    return mean, np.sqrt(np.maximum(squares / runs - mean**2, 0) / runs)


def predicted(case: Setting, method: str) -> np.ndarray:
    """Return the three parts (k, 3) by a formula; that of the start is averaged over its direction."""
    p = len(case.inputs)
    quiet, still, zero = 0.0, np.zeros((p, p)), np.zeros(p)

    def value(noise: float, tasks: np.ndarray, offset: np.ndarray) -> np.ndarray:
        problem = ut.MixedLinearRegression(p, noise, task_covariance=tasks, input_covariance=np.diag(case.inputs))
        return anisotropic.excess_coefficients(problem, case.design, case.rates, offset, method)[:, 0]

    start = np.zeros(len(case.rates))
    if case.design.n_query_rows < p:
        # A quadratic form, diagonal where the inputs are: the mean over directions is that over axes.
        start = np.mean([value(quiet, still, axis) for axis in np.eye(p)], axis=0)
    return np.stack([start, value(quiet, case.tasks, zero), value(1.0, still, zero)], axis=1)


def main() -> None:
    """Measure all problems and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100, help="on each side of N = p")
    parser.add_argument("--seconds", type=float, default=4.0, help="of simulation, each problem")
    parser.add_argument("--out")
    options = parser.parse_args()
    sides = [(i, below) for below in (True, False) for i in range(options.problems)]
    found = [measured(setting(i, below), below, options.seconds) for i, below in sides]
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(found, file)
    report(found)


def measured(case: Setting, below: bool, seconds: float) -> dict:
    """Return the largest relative errors of a problem, by method, source and kind of rate."""
    mean, error = simulated(case, seconds)
    problem = ut.MixedLinearRegression(
        len(case.inputs), 1.0, task_covariance=case.tasks, input_covariance=np.diag(case.inputs)
    )
    stated = anisotropic.method_for(problem, case.design).expected_relative_error
    out: dict = {"below": below, "filled": float(case.inputs.sum() ** 2 / (case.inputs @ case.inputs))}
    spread = np.sqrt((error**2).sum(axis=1)) / mean.sum(axis=1)
    for method in ("equivalent", "leading"):
        parts = predicted(case, method)
        for j, source in enumerate(SOURCES):
            true, got = (mean.sum(1), parts.sum(1)) if j == 0 else (mean[:, j - 1], parts[:, j - 1])
            if not true.any():
                continue
            off = np.abs(got / true - 1)
            out[f"{method} {source}"] = [float(off[: len(ORDINARY)].max()), float(off[len(ORDINARY) :].max())]
            if j == 0 and method == "equivalent":
                kept = off - spread < stated
                out["stated"] = [bool(kept[: len(ORDINARY)].all()), bool(kept.all())]
    return out


def report(found: list[dict]) -> None:
    """Print errors in percent, median / 90 % quantile / largest."""

    def cell(rows: list[dict], key: str, which: int | None) -> str:
        values = [max(row[key]) if which is None else row[key][which] for row in rows if key in row]
        if not values:
            return ""
        return " / ".join(f"{100 * value:.2g}" for value in (*np.quantile(values, (0.5, 0.9)), max(values)))

    print("| | problems | equivalent, ordinary | equivalent, far | leading, ordinary |\n|---|---|---|---|---|")
    for below in (True, False):
        rows = [row for row in found if row["below"] is below]
        for source in SOURCES:
            if f"equivalent {source}" in rows[0]:
                name = f"$N {'<' if below else '>'} p$, all" if source == "all" else f"— {source} alone"
                e = f"equivalent {source}"
                columns = (cell(rows, e, 0), cell(rows, e, 1), cell(rows, f"leading {source}", 0))
                print(f"| {name} | {len(rows)} | {' | '.join(columns)} |")
        shares = np.mean([row["stated"] for row in rows], axis=0)
        print(f"stated error kept: ordinary rates {100 * shares[0]:.0f} %, all rates {100 * shares[1]:.0f} %")
    print("\n| $d_x$ | $N < p$ ordinary | $N < p$ all | $N > p$ ordinary | $N > p$ all |\n|---|---|---|---|---|")
    for low, high in ((0, 6), (6, 12), (12, 24), (24, 99)):
        cells = [
            cell(
                [row for row in found if row["below"] is below and low <= row["filled"] < high], "equivalent all", which
            )
            for below in (True, False)
            for which in (0, None)
        ]
        print(f"| {low} to {high} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
