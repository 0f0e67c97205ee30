"""Two roads to the same weights: the gradient half run to convergence, and the exact half."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import undertow as ut
from undertow import gradient as ug

pytestmark = pytest.mark.usefixtures("x64")

SIZES = {"tall": (4, ut.Design(10, 20, 4)), "wide": (12, ut.Design(3, 16, 2))}
RATES = [-0.3, -0.1, 0.0, 0.15]
MOMENTUM = optax.sgd(0.015, momentum=0.9, nesterov=True)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def linear_loss(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def sample(regime, seed=0):
    p, design = SIZES[regime]
    return ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p)).sample(design, seed)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("regime", list(SIZES))
def test_training_to_convergence_finds_the_exact_weights(regime, steps):
    """From zero, gradient steps stay in the row space: with fewer query rows than features they end at minimum norm."""
    tasks = sample(regime)
    path = ut.rate_path(tasks, RATES, steps=steps)
    assert set(path.outcome) == {"full_rank" if regime == "tall" else "minimum_norm"}
    for i, rate in enumerate(RATES):
        state, history = ug.train(
            linear_loss, jnp.zeros(tasks.n_features), tasks, MOMENTUM, rate, ug.InnerLoop(steps), iterations=20_000,
            chunk=20_000, tolerance=1e-11,
        )  # fmt: skip
        assert state.stopped == "tolerance", (rate, history.gradient_norm[-1])
        error = np.linalg.norm(state.params - path.weights[i]) / np.linalg.norm(path.weights[i])
        assert error < 1e-6, (rate, error)
        np.testing.assert_allclose(history.meta_loss[-1], path.meta_loss[i], rtol=1e-6, atol=1e-12)


def test_first_order_ends_elsewhere():
    tasks = sample("tall")
    exact = ut.rate_path(tasks, [-0.3]).weights[0]
    state, _ = ug.train(
        linear_loss,
        jnp.zeros(4),
        tasks,
        MOMENTUM,
        -0.3,
        ug.InnerLoop(first_order=True),
        iterations=20_000,
        chunk=20_000,
        tolerance=1e-11,
    )
    assert state.stopped == "tolerance"
    assert np.linalg.norm(state.params - exact) > 1e-3 * np.linalg.norm(exact)
    # Its fixed point solves sum X_v^T (B omega - gamma) = 0 without the factor (I - rate S) in front.
    left, right = 0.0, 0.0
    for x, y, qx, qy in zip(*tasks[:4], strict=True):
        inner = np.eye(4) + 0.3 * x.T @ x / len(y)
        left = left + qx.T @ qx @ inner
        right = right + qx.T @ (qy + 0.3 * qx @ x.T @ y / len(y))
    np.testing.assert_allclose(state.params, np.linalg.solve(left, right), rtol=1e-7)


@pytest.mark.long
def test_lbfgs_and_another_start_agree_as_well():
    tasks = sample("wide")
    init = np.linspace(1, -1, 12)
    exact = ut.rate_path(tasks, [-0.3], init=init).weights[0]
    state, _ = ug.train(linear_loss, jnp.asarray(init), tasks, optax.lbfgs(), -0.3, iterations=200, tolerance=1e-11)
    assert state.stopped == "tolerance"
    np.testing.assert_allclose(state.params, exact, rtol=1e-6)


@pytest.mark.parametrize("weighting", ["rows", "tasks"])
def test_ragged_tasks_agree(weighting):
    tasks = sample("tall")
    rng = np.random.default_rng(1)
    masks = [np.arange(n) < rng.integers(low, n + 1, 10)[:, None] for low, n in ((8, 20), (2, 4))]
    tasks = tasks._replace(support_mask=masks[0], query_mask=masks[1])
    path = ut.rate_path(tasks, RATES, weighting=weighting)
    look = jax.jit(
        jax.value_and_grad(lambda w, rate: ug.meta_loss(linear_loss, w, tasks, rate, weighting=weighting)[0])
    )
    for rate, weights, loss in zip(RATES, path.weights, path.meta_loss, strict=True):
        value, gradient = look(weights, rate)
        np.testing.assert_allclose(value, loss, rtol=1e-10)
        assert np.linalg.norm(gradient) < 1e-10


def test_losses_and_adapted_weights_on_new_tasks_agree():
    tasks, new = sample("tall"), sample("tall", seed=5)
    path = ut.rate_path(tasks, RATES, steps=2)
    surface = path.evaluate(new, steps=3)
    look = jax.jit(lambda w, rate: ug.meta_loss(linear_loss, w, new, rate, ug.InnerLoop(3))[0])
    for rate in (-0.1, 0.2):
        np.testing.assert_allclose([look(w, rate) for w in path.weights], surface.loss(rate), rtol=1e-10)
