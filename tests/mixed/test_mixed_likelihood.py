"""Likelihood, slopes and information of the mixed model against dense matrices, and the steps of its search."""

import numpy as np
import pytest
from mixed_tables import ROOT, brute_likelihood, dense, draw, unscaled

from undertow.mixed import scoring as mixed_search
from undertow.mixed.likelihood import Model, evaluate, factor_information, information, score
from undertow.mixed.scoring import _multiplicative_step, root_of, search_components
from undertow.mixed.scoring import _scoring_step as scoring_step
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable


@pytest.mark.parametrize("rows", [8, (1, 12)])
@pytest.mark.parametrize("restricted", [True, False])
def test_likelihood_and_mean_are_those_of_dense_matrices(rows, restricted):
    table, covariance, noise = draw(25, rows), ROOT @ ROOT.T, 0.64
    model = Model(restricted, 0.0, np.zeros(3, dtype=bool))
    here = evaluate(unscaled(table), root_of(covariance), noise, model)
    value, gls = brute_likelihood(table, covariance, noise, restricted)
    assert here.value == pytest.approx(value, rel=1e-11)
    np.testing.assert_allclose(here.mean, gls, rtol=1e-10)


def test_likelihood_with_a_prior_on_the_mean_is_that_of_dense_matrices():
    table, covariance, noise = draw(25), ROOT @ ROOT.T, 0.64
    penalised = np.array([True, True, False])
    here = evaluate(unscaled(table), root_of(covariance), noise, Model(True, 3.0, penalised))
    value, gls = brute_likelihood(table, covariance, noise, True, np.where(penalised, 3.0, 0.0))
    assert here.value == pytest.approx(value, rel=1e-11)
    assert here.mean[2] == pytest.approx(gls[0], rel=1e-10)
    # The prior precision that is chosen is the best one: neighbours are worse.
    chosen = evaluate(unscaled(table), root_of(covariance), noise, Model(True, None, penalised))
    for factor in (0.5, 0.99, 1.01, 2.0):
        worse = evaluate(
            unscaled(table), root_of(covariance), noise, Model(True, factor * chosen.mean_precision, penalised)
        )
        assert worse.value < chosen.value


@pytest.mark.parametrize("restricted", [True, False])
def test_scores_are_the_slopes_of_the_likelihood(restricted):
    stats, noise, step = unscaled(draw(25)), 0.64, 1e-5
    model = Model(restricted, None if restricted else 0.0, np.array([restricted, restricted, False]))
    covariance = ROOT @ ROOT.T

    def value(change, noise=noise):
        return evaluate(stats, np.linalg.cholesky(covariance + change), noise, model).value

    slopes = score(evaluate(stats, root_of(covariance), noise, model), full=True)
    for i in range(3):
        for j in range(i + 1):
            change = np.zeros((3, 3))
            change[i, j] = change[j, i] = step
            slope = (value(change) - value(-change)) / (2 * step)
            assert slope == pytest.approx(slopes.covariance[i, j] * (1 if i == j else 2), rel=1e-5, abs=1e-6)
    slope = (value(0 * covariance, noise + step) - value(0 * covariance, noise - step)) / (2 * step)
    assert slope == pytest.approx(slopes.noise, rel=1e-5, abs=1e-6)
    diagonal = score(evaluate(stats, root_of(covariance), noise, model), full=False)
    np.testing.assert_allclose(diagonal.covariance, np.diag(slopes.covariance), rtol=1e-10)


def test_information_is_that_of_dense_matrices_by_either_road():
    table, covariance, noise = draw(12), ROOT @ ROOT.T, 0.64
    here = evaluate(unscaled(table), root_of(covariance), noise, Model(False, 0.0, np.zeros(3, dtype=bool)))
    inverse = np.linalg.inv(dense(table, covariance, noise))
    same = table.groups[:, None] == table.groups[None, :]
    for components in (np.eye(3), np.array([[1.0], [0.5], [0.0]])):  # many, and few: two ways to sum
        parts = [np.where(same, (table.x * c) @ table.x.T, 0.0) for c in components.T] + [np.eye(table.n_rows)]
        brute = [[0.5 * np.trace(inverse @ a @ inverse @ b) for a in parts] for b in parts]
        np.testing.assert_allclose(information(here, components), brute, rtol=1e-9)


def test_information_by_the_factor_is_that_of_dense_matrices():
    table, noise = draw(12), 0.64
    here = evaluate(unscaled(table), ROOT, noise, Model(False, 0.0, np.zeros(3, dtype=bool)))
    inverse = np.linalg.inv(dense(table, ROOT @ ROOT.T, noise))
    same = table.groups[:, None] == table.groups[None, :]
    parts = []
    for r, s in np.ndindex(3, 3):
        change = np.outer(np.eye(3)[r], ROOT[:, s])
        parts.append(np.where(same, table.x @ (change + change.T) @ table.x.T, 0.0))
    brute = [[0.5 * np.trace(inverse @ a @ inverse @ b) for a in parts] for b in parts]
    total, cross, own = factor_information(here, ROOT)
    np.testing.assert_allclose(total.reshape(9, 9), brute, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(cross.ravel(), [0.5 * np.trace(inverse @ a @ inverse) for a in parts], atol=1e-9)
    assert own == pytest.approx(0.5 * np.trace(inverse @ inverse), rel=1e-10)


def test_features_that_say_nothing_get_a_tight_prior():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal((200, 8)), np.ones(200)])
    stats = TaskStatistics.from_tasks(GroupedTable.from_arrays(x, rng.standard_normal(200), np.arange(200) // 10))
    chosen, tight = (
        evaluate(stats, np.zeros(9), 1.0, Model(True, precision, ~stats.constant)) for precision in (None, 1e5)
    )
    assert chosen.value >= tight.value
    assert chosen.mean_precision > 100


def test_steps_without_information_never_lower_the_likelihood():
    stats, rng = TaskStatistics.from_tasks(draw(30)), np.random.default_rng(0)
    model = Model(False, 0.0, np.zeros(3, dtype=bool))
    for _ in range(20):
        v = np.exp(2 * rng.standard_normal(4))
        here = evaluate(stats, np.sqrt(v[:3]), v[3], model)
        s = score(here, full=False)
        v = _multiplicative_step(here, np.eye(3), v, np.append(s.covariance, s.noise))
        assert evaluate(stats, np.sqrt(v[:3]), v[3], model).value > here.value


def test_a_bad_start_is_left_uphill():
    stats = TaskStatistics.from_tasks(draw(30))
    model = Model(True, None, ~stats.constant)
    best = search_components(stats, np.eye(3), model, 100, 1e-9)
    for near in (np.array([1e3, 1e-3, 1.0]), 1e-3), (np.array([1e-4, 1e4, 1e-4]), 10.0), (np.full(3, 1e-6), 1e-6):
        found = search_components(stats, np.eye(3), model, 200, 1e-9, near)
        assert (np.diff(found.history) > 0).all()
        assert found.value == pytest.approx(best.value, abs=1e-6)


def test_steps_without_information_are_the_ratio_of_both_sides_of_the_slope():
    table, v = draw(12), np.array([0.5, 0.2, 1.0, 0.64])
    here = evaluate(unscaled(table), np.sqrt(v[:3]), v[3], Model(False, 0.0, np.zeros(3, dtype=bool)))
    s = score(here, full=False)
    inverse = np.linalg.inv(dense(table, np.diag(v[:3]), v[3]))
    same = table.groups[:, None] == table.groups[None, :]
    pulled = inverse @ (table.y - table.x @ here.mean)
    parts = [np.where(same, np.outer(c, c), 0.0) for c in table.x.T] + [np.eye(table.n_rows)]
    brute = [a * np.sqrt(pulled @ part @ pulled / np.trace(inverse @ part)) for a, part in zip(v, parts, strict=True)]
    np.testing.assert_allclose(_multiplicative_step(here, np.eye(3), v, np.append(s.covariance, s.noise)), brute)


def test_steps_that_reach_too_far_are_cut(monkeypatch):
    stats = TaskStatistics.from_tasks(draw(30))
    model = Model(True, None, ~stats.constant)
    best = search_components(stats, np.eye(3), model, 100, 1e-9)
    monkeypatch.setattr(
        mixed_search,
        "_scoring_step",
        lambda here, components, v, gradient: np.maximum(
            v + 8 * (scoring_step(here, components, v, gradient) - v), 1e-9
        ),
    )
    found = search_components(stats, np.eye(3), model, 200, 1e-9)
    assert (np.diff(found.history) > 0).all()
    assert found.value == pytest.approx(best.value, abs=1e-4)
