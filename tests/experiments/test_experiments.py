"""What each experiment is there to show: in the quick run, and in the full one (marked long)."""

import numpy as np
import pytest

from undertow import experiments
from undertow.experiments import underparameterized
from undertow.experiments.reading import beyond_error
from undertow.experiments.threshold import ENOUGH_RUNS, HEAVY, regime_curve
from undertow.problem import MixedLinearRegression
from undertow.trials.conditional import loss_given_inputs
from undertow.trials.summary import optima_of, rows_of

# Experiments that train by gradient have tests of their own.
EXACT = [name for name in experiments.names() if experiments.get(name).panels(experiments.get(name).config())]


@pytest.fixture(scope="module", params=["quick", pytest.param("full", marks=pytest.mark.long)])
def tables(request):
    """The tables and configs of all experiments, run once."""
    found = {}
    for name in EXACT:
        record = experiments.get(name)
        quick = request.param == "quick"
        # The threshold takes most of the time: fewer sizes, of which one is the threshold.
        config = record.config(
            quick, **({"n_tasks": (2, 4, 6, 8, 10, 11, 12)} if quick and name == "threshold" else {})
        )
        found[name] = (record, config, record.run(config))
    return found


def light_tailed(name, config, rows):
    """Points whose standard error can be trusted: near N = p the losses have too heavy tails for few runs."""
    if name != "threshold":
        return np.isfinite(rows["conditional_z"])
    return abs(rows["n_query_rows"] - config.n_features) > HEAVY


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("estimate", ["raw", "conditional"])
def test_every_point_agrees_with_theory(tables, name, estimate):
    """Exact theory within 4 standard errors; another method within its stated error and 4 standard errors."""
    record, config, table = tables[name]
    points = 0
    for panel in record.panels(config):
        rows = rows_of(table, panel.name)
        use = light_tailed(name, config, rows)
        exact = use & (rows["theory_method"] == "exact")
        assert (abs(rows[f"{estimate}_z"][exact]) < 4).all()
        assert (beyond_error(rows, estimate)[use] < 4).all()
        points += use.sum()
    assert points >= 15


@pytest.mark.long
@pytest.mark.parametrize("tables", ["full"], indirect=True)
def test_even_next_to_the_threshold_the_full_run_agrees(tables):
    record, config, table = tables["threshold"]
    for panel in record.panels(config):
        rows = rows_of(table, panel.name)
        use = np.isfinite(rows["conditional_z"])
        assert (beyond_error(rows, "conditional")[use] < 4).all()


@pytest.mark.parametrize("name", ["overparameterized", "underparameterized"])
@pytest.mark.parametrize("estimate", ["raw", "conditional"])
def test_the_best_train_rate_is_negative_and_the_best_adapt_rate_positive(tables, name, estimate):
    table = tables[name][2]
    train, adapt = optima_of(table, "b"), optima_of(table, "a")
    assert train[estimate]["low"] <= train[estimate]["rate"] <= train[estimate]["high"] < 0
    assert train["theory"]["rate"] < 0
    assert 0 < adapt[estimate]["low"] <= adapt[estimate]["rate"] <= adapt[estimate]["high"]
    assert adapt["theory"]["rate"] > 0
    # Several per cent of the loss, and far more than its standard error.
    assert train[estimate]["gain"] > 0.02
    assert train[estimate]["gain"] > 5 * train[estimate]["gain_se"]


def test_exact_theory_predicts_the_measured_optimum(tables):
    """Only where theory is exact: an approximation may miss the interval of a sharp measurement."""
    found = optima_of(tables["overparameterized"][2], "b")
    assert found["theory"]["method"] == "exact"
    assert found["conditional"]["low"] - 0.02 < found["theory"]["rate"] < found["conditional"]["high"] + 0.02


def test_leading_order_is_visibly_off_where_exact_theory_is_not(tables):
    rows = rows_of(tables["overparameterized"][2], "b")
    off = abs(rows["conditional_mean"] - rows["theory_leading"]) / rows["conditional_se"]
    assert off.min() > 10


def test_the_loss_peaks_at_the_threshold_for_every_rate_and_lower_for_a_negative_one(tables):
    _, config, table = tables["threshold"]
    curves = [regime_curve(table, config, rate) for rate in config.train_rates]
    for curve in curves:
        assert curve.n_rows[curve.median.argmax()] == config.n_features
        assert np.isinf(curve.theory[curve.n_rows == config.n_features]).all()
        assert np.isfinite(curve.theory[abs(curve.n_rows - config.n_features) > 1]).all()
    assert (np.diff([curve.median for curve in curves], axis=0) > 0).all()


def test_unequal_input_variances_turn_the_sign(tables):
    table = tables["anisotropic"][2]
    for panel in ("a", "b"):
        found = optima_of(table, panel)
        assert found["conditional"]["low"] > 0
        assert found["theory"]["rate"] > 0
        assert not found["conditional"]["at_edge"]
    equal = optima_of(table, "c")
    assert equal["conditional"]["high"] < 0
    assert equal["theory"]["rate"] < 0


@pytest.mark.parametrize("name", EXACT)
def test_every_claim_is_confirmed_by_an_interval(tables, name):
    record, config, table = tables[name]
    found = record.finding(table, config)
    assert found.low <= found.estimate <= found.high
    assert found.result == "confirmed"


@pytest.mark.parametrize("name", EXACT)
def test_the_verdict_says_how_far_theory_is_and_where_the_optimum_lies(tables, name):
    record, config, table = tables[name]
    lines = record.verdict(table, config)
    assert any("|z|" in line for line in lines)
    if name == "threshold":
        heavy = [line for line in lines if "heavy tails" in line]
        few = config.runs < ENOUGH_RUNS
        assert heavy
        assert all(("too few runs" in line, "|z|" in line) == (few, not few) for line in heavy)
        assert any(f"N = {config.n_features}: the mean is infinite" in line for line in lines)
        return
    for panel in record.panels(config):
        found = optima_of(table, panel.name)
        (line,) = (line for line in lines if line.startswith(f"{panel.name}: lowest at"))
        for estimate in ("raw", "conditional"):
            low, high = (found[estimate][end] for end in ("low", "high"))
            assert f"({low:+.3f} to {high:+.3f})" in line
        assert f"{found['theory']['rate']:+.3f}." in line


def test_the_slope_at_zero_is_that_of_many_tasks_with_long_support():
    """With many support rows a task's second moment is the identity, and the leading order is all there is."""
    config = experiments.get("underparameterized").config(n_features=6, n_tasks=30, n_support=4000, n_query=2)
    problem, generator = MixedLinearRegression(6, 1.0, 0.5), np.random.default_rng(0)
    support, query = (generator.standard_normal((400, 30, n, 6)).astype(np.float32) for n in (400, 2))
    losses = loss_given_inputs(problem, 20, support, query, np.array([-0.02, 0.02]), np.array([0.2]))[:, :, 0]
    slope = (losses[:, 1] - losses[:, 0]) / 0.04
    # 400 support rows leave p / 400 of the slope to the spread of S.
    expected = underparameterized.slope_at_zero(config)
    assert abs(slope.mean() - expected) < 4 * slope.std() / 400**0.5 + 6 / 400 * expected
