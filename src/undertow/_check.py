"""Messages at the boundary: each states the value, the rule that it breaks and a way out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np


class Setting(NamedTuple):
    """An argument that a message speaks of, so that each caller may spell it in its own way."""

    name: str
    value: Any = None
    """None where the argument is named without a value"""

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


Text: TypeAlias = str | Sequence[str | Setting]
"""A sentence, or its parts where it speaks of arguments."""


class InputError(ValueError):
    """Input that cannot be used: what was given, the rule that it breaks, and a way out.

    Parameters
    ----------
    argument
        name of the argument, None where the sentence of ``rule`` names what is wrong by itself.
    value
        what was given for it; None where the rule tells it.
    rule, way_out
        sentences, or parts of them (see ``Text``).

    Examples
    --------
    >>> import undertow as ut
    >>> try:
    ...     ut.Design(n_tasks=0, n_support=5, n_query=5)
    ... except ut.InputError as error:
    ...     print(error)
    n_tasks=0: it must be a whole number of at least 1.
    """

    def __init__(self, argument: str | None, value: Any = None, rule: Text = "", way_out: Text = "") -> None:
        super().__init__(argument, value, rule, way_out)
        self.argument = argument
        self.value = value
        self.rule = rule
        self.way_out = way_out

    def text(self, spell: Callable[[Setting], str] = str) -> str:
        """Return the message, with each argument as ``spell`` spells it."""
        parts = [_joined(part, spell) for part in (self.rule, self.way_out) if part]
        if self.argument is not None:
            head = spell(Setting(self.argument, self.value))
            parts = [f"{head}: {parts[0]}" if parts else head, *parts[1:]]
        return " ".join(parts)

    def __str__(self) -> str:
        return self.text()


def _joined(text: Text, spell: Callable[[Setting], str]) -> str:
    return text if isinstance(text, str) else "".join(p if isinstance(p, str) else spell(p) for p in text)


def whole_number(value: Any, name: str, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(name, value, f"it must be a whole number of at least {minimum}.")
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
        raise InputError(name, value, "it must be one finite number.", hint)
    if number < minimum:
        raise InputError(name, value, f"it must be at least {minimum:g}.", hint)
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
        raise InputError(name, value, "it must be a number or a sequence of numbers.") from None
    if array.ndim > 1:
        raise InputError(None, rule=f"{name} has shape {array.shape}: it must be one number or a flat sequence.")
    if array.size == 0:
        raise InputError(
            None, rule=f"{name} is empty.", way_out="Give at least one rate (any sign; 0 means no inner loop)."
        )
    bad = np.isnan(array) if infinite else ~np.isfinite(array)
    if bad.any():
        rule = "not be NaN" if infinite else "be finite"
        raise InputError(name, float(array[bad].flat[0]), f"a rate may have either sign or be 0, but must {rule}.")
    return array


def _all_real(array: np.ndarray) -> bool:
    return all(isinstance(one, Real) and not isinstance(one, bool) for one in array.ravel())


def vector(value: Any, name: str, n: int) -> np.ndarray:
    """Return ``value`` as a new float64 array (n,), or raise InputError."""
    array = numbers(value, name)
    if array.shape != (n,):
        raise InputError(None, rule=f"{name} has shape {array.shape}: with {n} features it must be ({n},).")
    return array


def numbers(value: Any, name: str) -> np.ndarray:
    """Return ``value`` as a new float64 array of finite numbers, or raise InputError."""
    try:
        if np.asarray(value).dtype.kind not in "fiub":
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, value, "it must be an array of numbers.") from None
    finite(array, name)
    return array


def one_of(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``, or raise InputError."""
    choices = list(allowed)
    if value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(name, value, f"choose one of {', '.join(map(repr, choices))}.", near.strip())
    return value


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint such as " Did you mean 'score'?", or nothing where no name is near."""
    from difflib import get_close_matches

    lowered = {candidate.lower(): candidate for candidate in names}
    near = get_close_matches(name.lower(), list(lowered), n=1)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def files_near(path: Path, names: Iterable[str] = ()) -> str:
    """Return where files are looked for, and which of those beside ``path`` or of ``names`` it is a slip of."""
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"The working directory is {str(Path.cwd())!r}.{did_you_mean(path.name, [*names, *beside])}"


def finite(array: np.ndarray, name: str) -> None:
    """Raise InputError that gives the first position where ``array`` is NaN or infinite."""
    # A sum is one pass and no temporary; only a bad array pays for the search.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return
    if array.ndim == 0:
        raise InputError(name, array[()], "it must be finite.")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise InputError(
            None,
            rule=f"{name}[{', '.join(map(str, where))}] is {array[where]}: {len(bad)} of {array.size} values are not "
            "finite.",
            way_out="Drop or fill these rows first.",
        )
