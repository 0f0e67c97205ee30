"""Mixed models and ridge adaptation on real grouped tables: error on tasks that the fit has not seen.

70/30 splits by task, ``--support`` support rows of each test task (fewer where its tasks are short), the rest are
query rows. Errors are mean squared errors over query rows in units of the training tasks' target variance. Features
are standardised on the training tasks and clipped at 4; a constant feature is added.

    OPENBLAS_NUM_THREADS=1 python benchmarks/mixed_on_tables.py [--data ../shared/data] [--splits 10] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from undertow import datasets
from undertow.linear.proximal_step import RATIOS, RidgeMoments, ridge_adapt, sum_ridge_moments
from undertow.mixed.model import fit_mixed, shrunk_fit
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable, folds, read_table, split_tasks

METHODS = (
    "pooled",
    "ridge",
    "intercept",
    "isotropic",
    "diagonal",
    "full",
    "half",
    "mixedlm",
    "mixedlm_slopes",
)


def tables(folder: Path) -> dict[str, GroupedTable]:
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        found[path.stem] = read_table(path, task="task", target="target")
    if not found:
        for name in ("gapminder", "mathachieve", "parkinsons", "radon"):
            found[name] = read_table(getattr(datasets, f"load_{name}")())
    return found


def error(batches, adapt) -> float:
    total, rows = 0.0, 0
    for batch in batches:
        residual = (batch.query_x @ adapt(batch)[..., None])[..., 0] - batch.query_y
        if batch.query_mask is not None:
            residual = np.where(batch.query_mask, residual, 0.0)
        total, rows = total + float((residual**2).sum()), rows + batch.n_query_rows
    return total / rows


def ridge_towards_pooled(train: GroupedTable, n_support: int, seed: int):
    """Pooled ridge regression, then the proximal rule; ridge and ratio by cross-validation over tasks."""
    ridges = np.geomspace(1e-6, 1e-1, 6)
    usable = train.select(train.counts > n_support)
    parts = [
        RidgeMoments.from_tasks(usable.select(part).draw_buckets(n_support, seed), RATIOS)
        for part in folds(usable.ids, 5, seed)
    ]
    pooled = int(np.flatnonzero(np.isinf(parts[0].ratios))[0])
    loss = np.zeros((len(RATIOS), len(ridges)))
    for i, part in enumerate(parts):
        weights = sum_ridge_moments(p for j, p in enumerate(parts) if j != i).solve(ridges).weights[pooled]
        loss += part.weight * part.loss(weights)
    k, r = np.unravel_index(int(loss.argmin()), loss.shape)
    x, y = train.x, train.y
    omega = np.linalg.solve(x.T @ x + ridges[r] * (x**2).sum() / x.shape[1] * np.eye(x.shape[1]), x.T @ y)
    return lambda batch: ridge_adapt(omega, batch, RATIOS[k])


def statsmodels_fit(train: GroupedTable, slopes: bool):
    import statsmodels.api as sm

    free = train.x if slopes else train.x[:, -1:]
    # Constant within every task, or collinear: fixed effects of full rank, the last column (the intercept) among them.
    kept = []
    for j in reversed(range(train.n_features)):
        if np.linalg.matrix_rank(train.x[:, [*kept, j]], tol=1e-6 * np.sqrt(train.n_rows)) > len(kept):
            kept.append(j)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = None
        for optimiser in ("bfgs", "powell"):
            try:
                fit = sm.MixedLM(train.y, train.x[:, kept], train.groups, exog_re=free).fit(method=[optimiser])
            except (np.linalg.LinAlgError, ValueError):
                continue
            if np.isfinite(fit.llf) and (best is None or fit.llf > best.llf):
                best = fit
    if best is None:
        return None
    omega = np.zeros(train.n_features)
    omega[kept] = best.fe_params
    covariance = np.zeros((train.n_features,) * 2)
    columns = np.arange(train.n_features) if slopes else [train.n_features - 1]
    covariance[np.ix_(columns, columns)] = np.asarray(best.cov_re)
    return lambda batch: ridge_adapt(omega, batch, best.scale, covariance)


def one_split(table: GroupedTable, n_support: int, seed: int, methods) -> dict[str, tuple[float, float, str]]:
    train, test = split_tasks(table, 0.3, seed)
    train, standard = train.standardized(target=True)
    train = train.with_intercept()
    test = test.standardized_as(standard).with_intercept()
    test = test.select(test.counts > n_support)
    batches = test.draw_buckets(n_support, seed)
    stats = TaskStatistics.from_tasks(train)
    results = {}
    for name in methods:
        start, note = time.perf_counter(), ""
        if name == "pooled":
            omega = np.linalg.lstsq(train.x, train.y, rcond=None)[0]
            adapt = partial(ridge_adapt, omega, ratio=np.inf)
        elif name == "ridge":
            adapt = ridge_towards_pooled(train, n_support, seed)
        elif name == "half":
            adapt = shrunk_fit(stats, fit_mixed(stats, "full"), fit_mixed(stats, "diagonal"), 0.5).adapt
        elif name.startswith("mixedlm"):
            adapt = statsmodels_fit(train, name.endswith("slopes"))
            if adapt is None:
                continue
        else:
            fit = fit_mixed(stats, name)
            adapt, note = fit.adapt, "" if fit.converged else "not converged"
        results[name] = (error(batches, adapt), time.perf_counter() - start, note)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder of Parquet tables with columns task, target")
    parser.add_argument("--tables", nargs="*", help="names of tables; all by default")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--support", type=int, default=5)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--slopes-up-to", type=int, default=5, help="features, beyond which MixedLM gets no slopes")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    report = {}
    for name, table in tables(Path(options.data)).items():
        if options.tables and name not in options.tables:
            continue
        n_support = min(options.support, max(1, int(np.median(table.counts)) // 2))
        methods = [m for m in options.methods if m != "mixedlm_slopes" or table.n_features + 1 <= options.slopes_up_to]
        methods = [m for m in methods if m not in ("full", "half") or table.n_features <= 32]
        runs = [one_split(table, n_support, seed, methods) for seed in range(options.splits)]
        done = [m for m in methods if all(m in run for run in runs)]
        values = np.array([[run[m][0] for m in done] for run in runs])
        means = values.mean(axis=0)
        line = {
            m: {"mse": float(v), "seconds": float(np.median([run[m][1] for run in runs]))}
            for m, v in zip(done, means, strict=True)
        }
        text = "  ".join(f"{m} {v:.4f}" for m, v in zip(done, means, strict=True))
        print(f"{name} ({table.n_tasks} tasks, p = {table.n_features + 1}, support {n_support}): {text}", flush=True)
        print("    seconds: " + "  ".join(f"{m} {line[m]['seconds']:.2f}" for m in done), flush=True)
        report[name] = line
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
