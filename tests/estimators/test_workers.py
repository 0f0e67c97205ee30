"""Several workers give the digits of one, in every estimator."""

from dataclasses import replace

import numpy as np
import pytest

import undertow as ut
from undertow.choice import held_out
from undertow.choice.limits import LIMITS
from undertow.estimators import training
from undertow.estimators.training import searched
from undertow.linear.rules import ProximalRule
from undertow.mixed.model import MixedRule


def table(n_targets=1, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(24), rng.integers(5, 12, 24))
    x = rng.standard_normal((len(groups), 3))
    weights = rng.standard_normal((24, 3, n_targets))
    y = np.einsum("rp,rpq->rq", x, weights[groups]) + rng.standard_normal((len(groups), n_targets))
    return x, y[:, 0] if n_targets == 1 else y, groups


def same(one, two):
    np.testing.assert_array_equal(one.coef_, two.coef_)
    np.testing.assert_array_equal(one.model_.task_omega, two.model_.task_omega)
    assert one.scale_ == two.scale_


def test_a_search_finds_the_same_digits(monkeypatch):
    # Small pieces, so that there is something to share.
    monkeypatch.setattr(held_out, "_TASKS", 2)
    x, y, groups = table(2)
    one, two = (ut.MAMLRegressorCV(3, cv=3, n_jobs=n).fit(x, y, groups=groups) for n in (None, 2))
    same(one, two)
    assert one.choice_.to_dict() == two.choice_.to_dict()
    np.testing.assert_array_equal(one.held_out_.mse, two.held_out_.mse)


def test_a_search_of_a_large_table_finds_the_same_digits(monkeypatch):
    small = replace(LIMITS, large_tasks=4, large_work=1.0, large_tested_tasks=10, ratio_tasks=12)
    monkeypatch.setattr(
        "undertow.estimators.parameters.searched",
        lambda everything, rows, settings: searched(everything, rows, replace(settings, limits=small)),
    )
    x, y, groups = table()
    one, two = (ut.MAMLRegressorCV(3, cv=3, n_jobs=n).fit(x, y, groups=groups) for n in (None, 2))
    same(one, two)
    assert one.choice_.to_dict() == two.choice_.to_dict()


def test_a_classifier_finds_the_same_digits():
    x, y, groups = table()
    same(
        *(
            ut.MAMLClassifierCV(3, cv=3, rules=("gradient", "proximal"), n_jobs=n).fit(x, y > 0, groups=groups)
            for n in (None, 2)
        )
    )


@pytest.mark.parametrize("rule", [None, ProximalRule(2.0, train_ratio=2.0), MixedRule("diagonal")])
def test_given_settings_train_the_same_digits(rule, monkeypatch):
    x, y, groups = table(2)
    settings = {"n_support": 3, "rule": rule} | ({} if isinstance(rule, MixedRule) else {"n_draws": 2})
    small = ut.MAMLRegressor(**settings).fit(x, y, groups=groups)
    # As if the draws of the table were too many to be held.
    monkeypatch.setattr(training, "FEW_NUMBERS", 0)
    one, two = (ut.MAMLRegressor(**settings, n_jobs=n).fit(x, y, groups=groups) for n in (1, 2))
    same(one, two)
    np.testing.assert_allclose(one.coef_, small.coef_, rtol=1e-9)
    assert one.scale_ == pytest.approx(small.scale_)


@pytest.mark.parametrize("n_jobs", [0, 1.5, "two"])
def test_a_number_of_workers_that_is_none_is_named(n_jobs):
    x, y, groups = table()
    for estimator in (ut.MAMLRegressor(n_support=3, n_jobs=n_jobs), ut.MAMLRegressorCV(3, n_jobs=n_jobs)):
        with pytest.raises(ut.InputError, match=f"n_jobs={n_jobs!r}"):
            estimator.fit(x, y, groups=groups)
