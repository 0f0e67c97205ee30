"""Attention: its block is the one of the definition, it learns what theory says, and the finding follows the losses."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from undertow import experiments, theory
from undertow.experiments import attention, attention_runs


def test_the_block_is_that_of_attention_over_all_tokens():
    """The output's last entry, with whole matrices and the query token in the sequence but not attended to."""
    generator = np.random.default_rng(0)
    x, y, query = generator.standard_normal((7, 3)), generator.standard_normal(7), generator.standard_normal(3)
    value, key = generator.standard_normal((4, 4)), generator.standard_normal((4, 4))
    tokens = np.concatenate([np.column_stack([x, y]), [[*query, 0.0]]]).T  # (p + 1, n + 1)
    mask = np.diag([1.0] * 7 + [0.0])
    output = tokens + value @ tokens @ mask @ (tokens.T @ key @ tokens) / 7
    theta = attention_runs.weights_of({"value": value[-1], "key": key[:, :3]}, x, y)
    assert float(theta @ query) == pytest.approx(output[-1, -1], rel=1e-4)


def test_a_block_with_the_best_matrix_takes_that_step():
    generator = np.random.default_rng(1)
    x, y, gamma = generator.standard_normal((7, 3)), generator.standard_normal(7), generator.standard_normal((3, 3))
    block = {"value": np.array([0.0, 0.0, 0.0, 2.0]), "key": np.concatenate([gamma.T / 2, np.zeros((1, 3))])}
    np.testing.assert_allclose(attention_runs.weights_of(block, x, y), gamma @ x.T @ y / 7, rtol=1e-5)
    np.testing.assert_allclose(attention_runs.gamma_of(block), gamma, rtol=1e-6)


def test_every_step_has_the_loss_of_theory(monkeypatch):
    """The block is handed the best matrix in place of what it would learn."""
    record = experiments.get("attention")
    config = record.config(task_variances=(1.0, 0.3), n_adapt=10, runs=10, n_test_tasks=2000)
    best, zero = theory.optimal_matrix_rate(config.problem, config.design), np.zeros((1, 2))
    perfect = {"value": np.array([0.0, 0.0, 1.0]), "key": np.concatenate([best.T, zero])}
    trained = {"block": perfect, "rates": np.array([0.2, -0.1])}
    monkeypatch.setattr(
        attention_runs, "train", lambda keys, *rest: jax.tree.map(lambda leaf: np.stack([leaf] * len(keys)), trained)
    )
    table = record.run(config)
    exact = attention.expected(config)
    for name, loss in {**exact, "trained": theory.step_loss(config.problem, config.design, [0.2, -0.1])}.items():
        values = attention.losses(table, name)
        assert abs(values.mean() - loss) < 4 * values.std(ddof=1) / 10**0.5
    assert record.finding(table, config).result == "confirmed"
    assert record.finding(table, config).estimate == pytest.approx(0, abs=1e-4)
    assert len(record.draw(table, config).axes) == 3
    assert all("theory" in line for line in record.verdict(table, config)[: len(attention.STEPS)])


@pytest.mark.long
def test_trained_ones_learn_the_rates_of_theory():
    record = experiments.get("attention")
    config = record.config(quick=True)
    table = record.run(config)
    for name, structure, most in (("block", "full", 0.2), ("trained", "diagonal", 0.01)):
        best = theory.optimal_matrix_rate(config.problem, config.design, structure).ravel()
        assert abs(attention.rates(table, name).mean(axis=0) - best).max() < most
    assert record.finding(table, config).result == "confirmed"


@pytest.mark.parametrize(
    ("excess", "size", "result"),
    [(0.002, 1e-3, "confirmed"), (0.05, 1e-3, "not confirmed"), (0.0, 0.1, "not decided")],
)
def test_it_concludes_what_was_put_in(excess, size, result):
    config = experiments.get("attention").config(quick=True)
    exact, generator = attention.expected(config), np.random.default_rng(0)
    base = exact["full"] * (1 + 0.05 * generator.standard_normal(config.runs))  # tasks that both steps share
    block = base + exact["full"] * (excess + size * generator.standard_normal(config.runs))
    columns = {"step": ["full"] * config.runs + ["block"] * config.runs, "loss": np.concatenate([base, block])}
    found = experiments.get("attention").finding(pa.table(columns), config)
    assert found.result == result
    assert found.low <= found.estimate <= found.high


def test_starts_differ_with_the_key():
    first, second = (attention_runs.start(jax.random.key(seed), 3) for seed in (0, 1))
    assert not np.allclose(first["value"], second["value"])
