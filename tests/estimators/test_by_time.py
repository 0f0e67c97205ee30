"""Errors of later tasks under fits to earlier ones: against fits made by hand, and against tasks still to come."""

import numpy as np
import pytest

import undertow as ut
from undertow.estimators import fit_table, load, save
from undertow.estimators.forward import blocks_of
from undertow.tasks import GroupedTable

M, N, SUPPORT = 30, 7, 3
LATER = M // 3
CHEAP = {"n_rates": 9, "n_draws": 1, "blend": False, "ridges": [1e-3], "effort": "fast"}


def drifting(seed, drift, m=M):
    """x (m, N, 1) and y (m, N): the slope goes up by ``drift`` with each task."""
    rng = np.random.default_rng(seed)
    slope = 1 + drift * np.arange(m) + 0.3 * rng.standard_normal(m)
    x = rng.standard_normal((m, N, 1))
    return x, x[:, :, 0] * slope[:, None] + rng.standard_normal((m, 1)) + 0.5 * rng.standard_normal((m, N))


def fitted(x, y, rules="mixed", order=None, **options):
    m = len(x)
    groups = np.repeat(np.arange(m), N)
    model = ut.MAMLRegressorCV(SUPPORT, rules=rules, **(CHEAP | options))
    return model.fit(x.reshape(-1, 1), y.ravel(), groups=groups, task_order=groups if order is None else order)


def test_blocks_are_of_the_last_third_and_never_part_one_moment():
    blocks = blocks_of(np.arange(30), 5)
    assert [int(early.sum()) for early, _ in blocks] == [20, 22, 24, 26, 28]
    assert sum(late.astype(int) for _, late in blocks).tolist() == [0] * 20 + [1] * 10
    years = np.random.default_rng(0).permutation(np.repeat([2000, 2001, 2002], 7))
    for early, late in blocks_of(years, 5):
        assert years[early].max(initial=0) < years[late].min()


def test_errors_are_those_of_fits_to_earlier_tasks_made_by_hand():
    x, y = drifting(0, 0.1)
    when = np.random.default_rng(1).permutation(M)  # tasks in another order than their ids
    model = fitted(x, y, order=np.repeat(when, N), cv=3)
    unit, found = model.model_.standard.target_spread[0] ** 2, {}
    for early, late in blocks_of(when, 3):
        other = ut.MAMLRegressorCV(SUPPORT, 3, "mixed", **CHEAP)
        table = GroupedTable.from_arrays(x.reshape(-1, 1), y.ravel(), np.repeat(np.arange(M), N))
        fit_table(other, table.select(early))
        del other.feature_names_in_
        seed = np.random.SeedSequence(0, spawn_key=(0,))
        for task, batch in zip(np.flatnonzero(late), _each(table.draw(SUPPORT, seed), late), strict=True):
            own = other.adapt(batch[0], batch[1])
            found[task] = np.mean((own.predict(batch[2]) - batch[3]) ** 2) / unit
    assert model.by_time_["n_tasks"] == len(found) == LATER
    assert model.by_time_["mse"] == pytest.approx(np.mean(list(found.values())), rel=1e-9)
    random = model.held_out_.of(model.strategy_)[np.isin(model.held_out_.task_ids, list(found))]
    assert model.by_time_["mse_on_random_folds"] == pytest.approx(random.mean())


def _each(batch, late):
    return [(batch.support_x[i], batch.support_y[i], batch.query_x[i], batch.query_y[i]) for i in np.flatnonzero(late)]


@pytest.mark.long
def test_other_kinds_of_tables_are_judged_too(tmp_path):
    x, y = drifting(0, 0.1)
    groups = np.repeat(np.arange(M), N)
    weights = np.random.default_rng(2).uniform(0.5, 2, M * N)
    levels = np.tile(np.arange(N), M)
    model = ut.MAMLRegressorCV(SUPPORT, 3, "mixed", support="first", **CHEAP)
    days = np.datetime64("2020-01-01") + groups
    model.fit(x.reshape(-1, 1), y.ravel(), groups=groups, sample_weight=weights, levels=levels, task_order=days)
    assert model.by_time_["n_tasks"] == LATER
    save(model, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").by_time_ == model.by_time_
    classes = ut.MAMLClassifierCV(SUPPORT, 3, "proximal", **CHEAP)
    classes.fit(x.reshape(-1, 1), np.where(y.ravel() > 0, "up", "down"), groups=groups, task_order=groups)
    assert 0 < classes.by_time_["mse"] < 2
    assert (
        ut.MAMLRegressorCV(SUPPORT, 3, "proximal", **CHEAP).fit(x.reshape(-1, 1), y.ravel(), groups=groups).by_time_
        == {}
    )


def test_what_has_no_order_is_refused():
    x, y = drifting(0, 0.0, 12)
    groups = np.repeat(np.arange(12), N)
    with pytest.raises(ut.InputError, match="with CV"):
        ut.MAMLRegressor().fit(x.reshape(-1, 1), y.ravel(), groups=groups, task_order=groups)
    with pytest.raises(ut.InputError, match="no order"):
        fitted(x, y, order=np.repeat([f"t{i}" for i in range(12)], N))
    with pytest.raises(ut.InputError, match="strictly before"):
        fitted(x, y, rules="proximal", order=np.zeros(12 * N))


@pytest.mark.long
@pytest.mark.parametrize(("drift", "drifts"), [(0.0, False), (0.05, True)])
def test_the_error_by_time_is_nearer_to_that_of_tasks_to_come(drift, drifts):
    """Means over tables, in standard errors: without drift all errors are one, with it random folds say too little."""
    gaps, flattered = [], []
    for seed in range(40):
        x, y = drifting(seed, drift, M + 4)
        model = fitted(x[:M], y[:M])
        unit = model.model_.standard.target_spread[0] ** 2
        ahead = [
            np.mean((model.adapt(x[i, :SUPPORT], y[i, :SUPPORT]).predict(x[i, SUPPORT:]) - y[i, SUPPORT:]) ** 2) / unit
            for i in range(M, M + 4)
        ]
        gaps.append(model.by_time_["mse"] - np.mean(ahead))
        flattered.append(model.by_time_["mse_on_random_folds"] - model.by_time_["mse"])
    of_gap, of_random = (np.mean(one) / (np.std(one) / np.sqrt(len(one))) for one in (gaps, flattered))
    assert of_random < -3 if drifts else abs(of_random) < 3.5
    assert abs(of_gap) < 3.5 or drifts
    assert abs(np.mean(gaps)) < abs(np.mean(np.add(gaps, flattered))) or not drifts
