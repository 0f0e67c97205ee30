"""Numbers and names as a report prints them: those of ``undertow.choice.words``, with true minus signs."""

from __future__ import annotations

import math
import re
from typing import Any, SupportsFloat

import numpy as np

from undertow.choice import words as said
from undertow.choice.record import RateInterval

_SPACE = "\u00a0"
"""keeps a number and its unit on one line"""


strategy, loss = said.short, said.share
"""What a strategy is, in a few words; and a mean squared error as a share of the variance."""


def typeset(text: str) -> str:
    """Text of the command line as a page has it: true minus signs, and a number and its unit on one line."""
    return re.sub(r"(?<![\w.])-(?=[\d.]|inf)", "−", text).replace(" %", f"{_SPACE}%")


def number(value: SupportsFloat, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, with thousands separated and a true minus sign."""
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 15 or size < -5:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(0, digits - 1 - size)
    text = f"{value:,.{places}f}"
    whole, _, decimals = text.partition(".")
    if size >= 0 and not decimals.strip("0"):
        text = whole
    # Zeros that the format made of a small negative number carry no sign.
    return text.replace("-", "−") if any(c in text for c in "123456789") else "0"


def fixed(value: SupportsFloat, places: int = 3) -> str:
    """A number with so many decimals."""
    return f"{float(value):.{places}f}".replace("-", "−")


def signed(value: SupportsFloat, digits: int = 2) -> str:
    """The same with a sign always, but for 0."""
    value = float(value)
    text = number(value, digits)
    return text if value <= 0 or math.isnan(value) or text == "0" else f"+{text}"


def percent(value: SupportsFloat) -> str:
    """A signed percentage."""
    return typeset(said.percent(float(value)))


def share(value: SupportsFloat) -> str:
    """A share between 0 and 1 in whole per cent; never 0 or 100 % unless it is exactly that."""
    value = float(value)
    whole = round(100 * value)
    if whole == 0 and value > 0:
        return f"less than 1{_SPACE}%"
    if whole == 100 and value < 1:
        return f"more than 99{_SPACE}%"
    return f"{whole}{_SPACE}%"


def between(low: float, high: float) -> str:
    """An interval in per cent."""
    return typeset(said.between(low, high))


def rate(value: SupportsFloat) -> str:
    """A rate; plus and minus infinity are the same point."""
    return typeset(said.rate(float(value)))


def interval(one: RateInterval) -> str:
    """Where the best train rate lies."""
    return typeset(said.rates_between(one))


def count(n: int, one: str, many: str | None = None) -> str:
    """A number of things: "1 task", "2,400 tasks"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def short(name: str, most: int = 26) -> str:
    """A name cut in its middle: names that begin alike often end differently."""
    if len(name) <= most:
        return name
    end = (most - 1) * 2 // 5
    return f"{name[: most - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def level(value: SupportsFloat) -> str:
    """A nominal coverage, "95 %"."""
    value = float(value)
    return f"{100 * value:g}{_SPACE}%"


def plain(value: Any) -> str:
    """A setting as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(map(plain, value))
    if isinstance(value, float | np.floating):
        return f"{value:g}".replace("-", "−").replace("inf", "∞")
    return str(value)


def data(values: Any, digits: int = 5) -> Any:
    """Numbers as a chart holds them: rounded to significant digits, None where one is not finite. Keeps the shape."""
    if isinstance(values, np.ndarray | list | tuple):
        return [data(one, digits) for one in values]
    value = float(values)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
