"""Repeated tasks: distances given the inputs are those of sampled weights, and the finding follows the losses."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

import undertow as ut
from undertow import experiments
from undertow.experiments import diversity

RECORD = experiments.get("diversity")
SMALL = {"n_features": 6, "n_support": 5, "data_sets": 6, "few_data_sets": 2, "train_rates": (-1.0, -0.5, 0.0, 0.2)}


@pytest.mark.parametrize("part", ["many", "few"])
def test_distances_given_the_inputs_are_those_of_sampled_weights_and_noise(part):
    config = RECORD.config(**SMALL)
    generator, sets = np.random.default_rng(0), config.sets(part)
    support, query = (generator.standard_normal((1, sets, n, 6)) for n in (config.n_support, config.n_query))
    rates, numbers = np.array([-0.7, 0.0]), config.numbers(part)
    exact = diversity.distances(config.problem, support, query, rates, numbers)[0]
    for m, row in zip(numbers, exact, strict=True):
        sampled = np.empty((300, 2))
        for i in range(len(sampled)):
            weights = 2.0 / 6**0.5 * np.repeat(generator.standard_normal((m, 6)), sets // m, axis=0)
            targets = [
                (x[0] @ weights[..., None])[..., 0] + generator.standard_normal(x.shape[1:3]) for x in (support, query)
            ]
            tasks = ut.TaskBatch(support[0], targets[0], query[0], targets[1])
            sampled[i] = (ut.rate_path(tasks, rates).weights ** 2).sum(axis=1)
        mean, error = sampled.mean(axis=0), sampled.std(axis=0) / len(sampled) ** 0.5
        assert (abs(mean - row) < 4 * error).all()
        if m >= numbers[1]:
            break  # one task, and the least number of several


def test_a_small_run_agrees_with_theory_and_is_drawn():
    config = RECORD.config(**{**SMALL, "n_features": 8, "data_sets": 8}, shown_rates=(-0.5, 0.0), runs=50)
    table = RECORD.run(config)
    distance, se = diversity.off(table, config, "many")
    # Theory is the equivalent here: within its stated error of the distance, and four standard errors.
    stated = ut.theory.method_for(config.problem, config.design(8), -1.0).expected_relative_error
    assert (abs(distance) < 4 * se + stated).all()
    distance, se = diversity.off(table, config, "few")
    assert (abs(distance) < 4 * se).all()
    assert len(RECORD.draw(table, config).axes) == 3
    assert len(RECORD.verdict(table, config)) == 2 + 4 + 2


@pytest.mark.parametrize(
    ("one", "every", "shift", "size", "result"),
    [
        (-1.0, -0.4, 0.0, 1e-3, "confirmed"),
        (-0.4, -1.0, 0.0, 1e-3, "not confirmed"),
        (-1.0, -0.4, 0.1, 1e-3, "not confirmed"),
        (-0.5, -0.4, 0.0, 0.1, "not decided"),
    ],
)
def test_it_concludes_what_was_put_in(one, every, shift, size, result, monkeypatch):
    config = RECORD.config(quick=True, runs=40)
    generator, tables, rates = np.random.default_rng(0), [], np.array(config.train_rates)
    lowest = {m: one if m == 1 else every for m in config.numbers("many")}
    valley = lambda m, at: 3 + 0.2 * (np.asarray(at) - lowest.get(m, every)) ** 2  # noqa: E731
    monkeypatch.setattr(diversity, "expected", lambda config, part, m, at: valley(m, at))
    for part in diversity.PARTS:
        for m in config.numbers(part):
            loss = valley(m, rates) * (1 + shift) + size * generator.standard_normal((40, len(rates)))
            run = np.repeat(np.arange(40), len(rates))
            columns = {"run": run, "train_rate": np.tile(rates, 40), "loss": loss.ravel()}
            tables.append(pa.table({"part": [part] * loss.size, "n_tasks": [m] * loss.size, **columns}))
    found = RECORD.finding(pa.concat_tables(tables), config)
    assert found.result == result
    assert found.low <= found.estimate <= found.high


def test_sizes_on_the_wrong_side_are_refused():
    for settings in ({"data_sets": 10}, {"few_data_sets": 10}, {"shown_rates": (0.15,)}):
        with pytest.raises(ValidationError, match=r"n_features|train_rates"):
            RECORD.config(**settings)
