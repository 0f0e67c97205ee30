"""Row weights of two kinds: copies of a row, and precisions as in lme4, against likelihood written out."""

import numpy as np
import pytest
from scipy.optimize import minimize

import undertow as ut
from undertow.mixed.model import fit_mixed
from undertow.mixed.statistics import TaskStatistics


def measured(m=30, seed=0):
    """Rows that are means of 1 to 9 measurements each: the more of them, the smaller the error."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(6, 12, m)
    groups = np.repeat(np.arange(m), counts)
    w = rng.integers(1, 10, len(groups)).astype(float)
    x = rng.standard_normal((len(groups), 2))
    y = 3 + x @ [1.0, -2.0] + 0.8 * rng.standard_normal(m)[groups] + 1.5 * rng.standard_normal(len(groups)) / np.sqrt(w)
    return x, y, groups, w


def reml(x, y, groups, w):
    """Weights, intercept variance and noise variance of greatest restricted likelihood, Var(e_i) = noise / w_i."""
    z = np.c_[x, np.ones(len(x))]
    alike = groups[:, None] == groups

    def parts(log):
        between, noise = np.exp(log)
        inverse = np.linalg.inv(between * alike + np.diag(noise / w))
        gram = z.T @ inverse @ z
        beta = np.linalg.solve(gram, z.T @ inverse @ y)
        rest = y - z @ beta
        value = -np.linalg.slogdet(inverse)[1] + np.linalg.slogdet(gram)[1] + rest @ inverse @ rest
        return value, beta

    found = minimize(
        lambda log: parts(log)[0], np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10}
    )
    return parts(found.x)[1], *np.exp(found.x)


def test_precision_weights_are_those_of_the_mixed_model_written_out():
    x, y, groups, w = measured()
    beta, between, noise = reml(x, y, groups, w)
    rule = ut.MixedRule("intercept", mean_scale=np.inf)  # no prior on the mean
    model = ut.MAMLRegressor(rule=rule, row_weights="precision").fit(x, y, groups=groups, sample_weight=w)
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), beta, rtol=1e-4)
    found, unit = model.model_.uncertainty, model.model_.standard.target_spread[0] ** 2
    assert found.task_covariance[0][2, 2] * unit == pytest.approx(between, rel=1e-3)
    # The model's noise is that of a row of the weights' geometric mean.
    assert found.noise[0] * unit * np.exp(np.log(w).mean()) == pytest.approx(noise, rel=1e-3)


def test_only_ratios_of_precisions_count_and_copies_are_another_thing():
    x, y, groups, w = measured()
    rows = groups == 3

    def fitted(kind, factor):
        model = ut.MAMLRegressor(rule=ut.MixedRule("intercept"), row_weights=kind)
        model.fit(x, y, groups=groups, sample_weight=factor * w)
        adapted = model.adapt(x[rows], y[rows], factor * w[rows])
        return np.r_[
            model.coef_,
            model.intercept_,
            adapted.coef_,
            adapted.intercept_,
            model.score(x, y, factor * w, groups=groups),
        ]

    np.testing.assert_allclose(fitted("precision", 1), fitted("precision", 7), rtol=1e-6)
    assert np.abs(fitted("frequency", 1) / fitted("precision", 1) - 1).max() > 1e-3


def test_the_unit_of_weights_is_kept_in_a_file(tmp_path):
    x, y, groups, w = measured()
    model = ut.MAMLRegressor(rule=ut.MixedRule("intercept"), row_weights="precision")
    model.fit(x, y, groups=groups, sample_weight=w)
    ut.estimators.save(model, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    assert again.weight_unit_ == pytest.approx(np.exp(np.log(w).mean()))
    np.testing.assert_array_equal(again.adapt(x[:4], y[:4], w[:4]).coef_, model.adapt(x[:4], y[:4], w[:4]).coef_)


def test_another_kind_is_refused():
    x, y, groups, _ = measured()
    with pytest.raises(ut.InputError, match="row_weights"):
        ut.MAMLRegressor(row_weights="lme4").fit(x, y, groups=groups)


def test_a_part_of_the_tasks_has_the_likelihood_of_its_rows_whatever_their_weights_add_up_to():
    x, y, groups, w = measured()
    part = groups < 15
    beta, between, noise = reml(x[part], y[part], groups[part], w[part])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(groups))])
    z, factor = np.c_[x, np.ones(len(x))], 0.01
    every = TaskStatistics.from_rows(z, y, offsets, factor * w, precise=True)
    found = fit_mixed(every.select(np.arange(15)), "intercept", mean_scale=np.inf)
    np.testing.assert_allclose(found.mean, beta, rtol=1e-4)
    assert found.rule.covariance[2] == pytest.approx(between, rel=1e-3)
    assert found.noise_std**2 / factor == pytest.approx(noise, rel=1e-3)


def test_one_huge_precision_says_what_a_large_one_says_and_a_larger_one_is_refused():
    x, y, groups, w = measured(16)

    def coefficients(largest, kind="precision"):
        weights = np.where(np.arange(len(w)) == 5, largest, w)
        model = ut.MAMLRegressorCV(3, row_weights=kind, n_draws=2, rules=["gradient", "mixed"])
        return model.fit(x, y, groups=groups, sample_weight=weights).coef_

    np.testing.assert_allclose(coefficients(1e12), coefficients(1e5), rtol=1e-3)
    for kind in ("precision", "frequency"):
        with pytest.raises(ut.InputError, match="lost to rounding"):
            coefficients(1e14, kind)


def test_copies_that_add_up_to_fewer_rows_than_tasks_are_refused():
    x, y, groups, w = measured()
    shares = w / w.sum()
    with pytest.raises(ut.InputError, match=r"add up to 1 rows for 30 tasks.*row_weights='precision'"):
        ut.MAMLRegressorCV(3).fit(x, y, groups=groups, sample_weight=shares)
    model = ut.MAMLRegressor(rule=ut.MixedRule(), row_weights="precision")
    assert np.isfinite(model.fit(x, y, groups=groups, sample_weight=shares).coef_).all()


@pytest.mark.parametrize("kind", ["precision", "frequency"])
def test_held_out_errors_are_those_of_models_that_adapt_with_the_weights(kind):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 8)
    w = 10.0 ** rng.choice([0, 1, 2], 30)[groups]  # of whole tasks: rows of one weigh alike
    x = rng.standard_normal((240, 1))
    y = x[:, 0] + 0.5 * rng.standard_normal(30)[groups] + 3 * rng.standard_normal(240) / np.sqrt(w)
    folds = [(np.flatnonzero(groups % 3 != f), np.flatnonzero(groups % 3 == f)) for f in range(3)]
    search = ut.MAMLRegressorCV(
        3, cv=folds, rules=["mixed"], blend=False, support="first", row_weights=kind, effort="fast"
    )
    search.fit(x, y, groups=groups, sample_weight=w)
    errors = []
    for train, test in folds:
        model = ut.MAMLRegressor(rule=ut.MixedRule("intercept"), row_weights=kind)
        model.fit(x[train], y[train], groups=groups[train], sample_weight=w[train])
        for task in np.unique(groups[test]):
            rows = np.flatnonzero(groups == task)
            own, others = rows[:3], rows[3:]
            errors.append(((model.adapt(x[own], y[own], w[own]).predict(x[others]) - y[others]) ** 2).mean())
    said = search.choice_.candidates["mixed_intercept"].mse * search.model_.standard.target_spread[0] ** 2
    assert said == pytest.approx(np.mean(errors), rel=1e-3)


def test_an_interval_is_of_rows_and_a_probability_of_labels_whatever_their_weights():
    rng = np.random.default_rng(1)
    groups, w = np.repeat(np.arange(60), 20), rng.choice([1.0, 9.0], 1200)
    x = rng.standard_normal((1200, 1))
    settings = {"cv": 3, "n_draws": 2, "n_rates": 9, "ridges": (1e-3,), "rules": ["mixed"], "effort": "fast"}
    y = x[:, 0] + rng.standard_normal(1200)
    search = ut.MAMLRegressorCV(3, **settings).fit(x, y, groups=groups, sample_weight=w)
    _, low, high = search.predict(x, interval=0.9)
    assert (high - low).mean() / 2 == pytest.approx(1.645, rel=0.1)  # noise of deviation 1 and nothing else
    late = rng.random(1200) < 1 / (1 + np.exp(-2 * x[:, 0]))
    classes = ut.MAMLClassifierCV(3, **settings).fit(x, late, groups=groups, sample_weight=w)
    assert np.abs(classes.predict_proba([[-1.0], [0.0], [1.0]])[:, 1] - [0.119, 0.5, 0.881]).max() < 0.05


def test_a_task_of_next_to_no_weight_leaves_intervals_finite_in_single_precision():
    rng = np.random.default_rng(0)
    groups, w = np.repeat(np.arange(12), 6), np.ones(72, np.float64)
    w[:6] = 1e-60
    x = rng.standard_normal((72, 1)).astype(np.float32)
    y = (x[:, 0] + rng.standard_normal(72)).astype(np.float32)
    search = ut.MAMLRegressorCV(2, cv=3, n_draws=1, n_rates=9, rules=["mixed"], effort="fast")
    with np.errstate(invalid="raise", divide="raise"):
        search.fit(x, y, groups=groups, sample_weight=w)
    assert np.isfinite(search.predict(x, interval=0.9)).all()
