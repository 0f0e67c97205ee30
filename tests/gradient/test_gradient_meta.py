import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import linear_loss, linear_tasks, network, ragged

import undertow as ut
from undertow import gradient as ug
from undertow.gradient.inner import conjugate_gradients

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(
    ("steps", "rule", "kind"),
    [
        (2, ug.Explicit(), "per_parameter"),
        (2, ug.Explicit(), "per_step"),
        (40, ug.Implicit(tolerance=1e-14), "scalar"),
    ],
)
def test_meta_gradients_agree_with_finite_differences(steps, rule, kind):
    params, loss_fn = network((3, 3, 1))
    tasks = linear_tasks(m=3)
    rate = {
        "scalar": -0.15,
        "per_parameter": jax.tree.map(lambda w: jnp.linspace(-0.3, 0.2, w.size).reshape(w.shape), params),
        "per_step": ug.per_step([-0.2, 0.1], 2),
    }[kind]
    flat, back = ravel_pytree((params, rate))
    # With the implicit rule the first layer stays still, and its meta-gradient goes through the implicit function too.
    inner = ug.InnerLoop(steps, rule, adapts=[rule == ug.Explicit(), True])
    value = jax.jit(lambda v: ug.meta_loss(loss_fn, back(v)[0], tasks, back(v)[1], inner)[0])
    gradient = jax.jit(jax.grad(value))(flat)
    differences, step = [], 1e-5
    for j in range(flat.size):
        away = jnp.zeros(flat.size).at[j].set(step)
        differences.append((value(flat + away) - value(flat - away)) / (2 * step))
    np.testing.assert_allclose(gradient, differences, rtol=1e-7, atol=1e-8)
    assert np.abs(gradient[-1]) > 1e-4, "the gradient reaches the rate"


def test_first_order_takes_the_inner_gradient_as_a_constant():
    params, loss_fn = network()
    tasks = linear_tasks(m=2)

    def brute(params):
        total = 0.0
        for x, y, qx, qy in zip(*tasks[:4], strict=True):
            theta = params
            for _ in range(2):
                inner = jax.grad(loss_fn)(theta, x, y)
                theta = jax.tree.map(lambda t, g: t + 0.2 * g, theta, inner)
            outer = jax.grad(loss_fn)(theta, qx, qy)
            total = (
                jax.tree.map(lambda a, b: a + b / 2, total, outer) if total else jax.tree.map(lambda b: b / 2, outer)
            )
        return ravel_pytree(total)[0]

    of = lambda first: ravel_pytree(  # noqa: E731
        jax.jit(jax.grad(lambda p: ug.meta_loss(loss_fn, p, tasks, -0.2, ug.InnerLoop(2, first_order=first))[0]))(
            params
        )
    )[0]
    first, second = of(True), of(False)
    np.testing.assert_allclose(first, jax.jit(brute)(params), rtol=1e-10)
    assert np.linalg.norm(first - second) > 0.05 * np.linalg.norm(second)


@pytest.mark.long
def test_the_implicit_meta_gradient_is_the_implicit_derivative():
    """Against (I + rate H)^{-1} grad L_query by a dense Hessian at a solution found by plain iteration."""
    params, loss_fn = network((2, 2, 1), key=1)
    tasks = linear_tasks(m=1, p=2, n_support=12)
    x, y, qx, qy = (a[0] for a in tasks[:4])
    start, back = ravel_pytree(params)
    support = lambda v: loss_fn(back(v), x, y)  # noqa: E731

    @jax.jit
    def brute(start, rate):
        step = lambda _, v: v - 0.1 * (v - start + rate * jax.grad(support)(v))  # noqa: E731
        theta = jax.lax.fori_loop(0, 3000, step, start)
        matrix = jnp.eye(start.size) + rate * jax.hessian(support)(theta)
        outer = jax.grad(lambda v: loss_fn(back(v), qx, qy))(theta)
        return jnp.linalg.solve(matrix, outer), -jax.grad(support)(theta) @ jnp.linalg.solve(matrix, outer)

    inner = ug.InnerLoop(25, ug.Implicit(tolerance=1e-14))
    of = jax.jit(jax.grad(lambda p, r: ug.meta_loss(loss_fn, p, tasks, r, inner)[0], argnums=(0, 1)))
    for rate in (-0.2, 2.0):
        found, by_rate = of(params, rate)
        expected, expected_by_rate = brute(start, rate)
        np.testing.assert_allclose(ravel_pytree(found)[0], expected, rtol=1e-7)
        np.testing.assert_allclose(by_rate, expected_by_rate, rtol=1e-7)


def test_conjugate_gradients_stop_at_negative_curvature():
    matrix = jnp.diag(jnp.array([3.0, 1.0, -2.0]))
    right = jnp.array([1.0, 2.0, 0.1])
    found = conjugate_gradients(lambda v: matrix @ v, right, 1e-12, 50)
    assert right @ found > 0
    assert jnp.isfinite(found).all()
    only = jnp.array([0.0, 0.0, 1.0])
    assert conjugate_gradients(lambda v: matrix @ v, only, 1e-12, 50).tolist() == only.tolist()
    assert conjugate_gradients(lambda v: matrix @ v, 0 * only, 1e-12, 50).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rate", [-0.2, 0.0, 0.3])
def test_reptile_follows_its_formula(rate):
    """One outer step of size eps * rate is omega + eps * mean(theta - omega); at rate 0 the limit is taken."""
    tasks = linear_tasks(m=3)
    w = jnp.array([0.5, -1.0, 2.0])
    inner = ug.InnerLoop(3, ug.Reptile())
    (loss, info), gradient = jax.jit(
        jax.value_and_grad(lambda w: ug.meta_loss(linear_loss, w, tasks, rate, inner), has_aux=True)
    )(w)
    thetas = [ug.adapt(linear_loss, w, task[:2], rate, ug.InnerLoop(3)) for task in zip(*tasks[:4], strict=True)]
    if rate:
        step = np.mean(thetas, axis=0) - w
        np.testing.assert_allclose(-0.01 * rate * gradient, 0.01 * step, rtol=1e-10)
    else:
        plain = [3 * jax.grad(linear_loss)(w, *task[:2]) for task in zip(*tasks[:4], strict=True)]
        np.testing.assert_allclose(gradient, np.mean(plain, axis=0), rtol=1e-10)
    queries = [linear_loss(t, qx, qy) for t, qx, qy in zip(thetas, tasks.query_x, tasks.query_y, strict=True)]
    np.testing.assert_allclose(loss, np.mean(queries))
    np.testing.assert_allclose(info.query_after, queries)


@pytest.mark.parametrize("weighting", ["rows", "tasks"])
@pytest.mark.long
def test_ragged_tasks_are_exact_whatever_the_padding_holds(weighting):
    params, loss_fn = network((3, 2, 1)) if weighting == "rows" else (jnp.ones(3), linear_loss)
    full = linear_tasks(m=3, n_support=5, n_query=4)
    support_rows, query_rows = [2, 5, 3], [4, 1, 2]
    padded = ragged(full, support_rows, query_rows)
    of = jax.jit(jax.value_and_grad(lambda p, t: ug.meta_loss(loss_fn, p, t, -0.2, weighting=weighting)[0]))

    def brute(params):
        losses = [
            loss_fn(ug.adapt(loss_fn, params, (x[:s], y[:s]), -0.2), qx[:q], qy[:q])
            for x, y, qx, qy, s, q in zip(*full[:4], support_rows, query_rows, strict=True)
        ]
        return jnp.average(jnp.stack(losses), weights=jnp.array(query_rows) if weighting == "rows" else None)

    value, gradient = of(params, padded)
    expected, expected_gradient = jax.jit(jax.value_and_grad(brute))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(gradient)[0], ravel_pytree(expected_gradient)[0], rtol=1e-9, atol=1e-13)


def test_a_query_row_changes_nothing_but_its_own_task():
    params, loss_fn = network()
    tasks = linear_tasks(m=3)
    look = jax.jit(lambda t: ug.meta_loss(loss_fn, params, t, 0.3)[1])
    before = look(tasks)
    other = tasks.query_x.copy()
    other[1, 2] += 5.0
    after = look(tasks._replace(query_x=other))
    changed = before.query_after != after.query_after
    assert changed.tolist() == [False, True, False]
    assert (before.support_after == after.support_after).all()
    # Rows of one task do not see each other either: its loss is the mean of the losses of its rows.
    rows = [
        look(tasks._replace(query_x=tasks.query_x[:, [j]], query_y=tasks.query_y[:, [j]])).query_after for j in range(3)
    ]
    np.testing.assert_allclose(np.mean(rows, axis=0), before.query_after, rtol=1e-12)


def test_info_tells_the_direction_of_the_inner_step():
    tasks = linear_tasks()
    w = jnp.ones(3)
    look = jax.jit(lambda rate: ug.meta_loss(linear_loss, w, tasks, rate))
    up, down, still = (look(rate) for rate in (-0.05, 0.05, 0.0))
    assert (up[1].support_after > up[1].support_before).all()
    assert (down[1].support_after < down[1].support_before).all()
    # To the last bit but one or two: compilers of newer JAX sum the two in different orders.
    np.testing.assert_allclose(still[1].query_after, still[1].query_before, rtol=1e-14)
    np.testing.assert_allclose(up[0], up[1].query_after.mean())
    by_hand = [linear_loss(w, x, y) for x, y in zip(tasks.query_x, tasks.query_y, strict=True)]
    np.testing.assert_allclose(up[1].query_before, by_hand)
    assert up[1].residual is None


def test_classification_of_images_with_whole_number_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 4, 4, 1))
    y = np.tile(np.arange(3), (2, 2))
    mask = np.ones((2, 6), bool)
    mask[0, -1] = False
    params, apply = ug.mlp((16, 3), 0)
    loss_fn = ug.cross_entropy(lambda p, x: apply(p, x.reshape(len(x), -1)))
    zero = jax.tree.map(jnp.zeros_like, params)
    look = jax.jit(
        lambda rate: ug.meta_loss(loss_fn, zero, ut.TaskBatch(x, y, x, y, mask, mask), rate, ug.InnerLoop(5))[0]
    )
    np.testing.assert_allclose(look(0.0), np.log(3))
    assert look(1.0) < np.log(3) - 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_x": np.zeros((2, 3, 3))}, r"query_x: its shape \(2, 3, 3\)"),
        ({"support_y": np.zeros((4, 6))}, r"support_y: its shape \(4, 6\) must begin with \(4, 5\)"),
        ({"query_mask": np.ones((4, 2), bool)}, "query_mask: its shape"),
    ],
)
def test_messages(change, message):
    with pytest.raises(ut.InputError, match=message):
        ug.meta_loss(linear_loss, jnp.zeros(3), linear_tasks()._replace(**change), -0.1)
    with pytest.raises(ut.InputError, match="weighting='task'"):
        ug.meta_loss(linear_loss, jnp.zeros(3), linear_tasks(), -0.1, weighting="task")
