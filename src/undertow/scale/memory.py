"""A ceiling on memory, and what of it each step may take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from undertow._check import InputError
from undertow._memory import said

_UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
# Python with its libraries, before a row is read; measured by benchmarks/out_of_core.py.
_BASE = 300 << 20
_LEAST = 512 << 20


@dataclass(frozen=True)
class Ceiling:
    """Bytes that a process may take in all, and shares of what is left beside the interpreter and its libraries.

    Shares were set by peak memory in benchmarks/out_of_core.py.
    """

    total: int

    @classmethod
    def of(cls, memory: Any) -> Ceiling:
        """Read "2GB", "800 MB" or a number of bytes; InputError for others, and for less than 512 MB."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(memory), re.IGNORECASE)
        if isinstance(memory, bool) or found is None:
            raise InputError("memory", memory, "it must be a number of bytes, or text such as '2GB' or '800MB'.")
        number, unit, binary = found.groups()
        total = int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.upper()] if unit else float(number))
        if total < _LEAST:
            raise InputError(
                "memory", memory, f"at least {said(_LEAST)} are needed: Python and its libraries take {said(_BASE)}."
            )
        return cls(total)

    @property
    def free(self) -> int:
        """What is left for data."""
        return self.total - _BASE

    @property
    def sorting(self) -> int:
        """What DuckDB may take while it sorts; it goes a little beyond."""
        return self.free * 6 // 10

    @property
    def fragment(self) -> int:
        """Rows of a fragment: they are copied a few times. The same for any number of workers."""
        return min(max(self.free // 50, 1 << 20), 64 << 20)

    @property
    def task(self) -> int:
        """Rows of the largest task that can be taken whole."""
        return self.free // 8

    @property
    def draw(self) -> int:
        """Rows that the choice is made on: a search holds sums of many folds, rates and ratios beside them."""
        return self.free // 12

    @property
    def tasks(self) -> int:
        """Names, counts and weights of all tasks."""
        return self.free // 6

    @property
    def sums(self) -> int:
        """Sums of one fragment."""
        return self.free // 16
