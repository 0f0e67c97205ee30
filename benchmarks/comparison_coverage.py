"""Coverage of the intervals of ``undertow.comparison``: how often they hold the true expected difference.

Tables are drawn again and again from one model; the mean over them of a difference is its true value, since a
cross-validated difference is unbiased for training on that many tasks. Printed for every pair of rivals together, and
for the worst and best pair: coverage of the corrected interval, and of the one that takes tasks as independent.

    OPENBLAS_NUM_THREADS=1 python benchmarks/comparison_coverage.py [--tables 300] [--default]
"""

from __future__ import annotations

import argparse
import warnings
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from undertow.comparison import Plan, compare
from undertow.comparison.interval import correction
from undertow.tasks import GroupedTable
from undertow.tasks.losses import mean_over_tasks

RIVALS = ("pooled", "alone", "pooled_ridge", "step", "signed")

# name: tasks, folds, repeats, features, deviation of the tasks' weights, of the noise, heavy tails of both, sizes
CASES = {
    "10 tasks": (10, 5, 1, 3, 0.5, 1.0, False, "uniform"),
    "20 tasks": (20, 5, 1, 3, 0.5, 1.0, False, "uniform"),
    "50 tasks": (50, 5, 1, 3, 0.5, 1.0, False, "uniform"),
    "50 tasks, 10 folds": (50, 10, 1, 3, 0.5, 1.0, False, "uniform"),
    "30 tasks, 3 repeats": (30, 5, 3, 3, 0.5, 1.0, False, "uniform"),
    "30 tasks, nearly alike": (30, 5, 1, 3, 0.1, 1.0, False, "uniform"),
    "30 tasks, 10 features": (30, 5, 1, 10, 0.3, 1.0, False, "uniform"),
    "40 tasks, heavy tails": (40, 5, 1, 3, 0.5, 1.0, True, "uniform"),
    "60 tasks, equal sizes": (60, 5, 1, 1, 0.7, 1.0, False, "equal"),
    "60 tasks, log-normal sizes": (60, 5, 1, 1, 0.7, 1.0, False, "lognormal"),
    "60 tasks, Pareto sizes": (60, 5, 1, 1, 0.7, 1.0, False, "pareto"),
    "60 tasks, one of 2000 rows": (60, 5, 1, 1, 0.7, 1.0, False, "hub"),
    "60 tasks, slopes that go with log-normal sizes": (60, 5, 1, 1, 0.7, 1.0, False, "informative"),
}


def sizes(law: str, m: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of each task, at least 6."""
    if law == "uniform":
        return rng.integers(8, 25, m)
    if law in ("lognormal", "informative"):
        return 6 + np.rint(10 * rng.lognormal(0.0, 1.0, m)).astype(int)
    if law == "pareto":
        return 6 + np.minimum(np.rint(5 * rng.pareto(1.0, m)), 20_000).astype(int)
    counts = np.full(m, 12 if law == "equal" else 6)
    if law == "hub":
        counts[0] = 2000
    return counts


def drawn(
    m: int, p: int, task_std: float, noise_std: float, heavy: bool, law: str, rng: np.random.Generator
) -> GroupedTable:
    counts = sizes(law, m, rng)
    codes = np.repeat(np.arange(m), counts)
    x = rng.standard_normal((len(codes), p))
    spread = np.sqrt(3 / rng.chisquare(3, m)) if heavy else np.ones(m)
    weights = 0.5 + task_std * spread[:, None] * rng.standard_normal((m, p + 1))
    if law == "informative":
        weights[:, 0] += 0.5 * (np.log(counts) - 2.8)
    noise = noise_std * rng.standard_normal(len(codes))
    if heavy:
        noise *= np.sqrt(3 / rng.chisquare(3, m))[codes]
    return GroupedTable.from_arrays(x, (x * weights[codes, :p]).sum(axis=1) + weights[codes, p] + noise, codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--default", action="store_true", help="with MAMLRegressorCV among the rivals")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rivals = (*RIVALS, "default") if options.default else RIVALS
    pairs = list(combinations(range(len(rivals)), 2))
    for name in options.cases:
        m, k, repeats, *model = CASES[name]
        found = np.empty((options.tables, len(pairs), 3))
        for t in range(options.tables):
            table = drawn(m, *model, np.random.default_rng([t, m, k]))
            plan = Plan(5, k, 2, seed=t)
            one = compare(table, plan, n_repeats=repeats, rivals=rivals, time_limit=None)
            for j, (a, b) in enumerate(pairs):
                mean, error = mean_over_tasks(one.task_losses[:, a] - one.task_losses[:, b], one.weights)
                gaps = one.fold_losses[:, a] - one.fold_losses[:, b]
                fold_error = np.sqrt((1 / len(gaps) + 1 / (k - 1)) * gaps.var(ddof=1))
                found[t, j] = mean, error, fold_error
        truth = found[..., 0].mean(axis=0)
        off = np.abs(found[..., 0] - truth)
        plain = off <= stdtrit(m - 1, 0.975) * found[..., 1]
        ours = off <= stdtrit(m - 1, 0.975) * found[..., 1] * np.sqrt(correction(k))
        folds = off <= stdtrit(k * repeats - 1, 0.975) * found[..., 2]
        worth = found[..., 0].std(axis=0) ** 2 / (found[..., 1] ** 2).mean(axis=0)
        for words, hit in (("tasks as independent", plain), ("corrected, over tasks", ours), ("over folds", folds)):
            by_pair = hit.mean(axis=0)
            print(f"{name}: {words}: {by_pair.mean():.3f} ({by_pair.min():.3f} to {by_pair.max():.3f})", flush=True)
        print(f"  true variance over that of independent tasks: {np.array2string(worth, precision=2)}", flush=True)


if __name__ == "__main__":
    main()
