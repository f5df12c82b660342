"""What the functions of a cache policy read, as far as their code says it, and what it declares.

Compiled code does not look: undeclared, a draw is 0 and a next use the same for all, and a row of
state that is not there is whatever lies behind it in memory.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.memory.policy_functions import ARGUMENTS


class Row(NamedTuple):
    """A row of state that a function names as a number known beforehand, and where."""

    number: int
    where: str


def check_reads(policy: Any, *, rows: int, next_use: int) -> None:
    """Raise an InputError where a function of ``policy`` reads what it does not declare.

    State has ``rows`` rows and the policy's own ``memory``; ``next_use`` is the row that is filled
    where it ``looks_ahead``. A function without source, as of an interpreter's line, passes.
    """
    problems = [
        Problem(where, f"{policy.__qualname__}.{name}", what)
        for name in ARGUMENTS
        for where, what in _undeclared(policy, name, rows, next_use)
    ]
    if problems:
        raise InputError(problems)


def _undeclared(policy: Any, name: str, rows: int, next_use: int) -> Iterator[tuple[str, str]]:
    function, arguments = getattr(policy, name), ARGUMENTS[name]
    for argument, flag in (("draw", "draws"), ("weight", "weighs")):
        if argument in arguments and not getattr(policy, flag):
            for where in islice(_reads(function, arguments.index(argument)), 1):
                yield where, f"reads '{argument}', which is 0 unless {_asked(flag)}"
    told: dict[str, str] = {}
    for row in _rows_of(function, arguments.index("state"), set()):
        if row.number == next_use and not policy.looks_ahead:
            what = f"reads NEXT_USE, which is not filled in unless {_asked('looks_ahead')}"
            told.setdefault(what, row.where)
        if row.number >= rows + policy.memory:
            beside = f"which has {rows} and {policy.memory} of the policy's own"
            remedy = f"write memory: ClassVar[int] = {row.number - rows + 1}"
            told.setdefault(f"uses row {row.number} of state, {beside}; {remedy}", row.where)
    yield from ((where, what) for what, where in told.items())


def _asked(flag: str) -> str:
    return f"the class asks for it; write {flag}: ClassVar[bool] = True"


def _reads(function: Callable[..., Any], argument: int) -> Iterator[str]:
    """Where ``function`` reads its argument number ``argument``."""
    node = _node_of(function)
    if node is None or argument >= len(node.args.args):
        return
    name = node.args.args[argument].arg
    for part in _parts(node):
        if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Load):
            yield _place(function, part)


def _rows_of(function: Callable[..., Any], state: int, seen: set[object]) -> Iterator[Row]:
    """The rows of state, its argument number ``state``, that ``function`` and those to which it
    gives the state name.
    """
    node = _node_of(function)
    if node is None or state >= len(node.args.args) or function in seen:
        return
    seen.add(function)
    name = node.args.args[state].arg
    for part in _parts(node):
        if isinstance(part, ast.Subscript) and _is_name(part.value, name):
            index = part.slice.elts[0] if isinstance(part.slice, ast.Tuple) else part.slice
            number = _number(index, function)
            if number is not None:
                yield Row(number, _place(function, part))
        if isinstance(part, ast.Call):
            called = _value(part.func, function)
            called = getattr(called, "py_func", called)  # of what numba has compiled
            for place, given in enumerate(part.args):
                if _is_name(given, name) and hasattr(called, "__code__"):
                    yield from _rows_of(called, place, seen)


def _parts(node: ast.FunctionDef) -> list[ast.expr]:
    """The expressions of a function, line by line."""
    found = (part for part in ast.walk(node) if isinstance(part, ast.expr))
    return sorted(found, key=attrgetter("lineno", "col_offset"))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _number(node: ast.expr, function: Callable[..., Any]) -> int | None:
    """The whole number that ``node`` stands for; None where that is not known beforehand."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _number(node.left, function), _number(node.right, function)
        return None if left is None or right is None else left + right
    value = node.value if isinstance(node, ast.Constant) else _value(node, function)
    return value if type(value) is int else None


def _value(node: ast.expr, function: Callable[..., Any]) -> Any:
    """What a name of the module, or of a module in it, stands for; None for others."""
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, function), node.attr, None)
    if isinstance(node, ast.Name) and node.id not in function.__code__.co_varnames:
        return function.__globals__.get(node.id)
    return None


def _place(function: Callable[..., Any], node: ast.expr) -> str:
    return f"{function.__code__.co_filename}:{node.lineno}"


def _node_of(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The source of ``function``; None where there is none."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    linecache.checkcache(code.co_filename)
    nodes = _nodes("".join(linecache.getlines(code.co_filename)))
    node = nodes.get(code.co_firstlineno)
    return node if node is not None and node.name == code.co_name else None


@lru_cache(maxsize=32)
def _nodes(text: str) -> dict[int, ast.FunctionDef]:
    """The functions of a file by their first lines, decorators included."""
    try:
        module = ast.parse(text)
    except SyntaxError:
        return {}
    return {
        min([part.lineno, *(one.lineno for one in part.decorator_list)]): part
        for part in ast.walk(module)
        if isinstance(part, ast.FunctionDef)
    }
