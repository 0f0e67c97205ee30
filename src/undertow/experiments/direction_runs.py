"""The runs of ``direction``: the outer problem solved exactly and by several outer loops, on the same draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from undertow._batch import TaskBatch
from undertow.experiments import network_runs
from undertow.kernel import KernelPath, kernel_path
from undertow.linear import rate_path
from undertow.problem import Design, MixedLinearRegression
from undertow.trials.conditional import adaptation_metric, unavoidable_loss
from undertow.trials.panel import Cell

# Step of plain gradient descent times lambda_max: well below 1, so that a few updates are like a ridge.
_STEP = 0.3
CHANGES = ("support", "query", "new_support", "new_query")


def linear(
    problem: MixedLinearRegression,
    design: Design,
    cell: Cell,
    rates: np.ndarray,
    adapt_rate: float,
    start_std: float,
    adam_step: float,
    limits: tuple[int, int, float, int, int],
    new_sizes: tuple[int, int],
) -> pa.Table:
    """One row for each arm, run and rate of mixed linear regression; see ``_rows`` for the columns.

    Arms: exact and descent, adam, descent_early, adam_early, each from zero and from a random start; and ridge, the
    exact solution from zero with the ridge that early stopping is compared with.
    limits: most updates of descent and of Adam, tolerance, and the updates after which each is stopped early.
    """
    from undertow.experiments import outer_loop

    most, adam_most, tolerance, early, adam_early = limits
    data = network_runs.draws(problem, design, new_sizes, cell)
    tasks, runs, k, p = data.tasks, cell.runs, len(rates), problem.n_features
    model = outer_loop.Linear(p)
    matrices = np.stack([outer_matrices(batch, rates)[0] for batch in tasks])
    steps = np.stack([outer_loop.descent_numbers(one, _STEP, momentum=False)[0] for one in matrices])
    stacked, stacked_new = outer_loop.stacked(tasks), outer_loop.stacked(data.new)
    weights: dict[str, np.ndarray] = {}
    converged: dict[str, np.ndarray] = {}
    exact: dict[str, np.ndarray] = {}
    for start in ("zero", "random"):
        starts = outer_loop.starts(outer_loop.Linear(p, start_std if start == "random" else 0.0), data.seeds)
        inits = np.asarray(starts, np.float64)
        exact[start] = np.stack([rate_path(t, rates, init=init).weights for t, init in zip(tasks, inits, strict=True)])
        weights[f"exact_{start}"] = exact[start]
        for method, step, cap, stop in (
            ("descent", steps, most, early),
            ("adam", adam_step, adam_most, adam_early),
        ):
            loops = outer_loop.loops_of(runs, rates, step)
            done = outer_loop.train_loops(model, method, stacked, starts, loops, cap, tolerance, stop)
            for name, found in ((f"{method}_{start}", done.params), (f"{method}_early_{start}", done.early)):
                weights[name] = np.asarray(found, np.float64).reshape(runs, k, p)
            converged[f"{method}_{start}"] = np.asarray(done.gradient_ratio) <= tolerance
    weights["ridge_zero"] = np.stack(
        [_ridge(batch, rates, 1 / (step * early)) for batch, step in zip(tasks, steps, strict=True)]
    )
    metric, floor = (of(problem, design.n_adapt or 1, adapt_rate) for of in (adaptation_metric, unavoidable_loss))
    tables, loops = [], outer_loop.loops_of(runs, rates, steps)
    for arm, found in weights.items():
        start = arm.rsplit("_", 1)[1]
        params = found.reshape(runs * k, p).astype(np.float32)
        losses, _ = outer_loop.losses_of(model, params, stacked, stacked_new, loops, np.float32(adapt_rate))
        columns = {name: np.asarray(value, np.float64) for name, value in losses.items()}
        # White inputs: the expected loss on a new task, given the weights, is known.
        columns["test_loss"] = (floor + metric * ((found - problem.mean_weights) ** 2).sum(axis=-1) / 2).ravel()
        size = np.linalg.norm(exact[start], axis=-1)
        columns["from_exact"] = (np.linalg.norm(found - exact[start], axis=-1) / size).ravel()
        near = weights["ridge_zero"]
        columns["from_ridge"] = (np.linalg.norm(found - near, axis=-1) / np.linalg.norm(near, axis=-1)).ravel()
        columns["converged"] = converged.get(arm, np.ones(runs * k, bool))
        tables.append(_rows(arm, cell, rates, rates, columns))
    return pa.concat_tables(tables)


def network(
    part: network_runs.Part, cell: Cell, adam_step: float, limits: tuple[int, int, float, int, int]
) -> pa.Table:
    """The same arms for the two-layer network; "exact" is the solution for its tangent kernel at its own start.

    The zero start is antisymmetric (f0 = 0 with random features), the random one is a random function.
    """
    from undertow.experiments import outer_loop

    most, adam_most, tolerance, early, adam_early = limits
    data = network_runs.draws(part.problem, part.design, part.new_sizes, cell)
    rates, adapt = np.array(part.train_rates) * part.unit, part.adapt_rate * part.unit
    runs, k = cell.runs, len(rates)
    tasks, new = outer_loop.stacked(data.tasks), outer_loop.stacked(data.new)
    tables, model = [], outer_loop.TwoLayer(part.problem.n_features, part.width)
    for start, antisymmetric in (("zero", True), ("random", False)):
        starts = outer_loop.starts(replace(model, antisymmetric=antisymmetric), data.seeds)
        exact: list[dict[str, np.ndarray]] = []
        values, numbers = [], []
        for run, (batch, test) in enumerate(zip(data.tasks, data.new, strict=True)):
            tangent = network_runs.Tangent.of(starts, run)
            path = kernel_path(tangent.kernel, batch, rates, f0=tangent.f0)
            adapted, loss = network_runs.kernel_values(path, test, adapt)
            exact.append({"test_loss": loss, **_kernel_losses(path, batch, test, rates)})
            values.append(adapted)
            numbers.append(outer_loop.descent_numbers(network_runs.hessians(path, rates), 0.7, momentum=True))
        kernel = np.stack(values)
        columns = {name: np.concatenate([one[name] for one in exact]) for name in exact[0]}
        columns |= {"from_exact": np.zeros(runs * k), "converged": np.ones(runs * k, bool)}
        tables.append(_rows(f"exact_{start}", cell, np.array(part.train_rates), rates, columns))
        steps, momentum = zip(*numbers, strict=True)
        for method, step, cap, stop in (("descent", steps, most, early), ("adam", adam_step, adam_most, adam_early)):
            loops = outer_loop.loops_of(runs, rates, step, momentum)
            done = outer_loop.train_loops(model, method, tasks, starts, loops, cap, tolerance, stop)
            ends = np.asarray(done.gradient_ratio) <= tolerance
            for arm, params, ok in ((method, done.params, ends), (f"{method}_early", done.early, np.ones_like(ends))):
                losses, seen = outer_loop.losses_of(model, params, tasks, new, loops, np.float32(adapt))
                columns = {name: np.asarray(value, np.float64) for name, value in losses.items()}
                adapted = np.asarray(seen, np.float64).reshape(kernel.shape)
                gap = np.sqrt(((adapted - kernel) ** 2).mean(axis=(2, 3)) / (kernel**2).mean(axis=(2, 3)))
                columns |= {"from_exact": gap.ravel(), "converged": ok}
                tables.append(_rows(f"{arm}_{start}", cell, np.array(part.train_rates), rates, columns))
    return pa.concat_tables(tables)


def outer_matrices(batch: TaskBatch, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hessians B'B / N of the linear outer problem, (k, p, p), and B'gamma / N, (k, p)."""
    n_t = batch.support_x.shape[1]
    cross = batch.query_x @ batch.support_x.swapaxes(-1, -2) / n_t
    inner, p = (cross @ batch.support_x).reshape(-1, batch.n_features), batch.n_features
    pulled = (cross @ batch.support_y[..., None]).ravel()
    rows = batch.query_x.reshape(-1, p) - rates[:, None, None] * inner
    targets = batch.query_y.ravel() - rates[:, None] * pulled
    n = rows.shape[1]
    return rows.swapaxes(1, 2) @ rows / n, (rows.swapaxes(1, 2) @ targets[..., None])[..., 0] / n


def _ridge(batch: TaskBatch, rates: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    hessian, right = outer_matrices(batch, rates)
    shifted = hessian + strengths[:, None, None] * np.eye(hessian.shape[-1])
    return np.linalg.solve(shifted, right[..., None])[..., 0]


def _kernel_losses(path: KernelPath, batch: TaskBatch, new: TaskBatch, rates: np.ndarray) -> dict[str, np.ndarray]:
    """Losses before and after a step at the train rate, of the kernel's solution, each (k,)."""
    out = {}
    for prefix, tasks in (("", batch), ("new_", new)):
        on_support = tasks._replace(query_x=tasks.support_x, query_y=tasks.support_y)
        for kind, where in (("support", on_support), ("query", tasks)):
            surface = path.evaluate(where)
            out[f"{prefix}{kind}_before"] = np.ravel(surface.loss(np.zeros(1)))
            out[f"{prefix}{kind}_after"] = np.diagonal(surface.loss(rates)).copy()
    return out


def _rows(arm: str, cell: Cell, rates: np.ndarray, raw: np.ndarray, columns: dict[str, Any]) -> pa.Table:
    """Columns: arm, run, train_rate, raw_rate, test_loss; for each of CHANGES its _before and _change (after - before);
    from_exact (distance from the exact solution of the same start, relative), from_ridge, converged."""
    k = len(rates)
    table: dict[str, Any] = {
        "arm": [arm] * (cell.runs * k),
        "run": np.repeat(np.arange(cell.first_run, cell.first_run + cell.runs), k),
        "train_rate": np.tile(rates, cell.runs),
        "raw_rate": np.tile(raw, cell.runs),
        "test_loss": columns["test_loss"],
    }
    for name in CHANGES:
        table[f"{name}_before"] = columns[f"{name}_before"]
        table[f"{name}_change"] = columns[f"{name}_after"] - columns[f"{name}_before"]
    table["from_exact"] = columns["from_exact"]
    table["from_ridge"] = columns.get("from_ridge", np.full(cell.runs * k, np.nan))
    table["converged"] = columns["converged"]
    return pa.table(table)
