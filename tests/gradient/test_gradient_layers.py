"""Layers of trees of other libraries, leaves that only one of the two loops moves, and arrays that stand twice."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks, network

import undertow as ut
from undertow import gradient as ug
from undertow.gradient.leaves import names

SGD = optax.sgd(0.05)
TASKS = linear_tasks(dtype=np.float32)


def dense(n=2):
    return {"kernel": jnp.ones((n, n)), "bias": jnp.zeros(n)}


def chosen(params, flags):
    return [name for name, flag in zip(names(params), jax.tree.leaves(flags), strict=True) if flag]


def test_the_last_layer_of_trees_of_other_libraries():
    flax = {"params": {f"Dense_{i}": dense() for i in range(12)}}
    assert all("Dense_11" in name for name in chosen(flax, ug.last_layer(flax)))
    assert len(chosen(flax, ug.all_but_last(flax))) == 22
    haiku = {"linear": dense(), "linear_2": dense(), "linear_1": dense()}
    assert all("linear_2" in name for name in chosen(haiku, ug.last_layer(haiku)))
    # Whole numbers as keys, as Flax NNX has them, count as numbers.
    nnx = {"layers": {i: dense() for i in range(11)}}
    assert all("[10]" in name for name in chosen(nnx, ug.last_layer(nnx)))
    one = {"params": {"Dense_0": dense()}}
    assert len(chosen(one, ug.last_layer(one))) == 2

    mlp = eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0))
    assert chosen(mlp, ug.last_layer(mlp)) == [".layers[2].weight", ".layers[2].bias"]
    loss_fn = ug.squared_loss(lambda m, x: jax.vmap(m)(x)[:, 0])
    theta = ug.adapt(
        loss_fn, mlp, (TASKS.support_x[0], TASKS.support_y[0]), 0.1, ug.InnerLoop(adapts=ug.last_layer(mlp))
    )
    moved = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, map(arrays, (theta, mlp))), strict=True)]
    assert moved == [False] * 4 + [True] * 2


def arrays(tree):
    return eqx.filter(tree, eqx.is_array)


def test_names_without_an_order_are_refused():
    for params in ({"body": dense(), "head": dense()}, {"Conv_0": dense(), "Dense_0": dense()}):
        with pytest.raises(ut.InputError, match=r"leaves\(params"):
            ug.last_layer(params)


@pytest.mark.long
def test_a_rate_per_layer_follows_the_layers():
    flax = {"params": {"Dense_0": dense(), "Dense_1": dense()}}
    assert jax.tree.map(float, ug.per_layer(flax, 0.5)) == {"params": {"Dense_0": 0.5, "Dense_1": 0.5}}
    mlp = eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0))
    rates = ug.per_layer(mlp, 0.1)
    assert len(jax.tree.leaves(rates)) == 3
    loss_fn = ug.squared_loss(lambda m, x: jax.vmap(m)(x)[:, 0])
    _, history = ug.train(loss_fn, mlp, TASKS, SGD, rates, learn_rate=True, iterations=3)
    assert history.rate_mean.shape == (3, 3)
    one, _ = ug.meta_loss(loss_fn, mlp, TASKS, 0.1)
    np.testing.assert_allclose(ug.meta_loss(loss_fn, mlp, TASKS, rates)[0], one, rtol=1e-6)


@pytest.mark.long
def test_leaves_that_only_one_loop_moves(tmp_path):
    params, loss_fn = network()
    head = ug.last_layer(params)
    inner = ug.InnerLoop(2, trains=ug.all_but_last(params), adapts=head)
    decay = optax.adamw(0.1, weight_decay=0.5)
    run = lambda n, **options: ug.train(loss_fn, params, TASKS, decay, 0.1, inner, iterations=n, **options)[0]  # noqa: E731
    state = run(4)
    for before, after in zip(jax.tree.leaves(params[-1]), jax.tree.leaves(state.params[-1]), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (state.params[0]["weight"] != params[0]["weight"]).all()
    # The inner step moves the head, so the meta-loss is that of all leaves; only its gradient stops there.
    value = lambda p, loop: ug.meta_loss(loss_fn, p, TASKS, 0.1, loop)[0]  # noqa: E731
    both = ug.InnerLoop(2, adapts=head)
    assert value(params, inner) == value(params, both)
    mine, plain = (jax.grad(value)(params, loop) for loop in (inner, both))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(mine[-1]))
    np.testing.assert_array_equal(mine[0]["weight"], plain[0]["weight"])
    run(2, checkpoint=tmp_path)
    np.testing.assert_array_equal(run(4, checkpoint=tmp_path).params[0]["weight"], state.params[0]["weight"])
    loaded = ug.read_tree(tmp_path, "params", params)
    np.testing.assert_array_equal(loaded[-1]["weight"], params[-1]["weight"])
    table = ug.sweep(loss_fn, lambda key: params, TASKS, decay, [0.1], 1, inner, iterations=4)
    np.testing.assert_allclose(table["meta_loss"].to_numpy(), [value(state.params, inner)], rtol=1e-5)
    with pytest.raises(ut.InputError, match="no leaf trains"):
        ug.train(loss_fn, params, TASKS, decay, 0.1, ug.InnerLoop(trains=False), iterations=1)


@pytest.mark.long
def test_an_array_that_stands_twice_is_not_untied_in_silence():
    shared = jnp.ones(3)
    loss_fn = lambda p, x, y: linear_loss(p["a"] + p["b"], x, y)  # noqa: E731
    twice = {"a": shared, "b": shared}
    support = (TASKS.support_x[0], TASKS.support_y[0])
    for call in (
        lambda params: ug.train(loss_fn, params, TASKS, SGD, 0.1, iterations=1),
        lambda params: ug.sweep(loss_fn, lambda key: params, TASKS, SGD, [0.1], 1, iterations=1),
        lambda params: ug.adapt(loss_fn, params, support, 0.1),
    ):
        with pytest.warns(UserWarning, match=r"\['a'\] and \['b'\] are the same array"):
            call(twice)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call({"a": shared, "b": jnp.ones(3)})


class Raw:
    """A transformation that gives back another structure."""

    tx = optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (g, (0.0,)))


@pytest.mark.parametrize("optimizer", [optax.lookahead(optax.sgd(0.1), 2, 0.5), Raw.tx])
def test_optimisers_that_do_not_fit_are_named(optimizer):
    with pytest.raises(ut.InputError, match="a tree of arrays as it is") as caught:
        ug.train(linear_loss, jnp.zeros(3), TASKS, optimizer, 0.1, iterations=1)
    assert caught.value.argument == "optimizer"


def test_multi_steps_is_an_optimiser_and_compiles_once():
    traces = []

    def counted(w, x, y):
        traces.append(1)
        return linear_loss(w, x, y)

    every = optax.MultiSteps(optax.sgd(0.1), 2)
    run = lambda n: ug.train(counted, jnp.zeros(3), TASKS, every, 0.1, iterations=n)[0].params  # noqa: E731
    four = run(4)
    count = len(traces)
    np.testing.assert_array_equal(run(5), four)
    assert len(traces) == count
    two, _ = ug.train(linear_loss, jnp.zeros(3), TASKS, optax.sgd(0.1), 0.1, iterations=2)
    np.testing.assert_allclose(four, two.params, rtol=1e-5)


def test_a_rate_of_another_structure_and_no_devices_are_named():
    with pytest.raises(ut.InputError, match="train_rate: it must be one value") as caught:
        ug.train(linear_loss, jnp.zeros(3), TASKS, SGD, [0.1, 0.2], iterations=1)
    assert "pytree" not in str(caught.value)
    with pytest.raises(ut.InputError, match=r"devices=\[\]: give at least one"):
        ug.sweep(linear_loss, lambda key: jnp.zeros(3), TASKS, SGD, [0.1], 1, iterations=1, devices=[])
