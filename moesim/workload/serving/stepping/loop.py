"""The rules of a scheduler, compiled: one step, or all steps where no clock matters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import code_of, first_of, inlined, record, specialised, types
from moesim.workload.serving.base import Rule
from moesim.workload.serving.state import State, with_room
from moesim.workload.serving.stepping import ahead, steps
from moesim.workload.serving.stepping.ahead import Past, ahead_with, follow, is_same, learn_all
from moesim.workload.serving.stepping.cycles import never_ends
from moesim.workload.serving.stepping.host import HostTimes, turn
from moesim.workload.serving.stepping.reach import CHOSEN, reach_of
from moesim.workload.serving.stepping.steps import Both, By, Fill, filled_with, play_all

OURS = __package__.rpartition(".")[0] + "."


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
_compiled: dict[tuple[Rules, tuple[Any, ...], Callable[..., Any]], Any] = {}


def _of(numbers: NamedTuple) -> Any:
    """The type of a named tuple of arrays, of whole numbers, or of such tuples."""
    return record(type(numbers), *map(_of_member, numbers))


def _of_member(one: Any) -> Any:
    if isinstance(one, tuple):
        return _of(one)  # type: ignore[arg-type]
    if isinstance(one, np.ndarray):
        return types.Array(getattr(types, one.dtype.name), one.ndim, "C")
    return types.int64


def _numbers_in(knobs: Any) -> list[int]:
    """All numbers of knobs, one behind the other."""
    nested = [_numbers_in(one) if isinstance(one, tuple) else [int(one)] for one in knobs]
    return [one for part in nested for one in part]


def compiled(rules: Rules, state: State, knobs: Any) -> By:
    """What fills a step by ``rules``, compiled, and ``knobs`` as it takes them: one array, whatever
    they are, so that nothing but this is compiled for each scheduler.
    """
    kinds = tuple((type(one), len(one)) for one in (knobs if isinstance(knobs, Both) else [knobs]))
    fill = _made(_fill_by, _fills(state), rules, (kinds,))
    return By(fill, np.array(_numbers_in(knobs), np.int64))


def _fills(state: State) -> Any:
    return types.void(_of(state), types.int64[::1])


def _by(state: State) -> Any:
    """The type of what ``compiled`` gives: a function as a value, which may raise."""
    function: Any = types.FunctionType
    return record(By, function(_fills(state)), types.int64[::1])


class Ahead(NamedTuple):
    """What ``ahead_with`` makes, ``follow``, ``learn_all`` and ``is_same``, compiled."""

    decide: Any
    follow: Any
    learn: Any
    is_same: Any


def decides_ahead(state: State, times: HostTimes) -> Ahead:
    """What decides steps ahead, compiled."""
    table, flat, one = types.int64[:, ::1], types.int64[::1], _of(state)
    past = record(Past, types.int64[:, :, ::1], types.float64[:, :, ::1], table, CHOSEN)
    given = (one, _by(state), flat, _of(times))
    learns = types.void(one, past, types.int64, types.int64, table)
    return Ahead(
        _code(_ahead, types.int64(*given, past, table, types.int64)),
        _code(_follows, types.int64(*given, one, table, table, flat)),
        _code(_learns, learns),
        _code(_tells_apart, types.boolean(one, one, types.int64)),
    )


def turns(state: State, times: HostTimes) -> Any:
    """``host.turn``, compiled."""
    return _code(_turns, types.int64(_of(state), _by(state), types.int64[::1], _of(times)))


def taking(make: Callable[..., Any], gives: Any, state: State, *more: Any) -> Any:
    """What ``make`` makes, for every scheduler, compiled: it takes a state, what fills a step of it
    (``compiled``) and ``more``, given by their types.
    """
    return _code(make, gives(_of(state), _by(state), *more))


def _code(make: Callable[..., Any], signature: Any) -> Any:
    """What ``make`` makes, for every scheduler, compiled."""
    return code_of(_made(make, signature, (), ()))


def _made(
    make: Callable[..., Any], signature: Any, rules: Rules, constants: tuple[Any, ...]
) -> Any:
    """What ``make`` makes of ``rules`` and ``constants``, compiled."""
    key = (rules, constants, make)
    if key not in _compiled:
        for module in (steps.__name__, ahead.__name__, *(rule.__module__ for rule in rules)):
            _registered(module)
        # to count references to arrays takes longer than all else; rules of others may make some
        allocates = not all(rule.__module__.startswith(OURS) for rule in rules)
        _compiled[key] = specialised(
            make, signature, *rules, constants=constants, allocates=allocates
        )
    return _compiled[key]


def _fill_by(*given: Any) -> Fill:
    """What fills a step by some rules, whose knobs, last, are of these kinds, and so many."""
    fill, knobs_of = inlined(filled_with(*given[:-1])), inlined(_knobs_with(*given[-1]))

    def fill_by(state: Any, numbers: Any) -> None:
        fill(state, knobs_of(numbers))

    return fill_by


def _knobs_with(*kinds: tuple[Any, int]) -> Callable[..., Any]:
    """What makes knobs of their numbers, as ``_numbers_in`` has them."""
    (rule, first), (split, more) = (*kinds, (None, 0))[:2]

    def of_rule(numbers: Any) -> Any:
        return rule(*first_of(numbers, first))

    if split is None:
        return of_rule
    knobs_of_rule = inlined(of_rule)

    def of_both(numbers: Any) -> Any:
        return Both(knobs_of_rule(numbers), split(*first_of(numbers[first:], more)))

    return of_both


def _turns() -> Callable[..., int]:
    def turns(state: Any, by: Any, host: Any, times: Any) -> int:
        return turn(state, by, host, times)

    return turns


def _ahead() -> Callable[..., int]:
    return ahead_with(reach_of)


def _follows() -> Callable[..., int]:
    def follows(
        state: Any, by: Any, host: Any, times: Any, other: Any, pace: Any, told: Any, span: Any
    ) -> int:
        return follow(state, by, host, times, other, pace, told, span)

    return follows


def _learns() -> Callable[..., None]:
    def learn(state: Any, past: Any, first: int, number: int, pace: Any) -> None:
        learn_all(state, past, first, number, pace)

    return learn


def _tells_apart() -> Callable[..., bool]:
    def same(state: Any, other: Any, step: int) -> bool:
        return is_same(state, other, step)

    return same


def _plays() -> Callable[..., bool]:
    def play(state: Any, by: Any, lag: int) -> bool:
        return play_all(state, by, lag)

    return play


def play(rules: Rules, state: State, knobs: Any, lag: int) -> State:
    """``state`` after all steps by ``rules``, where no clock matters."""
    by, one = compiled(rules, state, knobs), taking(_plays, types.boolean, state, types.int64)
    while not one(state, by, lag) and not never_ends(state):
        state = with_room(state)
    return state
