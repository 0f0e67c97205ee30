"""The mixed model against dense matrices, against statsmodels, and against the truth it was drawn from."""

import warnings

import numpy as np
import pytest
from mixed_tables import MEAN, ROOT, draw, same

import undertow as ut
from undertow.mixed import MixedRule
from undertow.mixed.likelihood import Model, evaluate
from undertow.mixed.model import STRUCTURES, components_of, fit_mixed, shrunk_fit
from undertow.mixed.scoring import root_of, search_components
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable


@pytest.mark.parametrize("rows", [7, (1, 12)])
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("structure", ["intercept", "diagonal", "full"])
def test_fits_are_those_of_statsmodels_and_no_less_likely(rows, method, structure):
    sm = pytest.importorskip("statsmodels.api")
    from statsmodels.regression.mixed_linear_model import MixedLMParams

    table = draw(60, rows)
    free = None
    if structure == "diagonal":
        free = MixedLMParams.from_components(fe_params=np.ones(3), cov_re=np.eye(3))
    random = table.x[:, -1:] if structure == "intercept" else table.x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sm.MixedLM(table.y, table.x, table.groups, exog_re=random).fit(
            reml=method == "reml", method=["bfgs", "powell"], free=free
        )
    ours = fit_mixed(table, structure, method=method, mean_scale=np.inf)
    assert ours.converged
    assert ours.log_likelihood >= theirs.llf - 1e-6
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-3)
    covariance = np.diag(ours.task_covariance) if ours.task_covariance.ndim == 1 else ours.task_covariance
    if structure == "intercept":
        covariance = covariance[-1:, -1:]
    np.testing.assert_allclose(covariance, np.asarray(theirs.cov_re), atol=2e-3)
    np.testing.assert_allclose(ours.mean, theirs.fe_params, atol=1e-3)
    assert ours.noise_variance == pytest.approx(theirs.scale, abs=1e-3)


@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_adapted_weights_are_the_dense_blup(structure):
    fit = fit_mixed(draw(40), structure)
    covariance = np.diag(fit.task_covariance) if structure == "diagonal" else fit.task_covariance
    new = ut.MixedLinearRegression(3, 0.5, 1.0).sample(ut.Design(6, 4, 3), seed=3)
    theta = fit.adapt(new)
    variance = fit.predict_variance(new)
    for i in range(6):
        x, y, q = new.support_x[i], new.support_y[i], new.query_x[i]
        v = x @ covariance @ x.T + fit.noise_variance * np.eye(4)
        gain = covariance @ x.T @ np.linalg.inv(v)
        np.testing.assert_allclose(theta[i], fit.mean + gain @ (y - x @ fit.mean), rtol=1e-9)
        # Variance of q.w + z - q.theta, mu's own error included: theta = (I - gain x) mu + gain y.
        rest = np.eye(3) - gain @ x
        own = covariance - gain @ x @ covariance
        brute = fit.noise_variance + np.diag(q @ (own + rest @ fit.mean_covariance @ rest.T) @ q.T)
        np.testing.assert_allclose(variance[i], brute, rtol=1e-9)
    # The mean weight of support rows counts in both.
    heavy = new._replace(support_x=2 * new.support_x, support_y=2 * new.support_y)
    by_weight = new._replace(support_weight=np.full(6, 4.0))
    np.testing.assert_allclose(fit.adapt(by_weight), fit.adapt(heavy), rtol=1e-12)
    np.testing.assert_allclose(fit.predict_variance(by_weight), fit.predict_variance(heavy), rtol=1e-12)
    for wrong in (np.ones(5), -np.ones(6)):
        with pytest.raises(ut.InputError, match="support_weight"):
            fit.adapt(new._replace(support_weight=wrong))
    finite = fit.penalties[np.isfinite(fit.penalties)]
    np.testing.assert_allclose(finite, fit.noise_variance / fit.variances[np.isfinite(fit.penalties)])


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_every_step_raises_the_likelihood_and_the_end_is_a_maximum(structure):
    stats = TaskStatistics.from_tasks(draw(30))
    model = Model(True, None, ~stats.constant)
    found = search_components(stats, components_of(stats, structure), model, 100, 1e-9)
    assert found.converged
    assert (np.diff(found.history) > 0).all()
    fit = fit_mixed(stats, structure, tolerance=1e-9)
    rng = np.random.default_rng(0)
    ratio = stats.target_unit / stats.unit
    inside = fit.task_covariance / (ratio**2 if fit.task_covariance.ndim == 1 else np.outer(ratio, ratio))
    noise = fit.noise_variance / stats.target_unit**2
    best = evaluate(stats, root_of(inside), noise, model).value
    for _ in range(10):
        # Multiplicative noise stays inside what the structure allows.
        factors = np.exp(0.1 * rng.standard_normal(3))
        factors = np.append(np.full(2, factors[0]), factors[2]) if structure == "isotropic" else factors
        near = inside * (factors if inside.ndim == 1 else np.outer(factors, factors))
        assert evaluate(stats, root_of(near), noise * np.exp(0.1 * rng.standard_normal()), model).value < best


def test_estimates_recover_the_truth_within_their_standard_errors():
    estimates = []
    for seed in range(40):
        fit = fit_mixed(draw(60, 6, seed=seed), "full", mean_scale=np.inf)
        estimates.append(np.concatenate([fit.mean, fit.task_covariance[np.tril_indices(3)], [fit.noise_variance]]))
    truth = np.concatenate([MEAN, (ROOT @ ROOT.T)[np.tril_indices(3)], [0.64]])
    # Variances are well inside the boundary here, where restricted likelihood is next to unbiased.
    z = (np.mean(estimates, axis=0) - truth) / (np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates)))
    assert abs(z).max() < 4


def test_the_standard_error_of_the_mean_is_honest():
    root = np.diag([0.6, 0.3, 0.5])
    fits = [fit_mixed(draw(40, 6, seed=100 + seed, root=root), mean_scale=np.inf) for seed in range(60)]
    z = np.array([(f.mean - MEAN) / np.sqrt(np.diag(f.mean_covariance)) for f in fits])
    # The mean square of 180 nearly standard normal numbers has standard error sqrt(2 / 180).
    assert abs((z**2).mean() - 1) / np.sqrt(2 / z.size) < 4


def test_no_difference_between_tasks_gives_pooled_least_squares():
    for seed in range(20):
        table = draw(30, 6, root=np.zeros((3, 1)), seed=seed)
        fit = fit_mixed(table, "intercept", mean_scale=np.inf)
        if not fit.variances.any():
            break
    assert fit.variances.max() == 0
    assert "no difference between tasks" in fit.outcome
    pooled = np.linalg.lstsq(table.x, table.y, rcond=None)[0]
    np.testing.assert_allclose(fit.mean, pooled, rtol=1e-9)
    np.testing.assert_allclose(fit.adapt(table.draw(3)), np.broadcast_to(pooled, (30, 3)), rtol=1e-9)
    assert np.isinf(fit.penalties).all()


def test_no_noise_gives_least_squares_of_each_task():
    table = draw(30, 6, noise=0.0)
    fit = fit_mixed(table, "full", mean_scale=np.inf)
    assert fit.noise_variance < 1e-6
    tasks = table.draw(4)
    for theta, x, y in zip(fit.adapt(tasks), tasks.support_x, tasks.support_y, strict=True):
        np.testing.assert_allclose(theta, np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-4)
    mean_of_tasks = np.mean(
        [np.linalg.lstsq(x, y, rcond=None)[0] for x, y in zip(tasks.support_x, tasks.support_y, strict=True)], axis=0
    )
    np.testing.assert_allclose(fit.mean, mean_of_tasks, atol=1e-4)


def test_batches_ragged_batches_and_tables_give_the_same_fit():
    table = draw(30, (4, 12))
    whole = fit_mixed(table)
    batch = table.draw(3, seed=1)
    garbage = batch._replace(query_x=np.where(batch.query_mask[..., None], batch.query_x, np.nan))
    same(whole, fit_mixed(garbage), 1e-6)
    same(whole, fit_mixed(table.draw_buckets(3, seed=2)), 1e-6)
    weights = [(np.full(b.support_y.shape, 1.0), np.full(b.query_y.shape, 1.0)) for b in table.draw_buckets(3, seed=2)]
    same(whole, fit_mixed(TaskStatistics.from_tasks(table.draw_buckets(3, seed=2), weights)), 1e-6)
    stats = TaskStatistics.from_tasks(table)
    part = np.arange(0, 30, 2)
    # Without the prior, whose unit is the root mean square over all tasks that the statistics were made from.
    same(fit_mixed(stats.select(part), mean_scale=np.inf), fit_mixed(table.select(part), mean_scale=np.inf), 1e-5)


@pytest.mark.parametrize("structure", ["intercept", "diagonal", "full"])
def test_units_of_features_and_target_do_not_matter(structure):
    table = draw(30)
    factors = np.array([1e6, 1e-5, 1.0])
    scaled = GroupedTable.from_arrays(table.x * factors, table.y * 1e3, table.groups)
    fit, other = fit_mixed(table, structure), fit_mixed(scaled, structure)
    np.testing.assert_allclose(other.mean * factors / 1e3, fit.mean, rtol=1e-3)
    outer = factors if fit.task_covariance.ndim == 1 else factors[:, None]
    back = other.task_covariance * (outer**2 if fit.task_covariance.ndim == 1 else outer * factors) / 1e6
    np.testing.assert_allclose(back, fit.task_covariance, atol=1e-3)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_awkward_tables_are_fitted(structure):
    rng = np.random.default_rng(0)
    base = draw(12, (1, 5))
    between = rng.standard_normal(12)[base.groups]  # constant within each task
    x = np.column_stack([base.x[:, :2], base.x[:, 0], np.zeros(base.n_rows), between, np.ones(base.n_rows)])
    fit = fit_mixed(GroupedTable.from_arrays(x, base.y, base.groups), structure)
    assert np.isfinite(fit.mean).all()
    assert np.isfinite(fit.task_covariance).all()
    assert (fit.variances >= 0).all() or structure == "intercept"
    assert abs(fit.mean[3]) < 1e-12
    assert fit.variances[3] == 0
    singles = GroupedTable.from_arrays(x, base.y, np.arange(base.n_rows))
    assert np.isfinite(fit_mixed(singles, structure).noise_variance)
    two = GroupedTable.from_arrays(x, base.y, base.groups % 2)
    assert np.isfinite(fit_mixed(two, structure).log_likelihood)
    constant = GroupedTable.from_arrays(x, np.ones(base.n_rows), base.groups)
    assert np.isfinite(fit_mixed(constant, structure).mean).all()


def test_many_features_use_steps_without_information_and_end_at_the_same_maximum(monkeypatch):
    stats = TaskStatistics.from_tasks(draw(60, 8))
    fast = fit_mixed(stats)
    monkeypatch.setattr("undertow.mixed.steps._WIDE", 1)
    slow = fit_mixed(stats, max_iterations=3000)
    assert slow.iterations > fast.iterations
    assert slow.log_likelihood == pytest.approx(fast.log_likelihood, abs=1e-4)


def test_variances_from_a_part_of_many_tasks_and_the_mean_from_all():
    table = draw(600, 6)
    whole, part = fit_mixed(table), fit_mixed(table, max_tasks=150, seed=4)
    assert (part.variance_tasks, part.n_tasks) == (150, 600)
    assert 0 < abs(part.noise_variance - whole.noise_variance) < 4 * 0.64 * np.sqrt(2 / (150 * 3))
    # Both means use all 600 tasks: they differ by far less than the standard error of either.
    assert (abs(part.mean - whole.mean) < 0.3 * np.sqrt(np.diag(whole.mean_covariance))).all()


def test_a_shrunk_fit_lies_between_its_ends():
    stats = TaskStatistics.from_tasks(draw(20))
    full, diagonal = fit_mixed(stats, "full"), fit_mixed(stats, "diagonal")
    ends = shrunk_fit(stats, full, diagonal, 0.0), shrunk_fit(stats, full, diagonal, 1.0)
    same(ends[0], full, 1e-9)
    np.testing.assert_allclose(ends[1].task_covariance, np.diag(diagonal.task_covariance), atol=1e-12)
    np.testing.assert_allclose(ends[1].mean, diagonal.mean, rtol=1e-8)
    middle = shrunk_fit(stats, full, diagonal, 0.5)
    np.testing.assert_allclose(middle.task_covariance[0, 1], 0.5 * full.task_covariance[0, 1], rtol=1e-12)


def test_the_generative_model_of_a_fit():
    fit = fit_mixed(draw(40), "full")
    problem = fit.problem()
    assert problem.noise_std == fit.noise_std
    assert problem.task_std == pytest.approx(fit.task_std)
    np.testing.assert_array_equal(problem.mean_weights, fit.mean)


def test_a_rule_is_a_value_that_is_checked_where_it_is_used():
    table = draw(20)
    rule = MixedRule("full", mean_scale=np.inf)
    assert rule == MixedRule(structure="full", method="reml", mean_scale=np.inf)
    assert MixedRule().structure == "diagonal"
    same(rule.fit(table), fit_mixed(table, "full", mean_scale=np.inf), 0)
    same(
        MixedRule(method="ml").fit(table, max_tasks=10, seed=3), fit_mixed(table, method="ml", max_tasks=10, seed=3), 0
    )


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"structure": "block"}, "structure"),
        ({"method": "map"}, "method"),
        ({"mean_scale": 0.0}, "mean_scale"),
        ({"mean_scale": np.nan}, "mean_scale"),
        ({"method": "ml", "mean_scale": 1.0}, "mean_scale"),
    ],
)
def test_settings_that_make_no_rule_raise(settings, argument):
    rule = MixedRule(**settings)
    for use in (rule.validate, lambda: rule.fit(draw(10)), lambda: fit_mixed(draw(10), **settings)):
        with pytest.raises(ut.InputError) as caught:
            use()
        assert caught.value.argument == argument


def test_messages():
    table = draw(10, intercept=False)
    stats = TaskStatistics.from_tasks(table)
    full = fit_mixed(stats, "full")
    wide = GroupedTable.from_arrays(np.random.default_rng(0).standard_normal((30, 70)), np.ones(30), np.arange(30) // 5)
    for call, argument in (
        (lambda: fit_mixed(table, "intercept"), "structure"),
        (lambda: fit_mixed(wide, "full"), "structure"),
        (lambda: fit_mixed(stats, near=full), "structure"),
        (lambda: fit_mixed(stats, max_iterations=0), "max_iterations"),
        (lambda: shrunk_fit(stats, full, fit_mixed(stats), 2.0), "share"),
    ):
        with pytest.raises(ut.InputError) as caught:
            call()
        assert caught.value.argument == argument
    x, y, offsets = table.x, table.y, table.offsets
    for call, match in (
        (lambda: TaskStatistics.from_tasks(table, None, -np.ones(10)), "a weight cannot be negative"),
        (lambda: TaskStatistics.from_tasks(table, None, np.ones(9)), r"must be \(10,\)"),
        (lambda: TaskStatistics.from_tasks(table, np.zeros(table.n_rows)), "no row is left"),
        (lambda: TaskStatistics.from_tasks(table.draw_buckets(1, on_small="drop"), []), "each batch"),
        (lambda: TaskStatistics.from_rows(x, y, offsets[:-1]), "offsets"),
        (lambda: TaskStatistics.from_rows(x, y, np.append(0, offsets)), "offsets"),
        (lambda: TaskStatistics.from_rows(np.where(x == x[3, 1], np.nan, x), y, offsets), r"x\[3, 1\]"),
        (lambda: TaskStatistics.from_rows(x, np.where(y == y[5], np.inf, y), offsets), r"y\[5\]"),
        (lambda: TaskStatistics.from_rows(x * 1e200, y, offsets), "overflow"),
    ):
        with pytest.raises(ut.InputError, match=match):
            call()


@pytest.mark.wrong_type
def test_rows_of_other_shapes_raise():
    table = draw(10)
    for x, y in ((table.x[1:], table.y), (table.x[:, 0], table.y), (table.x, table.x)):
        with pytest.raises(ut.InputError, match="they must be"):
            TaskStatistics.from_rows(x, y, table.offsets)


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_and_a_function_that_fetches_them_are_the_table(weighted):
    table = draw(40, (1, 12))
    rng = np.random.default_rng(2)
    weights = (rng.integers(0, 3, table.n_rows), rng.integers(1, 3, 40)) if weighted else (None, None)
    whole = TaskStatistics.from_tasks(table, *weights)
    sizes = []

    def fetch(places):
        sizes.append(np.size(places))
        return table.x[places]

    for x in (table.x, fetch):
        for common in (False, True):
            rows = TaskStatistics.from_rows(x, table.y, table.offsets, *weights, common_unit=common)
            whole = TaskStatistics.from_tasks(table, *weights, common_unit=common)
            np.testing.assert_array_equal(rows.unit, whole.unit)
            for one, other in zip(rows.blocks, whole.blocks, strict=True):
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_array_equal(a, b)
    assert len(sizes) > 2


def test_blocks_of_one_length_stand_for_tasks_of_many():
    # Compressed, tasks of 3 to 400 rows have 3 each: what they were does not scatter them over blocks.
    counts = np.repeat([3, 9, 40, 400], 5)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), counts)
    table = GroupedTable.from_arrays(rng.standard_normal((len(groups), 3)), rng.standard_normal(len(groups)), groups)
    stats = TaskStatistics.from_tasks(table)
    assert len(stats.blocks) == 1
    block = stats.blocks[0]
    np.testing.assert_array_equal(block.counts, counts[block.tasks])
    assert stats.total_rows == len(groups)
    for i, rows in zip(block.tasks, block.rows, strict=True):
        x, y = table.x[groups == i] / stats.unit, table.y[groups == i] / stats.target_unit
        np.testing.assert_allclose(rows[:, :3].T @ rows, x.T @ np.column_stack([x, y]), atol=1e-10)


def test_a_search_that_is_cut_short_says_so():
    fit = fit_mixed(draw(40), "full", max_iterations=1, tolerance=1e-12)
    assert not fit.converged
    assert fit.iterations == 1
    assert fit.outcome.startswith("Not converged")
    whole = fit_mixed(draw(40), "full")
    assert whole.converged
    assert whole.evaluations > whole.iterations


def test_slopes_of_some_columns_are_estimated_as_if_the_others_had_none():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(60), 10), rng.standard_normal((600, 4))
    slope = 0.8 * rng.standard_normal(60)[g] * x[:, 1]
    y = x.sum(axis=1) + slope + rng.standard_normal(60)[g] + 0.5 * rng.standard_normal(600)
    table = ut.tasks.GroupedTable.from_arrays(x, y, g).with_intercept()
    for structure in ("isotropic", "diagonal", "full"):
        fit = fit_mixed(table, structure, slopes=[1])
        assert np.flatnonzero(fit.variances).tolist() == [1, 4]
        assert fit.variances[[1, 4]] == pytest.approx([0.64, 1.0], rel=0.25)
    assert not fit.full_covariance[0].any()
    for wrong in ([9], ["x1"], [-1]):
        with pytest.raises(ut.InputError, match="slopes"):
            fit_mixed(table, "full", slopes=wrong)
    for rule in (ut.MixedRule("intercept", slopes=[1]), ut.MixedRule(family="poisson", slopes=[1])):
        with pytest.raises(ut.InputError, match="slopes"):
            rule.validate()
