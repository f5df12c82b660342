"""Activations, waves and copies of a run of passes at once, compiled, where every miss is loaded
and nothing is prefetched: as ``memory.decisions`` gives them or, faster still, by its rules for a
policy that ranks by one number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.kept import KEPT
from moesim.memory.decisions import DECIDE
from moesim.memory.misses.base import NO_LIMIT
from moesim.runtime.compiled import njit, types

USED_AT, LOADED_AT, LOADED_LAST, USES, CONSTANT, NEXT_USED = range(6)
"""What an expert's rank is; the lowest is evicted."""
ACTIVATIONS, HITS, ACCESS_HITS = range(3)
CLOSED = np.iinfo(np.int64).max
"""The rank of what is no candidate of rule (a)."""

_FLAT, _MASK, _TABLE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
_DISTANCES = types.uint16[::1]


@njit(types.int64(types.int64[::1]), cache=True)
def _lowest(ranks: Any) -> int:
    """The first place of the least of ``ranks``, -1 where all are closed."""
    least = CLOSED
    for c in range(len(ranks)):
        least = min(least, ranks[c])
    if least == CLOSED:
        return -1
    place = 0
    while ranks[place] != least:
        place += 1
    return place


@njit(types.int64(types.int64, _FLAT, types.boolean[::1], _FLAT), cache=True)
def _over(activation: int, order: Any, resident: Any, rank: Any) -> int:
    """Rule (b): of the residents whose activation is over the one of the lowest rank, else -1."""
    victim = -1
    for i in range(activation):
        e = order[i]
        if resident[e] and (
            victim < 0 or rank[e] < rank[victim] or (rank[e] == rank[victim] and e < victim)
        ):
            victim = e
    return victim


@njit(
    types.int64(
        types.int64, types.boolean, types.boolean, types.boolean, _FLAT, _FLAT, _FLAT, _FLAT,
        _DISTANCES, types.int64, types.boolean[::1], _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT,
        _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, types.int64[:, :, :, ::1], types.int64,
        types.int64,
    ),
    cache=True,
)  # fmt: skip
def take_activations(
    rank_of: int, serial: bool, resident_first: bool, overlaps: bool,
    offsets: Any, active: Any, rows: Any, next_use: Any, distances: Any,
    slots: int, resident: Any, rank: Any, open_rank: Any, clock: Any,
    step_waves: Any, wave_ones: Any, step_copies: Any, copy_wave: Any, copy_wait: Any,
    odd_at: Any, odd_starts: Any, odd_rows: Any, filled: Any,
    counts: Any, layer: int, gpu: int,
) -> int:  # fmt: skip
    """Every step of one MoE layer on one GPU; returns the waves of the step with most.

    ``rank_of``: what ``rank`` int64[experts] is; ``open_rank`` of residents that the step does not
    need, else CLOSED. ``distances`` uint16[active experts], where they are known: where each active
    expert stands in the stack at the start of its step; it is then resident if that is less than
    ``slots``, which hold what any step needs, and the state is left alone. ``clock`` int64[2]:
    policy time and used slots. ``filled`` int64[4]: waves and copies so far, odd waves and their
    rows. ``wave_ones``: the rows of a wave whose experts have one each, else 0. ``counts`` int64[3,
    passes, layers, gpus].
    """
    experts, known = len(resident), len(distances) > 0
    everything = slots >= experts
    order, own = np.empty(experts, np.int64), np.zeros(experts, np.int64)
    wave_of, use_after = np.empty(experts, np.int64), np.zeros(experts, np.int64)
    now, used = clock[0], clock[1]
    waves, copies, odd, odd_members = filled
    most = 0
    step_waves[0] = step_copies[0] = 0
    for step in range(len(offsets) - 1):
        low = offsets[step]
        n = offsets[step + 1] - low
        hits = access_hits = 0
        for i in range(n):
            e = active[low + i]
            order[i], own[e] = e, rows[low + i]
            if known:
                resident[e] = distances[low + i] < slots
            else:
                open_rank[e] = CLOSED
        residents = n
        if not everything:
            if rank_of == NEXT_USED:
                for i in range(n):
                    use_after[active[low + i]] = next_use[low + i]
            if resident_first:
                residents = 0
                for i in range(n):
                    if resident[active[low + i]]:
                        order[residents] = active[low + i]
                        residents += 1
                rest = residents
                for i in range(n):
                    if not resident[active[low + i]]:
                        order[rest] = active[low + i]
                        rest += 1
        wave = first = together = 0
        crossed = False
        for i in range(n + 1):
            new, hit, wait, e = serial or i == n, True, -1, 0
            if i < n:
                e = order[i]
                if i >= residents and not crossed:
                    crossed = new = True
                hit = everything or resident[e]
                if hit or known:  # if known, rule (a) finds a victim, which nothing waits for
                    pass
                elif used < slots:
                    used += 1
                else:
                    victim = _lowest(open_rank)
                    if victim >= 0:
                        open_rank[victim] = CLOSED
                    else:
                        victim = _over(i, order, resident, rank)
                        if victim >= 0:
                            wait = wave_of[victim]
                            new = new or wait == wave
                        else:
                            j = n - 1  # rule (c)
                            while not resident[order[j]]:
                                j -= 1
                            victim = order[j]
                    resident[victim] = False
            if new and i > first:
                if together == i - first:
                    wave_ones[waves] = together
                else:
                    wave_ones[waves] = 0
                    odd_at[odd], odd_starts[odd] = waves, odd_members
                    odd += 1
                    for j in range(first, i):
                        odd_rows[odd_members] = own[order[j]]
                        odd_members += 1
                waves += 1
                wave += 1
                first, together = i, 0
            if i == n:
                break
            together += own[e]
            wave_of[e] = wave
            if hit:
                hits += 1
                access_hits += own[e]
            else:
                resident[e] = True
                copy_wave[copies] = wave
                copy_wait[copies] = wait if overlaps else max(wait, wave - 1)
                copies += 1
                if rank_of == LOADED_AT:
                    rank[e] = now
                elif rank_of == LOADED_LAST:
                    rank[e] = -now
            if rank_of == USED_AT:
                rank[e] = now
            elif rank_of == USES:
                rank[e] += 1
            elif rank_of == NEXT_USED:
                rank[e] = -use_after[e]
            now += 1
        if not (everything or known):
            for i in range(n):
                if resident[order[i]]:
                    open_rank[order[i]] = rank[order[i]]
        most = max(most, wave)
        step_waves[step + 1], step_copies[step + 1] = waves - filled[0], copies - filled[1]
        counts[ACTIVATIONS, step, layer, gpu] += n
        counts[HITS, step, layer, gpu] += hits
        counts[ACCESS_HITS, step, layer, gpu] += access_hits
    filled[0], filled[1], filled[2], filled[3] = waves, copies, odd, odd_members
    clock[0], clock[1] = now, used
    return int(most)


@njit(
    types.int64(
        types.int64, types.boolean, types.boolean, types.boolean, _FLAT, _FLAT, types.int64,
        _TABLE, _TABLE, _TABLE, _TABLE, types.uint16[:, ::1],
        _FLAT, _FLAT, types.boolean[:, ::1], _TABLE, _TABLE, _TABLE,
        _TABLE, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT, _FLAT,
        _FLAT, _FLAT, _FLAT, _TABLE, types.int64[:, :, :, ::1],
    ),
    cache=True,
)  # fmt: skip
def take_all_activations(
    rank_of: int, serial: bool, resident_first: bool, overlaps: bool, works: Any, kinds: Any,
    gpus: int,
    offsets: Any, active: Any, rows: Any, next_use: Any, distances: Any,
    slots: Any, local: Any, resident: Any, rank: Any, open_rank: Any, clock: Any,
    step_waves: Any, wave_base: Any, wave_ones: Any, step_copies: Any, copy_base: Any,
    copy_wave: Any, copy_wait: Any,
    odd_at: Any, odd_starts: Any, odd_rows: Any, ends: Any, counts: Any,
) -> int:  # fmt: skip
    """``take_activations`` of all ``works`` int64[MoE layers x gpus], equal ``kinds`` of layers
    together; ``ends`` int64[1 + kinds, 4]: where the waves, copies, odd waves and their rows of a
    kind end.
    """
    filled, most = np.zeros(4, np.int64), 0
    by_layer = counts.shape[2] > 1
    for work in works:
        layer, gpu = work // gpus, work % gpus
        number = local[gpu]
        wave_base[work], copy_base[work] = filled[0], filled[1]
        least = take_activations(
            rank_of, serial, resident_first, overlaps,
            offsets[work], active[work], rows[work], next_use[work], distances[work],
            slots[work], resident[work][:number], rank[work][:number], open_rank[work][:number],
            clock[work], step_waves[work], wave_ones, step_copies[work], copy_wave, copy_wait,
            odd_at, odd_starts, odd_rows, filled, counts, layer if by_layer else 0, gpu,
        )  # fmt: skip
        most = max(most, least)
        for i in range(len(filled)):  # numba's check of the shapes of arrays compiles for seconds
            ends[1 + kinds[layer], i] = filled[i]
    return most


@njit(types.void(types.boolean, _FLAT, _FLAT, _FLAT, _MASK, _FLAT, _FLAT), cache=True)
def all_hit(
    serial: bool, offsets: Any, active: Any, expert: Any, hit: Any, wave: Any, wait: Any
) -> None:
    """The activations where every local expert is there."""
    for step in range(len(offsets) - 1):
        for i in range(offsets[step], offsets[step + 1]):
            expert[i], hit[i], wait[i] = active[i], True, -1
            wave[i] = i - offsets[step] if serial else 0


@njit(
    types.int64(
        types.boolean, types.boolean, _FLAT, _FLAT, _FLAT, _FLAT, _MASK, _FLAT, _FLAT, _FLAT,
        _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT,
        types.int64[:, :, :, ::1], types.int64, types.int64,
    ),
    cache=True,
)  # fmt: skip
def lay_out(
    resident_first: bool, overlaps: bool, offsets: Any, active: Any, rows: Any,
    expert: Any, hit: Any, wave: Any, wait: Any, own: Any,
    step_waves: Any, wave_ones: Any, step_copies: Any, copy_wave: Any, copy_wait: Any,
    odd_at: Any, odd_starts: Any, odd_rows: Any, filled: Any,
    counts: Any, layer: int, gpu: int,
) -> int:  # fmt: skip
    """Waves, copies and counts of the activations of one MoE layer on one GPU; returns the waves of
    the step with most.

    ``filled`` int64[4]: waves and copies so far, odd waves and their rows. ``wave_ones``: the rows
    of a wave whose experts have one each, else 0. ``counts`` int64[3, passes, layers, gpus].
    """
    waves, copies, odd, odd_members = filled
    most = 0
    step_waves[0] = step_copies[0] = 0
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        hits = access_hits = 0
        if resident_first:
            for i in range(low, high):
                own[active[i]] = rows[i]
        first, together = low, 0
        for i in range(low, high):
            number = own[expert[i]] if resident_first else rows[i]
            together += number
            hits += hit[i]
            access_hits += number * hit[i]
            copy_wave[copies] = wave[i]  # of a hit it is written over
            copy_wait[copies] = wait[i] if overlaps else max(wait[i], wave[i] - 1)
            copies += not hit[i]
            if i + 1 < high and wave[i + 1] == wave[i]:
                continue
            if together == i + 1 - first:
                wave_ones[waves] = together
            else:
                wave_ones[waves] = 0
                odd_at[odd], odd_starts[odd] = waves, odd_members
                odd += 1
                for j in range(first, i + 1):
                    odd_rows[odd_members] = own[expert[j]] if resident_first else rows[j]
                    odd_members += 1
            waves += 1
            first, together = i + 1, 0
        if high > low:
            most = max(most, wave[high - 1] + 1)
        step_waves[step + 1], step_copies[step + 1] = waves - filled[0], copies - filled[1]
        counts[ACTIVATIONS, step, layer, gpu] += high - low
        counts[HITS, step, layer, gpu] += hits
        counts[ACCESS_HITS, step, layer, gpu] += access_hits
    filled[0], filled[1], filled[2], filled[3] = waves, copies, odd, odd_members
    return int(most)


@njit(
    types.int64(
        types.FunctionType(DECIDE), types.boolean, types.boolean, types.boolean, types.boolean,
        _FLAT, _FLAT, _FLAT, types.int64, _TABLE, _TABLE, _TABLE, _TABLE, _TABLE,
        types.boolean[:, ::1], _TABLE, KEPT,
        _TABLE, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT, _FLAT,
        _FLAT, _FLAT, _FLAT, _TABLE, types.int64[:, :, :, ::1],
    ),
    cache=True,
)  # fmt: skip
def decide_all_activations(
    decide: Any, serial: bool, resident_first: bool, overlaps: bool, empties: bool,
    works: Any, kinds: Any, local: Any, first: int,
    offsets: Any, active: Any, rows: Any, next_use: Any, weights: Any,
    resident: Any, clock: Any, kept: Any,
    step_waves: Any, wave_base: Any, wave_ones: Any, step_copies: Any, copy_base: Any,
    copy_wave: Any, copy_wait: Any,
    odd_at: Any, odd_starts: Any, odd_rows: Any, ends: Any, counts: Any,
) -> int:  # fmt: skip
    """As ``take_all_activations``, in passes from ``first`` on, under the policy whose decisions
    ``decide`` makes, where ``kept`` has a state; elsewhere all experts are there.
    """
    filled, most, gpus, room = np.zeros(4, np.int64), 0, len(local), active.shape[1]
    by_layer = counts.shape[2] > 1
    expert, wave = np.empty(room, np.int64), np.empty(room, np.int64)
    wait, victim, place = np.empty_like(wave), np.empty_like(wave), np.empty_like(wave)
    hit, own = np.empty(room, np.bool_), np.empty(resident.shape[1], np.int64)
    no_prices = np.empty((3, 0), np.int64)
    for work in works:
        layer, gpu = work // gpus, work % gpus
        number = local[gpu]
        wave_base[work], copy_base[work] = filled[0], filled[1]
        begin, end = kept.state_at[work], kept.state_at[work + 1]
        if end > begin:
            clock[work, 0] = decide(
                NO_LIMIT, no_prices, offsets[work], active[work], next_use[work], weights[work],
                kept.draws[kept.draws_at[work] : kept.draws_at[work + 1]], kept.slots[work],
                serial, resident_first, empties, 1, first, clock[work, 0],
                resident[work][:number], kept.state[begin:end].reshape((-1, number)),
                expert, hit, wave, wait, victim, place,
            )  # fmt: skip
        else:
            all_hit(serial, offsets[work], active[work], expert, hit, wave, wait)
        least = lay_out(
            resident_first, overlaps, offsets[work], active[work], rows[work],
            expert, hit, wave, wait, own,
            step_waves[work], wave_ones, step_copies[work], copy_wave, copy_wait,
            odd_at, odd_starts, odd_rows, filled, counts, layer if by_layer else 0, gpu,
        )  # fmt: skip
        most = max(most, least)
        for i in range(len(filled)):  # numba's check of the shapes of arrays compiles for seconds
            ends[1 + kinds[layer], i] = filled[i]
    return most
