"""Nested: what is chosen for a fold is the same whatever its tasks hold, and held-out errors are those of that choice.

The standardisation and the spectral unit are numbers of all tasks; they are held fixed here.
"""

import sys
from dataclasses import replace

import numpy as np
import pytest
from made import by_hand, cv, draws, errors_by_hand, least_squares, outer_problem, plan_of, table, task_rows

from undertow.choice.gradient_family import GRADIENT, GradientFamily, RateSearch
from undertow.choice.held_out import held_out_errors
from undertow.choice.limits import Limits
from undertow.choice.mixed_family import MixedFamily
from undertow.choice.proximal_family import PROXIMAL, ProximalFamily, gather_moments
from undertow.choice.search import Settings, search
from undertow.linear.block_moments import BlockMoments
from undertow.linear.rules import GradientRule

X, Y, G = table(m=23, seed=1)
ROWS = task_rows(X, Y, G)
RATIOS = (0.1, 3.0, np.inf)
RIDGES = (1e-4, 1e-2, 1.0)
FOLD = 2
PLANS = {
    "pairs of folds": plan_of(X, Y, G),
    "groups of folds": plan_of(X, Y, G, n_folds=6, limits=Limits(pairs=5, inner_groups=2)),
}


def garbled(rows, fold, what):
    """The rows with garbage in the targets or inputs of a fold's tasks."""
    rng = np.random.default_rng(7)
    own = np.isin(rows.codes, fold)
    if what == "targets":
        return replace(rows, y=np.where(own[:, None], 5 - 3 * rows.y**2, rows.y))
    x = rows.x.copy()
    x[rows.rows[own]] = rng.exponential(5, (int(own.sum()), x.shape[1])) - 10
    return replace(rows, x=x)


@pytest.fixture
def one_unit(monkeypatch):
    """The same candidate rates whatever the inputs are."""
    monkeypatch.setattr(BlockMoments, "scale", property(lambda self: 0.4))


def families(plan):
    moments, proximal = gather_moments(plan, 2, RATIOS)
    gradient = GradientFamily(plan, moments, RIDGES, (1, 2), 21)
    return dict.fromkeys(GRADIENT, gradient) | dict.fromkeys(PROXIMAL, ProximalFamily(plan, proximal, RIDGES))


def everything_of(found):
    """What is found, as one row of numbers."""
    rules = [(rule.rate, rule.steps) if isinstance(rule, GradientRule) else (rule.ratio, 0) for rule in found.rules]
    return np.concatenate([found.weights.ravel(), np.ravel(rules), list(found.settings.values())])


@pytest.mark.usefixtures("one_unit")
@pytest.mark.parametrize("what", ["targets", "inputs"])
@pytest.mark.parametrize("name", PLANS)
def test_a_choice_for_a_fold_is_bit_for_bit_the_same_whatever_is_in_it(name, what):
    plan = PLANS[name]
    rows = garbled(plan.rows, plan.folds[FOLD], what)
    before, after = families(plan), families(replace(plan, rows=rows, everything=rows))
    for strategy in before:
        for inner in (None, *range(len(plan.groups(FOLD)))):
            ours, theirs = (one[strategy].found(strategy, FOLD, inner) for one in (before, after))
            np.testing.assert_array_equal(everything_of(ours), everything_of(theirs))
        # All else has seen the fold.
        for outer in (None, *(fold for fold in range(len(plan.folds)) if fold != FOLD)):
            ours, theirs = (one[strategy].found(strategy, outer) for one in (before, after))
            assert np.abs(ours.weights - theirs.weights).max() > 1e-6
    inner_errors = [held_out_errors(plan, list(one), one, FOLD)[0] for one in (before, after)]
    np.testing.assert_array_equal(inner_errors[0].products, inner_errors[1].products)


def chosen_for_each_fold(rows, **settings):
    settings = {"n_support": 4, "cv": 4, "n_draws": 2, "n_rates": 21, "ridges": RIDGES, "steps": (1, 2)} | settings
    return search(rows, rows, Settings(**settings)).choice.candidates


def changed(before, after, fold):
    """Names of the strategies, the blend among them, that were chosen otherwise for a fold."""
    return {name for name, one in before.items() if one.of_folds[fold] != after[name].of_folds[fold]}


@pytest.mark.usefixtures("one_unit")
@pytest.mark.parametrize("what", ["targets", "inputs"])
def test_the_search_chooses_for_a_fold_without_it_the_shares_of_the_blend_too(what):
    settings = {"rules": ("gradient", "proximal")}
    rows = garbled(ROWS, PLANS["pairs of folds"].folds[FOLD], what)
    before, after = chosen_for_each_fold(ROWS, **settings), chosen_for_each_fold(rows, **settings)
    assert changed(before, after, FOLD) == set()
    for fold in (0, 1, 3):
        assert {"signed", "blend"} <= changed(before, after, fold)
    assert any(before[name].settings != after[name].settings for name in before)


@pytest.mark.parametrize("broken", ["rates", "ratios", "weights", "shares"])
def test_the_same_test_finds_a_search_that_is_not_nested(broken, monkeypatch):
    if broken == "rates":
        whole = RateSearch.surface
        monkeypatch.setattr(RateSearch, "surface", lambda self, outer=None, inner=None: whole(self))
    elif broken == "ratios":
        whole = ProximalFamily.losses
        monkeypatch.setattr(ProximalFamily, "losses", lambda self, outer=None, inner=None: whole(self))
    elif broken == "weights":
        trained = GradientFamily.trained
        monkeypatch.setattr(GradientFamily, "trained", lambda self, best, outer=None, inner=None: trained(self, best))
    else:
        monkeypatch.setattr(sys.modules[search.__module__], "held_out_errors", lambda *args: held_out_errors(*args[:3]))
    rows = garbled(ROWS, PLANS["pairs of folds"].folds[FOLD], "targets")
    settings = {"rules": ("gradient", "proximal")}
    before, after = chosen_for_each_fold(ROWS, **settings), chosen_for_each_fold(rows, **settings)
    assert changed(before, after, FOLD)


@pytest.mark.parametrize("name", PLANS)
def test_of_a_pair_of_folds_one_fit_stands_for_both(name):
    plan, stand = PLANS[name], set()
    asked = [(outer, inner) for outer in range(len(plan.folds)) for inner in range(len(plan.groups(outer)))]
    for one in asked:
        stand.add(plan.shared(*one))
        assert set(plan.without(*plan.shared(*one))) == set(plan.without(*one))
    assert len(stand) == {"pairs of folds": 6, "groups of folds": 12}[name]


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("what", ["targets", "inputs"])
def test_mixed_models_of_a_fold_are_the_same_to_the_tolerance_of_their_search(what, structure):
    """The search for a fold's variances begins at those of all tasks, and stops a little elsewhere from there.

    The units of the prior on the mean are numbers of all inputs, as the standardisation is.
    """
    plan = PLANS["pairs of folds"]
    rows = garbled(plan.rows, plan.folds[FOLD], what)
    before, after = (MixedFamily(each, (structure,)) for each in (plan, replace(plan, rows=rows, everything=rows)))
    for inner in (None, *range(len(plan.groups(FOLD)))):
        ours, theirs = (one.fits(structure, FOLD, inner)[0] for one in (before, after))
        error = np.sqrt(np.diagonal(ours.mean_covariance))
        assert np.abs((ours.mean - theirs.mean) / error).max() < 0.2
        assert ours.noise_std == pytest.approx(theirs.noise_std, rel=0.01)
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=0.1)
    ours, theirs = (one.fits(structure, 0)[0] for one in (before, after))
    # What a seen fold does is of another order.
    assert np.abs((ours.mean - theirs.mean) / error).max() > 2
    assert abs(np.log(ours.noise_std / theirs.noise_std)) > 0.5
    assert abs(ours.log_likelihood - theirs.log_likelihood) > 50


def test_shares_of_a_blend_with_mixed_models_are_those_of_the_other_folds():
    rows = garbled(ROWS, PLANS["pairs of folds"].folds[FOLD], "targets")
    before, after = (chosen_for_each_fold(each, steps=(1,))["blend"].of_folds for each in (ROWS, rows))
    moved = [sum(abs(a.get(name, 0) - b.get(name, 0)) for name in {*a, *b}) for a, b in zip(before, after, strict=True)]
    assert moved[FOLD] < 0.25
    assert min(moved[:FOLD] + moved[FOLD + 1 :]) > 1


def test_held_out_errors_of_the_first_strategies_are_those_of_nested_cross_validation_on_rows():
    """Ridge and adapt rate chosen on the other folds by fits without the fold, then refitted without it."""
    model = cv(cv=4, n_support=4, ridges=RIDGES, rules="gradient", weighting="rows").fit(X, Y, groups=G)
    plan, (data, _) = PLANS["pairs of folds"], by_hand(X, Y, G)

    def problem(tasks, rate):
        return outer_problem(draws(data.select(tasks), 4, 2), rate)

    def step_on(tasks, weights):
        """Products of the errors before a step and of what a unit step does to them, summed over rows."""
        here, ahead = problem(tasks, 0.0), problem(tasks, 1.0)
        e = here[0] @ weights - here[1]
        moved = e - (ahead[0] @ weights - ahead[1])
        return np.array([e @ e, e @ moved, moved @ moved])

    for fold, part in enumerate(plan.folds):
        tables = np.zeros((len(RIDGES), 3))
        for inner in plan.folds:
            if inner is part:
                continue
            seen = np.setdiff1d(np.arange(23), np.r_[part, inner])
            for r, ridge in enumerate(RIDGES):
                tables[r] += step_on(inner, least_squares(*problem(seen, 0.0), ridge))
        joint, step = tables[:, 0].argmin(), (tables[:, 0] - tables[:, 1] ** 2 / tables[:, 2]).argmin()
        chosen = {"joint": (joint, 0.0), "step": (step, tables[step, 1] / tables[step, 2])}
        for name, (ridge, rate) in chosen.items():
            settings = model.choice_.candidates[name].of_folds[fold]
            assert settings["ridge"] == RIDGES[ridge]
            assert settings["adapt_rate"] == pytest.approx(rate, rel=1e-7)
            weights = least_squares(*problem(np.setdiff1d(np.arange(23), part), 0.0), RIDGES[ridge])
            errors = errors_by_hand(draws(data.select(part), 4, 2), weights, GradientRule(rate))
            held_out = model.held_out_
            for task in part:
                at = int(np.flatnonzero(held_out.task_ids == data.ids[task])[0])
                e = errors[data.ids[task]]
                assert held_out.of(name)[at] == pytest.approx((e**2).mean(), rel=1e-6)
                assert held_out.weights[at] == len(e) / 2
    for name in ("joint", "step"):
        weights = model.held_out_.weights
        mse = weights @ model.held_out_.of(name) / weights.sum()
        assert model.choice_.candidates[name].mse == pytest.approx(mse, rel=1e-12)
