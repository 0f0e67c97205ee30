"""Tables larger than memory: rows a second, growth, peak memory, and peers on the same rows.

    python benchmarks/out_of_core.py throughput [--rows 400000] [--rounds 3]
    python benchmarks/out_of_core.py growth
    python benchmarks/out_of_core.py ceiling --rows 10000000 --features 20 --files 40 --memory 2GB
    python benchmarks/out_of_core.py choice     # peak memory of a search over the size of its rows

``throughput``: paired rounds over the same sorted file, median rows a second of one process and of two, beside DuckDB's
SQL sums and Arrow + NumPy, which make X'X and X'y of every task and nothing else. ``ceiling``: generates scattered
files, fits the default estimator and says the peak resident memory of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_OF_A_TASK = 100


def scatter(folder: Path, rows: int, p: int, files: int, kind: str = "parquet") -> None:
    """Rows of tasks in random places, generated file by file."""
    from pyarrow import csv

    folder.mkdir(parents=True, exist_ok=True)
    m = rows // ROWS_OF_A_TASK
    weights = 1 + 0.5 * np.random.default_rng(0).standard_normal((m, p))
    for i in range(files):
        rng, n = np.random.default_rng(i + 1), rows // files
        x, task = rng.standard_normal((n, p)), rng.integers(0, m, n)
        y = np.einsum("rp,rp->r", x, weights[task]) + rng.standard_normal(n)
        table = pa.table({"shop": task, "sales": y} | {f"f{j}": x[:, j] for j in range(p)})
        if kind == "parquet":
            pq.write_table(table, folder / f"part-{i:03d}.parquet", compression="none")
        else:
            csv.write_csv(table, folder / f"part-{i:03d}.csv")


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def arrow_sums(table) -> None:
    """X'X and X'y of every task by Arrow and NumPy, as one would write them."""
    from undertow.scale.fragment import read_fragment

    for fragment in table.fragments(32 << 20):
        rows = read_fragment(fragment)
        z = np.column_stack([rows.x, rows.y])
        for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
            own = z[start:stop]
            own.T @ own


def sql_sums(file: Path, p: int, threads: int = 1) -> None:
    """The same by one SQL query."""
    import duckdb

    columns = [f"x{j}" for j in range(p)] + ["y"]
    sums = ", ".join(f"sum({a} * {b})" for i, a in enumerate(columns) for b in columns[: i + 1])
    con = duckdb.connect(config={"threads": threads})
    for batch in con.sql(f"SELECT t, count(*), {sums} FROM read_parquet('{file}') GROUP BY t").to_arrow_reader(10_000):
        del batch
    con.close()


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def recipes(table, estimator):
    """The standardisation of a table, and what its default fit sums: the gradient rule, one ratio, no mixed mean."""
    from functools import reduce

    from undertow.estimators.sums import Recipe
    from undertow.scale.asking import answer, ask_spread
    from undertow.scale.spread import Spread

    parts = (Spread.from_bytes(answer(ask_spread(), one)) for one in table.fragments(32 << 20))
    standard = reduce(Spread.__add__, parts).standard(
        table.features, features=True, targets=True, intercept=True, clip=4.0
    )
    return Recipe(standard, estimator.n_support, 1, 0, 1, (10.0,))


def all_answers(question: bytes, table, executor=None) -> None:
    from undertow.scale.running import answers

    for _ in answers(question, table.fragments(8 << 20), executor, None, "", True):
        pass


def throughput(rows: int, rounds: int, features=(5, 20, 64)) -> None:
    import undertow as ut
    from undertow.estimators.fitted import FittedModel
    from undertow.scale.asking import ask_spread, ask_sums, ask_weights

    print(f"{rows} rows in {rows // ROWS_OF_A_TASK} tasks; million rows/s, median of {rounds} paired rounds")
    print("   p   sort  spread  sums 1  sums 2   x2/1  own weights  SQL sums  Arrow+NumPy")
    for p in features:
        with tempfile.TemporaryDirectory(prefix="out-of-core-") as place, ProcessPoolExecutor(2) as two:
            folder = Path(place)
            scatter(folder / "in", rows, p, 8)
            sort_time = seconds(lambda: ut.scale.sort(folder / "in", "shop", "sales", folder=folder / "work"))
            table = ut.scale.sort(folder / "in", "shop", "sales", folder=folder / "work")
            recipe = recipes(table, ut.MAMLRegressorCV())
            sums, spread = ask_sums(recipe), ask_spread()
            d = recipe.standard.width
            model = FittedModel(recipe.standard, np.ones((1, d)), (ut.ProximalRule(5.0),), table.ids)
            weights = ask_weights(model)
            all_answers(spread, table, two)  # starts the workers
            calls = {
                "spread": lambda: all_answers(spread, table),
                "one": lambda: all_answers(sums, table),
                "two": lambda: all_answers(sums, table, two),
                "weights": lambda: all_answers(weights, table),
                "sql": lambda: sql_sums(table.file, p),
                "arrow": lambda: arrow_sums(table),
            }
            taken = {name: [] for name in calls}
            for _ in range(rounds):
                for name, call in calls.items():
                    taken[name].append(seconds(call))
            rate = {name: rows / statistics.median(times) / 1e6 for name, times in taken.items()}
            ratio = statistics.median(a / b for a, b in zip(taken["one"], taken["two"], strict=True))
            print(
                f"{p:4d} {rows / sort_time / 1e6:6.2f} {rate['spread']:7.2f} {rate['one']:7.3f} {rate['two']:7.3f} "
                f"{ratio:6.2f} {rate['weights']:12.3f} {rate['sql']:9.3f} {rate['arrow']:12.3f}",
                flush=True,
            )


def growth() -> None:
    import undertow as ut

    print("growth: seconds of the sums (one process) and of the sort")
    for rows, p in ((100_000, 20), (200_000, 20), (400_000, 20), (100_000, 10), (100_000, 40), (100_000, 80)):
        from undertow.scale.asking import ask_sums

        with tempfile.TemporaryDirectory(prefix="out-of-core-") as place:
            folder = Path(place)
            scatter(folder / "in", rows, p, 4)
            sort_time = seconds(lambda: ut.scale.sort(folder / "in", "shop", "sales", folder=folder / "work"))
            table = ut.scale.sort(folder / "in", "shop", "sales", folder=folder / "work")
            question = ask_sums(recipes(table, ut.MAMLRegressorCV()))
            all_answers(question, table)
            times = [seconds(lambda: all_answers(question, table)) for _ in range(3)]
            print(
                f"{rows:8d} rows x {p:3d}: sums {statistics.median(times):6.2f} s, sort {sort_time:5.2f} s", flush=True
            )


def ceiling(rows: int, p: int, files: int, memory: str, kind: str, given: bool) -> None:
    """Generate in a child, so that its memory is not ours; then fit."""
    with tempfile.TemporaryDirectory(prefix="out-of-core-", dir=os.environ.get("OUT_OF_CORE_DIR")) as place:
        here = Path(place)
        made = [sys.executable, __file__, "generate", "--rows", str(rows), "--features", str(p), "--files", str(files)]
        subprocess.run([*made, "--kind", kind, "--folder", str(here / "in")], check=True)
        size = sum(file.stat().st_size for file in (here / "in").iterdir())
        import undertow as ut
        from undertow.scale.fitting import fit_sorted
        from undertow.scale.job import Run
        from undertow.scale.memory import Ceiling

        start = time.perf_counter()
        table = ut.scale.sort(here / "in", "shop", "sales", folder=here / "work", memory=memory)
        after_sort, sort_peak = time.perf_counter(), peak()
        estimator = ut.MAMLRegressor(train_rate=-0.2) if given else ut.MAMLRegressorCV()
        fit_sorted(estimator, table, Run(Ceiling.of(memory)))
        end = time.perf_counter()
        print(
            f"{rows} rows x {p} features in {files} {kind} files ({size / 1e9:.2f} GB), {table.n_tasks} tasks, memory="
            f"{memory}: sort {after_sort - start:.0f} s (peak {sort_peak:.2f} GB, file "
            f"{table.file.stat().st_size / 1e9:.2f} GB), fit {end - after_sort:.0f} s, peak {peak():.2f} GB; "
            f"{getattr(estimator, 'strategy_', 'given')}, first weights {np.round(estimator.coef_[:3], 4).tolist()}"
        )


def choice() -> None:
    """Peak memory of a search in memory over the bytes of its rows; each size in a process of its own."""
    code = "import sys; sys.path.insert(0, {here!r}); import out_of_core as b; b.one_choice({rows}, {p})"
    for rows, p in ((100_000, 5), (100_000, 20), (400_000, 20), (100_000, 64)):
        line = code.format(here=str(Path(__file__).parent), rows=rows, p=p)
        subprocess.run([sys.executable, "-c", line], check=True)


def one_choice(rows: int, p: int) -> None:
    import undertow as ut

    rng = np.random.default_rng(0)
    x, task = rng.standard_normal((rows, p)), rng.integers(0, 4000, rows)
    before, start = peak(), time.perf_counter()
    ut.MAMLRegressorCV().fit(x, x.sum(axis=1) + rng.standard_normal(rows), groups=task)
    grown = peak() - before
    print(
        f"search on {rows} rows x {p} ({x.nbytes / 1e6:.0f} MB): {time.perf_counter() - start:.0f} s, peak grew by "
        f"{grown:.2f} GB, {grown * 1e9 / x.nbytes:.1f} times the rows",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "growth", "ceiling", "choice", "generate"))
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--kind", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--given", action="store_true", help="no search: settings that are given")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.what == "throughput":
        throughput(args.rows, args.rounds)
    elif args.what == "growth":
        growth()
    elif args.what == "choice":
        choice()
    elif args.what == "generate":
        scatter(args.folder, args.rows, args.features, args.files, args.kind)
    else:
        ceiling(args.rows, args.features, args.files, args.memory, args.kind, args.given)


if __name__ == "__main__":
    main()
