"""What an experiment concludes: by its interval, on data where the answer was put in, and right as often as it says."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from undertow import experiments
from undertow.trials import finding, paired
from undertow.trials.optimum import just_below_zero
from undertow.trials.reference import best_theory
from undertow.trials.summary import median_interval

RUNS = 40
ANSWERS = ("confirmed", "not confirmed", "not decided")


def noisy(mean, size, seed=0, runs=RUNS):
    """(runs, k) values around the mean, (k,); the noise is each point's own."""
    return mean + size * np.random.default_rng(seed).standard_normal((runs, len(mean)))


def valley(rates, lowest):
    return 1 + 0.1 * (np.asarray(rates) - lowest) ** 2


# ----- exact experiments: cells whose losses are put in


SMALL = {
    "overparameterized": {"train_rates": (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0), "adapt_runs": RUNS, "train_runs": RUNS},
    "underparameterized": {"train_rates": (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0), "adapt_runs": RUNS, "train_runs": RUNS},
    "threshold": {"n_tasks": (4, 8, 10, 12, 16), "runs": RUNS},
    "anisotropic": {"train_rates": (-0.3, -0.1, 0.0, 0.1, 0.3), "runs": RUNS},
}


def planted(name, loss, size):
    """The experiment's finding where the mean losses of a panel are loss(panel), with noise of this relative size."""
    record = experiments.get(name)
    config = record.config(**SMALL[name])
    tables = []
    for number, panel in enumerate(record.panels(config)):
        train, adapt = panel.grid
        mean = loss(panel)
        values = (noisy(mean, size * mean, number + 10, panel.runs)).ravel()
        columns = {
            "panel": [panel.name] * values.size,
            "run": np.repeat(np.arange(panel.runs), len(train)),
            "train_rate": np.tile(train, panel.runs),
            "adapt_rate": np.tile(adapt, panel.runs),
            "raw": values,
            "conditional": values,
        }
        tables.append(pa.table(columns))
    return record.finding(record.collect(config, tables), config)


def as_theory(panel):
    return best_theory(panel)[0]


def lowest_at(rate):
    return lambda panel: valley(panel.grid[0], rate)


def peak_at(rows):
    return lambda panel: np.full(len(panel.grid[0]), 10.0 / (1 + abs(panel.design.n_query_rows - rows)))


@pytest.mark.parametrize(
    ("name", "loss", "size", "result"),
    [
        ("overparameterized", as_theory, 1e-3, "confirmed"),
        # The best rate is negative still, but theory does not fit.
        ("overparameterized", lambda panel: 1.05 * as_theory(panel), 1e-3, "not confirmed"),
        ("overparameterized", lambda panel: as_theory(panel)[::-1], 1e-3, "not confirmed"),
        ("overparameterized", as_theory, 0.3, "not decided"),
        ("underparameterized", lowest_at(-1.0), 1e-3, "confirmed"),
        ("underparameterized", lowest_at(0.5), 1e-3, "not confirmed"),
        ("underparameterized", lowest_at(-0.25), 0.1, "not decided"),
        ("threshold", peak_at(40), 0.1, "confirmed"),
        ("threshold", peak_at(48), 0.1, "not confirmed"),
        ("threshold", lambda panel: np.ones(len(panel.grid[0])), 0.1, "not decided"),
        ("anisotropic", lowest_at(0.2), 1e-4, "confirmed"),
        ("anisotropic", lowest_at(-0.2), 1e-4, "not confirmed"),
        ("anisotropic", lowest_at(0.0), 1e-2, "not decided"),
    ],
)
def test_exact_experiments_conclude_what_was_put_in(name, loss, size, result):
    found = planted(name, loss, size)
    assert found.result == result
    assert found.low <= found.estimate <= found.high


# ----- experiments that train: tables whose losses are put in


def rows(rates, values, **same):
    """Columns run and train_rate beside the values of a column, (runs, k), and constants."""
    (name, array), *others = ((key, value) for key, value in same.items() if isinstance(value, np.ndarray))
    size = array.size
    columns = {"run": np.repeat(np.arange(len(values)), len(rates)), "train_rate": np.tile(rates, len(values))}
    columns |= {key: value.ravel() for key, value in [(name, array), *others]}
    return pa.table(columns | {key: [value] * size for key, value in same.items() if not isinstance(value, np.ndarray)})


RATES = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0])


def nonlinear(lowest, size):
    config = experiments.get("nonlinear").config(quick=True, map_problems=2)
    table = []
    for number, part in enumerate(("a", "b", "map-000", "map-001")):
        loss = noisy(valley(RATES, lowest), size, number)
        table.append(rows(RATES, loss, part=part, network=loss, analytic=loss))
    return config, pa.concat_tables(table)


def direction(lowest, size):
    config = experiments.get("direction").config(quick=True)
    table = []
    for number, part in enumerate(("over", "under", "network")):
        loss = noisy(valley(RATES, lowest), size, number)
        # One inner step changes the support loss by about -rate times a squared gradient.
        change = noisy(-RATES, 0.1, number + 3)
        table.append(rows(RATES, loss, part=part, arm="exact_zero", test_loss=loss, support_change=change))
    return config, pa.concat_tables(table)


def sinusoid(lowest, size):
    config = experiments.get("sinusoid").config(quick=True)
    loss = noisy(valley(RATES, lowest), size)
    return config, rows(RATES, loss, shots=10, method="maml", adapt_rate=0.1, test_mse=loss)


def omniglot(lowest, size):
    config = experiments.get("omniglot").config(quick=True, images="none")
    share = noisy(1 / valley(RATES, lowest), size)
    return config, rows(RATES, share, shots=1, adapt_rate=0.1, accuracy=share)


@pytest.mark.parametrize(
    ("plant", "right", "wrong"), [(nonlinear, -1, 1), (direction, -1, 1), (sinusoid, 1, -1), (omniglot, 1, -1)]
)
@pytest.mark.parametrize("result", ANSWERS)
def test_trained_experiments_conclude_what_was_put_in(plant, right, wrong, result):
    lowest, size = {"confirmed": (right, 0.01), "not confirmed": (wrong, 0.01), "not decided": (0.0, 1.0)}[result]
    config, table = plant(float(lowest), size)
    record = experiments.get(plant.__name__)
    found = record.finding(table, config)
    assert found.result == result
    assert found.low <= found.estimate <= found.high
    assert 1 <= len(found.lines) <= 3
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_part_that_fails_is_not_made_up_for_by_the_others():
    config, table = direction(-1.0, 0.01)
    part = np.array(table["part"].to_pylist())
    loss = table["test_loss"].to_numpy().copy()
    loss[part == "network"] = direction(1.0, 0.01)[1]["test_loss"].to_numpy()[part == "network"]
    table = table.set_column(table.column_names.index("test_loss"), "test_loss", pa.array(loss))
    found = experiments.get("direction").finding(table, config)
    assert found.result == "not confirmed"
    assert found.low > 0


def test_few_resampled_runs_decide_nothing():
    config, table = direction(-1.0, 1e-6)
    few = table.filter(pa.compute.field("run") < finding.ENOUGH_RUNS - 1)
    assert experiments.get("direction").finding(few, config).result == "not decided"


def test_a_sweep_without_a_negative_rate_decides_nothing():
    config, table = nonlinear(-1.0, 0.01)
    found = experiments.get("nonlinear").finding(table.filter(pa.compute.field("train_rate") >= 0), config)
    assert found.result == "not decided"
    assert found.as_dict()["estimate"] is None


# ----- the rules


def test_a_conclusion_follows_from_the_interval_alone():
    ends = [(-2.0, -1.0), (-1.0, 1.0), (1.0, 2.0), (-1.0, 0.0), (0.0, 1.0), (math.nan, math.nan)]
    assert [finding.below(*e) for e in ends] == [
        "confirmed", "not decided", "not confirmed", "not decided", "not decided", "not decided",
    ]  # fmt: skip
    assert [finding.above(*e) for e in ends] == [finding.below(-high, -low) for low, high in ends]
    assert finding.above(1.5, 2.0, limit=1.0) == "confirmed"
    assert finding.weakest(["confirmed", "not decided"]) == "not decided"
    assert finding.weakest(["not decided", "not confirmed", "confirmed"]) == "not confirmed"
    within = lambda *pairs: finding.within(*np.array(pairs).T, 1.0)  # noqa: E731
    assert within((-0.5, 0.5), (0.1, 0.9)) == "confirmed"
    assert within((-0.5, 0.5), (0.1, 1.1)) == "not decided"
    assert within((-0.5, 0.5), (1.1, 1.2)) == "not confirmed"
    assert finding.within(np.empty(0), np.empty(0), 1.0) == "not decided"


@pytest.mark.parametrize("runs", [3, 10, 40])
def test_an_interval_of_a_mean_holds_it_as_often_as_it_says(runs):
    draws = np.random.default_rng(runs).standard_normal((20000, runs))
    low, high = np.array([finding.mean_interval(one)[1:] for one in draws]).T
    share = ((low < 0) & (high > 0)).mean()
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(draws))


def test_simultaneous_intervals_hold_together_as_often_as_they_say():
    draws = np.random.default_rng(0).standard_normal((20000, 10, 12))
    half = finding.half_width(12, number=10) * draws.std(axis=2, ddof=1) / math.sqrt(12)
    share = (abs(draws.mean(axis=2)) < half).all(axis=1).mean()
    # Bonferroni's bound is nearly attained by independent intervals: 1 - 0.05 < share < (1 - 0.005)^10 + noise.
    assert abs(share - (1 - 0.005) ** 10) < 4 * math.sqrt(0.95 * 0.05 / len(draws))


@pytest.mark.parametrize("runs", [12, 41])
def test_an_interval_of_a_median_holds_it_at_least_as_often_as_it_says(runs):
    draws = np.exp(3 * np.random.default_rng(runs).standard_normal((runs, 20000)))
    low, high = median_interval(draws, 0.95)
    share = ((low <= 1) & (high >= 1)).mean()
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 20000) < share < 0.99
    assert np.isinf(median_interval(draws[:3], 0.95)).all()


def test_a_choice_on_the_other_runs_does_not_favour_the_side_with_more_rates():
    rates = np.array([-0.1, 0.0, *np.linspace(0.1, 1, 10)])
    draws = np.random.default_rng(0).standard_normal((4000, 5, len(rates)))
    fair = np.array([paired.positive_against_rest(rates, one).mean() for one in draws])
    naive = np.array([one.mean(axis=0)[2:].min() - one.mean(axis=0)[:2].min() for one in draws])
    z = lambda values: values.mean() / (values.std() / math.sqrt(len(values)))  # noqa: E731
    assert abs(z(fair)) < 4
    assert z(naive) < -40
    assert np.isnan(paired.positive_against_rest(rates[2:], draws[0][:, 2:])).all()


def test_the_difference_just_below_zero_is_that_of_the_runs():
    losses = noisy(valley(RATES, -1.0), 0.1)
    found = just_below_zero(RATES, losses)
    difference = (losses[:, 2] - losses[:, 3]) / losses[:, 3].mean()
    assert found["rate"] == -0.5
    assert np.isclose(found["difference"], difference.mean())
    assert np.isclose(found["high"] - found["low"], 2 * 2.0227 * difference.std(ddof=1) / math.sqrt(RUNS), rtol=1e-4)
    assert just_below_zero(RATES[3:], losses[:, 3:]) is None


@pytest.mark.parametrize(("number", "words"), [(0, "0 shots"), (1, "1 shot"), (5, "5 shots")])
def test_one_of_a_kind_is_singular(number, words):
    assert finding.counted(number, "shot") == words
