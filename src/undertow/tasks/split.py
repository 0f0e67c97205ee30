"""Splits by task: folds, training and test tasks, and several support/query draws of one table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting
from undertow._types import Numbers
from undertow.tasks.drawing import seed_sequence
from undertow.tasks.grouped import GroupedTable
from undertow.tasks.wording import some


def folds(tasks: Any, n_folds: int, seed: Any = 0, *, rows: Any = None) -> list[Numbers]:
    """Return ``n_folds`` sorted index arrays of nearly equal size; each task is in exactly one.

    Parameters
    ----------
    tasks
        the number of tasks, or their (m,) distinct ids. With ids the fold of a task follows its id and not its
        place: the same set of ids gives the same folds in any order.
    n_folds
        number of folds.
    seed
        a whole number, a SeedSequence or a Generator (which then advances).
    rows
        (m,) rows of each task. Then rows are balanced too: tasks are dealt out by size, forwards and backwards in
        turn, and the rows of two folds differ by no more than the largest task has.

    Raises
    ------
    InputError
        where there are more folds than tasks, or fewer than two.

    Notes
    -----
    Fold k is meant as the test tasks of split k; the training tasks are all others.

    Examples
    --------
    >>> import undertow as ut
    >>> [fold.tolist() for fold in ut.tasks.folds(5, n_folds=2, seed=0)]
    [[2, 3, 4], [0, 1]]
    """
    m, rank = _numbered(tasks)
    n_folds = _check.whole_number(n_folds, "n_folds", minimum=2)
    if n_folds > m:
        if m == 1:
            raise InputError("n_folds", n_folds, "there is only one task, and folds need at least two.")
        raise InputError(
            "n_folds",
            n_folds,
            f"there are only {m} tasks, and a fold needs at least one.",
            ("Use ", Setting("n_folds", m), " or less, or more tasks."),
        )
    shuffled = rank[_generator(seed).permutation(m)]
    if rows is None:
        return [np.sort(part) for part in np.array_split(shuffled, n_folds)]
    counts = np.asarray(rows)
    if counts.shape != (m,):
        raise InputError(None, rule=f"rows has shape {counts.shape}: with {m} tasks it must be ({m},).")
    # Stable, so that tasks of equal size stay in random order.
    by_size = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    turn, place = np.divmod(np.arange(m), n_folds)
    fold = np.where(turn % 2 == 0, place, n_folds - 1 - place)
    return [np.sort(by_size[fold == k]) for k in range(n_folds)]


def split_tasks(table: Any, test_share: float = 0.3, seed: Any = 0) -> tuple[Any, Any]:
    """Return (training, test): a GroupedTable or a TaskBatch split at random by task, never within one.

    Parameters
    ----------
    table
        what is split.
    test_share
        share of the tasks that are test tasks, between 0 and 1; both sides keep at least one task.
    seed
        a whole number, a SeedSequence, or a Generator.

    Raises
    ------
    InputError
        for a share outside (0, 1), or where there is only one task.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> train, test = ut.tasks.split_tasks(table, test_share=0.3, seed=0)
    >>> train.n_tasks, test.n_tasks, set(train.ids) & set(test.ids)
    (99, 43, set())
    """
    test_share = _check.real(test_share, "test_share")
    if not 0 < test_share < 1:
        raise InputError("test_share", test_share, "it must lie between 0 and 1, both excluded.")
    m, rank = _numbered(table.n_tasks if table.ids is None else table.ids)
    if m < 2:
        rule = "there is only one task: training and test tasks need at least two."
        raise InputError(None, rule=rule, way_out="Split its rows instead.")
    n_test = min(max(round(test_share * m), 1), m - 1)
    shuffled = rank[_generator(seed).permutation(m)]
    return table.select(np.sort(shuffled[n_test:])), table.select(np.sort(shuffled[:n_test]))


def draws(
    table: GroupedTable,
    n_support: int,
    n_draws: int,
    seed: Any = 0,
    n_query: int | None = None,
    **options: Any,
) -> Iterator[TaskBatch]:
    """Return an iterator over ``n_draws`` independent draws of support and query rows: see GroupedTable.draw.

    Draw k depends on the seed and on k only, so a longer run starts with the draws of a shorter one. ``seed``
    is a whole number or a SeedSequence.

    Parameters
    ----------
    table
        rows of tasks.
    n_support, n_query, options
        as in ``GroupedTable.draw``.
    n_draws
        number of draws.
    seed
        a whole number or a SeedSequence.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> [batch.support_x.shape for batch in ut.tasks.draws(table, n_support=4, n_draws=2, seed=0)]
    [(142, 4, 3), (142, 4, 3)]
    """
    n_draws = _check.whole_number(n_draws, "n_draws")
    root = seed_sequence(seed)
    # spawn() would count the children of the caller's object; a key leaves it as it was.
    seeds = [np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, k)) for k in range(n_draws)]
    return (table.draw(n_support, each, n_query, **options) for each in seeds)


def _numbered(tasks: Any) -> tuple[int, Numbers]:
    """Return the number of tasks and their indices in the order of their ids."""
    if np.ndim(tasks) == 0:
        m = _check.whole_number(tasks, "tasks")
        return m, np.arange(m)
    ids = np.asarray(tasks)
    rank = np.argsort(ids, kind="stable")
    again = ids[rank][1:][ids[rank][1:] == ids[rank][:-1]]
    if ids.ndim != 1 or len(ids) == 0 or len(again):
        what = f"{some(np.unique(again))} more than once" if len(again) else f"shape {ids.shape}"
        way_out = "Give each task's id once, such as table.ids, or the number of tasks."
        raise InputError(None, rule=f"tasks has {what}.", way_out=way_out)
    return len(ids), rank


def _generator(seed: Any) -> np.random.Generator:
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed_sequence(seed))
