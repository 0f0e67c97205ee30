"""Sums over tasks that weights are solved from once rates, ratios and variances are known: further tasks only add.

Sums in a task are not linear in its rows, so a task must be whole where it is summed; sums of disjoint sets of tasks
add up if they were made by one ``Recipe``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._plain import plain, unplain
from undertow.choice.mixed_family import task_statistics
from undertow.estimators import saved_file
from undertow.estimators.saved_checks import check_shape, check_squares, check_values, whole
from undertow.linear.block_moments import BlockMoments
from undertow.linear.proximal_step import RidgeMoments
from undertow.linear.rules import ProximalRule
from undertow.mixed.mean import information
from undertow.tasks.losses import WEIGHTINGS
from undertow.tasks.rows import TaskRows, of_target
from undertow.tasks.standard import Standard

_KEPT: dict[str, Any] = {"n_support": int, "n_draws": int, "seed": int, "steps": int, "weighting": str}
_RECIPE = _KEPT | {
    "ratios": list[float],
    "covariance": bool,
    "noise": dict[str, list[list[float]]],
    "priors": list[str],
}
_OF_BLOCKS: dict[str, Any] = {**dict.fromkeys(("support_tasks", "eps"), float), "weighting": str}
_OF_BLOCKS |= dict.fromkeys(("n_rows", "n_tasks", "n_targets"), int)
_SUMS = _OF_BLOCKS | {
    **{"weight": float, "n_all": int, "n_clipped": int},
    "ratios": list[float],
    "mixed": list[str],
}


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is summed, and how rows are drawn and measured. Letters: d standardised columns, q targets, r ratios.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressorCV(n_draws=1, effort="fast").fit(table.x, table.y, groups=table.groups)
    >>> model.recipe_.n_support, model.recipe_.n_draws
    (5, 1)
    """

    standard: Standard
    n_support: int
    n_draws: int
    seed: int
    steps: int
    """most inner steps of the gradient rule; 0 for none"""
    ratios: tuple[float, ...] = ()
    """(r,) finite train ratios of the proximal rule"""
    covariance: np.ndarray | None = None
    """of the proximal rule, see ``RidgeMoments``"""
    spreads: Mapping[str, tuple[ProximalRule, ...]] = field(default_factory=dict)
    """mixed strategy -> rule of each target, with the covariance and noise variance that were chosen"""
    priors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """mixed strategy whose mean is solved from sums -> (q, d) prior precision of the mean; the mean of others is the
    weights of the strategy "joint", as on a large table"""
    weighting: str = "tasks"
    """what counts once: each of the "tasks", or each of their query "rows" """

    def pack(self, arrays: dict[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
        """Put the arrays into ``arrays``, but for those of the standardisation, and return all else as plain values."""
        if self.covariance is not None:
            arrays[f"{prefix}covariance"] = self.covariance
        for name, rules in self.spreads.items():
            for j, rule in enumerate(rules):
                assert rule.covariance is not None
                arrays[f"{prefix}{name}.covariance.{j}"] = rule.covariance
        for name, prior in self.priors.items():
            arrays[f"{prefix}{name}.prior"] = prior
        return {name: getattr(self, name) for name in _KEPT} | {
            "ratios": list(self.ratios),
            "covariance": self.covariance is not None,
            "noise": {name: [[rule.ratio, rule.reach] for rule in rules] for name, rules in self.spreads.items()},
            "priors": list(self.priors),
        }

    @classmethod
    def unpack(
        cls, stored: Mapping[str, Any], arrays: Mapping[str, np.ndarray], standard: Standard, prefix: str = ""
    ) -> Recipe:
        """Return the recipe of ``pack``; raises ValueError or KeyError for what does not fit together."""
        check_values(stored, _RECIPE, "recipe")
        q, d = len(standard.target_centre), standard.width
        for name in ("n_draws", "steps"):
            whole(stored[name], name)
        own = arrays[f"{prefix}covariance"] if stored["covariance"] else None
        spreads = {
            name: tuple(
                ProximalRule(ratio, arrays[f"{prefix}{name}.covariance.{j}"], reach=reach)
                for j, (ratio, reach) in enumerate(pairs)
            )
            for name, pairs in stored["noise"].items()
        }
        priors = {name: arrays[f"{prefix}{name}.prior"] for name in stored["priors"]}
        for covariance in (own, *(rule.covariance for rules in spreads.values() for rule in rules)):
            if covariance is not None and covariance.shape not in ((d,), (d, d)):
                raise ValueError(f"a covariance of shape {covariance.shape} for {d} columns")
        for name, prior in priors.items():
            check_shape(prior, (q, d), name)
            if len(spreads[name]) != q:
                raise ValueError(f"{name!r} for {len(spreads[name])} targets of {q}")
        _check.one_of(stored["weighting"], "weighting", WEIGHTINGS)
        kept = {name: stored[name] for name in _KEPT}
        return cls(standard, **kept, ratios=tuple(stored["ratios"]), covariance=own, spreads=spreads, priors=priors)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over some tasks.

    Examples
    --------
    >>> import undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressorCV(n_draws=1, effort="fast").fit(table.x, table.y, groups=table.groups)
    >>> ut.scale.Sums.from_bytes(model.sums_.to_bytes()).n_all
    142
    """

    blocks: BlockMoments
    """of the gradient rule, in one block"""
    ridge: tuple[RidgeMoments, ...]
    """of each target, at the recipe's ratios; none where there are none"""
    mixed: Mapping[str, np.ndarray]
    """mixed strategy -> (q, d, d + 1) sum of X^T H^{-1} [X, y], see ``undertow.mixed.mean``"""
    n_all: int
    """number of tasks, those included that are too short to be drawn from"""
    n_clipped: int
    """values that the limit of the standardisation touches"""

    def to_bytes(self) -> bytes:
        """Return the sums as a safetensors file, whose header holds what is no array, and a checksum."""
        arrays: dict[str, np.ndarray] = {}
        header = self.pack(arrays)
        return saved_file.to_bytes(plain(header), arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Sums:
        """Return the sums of ``to_bytes``. Raises InputError for bytes that are none."""
        try:
            header, arrays = saved_file.from_bytes(data)
            return cls.unpack(unplain(header), arrays)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                None, rule=f"{len(data)} bytes hold no sums ({error}).", way_out="Make them again, with to_bytes."
            ) from error

    def pack(self, arrays: dict[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
        """Put the arrays into ``arrays`` and return all else as plain values."""
        arrays[f"{prefix}gram"], arrays[f"{prefix}support"] = self.blocks.gram[0], self.blocks.support
        for j, one in enumerate(self.ridge):
            arrays[f"{prefix}ridge.{j}"] = one.gram
        for name, one in self.mixed.items():
            arrays[f"{prefix}{name}"] = one
        return {name: getattr(self.blocks, name) for name in _OF_BLOCKS} | {
            "weight": float(self.blocks.weight[0]),
            "ratios": self.ridge[0].ratios.tolist() if self.ridge else [],
            "mixed": list(self.mixed),
            "n_all": self.n_all,
            "n_clipped": self.n_clipped,
        }

    @classmethod
    def unpack(cls, stored: Mapping[str, Any], arrays: Mapping[str, np.ndarray], prefix: str = "") -> Sums:
        """Return the sums of ``pack``; raises ValueError or KeyError for what does not fit together."""
        check_values(stored, _SUMS, "sums")
        _check.one_of(stored["weighting"], "weighting", WEIGHTINGS)
        counts = {name: stored[name] for name in ("n_rows", "n_tasks", "eps")}
        blocks = BlockMoments(
            gram=arrays[f"{prefix}gram"][None],
            weight=np.array([stored["weight"]]),
            folds=np.zeros(1, dtype=np.int64),
            support=arrays[f"{prefix}support"],
            **{name: stored[name] for name in _OF_BLOCKS},
        )
        ratios = np.array(stored["ratios"])
        ridge = tuple(
            RidgeMoments(ratios, arrays[f"{prefix}ridge.{j}"], stored["weight"], **counts)
            for j in range(stored["n_targets"] if len(ratios) else 0)
        )
        mixed = {name: arrays[f"{prefix}{name}"] for name in stored["mixed"]}
        q, d = stored["n_targets"], len(blocks.support)
        check_shape(blocks.support, (d, d), "support")
        check_shape(blocks.gram, (1, *2 * (blocks.gram.shape[1], d + q)), "gram")
        check_squares(blocks.gram[0], "iaia->ia", "gram")
        check_squares(blocks.support, "aa->a", "support")
        for one in ridge:
            check_shape(one.gram, (len(ratios), d + 1, d + 1), "ridge")
            check_squares(one.gram, "raa->ra", "ridge")
        for name, one in mixed.items():
            check_shape(one, (q, d, d + 1), name)
        return cls(blocks, ridge, mixed, stored["n_all"], stored["n_clipped"])

    def are_of(self, recipe: Recipe) -> bool:
        """Whether these can be sums of a recipe, by their sizes and names."""
        ratios = self.ridge[0].ratios.tolist() if self.ridge else []
        same = ratios == list(recipe.ratios) and set(self.mixed) == set(recipe.priors)
        return (
            same and self.blocks.gram.shape[1] == recipe.steps + 1 and len(self.blocks.support) == recipe.standard.width
        )


def partial(rows: TaskRows, recipe: Recipe) -> Sums:
    """Return the sums of whole tasks, all of whose rows are there. Too short ones count in the mixed models only.

    Parameters
    ----------
    rows
        rows of whole tasks.
    recipe
        what is to be summed, and how.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> table = ut.tasks.read_table(ut.datasets.load_gapminder())
    >>> model = ut.MAMLRegressorCV(n_draws=1, effort="fast").fit(table.x, table.y, groups=table.groups)
    >>> codes = np.repeat(np.arange(table.n_tasks), table.counts)
    >>> rows = model.model_.rows(table.x, table.y[:, None], tasks=(table.ids, codes))
    >>> ut.scale.partial(rows, model.recipe_).n_all
    142
    """
    q = rows.y.shape[1]
    each: list[list[RidgeMoments]] = [[] for _ in range(q)]
    large = np.flatnonzero(rows.counts > recipe.n_support)

    def batches() -> Iterator[tuple[TaskBatch, np.ndarray, np.ndarray]]:
        drawn = rows.select(large)
        for k in range(recipe.n_draws):
            seed = np.random.SeedSequence(recipe.seed, spawn_key=(k,))
            for batch, tasks, weight in drawn.draw(recipe.n_support, seed, None, recipe.weighting):
                for j in range(q if recipe.ratios else 0):
                    # The rows of a batch go into all sums while they are in the cache; sums stay one.
                    own = RidgeMoments.from_tasks(of_target(batch, j), recipe.ratios, recipe.covariance)
                    each[j] = [each[j][0] + own if each[j] else own]
                yield batch, tasks, weight

    one = np.zeros(1, dtype=np.int64)
    if len(large) and recipe.n_draws:
        of_one = np.zeros(len(large), dtype=np.int64)
        blocks = BlockMoments.from_batches(batches(), of_one, one, recipe.steps, recipe.weighting)
        ridge = tuple(own[0] for own in each if own)
    else:
        blocks, ridge = _none(rows, recipe)
    mixed = {
        name: np.stack([_information(rows, j, rule) for j, rule in enumerate(recipe.spreads[name])])
        for name in recipe.priors
    }
    place = rows.rows if rows.places is None else rows.places
    clipped = int(recipe.standard.clipped(rows.x[place]).sum()) if math.isfinite(recipe.standard.clip) else 0
    return Sums(blocks, ridge, mixed, rows.n_tasks, clipped)


def _information(rows: TaskRows, target: int, rule: ProximalRule) -> np.ndarray:
    """What tasks add to the sum of one target's mixed model; a negative ratio means a negative variance."""
    assert rule.covariance is not None
    return information(task_statistics(rows, target), np.copysign(1.0, rule.ratio) * rule.covariance, abs(rule.ratio))


def _none(rows: TaskRows, recipe: Recipe) -> tuple[BlockMoments, tuple[RidgeMoments, ...]]:
    """Sums over no task at all."""
    d, q, s, r = rows.n_columns, rows.y.shape[1], recipe.steps + 1, len(recipe.ratios)
    gram, support = np.zeros((1, s, d + q, s, d + q)), np.zeros((d, d))
    eps = float(np.finfo(rows.x.dtype).eps)
    one = np.zeros(1, dtype=np.int64)
    blocks = BlockMoments(gram, np.zeros(1), one, support, 0.0, 0, 0, q, eps, recipe.weighting)
    empty = RidgeMoments(np.array(recipe.ratios), np.zeros((r, d + 1, d + 1)), 0.0, 0, 0, eps)
    return blocks, (empty,) * (q if r else 0)


def merge(first: Sums, second: Sums) -> Sums:
    """Return the sums over the tasks of both, which have none in common. Raises InputError for other recipes.

    Parameters
    ----------
    first, second
        sums of disjoint sets of tasks, made with one recipe.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> from undertow.scale import Recipe, merge, partial
    >>> from undertow.tasks.rows import TaskRows
    >>> rng = np.random.default_rng(0)
    >>> x, group = rng.standard_normal((200, 2)), np.repeat(np.arange(20), 10)
    >>> table = ut.tasks.GroupedTable.from_arrays(x, x[:, 0] + rng.standard_normal(20)[group], group)
    >>> standard = table.standardized(target=True)[1]
    >>> recipe = Recipe(standard, n_support=5, n_draws=1, seed=0, steps=1)
    >>> halves = [table.select(np.arange(0, 10)), table.select(np.arange(10, 20))]
    >>> first, second = (partial(TaskRows.of_table(half, standard), recipe) for half in halves)
    >>> merge(first, second).n_all
    20
    """
    a, b = first.blocks, second.blocks
    same = (
        a.gram.shape == b.gram.shape
        and a.n_targets == b.n_targets
        and a.weighting == b.weighting
        and len(first.ridge) == len(second.ridge)
        and all(np.array_equal(one.ratios, two.ratios) for one, two in zip(first.ridge, second.ridge, strict=True))
        and list(first.mixed) == list(second.mixed)
    )
    if not same:
        raise InputError(
            None,
            rule="sums of different columns, steps, ratios, weighting or mixed models cannot be added.",
            way_out="Make both by one recipe.",
        )
    # ``+`` of blocks is for another draw of the same tasks.
    blocks = replace(a + b, n_tasks=a.n_tasks + b.n_tasks, eps=max(a.eps, b.eps))
    ridge = tuple(one + two for one, two in zip(first.ridge, second.ridge, strict=True))
    mixed = {name: first.mixed[name] + second.mixed[name] for name in first.mixed}
    return Sums(blocks, ridge, mixed, first.n_all + second.n_all, first.n_clipped + second.n_clipped)
