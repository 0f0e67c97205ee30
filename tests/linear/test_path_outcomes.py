"""How solutions are named, how digits are kept, and what numbers are taken."""

import numpy as np
import pytest
import stacked

import undertow as ut

RATES = [-np.inf, -4.0, -0.7, -0.05, 0.0, 0.1, 0.9, 3.0, np.inf]
SIZES = {"tall": (8, 20, 12, 5), "wide": (30, 4, 40, 3)}


def sample(p, m, n_t, n_v, seed=3):
    return ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p)).sample(
        ut.Design(m, n_t, n_v), seed
    )


def test_outcomes_are_named():
    tall, wide = sample(*SIZES["tall"]), sample(*SIZES["wide"])
    assert set(ut.rate_path(tall, RATES).outcome) == {"full_rank"}
    assert set(ut.rate_path(wide, RATES).outcome) == {"minimum_norm"}
    assert set(ut.rate_path(wide, RATES, solver="dual").outcome) == {"minimum_norm"}
    assert set(ut.rate_path(wide, RATES, ridge=1e-3).outcome) == {"ridge"}
    assert "full rank (rank 8 of 8" in ut.rate_path(tall, RATES).explain(3)


@pytest.mark.parametrize("solver", ["gram", "rows", "auto"])
def test_a_repeated_column_gives_the_minimum_norm_solution(solver):
    tasks = sample(*SIZES["tall"])
    twice = tasks._replace(
        support_x=np.concatenate([tasks.support_x, tasks.support_x[..., :1]], axis=2),
        query_x=np.concatenate([tasks.query_x, tasks.query_x[..., :1]], axis=2),
    )
    path = ut.rate_path(twice, [-0.5, 0.0, 0.2], solver=solver)
    assert set(path.outcome) == {"minimum_norm"}
    assert set(path.rank) == {8}
    for i, rate in enumerate(path.train_rates):
        truth = stacked.solve(twice, rate)
        assert stacked.relative(path.weights[i], truth) < 1e-10
        assert truth[0] == pytest.approx(truth[-1])


def test_nearly_collinear_columns_are_called_ill_conditioned_and_auto_mends_them():
    rng = np.random.default_rng(0)
    tasks = sample(8, 60, 12, 30)
    near = tasks._replace(
        support_x=np.concatenate(
            [tasks.support_x, tasks.support_x[..., :1] + 1e-5 * rng.standard_normal((60, 12, 1))], axis=2
        ),
        query_x=np.concatenate(
            [tasks.query_x, tasks.query_x[..., :1] + 1e-5 * rng.standard_normal((60, 30, 1))], axis=2
        ),
    )
    rough = ut.rate_path(near, [-0.5, 0.0], solver="gram")
    assert set(rough.outcome) == {"ill_conditioned"}
    assert (rough.condition > 1e4).all()
    assert "ridge" in rough.explain(0)
    path = ut.rate_path(near, [-0.5, 0.0])
    assert set(path.outcome) == {"full_rank"}
    for i, rate in enumerate(path.train_rates):
        truth = stacked.solve(near, rate)
        assert stacked.relative(path.weights[i], truth) < 1e-9
        assert stacked.relative(rough.weights[i], truth) > stacked.relative(path.weights[i], truth)
    assert path.condition[1] == pytest.approx(np.linalg.cond(stacked.outer_rows(near, 0.0, 1)[0]), rel=1e-6)


def test_auto_goes_over_to_rows_where_moments_lose_digits():
    # A problem too large for the row solver to be the first choice.
    rng = np.random.default_rng(0)
    tasks = sample(60, 40, 10, 20)
    rates = np.linspace(-0.2, 0.0, 60)
    near = tasks._replace(query_x=tasks.query_x.copy(), support_x=tasks.support_x.copy())
    near.query_x[..., 5] = near.query_x[..., 0] + 1e-6 * rng.standard_normal(near.query_x.shape[:2])
    near.support_x[..., 5] = near.support_x[..., 0]
    path = ut.rate_path(near, rates)
    for i in (0, 30, 59):
        assert stacked.relative(path.weights[i], stacked.solve(near, rates[i])) < 1e-7
    # A solver is made where it is needed, and here one pass over the tasks is enough.
    assert "rows" in vars(path.problem)
    assert "rows" not in vars(ut.rate_path(tasks, rates).problem)


@pytest.mark.parametrize("steps", [5, 8, 15, 30])
@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_many_steps_keep_their_digits(shape, steps):
    # Powers of S alternate in sign: added up, their digits cancel. Then the steps are taken one by one.
    tasks = sample(*SIZES[shape])
    init = np.linspace(0, 1, tasks.n_features)
    rates = np.array([-0.2, 0.3, 1.0]) * ut.rate_path(tasks, 0.0).scale
    path = ut.rate_path(tasks, rates, steps=steps, init=init)
    for i, rate in enumerate(rates):
        if path.outcome[i] != "ill_conditioned":
            matrix, _ = stacked.outer_rows(tasks, rate, steps)
            assert stacked.relative(path.weights[i], stacked.solve(tasks, rate, steps, init)) < 1e-9 * np.linalg.cond(
                matrix
            )
    assert (path.outcome != "ill_conditioned").any()


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_stepwise_solver_equals_the_others(steps):
    tasks = stacked.ragged(sample(6, 40, 10, 9))
    for weighting in ("rows", "tasks"):
        path = ut.rate_path(
            tasks, [-0.3, 0.0, 0.2, np.inf], steps=steps, solver="stepwise", weighting=weighting, ridge=[0.0, 0.1]
        )
        if steps < 8:
            theirs = ut.rate_path(
                tasks, [-0.3, 0.0, 0.2, np.inf], steps=steps, solver="rows", weighting=weighting, ridge=[0.0, 0.1]
            )
            np.testing.assert_allclose(path.weights, theirs.weights, rtol=1e-9, atol=1e-12)
        elif weighting == "rows":
            assert stacked.relative(path.weights[0, 0], stacked.solve(tasks, -0.3, steps)) < 1e-9


def test_digits_that_cancel_are_told():
    tasks = sample(4, 50, 40, 10)
    rate = ut.rate_path(tasks, 0.0).scale
    rough = ut.rate_path(tasks, rate, steps=8, solver="gram")
    error = stacked.relative(rough.weights[0], stacked.solve(tasks, rate, 8))
    assert rough.outcome[0] == "ill_conditioned" or error < 1e-6
    assert ut.rate_path(tasks, -rate, steps=8, solver="gram").outcome[0] == "full_rank"


@pytest.mark.parametrize("kind", ["int64", "int8", "bool", ">f8", "float16", "lists"])
def test_any_kind_of_numbers_is_taken(kind):
    rng = np.random.default_rng(0)
    fields = [rng.integers(0, 2, shape) for shape in [(9, 6, 3), (9, 6), (9, 4, 3), (9, 4)]]
    exact = ut.rate_path(ut.TaskBatch(*(a.astype(float) for a in fields)), [-0.2, 0.0, 0.3])
    given = [a.tolist() if kind == "lists" else a.astype(kind) for a in fields]
    path = ut.rate_path(ut.TaskBatch(*given), [-0.2, 0.0, 0.3])
    assert path.weights.dtype == (np.float32 if kind == "float16" else np.float64)
    np.testing.assert_allclose(path.weights, exact.weights, atol=1e-5 if kind == "float16" else 1e-12)
    theta = ut.linear.adapt([1, 2, 3], ut.TaskBatch(*given), 0.1)
    np.testing.assert_allclose(theta, ut.linear.adapt(np.array([1.0, 2, 3]), ut.TaskBatch(*fields), 0.1), rtol=1e-6)
    limits = ut.linear.stability_limit(ut.TaskBatch(*given))
    np.testing.assert_allclose(limits, ut.linear.stability_limit(ut.TaskBatch(*fields)), rtol=1e-5)


@pytest.mark.parametrize("kind", [int, float, np.uint8, list])
def test_masks_of_zeros_and_ones_are_masks(kind):
    tasks = stacked.ragged(sample(3, 12, 6, 4))
    exact = ut.rate_path(tasks, [-0.2, 0.3])
    masks = {n: getattr(tasks, n) for n in ("support_mask", "query_mask")}
    given = {n: m.tolist() if kind is list else m.astype(kind) for n, m in masks.items()}
    np.testing.assert_array_equal(ut.rate_path(tasks._replace(**given), [-0.2, 0.3]).weights, exact.weights)
    with pytest.raises(ut.InputError, match="query_mask holds other values"):
        ut.rate_path(tasks._replace(query_mask=tasks.query_mask * 2), [0.1])


def test_rank_is_that_of_the_problem_before_the_ridge():
    wide, tall = sample(*SIZES["wide"]), sample(*SIZES["tall"])
    flat = tall._replace(support_x=tall.support_x.copy(), query_x=tall.query_x.copy())
    flat.support_x[..., 2] = flat.query_x[..., 2] = 0
    for solver in ("gram", "rows"):
        assert set(ut.rate_path(wide, [-0.3, 0.2], ridge=0.1, solver=solver).rank) == {12}
        assert set(ut.rate_path(flat, [-0.3, 0.2], ridge=0.1, solver=solver).rank) == {7}
        assert set(ut.rate_path(tall, [-0.3, 0.2], ridge=0.1, solver=solver).rank) == {8}
    assert set(ut.rate_path(wide, [-0.3, 0.2], ridge=0.1, solver="dual").rank) == {12}


@pytest.mark.parametrize("solver", ["gram", "rows", "dual", "auto"])
def test_inputs_of_zeros_leave_the_start_as_it_is(solver):
    tasks = sample(*SIZES["tall"])
    nothing = tasks._replace(support_x=0 * tasks.support_x, query_x=0 * tasks.query_x)
    for ridge, name in ((0.0, "minimum_norm"), (0.1, "ridge")):
        path = ut.rate_path(nothing, [-0.5, 0.0], ridge=ridge, init=np.ones(8), solver=solver)
        np.testing.assert_array_equal(path.weights, np.ones((2, 8)))
        assert set(path.outcome) == {name}
        assert set(path.rank) == {0}


@pytest.mark.parametrize(("size", "dtype"), [(1e-12, np.float32), (1e-120, np.float64), (1e120, np.float64)])
def test_sizes_that_leave_the_range_of_numbers_are_refused(size, dtype):
    tasks = sample(*SIZES["tall"])
    tiny = tasks._replace(
        support_x=(size * tasks.support_x).astype(dtype), query_x=(size * tasks.query_x).astype(dtype)
    )
    with pytest.raises(ut.InputError, match=r"Scale the features|too large"):
        ut.rate_path(tiny, [0.1])
