"""Rows that repel each other: what is drawn has the stated correlation, and the finding follows the losses."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from undertow import experiments, theory
from undertow.experiments import repel
from undertow.trials import paired

RECORD = experiments.get("repel")


@pytest.fixture(scope="module")
def quick():
    config = RECORD.config(
        quick=True, n_groups=300, n_features=80, n_rows=20, ratios=(-14.0, -10.0, -5.0, 0.0, 20.0), ridge_runs=100
    )
    return config, RECORD.run(config)


def test_every_point_agrees_with_theory(quick):
    config, table = quick
    for rho in config.correlations:
        rates, values = paired.by_run(table, "loss", "rate", part="groups", correlation=rho)
        mean, se = paired.mean_and_se(values)
        assert (abs(mean - repel.group_loss(config, rho, rates)) < 4 * se).all()
    ratios, values = paired.by_run(table, "loss", "rate", part="ridge")
    mean, se = paired.mean_and_se(values)
    exact = theory.proximal_loss(config.problem, config.design, ratios)
    assert (abs(mean - exact) < 4 * se + exact / config.n_rows).all()
    assert RECORD.finding(table, config).result == "confirmed"
    assert len(RECORD.verdict(table, config)) >= len(config.correlations) + 1
    assert len(RECORD.draw(table, config).axes) == 2


def test_the_loss_of_theory_is_least_at_its_rate():
    config = RECORD.config()
    for rho in config.correlations:
        best = theory.group_rate(rho, config.n_adapt)
        around = repel.group_loss(config, rho, best + np.array([-0.01, 0.0, 0.01]))
        assert around.argmin() == 1


@pytest.mark.parametrize(
    ("rate", "ratio", "size", "result"),
    [
        (-0.5, -20.0, 1e-3, "confirmed"),
        (0.3, -20.0, 1e-3, "not confirmed"),
        (-0.5, 20.0, 1e-3, "not confirmed"),
        (0.0, -20.0, 0.3, "not decided"),
    ],
)
def test_it_concludes_what_was_put_in(rate, ratio, size, result):
    config = RECORD.config(quick=True, correlations=(-0.2, 0.1), runs=40)
    generator, parts = np.random.default_rng(0), []
    cases = [("groups", rho, config.adapt_rates, 40, rate, 1.0) for rho in config.correlations]
    for part, rho, rates, runs, lowest, width in [*cases, ("ridge", None, config.ratios, 40, ratio, 50.0)]:
        mean = 1 + ((np.array(rates) - lowest) / width) ** 2
        values = mean + size * generator.standard_normal((runs, len(rates)))
        columns = {
            "part": [part] * values.size,
            "correlation": pa.array([rho] * values.size, pa.float64()),
            "run": np.repeat(np.arange(runs), len(rates)),
            "rate": np.tile(rates, runs),
            "loss": values.ravel(),
        }
        parts.append(pa.table(columns))
    found = RECORD.finding(pa.concat_tables(parts), config)
    assert found.result == result
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_adapt": 6}, "leaves no row"),
        ({"correlations": (-0.3, 0.0)}, "lie between"),
        ({"correlations": (0.0, 0.3)}, "must hold a negative one"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        RECORD.config(**settings)
