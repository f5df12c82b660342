"""How many experts a step of single tokens needs, which says most of how long it takes: compiled,
for who decides steps ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import inlined, njit, record, types
from moesim.runtime.words import ones_of
from moesim.workload.serving.requests.tokens import SOURCES, Sources, rows_of
from moesim.workload.serving.state import BEGIN, COUNT, START, WHO, State


class Chosen(NamedTuple):
    """What each row of the trace chooses, ``masks`` uint64[rows, words] with a bit for every expert
    of every layer, and ``some`` uint64[words], which is filled in; no words: that is not known. The
    ``sources`` of requests' rows, and ``near`` int64[requests], as ``tokens.rows_of`` has them.
    """

    masks: Any
    some: Any
    sources: Any
    near: Any


_INT, _FLAT, _LINE = types.int64, types.int64[::1], types.uint64[::1]
CHOSEN = record(Chosen, types.uint64[:, ::1], _LINE, SOURCES, _FLAT)
NOT_KNOWN = Chosen(
    np.zeros((0, 0), np.uint64),
    np.zeros(0, np.uint64),
    Sources(*(np.zeros(0, np.int64) for _ in Sources._fields)),
    np.zeros(0, np.int64),
)


@njit(types.void(CHOSEN, _INT, _INT), cache=True, _nrt=False)
def _add(chosen: Any, request: int, position: int) -> None:
    """Let ``some`` have what a token of a ``request`` chooses, too."""
    row, _ = rows_of(chosen.sources, chosen.near, request, position, position + 1)
    own, some = chosen.masks[row], chosen.some
    for word in range(len(some)):
        some[word] |= own[word]


@njit(_INT(CHOSEN), cache=True, _nrt=False)
def _take(chosen: Any) -> int:
    """How many experts ``some`` has, which has none then."""
    some, experts = chosen.some, np.int64(0)
    for word in range(len(some)):
        experts += np.int64(ones_of(some[word]))
        some[word] = 0
    return int(experts)


@inlined
def reach_of(state: State, chosen: Chosen, step: int) -> int:
    """How many experts a ``step`` of single tokens needs, 0: that is not known."""
    if len(chosen.some) == 0:
        return 0
    first, last = state.steps[BEGIN, step], state.steps[BEGIN, step + 1]
    for entry in range(first, last):
        if state.log[COUNT, entry] != 1:
            return 0
    for entry in range(first, last):
        _add(chosen, state.log[WHO, entry], state.log[START, entry])
    return int(_take(chosen))
