"""Likelihood of the mixed model, its slopes and its curvature against dense matrices."""

import numpy as np
import pytest
from mixed_tables import ROOT, brute_likelihood, dense, draw, unscaled

from undertow.mixed.derivatives import by_components, by_matrix, packed, slope_by_components, unpacked
from undertow.mixed.likelihood import Model, evaluate
from undertow.mixed.scoring import root_of
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


AXES = np.array([[1.0, 0.3, -0.2], [0.0, 0.8, 0.5], [0.4, 0.0, 1.2]])
FEW = np.array([[1.0], [0.5], [0.0]])


def model_of(kind):
    """Maximum likelihood, restricted likelihood, and that with a prior chosen by the likelihood."""
    if kind == "prior":
        return Model(True, None, np.array([True, True, False]))
    return Model(kind == "restricted", 0.0, np.zeros(3, dtype=bool))


def at_matrix(stats, z, model):
    """Likelihood and derivatives by S, packed, in axes that are not orthogonal, and by the noise."""
    inner, back = unpacked(z[:-1]), np.linalg.inv(AXES)
    here = evaluate(stats, root_of(AXES @ inner @ AXES.T), z[-1], model)
    return here.value, by_matrix(here, AXES, back, inner)


def at_components(stats, z, model, components):
    here = evaluate(stats, np.sqrt(components @ z[:-1]), z[-1], model)
    return here.value, by_components(here, components, z[:-1])


def slopes(function, z, step=1e-5):
    return np.array([(function(z + h) - function(z - h)) / (2 * step) for h in step * np.eye(len(z))])


@pytest.mark.parametrize("kind", ["plain", "restricted", "prior"])
def test_derivatives_are_the_slopes_of_the_likelihood(kind):
    stats, model = unscaled(draw(25)), model_of(kind)
    z = np.append(packed(ROOT @ ROOT.T), 0.64)
    brute = slopes(lambda z: at_matrix(stats, z, model)[0], z)
    np.testing.assert_allclose(at_matrix(stats, z, model)[1].slope, brute, rtol=1e-5, atol=1e-5)
    for components in (np.eye(3), FEW):
        z = np.append([0.5, 0.2, 0.4][: components.shape[1]], 0.64)
        brute = slopes(lambda z, c=components: at_components(stats, z, model, c)[0], z)
        found = at_components(stats, z, model, components)[1].slope
        np.testing.assert_allclose(found, brute, rtol=1e-5, atol=1e-5)
        here = evaluate(stats, np.sqrt(components @ z[:-1]), z[-1], model)
        np.testing.assert_allclose(slope_by_components(here, components, z[:-1]), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["plain", "restricted", "prior"])
def test_twice_the_average_less_the_expected_information_is_the_observed_one(kind):
    # With maximum likelihood exactly, else but for terms of one task in 400 and the prior's width.
    stats, model = unscaled(draw(400)), model_of(kind)
    tolerance = 1e-6 if kind == "plain" else 0.02
    z = np.append(packed(ROOT @ ROOT.T), 0.64)
    found = at_matrix(stats, z, model)[1]
    brute = -slopes(lambda z: at_matrix(stats, z, model)[1].slope, z)
    np.testing.assert_allclose(2 * found.average - found.expected, brute, atol=tolerance * abs(brute).max())
    for components in (np.eye(3), FEW):
        z = np.append([0.5, 0.2, 0.4][: components.shape[1]], 0.64)
        found = at_components(stats, z, model, components)[1]
        brute = -slopes(lambda z, c=components: at_components(stats, z, model, c)[1].slope, z)
        np.testing.assert_allclose(2 * found.average - found.expected, brute, atol=tolerance * abs(brute).max())


@pytest.mark.parametrize("kind", ["plain", "restricted"])
def test_both_measures_of_curvature_are_those_of_dense_matrices(kind):
    table, covariance, noise = draw(12), ROOT @ ROOT.T, 0.64
    same = table.groups[:, None] == table.groups[None, :]
    inverse = np.linalg.inv(dense(table, covariance, noise))
    x = table.x
    mean = np.linalg.inv(x.T @ inverse @ x)
    between = inverse @ x @ mean @ x.T @ inverse
    pulled = (inverse - between) @ table.y
    inner = np.linalg.inv(AXES) @ covariance @ np.linalg.inv(AXES).T
    found = at_matrix(unscaled(table), np.append(packed(inner), noise), model_of(kind))[1]
    units = [unpacked(one) for one in np.eye(6)]
    parts = [np.where(same, x @ AXES @ unit @ AXES.T @ x.T, 0.0) for unit in units] + [np.eye(table.n_rows)]
    expected = [[0.5 * np.trace(inverse @ a @ inverse @ b) for a in parts] for b in parts]
    np.testing.assert_allclose(found.expected, expected, rtol=1e-8, atol=1e-9)
    known = np.where(same, between, 0.0) if kind == "restricted" else np.zeros_like(inverse)
    average = [
        [0.5 * (pulled @ a @ (inverse - between) @ b @ pulled + np.trace(inverse @ a @ known @ b)) for a in parts]
        for b in parts
    ]
    np.testing.assert_allclose(found.average, average, rtol=1e-8, atol=1e-9)
    assert np.linalg.eigvalsh(found.average)[0] > 0


def test_packing_keeps_dot_products():
    rng = np.random.default_rng(0)
    a, b = (m + m.T for m in rng.standard_normal((2, 4, 4)))
    assert packed(a) @ packed(b) == pytest.approx(np.sum(a * b))
    np.testing.assert_allclose(unpacked(packed(a)), a)


def test_features_that_say_nothing_get_a_tight_prior():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal((200, 8)), np.ones(200)])
    stats = TaskStatistics.from_tasks(GroupedTable.from_arrays(x, rng.standard_normal(200), np.arange(200) // 10))
    chosen, tight = (
        evaluate(stats, np.zeros(9), 1.0, Model(True, precision, ~stats.constant)) for precision in (None, 1e5)
    )
    assert chosen.value >= tight.value
    assert chosen.mean_precision > 100
