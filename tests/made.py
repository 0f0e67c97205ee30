"""Tables, rows, draws and plans that the tests of the choice and of the estimators share."""

import numpy as np
from stacked import outer_rows, task

import undertow as ut
from undertow.choice.limits import LIMITS
from undertow.choice.plan import Plan
from undertow.linear.rules import BlendRule, GradientRule
from undertow.tasks import GroupedTable, folds
from undertow.tasks.by_task import sort_by_task
from undertow.tasks.rows import TaskRows
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


def plan_of(x, y, groups, n_folds=4, n_support=4, n_draws=2, limits=LIMITS):
    """A plan of a search, its draws those of ``draws``, in which each row counts once."""
    rows = task_rows(x, y, groups)
    return Plan(rows, rows, folds(rows.ids, n_folds, 0), n_support, n_draws, 0, limits, weighting="rows")


def outer_problem(batches, rate, steps=1):
    """B and gamma of many batches, by brute force."""
    parts = [outer_rows(batch, rate, steps) for batch in batches]
    return tuple(np.concatenate(rows) for rows in zip(*parts, strict=True))


def least_squares(matrix, target, ridge):
    """omega at a ridge relative to tr(B^T B) / p, by lstsq on augmented rows."""
    p = matrix.shape[1]
    rows = np.sqrt(ridge * (matrix**2).sum() / p) * np.eye(p)
    return np.linalg.lstsq(np.concatenate([matrix, rows]), np.concatenate([target, np.zeros(p)]), rcond=None)[0]


def theta_by_hand(rule, omega, x, y):
    """Adapted weights of one task from dense formulas; of a blend, without what its parts leave in omega."""
    if isinstance(rule, BlendRule):
        each = zip(rule.parts, rule.shares, rule.starts, strict=True)
        return sum(share * theta_by_hand(part, start, x, y) for part, share, start in each)
    if isinstance(rule, GradientRule):
        for _ in range(rule.steps):
            omega = omega - rule.rate * x.T @ (x @ omega - y) / len(x)
        return omega
    if np.isinf(rule.ratio):
        return omega
    c = np.eye(x.shape[1]) if rule.covariance is None else rule.covariance
    c = np.diag(c) if c.ndim == 1 else c
    return omega + c @ x.T @ np.linalg.solve(x @ c @ x.T + rule.ratio * np.eye(len(x)), y - x @ omega)


def errors_by_hand(batches, omega, rule):
    """Errors of each task's query rows in all batches, by task."""
    found = {}
    for batch in batches:
        for i, name in enumerate(batch.ids):
            x_t, y_t, x_v, y_v = task(batch, i)
            found.setdefault(name, []).append(x_v @ theta_by_hand(rule, omega, x_t, y_t) - y_v)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def cv(**settings):
    """A quick search."""
    return ut.MAMLRegressorCV(**({"n_draws": 2, "n_rates": 21, "ridges": (1e-4, 1e-2)} | settings))


# An estimator for each kind of rule.
MODELS = {
    "rates": ut.MAMLRegressor(-0.3, 0.4, steps=2),
    "proximal": ut.MAMLRegressor(rule=ut.ProximalRule(2.0)),
    "mixed": ut.MAMLRegressor(rule=ut.MixedRule("full")),
    "blend": cv(ridges=(1e-3,), n_rates=11, n_draws=1),
}
