"""More columns than rows: the search in the rows' own directions is the search in all columns."""

from dataclasses import replace

import numpy as np
import pytest
from made import cv, task_rows

import undertow as ut
from undertow.choice.limits import LIMITS
from undertow.choice.row_space import RowSpace
from undertow.choice.search import Settings, search
from undertow.estimators.parameters import search_settings
from undertow.estimators.saved_parts import pack_path, unpack_path
from undertow.estimators.training import searched
from undertow.linear.rules import BlendRule, ProximalRule

RNG = np.random.default_rng(0)
M, N, P = 9, 5, 60
X = RNG.standard_normal((M * N, P)) * np.linspace(0.5, 2, P) + 1
G = np.repeat(np.arange(M), N)
W = RNG.standard_normal(P) / 8 + RNG.standard_normal((M, P)) / 16
Y = (X * W[G]).sum(axis=1) + RNG.standard_normal(M)[G] + 0.3 * RNG.standard_normal(M * N)


def test_the_basis_spans_the_rows_and_keeps_every_product():
    rows = task_rows(np.tile(X, 4), Y, G)
    space = RowSpace.of(rows)
    z, y = rows.inputs(), space.rows.inputs()
    assert y.shape == (M * N, M * N - 1 + 1)  # centred: one direction less; and the constant feature
    np.testing.assert_allclose(space.basis.T @ space.basis, np.eye(y.shape[1]), atol=1e-12)
    np.testing.assert_allclose(y @ space.basis.T, z, atol=1e-9)
    np.testing.assert_array_equal(y[:, -1], 1)
    np.testing.assert_allclose(space.weights(np.eye(y.shape[1])[3]), space.basis[:, 3])
    tall = task_rows(np.tile(X, 4)[:, :170], Y, G)
    assert RowSpace.of(tall) is not None
    assert RowSpace.of(task_rows(X, Y, G)) is None  # few columns: nothing to gain
    repeated = task_rows(np.repeat(np.tile(X, 4), 6, axis=0), np.repeat(Y, 6), np.repeat(G, 6))
    assert RowSpace.of(repeated) is None


class Limited(ut.MAMLRegressorCV):
    """The estimator with other limits of its search."""

    limits = LIMITS

    def _train(self, everything, large, seed):
        settings = replace(search_settings(self, large, seed), limits=self.limits)
        self.rotated_ = RowSpace.of(everything, self.limits.row_space_columns) is not None
        return searched(everything, large, settings)


class Primal(Limited):
    limits = replace(LIMITS, diagonal_columns=0)


class Rotated(Limited):
    limits = replace(LIMITS, diagonal_columns=0, row_space_columns=1)


@pytest.fixture(scope="module", params=["mixed", "proximal", "gradient", "all"])
def both(request):
    """Fits in all columns and in the rows' directions; no variance for each feature, and no value clipped."""
    rules = ("gradient", "proximal", "mixed") if request.param == "all" else request.param
    settings = {"n_draws": 2, "n_rates": 21, "ridges": (1e-4, 1e-2), "n_support": 2, "cv": 3, "clip": None}
    primal, rotated = (kind(rules=rules, blend=False, **settings).fit(X, Y, groups=G) for kind in (Primal, Rotated))
    assert not primal.rotated_
    assert rotated.rotated_
    return primal, rotated


def test_the_search_is_the_same_to_rounding(both):
    primal, rotated = both
    assert primal.strategy_ == rotated.strategy_
    for name, one in primal.choice_.candidates.items():
        other = rotated.choice_.candidates[name]
        assert (other.mse, other.standard_error) == pytest.approx((one.mse, one.standard_error), rel=2e-5)
    np.testing.assert_allclose(rotated.coef_, primal.coef_, rtol=1e-4, atol=1e-5 * np.abs(primal.coef_).max())
    assert rotated.intercept_ == pytest.approx(primal.intercept_, rel=1e-4)
    assert rotated.train_rate_ == pytest.approx(primal.train_rate_, rel=1e-6)
    assert rotated.scale_ == pytest.approx(primal.scale_, rel=1e-9)
    assert rotated.ridge_ == (None if primal.ridge_ is None else pytest.approx(primal.ridge_))
    for name, value in primal.choice_.settings.items():
        assert rotated.choice_.settings[name] == pytest.approx(value, rel=1e-3)
    np.testing.assert_allclose(rotated.cv_surface_.ridges, primal.cv_surface_.ridges)
    np.testing.assert_allclose(rotated.cv_surface_.products, primal.cv_surface_.products, rtol=1e-5, atol=1e-9)


def test_tasks_outside_the_span_are_adapted_in_all_columns(both):
    primal, rotated = both
    new = RNG.standard_normal((4, P)) * 2
    target = RNG.standard_normal(4) + 2
    ours, theirs = rotated.adapt(new, target), primal.adapt(new, target)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4, atol=1e-5 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(rotated.predict(X, groups=G), primal.predict(X, groups=G), rtol=1e-4, atol=1e-4)


def test_the_path_has_all_columns_and_can_be_asked_for_more_rates(both):
    primal, rotated = both
    ours, theirs = rotated.rate_path_, primal.rate_path_
    assert ours.weights.shape == theirs.weights.shape
    np.testing.assert_allclose(ours.ridges, theirs.ridges)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-4, atol=1e-6)
    rates = np.array([-0.2, 0.0, 0.3]) * rotated.scale_
    np.testing.assert_allclose(ours.at(rates).weights, theirs.at(rates).weights, rtol=1e-4, atol=1e-6)
    packed = {}
    stored = pack_path(ours, packed, "path")
    again = unpack_path(stored, packed, "path", P + 1)
    np.testing.assert_array_equal(again.at(rates).weights, ours.at(rates).weights)


def test_rules_are_widened_part_by_part():
    space = RowSpace.of(task_rows(np.tile(X, 4), Y, G))
    d, r = space.basis.shape
    rule = BlendRule(
        (ProximalRule(2.0), ProximalRule(0.5, np.append(np.full(r - 1, 0.3), 0.7))),
        np.array([0.5, 0.5]),
        RNG.standard_normal((2, r)),
    )
    wide = space._rule(rule)
    assert wide.parts[0].covariance is None
    np.testing.assert_array_equal(wide.parts[1].covariance, np.append(np.full(d - 1, 0.3), 0.7))
    x, y = space.rows.inputs(np.arange(5))[None], RNG.standard_normal((1, 5))
    omega = rule.shares @ rule.starts
    narrow = rule.adapt(omega, ut.TaskBatch(x, y, x, y))
    full = x @ space.basis.T
    np.testing.assert_allclose(
        wide.adapt(space.weights(omega), ut.TaskBatch(full, y, full, y)), space.weights(narrow), atol=1e-10
    )


def test_wide_tables_are_searched_by_default():
    wide = np.random.default_rng(1).standard_normal((60, 400))
    groups = np.repeat(np.arange(10), 6)
    target = wide[:, 0] + groups % 3 + 0.1 * np.random.default_rng(2).standard_normal(60)
    model = cv(n_support=3, cv=3, n_rates=9).fit(wide.astype(np.float32), target, groups=groups)
    assert model.coef_.shape == (400,)
    assert model.coef_.dtype == np.float32
    assert "mixed_isotropic" in model.choice_.candidates
    assert "mixed_diagonal" not in model.choice_.candidates
    assert model.choice_.prediction.noise_std is not None


def test_the_share_of_the_strategy_ridge_is_no_ridge():
    """Ridges of the rows' directions are restored; the shares of a blend, one named "ridge", stay what they are."""
    rows = task_rows(np.tile(X, 4), Y, G)
    space = RowSpace.of(rows)
    settings = Settings(2, 3, ("proximal",), ridges=(1e-4, 1e-2), n_draws=1, n_rates=9)
    found = search(space.rows, space.rows, space.settings(settings))
    share = {"ridge": 0.7, "pooled_ridge": 0.3}
    blend = replace(found.choice.candidates["blend"], settings=share, of_folds=(share,) * 3)
    candidates = found.choice.candidates | {"blend": blend}
    restored = space.restored(found._replace(choice=replace(found.choice, candidates=candidates))).choice.candidates
    assert restored["blend"] == blend
    for name in ("signed", "ridge"):
        ours, narrow = restored[name], candidates[name]
        for one, before in zip((ours.settings, *ours.of_folds), (narrow.settings, *narrow.of_folds), strict=True):
            assert one["ridge"] == pytest.approx(before["ridge"] / space.ridge_factor)
            assert one["ridge"] in (pytest.approx(1e-4), pytest.approx(1e-2))
