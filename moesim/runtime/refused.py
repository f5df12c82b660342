"""What numba says of code that it cannot compile, in one line: its own words take a hundred."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numba.core.compiler import run_frontend
from numba.core.errors import NumbaError, UnsupportedBytecodeError

from moesim.config.errors import Problem

REMEDY = (
    "write arithmetic on numbers and arrays; a function that it calls is made with "
    "moesim.runtime.compiled.inlined"
)
REFUSALS = (NumbaError, UnsupportedBytecodeError)
_LINE = re.compile(r'(?:File "|Raised from )(.*?)(?:", line | \()(\d+)')
_CUT = re.compile(r"there is no whole_number\((.*)\)")
_MISSING = re.compile(r"^No implementation of .*\s+>>> (.*)", re.MULTILINE)


def refused(error: Exception, functions: Sequence[Callable[..., Any]]) -> Problem:
    """The problem with the one of ``functions`` for which ``error`` was raised; where that is not
    known, with all.
    """
    text = str(error)
    named = [one for one in functions if f"<function {one.__qualname__} at" in text]
    culprits = named[:1] or [one for one in functions if not _is_understood(one)] or [*functions]
    reason, line = _innermost(text, culprits[0])
    where = f"{culprits[0].__code__.co_filename}:{line}"
    if cut := _CUT.fullmatch(reason):
        what = (
            f"gives {cut[1]}, which is no whole number; write int(...), of what orders as it does"
        )
        return Problem(_first_line(functions[0]), functions[0].__qualname__, what)
    names = " or ".join(one.__qualname__ for one in culprits)
    return Problem(where, names, f"numba cannot compile it: {reason}; {REMEDY}")


def _first_line(function: Callable[..., Any]) -> str:
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def _is_understood(function: Callable[..., Any]) -> bool:
    """Whether numba reads the code at all, whatever the types."""
    read: Any = run_frontend
    try:
        read(function)
    except REFUSALS:
        return False
    return True


def _innermost(text: str, function: Callable[..., Any]) -> tuple[str, int]:
    """The reason below all the calls that lead to it, and its line, or the function's first."""
    _, found, inner = text.rpartition("(step: ")
    inner = inner.partition("\n")[2] if found else inner
    if missing := _MISSING.match(inner.strip()):
        reason = f"there is no {missing[1]}"
    else:
        reason = inner.strip().partition("\n")[0].partition(" Raised from ")[0].rstrip(".")
    file = Path(function.__code__.co_filename).name
    lines = [int(line) for path, line in _LINE.findall(inner) if Path(path).name == file]
    return reason, lines[0] if lines else function.__code__.co_firstlineno
