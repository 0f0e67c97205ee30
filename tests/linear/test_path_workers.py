"""Several workers give the digits of one, and bad numbers of workers are named."""

import numpy as np
import pytest

import undertow as ut
from undertow.linear import moments


@pytest.mark.parametrize("rates", [None, -0.3])
def test_digits_do_not_depend_on_the_number_of_workers(rates, monkeypatch):
    monkeypatch.setattr(moments, "_PART_NUMBERS", 1 << 12)
    tasks = ut.MixedLinearRegression(8, 1.0, 0.5).sample(ut.Design(3000, 6, 5), seed=0)
    one, two = (ut.rate_path(tasks, rates, solver="gram", n_jobs=n) for n in (None, 2))
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.meta_loss, two.meta_loss)
    monkeypatch.setattr(moments, "_PART_NUMBERS", 1 << 40)
    np.testing.assert_allclose(ut.rate_path(tasks, rates, solver="gram").weights, one.weights, rtol=1e-9)


@pytest.mark.wrong_type
@pytest.mark.parametrize("n_jobs", [0, 1.5, "two", -2])
def test_a_number_of_workers_that_is_none_is_named(n_jobs):
    tasks = ut.MixedLinearRegression(3, 1.0, 0.5).sample(ut.Design(20, 6, 5), seed=0)
    with pytest.raises(ut.InputError, match=f"n_jobs={n_jobs!r}"):
        ut.rate_path(tasks, solver="gram", n_jobs=n_jobs)
