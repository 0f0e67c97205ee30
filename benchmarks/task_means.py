"""Whether means of a task's features are worth columns of their own (within and between effects; Mundlak 1978).

Five outer folds of tasks; the estimator is fitted without a fold, straight and with its defaults else, with and without
the means as further columns, and measured on the fold's tasks with support rows and without. A mean is that of all rows
of a task: features of rows to be predicted are known. Two made tables come first: with a contextual effect, the mean of
a feature having a slope of its own, and without one.

    OPENBLAS_NUM_THREADS=1 python benchmarks/task_means.py [--data ../shared/data] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from compare_on_tables import TABLES, opened
from curves_on_tables import judged

from undertow.comparison.cell import Plan
from undertow.comparison.interval import corrected
from undertow.tasks import GroupedTable


def made(context: float) -> GroupedTable:
    rng = np.random.default_rng(0)
    tasks = np.repeat(np.arange(80), 12)
    x = rng.standard_normal((80, 2))[tasks] + rng.standard_normal((960, 2))
    mean = (np.add.reduceat(x, np.arange(0, 960, 12)) / 12)[tasks]
    y = x.sum(axis=1) + context * mean[:, 0] + rng.standard_normal(80)[tasks] + rng.standard_normal(960)
    return GroupedTable.from_arrays(x, y, tasks)


def with_means(table: GroupedTable) -> tuple[GroupedTable, int]:
    """The table with the means of features that vary both within tasks and between them, and how many these are."""
    means = np.repeat(np.add.reduceat(table.x, table.offsets[:-1]) / table.counts[:, None], table.counts, axis=0)
    spread = table.x.std(axis=0)
    kept = ((table.x - means).std(axis=0) > 1e-6 * spread) & (means.std(axis=0) > 1e-6 * spread)
    return GroupedTable.from_arrays(np.c_[table.x, means[:, kept]], table.y, table.groups), int(kept.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tables = {"made, contextual effect": (made(-2.0), 5), "made, none": (made(0.0), 5)}
    print(
        "| table | means | with rows | with means (difference, s.e.) | without rows | with means (difference, s.e.) |"
    )
    print("|---|---|---|---|---|---|")
    for name in (*tables, *options.tables):
        table, n_support = tables[name] if name in tables else opened(Path(options.data), name, 5)
        wide, n_means = with_means(table)
        if not n_means:
            continue
        plan, cells = Plan(n_support), []
        for before, after in zip(judged(table, plan, "fast")[:2], judged(wide, plan, "fast")[:2], strict=True):
            gap = corrected(after - before, np.ones(table.n_tasks), plan.n_folds, 0.95)
            cells.append(f"{before.mean():.4f} | {after.mean():.4f} ({gap.estimate:+.4f}, {gap.standard_error:.4f})")
        print(f"| {name} | {n_means} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
