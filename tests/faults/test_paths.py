"""Rate paths of small random problems against least squares on stacked rows: the same, or said to be poor."""

from collections import Counter

import numpy as np
import pytest
import stacked
from faulty import seeds, times

import undertow as ut

RATES = [-np.inf, -3.0, -0.5, 0.0, 0.2, 1.0, 4.0, np.inf]


def odd_problem(rng):
    """Tasks of few rows and features; half of them with something odd."""
    p, m, n_t, n_v = (int(rng.integers(1, most)) for most in (8, 7, 9, 7))
    problem = ut.MixedLinearRegression(p, float(rng.uniform(0, 2)), float(rng.uniform(0, 2)), rng.standard_normal(p))
    tasks = problem.sample(ut.Design(m, n_t, n_v), int(rng.integers(2**31)))
    support, query = tasks.support_x.copy(), tasks.query_x.copy()
    kind = rng.integers(0, 12)
    if kind == 0:
        support[..., -1], query[..., -1] = support[..., 0], query[..., 0]
    elif kind == 1:
        support[0] = 0
    elif kind == 2:
        support[..., 0], query[..., 0] = 1, 1
    elif kind == 3:
        query[:] = query[:1, :1]
    elif kind == 4:
        scale = 10.0 ** rng.integers(-3, 4)
        support, query = support * scale, query * scale
    tasks = tasks._replace(support_x=support, query_x=query)
    if kind == 5 and n_t > 2:
        tasks = stacked.ragged(tasks, int(rng.integers(2**31)))
    init = rng.standard_normal(p) if rng.random() < 0.5 else None
    options = {"steps": int(rng.integers(1, 4)), "ridge": float(rng.choice([0.0, 0.0, 1e-3, 1.0])), "init": init}
    return tasks, options


def outcome(seed):
    """How the path of a random problem stands beside brute force at its worst rate."""
    rng = np.random.default_rng(seed)
    tasks, options = odd_problem(rng)
    path = ut.rate_path(tasks, RATES, **options)
    names, rows = set(), np.linalg.norm(stacked.outer_rows(tasks, 0.0, 1)[0])
    for i, rate in enumerate(RATES):
        names.add(str(path.outcome[i]))
        matrix, target = stacked.outer_rows(tasks, rate, options["steps"])
        # What columns that are twice there leave of a singular value is rounding: of rows, which a rate may take away.
        shrunk = rows / (np.linalg.norm(matrix) + 1e-300) if np.isfinite(rate) else 0.0
        truth = stacked.solve(tasks, rate, rcond=max(1e-11, 1e-15 * shrunk), **options)
        if not np.isfinite(path.weights[i]).all():
            return f"seed {seed}: weights that are not finite at {rate}"
        if path.outcome[i] == "ill_conditioned":
            continue
        # Fits are compared, and weights as far as their condition number lets them be.
        size = np.linalg.norm(target) + np.linalg.norm(matrix) * np.linalg.norm(truth) + 1e-300
        off = np.linalg.norm(matrix @ (path.weights[i] - truth)) / size
        apart = np.linalg.norm(path.weights[i] - truth) / (np.linalg.norm(truth) + 1e-300)
        if off > 1e-8 or (path.condition[i] < 1e5 and apart > 1e-8):
            return (
                f"seed {seed}: off by {off:.1g} and {apart:.1g} at {rate} ({path.outcome[i]}, {path.condition[i]:.1g})"
            )
    return "some ill-conditioned, others the same" if "ill_conditioned" in names else "the same"


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("n", [150, pytest.param(times(1000), marks=pytest.mark.long)])
def test_paths_are_those_of_least_squares_on_stacked_rows(n, counted):
    found = Counter(outcome(seed) for seed in seeds(n))
    assert not found.keys() - {"the same", "some ill-conditioned, others the same"}, "\n".join(found)
    assert found["the same"] > 0.7 * n
    counted("paths of small random problems", **found)


def test_columns_that_are_twice_there_stay_one_where_a_rate_leaves_a_millionth_of_them():
    assert outcome(21000672) == "the same"
