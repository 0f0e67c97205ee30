"""Does the theory keep its word at random settings? Every value finite or stated infinite, positive, smooth, and right.

Each setting has random sizes (1 to 40 features, few or many tasks and rows, both sides of N = p), 1 to 8 inner steps,
sources and rates, half of them negative. Checked by ``method="auto"``, as users call it: values are positive, and
infinite exactly where the mean is; a change of the rate by one in a million changes them by less than one in a
thousand; more noise never lowers them; no call raises anything, or takes over ``--slow`` seconds. A sample is compared
with Monte Carlo by the definitions: counted are settings off by more than the stated error and four standard errors of
the simulation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/theory_fuzz.py [--settings 5000] [--first 0] [--compare 200] [--runs 4000]
        [--slow 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np

import undertow as ut
from undertow.theory import existence, expected_distance, method_for


class Setting(NamedTuple):
    """One random question to the theory."""

    problem: ut.MixedLinearRegression
    design: ut.Design
    rate: float
    steps: int


def setting(number: int) -> Setting:
    """Return setting ``number``, always the same."""
    g = np.random.default_rng([20210116, number])
    size = lambda low, high: int(np.floor(np.exp(g.uniform(np.log(low), np.log(high + 1)))))  # noqa: E731
    p = size(1, 40)
    while True:
        m, n_t, n_v = size(1, 60), size(1, 60), size(1, 40)
        n = m * n_v
        if n <= 1000 and (n > p + 1 if g.random() < 0.7 else n < p - 1 or p < 4):
            break
    sigma, nu = (0.0 if g.random() < 0.05 else float(np.exp(g.normal(0, 1))) for _ in range(2))
    # In units of the largest eigenvalue of S, about; a few are far out, or are 0 or infinite.
    rate = float(g.choice([-1, 1]) * np.exp(g.uniform(np.log(1e-3), np.log(4))) / (1 + np.sqrt(p / n_t)))
    extreme = g.random()
    rate = 0.0 if extreme < 0.02 else np.inf if extreme < 0.04 else rate * 100 if extreme < 0.06 else rate
    return Setting(ut.MixedLinearRegression(p, sigma, nu), ut.Design(m, n_t, n_v), rate, int(g.integers(1, 9)))


def faults(case: Setting, slow: float = 5.0) -> list[str]:
    """Return what is wrong with the theory's answer, by name; nothing when all is well."""
    problem, design, rate, steps = case
    start, found = time.perf_counter(), []
    try:
        value = expected_distance(problem, design, rate, steps=steps)
        stated = method_for(problem, design, rate, steps=steps).expected_relative_error
        if time.perf_counter() - start > slow:
            found.append("slow")
        near = expected_distance(problem, design, rate * (1 + 1e-6), steps=steps)
        louder = ut.MixedLinearRegression(problem.n_features, 1.1 * problem.noise_std + 1e-3, float(problem.task_std))
        more = expected_distance(louder, design, rate, steps=steps)
    except Exception as error:
        return [type(error).__name__]
    infinite = is_infinite(case)
    if np.isinf(value) != infinite or np.isnan(value):
        found.append("infinite" if not infinite else "finite")
    if infinite:
        return found
    if value < 0 or (value == 0 and (problem.noise_std or problem.task_std)):
        found.append("negative")
    if not np.isfinite(stated) or stated < 0:
        found.append("error not stated")
    if abs(near - value) > 1e-3 * value:
        found.append("jump")
    if more < value * (1 - 1e-9):
        found.append("noise lowers it")
    return found


def is_infinite(case: Setting) -> bool:
    """Whether the mean is: its noise part, or its task part with several tasks and features, from N > p - 2 on."""
    problem, design, rate, steps = case
    p, n = problem.n_features, design.n_query_rows
    if p - 1 <= n <= p + 1:
        lost = True
    else:
        lost = bool(existence.exponents(p, design, np.array([rate]), steps)[0] <= existence.MEAN)
    tasks = problem.task_std and design.n_tasks > 1 and p > 1 and n >= p - 1
    return lost and bool(problem.noise_std or tasks)


def simulated(case: Setting, runs: int, seed: int) -> tuple[float, float]:
    """Return Q by Monte Carlo and its standard error: inputs drawn, weights and noise averaged given them."""
    problem, design, rate, steps = case
    g = np.random.default_rng([seed, runs])
    p, m, n_t, n_v = problem.n_features, design.n_tasks, design.n_support, design.n_query
    samples = np.empty(runs)
    for run in range(runs):
        xt, xv = g.standard_normal((m, n_t, p)), g.standard_normal((m, n_v, p))
        one = np.eye(p) - rate / n_t * (xt.swapaxes(1, 2) @ xt)
        growth = sum(np.linalg.matrix_power(one, j) for j in range(steps))
        b, j = xv @ np.linalg.matrix_power(one, steps), rate / n_t * xv @ growth @ xt.swapaxes(1, 2)
        own = np.linalg.pinv(b.reshape(m * n_v, p), rcond=1e-15).reshape(p, m, n_v).swapaxes(0, 1)
        task = ((own @ b) ** 2).sum() / p
        noise = (own**2).sum() + ((own @ j) ** 2).sum()
        samples[run] = float(problem.task_std) ** 2 * task + problem.noise_std**2 * noise
    return float(samples.mean()), float(samples.std(ddof=1) / np.sqrt(runs))


def comparison(case: Setting, runs: int, seed: int) -> dict | None:
    """Compare a setting with simulation, if its mean is finite, its rate is not 0 and simulating it takes seconds."""
    problem, design, rate, steps = case
    p = problem.n_features
    if is_infinite(case) or rate == 0 or abs(rate) > 10 or design.n_query_rows * p > 4000:
        return None
    if not (problem.noise_std or problem.task_std) or (design.n_query_rows < p and not problem.noise_std):
        return None
    choice = method_for(problem, design, rate, steps=steps)
    value = expected_distance(problem, design, rate, steps=steps)
    mean, error = simulated(case, runs, seed)
    exponent = float(existence.exponents(p, design, np.array([rate]), steps)[0])
    off = abs(value - mean) - choice.expected_relative_error * value
    return {
        "value": value, "simulated": mean, "standard_error": error, "method": choice.method, "exponent": exponent,
        "stated": choice.expected_relative_error, "excess_z": off / error if error > 0 else float(off > 1e-9 * value),
    }  # fmt: skip


def describe(number: int, case: Setting) -> dict:
    """Return the setting in numbers."""
    problem, design = case.problem, case.design
    return {
        "number": number, "p": problem.n_features, "m": design.n_tasks, "n_t": design.n_support, "n_v": design.n_query,
        "sigma": problem.noise_std, "nu": problem.task_std, "rate": case.rate, "steps": case.steps,
    }  # fmt: skip


def main() -> None:
    """Run the settings and print what was found, one line of JSON for each fault and comparison, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("settings", 5000), ("first", 0), ("compare", 200), ("runs", 4000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slow", type=float, default=5.0)
    parser.add_argument("--out", default="theory_fuzz.jsonl")
    options = parser.parse_args()
    counts = {"settings": 0, "infinite": 0, "faults": 0, "compared": 0, "outside": 0}
    with open(options.out, "a", encoding="utf-8") as out:
        for number in range(options.first, options.first + options.settings):
            case = setting(number)
            wrong = faults(case, options.slow)
            counts["settings"] += 1
            counts["infinite"] += is_infinite(case)
            counts["faults"] += bool(wrong)
            line = describe(number, case) | {"faults": wrong}
            if counts["compared"] < options.compare and not wrong and (found := comparison(case, options.runs, number)):
                counts["compared"] += 1
                counts["outside"] += found["excess_z"] > 4
                line |= found
            if wrong or "method" in line:
                out.write(json.dumps(line) + "\n")
                out.flush()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
