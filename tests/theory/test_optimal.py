"""Optimal rates: known optima, the whole circle of rates, and properties that hold for every size."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undertow as ut
from undertow.theory import expected_distance, optimal_train_rate


def problem(p, noise=1.0, task=0.5):
    return ut.MixedLinearRegression(p, noise, task)


@pytest.mark.parametrize(
    ("p", "n_t", "n_v", "exact", "following", "equivalent"),
    [
        # Values of independent minimisations, to their printed digits.
        (60, 30, 1, -1.041, -1.038, -1.03),
        (60, 30, 2, -1.058, -1.051, -1.046),
        (60, 10, 2, -0.534, -0.532, -0.524),
        (60, 120, 2, -2.868, -2.855, -2.854),
    ],
)
def test_known_optima(p, n_t, n_v, exact, following, equivalent):
    design = ut.Design(3, n_t, n_v)
    best = lambda method: optimal_train_rate(problem(p), design, method)  # noqa: E731
    assert best("exact") == pytest.approx(exact, abs=0.002)
    assert best("auto") == best("exact")
    assert best("next_order") == pytest.approx(following, abs=0.001)
    # These equivalents are of the limit law; ours have the finite-size spectrum and lie a little nearer to the exact.
    assert best("equivalent") == pytest.approx(equivalent, abs=0.015)


@pytest.mark.parametrize(("n_v", "known", "tolerance"), [(20, -1.405, 0.005), (50, -4.10, 0.1)])
def test_many_query_rows_push_the_optimum_out(n_v, known, tolerance):
    best = optimal_train_rate(problem(60), ut.Design(1, 30, n_v))
    assert best.method == "equivalent"
    assert best == pytest.approx(known, abs=tolerance)


@pytest.mark.long
def test_many_query_rows_exactly():
    best = optimal_train_rate(problem(60), ut.Design(1, 30, 20), "exact")
    assert best == pytest.approx(-1.426, abs=0.01)


@settings(deadline=None)
@given(st.integers(4, 500), st.integers(1, 500))
def test_leading_optimum_has_its_closed_form(p, n_t):
    g = p / n_t
    best = optimal_train_rate(problem(p), ut.Design(1, n_t, 1), "leading")
    # A minimum is flat: its place is known to the square root of rounding.
    assert best == pytest.approx(-(1 + math.sqrt(1 + 4 * g)) / (2 * g), rel=1e-4)


def test_facts_at_the_published_sizes():
    design = ut.Design(3, 30, 2, 20)
    best = optimal_train_rate(problem(60), design)
    zero = expected_distance(problem(60), design, 0.0)
    assert best.distance == expected_distance(problem(60), design, float(best))
    assert best.relative_gain == pytest.approx(1 - best.distance / zero, rel=1e-12)
    assert not best.shallow
    noise_only = [expected_distance(problem(60, task=0.0), design, a) for a in (float(best), 0.0)]
    assert noise_only[0] / noise_only[1] == pytest.approx(0.500, abs=0.001)
    low, high = best.interval
    assert low < best < high
    for end in (low, high):
        assert expected_distance(problem(60), design, end) == pytest.approx(1.01 * best.distance, rel=1e-3)
    assert "negative" in best.message
    assert "OptimalRate(-1.058" in repr(best)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 3), st.floats(0, 3), st.integers(1, 20), st.floats(0, 2))
def test_optimum_depends_on_the_sizes_of_one_task_only(noise, task, m, init_distance):
    best = optimal_train_rate(problem(60, noise, task), ut.Design(m, 30, 2), init_distance=init_distance)
    assert best == pytest.approx(optimal_train_rate(problem(60), ut.Design(3, 30, 2)), rel=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.integers(6, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0.05, 3), st.integers(1, 30))
def test_optimum_is_negative_for_isotropic_inputs(p, n_t, share, task, m):
    n_v = 1 + int(share * (p - 4))
    size = problem(p, 1.0, task)
    best = optimal_train_rate(size, ut.Design(m, n_t, n_v), "equivalent")
    assert math.isnan(best) or best < 0
    if not math.isnan(best):
        grid = np.concatenate([-np.logspace(-3, 4, 60), np.logspace(-3, 4, 60), [0.0, np.inf]])
        values = expected_distance(size, ut.Design(m, n_t, n_v), grid, method="equivalent")
        assert best.distance <= values.min() * (1 + 1e-9)


def test_a_shallow_well_far_out_is_found():
    best = optimal_train_rate(problem(17), ut.Design(1, 929, 12), "equivalent")
    assert -500 < best < -100
    assert best.shallow
    low, high = best.interval
    assert low > 0 > high  # through infinity
    limit = expected_distance(problem(17, task=0.0), ut.Design(1, 929, 12), np.inf, method="equivalent")
    at_best = expected_distance(problem(17, task=0.0), ut.Design(1, 929, 12), float(best), method="equivalent")
    assert 0.002 < 1 - at_best / limit < 0.01


def test_with_more_query_rows_the_well_is_near_zero_and_shallow():
    size = ut.MixedLinearRegression(30, 0.2, 0.2)
    best = optimal_train_rate(size, ut.Design(40, 5, 25), "leading")
    assert best == pytest.approx(-0.0282, abs=0.0002)
    assert best.relative_gain == pytest.approx(0.010, abs=0.001)
    assert best.shallow
    assert "within 2 %" in best.message
    assert optimal_train_rate(size, ut.Design(40, 5, 25)) == pytest.approx(-0.03, abs=0.003)


@pytest.mark.parametrize(("steps", "negative", "positive"), [(1, 0.502, 0.898), (2, 0.468, 0.437), (3, 0.454, 0.443)])
def test_several_inner_steps_turn_the_sign(steps, negative, positive):
    design, noise = ut.Design(3, 30, 2), problem(60, task=0.0)
    rates = np.linspace(-3, 3, 601)
    q = expected_distance(noise, design, rates, method="equivalent", steps=steps)
    q = q / expected_distance(noise, design, 0.0)
    assert [q[rates < 0].min(), q[rates > 0].min()] == pytest.approx([negative, positive], abs=0.006)
    best = optimal_train_rate(noise, design, "equivalent", steps=steps)
    assert (best < 0) == (steps == 1)
    if steps == 2:  # the small negative rate remains a local minimum
        near = (rates > -1.2) & (rates < 0)
        inner = rates[near][q[near].argmin()]
        assert inner == pytest.approx(-0.42, abs=0.04)


@pytest.mark.long
@pytest.mark.parametrize(("sizes", "steps"), [((60, 3, 30, 2), 4), ((4, 8, 5, 3), 2)])
def test_draws_are_looked_at_where_it_matters(sizes, steps):
    p, *design = sizes
    size, design = problem(p), ut.Design(*design)
    best = optimal_train_rate(size, design, steps=steps)
    rates = np.sinh(np.linspace(-8, 8, 60)) / 100
    values = expected_distance(size, design, rates, steps=steps)
    assert best.distance <= values.min() * (1 + 1e-9)
    low, high = best.interval
    assert low < best < high
    ends = expected_distance(size, design, [low, high], steps=steps)
    assert ends == pytest.approx(1.01 * best.distance, rel=1e-4)


def test_degenerate_cases():
    design = ut.Design(3, 30, 2)
    flat = optimal_train_rate(problem(60, noise=0.0), design)
    assert flat == 0
    assert flat.interval == (-math.inf, math.inf)
    assert "as good" in flat.message
    nowhere = optimal_train_rate(problem(6), design)
    assert math.isnan(nowhere)
    assert nowhere.distance == math.inf
    assert "infinite" in nowhere.message
    # A single task with N > p + 1: every positive rate has an infinite mean.
    alone = optimal_train_rate(problem(10), ut.Design(1, 5, 20))
    assert alone < 0
    assert alone.interval[1] < 0


def test_an_optimum_at_infinity():
    # Without spread of the tasks and with more query than support rows the noise falls all the way to infinity.
    best = optimal_train_rate(problem(40, task=0.0), ut.Design(1, 1, 30), "leading")
    assert best < 0
    steep = optimal_train_rate(ut.MixedLinearRegression(8, 1.0, 0.0), ut.Design(1, 60, 20), "equivalent")
    assert steep <= -1
    assert steep.is_infinite == math.isinf(steep)


def test_an_optimal_rate_is_a_float_that_survives_copies():
    best = optimal_train_rate(problem(60), ut.Design(3, 30, 2))
    for other in (copy.copy(best), pickle.loads(pickle.dumps(best))):
        assert other == best
        assert other.interval == best.interval
        assert other.method == "exact"
    assert isinstance(best + 1, float)
