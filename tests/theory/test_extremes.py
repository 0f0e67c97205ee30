"""Extreme sizes, rates and units: a right value, infinity where the mean is infinite, or an InputError."""

import time

import numpy as np
import pytest
from anisotropic_oracle import sample, standard_error

import undertow as ut
from undertow._check import InputError
from undertow.theory import expected_distance, expected_loss, optimal_train_rate

SIZES = [ut.Design(3, 4, 2), ut.Design(6, 4, 3), ut.Design(1, 10, 30)]
WIDE = np.linspace(0.5, 2.0, 10)


def problem(sigma=1.0, nu=1.0, covariance=None):
    return ut.MixedLinearRegression(10, sigma, nu, input_covariance=covariance)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("design", SIZES)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_huge_rate_is_the_limit_of_large_rates(design, steps):
    far, low, high, limit = expected_distance(problem(), design, [-1e9, -1e160, 1e308, np.inf], steps=steps)
    assert low == pytest.approx(far, rel=1e-4)
    if design.n_tasks > 1:
        assert high == pytest.approx(limit, rel=1e-4) == far
    else:  # infinite: at any positive rate, and in the limit where n_t is p
        assert np.isinf([high, limit]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("covariance", [None, WIDE])
@pytest.mark.parametrize("design", SIZES[:2])
def test_numbers_beyond_floats_are_refused(design, covariance):
    with pytest.raises(InputError, match="range of floats"):
        expected_loss(problem(covariance=covariance), design, 0.3, 1e160)
    with pytest.raises(InputError, match="task_std"):
        expected_loss(problem(nu=1e160, covariance=covariance), design, 0.3, 0.2)
    if covariance is None:
        with pytest.raises(InputError, match="range of floats"):
            expected_loss(problem(), design, 0.3, 1e160, adapt_steps=3)
    with pytest.raises(InputError, match="range of floats"):
        expected_loss(problem(nu=1e153, sigma=1e153, covariance=covariance), design, [-0.5, 0.3], 1e3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("design", SIZES[:2])
def test_large_units_scale_the_loss(design):
    one, many = (expected_loss(problem(u, u), design, [-0.5, 0.3], 0.2) for u in (1.0, 1e120))
    assert many / 1e240 == pytest.approx(one)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-200, 1e150, 1e300])
@pytest.mark.parametrize("design", SIZES[:2])
def test_input_variances_of_any_size_raise_nothing_else(design, scale):
    try:
        value = expected_loss(problem(covariance=WIDE * scale), design, [-0.3, 0.3], 0.2)
    except InputError:
        return
    assert np.isfinite(value).all()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 3), (2, 1, 1), (3, 1, 1), (2, 2, 2), (5, 1, 4)])
@pytest.mark.parametrize(("sigma", "nu"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_one_feature_and_single_rows_end_in_a_number(sizes, sigma, nu):
    one = ut.MixedLinearRegression(1, sigma, nu)
    value = expected_distance(one, ut.Design(*sizes), [-0.5, 0.0, 0.5, np.inf], steps=2)
    assert not np.isnan(value).any()
    assert (value >= 0).all()
    if not sigma:
        assert (value <= nu**2 + 1e-12).all()  # a sum of squared shares
    assert value[1] == pytest.approx(expected_distance(one, ut.Design(*sizes), 0.0))


@pytest.mark.long
def test_the_best_rate_of_one_feature_does_not_hang():
    start = time.perf_counter()
    assert optimal_train_rate(ut.MixedLinearRegression(1, 1.0, 1.0), ut.Design(2, 1, 2)) < 0
    assert time.perf_counter() - start < 60


def test_too_many_steps_are_refused():
    with pytest.raises(InputError, match="steps"):
        expected_distance(problem(), SIZES[1], 0.1, method="leading", steps=100)


def test_the_exact_slope_decides_beside_rate_zero():
    wide = ut.MixedLinearRegression(41, 0.05, 2.0)
    best = optimal_train_rate(wide, ut.Design(40, 53, 5))
    assert -0.01 < best < 0
    assert best.relative_gain > 0
    assert "negative" in best.message


@pytest.mark.parametrize("sizes", [(10, 8, 4), (3, 5, 8), (8, 3, 4)])
def test_noise_alone_is_the_limit_of_tasks_that_hardly_differ(sizes):
    rates = [-1.0, -0.1, 0.3]
    none, few = (expected_loss(problem(nu=nu, covariance=WIDE**2), ut.Design(*sizes), rates, 0.2) for nu in (0.0, 1e-9))
    assert none == pytest.approx(few, rel=1e-9)


def test_noise_alone_with_unequal_inputs_is_nearest_to_monte_carlo_as_beside_white_tasks():
    inputs, design = np.array([0.05, 0.3, 0.9, 2.75]), ut.Design(8, 2, 3)
    rate = np.array([-0.2])
    quiet = ut.MixedLinearRegression(4, 1.0, 0.0, input_covariance=inputs)
    drawn = sample(quiet, design, rate, np.zeros(4), 4000, 3)[:, 0, 0]
    value = expected_distance(quiet, design, rate)
    assert abs(value[0] - drawn.mean()) < 0.025 * value[0] + 4 * standard_error(drawn)
