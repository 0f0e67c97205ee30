"""Tasks that the host reads: the numbers of tasks that lie in memory, and errors as they were raised."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import undertow as ut
from undertow import gradient as ug

PROBLEM, DESIGN = ut.MixedLinearRegression(n_features=3), ut.Design(4, 5, 3)
ADAM = optax.adam(1e-2)


def loss_fn(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def load(iteration):
    return PROBLEM.sample(DESIGN, iteration, np.float32)


def trained(source, **options):
    return ug.train(loss_fn, jnp.ones(3), source, ADAM, -0.1, **{"iterations": 12, "chunk": 5} | options)


def test_each_iteration_sees_what_the_host_reads():
    state, history = trained(ug.Source(ug.Loader(load)))
    now = None
    for i in range(12):
        now, one = (
            trained(load(i), iterations=i + 1)
            if now is None
            else ug.train(loss_fn, now, load(i), ADAM, -0.1, iterations=i + 1)
        )
        np.testing.assert_allclose(one.meta_loss[-1], history.meta_loss[i], rtol=1e-6)
    np.testing.assert_allclose(state.params, now.params, rtol=1e-6)


@pytest.mark.long
def test_an_interrupted_run_goes_on_with_the_same_numbers(tmp_path):
    whole, _ = trained(ug.Source(ug.Loader(load)))
    trained(ug.Source(ug.Loader(load)), iterations=7, checkpoint=tmp_path / "run")
    again, _ = trained(ug.Source(ug.Loader(load)), checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(whole.params, again.params)


def test_an_iterator_is_read_once_for_each_iteration():
    batches = iter([load(i) for i in range(9)])
    seen = []

    def following(iteration):
        seen.append(iteration)
        return next(batches)

    trained(ug.Source(ug.Loader(following)), iterations=9)
    assert seen == list(range(9))


def other_shape(iteration):
    return PROBLEM.sample(ut.Design(4, 5 + (iteration > 3), 3), iteration, np.float32)


def with_infinity(iteration):
    tasks = load(iteration)
    return tasks._replace(query_y=tasks.query_y / (iteration < 3))


def no_batch(iteration):
    return load(iteration) if iteration < 2 else None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(other_shape, "iteration 4 have other shapes"), (with_infinity, "query_y"), (no_batch, "NoneType")],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_the_host_does_wrong_is_said_as_it_is(wrong, words):
    with pytest.raises(ut.InputError, match=words):
        trained(ug.Source(ug.Loader(wrong)))


def test_an_error_of_the_users_own_comes_back():
    def broken(iteration):
        if iteration == 5:
            raise FileNotFoundError("part-5.npz")
        return load(iteration)

    with pytest.raises(FileNotFoundError, match=r"part-5\.npz"):
        trained(ug.Source(ug.Loader(broken)))


def test_what_would_do_nothing_is_refused():
    loader = ug.Loader(load)
    for options in ({"design": DESIGN}, {"redraw": True}, {"meta_batch": 2}):
        with pytest.raises(ut.InputError, match="whole batches"):
            ug.Source(loader, **options)
    with pytest.raises(ut.InputError, match="one device"):
        trained(ug.Source(loader), devices=1)
    with pytest.raises(ut.InputError, match="a Loader reads them"):
        ug.sweep(loss_fn, lambda key: jnp.zeros(3), ug.Source(loader), ADAM, [-0.1, 0.0], 2, iterations=2)
    with pytest.raises(ut.InputError, match="load"):
        ug.Loader(7)


def test_a_bare_function_is_sent_to_the_loader():
    with pytest.raises(ut.InputError, match=r"Loader\(") as caught:
        trained(load)
    assert caught.value.way_out
    with pytest.raises(ut.InputError) as caught:
        trained("tasks")
    assert not caught.value.way_out
