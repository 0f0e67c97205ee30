"""MAMLRegressorCV with straight lines against every simpler way, on real grouped tables (curves: curves_on_tables.py).

Outer 5-fold cross-validation over tasks; each held-out task adapts on several draws of its support rows. Rivals: pooled
least squares, ridge regression of each task alone, no inner loop and then a step, a tied rate, a signed rate, ridge
towards pooled weights, the mixed models of ``fit_mixed``, and statsmodels' MixedLM with random intercept and (up to 5
columns) random slopes. Losses are paired by task, weighted by query rows; the standard error is over tasks. The best
rival is picked with hindsight, on the very losses that are compared.

    OPENBLAS_NUM_THREADS=1 python benchmarks/default_against_rivals.py [--data ../shared/data] [--tables ...] [--out F]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from mixed_on_tables import ridge_towards_pooled, statsmodels_fit, tables

import undertow as ut
from undertow.choice.gradient_family import GradientFamily
from undertow.choice.plan import Plan
from undertow.choice.proximal_family import gather_moments
from undertow.choice.search import RIDGES
from undertow.linear.proximal_step import ridge_adapt
from undertow.mixed.model import fit_mixed, shrunk_fit
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable, Standard, folds
from undertow.tasks.rows import TaskRows


def gradient_rivals(train: GroupedTable, n_support: int, seed: int):
    usable = train.select(train.counts > n_support)
    n_draws = int(np.clip(4000 // usable.n_tasks, 1, 5))
    # The table is standardised already and holds its constant feature.
    same = Standard.fit(train.x, train.y[:, None], None, features=False, targets=False, intercept=False, clip=None)
    rows = TaskRows.of_table(usable, same)
    plan = Plan(rows, rows, folds(usable.ids, 5, seed), n_support, n_draws, seed)
    family = GradientFamily(plan, gather_moments(plan, 1, None)[0], RIDGES, (1,), 101)
    for name in ("step", "tied", "signed"):
        found = family.found(name)
        yield name, partial(found.rules[0].adapt, found.weights[0])


def task_ridge(train: GroupedTable, n_support: int, seed: int):
    """Ridge regression of each task's support rows alone; the ratio that is best on the training tasks."""
    zero = np.zeros(train.n_features)
    batches = train.select(train.counts > n_support).draw_buckets(n_support, seed)

    def loss(ratio):
        return sum(task_losses(b, ridge_adapt(zero, b, ratio)) @ b.query_counts for b in batches)

    return partial(ridge_adapt, zero, ratio=min(np.geomspace(1e-2, 1e3, 11), key=loss))


def rivals(train: GroupedTable, n_support: int, seed: int, compare: bool):
    omega = np.linalg.lstsq(train.x, train.y, rcond=None)[0]
    yield "pooled", partial(ridge_adapt, omega, ratio=np.inf)
    yield "each_alone", task_ridge(train, n_support, seed)
    yield "ridge_to_pooled", ridge_towards_pooled(train, n_support, seed)
    yield from gradient_rivals(train, n_support, seed)
    stats = TaskStatistics.from_tasks(train)
    fits = {name: fit_mixed(stats, name) for name in ("intercept", "isotropic", "diagonal")}
    if train.n_features <= 24:
        fits["full"] = fit_mixed(stats, "full")
        for share in (0.25, 0.5, 0.75):
            fits[f"full_{share:g}_diagonal"] = shrunk_fit(stats, fits["full"], fits["diagonal"], share)
    yield from ((f"mixed_{name}", fit.adapt) for name, fit in fits.items())
    if compare:
        for slopes in (False, True)[: 2 if train.n_features <= 5 else 1]:
            found = statsmodels_fit(train, slopes)
            if found is not None:
                yield f"MixedLM_{'slopes' if slopes else 'intercept'}", found


def task_losses(batch, theta) -> np.ndarray:
    error = (batch.query_x @ theta[..., None])[..., 0] - batch.query_y
    error = error if batch.query_mask is None else np.where(batch.query_mask, error, 0.0)
    return (error**2).sum(axis=1) / batch.query_counts


def one_fold(table: GroupedTable, part, n_support: int, n_draws: int, compare: bool):
    held_out = np.zeros(table.n_tasks, dtype=bool)
    held_out[part] = True
    train, test = table.select(~held_out), table.select(held_out)
    train_z, standard = train.standardized(4.0, target=True)
    train_z = train_z.with_intercept()
    test_z = test.standardized_as(standard).with_intercept()
    test_z = test_z.select(test_z.counts > n_support)
    ways = dict(rivals(train_z, n_support, 0, compare))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ut.MAMLRegressorCV(n_support, effort="fast").fit(train.x, train.y, groups=train.groups)
    seconds = time.perf_counter() - start
    # The estimator standardises exactly as the table does: its rule acts on the same batches.
    ways["default"] = partial(model.model_.rules[0].adapt, model.model_.omega[0])
    losses = {name: np.zeros(test_z.n_tasks) for name in ways}
    for k in range(n_draws):
        for batch in test_z.draw_buckets(n_support, np.random.SeedSequence(99, spawn_key=(k,))):
            at = np.searchsorted(test_z.ids, batch.ids)
            for name, way in ways.items():
                losses[name][at] += task_losses(batch, way(batch)) / n_draws
    return losses, test_z.counts - n_support, seconds, model.strategy_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", help="names of tables; all with 20 tasks or more by default")
    parser.add_argument("--support", type=int, default=5)
    parser.add_argument("--draws", type=int, default=5, help="draws of support rows of each held-out task")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of the outer folds")
    parser.add_argument("--compare-up-to", type=int, default=500, help="tasks, beyond which MixedLM is left out")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    report = {}
    for name, table in tables(Path(options.data)).items():
        if table.n_tasks < 20 or (options.tables and name not in options.tables):
            continue
        n_support = min(options.support, max(1, int(np.median(table.counts)) // 2))
        compare = table.n_tasks <= options.compare_up_to
        for seed in options.seeds:
            runs = [one_fold(table, part, n_support, options.draws, compare) for part in folds(table.ids, 5, seed)]
            done = [way for way in runs[0][0] if all(way in run[0] for run in runs)]
            losses = np.array([np.concatenate([run[0][way] for run in runs]) for way in done])
            rows = np.concatenate([run[1] for run in runs]).astype(float)
            means = losses @ rows / rows.sum()
            ours = done.index("default")
            best = min((i for i in range(len(done)) if i != ours), key=lambda i: means[i])
            gap = losses[ours] - losses[best]
            gap_mean = float(rows @ gap / rows.sum())
            m = len(rows)
            error = float(np.sqrt(m / (m - 1) * ((rows * (gap - gap_mean)) ** 2).sum()) / rows.sum())
            report[f"{name}/{seed}"] = {
                "mse": dict(zip(done, means.tolist(), strict=True)),
                "best_rival": done[best],
                "difference": gap_mean,
                "standard_error": error,
                "fit_seconds": float(np.median([run[2] for run in runs])),
                "chosen": [run[3] for run in runs],
            }
            print(
                f"{name:12s} seed {seed}: default {means[ours]:.4f}, best rival {done[best]} {means[best]:.4f}, "
                f"difference {100 * gap_mean / means[best]:+.2f} % = {gap_mean / error:+.2f} standard errors; "
                f"fit {report[f'{name}/{seed}']['fit_seconds']:.1f} s; {', '.join(run[3] for run in runs)}",
                flush=True,
            )
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
