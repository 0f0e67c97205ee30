"""``undertow compare`` on real grouped tables: a Markdown table of all rivals, for docs/how-to/compare.md.

Support rows are ``--support``, fewer where tasks are short; shorter tasks are left out. Finished fits are kept in
``--keep``, so that an interrupted run goes on and a second one only prints; remove them to measure anew.

    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_on_tables.py [--data ../shared/data] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from undertow import datasets
from undertow.comparison import RIVALS, Comparison, Plan, compare
from undertow.tasks import GroupedTable, read_table

TABLES = (
    "cheese", "gapminder", "parkinsons", "carrots", "exam", "mathachieve", "api_county", "radon", "orthodont", "crime",
    "sleepstudy", "chem97", "insteval",
)  # fmt: skip


def opened(folder: Path, name: str, most: int) -> tuple[GroupedTable, int]:
    path = folder / f"{name}.parquet"
    source = path if path.is_file() else datasets.load(name)
    given = {"task": "task", "target": "target"} if path.is_file() else {}
    counts = read_table(source, **given, on_constant="keep").counts
    n_support = min(most, max(1, int(np.median(counts)) // 2))
    return read_table(source, **given, on_constant="drop", min_rows=n_support + 1, on_small="drop"), n_support


def line(name: str, table: GroupedTable, n_support: int, found: Comparison) -> str:
    best = found.best
    cells = []
    for rival in RIVALS:
        if rival not in found.measured:
            cells.append("-")
            continue
        loss, gap = found.mean_loss(rival)[0], found.difference(rival, best)
        text = f"{loss:.3f}" if loss >= 0.1 else f"{loss:.4f}"
        # Bold is the best; a star, that the difference from it is not significant.
        cells.append(f"**{text}**" if rival == best else text if gap.significant else f"{text}*")
    seconds = [found.fit_seconds[found.names.index(r)] for r in ("mixedlm", "mixedlm_slopes", "default")]
    times = " / ".join("-" if np.isnan(s) else f"{s:.2g}" for s in seconds)
    return f"| {name} ({table.n_tasks}, {table.n_features}, {n_support}) | {' | '.join(cells)} | {times} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--support", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--keep", default="compare-on-tables", help="folder of finished fits and results")
    options = parser.parse_args()
    keep = Path(options.keep)
    keep.mkdir(parents=True, exist_ok=True)
    print(f"| table (tasks, features, support rows) | {' | '.join(RIVALS)} | seconds: mixedlm / slopes / default |")
    print(f"|---|{'---|' * (len(RIVALS) + 1)}")
    for name in options.tables:
        table, n_support = opened(Path(options.data), name, options.support)
        found = compare(
            table,
            Plan(n_support),
            n_repeats=options.repeats,
            time_limit=options.time_limit,
            cells=keep / f"{name}.jsonl",
        )
        (keep / f"{name}.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n")
        print(line(name, table, n_support, found), flush=True)


if __name__ == "__main__":
    main()
