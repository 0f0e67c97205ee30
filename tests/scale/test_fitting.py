"""Fits to tables of any size: the sums are those of the fit in memory, and a small table's fit is that fit."""

import warnings

import numpy as np
import pytest
from scattered import frame, scatter, streamed

import undertow as ut
from undertow._check import InputError
from undertow.estimators import fit_table
from undertow.scale.fitting import fit_sorted
from undertow.scale.sorted_table import sort
from undertow.tasks import read_table

GIVEN = {
    "gradient": {"train_rate": -0.3, "adapt_rate": 0.2, "n_draws": 2},
    "raw rates": {"train_rate": 0.4, "adapt_rate": 0.1, "rate_unit": "raw", "steps": 2, "ridge": 1e-2},
    "no intercept": {"train_rate": 0.5, "fit_intercept": False, "n_draws": 1},
    "as they are": {"standardize": False, "ridge": 1e-2, "n_draws": 1},
    "proximal": {"rule": ut.ProximalRule(3.0, train_ratio=5.0)},
    "no inner loop": {"rule": ut.ProximalRule(3.0, np.array([1.0, 2, 1, 1, 3]))},
}


def both(make, tmp_path, table=None, **run):
    """The fit in memory and the one by fragments."""
    table = frame() if table is None else table
    sorted_table = sort(scatter(table, tmp_path / "in"), "shop", "sales", folder=tmp_path / "work", memory="600MB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fit_table(make(), read_table(table, "shop", "sales"))
        found = fit_sorted(make(), sorted_table, streamed(**run))
    return expected, found


def assert_same_sums(found, expected):
    for name in ("centre", "spread", "target_centre", "target_spread"):
        np.testing.assert_allclose(
            getattr(found.model_.standard, name), getattr(expected.model_.standard, name), rtol=1e-12, atol=1e-12
        )
    assert (found.n_tasks_, found.n_clipped_) == (expected.n_tasks_, expected.n_clipped_)
    np.testing.assert_array_equal(found.task_ids_, expected.task_ids_)
    assert found.scale_ == pytest.approx(expected.scale_, rel=1e-11)


@pytest.mark.parametrize("name", GIVEN)
def test_given_settings_give_the_weights_of_the_fit_in_memory(name, tmp_path):
    expected, found = both(lambda: ut.MAMLRegressor(**GIVEN[name]), tmp_path)
    assert_same_sums(found, expected)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-10)
    assert found.intercept_ == pytest.approx(expected.intercept_, rel=1e-10)
    np.testing.assert_allclose(found.model_.task_omega, expected.model_.task_omega, rtol=1e-9, atol=1e-10)
    assert found.adapt_rate_ == pytest.approx(expected.adapt_rate_) if expected.adapt_rate_ is not None else True


def test_the_mean_of_a_mixed_model_is_that_of_all_tasks(tmp_path):
    rule = ut.MixedRule("diagonal", mean_scale=5.0)
    expected, found = both(lambda: ut.MAMLRegressor(rule=rule), tmp_path, choose_on=60)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7)
    # Variances of half of the tasks; the mean of all, by generalised least squares with these.
    _, found = both(lambda: ut.MAMLRegressor(rule=rule), tmp_path / "half", choose_on=30)
    known, table = found.model_.rules[0], frame()
    rows = found.model_.rows(
        table[["f0", "f1", "f2", "f3"]].to_numpy(), table[["sales"]].to_numpy(), None, (np.arange(60), table["shop"])
    )
    total = 0.0
    for i in range(rows.n_tasks):
        own = slice(rows.offsets[i], rows.offsets[i + 1])
        z = rows.inputs(np.arange(rows.offsets[i], rows.offsets[i + 1]))
        h = (z * known.covariance) @ z.T + known.ratio * np.eye(len(z))
        total = total + z.T @ np.linalg.inv(h) @ np.column_stack([z, rows.y[own]])
    # The prior is far weaker than sixty tasks.
    np.testing.assert_allclose(found.model_.omega[0], np.linalg.solve(total[:, :-1], total[:, -1]), atol=2e-3)


@pytest.mark.parametrize("rules", ["gradient", "proximal", ("gradient", "proximal", "mixed")])
def test_a_search_solves_its_weights_from_the_sums_of_all_tasks(rules, tmp_path):
    def make():
        return ut.MAMLRegressorCV(4, 3, rules, n_draws=2, n_rates=21)

    expected, found = both(make, tmp_path, choose_on=30)
    assert_same_sums(found, expected)
    ours, theirs = found.rate_path_.problem.moments, expected.rate_path_.problem.moments
    np.testing.assert_allclose(ours.gram, theirs.gram, atol=1e-10 * np.abs(theirs.gram).max())
    assert (ours.n_rows, ours.n_tasks, ours.weight) == (theirs.n_rows, theirs.n_tasks, theirs.weight)
    # The choice is that of thirty tasks, the paths are those of all.
    assert found.choice_.n_tasks <= 30 < expected.choice_.n_tasks
    rate = found.choice_.signed["train_rate"]
    path = expected.rate_path_.problem
    np.testing.assert_allclose(
        found.rate_path_.at(rate).weights,
        ut.rate_path(path.moments, rate, ridge=found.choice_.signed["ridge"]).weights,
        rtol=1e-9,
    )


def test_a_draw_of_all_tasks_gives_the_estimator_of_the_fit_in_memory(tmp_path):
    def make():
        return ut.MAMLRegressorCV(4, 3, n_draws=2, n_rates=21)

    expected, found = both(make, tmp_path, choose_on=60)
    assert found.strategy_ == expected.strategy_
    assert_same_sums(found, expected)
    np.testing.assert_allclose(found.model_.omega, expected.model_.omega, rtol=1e-7, atol=1e-9)
    for name, one in expected.choice_.candidates.items():
        assert found.choice_.candidates[name].mse == pytest.approx(one.mse, rel=1e-7)


def test_a_small_table_is_fitted_as_in_memory_bit_for_bit(tmp_path):
    table = frame()
    expected = fit_table(ut.MAMLRegressorCV(2, 3, n_draws=2, n_rates=21), read_table(table, "shop", "sales"))
    folder = scatter(table, tmp_path / "in")
    found = ut.scale.fit(ut.MAMLRegressorCV(2, 3, n_draws=2, n_rates=21), str(folder / "*.parquet"), "shop", "sales")
    np.testing.assert_array_equal(found.model_.omega, expected.model_.omega)
    np.testing.assert_array_equal(found.model_.task_omega, expected.model_.task_omega)
    assert found.choice_.to_dict() == expected.choice_.to_dict()


def test_the_result_saves_adapts_and_predicts(tmp_path):
    _, found = both(lambda: ut.MAMLRegressorCV(4, 3, n_draws=1, n_rates=21), tmp_path, choose_on=30)
    ut.estimators.save(found, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    new = frame(m=1, seed=5, low=12)[["f0", "f1", "f2", "f3"]]
    np.testing.assert_array_equal(again.predict(new), found.predict(new))
    np.testing.assert_array_equal(again.adapt(new, new.sum(axis=1)).coef_, found.adapt(new, new.sum(axis=1)).coef_)
    assert again.n_tasks_ == 60
    prediction, low, high = again.predict(new, interval=0.9)
    assert (low < prediction).all()
    assert (prediction < high).all()
    seen = frame()
    assert found.score(seen[[*new]], seen["sales"], groups=seen["shop"]) > 0.5


@pytest.mark.parametrize("on_constant", ["raise", "drop", "keep"])
def test_a_feature_of_one_value_is_refused_dropped_or_kept(on_constant, tmp_path):
    table = sort(
        scatter(frame().assign(one=7.0), tmp_path / "in"), "shop", "sales", folder=tmp_path / "work", memory="600MB"
    )
    if on_constant == "raise":
        with pytest.raises(InputError, match="'one' is 7"):
            fit_sorted(ut.MAMLRegressor(n_support=2), table, streamed(), on_constant)
        return
    found = fit_sorted(ut.MAMLRegressor(n_support=2), table, streamed(), on_constant)
    assert found.n_features_in_ == (4 if on_constant == "drop" else 5)
    if on_constant == "keep":
        assert found.model_.standard.spread[4] == 1.0


def test_memory_that_is_too_small_is_refused_with_the_numbers(tmp_path):
    folder = scatter(frame(m=3, p=1, low=20, high=30), tmp_path / "in")
    for memory in ("100MB", "much", True, None):
        with pytest.raises(InputError, match="memory"):
            ut.scale.fit(ut.MAMLRegressor(), folder, "shop", "sales", memory=memory)

    class Tiny(type(streamed().ceiling)):
        task = 500
        draw = 900

    table = sort(folder, "shop", "sales", folder=tmp_path / "work", memory="600MB")
    run = streamed()
    object.__setattr__(run, "ceiling", Tiny(run.ceiling.total))
    with pytest.raises(InputError, match=r"task \d has \d+ rows"):
        fit_sorted(ut.MAMLRegressor(), table, run)
    Tiny.task = 10_000
    with pytest.raises(InputError, match="Allow more memory"):
        fit_sorted(ut.MAMLRegressorCV(cv=3), table, run)


def test_what_is_no_regressor_of_ours_is_refused(tmp_path):
    with pytest.raises(InputError, match="MAMLRegressorCV"):
        ut.scale.fit(ut.MAMLClassifier(), tmp_path, "shop", "sales")
    with pytest.raises(InputError, match="submit"):
        ut.scale.fit(ut.MAMLRegressor(), tmp_path, "shop", "sales", executor=3)
    with pytest.raises(InputError, match="target"):
        ut.scale.fit(ut.MAMLRegressor(), tmp_path, "shop")
