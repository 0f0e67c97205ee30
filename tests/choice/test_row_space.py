"""More columns than rows: the search in the rows' own directions is the search in all columns."""

from dataclasses import replace

import numpy as np
import pytest
from made import cv, task_rows

import undertow as ut
from undertow.choice.limits import LIMITS
from undertow.choice.row_space import RowSpace
from undertow.choice.search import RULES, Settings, search
from undertow.linear import rate_path
from undertow.linear.rules import BlendRule, ProximalRule

RNG = np.random.default_rng(0)
M, N, P = 9, 5, 170
X = RNG.standard_normal((M * N, P)) * np.linspace(0.5, 2, P) + 1
G = np.repeat(np.arange(M), N)
W = RNG.standard_normal(P) / 12 + RNG.standard_normal((M, P)) / 24
Y = (X * W[G]).sum(axis=1) + RNG.standard_normal(M)[G] + 0.3 * RNG.standard_normal(M * N)
ROWS = task_rows(X, Y, G)


def test_the_basis_spans_the_rows_and_keeps_every_product():
    rows, space = ROWS, RowSpace.of(ROWS)
    z, y = rows.inputs(), space.rows.inputs()
    assert y.shape == (M * N, M * N - 1 + 1)  # centred: one direction less; and the constant feature
    np.testing.assert_allclose(space.basis.T @ space.basis, np.eye(y.shape[1]), atol=1e-12)
    np.testing.assert_allclose(y @ space.basis.T, z, atol=1e-9)
    np.testing.assert_array_equal(y[:, -1], 1)
    np.testing.assert_allclose(space.weights(np.eye(y.shape[1])[3]), space.basis[:, 3])
    assert RowSpace.of(task_rows(X[:, :60], Y, G)) is None  # few columns: nothing to gain
    repeated = task_rows(np.repeat(X, 6, axis=0), np.repeat(Y, 6), np.repeat(G, 6))
    assert RowSpace.of(repeated) is None


@pytest.fixture(scope="module", params=["mixed", "proximal", "gradient", "all"])
def both(request):
    """Searches in all columns and in the rows' directions; no variance for each feature."""
    rules = RULES if request.param == "all" else (request.param,)
    limits = replace(LIMITS, diagonal_columns=0)
    blend = request.param == "all"
    settings = Settings(2, 3, rules, blend, (1e-4, 1e-2), n_draws=2, n_rates=21, limits=limits)
    space = RowSpace.of(ROWS)
    found = search(space.rows, space.rows, space.settings(settings))
    return search(ROWS, ROWS, settings), space.restored(found), space, found


def test_the_search_is_the_same_to_rounding(both):
    primal, rotated, _, _ = both
    ours, theirs = rotated.choice, primal.choice
    assert ours.strategy == theirs.strategy
    assert ours.candidates.keys() == theirs.candidates.keys()
    for name, one in theirs.candidates.items():
        again = ours.candidates[name]
        assert (again.mse, again.standard_error) == pytest.approx((one.mse, one.standard_error), rel=1e-3)
        for chosen, expected in zip((again.settings, *again.of_folds), (one.settings, *one.of_folds), strict=True):
            # The spread of tasks is summed over the directions there are.
            spread = {"task_std"} & set(chosen)
            assert {k: v for k, v in chosen.items() if k not in spread} == pytest.approx(
                {k: v for k, v in expected.items() if k not in spread}, rel=1e-3, abs=1e-4
            )
            assert all(chosen[k] < expected[k] for k in spread)
    np.testing.assert_allclose(
        rotated.best.weights, primal.best.weights, rtol=1e-3, atol=1e-4 * np.abs(primal.best.weights).max()
    )
    assert rotated.best.settings == ours.settings
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-9)
    np.testing.assert_allclose(rotated.surface.ridges, primal.surface.ridges)
    np.testing.assert_allclose(rotated.surface.products, primal.surface.products, rtol=1e-5, atol=1e-9)


def test_tasks_outside_the_span_are_adapted_in_all_columns(both):
    primal, rotated, space, _ = both
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((1, 4, P + 1)) * 2, rng.standard_normal((1, 4)) + 2
    batch = ut.TaskBatch(x, y, x, y)
    ours, theirs = (one.best.rules[0].adapt(one.best.weights[0], batch) for one in (rotated, primal))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    if rotated.choice.strategy != "joint":
        outside = ours[0] - space.weights(ours[0] @ space.basis)
        assert np.abs(outside).max() > 1e-3


def test_the_path_has_all_columns_and_can_be_asked_for_more_rates(both):
    primal, _, space, found = both
    ridge = primal.choice.signed["ridge"]
    theirs = rate_path(primal.moments.moments(), ridge=ridge)
    ours = space.path(rate_path(found.moments.moments(), ridge=ridge * space.ridge_factor))
    assert ours.weights.shape == theirs.weights.shape
    np.testing.assert_allclose(ours.ridges, theirs.ridges)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-4, atol=1e-6)
    rates = np.array([-0.2, 0.0, 0.3]) * ours.scale
    np.testing.assert_allclose(ours.at(rates).weights, theirs.at(rates).weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("both", ["all"], indirect=True)
def test_the_share_of_the_strategy_ridge_is_no_ridge(both):
    """Ridges of the rows' directions are restored; the shares of a blend stay what they are."""
    _, _, space, found = both
    share = {"ridge": 0.7, "signed": 0.3}
    blend = replace(found.choice.candidates["blend"], settings=share, of_folds=(share,) * 3)
    candidates = found.choice.candidates | {"blend": blend}
    choice = space.restored(found._replace(choice=replace(found.choice, candidates=candidates))).choice
    assert choice.candidates["blend"] == blend
    for name in ("signed", "ridge"):
        ours, before = choice.candidates[name], candidates[name]
        for one, narrow in zip((ours.settings, *ours.of_folds), (before.settings, *before.of_folds), strict=True):
            assert one["ridge"] == pytest.approx(narrow["ridge"] / space.ridge_factor)
            assert one["ridge"] in (pytest.approx(1e-4), pytest.approx(1e-2))


def widened(space, rule):
    """The rule as ``restored`` makes it of a search that found it."""
    settings = Settings(2, 3, ("gradient",), ridges=(1e-2,), n_draws=1, n_rates=9)
    found = search(space.rows, space.rows, space.settings(settings))
    return space.restored(found._replace(best=found.best._replace(rules=(rule,)))).best.rules[0]


def test_rules_are_widened_part_by_part():
    space = RowSpace.of(ROWS)
    d, r = space.basis.shape
    rule = BlendRule(
        (ProximalRule(2.0), ProximalRule(0.5, np.append(np.full(r - 1, 0.3), 0.7))),
        np.array([0.5, 0.5]),
        RNG.standard_normal((2, r)),
    )
    wide = widened(space, rule)
    assert wide.parts[0].covariance is None
    np.testing.assert_array_equal(wide.parts[1].covariance, np.append(np.full(d - 1, 0.3), 0.7))
    x, y = space.rows.inputs(np.arange(5))[None], RNG.standard_normal((1, 5))
    omega = rule.shares @ rule.starts
    narrow = rule.adapt(omega, ut.TaskBatch(x, y, x, y))
    full = x @ space.basis.T
    np.testing.assert_allclose(
        wide.adapt(space.weights(omega), ut.TaskBatch(full, y, full, y)), space.weights(narrow), atol=1e-10
    )


def test_wide_tables_are_searched_by_default(tmp_path):
    wide = np.random.default_rng(1).standard_normal((60, 400))
    groups = np.repeat(np.arange(10), 6)
    target = wide[:, 0] + groups % 3 + 0.1 * np.random.default_rng(2).standard_normal(60)
    model = cv(n_support=3, cv=3, n_rates=9).fit(wide.astype(np.float32), target, groups=groups)
    assert model.coef_.shape == (400,)
    assert model.coef_.dtype == np.float32
    assert "mixed_isotropic" in model.choice_.candidates
    assert "mixed_diagonal" not in model.choice_.candidates
    assert model.choice_.prediction.noise_std is not None
    pytest.importorskip("safetensors")
    ut.estimators.save(model, tmp_path / "m.safetensors")
    again = ut.estimators.load(tmp_path / "m.safetensors")
    rates = np.array([-0.2, 0.3]) * model.scale_
    np.testing.assert_array_equal(again.rate_path_.at(rates).weights, model.rate_path_.at(rates).weights)
    np.testing.assert_array_equal(again.predict(wide), model.predict(wide))
