"""The inner loop as an Optax chain, rates that go on, annealing from state to state, and what a resumed run refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from small import linear_loss, linear_tasks, network

import undertow as ut
from undertow import gradient as ug

TASKS = linear_tasks(dtype=np.float32)
SUPPORT = (TASKS.support_x[0], TASKS.support_y[0])
START = jnp.array([0.3, -0.2, 0.1])
ADAM = optax.adam(0.05)
CHAIN = optax.chain(optax.clip_by_global_norm(0.5), optax.trace(0.9))


@pytest.mark.parametrize("rate", [0.1, -0.1])
@pytest.mark.parametrize(
    ("direction", "optimizer"),
    [
        (optax.scale_by_adam(eps_root=1e-8), lambda rate: optax.adam(rate, eps_root=1e-8)),
        (optax.trace(0.9), lambda rate: optax.sgd(rate, momentum=0.9)),
        (CHAIN, lambda rate: optax.chain(CHAIN, optax.scale(-rate))),
    ],
)
def test_inner_steps_are_those_of_the_optimiser(rate, direction, optimizer):
    inner = ug.InnerLoop(4, ug.Explicit(direction))
    tx = optimizer(rate)
    w, state = START, tx.init(START)
    for _ in range(4):
        updates, state = tx.update(jax.grad(linear_loss)(w, *SUPPORT), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(ug.adapt(linear_loss, START, SUPPORT, rate, inner), w, rtol=1e-5)


@pytest.mark.long
def test_the_meta_gradient_through_a_direction_is_that_of_finite_differences(x64):
    params, loss_fn = network()
    params = jax.tree.map(lambda leaf: leaf.astype(float), params)
    tasks = linear_tasks()
    inner = ug.InnerLoop(3, ug.Explicit(optax.scale_by_adam(eps_root=1e-6)))
    value = lambda p, r: ug.meta_loss(loss_fn, p, tasks, r, inner)[0]  # noqa: E731
    check_grads(value, (params, -0.02), order=1, modes=["rev"], rtol=1e-4)


@pytest.mark.wrong_type
def test_a_direction_with_a_sign_of_its_own_is_refused():
    for direction in (optax.adam(0.1), optax.sgd(1.0, momentum=0.9), 3):
        with pytest.raises(ut.InputError) as caught:
            ug.Explicit(direction)
        assert caught.value.argument == "direction"


def test_a_direction_with_a_sign_of_its_own_is_refused_where_it_needs_the_whole_tree():
    labels = {"a": "plain", "b": "down"}
    inner = ug.InnerLoop(rule=ug.Explicit(optax.partition({"plain": optax.identity(), "down": optax.sgd(0.1)}, labels)))
    loss_fn = lambda p, x, y: linear_loss(p["a"] + p["b"], x, y)  # noqa: E731
    params = {"a": START, "b": START + 1}
    run = lambda rate: ug.adapt(loss_fn, params, SUPPORT, rate, inner)  # noqa: E731
    for call in (run, jax.jit(run)):
        with pytest.raises(ut.InputError, match="turns the sign"):
            call(0.1)


def test_rates_per_step_go_on_with_their_last_entry():
    three = ug.PerStep(jnp.array([0.1, -0.05, 0.02]))
    five = ug.per_step(three, 5)
    with pytest.raises(ut.InputError, match="without a step"):
        ug.per_step(ug.per_step(0.1, 0), 5)
    np.testing.assert_allclose(five.values, [0.1, -0.05, 0.02, 0.02, 0.02])
    validation = ug.Validation(TASKS, steps=5, every=2)
    state, history = ug.train(
        linear_loss, START, TASKS, ADAM, three, ug.InnerLoop(3), iterations=2, learn_rate=True, validation=validation
    )
    longer = ug.per_step(state.rate, 5)
    loss, _ = ug.meta_loss(linear_loss, state.params, TASKS, longer, ug.InnerLoop(5))
    np.testing.assert_allclose(history.validation_loss, [loss], rtol=1e-5)


def run(start, inner=None, n=6, optimizer=ADAM, **options):
    source = ug.Source(TASKS, meta_batch=2)
    return ug.train(linear_loss, start, source, optimizer, 0.1, inner or ug.InnerLoop(2), iterations=n, **options)


@pytest.mark.long
def test_a_run_goes_on_from_the_state_of_another():
    whole, history = run(START)
    first, _ = run(START, n=2)
    rest, tail = run(first)
    np.testing.assert_array_equal(rest.params, whole.params)
    np.testing.assert_array_equal(tail.meta_loss, history.meta_loss[2:])
    # From first order to second order, with the moments of Adam.
    cheap, _ = run(START, ug.InnerLoop(2, first_order=True), n=2)
    mixed, _ = run(cheap)
    alone, _ = run(cheap.params)
    assert mixed.iteration == alone.iteration == 6
    assert (mixed.params != alone.params).any()
    with pytest.raises(ut.InputError, match="another optimiser"):
        run(first, optimizer=optax.sgd(0.1, momentum=0.9))


@pytest.mark.long
def test_a_changed_schedule_is_refused_where_a_run_goes_on(tmp_path):
    schedule = lambda n: optax.adam(optax.cosine_decay_schedule(0.1, n))  # noqa: E731
    run(START, n=2, optimizer=schedule(100), checkpoint=tmp_path)
    assert run(START, n=3, optimizer=schedule(100), checkpoint=tmp_path)[0].iteration == 3
    for other in (schedule(101), ADAM):
        with pytest.raises(ut.InputError, match="was written with optimizer"):
            run(START, n=4, optimizer=other, checkpoint=tmp_path)
    momentum = lambda decay: ug.InnerLoop(2, ug.Explicit(optax.trace(decay)))  # noqa: E731
    run(START, momentum(0.9), n=2, checkpoint=tmp_path / "inner")
    run(START, momentum(0.9), n=3, checkpoint=tmp_path / "inner")
    with pytest.raises(ut.InputError, match="was written with rule"):
        run(START, momentum(0.8), n=4, checkpoint=tmp_path / "inner")


def test_a_callback_sees_the_state_and_may_change_or_end_the_run():
    seen = []
    state, _ = run(START, progress=ug.Callback(lambda s, h: seen.append((s.iteration, len(h.meta_loss))), every=2))
    assert seen == [(2, 2), (4, 4), (6, 6)]
    np.testing.assert_array_equal(state.params, run(START)[0].params)
    ended, _ = run(START, progress=ug.Callback(lambda s, h: s.iteration == 4 or None, every=2))
    assert (ended.iteration, ended.stopped) == (4, "callback")
    # Another rate from the middle on is what two runs, one after the other, do.
    anneal = ug.Callback(lambda s, h: s._replace(rate=-0.05), every=3)
    annealed, _ = run(START, progress=anneal)
    half, _ = run(START, n=3)
    two, _ = ug.train(linear_loss, half, ug.Source(TASKS, meta_batch=2), ADAM, -0.05, ug.InnerLoop(2), iterations=6)
    np.testing.assert_array_equal(annealed.params, two.params)
    for answer, message in ((3, "returned a int"), ("state", "another structure")):
        give = lambda s, h, a=answer: s._replace(params=jnp.zeros(4)) if a == "state" else a  # noqa: E731
        with pytest.raises(ut.InputError, match=message):
            run(START, progress=ug.Callback(give, every=1))
