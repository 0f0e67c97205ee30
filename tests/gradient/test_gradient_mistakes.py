"""Mistakes that would go unseen: another problem on an old checkpoint, damaged files, shapes that broadcast."""

import jax
import numpy as np
import optax
import pytest

import undertow as ut
from undertow import gradient as ug

DESIGN = ut.Design(3, 4, 4)


def loss_fn(w, x, y):
    return 0.5 * ((x @ w - y) ** 2).mean()


def train(folder, noise, iterations=2, **options):
    problem = ut.MixedLinearRegression(2, noise_std=noise)
    return ug.train(
        loss_fn,
        np.zeros(2, np.float32),
        ug.Source(problem, DESIGN),
        optax.sgd(0.1),
        0.1,
        iterations=iterations,
        checkpoint=folder,
        **options,
    )


@pytest.mark.long
def test_a_checkpoint_of_another_problem_is_refused(tmp_path):
    train(tmp_path / "c", 0.5)
    assert train(tmp_path / "c", 0.5, 3)[0].iteration == 3
    with pytest.raises(ut.InputError, match="was written with source="):
        train(tmp_path / "c", 50.0, 4)


def test_a_stored_sweep_of_another_problem_is_refused(tmp_path):
    def sweep(noise):
        source = ug.Source(ut.MixedLinearRegression(2, noise_std=noise), DESIGN)
        init = lambda key: np.zeros(2, np.float32)  # noqa: E731
        options = {"iterations": 1, "store": tmp_path / "s"}
        return ug.sweep(loss_fn, init, source, optax.sgd(0.1), [0.1], 1, **options)

    assert sweep(0.5).equals(sweep(0.5))
    with pytest.raises(ut.InputError, match="source"):
        sweep(50.0)


@pytest.mark.long
def test_a_loss_that_was_low_enough_once_does_not_end_a_run_with_another_limit(tmp_path):
    assert train(tmp_path / "c", 0.5, 4, target_loss=1e9)[0].stopped == "target_loss"
    assert train(tmp_path / "c", 0.5, 4)[0].iteration == 4


@pytest.mark.long
@pytest.mark.parametrize("damage", ["arrays", "text", "settings"])
def test_damaged_checkpoints_are_named(tmp_path, damage):
    train(tmp_path, 0.5)
    if damage == "arrays":
        file = next(tmp_path.glob("arrays-*.safetensors"))
        file.write_bytes(file.read_bytes()[:20])
    else:
        facts = (tmp_path / "state.json").read_text()
        damaged = b"\xff\xfe" if damage == "text" else facts.replace('"settings"', '"other"').encode()
        (tmp_path / "state.json").write_bytes(damaged)
    with pytest.raises(ut.InputError, match="checkpoint="):
        train(tmp_path, 0.5, 3)


def test_a_support_without_rows_and_targets_of_another_shape_are_refused():
    x, y = np.ones((3, 2), np.float32), np.ones(3, np.float32)
    with pytest.raises(ut.InputError, match="no real row"):
        ug.adapt(loss_fn, np.zeros(2, np.float32), (x, y, np.zeros(3, bool)), 0.1)
    with pytest.raises(ut.InputError, match=r"y: its shape \(3, 1\)"):
        ug.squared_loss(lambda w, x: x @ w)(np.zeros(2), x, y[:, None])
    as_lists = ug.adapt(loss_fn, np.zeros(2, np.float32), (x.tolist(), y.tolist()), 0.1)
    np.testing.assert_allclose(as_lists, ug.adapt(loss_fn, np.zeros(2, np.float32), (x, y), 0.1))


@pytest.mark.wrong_type
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": []}, r"devices=\[\]: give at least one"),
        ({"devices": "cpu"}, "devices='cpu': it must be a number"),
        ({"devices": [0]}, r"devices=\[0\]: it must be a number"),
        ({"optimizer": 3}, "optimizer=3: it must be an Optax optimiser"),
        ({"rate_optimizer": 3, "learn_rate": True}, "rate_optimizer=3: it must be an Optax optimiser"),
    ],
)
def test_what_is_no_device_and_no_optimiser_is_named(options, message):
    source = ug.Source(ut.MixedLinearRegression(2, noise_std=0.5), DESIGN)
    given = {"optimizer": optax.sgd(0.1)} | options
    with pytest.raises(ut.InputError, match=message):
        ug.train(loss_fn, np.zeros(2, np.float32), source, train_rate=0.1, iterations=1, **given)


ZERO = np.zeros(2, np.float32)
TASKS = ut.MixedLinearRegression(2, noise_std=0.5).sample(DESIGN, 0, np.float32)


def train_one(**options):
    given = {"loss_fn": loss_fn, "params": ZERO, "source": TASKS, "optimizer": optax.sgd(0.1), "train_rate": 0.1}
    return ug.train(**(given | {"iterations": 1} | options))


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("loss_fn", {"loss_fn": lambda w, x, y: ((x @ w) > y).sum()}),
        ("loss_fn", {"loss_fn": lambda w, x: w.sum()}),
        ("loss_fn", {"loss_fn": lambda w, x, y, weights: w.sum()}),
        ("loss_fn", {"loss_fn": ug.with_key(lambda w, x, y, key: w.sum(), 0)}),
        ("loss_fn", {"loss_fn": lambda w, x, y: (loss_fn(w, x, y), jax.random.key(0))}),
        ("loss_fn", {"loss_fn": lambda w, x, y: (loss_fn(w, x, y), {"a.b": 1.0, "a": {"b": 2.0}})}),
        pytest.param("loss_fn", {"loss_fn": 3}, marks=pytest.mark.wrong_type),
        ("params", {"params": {"w": ZERO, "names": np.array(["a", "b"])}}),
        ("seed", {"seed": 2**70}),
        ("tolerance", {"tolerance": -1.0}),
        ("target_loss", {"target_loss": np.nan}),
        pytest.param("target_loss", {"target_loss": "a"}, marks=pytest.mark.wrong_type),
        pytest.param("progress", {"progress": "yes"}, marks=pytest.mark.wrong_type),
        ("callback", {"progress": ug.Callback(lambda s, h: s._replace(optimizer_state=(1,)), every=1)}),
        ("train_rate", {"progress": ug.Callback(lambda s, h: s._replace(rate=np.nan), every=1)}),
        ("mask", {"source": TASKS._replace(support_mask=np.full((3, 4), 0.5))}),
        ("direction", {"inner": ug.InnerLoop(2, ug.Explicit(optax.lookahead(optax.scale(1.0), 2, 0.5)))}),
    ],
)
def test_what_cannot_be_used_is_named_before_jax_sees_it(argument, options):
    with pytest.raises(ut.InputError) as caught:
        train_one(**options)
    assert caught.value.argument == argument


def test_two_views_of_one_array_are_named_as_one():
    loss = lambda p, x, y: loss_fn(p["a"] + p["b"], x, y)  # noqa: E731
    with pytest.warns(UserWarning, match="are the same array"):
        train_one(loss_fn=loss, params={"a": ZERO, "b": ZERO[:]})


@pytest.mark.long
def test_the_stable_interval_is_said_where_it_explains_something():
    wild = ug.Explicit(optax.stateless(lambda g, _: 1e30 * g))
    with pytest.raises(ug.NonFiniteError) as caught:
        train_one(inner=ug.InnerLoop(2, wild))
    assert "stable interval" not in str(caught.value)
    with pytest.raises(ug.NonFiniteError, match="smaller learning rate of the optimiser") as caught:
        train_one(optimizer=optax.sgd(1e38), iterations=3)
    assert caught.value.cause in ("start", "params")


@pytest.mark.parametrize(
    "support",
    [
        (np.ones((3, 2)), np.ones(2)),
        (np.ones((0, 2)), np.ones(0)),
        (np.ones((3, 2)), np.ones(3), np.ones(2, bool)),
        (np.full((3, 2), "a"), np.ones(3)),
        (None, np.ones(3)),
    ],
)
def test_rows_of_a_task_that_do_not_go_together_are_refused(support):
    with pytest.raises(ut.InputError, match="support"):
        ug.adapt(loss_fn, ZERO, support, 0.1)


@pytest.mark.parametrize("tasks", [None, tuple(TASKS), TASKS._replace(support_x=[[[1.0, 2.0]]])])
def test_what_is_no_batch_of_tasks_is_refused(tasks):
    with pytest.raises(ut.InputError):
        ug.meta_loss(loss_fn, ZERO, tasks, 0.1)


@pytest.mark.long
@pytest.mark.parametrize("multiple", [-1.1, -1.5, -2.5])
def test_an_implicit_step_beyond_the_last_minimum_is_refused_however_small_its_residual(multiple):
    x, y = TASKS.support_x[0], TASKS.support_y[0]
    rate = multiple / float(ug.curvatures(loss_fn, ZERO, (x, y))[1])
    with pytest.raises(ut.InputError, match="not solved"):
        ug.adapt(loss_fn, ZERO, (x, y), rate, ug.InnerLoop(10, ug.Implicit()))
    _, info = ug.meta_loss(loss_fn, ZERO, TASKS, rate, ug.InnerLoop(10, ug.Implicit()))
    assert not float(info.residual[0]) <= 1


def test_a_callback_may_answer_with_any_truth_value():
    stop = lambda state, history: history.meta_loss[-1] < np.inf  # noqa: E731
    assert train_one(iterations=3, progress=ug.Callback(stop, every=1))[0].iteration == 1
    assert train_one(iterations=3, progress=ug.Callback(lambda s, h: False, every=1))[0].iteration == 3


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("init_fn", {"init_fn": lambda: ZERO}),
        ("optimizer", {"optimizer": optax.lookahead(optax.sgd(0.1), 2, 0.5)}),
        ("seeds", {"seeds": [2**40]}),
        ("tolerance", {"tolerance": -1.0}),
        ("store", {"store": __file__}),
        pytest.param("init_fn", {"init_fn": ZERO}, marks=pytest.mark.wrong_type),
        pytest.param("devices", {"devices": 1}, marks=pytest.mark.wrong_type),
        pytest.param("progress", {"progress": "yes"}, marks=pytest.mark.wrong_type),
    ],
)
def test_what_cannot_be_swept_is_named(argument, options):
    given = {"init_fn": lambda key: ZERO, "optimizer": optax.sgd(0.1), "seeds": 1} | options
    with pytest.raises(ut.InputError, match=argument):
        ug.sweep(loss_fn, source=TASKS, train_rates=[0.1], iterations=1, **given)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("adapt_rate", lambda: train_one(validation=ug.Validation(TASKS, {"a": 0.1}))),
        ("checkpoint", lambda: train_one(checkpoint=__file__)),
        ("design", lambda: ug.draw_tasks(ut.Sinusoid(), None, 0)),
        ("steps", lambda: ug.per_step(0.1, -1)),
        ("value", lambda: ug.per_leaf(ZERO, "a")),
        ("iterations", lambda: ug.curvatures(loss_fn, ZERO, (TASKS.support_x[0], TASKS.support_y[0]), iterations=0)),
    ],
)
@pytest.mark.wrong_type
def test_smaller_mistakes_are_named_too(argument, call):
    with pytest.raises(ut.InputError, match=argument):
        call()


def test_labels_that_are_no_classes_do_not_count_from_the_end():
    loss = ug.cross_entropy(lambda w, x: x @ w)
    w, x = np.zeros((2, 3), np.float32), TASKS.support_x[0]
    assert np.isclose(loss(w, x, np.array([0, 1, 2, 2])), np.log(3))
    for wrong in (-1, 3):
        assert np.isnan(loss(w, x, np.array([0, 1, 2, wrong])))
    with pytest.raises(ut.InputError, match="whole numbers"):
        loss(w, x, np.ones(4))
