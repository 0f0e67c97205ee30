"""Further tasks: sums are added, and weights are those of a fit that has seen all tasks at once."""

import warnings

import numpy as np
import pytest
from made import table

import undertow as ut
from undertow._check import InputError
from undertow.estimators.further import retrained
from undertow.estimators.sums import partial


def parts(m=45, cut=30, **sizes):
    x, y, groups = table(m=m, **sizes)
    return [(x[own], y[own], groups[own]) for own in (groups < cut, groups >= cut)]


def fitted(x, y, groups, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ut.MAMLRegressorCV(4, 3, n_draws=2, n_rates=21, **more).fit(x, y, groups=groups)


RULES = [("gradient",), ("proximal",), ("mixed",), ("gradient", "proximal", "mixed")]


@pytest.mark.parametrize("rules", RULES)
def test_partial_fit_solves_the_weights_from_all_tasks(rules):
    old, new = parts(p=3, noise=2.0)
    est = fitted(*old, rules=rules)
    before = est.model_
    est.partial_fit(new[0], new[1], groups=new[2])
    # The oracle: sums over all rows at once, by the recipe of the first fit; draws follow the numbers of the rows.
    recipe = est.recipe_
    first, second = (
        before.rows(x, y[:, None], None, tuple(np.unique(groups, return_inverse=True))) for x, y, groups in (old, new)
    )
    gram = partial(first, recipe).blocks.gram + partial(second, recipe).blocks.gram
    np.testing.assert_allclose(est.sums_.blocks.gram, gram, rtol=1e-10, atol=1e-10 * len(old[1]))
    expected = retrained(est.choice_, recipe, est.sums_)
    np.testing.assert_array_equal(est.model_.omega, expected.weights)
    assert np.abs(est.model_.omega - before.omega).max() > 1e-4
    assert est.n_tasks_ == len(est.task_ids_) == 45
    # Each task's own weights are those of the new model, of old tasks and new ones.
    for rows, task, place in ((first, 7, 7), (second, 3, 33)):
        adapted = est.model_.adapt(rows.select([task]))
        np.testing.assert_allclose(est.model_.task_omega[:, place], adapted.omega, atol=1e-10)


def test_the_common_weights_of_a_mixed_model_are_those_of_one_fit_with_its_variances():
    old, new = parts(p=2, noise=2.0)
    est = fitted(*old, rules="mixed", blend=False)
    est.partial_fit(new[0], new[1], groups=new[2])
    rule = est.model_.rules[0]
    covariance = np.diag(rule.covariance) if rule.covariance.ndim == 1 else rule.covariance
    matrix, right = np.zeros((3, 3)), np.zeros(3)
    for x, y, groups in (old, new):
        rows = est.model_.rows(x, y[:, None], None, tuple(np.unique(groups, return_inverse=True)))
        for i in range(rows.n_tasks):
            own = np.arange(rows.offsets[i], rows.offsets[i + 1])
            z = rows.inputs(own)
            inverse = np.linalg.inv(z @ covariance @ z.T + rule.ratio * np.eye(len(z)))
            matrix, right = matrix + z.T @ inverse @ z, right + z.T @ inverse @ rows.y[own, 0]
    prior = np.diag(est.recipe_.priors[est.strategy_][0])
    np.testing.assert_allclose(est.model_.omega[0], np.linalg.solve(matrix + prior, right), rtol=1e-8)


def test_merging_is_adding_in_any_order_and_survives_a_file(tmp_path):
    x, y, groups = table(m=60, p=3)
    base = fitted(x[groups < 30], y[groups < 30], groups[groups < 30])
    pieces = [
        ut.MAMLRegressorCV().fit_like(base, x[own], y[own], groups=groups[own])
        for own in ((groups >= 30) & (groups < 40), groups >= 40)
    ]
    ut.estimators.save(base, tmp_path / "base.safetensors")
    one = ut.estimators.load(tmp_path / "base.safetensors").merge(pieces[0]).merge(pieces[1])
    two = pieces[1].merge(pieces[0]).merge(base)
    np.testing.assert_allclose(one.model_.omega, two.model_.omega, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(one.task_ids_, np.arange(60))
    np.testing.assert_array_equal(two.task_ids_, np.arange(60))
    assert one.choice_.to_dict() == base.choice_.to_dict()
    one.predict(x, groups=groups)
    ut.estimators.save(one, tmp_path / "one.safetensors")
    again = ut.estimators.load(tmp_path / "one.safetensors")
    np.testing.assert_array_equal(again.coef_, one.coef_)
    assert again.sums_.to_bytes() == one.sums_.to_bytes()


def test_a_task_in_both_is_refused_and_nothing_changes():
    old, _ = parts(p=3)
    est = fitted(*old)
    coef = est.coef_.copy()
    again = old[2] < 2
    with pytest.raises(InputError, match="2 tasks are in both"):
        est.partial_fit(old[0][again], old[1][again], groups=old[2][again])
    np.testing.assert_array_equal(est.coef_, coef)


def test_estimators_that_chose_for_themselves_cannot_be_merged():
    old, new = parts(p=3)
    with pytest.raises(InputError, match="different units"):
        fitted(*old).merge(fitted(*new))


def test_without_a_choice_there_is_nothing_to_add_to():
    x, y, groups = table(m=2, p=3)
    est = fitted(x, y, groups)
    with pytest.raises(InputError, match="no sums"):
        est.partial_fit(x, y, groups=groups + 5)


def test_partial_fit_without_a_fit_is_a_fit():
    old, _ = parts(p=3)
    x, y, groups = old
    one = ut.MAMLRegressorCV(4, 3, n_draws=1, n_rates=21).partial_fit(x, y, groups=groups)
    two = ut.MAMLRegressorCV(4, 3, n_draws=1, n_rates=21).fit(x, y, groups=groups)
    np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize(("weights", "q", "rows"), [(False, 1, 40), (True, 2, 40), (False, 1, 3)])
@pytest.mark.filterwarnings("ignore::undertow.estimators.MissingGroupsWarning")
def test_rows_of_the_one_task_are_added_as_if_all_had_been_there(weights, q, rows, tmp_path):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((60, 5)) + 2, rng.standard_normal((60, q)) * 3
    y = y[:, 0] if q == 1 else y
    w = rng.uniform(0.5, 2, rows) if weights else np.ones(rows)
    est = ut.MAMLRegressorCV().fit(x[:rows], y[:rows], sample_weight=w if weights else None)
    ut.estimators.save(est, tmp_path / "one.safetensors")
    est = (
        ut.estimators.load(tmp_path / "one.safetensors").partial_fit(x[rows:50], y[rows:50]).partial_fit(x[50:], y[50:])
    )
    # The oracle: ridge regression by hand on all rows, in the units of the first ones.
    standard = est.model_.standard
    z, targets = standard.features(x), standard.targets(y.reshape(60, q))
    all_weights = np.concatenate([w / est.weight_unit_, np.ones(60 - rows)])
    gram, right = z.T * all_weights @ z, z.T * all_weights @ targets
    penalty = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    np.testing.assert_allclose(est.model_.omega, np.linalg.solve(gram + penalty, right).T, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="no sums"):
        est.partial_fit(x, y, groups=np.arange(60) % 3)
