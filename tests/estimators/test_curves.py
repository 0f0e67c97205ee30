"""Curves beside the straight model: against brute force, on made tables whose truth is known, and in a file."""

import numpy as np
import pytest
from forged import forge
from sklearn.ensemble import HistGradientBoostingRegressor

from undertow import InputError, MAMLClassifierCV, MAMLRegressorCV
from undertow.estimators import bending, load, save
from undertow.estimators.curves import Around, column_of_trees, promise, read_trees, splines, trees

M, N = 40, 12


def made(kind, m=M, n=N, seed=0, noise=0.4):
    """Rows, targets and tasks: a common relation, intercepts of tasks, noise."""
    rng = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(m), n)
    x = rng.uniform(-2, 2, (m * n, 3))
    common = {"bent": 2 * np.sin(2 * x[:, 0]), "product": 2 * x[:, 0] * x[:, 2], "straight": x[:, 0]}[kind]
    return x, common + x[:, 1] + rng.standard_normal(m)[tasks] + noise * rng.standard_normal(m * n), tasks


def around(kind="bent", slopes=0.0):
    x, y, _ = made(kind)
    rng = np.random.default_rng(1)
    z = np.c_[(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))]
    y = (y - y.mean()) / y.std()
    factor = np.diag([slopes, 0.0, slopes, 1.5]) + 0.1 * rng.standard_normal((4, 4)) * (slopes > 0)
    offsets = np.arange(0, M * N + 1, N)
    return Around(x, z, y[:, None], np.ones((len(x), 1)), offsets, np.arange(M) % 4, factor[None])


@pytest.fixture(scope="module", params=["bent", "product"])
def fitted(request):
    x, y, tasks = made(request.param)
    return request.param, MAMLRegressorCV(n_support=4).fit(x, y, groups=tasks)


def test_sums_of_a_task_weigh_with_the_inverse_of_its_covariance():
    one = around(slopes=0.5)
    columns = np.c_[one.z, one.y]
    factor, whitened = one.factors[0], one.whitened(columns, 0)
    for task in range(M):
        own = slice(task * N, task * N + N)
        found = whitened[own].T @ whitened[own]
        covariance = one.z[own] @ factor @ factor.T @ one.z[own].T + np.eye(N)
        np.testing.assert_allclose(found, columns[own].T @ np.linalg.solve(covariance, columns[own]), atol=1e-9)


def test_a_spline_is_what_a_straight_line_leaves_and_stays_where_it_is_beyond_its_range():
    one = around()
    curve, _ = splines(one)
    for i, j in enumerate(curve.features):
        values = curve.of_feature(i, one.x[:, j])[:, 0]
        line = np.c_[np.ones(len(values)), one.x[:, j]]
        np.testing.assert_allclose(line.T @ values, 0, atol=1e-8 * len(values))
        ends = curve.of_feature(i, np.array([one.x[:, j].min(), one.x[:, j].min() - 9]))
        assert ends[0] == ends[1]
    x, values = one.x[:, 0], curve.values(one.x)[:, 0]
    line = np.c_[np.ones(len(x)), x]
    truth = np.sin(2 * x) - line @ np.linalg.lstsq(line, np.sin(2 * x), rcond=None)[0]
    assert np.corrcoef(values, truth)[0, 1] > 0.98


@pytest.mark.parametrize("kind", ["splines", "trees"])
def test_a_column_of_a_fold_has_not_seen_its_targets(kind):
    one = around()
    own = one.row_folds == 2

    def column(y):
        changed = Around(one.x, one.z, y, one.roots, one.offsets, one.folds, one.factors)
        return splines(changed)[1] if kind == "splines" else column_of_trees(changed, None, None)

    other = np.where(own[:, None], np.random.default_rng(2).standard_normal(one.y.shape), one.y)
    before, after = column(one.y), column(other)
    np.testing.assert_allclose(before[own], after[own], atol=1e-9)
    assert not np.isclose(before[~own], after[~own]).all()


def test_trees_of_all_tasks_are_made_only_where_they_are_used(monkeypatch):
    made_of_all = []
    monkeypatch.setattr(bending, "trees", lambda *of: made_of_all.append(of) or trees(*of))
    for kind, curve in (("bent", "splines"), ("product", "trees")):
        x, y, tasks = made(kind)
        model = MAMLRegressorCV(n_support=4, rules="mixed", n_draws=1).fit(x, y, groups=tasks)
        assert model.curve_ == curve
        assert len(made_of_all) == (curve == "trees")


def test_trees_as_arrays_predict_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 2))
    x[:, 2] = np.round(x[:, 2])
    found = [HistGradientBoostingRegressor(max_iter=7).fit(x, one) for one in y.T]
    new = np.concatenate([x, rng.standard_normal((100, 4))])
    expected = np.stack([one.predict(new) for one in found], axis=1)
    np.testing.assert_allclose(read_trees(found).values(new), expected, rtol=1e-10, atol=1e-12)


def test_what_a_column_promises_is_negative_where_the_relation_bends_and_within_its_error_where_not():
    bent, straight = around("bent"), around("straight")
    gap, error = promise(bent, splines(bent)[1], "tasks")
    assert gap < -10 * error
    gap, error = promise(straight, splines(straight)[1], "tasks")
    assert abs(gap) < 3 * error + 0.01


@pytest.mark.long
def test_new_tasks_are_predicted_nearly_as_well_as_by_one_who_knows_the_curve(fitted):
    kind, estimator = fitted
    assert estimator.curve_ == ("splines" if kind == "bent" else "trees")
    x, y, tasks = made(kind, m=100, seed=7)
    errors = np.empty(100)
    for task in range(100):
        own = np.flatnonzero(tasks == task)
        new = estimator.adapt(x[own[:4]], y[own[:4]])
        errors[task] = np.mean((new.predict(x[own[4:]]) - y[own[4:]]) ** 2)
    # Knowing the curve and the variances: noise, and the intercept given four rows.
    truth = 0.16 + 1 / (1 + 4 / 0.16)
    spread = errors.std() / 10
    # 480 rows say where sin is; trees make steps of a product.
    assert truth - 4 * spread < errors.mean() < (1.25 if kind == "bent" else 4) * truth + 4 * spread
    reported = estimator.curve_errors_["chosen"] * estimator.model_.standard.target_spread[0] ** 2
    # Held-out tasks are predicted from three quarters of the tasks or more: never by less than all tell.
    assert 0.75 * errors.mean() < reported < 1.5 * errors.mean()
    assert estimator.curve_errors_["straight"] > 3 * estimator.curve_errors_["chosen"]


def test_intervals_of_a_curve_cover(fitted):
    kind, estimator = fitted
    x, y, tasks = made(kind, m=100, seed=8)
    covered = np.empty(100)
    for task in range(100):
        own = np.flatnonzero(tasks == task)
        _, low, high = estimator.adapt(x[own[:4]], y[own[:4]]).predict(x[own[4:]], interval=0.8)
        covered[task] = np.mean((low <= y[own[4:]]) & (y[own[4:]] <= high))
    # The quantile itself is of 40 held-out tasks.
    error = covered.std() * np.sqrt(1 / 100 + 1 / M)
    assert abs(covered.mean() - 0.8) < 4 * error


def test_a_straight_relation_costs_nothing_but_time():
    x, y, tasks = made("straight")
    fast, default = (MAMLRegressorCV(4, 3, n_draws=1, effort=e).fit(x, y, groups=tasks) for e in ("fast", "default"))
    assert default.curve_ == "straight"
    np.testing.assert_array_equal(default.predict(x, tasks), fast.predict(x, tasks))


def test_known_tasks_a_file_and_a_clone_say_the_same(fitted, tmp_path):
    kind, estimator = fitted
    x, y, tasks = made(kind)
    # Near the noise, as each task is predicted by weights of its own.
    assert np.mean((estimator.predict(x, tasks) - y) ** 2) < 2.5 * 0.16
    save(estimator, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x, tasks), estimator.predict(x, tasks))
    for one, other in zip(again.predict(x, interval=0.9), estimator.predict(x, interval=0.9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (again.curve_, again.curve_errors_) == (estimator.curve_, estimator.curve_errors_)
    assert str(again.summary()) == str(estimator.summary())


def test_a_file_with_a_curve_that_could_not_be_is_refused(fitted, tmp_path):
    kind, estimator = fitted

    def changed(name, place, value):
        def change(arrays):
            arrays[name] = arrays[name].copy()
            arrays[name][place] = value

        return change

    if kind == "bent":
        changes = [("features", 0, 9), ("knots", (0, 5), -99.0), ("knots", (0, 0), -99.0)]
    else:
        changes = [("left", 0, 0), ("right", 0, 10**6), ("feature", 0, 3), ("targets", 0, 1), ("roots", 1, 0)]
    for name, place, value in changes:
        path = tmp_path / "m.safetensors"
        save(estimator, path)
        forge(path, change_arrays=changed(f"curve.{name}", place, value))
        with pytest.raises(InputError, match="damaged or was changed"):
            load(path)


def test_the_summary_says_that_coefficients_are_of_the_straight_part(fitted):
    kind, estimator = fitted
    found = estimator.summary()
    assert "bends" in str(found)
    assert len(found.coefficients) == 5  # three columns, the curve, the level
    assert [one.name for one in found.bends[:1]] == (["x0"] if kind == "bent" else [])
    x = np.array([[0.3, -1.0, 0.2], [0.3, 1.0, 0.2]])
    if kind == "bent":
        # The curve does not move with x1, but for what splines make of noise.
        step = np.diff(estimator.predict(x))[0]
        assert abs(step - 2 * estimator.coef_[1]) < 0.3


def test_further_tasks_cannot_be_added_to_a_curve(fitted):
    kind, estimator = fitted
    x, y, tasks = made(kind, m=5)
    with pytest.raises(InputError, match="effort='fast'"):
        estimator.partial_fit(x, y, groups=tasks + 1000)


def test_efforts_that_cannot_be_are_named():
    x, y, tasks = made("straight", m=8)
    with pytest.raises(InputError, match="'fast', 'default', 'thorough'"):
        MAMLRegressorCV(effort="great").fit(x, y, groups=tasks)
    with pytest.raises(InputError, match="needs fit_intercept=True"):
        MAMLRegressorCV(effort="thorough", fit_intercept=False).fit(x, y, groups=tasks)
    assert MAMLRegressorCV(cv=3, n_draws=1, fit_intercept=False).fit(x, y, groups=tasks).curve_ == "straight"


@pytest.mark.long
def test_several_targets_classes_weights_and_float32_bend_too():
    x, y, tasks = made("bent")
    weights = np.random.default_rng(0).integers(0, 3, len(y))
    both = MAMLRegressorCV(n_support=4, n_draws=1, rules="proximal").fit(
        x.astype(np.float32), np.c_[y, -y].astype(np.float32), groups=tasks, sample_weight=weights
    )
    assert both.curve_ == "splines"
    assert both.coef_.shape == (2, 3)
    assert both.predict(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(*(both.predict(x.astype(np.float32)) * [1, -1]).T, atol=1e-3)
    label = MAMLClassifierCV(n_support=4, n_draws=1, rules="proximal").fit(x, y > 0, groups=tasks)
    assert label.curve_ != "straight"
    assert label.score(x, y > 0, groups=tasks) > 0.8


def test_a_row_of_weight_two_bends_a_spline_as_two_rows_do():
    one = around()
    rng = np.random.default_rng(3)
    twice = rng.random(len(one.y)) < 0.3
    order = np.sort(np.r_[np.arange(len(one.y)), np.flatnonzero(twice)])
    offsets = np.r_[0, np.cumsum(np.add.reduceat(1 + twice, one.offsets[:-1]))]
    copied = Around(one.x[order], one.z[order], one.y[order], np.ones((len(order), 1)), offsets, one.folds, one.factors)
    roots = np.sqrt(1.0 + twice)[:, None]
    weighted = Around(one.x, one.z * roots, one.y * roots, roots, one.offsets, one.folds, one.factors)
    by_each = [a.of_folds(a.straight[0]).sum(axis=0) for a in (copied, weighted)]
    np.testing.assert_allclose(*by_each, rtol=1e-9, atol=1e-9)
