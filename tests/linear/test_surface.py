"""The loss surface and adaptation against gradient steps written out task by task."""

import numpy as np
import pytest
import stacked

import undertow as ut
from undertow.linear import adapt, stability_limit


def sample(p, m, n_t, n_v, seed=3):
    return ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p)).sample(
        ut.Design(m, n_t, n_v), seed
    )


def test_losses(tasks, weights, rate, steps):
    """Loss of each task after gradient steps, by hand."""
    losses, counts = [], []
    for i in range(tasks.n_tasks):
        x_t, y_t, x_v, y_v = stacked.task(tasks, i)
        theta = np.array(weights, dtype=float)
        for _ in range(steps):
            theta = theta - rate * x_t.T @ (x_t @ theta - y_t) / len(x_t)
        losses.append(0.5 * np.mean((x_v @ theta - y_v) ** 2))
        counts.append(len(y_v))
    return np.array(losses), np.array(counts)


test_losses.__test__ = False


@pytest.fixture(params=["regular", "ragged"])
def new_tasks(request):
    tasks = sample(5, 13, 8, 6, seed=11)
    return stacked.ragged(tasks) if request.param == "ragged" else tasks


@pytest.fixture
def path():
    return ut.rate_path(sample(5, 20, 8, 6), [-0.5, 0.0, 0.3, np.inf])


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("weighting", ["rows", "tasks"])
def test_loss_equals_gradient_steps_by_hand(path, new_tasks, steps, weighting):
    surface = path.evaluate(new_tasks, steps=steps, per_task=True, weighting=weighting)
    plain = path.evaluate(new_tasks, steps=steps, weighting=weighting)
    for rate in (-0.2, 0.0, 0.35):
        assert plain.loss(rate).shape == (4,)
        for i, weights in enumerate(path.weights):
            losses, counts = test_losses(new_tasks, weights, rate, steps)
            mean = np.average(losses, weights=counts if weighting == "rows" else None)
            assert plain.loss(rate)[i] == pytest.approx(mean, rel=1e-12)
            assert surface.loss(rate)[i] == pytest.approx(mean, rel=1e-12)
            np.testing.assert_allclose(surface.task_loss(rate)[:, i], losses, rtol=1e-11)
    np.testing.assert_array_equal(surface.task_rows, counts)
    mean = np.average(surface.task_loss(0.2), axis=0, weights=counts if weighting == "rows" else None)
    np.testing.assert_allclose(mean, surface.loss(0.2), rtol=1e-12)


def test_many_adapt_rates_at_once(path, new_tasks):
    surface = path.evaluate(new_tasks)
    rates = np.array([-0.3, 0.0, 0.4])
    np.testing.assert_allclose(surface.loss(rates), np.stack([surface.loss(r) for r in rates], axis=1), rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_best_adapt_rate_is_the_global_minimum(path, new_tasks, steps):
    surface = path.evaluate(new_tasks, steps=steps)
    best = surface.best_adapt_rate
    grid = np.linspace(-3, 3, 60_001)
    losses = surface.loss(grid)
    for i, rate in enumerate(best):
        at = surface.loss(rate)[i]
        assert at <= losses[i].min() * (1 + 1e-9)
        assert rate == pytest.approx(grid[losses[i].argmin()], abs=2e-4)
    np.testing.assert_allclose(surface.best_loss, [surface.loss(r)[i] for i, r in enumerate(best)], rtol=1e-12)


def test_best_pair_and_its_refinement():
    problem, design = ut.MixedLinearRegression(60, 1.0, 0.5), ut.Design(3, 30, 2, 20)
    path = ut.rate_path(problem.sample(design, seed=0))
    new = problem.sample(design.new_tasks(50, 20), seed=1)
    surface = path.evaluate(new)
    best, fine = surface.best(), path.refine(surface, new)
    losses = surface.best_loss
    assert best.loss == losses.min()
    assert path.train_rates[best.position] == best.train_rate
    assert fine.loss < best.loss
    assert abs(np.arctan(fine.train_rate / path.scale) - np.arctan(best.train_rate / path.scale)) < np.pi / 100
    near = path.at(fine.train_rate + np.array([-1e-3, 0, 1e-3]) * path.scale).evaluate(new).best_loss
    assert near[1] <= near.min() + 1e-12


def test_refinement_keeps_the_weighting():
    tasks, new = stacked.ragged(sample(5, 20, 8, 6)), stacked.ragged(sample(5, 13, 8, 6, seed=11), seed=4)
    for seed in range(5):
        path = ut.rate_path(stacked.ragged(sample(5, 20, 8, 6, seed), seed), weighting="tasks")
        fine = path.refine(path.evaluate(new, weighting="tasks"), new)
        again = path.at(fine.train_rate).evaluate(new, weighting="tasks")
        assert fine.loss == pytest.approx(again.best_loss[0], rel=1e-10)
    assert path.evaluate(ut.Moments.from_tasks(tasks, weighting="tasks")).weighting == "tasks"
    with pytest.raises(ut.InputError, match="moments were made with 'tasks'"):
        path.evaluate(ut.Moments.from_tasks(tasks, weighting="tasks"), weighting="rows")
    with pytest.raises(ut.InputError, match="moments were made with 'rows'"):
        ut.rate_path(ut.Moments.from_tasks(tasks), [0.1], weighting="tasks")
    with pytest.raises(ut.InputError, match="one weighting"):
        ut.Moments.from_tasks(tasks) + ut.Moments.from_tasks(tasks, weighting="tasks")


def test_a_loss_is_never_negative_and_records_compare_by_identity():
    one = ut.MixedLinearRegression(1, 0.0, 1.0).sample(ut.Design(1, 1, 1), 0)
    path = ut.rate_path(one, [-1.0, 0.5])
    surface = path.evaluate(one)
    assert (surface.loss(np.linspace(-2, 2, 101)) >= 0).all()
    assert (surface.best_loss >= 0).all()
    assert path == path
    assert path != ut.rate_path(one, [-1.0, 0.5])
    assert len({path, surface}) == 2
    assert len(repr(surface)) < 200


def test_best_pair_with_ridges():
    problem, design = ut.MixedLinearRegression(60, 1.0, 0.5), ut.Design(3, 30, 2, 20)
    path = ut.rate_path(problem.sample(design, seed=0), [-1.0, 0.0, 0.2], ridge=[0.0, 0.1, 1.0])
    new = problem.sample(design.new_tasks(50, 20), seed=1)
    surface = path.evaluate(new)
    assert surface.loss(0.2).shape == (3, 3)
    assert surface.loss(np.array([0.1, 0.2])).shape == (3, 3, 2)
    best = surface.best()
    k, r = np.unravel_index(surface.best_loss.argmin(), (3, 3))
    assert (best.train_rate, best.ridge) == (path.train_rates[k], path.ridges[r])
    assert path.refine(surface, new).loss <= best.loss


def test_moments_give_the_same_surface(path, new_tasks):
    for steps in (1, 2):
        moments = ut.Moments.from_tasks(new_tasks, steps)
        np.testing.assert_allclose(
            path.evaluate(moments, steps=steps).products, path.evaluate(new_tasks, steps=steps).products, rtol=1e-10
        )


def test_moments_of_two_halves_add_up():
    tasks = stacked.ragged(sample(5, 21, 8, 6))
    for steps in (1, 3):
        for weighting in ("rows", "tasks"):
            whole = ut.Moments.from_tasks(tasks, steps, weighting)
            parts = [
                ut.Moments.from_tasks(tasks.select(part), steps, weighting) for part in (slice(0, 8), slice(8, None))
            ]
            total = parts[0] + parts[1]
            np.testing.assert_allclose(total.gram, whole.gram, rtol=1e-12, atol=1e-12 * abs(whole.gram).max())
            assert total.scale == pytest.approx(whole.scale, rel=1e-12)
            assert (total.weight, total.n_rows, total.n_tasks) == (whole.weight, whole.n_rows, whole.n_tasks)
            ours = ut.rate_path(total, [-0.3, 0.2], steps=steps, weighting=weighting)
            theirs = ut.rate_path(tasks, [-0.3, 0.2], steps=steps, weighting=weighting)
            np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-9)
            np.testing.assert_allclose(ours.meta_loss, theirs.meta_loss, rtol=1e-9)


def test_moments_with_a_starting_point_and_ridge():
    tasks, init = sample(5, 21, 8, 6), np.arange(5.0)
    ours = ut.rate_path(ut.Moments.from_tasks(tasks), [-0.3], ridge=0.2, init=init)
    assert stacked.relative(ours.weights[0], stacked.solve(tasks, -0.3, 1, init, 0.2)) < 1e-10


@pytest.mark.parametrize("steps", [1, 3])
def test_adapt_is_gradient_steps(new_tasks, steps):
    weights = np.linspace(0, 1, 5)
    theta = adapt(weights, new_tasks, 0.3, steps)
    losses, _ = test_losses(new_tasks, weights, 0.3, steps)
    for i in range(new_tasks.n_tasks):
        one = new_tasks.select(slice(i, i + 1))
        ours, _ = test_losses(one, theta[i], 0.0, 1)
        assert ours[0] == pytest.approx(losses[i], rel=1e-12)
    np.testing.assert_allclose(adapt(np.tile(weights, (13, 1)), new_tasks, 0.3, steps), theta)


def test_a_negative_adapt_rate_warns_and_is_taken(new_tasks):
    weights = np.zeros(5)
    with pytest.warns(UserWarning, match="adapt_rate=-0.1 is negative"):
        theta = adapt(weights, new_tasks, -0.1)
    np.testing.assert_allclose(theta, -adapt(weights, new_tasks, 0.1))


def test_stability_limit(new_tasks):
    limits = stability_limit(new_tasks)
    for i in range(new_tasks.n_tasks):
        mask = slice(None) if new_tasks.support_mask is None else new_tasks.support_mask[i]
        x = new_tasks.support_x[i][mask]
        assert limits[i] == pytest.approx(2 / np.linalg.eigvalsh(x.T @ x / len(x))[-1], rel=1e-10)


@pytest.mark.wrong_type
def test_bad_input(path, new_tasks):
    surface = path.evaluate(new_tasks)
    with pytest.raises(ut.InputError, match="adapt_rate=inf"):
        surface.loss(np.inf)
    with pytest.raises(ut.InputError, match="per_task=True"):
        surface.task_loss(0.1)
    with pytest.raises(ut.InputError, match="the new tasks have 4 features, but the weights were trained on 5"):
        path.evaluate(sample(4, 3, 3, 3))
    with pytest.raises(ut.InputError, match="moments of 1 steps"):
        path.evaluate(ut.Moments.from_tasks(new_tasks), steps=2)
    with pytest.raises(ut.InputError, match="cannot be added"):
        ut.Moments.from_tasks(new_tasks) + ut.Moments.from_tasks(new_tasks, 2)
    with pytest.raises(ut.InputError, match="steps=2: the moments were made for 1"):
        ut.rate_path(ut.Moments.from_tasks(new_tasks), [0.1], steps=2)
    with pytest.raises(ut.InputError, match="needs the tasks themselves"):
        ut.rate_path(ut.Moments.from_tasks(new_tasks), [0.1], solver="rows")
    with pytest.raises(ut.InputError, match=r"weights have shape \(4,\)"):
        adapt(np.zeros(4), new_tasks, 0.1)
    with pytest.raises(ut.InputError, match="steps=9"):
        path.evaluate(new_tasks, steps=9)
    with pytest.raises(ut.InputError, match="beyond 1e50"):
        surface.loss(1e60)
    with pytest.raises(ut.InputError, match="adapt_rate=True"):
        adapt(np.zeros(5), new_tasks, True)
    np.testing.assert_array_equal(adapt(np.zeros(5), new_tasks, np.array(0.3)), adapt(np.zeros(5), new_tasks, 0.3))
    bad = new_tasks._replace(query_y=np.full_like(new_tasks.query_y, np.nan))
    with pytest.raises(ut.InputError, match="query_y"):
        path.evaluate(bad)
