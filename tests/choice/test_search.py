"""The search: every number of it against fits and losses written out row by row."""

from dataclasses import replace

import numpy as np
import pytest
from made import by_hand, cv, draws, table, task_rows
from sklearn.model_selection import GroupKFold
from undertow.choice.rate_picks import candidate_rates, cross_validate, pick
from undertow.choice.rate_search import search_rates, solve

import undertow as ut
from undertow.choice import plan as strategy_search
from undertow.choice import proximal_family
from undertow.choice.gradient_family import GradientFamily
from undertow.choice.held_out import held_out_errors
from undertow.choice.influence import influences
from undertow.choice.interval import uniform_angles
from undertow.choice.mixed_family import MixedFamily
from undertow.choice.plan import Plan
from undertow.choice.proximal_family import ProximalFamily, gather_moments
from undertow.linear import circle
from undertow.linear.block_moments import BlockMoments, deal
from undertow.linear.proximal_step import RidgeMoments
from undertow.linear.rules import GradientRule, ProximalRule
from undertow.mixed.model import fit_mixed
from undertow.tasks import folds

X, Y, G = table(m=23, seed=1)
RATIOS = (0.1, 3.0, np.inf)


def plan(y=Y, n_draws=2):
    rows = task_rows(X, y, G)
    return Plan(rows, rows, folds(rows.ids, 4, 0), 4, n_draws, 0)


def moments_by_hand(data, tasks, steps=1):
    return ut.Moments.from_tasks(draws(data.select(tasks), 4, 2), steps=steps)


@pytest.mark.parametrize("steps", [1, 2])
def test_blocks_add_up_to_the_moments_of_the_same_draws(steps):
    one = plan()
    blocks, of_block = deal(one.folds, 10)
    batches = [batch for draw in one.draws(one.rows, blocks) for batch in draw]
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
    for numbers, most in ((100, 100), (1 << 22, 10)):
        blocks, of_block = deal(parts, numbers)
        assert len(of_block) == most == blocks.max() + 1
        assert np.bincount(blocks).min() >= 1
        for i, part in enumerate(parts):
            assert (of_block[blocks[part]] == i).all()


def test_the_search_of_rates_is_cross_validation_on_moments_of_folds():
    one = plan()
    moments, _ = gather_moments(one, 1, None)
    data, _ = by_hand(X, Y, G)
    parts = [moments_by_hand(data, part) for part in one.folds]
    rates, ridges = candidate_rates(moments.scale, 21), (1e-5, 0.1)
    surface = cross_validate(parts, rates, ridges)
    search = search_rates(moments, rates, np.array(ridges))
    np.testing.assert_allclose(search.surface().products, surface.products, rtol=1e-8)
    for strategy in ("joint", "step", "tied", "signed"):
        ours, theirs = search.pick(strategy), pick(surface, strategy)
        assert ours.train_rate == theirs.train_rate
        assert ours.ridge == theirs.ridge
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-9)
        assert search.fold_loss(2, ours) > 0
    chosen = search.pick("signed")
    total = sum(search.fold_loss(i, chosen) for i in range(4)) / search.weight.sum()
    assert total == pytest.approx(chosen.loss, rel=1e-9)


def test_several_targets_add_their_losses():
    both = np.c_[Y, X[:, 0] - Y]
    rates = np.array([-0.3, 0.0, 0.5])
    ridges = np.array([1e-3])
    alone = [search_rates(gather_moments(plan(y[:, None]), 1, None)[0], rates, ridges) for y in both.T]
    together = search_rates(gather_moments(plan(both), 1, None)[0], rates, ridges)
    np.testing.assert_allclose(together.products, alone[0].products + alone[1].products, rtol=1e-8)


def test_held_out_losses_are_those_of_refitting_without_the_fold():
    one = plan()
    moments, proximal = gather_moments(one, 1, RATIOS)
    gradient = GradientFamily(one, moments, (1e-3, 1e-1), (1, 2)[:1], 21)
    families = {"signed": gradient, "ridge": ProximalFamily(one, proximal, (1e-3, 1e-1)), "mixed_diagonal": None}
    families["mixed_diagonal"] = MixedFamily(one, ("diagonal",))
    names = list(families)
    products, weights, numbers, _ = held_out_errors(one, names, families)
    losses = np.diagonal(products, axis1=1, axis2=2)
    data, _ = by_hand(X, Y, G)
    assert sorted(numbers) == list(range(23))
    for fold, part in enumerate(one.folds):
        others = np.setdiff1d(np.arange(23), part)
        found = [families[name].found(name, fold) for name in names]
        # omega of the gradient rule and of the proximal rule, trained on the other folds by other code
        chosen = found[0].settings
        path = ut.rate_path(moments_by_hand(data, others), chosen["train_rate"], ridge=chosen["ridge"])
        np.testing.assert_allclose(found[0].weights[0], path.weights[0], rtol=1e-6)
        chosen = found[1].settings
        drawn = RidgeMoments.from_tasks(draws(data.select(others), 4, 2), [chosen["train_ratio"]])
        np.testing.assert_allclose(found[1].weights[0], drawn.solve([chosen["ridge"]]).weights[0, 0], rtol=1e-7)
        own = draws(data.select(part), 4, 2)
        for column, strategy in enumerate(found):
            rule = strategy.rules[0]
            total = {}
            for batch in own:
                for i, name in enumerate(batch.ids):
                    x_t, y_t = batch.support_x[i], batch.support_y[i]
                    keep = slice(None) if batch.query_mask is None else batch.query_mask[i]
                    omega = strategy.weights[0]
                    if isinstance(rule, GradientRule):
                        theta = omega - rule.rate * x_t.T @ (x_t @ omega - y_t) / 4
                    else:
                        assert isinstance(rule, ProximalRule)
                        c = np.eye(4) if rule.covariance is None else np.diag(rule.covariance)
                        inner = x_t @ c @ x_t.T + rule.ratio * np.eye(4)
                        theta = omega + c @ x_t.T @ np.linalg.solve(inner, y_t - x_t @ omega)
                        theta = omega if np.isinf(rule.ratio) else theta
                    error = batch.query_x[i][keep] @ theta - batch.query_y[i][keep]
                    squares, rows = total.get(name, (0.0, 0))
                    total[name] = squares + 0.5 * (error**2).sum(), rows + len(error)
            for task in part:
                at = int(np.flatnonzero(numbers == task)[0])
                squares, rows = total[data.ids[task]]
                assert losses[at, column] == pytest.approx(squares / rows, rel=1e-8)
                assert weights[at] == rows


def test_the_proximal_family_trains_and_chooses_as_ridge_regression_written_out():
    one = plan()
    _, proximal = gather_moments(one, 1, RATIOS)
    family = ProximalFamily(one, proximal, (1e-3, 1e-1))
    data, _ = by_hand(X, Y, G)
    total = np.zeros((3, 3, 2))

    def rows_of(batch, i, ratio):
        x_t, y_t = batch.support_x[i], batch.support_y[i]
        keep = slice(None) if batch.query_mask is None else batch.query_mask[i]
        x_v, y_v = batch.query_x[i][keep], batch.query_y[i][keep]
        gain = 0 if np.isinf(ratio) else x_v @ x_t.T @ np.linalg.inv(x_t @ x_t.T + ratio * np.eye(4))
        return (x_v, y_v) if np.isinf(ratio) else (x_v - gain @ x_t, y_v - gain @ y_t)

    def stacked(tasks, ratio):
        pairs = [rows_of(b, i, ratio) for b in draws(data.select(tasks), 4, 2) for i in range(b.n_tasks)]
        return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])

    for part in one.folds:
        for t, train in enumerate(RATIOS):
            matrix, target = stacked(np.setdiff1d(np.arange(23), part), train)
            for r, ridge in enumerate((1e-3, 1e-1)):
                gram = matrix.T @ matrix
                omega = np.linalg.solve(gram + ridge * np.trace(gram) / 4 * np.eye(4), matrix.T @ target)
                for a, ratio in enumerate(RATIOS):
                    x, y = stacked(part, ratio)
                    total[a, t, r] += 0.5 * ((x @ omega - y) ** 2).sum()
    np.testing.assert_allclose(family.losses.sum(axis=0), total, rtol=1e-8)
    assert family.pick("ridge") == tuple(np.unravel_index(total.argmin(), total.shape))
    assert family.pick("pooled_ridge")[1] == 2


@pytest.mark.parametrize("exact", [True, False])
def test_influences_are_what_leaving_out_a_block_does(exact):
    one = plan()
    moments, _ = gather_moments(one, 1, None)
    rates, ridge = np.array([-0.4, 0.0, 0.6]) * moments.scale, 1e-2
    adapt = np.array([0.1, 0.3, 0.2]) * moments.scale
    found = influences(moments, rates, adapt, np.full(3, ridge), exact=exact)
    c, _ = circle.coefficients(rates, moments.scale, 1)
    fold, b = 1, int(np.flatnonzero(moments.folds != 1)[2])
    gram = moments.without(fold)
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
    np.testing.assert_allclose(found.of_block.sum(axis=0), 0, atol=1e-12)


def test_held_out_tasks_do_not_influence_what_is_trained_and_chosen_without_them():
    one = plan()
    other = Y.copy()
    tested = np.isin(G, one.rows.ids[one.folds[2]])
    other[tested] = 100 - 3 * other[tested] ** 2
    changed = replace(one.rows, y=one.rows.standard.targets(other[one.rows.rows][:, None]))
    found = []
    for each in (one, replace(one, rows=changed, everything=changed)):
        moments, proximal = gather_moments(each, 1, RATIOS)
        ridge = ProximalFamily(each, proximal, (1e-3,))
        found.append(
            [
                solve(moments.without(2), 1, np.array([[1.0, -0.2]]), np.array([1e-3]), moments.eps),
                ridge._train(proximal[0], 2).gram,
                MixedFamily(each, ("diagonal",)).found("mixed_diagonal", 2).weights,
            ]
        )
    for ours, theirs in zip(*found, strict=True):
        # The mixed model's iteration stops a little elsewhere from another start; an influence would be of order 1.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_tasks_kept_for_a_test_do_not_change_the_estimator():
    test = G >= 18
    a = cv().fit(X[~test], Y[~test], groups=G[~test])
    before = a.coef_.copy(), a.choice_
    a.score(X[test], 1e3 - Y[test] ** 2, groups=G[test])
    a.predict(X[test], groups=G[test])
    b = cv().fit(X[~test].copy(), Y[~test].copy(), groups=G[~test])
    np.testing.assert_array_equal(a.coef_, before[0])
    np.testing.assert_array_equal(a.coef_, b.coef_)
    assert a.choice_ == before[1] == b.choice_


def test_folds_may_be_given_as_in_scikit_learn():
    reference = cv(cv=4).fit(X, Y, groups=G)
    parts = folds(np.unique(G), 4, 0)
    pairs = [(np.flatnonzero(~np.isin(G, np.unique(G)[p])), np.flatnonzero(np.isin(G, np.unique(G)[p]))) for p in parts]
    given = cv(cv=pairs).fit(X, Y, groups=G)
    assert given.choice_.losses == reference.choice_.losses
    assert cv(cv=GroupKFold(3)).fit(X, Y, groups=G).choice_.n_tasks == 23
    with pytest.raises(ut.InputError, match="folds must hold whole tasks"):
        cv(cv=[(np.arange(50), np.arange(50, len(X))), (np.arange(50, len(X)), np.arange(50))]).fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match="exactly one test set"):
        cv(cv=[pairs[0], pairs[1]]).fit(X, Y, groups=G)
    with pytest.raises(ut.InputError, match="a whole number of folds, a scikit-learn splitter"):
        cv(cv=[1, 2]).fit(X, Y, groups=G)


def test_the_even_angles_hold_zero_and_infinity_once():
    angles = uniform_angles(21)
    assert (angles == 0).sum() == 1
    assert (np.abs(np.abs(angles) - np.pi / 2) < 1e-12).sum() == 1
    np.testing.assert_allclose(np.diff(angles), np.pi / 20)


def test_on_large_tables_rows_without_an_inner_loop_come_from_every_task(monkeypatch):
    both = np.c_[Y, X[:, 0] - Y]
    one = plan(both)
    _, proximal = gather_moments(one, 1, RATIOS)
    whole = ProximalFamily(one, proximal, (1e-3, 1e-1))
    monkeypatch.setattr(proximal_family, "_RATIO_TASKS", 12)
    moments, some = gather_moments(one, 1, RATIOS)
    assert sum(part.n_tasks for part in some[0]) == 2 * 12
    sampled = ProximalFamily(one, some, (1e-3, 1e-1), moments)
    monkeypatch.setattr(sampled, "pick", whole.pick)
    for fold in (None, 0, 3):
        ours, theirs = sampled.found("pooled_ridge", fold), whole.found("pooled_ridge", fold)
        np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-8)
        assert ours.settings == theirs.settings
    # With an inner loop the weights that are used come from every task too; those of folds from the tasks at hand.
    monkeypatch.setattr(sampled, "pick", lambda name, fold=None: (0, 1, 0))
    monkeypatch.setattr(whole, "pick", lambda name, fold=None: (0, 1, 0))
    np.testing.assert_allclose(sampled.found("ridge").weights, whole.found("ridge").weights, rtol=1e-8)
    assert np.abs(sampled.found("ridge", 1).weights - whole.found("ridge", 1).weights).max() > 1e-6


def large_plan(monkeypatch):
    monkeypatch.setattr(strategy_search, "_LARGE_TASKS", 10)
    monkeypatch.setattr(strategy_search, "_LARGE_WORK", 0.0)
    monkeypatch.setattr(strategy_search, "_LARGE_TESTED", 8)
    one = plan()
    assert one.is_large
    return one


def test_on_large_tables_one_mixed_fit_serves_all_folds_and_has_seen_no_tested_task(monkeypatch):
    one = large_plan(monkeypatch)
    moments, _ = gather_moments(one, 1, None)
    gradient = GradientFamily(one, moments, (1e-3, 1e-1), (1,), 21)
    family = MixedFamily(one, ("isotropic", "diagonal"), gradient)
    tested = np.concatenate([one.tested(fold) for fold in range(4)])
    assert len(tested) == 8
    data, _ = by_hand(X, Y, G)
    fit = fit_mixed(data.select(np.setdiff1d(np.arange(23), tested)), "isotropic", tolerance=1e-1)
    for fold in (None, 2):
        found = family.found("mixed_isotropic", fold)
        np.testing.assert_allclose(found.rules[0].covariance, fit.task_covariance, rtol=1e-6)
        assert found.rules[0].ratio == pytest.approx(fit.noise_variance, rel=1e-6)
        np.testing.assert_array_equal(found.weights, gradient.found("joint", fold).weights)
    assert len(family.names) == 2
    assert len(family.fits("diagonal")) == 1
    model = cv().fit(X, Y, groups=G)
    assert model.choice_.n_tasks == 10  # two of each of five folds
    assert "mixed_intercept" not in model.choice_.losses


def test_one_ridge_is_solved_directly_as_all_of_them_are_by_eigenvalues():
    moments, _ = gather_moments(plan(np.c_[Y, Y**2]), 1, None)
    gram, c = moments.without(0), circle.coefficients(np.array([-0.4, 0.0, np.inf]), moments.scale, 1)[0]
    every = solve(gram, 2, c, np.array([1e-4, 1e-2]), moments.eps)
    for i, ridge in enumerate((1e-4, 1e-2)):
        np.testing.assert_allclose(solve(gram, 2, c, np.array([ridge]), moments.eps)[:, 0], every[:, i], rtol=1e-8)
    empty = np.zeros_like(gram)
    np.testing.assert_array_equal(solve(empty, 2, c, np.array([1e-2]), moments.eps), 0)
