import json
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import linear_loss, linear_tasks

import undertow as ut
from undertow import gradient as ug
from undertow.gradient import checkpoint

ADAM = optax.adam(0.02)
ZERO = jnp.zeros(3)
TASKS = linear_tasks(m=6, dtype=np.float32)
OPTIONS = {
    "source": ug.Source(TASKS, meta_batch=2),
    "optimizer": ADAM,
    "train_rate": -0.1,
    "learn_rate": True,
    "chunk": 10,
    "validation": ug.Validation(linear_tasks(m=3, seed=1, dtype=np.float32), every=6),
}


def run(folder, iterations, **options):
    kept = None if folder is None else ug.Checkpoint(folder, every=7)
    return ug.train(linear_loss, ZERO, iterations=iterations, checkpoint=kept, **OPTIONS | options)


def identical(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(np.asarray(x), np.asarray(y)), (x, y)


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path):
    whole, whole_history = run(None, 45)
    for stop in (7, 20, 45):
        run(tmp_path, stop)
    state, history = run(tmp_path, 45)
    identical(state, whole)
    identical(vars(history), vars(whole_history))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["arrays-0000000045.safetensors", "state.json"]
    identical(checkpoint.read_tree(tmp_path, "params", ZERO), whole.params)
    facts = json.loads((tmp_path / "state.json").read_text())
    assert facts["iteration"] == 45
    assert set(facts["versions"]) == {"undertow", "jax", "numpy", "optax"}


def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run(tmp_path, 14)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace = checkpoint.os.replace

    def crash(source, target):
        if str(target).endswith("state.json"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 30)
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()
    whole, _ = run(None, 30)
    identical(run(tmp_path, 30)[0], whole)
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".safetensors"]) == 1


def test_a_bare_folder_is_a_checkpoint_that_is_written_at_the_end(tmp_path):
    first, _ = ug.train(linear_loss, ZERO, TASKS, ADAM, -0.1, iterations=5, checkpoint=str(tmp_path))
    again, _ = ug.train(linear_loss, ZERO, TASKS, ADAM, -0.1, iterations=8, checkpoint=tmp_path)
    whole, _ = ug.train(linear_loss, ZERO, TASKS, ADAM, -0.1, iterations=8)
    assert first.iteration == 5
    identical(again, whole)


@pytest.mark.parametrize("every", [0, 2.5])
def test_checkpoints_have_a_whole_number_of_updates_between_them(tmp_path, every):
    with pytest.raises(ut.InputError) as caught:
        ug.Checkpoint(tmp_path, every=every)
    assert caught.value.argument == "every"


def test_a_run_that_stopped_by_patience_stays_stopped(tmp_path):
    away = TASKS._replace(query_y=-TASKS.query_y, support_y=-TASKS.support_y)
    options = {"validation": ug.Validation(away, 0.1, every=6, patience=2), "learn_rate": False}
    assert run(tmp_path, 13, **options)[0].stopped == "iterations"
    first, _ = run(tmp_path, 60, **options)
    assert (first.stopped, first.iteration) == ("patience", 18)
    again, history = run(tmp_path, 60, **options)
    identical(again, first)
    assert len(history.validation_loss) == 3


def test_a_checkpoint_of_other_settings_or_another_model_is_refused(tmp_path):
    run(tmp_path, 7)
    with pytest.raises(ut.InputError, match=r"written with train_rate=\[-0.1\], and this run has train_rate=\[0.1\]"):
        run(tmp_path, 9, train_rate=0.1)
    with pytest.raises(ut.InputError, match="meta_batch=2, and this run has meta_batch=3"):
        run(tmp_path, 9, source=ug.Source(TASKS, meta_batch=3))
    with pytest.raises(ut.InputError, match="steps=1, and this run has steps=2"):
        run(tmp_path, 9, inner=ug.InnerLoop(2))
    with pytest.raises(ut.InputError, match="validation="):
        run(tmp_path, 9, validation=ug.Validation(OPTIONS["validation"].tasks, every=5))
    with pytest.raises(ut.InputError, match="source="):
        run(tmp_path, 9, source=ug.Source(TASKS._replace(query_y=TASKS.query_y + 1), meta_batch=2))
    with pytest.raises(ut.InputError, match=r"written with optimizer="):
        run(tmp_path, 9, optimizer=optax.sgd(0.1, 0.9))
    with pytest.raises(ut.InputError, match=r"holds float32\[3\] for params.*needs float32\[4\]"):
        checkpoint.read_tree(tmp_path, "params", jnp.zeros(4))
    with pytest.raises(ut.InputError, match="holds no checkpoint"):
        checkpoint.read_tree(tmp_path / "none", "params", ZERO)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ut.InputError, match=r"state.json cannot be read"):
        run(tmp_path, 9)
    (tmp_path / "state.json").write_text('{"format": 99, "arrays": "a"}')
    with pytest.raises(ut.InputError, match="format 99"):
        run(tmp_path, 9)


KILLED = """
import sys, jax.numpy as jnp, numpy as np, optax
import undertow as ut
from undertow import gradient as ug

problem = ut.MixedLinearRegression(n_features=3)
loss_fn = lambda w, x, y: 0.5 * jnp.mean((x @ w - y) ** 2)
folder, iterations = sys.argv[1], int(sys.argv[2])
report = lambda done, total, loss: print(done, flush=True)
source = ug.Source(problem, ut.Design(4, 5, 3))
state, history = ug.train(loss_fn, jnp.zeros(3), source, optax.adam(1e-2), -0.1, seed=7,
    iterations=iterations, checkpoint=ug.Checkpoint(folder, every=50), chunk=10, progress=report)
np.savez(sys.argv[3], params=state.params, loss=history.meta_loss, norm=history.gradient_norm)
"""


@pytest.mark.long
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED))
    n = 40_000
    call = lambda folder: [sys.executable, str(script), str(tmp_path / folder), str(n), str(tmp_path / f"{folder}.npz")]  # noqa: E731
    subprocess.run(call("whole"), check=True, capture_output=True)
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(5):
        process = subprocess.Popen(call("killed"), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.8))
        process.kill()
        process.communicate()
        kills += process.returncode == -9
    assert kills >= 3, "the run is too short for the test to interrupt it"
    subprocess.run(call("killed"), check=True, capture_output=True)
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "killed.npz") as killed:
        for name in whole.files:
            assert np.array_equal(whole[name], killed[name]), name
