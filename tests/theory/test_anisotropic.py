"""Correlated inputs: test loss, leading orders, slopes and edges, against Monte Carlo and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from anisotropic_oracle import covariance, metrics, sample, slope_at_zero, standard_error

from undertow import Design, InputError, MixedLinearRegression
from undertow.theory import anisotropic

# For sizes of every kind; "drawn" has tests of its own.
FORMULAS = ("leading", "equivalent")

# ---------------------------------------------------------------- the test side


def test_expected_loss_of_a_new_task_is_exact():
    """The three coefficients of tasks and of noise against draws of the adaptation rows, at a dense covariance."""
    p, runs, b = 4, 40_000, 0.7
    problem = MixedLinearRegression(p, 0.8, None, None, covariance(p, 1) / 3, covariance(p, 2))
    design = Design(5, 4, 3, n_adapt=3)
    sx = problem.input_covariance
    x = np.random.default_rng(3).normal(size=(runs, 3, p)) @ np.linalg.cholesky(sx).T
    a = np.eye(p) - b * np.swapaxes(x, 1, 2) @ x / 3
    tasks = np.einsum("rij,jk,rkl,li->r", a, sx, a, problem.task_covariance)
    noise = b**2 / 9 * np.einsum("rni,ij,rnj->r", x, sx, x)
    weights = np.array([1, -2 * b, b * b])
    expected = weights @ anisotropic.task_coefficients(problem, design)
    assert abs(tasks.mean() - expected) < 4 * standard_error(tasks)
    expected = b**2 * anisotropic.noise_coefficient(problem, design)
    assert abs(noise.mean() - expected) < 4 * standard_error(noise)


# ---------------------------------------------------------------- leading orders


@pytest.mark.parametrize("rate", [-0.4, 0.3])
def test_underparameterized_leading_order_is_the_sandwich(rate):
    """m times the leading order = tr[H_t^-1 C H_t^-1 E(score score')], the score of one task drawn directly."""
    p, runs = 4, 60_000
    problem = MixedLinearRegression(p, 0.8, None, None, covariance(p, 1) / 3, covariance(p, 2))
    design = Design(50, 5, 3, n_adapt=3)
    n_t, n_v = 5, 3
    root = np.linalg.cholesky(problem.input_covariance).T
    rng = np.random.default_rng(8)
    xt, xv = rng.normal(size=(runs, n_t, p)) @ root, rng.normal(size=(runs, n_v, p)) @ root
    k = xv @ np.swapaxes(xt, 1, 2) / n_t
    rows = xv - rate * k @ xt
    labels = problem.noise_std**2 * (np.eye(n_v) + rate**2 * k @ np.swapaxes(k, 1, 2))
    labels = labels + rows @ problem.task_covariance @ np.swapaxes(rows, 1, 2)
    s2 = np.swapaxes(xt, 1, 2) @ xt / n_t
    a = np.eye(p) - rate * s2
    # H_t in closed form; the Wick tests hold the same formula to brute force.
    sx = problem.input_covariance
    h = sx - 2 * rate * sx @ sx + rate**2 * (1.2 * sx @ sx @ sx + np.trace(sx @ sx) / 5 * sx)
    np.testing.assert_allclose((a @ sx @ a).mean(axis=0), h, atol=0.1)
    inverse = np.linalg.inv(h)
    score = np.swapaxes(rows, 1, 2) @ labels @ rows / n_v**2
    c = metrics(problem, design)
    values = np.einsum("jpq,bqp->bj", inverse @ c @ inverse, score)
    got = 50 * anisotropic.excess_coefficients(problem, design, np.array([rate]), np.zeros(p), "leading")[0]
    assert (np.abs(values.mean(axis=0) - got) < 4 * standard_error(values)).all()


def test_underparameterized_leading_order_is_the_limit_of_many_tasks():
    """2 (2m) Q(2m) - m Q(m) removes the next order in 1/m."""
    p = 3
    problem = MixedLinearRegression(p, 0.7, 0.8, None, None, covariance(p, 4, 0.6))
    rates, offset = np.array([-0.3, 0.0, 0.25]), np.zeros(p)
    small, large = (sample(problem, Design(m, 6, 4, 5), rates, offset, 800, m) for m in (60, 120))
    estimate = 240 * large.mean(axis=0) - 60 * small.mean(axis=0)
    error = np.hypot(240 * standard_error(large), 60 * standard_error(small))
    got = 100 * anisotropic.excess_coefficients(problem, Design(100, 6, 4, 5), rates, offset, "leading")
    assert (np.abs(estimate - got) < 4 * error).all()
    # At the first rate the next order is seen, so that dropping it by extrapolation was needed.
    assert (np.abs(60 * small.mean(axis=0) - got) > 4 * 60 * standard_error(small))[0].all()


@pytest.mark.parametrize("rate", [-0.6, 0.0, 0.4])
def test_leading_orders_at_the_identity(rate):
    """The isotropic leading orders of both regimes, written out from the moments of a white Wishart matrix."""
    p, n, sigma2, nu2, gap2 = 30, 15, 0.49, 0.64, 1.7
    problem = MixedLinearRegression(p, 0.7, 0.8)
    offset = np.full(p, math.sqrt(gap2 / p))
    s2 = 1 + (p + 1) / n
    h = 1 - 2 * rate + rate**2 * s2
    over = Design(2, n, 3, 8)
    share = 6 / p
    # h has p + 1 here since H_t is exact.
    expected = (1 - share) * gap2 + share * (nu2 + sigma2 / h * (1 + rate**2 * p / n))
    # To first order in N / p: the term in d' H d differs from (1 - N/p) d2 by N/p d2 (N g = N / (p h)).
    got = anisotropic.excess_coefficients(problem, over, np.array([rate]), offset, "leading")[0, 0]
    assert got == pytest.approx(expected, rel=1e-12)

    under = Design(40, n, 5, 8)
    s3 = (n**2 + p**2 + 3 * p * n + 3 * n + 3 * p + 4) / n**2
    s4 = (n**3 + p**3 + 6 * n**2 * p + 6 * n * p**2 + 6 * n**2 + 6 * p**2 + 17 * n * p + 21 * (n + p) + 20) / n**3
    t11, t12 = 1 + 2 / (n * p), s2 * (n * p + 4) / (n * p)
    t22 = s2**2 + 4 * (2 * n**2 + 2 * p**2 + 5 * n * p + 5 * n + 5 * p + 5) / (n**3 * p)
    a = rate
    mu4 = 1 - 4 * a + 6 * a**2 * s2 - 4 * a**3 * s3 + a**4 * s4
    tau = 1 - 2 * a * s2 + a**2 * s3
    q22 = 1 - 4 * a + 4 * a**2 * t11 + 2 * a**2 * s2 - 4 * a**3 * t12 + a**4 * t22
    q21 = 1 - 2 * a * t11 + a**2 * t12
    tasks = 1.2 * mu4 + p / 5 * q22
    noise = p / 5 * h + a**2 * p / n * (1.2 * tau + p / 5 * q21)
    expected = (nu2 * tasks + sigma2 * noise) / (40 * h**2)
    got = anisotropic.excess_coefficients(problem, under, np.array([rate]), offset, "leading")[0, 0]
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("source", ["start", "tasks", "noise"])
def test_overparameterized_leading_order_against_monte_carlo(source):
    """One query row and 300 features, one source at a time: the next order is of size N tr(H_t^2) / (tr H_t)^2."""
    p = 300
    noise, spread, gap = (float(source == name) for name in ("noise", "tasks", "start"))
    problem = MixedLinearRegression(p, noise, spread, None, None, np.linspace(0.2, 1.8, p))
    design, rates = Design(1, 50, 1, 20), np.array([-0.3, 0.0, 0.2])
    offset = gap * np.linspace(0, 1, p) / 10
    values = sample(problem, design, rates, offset, 500, 5) - metrics(problem, design) @ offset @ offset
    got = anisotropic.excess_coefficients(problem, design, rates, offset, "leading")
    got = got - metrics(problem, design) @ offset @ offset  # what training changes
    assert (np.abs(got - values.mean(axis=0)) < 4 * standard_error(values)).all()
    assert (np.abs(got) > 10 * standard_error(values)).all()


# ---------------------------------------------------------------- slopes


def test_slope_at_zero_in_closed_form():
    p, b = 12, 0.2
    sx, sw = covariance(p, 7), covariance(p, 3) / 9
    problem = MixedLinearRegression(p, 0.6, None, None, sw, sx)
    design = Design(30, 8, 4, 6)
    c = metrics(problem, design)
    h = c[0] - 2 * b * c[1] + b * b * c[2]
    inverse = np.linalg.inv(sx)
    expected = 0.36 * np.trace(h) + np.trace(sx @ sw) * np.trace(h) - np.trace(sx @ sw @ sx) * np.trace(h @ inverse)
    assert slope_at_zero(problem, design, [1, -2 * b, b * b], "leading") == pytest.approx(2 / 120 * expected, rel=1e-5)

    problem = MixedLinearRegression(p, 0.6, 0.9, None, None, sx)
    few = Design(2, 8, 3, 6)
    t1, t2, t3 = (np.trace(np.linalg.matrix_power(sx, k)) for k in (1, 2, 3))
    tasks = 0.81 / p * t1 * (2 * t2 / t1 - 2 * t3 / t2)
    noise = 0.36 * (4 * t2 / t1 - 2 * t3 / t2)
    assert slope_at_zero(problem, few, method="leading") == pytest.approx(6 * t2 / t1**2 * (tasks + noise), rel=1e-5)


# ---------------------------------------------------------------- the circle, the basis, the edges


@pytest.mark.parametrize(
    "design", [Design(3, 12, 2), Design(3, 2, 4), Design(2, 8, 8), Design(20, 12, 4), Design(9, 3, 6)]
)
@pytest.mark.parametrize("method", FORMULAS)
def test_both_infinities_are_the_limit_of_large_rates(design, method):
    p = 20
    problem = MixedLinearRegression(p, 0.6, 0.8, None, None, np.linspace(0.5, 2, p))
    rates = np.array([-np.inf, np.inf, -3e3, 3e3])
    got = anisotropic.excess_coefficients(problem, design, rates, np.ones(p), method)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_allclose(got[2:], np.broadcast_to(got[0], (2, 3)), rtol=0.01)
    assert not np.allclose(got[2], got[3], rtol=1e-7)


@pytest.mark.parametrize("design", [Design(3, 12, 2, 5), Design(20, 12, 4, 5)])
@pytest.mark.parametrize("method", FORMULAS)
def test_rotated_problems_are_equal(design, method):
    p = 20
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(p, p)))[0]
    inputs, task, offset = rng.uniform(0.3, 2, size=p), covariance(p, 3) / p, rng.normal(size=p)
    straight = MixedLinearRegression(p, 0.6, None, None, task, inputs)
    turned = MixedLinearRegression(p, 0.6, None, None, turn @ task @ turn.T, (turn * inputs) @ turn.T)
    rates = np.array([-0.4, 0.2, np.inf])
    args = (design, rates)
    expected = anisotropic.excess_coefficients(straight, *args, offset, method)
    got = anisotropic.excess_coefficients(turned, *args, turn @ offset, method)
    np.testing.assert_allclose(got, expected, rtol=1e-8)
    np.testing.assert_allclose(
        anisotropic.task_coefficients(turned, design), anisotropic.task_coefficients(straight, design), rtol=1e-10
    )


@pytest.mark.parametrize("design", [Design(2, 12, 2, 5), Design(5, 12, 2, 5), Design(20, 12, 4, 5)])
def test_directions_without_inputs_are_left_out(design):
    """Rank 8 of 20: as a problem of 8 features, N = 4 over and N = 10 under, although N < p."""
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0][:, :8]
    inputs, offset = rng.uniform(0.3, 2, size=8), rng.normal(size=20)
    small = MixedLinearRegression(8, 0.6, None, None, np.full(8, 0.02), inputs)
    large = MixedLinearRegression(20, 0.6, None, None, np.full(20, 0.02), (turn * inputs) @ turn.T)
    rates = np.array([-0.4, 0.2])
    for method in FORMULAS:
        expected = anisotropic.excess_coefficients(small, design, rates, turn.T @ offset, method)
        got = anisotropic.excess_coefficients(large, design, rates, offset, method)
        np.testing.assert_allclose(got, expected, rtol=1e-8)


def test_infinite_where_it_is_infinite():
    p = 6
    rates, offset = np.array([-0.2, 0.0, 0.3, np.inf]), np.ones(p)
    noisy, still = MixedLinearRegression(p, 1.0, 0.0), MixedLinearRegression(p, 0.0, 0.0)
    for n_query in (5, 6, 7):
        design = Design(1, 9, n_query)
        assert np.isinf(anisotropic.excess_coefficients(noisy, design, rates, offset)).all()
        got = anisotropic.excess_coefficients(still, design, rates, offset)
        assert np.isfinite(got).all()
        assert (got == 0).all() == (n_query >= p)
    one = anisotropic.excess_coefficients(noisy, Design(1, 9, 20), rates, offset)
    # For one task infinity is that of the negative side.
    np.testing.assert_array_equal(np.isinf(one[:, 0]), [False, False, True, False])
    spread = MixedLinearRegression(p, 0.0, 1.0)
    one = anisotropic.excess_coefficients(spread, Design(1, 9, 20), rates, offset)
    np.testing.assert_allclose(one, np.broadcast_to(anisotropic.task_coefficients(spread, Design(1, 9, 20)), (4, 3)))
    # m n_t = p with n_v >= n_t: at infinity the support rows alone stand at the threshold.
    got = anisotropic.excess_coefficients(noisy, Design(3, 2, 5), rates, offset)
    assert np.isinf(got[3]).all()
    assert np.isfinite(got[:3]).all()


def test_errors_name_the_way_out():
    problem, design = MixedLinearRegression(6), Design(2, 4, 2)
    with pytest.raises(InputError, match="choose one of 'leading', 'equivalent'"):
        anisotropic.excess_coefficients(problem, design, np.zeros(1), np.zeros(6), "exact")
    with pytest.raises(InputError, match=r"offset has shape \(5,\)"):
        anisotropic.excess_coefficients(problem, design, np.zeros(1), np.zeros(5))
    flat = MixedLinearRegression(6, input_covariance=np.zeros(6))
    with pytest.raises(InputError, match="at least one variance"):
        anisotropic.excess_coefficients(flat, design, np.zeros(1), np.zeros(6))
