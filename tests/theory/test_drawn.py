"""Drawn data sets: several inner steps against Monte Carlo, stated errors, and pseudo-inverses of graded rows."""

import numpy as np
import pytest
from oracle import distance_samples, estimate

import undertow as ut
from undertow._check import InputError
from undertow.theory import drawn, expected_distance, method_for, optimal_train_rate


@pytest.mark.parametrize(
    ("p", "m", "n_t", "n_v", "steps", "rates"),
    [
        (10, 14, 5, 3, 6, [0.46]),
        (8, 20, 10, 5, 6, [-0.5, 0.3, 1.0]),
        (8, 5, 10, 10, 8, [-0.5, 0.3]),
        (3, 4, 12, 4, 3, [-0.5, 0.3]),
        (9, 1, 4, 3, 5, [-0.5, 0.3]),  # N < p
        (12, 3, 20, 2, 8, [-0.5, 0.2]),
    ],
)
def test_several_steps_lie_within_the_stated_error_of_monte_carlo(p, m, n_t, n_v, steps, rates):
    problem, design = ut.MixedLinearRegression(p, 1.0, 1.0), ut.Design(m, n_t, n_v)
    mc = estimate(distance_samples(p, design, rates, runs=1500, seed=5, steps=steps)[:, :, 1:].sum(axis=2))
    for rate, mean, error in zip(rates, mc.mean, mc.error, strict=True):
        value = expected_distance(problem, design, rate, steps=steps)
        stated = method_for(problem, design, rate, steps=steps).expected_relative_error
        assert stated < 0.5
        assert abs(value - mean) < stated * value + 4 * error


def test_the_equivalent_of_several_steps_is_of_the_right_size():
    problem, design = ut.MixedLinearRegression(10, 1.0, 1.0), ut.Design(14, 5, 3)
    drawn_mean, limit = (
        np.array(expected_distance(problem, design, [-0.5, 0.2, 0.46], method=method, steps=6))
        for method in ("drawn", "equivalent")
    )
    assert limit == pytest.approx(drawn_mean, rel=0.2)


def test_the_curve_leaves_rate_zero_with_its_exact_value_and_slope():
    problem, design, steps = ut.MixedLinearRegression(8, 1.0, 0.0), ut.Design(20, 10, 5), 4
    h = 1e-6
    low, at, high = expected_distance(problem, design, [-h, 0.0, h], method="drawn", steps=steps)
    assert low == pytest.approx(at, rel=1e-4)
    assert (high - low) / (2 * h) == pytest.approx(2 * steps * 8 / (100 - 9), rel=0.05)


@pytest.mark.long
def test_the_best_rate_of_several_steps_is_a_minimum():
    problem, design = ut.MixedLinearRegression(6, 1.0, 0.5), ut.Design(6, 8, 4)
    best = optimal_train_rate(problem, design, steps=3)
    assert best.method == "drawn"
    around = expected_distance(problem, design, [-3.0, -1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0, np.inf], steps=3)
    assert best.distance <= around.min() * 1.001
    assert expected_distance(problem, design, float(best), steps=3) == pytest.approx(best.distance)


def test_rows_of_very_different_sizes_keep_their_own_accuracy():
    generator = np.random.default_rng(0)
    small, size = generator.standard_normal((7, 4)), 10.0 ** np.array([0, -20, 12, 0, -40, 30, -3])
    # Least squares follows the four largest rows; of the others only traces remain.
    inverse = drawn._pseudo_inverse(small * size[:, None])
    top = np.argsort(-size)[:4]
    assert inverse[:, top] * size[top] == pytest.approx(np.linalg.inv(small[top]), rel=1e-3)
    assert inverse @ (small * size[:, None]) == pytest.approx(np.eye(4), abs=1e-3)


@pytest.mark.long
def test_drawing_is_refused_where_it_is_not_for():
    few, many = ut.Design(2, 4, 3), ut.Design(200, 200, 5)
    for p, design in ((20, few), (200, many)):
        problem = ut.MixedLinearRegression(p, 1.0, 1.0)
        with pytest.raises(InputError, match="'equivalent'"):
            expected_distance(problem, design, 0.3, method="drawn", steps=2)
        assert np.isfinite(expected_distance(problem, design, 0.3, steps=2))
