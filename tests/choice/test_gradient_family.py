"""The gradient rule as a family: rates chosen task-wise, for each fold without it, against rows in hand."""

import numpy as np
import pytest
from made import by_hand, draws, least_squares, outer_problem, plan_of, table

import undertow as ut
from undertow.choice.gradient_family import GRADIENT, GradientFamily, candidate_rates, pick, search_rates
from undertow.choice.limits import Limits
from undertow.choice.proximal_family import gather_moments
from undertow.linear.surface import LossSurface

X, Y, G = table(m=23, seed=1)
DATA, _ = by_hand(X, Y, G)
RIDGES = (1e-4, 0.1)
GROUPED = Limits(pairs=4, inner_groups=2)


def drawn(tasks):
    return draws(DATA.select(np.asarray(tasks)), 4, 2)


def without(plan, folds):
    return np.setdiff1d(np.arange(23), np.concatenate([plan.folds[fold] for fold in folds]))


def squares_after(batches, weights, adapt_rate, steps=1):
    """Sum of squared query errors after the steps on each task's support rows, and number of query rows."""
    matrix, target = outer_problem(batches, adapt_rate, steps)
    return ((matrix @ weights - target) ** 2).sum(), len(target)


@pytest.fixture(scope="module", params=[1, 2], ids=["one step", "two steps"])
def searched(request):
    plan = plan_of(X, Y, G)
    moments, _ = gather_moments(plan, request.param, None)
    rates = np.array([-0.4, 0.0, 0.3, np.inf]) * moments.scale
    return plan, rates, search_rates(plan, moments, rates, np.array(RIDGES)), request.param


@pytest.mark.parametrize(("outer", "inner"), [(None, None), (2, None), (0, 1), (3, 0)])
def test_losses_that_choose_are_those_of_refitting_on_rows(searched, outer, inner):
    plan, rates, search, steps = searched
    groups = [group for i, group in enumerate(plan.groups(outer)) if i != inner]
    found = search.surface(outer, inner).loss(0.2)
    for k, rate in enumerate(rates):
        for r, ridge in enumerate(RIDGES):
            squares = np.zeros(2)
            for group in groups:
                seen = without(plan, group if outer is None else (outer, *group))
                weights = least_squares(*outer_problem(drawn(seen), rate, steps), ridge)
                squares += squares_after(drawn(np.concatenate([plan.folds[f] for f in group])), weights, 0.2, steps)
            assert found[k, r] == pytest.approx(0.5 * squares[0] / squares[1], rel=1e-7)


@pytest.mark.parametrize(("outer", "inner"), [(None, None), (1, None), (1, 1), (2, 0)])
@pytest.mark.parametrize("limits", [Limits(), GROUPED], ids=["pairs of folds", "groups of folds"])
def test_what_is_trained_without_folds_is_least_squares_on_the_other_tasks(outer, inner, limits):
    plan = plan_of(X, Y, G, n_folds=5, limits=limits)
    moments, _ = gather_moments(plan, 2, None)
    family = GradientFamily(plan, moments, RIDGES, (1, 2), 21)
    left_out = plan.without(outer, inner)
    assert len(left_out) == (outer is not None) + (inner is not None) * (2 if limits is GROUPED else 1)
    seen = without(plan, left_out) if left_out else np.arange(23)
    for name in GRADIENT:
        found = family.found(name, outer, inner)
        rate, ridge, steps = (found.settings[key] for key in ("train_rate", "ridge", "steps"))
        weights = least_squares(*outer_problem(drawn(seen), rate, steps), ridge)
        np.testing.assert_allclose(found.weights[0], weights, rtol=1e-6, atol=1e-9)
        assert (found.rules[0].rate, found.rules[0].steps) == (found.settings["adapt_rate"], steps)
        for key in ("train_rate", "adapt_rate"):
            assert found.settings[f"{key}_spectral"] == pytest.approx(found.settings[key] / moments.scale, rel=1e-12)


def test_many_folds_choose_for_one_in_groups():
    plan = plan_of(X, Y, G, n_folds=12)
    for outer in range(12):
        groups = plan.groups(outer)
        assert len(groups) == plan.limits.inner_groups
        assert sorted(fold for group in groups for fold in group) == [f for f in range(12) if f != outer]
        assert max(map(len, groups)) - min(map(len, groups)) <= 1
        assert plan.without(outer, 3) == (outer, *groups[3])
    # The choice for all tasks is made fold by fold, and so is that for a fold where folds are few.
    assert plan.groups(None) == [(fold,) for fold in range(12)]
    assert plan_of(X, Y, G, n_folds=10).groups(4) == [(fold,) for fold in range(10) if fold != 4]


def test_losses_of_groups_are_those_of_refitting_on_rows():
    plan = plan_of(X, Y, G, n_folds=5, limits=GROUPED)
    moments, _ = gather_moments(plan, 1, None)
    rate = 0.4 * moments.scale
    search = search_rates(plan, moments, np.array([0.0, rate]), np.array([1e-2]))
    squares = np.zeros(2)
    for group in ((0, 2), (1, 4)):
        assert group in plan.groups(3)
        weights = least_squares(*outer_problem(drawn(without(plan, (3, *group))), rate), 1e-2)
        squares += squares_after(drawn(np.concatenate([plan.folds[f] for f in group])), weights, 0.1)
    assert search.surface(3).loss(0.1)[1, 0] == pytest.approx(0.5 * squares[0] / squares[1], rel=1e-7)


def test_each_strategy_takes_the_best_of_what_it_allows():
    plan = plan_of(X, Y, G)
    moments, _ = gather_moments(plan, 1, None)
    rates = candidate_rates(moments.scale, 41)
    surface = search_rates(plan, moments, rates, np.array(RIDGES)).surface(1)
    zero = int(np.flatnonzero(rates == 0)[0])
    picks = {name: pick(surface, name) for name in GRADIENT}
    assert picks["joint"].loss == surface.loss(0.0)[zero].min()
    assert picks["step"].loss == surface.best_loss[zero].min()
    assert picks["signed"].loss == surface.best_loss.min()
    tied = [(surface.loss(rate)[k].min(), rate) for k, rate in enumerate(rates) if 0 < rate < np.inf]
    assert picks["tied"].loss == pytest.approx(min(tied)[0], rel=1e-12)
    assert picks["tied"].train_rate == picks["tied"].adapt_rate == min(tied)[1]
    assert (picks["joint"].train_rate, picks["joint"].adapt_rate, picks["step"].train_rate) == (0, 0, 0)
    for one in picks.values():
        assert one.ridge in RIDGES
        assert one.train_rate in rates
        k, r = int(np.flatnonzero(rates == one.train_rate)[0]), RIDGES.index(one.ridge)
        assert surface.loss(one.adapt_rate)[k, r] == pytest.approx(one.loss, rel=1e-12)


def test_a_family_takes_the_best_number_of_steps():
    plan = plan_of(X, Y, G)
    moments, _ = gather_moments(plan, 3, None)
    family = GradientFamily(plan, moments, RIDGES, (3, 1), 21)
    for outer in (None, 2):
        picks = [pick(search.surface(outer), "signed") for search in family.searches.values()]
        assert family.pick("signed", outer) == min(picks, key=lambda one: one.loss)
        assert {one.steps for one in picks} == {1, 3}


def test_several_targets_add_their_losses():
    both = np.c_[Y, X[:, 0] - Y]
    settings = np.array([-0.3, 0.0, 0.5]), np.array([1e-3])
    alone = [search_rates(plan, gather_moments(plan, 1, None)[0], *settings) for plan in (
        plan_of(X, y, G) for y in both.T)]  # fmt: skip
    plan = plan_of(X, both, G)
    together = search_rates(plan, gather_moments(plan, 1, None)[0], *settings)
    for outer in (None, 3):
        expected = alone[0].products[outer] + alone[1].products[outer]
        np.testing.assert_allclose(together.products[outer], expected, rtol=1e-8)
        np.testing.assert_array_equal(together.weight[outer], alone[0].weight[outer])


def test_candidate_rates_are_symmetric_and_fine_near_zero():
    rates = candidate_rates(2.0)
    np.testing.assert_array_equal(rates, -rates[::-1])
    assert (rates == 0).sum() == 1
    assert 0 < rates[rates > 0].min() < 2.0 * np.tan(np.pi / 100) / 4
    assert np.isinf(rates[-1])


def test_strategies_that_are_not_there_or_allow_no_rate():
    surface = LossSurface(np.array([0.1]), np.ones((1, 1, 2, 2)), 1.0, np.array([0.1]))
    for strategy in ("best", "step"):
        with pytest.raises(ut.InputError) as caught:
            pick(surface, strategy)
        assert caught.value.argument == "strategy"
        assert caught.value.value == strategy
