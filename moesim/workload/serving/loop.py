"""The rules of a scheduler, compiled: one step, or all steps where no clock matters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import inlined, record, specialised, types
from moesim.workload.serving import steps
from moesim.workload.serving.base import Rule
from moesim.workload.serving.state import State, with_room
from moesim.workload.serving.steps import decided_with, played_with

OURS = __package__ + "."


@cache
def _registered(module: str) -> None:
    """The functions of ``module``, and those of ours that it takes, are built in where compiled
    code calls them.
    """
    names = sys.modules[module]
    for function in [one for one in vars(names).values() if isinstance(one, FunctionType)]:
        if function.__module__ == module:
            inlined(function)
        elif function.__module__.startswith(OURS):
            _registered(function.__module__)


Rules = tuple[Rule, ...]
"""A scheduler's, and, where a split moves something, its two."""
_compiled: dict[tuple[Rules, Any, bool], Any] = {}


def _of(numbers: NamedTuple) -> Any:
    """The type of a named tuple of arrays, of whole numbers, or of such tuples."""
    return record(type(numbers), *map(_of_member, numbers))


def _of_member(one: Any) -> Any:
    if isinstance(one, tuple):
        return _of(one)  # type: ignore[arg-type]
    return types.Array(types.int64, one.ndim, "C") if isinstance(one, np.ndarray) else types.int64


def _kinds(knobs: Any) -> tuple[type, ...]:
    """What tells the types of knobs apart."""
    return (type(knobs), *(type(one) for one in knobs if isinstance(one, tuple)))


def compiled(rules: Rules, state: State, knobs: Any, *, plays: bool) -> Any:
    """What ``decided_with`` (or, if it ``plays``, ``played_with``) makes of ``rules``, for numbers
    like ``knobs``.
    """
    key = (rules, _kinds(knobs), plays)
    if key not in _compiled:
        for module in (steps.__name__, *(rule.__module__ for rule in rules)):
            _registered(module)
        given = (_of(state), _of(knobs), types.int64)
        # to count references to arrays takes longer than all else; rules of others may make some
        allocates = not all(rule.__module__.startswith(OURS) for rule in rules)
        if plays:
            made = specialised(_play_by, types.boolean(*given), *rules, allocates=allocates)
        else:
            decides = types.int64(*given, types.int64)
            made = specialised(decided_with, decides, *rules, allocates=allocates)
        _compiled[key] = made
    return _compiled[key]


def _play_by(*rules: Rule) -> Callable[[State, Any, int], bool]:
    return played_with(inlined(decided_with(*rules)))


def play(rules: Rules, state: State, knobs: Any, lag: int) -> State:
    """``state`` after all steps by ``rules``, where no clock matters."""
    one = compiled(rules, state, knobs, plays=True)
    while not one(state, knobs, lag):
        state = with_room(state)
    return state
