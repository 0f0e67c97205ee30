"""Mistakes that would go unseen: another problem on an old checkpoint, damaged files, shapes that broadcast."""

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


def test_a_loss_that_was_low_enough_once_does_not_end_a_run_with_another_limit(tmp_path):
    assert train(tmp_path / "c", 0.5, 4, target_loss=1e9)[0].stopped == "target_loss"
    assert train(tmp_path / "c", 0.5, 4)[0].iteration == 4


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
        ({"optimizer": 3}, "optimizer=3: it must be an Optax optimiser"),
        ({"rate_optimizer": 3, "learn_rate": True}, "rate_optimizer=3: it must be an Optax optimiser"),
    ],
)
def test_what_is_no_device_and_no_optimiser_is_named(options, message):
    source = ug.Source(ut.MixedLinearRegression(2, noise_std=0.5), DESIGN)
    given = {"optimizer": optax.sgd(0.1)} | options
    with pytest.raises(ut.InputError, match=message):
        ug.train(loss_fn, np.zeros(2, np.float32), source, train_rate=0.1, iterations=1, **given)
