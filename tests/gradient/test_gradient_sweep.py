import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks

import undertow as ut
from undertow import gradient as ug
from undertow.gradient.keys import INIT, as_key
from undertow.gradient.sweep import sweep

SGD = optax.sgd(0.05)
PROBLEM = ut.MixedLinearRegression(n_features=3, noise_std=0.5, task_std=1.0)
DESIGN = ut.Design(4, 6, 3)
TASKS = linear_tasks(dtype=np.float32)
TEST = linear_tasks(seed=9, dtype=np.float32)
RATES = [-0.2, 0.0, 0.1]
TWO = ug.InnerLoop(steps=2)


def init(key):
    return jax.random.normal(key, (3,))


def columns(table):
    return {name: table[name].to_numpy() for name in table.column_names if name != "stopped"}


def test_each_cell_is_the_training_run_of_its_rate_and_seed():
    table = sweep(
        linear_loss, init, TASKS, SGD, RATES, [3, 8], TWO, iterations=30, test=TEST, adapt_rates=[0.1, -0.3], block=4
    )
    assert table.num_rows == 3 * 2 * 2
    rows = table.to_pylist()
    assert [row["train_rate"] for row in rows[::4]] == RATES
    assert [row["adapt_rate"] for row in rows[:2]] == [0.1, -0.3]
    look = jax.jit(lambda w, r, t: ug.meta_loss(linear_loss, w, t, r, TWO))
    for row in rows[::5]:
        start = init(jax.random.fold_in(as_key(row["seed"]), INIT))
        state, _ = ug.train(linear_loss, start, TASKS, SGD, row["train_rate"], TWO, iterations=30)
        loss, info = look(state.params, row["train_rate"], TASKS)
        np.testing.assert_allclose(row["meta_loss"], loss, rtol=1e-4)
        np.testing.assert_allclose(row["support_after"], info.support_after.mean(), rtol=1e-4)
        np.testing.assert_allclose(row["support_before"], info.support_before.mean(), rtol=1e-4)
        np.testing.assert_allclose(row["query_before"], info.query_before.mean(), rtol=1e-4)
        np.testing.assert_allclose(row["test_loss"], look(state.params, row["adapt_rate"], TEST)[0], rtol=1e-4)
        assert (row["iterations"], row["stopped"]) == (30, "iterations")


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (ug.Source(PROBLEM, DESIGN), {"test": ut.Design(5, 6, 4), "adapt_rates": 0.1}),
        (ug.Source(PROBLEM, DESIGN, redraw=False, meta_batch=2), {}),
    ],
    ids=["new", "fixed"],
)
def test_map_and_vmap_give_the_same_numbers(source, options):
    options = {"iterations": 20} | options
    run = lambda strategy, block: columns(  # noqa: E731
        sweep(linear_loss, init, source, SGD, [-0.2, 0.1, 0.1], 2, strategy=strategy, block=block, **options)
    )
    one, two = run("map", 2), run("vmap", 5)
    for name, values in one.items():
        np.testing.assert_allclose(values, two[name], rtol=1e-4, err_msg=name)
    # Runs of one seed share the start and all tasks, so that differences between rates are paired.
    loss = one["meta_loss"].reshape(3, 2)
    assert loss[1].tolist() == loss[2].tolist()
    assert len(set(loss.ravel())) == 4


@pytest.mark.long
def test_models_with_leaves_that_are_not_trained_can_be_swept():
    def start(key):
        return {"layers": [init(key)], "scale": jnp.arange(1, 2), "activation": jnp.tanh}

    def loss_fn(params, x, y):
        return linear_loss(params["layers"][0] * params["scale"][0], x, params["activation"](y))

    row = sweep(loss_fn, start, TASKS, SGD, [0.1], 1, iterations=30).to_pylist()[0]
    key = jax.random.fold_in(as_key(0), INIT)
    state, _ = ug.train(loss_fn, start(key), TASKS, SGD, 0.1, iterations=30)
    loss, _ = ug.meta_loss(loss_fn, state.params, TASKS, 0.1)
    np.testing.assert_allclose(row["meta_loss"], loss, rtol=1e-4)


def test_a_run_that_blows_up_or_arrives_early_does_not_disturb_the_others():
    table = sweep(linear_loss, init, TASKS, SGD, [0.0, 1e30, 0.1], 1, iterations=500, target_loss=0.9, block=3)
    rows = table.to_pylist()
    assert [row["stopped"] for row in rows] == ["target_loss", "non_finite", "target_loss"]
    assert rows[1]["iterations"] == 0
    assert 0 < rows[0]["iterations"] < 500
    assert rows[0]["meta_loss"] <= 0.9
    assert "test_loss" not in table.column_names


def test_finished_cells_are_stored_and_not_computed_again(tmp_path):
    calls = []
    options = {"iterations": 20, "block": 2, "store": tmp_path, "test": TEST, "adapt_rates": [0.0, 0.1]}
    options["progress"] = lambda done, total, loss: calls.append((done, total))
    whole = sweep(linear_loss, init, TASKS, SGD, RATES, 2, **options)
    assert calls == [(2, 6), (4, 6), (6, 6)]
    files = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert files == [f"block-0000{i}.parquet" for i in range(3)]
    (tmp_path / files[1]).unlink()
    calls.clear()
    again = sweep(linear_loss, init, TASKS, SGD, RATES, 2, **options)
    assert calls == [(6, 6)]
    assert again.equals(whole)
    with pytest.raises(ut.InputError, match="with first_order=False, and this run has first_order=True"):
        sweep(linear_loss, init, TASKS, SGD, RATES, 2, ug.InnerLoop(first_order=True), **options)
    with pytest.raises(ut.InputError, match="written with source="):
        sweep(linear_loss, init, TEST, SGD, RATES, 2, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_rates": [np.inf]}, "train_rates=inf"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\]: give different"),
        ({"seeds": 0}, "seeds=0"),
        ({"strategy": "both"}, "strategy='both'"),
        ({"source": PROBLEM}, "design: a problem is drawn with"),
        ({"test": DESIGN}, "it must be a TaskBatch, a"),
        ({"adapt_rates": [0.1]}, "adapt_rates=.*without test tasks"),
        ({"adapt_steps": 2}, "adapt_steps=2: without test tasks"),
    ],
)
def test_messages(options, message):
    options = {"source": TASKS, "train_rates": RATES, "seeds": 1, "iterations": 1} | options
    with pytest.raises(ut.InputError, match=message):
        sweep(linear_loss, init, optimizer=SGD, **options)
