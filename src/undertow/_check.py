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
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu":
        value = value.item()
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name}={value!r}: it must be one finite number. {hint}".strip())
    if number < minimum:
        raise InputError(f"{name}={value!r}: it must be at least {minimum:g}. {hint}".strip())
    return number


def rates(value: Any, name: str, *, infinite: bool = False) -> np.ndarray:
    """Return one rate or a sequence of rates as a float64 array (0-d or 1-d); any sign is accepted.

    ``infinite=True`` also accepts plus and minus infinity, which are one point: only U omega = u is left there.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" and not (array.dtype == object and _all_real(array)):
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
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


def _all_real(array: np.ndarray) -> bool:
    return all(isinstance(one, Real) and not isinstance(one, bool) for one in array.ravel())


def vector(value: Any, name: str, n: int) -> np.ndarray:
    """Return ``value`` as a new float64 array (n,), or raise InputError."""
    array = numbers(value, name)
    if array.shape != (n,):
        raise InputError(f"{name} has shape {array.shape}: with {n} features it must be ({n},).")
    return array


def numbers(value: Any, name: str) -> np.ndarray:
    """Return ``value`` as a new float64 array of finite numbers, or raise InputError."""
    try:
        if np.asarray(value).dtype.kind not in "fiub":
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r}: it must be an array of numbers.") from None
    finite(array, name)
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
