"""Slots and victims turn by turn, compiled (docs/semantics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.config.compiled import njit, types
from moesim.memory.misses.base import LOADED, ON_HOST
from moesim.memory.policy import (
    ARRIVING,
    FREQUENCY,
    INSERTED,
    LAST_PASS,
    LAST_USE,
    NEXT_USE,
    PINNED,
    THIS_LAYER,
    THIS_PASS,
)

_STATE = types.int64[:, ::1]
KEY = types.int64(types.int64, _STATE, types.float64, types.int64, types.int64)
BEFORE = types.void(types.int64, types.boolean, types.int64, types.int64, types.int64, _STATE)
AFTER = types.void(types.int64, types.boolean, types.int64, types.int64, _STATE)
PLACE = types.int64(*[types.int64] * 7)


@njit(
    types.int64(
        types.FunctionType(KEY), types.int64[::1], types.int64, types.int64[:, ::1], types.float64
    ),
    cache=True,
)
def _first(key: Any, candidates: Any, count: int, state: Any, draw: float) -> Any:
    """The candidate with the least key; candidates ascend, so the first of equals has the lowest
    id.
    """
    best, least = candidates[0], key(candidates[0], state, draw, 0, count)
    for position in range(1, count):
        value = key(candidates[position], state, draw, position, count)
        if value < least:
            best, least = candidates[position], value
    return best


def first_of(key: Any, candidates: Any, state: Any, draw: float) -> int:
    """Of ``candidates`` int64[n], ascending, the one that ``key`` evicts."""
    return int(_first(key, candidates, len(candidates), state, draw))


@njit(types.int64(types.boolean[::1], types.int64[:, ::1]), cache=True)
def last_pinned(resident: Any, state: Any) -> Any:
    """Rule (d): the pinned expert whose layer comes last; of these the highest id."""
    last = -1
    for e in range(len(resident)):
        if resident[e] and (last < 0 or state[PINNED, e] >= state[PINNED, last]):
            last = e
    return last


@njit(
    types.int64(
        types.FunctionType(KEY), types.FunctionType(BEFORE), types.FunctionType(AFTER),
        types.boolean, types.boolean, types.FunctionType(PLACE), types.int64, types.int64[:, ::1],
        types.int64[::1], types.int64[::1], types.int64[::1], types.int64[::1], types.float64[::1],
        types.int64, types.boolean, types.boolean, types.boolean, types.int64,
        types.int64, types.int64, types.boolean[::1], types.int64[:, ::1],
        types.int64[::1], types.boolean[::1], types.int64[::1], types.int64[::1], types.int64[::1],
        types.int64[::1],
    ),
    cache=True,
)  # fmt: skip
def decide(
    key: Any, before: Any, after: Any, sees_before: bool, sees_after: bool,
    place: Any, most_loads: int, prices: Any,
    offsets: Any, needs: Any, next_use: Any, weights: Any, draws: Any,
    slots: int, serial: bool, resident_first: bool, empties: bool, layers: int,
    first_step: int, now: int, resident: Any, state: Any,
    expert_out: Any, hit_out: Any, wave_out: Any, wait_out: Any, victim_out: Any, place_out: Any,
) -> int:  # fmt: skip
    """Slots and victims for every step of a pool; returns the policy time after its last turn.

    Steps are those of ``layers`` layers in turn, from ``first_step`` on. ``prices`` int64[3, needs]
    of copy, kernel and host where ``place`` reads them, else int64[3, 0].
    """
    experts = len(resident)
    needed, done = np.zeros(experts, np.bool_), np.zeros(experts, np.bool_)
    wave_of, use_after = np.zeros(experts, np.int64), np.zeros(experts, np.int64)
    weight_of, need_of = np.zeros(experts, np.int64), np.zeros(experts, np.int64)
    order, candidates = np.empty(experts, np.int64), np.empty(experts, np.int64)
    used = 0
    for e in range(experts):
        used += resident[e]
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        n, residents = high - low, 0
        this_pass, layer = (first_step + step) // layers, (first_step + step) % layers
        state[THIS_PASS, 0], state[THIS_LAYER, 0] = this_pass, layer
        if empties:
            resident[:] = False
            used = 0
        for i in range(low, high):
            needed[needs[i]] = True
            need_of[needs[i]] = i
            if len(next_use) > 0:
                use_after[needs[i]] = next_use[i]
            if len(weights) > 0:
                weight_of[needs[i]] = weights[i]
        for i in range(low, high):
            there = resident[needs[i]] and state[ARRIVING, needs[i]] == 0
            if there or not resident_first:
                order[residents] = needs[i]
                residents += 1
        rest = residents
        if resident_first:
            for i in range(low, high):
                if not resident[needs[i]] or state[ARRIVING, needs[i]] != 0:
                    order[rest] = needs[i]
                    rest += 1
        wave = members = loads = copied = hosted = 0
        crossed = False
        for i in range(n):
            e = order[i]
            hit, victim, wait, where = resident[e], -1, -1, LOADED
            copy_ns = kernel_ns = host_ns = 0
            if not hit:
                if prices.shape[1] > 0:
                    copy_ns, kernel_ns, host_ns = prices[:, need_of[e]]
                where = place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads)
            if where != ON_HOST:
                new = serial
                if resident_first and i >= residents and not crossed:
                    crossed = new = True
                if new and members > 0:
                    wave += 1
                    members = 0
            draw = draws[now] if len(draws) > 0 else 0.0
            if sees_before and where == LOADED:
                before(e, hit, this_pass, layer, weight_of[e], state)
            if not hit and where == LOADED:
                loads += 1
                copied += copy_ns
                if used < slots:
                    used += 1
                else:
                    count = 0
                    for c in range(experts):  # rule (a): residents not needed in this step
                        if resident[c] and not needed[c] and state[PINNED, c] == 0:
                            candidates[count] = c
                            count += 1
                    if count > 0:
                        victim = _first(key, candidates, count, state, draw)
                    else:
                        for c in range(experts):  # rule (b): those whose turn is over
                            if resident[c] and done[c]:
                                candidates[count] = c
                                count += 1
                        if count > 0:
                            victim = _first(key, candidates, count, state, draw)
                            wait = wave_of[victim]
                            if wait == wave:
                                wave += 1
                                members = 0
                        else:
                            j = n - 1  # rule (c): the one that comes last
                            while j >= 0 and not resident[order[j]]:
                                j -= 1
                            victim = order[j] if j >= 0 else last_pinned(resident, state)
                    resident[victim] = False
                    state[PINNED, victim] = state[ARRIVING, victim] = 0
                resident[e] = True
                state[INSERTED, e] = now
            state[LAST_USE, e], state[LAST_PASS, e] = now, this_pass
            state[FREQUENCY, e] += 1
            state[NEXT_USE, e] = use_after[e]
            if sees_after and where == LOADED:
                after(e, hit, victim, now, state)
            now += 1
            done[e] = True
            if where == ON_HOST:
                hosted += host_ns
            else:
                members += 1
            wave_of[e] = wave
            expert_out[low + i], hit_out[low + i] = e, hit
            wave_out[low + i] = -1 if where == ON_HOST else wave
            wait_out[low + i], victim_out[low + i], place_out[low + i] = wait, victim, where
        for i in range(low, high):
            needed[needs[i]] = done[needs[i]] = False
    return now
