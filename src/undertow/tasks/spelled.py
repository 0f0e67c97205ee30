"""Numbers as people spell them: thousands separators, percent signs, decimal commas, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

MISSING = frozenset({"", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null"})
"""Text that stands for a missing number."""

_SAID_MISSING = frozenset({"-", "--", "?", ".", "..", "None", "none", "missing", "Missing", "n.a.", "N.A."})
"""The same among numbers, where a note says so."""

# A point, a comma, an apostrophe or a kind of space between groups of three digits.
_SPACES = " \u00a0\u2009\u202f'’"
_WITH_POINT = re.compile(
    rf"[+-]?(?:\d+|\d{{1,3}}(?P<mark>[,{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*)?(?:\.\d*)?(?:[eE][+-]?\d+)?"
)
_WITH_COMMA = re.compile(
    rf"[+-]?(?:\d+|\d{{1,3}}(?P<mark>[.{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*)?(?:,\d*)?(?:[eE][+-]?\d+)?"
)
# As books have a number below 0, with a sign of percent or currency in the brackets or around them.
_BOOKED = re.compile(r"(\D?\s*)\(([^()+\-\u2212]+)\)(\s*\D?)|([^()+\-\u2212]+)-")
_CURRENCIES = "$\u20ac\u00a3\u00a5"
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_EPOCH = date(1970, 1, 1)


class Spelled(NamedTuple):
    """What distinct texts mean."""

    values: list[float]
    """one for each text; NaN where it stands for a missing number"""
    said: str
    """how they were read, as part of a sentence"""


def number_of(text: str, decimal: str) -> float | None:
    """Return the number that a text spells with this decimal mark, or None."""
    text = text.strip().replace("\u2212", "-")
    match = (_WITH_POINT if decimal == "." else _WITH_COMMA).fullmatch(text)
    if match is None or not any(one.isdigit() for one in text):
        return None
    mark = match["mark"]
    if mark:
        text = text.replace(mark, "")
    return float(text.replace(",", "."))


def read_numbers(texts: Sequence[str], decimal: str) -> Spelled | None:
    """Return the numbers that distinct texts spell with separators or percent signs; None where they are none.

    Text that is a plain number throughout is None too: it may be codes. Words for a missing number, such as "?", are
    missing. A percent sign, or one of a currency, must stand at all or at none, and is left out. "(5)" and "5-" are -5.
    decimal: of the file; where its mark does not do, the other is tried.
    """
    absent = sorted({text.strip() for text in texts} & _SAID_MISSING)
    shown = [text for text in texts if text.strip() not in MISSING | _SAID_MISSING]
    # A sign at some numbers alone says nothing of the others.
    signs = [one for one in ("%", *_CURRENCIES) if any(one in text for text in shown)]
    parts = {text: one.groups("") for text in shown if (one := _BOOKED.fullmatch(text.strip()))}
    booked = {text: f"-{''.join(one).strip()}" for text, one in parts.items()}
    usual = [booked.get(text, text.strip()) for text in shown]
    found = [text if not signs else _without(text, signs[0]) for text in usual]
    bare = [text for text in found if text is not None]
    if not shown or len(signs) > 1 or len(bare) < len(shown):
        return None
    for mark in (decimal, "," if decimal == "." else "."):
        values = [number_of(text, mark) for text in bare]
        # "1,250" alone says nothing about which mark it is: the file's own counts.
        clear = mark == decimal or not all(_GROUPED.fullmatch(text) for text in bare if "," in text or "." in text)
        if clear and all(value is not None for value in values):
            break
    else:
        return None
    said = []
    if mark == ",":
        said.append("decimal commas")
    if any(number_of(text, mark) is not None and not _plain(text, mark) for text in bare):
        said.append("thousands separators")
    if signs:
        said.append(f"{'percent' if signs[0] == '%' else 'currency'} signs, left out")
    if booked:
        said.append(f"{', '.join(map(repr, sorted(booked)[:3]))}{', ...' * (len(booked) > 3)} taken for negative")
    if any("\u2212" in text for text in bare):
        said.append("long minus signs")
    if absent:
        said.append(f"{', '.join(map(repr, absent))} taken for missing")
    if not said:
        return None
    meaning = dict(zip(shown, values, strict=True))
    return Spelled([meaning.get(text) if text in meaning else float("nan") for text in texts], " and ".join(said))  # type: ignore[misc]


def _without(text: str, sign: str) -> str | None:
    """Return a number's text without the sign before or behind it, "-$5" among them; None where there is none."""
    mark = re.escape(sign)
    found = re.fullmatch(rf"([+\-\u2212]?)(?:{mark}(.+)|(.+){mark})", text.strip())
    return None if found is None else found[1] + (found[2] or found[3]).strip()


def _plain(text: str, mark: str) -> bool:
    """Whether a number has no separator but its decimal mark."""
    try:
        float(text.replace("\u2212", "-").replace(mark, ".") if mark == "," else text.replace("\u2212", "-"))
    except ValueError:
        return False
    return True


def read_dates(texts: Sequence[str]) -> Spelled | None:
    """Return days since 1970-01-01 of distinct texts that are dates: 31.12.2020, 12/31/2020, or as ISO 8601 has them.

    None where they are no dates, or where day and month of dates with slashes cannot be told apart.
    """
    shown = [text for text in texts if text.strip() not in MISSING]
    if not shown:
        return None
    found, said = None, "dates"
    for pattern in (_DOTTED, _SLASHED):
        parts = [pattern.fullmatch(text.strip()) for text in shown]
        if all(parts):
            numbers = [tuple(map(int, one.groups())) for one in parts if one is not None]
            first, second = (max(one[i] for one in numbers) for i in (0, 1))
            if pattern is _SLASHED and (first > 12) == (second > 12):
                return None
            day_first = pattern is _DOTTED or first > 12
            found = _days([(y, b, a) if day_first else (y, a, b) for a, b, y in numbers])
            said = "dates (day first)" if day_first else "dates (month first)"
    if found is None:
        try:
            found = [_days_of(datetime.fromisoformat(text.strip())) for text in shown if len(text.strip()) >= 10]
        except ValueError:
            return None
        if len(found) < len(shown):
            return None
    meaning = dict(zip(shown, found, strict=True))
    return Spelled([meaning.get(text, float("nan")) for text in texts], f"{said}, as days since 1970-01-01")


def _days(parts: list[tuple[int, int, int]]) -> list[float] | None:
    try:
        return [float((date(*one) - _EPOCH).days) for one in parts]
    except ValueError:
        return None


def _days_of(time: datetime) -> float:
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return (time - datetime(1970, 1, 1)).total_seconds() / 86400
