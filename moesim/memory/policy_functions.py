"""Whether a cache policy's functions take the arguments that the cache gives them."""

from __future__ import annotations

import inspect
from typing import Any

from moesim.config.errors import InputError, Problem

ARGUMENTS = {
    "key": ("expert", "state", "draw", "position", "candidates"),
    "before_turn": ("expert", "hit", "step", "layer", "weight", "state"),
    "after_turn": ("expert", "hit", "victim", "now", "state"),
}
"""By name, what each compiled function of a policy gets, in this order."""


def check_functions(policy: type, *, has_key: bool) -> None:
    """Raise an InputError for every function of ``policy``'s own that is no static method or takes
    other arguments than ``ARGUMENTS``; and where a policy with a kind has no key.
    """
    own = [name for name in ARGUMENTS if name in vars(policy)]
    problems = [_wrong(policy, name) for name in own if not _fits(vars(policy)[name], name)]
    if not has_key:
        path = f"{policy.__qualname__}.key"
        problems.append(Problem(policy.__module__, path, f"is missing; {_expected('key')}"))
    if problems:
        raise InputError(problems)


def _fits(method: Any, name: str) -> bool:
    if not isinstance(method, staticmethod):
        return False
    try:
        inspect.signature(method).bind(*ARGUMENTS[name])
    except TypeError:
        return False
    return True


def _expected(name: str) -> str:
    return f"write @staticmethod {name}({', '.join(ARGUMENTS[name])})"


def _wrong(policy: type, name: str) -> Problem:
    method = vars(policy)[name]
    function = getattr(method, "__func__", method)
    code = getattr(function, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else policy.__module__
    taken = f"takes {inspect.signature(function)}" if callable(function) else "is no function"
    static = "" if isinstance(method, staticmethod) else " and is no @staticmethod"
    path, what = f"{policy.__qualname__}.{name}", f"{taken}{static}; {_expected(name)}"
    return Problem(where, path, what)
