"""Row weights of two kinds: copies of a row, and precisions as in lme4, against likelihood written out."""

import numpy as np
import pytest
from scipy.optimize import minimize

import undertow as ut


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
    # The model's noise is that of a row of mean weight.
    assert found.noise[0] * unit * w.mean() == pytest.approx(noise, rel=1e-3)


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
    assert again.weight_unit_ == w.mean()
    np.testing.assert_array_equal(again.adapt(x[:4], y[:4], w[:4]).coef_, model.adapt(x[:4], y[:4], w[:4]).coef_)


def test_another_kind_is_refused():
    x, y, groups, _ = measured()
    with pytest.raises(ut.InputError, match="row_weights"):
        ut.MAMLRegressor(row_weights="lme4").fit(x, y, groups=groups)
