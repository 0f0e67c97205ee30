"""Exact expectations of products of sample second moments and fixed matrices, by Wick pairing.

S = X'X/n with n independent rows x ~ N(0, Sigma_x). A product of k matrices S holds 2k Gaussian vectors, so its
expectation is a sum over the (2k - 1)!! ways to pair them (Isserlis 1918; Wick 1950). A pairing replaces every S by a
Sigma_x between the two factors that it joins, and carries n to the number of groups of S that share a row.

A product is written as words of letters. "S" is the random matrix, "A" is c I - s S (c = cos, s = sin of the angle of a
rate, so that a = s / c; c = 1 and s = a is the usual I - a S), "X" is Sigma_x, any other letter is a fixed matrix and a
quote after it is its transpose. One word may be open (a matrix); the others stand under a trace:

>>> from undertow.theory import wick
>>> import numpy as np
>>> wick.expectation("SS", (), n=5, matrices={"X": np.ones(3)})     # E S^2 = (1 + (p + 1) / n) I
array([1.8, 1.8, 1.8])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

Word = tuple[str, ...]


class Term(NamedTuple):
    """One monomial of an expectation: multiplicity * n^-order * (open word) * product of tr(word)."""

    multiplicity: int
    order: int
    """power of 1/n"""
    word: Word | None
    """letters of the open word; None when everything stands under a trace"""
    traces: tuple[Word, ...]
    """letters of each trace; the empty word is tr I"""


def expectation(
    word: str | None, traces: Sequence[str], n: int, matrices: Mapping[str, np.ndarray]
) -> np.ndarray | float:
    """Return E[word * prod tr(trace)], exactly.

    ``word`` is a product such as "SXSW", or None for traces only; ``matrices`` gives each letter, "X" among them, as
    (p, p) or as (p,) for a diagonal one. The value is a float where ``word`` is None, (p,) where the product is
    diagonal because every letter is, and (p, p) otherwise.
    """
    return _evaluate(pairings(_letters(word), tuple(_letters(t) or () for t in traces)), n, matrices)


def polynomial(word: str | None, traces: Sequence[str], n: int, matrices: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the coefficients of E[word * prod tr(trace)] in the rate, for words that hold "A" = c I - s S.

    With d letters "A", entry k of the first axis (d + 1 long) multiplies c^(d - k) s^k; so with c = 1 they are the
    coefficients of s^k = a^k. Shapes behind the first axis and ``matrices`` are those of ``expectation``.
    """
    letters, closed = _letters(word), tuple(_letters(t) or () for t in traces)
    degree = sum(w.count("A") for w in (letters or (), *closed))
    coefficients = [0.0] * (degree + 1)
    for choice in product((False, True), repeat=degree):
        taken = iter(choice)
        chosen = None if letters is None else _expand(letters, taken)
        terms = pairings(chosen, tuple(_expand(t, taken) for t in closed))
        k = sum(choice)
        coefficients[k] = coefficients[k] + (-1) ** k * _evaluate(terms, n, matrices)
    return np.stack([np.asarray(c, dtype=np.float64) for c in coefficients])


@lru_cache(maxsize=512)
def pairings(word: Word | None, traces: tuple[Word, ...]) -> tuple[Term, ...]:
    """Return E[word * prod tr(trace)] as monomials in n and the fixed letters; like ones are merged."""
    links, starts, fixed = _links(word, traces)
    n_slots = len(links) // 2
    counts: Counter[tuple[int, Word | None, tuple[Word, ...]]] = Counter()
    for partner in _matchings(tuple(range(2 * n_slots))):
        order = n_slots - _groups(partner, n_slots)
        opened, closed = _contract(word, partner, links, starts)
        counts[order, opened, tuple(sorted((*closed, *fixed)))] += 1
    return tuple(Term(count, order, opened, closed) for (order, opened, closed), count in counts.items())


def _letters(word: str | None) -> Word | None:
    if word is None:
        return None
    letters: list[str] = []
    for letter in word:
        if letter == "'":
            letters[-1] += "'"
        else:
            letters.append(letter)
    return tuple(letters)


def _expand(word: Word, taken: Iterator[bool]) -> Word:
    """Replace each "A" by S or by nothing (the identity), as ``taken`` says."""
    out: list[str] = []
    for letter in word:
        if letter != "A":
            out.append(letter)
        elif next(taken):
            out.append("S")
    return tuple(out)


# Slot t, an S = x x', has two half-edges: 2t is the column x (met first when read from the left), 2t + 1 the row x'.
# A link leads from a half-edge over the fixed letters beside it to the next one; _OPEN is an end of the open word.
_OPEN = -1
_Links = dict[int, tuple[Word, int]]


def _links(word: Word | None, traces: tuple[Word, ...]) -> tuple[_Links, Word, tuple[Word, ...]]:
    """Return the links, the letters before the first S of the open word, and the traces that hold no S."""
    links: _Links = {}
    fixed: list[Word] = []
    slot = 0
    start: Word = ()
    for number, current in enumerate((word, *traces)):
        if current is None:
            continue
        pieces: list[Word] = [()]
        for letter in current:
            if letter == "S":
                pieces.append(())
            else:
                pieces[-1] = (*pieces[-1], letter)
        k = len(pieces) - 1
        if number == 0:
            start = pieces[0]
            for t in range(k):
                links[2 * (slot + t)] = (_transpose(pieces[t]), 2 * (slot + t) - 1 if t else _OPEN)
                links[2 * (slot + t) + 1] = (pieces[t + 1], 2 * (slot + t) + 2 if t < k - 1 else _OPEN)
        elif k == 0:
            fixed.append(_canonical(pieces[0]))
        else:
            pieces[0] = (*pieces.pop(), *pieces[0])  # under a trace the last piece runs on into the first
            for t in range(k):
                links[2 * (slot + t)] = (_transpose(pieces[t]), 2 * (slot + (t - 1) % k) + 1)
                links[2 * (slot + t) + 1] = (pieces[(t + 1) % k], 2 * (slot + (t + 1) % k))
        slot += k
    return links, start, tuple(fixed)


def _contract(word: Word | None, partner: list[int], links: _Links, start: Word) -> tuple[Word | None, list[Word]]:
    """Follow one pairing: the open word that it leaves and the traces that close."""
    seen = [False] * len(partner)

    def walk(half: int, letters: list[str]) -> Word:
        first = half
        while True:
            other = partner[half]
            seen[half] = seen[other] = True
            piece, half = links[other]
            letters += ("X", *piece)
            if half in (_OPEN, first):
                return tuple(letters)

    opened = word
    if word is not None:
        opened = walk(0, list(start)) if "S" in word else word
    closed = []
    for half in range(len(partner)):
        if not seen[half]:
            closed.append(_canonical(walk(half, [])))
    return opened, closed


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


def _transpose(word: Word) -> Word:
    return tuple(_quoted(letter) for letter in reversed(word))


def _quoted(letter: str) -> str:
    if letter == "X":
        return letter  # a covariance is symmetric
    return letter[:-1] if letter.endswith("'") else letter + "'"


def _canonical(word: Word) -> Word:
    """One name for all words of equal trace: rotations and the transpose."""
    if not word:
        return word
    rotations = (w[i:] + w[:i] for w in (word, _transpose(word)) for i in range(len(word)))
    return min(rotations)


def _evaluate(terms: tuple[Term, ...], n: int, matrices: Mapping[str, np.ndarray]) -> np.ndarray | float:
    p = len(matrices["X"])
    values: dict[Word, float] = {}

    def traced(word: Word) -> float:
        if word not in values:
            matrix = _product(word, matrices, p)
            values[word] = float(matrix.sum() if matrix.ndim == 1 else np.trace(matrix))
        return values[word]

    # Scalars of one open word are added first: then each product of matrices is formed once.
    scalars: dict[Word | None, float] = {}
    for term in terms:
        value = term.multiplicity / float(n) ** term.order
        for word in term.traces:
            value *= traced(word)
        scalars[term.word] = scalars.get(term.word, 0.0) + value
    total: np.ndarray | float = 0.0
    for word, scalar in scalars.items():
        matrix = 1.0 if word is None else _product(word, matrices, p)
        if np.ndim(total) == 2 and np.ndim(matrix) == 1:
            matrix = np.diag(matrix)  # type: ignore[arg-type]
        elif np.ndim(total) == 1 and np.ndim(matrix) == 2:
            total = np.diag(total)  # type: ignore[arg-type]
        total = total + scalar * matrix
    return total


def _product(word: Word, matrices: Mapping[str, np.ndarray], p: int) -> np.ndarray:
    out = np.ones(p)
    for letter in word:
        factor = matrices[letter.rstrip("'")]
        if factor.ndim == 1:
            out = out * factor
        else:
            factor = factor.T if letter.endswith("'") else factor
            out = out[:, None] * factor if out.ndim == 1 else out @ factor
    return out
