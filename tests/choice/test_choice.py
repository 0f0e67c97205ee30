"""The choice: the record of what was tried, and what the estimator makes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made import cv, table

import undertow as ut
from undertow._check import InputError
from undertow.choice.interval import gain
from undertow.choice.record import Choice, RateInterval, Verdict
from undertow.tasks.losses import mean_over_tasks

X, Y, G = table(m=30, seed=3)


@pytest.fixture(scope="module")
def model():
    return cv().fit(X, Y, groups=G)


def test_the_record_holds_what_was_tried(model):
    choice = model.choice_
    assert set(choice.gains) == {"step", "tied", "joint", "pooled_ridge"}
    assert choice.strategy == model.strategy_
    assert set(choice.best_gains) == set(choice.candidates) - {choice.strategy}
    assert choice.settings is choice.candidates[choice.strategy].settings
    assert choice.mse == choice.candidates[choice.strategy].mse
    assert set(choice.at_zero) <= {"constant", "joint", choice.strategy}
    assert sum(choice.at_zero.values()) == pytest.approx(1)
    assert choice.n_tasks == 30
    assert choice.n_folds == 5
    for name, one in choice.candidates.items():
        assert len(one.of_folds) == 5
        if "train_rate" in one.settings:
            for each in (one.settings, *one.of_folds):
                for kind in ("train_rate", "adapt_rate"):
                    assert each[kind] == pytest.approx(each[f"{kind}_spectral"] * choice.scale, rel=1e-12)
        elif name == "blend":
            assert all(sum(each.values()) == pytest.approx(1) for each in (one.settings, *one.of_folds))
    assert model.rate_path_.ridges == choice.signed["ridge"]
    assert model.rate_path_.scale == pytest.approx(model.scale_) == choice.scale


def test_a_record_goes_through_json_with_infinities(model):
    choice = model.choice_
    infinite = replace(
        choice,
        interval=RateInterval(-np.inf, np.inf, 2.0, 0.95, True, True, True, 0.5),
        prediction=replace(choice.prediction, train_rate_spectral=-np.inf),
        candidates=choice.candidates
        | {"signed": replace(choice.candidates["signed"], settings=choice.signed | {"train_rate": np.inf})},
    )
    for one in (choice, infinite):
        text = json.dumps(one.to_dict(), allow_nan=False)
        again = Choice.from_dict(json.loads(text))
        assert again == one
        assert type(again.verdict) is Verdict
    assert json.loads(text)["candidates"]["signed"]["settings"]["train_rate"] == "inf"
    assert json.loads(text)["prediction"]["train_rate_spectral"] == "-inf"
    assert infinite.to_dict()["interval"]["high_spectral"] == "inf"
    assert {"inf", "-inf"} & {str(value) for value in choice.to_dict()["curve"]["train_rates"]}
    assert choice.strategy in str(choice)
    assert choice.verdict.value in str(choice)


def test_errors_by_task_and_the_surface_are_those_behind_the_choice(model):
    held_out, choice = model.held_out_, model.choice_
    assert held_out.names == (*choice.candidates, "no_rows")
    assert sorted(held_out.task_ids) == sorted(set(G))
    zero, best = held_out.of("no_rows"), held_out.of(choice.strategy)
    at_zero = mean_over_tasks(zero, held_out.weights)
    assert (choice.mse_at_zero, choice.standard_error_at_zero) == pytest.approx(at_zero, rel=1e-12)
    for name, one in choice.candidates.items():
        mean, error = mean_over_tasks(held_out.of(name), held_out.weights)
        assert (one.mse, one.standard_error) == pytest.approx((mean, error), rel=1e-12)
        assert one.gain == pytest.approx(gain(zero, held_out.of(name), held_out.weights), rel=1e-9)
        if name != choice.strategy:
            over = gain(held_out.of(name), best, held_out.weights)
            assert choice.best_gains[name] == pytest.approx(over, rel=1e-9)
    for rival, one in choice.gains.items():
        over = gain(held_out.of(rival), held_out.of("signed"), held_out.weights)
        assert one == pytest.approx(over, rel=1e-9)
    np.testing.assert_array_equal(held_out.gains("signed"), zero - held_out.of("signed"))
    with pytest.raises(InputError, match="choose one of 'joint'"):
        held_out.of("magic")
    best = model.cv_surface_.best()
    assert best.train_rate == choice.signed["train_rate"]
    assert best.adapt_rate == choice.signed["adapt_rate"]


def test_the_curve_is_the_cross_validated_error_at_the_ridge_of_the_signed_choice(model):
    curve, surface = model.choice_.curve, model.cv_surface_
    column = list(surface.ridges).index(model.choice_.signed["ridge"])
    adapt = surface.best_adapt_rate[:, column]
    for rate, chosen, mse, error in zip(
        curve.train_rates, curve.adapt_rates, curve.mse, curve.standard_errors, strict=True
    ):
        k = np.abs(np.arctan(surface.train_rates) - np.arctan(rate)) % np.pi
        k = int(np.minimum(k, np.pi - k).argmin())
        assert chosen == adapt[k]
        assert mse == pytest.approx(2 * surface.best_loss[k, column], rel=1e-6)
        assert (error == 0) == (rate == 0)
    assert len(curve.mse) == 20
    assert sum(np.isinf(curve.train_rates)) == 1


def test_the_same_seed_gives_the_same_choice(model):
    again = cv().fit(X, Y, groups=G)
    assert again.choice_ == model.choice_
    np.testing.assert_array_equal(again.coef_, model.coef_)
    other = cv(random_state=1).fit(X, Y, groups=G)
    assert other.choice_.interval.sign_probability != model.choice_.interval.sign_probability


def test_only_the_rules_asked_for_are_used_and_the_gradient_rule_is_always_measured():
    for rules, allowed in (
        ("gradient", ("signed", "step", "tied", "joint")),
        (["proximal"], ("ridge", "pooled_ridge", "blend")),
    ):
        found = cv(rules=rules).fit(X, Y, groups=G)
        assert found.strategy_ in allowed
        assert "signed" in found.choice_.candidates
    assert set(found.choice_.candidates["blend"].settings) <= {"ridge", "pooled_ridge"}
    assert found.train_rate_ == found.choice_.signed["train_rate"]
    assert found.adapt_rate_spectral_ == pytest.approx(found.choice_.signed["adapt_rate_spectral"])


def test_rates_of_the_chosen_gradient_rule_are_those_of_the_estimator():
    found = cv(rules="gradient").fit(X, Y, groups=G)
    fixed = ut.MAMLRegressor(
        found.train_rate_, found.adapt_rate_, rate_unit="raw", ridge=found.ridge_, n_draws=2, steps=found.steps_
    ).fit(X, Y, groups=G)
    np.testing.assert_allclose(found.coef_, fixed.coef_, rtol=1e-7)
    assert found.train_rate_spectral_ == pytest.approx(found.train_rate_ / found.scale_)


def test_more_steps_are_chosen_where_they_are_better():
    found = cv(rules="gradient", steps=(1, 6)).fit(X, Y, groups=G)
    one = cv(rules="gradient", steps=1).fit(X, Y, groups=G)
    assert found.steps_ in (1, 6)
    assert found.choice_.candidates["signed"].mse <= one.choice_.candidates["signed"].mse * 1.02


def test_fewer_tasks_than_can_be_chosen_by_are_pooled():
    few = G < 1
    with pytest.warns(ut.estimators.MissingGroupsWarning):
        pooled = cv().fit(X[few], Y[few])
    assert pooled.choice_ is None
    assert pooled.adapt_rate_ == 0
    assert pooled.strategy_ == "joint"
    np.testing.assert_array_equal(pooled.adapt(X[:3], Y[:3]).coef_, pooled.coef_)
    # Two tasks that are large enough: one to choose for, one to choose on, none to train on.
    two = G < 2
    with pytest.warns(UserWarning, match="a choice needs 3") as caught:
        found = cv().fit(X[two], Y[two], groups=G[two])
    assert len(caught) == 1
    assert found.choice_ is found.held_out_ is found.rate_path_ is None
    assert np.isfinite(found.score(X, Y, groups=G))
