"""Theory beside cross-validation: the same numbers by hand, reasons where there are none, the truth of known tasks."""

from dataclasses import replace

import numpy as np
import pytest
from made import cv, table

import undertow as ut
from undertow import theory
from undertow.choice import theory_rates as prediction
from undertow.choice.record import Choice
from undertow.mixed.model import fit_mixed
from undertow.tasks import GroupedTable

X, Y, G = table(m=30, seed=2)


@pytest.fixture(scope="module")
def model():
    return cv().fit(X, Y, groups=G)


def test_the_prediction_is_theory_at_the_estimates(model):
    found = model.choice_.prediction
    z = model.model_.standard.features(X)
    y = model.model_.standard.targets(Y[:, None])[:, 0]
    data = GroupedTable.from_arrays(z, y, G)
    fit = fit_mixed(data, "isotropic")
    assert found.noise_std == pytest.approx(fit.noise_std, rel=1e-6)
    assert found.task_std == pytest.approx(fit.task_std, rel=1e-6)
    # The inputs' second moment is that of the support rows drawn, and the unit of the rate is its largest eigenvalue.
    moments = model.rate_path_.problem.moments
    second = moments.support / moments.support_tasks
    np.testing.assert_allclose(second, z.T @ z / len(z), atol=0.25)
    problem = ut.MixedLinearRegression(
        4, fit.noise_std, mean_weights=fit.mean, task_covariance=fit.task_covariance, input_covariance=second
    )
    design = ut.Design(30, 5, int(np.median(np.bincount(G))) - 5)
    train = theory.optimal_train_rate(problem, design, init=np.zeros(4), method="equivalent")
    # A parabola through points that are pi / 40 / 20 apart; rounding of so flat a loss moves its optimum by 2e-5.
    assert np.arctan(found.train_rate_spectral) == pytest.approx(np.arctan(float(train) / model.scale_), abs=3e-5)
    adapt = theory.optimal_adapt_rate(problem, design, float(train), init=np.zeros(4))
    assert found.adapt_rate_spectral == pytest.approx(adapt / model.scale_, rel=1e-3)
    assert found.method == train.method
    assert "constant feature" in found.note
    assert "30 tasks of 5 support" in found.note


def test_it_is_the_truth_where_tasks_are_those_of_the_theory():
    """Many tasks of the model: estimates and adapt rate against the numbers that the tasks were drawn with."""
    problem = ut.MixedLinearRegression(4, 0.6, 0.8, input_covariance=[2.0, 1.0, 1.0, 0.5])
    tasks = problem.sample(ut.Design(400, 5, 10), seed=0)
    x = np.concatenate([tasks.support_x, tasks.query_x], axis=1).reshape(-1, 4)
    y = np.concatenate([tasks.support_y, tasks.query_y], axis=1).reshape(-1)
    settings = {"standardize": False, "fit_intercept": False, "rules": ("gradient",)}
    model = cv(**settings).fit(x, y, groups=np.repeat(np.arange(400), 15))
    found = model.choice_.prediction
    # 6,000 rows and 400 tasks of 4 weights: relative standard errors of about 0.01 and 0.02.
    assert found.noise_std == pytest.approx(0.6, rel=0.04)
    assert found.task_std == pytest.approx(0.8, rel=0.08)
    true = theory.optimal_adapt_rate(problem, ut.Design(400, 5, 10), 0.0)
    assert found.adapt_rate_spectral * model.scale_ == pytest.approx(true, rel=0.06)
    # Cross-validation on the very tasks agrees: it has a standard error of a few per cent itself.
    assert model.cv_surface_.best_adapt_rate.ravel()[model.cv_surface_.train_rates.tolist().index(0.0) * 2] == (
        pytest.approx(true, rel=0.15)
    )
    assert "constant" not in found.note


def test_reasons_are_given_where_nothing_can_be_said(model, monkeypatch):
    def broken(*args, **kwargs):
        raise ut.InputError(None, rule="no formula for this.")

    monkeypatch.setattr(prediction, "loss_form", broken)
    found = cv().fit(X, Y, groups=G)
    assert found.choice_.prediction.train_rate_spectral is None
    assert found.choice_.prediction.note == "not computed: no formula for this."
    np.testing.assert_array_equal(found.coef_, model.coef_)
    monkeypatch.undo()
    wide = np.random.default_rng(0).standard_normal((len(X), 170))
    found = cv(rules="gradient", n_rates=9, n_draws=1).fit(wide, Y, groups=G)
    assert "171 columns" in found.choice_.prediction.note


def test_it_is_bounded_and_says_what_was_simplified(monkeypatch):
    monkeypatch.setattr(prediction, "_MOST_TASKS", 12)
    found = cv(rules="gradient", steps=(2,)).fit(X, np.c_[Y, Y**2], groups=G).choice_.prediction
    assert "one inner step, where 2 were chosen" in found.note
    assert "the first target only" in found.note
    assert found.noise_std is not None


def test_records_with_it_go_to_json_and_back(model):
    choice = model.choice_
    assert Choice.from_dict(choice.to_dict()) == choice
    infinite = replace(choice, prediction=replace(choice.prediction, train_rate_spectral=-np.inf))
    assert infinite.to_dict()["prediction"]["train_rate_spectral"] == "-inf"
    assert Choice.from_dict(infinite.to_dict()) == infinite
