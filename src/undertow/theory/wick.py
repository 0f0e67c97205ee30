"""Exact expectations of products of sample second moments and diagonal matrices, by Wick pairing.

S = X'X/n with n independent rows x ~ N(0, Sigma_x). A product of k matrices S holds 2k Gaussian vectors, so its
expectation is a sum over the (2k - 1)!! ways to pair them (Isserlis 1918; Wick 1950). A pairing replaces every S by a
Sigma_x between the two factors that it joins, and carries n to the number of groups of S that share a row.

A product is written as words of letters. "S" is the random matrix, "A" is c I - s S (c = cos, s = sin of the angle of a
rate, so that a = s / c; c = 1 and s = a is the usual I - a S), "X" is Sigma_x, any other letter is a diagonal matrix.
The first word is open, a matrix, which is diagonal too; the others stand under a trace:

>>> from undertow.theory import wick
>>> import numpy as np
>>> wick.polynomial("SS", (), n=5, diagonals={"X": np.ones(3)})[0]     # E S^2 = (1 + (p + 1) / n) I
array([1.8, 1.8, 1.8])
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product

import numpy as np


def polynomial(word: str, traces: tuple[str, ...], n: int, diagonals: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the coefficients of E[word * prod tr(trace)], exactly, as a polynomial in the rate: (d + 1, p).

    With d letters "A", entry k of the first axis multiplies c^(d - k) s^k; so with c = 1 they are the coefficients of
    s^k = a^k. diagonals: (p,) of each letter, "X" among them.
    """
    words = (word, *traces)
    degree = sum(one.count("A") for one in words)
    out = np.zeros((degree + 1, len(diagonals["X"])))
    for choice in product(("", "S"), repeat=degree):
        chosen = tuple("|".join(words).replace("A", "{}").format(*choice).split("|"))
        sign = (-1) ** choice.count("S")
        for (order, opened, closed), number in pairings(chosen).items():
            value = sign * number / float(n) ** order
            for trace in closed:
                value *= _product(trace, diagonals).sum()
            out[choice.count("S")] += value * _product(opened, diagonals)
    return out


def _product(word: str, diagonals: Mapping[str, np.ndarray]) -> np.ndarray:
    return math.prod((diagonals[letter] for letter in word), start=np.ones_like(diagonals["X"]))


@lru_cache(maxsize=512)
def pairings(words: tuple[str, ...]) -> Counter[tuple[int, str, tuple[str, ...]]]:
    """Return how often each (power of 1/n, open word, traces) comes among the pairings; diagonal letters are sorted."""
    beside, start, fixed = _links(words)
    n_slots = len(beside) // 2
    found: Counter[tuple[int, str, tuple[str, ...]]] = Counter()
    for partner in _matchings(tuple(range(2 * n_slots))):
        left = set(range(2 * n_slots))
        opened = _walk(0, start, partner, beside, left) if "S" in words[0] else start
        closed = []
        while left:
            closed.append(_walk(min(left), "", partner, beside, left))
        order = n_slots - _groups(partner, n_slots)
        found[order, "".join(sorted(opened)), tuple(sorted((*closed, *fixed)))] += 1
    return found


def _walk(half: int, letters: str, partner: list[int], beside: dict[int, tuple[str, int]], left: set[int]) -> str:
    """Letters on the way from the pair of a half-edge to an open end, or back; what is met is taken out of ``left``."""
    while half in left:
        other = partner[half]
        left.difference_update((half, other))
        piece, half = beside[other]
        letters += f"X{piece}"
    return "".join(sorted(letters))


# Slot t, an S = x x', has two half-edges: 2t is the column x (met first when read from the left), 2t + 1 the row x'.
# A link leads from a half-edge over the letters beside it to the next one; _OPEN is an end of the open word.
_OPEN = -1


def _links(words: tuple[str, ...]) -> tuple[dict[int, tuple[str, int]], str, list[str]]:
    """Return the links, the letters before the first S of the open word, and the traces that hold no S."""
    links: dict[int, tuple[str, int]] = {}
    fixed, slot = [], 0
    for number, word in enumerate(words):
        *pieces, last = word.split("S")
        k = len(pieces)
        if number and not k:
            fixed.append("".join(sorted(last)))
        for t in range(k):
            # Under a trace the last piece runs on into the first.
            ends = (_OPEN, _OPEN) if number == 0 else (2 * (slot + k) - 1, 2 * slot)
            before = pieces[t] if t or number == 0 else last + pieces[0]
            after = pieces[t + 1] if t + 1 < k else last if number == 0 else last + pieces[0]
            links[2 * (slot + t)] = before, 2 * (slot + t) - 1 if t else ends[0]
            links[2 * (slot + t) + 1] = after, 2 * (slot + t) + 2 if t + 1 < k else ends[1]
        slot += k
    return links, words[0].partition("S")[0], fixed


def _matchings(halves: tuple[int, ...]) -> Iterator[list[int]]:
    """All perfect matchings of the half-edges, each as the list of partners."""
    partner = [0] * len(halves)

    def match(rest: tuple[int, ...]) -> Iterator[list[int]]:
        if not rest:
            yield partner
            return
        for i in range(1, len(rest)):
            partner[rest[0]], partner[rest[i]] = rest[i], rest[0]
            yield from match(rest[1:i] + rest[i + 1 :])

    yield from match(halves)


def _groups(partner: list[int], n_slots: int) -> int:
    """Number of groups of slots that the pairing ties to one row."""
    label = list(range(n_slots))
    for half, other in enumerate(partner):
        old, new = label[half // 2], label[other // 2]
        if old != new:
            label = [new if x == old else x for x in label]
    return len(set(label))
