"""Wishart moments and spectra: closed forms, Monte Carlo with dense matrices, and the Marchenko-Pastur law."""

import numpy as np
import pytest
from oracle import estimate

from undertow.theory import wishart

SIZES = [(5, 7), (6, 3), (4, 4)]


def closed_form(order, p, n):
    return {
        1: 1,
        2: 1 + (p + 1) / n,
        3: (n**2 + p**2 + 3 * n * p + 3 * n + 3 * p + 4) / n**2,
        4: (
            n**3 + p**3 + 6 * n**2 * p + 6 * n * p**2 + 6 * n**2 + 6 * p**2 + 17 * n * p + 21 * n + 21 * p + 20
        ) / n**3,
    }[order]  # fmt: skip


def dense_draws(p, n, draws, seed):
    x = np.random.default_rng(seed).standard_normal((draws, n, p))
    return x.swapaxes(1, 2) @ x / n


@pytest.mark.parametrize(("p", "n"), [*SIZES, (1, 1), (60, 30), (30, 5)])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moments_agree_with_their_closed_forms(p, n, order):
    assert float(wishart.moment(order, p, n)) == pytest.approx(closed_form(order, p, n), rel=1e-14)


@pytest.mark.parametrize("order", [1, 5, 9])
def test_moments_of_one_variable_are_those_of_chi_square(order):
    for n in (1, 2, 7):
        exact = np.prod([(n + 2 * i) / n for i in range(order)])
        assert float(wishart.moment(order, 1, n)) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("order", [3, 6, 8])
def test_moments_are_symmetric_in_the_two_sizes(order):
    # tr (X'X)^k = tr (XX')^k: p n^k moment(p, n) is symmetric.
    p, n = 4, 9
    left, right = p * n**order * wishart.moment(order, p, n), n * p**order * wishart.moment(order, n, p)
    assert left == right


@pytest.mark.parametrize(("p", "n"), SIZES)
def test_moments_against_monte_carlo(p, n):
    s = dense_draws(p, n, 40_000, seed=p)
    powers = [s]
    for _ in range(5):
        powers.append(powers[-1] @ s)
    traces = np.stack([np.trace(x, axis1=1, axis2=2) / p for x in powers], axis=1)
    exact = [float(wishart.moment(j, p, n)) for j in range(1, 7)]
    assert np.abs(estimate(traces).z(exact)).max() < 4


@pytest.mark.parametrize(("p", "n"), SIZES)
def test_traces_of_an_inner_step_against_monte_carlo(p, n):
    s, rates = dense_draws(p, n, 40_000, seed=10 + p), np.array([-1.5, -0.3, 0.4, 2.0])
    exact = wishart.rate_traces(rates, p, n)
    for k, a in enumerate(rates):
        square = (np.eye(p) - a * s) @ (np.eye(p) - a * s)
        trace = lambda x: np.trace(x, axis1=1, axis2=2) / p  # noqa: E731
        h, ts = trace(square), trace(s)
        samples = np.stack([h, trace(square @ square), trace(square @ s), h**2, h * ts], axis=1)
        z = estimate(samples).z([x[k] for x in exact])
        assert np.abs(z).max() < 4, (a, z)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_many_steps_against_monte_carlo(steps):
    p, n, rates = 5, 7, np.array([-0.8, 0.0, 0.3, 1.2])
    values, vectors = np.linalg.eigh(dense_draws(p, n, 40_000, seed=3))
    del vectors
    exact = wishart.inner_step(rates, steps, p, n)
    for k, a in enumerate(rates):
        power = (1 - a * values) ** steps
        samples = np.stack([(power**2).mean(axis=1), ((1 - power) ** 2 / values).mean(axis=1)], axis=1)
        if a == 0:
            assert (exact.square[k], exact.noise[k]) == (1.0, 0.0)
            continue
        assert np.abs(estimate(samples).z([exact.square[k], exact.noise[k]])).max() < 4
    assert wishart.mean_power(rates, 2 * steps, p, n) == pytest.approx(exact.square, rel=1e-13)


def test_one_step_is_the_first_case_of_many_steps():
    rates = np.array([-2.0, 0.1, 3.0])
    one = wishart.inner_step(rates, 1, 6, 9)
    assert one.square == pytest.approx(wishart.mean_power(rates, 2, 6, 9), rel=1e-13)
    assert one.noise == pytest.approx(rates**2, rel=1e-13)


@pytest.mark.parametrize(
    ("p", "n"),
    [
        (30, 5),
        (5, 30),
        (3, 1),
        (1, 4),
        (2, 2),
        (100, 100),
        (40, 10**5),
        (7, 10**13),
        (600, 300),
        (300, 900),
        (9000, 6000),
    ],
)
def test_a_spectrum_has_exact_moments(p, n):
    rule = wishart.spectrum(p, n)
    assert (rule.weights >= 0).all()
    assert (rule.nodes >= 0).all()
    for order in range(7):
        assert rule.weights @ rule.nodes**order == pytest.approx(float(wishart.moment(order, p, n)), rel=1e-9)
    assert rule.weights[rule.nodes == 0].sum() == pytest.approx(max(0.0, 1 - n / p), abs=1e-12)


@pytest.mark.parametrize(("p", "n"), [(4, 9), (99, 300), (101, 105), (230, 200), (500, 10**6), (1000, 1005)])
def test_a_spectrum_has_exact_inverse_moments(p, n):
    """Of the inverse Wishart distribution: von Rosen, "Moments for the inverted Wishart distribution" (1988)."""
    rule = wishart.spectrum(p, n)
    live, low, gap = rule.nodes > 0, min(p, n), abs(n - p)
    first, second = (rule.weights[live] @ rule.nodes[live] ** -order for order in (1.0, 2.0))
    assert first == pytest.approx(low / p * n / (gap - 1), rel=1e-8)
    assert second == pytest.approx(low / p * n**2 * (max(p, n) - 1) / (gap * (gap - 1) * (gap - 3)), rel=1e-8)


def test_the_error_of_the_limit_law_is_that_of_its_inverse_moment():
    assert wishart.spectrum_error(300, 330) == wishart.spectrum_error(5000, 5003)
    assert wishart.spectrum_error(6000, 6002) == 1.0
    assert 0.01 < wishart.spectrum_error(6000, 6100) < 0.2


@pytest.mark.parametrize(("p", "n"), [(5, 9), (9, 5), (6, 6)])
def test_a_spectrum_agrees_with_dense_matrices(p, n):
    values = np.linalg.eigvalsh(dense_draws(p, n, 20_000, seed=8)).clip(0)
    functions = [lambda s: 1 / (0.3 + s), lambda s: 1 / ((1 - 0.5 * s) ** 2 + 0.02), lambda s: np.exp(-3 * s)]
    rule = wishart.spectrum(p, n)
    means = [rule.weights @ f(rule.nodes) for f in functions]
    assert np.abs(estimate(np.stack([f(values).mean(axis=1) for f in functions], axis=1)).z(means)).max() < 4


@pytest.mark.parametrize("y", [0.25, 0.9, 3.0])
def test_marchenko_pastur_has_its_stieltjes_transform(y):
    rule = wishart.marchenko_pastur(y)
    z = 0.7 + 0.4j
    m = rule.weights @ (1 / (rule.nodes - z))
    assert abs(y * z * m**2 + (z + y - 1) * m + 1) < 1e-12
