"""The same numbers from threads at once, from any order of hashes, and from rows and tasks in another order."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made import table

import undertow as ut

QUICK = {"n_support": 3, "cv": 3, "n_draws": 1, "n_rates": 21}


def models():
    return [
        ut.MAMLRegressor(-0.3, 0.4, n_support=3),
        ut.MAMLRegressor(rule=ut.MixedRule("full")),
        ut.MAMLRegressor(rule=ut.ProximalRule(2.0, train_ratio=1.0)),
        ut.MAMLRegressorCV(**QUICK),
    ]


def numbers(which, seed):
    """All digits that a model predicts and has chosen by."""
    x, y, groups = table(m=14, p=3, seed=seed)
    model = models()[which].fit(x, y, groups=groups)
    choice = getattr(model, "choice_", None)
    return model.predict(x, groups).tobytes(), model.coef_.tobytes(), repr(choice and choice.to_dict())


def test_threads_that_fit_at_once_give_the_same_numbers():
    asked = [(which, seed) for which, seed in ((0, 0), (1, 0), (2, 0), (3, 0), (3, 1))]
    alone = [numbers(*one) for one in asked]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda one: numbers(*one), asked + asked[::-1]))
    assert together == alone + alone[::-1]


def test_threads_that_ask_theory_at_once_give_the_same_numbers():
    problem = ut.MixedLinearRegression(9, 1.0, 1.0)
    designs = [ut.Design(m, n_t, 4, 7) for m, n_t in ((2, 3), (5, 5))]
    rates = np.linspace(-2, 2, 9)

    def losses(design):
        return ut.theory.expected_loss(problem, design, rates, 0.2).tobytes()

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(losses, designs * 2))
    assert together == [losses(one) for one in designs] * 2


HASHED = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_repeatable import numbers, models
print(hashlib.sha256(repr([numbers(which, 0) for which in range(len(models()))]).encode()).hexdigest())
"""


@pytest.mark.long
def test_the_seed_of_hashes_changes_no_digit():
    found = set()
    for seed in ("0", "1", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", HASHED, os.path.dirname(__file__)],
            capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("rule", [ut.MixedRule("full"), ut.MixedRule("intercept", method="ml")])
def test_rows_in_another_order_give_the_same_mixed_model(rule):
    x, y, groups = table(m=20, p=3)
    order = np.random.default_rng(0).permutation(len(y))
    one = ut.MAMLRegressor(rule=rule).fit(x, y, groups=groups)
    other = ut.MAMLRegressor(rule=rule).fit(x[order], y[order], groups=groups[order])
    np.testing.assert_allclose(other.predict(x, groups), one.predict(x, groups), rtol=0, atol=1e-10 * y.std())


def test_tasks_in_another_order_give_the_same_path():
    problem = ut.MixedLinearRegression(5, 0.5, 1.0)
    tasks = problem.sample(ut.Design(12, 7, 4), 0)
    order = np.random.default_rng(0).permutation(12)
    parts = {name: getattr(tasks, name)[order] for name in ("support_x", "support_y", "query_x", "query_y")}
    rates = [-np.inf, -1.0, 0.0, 0.3, 2.0]
    one, other = ut.rate_path(tasks, rates), ut.rate_path(tasks._replace(**parts), rates)
    np.testing.assert_allclose(other.weights, one.weights, rtol=1e-9, atol=1e-9 * np.abs(one.weights).max())


def test_names_of_tasks_count_by_their_order_alone():
    x, y, groups = table(m=14, p=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        one = ut.MAMLRegressorCV(**QUICK).fit(x, y, groups=groups)
        names = np.array([f"task {one:03d}" for one in range(14)])[np.unique(groups, return_inverse=True)[1]]
        other = ut.MAMLRegressorCV(**QUICK).fit(x, y, groups=names)
    assert other.predict(x, names).tobytes() == one.predict(x, groups).tobytes()
