"""Several devices: a CPU is made to look like four in a process of its own, since JAX counts devices once."""

import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np, optax
import undertow as ut
from undertow import gradient as ug

assert jax.device_count() == 4
loss_fn = lambda w, x, y: 0.5 * jnp.mean((x @ w - y) ** 2)
problem, design = ut.MixedLinearRegression(n_features=3), ut.Design(8, 5, 3)
tasks = problem.sample(design, 0, np.float32)
optimizer = optax.adam(1e-2)
for options in (
    {"source": tasks, "validation": ug.Validation(tasks, 0.1, every=10)},
    {"source": ug.Source(tasks, meta_batch=4)},
    {"source": ug.Source(problem, design)},
):
    runs = [
        ug.train(loss_fn, jnp.ones(3), optimizer=optimizer, train_rate=-0.1, iterations=20, devices=devices, **options)
        for devices in (None, 4)
    ]
    np.testing.assert_allclose(runs[0][0].params, runs[1][0].params, rtol=2e-5)
    np.testing.assert_allclose(runs[0][1].meta_loss, runs[1][1].meta_loss, rtol=2e-5)
    np.testing.assert_allclose(runs[0][1].support_after, runs[1][1].support_after, rtol=2e-5)
    assert len(runs[1][0].params.sharding.device_set) == 4

# The tasks are really shared out: each device works on two of the eight, and gradients are summed over devices.
from undertow.gradient import run as module
programs, run_chunk = [], module.run_chunk
def spy(*arguments):
    programs.append(run_chunk.lower(*arguments).compile().as_text())
    return run_chunk(*arguments)
module.run_chunk = spy
ug.train(loss_fn, jnp.ones(3), tasks, optimizer, -0.1, iterations=1, devices=4)
module.run_chunk = run_chunk
assert "all-reduce" in programs[0] and "f32[2,5,3]" in programs[0] and "f32[8,5,3]" not in programs[0]

try:
    ug.train(loss_fn, jnp.ones(3), ug.Source(tasks, meta_batch=6), optimizer, -0.1, iterations=1, devices=4)
except ut.InputError as error:
    assert "6 tasks per iteration cannot be shared equally by 4 devices" in str(error)
else:
    raise AssertionError("an unequal share was accepted")

sweep = lambda devices: ug.sweep(loss_fn, lambda key: jnp.zeros(3), tasks, optimizer, [-0.1, 0.0, 0.2], 2,
    iterations=10, block=1, devices=devices)
assert sweep(None).equals(sweep(jax.devices()))
print("done")
"""


@pytest.mark.long
def test_four_devices_give_the_numbers_of_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "done"


ON_TWO = """
import sys
import jax
part, address = int(sys.argv[1]), sys.argv[2]
if part >= 0:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, part)
import jax.numpy as jnp, numpy as np, optax
import undertow as ut
from undertow import gradient as ug

loss_fn = lambda w, x, y: 0.5 * jnp.mean((x @ w - y) ** 2)
problem, design = ut.MixedLinearRegression(n_features=3), ut.Design(8, 5, 3)
tasks = problem.sample(design, 0, np.float32)
for options in (
    {"source": tasks, "validation": ug.Validation(tasks, 0.1, every=10)},
    {"source": ug.Source(tasks, meta_batch=4)},
    {"source": ug.Source(problem, design), "train_rate": 0.1, "learn_rate": True},
):
    options = {"train_rate": -0.1} | options
    state, history = ug.train(
        loss_fn, jnp.ones(3), optimizer=optax.adam(1e-2), iterations=20, devices=jax.devices(), **options
    )
    print("numbers", *np.asarray(state.params), *np.asarray(history.meta_loss), float(state.best_loss))
"""


def numbers(text: str) -> np.ndarray:
    """What a process printed."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("numbers")]
    return np.array(lines, dtype=float)


@pytest.mark.long
def test_two_processes_give_the_numbers_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    runs = [
        subprocess.Popen([sys.executable, "-c", ON_TWO, str(part), address], **options)  # type: ignore[call-overload]
        for part in (-1, 0, 1)
    ]
    found = [run.communicate(timeout=240) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], found[1][1][-3000:]
    alone, first, second = (numbers(out) for out, _ in found)
    assert alone.shape[0] == 3
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=2e-5)
