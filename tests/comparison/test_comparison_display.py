"""The figure of a comparison: what is drawn where."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_record import made

from undertow.plots.comparison import ComparisonDisplay


@pytest.fixture
def comparison():
    rng = np.random.default_rng(0)
    base = 1 + 0.1 * rng.random(40)
    gaps = {"near": 0.0, "worse": 0.1, "better": -0.1, "far": 30.0}
    noisy = {name: base + gap + 0.02 * rng.standard_normal(40) for name, gap in gaps.items()}
    return made({"default": base, "gone": None, **noisy})


def drawn(display):
    """(position, x) of each point, and of each interval its ends."""
    points, intervals = {}, {}
    for line in display.ax_.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(x) == 1:
            points[int(y[0])] = (float(x[0]), line.get_color())
        elif y[0] == y[1]:
            intervals[int(y[0])] = tuple(x)
    return points, intervals


def test_points_and_intervals_are_those_of_the_record(comparison):
    display = ComparisonDisplay.from_comparison(comparison).plot()
    points, intervals = drawn(display)
    order = comparison.ranking()
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == [f"the {name}" for name in order]
    for name in ("near", "worse", "better"):
        gap = comparison.difference(name, "default")
        assert points[order.index(name)][0] == pytest.approx(gap.estimate)
        assert intervals[order.index(name)] == pytest.approx((gap.low, gap.high))
    assert points[order.index("default")][0] == 0
    assert order.index("default") not in intervals
    # Significantly worse, significantly better, and not significant have three colours.
    assert len({points[order.index(name)][1] for name in ("near", "worse", "better")}) == 3


def test_a_rival_far_off_is_at_the_edge_with_its_numbers(comparison):
    display = ComparisonDisplay.from_comparison(comparison).plot()
    points, intervals = drawn(display)
    place = comparison.ranking().index("far")
    assert points[place][0] < 1
    assert place not in intervals
    (text,) = [t.get_text() for t in display.ax_.texts]
    assert text.startswith("+30 (")
    assert points[place][0] < display.ax_.get_xlim()[1] < 1


def test_another_base_and_seconds_at_the_side(comparison):
    display = ComparisonDisplay.from_comparison(comparison, "worse").plot()
    assert drawn(display)[0][comparison.ranking().index("worse")][0] == 0
    _, side = display.figure_.axes
    assert side.get_xscale() == "log"
    widths = {round(bar.get_x() + bar.get_width(), 6) for bar in side.patches}
    assert widths == {1.0, 3.0, 4.0, 5.0, 6.0}


def test_given_axes_are_used_and_nothing_else_is_drawn(comparison):
    figure = Figure()
    axes = figure.subplots()
    display = ComparisonDisplay.from_comparison(comparison).plot(axes)
    assert display.ax_ is axes
    assert figure.axes == [axes]
