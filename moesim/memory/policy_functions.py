"""Whether a cache policy's functions take the arguments that the cache gives them."""

from __future__ import annotations

import inspect
from typing import Any

from moesim.config.errors import InputError, Problem

ARGUMENTS = {
    "key": ("expert", "state", "draw", "position", "candidates"),
    "before_activation": ("expert", "hit", "step", "layer", "weight", "state"),
    "after_activation": ("expert", "hit", "victim", "now", "state"),
}
"""By name, what each compiled function of a policy gets, in this order."""

RENAMED = {"before_turn": "before_activation", "after_turn": "after_activation"}
"""The names of today by the earlier ones, which nothing would call."""


def check_functions(policy: type, *, has_key: bool) -> None:
    """Raise an InputError for every function of ``policy``'s own that is no static method or takes
    other arguments than ``ARGUMENTS``, or has an earlier name; and where a policy with a kind has
    no key.
    """
    own = [name for name in ARGUMENTS if name in vars(policy)]
    problems = [_wrong(policy, name) for name in own if not _fits(vars(policy)[name], name)]
    problems += [_renamed(policy, name) for name in RENAMED if name in vars(policy)]
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


def _renamed(policy: type, name: str) -> Problem:
    what = f"is '{RENAMED[name]}' now; {_expected(RENAMED[name])}"
    return Problem(_where(policy, name), f"{policy.__qualname__}.{name}", what)


def _wrong(policy: type, name: str) -> Problem:
    method = vars(policy)[name]
    function = getattr(method, "__func__", method)
    taken = f"takes {inspect.signature(function)}" if callable(function) else "is no function"
    static = "" if isinstance(method, staticmethod) else " and is no @staticmethod"
    path, what = f"{policy.__qualname__}.{name}", f"{taken}{static}; {_expected(name)}"
    return Problem(_where(policy, name), path, what)


def _where(policy: type, name: str) -> str:
    method = vars(policy)[name]
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else policy.__module__
