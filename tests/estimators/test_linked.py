"""Rules of two values and of counts: adaptation, means of new targets, intervals, summary and files."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

import undertow as ut
from undertow.estimators import load, save
from undertow.mixed import fit_generalised
from undertow.mixed.laplace import LinkRows

BOTH = pytest.mark.parametrize("family", ["binomial", "poisson"])
GRID = np.linspace(-7, 7, 1401)
SHARES = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()


def draw(family, n_tasks=60, n=12, spread=0.9, seed=0):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_tasks), n)
    x = rng.normal(3, 2, (n_tasks * n, 2))
    eta = 0.4 * (x[:, 0] - 3) - 0.2 + spread * rng.standard_normal(n_tasks)[group]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else (rng.random(len(eta)) < expit(eta)).astype(int)
    return x, y.astype(float), group


def fitted(family, *, classes=False, structure="intercept", **options) -> Any:
    x, y, group = draw(family)
    cls = ut.MAMLClassifier if classes else ut.MAMLRegressor
    rule = ut.MixedRule(structure, family=family)
    return cls(rule=rule, **options).fit(x, np.where(y > 0, "yes", "no") if classes else y, groups=group)


def mean_of(family, eta):
    return np.exp(eta) if family == "poisson" else expit(eta)


@BOTH
def test_a_new_task_is_expected_to_have_the_mean_over_all_tasks(family):
    model = fitted(family)
    x = draw(family)[0][:7]
    eta = x @ model.coef_ + model.intercept_
    spread = model.summary().coefficients[-1].task_std
    assert spread is not None
    assert spread > 0.5
    expected = mean_of(family, eta[:, None] + spread * GRID) @ SHARES
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6)
    assert not np.allclose(model.predict(x), mean_of(family, eta), rtol=0.05)


@BOTH
def test_coefficients_are_those_of_a_fit_to_the_raw_columns(family):
    x, y, group = draw(family)
    rows = LinkRows(np.column_stack([x, np.ones(len(x))]), y, np.arange(0, len(y) + 1, 12), np.ones(len(y)))
    raw = fit_generalised(rows, family=family, mean_scale=np.inf)
    model = ut.MAMLRegressor(rule=ut.MixedRule("intercept", mean_scale=np.inf, family=family)).fit(x, y, groups=group)
    np.testing.assert_allclose([*model.coef_, model.intercept_], raw.mean, atol=1e-4)
    found = model.summary()
    errors = [one.standard_error for one in found.coefficients]
    np.testing.assert_allclose(errors[:2], np.sqrt(np.diag(raw.mean_covariance))[:2], rtol=1e-3)
    assert found.link
    assert found.link in str(found)
    assert len(str(found).splitlines()) <= 24


@BOTH
@pytest.mark.parametrize("structure", ["intercept", "diagonal"])
def test_an_adapted_task_is_expected_to_have_the_mean_over_what_its_rows_leave_open(family, structure):
    model = fitted(family, structure=structure)
    x, y, _ = draw(family, 1, 6, seed=5)
    query = draw(family, 1, 8, seed=6)[0]
    mine = model.adapt(x, y)
    assert (np.abs(mine.predict(query) - model.predict(query)) > 0.01).any()
    if structure == "diagonal":
        return
    # The intercept's own likelihood: its mode, and the mean of the target over its normal approximation.
    spread, base = model.summary().coefficients[-1].task_std, x @ model.coef_ + model.intercept_

    def joint(u):
        whole = np.exp(base + u) if family == "poisson" else np.logaddexp(0, base + u)
        return 0.5 * (u / spread) ** 2 - (y @ (base + u) - whole.sum())

    top = minimize_scalar(joint, bounds=(-5, 5), options={"xatol": 1e-9}).x
    curvature = (joint(top + 1e-3) - 2 * joint(top) + joint(top - 1e-3)) / 1e-6
    assert mine.intercept_ - model.intercept_ == pytest.approx(top, abs=1e-4)
    eta = query @ mine.coef_ + mine.intercept_
    expected = mean_of(family, eta[:, None] + GRID / np.sqrt(curvature)) @ SHARES
    np.testing.assert_allclose(mine.predict(query), expected, rtol=1e-3)


@BOTH
@pytest.mark.parametrize("structure", ["intercept", "diagonal"])
def test_known_tasks_keep_their_own_modes_and_take_further_rows(family, structure):
    x, y, group = draw(family)
    rule = ut.MixedRule(structure, family=family)
    model = ut.MAMLRegressor(rule=rule).fit(x, y, groups=group)
    own = group == 7
    alone = model.adapt(x[own], y[own])
    np.testing.assert_allclose(model.predict(x[own], group[own]), alone.predict(x[own]), rtol=1e-6)
    np.testing.assert_allclose(model.task_coef_[7], alone.coef_, atol=1e-6)
    more, more_y, _ = draw(family, 1, 5, seed=9)
    later = model.adapt(more, more_y, groups=np.full(5, 7))
    both = model.adapt(np.concatenate([x[own], more]), np.concatenate([y[own], more_y]))
    np.testing.assert_allclose(later.predict(more, np.full(5, 7)), both.predict(more), rtol=1e-6)
    np.testing.assert_array_equal(later.predict(more), model.predict(more))
    strange = model.adapt(more, more_y, groups=np.full(5, 99))
    np.testing.assert_allclose(
        strange.predict(more, np.full(5, 99)), model.adapt(more, more_y).predict(more), rtol=1e-6
    )


@BOTH
def test_score_is_that_of_tasks_adapted_one_by_one(family):
    model = fitted(family, n_support=4)
    x, y, group = draw(family, 20, 9, seed=3)
    rows = model.model_.rows(x, y[:, None], None, (np.arange(20), group))
    support, query = rows.split(4, np.random.SeedSequence(model.seed_))
    expected = np.empty(len(y))
    for i in range(20):
        mine = model.adapt(x[rows.rows[support[i]]], y[rows.rows[support[i]]])
        left = rows.rows[query[group[rows.rows[query]] == i]]
        expected[left] = mine.predict(x[left])
    left = rows.rows[query]
    ours = 1 - ((y[left] - expected[left]) ** 2).sum() / ((y[left] - y[left].mean()) ** 2).sum()
    assert model.score(x, y, groups=group) == pytest.approx(ours, abs=1e-8)


def test_a_classifier_is_the_regressor_of_zeros_and_ones():
    x, _, _ = draw("binomial")
    labels, numbers = fitted("binomial", classes=True), fitted("binomial")
    np.testing.assert_allclose(labels.predict_proba(x)[:, 1], numbers.predict(x), atol=1e-6)
    np.testing.assert_array_equal(labels.predict(x) == "yes", numbers.predict(x) > 0.5)
    np.testing.assert_array_equal(labels.decision_function(x) > 0, numbers.predict(x) > 0.5)
    mine = labels.adapt(x[:3], np.array(["yes", "yes", "yes"]))
    assert (mine.predict_proba(x[:5])[:, 1] > labels.predict_proba(x[:5])[:, 1]).all()
    np.testing.assert_allclose(mine.predict_proba(x[:5]).sum(axis=1), 1)
    assert labels.summary().coefficients[0].value == pytest.approx(labels.coef_[0, 0])
    assert labels.score(x, labels.predict(x), groups=np.repeat(np.arange(60), 12)) > 0.5


def test_intervals_hold_new_counts_as_often_as_they_say():
    model = fitted("poisson", n_support=4)
    x, y, group = draw("poisson", 200, 8, seed=11)
    few = np.tile(np.arange(8) < 4, 200)
    _, low, high = model.predict(x[~few], interval=0.8)
    zero, length = (low <= y[~few]) & (y[~few] <= high), (high - low).mean()
    mine = model.adapt(x[few], y[few], groups=group[few])
    value, low, high = mine.predict(x[~few], group[~few], interval=0.8)
    adapted = (low <= y[~few]) & (y[~few] <= high)
    assert (low <= value).all()
    assert (low >= 0).all()
    # Counts are whole: an interval holds at least its share. Tasks, not rows, are independent.
    for held in (zero, adapted):
        each = held.reshape(200, 4).mean(axis=1)
        total = each.mean()
        assert total > 0.8 - 3.5 * each.std() / np.sqrt(200)
        assert total < 0.95
    assert (high - low).mean() < length
    with pytest.raises(ut.InputError, match="probability"):
        model.predict(x, interval=1.0)
    with pytest.raises(ut.InputError, match="two values"):
        fitted("binomial").predict(x, interval=0.9)


@BOTH
def test_weights_are_copies_in_fit_and_adaptation(family):
    x, y, group = draw(family, 20, 6)
    weights = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    times = weights.astype(int)
    rule = ut.MixedRule("intercept", family=family)
    one = ut.MAMLRegressor(rule=rule).fit(x, y, groups=group, sample_weight=weights)
    copies = [np.repeat(values, times, axis=0) for values in (x, y, group)]
    other = ut.MAMLRegressor(rule=rule).fit(copies[0], copies[1], groups=copies[2])
    np.testing.assert_allclose(one.predict(x, group), other.predict(x, group), rtol=1e-4)
    mine = one.adapt(x[:6], y[:6], weights[:6])
    theirs = other.adapt(np.repeat(x[:6], times[:6], axis=0), np.repeat(y[:6], times[:6]))
    np.testing.assert_allclose(mine.predict(x), theirs.predict(x), rtol=1e-4)


@pytest.mark.parametrize("classes", [False, True])
@BOTH
def test_files_give_the_same_model(tmp_path, family, classes):
    if classes and family == "poisson":
        pytest.skip("classes are no counts")
    model = fitted(family, classes=classes, structure="diagonal")
    x, _, group = draw(family)
    file = tmp_path / "model.safetensors"
    save(model, file)
    again = load(file)
    np.testing.assert_array_equal(again.predict(x, group), model.predict(x, group))
    assert str(again.summary()) == str(model.summary())
    assert again.get_params() == model.get_params()
    save(model, file, anonymous=True)
    np.testing.assert_array_equal(load(file).predict(x, group), model.predict(x))
    mine = model.adapt(x[:4], model.predict(x[:4]) if classes else np.ones(4))
    save(mine, file)
    np.testing.assert_array_equal(load(file).predict(x), mine.predict(x))


def test_float32_stays_so():
    x, y, group = draw("poisson")
    model = ut.MAMLRegressor(rule=ut.MixedRule("intercept", family="poisson"))
    single = model.fit(x.astype(np.float32), y, groups=group).predict(x.astype(np.float32), group)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, fitted("poisson").predict(x, group), rtol=1e-3)


def test_one_task_is_a_plain_regression():
    x, y, _ = draw("poisson", 1, 60)
    with pytest.warns(ut.estimators.MissingGroupsWarning):
        model = ut.MAMLRegressor(rule=ut.MixedRule("intercept", family="poisson")).fit(x, y)
    np.testing.assert_allclose(model.predict(x), np.exp(x @ model.coef_ + model.intercept_), rtol=1e-6)
    np.testing.assert_allclose(model.adapt(x[:5], y[:5]).predict(x), model.predict(x))


def test_what_does_not_go_together_is_refused():
    x, y, group = draw("poisson", 10, 6)
    rule = ut.MixedRule("intercept", family="poisson")

    def refused(match, model, target=y, **more):
        with pytest.raises(ut.InputError, match=match):
            model.fit(x, target, groups=group, **more)

    refused("intercept", ut.MAMLRegressor(rule=rule, fit_intercept=False))
    refused("precision", ut.MAMLRegressor(rule=rule, row_weights="precision"), sample_weight=np.ones(len(y)))
    refused("one target", ut.MAMLRegressor(rule=rule), np.column_stack([y, y]))
    refused("counts", ut.MAMLClassifier(rule=rule), y > 0)
    refused("two classes", ut.MAMLClassifier(rule=ut.MixedRule("intercept", family="binomial")), np.arange(len(y)) % 3)
    refused("structure", ut.MAMLRegressor(rule=ut.MixedRule("full", family="poisson")))
    refused("family", ut.MAMLRegressor(rule=ut.MixedRule("intercept", family="gamma")))
    refused("method", ut.MAMLRegressor(rule=ut.MixedRule("intercept", "ml", family="poisson")))
    refused("whole numbers", ut.MAMLRegressor(rule=rule), y + 0.5)
    refused("second grouping", ut.MAMLRegressor(rule=rule), levels=np.arange(len(y)) % 3)
    with pytest.raises(ut.InputError, match="fit_generalised"):
        rule.fit(ut.tasks.GroupedTable.from_arrays(x, y, group))
    with pytest.raises(ut.InputError, match="whole numbers"):
        fitted("poisson").adapt(x[:3], np.array([1.0, -2.0, 3.0]))
