"""Whether rates should be chosen for a fold by fits that have not seen it: nested choice against the shared one.

The shared scheme chooses for a fold by the errors of the other folds, of fits that were trained on that fold's tasks;
the nested one (``undertow.choice.plan``) by fits that were not. For each table the tasks are split into outer folds;
on the training tasks both schemes report a held-out error for each strategy and choose a blend, and the outer fold's
tasks, which neither has seen, are the judge. Two questions: how far is the reported error from the judged one, and
whose blend is better? Differences are paired by task.

    OPENBLAS_NUM_THREADS=1 python benchmarks/nested_choice.py [--data ../shared/data] [--tables ...] [--designs ...]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from calibration_designs import SETTINGS

from undertow.choice.blend import shares
from undertow.choice.gradient_family import GradientFamily
from undertow.choice.held_out import held_out_errors
from undertow.choice.plan import Found, Plan
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, default_ratios, gather_moments
from undertow.choice.search import RIDGES
from undertow.estimators.fitted import task_rows
from undertow.tasks import folds, read_table
from undertow.tasks.losses import balance, mean_over_tasks
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.standard import Standard

STRATEGIES = ("step", "tied", "signed", "pooled_ridge", "ridge")
TABLES = (
    "sleepstudy", "orthodont", "radon", "gapminder", "carrots", "cheese", "parkinsons", "api_county", "exam", "crime",
    "chem97", "mathachieve", "insteval",
)  # fmt: skip


class Shared(NamedTuple):
    """A family whose choice for a fold is made by fits that have seen it."""

    family: GradientFamily | ProximalFamily

    def found(self, strategy: str, outer: int | None = None, inner: int | None = None) -> Found:
        assert inner is None
        return self.family.trained(self.family.pick(strategy, None, outer), outer)  # type: ignore[arg-type]

    def settings(self, strategy: str) -> dict[str, float]:
        return self.family.settings(strategy)


def rows_of(x: np.ndarray, y: np.ndarray, codes: np.ndarray, standard: Standard | None) -> TaskRows:
    ids, numbers = np.unique(codes, return_inverse=True)
    if standard is None:
        standard = Standard.fit(x, y[:, None], None, features=True, targets=True, intercept=True, clip=4.0)
    return task_rows(standard, x, y[:, None], None, ids, numbers)


def schemes(rows: TaskRows, n_support: int, seed: int):
    """Reported error (per strategy and for the blend) and the shares of each scheme, and the strategies themselves."""
    n_draws = int(np.clip(1e10 // (len(rows.y) * (2 * rows.n_columns + 2) ** 2), 1, 10))
    plan = Plan(rows, rows, folds(rows.ids, 5, seed), n_support, n_draws, seed)
    moments, proximal = gather_moments(plan, 1, default_ratios(plan))
    assert proximal is not None
    own = (GradientFamily(plan, moments, RIDGES, (1,), 101), ProximalFamily(plan, proximal, RIDGES, moments))
    nested = {name: own[name in PROXIMAL] for name in STRATEGIES}
    shared = {name: Shared(one) for name, one in nested.items()}
    out = {}
    for scheme, families in (("nested", nested), ("shared", shared)):
        held_out, _ = held_out_errors(plan, STRATEGIES, families)  # type: ignore[arg-type]
        weights = balance(held_out.weights)
        out[scheme] = (
            held_out.weights @ held_out.mse / held_out.weights.sum(),
            shares(held_out.products, weights, seed, 0.02),
        )
    return out, {name: one.found(name) for name, one in nested.items()}


def judged(rows: TaskRows, found: dict[str, Found], n_support: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, n, n) products of the errors of new tasks, and their query rows."""
    products, weight = np.zeros((rows.n_tasks, len(found), len(found))), np.zeros(rows.n_tasks)
    for k in range(5):
        for batch, tasks, row_weight in rows.draw(n_support, np.random.SeedSequence(99, spawn_key=(k,))):
            one = of_target(batch, 0)
            errors = np.stack(
                [
                    (one.query_x @ f.rules[0].adapt(f.weights[0], one)[..., None])[..., 0] - one.query_y
                    for f in found.values()
                ],
                axis=1,
            )
            products[tasks] += errors @ errors.transpose(0, 2, 1)
            weight[tasks] += row_weight
    return products / weight[:, None, None], weight / 5


def compare(name: str, parts, n_support: int) -> None:
    """Print a line for each strategy: reported by both schemes, judged; and the difference of the two blends."""
    reported = {"nested": [], "shared": []}
    losses, gap, rows = [], [], []
    for seed, (train, test) in enumerate(parts):
        own = rows_of(*train, None)
        own = own.large_enough(n_support, "drop")
        found_schemes, found = schemes(own, n_support, seed)
        new = rows_of(*test, own.standard).large_enough(n_support, "drop")
        products, weight = judged(new, found, n_support)
        for scheme, (mse, _) in found_schemes.items():
            reported[scheme].append(mse)
        losses.append(np.diagonal(products, axis1=1, axis2=2))
        blends = [np.einsum("a,mab,b->m", s, products, s) for s in (found_schemes[k][1] for k in ("nested", "shared"))]
        gap.append(blends[0] - blends[1])
        rows.append(weight)
    weight = np.concatenate(rows)
    mean = weight @ np.concatenate(losses) / weight.sum()
    nested, shared = (np.mean(reported[scheme], axis=0) for scheme in ("nested", "shared"))
    for i, strategy in enumerate(STRATEGIES):
        pairs = (("nested", nested), ("shared", shared))
        gaps = (f"{scheme} {100 * (mse[i] / mean[i] - 1):+6.1f} %" for scheme, mse in pairs)
        print(f"{name:14s} {strategy:13s} judged {mean[i]:.4f}  reported against it: {'  '.join(gaps)}")
    change, error = mean_over_tasks(np.concatenate(gap), weight)
    print(f"{name:14s} blend: nested minus shared, judged: {change:+.5f} +- {error:.5f} (MSE / variance)", flush=True)


def table_parts(folder: Path, name: str, deal: int):
    table = read_table(folder / f"{name}.parquet", "task", "target", on_constant="drop")
    codes = np.repeat(np.arange(table.n_tasks), table.counts)
    n_support = min(5, max(1, int(np.median(table.counts)) // 2))
    parts = []
    for part in folds(table.ids, 5, deal):
        test = np.isin(codes, part)
        parts.append(tuple((table.x[side], table.y[side], codes[side]) for side in (~test, test)))
    return parts, n_support


def design_parts(name: str, n_tables: int):
    setting = SETTINGS[name]
    # The tasks of the second table are new ones of the same population.
    return [tuple(setting.draw(seed) for seed in (2 * i, 2 * i + 1)) for i in range(n_tables)], setting.n_support


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--designs", nargs="*", default=list(SETTINGS))
    parser.add_argument("--n-tables", type=int, default=10, help="simulated tables of each design")
    parser.add_argument("--deal", type=int, default=0, help="seed of the outer folds")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.tables:
        compare(name, *table_parts(Path(options.data), name, options.deal))
    for name in options.designs:
        compare(name, *design_parts(name, options.n_tables))


if __name__ == "__main__":
    main()
