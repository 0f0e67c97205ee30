"""statsmodels' mixed models: BLUPs against statsmodels' own, awkward columns, and fits that fail or take too long."""

import time
import warnings

import numpy as np
import pytest
from grouped_small import PLAN, small

from undertow import TaskBatch
from undertow.comparison import Plan, compare, mixedlm, rivals
from undertow.comparison.cell import training_of
from undertow.comparison.mixedlm import fit_mixedlm, independent_columns
from undertow.comparison.rivals import NoFit, TooSlow
from undertow.linear.proximal_step import ridge_adapt

MixedLM = pytest.importorskip("statsmodels.regression.mixed_linear_model").MixedLM


@pytest.fixture(scope="module")
def training():
    return training_of(small(16, seed=2), PLAN, 0, 0)[0]


def rows_of(training):
    data = training.data
    return data.x, data.y, data.offsets, np.repeat(np.arange(data.n_tasks), data.counts)


@pytest.mark.parametrize("slopes", [False, True])
def test_weights_of_training_tasks_are_statsmodels_own_random_effects(training, slopes):
    x, y, offsets, groups = rows_of(training)
    free = x if slopes else x[:, [-1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM(y, x, groups, exog_re=free).fit(method=["powell"])
        effects = theirs.random_effects
    ours = fit_mixedlm(x, y, offsets, slopes=slopes)
    assert ours.converged
    assert ours.log_likelihood >= theirs.llf - 1e-6
    np.testing.assert_allclose(ours.log_likelihood, theirs.llf, atol=1e-3)
    np.testing.assert_allclose(ours.omega, theirs.fe_params, atol=2e-3)
    # With statsmodels' own parameters the rule gives its random effects.
    covariance = np.zeros((x.shape[1],) * 2)
    covariance[-free.shape[1] :, -free.shape[1] :] = theirs.cov_re
    for task in range(training.data.n_tasks):
        mine = training.data.select([task])
        batch = TaskBatch(mine.x[None], mine.y[None], mine.x[None, :1], mine.y[None, :1])
        theta = ridge_adapt(np.asarray(theirs.fe_params), batch, theirs.scale, covariance)[0]
        expected = np.zeros(x.shape[1])
        expected[-free.shape[1] :] = np.asarray(effects[task])
        # Theirs are found by inverses, which lose digits where a variance is near 0.
        np.testing.assert_allclose(theta - np.asarray(theirs.fe_params), expected, rtol=1e-5, atol=1e-8)


def test_a_new_task_is_predicted_by_the_blup_written_out(training):
    x, y, offsets, _ = rows_of(training)
    found = fit_mixedlm(x, y, offsets, slopes=True)
    model = mixedlm.fit(training, slopes=True).model
    rng = np.random.default_rng(0)
    raw, targets, query = (
        rng.standard_normal((1, 4, 2)),
        50 + rng.standard_normal((1, 4)),
        rng.standard_normal((1, 3, 2)),
    )
    standard = training.standard
    z, zq = (np.column_stack([standard.features(r[0]), np.ones(r.shape[1])]) for r in (raw, query))
    t = (targets[0] - standard.target_centre) / standard.target_spread
    gram = z @ found.covariance @ z.T + found.noise * np.eye(4)
    theta = found.omega + found.covariance @ z.T @ np.linalg.solve(gram, t - z @ found.omega)
    expected = zq @ theta * standard.target_spread + standard.target_centre
    np.testing.assert_allclose(model.predict(raw, targets, query)[0], expected, rtol=1e-9)


def test_collinear_and_constant_columns_are_left_to_the_others():
    rng = np.random.default_rng(1)
    a, b, c = rng.standard_normal((3, 50))
    x = np.column_stack([a, np.full(50, 3.0), b, a - 2 * b + 1, a + 1e-9 * c, np.zeros(50), np.ones(50)])
    assert independent_columns(x) == [0, 2, 6]
    # Order of scale does not matter, and few rows hold few columns.
    assert independent_columns(np.column_stack([1e-6 * a, 1e6 * b, np.ones(50)])) == [0, 1, 2]
    assert len(independent_columns(rng.standard_normal((3, 8)))) == 3


@pytest.mark.parametrize("slopes", [False, True])
def test_a_table_with_such_columns_is_measured_all_the_same(slopes):
    table = small(12)
    x = np.column_stack([table.x, table.x[:, 0] * 2 + 1, np.where(table.groups == "task 03", 1.0, 0.0)])
    awkward = type(table).from_arrays(x, table.y, table.groups)
    name = "mixedlm_slopes" if slopes else "mixedlm"
    found = compare(awkward, Plan(3, 3, 1), rivals=[name], time_limit=None)
    assert found.measured == (name,)
    assert "collinear features dropped" in found.notes[name]
    assert found.mean_loss(name)[0] < 1.5


def test_tasks_that_do_not_differ_are_said_to_be_at_the_boundary():
    table = small(12, task_std=0.0)
    found = compare(table, Plan(3, 3, 1), rivals=["mixedlm"], time_limit=None)
    assert "covariance at its boundary" in found.notes["mixedlm"]


def test_the_fit_with_the_largest_likelihood_is_used(training, monkeypatch):
    x, y, offsets, _ = rows_of(training)
    right = fit_mixedlm(x, y, offsets, slopes=False)
    original = MixedLM.fit
    seen = []

    def poor_bfgs(self, *args, **kwargs):
        fit = original(self, *args, **kwargs)
        seen.append(kwargs.get("method"))
        if kwargs.get("method") == ["bfgs"]:  # as lbfgs has done: no variance, and no word
            fit = original(self, start_params=np.full(1, 1e-9), method=["bfgs"], maxiter=0)
        return fit

    monkeypatch.setattr(MixedLM, "fit", poor_bfgs)
    found = fit_mixedlm(x, y, offsets, slopes=False)
    assert found.optimiser != "bfgs"
    assert ["bfgs"] in seen
    assert ["powell"] in seen
    np.testing.assert_allclose(found.covariance, right.covariance, rtol=1e-2)
    assert found.covariance[-1, -1] > 0.01


def test_a_fit_that_fails_is_an_outcome(training, monkeypatch):
    def broken(self, *args, **kwargs):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(MixedLM, "fit", broken)
    with pytest.raises(NoFit, match="bfgs: Singular matrix; powell: Singular matrix; default: Singular matrix"):
        fit_mixedlm(*rows_of(training)[:3], slopes=False)
    found = compare(small(), Plan(3, 3, 1), rivals=["pooled", "mixedlm"], time_limit=None)
    assert found.measured == ("pooled",)
    assert found.notes["mixedlm"].startswith("left out: statsmodels found no fit")
    assert "repeat 1, fold 1" in found.notes["mixedlm"]


def test_a_deadline_ends_a_fit_and_keeps_what_it_has(training, monkeypatch):
    x, y, offsets, _ = rows_of(training)
    with pytest.raises(TooSlow):
        fit_mixedlm(x, y, offsets, slopes=False, deadline=time.monotonic())
    original = MixedLM.fit

    def slow_powell(self, *args, **kwargs):
        if kwargs.get("method") == ["powell"]:
            self.deadline = time.monotonic() - 1
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MixedLM, "fit", slow_powell)
    found = fit_mixedlm(x, y, offsets, slopes=False, deadline=time.monotonic() + 100)
    assert found.optimiser == "bfgs"
    assert "time limit: bfgs only" in found.notes


def test_without_statsmodels_the_rows_say_what_to_install(monkeypatch):
    monkeypatch.setattr(rivals, "find_spec", lambda name: None)
    found = compare(small(), Plan(3, 3, 1), rivals=["pooled", "mixedlm", "mixedlm_slopes"], time_limit=None)
    assert found.measured == ("pooled",)
    assert all('pip install "undertow[compare]"' in found.notes[name] for name in ("mixedlm", "mixedlm_slopes"))


def test_random_slopes_are_not_tried_with_many_features():
    found = compare(small(p=6), Plan(3, 3, 1), rivals=["pooled", "mixedlm_slopes"], time_limit=None)
    assert found.notes["mixedlm_slopes"] == "left out: 6 features, random slopes are tried up to 5"
