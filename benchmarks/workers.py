"""Two workers against one at 20,000 tasks: the Gram builder, held-out errors of all tasks, and a whole fit.

By the clock in paired rounds, beside what the machine itself gives: two threads with a large matrix product each. Then,
by processor time, what limits it: the share of the time that the calling thread spends alone bounds the gain (Amdahl),
and the time of two workers over that of one says how much they hinder each other.

    OPENBLAS_NUM_THREADS=1 python benchmarks/workers.py [--tasks 20000] [--features 20 64] [--rows 32] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import replace

import numpy as np

import undertow as ut
from undertow.choice.gradient_family import GRADIENT, GradientFamily
from undertow.choice.held_out import held_out_errors
from undertow.choice.limits import LIMITS
from undertow.choice.plan import Plan
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, default_ratios, gather_moments
from undertow.linear.moments import Moments
from undertow.tasks import folds
from undertow.tasks.rows import TaskRows
from undertow.tasks.standard import Standard


def timed(call) -> tuple[float, float, float]:
    """Seconds by the clock, of the processor, and of the calling thread."""
    start = time.perf_counter(), time.process_time(), time.thread_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1], time.thread_time() - start[2]


def machine(n_jobs: int) -> None:
    """Two products, one after the other or side by side."""
    square = np.ones((1200, 1200))
    threads = [threading.Thread(target=lambda: square @ square) for _ in range(2)]
    for thread in threads:
        thread.start()
        if n_jobs == 1:
            thread.join()
    for thread in threads:
        thread.join()


def held_out(rows: TaskRows, n_support: int):
    limits = replace(LIMITS, tested_tasks=rows.n_tasks, large_tested_tasks=rows.n_tasks)
    plan = Plan(rows, rows, folds(rows.ids, 5, 0), n_support, 1, 0, limits)
    moments, proximal = gather_moments(plan, 1, default_ratios(plan))
    assert proximal is not None

    def call(n_jobs: int) -> None:
        one = replace(plan, n_jobs=n_jobs)
        ridges = [1e-4, 1e-2]
        gradient = GradientFamily(one, moments, ridges, (1,), 11)
        families = dict.fromkeys(GRADIENT, gradient) | dict.fromkeys(
            PROXIMAL, ProximalFamily(one, proximal, ridges, moments)
        )
        calls[n_jobs] = lambda: held_out_errors(one, list(families), families)

    calls: dict = {}
    call(1), call(2)
    return lambda n_jobs: calls[n_jobs]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--features", type=int, nargs="*", default=[20, 64])
    parser.add_argument("--rows", type=int, default=32, help="rows of a task, half of them support rows")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    m, n, half = options.tasks, options.rows, options.rows // 2
    for p in options.features:
        tasks = ut.MixedLinearRegression(p, 1.0, 0.5).sample(ut.Design(m, half, n - half), seed=0)
        x = np.concatenate([tasks.support_x, tasks.query_x], axis=1).reshape(-1, p)
        y = np.concatenate([tasks.support_y, tasks.query_y], axis=1).reshape(-1, 1)
        standard = Standard.fit(x, y, None, features=True, targets=True, intercept=True, clip=None)
        offsets, numbers = np.arange(m + 1) * n, np.arange(m * n)
        rows = TaskRows(x, standard, standard.targets(y), None, offsets, np.arange(m), numbers)
        groups = np.repeat(np.arange(m), n)
        calls = {
            "machine": machine,
            "Gram builder": lambda jobs: Moments.from_tasks(tasks, n_jobs=jobs),
            "held-out errors": held_out(rows, half),
            "whole fit": lambda jobs: ut.MAMLRegressorCV(half, n_jobs=jobs).fit(x, y[:, 0], groups=groups),
        }
        print(f"{m} tasks of {n} rows, {p} features, float64")
        for name, call in calls.items():
            call(2)
            pairs = [(timed(lambda: call(1)), timed(lambda: call(2))) for _ in range(options.rounds)]
            clock = statistics.median(one[0] / two[0] for one, two in pairs)
            more = statistics.median(two[1] / one[1] for one, two in pairs)
            alone = statistics.median(two[2] / two[1] for _, two in pairs)
            print(
                f"  {name:16s} one {1e3 * statistics.median(one[0] for one, _ in pairs):6.0f} ms; two {clock:.2f} "
                f"times as fast with two; the calling thread alone {alone:4.0%} (at most {2 / (1 + alone):.2f} times); "
                f"processor time of two over one {more:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
