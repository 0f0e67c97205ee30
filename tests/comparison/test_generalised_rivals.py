"""Rivals for two values and counts, against fits of the rows themselves and adaptation task by task."""

import numpy as np
import pytest
from grouped_small import PLAN

from undertow._check import InputError
from undertow.comparison import RIVALS, compare
from undertow.comparison.cell import training_of
from undertow.comparison.registry import BY_NAME, chosen
from undertow.estimators import MAMLRegressor
from undertow.mixed import MixedRule
from undertow.tasks import GroupedTable

BOTH = pytest.mark.parametrize(("name", "family"), [("logistic_mixed", "binomial"), ("poisson_mixed", "poisson")])


def table_of(family, m=14, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(m), rng.integers(6, 11, m))
    x = rng.standard_normal((len(codes), 2)) * [3.0, 0.2] + 2
    eta = 0.3 * (x[:, 0] - 2) + rng.standard_normal(m)[codes]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else rng.random(len(eta)) < 1 / (1 + np.exp(-eta))
    return GroupedTable.from_arrays(x, y.astype(float), np.array([f"task {c:02d}" for c in codes]))


@BOTH
def test_a_rival_predicts_what_the_estimator_of_its_rule_predicts(name, family):
    plan = PLAN._replace(clip=None)
    training, test, _ = training_of(table_of(family), plan, 0, 0)
    model = BY_NAME[name].fit(training).model
    x, y, codes = training.raw.x, training.raw.y, training.raw.groups
    ours = MAMLRegressor(rule=MixedRule("intercept", family=family), n_support=3).fit(x, y, groups=codes)
    for batch in test.draw_buckets(3, 0):
        found = model.predict(batch.support_x, batch.support_y, batch.query_x)
        for i in range(batch.n_tasks):
            mine = ours.adapt(batch.support_x[i], batch.support_y[i]).predict(batch.query_x[i])
            np.testing.assert_allclose(found[i], mine, rtol=1e-4)


@BOTH
def test_weights_of_support_rows_are_copies(name, family):
    training, test, _ = training_of(table_of(family), PLAN, 0, 0)
    model = BY_NAME[name].fit(training).model
    [batch, *_] = test.draw_buckets(2, 0)
    weights = np.tile([3.0, 1.0], (batch.n_tasks, 1))
    times = [0, 0, 0, 1]
    found = model.predict(batch.support_x, batch.support_y, batch.query_x, weights)
    theirs = model.predict(batch.support_x[:, times], batch.support_y[:, times], batch.query_x)
    np.testing.assert_allclose(found, theirs, rtol=1e-6)


def test_all_rivals_are_those_for_the_kind_of_target():
    two = {"logistic_mixed", "poisson_mixed"}
    assert two < {*RIVALS}
    assert two & {one.name for one in chosen(None, "count")} == {"poisson_mixed"}
    assert two & {one.name for one in chosen(None, "two-valued")} == {"logistic_mixed"}
    assert not two & {one.name for one in chosen(None, "number")}
    counts = table_of("poisson")
    asked = compare(counts, PLAN, rivals=["pooled", *two], time_limit=None)
    assert asked.measured == ("pooled", "poisson_mixed")
    assert "two values" in asked.notes["logistic_mixed"]
    with pytest.raises(InputError, match="two values"):
        compare(counts, PLAN, rivals=["logistic_mixed"], time_limit=None)
