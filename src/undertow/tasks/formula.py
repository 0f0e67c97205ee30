"""Formulas of mixed models, "y ~ x + (1 + x | g)": which columns have which role, and what a task may vary in.

formulaic parses the fixed part; nothing is evaluated by it, see ``expressions``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from undertow._check import InputError, Setting, Text
from undertow.tasks.expressions import columns_in, function_of, parsed
from undertow.tasks.reading import Reading

Term = tuple[str, ...]
"""Factors of a product, such as ("log(x)", "sex"); none is the intercept."""

_NAME = re.compile(r"\s*(?:`([^`]+)`|([^\W\d][\w.]*))\s*")
_OPEN, _CLOSE = "([{", ")]}"


class _Random(NamedTuple):
    """One (slopes | groups) of a formula."""

    text: str
    groups: tuple[str, ...]
    slopes: frozenset[frozenset[str]]
    correlated: bool


@dataclass(frozen=True)
class Formula:
    """A formula, and what it says in terms of ``read_table``; ``GroupedTable.formula`` is that of a table.

    Examples
    --------
    >>> import undertow as ut
    >>> formula = ut.tasks.Formula.parse("score ~ log(income) + age + (1 | school)")
    >>> formula.target, formula.task, formula.columns
    ('score', ('school',), ['income', 'age'])
    """

    text: str
    target: str
    terms: tuple[Term, ...]
    """products of the fixed part, without the intercept; factors as Python spells them, odd names in `backticks`"""
    task: tuple[str, ...] = ()
    """columns of the tasks; none where there is no random part"""
    structure: str = ""
    """of the task covariance, for ``undertow.mixed.MixedRule``: "intercept", "diagonal", "full"; empty without one"""
    random_intercept: str | None = None
    """the second grouping: a column, "outer" for (1 | a/b), or None"""
    slopes: str = ""
    """the random part of the tasks, as written"""
    varying: tuple[Term, ...] | None = None
    """terms of the fixed part that tasks vary in, where these are some of them; else None"""
    random_slopes: tuple[str, ...] | None = None
    """of a table that was read: the columns of these"""

    @classmethod
    def parse(cls, text: Any) -> Formula:
        """Return the parts of a formula; raise InputError that names what it asks for and is not offered.

        Parameters
        ----------
        text
            target, "~", terms of columns, and at most two random parts: ``(1 | g)``, ``(1 + x | g)``, ``(x || g)``,
            ``(1 | school/class)``, ``(1 | a) + (1 | b)``. Slopes are of terms of the fixed part.
        """
        if not isinstance(text, str):
            raise InputError("formula", type(text).__name__, "it must be text, such as 'y ~ x + (1 | g)'.")
        sides = _parted(text, "~")
        if len(sides) != 2:
            rule = f"it has {len(sides) - 1} signs '~': one stands between target and columns."
            raise InputError("formula", text, rule, "Write it like 'y ~ x + (1 | g)'.")
        target = _name(sides[0], text, "the target")
        fixed, random = [], []
        for piece in _parted(sides[1], "+"):
            inside = piece.strip()[1:-1] if _is_bracket(piece) else ""
            bars = _parted(inside, "|")
            if len(bars) == 1:
                fixed.append(piece)
            else:
                random += _random(text, piece.strip(), bars)
        terms = _terms(text, " + ".join(fixed), intercept=True)
        if () not in terms:
            way_out = "Leave out 0 and -1; from arrays, fit_intercept=False leaves it out."
            raise InputError("formula", text, "it takes out the intercept, which every model of a table has.", way_out)
        # As R has it: interactions last.
        terms = tuple(sorted((term for term in terms if term), key=len))
        if not terms:
            rule = "it names no column to predict from."
            raise InputError("formula", text, rule, "Name at least one, as in 'y ~ x + (1 | g)'.")
        formula = cls(text.strip(), target, terms)
        for factor in (factor for term in terms for factor in term):
            if not columns_in(factor):
                raise InputError("formula", text, f"{factor!r} reads no column.", "Leave it out.")
        return _with_random(formula, random)

    @property
    def columns(self) -> list[str]:
        """Columns that the fixed part reads, in order."""
        return list(dict.fromkeys(name for term in self.terms for factor in term for name in columns_in(factor)))

    @property
    def categorical(self) -> list[str]:
        """Columns in ``C()``, whose codes are labels."""
        found = [factor for term in self.terms for factor in term if category_of(factor)]
        return list(dict.fromkeys(str(category_of(factor)) for factor in found))

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``read_table`` that give the columns of the formula, before any is computed from them."""
        roles: dict[str, Any] = {"target": self.target, "features": self.columns}
        if self.task:
            roles = {"task": self.task[0] if len(self.task) == 1 else list(self.task)} | roles
        if self.categorical:
            roles["categorical"] = self.categorical
        return roles | ({"random_intercept": self.random_intercept} if self.random_intercept else {})

    def roles(self, task: Any, target: Any, features: Any, reading: Reading) -> tuple[Any, str, list[str], Reading]:
        """Return task, target, features and reading as the formula has them; InputError where they are given twice."""
        given = {"target": target, "features": features}
        if self.task:
            # "outer" stands for what several columns of tasks say by themselves.
            second = None if reading.random_intercept == "outer" else reading.random_intercept
            given |= {"task": task, "random_intercept": second}
        elif task is None:
            rule = "it has no random part, such as (1 | g), and so says of no row which task it is of."
            raise InputError("formula", self.text, rule, ("Add one, or name the column with ", Setting("task"), "."))
        for name, value in given.items():
            if value is not None:
                raise InputError(name, value, f"the formula {self.text!r} says it.", "Leave out one of the two.")
        if self.task:
            task = self.task[0] if len(self.task) == 1 else list(self.task)
            reading = replace(reading, random_intercept=self.random_intercept)
        labels = (*reading.categorical, *(name for name in self.categorical if name not in reading.categorical))
        return task, self.target, self.columns, replace(reading, categories="onehot", categorical=labels)


def category_of(factor: str) -> str | None:
    """Return the column in ``C(column)``; None for another factor. Raises InputError for other contrasts."""
    tree, _ = parsed(factor)
    if function_of(tree) != "C":
        return None
    read = columns_in(factor)
    if len(tree.args) != 1 or tree.keywords or len(read) != 1:  # type: ignore[attr-defined]
        rule = "levels are compared with the first one, and C() takes the name of a column alone."
        raise InputError("formula", factor, rule, "Name the levels so that the base comes first in their order.")
    return read[0]


def name_of(factor: str) -> str | None:
    """Return the column that a factor is the name of; None for an expression."""
    found = _NAME.fullmatch(factor)
    return None if found is None else found[1] or found[2]


def _parted(text: str, sign: str) -> list[str]:
    """Parts of a text between signs that stand in no bracket and no quotes."""
    depth, quote, parts = 0, "", [""]
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "`'\"":
            quote = letter
        depth += (letter in _OPEN) - (letter in _CLOSE) if not quote else 0
        if letter == sign and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _is_bracket(piece: str) -> bool:
    """Whether one bracket holds all of a piece."""
    piece = piece.strip()
    if not (piece.startswith("(") and piece.endswith(")")):
        return False
    depth = 0
    for i, letter in enumerate(piece):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i == len(piece) - 1
    return False


def _name(piece: str, text: str, what: str) -> str:
    name = name_of(piece)
    if name is None:
        rule = f"{what} {piece.strip()!r} is not the name of a column."
        way_out = "Make the column in the table and name it; names with signs stand in `backticks`."
        raise InputError("formula", text, rule, way_out)
    return name


def _terms(text: str, part: str, intercept: bool) -> tuple[Term, ...]:
    """Products of a fixed part, or of the slopes or the groups of a random one; () is the intercept."""
    try:
        from formulaic.parser import DefaultFormulaParser
    except ImportError as error:
        rule = "formulas need a package that is not installed."
        raise InputError("formula", text, rule, "Install it with: pip install 'undertow[formula]'") from error
    if "|" in part or "~" in part:
        rule = f"a bar or a '~' stands in {part.strip()!r}, where it means nothing."
        raise InputError("formula", text, rule, "Write random parts in brackets of their own: x + (1 | g).")
    if re.search(r"(?<![\w.`])\.(?![\w.])", part):
        raise InputError("formula", text, "'.' for all other columns is not offered.", "Name the columns.")
    try:
        found = list(DefaultFormulaParser(include_intercept=intercept).get_terms(part))
        kinds = {str(factor.expr): factor.eval_method.value for term in found for factor in term.factors}
        terms = tuple(tuple(str(factor.expr) for factor in term.factors) for term in found)
    except Exception as error:  # of the parser, whatever they are
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("formula", text, f"{part.strip()!r} cannot be read ({what.rstrip('.')}).") from None
    for factor, kind in kinds.items():
        if kind == "literal" and factor != "1":
            raise InputError("formula", text, f"the number {factor} stands where a column is needed.")
    odd = {factor: f"`{factor}`" for factor, kind in kinds.items() if kind == "lookup" and not _NAME.fullmatch(factor)}
    return tuple(tuple(odd.get(one, one) for one in term if kinds[one] != "literal") for term in terms)


def _random(text: str, piece: str, bars: Sequence[str]) -> list[_Random]:
    """The groupings of one random part, (a | b/c) being (a | b) and (a | b:c). bars: it, parted at each "|"."""
    correlated = len(bars) == 2
    if not correlated and not (len(bars) == 3 and not bars[1].strip()):
        raise InputError("formula", text, f"{piece} has {len(bars) - 1} bars.", "Write (1 + x | g) or (1 + x || g).")
    slopes = _terms(text, bars[0], intercept=True)
    if () not in slopes:
        rule = f"{piece} has no random intercept, and each structure of a task's weights has one."
        raise InputError("formula", text, rule, "Write (1 + x | g), or (1 + x || g) where they are not correlated.")
    named = [tuple(name_of(factor) for factor in group) for group in _terms(text, bars[-1], intercept=False)]
    groups = [tuple(name for name in group if name is not None) for group in named]
    chain = all(set(one) < set(two) and len(two) == len(one) + 1 for one, two in pairwise(groups))
    if not groups or () in groups or not chain or groups != named:
        rule = f"{bars[-1].strip()!r} is not a grouping that is offered."
        raise InputError("formula", text, rule, "Name a column, or columns as in a/b or a:b.")
    own = frozenset(frozenset(term) for term in slopes if term)
    if own and len(groups) > 1:
        a, b = (":".join(group) for group in groups[:2])
        way_out = f"Write (1 | {a}) + ({bars[0].strip()} {'|' * (len(bars) - 1)} {b})."
        raise InputError("formula", text, f"{piece} has slopes that vary at two levels; one is offered.", way_out)
    return [_Random(piece, group, own, correlated) for group in groups]


def _with_random(formula: Formula, random: list[_Random]) -> Formula:
    """The formula with its random parts: what a task is, how it varies, and which second grouping there is."""
    text = formula.text

    def refuse(rule: str, way_out: Text) -> InputError:
        return InputError("formula", text, rule, way_out)

    if not random:
        return formula
    if len(random) > 2:
        named = ", ".join(":".join(one.groups) for one in random)
        rule = f"it has {len(random)} groupings ({named}): tasks, and one more random intercept, are offered."
        raise refuse(rule, "Leave out those of the least variance.")
    own, other = sorted(random, key=lambda one: not one.slopes)[0], None
    if len(random) == 2:
        other = random[1] if own is random[0] else random[0]
        if other.slopes:
            raise refuse(
                "slopes vary between two groupings; between tasks they may, a second grouping has an intercept.",
                f"Write (1 | {':'.join(other.groups)}) for it, or for the other.",
            )
        if set(own.groups) < set(other.groups) and not own.slopes:
            own, other = other, own  # the finer groups are the tasks
        if set(own.groups) == set(other.groups):
            raise refuse(f"{own.text} and {other.text} are of one grouping.", "Write one random part for it.")
        nested = set(other.groups) < set(own.groups) and len(other.groups) == len(own.groups) - 1
        if not nested and len(other.groups) > 1:
            raise refuse(
                f"the second grouping {':'.join(other.groups)} is of several columns; one is offered.",
                f"Name it first, so that it is the task: {other.text} + {own.text}.",
            )
        groups = (*other.groups, *(g for g in own.groups if g not in other.groups)) if nested else own.groups
        formula = replace(formula, task=groups, random_intercept="outer" if nested else ":".join(other.groups))
    else:
        formula = replace(formula, task=own.groups)
    fixed = {frozenset(term) for term in formula.terms}
    if own.slopes - fixed:
        more = ", ".join(sorted(":".join(sorted(one)) for one in own.slopes - fixed))
        every, group = " + ".join(":".join(term) for term in formula.terms), ":".join(own.groups)
        rule, bar = f"{own.text} has slopes of {more}, which the fixed part lacks.", "|" if own.correlated else "||"
        raise refuse(rule, f"Write (1 | {group}), or (1 + {every} {bar} {group}).")
    if own.slopes and own.slopes != fixed:
        formula = replace(formula, varying=tuple(term for term in formula.terms if frozenset(term) in own.slopes))
    structure = "intercept" if not own.slopes else "full" if own.correlated else "diagonal"
    return replace(formula, structure=structure, slopes=own.text)
