"""The measured optimum of a swept rate and its interval."""

import numpy as np
import pytest

from undertow.trials.optimum import empirical_optimum

RATES = np.array([-2.0, -1.2, -0.5, -0.1, 0.0, 0.4, 1.0])


def test_the_vertex_of_a_parabola_is_found_between_the_points():
    losses = 3.0 + (RATES + 0.33) ** 2 + np.zeros((5, 1))
    found = empirical_optimum(RATES, losses, seed=0)
    assert found.rate == pytest.approx(-0.33, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((-0.33, -0.33), abs=1e-12)
    assert not found.at_edge
    # Lowest point -0.5 holds 3 + .17^2, rate 0 holds 3 + .33^2.
    assert found.gain == pytest.approx((0.33**2 - 0.17**2) / (3 + 0.33**2))
    assert found.gain_se == pytest.approx(0.0, abs=1e-12)


def test_what_a_run_adds_to_all_its_points_does_not_widen_the_interval():
    generator = np.random.default_rng(1)
    shared = 100 * generator.standard_normal((200, 1))
    found = empirical_optimum(RATES, (RATES + 0.33) ** 2 + shared, seed=0)
    assert found.high - found.low < 1e-8


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """The slope of each run's parabola varies, so the vertex of the mean is normal with a known spread."""
    generator, covered, tries, runs = np.random.default_rng(2), 0, 200, 60
    for _ in range(tries):
        tilt = 0.4 * generator.standard_normal((runs, 1))
        found = empirical_optimum(RATES, (RATES + 0.33) ** 2 + tilt * RATES, seed=0)
        covered += found.low <= -0.33 <= found.high
    # 95 % of 200 is 190 with standard deviation 3.1; percentile intervals of 60 runs are a little short.
    assert abs(covered / tries - 0.94) < 4 * np.sqrt(0.94 * 0.06 / tries)


@pytest.mark.parametrize(("slope", "end"), [(1.0, -2.0), (-1.0, 1.0)])
def test_an_optimum_at_the_end_of_the_sweep_is_said_to_be_there(slope, end):
    found = empirical_optimum(RATES, 5 + slope * RATES + np.zeros((4, 1)), seed=0)
    assert found.at_edge
    assert found.rate == end


def test_without_rate_zero_there_is_no_gain():
    found = empirical_optimum(RATES[:3], np.ones((4, 3)), seed=0)
    assert found.gain is None
    assert found.gain_se is None
