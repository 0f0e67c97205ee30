"""Few correlated features: drawn data sets against Monte Carlo by the definition and against isotropic inputs."""

import numpy as np
import pytest
from anisotropic_oracle import covariance, sample, standard_error

import undertow as ut
from undertow.theory import anisotropic, expected_distance, method_for

RATES = np.array([-1.0, -0.2, 0.0, 0.3])


@pytest.mark.parametrize("sizes", [(6, 2, 1), (3, 9, 2), (4, 1, 8)])
def test_few_features_are_within_the_stated_error_of_monte_carlo(sizes):
    p, design = 3, ut.Design(*sizes, 5)
    problem = ut.MixedLinearRegression(p, 0.8, 1.0, None, np.array([0.7, 0.2, 0.1]), covariance(p, 9))
    values = sample(problem, design, RATES, np.zeros(p), 2000, 7)
    mean, error = values.mean(axis=0), standard_error(values)
    got = anisotropic.excess_coefficients(problem, design, RATES, np.zeros(p), "drawn")
    np.testing.assert_array_equal(expected_distance(problem, design, RATES), got[:, 0])
    for k, rate in enumerate(RATES):
        choice = method_for(problem, design, rate)
        assert choice.method == "drawn"
        assert choice.expected_relative_error < 0.2
        off = np.abs(got[k] - mean[k])
        assert (off < 1.5 * choice.expected_relative_error * mean[k] + 4 * error[k] + 1e-12).all(), rate


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("sizes", [(2, 2, 6), (3, 1, 6), (5, 8, 3)])
def test_equal_inputs_are_isotropic_ones(p, sizes):
    one = ut.MixedLinearRegression(p, 1.0, 1.0)
    same = ut.MixedLinearRegression(p, 1.0, 1.0, input_covariance=np.ones(p))
    for rate in (-0.6, 0.4, np.inf):
        known, got = (expected_distance(problem, ut.Design(*sizes), rate) for problem in (one, same))
        assert np.isinf(got) == np.isinf(known)
        if np.isfinite(known):
            stated = [method_for(problem, ut.Design(*sizes), rate).expected_relative_error for problem in (one, same)]
            assert abs(got - known) <= sum(stated) * known


def test_a_mean_that_does_not_exist_is_infinite_and_noise_free_ones_are_not():
    for p, m, rate in ((1, 1, 0.5), (1, 2, 0.5), (3, 1, 0.5), (2, 2, np.inf)):
        design, inputs = ut.Design(m, 2, 9), np.linspace(1.0, 2.0, p)
        noisy = ut.MixedLinearRegression(p, 1.0, 1.0, input_covariance=inputs)
        assert np.isinf(expected_distance(noisy, design, rate))
        assert "infinite" in method_for(noisy, design, rate).reason
    # One task's weights are found whatever the rate, and with noise too where S is far from singular at infinity.
    quiet = ut.MixedLinearRegression(3, 0.0, 1.0, input_covariance=np.linspace(1.0, 2.0, 3))
    assert expected_distance(quiet, ut.Design(1, 2, 9), np.inf) == pytest.approx(1.5)
    far = expected_distance(ut.MixedLinearRegression(3, 1.0, 1.0, input_covariance=np.ones(3)), ut.Design(1, 9, 9),
                            [-1e6, np.inf])  # fmt: skip
    assert far[0] == pytest.approx(far[1], rel=1e-3)
    assert np.isfinite(far).all()


def test_what_few_support_rows_leave_alone_far_out_does_not_drown_in_rounding():
    """Two tasks of one support row and 4 directions: each fixes one, at any size of the rate."""
    design, p = ut.Design(2, 1, 4), 4
    problem = ut.MixedLinearRegression(p, 1.0, 1.0, input_covariance=np.linspace(0.5, 1.5, p))
    near, *far = expected_distance(problem, design, [-300.0, -1e4, -1e7, 1e12, np.inf])
    np.testing.assert_allclose(far, near, rtol=0.02)
    values = sample(problem, design, [-300.0], np.zeros(p), 2000, 3)[:, 0, 0]
    stated = method_for(problem, design, np.inf).expected_relative_error
    assert abs(near - np.mean(values)) < stated * near + 4 * standard_error(values)


def test_drawing_is_refused_where_it_is_not_for():
    problem = ut.MixedLinearRegression(3, input_covariance=np.ones(3))
    for design in (ut.Design(1, 4, 9), ut.Design(1, 4, 1), ut.Design(10**6, 4, 9)):
        with pytest.raises(ut.InputError, match="drawn"):
            expected_distance(problem, design, 0.1, method="drawn")
    assert method_for(problem, ut.Design(10**6, 4, 9), 0.1).method == "equivalent"
