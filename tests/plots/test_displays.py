"""Displays of an estimator's search: what they draw is what the estimator holds, on whatever axes they are given."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import undertow as ut
from undertow._check import InputError
from undertow.choice import words
from undertow.choice.record import RateInterval
from undertow.estimators.saving import load, save
from undertow.linear.surface import LossSurface
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, StrategyDisplay, TaskGainDisplay, choice_figure

EVERY = (RatePathDisplay, LossSurfaceDisplay, StrategyDisplay, TaskGainDisplay)


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
    return ut.MAMLRegressorCV(5, 3, n_draws=3, n_rates=41, rules=("gradient", "proximal")).fit(x, y, groups=groups)


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
    with pytest.raises(InputError, match=r"A MAMLRegressor has no .*: it has made no search"):
        display.from_estimator(ut.MAMLRegressor().fit(x, y, groups=groups))
    with pytest.warns(UserWarning, match="one task"):
        alone = ut.MAMLRegressorCV().fit(x, y)
    with pytest.raises(InputError, match="fitted to fewer than three tasks"):
        display.from_estimator(alone)
    with pytest.raises(InputError, match="Give a fitted MAMLRegressorCV or MAMLClassifierCV"):
        display.from_estimator(ut.MAMLRegressorCV)
    with pytest.raises(InputError, match="Give a fitted"):
        display.from_estimator(estimator.choice_)


def test_the_rate_path_is_the_cross_validated_error_at_the_gradient_rules_ridge(estimator):
    ax = RatePathDisplay.from_estimator(estimator).ax_
    surface, choice = estimator.cv_surface_, estimator.choice_
    column = surface.ridges.tolist().index(estimator.rate_path_.ridges[0])
    line = labelled(ax, "best adapt rate")
    np.testing.assert_array_equal(line.get_ydata()[:-1], choice.curve.mse)
    # Infinity is both ends.
    assert line.get_xdata()[[0, -1]] == pytest.approx([-np.pi / 2, np.pi / 2])
    assert line.get_ydata()[0] == line.get_ydata()[-1]
    # The least over a fine grid of adapt rates, where the display has the exact minimum; the map has more rates near 0.
    loss = 2 * surface.loss(np.linspace(-1, 4, 5001) * surface.scale)[:, column].min(axis=1)
    at = np.arctan(surface.train_rates / surface.scale)
    found = np.array([loss[np.abs(at - angle).argmin()] for angle in line.get_xdata()])
    np.testing.assert_allclose(line.get_ydata(), found, rtol=1e-5)
    star, dot = labelled(ax, "best train rate"), labelled(ax, "no inner loop")
    assert math.tan(star.get_xdata()[0]) == pytest.approx(choice.signed["train_rate_spectral"])
    assert words.rate(choice.signed["train_rate_spectral"]).replace("-", "\u2212") in star.get_label()
    assert dot.get_xdata()[0] == 0
    assert dot.get_ydata()[0] == line.get_ydata()[line.get_xdata() == 0]
    assert ax.get_ylabel() == "mean squared error / variance"


def arc(low, high, whole=False):
    through = whole or low > high
    made = RateInterval(low, high, 2.0, 0.9, whole, False, through, 0.25)
    return RateInterval(low, high, 2.0, 0.9, whole, 0.0 in made, through, 0.25)


ARCS = [arc(-0.3, 0.8), arc(0.11, 0.207), arc(2.0, -0.5), arc(-0.2, -4.0), arc(-np.inf, np.inf, whole=True)]


@pytest.mark.parametrize("interval", ARCS, ids=str)
def test_the_bar_covers_the_rates_of_the_interval_and_no_others(interval, estimator):
    made = RatePathDisplay.from_choice(estimator.choice_)
    made.interval = interval
    ax = made.plot(Figure().subplots()).ax_
    across = ax.get_xaxis_transform()
    bars = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 5 and line.get_transform() == across]
    assert len(bars) == (2 if interval.contains_infinity and not interval.whole_circle else 1)
    rates = np.concatenate([np.linspace(-6, 6, 241), [1e6, -1e6]])
    covered = np.array([any(low <= np.arctan(rate) <= high for low, high in bars) for rate in rates])
    assert covered.tolist() == [rate * interval.scale in interval for rate in rates]
    # Arrows at both ends where the interval goes on through infinity.
    arrows = {line.get_marker() for line in ax.lines if line.get_marker() in ("<", ">")}
    assert arrows == ({"<", ">"} if interval.contains_infinity else set())
    [label] = [text for text in ax.get_legend_handles_labels()[1] if "interval" in text]
    assert "90 % interval" in label
    assert "25 % of bootstrap curves have it negative" in label
    assert ("the whole circle" in label) == interval.whole_circle


def test_the_interval_of_an_estimator_is_that_of_its_choice(estimator):
    ax = RatePathDisplay.from_estimator(estimator).ax_
    interval = estimator.choice_.interval
    text = words.rates_between(interval).replace("-", "\u2212")
    assert any(text in label for label in ax.get_legend_handles_labels()[1])


def test_the_surface_is_at_the_same_ridge_and_its_star_is_the_choice(estimator):
    made = LossSurfaceDisplay.from_estimator(estimator)
    surface, choice = estimator.cv_surface_, estimator.choice_
    column = surface.ridges.tolist().index(estimator.rate_path_.ridges[0])
    np.testing.assert_allclose(made.mse, 2 * surface.loss(made.adapt_rates * surface.scale)[:, column])
    assert math.tan(made.best[0]) == pytest.approx(choice.signed["train_rate_spectral"])
    assert made.best[1] == pytest.approx(choice.signed["adapt_rate_spectral"])
    [star] = [line for line in made.ax_.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == made.best


def test_the_star_of_a_surface_belongs_to_the_ridge_that_was_asked_for(estimator):
    surface = estimator.cv_surface_
    for column in (0, len(surface.ridges) - 1):
        made = LossSurfaceDisplay.from_surface(surface, surface.ridges[column])
        k = int(surface.best_loss[:, column].argmin())
        assert made.best[0] == pytest.approx(np.arctan(surface.train_rates[k] / surface.scale))
        assert made.best[1] == pytest.approx(surface.best_adapt_rate[k, column] / surface.scale)
    with pytest.raises(InputError, match=r"ridge=0\.123: it is no ridge of this surface"):
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
    points = [
        ax.transData.transform(line.get_xydata()) for line in (labelled(ax, "best train"), labelled(ax, "no inner"))
    ]
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


def test_strategies_are_drawn_at_their_gains_with_their_errors_beside_them(estimator):
    choice = estimator.choice_
    made = StrategyDisplay.from_estimator(estimator)
    assert made.mse.tolist() == sorted(one.mse for one in choice.candidates.values())
    dots = [line for line in made.ax_.lines if line.get_marker() in ("o", "D")]
    drawn = {made.names[int(dot.get_ydata()[0])]: float(dot.get_xdata()[0]) for dot in dots}
    assert drawn == {name: one.gain.percent for name, one in choice.candidates.items()}
    [used] = [dot for dot in dots if dot.get_marker() == "D"]
    assert made.names[int(used.get_ydata()[0])] == choice.strategy
    [side] = made.ax_.child_axes
    assert [text.get_text().strip() for text in side.get_yticklabels()] == [words.share(mse) for mse in made.mse]


def test_the_figure_of_a_choice_has_its_three_panels(estimator):
    figure = choice_figure(estimator, "title")
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 5]
    interval = estimator.choice_.interval
    assert len(lines) == (2 if interval.contains_infinity and not interval.whole_circle else 1)
    assert figure._suptitle.get_text() == "title"
