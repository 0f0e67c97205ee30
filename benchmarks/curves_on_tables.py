"""Whether curves are worth it on real grouped tables: efforts of the default estimator, judged by tasks of neither.

Five outer folds of tasks; each effort is fitted without a fold and measured on its tasks, with support rows and none.
Prints a Markdown table of mean squared errors over the target's variance, and of differences to effort "fast" (straight
lines only) with the standard error that ``undertow compare`` uses. "own" is the error that fits report.

    OPENBLAS_NUM_THREADS=1 python benchmarks/curves_on_tables.py [--data ../shared/data] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from compare_on_tables import TABLES, opened

from undertow import MAMLRegressorCV
from undertow.comparison.cell import Plan, task_losses, training_of
from undertow.comparison.interval import corrected
from undertow.comparison.meta import LearnedModel
from undertow.estimators import fit_table
from undertow.tasks import GroupedTable

EFFORTS = ("fast", "default", "thorough")


def judged(table: GroupedTable, plan: Plan, effort: str) -> tuple[np.ndarray, np.ndarray, float, float, Counter[str]]:
    """Errors (m,) with support rows and without, the error that fits report, seconds of a fit, and what bent."""
    unit = float(np.var(table.y))
    after, before, own, seconds, kinds = np.zeros(table.n_tasks), np.zeros(table.n_tasks), 0.0, 0.0, Counter()
    for fold in range(plan.n_folds):
        training, test, part = training_of(table, plan, 0, fold)
        start = time.process_time()
        estimator = fit_table(MAMLRegressorCV(plan.n_support, effort=effort, random_state=plan.seed), training.raw)
        seconds += (time.process_time() - start) / plan.n_folds
        kinds[estimator.curve_] += 1
        mse = estimator.choice_.candidates[estimator.strategy_].mse
        own += mse * float(np.var(training.raw.y)) / unit / plan.n_folds
        after[part] = task_losses(LearnedModel(estimator.model_), test, plan, 0, unit)
        errors = (estimator.model_.predict(test.x)[:, 0] - test.y) ** 2 / unit
        before[part] = np.add.reduceat(errors, test.offsets[:-1]) / test.counts
    return after, before, own, seconds, kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--support", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| table | effort | own | error | difference (s.e.) | without rows | difference (s.e.) | bends | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.tables:
        table, n_support = opened(Path(options.data), name, options.support)
        plan, weights = Plan(n_support), np.ones(table.n_tasks)
        found = {effort: judged(table, plan, effort) for effort in EFFORTS}
        for effort, (after, before, own, seconds, kinds) in found.items():
            cells = []
            for mine, base in ((after, found["fast"][0]), (before, found["fast"][1])):
                gap = corrected(mine - base, weights, plan.n_folds, 0.95)
                cells += [
                    f"{mine.mean():.4f}",
                    "" if effort == "fast" else f"{gap.estimate:+.4f} ({gap.standard_error:.4f})",
                ]
            bends = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
            print(f"| {name} | {effort} | {own:.4f} | {' | '.join(cells)} | {bends} | {seconds:.2g} |", flush=True)


if __name__ == "__main__":
    main()
