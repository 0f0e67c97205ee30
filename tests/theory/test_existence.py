"""Where the mean exists: exponents against drawn tails, and infinity where a mean is infinite."""

import numpy as np
import pytest

import undertow as ut
from undertow.theory import existence, expected_distance, method_for


def tail_exponent(p, m, n_t, n_v, rate, steps, runs=200_000):
    """d log P(least singular value of B < eta) / d log eta, between the 1e-4 and the 1e-2 quantile."""
    generator, least = np.random.default_rng(3), []
    for _ in range(runs // 20_000):
        xt = generator.standard_normal((20_000, m, n_t, p))
        xv = generator.standard_normal((20_000, m, n_v, p))
        power = np.linalg.matrix_power(np.eye(p) - rate / n_t * (xt.swapaxes(-1, -2) @ xt), steps)
        least.append(np.linalg.svd((xv @ power).reshape(20_000, -1, p), compute_uv=False)[:, -1])
    low, high = np.quantile(np.concatenate(least), [1e-4, 1e-2])
    return np.log(100) / np.log(high / low)


@pytest.mark.parametrize(
    ("p", "m", "n_t", "n_v", "rate", "steps"),
    [
        (1, 2, 3, 3, 0.5, 1),
        (2, 2, 3, 4, 0.5, 2),
        (2, 2, 4, 4, 0.5, 1),
        (3, 2, 3, 4, 0.5, 4),  # two eigenvalues at once
        (3, 2, 4, 2, 0.5, 1),
        (2, 1, 4, 6, -0.5, 1),
        (2, 2, 2, 4, np.inf, 1),
    ],
)
@pytest.mark.long
def test_exponents_are_those_of_drawn_tails(p, m, n_t, n_v, rate, steps):
    value = existence.exponents(p, ut.Design(m, n_t, n_v), np.array([rate]), steps)[0]
    drawn = tail_exponent(p, m, n_t, n_v, min(rate, 1e6) if np.isfinite(rate) else 1e6, steps)
    assert value == pytest.approx(drawn, rel=0.2)


def test_the_mean_is_infinite_at_every_method_where_it_does_not_exist():
    # One feature, two tasks: 1/(A_1^2 + A_2^2) has no mean, as both may be singular at once.
    problem, design = ut.MixedLinearRegression(1, 1.0, 1.0), ut.Design(2, 5, 4)
    for method in ("auto", "drawn", "equivalent", "leading"):
        low, high = expected_distance(problem, design, [-0.3, 0.3], method=method)
        assert np.isfinite(low)
        assert np.isinf(high)
    assert "infinite" in method_for(problem, design, 0.3).reason
    quiet = ut.MixedLinearRegression(1, 0.0, 1.0)
    assert 0.5 < expected_distance(quiet, design, 0.3) < 1.0  # a sum of squared shares of two tasks


def test_more_steps_lose_the_mean_and_more_tasks_restore_it():
    two, three = (existence.exponents(2, ut.Design(m, 9, 6), np.array([0.3]), 2)[0] for m in (2, 3))
    assert two <= existence.MEAN < three
    assert np.isinf(expected_distance(ut.MixedLinearRegression(2, 1.0, 1.0), ut.Design(2, 9, 6), 0.3, steps=2))


def test_one_feature_has_finite_tasks_at_the_threshold():
    # x_1^4 + x_2^4 over (x_1^2 + x_2^2)^2 has the mean 3/4.
    value = expected_distance(ut.MixedLinearRegression(1, 0.0, 1.0), ut.Design(2, 3, 1), 0.0)
    assert value == pytest.approx(0.75)
