"""The rate path against least squares on stacked rows, in every regime, and its outcomes and errors."""

import numpy as np
import pytest
import stacked
from hypothesis import given, settings
from hypothesis import strategies as st

import undertow as ut
from undertow import _circle
from undertow.linear import circle
from undertow.linear.blocks import chunks
from undertow.linear.outer_problem import OuterProblem

RATES = [-np.inf, -4.0, -0.7, -0.05, 0.0, 0.1, 0.9, 3.0, np.inf]
SIZES = {"tall": (8, 20, 12, 5), "wide": (30, 4, 40, 3), "square": (12, 3, 30, 4), "long": (5, 2, 9, 40)}


def sample(p, m, n_t, n_v, seed=3):
    return ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p)).sample(
        ut.Design(m, n_t, n_v), seed
    )


def check(tasks, path, rates, steps, init, tolerance):
    for i, rate in enumerate(rates):
        truth = stacked.solve(tasks, rate, steps, init)
        assert stacked.relative(path.weights[i], truth) < tolerance, rate
        if np.isfinite(rate):
            loss = stacked.meta_loss(tasks, truth, rate, steps)
            assert path.meta_loss[i] == pytest.approx(loss, rel=1e-9, abs=1e-20)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("with_init", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_path_equals_least_squares_on_stacked_rows(shape, with_init, steps):
    tasks = sample(*SIZES[shape])
    init = np.random.default_rng(0).standard_normal(tasks.n_features) if with_init else None
    path = ut.rate_path(tasks, RATES, init=init, steps=steps)
    check(tasks, path, RATES, steps, init, 1e-10)


@pytest.mark.parametrize("solver", ["gram", "dual", "rows"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_solver_gives_the_same_weights(solver, steps):
    tasks = sample(*SIZES["wide" if solver == "dual" else "tall"])
    init = np.random.default_rng(1).standard_normal(tasks.n_features)
    check(tasks, ut.rate_path(tasks, RATES, init=init, steps=steps, solver=solver), RATES, steps, init, 1e-10)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("weighting", ["rows", "tasks"])
def test_one_rate_alone_gives_what_it_gives_among_others(weighting, steps):
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    init = np.linspace(-1, 1, 6)
    options = {"init": init, "steps": steps, "weighting": weighting, "solver": "gram"}
    whole = ut.rate_path(tasks, RATES, ridge=[0.0, 0.1], **options)
    for i, rate in enumerate(RATES):
        one = ut.rate_path(tasks, rate, ridge=[0.0, 0.1], **options)
        assert stacked.relative(one.weights[0], whole.weights[i]) < 1e-10
        np.testing.assert_allclose(one.meta_loss[0], whole.meta_loss[i], rtol=1e-9)
        np.testing.assert_array_equal(one.outcome[0], whole.outcome[i])
        assert stacked.relative(one.at(0.3).weights, whole.at(0.3).weights) < 1e-10


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("solver", ["gram", "rows", "auto"])
def test_ragged_tasks_count_every_real_row_once(solver, steps):
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    path = ut.rate_path(tasks, RATES, steps=steps, solver=solver)
    check(tasks, path, RATES, steps, None, 1e-10)
    assert path.n_rows == tasks.query_mask.sum()


def test_ragged_tasks_are_trimmed_and_not_only_masked():
    # Masks that are not "real rows first" take another way through the code: same answer.
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    turned = tasks._replace(
        query_x=tasks.query_x[:, ::-1], query_y=tasks.query_y[:, ::-1], query_mask=tasks.query_mask[:, ::-1]
    )
    ours, theirs = (ut.rate_path(t, RATES, solver="gram").weights for t in (tasks, turned))
    np.testing.assert_allclose(ours, theirs, rtol=1e-11)


@pytest.mark.parametrize("weighting", ["rows", "tasks"])
def test_chunks_do_not_change_the_sums(weighting):
    # Large enough for two chunks at least: 400 tasks of up to 30 rows, each of 3 (20 + 1) numbers.
    tasks = stacked.ragged(sample(20, 400, 10, 30))
    assert len(list(chunks(tasks, 2))) > 1
    parts = ut.Moments.from_tasks(tasks, 2, weighting)
    whole = ut.Moments.from_tasks([tasks.select(slice(i, i + 1)) for i in range(400)], 2, weighting)
    np.testing.assert_allclose(parts.gram, whole.gram, rtol=1e-12, atol=1e-12 * abs(whole.gram).max())
    assert (parts.n_rows, parts.weight, parts.n_tasks) == (whole.n_rows, whole.weight, whole.n_tasks)


@pytest.mark.parametrize("solver", ["gram", "dual", "rows"])
def test_rates_in_parts_are_the_same_rates(solver):
    problem = OuterProblem.of(sample(*SIZES["wide" if solver == "dual" else "tall"]), solver=solver)
    turns, _ = circle.coefficients(np.array(RATES), problem.scale, 1)
    whole, parts = (problem.solve(turns, np.array([0.0, 0.1]), at_once=size) for size in (1 << 24, 250))
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parts.residual, whole.residual, rtol=1e-12, atol=1e-20)
    assert (parts.outcome == whole.outcome).all()


@pytest.mark.parametrize("shape", ["tall", "wide"])
@pytest.mark.parametrize("solver", ["auto", "gram", "dual", "rows"])
def test_ridges(shape, solver):
    tasks = sample(*SIZES[shape])
    ridges = [0.0, 1e-4, 0.1, 10.0]
    init = np.random.default_rng(2).standard_normal(tasks.n_features)
    if solver == "gram" and shape == "wide":
        ridges = ridges[1:]
    if solver == "dual" and shape == "tall":
        ridges = ridges[1:]
    many = ut.rate_path(tasks, RATES, ridge=ridges, init=init, solver=solver)
    assert many.weights.shape == (len(RATES), len(ridges), tasks.n_features)
    for j, ridge in enumerate(ridges):
        one = ut.rate_path(tasks, RATES, ridge=ridge, init=init, solver=solver)
        for i, rate in enumerate(RATES):
            truth = stacked.solve(tasks, rate, 1, init, ridge)
            assert stacked.relative(many.weights[i, j], truth) < 1e-10
            assert stacked.relative(one.weights[i], truth) < 1e-10
            if np.isfinite(rate):
                loss = stacked.meta_loss(tasks, truth, rate)
                # From moments the loss is a difference of sums of the size of the targets' squares.
                size = np.mean(stacked.outer_rows(tasks, rate, 1)[1] ** 2) if solver == "gram" else 0.0
                assert many.meta_loss[i, j] == pytest.approx(loss, rel=1e-8, abs=1e-13 * size + 1e-20)


@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_of_the_meta_loss_vanishes_at_the_solution(steps):
    tasks = sample(*SIZES["tall"])
    path = ut.rate_path(tasks, [-0.5, 0.3], steps=steps)
    for rate, weights in zip(path.train_rates, path.weights, strict=True):
        gradient = [
            (stacked.meta_loss(tasks, weights + d, rate, steps) - stacked.meta_loss(tasks, weights - d, rate, steps))
            / 2e-4
            for d in 1e-4 * np.eye(tasks.n_features)
        ]
        away = [
            (
                stacked.meta_loss(tasks, weights + 1 + d, rate, steps)
                - stacked.meta_loss(tasks, weights + 1 - d, rate, steps)
            )
            / 2e-4
            for d in 1e-4 * np.eye(tasks.n_features)
        ]
        assert np.linalg.norm(gradient) < 1e-9 * max(1, np.linalg.norm(away))
        assert np.linalg.norm(away) > 0.1


@settings(max_examples=40, deadline=None)
@given(
    p=st.integers(1, 12),
    m=st.integers(1, 6),
    n_t=st.integers(1, 8),
    n_v=st.integers(1, 6),
    rate=st.floats(-3, 3, allow_nan=False),
    seed=st.integers(0, 10_000),
)
def test_any_sizes_give_the_least_meta_loss_and_the_least_distance(p, m, n_t, n_v, rate, seed):
    tasks = sample(p, m, n_t, n_v, seed)
    path = ut.rate_path(tasks, rate)
    truth = stacked.solve(tasks, rate)
    matrix, _ = stacked.outer_rows(tasks, rate, 1)
    condition = np.linalg.cond(matrix)
    if condition < 1e4:
        assert stacked.relative(path.weights[0], truth) < 1e-9
        assert path.rank[0] == min(matrix.shape)


def test_rates_live_on_a_circle():
    tasks = sample(*SIZES["tall"])
    path = ut.rate_path(tasks, [-np.inf, np.inf, -1e9, 1e9, -0.0, 0.0])
    np.testing.assert_allclose(path.weights[0], path.weights[1], rtol=1e-12)
    np.testing.assert_allclose(path.weights[2], path.weights[0], rtol=1e-6)
    np.testing.assert_allclose(path.weights[3], path.weights[0], rtol=1e-6)
    np.testing.assert_array_equal(path.weights[4], path.weights[5])
    assert np.isinf(path.meta_loss[0])


def test_default_grid_is_symmetric_reaches_infinity_and_contains_zero():
    path = ut.rate_path(sample(*SIZES["tall"]))
    assert len(path.train_rates) == 101
    assert path.train_rates[50] == 0.0
    assert np.isneginf(path.train_rates[0])
    assert np.isposinf(path.train_rates[-1])
    np.testing.assert_array_equal(path.train_rates, -path.train_rates[::-1])
    np.testing.assert_allclose(np.diff(path.angles), np.pi / 100)


def test_scale_is_one_over_the_top_eigenvalue_of_the_mean_support_moment():
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    mean = np.mean(
        [x[mask].T @ x[mask] / mask.sum() for x, mask in zip(tasks.support_x, tasks.support_mask, strict=True)], axis=0
    )
    path = ut.rate_path(tasks, [1.0], rate_unit="spectral")
    assert path.scale == pytest.approx(1 / np.linalg.eigvalsh(mean)[-1], rel=1e-12)
    assert path.train_rates[0] == pytest.approx(path.scale)
    assert path.spectral_rates[0] == pytest.approx(1.0)


def test_weighting_by_tasks():
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    weights = 1 / tasks.query_counts
    path = ut.rate_path(tasks, [-0.3], weighting="tasks")
    matrix, target = stacked.outer_rows(tasks, -0.3, 1)
    root = np.sqrt(np.repeat(weights, tasks.query_counts))
    truth = np.linalg.lstsq(root[:, None] * matrix, root * target, rcond=None)[0]
    assert stacked.relative(path.weights[0], truth) < 1e-10
    of_tasks = [stacked.meta_loss(tasks.select(slice(i, i + 1)), path.weights[0], -0.3) for i in range(tasks.n_tasks)]
    assert path.meta_loss[0] == pytest.approx(np.mean(of_tasks), rel=1e-12)
    assert stacked.relative(ut.rate_path(tasks, [-0.3]).weights[0], truth) > 1e-4


def test_float32_stays_float32_and_close():
    problem = ut.MixedLinearRegression(16, 0.5, 1.0)
    exact = problem.sample(ut.Design(400, 16, 16), 5, dtype=np.float32)
    wide = ut.TaskBatch(*(None if a is None else a.astype(np.float64) for a in exact))
    for solver in ("gram", "rows"):
        path = ut.rate_path(exact, RATES, solver=solver)
        assert path.weights.dtype == np.float32
        truth = ut.rate_path(wide, RATES, solver="rows")
        np.testing.assert_allclose(path.weights, truth.weights, atol=2e-5 * abs(truth.weights).max())


def test_a_sequence_of_batches_is_one_problem():
    tasks = sample(*SIZES["tall"])
    halves = [tasks.select(slice(0, 7)), tasks.select(slice(7, None))]
    for solver in ("gram", "rows"):
        ours = ut.rate_path(halves, RATES, solver=solver)
        np.testing.assert_allclose(ours.weights, ut.rate_path(tasks, RATES).weights, rtol=1e-9, atol=1e-12)
    wide = sample(*SIZES["wide"])
    ours = ut.rate_path([wide.select([0]), wide.select([1, 2, 3])], RATES, solver="dual")
    np.testing.assert_allclose(ours.weights, ut.rate_path(wide, RATES).weights, rtol=1e-9, atol=1e-12)


def test_at_gives_further_rates_of_the_same_problem():
    tasks = sample(*SIZES["tall"])
    init = np.ones(tasks.n_features)
    path = ut.rate_path(tasks, [0.0], init=init, ridge=0.1)
    assert stacked.relative(path.at(-0.37).weights[0], stacked.solve(tasks, -0.37, 1, init, 0.1)) < 1e-10


def test_circle_helpers():
    assert _circle.grid(5)[2] == 0
    with pytest.raises(ut.InputError, match="n_rates=4"):
        _circle.grid(4)
    np.testing.assert_allclose(_circle.rates_of(_circle.angles_of(np.array([-2.0, 0.5]), 0.7), 0.7), [-2.0, 0.5])
