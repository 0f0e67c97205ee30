"""Time and peak memory of fit, predict, compare and reading at sizes up to what a machine holds.

    python benchmarks/load.py [--rows 100000 1000000 10000000] [--features 10] [--verbs fit predict compare read_csv]

Tasks have 100 rows. Each verb runs in a process of its own, which holds nothing but the table. Memory is the highest
resident size of the call over the size of the table (rows times features, target and task, 8 bytes each), the table
itself included: 1 would be a call that needs nothing. ``from_table`` reads an Arrow table, which counts too; what reads
a file holds no table before. Seconds are of the processor, all threads together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

import undertow as ut
from undertow.comparison import Plan, compare
from undertow.tasks import GroupedTable, read_table

ROWS_OF_A_TASK = 100


def rows_of(n: int, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of tasks in random places, the common weights 1 and the tasks' own around them."""
    rng = np.random.default_rng(0)
    x, groups = rng.standard_normal((n, p)), rng.integers(0, n // ROWS_OF_A_TASK, n)
    own = 1 + 0.5 * rng.standard_normal((n // ROWS_OF_A_TASK, p))
    y = rng.standard_normal(n)
    for j in range(p):
        y += x[:, j] * own[groups, j]
    return x, y, groups


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))


def measured(call) -> tuple[float, float, int]:
    """Seconds of the processor, seconds that passed, and highest resident bytes while a call runs."""
    Path("/proc/self/clear_refs").write_text("5")
    start, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - start, time.perf_counter() - wall, resident("VmHWM")


def one(verb: str, n: int, p: int, folder: str) -> None:
    """Print what a verb takes."""
    # What is imported and started once is no part of a table's memory.
    x, y, groups = rows_of(3000, p)
    small = ut.MAMLRegressorCV().fit(x, y, groups=groups)
    small.predict(x, groups)
    compare(
        GroupedTable.from_arrays(x, y, groups), Plan(n_folds=2, n_draws=1), rivals=["pooled", "signed"], time_limit=None
    )
    read_table(ut.datasets.load_radon())
    before, size = resident("VmRSS"), 8 * n * (p + 2)
    if verb.startswith(("from", "read")):
        measure_reading(verb, Path(folder), before, size)
        return
    x, y, groups = rows_of(n, p)
    if verb == "fit":
        found = measured(lambda: ut.MAMLRegressorCV().fit(x, y, groups=groups))
    elif verb == "fit, no choice":
        found = measured(lambda: ut.MAMLRegressor(rule=ut.MixedRule("diagonal")).fit(x, y, groups=groups))
    elif verb == "predict":
        model = small.adapt(x[:3000], y[:3000], groups=groups[:3000])
        found = measured(lambda: model.predict(x))
    else:
        table = GroupedTable.from_arrays(x, y, groups)
        del x, y, groups
        plan = Plan(n_folds=5, n_draws=1)
        found = measured(lambda: compare(table, plan, rivals=["pooled", "pooled_ridge", "signed"], time_limit=None))
    say(verb, n, found, before, size)


def measure_reading(verb: str, folder: Path, before: int, size: int) -> None:
    """Print what reading a table takes: the files were made by another process, which had memory of its own."""
    n = pq.read_metadata(folder / "rows.parquet").num_rows
    if verb == "from_table":
        frame = pq.read_table(folder / "rows.parquet")
        pa.default_memory_pool().release_unused()
        found = measured(lambda: ut.tasks.from_table(frame, task="g", target="y", n_support=5, seed=0))
    else:
        found = measured(lambda: read_table(folder / f"rows.{'csv' if verb == 'read_csv' else 'parquet'}", "g", "y"))
    say(verb, n, found, before, size)


def write_files(folder: str, n: int, p: int, text: bool) -> None:
    """Write the table as Parquet, and as text."""
    x, y, groups = rows_of(n, p)
    frame = pa.table({"g": groups, "y": y} | {f"f{j}": x[:, j] for j in range(p)})
    pq.write_table(frame, f"{folder}/rows.parquet", compression="none")
    if text:
        csv.write_csv(frame, f"{folder}/rows.csv")


def say(verb: str, n: int, found: tuple[float, float, int], before: int, size: int) -> None:
    """Print a line of the table."""
    cpu, wall, peak = found
    print(
        f"{verb:<16}{n:>12,} rows {size / 1e9:8.3f} GB {cpu:9.1f} s cpu {wall:9.1f} s {(peak - before) / size:6.2f} x"
    )


def main() -> None:
    """Measure each verb at each size, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--features", type=int, default=10)
    verbs = ["fit", "fit, no choice", "predict", "compare", "from_table", "read_table", "read_csv"]
    parser.add_argument("--verbs", nargs="+", default=verbs, choices=verbs)
    parser.add_argument("--here", action="store_true", help="in this process, one verb and size")
    parser.add_argument("--files", action="store_true", help="write the files to read, in this process")
    parser.add_argument("--folder", default="", help="where the files to read are")
    given = parser.parse_args()
    if given.here:
        one(given.verbs[0], given.rows[0], given.features, given.folder)
        return
    if given.files:
        write_files(given.folder, given.rows[0], given.features, "read_csv" in given.verbs)
        return
    for n in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            words = [__file__, "--features", str(given.features), "--rows", str(n), "--folder", folder]
            if any(verb.startswith(("from", "read")) for verb in given.verbs):
                subprocess.run([sys.executable, *words, "--files", "--verbs", *given.verbs], check=True)
            for verb in given.verbs:
                subprocess.run([sys.executable, *words, "--here", "--verbs", verb], check=False)


if __name__ == "__main__":
    main()
