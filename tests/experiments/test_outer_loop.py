"""Outer loops in one program, and the reference that they are held against."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undertow as ut
from undertow.experiments import direction_runs, network_runs, outer_loop
from undertow.experiments.conv_net import conv_net
from undertow.gradient.ntk import Linearisation
from undertow.kernel import kernel_path, linear_kernel

RATES = np.array([-1.0, 0.0, 0.4])


def problem(p=8, m=3, n_query=2):
    return ut.MixedLinearRegression(p, 0.5, 1.0).sample(ut.Design(m, 6, n_query), 0)


def loops(step, momentum=0.0):
    k = len(RATES)
    return outer_loop.Loops(
        np.zeros(k, int),
        RATES.astype(np.float32),
        np.broadcast_to(step, k).astype(np.float32),
        np.broadcast_to(momentum, k).astype(np.float32),
    )


def test_the_hessian_and_right_hand_side_are_those_of_the_stacked_problem():
    tasks = problem()
    hessian, right = direction_runs.outer_matrices(tasks, RATES)
    for k, rate in enumerate(RATES):
        rows, targets = [], []
        for x_t, y_t, x_v, y_v in zip(*tasks[:4], strict=True):
            rows.append(x_v @ (np.eye(8) - rate / 6 * x_t.T @ x_t))
            targets.append(y_v - rate / 6 * x_v @ x_t.T @ y_t)
        b, gamma = np.concatenate(rows), np.concatenate(targets)
        np.testing.assert_allclose(hessian[k], b.T @ b / 6, atol=1e-12)
        np.testing.assert_allclose(right[k], b.T @ gamma / 6, atol=1e-12)


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("start_std", [0.0, 1.0])
def test_descent_reaches_the_solution_nearest_to_its_start(momentum, start_std):
    tasks = problem()
    step, factor = outer_loop.descent_numbers(direction_runs.outer_matrices(tasks, RATES)[0], 0.7, momentum)
    model = outer_loop.Linear(8, start_std)
    starts, stacked = outer_loop.starts(model, [7]), outer_loop.stacked([tasks])
    done = outer_loop.train_loops(model, "descent", stacked, starts, loops(step, factor), 20000, 1e-5, 0)
    exact = ut.rate_path(tasks, RATES, init=np.asarray(starts[0], np.float64)).weights
    assert (np.asarray(done.gradient_ratio) <= 1e-5).all()
    np.testing.assert_allclose(done.params, exact, atol=2e-3 * abs(exact).max())


def test_momentum_needs_fewer_updates():
    tasks = problem(p=4, m=6)
    matrices = direction_runs.outer_matrices(tasks, RATES)[0]
    counts, model, stacked = [], outer_loop.Linear(4), outer_loop.stacked([tasks])
    for momentum in (False, True):
        step, factor = outer_loop.descent_numbers(matrices, 0.7, momentum)
        starts = outer_loop.starts(model, [7])
        done = outer_loop.train_loops(model, "descent", stacked, starts, loops(step, factor), 20000, 1e-4, 0)
        counts.append(np.asarray(done.iterations).sum())
    assert counts[1] < counts[0]


@pytest.mark.parametrize("method", ["descent", "adam"])
def test_stopped_early_is_the_same_loop_cut_short(method):
    tasks = outer_loop.stacked([problem()])
    model = outer_loop.Linear(8, 1.0)
    starts, step = outer_loop.starts(model, [7]), 0.05
    long = outer_loop.train_loops(model, method, tasks, starts, loops(step), 50, 0.0, 6)
    if method == "descent":
        short = outer_loop.train_loops(model, method, tasks, starts, loops(step), 6, 0.0, 0)
        np.testing.assert_array_equal(long.early, short.params)
    assert abs(np.asarray(long.early) - np.asarray(long.params)).max() > 1e-3
    whole = outer_loop.train_loops(model, method, tasks, starts, loops(step), 50, 0.0, 99)
    np.testing.assert_array_equal(whole.early, whole.params)


def test_an_antisymmetric_start_is_the_zero_function_and_the_other_is_not():
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    for antisymmetric in (True, False):
        model = outer_loop.TwoLayer(3, 10, antisymmetric)
        params = model.start(jax.random.key(0))
        assert params["first"].shape == (4, 10)
        assert (abs(np.asarray(model.apply(params, x))).max() < 1e-6) == antisymmetric


def test_losses_around_the_step_agree_with_those_of_the_kernel_path():
    """Two roads: the network's code on the exact weights of a linear model, and the kernel path of the same model."""
    problem_ = ut.MixedLinearRegression(8, 0.5, 1.0)
    tasks, new = problem_.sample(ut.Design(3, 6, 2), 0), problem_.sample(ut.Design(4, 5, 3), 1)
    path = kernel_path(linear_kernel, tasks, RATES)
    expected = direction_runs._kernel_losses(path, tasks, new, RATES)
    values, test_loss = network_runs.kernel_values(path, new, 0.3)
    exact = ut.rate_path(tasks, RATES).weights.astype(np.float32)
    losses, seen = outer_loop.losses_of(
        outer_loop.Linear(8), exact, outer_loop.stacked([tasks]), outer_loop.stacked([new]), loops(0.1), 0.3
    )
    for name, value in expected.items():
        np.testing.assert_allclose(losses[name], value, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(seen, values, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(losses["test_loss"], test_loss, rtol=2e-4)


@pytest.mark.long
@pytest.mark.parametrize("channels", [1, 3])
def test_the_convolution_by_patches_is_a_convolution(channels):
    init, apply = conv_net(5, 4, 1, 7, channels)
    params = init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 7, 7, channels))
    kernel = params[0]["weight"].reshape(3, 3, channels, 4)
    out = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    expected = jax.nn.relu(out).reshape(3, -1) @ params[1]["weight"]
    np.testing.assert_allclose(apply(params, x), expected, atol=1e-5)
    if channels == 1:
        np.testing.assert_array_equal(apply(params, x[..., 0]), apply(params, x))


@pytest.mark.long
def test_rows_of_the_convolutional_network_do_not_see_each_other():
    init, apply = conv_net(5, 4, 3, 12)
    params = init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 12, 12))
    changed = x.at[1].set(jnp.nan)
    np.testing.assert_allclose(
        apply(params, changed)[jnp.array([0, 2])], apply(params, x)[jnp.array([0, 2])], rtol=1e-5
    )


@pytest.mark.long
@pytest.mark.parametrize("antisymmetric", [True, False])
def test_the_tangent_in_closed_form_is_that_of_contracted_jacobians(antisymmetric):
    model = outer_loop.TwoLayer(4, 32, antisymmetric)
    starts = outer_loop.starts(model, [2, 3])
    params = {name: np.asarray(value[1], np.float64) for name, value in starts.items()}
    around, tangent = Linearisation(model.apply, params), network_runs.Tangent.of(starts, 1)
    x, z = np.random.default_rng(0).standard_normal((2, 7, 4))
    np.testing.assert_allclose(tangent.kernel(x, z[:5]), around.kernel(x, z[:5]), rtol=1e-12)
    np.testing.assert_allclose(tangent.kernel(x), around.kernel(x, x), rtol=1e-12)
    np.testing.assert_allclose(tangent.f0(x), around.f0(x), rtol=1e-12, atol=1e-12)
