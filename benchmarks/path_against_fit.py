"""The whole path of 101 signed rates, and the path at one rate, against one fit by hand and against 101, in one run.

The fit is written with the same care as the path: the same chunks, one Gram matrix, one Cholesky solve. Ratios are of
paired rounds, since the speed of a shared machine drifts.

    OPENBLAS_NUM_THREADS=1 python benchmarks/path_against_fit.py [--tasks 20000] [--rounds 9] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
from scipy.linalg import cho_factor, cho_solve

import undertow as ut
from undertow.linear.blocks import chunks


def one_fit(tasks: ut.TaskBatch, rate: float, chunk: int) -> np.ndarray:
    """Weights at one rate: B and gamma of a chunk, their Gram matrix, and one solve."""
    m, n, p = tasks.support_x.shape
    n_v = tasks.query_x.shape[1]
    dtype = tasks.support_x.dtype
    rows, support = np.empty((chunk, n_v, p + 1), dtype), np.empty((chunk, n, p + 1), dtype)
    gram = np.zeros((p + 1, p + 1))
    for start in range(0, m, chunk):
        x = tasks.support_x[start : start + chunk]
        c = len(x)
        support[:c, :, :p], support[:c, :, p] = x, tasks.support_y[start : start + chunk]
        query = tasks.query_x[start : start + chunk]
        kernel = query @ x.transpose(0, 2, 1)
        kernel *= -rate / n
        np.matmul(kernel, support[:c], out=rows[:c])
        rows[:c, :, :p] += query
        rows[:c, :, p] += tasks.query_y[start : start + chunk]
        flat = rows[:c].reshape(-1, p + 1)
        gram += flat.T @ flat
    return cho_solve(cho_factor(gram[:p, :p]), gram[:p, p])


def seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rows", type=int, default=16, help="support rows, and query rows, of a task")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    problem = ut.MixedLinearRegression(options.features, 1.0, 0.5)
    report = {"numpy": np.__version__, **{k: v for k, v in vars(options).items() if k != "out"}}
    for dtype in (np.float64, np.float32):
        tasks = problem.sample(ut.Design(options.tasks, options.rows, options.rows), seed=0, dtype=dtype)
        # The fit gets the best of several chunk sizes.
        chunk = min((32, 64, 128, 256), key=lambda c: min(seconds(lambda: one_fit(tasks, -0.1, c)) for _ in range(3)))
        weights = one_fit(tasks, -0.1, chunk)
        error = np.abs(ut.rate_path(tasks, -0.1).weights[0] - weights).max() / np.abs(weights).max()
        pairs = [
            tuple(
                seconds(call)
                for call in (
                    lambda: ut.rate_path(tasks),
                    lambda: ut.rate_path(tasks, -0.1),
                    lambda: one_fit(tasks, -0.1, chunk),
                )
            )
            for _ in range(options.rounds)
        ]
        path, one, fit = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, _, b in pairs)
        ratio_of_one = statistics.median(a / b for _, a, b in pairs)
        n_chunks = sum(1 for _ in chunks(tasks, 1))
        report[np.dtype(dtype).name] = {
            "path_seconds": path, "fit_seconds": fit, "path_over_fit": ratio,
            "one_rate_seconds": one, "one_rate_over_fit": ratio_of_one, "fits_over_path": 101 / ratio,
            "fit_chunk": chunk, "path_chunks": n_chunks, "relative_difference_of_weights": float(error),
        }  # fmt: skip
        print(
            f"{np.dtype(dtype).name}: path of 101 rates {1e3 * path:.0f} ms, one rate {1e3 * one:.0f} ms, one fit by "
            f"hand {1e3 * fit:.0f} ms; ratios {ratio:.2f} and {ratio_of_one:.2f} (median of {options.rounds} pairs); "
            f"101 fits would take {101 / ratio:.0f} times the path"
        )
    if options.out:
        with open(options.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
