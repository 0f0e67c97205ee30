"""Where tasks come from: a TaskBatch, or a problem that is drawn inside the compiled loop.

Iteration t draws from keys made of (seed, t), and each task has a key of its own. So what is drawn at an iteration
depends neither on where a run was interrupted, nor on the number of devices, nor on the number of tasks beside it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.keys import TASKS, as_key
from undertow.gradient.leaves import Static
from undertow.gradient.loader import Loader
from undertow.gradient.masks import without_full_masks
from undertow.gradient.meta import check_shapes
from undertow.problem import Design


@dataclass(frozen=True, eq=False)
class Source:
    """Where tasks come from, and how many of them an iteration sees.

    Raises
    ------
    InputError
        when the tasks and their sizes do not go together, or when an entry would do nothing.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> source = ug.Source(ut.Sinusoid(), ut.Design(n_tasks=25, n_support=10, n_query=10))
    >>> source.redraws, source.n_tasks
    (True, 25)
    """

    tasks: Any
    """a TaskBatch; a problem with draw(source, design), such as ``MixedLinearRegression``; or a Loader"""
    design: Design | None = None
    """the sizes of what is drawn; needed with a problem, and only there"""
    redraw: bool | None = None
    """with a problem: True (None means this) draws new tasks at each iteration, inside the compiled loop; False draws
    ``design.n_tasks`` tasks once, from the seed"""
    meta_batch: int | None = None
    """tasks per iteration; None means all of a TaskBatch, or ``design.n_tasks`` new ones. Mini-batches of tasks that
    stay the same follow a new random order in each epoch."""

    def __post_init__(self) -> None:
        if self.meta_batch is not None:
            object.__setattr__(self, "meta_batch", _check.whole_number(self.meta_batch, "meta_batch"))
        if isinstance(self.tasks, TaskBatch | Loader):
            loads = isinstance(self.tasks, Loader)
            rule = "a Loader gives whole batches." if loads else "the tasks of a TaskBatch are there already."
            for name in ("design", "redraw", "meta_batch") if loads else ("design", "redraw"):
                if getattr(self, name) is not None:
                    raise InputError(name, getattr(self, name), rule, "Leave it out.")
            if isinstance(self.tasks, TaskBatch):
                check_shapes(self.tasks)
        else:
            check_problem(self.tasks, self.design)
            if not isinstance(self.redraw, bool | None):
                raise InputError("redraw", self.redraw, "it must be True or False.")
        if not self.redraws and self.meta_batch is not None and self.meta_batch > self.n_tasks:
            raise InputError(
                "meta_batch",
                self.meta_batch,
                f"there are only {self.n_tasks} tasks.",
                f"Give at most {self.n_tasks}, or leave it out for all.",
            )

    @classmethod
    def of(cls, source: Any) -> Source:
        """Return a Source; tasks by themselves are Source(tasks)."""
        return source if isinstance(source, Source) else cls(source)

    @property
    def redraws(self) -> bool:
        """Whether each iteration has new tasks."""
        return not isinstance(self.tasks, TaskBatch) and self.redraw is not False

    @property
    def n_tasks(self) -> int:
        """Number of tasks of the TaskBatch, of the design, or of what a Loader gives at a time."""
        if self.design is not None:
            return self.design.n_tasks
        if isinstance(self.tasks, Loader):
            return self.tasks.n_tasks
        return len(jax.tree.leaves(self.tasks.support_y)[0])

    def fixed_tasks(self, key: jax.Array) -> TaskBatch | None:
        """Return the tasks that stay the same, as arrays of JAX; None where each iteration draws its own."""
        if self.redraws:
            return None
        if isinstance(self.tasks, TaskBatch):
            return as_arrays(self.tasks)
        return draw_tasks(self.tasks, self.design, jax.random.fold_in(key, TASKS))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Feed:
    """What is static of a source: how an iteration comes by its tasks."""

    problem: Static
    """what is drawn at each iteration; holds None where the tasks stay the same"""
    design: Any
    meta_batch: int | None
    """tasks per iteration; None means all of those that stay the same"""

    @classmethod
    def of(cls, source: Source) -> Feed:
        """The static part of a source."""
        if source.redraws:
            return cls(Static(source.tasks), source.design, source.meta_batch or source.n_tasks)
        return cls(Static(None), None, None if source.meta_batch == source.n_tasks else source.meta_batch)


def draw_tasks(problem: Any, design: Design, key: Any, n_tasks: int | None = None) -> TaskBatch:
    """Draw a TaskBatch with JAX: ``design.n_tasks`` tasks (or ``n_tasks``), one random stream per task.

    Parameters
    ----------
    problem
        anything with draw(source, design) -> TaskBatch, such as ``MixedLinearRegression``, whose tasks are
        independent of each other and whose calls of the source have shapes that do not depend on random numbers.
    design
        sizes of a task.
    key
        a JAX key or a seed. May be called inside a compiled function.
    n_tasks
        in place of ``design.n_tasks``.

    Returns
    -------
    TaskBatch
        arrays of JAX: support_x (m, n_t, p), query_x (m, n_v, p), targets without the last axis.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> design = ut.Design(n_tasks=2, n_support=5, n_query=5)
    >>> ug.draw_tasks(ut.Sinusoid(), design, key=0).query_y.shape
    (2, 5)
    """
    key = as_key(key)
    check_problem(problem, design, "problem")
    one = replace(design, n_tasks=1)
    asked = _Asked()

    def ask() -> tuple[Any, ...]:
        batch = problem.draw(asked, one)
        if not isinstance(batch, tuple):
            kind = type(batch).__name__
            raise InputError("problem", rule=f"its draw must return a TaskBatch, and returned a {kind}.")
        return tuple(batch)

    jax.eval_shape(ask)

    def draw(task: Any) -> TaskBatch:
        normals = jax.random.normal(jax.random.fold_in(key, 2 * task), (asked.normals,)) if asked.normals else None
        uniforms = (
            jax.random.uniform(jax.random.fold_in(key, 2 * task + 1), (asked.uniforms,)) if asked.uniforms else None
        )
        batch = problem.draw(_Tape(normals, uniforms), one)
        return TaskBatch(*jax.tree.map(lambda a: a[0], tuple(batch)))

    return jax.vmap(draw)(jnp.arange(design.n_tasks if n_tasks is None else n_tasks))


class _Asked:
    """A RandomSource that only counts how many numbers are asked for."""

    def __init__(self) -> None:
        self.normals = self.uniforms = 0

    def normal(self, shape: tuple[int, ...]) -> jax.Array:
        self.normals += math.prod(shape)
        return jnp.zeros(shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> jax.Array:
        self.uniforms += math.prod(shape)
        return jnp.zeros(shape)


class _Tape:
    """A RandomSource that hands out numbers drawn before: one call of the generator compiles much faster than many."""

    def __init__(self, normals: Any, uniforms: Any) -> None:
        self.normals, self.uniforms = normals, uniforms

    def normal(self, shape: tuple[int, ...]) -> jax.Array:
        n = math.prod(shape)
        values, self.normals = self.normals[:n], self.normals[n:]
        return values.reshape(shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> jax.Array:
        n = math.prod(shape)
        values, self.uniforms = self.uniforms[:n], self.uniforms[n:]
        return low + (high - low) * values.reshape(shape)


def as_arrays(tasks: Any, name: str = "source") -> TaskBatch:
    """Return a TaskBatch of JAX arrays without ids, or raise InputError naming what does not fit."""
    if not isinstance(tasks, TaskBatch):
        raise InputError(name, rule=f"it must be a TaskBatch, and is of type {type(tasks).__name__}.")
    tasks = tasks._replace(ids=None)
    check_shapes(tasks)
    for part in ("support", "query"):
        mask = getattr(tasks, f"{part}_mask")
        if mask is not None and not np.asarray(mask).any(axis=1).all():
            empty = int(np.asarray(mask).any(axis=1).argmin())
            raise InputError(name, rule=f"every task needs at least one {part} row, and task number {empty} has none.")
        for axis in ("x", "y"):
            for leaf in jax.tree.leaves(getattr(tasks, f"{part}_{axis}")):
                _check_real_rows(np.asarray(leaf), mask, f"{name}.{part}_{axis}")
    with np.errstate(over="ignore"):  # padded rows may hold anything
        return jax.tree.map(jnp.asarray, without_full_masks(tasks))


def _check_range(array: np.ndarray, name: str) -> None:
    """Raise InputError where a finite number is not so in the type that JAX computes in."""
    kind = jax.dtypes.canonicalize_dtype(array.dtype)
    if kind == array.dtype:
        return
    bad = np.abs(array) > float(jnp.finfo(kind).max)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            None,
            rule=f"{name}[{', '.join(map(str, where))}] is {array[where]:g}, which overflows {kind}.",
            way_out="Divide by a larger unit, or compute within jax.enable_x64(True).",
        )


def _check_real_rows(array: np.ndarray, mask: Any, name: str) -> None:
    if np.issubdtype(array.dtype, np.inexact):
        keep = None if mask is None else np.asarray(mask).reshape(array.shape[:2] + (1,) * (array.ndim - 2))
        real = array if keep is None else np.where(keep, array, 0)
        _check.finite(real, name)
        _check_range(real, name)


def check_problem(problem: Any, design: Any, name: str = "source") -> None:
    """Raise InputError unless ``problem`` can be drawn and ``design`` gives the sizes."""
    if not callable(getattr(problem, "draw", None)):
        kind = type(problem).__name__
        raise InputError(
            name,
            rule=f"it must be a TaskBatch, a problem with draw(source, design) or a Loader, and is of type {kind}.",
            way_out="Wrap a function of the iteration: Source(Loader(function))." if callable(problem) else "",
        )
    if not isinstance(design, Design):
        raise InputError(
            "design",
            design,
            "a problem is drawn with the sizes of a Design.",
            "Write Source(problem, Design(n_tasks, n_support, n_query)).",
        )


def epoch_order(key: jax.Array, epoch: Any, n_tasks: int) -> jax.Array:
    """The order in which an epoch visits the tasks of a TaskBatch; ``key`` is the one for that purpose."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n_tasks)


def per_epoch(n_tasks: int, meta_batch: int) -> int:
    """Number of iterations in an epoch; the tasks left over at its end have their turn in another order later."""
    return n_tasks // meta_batch


def fingerprint(tasks: TaskBatch) -> str:
    """A checksum of all arrays of a TaskBatch."""
    total = 0
    for leaf in jax.tree.leaves(tasks._replace(ids=None)):
        total = zlib.crc32(np.ascontiguousarray(np.asarray(leaf)).tobytes(), total)
    return f"{total:08x}"


def identify(source: Any) -> str:
    """What a checkpoint or a stored sweep remembers of its task source: its type and a checksum of its contents."""
    if isinstance(source, TaskBatch):
        return fingerprint(source)
    if isinstance(source, Loader):
        return f"Loader {source.shapes}"
    return f"{type(source).__name__} {_checksum(vars(source) if hasattr(source, '__dict__') else {}, 0):08x}"


def _checksum(value: Any, total: int) -> int:
    """CRC of plain values, arrays and records of them; of anything else, such as a function, only the type counts."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            total = _checksum(value[key], zlib.crc32(str(key).encode(), total))
        return total
    if isinstance(value, np.ndarray | jax.Array) and value.dtype != object:
        array = np.ascontiguousarray(np.asarray(value))
        return zlib.crc32(array.tobytes(), zlib.crc32(f"{array.dtype}{array.shape}".encode(), total))
    if isinstance(value, bool | int | float | str | bytes | None):
        return zlib.crc32(repr(value).encode(), total)
    if isinstance(value, list | tuple):
        for one in value:
            total = _checksum(one, total)
        return zlib.crc32(str(len(value)).encode(), total)
    total = zlib.crc32(type(value).__name__.encode(), total)
    return _checksum(vars(value), total) if is_dataclass(value) else total
