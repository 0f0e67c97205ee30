"""MAMLRegressorCV.fit against one rate path on the same data: 5 folds, 101 rates, 20 ridges; two rules, and all three.

The path is that of one draw of support and query rows (``rate_path`` with 101 rates and one ridge). Ratios are of
processor time in paired rounds, since the speed of a shared machine drifts.

    OPENBLAS_NUM_THREADS=1 python benchmarks/fit_cv_against_path.py [--tasks 20000] [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

import undertow as ut


def seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rows", type=int, default=32, help="rows of a task, 16 of them support rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    n_support = options.rows // 2
    problem = ut.MixedLinearRegression(options.features, 1.0, 0.5)
    report = {"numpy": np.__version__, **{k: v for k, v in vars(options).items() if k != "out"}}
    for dtype in (np.float64, np.float32):
        tasks = problem.sample(ut.Design(options.tasks, n_support, options.rows - n_support), seed=0, dtype=dtype)
        x = np.concatenate([tasks.support_x, tasks.query_x], axis=1).reshape(-1, options.features)
        y = np.concatenate([tasks.support_y, tasks.query_y], axis=1).reshape(-1)
        groups = np.repeat(np.arange(options.tasks), options.rows)
        times = {}
        for rules in (("gradient", "proximal"), ("gradient", "proximal", "mixed")):
            model = ut.MAMLRegressorCV(n_support, rules=rules)
            pairs = [
                (seconds(lambda: model.fit(x, y, groups=groups)), seconds(lambda: ut.rate_path(tasks)))
                for _ in range(options.rounds)
            ]
            fit, path = (statistics.median(t) for t in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            times["+".join(rules)] = {"fit_seconds": fit, "path_seconds": path, "fit_over_path": ratio}
            print(
                f"{np.dtype(dtype).name} {'+'.join(rules)}: fit {fit:.2f} s, path {path:.2f} s, ratio {ratio:.1f} "
                f"(median of {options.rounds} pairs); {model.n_draws_} draw, chosen {model.strategy_}"
            )
        report[np.dtype(dtype).name] = times
    if options.out:
        with open(options.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
