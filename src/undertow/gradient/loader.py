"""Tasks that the host reads while training runs: from files, a data base, or another library's data loader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import io_callback

from undertow._batch import TaskBatch
from undertow._check import InputError, finite
from undertow.gradient.meta import check_shapes


class Loader:
    """A source of tasks for ``train``: ``Source(Loader(load))``.

    Parameters
    ----------
    load
        load(iteration) -> TaskBatch of NumPy arrays, with the same shapes at each call. It is called on the host, once
        for each iteration in their order, and must not compute with JAX. Where its tasks depend on the number of the
        iteration alone, an interrupted run goes on with the same numbers; an iterator, as in
        ``Loader(lambda iteration: next(batches))``, goes on with what comes next.

    Raises
    ------
    InputError
        where ``load`` does not give such a TaskBatch, when the Loader is made (it is called with 0) and later.

    Examples
    --------
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> design = ut.Design(n_tasks=4, n_support=8, n_query=5)
    >>> loader = ug.Loader(lambda iteration: ut.Sinusoid().sample(design, seed=iteration))
    >>> ug.Source(loader).tasks is loader, loader.n_tasks
    (True, 4)
    """

    def __init__(self, load: Callable[[int], TaskBatch]) -> None:
        if not callable(load):
            raise InputError("load", load, "it must be a function of the number of an iteration.")
        self.load = load
        self.error: Exception | None = None
        """what went wrong on the host inside a compiled loop"""
        self._last = 0, self._read(0, None)
        self.shapes = _shapes(self._last[1])
        """of each batch"""

    @property
    def n_tasks(self) -> int:
        """Number of tasks of an iteration."""
        return len(jax.tree.leaves(self._last[1].support_y)[0])

    @property
    def example(self) -> TaskBatch:
        """What was read last."""
        return self._last[1]

    def at(self, iteration: Any) -> TaskBatch:
        """Return the tasks of an iteration, inside a compiled function too."""
        return io_callback(self._call, self.shapes, iteration)

    def _call(self, iteration: Any) -> TaskBatch:
        number = int(iteration)
        # The batch that a loss was not finite on is looked at once more.
        if self._last[0] != number:
            try:
                self._last = number, self._read(number, self.shapes)
            except Exception as error:
                self.error = error
                raise
        return self._last[1]

    def _read(self, iteration: int, shapes: Any) -> TaskBatch:
        batch = self.load(iteration)
        if not isinstance(batch, TaskBatch):
            raise InputError("load", rule=f"it must return a TaskBatch, and returned a {type(batch).__name__}.")
        batch = batch._replace(ids=None)
        batch = jax.tree.map(lambda a: np.asarray(a, jax.dtypes.canonicalize_dtype(np.asarray(a).dtype)), batch)
        check_shapes(batch)
        for name, array in zip(batch._fields, batch, strict=True):
            for leaf in jax.tree.leaves(array):
                if np.issubdtype(leaf.dtype, np.inexact):
                    finite(leaf, name)
        found = _shapes(batch)
        if shapes is not None and found != shapes:
            raise InputError(
                "load",
                rule=f"the tasks of iteration {iteration} have other shapes than the first ones: {_said(found)}, and "
                f"before {_said(shapes)}.",
                way_out="Pad rows and give masks, so that each call has the same shapes.",
            )
        return batch


@contextmanager
def raising(source: Any) -> Iterator[None]:
    """Raise what went wrong on the host as it was, and not as JAX retells it, in its log either."""
    log = logging.getLogger("jax._src.callback")
    before, log.disabled = log.disabled, log.disabled or isinstance(source, Loader)
    try:
        yield
    except jax.errors.JaxRuntimeError:
        error = source.error if isinstance(source, Loader) else None
        if error is None:
            raise
        source.error = None
        raise error from None
    finally:
        log.disabled = before


def _shapes(batch: TaskBatch) -> TaskBatch:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)


def _said(shapes: Any) -> str:
    parts = ((name, [one.shape for one in jax.tree.leaves(part)]) for name, part in shapes._asdict().items())
    return ", ".join(f"{name} {', '.join(map(str, found))}" for name, found in parts if found)
