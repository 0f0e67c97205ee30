"""Tables that the tests of this folder share."""

import numpy as np

import undertow as ut
from undertow.tasks import GroupedTable
from undertow.tasks.rows import TaskRows, sort_by_task
from undertow.tasks.standard import Standard


def table(m=24, p=3, seed=0, noise=0.5, task_std=1.0, low=8, high=15):
    """X, y, groups of m tasks with shuffled rows; features have offsets and units of their own."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(low, high, m)
    groups = rng.permutation(np.repeat(np.arange(m), counts))
    x = rng.standard_normal((len(groups), p))
    weights = np.linspace(1, -1, p) + task_std / np.sqrt(p) * rng.standard_normal((m, p))
    y = (x * weights[groups]).sum(1) + task_std * rng.standard_normal(m)[groups] + noise * rng.standard_normal(len(x))
    return 2.0 + x * np.arange(1, p + 1), 30 + 5 * y, groups


def by_hand(x, y, groups, clip=4.0):
    """The same table standardised and with an intercept, by other code, and its Standard."""
    data, standard = GroupedTable.from_arrays(x, y, groups).standardized(clip, target=True)
    return data.with_intercept(), standard


def draws(data, n_support, n_draws, seed=0):
    """Draws of support and query rows, by other code."""
    return [
        batch
        for k in range(n_draws)
        for batch in data.draw_buckets(n_support, np.random.SeedSequence(seed, spawn_key=(k,)))
    ]


def task_rows(x, y, groups, weights=None):
    """The estimators' own rows."""
    y = y.reshape(len(x), -1)
    standard = Standard.fit(x, y, weights, features=True, targets=True, intercept=True, clip=4.0)
    order, offsets = sort_by_task(np.unique(groups, return_inverse=True)[1])
    own = None if weights is None else weights[order]
    return TaskRows(x, standard, standard.targets(y[order]), own, offsets, np.unique(groups), order)


def cv(**settings):
    """A quick search."""
    return ut.MAMLRegressorCV(**({"n_draws": 2, "n_rates": 21, "ridges": (1e-4, 1e-2)} | settings))
