"""Parameters: what cannot be used is refused, and so is what would do nothing; the message names the argument."""

import math

import numpy as np
import pandas as pd
import pytest
from made import table

import undertow as ut

X, Y, G = table()
GRADIENT, PROXIMAL, MIXED = ut.GradientRule(0.2), ut.ProximalRule(1.0), ut.MixedRule()


def refused(estimator):
    """The error of a fit that must not begin."""
    with pytest.raises(ut.InputError) as caught:
        estimator.fit(X, Y, groups=G)
    assert not hasattr(estimator, "coef_")
    return caught.value


@pytest.mark.wrong_type
@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"n_support": 0}, "n_support"),
        ({"ridge": -1.0}, "ridge"),
        ({"steps": 0}, "steps"),
        ({"rate_unit": "natural"}, "rate_unit"),
        ({"rule": "mixed"}, "rule"),
        ({"rule": ut.ProximalRule}, "rule"),
        ({"rule": ut.GradientRule(float("nan"))}, "rate"),
        ({"rule": ut.GradientRule(0.1, 0)}, "steps"),
        ({"rule": ut.MixedRule("banded")}, "structure"),
        ({"rule": ut.MixedRule(method="bayes")}, "method"),
        ({"rule": ut.MixedRule("intercept"), "fit_intercept": False}, "structure"),
        ({"train_rate": float("nan")}, "train_rate"),
        ({"train_rate": [0.1, 0.2]}, "train_rate"),
        ({"adapt_rate": float("inf")}, "adapt_rate"),
        ({"clip": 0.0}, "clip"),
        ({"on_small": "keep"}, "on_small"),
        ({"n_draws": 0}, "n_draws"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_parameters_that_cannot_be_used(settings, argument):
    error = refused(ut.MAMLRegressor(**settings))
    assert error.argument == argument
    assert error.rule


@pytest.mark.parametrize(
    ("field", "value"), [("ratio", math.nan), ("train_ratio", -1.0), ("train_ratio", math.nan), ("reach", -1.0)]
)
def test_ratios_that_cannot_be_used(field, value):
    settings = {"ratio": 1.0} | {field: value}
    assert refused(ut.MAMLRegressor(rule=ut.ProximalRule(**settings))).argument


@pytest.mark.wrong_type
@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"cv": 1}, "cv"),
        ({"cv": 2}, "cv"),
        ({"cv": 2.5}, "cv"),
        ({"rules": ["gradient", "sgd"]}, "rules"),
        ({"rules": "ridge"}, "rules"),
        ({"rules": []}, "rules"),
        ({"blend": "yes"}, "blend"),
        ({"n_rates": 10}, "n_rates"),
        ({"n_draws": 0}, "n_draws"),
        ({"ridges": [1e-3, -1]}, "ridges"),
        ({"steps": (1, 0)}, "steps"),
        ({"level": 1.5}, "level"),
        ({"standardize": False, "clip": 3.0}, "clip"),
    ],
)
def test_search_parameters_that_cannot_be_used(settings, argument):
    error = refused(ut.MAMLRegressorCV(**settings))
    assert error.argument == argument
    assert error.rule


OTHER = {
    "train_rate": 0.3,
    "adapt_rate": 0.7,
    "steps": 4,
    "rate_unit": "raw",
    "ridge": 9.0,
    "n_draws": 3,
    "clip": 2.0,
    "standardize": False,
}


@pytest.mark.parametrize("make", [ut.MAMLRegressor, ut.MAMLClassifier])
@pytest.mark.parametrize("rule", [None, GRADIENT, PROXIMAL, MIXED], ids=["rates", "gradient", "proximal", "mixed"])
def test_a_parameter_changes_the_fit_or_is_refused(rule, make):
    """No parameter is taken in silence: whatever is not refused moves the weights, common or adapted."""
    targets = Y if make is ut.MAMLRegressor else np.where(np.median(Y) < Y, "yes", "no")

    # At rate 0 its unit says nothing.
    start = {"train_rate": 0.2} if rule is None or isinstance(rule, ut.GradientRule) else {}

    def weights(**settings):
        model = make(rule=rule, **start | settings)
        new = model.fit(X, targets, groups=G).adapt(X[:5], targets[:5])
        return np.concatenate([model.model_.omega[0], new.model_.omega[0]])

    same, idle = weights(), []
    np.testing.assert_array_equal(same, weights())
    for name, value in OTHER.items():
        try:
            moved = weights(**{name: value})
        except ut.InputError as error:
            idle.append((error.argument, error.value))
        else:
            assert np.abs(moved - same).max() > 1e-9, name
    gradient = {"adapt_rate", "steps"}
    expected = {
        type(None): set(),
        ut.GradientRule: gradient,
        ut.ProximalRule: {"train_rate", "rate_unit"} | gradient,
        ut.MixedRule: {"train_rate", "rate_unit", "ridge", "n_draws"} | gradient,
    }
    assert set(idle) == {(name, OTHER[name]) for name in expected[type(rule)]}
    with pytest.raises(ut.InputError) as caught:
        weights(standardize=False, clip=2.0)
    assert caught.value.argument == "clip"


def test_defaults_may_be_written_out():
    plain = ut.MAMLRegressor(rule=MIXED).fit(X, Y, groups=G)
    written = ut.MAMLRegressor(0.0, 0.1, 5, 1e-3, 1, "spectral", rule=MIXED, n_draws=None).fit(X, Y, groups=G)
    np.testing.assert_array_equal(plain.coef_, written.coef_)


def test_a_proximal_rule_of_wrong_size_is_refused():
    refused(ut.MAMLRegressor(rule=ut.ProximalRule(1.0, np.ones(7))))


def test_random_slopes_by_name_or_number_are_those_of_the_mixed_models():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 8), pd.DataFrame(rng.standard_normal((240, 3)), columns=["a", "b", "c"])
    y = x["a"] * (1 + rng.standard_normal(30)[g]) + rng.standard_normal(30)[g] + 0.5 * rng.standard_normal(240)
    options = {"n_support": 3, "cv": 3, "rules": "mixed", "n_draws": 1, "effort": "fast", "blend": False}
    model = ut.MAMLRegressorCV(random_slopes=["a"], **options).fit(x, y, groups=g)
    same = ut.MAMLRegressorCV(random_slopes=[0], **options).fit(x, y, groups=g)
    np.testing.assert_array_equal(model.task_coef_, same.task_coef_)
    assert model.task_coef_[:, 1:].std(axis=0).max() < 1e-9
    assert model.task_coef_[:, 0].std() > 0.5
    rule = ut.MixedRule("full", slopes=["a"])
    assert ut.MAMLRegressor(rule=rule).fit(x, y, groups=g).task_coef_[:, 1].std() < 1e-9
    for wrong in ("a", ["d"], [3], [-1]):
        with pytest.raises(ut.InputError, match="random_slopes"):
            ut.MAMLRegressorCV(random_slopes=wrong, **options).fit(x, y, groups=g)
