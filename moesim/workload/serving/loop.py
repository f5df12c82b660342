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


_compiled: dict[tuple[Rule, Any, bool], Any] = {}


def _of(numbers: NamedTuple) -> Any:
    """The type of a named tuple of arrays, or of whole numbers."""
    members = [
        types.Array(types.int64, one.ndim, "C") if isinstance(one, np.ndarray) else types.int64
        for one in numbers
    ]
    return record(type(numbers), *members)


def compiled(rule: Rule, state: State, knobs: Any, *, plays: bool) -> Any:
    """What ``decided_with`` (or, if it ``plays``, ``played_with``) makes of ``rule``, for numbers
    like ``knobs``.
    """
    key = (rule, type(knobs), plays)
    if key not in _compiled:
        for module in (steps.__name__, rule.__module__):
            _registered(module)
        given = (_of(state), _of(knobs), types.int64)
        if plays:
            made = specialised(_play_by, types.boolean(*given), rule)
        else:
            made = specialised(decided_with, types.int64(*given, types.int64), rule)
        _compiled[key] = made
    return _compiled[key]


def _play_by(rule: Rule) -> Callable[[State, Any, int], bool]:
    return played_with(inlined(decided_with(rule)))


def play(rule: Rule, state: State, knobs: Any, lag: int) -> State:
    """``state`` after all steps by ``rule``, where no clock matters."""
    one = compiled(rule, state, knobs, plays=True)
    while not one(state, knobs, lag):
        state = with_room(state)
    return state
