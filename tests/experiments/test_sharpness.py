"""Sharpness: the inner step is that of SAM, the edge is where a quadratic starts to grow, findings follow the table."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pytest

import undertow as ut
from undertow import experiments
from undertow import gradient as ug
from undertow.experiments import sharpness, sharpness_runs

RECORD = experiments.get("sharpness")


def test_a_normalised_negative_rate_on_the_same_rows_is_sharpness_aware_minimisation():
    loss = lambda w, x, y: jnp.mean((jnp.tanh(x @ w) - y) ** 2)  # noqa: E731
    generator, rho = np.random.default_rng(0), 0.3
    x, y, w = (generator.standard_normal(shape).astype(np.float32) for shape in ((8, 3), 8, 3))
    tasks = ut.TaskBatch(x[None], y[None], x[None], y[None])
    ours = jax.grad(lambda w: ug.meta_loss(loss, w, tasks, -rho, sharpness_runs.LOOPS["normalised"])[0])(w)
    # Foret et al., ICLR 2021: the gradient at the worst point of a ball, to first order, its direction a constant.
    gradient = jax.grad(loss)(w, x, y)
    theirs = jax.grad(loss)(w + rho * gradient / jnp.linalg.norm(gradient), x, y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [-0.3, -0.02, 0.0, 0.01, 0.1])
def test_at_the_edge_a_quadratic_neither_shrinks_nor_grows(rate):
    step = 0.2
    edge = float(sharpness.edge_of_stability(step, rate))
    factor = lambda c: abs(1 - step * c * (1 - rate * c))  # noqa: E731
    assert factor(edge) == pytest.approx(1)
    assert factor(1.01 * edge) > 1
    assert all(factor(c) <= 1 + 1e-9 for c in np.linspace(1e-3, edge, 200))


@pytest.mark.parametrize(
    ("flat", "fit", "size", "result"),
    [
        (0.3, 1.0, 0.01, "confirmed"),
        (1.5, 1.0, 0.01, "not confirmed"),
        (0.3, 1.3, 0.01, "not confirmed"),
        (0.9, 1.0, 0.6, "not decided"),
    ],
)
def test_it_concludes_what_was_put_in(flat, fit, size, result):
    config = RECORD.config(quick=True, runs=10)
    generator, tables = np.random.default_rng(0), []
    for kind in sharpness.KINDS:
        rates = np.array(config.rates(kind))
        mean = sharpness.edge_of_stability(config.step, rates) * fit
        gradient = np.ones(len(rates))
        if kind == "normalised":
            # Gradients with which the stated eigenvalue is the edge: c (1 + rho c / g) = 2 / step.
            mean = np.where(rates < 0, flat * 2 / config.step, 2 / config.step)
            gradient = abs(rates) * mean / np.where(rates < 0, abs(2 / config.step / mean - 1), 1.0) + (rates >= 0)
            mean = mean * np.where(rates < 0, fit, 1.0)
        top = mean * np.exp(size * generator.standard_normal((10, len(rates))))
        run = np.repeat(np.arange(10), len(rates))
        columns = {"run": run, "train_rate": np.tile(rates, 10), "top": top.ravel()}
        columns |= {"gradient": np.tile(gradient, 10), "test_loss": 0.1 + 0.0 * top.ravel()}
        tables.append(pa.table({"kind": [kind] * run.size, **columns}))
    found = RECORD.finding(pa.concat_tables(tables), config)
    assert found.result == result
    assert found.low <= found.estimate <= found.high


@pytest.mark.long
def test_small_nets_end_at_the_edge_and_are_drawn():
    config = RECORD.config(quick=True, hidden=(20,), runs=3, normalised_rates=(-0.05, 0.0), plain_rates=(-0.05, 0.0))
    table = RECORD.run(config)
    for kind in sharpness.KINDS:
        top = sharpness.tops(table, kind)[1].mean(axis=0)
        assert top[0] < top[1]
    assert len(RECORD.draw(table, config).axes) == 3
    assert len(RECORD.verdict(table, config)) == 4


@pytest.mark.long
def test_the_measured_eigenvalue_and_gradient_are_those_of_the_net():
    config = RECORD.config(quick=True, hidden=(4,), n_features=2, n_rows=12, n_test_rows=5, iterations=30, runs=2)
    cell = RECORD.cells(config)[1]
    table = RECORD.run_cell(config, cell)
    assert table.num_rows == 2 * len(config.plain_rates)
    zero = table.filter(pa.compute.field("train_rate") == 0.0)
    # The same net, trained by plain gradient descent.
    generator, rows = cell.generator(), []
    for _ in range(2):
        normal = generator.standard_normal
        inner, outer = normal((2, config.teacher_units)), normal(config.teacher_units) / config.teacher_units**0.5
        for n in (12, 5):
            x = normal((n, 2))
            rows.append((x, 1.5 * np.tanh(x @ inner) @ outer + config.noise_std * normal(n)))
    x, y = rows[0]
    seed = generator.integers(2**31, size=2)[0]
    params, apply = ug.mlp((2, 4, 1), jax.random.key(seed, impl="threefry2x32"), jnp.tanh)
    loss, tx = ug.squared_loss(apply), optax.sgd(config.step)
    flat, back = jax.flatten_util.ravel_pytree(params)
    value = lambda w: loss(back(w), jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))  # noqa: E731
    state = tx.init(flat)
    for _ in range(30):
        updates, state = tx.update(jax.grad(value)(flat), state)
        flat = optax.apply_updates(flat, updates)
    top = np.linalg.eigvalsh(jax.hessian(value)(flat))[-1]
    assert zero["top"][0].as_py() == pytest.approx(float(top), rel=1e-3)
    assert zero["loss"][0].as_py() == pytest.approx(float(value(flat)), rel=1e-4)
