import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import linear_loss, linear_tasks, network

from undertow import gradient as ug


@pytest.mark.usefixtures("x64")
def test_lanczos_finds_both_ends_of_the_hessian():
    params, loss_fn = network((3, 4, 1))
    tasks = linear_tasks(m=1)
    support = (tasks.support_x[0], tasks.support_y[0])
    flat, back = ravel_pytree(params)
    dense = np.linalg.eigvalsh(jax.jit(jax.hessian(lambda v: loss_fn(back(v), *support)))(flat))
    assert dense[0] < -1e-3, "the test is about an indefinite Hessian"
    found = jax.jit(lambda p: ug.curvatures(loss_fn, p, support))(params)
    np.testing.assert_allclose(found, [dense[0], dense[-1]], rtol=1e-10)


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [-3.0, -1.0, -1.0, -1.0], [4.0, 0.5, 4.0, 0.5]])
def test_equal_curvatures_bring_no_eigenvalue_of_zero(values):
    half = np.array(values, np.float32) / 2
    loss_fn = lambda w, x, y: (half * w**2).sum() + 0 * y.sum()  # noqa: E731
    found = ug.curvatures(loss_fn, np.ones(len(values), np.float32), (np.ones((1, 1)), np.ones(1)))
    np.testing.assert_allclose(found, [min(values), max(values)], rtol=1e-5)


def test_the_stable_interval_is_where_repeated_steps_do_not_grow():
    tasks = linear_tasks(m=1, p=3, n_support=8, dtype=np.float32)
    support = (tasks.support_x[0], tasks.support_y[0])
    low, high = ug.stable_interval(linear_loss, np.zeros(3, np.float32), support)
    top = np.linalg.eigvalsh(support[0].T @ support[0] / 8)[-1]
    np.testing.assert_allclose((low, high), (0, 2 / top), rtol=1e-4)
    steps = jax.jit(lambda rate: ug.adapt(linear_loss, np.ones(3, np.float32), support, rate, ug.InnerLoop(200)))
    assert np.abs(steps(0.95 * high)).max() < 10
    assert np.abs(steps(1.1 * high)).max() > 1e6
    assert np.abs(steps(-0.1 * high)).max() > 1e6


@pytest.mark.long
def test_only_what_adapts_counts_and_a_flat_loss_has_no_limit():
    params, loss_fn = network((3, 4, 1))
    tasks = linear_tasks(m=1, dtype=np.float32)
    support = (tasks.support_x[0], tasks.support_y[0])
    whole = ug.stable_interval(loss_fn, params, support)[1]
    head = ug.stable_interval(loss_fn, params, support, adapts=ug.last_layer(params))[1]
    assert head > whole
    assert ug.stable_interval(lambda w, x, y: w.sum(), np.zeros(3, np.float32), support) == (0, np.inf)
