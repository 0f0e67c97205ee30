"""Weights along an outer loop: those of its updates, one after the other; and their mean given the inputs."""

import numpy as np
import pytest

import undertow as ut
from undertow.trials.conditional import loss_given_inputs, unavoidable_loss
from undertow.trials.descent import distance_given_inputs, filters, weights_at

RATES = np.array([-0.7, 0.0, 0.3])


@pytest.mark.parametrize("design", [ut.Design(4, 6, 3), ut.Design(2, 6, 2)])
def test_the_weights_are_those_of_the_updates(design):
    problem = ut.MixedLinearRegression(7, 0.5, 1.0)
    tasks, init = problem.sample(design, 1), np.linspace(-1, 1, 7)
    found = weights_at(tasks, RATES, np.array([0, 1, 5, np.inf]), 0.4, init)
    for k, rate in enumerate(RATES):
        rows, targets = [], []
        for xt, yt, xv, yv in zip(*tasks[:4], strict=True):
            rows.append(xv @ (np.eye(7) - rate * xt.T @ xt / len(xt)))
            targets.append(yv - rate * xv @ xt.T @ yt / len(xt))
        b, y, w = np.concatenate(rows), np.concatenate(targets), init.copy()
        step = 0.4 / np.linalg.norm(b, 2) ** 2
        for t in range(6):
            if t in (0, 1, 5):
                np.testing.assert_allclose(found[k, [0, 1, 5].index(t)], w, atol=1e-10)
            w = w - step * b.T @ (b @ w - y)
    np.testing.assert_allclose(found[:, -1], ut.rate_path(tasks, RATES, init=init).weights, atol=1e-8)


@pytest.mark.parametrize("design", [ut.Design(4, 6, 3), ut.Design(2, 6, 2)])
def test_the_mean_given_the_inputs_is_that_of_sampled_weights_and_noise(design):
    problem = ut.MixedLinearRegression(7, 0.5, 1.0, mean_weights=np.full(7, 0.3))
    first, times = problem.sample(design, 2), np.array([0, 1, 6, np.inf])
    exact = distance_given_inputs(problem, first.support_x[None], first.query_x[None], RATES, times)[0]
    generator = np.random.default_rng(3)
    sampled = []
    for _ in range(1500):
        weights = problem.mean_weights + generator.standard_normal((design.n_tasks, 7)) / 7**0.5
        noisy = lambda x, w=weights: (x @ w[..., None])[..., 0] + 0.5 * generator.standard_normal(x.shape[:2])  # noqa: E731
        tasks = ut.TaskBatch(first.support_x, noisy(first.support_x), first.query_x, noisy(first.query_x))
        sampled.append(((weights_at(tasks, RATES, times) - problem.mean_weights) ** 2).sum(axis=-1))
    mean, error = np.mean(sampled, axis=0), np.std(sampled, axis=0) / len(sampled) ** 0.5
    assert (abs(mean - exact) < 4 * error + 1e-12).all()
    np.testing.assert_allclose(exact[:, 0], 7 * 0.3**2)
    # At the end it is the loss of the solution.
    losses = loss_given_inputs(problem, 5, first.support_x[None], first.query_x[None], RATES, np.array([0.0]))[0, :, 0]
    np.testing.assert_allclose(unavoidable_loss(problem, 5, 0.0) + exact[:, -1] / 2, losses)


def test_filters_run_from_nothing_to_the_inverse():
    values = np.array([[2.0, 1.0, 1e-9]])
    found = filters(values, np.array([0.0, 1.0, 2.0, np.inf]))[0]
    np.testing.assert_array_equal(found[0], 0.0)
    np.testing.assert_allclose(found[1], [1.0, 0.25, 0.0], atol=1e-15)
    np.testing.assert_allclose(found[2], [1.0, 1 - 0.75**2, 0.0], atol=1e-15)
    np.testing.assert_array_equal(found[3], 1.0)
