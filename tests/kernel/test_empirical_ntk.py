"""The empirical tangent kernel: explicit Jacobians, finite differences, infinite width, and the path on top."""

import feature_space
import numpy as np
import pytest

import undertow as ut
from undertow.kernel import kernel_path, relu_nngp, relu_ntk

jax = pytest.importorskip("jax")
jnp = jax.numpy

from undertow.gradient.ntk import Linearisation, empirical_ntk  # noqa: E402

X = np.random.default_rng(0).standard_normal((7, 3))
Z = np.random.default_rng(1).standard_normal((4, 3))


def network(params, x):
    """Two layers, biases in the first by a coordinate 1: the network of ``undertow.kernel.relu``."""
    w, a = params
    rows = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    return jax.nn.relu(rows @ w.T) @ a / jnp.sqrt(len(a))


def start(seed, width, p=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((width, p + 1)), rng.standard_normal(width)


def by_hand(params, x):
    """Jacobian of ``network``, written out: (n, width (p + 2))."""
    w, a = params
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    before = rows @ w.T
    of_w = (a * (before > 0))[:, :, None] * rows[:, None, :]
    return np.concatenate([of_w.reshape(len(x), -1), np.maximum(before, 0)], axis=1) / np.sqrt(len(a))


def deep(params, x):
    """Two outputs, a nested tree, and leaves that are not parameters."""
    hidden = params["activation"](x @ params["layers"][0]["w"] + params["layers"][0]["b"])
    return params["activation"](params["times"] * hidden @ params["layers"][1]["w"])


def deep_start(seed=0):
    rng = np.random.default_rng(seed)
    layers = [
        {"w": rng.standard_normal((3, 6)), "b": rng.standard_normal(6)},
        {"w": rng.standard_normal((6, 2))},
    ]
    return {"layers": layers, "activation": jnp.tanh, "times": 2}


@pytest.mark.parametrize("chunk_rows", [None, 1, 3, 100])
@pytest.mark.long
def test_kernel_and_features_equal_jacobians_written_by_hand(chunk_rows):
    params = start(0, 20)
    lin = Linearisation(network, params, chunk_rows=chunk_rows)
    jacobian = by_hand(params, X)
    np.testing.assert_allclose(lin.features(X), jacobian, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(lin.kernel(X), jacobian @ jacobian.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(lin.kernel(X, Z), jacobian @ by_hand(params, Z).T, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(lin.kernel(X), lin.kernel(X).T)
    np.testing.assert_allclose(empirical_ntk(network, params, Z, X), by_hand(params, Z) @ jacobian.T, rtol=1e-11)
    w, a = params
    values = np.maximum(np.concatenate([X, np.ones((7, 1))], axis=1) @ w.T, 0) @ a / np.sqrt(20)
    np.testing.assert_allclose(lin.f0(X), values, rtol=1e-12)
    assert lin.n_params == 100


@pytest.mark.parametrize("chunk_rows", [None, 2])
def test_several_outputs_and_any_tree_equal_finite_differences(chunk_rows):
    params = deep_start()
    lin = Linearisation(deep, params, chunk_rows=chunk_rows)
    leaves = [params["layers"][0]["b"], params["layers"][0]["w"], params["layers"][1]["w"]]
    columns = []
    for leaf in leaves:
        for index in np.ndindex(leaf.shape):
            kept = leaf[index]
            sides = []
            for shift in (1e-5, -1e-5):
                leaf[index] = kept + shift
                sides.append(lin.around(params).f0(X))
            leaf[index] = kept
            columns.append((sides[0] - sides[1]) / 2e-5)
    jacobian = np.stack(columns, axis=-1)
    assert jacobian.shape == (7, 2, 6 + 18 + 12)
    np.testing.assert_allclose(lin.features(X), jacobian, atol=1e-8)
    np.testing.assert_allclose(lin.kernel(X), np.einsum("iop,jqp->ijoq", jacobian, jacobian), atol=1e-6)
    for first, second in [(X[:3], X), (X, X[:3])]:
        both = np.einsum("iop,jqp->ijoq", *(lin.features(x) for x in (first, second)))
        np.testing.assert_allclose(lin.kernel(first, second), both, rtol=1e-11, atol=1e-12)
    assert lin.f0(X).shape == (7, 2)


def test_precision_is_that_of_the_parameters_or_the_one_asked_for():
    params = start(0, 20)
    single = [part.astype(np.float32) for part in params]
    low, high = Linearisation(network, tuple(single)), Linearisation(network, tuple(single), dtype=np.float64)
    truth = by_hand([part.astype(np.float64) for part in single], X)
    for lin, dtype, digits in [(low, np.float32, 1e-5), (high, np.float64, 1e-13)]:
        for ours in (lin.kernel(X), lin.f0(X), lin.features(X), lin.at(tuple(single), X)):
            assert ours.dtype == dtype
        error = np.abs(lin.kernel(X) - truth @ truth.T).max()
        assert error < digits
    assert np.abs(low.kernel(X) - truth @ truth.T).max() > 1e-9
    assert jnp.ones(2).dtype == np.float32  # the global setting is as before


def test_the_linearisation_is_linear_in_parameters_and_touches_the_model():
    params, other = start(0, 20), start(1, 20)
    lin = Linearisation(network, params)
    delta = np.concatenate([(b - a).ravel() for a, b in zip(params, other, strict=True)])
    np.testing.assert_allclose(lin.at(other, X), lin.f0(X) + by_hand(params, X) @ delta, rtol=1e-12, atol=1e-12)
    near = tuple(a + 1e-6 * (b - a) for a, b in zip(params, other, strict=True))
    np.testing.assert_allclose(lin.at(near, X), lin.around(near).f0(X), atol=1e-10)
    assert np.abs(lin.f0(X) - lin.at(near, X)).max() > 1e-7


@pytest.mark.long
def test_kernel_path_runs_on_a_network_with_its_own_start():
    problem, design = ut.QuadraticRegression(3), ut.Design(4, 6, 3)
    tasks, new = problem.sample(design, 0), problem.sample(design, 1)
    params = start(0, 30)
    lin = Linearisation(network, params)
    path = kernel_path(lin.kernel, tasks, [-0.5, 0.0, 0.2], f0=lin.f0)
    surface = path.evaluate(new)
    for i, rate in enumerate(path.train_rates):
        features = lambda x: by_hand(params, x)  # noqa: E731
        delta, _ = feature_space.fit(features, lin.f0, tasks, rate)
        np.testing.assert_allclose(path.predict(X)[i], lin.f0(X) + features(X) @ delta, rtol=1e-8, atol=1e-8)
        moved = params[0] + delta[: 30 * 4].reshape(30, 4), params[1] + delta[30 * 4 :]
        np.testing.assert_allclose(path.predict(X)[i], lin.at(moved, X), rtol=1e-8, atol=1e-8)
        truth = feature_space.adapted(features, lin.f0, delta, new, 0.1)
        assert surface.loss(0.1)[i] == pytest.approx(0.5 * np.mean((np.array(truth) - new.query_y) ** 2), rel=1e-7)


@pytest.mark.long
def test_finite_networks_scatter_around_infinite_width_like_one_over_its_root():
    # Over random starts the mean is the analytic kernel at every width, and width times the variance is one number.
    rows, count = X[:3], 400
    scaled = {}
    for width in (16, 64, 256):
        lin = Linearisation(network, start(0, width))
        moved = [lin.around(start((width, seed), width)) for seed in range(count)]
        kernels = np.stack([one.kernel(rows) for one in moved])
        values = np.stack([one.f0(rows) for one in moved])
        for samples, mean in [
            (kernels, relu_ntk(rows)),
            (values[:, :, None] * values[:, None, :], relu_nngp(rows)),
            (values, np.zeros(3)),
        ]:
            error = samples.std(0, ddof=1) / np.sqrt(count)
            assert (np.abs(samples.mean(0) - mean) < 4 * error).all()
        scaled[width] = width * (kernels - relu_ntk(rows)) ** 2
    for width in (64, 256):
        both = [scaled[16], scaled[width]]
        error = np.hypot(*(s.std(0, ddof=1) / np.sqrt(count) for s in both))
        assert (np.abs(both[0].mean(0) - both[1].mean(0)) < 4 * error).all()


def test_what_cannot_be_linearised_is_refused():
    with pytest.raises(ut.InputError, match="holds no floating-point array"):
        Linearisation(network, (1, np.arange(3)))
    with pytest.raises(ut.InputError, match="int32"):
        Linearisation(network, start(0, 5), dtype=np.int32)
    lin = Linearisation(lambda params, x: params[0].sum() + x.sum(), start(0, 5))
    with pytest.raises(ut.InputError, match=r"returned shape \(\) for 7 rows"):
        lin.kernel(X)
    lin = Linearisation(network, start(0, 5))
    with pytest.raises(ut.InputError, match="structure"):
        lin.at([1.0], X)
    with pytest.raises(ut.InputError, match="shapes"):
        lin.around(start(0, 6))
