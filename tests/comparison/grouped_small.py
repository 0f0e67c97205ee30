"""A small grouped table for the tests of comparison."""

import numpy as np

from undertow.comparison.cell import Plan, training_of
from undertow.tasks import GroupedTable

PLAN = Plan(n_support=3, n_folds=4, n_draws=2, clip=4.0, seed=7, weighting="rows")


def small(m=12, p=2, seed=0, task_std=0.7, noise=0.5):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(m), rng.integers(6, 11, m))
    x = rng.standard_normal((len(codes), p)) * [3.0, 0.2, 1.0, 5.0, 1.0, 1.0][:p] + 2
    weights = 1 + task_std * rng.standard_normal((m, p + 1))
    y = 50 + 4 * ((x * weights[codes, :p]).sum(axis=1) + weights[codes, p] + noise * rng.standard_normal(len(codes)))
    return GroupedTable.from_arrays(x, y, np.array([f"task {c:02d}" for c in codes]))


def cells_by_hand(table, plan, repeat, predict):
    """Losses (m,) of one repeat, task by task and row by row, from ``predict(training, support_x, support_y, x)``."""
    losses = np.full(table.n_tasks, np.nan)
    for fold in range(plan.n_folds):
        training, test, part = training_of(table, plan, repeat, fold)
        assert not set(training.raw.ids) & set(test.ids)
        fitted = predict(training)
        for number, task in zip(part, test.ids, strict=True):
            one = test.select(test.ids == task)
            errors = []
            for k in range(plan.n_draws):
                key = (k,) if repeat == 0 else (1 << 16, repeat, k)
                batch = one.draw(plan.n_support, np.random.SeedSequence(plan.seed, spawn_key=key))
                guess = fitted(batch.support_x[0], batch.support_y[0], batch.query_x[0])
                errors.append(np.mean((guess - batch.query_y[0]) ** 2))
            losses[number] = np.mean(errors) / table.y.var()
    return losses


def standardised(training):
    """Return raw rows -> standardised with a 1, raw targets -> standardised, and the way back, from plain means."""
    x, y = training.raw.x, training.raw.y
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)

    def rows(raw):
        return np.column_stack([np.clip((raw - centre) / spread, -4, 4), np.ones(len(raw))])

    return rows, lambda raw: (raw - y.mean()) / y.std(), lambda z: z * y.std() + y.mean()
