"""Expressions over columns of numbers, as plain data: ["log", "x"] is log(x), and ["*", "x", 2] is x * 2.

A text is a column, a number itself, and a list an operation on its parts. Nothing but ``OPERATIONS`` is ever run, so
that an expression out of a file can do no more than arithmetic.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from undertow._check import InputError

Expression: TypeAlias = Any
"""str, float, or [operation, *parts]"""

OPERATIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "+": (2, np.add),
    "-": (2, np.subtract),
    "*": (2, np.multiply),
    "/": (2, np.divide),
    "**": (2, np.power),
    "log": (1, np.log),
    "log2": (1, np.log2),
    "log10": (1, np.log10),
    "log1p": (1, np.log1p),
    "exp": (1, np.exp),
    "expm1": (1, np.expm1),
    "sqrt": (1, np.sqrt),
    "abs": (1, np.abs),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "tanh": (1, np.tanh),
}
"""Name -> number of parts, and what is done with them."""

_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_FUNCTIONS = tuple(name for name in OPERATIONS if name.isidentifier())
_FITTED = ("center", "scale")
_DEPTH = 40
_NODES = 4000
_QUOTED = re.compile(r"`([^`]*)`")


def value_of(expression: Expression, columns: Mapping[str, np.ndarray]) -> np.ndarray | np.float64:
    """Return the values (R,) of an expression over columns (R,), or a number where no column is in it.

    They are not finite where there is no value, such as log(0).
    """
    if isinstance(expression, str):
        return columns[expression]
    if isinstance(expression, int | float):
        return np.float64(expression)
    name, *parts = expression
    with np.errstate(all="ignore"):
        return OPERATIONS[name][1](*(value_of(one, columns) for one in parts))


def check(expression: Expression, columns: Sequence[str]) -> None:
    """Raise ValueError for what is no expression over these columns, or a huge one."""
    known, left = set(columns), [(expression, 0)]
    for n in range(_NODES):
        if not left:
            return
        one, depth = left.pop()
        if isinstance(one, str):
            if one not in known:
                raise ValueError(f"an expression of {one!r}, which is no feature")
        elif isinstance(one, list):
            if not one or one[0] not in OPERATIONS or len(one) != OPERATIONS[one[0]][0] + 1 or depth > _DEPTH:
                raise ValueError(f"an expression {str(one)[:40]!r}")
            left += [(part, depth + 1) for part in one[1:]]
        elif isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) < np.inf:
            raise ValueError(f"a {type(one).__name__} in an expression, part {n}")
    raise ValueError(f"an expression of more than {_NODES} parts")


def parsed(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Return the syntax tree of a Python expression, and the columns that its names stand for where they are quoted."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return names.setdefault(found[1], f"_quoted_{len(names)}")

    try:
        tree = ast.parse(_QUOTED.sub(named, text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError("formula", text, "it is no expression that can be read.") from None
    return tree, {stand_in: name for name, stand_in in names.items()}


def column_of(node: ast.expr, quoted: Mapping[str, str]) -> str | None:
    """Return the column that a name stands for, "log.radon" included; None for what is no name."""
    if isinstance(node, ast.Attribute):
        inner = column_of(node.value, quoted)
        return None if inner is None else f"{inner}.{node.attr}"
    return quoted.get(node.id, node.id) if isinstance(node, ast.Name) else None


def function_of(node: ast.expr) -> str | None:
    """Return the name of the function that is called, without "np."; None where none is."""
    if not isinstance(node, ast.Call):
        return None
    name = column_of(node.func, {})
    return None if name is None else re.sub(r"^(np|numpy)\.", "", name)


def columns_in(text: str) -> list[str]:
    """Return the columns that a Python expression reads, in order.

    Raises InputError where it is none, and where it calls what is not offered.
    """
    tree, quoted = parsed(text)
    found: list[str] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Name | ast.Attribute) and (name := column_of(node, quoted)) is not None:
            found.append(name)
            return
        if isinstance(node, ast.Call) and function_of(node) not in (*_FUNCTIONS, *_FITTED, "I", "C", "poly"):
            raise _unknown(text, node)
        for one in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
            walk(one)

    walk(tree)
    return list(dict.fromkeys(found))


def compiled(text: str, node: ast.expr, quoted: Mapping[str, str], columns: Mapping[str, np.ndarray]) -> Expression:
    """Return the expression of a syntax tree; what ``center`` and ``scale`` take from the columns becomes numbers.

    Raises InputError, which quotes ``text``, for anything else than ``OPERATIONS`` and these.
    """

    def inner(one: ast.expr) -> Expression:
        return compiled(text, one, quoted, columns)

    name = column_of(node, quoted)
    if name is not None:
        if name not in columns:
            rule = f"{name!r} is no column of numbers: it is text, or was left out since it is missing in most rows."
            raise InputError("formula", text, rule)
        return name
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return [_SIGNS[type(node.op)], inner(node.left), inner(node.right)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ["*", -1.0, inner(node.operand)]
    called = function_of(node)
    if called is not None and isinstance(node, ast.Call):
        if len(node.args) != 1 or node.keywords:
            raise InputError("formula", text, f"{called} takes one argument here.")
        if called == "I":
            return inner(node.args[0])
        if called in _FUNCTIONS:
            return [called, inner(node.args[0])]
        if called in _FITTED:
            return _measured(called, inner(node.args[0]), columns)
    raise _unknown(text, node)


def _unknown(text: str, node: ast.expr) -> InputError:
    called = function_of(node)
    what = f"{called}()" if called is not None else repr(ast.unparse(node))
    offered = f"+ - * / ** I {' '.join((*_FUNCTIONS, *_FITTED))} poly C"
    rule = f"{what} is not among what a formula may compute: {offered}."
    return InputError("formula", text, rule, "Make the column in the table.")


def _measured(called: str, inner: Expression, columns: Mapping[str, np.ndarray]) -> Expression:
    """An expression less its mean, with "scale" divided by its deviation."""
    values = value_of(inner, columns) * np.ones(len(next(iter(columns.values()))))
    centred = ["-", inner, float(values.mean())]
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return centred if called == "center" or not spread > 0 else ["/", centred, spread]


def orthogonal(inner: Expression, degree: int, columns: Mapping[str, np.ndarray]) -> list[Expression]:
    """Return orthogonal polynomials of degree 1 to ``degree``, of sum of squares 1 over the rows (R's ``poly``).

    By their recurrence, P_{k+1} = (x - a_k) P_k - b_k P_{k-1}.
    """
    x = np.atleast_1d(value_of(inner, columns))
    before: tuple[Expression, np.ndarray] = 0.0, np.zeros(len(x))
    last: tuple[Expression, np.ndarray] = 1.0, np.ones(len(x))
    norm, found = 1.0, []
    for k in range(degree):
        own = float(last[1] @ last[1])
        a, b = float((x * last[1]) @ last[1]) / own, own / norm
        turned = ["-", inner, a]
        step: Expression = turned if k == 0 else ["*", turned, last[0]]
        if k:
            step = ["-", step, b if k == 1 else ["*", b, before[0]]]
        values = (x - a) * last[1] - (b * before[1] if k else 0.0)
        before, last, norm = last, (step, values), own
        found.append(["/", step, float(np.sqrt(values @ values))])
    return found
