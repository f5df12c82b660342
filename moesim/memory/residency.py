"""Which experts are resident, turn by turn, and in which waves they run, without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from moesim.memory.policy import (
    FREQUENCY,
    INSERTED,
    LAST_USE,
    NEVER,
    NEXT_USE,
    ROWS,
    CachePolicy,
)

Ints = NDArray[np.int64]
KEY = types.int64(types.int64, types.int64[:, ::1], types.float64, types.int64, types.int64)
_STEP = 1 << 20
"""A next use is step * _STEP + turn."""


@dataclass(frozen=True, eq=False)
class Needs:
    """What a layer needs on one GPU: step s needs ``experts[offsets[s]:offsets[s + 1]]``,
    ascending.
    """

    offsets: Ints
    experts: Ints


@dataclass(frozen=True, eq=False)
class Turns:
    """The turns of a layer on one GPU, in execution order, aligned with ``Needs.experts`` by step.

    ``expert`` int64; ``hit`` bool; ``wave`` int64 within the step; ``wait`` int64: the wave of the
    victim for which a copy waits, else -1; ``victim`` int64, -1 where none.
    """

    expert: Ints
    hit: NDArray[np.bool_]
    wave: Ints
    wait: Ints
    victim: Ints


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


@njit(
    types.int64(
        types.FunctionType(KEY), types.int64[::1], types.int64[::1], types.int64[::1],
        types.float64[::1],
        types.int64, types.boolean, types.boolean, types.int64, types.boolean[::1],
        types.int64[:, ::1],
        types.int64[::1], types.boolean[::1], types.int64[::1], types.int64[::1], types.int64[::1],
    ),
    cache=True,
)  # fmt: skip
def _decide(
    key: Any, offsets: Any, needs: Any, next_use: Any, draws: Any, slots: int, serial: bool,
    resident_first: bool, now: int, resident: Any, state: Any,
    expert_out: Any, hit_out: Any, wave_out: Any, wait_out: Any, victim_out: Any,
) -> int:  # fmt: skip
    """Slots and victims for every step of a layer; returns the policy time after its last turn."""
    experts = len(resident)
    needed, done = np.zeros(experts, np.bool_), np.zeros(experts, np.bool_)
    wave_of, use_after = np.zeros(experts, np.int64), np.zeros(experts, np.int64)
    order, candidates = np.empty(experts, np.int64), np.empty(experts, np.int64)
    used = 0
    for e in range(experts):
        used += resident[e]
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        n, residents = high - low, 0
        for i in range(low, high):
            needed[needs[i]] = True
            if len(next_use) > 0:
                use_after[needs[i]] = next_use[i]
        for i in range(low, high):
            if resident[needs[i]] or not resident_first:
                order[residents] = needs[i]
                residents += 1
        rest = residents
        if resident_first:
            for i in range(low, high):
                if not resident[needs[i]]:
                    order[rest] = needs[i]
                    rest += 1
        wave = 0
        for i in range(n):
            e = order[i]
            if i > 0 and (serial or (resident_first and i == residents)):
                wave += 1
            hit, victim, wait = resident[e], -1, -1
            draw = draws[now] if len(draws) > 0 else 0.0
            if not hit:
                if used < slots:
                    used += 1
                else:
                    count = 0
                    for c in range(experts):  # rule (a): residents not needed in this step
                        if resident[c] and not needed[c]:
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
                        else:
                            j = n - 1  # rule (c): the one that comes last
                            while not resident[order[j]]:
                                j -= 1
                            victim = order[j]
                    resident[victim] = False
                resident[e] = True
                state[INSERTED, e] = now
            state[LAST_USE, e] = now
            state[FREQUENCY, e] += 1
            state[NEXT_USE, e] = use_after[e]
            now += 1
            done[e] = True
            wave_of[e] = wave
            expert_out[low + i], hit_out[low + i], wave_out[low + i] = e, hit, wave
            wait_out[low + i], victim_out[low + i] = wait, victim
        for i in range(low, high):
            needed[needs[i]] = done[needs[i]] = False
    return now


@lru_cache
def compiled(policy: type[CachePolicy]) -> Any:
    """The key of ``policy`` compiled; kept on disk for the next process."""
    return njit(KEY, cache=True)(policy.key)  # type: ignore[attr-defined]


@njit("Tuple((int64[::1], int64[::1]))(int64[::1], int64[::1], int64)", cache=True)
def _next_uses(offsets: Any, experts: Any, count: int) -> Any:
    after, following = np.empty(len(experts), np.int64), np.full(count, NEVER, np.int64)
    for step in range(len(offsets) - 2, -1, -1):
        for i in range(offsets[step], offsets[step + 1]):
            after[i] = following[experts[i]]
        for i in range(offsets[step], offsets[step + 1]):
            following[experts[i]] = step * _STEP + i - offsets[step]
    return after, following


def next_uses(needs: Needs, experts: int) -> tuple[Ints, Ints]:
    """For each need the (step, turn) of the next one of its expert, as one number; and the first
    uses.
    """
    after, first = _next_uses(needs.offsets, needs.experts, experts)
    return after, first


class LayerCache:
    """The residency of one MoE layer on one GPU: state without a clock.

    ``usage`` int64[experts] is what USAGE holds; ``draws`` float64[turns] of the run (empty where
    the policy draws nothing); ``resident`` are preloaded experts; ``first_use`` int64[experts] for
    policies that look ahead. Experts are numbered within the GPU, ascending.
    """

    def __init__(
        self,
        policy: CachePolicy,
        slots: int,
        usage: Ints,
        *,
        serial: bool,
        resident_first: bool,
        draws: NDArray[np.float64] | None = None,
        resident: Ints | None = None,
        first_use: Ints | None = None,
    ) -> None:
        self._key = compiled(type(policy))
        self._slots, self._serial, self._resident_first = slots, serial, resident_first
        self._draws = np.empty(0) if draws is None else draws
        self._now = 0
        self.resident = np.zeros(len(usage), np.bool_)
        self.state = np.zeros((ROWS, len(usage)), np.int64)
        self.state[[LAST_USE, INSERTED]] = -1
        self.state[-1] = usage
        self.state[NEXT_USE] = NEVER if first_use is None else first_use
        if resident is not None:
            self.resident[resident] = True

    def decide(self, needs: Needs, next_use: Ints | None = None) -> Turns:
        """The turns of the coming steps; ``next_use`` is aligned with ``needs.experts``."""
        n = len(needs.experts)
        turns = Turns(
            np.empty(n, np.int64), np.empty(n, np.bool_), *(np.empty(n, np.int64) for _ in range(3))
        )
        self._now = _decide(
            self._key, needs.offsets, needs.experts,
            np.empty(0, np.int64) if next_use is None else next_use,
            self._draws, self._slots, self._serial, self._resident_first, self._now, self.resident,
            self.state, turns.expert, turns.hit, turns.wave, turns.wait, turns.victim,
        )  # fmt: skip
        return turns


def all_resident(needs: Needs, *, serial: bool) -> Turns:
    """The turns where every local expert is resident from the start: hits in one wave (or each its
    own).
    """
    n = len(needs.experts)
    step_start = np.repeat(needs.offsets[:-1], np.diff(needs.offsets))
    wave = np.arange(n) - step_start if serial else np.zeros(n, np.int64)
    none = np.full(n, -1, np.int64)
    return Turns(needs.experts, np.ones(n, np.bool_), wave, none, none)
