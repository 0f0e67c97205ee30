import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks

import undertow as ut
from undertow import gradient as ug
from undertow.gradient.keys import TASKS, as_key
from undertow.gradient.source import epoch_order

SGD = optax.sgd(0.05)
PROBLEM = ut.MixedLinearRegression(n_features=3, noise_std=0.5, task_std=1.0, mean_weights=[1.0, -1.0, 0.5])
DESIGN = ut.Design(4, 6, 3)
DRAWN = ug.Source(PROBLEM, DESIGN)
ZERO = jnp.zeros(3)
TASK_BATCH = linear_tasks(dtype=np.float32)


def test_training_is_the_plain_loop_over_iterations():
    tasks = linear_tasks(dtype=np.float32)
    state, history = ug.train(linear_loss, ZERO, tasks, SGD, -0.2, ug.InnerLoop(2), iterations=7, chunk=3)
    step = jax.jit(
        jax.value_and_grad(lambda w: ug.meta_loss(linear_loss, w, tasks, -0.2, ug.InnerLoop(2)), has_aux=True)
    )
    w, seen = ZERO, []
    for _ in range(7):
        (loss, info), gradient = step(w)
        seen.append([loss, info.support_before.mean(), info.support_after.mean(), jnp.linalg.norm(gradient)])
        w = w - 0.05 * gradient
    np.testing.assert_allclose(state.params, w, rtol=1e-5)
    found = np.stack([history.meta_loss, history.support_before, history.support_after, history.gradient_norm], axis=1)
    np.testing.assert_allclose(found, seen, rtol=1e-5)
    assert (state.iteration, state.stopped) == (7, "iterations")
    assert history.rate_mean.shape == (7, 0)
    assert state.best_params is None


def test_another_rate_seed_start_or_length_does_not_compile_anew():
    traces = []

    def counted(w, x, y):
        traces.append(1)
        return linear_loss(w, x, y)

    run = lambda **options: ug.train(  # noqa: E731
        counted,
        options.pop("start", ZERO),
        options.pop("source", DRAWN),
        SGD,
        **({"iterations": 30, "chunk": 10} | options),
    )
    run(train_rate=-0.1)
    before = len(traces)
    run(train_rate=0.3)
    run(train_rate=0.0, seed=5, iterations=17)
    run(train_rate=-0.2, start=jnp.ones(3), target_loss=0.1, tolerance=0.01)
    run(train_rate=-0.2, source=ug.Source(PROBLEM, ut.Design(4, 6, 3)), inner=ug.InnerLoop(1))
    assert len(traces) == before


@pytest.mark.long
def test_tasks_are_drawn_inside_the_loop_from_seed_and_iteration():
    run = lambda seed, n: ug.train(  # noqa: E731
        linear_loss, ZERO, DRAWN, SGD, -0.1, iterations=n, chunk=10, seed=seed
    )
    state, history = run(3, 5)
    again, _ = run(3, 5)
    assert (state.params == again.params).all()
    assert (run(4, 5)[0].params != state.params).all()
    before = run(3, 4)[0].params
    key = jax.random.fold_in(jax.random.fold_in(as_key(3), TASKS), 4)
    loss, _ = ug.meta_loss(linear_loss, before, ug.draw_tasks(PROBLEM, DESIGN, key), -0.1)
    np.testing.assert_allclose(history.meta_loss[4], loss, rtol=1e-5)
    # Without redrawing, the tasks of the seed are a TaskBatch like any other.
    fixed = ug.draw_tasks(PROBLEM, DESIGN, jax.random.fold_in(as_key(3), TASKS))
    options = {"iterations": 5, "chunk": 10, "seed": 3}
    one, _ = ug.train(linear_loss, ZERO, ug.Source(PROBLEM, DESIGN, redraw=False), SGD, -0.1, **options)
    two, _ = ug.train(linear_loss, ZERO, fixed, SGD, -0.1, **options)
    assert (one.params == two.params).all()


@pytest.mark.long
def test_drawn_tasks_have_streams_of_their_own_and_the_right_moments():
    n = 4000
    draw = jax.jit(lambda key, n=n: ug.draw_tasks(PROBLEM, DESIGN, key, n))
    tasks = draw(as_key(1))
    assert tasks.support_x.shape == (n, 6, 3)
    few = ug.draw_tasks(PROBLEM, DESIGN, 1, 5)
    for whole, part in zip(tasks[:4], few[:4], strict=True):
        np.testing.assert_allclose(whole[:5], part, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.asarray(tasks.query_y))) > 0.99 * tasks.query_y.size

    def check(values, mean):
        values = np.asarray(values, dtype=np.float64)
        assert abs(values.mean() - mean) < 4 * values.std(ddof=1) / np.sqrt(len(values))

    x, y = np.asarray(tasks.support_x), np.asarray(tasks.support_y)
    check(x.mean(axis=(1, 2)), 0.0)
    check((x**2).mean(axis=(1, 2)), 1.0)
    check((y * x[..., 0]).mean(axis=1), 1.0)
    check((y**2).mean(axis=1), 2.25 + 1.0 + 0.25)
    # Support and query rows share the task's weights, and nothing else.
    check(tasks.support_y[:, 0] * tasks.query_y[:, 0] * (x[:, 0] * np.asarray(tasks.query_x[:, 0])).sum(1), 2.25 + 1.0)


def test_a_key_is_a_source_of_random_numbers():
    source = ug.KeySource(jax.random.key(0))
    first, second, uniform = source.normal((1000,)), source.normal((1000,)), source.uniform(2.0, 5.0, (1000,))
    assert (first != second).all()
    assert abs(first.mean()) < 4 / np.sqrt(1000)
    assert 2.0 <= uniform.min() <= 2.1
    assert 4.9 <= uniform.max() < 5.0
    drawn = jax.eval_shape(lambda: tuple(PROBLEM.draw(ug.KeySource(jax.random.key(0)), DESIGN)))
    assert drawn[3].shape == (4, 3)


@pytest.mark.long
def test_an_epoch_of_mini_batches_visits_each_task_once():
    # With a loss that tells which task it saw: the query target of task i is 2^i, and the step adds their sum.
    m = 6
    x, y = np.zeros((m, 1, 1), np.float32), (2.0 ** np.arange(m, dtype=np.float32))[:, None]
    pairs = ug.Source(ut.TaskBatch(x, 0 * y, x, y), meta_batch=2)
    loss_fn = lambda w, x, y: -w.sum() * y.mean()  # noqa: E731
    seen = []
    for n in range(7):
        state, _ = ug.train(loss_fn, jnp.zeros(1), pairs, optax.sgd(2.0), 0.0, iterations=n, chunk=2)
        seen.append(float(state.params[0]))
    codes = np.diff(seen).astype(int)
    assert all(bin(code).count("1") == 2 for code in codes)
    assert codes[:3].sum() == codes[3:].sum() == 2**m - 1
    assert codes[:3].tolist() != codes[3:].tolist(), "each epoch has its own order"
    assert sorted(epoch_order(as_key(0), 1, 5).tolist()) == [0, 1, 2, 3, 4]


def opposed(m=20, seed=0):
    """Tasks whose support targets have the wrong sign: the right inner step goes uphill."""
    tasks = linear_tasks(m, 8, 8, seed=seed, dtype=np.float32)
    return tasks._replace(support_y=-tasks.support_y)


@pytest.mark.parametrize("kind", ["scalar", "per_parameter"])
def test_learned_rates_may_turn_negative(kind):
    rate = 0.1 if kind == "scalar" else ug.per_parameter(ZERO, 0.1)
    optimizers = {"optimizer": optax.sgd(0.05), "rate_optimizer": optax.adam(0.02)}
    state, history = ug.train(
        linear_loss, ZERO, opposed(), train_rate=rate, learn_rate=True, iterations=200, chunk=200, **optimizers
    )
    assert (np.asarray(state.rate) < -0.2).all()
    np.testing.assert_allclose(history.rate_mean[0], 0.1, rtol=1e-6)
    assert history.rate_negative[0] == 0
    assert history.rate_negative[-1] == 1
    assert history.meta_loss[-1] < 0.6 * history.meta_loss[0]
    table = history.table()
    assert table.num_rows == 200
    assert table.column_names[-2:] == ["rate_mean train_rate", "rate_negative train_rate"]


def test_one_optimiser_can_have_both_the_parameters_and_the_rate():
    state, _ = ug.train(linear_loss, ZERO, opposed(), optax.adam(0.02), 0.1, learn_rate=True, iterations=200, chunk=200)
    assert float(state.rate) < -0.2


def test_training_stops_at_a_target_a_tolerance_or_when_patience_ends():
    tasks = linear_tasks(dtype=np.float32)
    run = lambda **options: ug.train(linear_loss, ZERO, tasks, SGD, 0.1, iterations=2000, chunk=50, **options)  # noqa: E731
    limit = 0.8 * float(ug.meta_loss(linear_loss, ZERO, tasks, 0.1)[0])
    target, history = run(target_loss=limit)
    assert target.stopped == "target_loss"
    assert history.meta_loss[-1] <= limit < history.meta_loss[-2]
    assert target.iteration == len(history.meta_loss) - 1
    loss, _ = ug.meta_loss(linear_loss, target.params, tasks, 0.1)
    np.testing.assert_allclose(loss, history.meta_loss[-1], rtol=1e-5)
    flat, history = run(tolerance=1e-3)
    assert flat.stopped == "tolerance"
    assert history.gradient_norm[-1] <= 1e-3 < history.gradient_norm[-2]

    # Validation tasks that pull the other way: their loss only rises.
    away = tasks._replace(query_y=-tasks.query_y, support_y=-tasks.support_y)
    state, history = run(validation=ug.Validation(away, 0.1, every=20, patience=3))
    assert state.stopped == "patience"
    assert history.validation_iteration.tolist() == [20, 40, 60, 80]
    assert (np.diff(history.validation_loss) > 0).all()
    assert (state.best_iteration, state.best_loss) == (20, history.validation_loss[0])
    value, _ = ug.meta_loss(linear_loss, state.best_params, away, 0.1)
    np.testing.assert_allclose(value, state.best_loss, rtol=1e-5)
    column = history.table()["validation_loss"].to_pylist()
    assert [i for i, v in enumerate(column) if v is not None] == [19, 39, 59, 79]


@pytest.mark.long
def test_a_value_that_is_not_finite_stops_training_and_names_where():
    tasks = linear_tasks(m=5, dtype=np.float32)
    tasks.support_x[3] *= 1e3
    eight = ug.InnerLoop(8)
    with pytest.raises(ug.NonFiniteError, match=r"iteration 0, task 3: .* train_rate -3 and steps=8") as caught:
        ug.train(linear_loss, ZERO, tasks, SGD, -3.0, eight, iterations=20)
    error = caught.value
    assert (error.iteration, error.task, float(error.rate)) == (0, 3, -3.0)
    top = np.linalg.eigvalsh(tasks.support_x[3].T @ tasks.support_x[3] / 5)[-1]
    np.testing.assert_allclose(error.stable_interval, (0, 2 / top), rtol=1e-3)
    assert (error.state.params == 0).all()
    assert len(error.history.meta_loss) == 1

    # In a mini-batch the task is named by its place in the TaskBatch.
    still = optax.sgd(0.0)
    for seed in range(3):
        with pytest.raises(ug.NonFiniteError, match="task 3: ") as caught:
            ug.train(linear_loss, ZERO, ug.Source(tasks, meta_batch=2), still, -3.0, eight, iterations=20, seed=seed)
        assert caught.value.task == 3

    # Found later on as well: the state is the last finite one.
    pairs = ug.Source(linear_tasks(m=6, dtype=np.float32), meta_batch=2)
    with pytest.raises(ug.NonFiniteError, match="at first") as caught:
        ug.train(linear_loss, ZERO, pairs, optax.sgd(1e6), 0.1, iterations=90)
    error = caught.value
    assert 0 < error.iteration < 20
    assert 0 <= error.task < 6
    assert np.isfinite(error.state.params).all()
    assert error.state.stopped == "non_finite"
    with pytest.raises(ug.NonFiniteError, match="a tree of rates of size up to 3"):
        ug.train(linear_loss, ZERO, tasks, SGD, ug.per_parameter(ZERO, -3.0), eight, iterations=20)


def test_progress_is_reported_between_compiled_calls(capsys):
    calls = []
    options = {"iterations": 25, "chunk": 10}
    ug.train(
        linear_loss, ZERO, linear_tasks(dtype=np.float32), SGD, 0.1, progress=lambda *a: calls.append(a), **options
    )
    assert [(done, total) for done, total, _ in calls] == [(10, 25), (20, 25), (25, 25)]
    assert all(np.isfinite(loss) for *_, loss in calls)
    ug.train(linear_loss, ZERO, linear_tasks(dtype=np.float32), SGD, 0.1, progress=True, **options)
    out = capsys.readouterr()
    assert not out.out
    assert "25/25" in out.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_rate": np.nan}, "train_rate=nan"),
        ({"iterations": -1}, "iterations=-1"),
        ({"source": PROBLEM}, "design: a problem is drawn with the sizes"),
        ({"source": 3}, "source: it must be a TaskBatch"),
        ({"validation": ug.Validation(linear_tasks())}, "validation needs the rate"),
        pytest.param({"validation": linear_tasks()}, "of type TaskBatch", marks=pytest.mark.wrong_type),
        pytest.param({"checkpoint": 3}, "checkpoint=3", marks=pytest.mark.wrong_type),
        ({"inner": ug.InnerLoop(rule=ug.Reptile()), "learn_rate": True}, "has no gradient"),
        ({"rate_optimizer": SGD}, "learn_rate=False"),
        ({"devices": 99}, "devices=99: JAX sees"),
        ({"seed": -1}, "seed=-1"),
        ({"weighting": "task"}, "weighting='task'"),
    ],
)
def test_messages(options, message):
    options = {"source": linear_tasks(dtype=np.float32), "train_rate": 0.1, "iterations": 1} | options
    with pytest.raises(ut.InputError, match=message):
        ug.train(linear_loss, ZERO, optimizer=SGD, **options)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("design", lambda: ug.Source(TASK_BATCH, DESIGN)),
        ("redraw", lambda: ug.Source(TASK_BATCH, redraw=True)),
        ("redraw", lambda: ug.Source(TASK_BATCH, redraw=False)),
        ("design", lambda: ug.Source(PROBLEM)),
        ("design", lambda: ug.Source(PROBLEM, redraw=False)),
        ("source", lambda: ug.Source(3, DESIGN)),
        ("meta_batch", lambda: ug.Source(TASK_BATCH, meta_batch=9)),
        ("meta_batch", lambda: ug.Source(PROBLEM, DESIGN, redraw=False, meta_batch=5)),
        ("meta_batch", lambda: ug.Source(PROBLEM, DESIGN, meta_batch=0)),
        ("support_y", lambda: ug.Source(TASK_BATCH._replace(support_y=np.zeros((4, 9))))),
        ("adapt_rate", lambda: ug.Validation(TASK_BATCH, np.inf)),
        ("steps", lambda: ug.Validation(TASK_BATCH, 0.1, steps=-1)),
        ("every", lambda: ug.Validation(TASK_BATCH, 0.1, every=0)),
        ("patience", lambda: ug.Validation(TASK_BATCH, 0.1, patience=0)),
        pytest.param("validation", lambda: ug.Validation(None, patience=3), marks=pytest.mark.wrong_type),
    ],
)
def test_records_whose_entries_do_not_fit_or_do_nothing_are_refused(argument, make):
    with pytest.raises(ut.InputError) as caught:
        make()
    assert caught.value.argument == argument


def test_validation_takes_its_own_rate_and_number_of_steps():
    new = linear_tasks(seed=3, dtype=np.float32)
    run = lambda validation, **options: ug.train(  # noqa: E731
        linear_loss, ZERO, TASK_BATCH, SGD, -0.1, iterations=4, validation=validation, **options
    )
    state, history = run(ug.Validation(new, 0.2, steps=3, every=4))
    loss, _ = ug.meta_loss(linear_loss, state.params, new, 0.2, ug.InnerLoop(3))
    np.testing.assert_allclose(history.validation_loss, [loss], rtol=1e-5)
    # Without a rate of its own, the learned one serves.
    state, history = run(ug.Validation(new, every=4), learn_rate=True)
    loss, _ = ug.meta_loss(linear_loss, state.params, new, state.rate)
    np.testing.assert_allclose(history.validation_loss, [loss], rtol=1e-5)


def test_values_that_are_not_finite_are_refused_in_real_rows_only():
    tasks = linear_tasks(dtype=np.float32)
    tasks.support_x[1, 2, 0] = np.nan
    with pytest.raises(ut.InputError, match=r"source.support_x\[1, 2, 0\] is nan"):
        ug.train(linear_loss, ZERO, tasks, SGD, 0.1, iterations=1)
    mask = np.ones((4, 5), bool)
    mask[1, 2] = False
    state, _ = ug.train(linear_loss, ZERO, tasks._replace(support_mask=mask), SGD, 0.1, iterations=3)
    assert np.isfinite(state.params).all()
    mask[2] = False
    with pytest.raises(ut.InputError, match="task number 2 has none"):
        ug.train(linear_loss, ZERO, tasks._replace(support_mask=mask), SGD, 0.1, iterations=1)
