"""A second grouping of rows in the regressors: predictions, held-out errors, intervals, files and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

import undertow as ut
from undertow.mixed import MixedRule

S2, TASK, LEVEL = 0.25, 1.0, 1.5


def crossed(m=40, n=10, n_levels=25, seed=0, level=LEVEL):
    """X, y, tasks and levels of rows with two random intercepts."""
    rng = np.random.default_rng(seed)
    groups, levels = np.repeat(np.arange(m), n), rng.integers(0, n_levels, m * n)
    x = rng.standard_normal((m * n, 1))
    u = np.sqrt(level) * rng.standard_normal(n_levels)
    y = x[:, 0] + np.sqrt(TASK) * rng.standard_normal(m)[groups] + u[levels]
    names = np.array([f"product {i}" for i in range(n_levels)])
    return x, y + np.sqrt(S2) * rng.standard_normal(m * n), groups, names[levels]


def mixed():
    return ut.MAMLRegressor(rule=MixedRule("intercept"), n_support=3)


def test_new_tasks_are_predicted_nearly_as_by_the_exact_prediction():
    x, y, groups, levels = crossed(seed=1)
    train, new = groups < 30, groups >= 30
    known = new & (np.arange(len(y)) % 10 < 3)
    query = new & ~known
    fitted = mixed().fit(x[train], y[train], groups=groups[train], levels=levels[train])
    adapted = fitted.adapt(x[known], y[known], groups=groups[known], levels=levels[known])
    ours = adapted.predict(x[query], groups=groups[query], levels=levels[query])
    seen = train | known
    v = S2 * np.eye(len(y)) + TASK * (groups[:, None] == groups) + LEVEL * (levels[:, None] == levels)
    exact = x[query, 0] + v[np.ix_(query, seen)] @ np.linalg.solve(v[np.ix_(seen, seen)], y[seen] - x[seen, 0])
    best, found = ((y[query] - exact) ** 2).mean(), ((y[query] - ours) ** 2).mean()
    assert found < 1.1 * best
    without = mixed().fit(x[train], y[train], groups=groups[train]).adapt(x[known], y[known], groups=groups[known])
    assert ((y[query] - without.predict(x[query], groups=groups[query])) ** 2).mean() > 3 * best
    score = fitted.score(x[new], y[new], groups=groups[new], levels=levels[new])
    assert score > fitted.score(x[new], y[new], groups=groups[new]) + 0.2


def test_standard_errors_and_the_icc_know_of_the_levels():
    x, y, groups, levels = crossed(n_levels=15, seed=4)
    of_level = np.random.default_rng(0).standard_normal(15)[np.unique(levels, return_inverse=True)[1]]
    found = mixed().fit(np.c_[x, of_level], y, groups=groups, levels=levels).summary()
    task, noise, level = found.coefficients[-1].task_std ** 2, found.noise_std**2, found.level_std**2
    v = noise * np.eye(len(y)) + task * (groups[:, None] == groups) + level * (levels[:, None] == levels)
    z = np.c_[x - x.mean(), of_level - of_level.mean(), np.ones(len(y))]
    exact = np.sqrt(np.diag(np.linalg.inv(z.T @ np.linalg.solve(v, z))))
    np.testing.assert_allclose([one.standard_error for one in found.coefficients], exact, rtol=0.03)
    assert found.icc == pytest.approx(task / (task + noise + level))


def test_held_out_errors_have_not_seen_the_levels_of_their_fold():
    # Levels of two rows each that mean nothing: had a task's own rows a part in them, its error would fall.
    x, y, groups, _ = crossed(level=0.0, seed=3)
    levels = np.random.default_rng(0).permutation(np.repeat(np.arange(200), 2))
    settings = {"n_support": 3, "n_draws": 1, "n_rates": 9, "ridges": (1e-3,)}
    plain = ut.MAMLRegressorCV(**settings).fit(x, y, groups=groups).choice_.mse
    second = ut.MAMLRegressorCV(**settings).fit(x, y, groups=groups, levels=levels).choice_.mse
    assert second > 0.99 * plain


def test_the_search_uses_levels_and_its_intervals_cover(tmp_path):
    x, y, groups, levels = crossed()
    settings = {"n_support": 3, "n_draws": 1, "n_rates": 9, "ridges": (1e-3,)}
    fitted = ut.MAMLRegressorCV(**settings).fit(x, y, groups=groups, levels=levels)
    # Noise, its share in three rows, and a little for levels.
    assert S2 < fitted.choice_.mse * y.var() < 1.6 * S2
    assert fitted.summary().level_std == pytest.approx(np.sqrt(LEVEL), rel=0.5)
    assert "25 levels" in str(fitted.summary())
    cover = {}
    for name, given in (("known", levels), ("strange", None)):
        _, low, high = fitted.predict(x, interval=0.9, levels=given)
        cover[name] = ((low <= y) & (y <= high)).mean(), (high - low).mean()
    assert min(cover["known"][0], cover["strange"][0]) > 0.8
    assert cover["strange"][1] > 1.2 * cover["known"][1]
    ut.estimators.save(fitted, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        again.predict(x, groups=groups, levels=levels), fitted.predict(x, groups=groups, levels=levels)
    )
    ut.estimators.save(fitted, tmp_path / "a.safetensors", anonymous=True)
    nameless = ut.estimators.load(tmp_path / "a.safetensors")
    np.testing.assert_allclose(nameless.predict(x, levels=levels), fitted.predict(x), rtol=1e-12)
    with pytest.raises(ut.InputError, match="second grouping"):
        fitted.partial_fit(x, y, groups=groups + 100)


def test_levels_where_they_have_no_place_are_refused():
    x, y, groups, levels = crossed(m=12)
    with pytest.raises(ut.InputError, match="for regressors"):
        ut.MAMLClassifier().fit(x, y > 0, groups=groups, levels=levels)
    with pytest.raises(ut.InputError, match="levels has shape"):
        mixed().fit(x, y, groups=groups, levels=levels[:-1])
    with pytest.raises(ut.InputError, match="without a second grouping"):
        mixed().fit(x, y, groups=groups).predict(x, levels=levels)


def test_several_targets_have_levels_of_their_own():
    x, y, groups, levels = crossed()
    both = mixed().fit(x, np.column_stack([y, 10 * y]), groups=groups, levels=levels)
    one = mixed().fit(x, y, groups=groups, levels=levels)
    found = both.predict(x, levels=levels)
    np.testing.assert_allclose(
        found, np.column_stack([1, 10]) * one.predict(x, levels=levels)[:, None], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("task", ["school,klass", "klass"])
def test_the_outer_of_two_task_columns_is_a_second_grouping(task):
    rng = np.random.default_rng(0)
    table = {
        "school": np.repeat(np.arange(8), 30),
        "klass": np.tile(np.repeat(np.arange(3), 10), 8),
        "x": rng.standard_normal(240),
        "y": rng.standard_normal(240),
    }
    frame = pa.table(table)
    if task == "klass":
        assert ut.tasks.read_table(frame, task, "y", ["x"], random_intercept="outer").levels is None
        return
    with pytest.warns(ut.tasks.TableNote, match="8 levels of school"):
        read = ut.tasks.read_table(frame, task, "y", ["x"], random_intercept="outer")
    assert read.levels_from == ("school",)
    np.testing.assert_array_equal(read.levels, table["school"][read.rows])
    fitted = ut.estimators.fit_table(mixed(), read)
    plain = mixed().fit(
        table["x"][:, None], table["y"], groups=read.groups[np.argsort(read.rows)], levels=table["school"]
    )
    np.testing.assert_allclose(fitted.coef_, plain.coef_, rtol=1e-9)
    with pytest.raises(ut.InputError, match="random_intercept"):
        ut.tasks.read_table(frame, "klass", "y", ["x"], random_intercept="klass")
