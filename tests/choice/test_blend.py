"""Blends of strategies: shares against brute force, weights against the parts adapted one by one."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from made import cv, plan_of, table, theta_by_hand
from scipy.optimize import minimize

import undertow as ut
from undertow.choice import search
from undertow.choice.blend import blended, least, shares
from undertow.choice.gradient_family import GRADIENT, GradientFamily
from undertow.choice.held_out import held_out_errors
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, default_ratios, gather_moments
from undertow.choice.record import Gain
from undertow.linear.rules import BlendRule, GradientRule, ProximalRule, blend_of

X, Y, G = table(m=24, seed=5, task_std=0.7)


def errors(m=40, n=4, seed=0, common=1.0):
    """Errors (m, n, 6) of n strategies, alike up to ``common``, with a quality of their own."""
    rng = np.random.default_rng(seed)
    shared = common * rng.standard_normal((m, 1, 6))
    return shared + np.linspace(0.5, 1.0, n)[:, None] * rng.standard_normal((m, n, 6))


def products_of(e):
    return np.einsum("mav,mbv->mab", e, e) / e.shape[2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("common", [0.0, 1.0, 30.0])
def test_the_least_combination_is_that_of_a_general_optimiser(seed, common):
    matrix = products_of(errors(seed=seed, common=common)).mean(axis=0)
    found = least(matrix)
    start = np.full(4, 0.25)
    best = minimize(
        lambda s: s @ matrix @ s / matrix.mean(),
        start,
        jac=lambda s: 2 * matrix @ s / matrix.mean(),
        method="SLSQP",
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda s: s.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found @ matrix @ found == pytest.approx(best.x @ matrix @ best.x, rel=1e-7)
    # No direction within the simplex goes down: the condition of Karush, Kuhn and Tucker.
    slope = matrix @ found
    assert slope.min() >= found @ slope - 1e-6 * abs(slope).max()


def test_two_strategies_have_the_share_of_the_formula():
    matrix = np.array([[2.0, 0.3], [0.3, 1.0]])
    np.testing.assert_allclose(least(matrix), [0.7 / 2.4, 1.7 / 2.4], rtol=1e-6)
    np.testing.assert_allclose(least(np.array([[2.0, 1.2], [1.2, 1.0]])), [0, 1], atol=1e-9)
    np.testing.assert_array_equal(least(np.diag([0.0, 1.0])), [1, 0])
    np.testing.assert_array_equal(least(np.zeros((2, 2))), [1, 0])


def test_shares_are_half_the_mean_minimum_and_half_the_odds_of_being_best():
    products = products_of(errors(seed=7))
    weights = np.linspace(1, 30, 40) / 620
    found = shares(products, weights, seed=3, least_share=0.02)
    drawn = np.random.default_rng(3).exponential(size=(200, 40)) * weights
    best, minima = np.zeros(4), []
    for i, w in enumerate(drawn):
        mean = np.average(products, axis=0, weights=w)
        best[mean.diagonal().argmin()] += 1 / 200
        if i < 20:
            minima.append(least(mean))
    expected = 0.5 * best + 0.5 * np.mean(minima, axis=0)
    expected = np.where(expected < 0.02, 0, expected)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-6)
    assert found.sum() == pytest.approx(1)


def test_a_strategy_that_is_better_everywhere_gets_all():
    e = errors(n=3)
    e[:, 0] = 0.01 * e[:, 0]
    assert shares(products_of(e), np.ones(40), 0, 0.02)[0] == pytest.approx(1, abs=1e-4)
    for n_tasks in (1, 2):
        assert shares(products_of(e[:n_tasks]), np.ones(n_tasks), 0, 0.02).sum() == pytest.approx(1)


def test_shares_beat_the_choice_of_the_best_on_new_tasks():
    """Expected loss on new tasks, known here, of shares and of the best strategy, both found on few tasks."""
    quality = np.linspace(0.5, 1.0, 4) ** 2
    true = 1.0 + np.diag(quality)
    gains = []
    for seed in range(200):
        products = products_of(errors(m=12, seed=seed))
        share = shares(products, np.ones(12), seed, 0.02)
        best = products.mean(axis=0).diagonal().argmin()
        gains.append(true[best, best] - share @ true @ share)
    assert np.mean(gains) > 4 * np.std(gains, ddof=1) / np.sqrt(len(gains))


def test_no_share_is_below_the_least_one():
    products = products_of(errors(n=6, seed=2, common=0.0))
    whole = shares(products, np.ones(40), 0, 0.0)
    assert (whole > 0).all()
    for least_share in (0.05, 0.15, 0.2):
        found = shares(products, np.ones(40), 0, least_share)
        kept = whole >= least_share
        assert 0 < kept.sum() < 6
        np.testing.assert_allclose(found, np.where(kept, whole, 0) / whole[kept].sum(), rtol=1e-12)
    # Where none reaches it, the largest is all there is.
    found = shares(products, np.ones(40), 0, 0.99)
    np.testing.assert_array_equal(found, whole == whole.max())


def test_the_blended_loss_is_that_of_the_combined_errors():
    e, share = errors(), np.array([0.1, 0.2, 0.3, 0.4])
    combined = np.einsum("a,mav->mv", share, e)
    np.testing.assert_allclose(blended(products_of(e), share), (combined**2).mean(axis=1), rtol=1e-12)


def test_a_blend_adapts_as_its_parts_do():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 6, 3)), rng.standard_normal((5, 6))
    rule = BlendRule(
        (GradientRule(0.3, 2), ProximalRule(0.7), ProximalRule(0.5, np.array([1.0, 0.0, 2.0])), ProximalRule(np.inf)),
        np.array([0.4, 0.3, 0.2, 0.1]),
        rng.standard_normal((4, 3)),
    )
    omega = rule.shares @ rule.starts
    theta = rule.adapt(omega, ut.TaskBatch(x, y, x, y))
    for i in range(5):
        np.testing.assert_allclose(theta[i], theta_by_hand(rule, None, x[i], y[i]), rtol=1e-10)


def test_parts_that_move_alike_are_one_part():
    rng = np.random.default_rng(1)
    covariance = np.array([0.5, 1.0, 0.2])
    rules = [
        GradientRule(0.3), GradientRule(0.1), GradientRule(-0.2), GradientRule(0.2, 2), GradientRule(0.0),
        ProximalRule(1.5), ProximalRule(1.5), ProximalRule(np.inf), ProximalRule(0.4, covariance), ProximalRule(0.3),
    ]  # fmt: skip
    share, starts = rng.dirichlet(np.ones(10)), rng.standard_normal((10, 3))
    x, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 5))
    batch = ut.TaskBatch(x, y, x, y)
    found = blend_of(rules, share, starts)
    assert len(found.parts) == 6
    expected = sum(s * rule.adapt(start, batch) for s, rule, start in zip(share, rules, starts, strict=True))
    np.testing.assert_allclose(found.adapt(share @ starts, batch), expected, rtol=1e-10)
    still = blend_of([GradientRule(0.0), ProximalRule(np.inf)], np.array([0.5, 0.5]), starts[:2])
    np.testing.assert_array_equal(still.adapt(starts[0], batch), np.repeat(starts[:1], 4, axis=0))
    with pytest.raises(TypeError, match="a blend of blends"):
        blend_of([found], np.ones(1), starts[:1])


@pytest.fixture(scope="module")
def model():
    return cv().fit(X, Y, groups=G)


def test_the_estimator_uses_the_blend_and_says_so(model):
    choice = model.choice_
    assert model.strategy_ == choice.strategy == "blend"
    share = choice.settings
    assert list(share.values()) == sorted(share.values(), reverse=True)
    assert sum(share.values()) == pytest.approx(1)
    assert set(share) <= set(choice.candidates) - {"blend"}
    rule, omega = model.model_.rules[0], model.model_.omega[0]
    assert rule.shares.sum() <= 1 + 1e-12
    x, y = X[:7], Y[:7]
    z, t = model.model_.standard.features(x), model.model_.standard.targets(y[:, None])[:, 0]
    expected = theta_by_hand(rule, None, z, t) - rule.shares @ rule.starts + omega
    np.testing.assert_allclose(model.adapt(x, y).model_.omega[0], expected, rtol=1e-9)
    # Rates are there to be read, though a blend has none of its own.
    for name in ("train_rate", "adapt_rate"):
        assert getattr(model, f"{name}_") == choice.signed[name]
        assert getattr(model, f"{name}_spectral_") == pytest.approx(choice.signed[f"{name}_spectral"], rel=1e-12)


def test_a_share_is_never_taken_for_a_ridge():
    """The shares of a blend stand under names of strategies, and one of these is "ridge"."""
    for seed in range(20):
        x, y, g = table(m=12, seed=seed, task_std=0.7)
        model = cv(rules="proximal", n_draws=1, n_rates=9).fit(x, y, groups=g)
        if "ridge" in model.choice_.settings and model.strategy_ == "blend":
            break
    else:
        pytest.fail("no blend with the strategy 'ridge' among 20 tables")
    assert 0 < model.choice_.settings["ridge"] < 1
    assert model.ridge_ is model.steps_ is None
    assert model.rate_path_.ridges[0] == model.choice_.signed["ridge"]


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 1.0, 1.0]])
def test_further_rows_go_on_from_where_the_parts_are(model, weights):
    x, y = X[:5], Y[:5]
    once = model.adapt(x, y, sample_weight=weights)
    twice = once.adapt(X[5:9], Y[5:9])
    rule, moved = model.model_.rules[0], once.model_.rules[0]
    z, t = model.model_.standard.features(x), model.model_.standard.targets(y[:, None])[:, 0]
    if weights is None:
        np.testing.assert_allclose(
            rule.shares @ (moved.starts - rule.starts), once.model_.omega[0] - model.model_.omega[0], rtol=1e-9
        )
        np.testing.assert_allclose(rule.shares @ moved.starts, theta_by_hand(rule, None, z, t), rtol=1e-9)
    z, t = model.model_.standard.features(X[5:9]), model.model_.standard.targets(Y[5:9, None])[:, 0]
    expected = theta_by_hand(moved, None, z, t) - moved.shares @ moved.starts + once.model_.omega[0]
    np.testing.assert_allclose(twice.model_.omega[0], expected, rtol=1e-9)
    # The same rows again and again bring the weights nearer to a fit of them, and never away from it.
    error, again = [], model
    for _ in range(5):
        again = again.adapt(x, y)
        error.append(((again.predict(x) - y) ** 2).mean())
    assert error == sorted(error, reverse=True)


def test_the_blend_is_made_from_held_out_errors_and_judged_without_the_fold():
    found = cv(rules="proximal", n_support=4, cv=4, weighting="rows").fit(X, Y, groups=G)
    plan = plan_of(X, Y, G)
    _, proximal = gather_moments(plan, 1, default_ratios(plan))
    families = dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, (1e-4, 1e-2)))
    held_out, _ = held_out_errors(plan, PROXIMAL, families)
    blend = found.choice_.candidates["blend"]
    share = shares(held_out.products, held_out.weights, 0, plan.limits.least_share)
    assert blend.settings == pytest.approx({name: one for name, one in zip(PROXIMAL, share, strict=True) if one > 0})
    mse = found.held_out_.of("blend")
    for fold in range(4):
        inner, _ = held_out_errors(plan, PROXIMAL, families, fold)
        share = shares(inner.products, inner.weights, 0, plan.limits.least_share)
        chosen = {name: one for name, one in zip(PROXIMAL, share, strict=True) if one > 0}
        assert blend.of_folds[fold] == pytest.approx(chosen)
        own = held_out.folds == fold
        np.testing.assert_allclose(mse[own], blended(held_out.products[own], share), rtol=1e-9)


def test_whole_number_weights_are_copies_for_every_part_of_a_blend(model):
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float)
    rule = BlendRule(
        (ProximalRule(2.0), GradientRule(0.2), ProximalRule(0.3, np.array([1.0, 0.0, 2.0, 0.5]))),
        np.array([0.3, 0.4, 0.3]),
        np.random.default_rng(2).standard_normal((3, 4)),
    )
    value = replace(model.model_, rules=(rule,), omega=(rule.shares @ rule.starts)[None])
    one = G == 3
    copies = np.repeat(np.arange(int(one.sum())), weights[one].astype(int))
    weighted = value.adapt(value.rows(X[one], Y[one, None], weights[one]))
    copied = value.adapt(value.rows(X[one][copies], Y[one, None][copies]))
    np.testing.assert_allclose(weighted.omega, copied.omega, rtol=1e-9)
    assert np.abs(weighted.omega - value.adapt(value.rows(X[one], Y[one, None])).omega).max() > 1e-3


@pytest.fixture(scope="module")
def single():
    return cv(blend=False).fit(X, Y, groups=G)


def test_without_a_blend_or_with_the_gradient_rule_alone_one_strategy_is_used(model, single):
    assert "blend" not in single.choice_.candidates
    mse = single.held_out_.mse[:, :-1].mean(axis=0)
    assert single.strategy_ == single.held_out_.names[int(mse.argmin())]
    for name, one in single.choice_.candidates.items():
        # What a gain is over depends on the strategy used.
        assert replace(one, gain=Gain(0, 0, 0, 0)) == replace(model.choice_.candidates[name], gain=Gain(0, 0, 0, 0))
    gradient = cv(rules="gradient").fit(X, Y, groups=G)
    assert "blend" not in gradient.choice_.candidates
    assert gradient.strategy_ in ("joint", "step", "tied", "signed")


def shares_of(monkeypatch, name, names):
    """Let every blend be a single strategy."""
    share = (np.array(names) == name).astype(float)
    assert share.sum() == 1
    monkeypatch.setattr(sys.modules[search.__module__], "shares", lambda *args: share)


def test_a_blend_that_is_clearly_worse_on_held_out_tasks_is_not_used(single, monkeypatch):
    names = tuple(single.choice_.candidates)
    worst = names[int(single.held_out_.mse[:, :-1].mean(axis=0).argmax())]
    shares_of(monkeypatch, worst, names)
    found = cv().fit(X, Y, groups=G)
    np.testing.assert_allclose(found.held_out_.of("blend"), single.held_out_.of(worst), rtol=1e-12)
    assert found.strategy_ == single.strategy_
    np.testing.assert_array_equal(found.coef_, single.coef_)


def test_a_blend_of_one_strategy_is_that_strategy(single, monkeypatch):
    shares_of(monkeypatch, single.strategy_, tuple(single.choice_.candidates))
    found = cv().fit(X, Y, groups=G)
    assert found.strategy_ == single.strategy_
    np.testing.assert_array_equal(found.adapt(X[:4], Y[:4]).coef_, single.adapt(X[:4], Y[:4]).coef_)


@pytest.mark.parametrize(("worse", "used"), [(0.15, True), (0.35, False)])
def test_an_outlier_that_makes_the_standard_error_large_does_not_excuse_a_blend_that_is_much_worse(
    worse, used, single, monkeypatch
):
    best = single.held_out_.names.index(single.strategy_)
    weights = np.full(24, 1 / 24)
    # All of it in the first task that is tested: less than three standard errors.
    outlier = [worse * (weights @ single.held_out_.of(single.strategy_)) / weights[0]]

    def poor(products, share):
        mse = products[:, best, best].copy()
        if outlier:
            mse[0] += outlier.pop()
        return mse

    monkeypatch.setattr(sys.modules[search.__module__], "blended", poor)
    found = cv().fit(X, Y, groups=G)
    assert (found.strategy_ == "blend") == used
    assert found.held_out_.of("blend")[1:] == pytest.approx(single.held_out_.of(single.strategy_)[1:])


def test_several_targets_share_their_shares_but_not_their_weights():
    both = np.c_[Y, X[:, 0] - 0.1 * Y]
    model = cv(n_support=4, cv=4, rules=("gradient", "proximal"), weighting="rows").fit(X, both, groups=G)
    assert model.strategy_ == "blend"
    plan = plan_of(X, both, G)
    moments, proximal = gather_moments(plan, 1, default_ratios(plan))
    families = dict.fromkeys(GRADIENT, GradientFamily(plan, moments, (1e-4, 1e-2), (1,), 21))
    families |= dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, (1e-4, 1e-2), moments))
    share = model.choice_.settings
    assert len(share) > 1
    x, y = X[:6], both[:6]
    adapted = model.adapt(x, y).model_.omega
    z, t = model.model_.standard.features(x), model.model_.standard.targets(y)
    for j in range(2):
        parts = {name: families[name].found(name) for name in share}
        omega = sum(share[name] * one.weights[j] for name, one in parts.items())
        np.testing.assert_allclose(model.model_.omega[j], omega, rtol=1e-7)
        theta = sum(
            share[name] * theta_by_hand(one.rules[j], one.weights[j], z, t[:, j]) for name, one in parts.items()
        )
        np.testing.assert_allclose(adapted[j], theta, rtol=1e-7)


def test_the_plan_of_a_blend_uses_the_same_rows_for_every_strategy():
    plan = plan_of(X, Y, G, n_folds=3, n_draws=1)
    moments, proximal = gather_moments(plan, 1, (1.0, np.inf))
    assert moments.weight.sum() == sum(part.weight for part in proximal[0])
