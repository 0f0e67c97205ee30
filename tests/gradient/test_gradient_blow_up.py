"""What NonFiniteError says is the cause, each made on purpose."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks

import undertow as ut
from undertow import gradient as ug

ZERO = jnp.zeros(3)
SGD = optax.sgd(0.05)


def blow_up(loss_fn, tasks=None, rate=0.1, inner=None, params=ZERO, optimizer=SGD, **options):
    tasks = linear_tasks(dtype=np.float32) if tasks is None else tasks
    with pytest.raises(ug.NonFiniteError) as caught:
        ug.train(loss_fn, params, tasks, optimizer, rate, inner or ug.InnerLoop(), iterations=5, **options)
    error = caught.value
    assert "nan]" not in str(error)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(error.state.params)) or error.cause == "params"
    return error


@pytest.mark.long
def test_a_norm_that_is_zero_has_no_derivative():
    tasks = linear_tasks(dtype=np.float32)
    tasks = tasks._replace(support_y=0 * tasks.support_y)
    error = blow_up(lambda w, x, y: jnp.linalg.norm(x @ w - y), tasks)
    assert error.cause == "derivative"
    assert "support loss" in str(error)
    assert "is not the cause" in str(error)
    # The same in the query rows only: the adapted weights of a loss without slope are the start.
    query = tasks._replace(support_y=tasks.support_y + 1, query_y=0 * tasks.query_y)
    error = blow_up(lambda w, x, y: jnp.linalg.norm(x @ w - y), query, rate=0.0)
    assert error.cause == "derivative"
    assert "query loss" in str(error)


@pytest.mark.long
def test_a_root_without_second_derivative_is_told_from_a_rate():
    # |w|^1.5 has the slope 0 at 0 and no second derivative there.
    power = lambda w, x, y: linear_loss(w, x, y) + (jnp.abs(w) ** 1.5).sum()  # noqa: E731
    tasks = linear_tasks(dtype=np.float32)
    assert blow_up(power, tasks).cause == "second_derivative"
    state, _ = ug.train(power, ZERO, tasks, SGD, 0.1, ug.InnerLoop(first_order=True), iterations=2)
    assert np.isfinite(state.params).all()


@pytest.mark.long
def test_a_loss_that_is_not_finite_at_the_start_is_not_blamed_on_the_rate():
    tasks = linear_tasks(dtype=np.float32)
    tasks.support_y[2, 1] = 1e25
    error = blow_up(linear_loss, tasks, rate=-0.3)
    assert (error.cause, error.task) == ("start", 2)
    assert "1e+25" in str(error)
    assert "overflows float32" in str(error)
    logs = lambda w, x, y: linear_loss(w, x, y) + jnp.log(w.sum())  # noqa: E731
    assert blow_up(logs).cause == "start"


def test_numbers_that_overflow_float32_are_refused_where_they_stand():
    tasks = linear_tasks()
    tasks.query_y[1, 2] = 1e300
    with pytest.raises(ut.InputError, match=r"query_y\[1, 2\] is 1e\+300, which overflows float32"):
        ug.train(linear_loss, ZERO, tasks, SGD, 0.1, iterations=1)
    mask = np.ones(tasks.query_y.shape, bool)
    mask[1, 2] = False
    ug.train(linear_loss, ZERO, tasks._replace(query_mask=mask), SGD, 0.1, iterations=1)


@pytest.mark.long
def test_parameters_that_an_update_made_infinite_are_the_cause():
    error = blow_up(linear_loss, optimizer=optax.chain(optax.scale(-3e38), optax.scale(1e9)))
    assert (error.cause, error.iteration) == ("params", 1)
    assert blow_up(linear_loss, params=ZERO.at[1].set(jnp.nan)).cause == "params"


def test_a_mean_that_overflows_is_no_task_s_fault():
    huge = lambda w, x, y: linear_loss(w, x, y) * 0 + 2e38 + w.sum()  # noqa: E731
    assert blow_up(huge).cause == "sum"


def test_a_rate_is_blamed_where_steps_grow():
    error = blow_up(linear_loss, rate=-3.0, inner=ug.InnerLoop(80))
    assert error.cause == "rate"
    low, high = error.stable_interval
    assert low == 0 < high < np.inf


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.long
def test_half_precision_keeps_the_last_finite_state(dtype, tmp_path):
    tasks = linear_tasks(dtype=np.float32)
    half = jax.tree.map(lambda a: jnp.asarray(a, dtype), tasks)
    start = jnp.full(3, 0.5, dtype)
    error = blow_up(linear_loss, half, rate=-3.0, inner=ug.InnerLoop(80), params=start)
    assert error.cause == "rate"
    assert error.state.params.dtype == dtype
    assert (error.state.params == start).all()
    support = lambda batch: (batch.support_x[0], batch.support_y[0])  # noqa: E731
    wide = ug.stable_interval(linear_loss, ZERO, support(tasks))
    np.testing.assert_allclose(ug.stable_interval(linear_loss, start, support(half)), wide, rtol=0.03)


@pytest.mark.long
def test_an_implicit_problem_without_a_solution_stops_training():
    tasks = linear_tasks(dtype=np.float32)
    implicit = ug.InnerLoop(10, ug.Implicit())
    error = blow_up(linear_loss, tasks, rate=-3.0, inner=implicit)
    assert (error.cause, error.iteration) == ("unsolved", 0)
    _, info = ug.meta_loss(linear_loss, ZERO, tasks, -3.0, implicit)
    np.testing.assert_allclose(error.history.residual, [info.residual.max()], rtol=1e-5)
    assert error.task == int((info.residual > 1).argmax())

    state, history = ug.train(linear_loss, ZERO, tasks, SGD, 0.1, implicit, iterations=3)
    assert state.stopped == "iterations"
    assert history.residual.max() < 1e-4
    assert history.table()["residual"].to_pylist() == history.residual.tolist()
    endless = ug.InnerLoop(2, ug.Implicit(max_residual=None))
    assert ug.train(linear_loss, ZERO, tasks, optax.sgd(0.0), -3.0, endless, iterations=3)[0].iteration == 3

    validation = ug.Validation(tasks, -3.0, every=1)
    with pytest.warns(UserWarning, match="a validation task is not solved"):
        _, history = ug.train(linear_loss, ZERO, tasks, SGD, 0.1, implicit, iterations=1, validation=validation)
    assert history.validation_loss.tolist() == [np.inf]

    table = ug.sweep(linear_loss, lambda key: ZERO, tasks, SGD, [-3.0, 0.1], 1, implicit, iterations=3)
    assert table["stopped"].to_pylist() == ["non_finite", "iterations"]
