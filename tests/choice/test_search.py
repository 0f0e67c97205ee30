"""The search: every number of it against fits and losses written out row by row."""

from dataclasses import replace

import numpy as np
import pytest
import stacked
from made import by_hand, cv, draws, errors_by_hand, least_squares, plan_of, table
from sklearn.model_selection import GroupKFold

import undertow as ut
from undertow import _circle
from undertow.choice.gradient_family import GradientFamily
from undertow.choice.gram_path import solve
from undertow.choice.held_out import held_out_errors
from undertow.choice.influence import influences
from undertow.choice.limits import LIMITS
from undertow.choice.mixed_family import MixedFamily
from undertow.choice.proximal_family import ProximalFamily, gather_moments
from undertow.choice.search import Settings, search
from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments, deal
from undertow.linear.proximal_step import RidgeMoments
from undertow.linear.rules import ProximalRule
from undertow.mixed.model import fit_mixed
from undertow.tasks import folds

X, Y, G = table(m=23, seed=1)
RATIOS = (0.1, 3.0, np.inf)


def plan(y=Y, **settings):
    return plan_of(X, y, G, **settings)


def moments_by_hand(data, tasks, steps=1):
    return ut.Moments.from_tasks(draws(data.select(tasks), 4, 2), steps=steps)


@pytest.mark.parametrize("steps", [1, 2])
def test_blocks_add_up_to_the_moments_of_the_same_draws(steps):
    one = plan()
    blocks, of_block = deal(one.folds, 10)
    batches = list(one.draws(one.rows, blocks))
    found = BlockMoments.from_batches(batches, blocks, of_block, steps)
    data, _ = by_hand(X, Y, G)
    whole = moments_by_hand(data, np.arange(23), steps)
    np.testing.assert_allclose(found.moments().gram, whole.gram, rtol=1e-9, atol=1e-7)
    assert found.scale == pytest.approx(whole.scale, rel=1e-12)
    assert found.moments().weight == whole.weight == found.n_rows
    for b in range(len(of_block)):
        tasks = np.flatnonzero(blocks == b)
        expected = moments_by_hand(data, tasks, steps).gram
        np.testing.assert_allclose(found.gram[b][:, : 4 + 1], expected, rtol=1e-9, atol=1e-7)
        assert tasks.tolist() == sorted(set(tasks) & set(one.folds[of_block[b]]))
    first = found.first(1)
    np.testing.assert_array_equal(first.gram, found.gram[:, :2, :, :2])


def test_deal_gives_every_task_one_block_of_its_fold_and_limits_memory():
    parts = folds(1000, 5, 0)
    for numbers, least, most in ((100, 50, 1000), (1 << 22, 10, 10)):
        blocks, of_block = deal(parts, numbers)
        assert least <= len(of_block) == blocks.max() + 1 <= most
        assert np.bincount(blocks).min() >= 1
        for i, part in enumerate(parts):
            assert (of_block[blocks[part]] == i).all()


@pytest.mark.parametrize("outer", [None, 2])
def test_held_out_errors_are_those_of_refitting_without_the_fold(outer):
    one = plan()
    moments, proximal = gather_moments(one, 1, RATIOS)
    families = {
        "signed": GradientFamily(one, moments, (1e-3, 1e-1), (1,), 21),
        "ridge": ProximalFamily(one, proximal, (1e-3, 1e-1)),
        "mixed_diagonal": MixedFamily(one, ("diagonal",)),
    }
    held_out, every = held_out_errors(one, list(families), families, outer)
    data, _ = by_hand(X, Y, G)
    # Errors of an inner group are taken on fewer draws.
    n_draws = 2 if outer is None else one.n_inner_draws
    tested = [fold for fold in range(4) if fold != outer]
    assert sorted(held_out.numbers) == sorted(np.concatenate([one.folds[fold] for fold in tested]))
    np.testing.assert_array_equal(held_out.mse, np.diagonal(held_out.products, axis1=1, axis2=2))
    for fold, found in zip(tested, every, strict=True):
        part = one.folds[fold]
        others = np.setdiff1d(np.arange(23), part if outer is None else np.r_[part, one.folds[outer]])
        # omega of the gradient rule and of the proximal rule, trained on the other folds by other code
        chosen = found[0].settings
        path = ut.rate_path(moments_by_hand(data, others), chosen["train_rate"], ridge=chosen["ridge"])
        np.testing.assert_allclose(found[0].weights[0], path.weights[0], rtol=1e-6)
        chosen = found[1].settings
        drawn = RidgeMoments.from_tasks(draws(data.select(others), 4, 2), [chosen["train_ratio"]])
        np.testing.assert_allclose(found[1].weights[0], drawn.solve([chosen["ridge"]]).weights[0, 0], rtol=1e-7)
        own = draws(data.select(part), 4, n_draws)
        errors = [errors_by_hand(own, one_of.weights[0], one_of.rules[0]) for one_of in found]
        for task in part:
            at = int(np.flatnonzero(held_out.numbers == task)[0])
            e = np.array([of_strategy[data.ids[task]] for of_strategy in errors])
            np.testing.assert_allclose(held_out.products[at], e @ e.T / e.shape[1], rtol=1e-8)
            assert held_out.weights[at] == e.shape[1] / n_draws
            assert held_out.folds[at] == fold


def test_the_proximal_family_trains_and_chooses_as_ridge_regression_written_out():
    one, ridges = plan(), (1e-3, 1e-1)
    _, proximal = gather_moments(one, 1, RATIOS)
    family = ProximalFamily(one, proximal, ridges)
    data, _ = by_hand(X, Y, G)

    def weights(tasks, ratio, ridge):
        """omega, ridge regression on what the rule leaves of each task's query rows."""
        pairs = []
        for batch in draws(data.select(tasks), 4, 2):
            for i in range(batch.n_tasks):
                x_t, y_t, x_v, y_v = stacked.task(batch, i)
                gain = 0 if np.isinf(ratio) else x_v @ x_t.T @ np.linalg.inv(x_t @ x_t.T + ratio * np.eye(4))
                pairs.append((x_v, y_v) if np.isinf(ratio) else (x_v - gain @ x_t, y_v - gain @ y_t))
        return least_squares(*(np.concatenate(rows) for rows in zip(*pairs, strict=True)), ridge)

    for outer, inner in ((None, None), (1, None), (1, 0)):
        total = np.zeros((3, 3, 2))
        for i, (fold,) in enumerate(one.groups(outer)):
            if i == inner:
                continue
            part = one.folds[fold]
            seen = np.setdiff1d(np.arange(23), part if outer is None else np.r_[part, one.folds[outer]])
            own = draws(data.select(part), 4, 2)
            for t, train in enumerate(RATIOS):
                for r, ridge in enumerate(ridges):
                    omega = weights(seen, train, ridge)
                    for a, ratio in enumerate(RATIOS):
                        errors = errors_by_hand(own, omega, ProximalRule(ratio))
                        total[a, t, r] += 0.5 * sum((e**2).sum() for e in errors.values())
        np.testing.assert_allclose(family.losses(outer, inner), total, rtol=1e-8)
        assert family.pick("ridge", outer, inner) == tuple(np.unravel_index(total.argmin(), total.shape))
        assert family.pick("pooled_ridge", outer, inner)[1] == 2
        left_out = [one.folds[fold] for fold in one.without(outer, inner)]
        seen = np.setdiff1d(np.arange(23), np.concatenate([np.zeros(0, int), *left_out]))
        for name in ("ridge", "pooled_ridge"):
            found = family.found(name, outer, inner)
            chosen = found.settings
            expected = weights(seen, chosen["train_ratio"], chosen["ridge"])
            np.testing.assert_allclose(found.weights[0], expected, rtol=1e-7)
            assert found.rules[0].ratio == chosen["adapt_ratio"]


@pytest.mark.parametrize("exact", [True, False])
def test_influences_are_what_leaving_out_a_block_does(exact):
    one = plan()
    moments, _ = gather_moments(one, 1, None)
    rates, ridge = np.array([-0.4, 0.0, 0.6]) * moments.scale, 1e-2
    adapt = np.array([0.1, 0.3, 0.2]) * moments.scale
    found = influences(moments, rates, adapt, np.full(3, ridge), exact=exact)
    c, _ = circle.coefficients(rates, moments.scale, 1)
    fold, b = 1, int(np.flatnonzero(moments.folds != 1)[2])
    gram = moments.without((fold,))
    full = np.einsum("ki,kj,iajb->kab", c, c, gram)
    less = np.einsum("ki,kj,iajb->kab", c, c, gram - moments.gram[b] * (1.0 if exact else 1e-6))
    powers = circle.powers(adapt, 1)
    for k in range(3):
        shift = ridge * np.trace(full[k, :4, :4]) / 4 * np.eye(4)
        with_b = np.linalg.solve(full[k, :4, :4] + shift, full[k, :4, 4])
        without = np.linalg.solve(less[k, :4, :4] + shift, less[k, :4, 4])
        for tested in np.flatnonzero(moments.folds == fold):
            form = np.einsum("i,j,iajb->ab", powers[k], powers[k], moments.gram[tested])
            v = np.append(with_b, -1.0)
            assert found.own[tested, k] == pytest.approx(0.5 * v @ form @ v, rel=1e-9)
            moved = (without - with_b) * (1.0 if exact else 1e6)
            assert found.cross[tested, b, k] == pytest.approx(-(form @ v)[:4] @ moved, rel=1e-3 if not exact else 1e-8)
    assert (found.cross[np.ix_(moments.folds == 1, moments.folds == 1)] == 0).all()
    np.testing.assert_allclose(found.losses().of_block.sum(axis=0), 0, atol=1e-12)


def test_tasks_kept_for_a_test_do_not_change_the_estimator():
    test = G >= 18
    a = cv().fit(X[~test], Y[~test], groups=G[~test])
    before = a.coef_.copy(), a.choice_
    a.score(X[test], 1e3 - Y[test] ** 2, groups=G[test])
    a.predict(X[test], groups=G[test])
    np.testing.assert_array_equal(a.coef_, before[0])
    assert a.choice_ == before[1]


def test_folds_may_be_given_as_in_scikit_learn():
    reference = cv(cv=4, n_draws=1, effort="fast").fit(X, Y, groups=G)
    parts = folds(np.unique(G), 4, 0)
    pairs = [(np.flatnonzero(~np.isin(G, np.unique(G)[p])), np.flatnonzero(np.isin(G, np.unique(G)[p]))) for p in parts]
    given = cv(cv=pairs, n_draws=1, effort="fast").fit(X, Y, groups=G)
    assert given.choice_.candidates == reference.choice_.candidates
    assert cv(cv=GroupKFold(3), n_draws=1, effort="fast").fit(X, Y, groups=G).choice_.n_tasks == 23
    thirds = np.array_split(np.arange(len(X)), 3)
    with pytest.raises(ut.InputError, match="folds must hold whole tasks"):
        cv(cv=[(np.setdiff1d(np.arange(len(X)), part), part) for part in thirds]).fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match="exactly one test set"):
        cv(cv=pairs[:3]).fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match="a whole number of folds, a scikit-learn splitter"):
        cv(cv=[1, 2]).fit(X, Y, groups=G)


def test_two_folds_leave_nothing_to_choose_by():
    half = np.isin(G, np.unique(G)[::2])
    pairs = [(np.flatnonzero(half), np.flatnonzero(~half)), (np.flatnonzero(~half), np.flatnonzero(half))]
    # A third test set without a task large enough to be tested is none.
    lone = np.append(G, [99])
    for folds_given, groups in ((2, G), (pairs, G), ([*pairs, (pairs[0][0], np.array([len(G)]))], lone)):
        x, y = (np.append(values, values[:1], axis=0) if groups is lone else values for values in (X, Y))
        with pytest.raises(ut.InputError, match="cv"):
            cv(cv=folds_given).fit(x, y, groups=groups)


def test_three_tasks_are_enough_for_a_search():
    few = np.isin(G, np.arange(3))
    model = cv().fit(X[few], Y[few], groups=G[few])
    assert model.choice_.n_folds == model.choice_.n_tasks == 3
    assert np.isfinite(model.held_out_.mse).all()


def test_many_folds_give_a_search_as_few_do():
    many, few = (cv(cv=k, effort="fast").fit(X, Y, groups=G).choice_ for k in (12, 5))
    assert many.n_folds == 12
    assert all(len(one.of_folds) == 12 for one in many.candidates.values())
    for name, one in many.candidates.items():
        assert one.mse == pytest.approx(few.candidates[name].mse, rel=0.3)


def test_the_even_angles_hold_zero_and_infinity_once():
    angles = _circle.grid(21)[:-1]
    assert (angles == 0).sum() == 1
    assert (np.abs(np.abs(angles) - np.pi / 2) < 1e-12).sum() == 1
    np.testing.assert_allclose(np.diff(angles), np.pi / 20)


def test_on_large_tables_rows_without_an_inner_loop_come_from_every_task():
    both = np.c_[Y, X[:, 0] - Y]
    whole, one = plan(both), plan(both, limits=replace(LIMITS, ratio_tasks=12))
    every = ProximalFamily(whole, gather_moments(whole, 1, RATIOS)[1], (1e-3, 1e-1))
    moments, some = gather_moments(one, 1, RATIOS)
    assert sum(part.n_tasks for part in some[0]) == 2 * 12
    sampled = ProximalFamily(one, some, (1e-3, 1e-1), moments)
    for without in ((None, None), (0, None), (3, None), (3, 1)):
        best = every.pick("pooled_ridge", *without)
        ours, theirs = sampled.trained(best, *without), every.trained(best, *without)
        np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-8)
        assert ours.settings == theirs.settings
    # With an inner loop the weights that are used come from every task too; those of folds from the tasks at hand.
    best = (0, 1, 0)
    np.testing.assert_allclose(sampled.trained(best).weights, every.trained(best).weights, rtol=1e-8)
    assert np.abs(sampled.trained(best, 1).weights - every.trained(best, 1).weights).max() > 1e-6


def test_on_large_tables_shares_are_chosen_on_some_of_the_tested_tasks():
    """No others will do: a mixed model's variances may come from tasks that no error is measured on."""
    x, y, groups = table(m=100, low=6, high=8)
    large = replace(LARGE, large_tested_tasks=44, inner_tested=0.3)
    one = plan_of(x, y, groups, limits=large)
    for fold in range(4):
        inner = one.tested(fold, inner=True)
        assert len(inner) == 4
        assert set(inner) < set(one.tested(fold)) < set(one.folds[fold])


LARGE = replace(LIMITS, large_tasks=10, large_work=0.0, large_tested_tasks=16, inner_tested=0.5)


def test_on_large_tables_one_mixed_fit_serves_all_folds_and_has_seen_no_tested_task():
    one = plan(limits=LARGE)
    assert one.is_large
    moments, _ = gather_moments(one, 1, None)
    gradient = GradientFamily(one, moments, (1e-3, 1e-1), (1,), 21)
    family = MixedFamily(one, ("isotropic", "diagonal"), gradient)
    tested = np.concatenate([one.tested(fold) for fold in range(4)])
    assert len(tested) == 16
    data, _ = by_hand(X, Y, G)
    fit = fit_mixed(data.select(np.setdiff1d(np.arange(23), tested)), "isotropic", tolerance=1e-1)
    for without in ((None, None), (2, None), (2, 1)):
        found = family.found("mixed_isotropic", *without)
        np.testing.assert_allclose(found.rules[0].covariance, fit.task_covariance, rtol=1e-6)
        assert found.rules[0].ratio == pytest.approx(fit.noise_variance, rel=1e-6)
        np.testing.assert_array_equal(found.weights, gradient.found("joint", *without).weights)
    assert len(family.names) == 2
    assert len(family.fits("diagonal")) == 1
    settings = Settings(n_support=4, n_draws=2, n_rates=21, ridges=(1e-4, 1e-2), limits=LARGE)
    choice = search(one.rows, one.rows, settings).choice
    assert choice.n_tasks == 20  # four of each of five folds
    assert "mixed_intercept" not in choice.candidates


def test_one_ridge_is_solved_directly_as_all_of_them_are_by_eigenvalues():
    moments, _ = gather_moments(plan(np.c_[Y, Y**2]), 1, None)
    gram, c = moments.without((0,)), circle.coefficients(np.array([-0.4, 0.0, np.inf]), moments.scale, 1)[0]
    every = solve(gram, 2, c, np.array([1e-4, 1e-2]), moments.eps)
    for i, ridge in enumerate((1e-4, 1e-2)):
        np.testing.assert_allclose(solve(gram, 2, c, np.array([ridge]), moments.eps)[:, 0], every[:, i], rtol=1e-8)
    empty = np.zeros_like(gram)
    np.testing.assert_array_equal(solve(empty, 2, c, np.array([1e-2]), moments.eps), 0)
