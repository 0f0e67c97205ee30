"""The test side: exact loss after adaptation against sampled tasks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import estimate

import undertow as ut
from undertow.theory import adapted_loss, optimal_adapt_rate


def sampled_losses(p, n_adapt, adapt_rates, distance2, task2, noise2, steps, draws, seed):
    """Losses given the adaptation inputs (draws, rates); the mean over w, z and the test row is in closed form."""
    x = np.random.default_rng(seed).standard_normal((draws, n_adapt, p))
    s = x.swapaxes(1, 2) @ x / n_adapt
    out = np.empty((draws, len(adapt_rates)))
    for k, a in enumerate(adapt_rates):
        power, growth = np.broadcast_to(np.eye(p), s.shape), np.zeros_like(s)
        for _ in range(steps):
            growth, power = growth + power, power @ (np.eye(p) - a * s)
        j = (a / n_adapt) * growth @ x.swapaxes(1, 2)
        out[:, k] = noise2 / 2 * (1 + (j**2).sum(axis=(1, 2))) + (power**2).sum(axis=(1, 2)) / p / 2 * (
            task2 + distance2
        )
    return out


@pytest.mark.parametrize(("p", "n_adapt", "steps"), [(6, 9, 1), (9, 4, 1), (5, 8, 2), (4, 3, 3)])
def test_loss_against_sampled_adaptation(p, n_adapt, steps):
    rates = np.array([-0.5, 0.0, 0.2, 0.9])
    mc = estimate(sampled_losses(p, n_adapt, rates, 0.7, 0.25, 1.5, steps, 20_000, seed=5))
    value = adapted_loss.loss(p, n_adapt, rates, np.array(0.7), 0.25, 1.5, steps)
    assert value[1] == pytest.approx(1.5 / 2 + (0.25 + 0.7) / 2, rel=1e-14)
    assert np.abs(mc.z(value)[[0, 2, 3]]).max() < 4


@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0, 10), st.floats(0, 3), st.floats(0, 3),
)  # fmt: skip
def test_best_rate_is_in_the_unit_interval_and_is_the_minimum(p, n_adapt, distance, task2, noise2):
    q = np.array(distance)
    best = adapted_loss.best_rate(p, n_adapt, q, task2, noise2)
    assert 0 <= best < 1
    at = lambda a: adapted_loss.loss(p, n_adapt, np.asarray(a), q, task2, noise2)  # noqa: E731
    assert at(best) <= min(at(best - 1e-3), at(best + 1e-3)) + 1e-12


def test_best_rate_is_zero_only_without_distance():
    assert adapted_loss.best_rate(5, 5, np.array(0.0), 0.0, 1.0) == 0
    assert adapted_loss.best_rate(5, 5, np.array(0.0), 0.0, 0.0) == 0
    assert adapted_loss.best_rate(5, 5, np.array(1e-6), 0.0, 1.0) > 0


def test_best_adapt_rate_of_the_face_is_the_minimum_of_the_loss():
    problem, design = ut.MixedLinearRegression(20, 1.0, 0.5), ut.Design(3, 10, 2, 8)
    rates = np.array([-1.0, 0.0, 0.5, np.inf])
    best = optimal_adapt_rate(problem, design, rates)
    loss = lambda r: ut.theory.expected_loss(problem, design, rates, r)  # noqa: E731
    assert (loss(best) < np.minimum(loss(best + 1e-3), loss(best - 1e-3))).all()
    assert optimal_adapt_rate(problem, design, -1.0) == pytest.approx(best[0], rel=1e-12)


def test_best_adapt_rate_where_the_mean_is_infinite_is_the_limit():
    problem, design = ut.MixedLinearRegression(20, 1.0, 0.5), ut.Design(10, 10, 2, 8)
    assert optimal_adapt_rate(problem, design, 0.3) == pytest.approx(1 / (1 + 21 / 8))
