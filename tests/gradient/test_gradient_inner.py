import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks, network

import undertow as ut
from undertow import gradient as ug

W = np.array([2.0, 3.0, 5.0])
ONE, TWO = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 5.0, 6.0]])
ZERO = np.zeros(1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("support", "query", "first_order", "theta", "loss", "gradient"),
    [
        (ONE, TWO, False, (-9.5, -20, -29.5), 49612.5, (3780, 8505, 13230)),
        (TWO, ONE, True, (-104, -129.5, -154), 340312.5, (-825, -1650, -2475)),
    ],
)
def test_exact_vectors(support, query, first_order, theta, loss, gradient):
    """From the tests of torchmeta: they hold for any correct MAML."""
    assert ug.adapt(linear_loss, W, (support, ZERO), 0.5).tolist() == list(theta)
    tasks = ut.TaskBatch(support[None], ZERO[None], query[None], ZERO[None])
    value, found = jax.value_and_grad(
        lambda w: ug.meta_loss(linear_loss, w, tasks, 0.5, ug.InnerLoop(first_order=first_order))[0]
    )(W)
    assert value == loss
    assert found.tolist() == list(gradient)


@pytest.mark.usefixtures("x64")
def test_steps_follow_their_definition_at_both_signs_and_compile_once():
    tasks = linear_tasks(m=1, n_support=6)
    x, y = tasks.support_x[0], tasks.support_y[0]
    traces = []

    def counted(w, x, y):
        traces.append(1)
        return linear_loss(w, x, y)

    def brute(w, rate, steps):
        for _ in range(steps):
            w = w - rate * x.T @ (x @ w - y) / len(y)
        return w

    for steps in (1, 3):
        run = jax.jit(lambda w, rate, k=steps: ug.adapt(counted, w, (x, y), rate, ug.InnerLoop(k)))
        run(W, -0.1)
        before = len(traces)
        for rate in (-0.4, -0.1, 0.0, 0.3):
            np.testing.assert_allclose(run(W, rate), brute(W, rate, steps), rtol=1e-12)
        assert len(traces) == before, "another rate compiled anew"
    assert ug.adapt(linear_loss, W, (x, y), 0.3, ug.InnerLoop(0)).tolist() == W.tolist()
    remat = ug.adapt(linear_loss, W, (x, y), 0.3, ug.InnerLoop(3, remat=True))
    np.testing.assert_allclose(remat, brute(W, 0.3, 3), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_rates_per_layer_per_leaf_per_parameter_and_per_step():
    params, loss_fn = network()
    tasks = linear_tasks(m=1)
    support = (tasks.support_x[0], tasks.support_y[0])
    gradient = jax.grad(loss_fn)(params, *support)
    step = lambda params, rates: jax.tree.map(lambda w, g, r: w - r * g, params, gradient, rates)  # noqa: E731

    layers = [0.1, -0.2]
    by_leaf = [{"weight": r, "bias": r} for r in layers]
    same(ug.adapt(loss_fn, params, support, layers), step(params, by_leaf))
    assert jax.tree.map(float, ug.per_layer(params, 0.3)) == [0.3, 0.3]
    leaf = ug.per_leaf(params, 0.1)
    leaf[1]["bias"] = -0.5
    same(ug.adapt(loss_fn, params, support, leaf), step(params, leaf))
    each = jax.tree.map(lambda w: jnp.linspace(-0.3, 0.2, w.size).reshape(w.shape), ug.per_parameter(params))
    same(ug.adapt(loss_fn, params, support, each), step(params, each))

    first = ug.adapt(loss_fn, params, support, layers)
    second = ug.adapt(loss_fn, first, support, [0.05, 0.3])
    stepwise = ug.PerStep([jnp.array([0.1, 0.05]), jnp.array([-0.2, 0.3])])
    same(ug.adapt(loss_fn, params, support, stepwise, ug.InnerLoop(2)), second)
    assert ug.per_step(ug.per_layer(params, 0.1), 3).values[0].shape == (3,)
    one = ug.PerStep(jnp.array([0.2]))
    same(ug.adapt(loss_fn, params, support, one), ug.adapt(loss_fn, params, support, 0.2))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


@pytest.mark.long
def test_what_does_not_adapt_is_left_alone():
    params, loss_fn = network((3, 4, 4, 1))
    tasks = linear_tasks(m=1, dtype=np.float32)
    gradient = jax.jit(jax.grad(loss_fn))(params, tasks.support_x[0], tasks.support_y[0])

    def moved(adapts):
        after = ug.adapt(linear_in(gradient), params, (ONE, ZERO), -0.1, ug.InnerLoop(adapts=adapts))
        return [bool((a != b).any()) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True)]

    assert moved(ug.last_layer(params)) == [False] * 4 + [True] * 2
    assert moved(ug.all_but_last(params)) == [True] * 4 + [False] * 2
    assert moved(ug.leaves(params, ["bias"])) == [True, False] * 3
    assert moved(ug.leaves(params, lambda path: path.startswith("[1]"))) == [False, False, True, True, False, False]
    assert moved([True, False, False]) == [True, True, False, False, False, False]
    # Leaves that stay still belong to the outer problem: their meta-gradient is that of the adapted model.
    of = lambda p: ug.meta_loss(loss_fn, p, tasks, -0.1, ug.InnerLoop(adapts=ug.last_layer(params)))[0]  # noqa: E731
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(jax.jit(jax.grad(of))(params)))


def linear_in(gradient):
    """A loss with a constant gradient, which compiles fast."""
    pairs = lambda p: zip(jax.tree.leaves(p), jax.tree.leaves(gradient), strict=True)  # noqa: E731
    return lambda p, x, y: sum(jnp.vdot(w, g) for w, g in pairs(p))


class Module(eqx.Module):
    """A model with an activation function, a whole number and a Python number among its leaves."""

    weight: jax.Array
    count: jax.Array
    scale: float
    activation: object

    def __call__(self, x):
        return self.activation(x @ self.weight) * self.scale


def test_any_pytree_is_a_model_and_only_its_arrays_adapt():
    model = Module(jnp.array([0.1, -0.3, 0.2]), jnp.arange(3), 2.0, jnp.tanh)
    tasks = linear_tasks(m=1, dtype=np.float32)
    support = (tasks.support_x[0], tasks.support_y[0])
    adapted = ug.adapt(lambda model, x, y: jnp.mean((model(x) - y) ** 2), model, support, -0.2, ug.InnerLoop(2))
    assert (adapted.activation, adapted.scale) == (jnp.tanh, 2.0)
    assert adapted.count.dtype == model.count.dtype
    assert (adapted.weight != model.weight).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("hole", "rule"), [(0.0, ug.Explicit()), (np.nan, ug.Explicit()), (np.nan, ug.Implicit())])
def test_padded_rows_have_no_influence(hole, rule):
    params, loss_fn = network() if rule == ug.Explicit() else (W, linear_loss)
    inner = ug.InnerLoop(2 if rule == ug.Explicit() else 1, rule)
    x, y = (a[0] for a in linear_tasks(m=1, n_support=4)[:2])
    place = np.array([False, True, True, False, True, True])
    wide_x, wide_y = np.full((6, 3), hole), np.full(6, hole)
    wide_x[place], wide_y[place] = x, y
    same(
        ug.adapt(loss_fn, params, (wide_x, wide_y, place), -0.2, inner),
        ug.adapt(loss_fn, params, (x, y), -0.2, inner),
    )


@pytest.mark.usefixtures("x64")
def test_a_loss_that_has_no_value_at_padding_is_never_asked_for_it():
    loss_fn = lambda w, x, y: jnp.mean((jnp.log(x) @ w - y) ** 2)  # noqa: E731
    x, y = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), np.array([1.0, 0.0])
    padded = ug.adapt(loss_fn, W, (x, y, np.array([True, False])), 0.1)
    same(padded, ug.adapt(loss_fn, W, (x[:1], y[:1]), 0.1))


@pytest.mark.usefixtures("x64")
def test_the_implicit_rule_solves_its_equation():
    tasks = linear_tasks(m=1, n_support=8)
    x, y = tasks.support_x[0], tasks.support_y[0]
    second, first = x.T @ x / len(y), x.T @ y / len(y)
    inner = ug.InnerLoop(rule=ug.Implicit(tolerance=1e-12))
    solve = jax.jit(lambda rate: ug.adapt(linear_loss, W, (x, y), rate, inner))
    for rate in (-0.3, 0.0, 5.0):
        assert rate > -1 / np.linalg.eigvalsh(second)[-1]
        np.testing.assert_allclose(
            solve(rate), np.linalg.solve(np.eye(3) + rate * second, W + rate * first), rtol=1e-10
        )


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_the_implicit_rule_reports_how_well_a_nonlinear_problem_is_solved():
    params, loss_fn = network()
    tasks = linear_tasks()
    rule = ug.Implicit(tolerance=1e-12)
    look = jax.jit(lambda inner: ug.meta_loss(loss_fn, params, tasks, 3.0, inner)[1].residual)
    assert (look(ug.InnerLoop(1, rule)) > 1e-3).all()
    assert (look(ug.InnerLoop(30, rule)) < 1e-8).all()


PARAMS = [{"weight": jnp.ones((3, 2))}, {"weight": jnp.ones(2)}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: ug.adapt(linear_loss, W, s, np.inf), "rate=inf: a rate may have either sign"),
        (lambda s: ug.adapt(linear_loss, W, s, np.ones(2)), "leaf of shape \\(2,\\) for a parameter of shape \\(3,\\)"),
        (lambda s: ug.adapt(linear_loss, W, s, ug.PerStep(np.ones(2)), ug.InnerLoop(3)), "steps=3"),
        (lambda s: ug.adapt(linear_loss, W, s, [0.1, 0.2]), "rate: it must be one value"),
        (lambda s: ug.adapt(linear_loss, W, s, "fast"), "rate='fast'"),
        (lambda s: ug.InnerLoop(-1), "steps=-1"),
        (lambda s: ug.adapt(linear_loss, W, s[:1], 0.1), "has 1 parts"),
        (lambda s: ug.adapt(linear_loss, W, s, 0.1, ug.InnerLoop(adapts=False)), "adapts: it is False"),
        (lambda s: ug.adapt(linear_loss, W, s, np.ones(3), ug.InnerLoop(rule=ug.Implicit())), "one number"),
        (lambda s: ug.adapt(linear_loss, {"w": 2.0}, s, 0.1), "no array of floating point"),
        (lambda s: ug.adapt(lambda w, x, y: (x @ w - y) ** 2, W, s, 0.1), "Use .mean\\(\\)"),
        (lambda s: ug.last_layer({"body": W, "head": W}), "do not say which is the last"),
        (lambda s: ug.leaves(PARAMS, ["bias"]), r"Its leaves are: \[0\]\['weight'\], \[1\]\['weight'\]"),
        (lambda s: ug.mlp((3,)), "sizes=\\[3\\]"),
        (lambda s: ug.Implicit(cg_iterations=0), "cg_iterations=0"),
    ],
)
def test_messages(call, message):
    support = tuple(a[0].astype(np.float32) for a in linear_tasks(m=1)[:2])
    with pytest.raises(ut.InputError, match=message):
        call(support)


@pytest.mark.wrong_type
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("rule", lambda: ug.InnerLoop(rule="maml")),
        ("adapts", lambda: ug.InnerLoop(adapts=["head"])),
        ("inner", lambda: ug.adapt(linear_loss, W, (ONE, ZERO), 0.1, 3)),
        ("inner", lambda: ug.meta_loss(linear_loss, W, linear_tasks(), 0.1, 3)),
    ],
)
def test_what_is_no_inner_loop_is_refused(argument, make):
    with pytest.raises(ut.InputError) as caught:
        make()
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("argument", "entries"),
    [
        ("first_order", {"rule": ug.Reptile(), "first_order": True}),
        ("remat", {"rule": ug.Implicit(), "remat": True}),
    ],
)
def test_an_entry_that_would_do_nothing_is_refused(argument, entries):
    with pytest.raises(ut.InputError, match="does nothing") as caught:
        ug.InnerLoop(**entries)
    assert caught.value.argument == argument
    ug.InnerLoop(**entries | {argument: False})


def test_nobody_ascends_by_accident():
    tasks = linear_tasks()
    with pytest.raises(TypeError, match="'rate'"):
        ug.adapt(linear_loss, W, (ONE, ZERO))
    with pytest.raises(TypeError, match="'train_rate'"):
        ug.meta_loss(linear_loss, W, tasks)
    with pytest.raises(TypeError, match="'train_rate'"):
        ug.train(linear_loss, W, tasks, optax.sgd(0.1))


def test_equal_inner_loops_are_one_to_the_compiler():
    params, loss_fn = network()
    tasks = linear_tasks(dtype=np.float32)
    make = lambda **entries: ug.InnerLoop(**{"steps": 2, "adapts": ug.last_layer(params)} | entries)  # noqa: E731
    look = jax.jit(lambda rate, inner: ug.meta_loss(loss_fn, params, tasks, rate, inner)[0], static_argnums=1)
    mine = ug.last_layer(params)
    first = make(adapts=mine)
    same = look(-0.1, first)
    mine[1]["bias"] = False  # the record has a copy
    assert look(-0.1, make()) == same
    assert first == make()
    assert look._cache_size() == 1
    for other in ({"steps": 1}, {"adapts": True}, {"first_order": True}, {"rule": ug.Implicit()}, {"remat": True}):
        assert make(**other) != first
    look(-0.1, make(steps=1))
    assert look._cache_size() == 2
