"""Negative rates and ratios on the test side: exact covariances, sampled regressions, and the limits."""

import numpy as np
import pytest

import undertow as ut
from undertow.theory import group_rate, proximal_loss
from undertow.theory.matrix_rate import covariances


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_rate_is_the_best_linear_prediction_from_the_covariance_of_rows(n):
    for rho in (-1 / n, -0.5 / n, 0.0, 0.3, 1.0):
        covariance = (1 - rho) * np.eye(n + 1) + rho
        weights = np.linalg.pinv(covariance[:n, :n]) @ covariance[:n, n]
        np.testing.assert_allclose(group_rate(rho, n) / n, weights, atol=1e-12)


def test_groups_that_sum_to_zero_and_the_ratio_of_a_negative_variance():
    size, n = 7, np.array([2, 3, 6])
    rho = -1 / (size - 1)
    rates = [group_rate(rho, int(k)) for k in n]
    np.testing.assert_allclose(rates, -n / (size - n))
    np.testing.assert_allclose(rates, n / (n + (1 - rho) / rho))
    np.testing.assert_array_equal(group_rate(np.array([0.0, 1.0]), 4), [0.0, 1.0])
    for wrong in (-0.3, 1.1):
        with pytest.raises(ut.InputError, match="can have correlations"):
            group_rate(wrong, 4)


def spiked(p, spike=20.0):
    inputs, tasks = np.ones(p), np.zeros(p)
    inputs[0], tasks[0] = 1 + spike, 1.0
    return ut.MixedLinearRegression(p, 0.5, task_covariance=tasks, input_covariance=inputs)


def sampled(problem, n, ratios, draws, seed):
    """(draws, ratios) loss given the inputs of the definition."""
    h, psi = covariances(problem)
    out = np.empty((draws, len(ratios)))
    for i, x in enumerate(np.random.default_rng(seed).standard_normal((draws, n, len(h))) @ np.linalg.cholesky(h).T):
        for j, ratio in enumerate(ratios):
            solve = x.T @ np.linalg.inv(x @ x.T + ratio * np.eye(n))
            left = np.eye(len(h)) - solve @ x
            out[i, j] = np.trace(h @ (left @ psi @ left.T + problem.noise_std**2 * solve @ solve.T))
    return (problem.noise_std**2 + out) / 2


def test_the_loss_of_a_ratio_of_either_sign_is_that_of_sampled_regressions_up_to_one_over_n():
    ratios = np.array([-0.5, -0.2, 0.0, 1.0])
    off = []
    for p in (60, 240):
        n = p // 4
        losses = sampled(spiked(p), n, n * ratios, 2400 // p, seed=p)
        exact = proximal_loss(spiked(p), ut.Design(1, n, 1), n * ratios)
        mean, error = losses.mean(axis=0), losses.std(axis=0) / len(losses) ** 0.5
        assert (abs(mean / exact - 1) < 4 * error / exact + 2 / n).all()
        off.append(exact)
    assert (off[0][1] < off[0][2:]).all()  # a negative ratio is best


def test_a_ratio_must_leave_a_minimum_and_white_inputs_need_the_right_one():
    with pytest.raises(ut.InputError, match="must be above"):
        proximal_loss(spiked(40), ut.Design(1, 10, 1), [-11.0, 0.0])
    with pytest.raises(ut.InputError, match="at least 0"):
        proximal_loss(spiked(4), ut.Design(1, 10, 1), -0.1)
    # Ordinary least squares, asymptotically: sigma^2 / 2 / (1 - p/n), and a direction without input is none.
    flat = ut.MixedLinearRegression(5, 0.5, 1.0, input_covariance=np.array([1.0, 2.0, 3.0, 4.0, 0.0]))
    assert proximal_loss(flat, ut.Design(1, 10, 1), 0.0) == pytest.approx(0.125 / 0.6)
    white, design = ut.MixedLinearRegression(100, 0.5, 1.0), ut.Design(1, 80, 1)
    right = 0.25 / (1.0 / 100)
    losses = proximal_loss(white, design, right * np.array([0.9, 1.0, 1.1]))
    assert losses[1] < min(losses[0], losses[2])
    assert losses[1] == pytest.approx(ut.theory.least_loss(white, design), rel=2e-3)
    assert proximal_loss(white, design, 1e9) == pytest.approx((0.25 + 1) / 2, rel=1e-4)
