"""TaskGainDisplay: each task's gain, its mean with an interval, who loses, and labels that can be read."""

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import undertow as ut
from undertow._check import InputError
from undertow.choice.record import Gain
from undertow.linear import adapt
from undertow.plots import LossSurfaceDisplay, TaskGainDisplay


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    groups = np.repeat([f"shop {i:02d}" for i in range(12)], np.arange(8, 20))
    x = rng.standard_normal((len(groups), 2))
    slopes = 1 + 0.7 * rng.standard_normal((12, 2))
    y = (x * slopes[np.unique(groups, return_inverse=True)[1]]).sum(1) + rng.standard_normal(len(groups))
    return ut.tasks.GroupedTable.from_arrays(x, y, groups)


@pytest.fixture(scope="module")
def estimator(table):
    return ut.MAMLRegressorCV(5, 3, n_draws=3, n_rates=21).fit(table.x, table.y, groups=table.groups)


def made_up(gains, rows=None, **more):
    gains = np.asarray(gains, dtype=float)
    rows = np.ones(len(gains)) if rows is None else rows
    mean = float(np.mean(gains))
    ids = np.array([f"task {i}" for i in range(len(gains))])
    return TaskGainDisplay(ids, gains, rows, Gain(mean, mean - 1, mean + 1, 0.5), "ridge", "joint", **more)


def dots(ax):
    """All drawn tasks as (gain, place), and the markers of those beyond the axis."""
    return np.concatenate([np.asarray(one.get_offsets()) for one in ax.collections if len(one.get_offsets())])


@pytest.mark.parametrize("strategy", [None, "step", "ridge"])
def test_gains_and_their_mean_are_those_of_the_estimator(estimator, table, strategy):
    made = TaskGainDisplay.from_estimator(estimator, strategy=strategy)
    held_out, choice = estimator.held_out_, estimator.choice_
    assert made.strategy == (strategy or choice.strategy)
    base = held_out.of("no_rows")
    ours = held_out.mse[:, held_out.names.index(made.strategy)]
    mean = sum(base * held_out.weights) / sum(held_out.weights)
    np.testing.assert_allclose(made.gains, [100 * (b - o) / mean for b, o in zip(base, ours, strict=True)])
    of_task = dict(zip(table.ids.tolist(), (table.counts - 5).tolist(), strict=True))
    assert made.rows.tolist() == [of_task[name] for name in made.task_ids.tolist()]
    assert np.average(made.gains, weights=held_out.weights) == pytest.approx(made.mean.percent)
    if strategy is None:
        assert made.mean == pytest.approx(choice.candidates[choice.strategy].gain)
    assert made.share_losing == np.mean(ours > base)
    drawn = dots(made.ax_)
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(made.gains))
    labels = made.figure_.legends[0].get_texts()
    n_losing = int((ours > base).sum())
    if n_losing:
        assert f"{n_losing} of 12 tasks lose ({100 * n_losing / 12:.0f} %)" in [text.get_text() for text in labels]


def test_strategies_that_were_not_tried_or_are_the_same_are_refused(estimator):
    with pytest.raises(InputError, match="base='none': choose one of 'joint'"):
        TaskGainDisplay.from_estimator(estimator, base="none")
    with pytest.raises(InputError, match="strategy='none': choose one of"):
        TaskGainDisplay.from_estimator(estimator, strategy="none")
    with pytest.raises(
        InputError,
        match="base='step': it is the strategy whose gain is to be drawn",
    ):
        TaskGainDisplay.from_estimator(estimator, base="step", strategy="step")


def test_the_best_task_is_on_top_and_named_beside_its_own_dot():
    made = made_up([3.0, -2.0, 10.0, 0.5, 1.0], rows=np.array([9.0, 4, 1, 2, 3])).plot()
    names = {text.get_position()[1]: text.get_text() for text in made.ax_.get_yticklabels()}
    place = {round(gain, 6): y for gain, y in dots(made.ax_)}
    assert [names[place[gain]] for gain in (3.0, -2.0, 10.0, 0.5, 1.0)] == [f"task {i}" for i in range(5)]
    assert max(place, key=place.get) == 10.0
    assert made.share_losing == 0.2
    best, least = made.extremes(2)
    assert best == [("task 2", 10.0), ("task 0", 3.0)]
    assert least == [("task 1", -2.0), ("task 3", 0.5)]
    # The area of a dot follows the task's rows.
    sizes = np.concatenate([one.get_sizes() for one in made.ax_.collections if len(one.get_offsets())])
    ratio = {round(g, 6): s for (g, _), s in zip(dots(made.ax_), sizes, strict=True)}
    assert ratio[3.0] / ratio[-2.0] == pytest.approx(9 / 4)


def texts_overlap(made):
    """Pairs of drawn texts (names, extremes, labels of axes, legend) that cover each other."""
    FigureCanvasAgg(made.figure_).draw()
    renderer = made.figure_.canvas.get_renderer()
    texts = [*made.ax_.texts, *made.ax_.get_yticklabels(), made.ax_.xaxis.label, made.ax_.yaxis.label, made.ax_.title]
    legends = [*made.figure_.legends, *([made.ax_.get_legend()] if made.ax_.get_legend() else [])]
    texts += [text for legend in legends for text in legend.get_texts()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    inside = made.figure_.bbox
    for name, box in boxes:
        assert inside.x0 <= box.x0, f"{name!r} leaves the figure"
        assert box.x1 <= inside.x1, f"{name!r} leaves the figure"
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :] if one.overlaps(other)]


@pytest.mark.parametrize("m", [2, 5, 30, 31, 300, 2000])
def test_labels_can_be_read_with_few_tasks_and_with_many(m):
    gains = 5 + 20 * np.random.default_rng(m).standard_t(2, m)
    made = made_up(gains, rows=np.random.default_rng(0).integers(3, 60, m).astype(float))
    made.task_ids = np.array([f"a task with a long name, number {i}" for i in range(m)])
    made.plot()
    assert not texts_overlap(made)
    assert len(made.ax_.get_yticks()) == (m if m <= 30 else 0)
    assert len(dots(made.ax_)) == m
    if m > 30:
        words = "\n".join(text.get_text() for text in made.ax_.texts)
        for i in (gains.argmax(), gains.argmin()):
            assert f"{gains[i]:+.0f} %".replace("-", "\u2212") in words or abs(gains[i]) < 100


@pytest.mark.parametrize("layout", ["constrained", None])
@pytest.mark.parametrize("m", [8, 39, 142])
def test_a_legend_on_given_axes_covers_neither_names_nor_tasks(m, layout):
    rng = np.random.default_rng(m)
    made = made_up([*(5 + 20 * rng.standard_t(2, m - 1)), -4000.0])
    figure = Figure(figsize=(15, 4.4), layout=layout)
    made.plot(figure.subplots(1, 3)[2])
    assert not texts_overlap(made)
    frame = made.ax_.get_legend().get_window_extent()
    assert frame.y0 >= made.ax_.bbox.y0
    assert not any(frame.contains(*point) for point in made.ax_.transData.transform(dots(made.ax_)))
    assert (len(made.ax_.texts) == 2) == (m > 30)


def test_tasks_far_off_are_counted_at_the_edge_and_do_not_squeeze_the_others():
    gains = np.concatenate([np.linspace(-3, 5, 60), [-4000.0, 900.0, 1000.0]])
    made = made_up(gains).plot()
    low, high = made.ax_.get_xlim()
    assert -120 < low < -3
    assert 5 < high < 120
    drawn = dots(made.ax_)
    assert len(drawn) == 63
    assert drawn[:, 0].min() == pytest.approx(low)
    labels = [text.get_text() for text in made.figure_.legends[0].get_texts()]
    assert "1 beyond the axis, to \u22124000 %" in labels
    assert "2 beyond the axis, to +1000 %" in labels
    # The mean is not moved: it is a line where it belongs, within the axis.
    assert any(re.match("mean ", label) for label in labels)
    assert low < made.mean.percent < high


def test_equal_gains_and_given_axes():
    ax = Figure().subplots()
    made = made_up([0.0, 0.0, 0.0]).plot(ax)
    assert made.share_losing == 0
    assert ax.get_legend() is not None
    assert not made.figure_.legends
    assert made_up([0.0, 1.0]).plot(Figure().subplots(), legend=False).ax_.get_legend() is None


def test_gains_of_a_path_are_differences_of_losses_on_new_tasks():
    problem, design = ut.MixedLinearRegression(4, noise_std=0.5), ut.Design(12, 6, 5)
    path = ut.rate_path(problem.sample(design, seed=0), ridge=[1e-3, 1e-1])
    new = problem.sample(ut.Design(9, 6, 7), seed=1)
    surface = path.evaluate(new, per_task=True)
    best = surface.best()
    omega = [
        ut.rate_path(problem.sample(design, seed=0), rate, ridge=best.ridge).weights[0]
        for rate in (0.0, best.train_rate)
    ]
    theta = np.stack([np.repeat(omega[0][None], 9, axis=0), adapt(omega[1], new, best.adapt_rate)])
    losses = 0.5 * ((np.einsum("mvp,smp->smv", new.query_x, theta) - new.query_y) ** 2).mean(axis=2)
    display = TaskGainDisplay.from_path(surface)
    np.testing.assert_allclose(display.gains, 100 * (losses[0] - losses[1]) / losses[0].mean(), rtol=1e-6, atol=1e-8)
    assert (display.rows == 7).all()
    assert display.strategy == "signed"
    assert TaskGainDisplay.from_path(surface, "step").mean.percent >= 0  # the best pair is no worse than one of them
    assert display.plot().ax_ is not None
    with pytest.raises(InputError, match="per_task=True"):
        TaskGainDisplay.from_path(path.evaluate(new))
    with pytest.raises(InputError, match="holds no train rate 0"):
        TaskGainDisplay.from_path(ut.rate_path(new, [0.1]).evaluate(new, per_task=True))


def test_a_surface_from_a_path_has_two_names():
    problem = ut.MixedLinearRegression(3, noise_std=0.5)
    tasks = problem.sample(ut.Design(8, 5, 5), seed=0)
    surface = ut.rate_path(tasks).evaluate(problem.sample(ut.Design(8, 5, 5), seed=1))
    one, other = LossSurfaceDisplay.from_path(surface), LossSurfaceDisplay.from_surface(surface)
    np.testing.assert_array_equal(one.mse, other.mse)
    assert one.best == other.best
