"""Slots and victims of steps whose experts all find room and have a row each, every miss of which
is loaded: as ``steps`` has them, with nothing told of each activation; compiled for each
policy. Who is there and who is needed are bits of words, so that only those are looked at that may
go.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.policy import INSERTED, NEVER, NEXT_USE, THIS_LAYER, THIS_PASS, CachePolicy
from moesim.memory.policy_reads import Reads, keys_stay, reads_of
from moesim.memory.slots.counting import COUNTED, count_with, counts_in
from moesim.memory.slots.decisions import CLOSED
from moesim.memory.slots.residency import STEP, made_of
from moesim.runtime.compiled import built_in, record, types, whole_number
from moesim.runtime.words import ones_of

WORD = 64
LATER = np.iinfo(np.int32).max
"""The step of a choice that does not come again."""
_NONE, _ONE, _WORD = np.uint64(0), np.uint64(1), np.uint64(WORD)


class RowPools(NamedTuple):
    """The slots of each MoE layer: how many, ``slots`` int64[layers], 0 where all experts are
    resident; who is ``there`` uint64[layers, words]; the policy's ``state`` int64[layers, rows,
    experts], its time ``now`` int64[layers], and ``draws`` float64[layers, activations], or empty.
    Gate ``weights`` as the trace has them, uint16[rows, layers, k], and ``units`` int64[65536] what
    each is, or empty; or when choices come again, ``after`` int32[passes x layers x k], LATER if
    never. Of a step: who is ``needed`` uint64[words], and of each int64[experts] what it
    ``weighs``, its next use, ``coming``, and of the ``victims`` the one that goes for it.
    """

    slots: Any
    there: Any
    state: Any
    now: Any
    draws: Any
    weights: Any
    units: Any
    after: Any
    needed: Any
    weighs: Any
    coming: Any
    victims: Any


_FLAT, _IDS = types.int64[::1], types.Array(types.uint16, 3, "C", readonly=True)
ROW_POOLS = record(
    RowPools, _FLAT, types.uint64[:, ::1], types.int64[:, :, ::1], _FLAT, types.float64[:, ::1],
    _IDS, _FLAT, types.int32[::1], types.uint64[::1], *[_FLAT] * 3,
)  # fmt: skip
SWEEP_ROWS = types.void(
    _IDS, _FLAT, types.uint16[:, ::1], types.int64, ROW_POOLS, types.uint16[:, ::1]
)
"""The signature of what ``sweep_rows_with`` makes."""


@built_in
def _ones(bits: Any) -> Any:
    return np.int64(ones_of(bits))


@built_in
def _lowest(bits: Any) -> Any:
    return _ones(~bits & (bits - _ONE))


def evict_with(key: Any, words: int) -> Callable[..., int]:
    """What evicts one of the experts in so many ``words``, by ``key``."""

    def evict(pools: Any, layer: int, state: Any, now: int) -> int:
        """The one of those that are there and not needed that goes, as ``decisions.first_by`` has
        it.
        """
        there, needed = pools.there[layer], pools.needed
        draw = pools.draws[layer, now] if pools.draws.shape[1] > 0 else 0.0
        count = position = 0
        least, victim = CLOSED, -1
        for word in range(words - 1, -1, -1):
            bits = there[word] & ~needed[word]
            count += _ones(bits)
            victim = WORD * word + _lowest(bits) if bits != _NONE else victim
        for word in range(words):
            bits = there[word] & ~needed[word]
            while bits != _NONE:
                expert = WORD * word + _lowest(bits)
                bits &= bits - _ONE
                value = whole_number(key(expert, state, draw, position, count))
                position += 1
                less = value < least
                least, victim = value if less else least, expert if less else victim
        place = np.uint64(victim)
        there[place // _WORD] ^= _ONE << (place % _WORD)
        return victim

    return evict


@built_in
def _need(ids: Any, row: int, home: Any, layer: int, pools: Any, at: int, sizes: Any) -> None:
    """Note who a row needs in a layer, what that weighs, and when it comes again; which is from
    ``at`` on. ``sizes``: words, and room for a row's choices, so that the loop over these is none.
    """
    (words, room), top_k = sizes, ids.shape[2]
    needed, units, after, bits = pools.needed, pools.units, pools.after, _NONE
    for word in range(words):
        needed[word] = _NONE
    for i in range(room):
        if i < top_k:
            expert = np.uint64(home[layer, ids[row, layer, i]])
            bit = _ONE << (expert % _WORD)
            bits |= bit
            if words > 1:
                needed[expert // _WORD] |= bit
            if len(units) > 0:
                pools.weighs[expert] = units[pools.weights[row, layer, i]]
            if len(after) > 0:
                step = np.int64(after[at + i])
                pools.coming[expert] = NEVER if step == LATER else step * STEP + np.int64(expert)
    if words == 1:  # which did not wait for itself
        needed[0] = bits


def load_with(key: Any, reads: Reads, words: int) -> Callable[..., int]:
    """What loads all that a step misses, where ``keys_stay``: who goes does not wait for who comes
    before it.
    """
    counts_load = counts_in(reads, INSERTED)
    evict = built_in(evict_with(key, words))

    def load(pools: Any, layer: int, free: int) -> int:
        """How many a layer misses, of which so many have ``free`` slots; note who goes for each."""
        there, needed, state = pools.there[layer], pools.needed, pools.state[layer]
        now, misses = pools.now[layer], 0
        for word in range(words):
            bits = needed[word] & ~there[word]
            while bits != _NONE:
                lowest, expert = bits & (~bits + _ONE), WORD * word + _lowest(bits)
                bits &= bits - _ONE
                pools.victims[expert] = evict(pools, layer, state, now) if misses >= free else -1
                misses += 1
                if counts_load:
                    state[INSERTED, expert] = now + _ones(needed[word] & (lowest - _ONE))
            now += _ones(needed[word])
        return misses

    return load


def row_step_with(
    key: Any, before_activation: Any, after_activation: Any, reads: Reads, at_once: bool,
    words: int,
) -> Callable[..., int]:  # fmt: skip
    """What decides a step of a policy with these functions, which read what ``reads`` says;
    ``at_once``: all that is missed is loaded first.
    """
    counts_load, counts_next = counts_in(reads, INSERTED), counts_in(reads, NEXT_USE)
    count = built_in(count_with(reads))
    evict, load = built_in(evict_with(key, words)), built_in(load_with(key, reads, words))

    def decide_step(pools: Any, layer: int, this_pass: int, free: int) -> int:
        """What a layer misses of what is needed, where so many of its slots are ``free``."""
        there, needed, state = pools.there[layer], pools.needed, pools.state[layer]
        now, misses = pools.now[layer], load(pools, layer, free) if at_once else 0
        for word in range(words):
            bits, here = needed[word], there[word]
            while bits != _NONE:
                lowest, expert = bits & (~bits + _ONE), WORD * word + _lowest(bits)
                bits &= bits - _ONE
                hit = (here & lowest) != _NONE
                victim = pools.victims[expert] if at_once and not hit else -1
                weight = pools.weighs[expert] if len(pools.units) > 0 else 0
                before_activation(expert, hit, this_pass, 0, weight, state)
                if not (at_once or hit):
                    if misses >= free:
                        victim = evict(pools, layer, state, now)
                    misses += 1
                    if counts_load:
                        state[INSERTED, expert] = now
                count(state, expert, now, this_pass)
                if counts_next and len(pools.after) > 0:
                    state[NEXT_USE, expert] = pools.coming[expert]
                after_activation(expert, hit, victim, now, state)
                now += 1
            there[word] |= needed[word]
        pools.now[layer] = now
        return misses

    return decide_step


def sweep_rows_with(
    key: Any, before_activation: Any, after_activation: Any, reads: Reads, at_once: bool,
    words: int, room: int,
) -> Callable[..., None]:  # fmt: skip
    """What sweeps passes of a row each, which chooses at most ``room`` experts, as
    ``row_step_with`` decides them.
    """
    tells_pass, tells_layer = counts_in(reads, THIS_PASS), counts_in(reads, THIS_LAYER)
    decide_step = built_in(
        row_step_with(key, before_activation, after_activation, reads, at_once, words)
    )

    def sweep_rows(ids: Any, rows: Any, home: Any, first: int, pools: Any, misses: Any) -> None:
        """What each layer ``misses`` uint16[passes, layers] of passes from ``first`` on, that have
        one of the ``rows`` of ``ids`` each.
        """
        for step in range(len(rows)):
            for layer in range(len(pools.slots)):
                free = pools.slots[layer]
                if free == 0:
                    continue
                for word in range(words):
                    free -= _ones(pools.there[layer, word])
                if tells_pass:
                    pools.state[layer, THIS_PASS, 0] = first + step
                if tells_layer:
                    pools.state[layer, THIS_LAYER, 0] = 0
                at = (step * len(pools.slots) + layer) * ids.shape[2]
                _need(ids, rows[step], home, layer, pools, at, (words, room))
                misses[step, layer] = decide_step(pools, layer, first + step, free)

    return sweep_rows


@lru_cache
def sweep_rows_of(policy: type[CachePolicy], words: int, room: int) -> Any:
    """``sweep_rows`` of ``policy``, compiled; kept on disk."""
    functions = (policy.key, policy.before_activation, policy.after_activation)
    constants = (reads_of(policy), keys_stay(policy, COUNTED, INSERTED), words, room)
    return made_of(sweep_rows_with, SWEEP_ROWS, functions, constants)
