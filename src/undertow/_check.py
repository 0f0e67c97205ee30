"""Messages at the boundary: each states the value, the rule that it breaks and a way out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np


class InputError(ValueError):
    """Input that cannot be used. The message states the value, the rule and a way out."""


def positive_int(value: Any, name: str, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(f"{name}={value!r}: it must be a whole number of at least {minimum}.")
    return int(value)


def real(value: Any, name: str, *, minimum: float = -math.inf, hint: str = "") -> float:
    """Return ``value`` as a finite float of at least ``minimum``, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, Real | np.floating) or not math.isfinite(value):
        raise InputError(f"{name}={value!r}: it must be one finite number. {hint}".strip())
    if value < minimum:
        raise InputError(f"{name}={value!r}: it must be at least {minimum:g}. {hint}".strip())
    return float(value)


def rates(value: Any, name: str, *, infinite: bool = False) -> np.ndarray:
    """Return one rate or a sequence of rates as a float64 array (0-d or 1-d); any sign is accepted.

    ``infinite=True`` also accepts plus and minus infinity, which are one point: only U omega = u is left there.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r}: it must be a number or a sequence of numbers.") from None
    if array.ndim > 1:
        raise InputError(f"{name} has shape {array.shape}: it must be one number or a flat sequence.")
    if array.size == 0:
        raise InputError(f"{name} is empty: give at least one rate (any sign; 0 means no inner loop).")
    bad = np.isnan(array) if infinite else ~np.isfinite(array)
    if bad.any():
        rule = "not be NaN" if infinite else "be finite"
        raise InputError(f"{name}={array[bad].flat[0]}: a rate may have either sign or be 0, but must {rule}.")
    return array


def one_of(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``, or raise InputError."""
    choices = list(allowed)
    if value not in choices:
        raise InputError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}.")
    return value


def finite(array: np.ndarray, name: str) -> None:
    """Raise InputError that gives the first position where ``array`` is NaN or infinite."""
    # A sum is one pass and no temporary; only a bad array pays for the search.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{name}[{', '.join(map(str, where))}] is {array[where]}: {len(bad)} of {array.size} values are not "
            "finite. Drop or fill these rows first."
        )
