"""What a loss may be: weighed over its batch, with masks, with aux, with a key, with a state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks, ragged

import undertow as ut
from undertow import gradient as ug
from undertow.gradient.keys import NOISE, as_key

ZERO = jnp.zeros(3)
START = jnp.array([0.3, -0.2, 0.1])
SGD = optax.sgd(0.05)
TWO = ug.InnerLoop(2)


def weighed(w, x, y, mask):
    """Squared errors weighed by the share of rows with a target of the same sign: no mean over rows."""
    positive = (y > 0) & mask
    share = positive.sum() / mask.sum()
    weight = jnp.where(y > 0, 1 - share, share) * mask
    return (weight * (x @ w - y) ** 2).sum() / (weight.sum() + 1e-3)


def weighed_without(w, x, y):
    return weighed(w, x, y, jnp.ones(y.shape, bool))


def masked(tasks, value=True):
    full = lambda y: np.full(y.shape, value)  # noqa: E731
    return tasks._replace(support_mask=full(tasks.support_y), query_mask=full(tasks.query_y))


@pytest.mark.parametrize("loss_fn", [weighed, pytest.param(weighed_without, marks=pytest.mark.long)])
def test_masks_that_are_all_true_change_nothing(loss_fn):
    tasks = linear_tasks(dtype=np.float32)
    plain, _ = ug.meta_loss(loss_fn, START, tasks, -0.1, TWO)
    full, _ = ug.meta_loss(loss_fn, START, masked(tasks), -0.1, TWO)
    assert plain == full
    for run in (
        lambda batch: ug.train(loss_fn, START, batch, SGD, -0.1, iterations=3)[1].meta_loss,
        lambda batch: ug.adapt(loss_fn, START, (batch.support_x[0], batch.support_y[0], *masks(batch)), -0.1),
    ):
        np.testing.assert_array_equal(run(tasks), run(masked(tasks)))


def masks(batch):
    return () if batch.support_mask is None else (batch.support_mask[0],)


@pytest.mark.long
def test_a_loss_over_its_batch_needs_the_mask_where_rows_are_padding():
    tasks = linear_tasks(dtype=np.float32)
    rows = ([2, 5, 3, 4], [3, 1, 2, 3])
    padded = ragged(tasks, *rows)
    _, info = ug.meta_loss(weighed, START, padded, -0.1, TWO)
    for i, (n, k) in enumerate(zip(*rows, strict=True)):
        parts = (tasks.support_x[:, :n], tasks.support_y[:, :n], tasks.query_x[:, :k], tasks.query_y[:, :k])
        alone = ut.TaskBatch(*(part[i : i + 1] for part in parts))
        np.testing.assert_allclose(info.query_after[i], ug.meta_loss(weighed, START, alone, -0.1, TWO)[0], rtol=1e-5)
    assert np.isfinite(jax.grad(lambda w: ug.meta_loss(weighed, w, padded, -0.1, TWO)[0])(START)).all()
    init = lambda key: START  # noqa: E731
    for call in (
        lambda: ug.meta_loss(weighed_without, START, padded, -0.1),
        lambda: ug.train(weighed_without, START, padded, SGD, -0.1, iterations=1),
        lambda: ug.train(weighed_without, START, tasks, SGD, -0.1, iterations=1, validation=ug.Validation(padded, 0.1)),
        lambda: ug.sweep(weighed_without, init, padded, SGD, [0.1], 1, iterations=1),
        lambda: ug.adapt(
            weighed_without, START, (padded.support_x[3], padded.support_y[3], padded.support_mask[3]), -0.1
        ),
    ):
        with pytest.raises(ut.InputError, match="not a mean over rows"):
            call()


def test_a_loss_over_its_batch_needs_the_mask_in_a_compiled_function_too():
    tasks = masked(linear_tasks(dtype=np.float32))
    compiled = jax.jit(lambda loss_fn, batch: ug.meta_loss(loss_fn, START, batch, -0.1)[0], static_argnums=0)
    with pytest.raises(ut.InputError, match="not a mean over rows"):
        compiled(weighed_without, tasks)
    np.testing.assert_allclose(
        compiled(linear_loss, tasks), ug.meta_loss(linear_loss, START, tasks, -0.1)[0], rtol=1e-6
    )


def with_aux(w, x, y):
    error = x @ w - y
    return linear_loss(w, x, y), {"worst": jnp.abs(error).max(), "signs": {"up": (error > 0).mean(), "n": len(y)}}


@pytest.mark.long
def test_aux_reaches_info_and_history():
    tasks = linear_tasks(dtype=np.float32)
    loss, info = ug.meta_loss(with_aux, START, tasks, -0.1, TWO)
    assert loss == ug.meta_loss(linear_loss, START, tasks, -0.1, TWO)[0]
    for i in range(4):
        theta = ug.adapt(with_aux, START, (tasks.support_x[i], tasks.support_y[i]), -0.1, TWO)
        found = with_aux(theta, tasks.query_x[i], tasks.query_y[i])[1]
        np.testing.assert_allclose(info.aux["worst"][i], found["worst"], rtol=1e-5)
    _, history = ug.train(with_aux, START, tasks, SGD, -0.1, TWO, iterations=5, chunk=2)
    assert sorted(history.aux) == ["signs.n", "signs.up", "worst"]
    np.testing.assert_allclose(history.aux["worst"][0], info.aux["worst"].mean(), rtol=1e-5)
    assert history.table()["aux worst"].to_pylist() == history.aux["worst"].tolist()
    _, plain = ug.train(linear_loss, START, tasks, SGD, -0.1, TWO, iterations=5)
    np.testing.assert_array_equal(plain.meta_loss, history.meta_loss)
    # Row by row, aux is the mean over the real rows.
    count = lambda w, x, y: (linear_loss(w, x, y), y.mean())  # noqa: E731
    padded = ragged(tasks, [2, 5, 3, 4], [3, 1, 2, 3])
    _, info = ug.meta_loss(count, START, padded, 0.1)
    np.testing.assert_allclose(info.aux[1], tasks.query_y[1, 0], rtol=1e-5)


def noisy(w, x, y, key):
    return linear_loss(w, x, y + jax.random.normal(key, y.shape))


@pytest.mark.long
def test_keys_are_split_by_iteration_task_and_step():
    tasks = linear_tasks(dtype=np.float32)
    tasks = ut.TaskBatch(*(np.repeat(part[:1], 4, axis=0) for part in tasks[:4]))
    seen = lambda w, x, y, key: (0.0 * w.sum(), jax.random.uniform(key))  # noqa: E731
    _, history = ug.train(seen, START, tasks, SGD, 0.1, iterations=4, chunk=2)
    assert len(set(history.aux["aux"].tolist())) == 4
    bound = ug.with_key(seen, 7)
    _, info = ug.meta_loss(bound, START, tasks, 0.1, TWO)
    again = ug.meta_loss(ug.with_key(seen, 7), START, tasks, 0.1, TWO)[1]
    assert len(set(info.aux.tolist())) == 4
    np.testing.assert_array_equal(info.aux, again.aux)
    # A loss that is the noise itself times w: each step adds its own.
    drift = lambda w, x, y, key: w.sum() * jax.random.normal(key)  # noqa: E731
    key = jax.random.fold_in(as_key(7), 0)
    steps = [jax.random.normal(jax.random.fold_in(key, j)) for j in range(3)]
    theta = ug.adapt(ug.with_key(drift, 7), START, (tasks.support_x[0], tasks.support_y[0]), 0.1, ug.InnerLoop(3))
    np.testing.assert_allclose(theta, START - 0.1 * sum(steps), rtol=1e-4, atol=1e-6)
    # Training uses the key of the iteration.
    _, history = ug.train(noisy, START, tasks, SGD, 0.1, TWO, iterations=1, seed=3)
    first = ug.with_key(noisy, jax.random.fold_in(jax.random.fold_in(as_key(3), NOISE), 0))
    np.testing.assert_allclose(history.meta_loss[0], ug.meta_loss(first, START, tasks, 0.1, TWO)[0], rtol=1e-5)


@pytest.mark.long
def test_a_run_with_noise_resumes_and_does_not_depend_on_chunks(tmp_path):
    tasks = linear_tasks(dtype=np.float32)
    run = lambda **options: ug.train(noisy, START, ug.Source(tasks, meta_batch=2), SGD, 0.1, **options)[0].params  # noqa: E731
    whole = run(iterations=8)
    run(iterations=3, checkpoint=tmp_path)
    np.testing.assert_array_equal(run(iterations=8, checkpoint=tmp_path, chunk=2), whole)


@pytest.mark.long
def test_noise_is_off_where_training_is_measured():
    tasks = linear_tasks(dtype=np.float32)

    def dropout(w, x, y, key=None):
        return linear_loss(w, x, y) if key is None else noisy(w, x, y, key)

    _, history = ug.train(dropout, START, tasks, SGD, 0.1, iterations=2, validation=ug.Validation(tasks, 0.1, every=1))
    state, _ = ug.train(dropout, START, tasks, SGD, 0.1, iterations=1)
    np.testing.assert_allclose(
        history.validation_loss[0], ug.meta_loss(linear_loss, state.params, tasks, 0.1)[0], rtol=1e-5
    )
    table = ug.sweep(noisy, lambda key: START, tasks, SGD, [0.1], 2, iterations=2, test=tasks)
    assert np.isfinite(table["test_loss"].to_numpy()).all()


def running(w, x, y, state):
    """Targets less their running mean: a state like that of a batch normalisation."""
    new = {"mean": 0.9 * state["mean"] + 0.1 * y.mean(), "calls": state["calls"] + 1}
    return linear_loss(w, x, y - state["mean"]), None, new


@pytest.mark.long
def test_a_state_is_carried_from_iteration_to_iteration(tmp_path):
    tasks = linear_tasks(dtype=np.float32)
    start = ug.Stateful(START, {"mean": jnp.float32(0.0), "calls": jnp.int32(0)})
    state, history = ug.train(running, start, tasks, SGD, 0.1, TWO, iterations=6, chunk=4)
    mean, w = 0.0, START
    for i in range(6):
        fixed = functools.partial(lambda w, x, y, mean: linear_loss(w, x, y - mean), mean=mean)
        value, slope = jax.value_and_grad(lambda w, f=fixed: ug.meta_loss(f, w, tasks, 0.1, TWO)[0])(w)
        np.testing.assert_allclose(history.meta_loss[i], value, rtol=1e-5)
        w, mean = w - 0.05 * slope, 0.9 * mean + 0.1 * tasks.query_y.mean(axis=1).mean()
    np.testing.assert_allclose(state.params.params, w, rtol=1e-4)
    np.testing.assert_allclose(state.params.state["mean"], mean, rtol=1e-5)
    assert int(state.params.state["calls"]) == 6

    ug.train(running, start, tasks, SGD, 0.1, TWO, iterations=2, checkpoint=tmp_path)
    validation = ug.Validation(tasks, 0.1, every=6)
    resumed, _ = ug.train(running, start, tasks, SGD, 0.1, TWO, iterations=6, checkpoint=tmp_path)
    np.testing.assert_array_equal(resumed.params.state["mean"], state.params.state["mean"])
    best, _ = ug.train(running, start, tasks, SGD, 0.1, TWO, iterations=6, validation=validation)
    np.testing.assert_allclose(best.best_params.state["mean"], mean, rtol=1e-5)
    theta = ug.adapt(running, state.params, (tasks.support_x[0], tasks.support_y[0]), 0.1)
    assert theta.state["calls"] == 6
    table = ug.sweep(running, lambda key: start, tasks, SGD, [0.1], 1, TWO, iterations=6)
    value, _ = ug.meta_loss(running, state.params, tasks, 0.1, TWO)
    np.testing.assert_allclose(table["meta_loss"].to_numpy(), [value], rtol=1e-5)


@pytest.mark.parametrize(
    ("loss_fn", "params", "message"),
    [
        (lambda w, x, y: (1.0, 2.0, 3.0), ZERO, "returned 3 parts"),
        (lambda w, x, y: (w.sum(), "text"), ZERO, "tree of numbers"),
        (lambda w, x, y: "text", ZERO, "of type str"),
        (noisy, ZERO, "takes a key"),
        (running, ZERO, "takes a state"),
        (linear_loss, ug.Stateful(ZERO, ZERO), "no argument called state"),
        (lambda w, x, y, state: w.sum(), ug.Stateful(ZERO, ZERO), "must return"),
        (lambda w, x, y, state: (w.sum(), None, (state, 1)), ug.Stateful(ZERO, ZERO), "another structure"),
        (lambda w, x, y, state: (w.sum(), None, jnp.ones(7)), ug.Stateful(ZERO, ZERO), "another structure or shape"),
        (lambda w, x, y, state: (w.sum(), None, state), ug.Stateful(ZERO, jax.random.key(0)), "holds a key"),
    ],
)
def test_losses_that_do_not_fit_are_named(loss_fn, params, message):
    with pytest.raises(ut.InputError, match=message) as caught:
        ug.meta_loss(loss_fn, params, linear_tasks(dtype=np.float32), 0.1)
    assert caught.value.argument == "loss_fn"


def test_a_key_and_masks_need_a_mask_argument():
    padded = ragged(linear_tasks(dtype=np.float32), [2, 5, 3, 4], [3, 1, 2, 3])
    with pytest.raises(ut.InputError, match="argument mask"):
        ug.train(noisy, START, padded, SGD, 0.1, iterations=1)
    with pytest.raises(ut.InputError, match="no argument called key"):
        ug.with_key(linear_loss, 0)
