"""Repeated tasks against data sets drawn and solved by their definition, and known limits."""

import numpy as np
import pytest
from oracle import estimate, meta_train

import undertow as ut
from undertow.theory import expected_distance, expected_loss, repeated_distance, repeated_loss


def sampled(problem, design, draws, rates, runs, seed, steps=1):
    """(runs, rates) |omega* - w_0|^2 of data sets in which each task comes up ``draws`` times."""
    generator, p = np.random.default_rng(seed), problem.n_features
    out = np.empty((runs, len(rates)))
    for i in range(runs):
        weights = problem.task_std / p**0.5 * np.repeat(generator.standard_normal((design.n_tasks, p)), draws, axis=0)
        rows = []
        for n in (design.n_support, design.n_query):
            x = generator.standard_normal((len(weights), n, p))
            noise = problem.noise_std * generator.standard_normal((len(weights), n))
            rows += [x, (x @ weights[..., None])[..., 0] + noise]
        out[i] = [(meta_train(ut.TaskBatch(*rows), rate, steps, np.zeros(p)) ** 2).sum() for rate in rates]
    return out


@pytest.mark.parametrize(
    ("p", "design", "draws", "noise", "steps"),
    [
        (6, ut.Design(2, 5, 3), 4, 0.3, 1),  # N = 24 > p
        (14, ut.Design(2, 6, 2), 2, 0.3, 1),  # N = 8 < p
        (6, ut.Design(2, 8, 3), 4, 0.5, 2),
    ],
)
def test_the_distance_is_that_of_sampled_data_sets(p, design, draws, noise, steps):
    problem, rates = ut.MixedLinearRegression(p, noise, 1.0), np.array([-0.4, 0.0])
    found = estimate(sampled(problem, design, draws, rates, 600, 3, steps))
    exact = repeated_distance(problem, design, draws, rates, steps=steps)
    stated = ut.theory.method_for(problem, ut.Design(design.n_tasks * draws, 5, 3), -0.4, steps=steps)
    assert (abs(found.mean - exact) < 4 * found.error + 0.02 * exact).all(), stated
    # Without the repeats it is another number.
    many = ut.Design(design.n_tasks * draws, design.n_support, design.n_query)
    assert (abs(found.mean - expected_distance(problem, many, rates, steps=steps)) > 4 * found.error).all()


def test_one_draw_is_the_plain_problem_and_one_task_the_mean_of_its_weights():
    problem, design = ut.MixedLinearRegression(8, 0.0, 0.7), ut.Design(10, 6, 3)
    rates = np.array([-0.5, 0.0, 0.3])
    np.testing.assert_array_equal(
        repeated_distance(problem, design, 1, rates), expected_distance(problem, design, rates)
    )
    np.testing.assert_allclose(repeated_distance(problem, ut.Design(1, 6, 3), 10, rates), 0.49)
    few = repeated_distance(problem, ut.Design(1, 6, 2), 3, rates, init_distance=2.0)
    np.testing.assert_allclose(few, 0.49 * 6 / 8 + 4 * 2 / 8)
    # At rate 0 draws of one task are more query rows of it.
    noisy = ut.MixedLinearRegression(8, 0.4, 0.7)
    same = expected_distance(noisy, ut.Design(5, 6, 12), 0.0)
    assert repeated_distance(noisy, ut.Design(5, 6, 3), 4, 0.0) == pytest.approx(same, rel=1e-10)


def test_many_draws_leave_the_number_of_tasks_alone_and_the_threshold_stays():
    problem = ut.MixedLinearRegression(8, 0.4, 0.7)
    at = repeated_distance(problem, ut.Design(4, 6, 4), 20000, np.array([-0.5, 0.0, 0.3]), method="leading")
    np.testing.assert_allclose(at, 0.49 / 4, rtol=2e-3)
    assert np.isinf(repeated_distance(problem, ut.Design(2, 6, 2), 2, 0.1))
    with pytest.raises(ut.InputError, match="isotropic"):
        repeated_distance(ut.MixedLinearRegression(3, input_covariance=np.ones(3)), ut.Design(2, 3, 3), 4, 0.0)


def test_rates_that_do_not_go_together_are_named():
    with pytest.raises(ut.InputError, match="must broadcast"):
        repeated_loss(ut.MixedLinearRegression(8), ut.Design(5, 6, 3), 2, [0.1, 0.2], [0.1, 0.2, 0.3])


def test_the_loss_is_that_of_the_distance():
    problem, design, rates = ut.MixedLinearRegression(8, 0.4, 0.7), ut.Design(5, 6, 3, 7), np.array([-0.5, 0.0])
    loss = repeated_loss(problem, design, 1, rates, 0.2)
    np.testing.assert_allclose(loss, expected_loss(problem, design, rates, 0.2))
    # Far from N = p the same number of data sets is worth more from more tasks.
    losses = [repeated_loss(problem, ut.Design(m, 6, 3, 7), 40 // m, rates, 0.2) for m in (1, 4, 40)]
    assert (np.diff(losses, axis=0) < 0).all()
