"""Mixed models of two values and of counts against the default, on simulated tables and on files of one's own.

``python benchmarks/generalised_mixed.py`` draws tables from the models themselves (60 tasks, two features, an intercept
whose deviation and tasks whose rows vary); ``python benchmarks/generalised_mixed.py TABLE TASK TARGET KIND`` reads a
file, with KIND "two-valued", "count", or "median": whether a number is above its median. Errors are of held-out tasks,
over the variance of the target; differences have standard errors over tasks.
"""

import sys
from dataclasses import replace

import numpy as np

from undertow.comparison import Plan, compare
from undertow.tasks import GroupedTable, read_table

RIVALS = {"two-valued": "logistic_mixed", "count": "poisson_mixed"}
N_TABLES = 3


def simulated(kind: str, spread: float, rows: int, seed: int) -> GroupedTable:
    """A table of the model itself."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(60), rows)
    x = rng.standard_normal((len(group), 2))
    eta = 0.8 * x[:, 0] + spread * rng.standard_normal(60)[group]
    y = rng.poisson(np.exp(eta)) if kind == "count" else rng.random(len(eta)) < 1 / (1 + np.exp(-eta))
    return GroupedTable.from_arrays(x, y.astype(float), group)


def measured(table: GroupedTable, kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Losses of each task by rival."""
    floor = 0.0 if kind == "count" else None
    names = ["pooled", "mixedlm", RIVALS[kind], "default"]
    found = compare(table, Plan(5, 3, 2, seed=seed, floor=floor), rivals=names, time_limit=None)
    return {name: found.losses(name) for name in found.measured}


def said(losses: dict[str, np.ndarray], kind: str) -> str:
    """Mean losses, and the difference of the model from the default."""
    gap = losses[RIVALS[kind]] - losses["default"]
    means = ", ".join(f"{name} {one.mean():.4f}" for name, one in losses.items())
    return f"{means}; model less default {gap.mean():+.4f} (s.e. {gap.std(ddof=1) / np.sqrt(len(gap)):.4f})"


def main() -> None:
    """Print a line for each table, or kind of tables."""
    if len(sys.argv) > 1:
        file, task, target, kind = sys.argv[1:5]
        table = read_table(
            file, task, target, min_rows=6, on_small="drop", target_kind="number" if kind == "median" else kind
        )
        if kind == "median":
            kind, table = "two-valued", replace(table, y=(table.y > np.median(table.y)).astype(float))
        print(file, said(measured(table, kind), kind), flush=True)
        return
    for kind in RIVALS:
        for spread in (0.3, 1.0):
            for rows in (8, 30):
                tables = [measured(simulated(kind, spread, rows, seed), kind, seed) for seed in range(N_TABLES)]
                joined = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
                print(f"{kind}, deviation {spread}, {rows} rows: {said(joined, kind)}", flush=True)


if __name__ == "__main__":
    main()
