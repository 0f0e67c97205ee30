"""The steps of the search, and where it ends: the maximum over all covariances, found in few evaluations."""

import numpy as np
import pytest
from mixed_tables import dense, draw, unscaled

from undertow.mixed import steps
from undertow.mixed.derivatives import by_components, packed, slope_by_components, unpacked
from undertow.mixed.likelihood import Model, evaluate
from undertow.mixed.scoring import search_components, search_full
from undertow.mixed.semidefinite import maximise
from undertow.mixed.statistics import TaskStatistics
from undertow.tasks import GroupedTable


def problem(seed, r=4, condition=1e3):
    """A concave quadratic in a packed (r, r) matrix and a number; its free maximum is far outside of the cone."""
    rng = np.random.default_rng(seed)
    n = r * (r + 1) // 2 + 1
    axes = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (axes * np.geomspace(1, condition, n)) @ axes.T, 30 * rng.standard_normal(n)


def maximum(matrix, slope, start):
    """One call leaves at most a tenth of what it gains, and damps the matrix by a millionth."""
    z = start
    for _ in range(12):
        z = end_of(maximise(matrix, slope - matrix @ (z - start), z, 1e-12))
    return z


def end_of(found):
    root, t, _ = found
    return np.append(packed(root @ root.T), t)


@pytest.mark.parametrize("seed", range(8))
def test_the_maximum_over_the_cone_meets_the_conditions_of_one(seed):
    matrix, slope = problem(seed)
    start = np.append(packed(np.eye(4)), 1.0)
    z = maximum(matrix, slope, start)

    def value(z):
        return (slope - 0.5 * matrix @ (z - start)) @ (z - start)

    there = slope - matrix @ (z - start)
    assert np.linalg.eigvalsh(unpacked(z[:-1]))[0] > -1e-12
    assert z[-1] >= 0
    assert np.linalg.eigvalsh(unpacked(there[:-1]))[-1] < 1e-4
    assert there[-1] < 1e-4
    assert abs(there @ z) < 1e-4
    found = maximise(matrix, slope, start, 1e-12)
    once, left = end_of(found), found[2]
    assert -1e-9 < value(z) - value(once) < left + 1e-5 * value(z)
    assert left <= 0.1 * value(once) + 1e-9


def test_with_equal_curvature_the_maximum_is_the_nearest_matrix():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 5))
    a += a.T
    values, vectors = np.linalg.eigh(a)
    z = maximum(np.eye(16), np.append(packed(a), -3.0), np.zeros(16))
    np.testing.assert_allclose(unpacked(z[:-1]), (vectors * values.clip(0)) @ vectors.T, atol=1e-5)
    assert z[-1] == 0


def test_a_matrix_without_curvature_in_some_direction_will_do():
    matrix, slope = problem(0)
    values, vectors = np.linalg.eigh(matrix)
    values[:4] = [-1e-8, 0.0, 0.0, 0.0]
    slope = vectors[:, 4:] @ (vectors[:, 4:].T @ slope)
    start = np.append(packed(np.eye(4)), 1.0)
    found = maximise((vectors * values) @ vectors.T, slope, start, 1e-6)
    assert np.isfinite(found[2])
    assert slope @ (end_of(found) - start) > 0


def neighbours(covariance, seed=0):
    """Covariances near to one: a little more along random directions and its own null space, and a little less."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    size = max(values[-1], 1e-3)
    null = vectors[:, values <= 1e-8 * size]
    for scale in (1e-1, 1e-2, 1e-3):
        for _ in range(15):
            yield covariance + scale * size * np.outer(u := rng.standard_normal(len(values)), u) / len(values)
            if null.shape[1]:
                yield covariance + scale * size * np.outer(u := null @ rng.standard_normal(null.shape[1]), u)
        yield covariance * (1 - scale)
        yield (vectors * (values * rng.uniform(1 - scale, 1, len(values))).clip(0)) @ vectors.T


def root_of(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(values.clip(0))


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_singular_covariance_is_found_exactly_and_in_few_evaluations(rank, seed):
    rng = np.random.default_rng(seed)
    root = 0.7 * rng.standard_normal((6, rank)) if rank else np.zeros((6, 1))
    stats = TaskStatistics.from_tasks(draw(60, (4, 15), root=root, mean=rng.standard_normal(6), seed=seed))
    model = Model(True, None, ~stats.constant)
    found = search_full(stats, (np.full(6, 0.1), 0.5), model, 200, 1e-9)
    assert found.converged
    assert found.evaluations < 40
    assert (np.diff(found.history) > 0).all()
    values = np.linalg.eigvalsh(found.covariance)
    assert rank <= (values > 1e-8 * values[-1]).sum() < 6
    for near in neighbours(found.covariance):
        assert evaluate(stats, root_of(near), found.noise, model).value < found.value + 1e-8


@pytest.mark.parametrize("weights", [False, True])
def test_the_end_does_not_depend_on_the_start(weights):
    # Heavy tails: the observed curvature is far from the expected one.
    rng = np.random.default_rng(3)
    table = draw(50, (3, 12), root=np.zeros((5, 1)), mean=np.ones(5), seed=3)
    spread = rng.standard_t(3, (50, 2)) @ rng.standard_normal((2, 5))
    table = GroupedTable.from_arrays(
        table.x, table.y + (table.x * spread[table.groups]).sum(1) + rng.standard_t(3, table.n_rows), table.groups
    )
    stats = TaskStatistics.from_tasks(table, None, rng.integers(1, 4, 50) if weights else None)
    model = Model(True, None, ~stats.constant)
    ends = []
    for near in (
        (np.full(5, 0.1), 0.5),
        (np.zeros(5), 1.0),
        (np.full(5, 1e3), 1e-3),
        (np.array([1e-4, 1e4, 1e-4, 0.0, 1.0]), 10.0),
        (np.full((5, 5), 0.2), 0.3),
    ):
        found = search_full(stats, near, model, 200, 1e-8)
        assert found.converged
        assert (np.diff(found.history) > 0).all()
        ends.append(found.value)
    np.testing.assert_allclose(ends, max(ends), atol=1e-6)


def test_a_bad_start_is_left_uphill():
    stats = TaskStatistics.from_tasks(draw(30))
    model = Model(True, None, ~stats.constant)
    best = search_components(stats, np.eye(3), model, 100, 1e-9)
    for near in (np.array([1e3, 1e-3, 1.0]), 1e-3), (np.array([1e-4, 1e4, 1e-4]), 10.0), (np.full(3, 1e-6), 1e-6):
        found = search_components(stats, np.eye(3), model, 200, 1e-9, near)
        assert (np.diff(found.history) > 0).all()
        assert found.value == pytest.approx(best.value, abs=1e-6)


def test_features_that_say_nothing_or_the_same_leave_the_likelihood_alone():
    base = draw(40, (3, 9))
    stats = TaskStatistics.from_tasks(base)
    wider = np.column_stack([base.x[:, :2], base.x[:, 0] - base.x[:, 1], np.zeros(base.n_rows), base.x[:, 2]])
    more = TaskStatistics.from_tasks(GroupedTable.from_arrays(wider, base.y, base.groups))
    ends = []
    for one in (stats, more):
        model = Model(False, 0.0, np.zeros(one.n_features, dtype=bool))
        ends.append(search_full(one, (np.full(one.n_features, 0.1), 0.5), model, 100, 1e-9))
    assert ends[1].value == pytest.approx(ends[0].value, abs=1e-7)
    assert (ends[1].covariance[3] == 0).all()


def test_steps_that_reach_too_far_are_cut(monkeypatch):
    stats = TaskStatistics.from_tasks(draw(30))
    model = Model(True, None, ~stats.constant)
    best = search_components(stats, np.eye(3), model, 100, 1e-9)

    class Far(steps.ComponentStep):
        def point(self, length):
            return np.maximum(super().point(8 * length), 1e-9)

    monkeypatch.setattr("undertow.mixed.scoring.ComponentStep", Far)
    found = search_components(stats, np.eye(3), model, 200, 1e-9)
    assert (np.diff(found.history) > 0).all()
    assert found.value == pytest.approx(best.value, abs=1e-4)


def test_steps_without_curvature_never_lower_the_likelihood():
    stats, rng = TaskStatistics.from_tasks(draw(30)), np.random.default_rng(0)
    model = Model(False, 0.0, np.zeros(3, dtype=bool))
    for _ in range(20):
        v = np.exp(2 * rng.standard_normal(4))
        here = evaluate(stats, np.sqrt(v[:3]), v[3], model)
        v = steps.multiplicative_target(here, np.eye(3), v, slope_by_components(here, np.eye(3), v[:3]))
        assert evaluate(stats, np.sqrt(v[:3]), v[3], model).value > here.value


def test_steps_without_curvature_are_the_ratio_of_both_sides_of_the_slope():
    table, v = draw(12), np.array([0.5, 0.2, 1.0, 0.64])
    here = evaluate(unscaled(table), np.sqrt(v[:3]), v[3], Model(False, 0.0, np.zeros(3, dtype=bool)))
    slope = by_components(here, np.eye(3), v[:3]).slope
    inverse = np.linalg.inv(dense(table, np.diag(v[:3]), v[3]))
    same = table.groups[:, None] == table.groups[None, :]
    pulled = inverse @ (table.y - table.x @ here.mean)
    parts = [np.where(same, np.outer(c, c), 0.0) for c in table.x.T] + [np.eye(table.n_rows)]
    brute = [a * np.sqrt(pulled @ part @ pulled / np.trace(inverse @ part)) for a, part in zip(v, parts, strict=True)]
    np.testing.assert_allclose(steps.multiplicative_target(here, np.eye(3), v, slope), brute)
