"""``undertow compare`` on real grouped tables: Markdown tables of all rivals, for docs/how-to/compare.md.

With ``--support`` rows of a new task, fewer where tasks are short, and with none. Of a table of more tasks than
``--most-tasks`` a random part is taken. Last, on what share of the tables the default is not worse than the best (with
hindsight) by more than one paired standard error, and where it is worse than pooled least squares or a constant.
Finished fits with rows are kept in ``--keep``, so that an interrupted run goes on and a second one only prints; remove
them to measure anew.

    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_on_tables.py [--data ../shared/data] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from package_tables import package_tables
from without_rows import WAYS, losses_without_rows

from undertow import datasets
from undertow.comparison import RIVALS, Comparison, Plan, compare
from undertow.comparison.interval import corrected
from undertow.tasks import GroupedTable, read_table
from undertow.tasks.losses import mean_over_tasks

TABLES = (
    "cheese", "gapminder", "parkinsons", "carrots", "exam", "mathachieve", "api_county", "radon", "orthodont", "crime",
    "sleepstudy", "chem97", "insteval",
)  # fmt: skip
_BASES = ("constant", "pooled")


class Gap(NamedTuple):
    """The default less another way, in paired standard errors."""

    other: str
    mean: float
    independent: float
    """with that of independent tasks"""
    corrected: float
    """with that of ``compare``"""


def opened(folder: Path, name: str, most: int) -> tuple[GroupedTable, int]:
    path, of_packages = folder / f"{name}.parquet", package_tables()
    source: Any = path if path.is_file() else of_packages[name] if name in of_packages else datasets.load(name)
    given = {} if isinstance(source, datasets.GroupedData) else {"task": "task", "target": "target"}
    counts = read_table(source, **given, on_constant="keep").counts
    n_support = min(most, max(1, int(np.median(counts)) // 2))
    return read_table(source, **given, on_constant="drop", min_rows=n_support + 1, on_small="drop"), n_support


def some(table: GroupedTable, most: int) -> GroupedTable:
    """Return a table of at most so many tasks, drawn at random."""
    if table.n_tasks <= most:
        return table
    return table.select(np.sort(np.random.default_rng(0).choice(table.n_tasks, most, replace=False)))


def gaps(losses: dict[str, np.ndarray], plan: Plan) -> list[Gap]:
    """Return the default's distance from each other way, the best one first; none where it was left out."""
    found: list[Gap] = []
    if "default" not in losses:
        return found
    for other in sorted((one for one in losses if one != "default"), key=lambda one: losses[one].mean()):
        less, weights = losses["default"] - losses[other], np.ones(len(losses[other]))
        mean, error = mean_over_tasks(less, weights)
        wide = corrected(less, weights, plan.n_folds, 0.95).standard_error
        found.append(Gap(other, mean, mean / error if error > 0 else 0.0, mean / wide if wide > 0 else 0.0))
    return found


def line(title: str, losses: dict[str, np.ndarray], names: tuple[str, ...], plan: Plan, level: float = 0.95) -> str:
    best = min(losses, key=lambda one: losses[one].mean())
    cells = []
    for name in names:
        if name not in losses:
            cells.append("-")
            continue
        mean, less = losses[name].mean(), losses[name] - losses[best]
        text = f"{mean:.3f}" if mean >= 0.1 else f"{mean:.4f}"
        # Bold is the best; a star, that the difference from it is not significant.
        star = name != best and not corrected(less, np.ones(len(less)), plan.n_folds, level).significant
        cells.append(f"**{text}**" if name == best else f"{text}{'*' * star}")
    gap = [f"{one.independent:+.1f}, {one.corrected:+.1f}" for one in gaps(losses, plan)[:1]]
    return f"| {title} | {' | '.join(cells)} | {''.join(gap) or '-'} |"


def seconds(found: Comparison) -> str:
    names = ("mixedlm", "mixedlm_slopes", "default")
    of_each = [found.fit_seconds[found.names.index(r)] if r in found.names else np.nan for r in names]
    return " / ".join("-" if np.isnan(s) else f"{s:.2g}" for s in of_each)


def verdict(what: str, every: dict[str, list[Gap]]) -> str:
    """Say on how many tables the default is within a standard error of the best, and where it is above a base."""
    every = {table: own for table, own in every.items() if own}
    n, parts = len(every), [f"{what}:"]
    for name, kind in (("independent tasks", "independent"), ("as compare has it", "corrected")):
        above = {table: getattr(own[0], kind) for table, own in every.items() if getattr(own[0], kind) > 1}
        listed = ", ".join(f"{table} {value:+.1f} ({every[table][0].other})" for table, value in above.items())
        share = f"{n - len(above)} of {n} ({100 * (n - len(above)) / n:.0f} %)"
        parts.append(f"within one s.e. ({name}) of the best on {share}; not on {listed or 'none'}.")
    worse = [
        f"{table} {gap.mean:+.4f} ({gap.independent:+.1f} s.e., {gap.other})"
        for table, own in every.items()
        for gap in own
        if gap.other in _BASES and gap.mean > 0
    ]
    return " ".join([*parts, f"Above pooled least squares or a constant: {', '.join(worse) or 'nowhere'}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=[*TABLES, *package_tables()])
    parser.add_argument("--support", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--most-tasks", type=int, default=600)
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--keep", default="compare-on-tables", help="folder of finished fits and results")
    parser.add_argument("--rivals", nargs="*", help="with rows; all by default")
    parser.add_argument("--only", choices=("rows", "none"), help="with rows, or without; both by default")
    options = parser.parse_args()
    keep = Path(options.keep)
    keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    every: dict[str, dict[str, list[Gap]]] = {"with rows": {}, "without rows": {}}
    tables = {name: opened(Path(options.data), name, options.support) for name in options.tables}
    end = "default less best, s.e. |"
    if options.only != "none":
        print(f"| table (tasks, features, rows) | {' | '.join(RIVALS)} | {end} seconds: mixedlm / slopes / default |")
        print(f"|---|{'---|' * (len(RIVALS) + 2)}", flush=True)
    for name, (table, n_support) in tables.items() if options.only != "none" else ():
        part, plan = some(table, options.most_tasks), Plan(n_support)
        kept = keep / f"{name}.jsonl"
        settings = {"rivals": options.rivals, "n_repeats": options.repeats, "time_limit": options.time_limit}
        found = compare(part, plan, cells=kept, **settings)
        (keep / f"{name}.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n")
        losses = {rival: found.losses(rival) for rival in found.measured}
        every["with rows"][name] = gaps(losses, plan)
        title = f"{name} ({part.n_tasks}, {part.n_features}, {n_support})"
        print(f"{line(title, losses, tuple(RIVALS), plan)} {seconds(found)} |", flush=True)
    if options.only != "rows":
        print(f"\n| table without rows | {' | '.join(WAYS)} | {end}\n|---|{'---|' * (len(WAYS) + 1)}", flush=True)
    for name, (table, n_support) in tables.items() if options.only != "rows" else ():
        part, plan = some(table, options.most_tasks), Plan(n_support)
        losses = losses_without_rows(part, plan, options.time_limit)
        every["without rows"][name] = gaps(losses, plan)
        print(line(name, losses, WAYS, plan), flush=True)
    for what, own in every.items():
        if own:
            print(f"\n{verdict(what, own)}")


if __name__ == "__main__":
    main()
