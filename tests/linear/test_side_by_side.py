"""Several rules side by side adapt as each does alone."""

import numpy as np
import pytest

from undertow import TaskBatch
from undertow._check import InputError
from undertow.linear.rules import BlendRule, GradientRule, ProximalRule
from undertow.linear.side_by_side import adapt_side_by_side

D = 4


def rules(rng):
    half = rng.standard_normal((D, 2))
    gradient = [GradientRule(0.1), GradientRule(0.0), GradientRule(0.3, 3), GradientRule(0.05, 3)]
    proximal = [
        ProximalRule(1.0),
        ProximalRule(1e-12),
        ProximalRule(0.0),
        ProximalRule(np.inf),
        ProximalRule(0.5, np.array([0.0, 1.0, 2.0, 0.1])),
        ProximalRule(2.0, half @ half.T),
        ProximalRule(0.7, np.zeros((D, D))),
    ]
    blend = BlendRule((ProximalRule(1.0), GradientRule(0.1)), np.array([0.3, 0.7]), rng.standard_normal((2, D)))
    return [*gradient, *proximal, blend]


def tasks(rng, n_support, dtype, masked):
    x, y = rng.standard_normal((9, n_support, D)), rng.standard_normal((9, n_support))
    mask = None
    if masked:
        mask = np.arange(n_support) < rng.integers(1, n_support + 1, 9)[:, None]
        x[~mask], y[~mask] = np.nan, np.nan
    query = np.zeros((9, 1, D), dtype), np.zeros((9, 1), dtype)
    return TaskBatch(x.astype(dtype), y.astype(dtype), *query, support_mask=mask)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_support", [2, 7])
def test_each_rule_adapts_as_it_does_alone(n_support, masked, dtype):
    rng = np.random.default_rng(n_support)
    those, batch = rules(rng), tasks(rng, n_support, dtype, masked)
    starts = rng.standard_normal((len(those), D))
    theta = adapt_side_by_side(those, starts, batch)
    assert theta.dtype == dtype
    # Without a penalty the smallest eigenvalue of two rows is all there is to divide by.
    tolerance = 1e-10 if dtype is np.float64 else 2e-3
    for i, (rule, start) in enumerate(zip(those, starts.astype(dtype), strict=True)):
        np.testing.assert_allclose(theta[..., i], rule.adapt(start, batch), rtol=tolerance, atol=tolerance)


def test_a_value_that_is_not_finite_is_named():
    rng = np.random.default_rng(0)
    batch = tasks(rng, 3, np.float64, False)
    batch.support_y[2, 1] = np.inf
    with pytest.raises(InputError, match="support_y"):
        adapt_side_by_side([GradientRule(0.1)], np.zeros((1, D)), batch)
