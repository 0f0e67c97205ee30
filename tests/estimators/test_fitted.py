"""The fitted model as a value: what the estimators show is what it does, and nothing changes it."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from made import MODELS, table
from sklearn.base import clone

import undertow as ut
from undertow.estimators import FittedModel

X, Y, G = table(m=16, seed=8)
BOTH = np.c_[Y, 3 - X[:, 0] + 0.01 * Y**2]
WEIGHTS = np.random.default_rng(3).uniform(0.2, 3, len(X))


@pytest.fixture(scope="module", params=[(name, weighted) for name in MODELS for weighted in (False, True)])
def fitted(request):
    name, weighted = request.param
    weights = WEIGHTS if weighted else None
    model = clone(MODELS[name]).fit(X, BOTH, groups=G, sample_weight=weights)
    if name == "blend":
        assert model.strategy_ == "blend"
    return model, weights


def of_task(task, weights=None):
    """Rows, targets and weights of one task."""
    own = task == G
    return X[own], BOTH[own], None if weights is None else weights[own]


def test_the_model_adapts_as_the_estimator_does_and_stays_what_it_was(fitted):
    model, weights = fitted
    value = model.model_
    before = value.omega.copy(), value.rules, value.task_omega.copy()
    x, y, w = of_task(5, weights)
    new = value.adapt(value.rows(x, y, w))
    assert isinstance(new, FittedModel)
    shown = model.adapt(x, y, sample_weight=w)
    np.testing.assert_array_equal(new.omega, shown.model_.omega)
    coef, intercept = new.coefficients
    np.testing.assert_array_equal(coef, shown.coef_)
    np.testing.assert_array_equal(intercept, shown.intercept_)
    np.testing.assert_array_equal(new.predict(X), shown.predict(X))
    assert np.abs(new.omega - value.omega).max() > 1e-3
    assert new.task_omega is None
    assert value.rules is before[1]
    np.testing.assert_array_equal(value.omega, before[0])
    np.testing.assert_array_equal(value.task_omega, before[2])
    with pytest.raises(FrozenInstanceError):
        value.omega = new.omega


def test_weights_of_the_tasks_are_those_of_adapting_to_each_alone(fitted):
    model, weights = fitted
    value = model.model_
    for i in (0, 7, 15):
        x, y, w = of_task(value.task_ids[i], weights)
        alone = value.adapt(value.rows(x, y, w))
        np.testing.assert_allclose(value.task_omega[:, i], alone.omega, rtol=1e-9, atol=1e-12)
    again = replace(value, task_ids=np.array([0]), task_rows=None).with_tasks(
        value.rows(X, BOTH, weights, (value.task_ids, np.searchsorted(value.task_ids, G)))
    )
    np.testing.assert_array_equal(again.task_omega, value.task_omega)
    np.testing.assert_array_equal(again.task_ids, value.task_ids)


def test_predictions_are_products_with_the_task_or_common_weights(fitted):
    value = fitted[0].model_
    places = np.where(np.arange(len(X)) % 3 == 0, -1, np.searchsorted(value.task_ids, G))
    z = (X - X.mean(0)) / X.std(0) if fitted[1] is None else value.standard.features(X)[:, :3]
    z = np.c_[z.clip(-4, 4), np.ones(len(X))]
    theta = np.where((places < 0)[:, None, None], value.alone, value.task_omega.transpose(1, 0, 2)[places])
    standard = np.einsum("rd,rqd->rq", z, theta)
    expected = value.standard.target_centre + value.standard.target_spread * standard
    np.testing.assert_allclose(value.predict(X, places), expected, rtol=1e-9)
    common = value.standard.target_centre + value.standard.target_spread * (z @ value.alone.T)
    np.testing.assert_allclose(value.predict(X), common, rtol=1e-9)


def test_query_rows_are_predicted_by_weights_adapted_to_the_others(fitted):
    model, weights = fitted
    value = model.model_
    rows = value.rows(X, BOTH, weights, (value.task_ids, np.searchsorted(value.task_ids, G)))
    found, numbers = value.predict_query(rows, 5, seed=3)
    assert len(set(numbers)) == len(numbers) == len(X) - 5 * 16
    for task in (2, 9):
        own = np.flatnonzero(task == G)
        support = np.setdiff1d(own, numbers)
        assert len(support) == 5
        new = value.adapt(value.rows(X[support], BOTH[support], None if weights is None else weights[support]))
        here = np.flatnonzero(np.isin(numbers, own))
        np.testing.assert_allclose(found[here], new.predict(X[numbers[here]]), rtol=1e-9)


def test_a_blend_goes_on_with_further_rows_where_a_mean_of_weights_would_not():
    model = clone(MODELS["blend"]).fit(X, Y, groups=G).model_
    first, second = (model.rows(X[part], Y[part, None]) for part in (slice(0, 6), slice(6, 12)))
    once = model.adapt(first)
    twice = once.adapt(second)
    # Each part by itself, twice, and then the mean of the parts: what is common to all is in omega.
    rule, still = model.rules[0], model.omega[0] - model.rules[0].shares @ model.rules[0].starts
    parts = []
    for part, start in zip(rule.parts, rule.starts, strict=True):
        alone = replace(model, omega=start[None], rules=(part,))
        parts.append(alone.adapt(first).adapt(second).omega[0])
    np.testing.assert_allclose(twice.omega[0], still + rule.shares @ np.array(parts), rtol=1e-9)
    # A blend that began again at its old starting points would give the second rows the same say as the first.
    began_again = replace(once, rules=model.rules).adapt(second)
    assert np.abs(began_again.omega - twice.omega).max() > 1e-6


def test_what_a_user_is_to_be_warned_of_is_said_once_and_in_fit_only():
    with pytest.warns(UserWarning, match="adapt_rate") as caught:
        model = ut.MAMLRegressor(0.0, -0.1).fit(X, Y, groups=G)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    # Warnings are errors in this suite: none may come from here on.
    model.adapt(X[:4], Y[:4]).predict(X)
    model.score(X, Y, groups=G)
    small = np.where(np.arange(len(G)) < 2, 99, G)
    with pytest.warns(UserWarning, match="1 of 17 tasks") as caught:
        clone(MODELS["blend"]).fit(X, Y, groups=small)
    assert len(caught) == 1
    assert caught[0].filename == __file__
