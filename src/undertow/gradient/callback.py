"""What a run calls between two updates, with its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from undertow import _check
from undertow._check import InputError
from undertow.gradient.state import History, TrainState


@dataclass(frozen=True, eq=False)
class Callback:
    """A function to call while training, handed over as ``progress``: own evaluation, averages, annealing.

    Raises
    ------
    InputError
        when an entry does not fit.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> seen = []
    >>> ug.Callback(lambda state, history: seen.append(state.iteration), every=20).every
    20
    """

    call: Callable[[TrainState, History], Any]
    """called with (state, history). It returns None or False to go on, True to stop (``stopped`` is then "callback"),
    or a TrainState to go on from: its params, rate and optimizer_state are used, as of state._replace(rate=0.1)"""
    every: int = 100
    """updates between two calls"""

    def __post_init__(self) -> None:
        if not callable(self.call):
            raise InputError("call", self.call, "it must be a function of (state, history).")
        _check.whole_number(self.every, "every")
