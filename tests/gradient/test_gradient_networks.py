"""Networks of other libraries, each trained as its guide says, with running statistics where it has them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import undertow as ut
from undertow import gradient as ug

ADAM = optax.adam(3e-3)
SINES = ut.Sinusoid().sample(ut.Design(10, 10, 10), 0, np.float32)
ROWS = jnp.linspace(-3, 3, 7)[:, None]


def check(loss_fn, params, inner=None):
    """The meta-loss falls, and comes back as the tree that was given."""
    inner = inner or ug.InnerLoop()
    state, history = ug.train(loss_fn, params, SINES, ADAM, 0.02, inner, iterations=60)
    assert history.meta_loss[-1] < history.meta_loss[0]
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    return state.params


def test_flax_linen():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.tanh(nn.Dense(20)(x)))[..., 0]

    net = Net()
    params = net.init(jax.random.key(0), ROWS)

    def loss_fn(params, x, y):
        return jnp.mean((net.apply(params, x) - y) ** 2)

    check(loss_fn, params)
    head = ug.last_layer(params)
    assert head["params"]["Dense_1"] == {"bias": True, "kernel": True}
    check(loss_fn, params, ug.InnerLoop(adapts=head))


def test_flax_linen_with_running_statistics():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, running):
            hidden = nn.Dense(20)(x)
            # Normalised by running statistics, so that rows do not see each other; the batch only moves these.
            hidden = nn.BatchNorm(use_running_average=running, momentum=0.9)(hidden)
            return nn.Dense(1)(nn.tanh(hidden))[..., 0]

    net = Net()
    variables = net.init(jax.random.key(0), ROWS, True)
    params, stats = {"params": variables["params"]}, variables["batch_stats"]

    def loss_fn(params, x, y, state):
        every = {**params, "batch_stats": state}
        _, seen = net.apply(every, x, False, mutable=["batch_stats"])
        return jnp.mean((net.apply(every, x, True) - y) ** 2), None, seen["batch_stats"]

    found = check(loss_fn, ug.Stateful(params, stats))
    before, after = (jax.tree.leaves(one) for one in (stats, found.state))
    assert any(not np.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.out = nnx.Linear(1, 20, rngs=rngs), nnx.Linear(20, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(jnp.tanh(self.first(x)))[..., 0]

    graph, params = nnx.split(Net(nnx.Rngs(0)))

    def loss_fn(params, x, y):
        return jnp.mean((nnx.merge(graph, params)(x) - y) ** 2)

    check(loss_fn, params)
    check(loss_fn, params, ug.InnerLoop(adapts=ug.leaves(params, ["out"])))


def test_haiku_with_and_without_state():
    hk = pytest.importorskip("haiku")
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([20, 20, 1])(x)[..., 0]))

    def loss_fn(params, x, y):
        return jnp.mean((net.apply(params, x) - y) ** 2)

    check(loss_fn, net.init(jax.random.key(0), ROWS))

    def counting(x):
        average = hk.ExponentialMovingAverage(0.9, name="mean")
        average(x.mean())
        return hk.nets.MLP([20, 1])(x)[..., 0]

    kept = hk.without_apply_rng(hk.transform_with_state(counting))
    params, state = kept.init(jax.random.key(0), ROWS)

    def with_state(params, x, y, state):
        out, new = kept.apply(params, state, x)
        return jnp.mean((out - y) ** 2), None, new

    found = check(with_state, ug.Stateful(params, state))
    assert any(not np.allclose(a, b) for a, b in zip(*map(jax.tree.leaves, (state, found.state)), strict=True))
