"""The rules of a scheduler, compiled: one step, or all steps where no clock matters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import inlined, record, specialised, types
from moesim.workload.serving import ahead, steps
from moesim.workload.serving.ahead import Past, ahead_with, follows_with, is_same, learn_all
from moesim.workload.serving.base import Rule
from moesim.workload.serving.cycles import never_ends
from moesim.workload.serving.host import HostTimes, turn_with
from moesim.workload.serving.reach import CHOSEN, reach_of
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
_compiled: dict[tuple[Rules, Any, Callable[..., Any]], Any] = {}


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


def compiled(rules: Rules, state: State, knobs: Any) -> Any:
    """What ``decided_with`` makes of ``rules``, for numbers like ``knobs``."""
    given = (_of(state), _of(knobs), types.int64, types.int64)
    return _made(decided_with, types.int64(*given), rules, knobs)


class Ahead(NamedTuple):
    """What ``ahead_with`` and ``follows_with`` make of rules, ``learn_all`` and ``is_same``."""

    decide: Any
    follow: Any
    learn: Any
    is_same: Any


def decides_ahead(rules: Rules, state: State, knobs: Any, times: HostTimes) -> Ahead:
    """What decides steps ahead by ``rules``, compiled."""
    table, flat = types.int64[:, ::1], types.int64[::1]
    past = record(Past, types.int64[:, :, ::1], types.float64[:, :, ::1], table, CHOSEN)
    one, given = _of(state), (_of(state), _of(knobs), flat, _of(times))
    decides = types.int64(*given, past, table, types.int64)
    follows = types.int64(*given, one, table, table, flat)
    learns = types.void(one, past, types.int64, types.int64, table)
    return Ahead(
        _made(_ahead_by, decides, rules, knobs),
        _made(_follows_by, follows, rules, knobs),
        _made(_learns, learns, (), ()),
        _made(_tells_apart, types.boolean(one, one, types.int64), (), ()),
    )


def _made(make: Callable[..., Any], signature: Any, rules: Rules, knobs: Any) -> Any:
    """What ``make`` makes of ``rules``, compiled."""
    key = (rules, _kinds(knobs), make)
    if key not in _compiled:
        for module in (steps.__name__, ahead.__name__, *(rule.__module__ for rule in rules)):
            _registered(module)
        # to count references to arrays takes longer than all else; rules of others may make some
        allocates = not all(rule.__module__.startswith(OURS) for rule in rules)
        _compiled[key] = specialised(make, signature, *rules, allocates=allocates)
    return _compiled[key]


def _play_by(*rules: Rule) -> Callable[[State, Any, int], bool]:
    return played_with(inlined(decided_with(*rules)))


def _ahead_by(*rules: Rule) -> Callable[..., int]:
    return ahead_with(inlined(turn_with(inlined(decided_with(*rules)))), reach_of)


def _follows_by(*rules: Rule) -> Callable[..., int]:
    return follows_with(inlined(turn_with(inlined(decided_with(*rules)))))


def _learns() -> Callable[..., None]:
    def learn(state: Any, past: Any, first: int, number: int, pace: Any) -> None:
        learn_all(state, past, first, number, pace)

    return learn


def _tells_apart() -> Callable[..., bool]:
    def same(state: Any, other: Any, step: int) -> bool:
        return is_same(state, other, step)

    return same


def play(rules: Rules, state: State, knobs: Any, lag: int) -> State:
    """``state`` after all steps by ``rules``, where no clock matters."""
    given = (_of(state), _of(knobs), types.int64)
    one = _made(_play_by, types.boolean(*given), rules, knobs)
    while not one(state, knobs, lag) and not never_ends(state):
        state = with_room(state)
    return state
