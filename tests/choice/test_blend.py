"""Blends of strategies: shares against brute force, weights against the parts adapted one by one."""

import numpy as np
import pytest
from made import cv, table, task_rows
from scipy.optimize import minimize

import undertow as ut
from undertow.choice import search
from undertow.choice.blend import blended, least, nested, shares
from undertow.choice.plan import Found, Plan
from undertow.choice.proximal_family import gather_moments
from undertow.choice.search import _blend
from undertow.linear.rules import BlendRule, GradientRule, ProximalRule, blend_of
from undertow.tasks import folds
from undertow.tasks.losses import balance

X, Y, G = table(m=24, seed=5, task_std=0.7)


def errors(m=40, n=4, seed=0, common=1.0):
    """Errors (m, n, 6) of n strategies, alike up to ``common``, with a quality of their own."""
    rng = np.random.default_rng(seed)
    shared = common * rng.standard_normal((m, 1, 6))
    return shared + np.linspace(0.5, 1.0, n)[:, None] * rng.standard_normal((m, n, 6))


def products_of(e):
    return 0.5 * np.einsum("mav,mbv->mab", e, e) / e.shape[2]


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
    weights = balance(np.linspace(1, 30, 40))
    found = shares(products, weights, seed=3)
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
    assert shares(products_of(e), np.ones(40))[0] == pytest.approx(1, abs=1e-4)
    for n_tasks in (1, 2):
        assert shares(products_of(e[:n_tasks]), np.ones(n_tasks)).sum() == pytest.approx(1)


def test_the_blended_loss_is_that_of_the_combined_errors():
    e, share = errors(), np.array([0.1, 0.2, 0.3, 0.4])
    combined = np.einsum("a,mav->mv", share, e)
    np.testing.assert_allclose(blended(products_of(e), share), 0.5 * (combined**2).mean(axis=1), rtol=1e-12)


def test_nested_losses_know_nothing_of_their_own_fold():
    e, fold = errors(m=30), np.arange(30) % 3
    products, weights = products_of(e), np.ones(30)
    found = nested(products, weights, fold)
    for k in range(3):
        share = shares(products[fold != k], weights[fold != k])
        np.testing.assert_allclose(found[fold == k], blended(products[fold == k], share), rtol=1e-12)
    other = products.copy()
    other[fold == 1] *= np.random.default_rng(0).uniform(0.1, 10, (10, 1, 1))
    ratio = nested(other, weights, fold)[fold == 1] / found[fold == 1]
    np.testing.assert_allclose(ratio, other[fold == 1][:, 0, 0] / products[fold == 1][:, 0, 0], rtol=1e-9)


def parts_by_hand(rule, x, y):
    """theta of a blend from dense formulas, for one task."""
    theta = 0
    for part, share, start in zip(rule.parts, rule.shares, rule.starts, strict=True):
        if isinstance(part, GradientRule):
            own = start
            for _ in range(part.steps):
                own = own - part.rate * x.T @ (x @ own - y) / len(x)
        elif np.isinf(part.ratio):
            own = start
        else:
            c = np.eye(x.shape[1]) if part.covariance is None else part.covariance
            c = np.diag(c) if c.ndim == 1 else c
            own = start + c @ x.T @ np.linalg.solve(x @ c @ x.T + part.ratio * np.eye(len(x)), y - x @ start)
        theta = theta + share * own
    return theta


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
        np.testing.assert_allclose(theta[i], parts_by_hand(rule, x[i], y[i]), rtol=1e-10)


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
    assert model.rule_ == model.choice_.strategy == "blend"
    share = model.choice_.settings
    assert list(share.values()) == sorted(share.values(), reverse=True)
    assert sum(share.values()) == pytest.approx(1)
    assert set(share) <= set(model.choice_.losses) - {"blend"}
    rule = model._rules[0]
    assert rule.shares.sum() <= 1 + 1e-12
    name, most = next(iter(share.items()))
    assert f"a blend of strategies ({100 * most:.0f} % {describe(name)}" in model.choice_.explanation
    x, y = X[:7], Y[:7]
    z, t = model._standard.features(x), model._standard.targets(y[:, None])[:, 0]
    expected = parts_by_hand(rule, z, t) - rule.shares @ rule.starts + model._omega[0]
    np.testing.assert_allclose(model.adapt(x, y)._omega[0], expected, rtol=1e-9)
    # Rates are there to be read, though a blend has none of its own.
    choice = model.choice_
    assert model.train_rate_spectral_ == pytest.approx(choice.train_rate)
    assert model.adapt_rate_spectral_ == pytest.approx(choice.adapt_rate)
    assert model.train_rate_ == pytest.approx(choice.train_rate * model.scale_)
    assert model.ridge_ is None


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 1.0, 1.0]])
def test_further_rows_go_on_from_where_the_parts_are(model, weights):
    x, y = X[:5], Y[:5]
    once = model.adapt(x, y, sample_weight=weights)
    twice = once.adapt(X[5:9], Y[5:9])
    rule, moved = model._rules[0], once._rules[0]
    z, t = model._standard.features(x), model._standard.targets(y[:, None])[:, 0]
    if weights is None:
        np.testing.assert_allclose(
            rule.shares @ (moved.starts - rule.starts), once._omega[0] - model._omega[0], rtol=1e-9
        )
        np.testing.assert_allclose(rule.shares @ moved.starts, parts_by_hand(rule, z, t), rtol=1e-9)
    z, t = model._standard.features(X[5:9]), model._standard.targets(Y[5:9, None])[:, 0]
    expected = parts_by_hand(moved, z, t) - moved.shares @ moved.starts + once._omega[0]
    np.testing.assert_allclose(twice._omega[0], expected, rtol=1e-9)
    # The same rows again and again bring the weights nearer to a fit of them, and never away from it.
    error, again = [], model
    for _ in range(5):
        again = again.adapt(x, y)
        error.append(((again.predict(x) - y) ** 2).mean())
    assert error == sorted(error, reverse=True)


def test_the_blend_is_made_from_the_held_out_errors_with_tasks_balanced(model, monkeypatch):
    seen = []

    def recorded(products, weights, seed=0, least_share=0.0):
        seen.append((products, weights))
        return shares(products, weights, seed, least_share)

    monkeypatch.setattr(search, "shares", recorded)
    again = cv().fit(X, Y, groups=G)
    held_out = again.held_out_
    assert held_out.names[-1] == "blend"
    ((products, weights),) = seen
    # Two draws of each row: r of r / (r + 10) is the number of query rows of one.
    np.testing.assert_array_equal(np.sort(held_out.weights / 2), np.sort(task_rows(X, Y, G).counts - 5))
    np.testing.assert_allclose(weights, balance(held_out.weights / 2), rtol=1e-12)
    np.testing.assert_allclose(np.diagonal(products, axis1=1, axis2=2), held_out.losses[:, :-1], rtol=1e-12)
    share = shares(products, weights)
    names = held_out.names
    assert again.choice_.settings == pytest.approx({names[i]: share[i] for i in range(len(share)) if share[i] > 0})
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_whole_number_weights_are_copies_for_every_part_of_a_blend():
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float)
    model = cv().fit(X, Y, groups=G)
    kinds = {type(part) for part in model._rules[0].parts}
    if kinds == {ProximalRule}:
        start = model._rules[0].starts[0]
        old = model._rules[0]
        model._rules = (
            BlendRule(
                (*old.parts, GradientRule(0.2, 1)), np.append(0.5 * old.shares, 0.5), np.vstack([old.starts, start])
            ),
        )
        model._omega = (model._rules[0].shares @ model._rules[0].starts)[None]
    one = G == 3
    copies = np.repeat(np.arange(int(one.sum())), weights[one].astype(int))
    weighted = model.adapt(X[one], Y[one], sample_weight=weights[one])
    copied = model.adapt(X[one][copies], Y[one][copies])
    np.testing.assert_allclose(weighted.coef_, copied.coef_, rtol=1e-9)


def test_without_a_blend_or_with_the_gradient_rule_alone_one_strategy_is_used(model):
    single = cv(blend=False).fit(X, Y, groups=G)
    assert "blend" not in single.choice_.losses
    balanced = balance(single.held_out_.weights / 2) @ single.held_out_.losses
    assert single.rule_ == single.held_out_.names[int(balanced.argmin())]
    for name in single.held_out_.names:
        assert single.choice_.losses[name] == model.choice_.losses[name]
    gradient = cv(rules="gradient").fit(X, Y, groups=G)
    assert "blend" not in gradient.choice_.losses
    assert gradient.rule_ in ("joint", "step", "tied", "signed")


@pytest.mark.wrong_type
def test_the_switch_is_true_or_false():
    with pytest.raises(ut.InputError, match="blend='yes': it must be True or False"):
        cv(blend="yes").fit(X, Y, groups=G)


def test_a_blend_that_is_clearly_worse_on_held_out_tasks_is_not_used(monkeypatch):
    def poor(products, weights, fold, seed=0, least_share=0.0):
        return products[:, 0, 0] + 100.0

    monkeypatch.setattr(search, "nested", poor)
    found = cv().fit(X, Y, groups=G)
    assert found.rule_ != "blend"
    assert "blend" in found.choice_.losses


@pytest.mark.parametrize(("worse", "used"), [(0.15, True), (0.35, False)])
def test_an_outlier_that_makes_the_standard_error_large_does_not_excuse_a_blend_that_is_much_worse(
    worse, used, monkeypatch
):
    def poor(products, weights, fold, seed=0, least_share=0.0):
        losses = np.diagonal(products, axis1=1, axis2=2)
        alone = losses[:, (weights @ losses).argmin()]
        one = np.zeros(len(alone))
        one[3] = worse * (weights @ alone) / weights[3]  # all of it in a single task: less than three standard errors
        return alone + one

    monkeypatch.setattr(search, "nested", poor)
    assert (cv().fit(X, Y, groups=G).rule_ == "blend") == used


def test_several_targets_share_their_shares_but_not_their_weights():
    parts = [
        Found(np.full((2, 3), i + 1.0), (GradientRule(0.1 * (i + 1)), GradientRule(0.2 * (i + 1))), {})
        for i in range(3)
    ]
    found = _blend([parts[0], parts[2]], ["a", "c"], np.array([0.25, 0.75]))
    assert found.settings == {"c": 0.75, "a": 0.25}
    np.testing.assert_allclose(found.weights, 0.25 * 1 + 0.75 * 3)
    # Two single steps are one: 0.25 * 0.2 + 0.75 * 0.6.
    assert [part.rate for part in found.rules[1].parts] == pytest.approx([0.5])
    model = cv().fit(X, np.c_[Y, -(Y**2)], groups=G)
    assert len(model._rules) == 2
    if model.rule_ == "blend":
        np.testing.assert_array_equal(model._rules[0].shares, model._rules[1].shares)


@pytest.mark.long
def test_blends_beat_single_choices_on_average():
    """Ten simulated tables with few tasks: gains of the blend over the single choice, paired by table."""
    gains = []
    for seed in range(10):
        x, y, g = table(m=160, seed=100 + seed, task_std=0.8, noise=0.8)
        train = g < 20
        both = [
            cv(blend=blend).fit(x[train], y[train], groups=g[train]).score(x[~train], y[~train], groups=g[~train])
            for blend in (True, False)
        ]
        gains.append(both[0] - both[1])
    mean, error = np.mean(gains), np.std(gains, ddof=1) / np.sqrt(10)
    assert mean > -2 * error


def test_the_plan_of_a_blend_uses_the_same_rows_for_every_strategy():
    rows = task_rows(X, Y, G)
    plan = Plan(rows, rows, folds(rows.ids, 3, 0), 4, 1, 0)
    moments, proximal = gather_moments(plan, 1, (1.0, np.inf))
    assert moments.weight.sum() == sum(part.weight for part in proximal[0])
