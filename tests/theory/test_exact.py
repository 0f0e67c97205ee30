"""psi, the exact noise coefficient of one task: its stated error, closed forms at 0 and infinity, and Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import distance_samples, estimate

from undertow.problem import Design
from undertow.theory import exact, wishart
from undertow.theory._rates import NaturalCircle

RATES = np.array([-3.0, -1.0, -0.3, 0.2, 1.0, 3.0])


def direct_mean(n_t, n_v, p, rates, draws, seed):
    """psi by its definition with one whole task: E tr (B B')^-1 (I + a^2/n_t X_v S X_v')."""
    out = distance_samples(p, Design(1, n_t, n_v), rates, runs=draws, seed=seed)
    return estimate(out[:, :, 2])


@pytest.mark.long
@pytest.mark.parametrize(("n_t", "n_v", "p"), [(6, 1, 12), (1, 3, 12), (6, 2, 14), (3, 4, 16), (20, 3, 12), (4, 4, 14)])
def test_psi_against_whole_tasks(n_t, n_v, p):
    psi = exact.psi(n_t, n_v, p, exact.QUICK)
    mc = direct_mean(n_t, n_v, p, RATES, 20_000, seed=1)
    z = (psi(RATES) - mc.mean) / np.hypot(mc.error, psi.relative_error / 3 * mc.mean)
    assert np.abs(z).max() < 4


@pytest.mark.parametrize(("n_t", "n_v", "p"), [(30, 1, 60), (30, 2, 60), (200, 3, 400), (4, 4, 60), (3, 8, 60)])
def test_the_stated_error_is_at_most_one_in_a_thousand_and_holds(n_t, n_v, p):
    psi = exact.psi(n_t, n_v, p)
    assert psi.relative_error <= 1e-3
    circle = NaturalCircle(p, n_t)
    if min(n_t, n_v) == 1:
        again = exact._by_quadrature(circle, n_t, n_v, p)
    else:
        again = exact.Psi.interpolated(circle, exact._wishart_sampler(n_t, n_v, p, 2048, stream=99))
    rates = np.concatenate([RATES, [-30.0, 0.0, 0.6, 30.0, np.inf]])
    assert np.abs(psi(rates) / again(rates) - 1).max() < psi.relative_error + again.relative_error


@pytest.mark.parametrize(("n_t", "n_v", "p"), [(30, 2, 60), (5, 3, 24), (4, 4, 24), (3, 6, 24), (1, 3, 9), (7, 1, 9)])
def test_psi_at_zero_and_at_infinity_is_known_in_closed_form(n_t, n_v, p):
    psi = exact.psi(n_t, n_v, p)
    at_zero, at_plus, at_minus = psi(np.array([0.0, np.inf, -np.inf]))
    few, c0 = min(n_t, n_v), n_v / (p - n_v - 1)
    # The inverse of the sum of the two Wishart matrices.
    limit = n_v / (n_t + p - 2 * n_v - 1) if n_t >= n_v else (n_v - few) / (p - n_v - 1) + n_t / (p - n_t - 1)
    assert at_zero == pytest.approx(c0, rel=2e-5)
    assert at_plus == at_minus == pytest.approx(limit, rel=max(1e-4, psi.miss))


@pytest.mark.parametrize(("n_t", "n_v", "p"), [(30, 2, 60), (5, 3, 24), (30, 1, 20)])
def test_slope_of_psi_at_zero(n_t, n_v, p):
    psi, e = exact.psi(n_t, n_v, p), 1e-3
    slope = np.diff(psi(np.array([-e, e])))[0] / (2 * e)
    assert slope == pytest.approx(2 * n_v / (p - n_v - 1), rel=1e-3)


def test_psi_is_the_same_at_every_call_and_goes_round_infinity_without_a_step():
    rates = np.concatenate([-np.logspace(-2, 5, 50), np.logspace(-2, 5, 50)])
    first = exact.psi(30, 3, 60)(rates)
    exact.psi.cache_clear()
    assert (exact.psi(30, 3, 60)(rates) == first).all()
    far = exact.psi(30, 3, 60)(np.array([-1e7, np.inf, 1e7]))
    assert np.ptp(far) < 1e-5 * far[0]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(30, 2, 60), (5, 1, 12), (20, 3, 40)]), st.floats(1e-3, 1e3))
def test_a_negative_rate_is_better_than_the_positive_one_of_its_size(sizes, size):
    negative, positive = exact.psi(*sizes)(np.array([-size, size]))
    assert negative < positive


def test_chi_square_rule_integrates_moments():
    for degrees in (1, 5, 900):
        nodes, weights = exact._chi2_rule(degrees, 64)
        for order in (0, 1, 2, 5):
            value = np.prod([degrees + 2.0 * i for i in range(order)])
            assert weights @ nodes**order == pytest.approx(value, rel=1e-10)


def test_elimination_gives_the_trace_of_the_ratio():
    generator = np.random.default_rng(4)
    for q in (1, 2, 5):
        root, top = generator.standard_normal((2, 7, q, q))
        m, top = root @ root.swapaxes(1, 2) + np.eye(q), top + top.swapaxes(1, 2)
        value = exact._trace_ratio(exact._stack_last(m), exact._stack_last(top))
        assert value == pytest.approx(np.trace(np.linalg.solve(m, top), axis1=1, axis2=2))


def test_control_variates_reproduce_known_means():
    values = 1 + 0.3 * np.random.default_rng(0).standard_normal((exact._REPEATS * 64, 2))
    weights = exact._control_variates(values)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert np.einsum("rj,rjc->rc", weights, values.reshape(exact._REPEATS, 64, 2)) == pytest.approx(1)


def test_eigenvalue_draws_have_the_moments_of_a_wishart_matrix():
    draws = wishart.eigenvalue_draws(7, 4, 20_000)
    samples = np.stack([(draws**k).sum(axis=1) / 7 for k in (1, 2, 3)], axis=1)
    assert np.abs(estimate(samples).z([float(wishart.moment(k, 7, 4)) for k in (1, 2, 3)])).max() < 4
