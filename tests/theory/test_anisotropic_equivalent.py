"""The large-size equivalent for correlated inputs, against Monte Carlo and against isotropic exact forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from anisotropic_oracle import covariance, sample, slope_at_zero, standard_error

from undertow import Design, MixedLinearRegression
from undertow.theory import anisotropic
from undertow.theory.anisotropic_leading import Angles
from undertow.theory.anisotropic_system import Sizes, System


@pytest.mark.parametrize("rate", [-2.0, -0.3, 0.0, 0.15, np.inf])
@pytest.mark.parametrize("n_query", [2, 20])
def test_equivalent_at_the_identity_overparameterized(rate, n_query):
    """Start and tasks equal the exact isotropic 1 - N/p and (N/p)(p - n_v - 1)/(p - N - 1); noise does at rate 0."""
    p, m = 60, 2
    n = m * n_query
    design, rates, offset = Design(m, 30, n_query, 10), np.array([rate]), np.full(p, 1 / math.sqrt(p))
    quiet = MixedLinearRegression(p, 0.0, 1.0)
    got = anisotropic.excess_coefficients(quiet, design, rates, np.zeros(p))[0, 0]
    assert got == pytest.approx(n / p * (p - n_query - 1) / (p - n - 1), rel=1e-9)
    still = MixedLinearRegression(p, 0.0, 0.0)
    assert anisotropic.excess_coefficients(still, design, rates, offset)[0, 0] == pytest.approx(1 - n / p, rel=1e-9)
    if rate == 0:
        noisy = MixedLinearRegression(p, 1.0, 0.0)
        got = anisotropic.excess_coefficients(noisy, design, rates, np.zeros(p))[0, 0]
        assert got == pytest.approx(n / (p - n - 1), rel=1e-9)


@pytest.mark.parametrize("rate", [-1.0, 0.3, 3.0])
@pytest.mark.parametrize("n_query", [1, 8])
def test_noise_at_the_identity_overparameterized(rate, n_query):
    """Within the stated error of m c psi, psi = E tr (X_v A^2 X_v')^-1 (I + a^2/n_t X_v S X_v') of one task, drawn."""
    p, n_t, m, runs = 40, 20, 3, 4000
    n = m * n_query
    design = Design(m, n_t, n_query, 10)
    rng = np.random.default_rng(1)
    xt, xv = rng.normal(size=(runs, n_t, p)), rng.normal(size=(runs, n_query, p))
    k = xv @ np.swapaxes(xt, 1, 2) / n_t
    rows = xv - rate * k @ xt
    labels = np.eye(n_query) + rate**2 * k @ np.swapaxes(k, 1, 2)
    values = np.trace(np.linalg.solve(rows @ np.swapaxes(rows, 1, 2), labels), axis1=1, axis2=2)
    values = values * m * (p - n_query - 1) / (p - n - 1)
    problem = MixedLinearRegression(p, 1.0, 0.0)
    got = anisotropic.excess_coefficients(problem, design, np.array([rate]), np.zeros(p))[0, 0]
    stated = anisotropic.method_for(problem, design, rate).expected_relative_error
    assert abs(got - values.mean()) < stated * values.mean() + 4 * standard_error(values)


@pytest.mark.parametrize("kind", ["dense", "task"])
def test_rate_zero_is_exact_underparameterized(kind):
    p = 5
    task = covariance(p, 5, 1.5) / 4 if kind == "task" else None
    problem = MixedLinearRegression(p, 0.6, None if task is not None else 0.9, None, task, covariance(p, 6))
    design = Design(4, 3, 3, 4)
    values = sample(problem, design, [0.0], np.zeros(p), 20_000, 2)[:, 0]
    got = anisotropic.excess_coefficients(problem, design, np.zeros(1), np.zeros(p))[0]
    assert (np.abs(values.mean(axis=0) - got) < 4 * standard_error(values)).all()
    leading = anisotropic.excess_coefficients(problem, design, np.zeros(1), np.zeros(p), "leading")[0]
    assert (np.abs(values.mean(axis=0) - leading) > 10 * standard_error(values)).all()


CASES = {
    "over, few rows": (30, Design(5, 15, 2, 10), 1.0),
    "over, many rows of one task": (30, Design(2, 20, 10, 10), 1.0),
    "over, few support rows": (30, Design(6, 4, 3, 10), 0.7),
    "over, near the threshold": (24, Design(10, 12, 2, 10), 0.5),
    "under, near the threshold": (16, Design(12, 12, 2, 10), 0.5),
    "under, two tasks": (10, Design(2, 20, 25, 10), 0.7),
    "under, many tasks, few support rows": (10, Design(60, 5, 2, 10), 0.7),
}


@pytest.mark.parametrize("case", CASES)
def test_equivalent_against_monte_carlo(case):
    """Within the stated relative error, plus four standard errors, at rates of both signs."""
    p, design, spread = CASES[case]
    problem = MixedLinearRegression(p, 0.8, 1.0, None, np.linspace(0.2, 1.8, p) / p, covariance(p, 9, spread))
    largest = np.linalg.eigvalsh(problem.input_covariance)[-1]
    rates = np.array([-2.0, -0.5, 0.0, 0.4]) / largest
    offset = np.random.default_rng(1).normal(size=p) / math.sqrt(p)
    values = sample(problem, design, rates, offset, 1500, 7)
    mean, error = values.mean(axis=0), standard_error(values)
    got = anisotropic.excess_coefficients(problem, design, rates, offset)
    choice = anisotropic.method_for(problem, design, rates)
    assert choice.method == "equivalent"
    assert choice.expected_relative_error < 0.2
    assert (np.abs(got[:, 0] - mean[:, 0]) < choice.expected_relative_error * mean[:, 0] + 4 * error[:, 0]).all()
    leading = anisotropic.excess_coefficients(problem, design, rates, offset, "leading")
    assert np.abs(got - mean).sum() < np.abs(leading - mean).sum() / 2


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_equivalent_is_the_limit_of_large_sizes(case):
    """Twice the sizes: still within the stated error, which is smaller."""
    p, design, spread = CASES[case]
    problem, large = (
        MixedLinearRegression(q, 0.8, 1.0, None, None, np.repeat(np.exp(np.linspace(-spread, spread, p)), q // p))
        for q in (p, 2 * p)
    )
    double = Design(design.n_tasks, 2 * design.n_support, 2 * design.n_query, 20)
    errors = []
    for current, sizes in ((problem, design), (large, double)):
        q = current.n_features
        rates = np.array([-1.0, 0.0, 0.3]) / current.input_covariance.max()
        values = sample(current, sizes, rates, np.zeros(q), 6000, 3)
        got = anisotropic.excess_coefficients(current, sizes, rates, np.zeros(q))
        stated = anisotropic.method_for(current, sizes, rates).expected_relative_error
        mean, error = values.mean(axis=0), standard_error(values)
        assert (np.abs(got[:, 0] - mean[:, 0]) < stated * mean[:, 0] + 4 * error[:, 0]).all()
        errors.append(stated)
    assert errors[1] <= errors[0]


def test_positive_rates_can_win_underparameterized():
    """Two input scales and clearly different tasks: the least excess risk stands at a positive rate."""
    p = 20
    problem = MixedLinearRegression(p, 0.3, 1.0, None, None, np.repeat([0.2, 1.8], 10))
    design, rates, offset = Design(80, 20, 5), np.array([-0.1, 0.0, 0.1, 0.2]), np.zeros(p)
    got = anisotropic.excess_coefficients(problem, design, rates, offset)[:, 0]
    assert got.argmin() == 2
    values = sample(problem, design, rates, offset, 200, 0)[:, :, 0]
    paired = values[:, [0, 1, 3]] - values[:, [2]]
    assert (paired.mean(axis=0) > 10 * standard_error(paired)).all()
    np.testing.assert_allclose(got, values.mean(axis=0), rtol=0.005)
    assert slope_at_zero(problem, design) < 0
    # With equal variances in all directions a negative rate wins again.
    white = MixedLinearRegression(p, 0.3, 1.0)
    assert slope_at_zero(white, design) > 0


def test_positive_rates_can_win_overparameterized():
    """One large input direction: both the task part and the noise part fall at positive rates."""
    p = 400
    inputs = np.ones(p)
    inputs[0] = 20
    design, rates, offset = Design(4, 100, 1), np.array([-0.05, 0.0, 0.05]), np.zeros(p)
    for noise, spread in ((0.0, 1.0), (1.0, 0.0)):
        problem = MixedLinearRegression(p, noise, spread, None, None, inputs)
        got = anisotropic.excess_coefficients(problem, design, rates, offset)[:, 0]
        assert (np.diff(got) < 0).all()
        values = sample(problem, design, rates, offset, 50, 0)[:, :, 0]
        assert (np.diff(values, axis=1).mean(axis=0) < 0).all()
        stated = anisotropic.method_for(problem, design, rates).expected_relative_error
        assert (np.abs(got - values.mean(axis=0)) < stated * got + 4 * standard_error(values)).all()
        assert slope_at_zero(problem, design) < 0


def test_one_task_overparameterized():
    """The overlap of a task with itself is not corrected twice; correcting it would miss by 6 % at the first rate."""
    p = 20
    inputs = np.exp(np.linspace(-1.5, 1.5, p))
    problem, design = MixedLinearRegression(p, 0.0, 1.0, None, None, inputs), Design(1, 40, 6, 10)
    rates = np.array([-2.0, -0.5, 0.0, 0.3]) / inputs.max()
    values = sample(problem, design, rates, np.zeros(p), 1000, 1)[:, :, 0]
    got = anisotropic.excess_coefficients(problem, design, rates, np.zeros(p))[:, 0]
    stated = anisotropic.method_for(problem, design, rates).expected_relative_error
    assert (np.abs(got - values.mean(axis=0)) < stated * got + 4 * standard_error(values)).all()


def test_one_task_at_a_negative_rate():
    """m = 1, N > p: tr C (A X_v'X_v A)^-1 has a mean for negative rates."""
    p = 4
    problem = MixedLinearRegression(p, 0.7, 0.5, None, None, covariance(p, 3, 0.5))
    design, rates = Design(1, 9, 20, 5), np.array([-0.5, -0.1, 0.0])
    values = sample(problem, design, rates, np.zeros(p), 6000, 4)
    got = anisotropic.excess_coefficients(problem, design, rates, np.zeros(p))
    np.testing.assert_allclose(got[:, 0], values.mean(axis=0)[:, 0], rtol=0.02)


def test_equations_are_solved_on_the_physical_branch():
    rng = np.random.default_rng(12)
    solved = 0
    while solved < 60:
        p, n_t, n_v, m = (int(v) for v in np.exp(rng.uniform(0.7, [4.5, 4.5, 3, 3])))
        if abs(n_v * m - p) <= 1 or (m == 1 and n_v > p):
            continue
        inputs = np.exp(rng.choice([0, 0.5, 2]) * rng.normal(size=p))
        phi = np.linspace(-np.pi / 2 + 1e-4, np.pi / 2 - 1e-4, 9)
        system = System(inputs, Angles(np.cos(phi), np.sin(phi) / inputs.max()), Sizes(n_t, n_v, m))
        state = system.state(system.solve(), system.base)
        assert (state.share > 0).all()
        assert (state.resolvent > 0).all()
        kept = (state.others * state.resolvent).sum(axis=1)
        if system.over:
            np.testing.assert_allclose(kept, p - n_v, rtol=1e-6)  # each task takes n_v directions
        solved += 1


def test_method_for_says_what_and_how_well():
    problem = MixedLinearRegression(60, input_covariance=np.linspace(0.5, 1.5, 60))
    small = MixedLinearRegression(6, input_covariance=np.linspace(0.5, 1.5, 6))
    for n_tasks in (3, 400):
        design = Design(n_tasks, 30, 1)
        errors = [anisotropic.method_for(x, design).expected_relative_error for x in (problem, small)]
        assert 0 < errors[0] < errors[1] < 0.6
        near, none = (anisotropic.method_for(small, design, rate).expected_relative_error for rate in (-0.2, 0.0))
        assert none <= near < errors[1] / 3
    assert math.isinf(anisotropic.excess_coefficients(problem, Design(30, 30, 2), np.zeros(1), np.zeros(60))[0, 0])
    assert "infinite" in anisotropic.method_for(problem, Design(30, 30, 2)).reason


def test_large_problems_are_cheap():
    """200 rates at 400 features in one call; no p x p matrix is formed for diagonal input."""
    p = 400
    problem = MixedLinearRegression(p, input_covariance=np.linspace(0.5, 1.5, p))
    rates = np.linspace(-2, 2, 200)
    got = anisotropic.excess_coefficients(problem, Design(10, 100, 4), rates, np.zeros(p))
    assert got.shape == (200, 3)
    chunked = np.concatenate(
        [anisotropic.excess_coefficients(problem, Design(10, 100, 4), r, np.zeros(p)) for r in np.split(rates, 4)]
    )
    np.testing.assert_allclose(got, chunked, rtol=1e-8)
