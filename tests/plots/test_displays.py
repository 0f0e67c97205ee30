"""Displays of an estimator's search: what they draw is what the estimator holds, on whatever axes they are given."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from undertow.choice.rate_comparison import compare_rates

import undertow as ut
from undertow._check import InputError
from undertow.choice.record import RateInterval
from undertow.estimators.saving import load, save
from undertow.linear.surface import LossSurface
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, StrategyDisplay, TaskGainDisplay, comparison_figure

EVERY = (RatePathDisplay, LossSurfaceDisplay, TaskGainDisplay)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(14), rng.integers(8, 15, 14))
    x = rng.standard_normal((len(groups), 3))
    slopes = 1 + 0.5 * rng.standard_normal((14, 3))
    return x, (x * slopes[groups]).sum(1) + 0.5 * rng.standard_normal(len(groups)), groups


@pytest.fixture(scope="module")
def estimator(data):
    x, y, groups = data
    return ut.MAMLRegressorCV(5, 3, n_draws=3, n_rates=41, rules=("gradient", "ridge")).fit(x, y, groups=groups)


@pytest.fixture(scope="module")
def comparison(data):
    x, y, groups = data
    table, _ = ut.tasks.GroupedTable.from_arrays(x, y, groups).standardized(target=True)
    return compare_rates(table.with_intercept(), 5, n_folds=3, n_draws=2)


def labelled(ax, start):
    [line] = [line for line in ax.lines if str(line.get_label()).startswith(start)]
    return line


@pytest.mark.parametrize("display", EVERY)
def test_a_figure_of_its_own_or_given_axes(display, estimator):
    before = dict(matplotlib.rcParams)
    made = display.from_estimator(estimator)
    assert isinstance(made, display)
    assert isinstance(made.figure_, Figure)
    assert made.ax_.figure is made.figure_
    axes = Figure().subplots(1, 2)
    given = display.from_estimator(estimator, ax=axes[1])
    assert given.ax_ is axes[1]
    assert given.figure_ is axes[1].figure
    assert not axes[0].has_data()
    # Drawn again elsewhere, it says where it is now.
    assert given.plot(axes[0]) is given
    assert given.ax_ is axes[0]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("display", EVERY)
def test_an_estimator_from_a_file_is_drawn_alike(display, estimator, tmp_path):
    save(estimator, tmp_path / "m.safetensors")
    drawn = [display.from_estimator(one).figure_ for one in (estimator, load(tmp_path / "m.safetensors"))]
    first, again = ([line.get_xydata() for ax in figure.axes for line in ax.lines] for figure in drawn)
    assert len(first) > 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("display", EVERY)
def test_estimators_with_nothing_to_draw_are_refused(display, estimator, data):
    x, y, groups = data
    with pytest.raises(InputError, match=r"is not fitted: there is nothing to draw\. Call fit first"):
        display.from_estimator(ut.MAMLRegressorCV())
    with pytest.raises(InputError, match=r"a MAMLRegressor has no .*: it chooses nothing by cross-validation"):
        display.from_estimator(ut.MAMLRegressor().fit(x, y, groups=groups))
    with pytest.warns(UserWarning, match="one task"):
        alone = ut.MAMLRegressorCV().fit(x, y)
    with pytest.raises(InputError, match="fitted to one task, where there is nothing to choose by"):
        display.from_estimator(alone)
    with pytest.raises(InputError, match="Give a fitted MAMLRegressorCV or MAMLClassifierCV"):
        display.from_estimator(ut.MAMLRegressorCV)
    with pytest.raises(InputError, match="Give a fitted"):
        display.from_estimator(estimator.choice_)


def test_the_rate_path_is_the_cross_validated_loss_at_the_gradient_rules_ridge(estimator):
    ax = RatePathDisplay.from_estimator(estimator).ax_
    surface, choice = estimator.cv_surface_, estimator.choice_
    column = surface.ridges.tolist().index(estimator.rate_path_.ridges[0])
    # The least over a fine grid of adapt rates, where the display has the exact minimum.
    grid = np.linspace(-1, 4, 5001) * surface.scale
    loss = surface.loss(grid)[:, column].min(axis=1)
    line = labelled(ax, "best adapt rate")
    np.testing.assert_allclose(line.get_ydata(), 2 * loss, rtol=1e-5)
    np.testing.assert_allclose(np.tan(line.get_xdata())[1:-1], (surface.train_rates / surface.scale)[1:-1])
    star, dot = labelled(ax, "signed train rate"), labelled(ax, "no inner loop")
    assert math.tan(star.get_xdata()[0]) == pytest.approx(choice.train_rate)
    assert star.get_ydata()[0] == line.get_ydata().min()
    assert dot.get_xdata()[0] == 0
    assert dot.get_ydata()[0] == pytest.approx(np.interp(0, line.get_xdata(), line.get_ydata()))
    assert ax.get_ylabel() == "mean squared error / variance"


def arc(low, high, **more):
    whole = more.pop("whole_circle", False)
    probe = RateInterval(low, high, 0.9, whole, False, whole or low > high, 0.25)
    return RateInterval(low, high, 0.9, whole, 0.0 in probe, whole or low > high, 0.25)


ARCS = [arc(-0.3, 0.8), arc(0.11, 0.207), arc(2.0, -0.5), arc(-0.2, -4.0), arc(-np.inf, np.inf, whole_circle=True)]


@pytest.mark.parametrize("interval", ARCS, ids=str)
def test_the_bar_covers_the_rates_of_the_interval_and_no_others(interval, comparison):
    ax = RatePathDisplay.from_comparison(comparison, interval).plot(Figure().subplots()).ax_
    across = ax.get_xaxis_transform()
    bars = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 5 and line.get_transform() == across]
    assert len(bars) == (2 if interval.contains_infinity and not interval.whole_circle else 1)
    rates = np.concatenate([np.linspace(-6, 6, 241), [1e6, -1e6]])
    covered = np.array([any(low <= np.arctan(rate) <= high for low, high in bars) for rate in rates])
    assert covered.tolist() == [rate in interval for rate in rates]
    # Arrows at both ends where the interval goes on through infinity.
    arrows = {line.get_marker() for line in ax.lines if line.get_marker() in ("<", ">")}
    assert arrows == ({"<", ">"} if interval.contains_infinity else set())
    [label] = [text for text in ax.get_legend_handles_labels()[1] if "interval" in text]
    assert "90 % interval" in label
    assert "25 % of bootstrap curves have it negative" in label
    assert ("any rate may be the best" in label) == interval.whole_circle
    assert "the whole circle" not in label


def test_the_interval_of_an_estimator_is_that_of_its_choice(estimator):
    ax = RatePathDisplay.from_estimator(estimator).ax_
    interval = estimator.choice_.interval
    text = "any rate may be the best" if interval.whole_circle else str(interval).replace("-", "\u2212")
    assert any(text in label for label in ax.get_legend_handles_labels()[1])


def test_the_surface_is_at_the_same_ridge_and_its_star_is_the_choice(estimator):
    made = LossSurfaceDisplay.from_estimator(estimator)
    surface, choice = estimator.cv_surface_, estimator.choice_
    column = surface.ridges.tolist().index(estimator.rate_path_.ridges[0])
    np.testing.assert_allclose(made.loss, surface.loss(made.adapt_rates * surface.scale)[:, column])
    assert math.tan(made.best[0]) == pytest.approx(choice.train_rate)
    assert made.best[1] == pytest.approx(choice.adapt_rate)
    [star] = [line for line in made.ax_.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == made.best


def test_the_star_of_a_surface_belongs_to_the_ridge_that_was_asked_for(estimator):
    surface = estimator.cv_surface_
    for column in (0, len(surface.ridges) - 1):
        made = LossSurfaceDisplay.from_surface(surface, surface.ridges[column])
        k = int(surface.best_loss[:, column].argmin())
        assert made.best[0] == pytest.approx(np.arctan(surface.train_rates[k] / surface.scale))
        assert made.best[1] == pytest.approx(surface.best_adapt_rate[k, column] / surface.scale)
    with pytest.raises(InputError, match=r"ridge=0\.123 is no ridge of this surface: choose one of"):
        LossSurfaceDisplay.from_surface(surface, 0.123)


def test_several_targets_and_classes_are_said_in_the_label(data):
    x, y, groups = data
    small = {"n_draws": 1, "n_rates": 9, "rules": "gradient"}
    two = ut.MAMLRegressorCV(5, 3, **small).fit(x, np.column_stack([y, -y]), groups=groups)
    label = RatePathDisplay.from_estimator(two).ax_.get_ylabel()
    assert label == "mean squared error / variance,\nmean over 2 targets"
    kinds = ut.MAMLClassifierCV(5, 3, **small).fit(x, np.digitize(y, [-1, 1]), groups=groups)
    label = RatePathDisplay.from_estimator(kinds).ax_.get_ylabel()
    assert label == "mean squared error of \u22121 / 1,\nmean over 3 classes"
    raw = ut.MAMLRegressorCV(5, 3, standardize=False, **small).fit(x, y, groups=groups)
    assert RatePathDisplay.from_estimator(raw).ax_.get_ylabel() == "mean squared error"
    assert LossSurfaceDisplay.from_estimator(raw).loss_name == "mean squared error"


@pytest.mark.parametrize("display", [RatePathDisplay, LossSurfaceDisplay])
@pytest.mark.parametrize("name", ["mean squared error / variance, mean over 2 targets", "a loss of many words " * 4])
def test_labels_of_losses_are_whole(display, name, estimator):
    made = display.from_estimator(estimator)
    made.loss_name = name
    # The label is that of the y axis, or of the bar of colours: of the figure's last axes.
    label = made.plot().figure_.axes[-1].yaxis.label
    FigureCanvasAgg(made.figure_).draw()
    assert " ".join(label.get_text().split()) == name.strip()
    box, whole = label.get_window_extent(), made.figure_.bbox
    assert 0 <= box.x0 <= box.x1 <= whole.x1
    assert 0 <= box.y0 <= box.y1 <= whole.y1


@pytest.mark.parametrize("layout", ["constrained", None])
def test_a_legend_on_given_axes_covers_no_mark_and_no_rate_near_the_best(estimator, layout):
    figure = Figure(figsize=(15, 4.4), layout=layout)
    ax = RatePathDisplay.from_estimator(estimator, ax=figure.subplots(1, 3)[0]).ax_
    FigureCanvasAgg(figure).draw()
    frame = ax.get_legend().get_window_extent()
    assert ax.bbox.y1 + 1 >= frame.y1
    points = [ax.transData.transform(line.get_xydata()) for line in (labelled(ax, "signed"), labelled(ax, "no inner"))]
    curve = labelled(ax, "best adapt rate").get_xydata()
    points.append(ax.transData.transform(curve[curve[:, 1] <= np.median(curve[:, 1])]))
    assert not any(frame.contains(*point) for point in np.concatenate(points))


@pytest.mark.parametrize("best", [0.3, -0.3, -0.02, 4.7, -4.7, 0.0])
def test_the_best_adapt_rate_lies_within_the_surface_that_is_drawn(best):
    # Losses with their least at one adapt rate, for three train rates: (a - best)^2 / 2.
    coefficients = np.zeros((3, 2, 2))
    coefficients[:, 0, 0], coefficients[:, 0, 1], coefficients[:, 1, 1] = best**2, best, 1
    coefficients[:, 1, 0] = best
    surface = LossSurface(np.array([-1.0, 0.0, 1.0]), coefficients, 1.0, np.array([0.1]))
    assert surface.best_adapt_rate[0] == pytest.approx(best, abs=1e-9)
    made = LossSurfaceDisplay.from_surface(surface)
    low, high = made.adapt_rates[[0, -1]]
    assert np.all(np.diff(made.adapt_rates) > 0)
    assert low < 0 < high
    room = 0.15 * (high - low)
    assert low + room < best < high - room
    assert made.best[1] == pytest.approx(best, abs=1e-9)
    # Nothing of the axes is blank.
    assert made.plot().ax_.get_ylim() == pytest.approx((low, high))


def test_a_comparison_and_its_figure(comparison):
    ax = Figure().subplots()
    made = StrategyDisplay.from_comparison(comparison).plot(ax)
    assert made.ax_ is ax
    # To the right is a gain, as in the printed table.
    base = comparison.mean_loss("step")[0]
    drawn = [float(bar[0].get_xdata()[0]) for bar in ax.containers]
    gains = [100 * comparison.difference("step", name)[0] / base for name in made.names]
    np.testing.assert_allclose(drawn, gains, atol=1e-12)
    assert max(map(abs, gains)) > 0.01
    assert "gain over no inner loop, %" in ax.get_xlabel()
    figure = comparison_figure(comparison, "title", arc(2.0, -0.5))
    assert sum(line.get_linewidth() == 5 for line in figure.axes[0].lines) == 2
    assert sum(line.get_linewidth() == 5 for line in comparison_figure(comparison, "title").axes[0].lines) == 0
