"""The best step with a matrix, a diagonal and a number as its rate: sampled tasks, brute force and known cases."""

import numpy as np
import pytest
from oracle import estimate

import undertow as ut
from undertow.theory import optimal_adapt_rate, optimal_matrix_rate, step_loss

DESIGN = ut.Design(1, 9, 1, 9)
STRUCTURES = ("scalar", "diagonal", "full")


def correlated(p=4, noise=0.6, seed=0):
    generator = np.random.default_rng(seed)
    inputs, tasks = (a @ a.T / p for a in generator.standard_normal((2, p, p + 1)))
    return ut.MixedLinearRegression(
        p, noise, mean_weights=generator.standard_normal(p), task_covariance=tasks, input_covariance=inputs
    )


def sampled_losses(problem, n, rates, draws, seed):
    """(draws, rates) half squared errors of the definition: sampled task, rows, step, and the mean over a test row."""
    new = ut.Design(draws, n, 1, n)
    generator = np.random.default_rng(seed)
    root = np.linalg.cholesky(problem.task_covariance)
    weights = problem.mean_weights + generator.standard_normal((draws, problem.n_features)) @ root.T
    x = generator.standard_normal((draws, n, problem.n_features)) @ np.linalg.cholesky(problem.input_covariance).T
    y = (x @ weights[..., None])[..., 0] + problem.noise_std * generator.standard_normal((draws, n))
    gradient = np.einsum("dnp,dn->dp", x, x @ problem.mean_weights - y) / new.n_support
    left = [problem.mean_weights - gradient @ rate.T - weights for rate in rates]
    return np.stack(
        [(problem.noise_std**2 + np.einsum("dp,pq,dq->d", u, problem.input_covariance, u)) / 2 for u in left], axis=1
    )


def test_the_loss_of_any_matrix_is_that_of_sampled_tasks():
    problem = correlated()
    gammas = [np.zeros((4, 4)), 0.4 * np.random.default_rng(5).standard_normal((4, 4))]
    gammas += [np.diag(np.broadcast_to(rate, 4)) for rate in (0.3, -0.2)]
    gammas.append(optimal_matrix_rate(problem, DESIGN))
    found = estimate(sampled_losses(problem, 9, gammas, 40_000, seed=1))
    exact = [step_loss(problem, DESIGN, gamma) for gamma in gammas]
    assert np.abs(found.z(exact)).max() < 4
    assert step_loss(problem, DESIGN, 0.3) == step_loss(problem, DESIGN, np.full(4, 0.3)) == pytest.approx(exact[2])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_rate_of_the_same_structure_is_better(structure, seed):
    problem, generator = correlated(seed=seed), np.random.default_rng(seed)
    best = optimal_matrix_rate(problem, DESIGN, structure)
    least = step_loss(problem, DESIGN, best)
    for size in (1e-3, 0.3):
        for _ in range(20):
            step = size * generator.standard_normal(best.shape)
            # The loss is a quadratic form: to first order nothing changes in any direction.
            up, down = (step_loss(problem, DESIGN, best + sign * step) - least for sign in (1, -1))
            assert up > 0
            assert up == pytest.approx(down, rel=1e-6)


def test_more_freedom_is_better_and_knowing_the_problem_is_best():
    problem = correlated()
    losses = [step_loss(problem, DESIGN, optimal_matrix_rate(problem, DESIGN, name)) for name in STRUCTURES]
    assert step_loss(problem, DESIGN, 0.0) > losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_equal_inputs_and_tasks_need_one_rate_only(structure):
    problem, design = ut.MixedLinearRegression(6, 0.7, 0.9), ut.Design(1, 4, 2, 11)
    best = optimal_matrix_rate(problem, design, structure)
    # alpha_r* of a start at w_0: D = nu^2.
    alpha = 0.81 / (0.81 * (1 + 7 / 11) + 0.49 * 6 / 11)
    np.testing.assert_allclose(best, alpha * np.eye(6) if structure == "full" else np.full(best.shape, alpha))


def test_the_number_is_the_adapt_rate_of_an_exactly_known_start():
    problem = correlated(noise=0.3)
    many = ut.Design(10**7, 9, 4, 9)  # so many tasks that training finds w_0
    assert optimal_matrix_rate(problem, many, "scalar") == pytest.approx(
        optimal_adapt_rate(problem, many, 0.0, "leading"), rel=1e-5
    )


def test_a_weight_that_never_differs_between_two_that_do_gets_a_negative_rate_of_its_own():
    inputs = 0.7 ** abs(np.subtract.outer(range(3), range(3)))
    problem = ut.MixedLinearRegression(3, 0.5, task_covariance=np.diag([1.0, 0.0, 1.0]), input_covariance=inputs)
    design = ut.Design(1, 20, 1, 20)
    middle = optimal_matrix_rate(problem, design, "diagonal")[1]
    assert middle < -0.1
    full = optimal_matrix_rate(problem, design)
    assert np.linalg.eigvalsh(full).min() > -1e-12
    np.testing.assert_allclose(full[1], 0, atol=1e-12)


def test_extremes():
    still = ut.MixedLinearRegression(3, 0.0, 0.0)
    assert not optimal_matrix_rate(still, DESIGN).any()
    flat = ut.MixedLinearRegression(3, 0.5, 1.0, input_covariance=np.array([1.0, 2.0, 0.0]))
    best = optimal_matrix_rate(flat, DESIGN, "diagonal")
    two = ut.MixedLinearRegression(2, 0.5, task_covariance=np.full(2, 1 / 3), input_covariance=np.array([1.0, 2.0]))
    np.testing.assert_allclose(best[:2], optimal_matrix_rate(two, DESIGN, "diagonal"))
    with pytest.raises(ut.InputError, match="structure"):
        optimal_matrix_rate(flat, DESIGN, "block")
    with pytest.raises(ut.InputError, match=r"shape \(2,\)"):
        step_loss(flat, DESIGN, [0.1, 0.2])
