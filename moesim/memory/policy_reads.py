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


class Use(NamedTuple):
    """Where a function uses state: the ``row``, the ``column`` as the name that stands there, and
    whether it may be ``written``. None, "" and True where that is not known beforehand, as in what
    it calls.
    """

    row: int | None
    column: str
    written: bool
    where: str


class Reads(NamedTuple):
    """What all functions of a policy may read: ``rows`` of state, None: any; and whether the key of
    an expert is ``own``: what it goes by changes at activations and loads of that expert alone.
    ``is_row``: the row that it is, as it stands there; None where it is anything else.
    """

    rows: tuple[int, ...] | None
    own: bool
    is_row: int | None = None


@lru_cache
def reads_of(policy: Any) -> Reads:
    """What the functions of ``policy`` may read, as far as their code says it."""
    uses = _all_uses(policy)
    rows = {use.row for _, use, _ in uses}
    known = tuple(sorted(row for row in rows if row is not None))
    of_its_own = all(own for name, use, own in uses if use.written or name == "key")
    own = of_its_own and not _reads_more(policy)
    return Reads(None, own=False) if None in rows else Reads(known, own, _row_it_is(policy))


def keys_stay(policy: Any, counted: tuple[int, ...], inserted: int) -> bool:
    """Whether keys stay as they are while other experts are activated and loaded, of which the
    cache writes the rows ``counted``; and nothing but the key looks at ``inserted``, so that the
    loads of a step can be noted before its activations.
    """
    uses = _all_uses(policy)
    if _reads_more(policy) or any(use.row is None for _, use, _ in uses):
        return False
    stored = [(use.row, own) for _, use, own in uses if use.written]
    written = {*counted, *(row for row, _ in stored)}
    of_others = {row for row, own in stored if not own}
    looks = any(use.row == inserted for name, use, _ in uses if name != "key")
    keys = ((use.row, own) for name, use, own in uses if name == "key")
    return not looks and all(row not in (of_others if own else written) for row, own in keys)


def rows_of(function: Callable[..., Any], state: int) -> set[int | None]:
    """The rows that ``function`` uses of its argument number ``state``; None among them: any."""
    return {use.row for use in _uses_of(function, state, set())}


def _all_uses(policy: Any) -> list[tuple[str, Use, bool]]:
    """Where each function of ``policy`` uses state, and whether that of its own expert."""
    found = []
    for name in ARGUMENTS:
        expert = _own_name(getattr(policy, name))
        found += [(name, use, use.column == expert) for use in _uses_by(policy, name)]
    return found


def _row_it_is(policy: Any) -> int | None:
    """See ``Reads.is_row``."""
    node, uses = _node_of(policy.key), list(_uses_by(policy, "key"))
    if node is None or [one.column for one in uses] != [_own_name(policy.key)]:
        return None
    returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
    state = node.args.args[ARGUMENTS["key"].index("state")].arg
    match returned:
        case [ast.Subscript(value=ast.Name(id=name))] if name == state:
            return uses[0].row
    return None


def _reads_more(policy: Any) -> bool:
    """Whether the key of ``policy`` reads more than state."""
    given = ARGUMENTS["key"]
    beside = [given.index(name) for name in ("draw", "position", "candidates")]
    return any(True for place in beside for _ in _reads(policy.key, place))


def _own_name(function: Callable[..., Any]) -> str | None:
    """What ``function`` calls the expert, its first argument; None where that changes."""
    node = _node_of(function)
    name = node.args.args[0].arg if node is not None and node.args.args else None
    parts = _parts(node) if node is not None else []
    stored = {part.id for part in parts if isinstance(part, ast.Name) and _is_stored(part)}
    return None if name in stored else name


def _is_stored(part: ast.Name | ast.Subscript) -> bool:
    return not isinstance(part.ctx, ast.Load)


def _uses_by(policy: Any, name: str) -> Iterator[Use]:
    return _uses_of(getattr(policy, name), ARGUMENTS[name].index("state"), set())


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
    for row, _, _, where in _uses_by(policy, name):
        if row is None:
            continue
        if row == next_use and not policy.looks_ahead:
            what = f"reads NEXT_USE, which is not filled in unless {_asked('looks_ahead')}"
            told.setdefault(what, where)
        if row >= rows + policy.memory:
            beside = f"which has {rows} and {policy.memory} of the policy's own"
            remedy = f"write memory: ClassVar[int] = {row - rows + 1}"
            told.setdefault(f"uses row {row} of state, {beside}; {remedy}", where)
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


def _uses_of(function: Callable[..., Any], state: int, seen: set[object]) -> Iterator[Use]:
    """How ``function``, and those to which it gives the state, its argument number ``state``, use
    it.
    """
    node = _node_of(function)
    if node is None or state >= len(node.args.args):
        yield Use(None, "", True, "")
        return
    if function in seen:
        return
    seen.add(function)
    name, told = node.args.args[state].arg, set[ast.expr]()
    for part in _parts(node):
        if isinstance(part, ast.Attribute) and part.attr == "shape":
            told.add(part.value)
        elif isinstance(part, ast.Subscript) and _is_name(part.value, name):
            told.add(part.value)
            yield _use(part, function)
        elif isinstance(part, ast.Call):
            for given, called, place in _known_calls(part, name, function):
                told.add(given)
                yield from (use._replace(column="") for use in _uses_of(called, place, seen))
        elif _is_name(part, name) and part not in told:
            yield Use(None, "", True, _place(function, part))


def _known_calls(
    part: ast.Call, name: str, function: Callable[..., Any]
) -> Iterator[tuple[ast.expr, Callable[..., Any], int]]:
    """Where ``part`` gives what is called ``name`` to a known function, that, and which argument it
    is.
    """
    called = _value(part.func, function)
    called = getattr(called, "py_func", called)  # of what numba has compiled
    for place, given in enumerate(part.args):
        if _is_name(given, name) and hasattr(called, "__code__"):
            yield given, called, place


def _use(part: ast.Subscript, function: Callable[..., Any]) -> Use:
    """``state[row, column]``; what is no single number could be written through another name."""
    index, *columns = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
    column = columns[0].id if columns and isinstance(columns[0], ast.Name) else ""
    written = not columns or _is_stored(part)
    return Use(_number(index, function), column, written, _place(function, part))


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
    code = function.__code__
    own = code.co_varnames + code.co_cellvars + code.co_freevars
    if isinstance(node, ast.Name) and node.id not in own:
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
