"""Figures show what is in the table, and nothing lies on top of anything else."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from undertow.plots import style
from undertow.plots.regimes import LossCurve, RegimeCurve

RATES = np.array([-1.0, -0.5, 0.0, 0.5])


def curve(**changes):
    values = {
        "rates": RATES,
        "mean": np.array([2.0, 1.0, 2.0, 3.0]),
        "se": np.full(4, 0.1),
        "sharp": np.array([2.1, 1.1, 2.1, 3.1]),
        "theories": {"exact": np.array([2.0, 1.0, np.inf, 3.0]), "leading": np.array([2.0, -50.0, 2.0, 9.0])},
        "theory_rate": -0.6,
        "best": (-0.55, -0.7, -0.4),
        "least": 0.5,
        "tangent": 1.5,
    }
    return LossCurve(**{**values, **changes})


def drawn(*curves):
    with style.context():
        made, axes = style.figure(len(curves))
        for one, axis in zip(curves, axes[0], strict=True):
            one.plot(axis, xlabel="train rate", title="a  title")
        style.shared_legend(made, axes, columns=2)
        FigureCanvasAgg(made).draw()
    return made, axes[0]


def test_points_and_theory_are_at_their_places_and_gaps_stay_gaps():
    _, (axes,) = drawn(curve())
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["theory, exact"].get_ydata(), [2.0, 1.0, np.nan, 3.0])
    np.testing.assert_array_equal(lines["measured, given the inputs"].get_ydata(), [2.1, 1.1, 2.1, 3.1])
    (bars,) = (c for c in axes.containers if c.get_label() == "measured, mean ± standard error")
    np.testing.assert_array_equal(bars[0].get_ydata(), [2.0, 1.0, 2.0, 3.0])


def test_the_slope_the_least_loss_and_the_optimum_are_where_they_were_given():
    _, (axes,) = drawn(curve(theories={"exact": np.array([2.0, 1.0, 1.8, 3.0])}))
    lines = {line.get_label(): line for line in axes.get_lines()}
    x, y = lines["slope at 0, leading order"].get_data()
    np.testing.assert_allclose(y, 1.8 + 1.5 * np.asarray(x))
    assert set(lines["least possible loss"].get_ydata()) == {0.5}
    assert axes.get_ylim()[0] < 0.5
    assert [text.get_text() for text in axes.texts] == ["best −0.55"]
    # Far below the curve it is told in words, and the frame stays with the data.
    _, (axes,) = drawn(curve(least=-50.0))
    assert axes.get_ylim()[0] > 0
    assert any("least possible loss: -50" in text.get_text() for text in axes.texts)


def test_marks_of_the_optima_lie_below_all_points_and_wild_theory_does_not_set_the_frame():
    _, (axes,) = drawn(curve())
    low, high = axes.get_ylim()
    # Marks sit below 0.2 of the height: the lowest error bar must end above.
    assert (0.9 - low) / (high - low) > 0.2
    assert low < 0.5
    assert 3.1 < high < 4
    # An approximation that runs just below the points is above the mark, too.
    _, (axes,) = drawn(curve(theories={"leading": np.array([2.0, 0.5, 1.5, 2.5])}, least=-50.0))
    low, high = axes.get_ylim()
    assert (0.5 - low) / (high - low) > 0.2


def test_the_legend_is_below_the_axes_inside_the_figure_and_names_everything_once():
    made, axes = drawn(curve(), curve())
    (legend,) = made.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= made.bbox.width
    assert all(box.y1 <= axis.get_tightbbox().y0 for axis in axes)
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == len(set(names)) == 6


def test_theory_alone_can_be_drawn():
    _, (axes,) = drawn(LossCurve(RATES, theories={"exact": np.array([2.0, 1.0, 2.0, np.inf])}))
    low, high = axes.get_ylim()
    assert low < 1.0
    assert 2.0 < high < 3.0
    drawn(LossCurve(RATES, theories={"exact": np.full(4, np.inf)}))


def test_no_theory_and_no_mean_is_drawn_where_the_mean_is_infinite():
    n_rows = np.array([6, 8, 9, 10, 11, 12, 20])
    one = RegimeCurve(n_rows, np.arange(1.0, 8), np.ones(7), np.arange(2.0, 9), np.full(7, 3.0), threshold=10)
    with style.context():
        _, axes = style.figure()
        one.plot(axes[0, 0], color="k", label="x")
    theory = [line.get_xdata().tolist() for line in axes[0, 0].get_lines() if line.get_linestyle() == "-"]
    assert theory == [[6, 8], [12, 20]]
    (bars,) = axes[0, 0].containers
    np.testing.assert_array_equal(bars[0].get_xdata(), [6, 8, 12, 20])
    medians = [line for line in axes[0, 0].get_lines() if line.get_marker() == "D"]
    np.testing.assert_array_equal(medians[0].get_xdata(), n_rows)


def test_a_circle_axis_is_labelled_by_rates():
    with style.context():
        made, axes = style.figure()
        style.circle_axis(axes[0, 0], scale=2.0)
        FigureCanvasAgg(made).draw()
    ticks = {text.get_text(): text.get_position()[0] for text in axes[0, 0].get_xticklabels()}
    assert ticks["−∞"] == -np.pi / 2
    assert ticks["+∞"] == np.pi / 2
    assert ticks["0"] == 0
    assert ticks["2"] == pytest.approx(np.pi / 4)
    assert ticks["−6"] == pytest.approx(-np.arctan(3))


def test_style_stays_within_its_context():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["svg.hashsalt"] == "undertow"
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ZeroDivisionError), style.context():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before
