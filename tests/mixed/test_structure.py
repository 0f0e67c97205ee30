"""The choice of a structure: losses by hand, and the structure that the tasks were drawn from."""

import numpy as np
import pytest

import undertow as ut
from undertow.mixed.model import fit_mixed
from undertow.mixed.statistics import TaskStatistics
from undertow.mixed.structure import choose_mixed
from undertow.tasks import GroupedTable, folds
from undertow.tasks.losses import balance


def draw(root, m=60, n=15, seed=0):
    rng = np.random.default_rng(seed)
    p = len(root)
    groups = np.repeat(np.arange(m), n)
    x = rng.standard_normal((m * n, p))
    x[:, -1] = 1.0
    weights = 1.0 + rng.standard_normal((m, root.shape[1])) @ root.T
    return GroupedTable.from_arrays(x, (x * weights[groups]).sum(1) + 0.5 * rng.standard_normal(m * n), groups)


def test_losses_are_those_of_fits_without_the_fold():
    table = draw(np.diag([0.5, 0.0, 1.0]), m=12)
    choice = choose_mixed(table, 4, structures=("isotropic", "diagonal"), n_folds=3, n_draws=2, seed=5)
    assert choice.names == ("isotropic", "diagonal")
    brute = np.zeros((12, 2))
    stats = TaskStatistics.from_tasks(table)
    for part in folds(table.ids, 3, 5):
        for c, name in enumerate(choice.names):
            fit = fit_mixed(stats.select(np.setdiff1d(np.arange(12), part)), name)
            for k in range(2):
                tasks = table.select(part).draw(4, np.random.SeedSequence(5, spawn_key=(k,)))
                for i, theta in zip(part, fit.adapt(tasks), strict=True):
                    j = int(np.flatnonzero(tasks.ids == table.ids[i])[0])
                    brute[i, c] += 0.25 * np.mean((tasks.query_x[j] @ theta - tasks.query_y[j]) ** 2)
    # The search of a fold stops a hundredth of log-likelihood early.
    np.testing.assert_allclose(choice.task_losses, brute, rtol=0.02)
    np.testing.assert_allclose(choice.losses, balance(choice.task_rows) @ choice.task_losses)
    assert choice.name == choice.names[int(choice.losses.argmin())]


def test_the_structure_of_the_tasks_is_found():
    some = choose_mixed(draw(np.diag([2.0, 0.0, 0.3])), 4)
    assert some.name == "diagonal" or some.name.startswith("full")
    related = choose_mixed(draw(np.array([[1.0], [-1.0], [1.0]])), 4)
    assert related.name == "full"
    names = list(related.names)
    # One direction of difference: a few rows tell it, and a diagonal covariance does not see it.
    assert related.losses[names.index("full")] < 0.5 * related.losses[names.index("diagonal")]
    alike = choose_mixed(draw(np.zeros((3, 1))), 4)
    assert alike.losses.min() >= 0.99 * alike.losses[list(alike.names).index("none")]


def test_what_is_tried_depends_on_the_table():
    plain = draw(np.eye(3))
    without = GroupedTable.from_arrays(plain.x[:, :2], plain.y, plain.groups)
    assert "intercept" not in choose_mixed(without, 4, n_folds=2, n_draws=1).names
    rng = np.random.default_rng(0)
    wide = GroupedTable.from_arrays(rng.standard_normal((60, 20)), rng.standard_normal(60), np.arange(60) // 10)
    assert choose_mixed(wide, 4, n_folds=2, n_draws=1).names == ("none", "isotropic")


def test_short_tasks_serve_the_fits_and_few_long_ones_raise():
    table = draw(np.diag([0.5, 0.2, 1.0]), m=10)
    kept = np.ones(table.n_rows, dtype=bool)
    kept[: 15 - 2] = False  # the first task keeps two rows
    short = GroupedTable.from_arrays(table.x[kept], table.y[kept], table.groups[kept])
    choice = choose_mixed(short, 4, structures=("diagonal",), n_folds=3, n_draws=1)
    assert choice.task_losses.shape == (9, 1)
    assert choice.fit.n_tasks == 10
    with pytest.raises(ut.InputError, match="choosing needs two"):
        choose_mixed(table, 15)
    with pytest.raises(ut.InputError, match="structures='block'"):
        choose_mixed(table, 4, structures=("block",))


def test_the_same_seed_gives_the_same_choice():
    table = draw(np.diag([0.5, 0.2, 1.0]), m=15)
    one, two = (choose_mixed(table, 4, n_folds=3, n_draws=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.task_losses, two.task_losses)
    np.testing.assert_array_equal(one.fit.mean, two.fit.mean)


def test_large_tasks_do_not_outweigh_the_others():
    np.testing.assert_allclose(balance(np.array([10.0, 90.0, 1e9])), np.array([0.5, 0.9, 1.0]) / 2.4, rtol=1e-6)
