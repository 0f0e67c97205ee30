"""Rate and time: the table holds what it says, the leading order is one, and the finding follows the losses."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from undertow import experiments
from undertow.experiments import early_stopping

RECORD = experiments.get("time")
SMALL = {
    "n_features": (20, 8),
    "n_tasks": (2, 8),
    "n_support": 10,
    "n_query": (2, 3),
    "train_rates": (-1.0, -0.5, 0.0, 0.2),
    "shown_rates": (-1.0, 0.0),
    "times": (1, 4, 16),
    "runs": 60,
}


def test_raw_losses_agree_with_those_given_the_inputs_and_the_end_with_theory():
    config = RECORD.config(**SMALL)
    table = RECORD.run(config)
    for part in early_stopping.PARTS:
        raw, given = (early_stopping.losses(table, config, part, name) for name in ("raw", "conditional"))
        assert raw.shape == (60, 4, 4)
        left = raw - given
        assert (abs(left.mean(axis=0)) < 4 * left.std(axis=0, ddof=1) / 60**0.5).all()
        off = given[:, :, -1].mean(axis=0) - early_stopping.converged(config, part)
        # For N > p theory is the equivalent here, off by up to 3 % of a part of the loss.
        assert (abs(off) < 4 * given[:, :, -1].std(axis=0, ddof=1) / 60**0.5 + (0.01 if part == "many" else 0)).all()
    assert len(RECORD.draw(table, config).axes) == 3
    assert len(RECORD.verdict(table, config)) == 2 * (1 + 2 + 1) + 1
    assert RECORD.finding(table, config).low <= RECORD.finding(table, config).estimate


def test_the_leading_order_of_the_best_time_is_that_of_few_rows_in_many_dimensions():
    few = {"n_features": (400, 8), "n_tasks": (1, 8), "n_query": (2, 3), "n_support": 100, "runs": 150}
    config = RECORD.config(**{**SMALL, **few, "times": tuple(range(1, 60, 2))}, step=0.05)
    cells = [cell for cell in RECORD.cells(config) if cell.panel == 0]
    losses = early_stopping.losses(pa.concat_tables([RECORD.run_cell(config, cell) for cell in cells]), config, "few")
    best = losses.mean(axis=0).argmin(axis=1)
    at_best = losses[:, np.arange(len(best)), best]
    start = early_stopping.loss_of(config, "few", np.asarray(config.start_distance**2))
    gained, lead = start - at_best, start - early_stopping.stopped(config, "few")
    error = gained.std(axis=0, ddof=1) / len(gained) ** 0.5
    assert (abs(gained.mean(axis=0) - lead) < 4 * error + 0.05 * lead).all()
    assert (lead > 5 * error).all()


@pytest.mark.parametrize(
    ("left", "size", "result"),
    [(0.4, 1e-3, "confirmed"), (1.3, 1e-3, "not confirmed"), (-0.3, 1e-3, "not confirmed"), (0.5, 0.3, "not decided")],
)
def test_it_concludes_what_was_put_in(left, size, result):
    config = RECORD.config(**{**SMALL, "times": (1, 4)})
    generator, tables = np.random.default_rng(0), []
    best = np.array([1 - 0.1 * left, 1 - 0.05 * left, 1.0, 1.0])[:, None] * 0.5  # by rate, at the best time
    end = np.array([0.9, 0.95, 1.0, 1.1])[:, None] * 0.6
    mean = np.concatenate([best + 0.3, best, end], axis=1)  # the best time is the second
    for part in early_stopping.PARTS:
        loss = mean + size * generator.standard_normal((40, 4, 3))
        run, rate, time = np.meshgrid(np.arange(40), config.train_rates, [1.0, 4.0, np.inf], indexing="ij")
        columns = {"run": run.ravel(), "train_rate": rate.ravel(), "time": time.ravel(), "conditional": loss.ravel()}
        tables.append(pa.table({"part": [part] * loss.size, **columns}))
    found = RECORD.finding(pa.concat_tables(tables), config)
    assert found.result == result
    assert found.low <= found.high


def test_settings_that_do_not_fit_are_refused():
    for settings, message in (
        ({"n_tasks": (40, 20)}, "side of N = p"),
        ({"shown_rates": (0.15,)}, "not among train_rates"),
        ({"times": (4, 1)}, "must ascend"),
        ({"times": (0, 1)}, "must ascend"),
    ):
        with pytest.raises(ValidationError, match=message):
            RECORD.config(**settings)
