"""What naming the columns that tasks differ in gains: ``random_slopes=`` against the default, on made tables.

60 tasks of 12 rows and 6 features, of which one or two have a weight of each task's own. Errors are on 400 new tasks
that bring a few rows, over the variance of the noise, each task counting once; straight lines only (effort "fast").
Prints a Markdown table: the error of the default, and how much lower that of the right columns named is, and of as
many wrong ones, in per cent (standard error over tables).

    OPENBLAS_NUM_THREADS=1 python benchmarks/random_slopes.py [--tables 24]
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import undertow as ut
from undertow.comparison.meta import LearnedModel

M, N, P, NEW = 60, 12, 6, 400
NOISE = 0.7
# columns that vary, deviation of their weights, support rows
DESIGNS = ((1, 0.3, 5), (1, 1.0, 3), (1, 1.0, 5), (2, 0.3, 5), (2, 0.7, 3), (2, 0.7, 5))


def draw(varies: int, deviation: float, m: int, way: np.ndarray, rng: np.random.Generator):
    """Rows (m, n, p) and targets (m, n) of tasks whose levels differ too."""
    x, slopes = rng.standard_normal((m, N, P)), np.tile(way, (m, 1, 1))
    slopes[..., :varies] += deviation * rng.standard_normal((m, 1, varies))
    return x, (x * slopes).sum(axis=2) + 0.5 * rng.standard_normal((m, 1)) + NOISE * rng.standard_normal((m, N))


def errors(varies: int, deviation: float, n_support: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    way = 0.5 * rng.standard_normal(P)
    (x, y), (new_x, new_y) = (draw(varies, deviation, m, way, rng) for m in (M, NEW))
    groups, found = np.repeat(np.arange(M), N), []
    for slopes in (None, range(varies), range(P - varies, P)):
        named = None if slopes is None else list(slopes)
        model = ut.MAMLRegressorCV(n_support, random_slopes=named, effort="fast", n_draws=4, random_state=seed)
        model.fit(x.reshape(-1, P), y.ravel(), groups=groups)
        query = LearnedModel(model.model_).predict(new_x[:, :n_support], new_y[:, :n_support], new_x[:, n_support:])
        found.append(float(((query - new_y[:, n_support:]) ** 2).mean() / NOISE**2))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=24)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| columns that vary, deviation, rows | default | right ones named, % | wrong ones, % |\n|---|---|---|---|")
    for design in DESIGNS:
        every = np.array([errors(*design, seed) for seed in range(options.tables)])
        base = every[:, 0].mean()
        gains = 100 * (every[:, :1] - every[:, 1:]) / base
        cells = [f"{one.mean():+.1f} ({one.std(ddof=1) / len(one) ** 0.5:.1f})" for one in gains.T]
        print(f"| {', '.join(f'{one:g}' for one in design)} | {base:.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
