"""One BLAS thread for small tables, and the number from before afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (it brings a library of its own)
from threadpoolctl import threadpool_info, threadpool_limits

import undertow as ut


def numbers():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two():
    with threadpool_limits(2, "blas"):
        if numbers() != {2}:
            pytest.skip("BLAS here has one thread")
        yield


def test_a_fit_of_a_small_table_multiplies_in_one_thread(monkeypatch):
    seen = []
    original = ut.MAMLRegressor._train
    monkeypatch.setattr(ut.MAMLRegressor, "_train", lambda *args: seen.append(numbers()) or original(*args))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2))
    ut.MAMLRegressor(n_support=3).fit(x, x[:, 0] + rng.standard_normal(60), groups=np.repeat(np.arange(6), 10))
    assert seen == [{1}]
    assert numbers() == {2}
