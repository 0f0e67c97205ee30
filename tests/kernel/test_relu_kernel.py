"""The kernels of the wide two-layer ReLU network: exact values, Monte Carlo over networks, and convergence in width."""

import numpy as np
import pytest

import undertow as ut
from undertow.kernel import linear_kernel, relu_nngp, relu_ntk

X = np.random.default_rng(0).standard_normal((5, 3))
Z = np.concatenate([X[:2], -2 * X[2:3], np.random.default_rng(1).standard_normal((2, 3))])


def with_one(x):
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def networks(seed, count, width, x):
    """Values (count, n) and tangent kernels (count, n, n) of random networks, by hand-written derivatives."""
    rng = np.random.default_rng(seed)
    rows = with_one(x)
    w, a = rng.standard_normal((count, width, rows.shape[1])), rng.standard_normal((count, width))
    before = w @ rows.T
    hidden = np.maximum(before, 0)
    values = np.einsum("cj,cjn->cn", a, hidden) / np.sqrt(width)
    of_a = hidden / np.sqrt(width)
    of_w = a[..., None] * (before > 0) / np.sqrt(width)
    kernel = of_a.transpose(0, 2, 1) @ of_a + (of_w.transpose(0, 2, 1) @ of_w) * (rows @ rows.T)
    return values, kernel


def z_of_mean(samples, expected):
    return np.abs((samples.mean(0) - expected) / (samples.std(0, ddof=1) / np.sqrt(len(samples)))).max()


def test_starting_values_have_the_stated_covariance():
    values = networks(0, 40_000, 5, X)[0]
    assert z_of_mean(values, 0.0) < 4
    assert z_of_mean(values[:, :, None] * values[:, None, :], relu_nngp(X)) < 4


def test_tangent_kernels_scatter_around_the_analytic_one_like_one_over_the_root_of_width():
    # A kernel of width n is a mean of n independent terms: mean K exactly, n times the variance the same at all n.
    scaled = {}
    for width, count in [(4, 40_000), (32, 10_000), (256, 2_000)]:
        kernels = networks(width, count, width, X)[1]
        assert z_of_mean(kernels, relu_ntk(X)) < 4
        scaled[width] = width * (kernels - relu_ntk(X)) ** 2
    for width in (32, 256):
        means, errors = zip(*((s.mean(0), s.std(0) / np.sqrt(len(s))) for s in (scaled[4], scaled[width])), strict=True)
        assert np.abs((means[0] - means[1]) / np.hypot(*errors)).max() < 4


def test_values_that_are_known():
    rows = with_one(X)
    np.testing.assert_allclose(np.diag(relu_ntk(X)), (rows**2).sum(1), rtol=1e-15)
    np.testing.assert_allclose(np.diag(relu_nngp(X)), (rows**2).sum(1) / 2, rtol=1e-15)
    # Opposite rows share no active unit; orthogonal ones have angle pi / 2.
    np.testing.assert_allclose(relu_ntk(X, -3 * X, bias=False).diagonal(), 0, atol=1e-15)
    pair = np.array([[2.0, 0.0]]), np.array([[0.0, 3.0]])
    np.testing.assert_allclose(relu_ntk(*pair, bias=False), 6 / (2 * np.pi))
    assert not relu_ntk(np.zeros((2, 3)), X, bias=False).any()
    np.testing.assert_array_equal(linear_kernel(X, Z), X @ Z.T)


def test_all_digits_of_small_and_of_almost_straight_angles():
    t = np.array([0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 3.0, np.pi - 1e-3, np.pi - 1e-6, np.pi - 1e-9])
    rows = 2.0 * np.stack([np.cos(t), np.sin(t)], axis=1)
    first = np.array([[1.0, 0.0]])
    expected = 2 / (2 * np.pi) * (np.sin(t) + 2 * (np.pi - t) * np.cos(t))
    np.testing.assert_allclose(relu_ntk(first, rows, bias=False)[0], expected, rtol=2e-15, atol=1e-15)
    # What a kink at equal rows is made of: K falls by |t| / pi, to the last digit.
    drop = 2.0 - relu_ntk(first, rows, bias=False)[0]
    np.testing.assert_allclose(drop[1:4], 2 * t[1:4] / (2 * np.pi), rtol=1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [relu_ntk, relu_nngp])
def test_kernels_are_symmetric_and_positive(kernel, bias):
    both = np.concatenate([X, Z])
    matrix = kernel(both, bias=bias)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-14)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-13
    np.testing.assert_allclose(kernel(X, Z, bias=bias), matrix[: len(X), len(X) :], rtol=1e-13, atol=1e-15)
    # Homogeneous of degree one in each argument when there is no bias.
    if not bias:
        np.testing.assert_allclose(kernel(3 * X, Z, bias=False), 3 * kernel(X, Z, bias=False), rtol=1e-13, atol=1e-14)


def test_pairs_in_pieces_are_the_same_pairs(monkeypatch):
    rows = np.random.default_rng(2).uniform(-5, 5, (40, 1))  # in two dimensions most pairs are nearly parallel
    whole = relu_ntk(rows)
    monkeypatch.setattr("undertow.kernel.relu._PIECE", 50)
    np.testing.assert_allclose(relu_ntk(rows), whole, rtol=0, atol=1e-14)


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ut.InputError, match="rows have 3 and 2 features"):
        relu_ntk(X, X[:, :2])
    with pytest.raises(ut.InputError, match=r"rows have shape \(3,\)"):
        relu_nngp(X[0])
