"""Coverage of 90 % prediction intervals on tasks that the fit has not seen, at several numbers of rows.

    python benchmarks/interval_coverage.py simulations [--fits 6]
    python benchmarks/interval_coverage.py tables FILE.parquet ...     (columns "task", "target", and the features)

Simulations: 3 features, tasks of 8 to 19 rows, 12 to 100 tasks; noise normal, t with 3 degrees of freedom, of another
size in each task, or exponential; each fit is tried on 200 new tasks. Tables: outer 5-fold. Tasks count once.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import undertow as ut

LEVEL = 0.9


def simulated(rng: np.random.Generator, m: int, noise: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    task = np.repeat(np.arange(m), rng.integers(8, 20, m))
    x = rng.standard_normal((len(task), 3))
    weights = np.array([1, -1, 0.5]) + 0.5 * rng.standard_normal((m, 3))
    drawn = {
        "normal": lambda: rng.standard_normal(len(task)),
        "heavy": lambda: rng.standard_t(3, len(task)),
        "unequal": lambda: rng.standard_normal(len(task)) * np.exp(0.6 * rng.standard_normal(m))[task],
        "skew": lambda: rng.exponential(size=len(task)) - 1,
    }[noise]()
    return x, (x * weights[task]).sum(axis=1) + rng.standard_normal(m)[task] + 0.7 * drawn, task


def coverage(model: ut.MAMLRegressorCV, x, y, task, numbers, n: int, rng: np.random.Generator) -> float:
    """Mean over tasks of the share of rows inside, after adaptation to n random rows."""
    shares = []
    for number in numbers:
        rows = rng.permutation(np.flatnonzero(task == number))
        if len(rows) > n:
            own = model.adapt(x[rows[:n]], y[rows[:n]]) if n else model
            _, low, high = own.predict(x[rows[n:]], interval=LEVEL)
            shares.append(np.mean((low <= y[rows[n:]]) & (y[rows[n:]] <= high)))
    return float(np.mean(shares))


def simulations(fits: int) -> None:
    print("noise, training tasks: coverage at 0, 2, 5, 7 rows (standard error)")
    for noise in ("normal", "heavy", "unequal", "skew"):
        for m in (12, 30, 100):
            found = []
            for seed in range(fits):
                rng = np.random.default_rng([seed, m])
                x, y, task = simulated(rng, m + 200, noise)
                seen = task < m
                model = ut.MAMLRegressorCV().fit(x[seen], y[seen], groups=task[seen])
                found.append([coverage(model, x, y, task, range(m, m + 200), n, rng) for n in (0, 2, 5, 7)])
            errors = np.std(found, axis=0, ddof=1) / np.sqrt(fits)
            shown = ", ".join(f"{a:.3f} ({e:.3f})" for a, e in zip(np.mean(found, axis=0), errors, strict=True))
            print(f"{noise}, {m}: {shown}", flush=True)


def tables(files: list[str]) -> None:
    import pyarrow.parquet as pq

    print("table: tasks; coverage at 0 rows, at n rows")
    for file in files:
        frame = pq.read_table(file).to_pandas()
        y, task = frame["target"].to_numpy(float), np.unique(frame["task"], return_inverse=True)[1]
        x = frame.drop(columns=["task", "target"]).to_numpy(float)
        x = x[:, x.std(axis=0) > 0]
        n = min(5, max(1, int(np.median(np.bincount(task))) // 2))
        fold = np.random.default_rng(0).permutation(np.arange(task.max() + 1) % 5)
        found = []
        for k in range(5):
            seen = fold[task] != k
            model = ut.MAMLRegressorCV(n).fit(x[seen], y[seen], groups=task[seen])
            rng = np.random.default_rng(k)
            found.append([coverage(model, x, y, task, np.flatnonzero(fold == k), rows, rng) for rows in (0, n)])
        at_zero, adapted = np.mean(found, axis=0)
        print(f"{file}: {task.max() + 1} tasks; {at_zero:.3f}, {adapted:.3f} (n = {n})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulations", "tables"))
    parser.add_argument("files", nargs="*")
    parser.add_argument("--fits", type=int, default=6)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    simulations(options.fits) if options.what == "simulations" else tables(options.files)


if __name__ == "__main__":
    main()
