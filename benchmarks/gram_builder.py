"""The Gram builder's share of the machine's peak, and what binds it (two workers against one: workers.py).

Shares are of the rate of one large product of matrices (DGEMM, SGEMM) on one core, measured in the same rounds. The
symmetric product counts as half of a general one. Times are medians of interleaved rounds.

    python benchmarks/gram_builder.py [--tasks 20000] [--features 64] [--rows 16] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

import undertow as ut
from undertow.linear.blocks import chunks
from undertow.linear.moments import Moments


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rows", type=int, default=16, help="support rows, and query rows, of a task")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    m, n, p = options.tasks, options.rows, options.features
    problem, rng = ut.MixedLinearRegression(p, 1.0, 0.5), np.random.default_rng(0)
    operations = {"small": m * (2 * n * n * p + 2 * n * n * (p + 1)), "gram": m * n * (2 * p + 2) ** 2}
    for dtype in (np.float64, np.float32):
        tasks = problem.sample(ut.Design(m, n, n), seed=0, dtype=dtype)
        square = rng.standard_normal((1500, 1500)).astype(dtype)
        size = next(iter(chunks(tasks, 1))).rows.shape[0] // n
        n_chunks = m // size
        query, support = tasks.query_x[:size], tasks.support_x[:size]
        both = np.concatenate([support, tasks.support_y[:size, :, None]], axis=2)
        flat = next(iter(chunks(tasks, 1))).rows.reshape(size * n, -1).copy()
        calls = {
            "peak": lambda: square @ square,
            "one worker": lambda: Moments.from_tasks(tasks),
            "blocks": lambda: [None for _ in chunks(tasks, 1)],
            "small products": lambda: [(query @ support.transpose(0, 2, 1)) @ both for _ in range(n_chunks)],
            "Gram products": lambda: [flat.T @ flat for _ in range(n_chunks)],
        }
        with threadpool_limits(1, "blas"):
            rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(options.rounds)]
        peak = statistics.median(2 * 1500**3 / each["peak"] for each in rounds)

        def share(name: str, work: float, rounds: list = rounds) -> float:
            return statistics.median(work / each[name] / (2 * 1500**3 / each["peak"]) for each in rounds)

        took = {name: 1e3 * statistics.median(each[name] for each in rounds) for name in calls}
        print(
            f"{np.dtype(dtype).name}: peak {peak / 1e9:.0f} GFLOP/s a core; builder {took['one worker']:.0f} ms = "
            f"{share('one worker', sum(operations.values())):.0%} of peak\n"
            f"  its products by themselves: {n} x {p} products of tasks {took['small products']:.0f} ms "
            f"({share('small products', operations['small']):.0%} of peak), Gram products of chunks "
            f"{took['Gram products']:.0f} ms ({share('Gram products', operations['gram']):.0%});\n"
            f"  blocks with their copies {took['blocks']:.0f} ms"
        )


if __name__ == "__main__":
    main()
