"""Columns that a formula makes of features: expressions found on one table, and made again of others."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from undertow._check import InputError
from undertow._types import AnyRows
from undertow.tasks.expressions import Expression, check, compiled, function_of, orthogonal, parsed, value_of
from undertow.tasks.formula import Formula, category_of, name_of

# Polynomials of a higher degree are all in their ends.
_DEGREE = 5

Named = list[tuple[str, Expression]]


@dataclass(frozen=True)
class Made:
    """Columns made of others: the name of each, and the expression over those that it is made of."""

    features: tuple[str, ...]
    """names of the features that expressions read"""
    columns: tuple[tuple[str, Expression], ...]
    """(p,) name and expression of each column"""

    @classmethod
    def fit(cls, formula: Formula, features: Sequence[str], x: AnyRows, levels: Mapping[str, Sequence[str]]) -> Made:
        """Return the columns of a formula. x: (R, b) features; levels: those of each column of text or codes.

        Interactions follow R: an indicator is left out for the base level where the term without the column is there.
        """
        columns, terms = dict(zip(features, x.T, strict=True)), {frozenset(term) for term in formula.terms}
        found: Named = []
        for term in formula.terms:
            each: list[Named] = []
            full = 0
            for factor in term:
                category = _category(factor, levels)
                rest = frozenset(term) - {factor}
                if category is None:
                    each.append(_of_numbers(factor, columns))
                    continue
                every = bool(rest) and rest not in terms
                full += every
                each.append(_of_levels(category, levels[category], every))
            if full > 1:
                rule = f"{':'.join(term)} stands without the terms that it is made of."
                raise InputError("formula", formula.text, rule, f"Write {'*'.join(term)}, which has them.")
            found += reduce(_products, each)
        missing = [name for name, one in found for part in _read(one) if part not in columns]
        if missing:
            rule = f"{missing[0]!r} needs a column that was left out, since it is missing in most rows."
            raise InputError("formula", formula.text, rule, "Leave the term out, or fill the column.")
        twice = sorted({name for name, _ in found if [name for name, _ in found].count(name) > 1})
        if twice:
            raise InputError("formula", formula.text, f"two of its columns are {twice[0]!r}.", "Leave one out.")
        return cls(tuple(features), tuple(found))

    @property
    def names(self) -> tuple[str, ...]:
        """(p,) names of the columns."""
        return tuple(name for name, _ in self.columns)

    def restricted(self, names: Sequence[str]) -> Made:
        """Return some of the columns, by name."""
        return Made(self.features, tuple(one for one in self.columns if one[0] in set(names)))

    def apply(self, x: AnyRows) -> np.ndarray:
        """Return the columns (R, p) of features (R, b); not finite where one has no value, such as log(0)."""
        columns = dict(zip(self.features, x.T, strict=True))
        made = [np.broadcast_to(value_of(one, columns), len(x)) for _, one in self.columns]
        return np.stack(made, axis=1) if made else np.empty((len(x), 0))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {"features": list(self.features), "columns": [[name, one] for name, one in self.columns]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Made:
        """Return the record of ``to_dict``; ValueError or TypeError for values that are none; they run nothing."""
        features, columns = values["features"], [(name, one) for name, one in values["columns"]]
        names = [*features, *(name for name, _ in columns)]
        if set(values) != {"features", "columns"} or not all(isinstance(one, str) for one in names):
            raise TypeError("columns of a formula that are none")
        for _, one in columns:
            check(one, features)
        return cls(tuple(features), tuple(columns))


def _category(factor: str, levels: Mapping[str, Sequence[str]]) -> str | None:
    name = name_of(factor)
    return (name if name in levels else None) if name is not None else category_of(factor)


def _of_numbers(factor: str, columns: Mapping[str, np.ndarray]) -> Named:
    """Columns of a factor that is no category: one, or those of a polynomial."""
    tree, quoted = parsed(factor)
    if function_of(tree) != "poly":
        return [(name_of(factor) or factor, compiled(factor, tree, quoted, columns))]
    assert isinstance(tree, ast.Call)
    given = [*tree.args[1:], *(one.value for one in tree.keywords if one.arg == "degree")]
    degree = given[0].value if len(given) == 1 and isinstance(given[0], ast.Constant) else 1 if not given else None
    odd = len(tree.args) not in (1, 2) or any(one.arg != "degree" for one in tree.keywords)
    if odd or isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= _DEGREE:
        rule = f"poly takes a column and a degree from 1 to {_DEGREE}, and nothing else."
        raise InputError("formula", factor, rule, "Write powers as I(x**2).")
    inner = compiled(factor, tree.args[0], quoted, columns)
    distinct = len(np.unique(value_of(inner, columns)))
    if distinct <= degree:
        raise InputError("formula", factor, f"it has {distinct} values: too few for this degree.", "Use a lower one.")
    return [(f"{factor}[{k + 1}]", one) for k, one in enumerate(orthogonal(inner, degree, columns))]


def _of_levels(column: str, known: Sequence[str], every: bool) -> Named:
    """Indicators of the levels of a column but the first, or of every one."""
    own: Named = [(f"{column}={level}", f"{column}={level}") for level in (known[1:] or known)]
    if not every or len(known) == 1:
        return own
    first: Expression = reduce(lambda left, one: ["-", left, one[1]], own, 1.0)
    return [(f"{column}={known[0]}", first), *own]


def _products(left: Named, right: Named) -> Named:
    return [(f"{a}:{b}", ["*", one, two]) for b, two in right for a, one in left]


def _read(expression: Expression) -> list[str]:
    """Features that an expression reads."""
    if isinstance(expression, str):
        return [expression]
    return [name for part in expression[1:] for name in _read(part)] if isinstance(expression, list) else []
