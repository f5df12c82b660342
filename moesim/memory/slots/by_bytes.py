"""A pool whose experts differ in bytes: one that comes in may push out several.

Chosen one by one by the policy, under the rules of ``decisions``, until there is room; all misses
are loaded, and nothing is prefetched (docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.forms import IN_SLOT
from moesim.memory.policy import INSERTED, CachePolicy
from moesim.memory.policy_reads import Reads
from moesim.memory.slots.counting import count_with
from moesim.memory.slots.decisions import ACTIVATIONS, DEMAND, RULES, Demand, Rules, first_by
from moesim.memory.slots.room import Room
from moesim.runtime.compiled import inlined, record, specialised, types


class Victims(NamedTuple):
    """The victims of activations: activation i has ``experts[offsets[i]:offsets[i + 1]]``, in the
    order in which they went.
    """

    offsets: Any
    experts: Any

    @classmethod
    def empty(cls, activations: int, most: int) -> Victims:
        """Room for the victims of ``activations``, at ``most`` so many."""
        return cls(np.zeros(activations + 1, np.int64), np.empty(most, np.int64))


class Pool(NamedTuple):
    """A pool as it is: its ``Room``, its residents bool[experts] and the state of its policy."""

    limit: Any
    sizes: Any
    resident: Any
    state: Any


class _Step(NamedTuple):
    """While a step is decided, those that rules (a) and (b) may evict: bool[experts]."""

    idle: Any
    over: Any


_FLAT, _MASK, _STATE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
POOL = record(Pool, types.int64, _FLAT, _MASK, _STATE)
VICTIMS = record(Victims, _FLAT, _FLAT)
DECIDE = types.int64(RULES, POOL, DEMAND, types.int64, types.int64, ACTIVATIONS, VICTIMS)
"""The signature of what ``decide_with`` makes."""


@lru_cache
def decide_of(policy: type[CachePolicy]) -> Any:
    """The decisions of ``policy`` in a pool by bytes, compiled; kept on disk."""
    return specialised(decide_with, DECIDE, policy.key)


@inlined
def _in_order(rules: Any, low: int, high: int, active: Any, resident: Any, expert_out: Any) -> int:
    """Put the step's experts low:high in execution order; where residents that go first end."""
    place = low
    for i in range(low, high):
        if not rules.resident_first or resident[active[i]]:
            expert_out[place] = active[i]
            place += 1
    crossing = place
    if rules.resident_first:
        for i in range(low, high):
            if not resident[active[i]]:
                expert_out[place] = active[i]
                place += 1
    return crossing


@inlined
def _begin(protects: bool, needed: Any, resident: Any, step: Any) -> None:
    """What a step has ``needed`` is not to go before it is over, if that ``protects`` it."""
    step.over[:] = False
    step.idle[:] = resident
    if protects:
        for expert in needed:
            step.idle[expert] = False


@inlined
def _next_to_go(key: Any, needed: Any, step: Any, pool: Any, keys: Any) -> int:
    """The next victim of the step that has ``needed`` these, in execution order. The ``key`` is
    told, and not built in: kept code of two policies would else have one name.
    """
    victim = first_by(key, step.idle, pool.state, 0.0, keys)  # rule (a)
    if victim < 0:
        victim = first_by(key, step.over, pool.state, 0.0, keys)  # rule (b)
    if victim < 0:  # rule (c): the one that comes last
        for expert in needed:
            if pool.resident[expert]:
                victim = expert
    return int(victim)


@inlined
def _launch_of(expert: int, low: int, high: int, out: Any) -> int:
    """The launch of ``expert`` where it is among the step's activations low:high, else -1."""
    for place in range(low, high):
        if out.expert[place] == expert:
            return int(out.launch[place])
    return -1


def decide_with(key: Any) -> Callable[..., int]:
    """The decisions of a policy with this ``key``."""
    count = inlined(count_with(Reads(rows=None, own=False)))

    def decide(
        rules: Any, pool: Any, demand: Any, first_step: int, now: int, out: Any, victims: Any
    ) -> int:
        """As ``decisions.decide_in``; ``victim`` of ``out`` is the last one, ``wait`` the last
        launch of any.
        """
        limit, sizes, resident, state = pool
        keys, held = np.empty(len(resident), np.int64), 0
        for e in range(len(resident)):
            held += sizes[e] if resident[e] else 0
        step, gone = _Step(np.empty_like(resident), np.empty_like(resident)), 0
        for number in range(len(demand.offsets) - 1):
            low, high = demand.offsets[number], demand.offsets[number + 1]
            crossing = _in_order(rules, low, high, demand.experts, resident, out.expert)
            needed = out.expert[low:high]
            _begin(rules.protects, needed, resident, step)
            launch = members = 0
            for i in range(low, high):
                e, victim, wait = out.expert[i], -1, -1
                hit = resident[e]
                if members > 0 and (rules.serial or (rules.resident_first and i == crossing)):
                    launch, members = launch + 1, 0
                while not hit and held + sizes[e] > limit:
                    victim = _next_to_go(key, needed, step, pool, keys)
                    wait = max(wait, _launch_of(victim, low, i, out))
                    step.idle[victim] = step.over[victim] = resident[victim] = False
                    held -= sizes[victim]
                    victims.experts[gone] = victim
                    gone += 1
                if wait == launch:
                    launch, members = launch + 1, 0
                if not hit:
                    resident[e], state[INSERTED, e] = True, now
                    held += sizes[e]
                count(state, e, now, (first_step + number) // rules.layers)
                (step.over if rules.protects else step.idle)[e] = True
                now += 1
                members += 1
                out.hit[i], out.launch[i], out.wait[i] = hit, launch, wait
                out.victim[i], out.form[i] = victim, IN_SLOT
                victims.offsets[i + 1] = gone
        return now

    return decide


def decide(
    policy: type[CachePolicy], rules: Rules, room: Room, demand: Demand, cache: tuple[Any, ...],
    out: Any,
) -> tuple[int, Victims]:  # fmt: skip
    """Fill ``out`` with the activations of the steps of ``demand``; the policy time after them, and
    their victims. ``cache``: its residents, which change, state, next step and policy time.
    """
    resident, state, first_step, now = cache
    victims = Victims.empty(len(demand.experts), len(demand.experts) + int(resident.sum()))
    pool = Pool(*room, resident, state)
    now = decide_of(policy)(rules, pool, demand, first_step, now, out, victims)
    return now, victims._replace(experts=victims.experts[: victims.offsets[-1]])
