"""Slots and victims one activation after another, compiled for each policy and way to handle misses
(docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from moesim.memory.forms import IN_SLOT, Form, flags_of
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
from moesim.runtime.compiled import inlined, njit, types

CLOSED = np.iinfo(np.int64).max
"""What no candidate is ranked above."""
_FLAT, _MASK, _STATE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
FIRST = types.int64(_MASK, _STATE, types.float64)
"""The signature of what ``first_with`` makes."""
DECIDE = types.int64(
    types.int64, types.int64[:, ::1],
    _FLAT, _FLAT, _FLAT, _FLAT, types.float64[::1],
    types.int64, types.boolean, types.boolean, types.boolean, types.int64,
    types.int64, types.int64, _MASK, _STATE,
    _FLAT, _MASK, _FLAT, _FLAT, _FLAT, _FLAT,
)  # fmt: skip
"""The signature of what ``decide_with`` makes."""


@inlined
def _first(key: Any, candidates: Any, state: Any, draw: float, keys: Any) -> int:
    """The one of ``candidates`` bool[experts] with the least key, of equals the lowest id; -1 where
    there is none. ``keys`` int64[experts] is room.

    Done in vectors: what ``key`` does not read of count and position is not worked out.
    """
    count, position, least = 0, 0, CLOSED
    for c in range(len(candidates)):
        count += candidates[c]
    for c in range(len(candidates)):
        value = CLOSED
        if candidates[c]:
            value = int(key(c, state, draw, position, count))
            position += 1
        keys[c] = value
        least = min(least, value)
    if least == CLOSED:  # no candidate, but for keys as high as that
        for c in range(len(candidates)):
            if candidates[c]:
                return c
        return -1
    place = 0
    while keys[place] != least:
        place += 1
    return place


def first_with(key: Any) -> Callable[..., int]:
    """Which of some candidates goes, by ``key``."""

    def first(candidates: Any, state: Any, draw: float) -> int:
        """The one of ``candidates`` bool[experts] with the least key, of equals the lowest id; -1
        where there is none.
        """
        keys = np.empty(len(candidates), np.int64)
        return int(_first(key, candidates, state, draw, keys))

    return first


@njit(types.int64(types.boolean[::1], types.int64[:, ::1]), cache=True)
def last_pinned(resident: Any, state: Any) -> Any:
    """Rule (d): the pinned expert whose layer comes last; of these the highest id."""
    last = -1
    for e in range(len(resident)):
        if resident[e] and (last < 0 or state[PINNED, e] >= state[PINNED, last]):
            last = e
    return last


def decide_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form]
) -> Callable[..., int]:
    """The decisions of a policy with these functions where ``place`` says which of ``forms`` a miss
    has.
    """
    on_gpu, on_host, _, in_slot, _ = flags_of(forms)

    def decide(
        most_loads: int, prices: Any,
        offsets: Any, active: Any, next_use: Any, weights: Any, draws: Any,
        slots: int, serial: bool, resident_first: bool, empties: bool, layers: int,
        first_step: int, now: int, resident: Any, state: Any,
        expert_out: Any, hit_out: Any, wave_out: Any, wait_out: Any, victim_out: Any,
        form_out: Any,
    ) -> int:  # fmt: skip
        """Slots and victims for every step of a pool; returns the policy time after its last
        activation.

        Steps are those of ``layers`` layers in turn, from ``first_step`` on. ``prices`` int64[3,
        active experts] of copy, kernel and host where ``place`` reads them, else int64[3, 0].
        """
        experts = len(resident)
        # residents that this step does not need, and those whose activation in it is over
        idle, over = np.empty(experts, np.bool_), np.zeros(experts, np.bool_)
        wave_of, index_of = np.zeros(experts, np.int64), np.zeros(experts, np.int64)
        order, keys = np.empty(experts, np.int64), np.empty(experts, np.int64)
        used, this_pass, layer = 0, (first_step - 1) // layers, (first_step - 1) % layers
        for e in range(experts):
            used += resident[e]
            idle[e] = resident[e] and state[PINNED, e] == 0
        for step in range(len(offsets) - 1):
            low, high = offsets[step], offsets[step + 1]
            n, residents = high - low, 0
            layer += 1
            if layer == layers:
                this_pass, layer = this_pass + 1, 0
            state[THIS_PASS, 0], state[THIS_LAYER, 0] = this_pass, layer
            if empties:
                resident[:] = idle[:] = False
                used = 0
            for i in range(low, high):
                e = active[i]
                idle[e], index_of[e] = False, i
                there = resident[e] and state[ARRIVING, e] == 0
                if there or not resident_first:
                    order[residents] = e
                    residents += 1
            rest = residents
            if resident_first:
                for i in range(low, high):
                    if not resident[active[i]] or state[ARRIVING, active[i]] != 0:
                        order[rest] = active[i]
                        rest += 1
            wave = members = loads = copied = hosted = 0
            crossed = False
            for i in range(n):
                e = order[i]
                hit, victim, wait, form = resident[e], -1, -1, IN_SLOT
                copy_ns = kernel_ns = host_ns = 0
                if not hit:
                    if prices.shape[1] > 0:
                        copy_ns, kernel_ns, host_ns = prices[:, index_of[e]]
                    form = place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads)
                if on_gpu[form]:
                    new = serial
                    if resident_first and i >= residents and not crossed:
                        crossed = new = True
                    if new and members > 0:
                        wave += 1
                        members = 0
                if in_slot[form]:
                    weight = weights[index_of[e]] if len(weights) > 0 else 0
                    before_activation(e, hit, this_pass, layer, weight, state)
                if not hit and in_slot[form]:
                    loads += 1
                    copied += copy_ns
                    if used < slots:
                        used += 1
                    else:
                        draw = draws[now] if len(draws) > 0 else 0.0
                        victim = _first(key, idle, state, draw, keys)  # rule (a)
                        if victim < 0:
                            victim = _first(key, over, state, draw, keys)  # rule (b)
                            if victim >= 0:
                                wait = wave_of[victim]
                                if wait == wave:
                                    wave += 1
                                    members = 0
                            else:
                                j = n - 1  # rule (c): the one that comes last
                                while j >= 0 and not resident[order[j]]:
                                    j -= 1
                                victim = order[j] if j >= 0 else last_pinned(resident, state)
                        resident[victim] = idle[victim] = over[victim] = False
                        state[PINNED, victim] = state[ARRIVING, victim] = 0
                    resident[e] = True
                    state[INSERTED, e] = now
                state[LAST_USE, e], state[LAST_PASS, e] = now, this_pass
                state[FREQUENCY, e] += 1
                if len(next_use) > 0:
                    state[NEXT_USE, e] = next_use[index_of[e]]
                if in_slot[form]:
                    after_activation(e, hit, victim, now, state)
                now += 1
                over[e] = resident[e]
                if on_gpu[form]:
                    members += 1
                elif on_host[form]:
                    hosted += host_ns
                wave_of[e] = wave
                expert_out[low + i], hit_out[low + i] = e, hit
                wave_out[low + i] = wave if on_gpu[form] else -1
                wait_out[low + i], victim_out[low + i], form_out[low + i] = wait, victim, form
            for i in range(n):
                e = order[i]
                over[e] = False
                idle[e] = resident[e] and state[PINNED, e] == 0
        return now

    return decide
