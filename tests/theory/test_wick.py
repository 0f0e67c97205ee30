"""Wick pairing: against closed real-Wishart moments, against brute force, and against direct Monte Carlo."""

from __future__ import annotations

import doctest
from itertools import product

import numpy as np
import pytest

from undertow.theory import wick

SIZES = [(1, 1), (3, 7), (6, 2), (40, 25)]


def wishart_moments(p: int, n: int) -> dict[tuple[str, ...], float]:
    """E prod tr(S^k) / p^(number of traces) for white inputs; standard closed forms."""
    s2 = 1 + (p + 1) / n
    return {
        ("S",): 1.0,
        ("SS",): s2,
        ("SSS",): (n**2 + p**2 + 3 * p * n + 3 * n + 3 * p + 4) / n**2,
        ("SSSS",): (n**3 + p**3 + 6 * n**2 * p + 6 * n * p**2 + 6 * n**2 + 6 * p**2 + 17 * n * p + 21 * (n + p) + 20)
        / n**3,
        ("S", "S"): 1 + 2 / (n * p),
        ("S", "SS"): s2 * (n * p + 4) / (n * p),
        ("SS", "SS"): s2**2 + 4 * (2 * n**2 + 2 * p**2 + 5 * n * p + 5 * n + 5 * p + 5) / (n**3 * p),
    }


@pytest.mark.parametrize(("p", "n"), SIZES)
def test_closed_wishart_moments(p, n):
    white = {"X": np.ones(p)}
    for traces, value in wishart_moments(p, n).items():
        np.testing.assert_allclose(wick.polynomial("", traces, n, white)[0] / p ** len(traces), value, rtol=1e-10)
        if len(traces) == 1:
            np.testing.assert_allclose(wick.polynomial(traces[0], (), n, white)[0], value, rtol=1e-10)


@pytest.mark.parametrize(("p", "n"), SIZES)
def test_polynomial_of_inner_step_moments(p, n):
    """E A^4, E A^2 S and E (tr A^2)^2 from the moments of S, by the binomial theorem."""
    moments, white = wishart_moments(p, n), {"X": np.ones(p)}
    s1, s2, s3, s4 = (moments[("S" * k,)] for k in range(1, 5))
    np.testing.assert_allclose(wick.polynomial("AAAA", (), n, white)[:, 0], [1, -4, 6 * s2, -4 * s3, s4], rtol=1e-10)
    np.testing.assert_allclose(wick.polynomial("AAS", (), n, white)[:, 0], [s1, -2 * s2, s3], rtol=1e-10)
    t11, t12, t22 = moments[("S", "S")], moments[("S", "SS")], moments[("SS", "SS")]
    squares = wick.polynomial("", ("AA", "AA"), n, white)[:, 0] / p**2
    np.testing.assert_allclose(squares, [1, -4, 4 * t11 + 2 * s2, -4 * t12, t22], rtol=1e-10)


def test_second_moment_of_the_adaptation_step():
    """E (I - b S) Sx (I - b S) = Sx - 2 b Sx^2 + b^2 [(1 + 1/n) Sx^3 + tr(Sx^2)/n Sx]."""
    x, n = np.array([0.2, 1.0, 3.0]), 4
    expected = [x, -2 * x**2, (1 + 1 / n) * x**3 + (x @ x) / n * x]
    np.testing.assert_allclose(wick.polynomial("AXA", (), n, {"X": x}), expected, rtol=1e-12)


def diagonals(p: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {"X": rng.uniform(0.5, 2.0, size=p)} | {name: rng.normal(size=p) for name in "BCD"}


def multiply(word: str, matrices: dict[str, np.ndarray]) -> np.ndarray:
    out = np.eye(matrices["X"].shape[-1])
    for letter in word:
        out = out @ matrices[letter]
    return out


PRODUCTS = [
    ("S", ()),
    ("BSCSDS", ()),
    ("SBS", ("SCSD",)),
    ("BSCSDSBS", ()),
    ("B", ("S", "SC")),
    ("", ("SB", "SCSD")),
    ("", ("SBSCSDSB",)),
    ("", ("BC", "SDS")),
]


@pytest.mark.parametrize(("word", "traces"), PRODUCTS)
def test_products_with_diagonal_matrices_against_monte_carlo(word, traces):
    p, n, runs = 3, 4, 60_000
    given = diagonals(p)
    matrices = {name: np.diag(values) for name, values in given.items()}
    x = np.random.default_rng(11).normal(size=(runs, n, p)) * np.sqrt(given["X"])
    drawn = matrices | {"S": np.swapaxes(x, 1, 2) @ x / n}
    sample = multiply(word, drawn) * np.ones((runs, 1, 1))
    for trace in traces:
        sample = (
            sample * np.trace(np.broadcast_to(multiply(trace, drawn), (runs, p, p)), axis1=1, axis2=2)[:, None, None]
        )
    expected = np.diag(wick.polynomial(word, traces, n, given)[0])
    error = sample.std(axis=0) / np.sqrt(runs) + 1e-12
    assert np.abs((sample.mean(axis=0) - expected) / error).max() < 4
    # The bound can fail: with S replaced by its mean, a product of two or more S is far outside of it.
    if "".join((word, *traces)).count("S") > 1:
        mean = matrices | {"S": matrices["X"]}
        plain = np.prod([np.trace(multiply(t, mean)) for t in traces]) * multiply(word, mean)
        assert np.abs((plain - expected) / error).max() > 4


def test_one_row_of_two_features_by_brute_force():
    """n = 1: Gauss-Hermite integrates the polynomial E x x' B x x' C x x' exactly."""
    given = diagonals(2)
    matrices = {name: np.diag(values) for name, values in given.items()}
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    total = np.zeros((2, 2))
    for (u, wu), (v, wv) in product(zip(nodes, weights, strict=True), repeat=2):
        x = np.sqrt(given["X"]) * [u, v]
        drawn = matrices | {"S": np.outer(x, x)}
        total += wu * wv / (2 * np.pi) * multiply("SBSCS", drawn) * np.trace(multiply("SD", drawn))
    expected = np.diag(wick.polynomial("SBSCS", ("SD",), 1, given)[0])
    np.testing.assert_allclose(expected, total, rtol=1e-10, atol=1e-12)


def test_number_of_pairings():
    for slots, count in [(1, 1), (2, 3), (3, 15), (4, 105)]:
        assert wick.pairings(("B" + "SC" * slots,)).total() == count


def test_docstring_example():
    assert doctest.testmod(wick).failed == 0
