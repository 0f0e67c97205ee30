"""Errors by time (``task_order``): how near they are to those of tasks to come, and how often their intervals hold.

Made tables of tasks in an order: without a drift, with a level that wanders, and with a slope that goes up. A table
has some more tasks than are fitted; these come next and are the judge. An interval holds where it covers the mean over
all tables of what it estimates. Prints a Markdown table; docs/how-to/choosing.md has the shares.

    OPENBLAS_NUM_THREADS=1 python benchmarks/by_time.py [--tables 200]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np

import undertow as ut
from undertow.tasks.losses import t_quantile

TASKS, NEXT, ROWS, SUPPORT, DRAWS = 60, 6, 8, 3, 5
Path = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def no_drift(rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Level and slope of m tasks."""
    return rng.standard_normal(m), np.ones(m)


def walk(rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum(0.3 * rng.standard_normal(m)) + 0.5 * rng.standard_normal(m), np.ones(m)


def rising_slope(rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    return 0.5 * rng.standard_normal(m), 3 * np.arange(m) / TASKS


DESIGNS: dict[str, Path] = {
    "no drift": no_drift,
    "level a random walk": walk,
    "slope goes up steadily": rising_slope,
}


def one_table(path: Path, seed: int) -> dict[str, float]:
    """What ``by_time_`` says of a table, and the error of the model of all its tasks on the next ones."""
    rng, m = np.random.default_rng(seed), TASKS + NEXT
    level, slope = path(rng, m)
    x = rng.standard_normal((m, ROWS))
    y = level[:, None] + slope[:, None] * x + rng.standard_normal((m, ROWS))
    weeks, fitted = np.repeat(np.arange(TASKS), ROWS), y[:TASKS].ravel()
    model = ut.MAMLRegressorCV(SUPPORT, rules="mixed", n_draws=DRAWS, effort="fast", random_state=seed)
    model.fit(x[:TASKS].reshape(-1, 1), fitted, groups=weeks, task_order=weeks)
    errors = []
    for i in range(TASKS, m):
        for _ in range(DRAWS):
            order = rng.permutation(ROWS)
            known, new = order[:SUPPORT], order[SUPPORT:]
            found = model.adapt(x[i, known, None], y[i, known]).predict(x[i, new, None])
            errors.append(((found - y[i, new]) ** 2).mean() / fitted.var())
    return model.by_time_ | {"next": float(np.mean(errors))}


def held(estimates: np.ndarray, half: np.ndarray, truth: float) -> float:
    """Per cent of intervals that cover a number."""
    return 100 * float((np.abs(estimates - truth) <= half).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    titles = ("", "on random folds", "by time", f"the next {NEXT} tasks", "its 95 % interval holds")
    print(
        f"| {' | '.join((*titles, 'interval of the difference holds', 'called drift, %'))} |\n|{'---|' * 7}", flush=True
    )
    for name, path in DESIGNS.items():
        every = [one_table(path, seed) for seed in range(options.tables)]
        of = {key: np.array([one[key] for one in every]) for key in every[0]}
        n, gap = len(every), of["difference"]
        bound = t_quantile(np.ones(int(of["n_tasks"][0])), 0.95)
        both = f"{held(of['mse'], bound * of['standard_error'], of['mse'].mean()):.0f}"
        coming = f"{held(of['mse'], bound * of['standard_error'], of['next'].mean()):.0f}"
        difference = held(gap, 0.5 * (of["difference_high"] - of["difference_low"]), gap.mean())
        cells = [
            f"{of[key].mean():.3f} ({of[key].std(ddof=1) / n**0.5:.3f})"
            for key in ("mse_on_random_folds", "mse", "next")
        ]
        drift = 100 * float((of["difference_low"] > 0).mean())
        print(
            f"| {name} | {' | '.join(cells)} | {both} % (of the next: {coming} %) | {difference:.0f} % | {drift:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
