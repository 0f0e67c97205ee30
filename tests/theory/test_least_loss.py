"""The least possible loss: that of the posterior mean on sampled tasks, and below every step."""

import numpy as np
import pytest
from oracle import estimate

import undertow as ut
from undertow.theory import least_loss, optimal_matrix_rate, step_loss


@pytest.mark.parametrize(("p", "n_adapt", "noise"), [(3, 5, 0.7), (6, 2, 0.0), (2, 5, 0.0)])
def test_the_least_loss_is_that_of_the_posterior_mean_and_no_step_beats_it(p, n_adapt, noise):
    problem = ut.MixedLinearRegression(p, noise, 1.3, input_covariance=np.linspace(0.5, 1.5, p))
    design = ut.Design(1, 1, 1, n_adapt)
    new = problem.sample(design.new_tasks(4000, 30), 7)
    prior = 1.3**2 / p * np.eye(p)
    losses = []
    for x, y, to, target in zip(new.support_x, new.support_y, new.query_x, new.query_y, strict=True):
        gain = prior @ x.T @ np.linalg.pinv(x @ prior @ x.T + noise**2 * np.eye(n_adapt))
        losses.append(((to @ gain @ y - target) ** 2).mean() / 2)
    found, least = estimate(np.array(losses)), least_loss(problem, design, draws=4000)
    assert abs(found.mean - least) < 4 * found.error + 1e-12
    assert step_loss(problem, design, optimal_matrix_rate(problem, design)) >= least


def test_known_cases():
    # Without noise only the directions that n rows of p do not see are left, a share 1 - n/p.
    assert least_loss(ut.MixedLinearRegression(8, 0.0, 2.0), ut.Design(1, 1, 1, 3)) == pytest.approx(
        2 * 5 / 8, rel=0.02
    )
    # Without spread, and with inputs that do not vary, only noise is left.
    assert least_loss(ut.MixedLinearRegression(3, 0.4, 0.0), ut.Design(1, 2, 1)) == pytest.approx(0.08)
    still = ut.MixedLinearRegression(2, 0.4, 1.0, input_covariance=np.zeros((2, 2)))
    assert least_loss(still, ut.Design(1, 2, 1)) == pytest.approx(0.08)
