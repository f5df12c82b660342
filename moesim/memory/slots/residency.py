"""Which experts are resident, one activation after another, and in which launches they run, without
a clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.memory.activations import Activations, ActiveExperts, Ints, offsets_of, steps_of
from moesim.memory.forms import IN_SLOT
from moesim.memory.misses.base import MissHandling
from moesim.memory.misses.load import Load
from moesim.memory.policy import (
    INSERTED,
    LAST_PASS,
    LAST_USE,
    NEVER,
    NEXT_USE,
    ROWS,
    USAGE,
    CachePolicy,
)
from moesim.memory.policy_reads import reads_of
from moesim.memory.slots import by_bytes
from moesim.memory.slots.decisions import (
    DECIDE_IN,
    FIRST,
    NO_ROOM,
    PLACE_AHEAD,
    Cells,
    Demand,
    Rules,
    first_with,
    is_own,
    new_cells,
    place_ahead_with,
)
from moesim.memory.slots.room import Room
from moesim.memory.slots.split import OFFERED
from moesim.memory.slots.staging import STAGE, stage_with
from moesim.memory.slots.steps import decide_in_with
from moesim.runtime.compiled import code_of, njit, specialised

NONE, NO_PRICES = np.empty(0, np.int64), np.empty((OFFERED, 0), np.int64)
NOT_BUSY = np.empty(0, np.bool_)
STEP = 1 << 20
"""A next use is step * STEP + id: a step's experts ascend."""


def specialised_by(
    make: Callable[..., Any], signature: Any, policy: type[CachePolicy], miss: type[MissHandling]
) -> Any:
    """What ``make`` makes of the functions of ``policy`` and ``miss``, compiled; kept on disk. It
    makes no array unless the policy does.
    """
    functions = (policy.key, policy.before_activation, policy.after_activation, miss.place)
    constants = (miss.forms, miss.splits, reads_of(policy))
    return made_of(make, signature, functions, constants)


def made_of(
    make: Callable[..., Any], signature: Any, functions: tuple[Callable[..., Any], ...],
    constants: tuple[Any, ...],
) -> Any:  # fmt: skip
    """As ``specialised``, of functions of a policy among others, which seldom make arrays."""
    with contextlib.suppress(InputError):
        return specialised(make, signature, *functions, constants=constants, allocates=False)
    return specialised(make, signature, *functions, constants=constants)


@lru_cache
def decide_in_of(policy: type[CachePolicy], miss: type[MissHandling]) -> Any:
    """``decisions.decide_in`` of ``policy`` and ``miss``, compiled; kept on disk."""
    return specialised_by(decide_in_with, DECIDE_IN, policy, miss)


@lru_cache
def first_of(policy: type[CachePolicy]) -> Any:
    """``decisions.first`` of ``policy``, compiled; kept on disk."""
    return specialised(first_with, FIRST, policy.key)


@lru_cache
def _place_ahead_of(policy: type[CachePolicy]) -> Any:
    """The code of ``decisions.place_ahead`` of ``policy``."""
    return code_of(specialised(place_ahead_with, PLACE_AHEAD, policy.key))


@lru_cache
def _stage_of(place: Callable[[Any], Any], miss: type[MissHandling]) -> Any:
    """``staging.stage`` of ``miss`` where it ``place``s so, compiled; kept on disk."""
    return specialised(stage_with, STAGE, place, constants=(miss.forms, miss.splits))


@njit("Tuple((int64[::1], int64[::1]))(int64[::1], int64[::1], int64)", cache=True)
def _next_uses(offsets: Any, experts: Any, count: int) -> Any:
    after, following = np.empty(len(experts), np.int64), np.full(count, NEVER, np.int64)
    for step in range(len(offsets) - 2, -1, -1):
        for i in range(offsets[step], offsets[step + 1]):
            after[i] = following[experts[i]]
        for i in range(offsets[step], offsets[step + 1]):
            following[experts[i]] = step * STEP + experts[i]
    return after, following


def next_uses(active: ActiveExperts, experts: int) -> tuple[Ints, Ints]:
    """For each active expert the (step, id) of the next one of its expert, as one number; and the
    first uses.
    """
    after, first = _next_uses(active.offsets, active.experts, experts)
    return after, first


class Given(NamedTuple):
    """What a ``LayerCache`` is given for its policy: ``draws`` float64[activations] of the run, and
    ``prefetch_draws`` for victims of prefetches, where it draws; ``first_use`` int64[experts] where
    it looks ahead; the ``resident`` experts that are preloaded; by which ``bandwidths`` misses
    are divided; whether a step ``protects`` what it needs; the ``room`` of a pool by bytes, which
    has no slots then; how many steps each layer has, ``turns``; and whether experts may be
    ``prefetched``.
    """

    draws: NDArray[np.float64] | None = None
    prefetch_draws: np.random.Generator | None = None
    first_use: Ints | None = None
    resident: Ints | None = None
    bandwidths: tuple[int, int] = (1, 1)
    protects: bool = True
    room: Room | None = None
    turns: int = 1
    prefetched: bool = True


NOTHING = Given()


class Steps(NamedTuple):
    """Steps that a cache has decided: their offsets and experts, what it was like ``before`` and is
    ``after`` them (slots, step, policy time, who is resident, state), and what it ``made``.
    """

    needs: tuple[Ints, Ints]
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    made: Activations


class LayerCache:
    """The residency of one MoE layer on one GPU, or of a pool of ``layers``: state without a clock.

    ``usage`` int64[experts] is what USAGE holds; ``miss`` as in the experiment, by default loads;
    ``moved`` int64[2, rows + 1] is to be set where misses are divided: see ``split.divide``.
    Experts are numbered within the pool: layer by layer, within the GPU, ascending. The steps of a
    pool are those of its layers in turn.
    """

    def __init__(
        self,
        policy: CachePolicy,
        slots: int,
        usage: Ints,
        *,
        serial: bool,
        resident_first: bool,
        layers: int = 1,
        miss: MissHandling | None = None,
        given: Given = NOTHING,
    ) -> None:
        handling = miss or Load()
        self.policy, self.miss = type(policy), type(handling)
        self._place_around = handling.place_around()
        self._start_request, self.layers = policy.start_request, layers * given.turns
        """How many steps a pass has."""
        buffers = policy.shared_buffers()
        self.slots = slots if buffers is None else buffers
        self.rules = Rules(
            handling.most_loads(),
            self.layers,
            serial,
            resident_first,
            emptied=buffers is not None,
            prefetched=given.prefetched,
            loads_of=loads_of(handling, len(usage) // layers, given.bandwidths),
            protects=given.protects,
        )
        self.moved = np.zeros((2, 1), np.int64)
        self.draws = np.empty(0) if given.draws is None else given.draws
        self.prefetch_draws = given.prefetch_draws
        self.room = given.room
        self.victims = by_bytes.Victims.empty(0, 0)
        """Those of the steps last decided, where there is ``room``."""
        self.now = self._step = 0
        self._room: tuple[int, Cells] | None = None
        self._made: dict[int, Activations] = {}
        self._next_draw: float | None = None
        self.resident = np.zeros(len(usage), np.bool_)
        self._keys = np.empty(len(usage), np.int64)
        self.state = np.zeros((ROWS + policy.memory, len(usage)), np.int64)
        self.state[[LAST_USE, INSERTED, LAST_PASS]] = -1
        self.state[USAGE] = usage
        self.state[NEXT_USE] = NEVER if given.first_use is None else given.first_use
        if given.resident is not None:
            self.resident[given.resident] = True
        policy.start(self.state, self.slots, self.resident, layers)
        if given.turns > 1:
            policy.take_turns(self.state, given.turns)

    def decide(
        self,
        active: ActiveExperts,
        next_use: Ints | None = None,
        weights: Ints | None = None,
        prices: Ints | None = None,
    ) -> Activations:
        """The activations of the coming steps; ``next_use``, ``weights`` and ``prices``
        int64[OFFERED, active experts] are aligned with ``active.experts``. Raises InputError for
        arrays of another type, which compiled code would misread.
        """
        _check_types(
            offsets=active.offsets, experts=active.experts, next_use=next_use, weights=weights,
            prices=prices,
        )  # fmt: skip
        if self.room is not None and not self.miss.loads:  # nothing comes in
            self._step += len(active.offsets) - 1
            self.victims = by_bytes.Victims.empty(len(active.experts), 0)
            return self.bypass(active)
        needs, out = (active.offsets, active.experts), Activations.empty(len(active.experts))
        self._decide(self._demand(*needs, next_use, weights, prices), out)
        return out

    def _demand(
        self, offsets: Ints, experts: Ints, next_use: Ints | None, weights: Ints | None,
        prices: Ints | None,
    ) -> Demand:  # fmt: skip
        uses, given = NONE if next_use is None else next_use, NONE if weights is None else weights
        offers = NO_PRICES if prices is None else prices
        return Demand(offsets, experts, uses, given, offers, self.draws, self.moved)

    def _decide(self, demand: Demand, out: Activations) -> None:
        """Fill in what comes ``out`` of the coming steps."""
        rules, resident, state, when = self.rules, self.resident, self.state, (self._step, self.now)
        self._step += len(demand.offsets) - 1
        if self.room is None:
            cells = self._cells(len(demand.experts))
            self.now = self._code(rules, self.slots, demand, resident, state, when, out, cells)
        else:
            how, at = (self.policy, rules, self.room), (resident, state, *when)
            self.now, self.victims = by_bytes.decide(*how, demand, at, out)

    @cached_property
    def _code(self) -> Any:
        """What decides steps, compiled."""
        return code_of(decide_in_of(self.policy, self.miss))

    def _cells(self, active: int) -> Cells:
        """Room for steps with so many ``active`` experts, that of before where it will do."""
        planned = active if self.miss.splits else 0
        cells = self._room[1] if self._room and self._room[0] == self.slots else None
        if cells is None or len(cells.planned) < planned:
            slots = max(self.slots, int(np.count_nonzero(self.resident)))
            room = slots, active, len(self.resident)
            own = is_own(reads_of(self.policy))
            cells = new_cells(self.rules.resident_first, *room, own, self.miss.splits)
            self._room = self.slots, cells  # residents never become more than those
        cells.planned[:planned] = 1
        return cells

    def decide_as(self, known: Steps | None, active: ActiveExperts) -> Steps:
        """``decide`` the coming steps from their experts alone, or take over those ``known`` of a
        cache of the same policy, if that was like this one and they need the same.
        """
        before = self.mark()
        now = (active.offsets, active.experts, *before)
        if known is None or not all(map(_equal, now, (*known.needs, *known.before))):
            made = self.decide(active)
            return Steps((active.offsets, active.experts), before, self.mark(), made)
        self.back(known.after)
        return known

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to, and all that coming decisions depend on but what is asked."""
        return self.slots, self._step, self.now, self.resident.copy(), self.state.copy()

    def back(self, mark: tuple[Any, ...]) -> None:
        """Nothing has been decided since then."""
        self.slots, self._step, self.now, self.resident[:], self.state[:] = mark

    def start_request(self) -> None:
        """The next forward pass has other requests than the one before."""
        self._start_request(self.state, self._step // self.layers)

    def decide_step(
        self,
        step: int,
        experts: Ints,
        next_use: Ints | None = None,
        weights: Ints | None = None,
        prices: Ints | None = None,
    ) -> Activations:
        """The activations of ``step``, which needs ``experts``; as in ``decide``, but that they are
        there until the next one of as many.
        """
        self._step, number = step, len(experts)
        if (out := self._made.get(number)) is None:
            out = self._made[number] = Activations.empty(number)
        self._decide(self._demand(offsets_of(number), experts, next_use, weights, prices), out)
        return out

    def prefetch(self, expert: int, pin: int, busy: NDArray[np.bool_] = NOT_BUSY) -> int | None:
        """Give ``expert`` a slot ahead, pinned as ``pin``: the victim, -1 without one; None where
        there is no room. ``busy`` bool[experts] are not evicted.
        """
        place, what = _place_ahead_of(self.policy), (self.slots, self.now, expert, pin)
        victim = int(place(self.resident, self.state, what, busy, self._draw(), self._keys))
        if victim >= 0:
            self._next_draw = None
        return None if victim == NO_ROOM else victim

    def _draw(self) -> float:
        """The next draw for a victim that no activation evicts."""
        if self.prefetch_draws is None:
            return 0.0
        if self._next_draw is None:
            self._next_draw = self.prefetch_draws.random()
        return self._next_draw

    def resize(self, slots: int) -> list[int]:
        """Have so many ``slots`` from now on: the experts that the policy evicts for that."""
        gone = []
        for _ in range(int(self.resident.sum()) - slots):
            given = self.resident, self.state, self._draw(), self._keys
            victim = int(first_of(self.policy)(*given))
            self._next_draw, self.resident[victim] = None, False
            gone.append(victim)
        self.slots = slots
        return gone

    def bypass(self, active: ActiveExperts, prices: Ints | None = None) -> Activations:
        """The activations of the coming steps where they leave the slots as they are."""
        resident = np.zeros_like(self.resident) if self.rules.emptied else self.resident
        step = steps_of(active.offsets)
        order = np.arange(len(step))
        if self.rules.resident_first:
            order = np.lexsort((~resident[active.experts], step))
        out = Activations.empty(len(order))
        out.expert[:], out.victim[:] = active.experts[order], -1
        out.hit[:] = resident[out.expert]
        given = NO_PRICES if prices is None else prices
        _stage_of(self._place_around, self.miss)(
            self.rules, given, self.moved, active.offsets, order, out
        )
        return out


def _check_types(**given: Ints | None) -> None:
    for name, one in given.items():
        if one is not None and not (one.dtype == np.int64 and one.flags.c_contiguous):
            what = f"{one.dtype}, {'' if one.flags.c_contiguous else 'not '}contiguous"
            what += "; give np.ascontiguousarray(values, np.int64)"
            raise InputError(f"LayerCache.decide: {name} is {what}")


def _equal(one: Any, other: Any) -> bool:
    return one is other or np.array_equal(one, other)


def loads_of(miss: MissHandling, experts: int, bandwidths: tuple[int, int]) -> Ints:
    """How many of 0, 1, ... ``experts`` misses are loaded, int64; empty where nothing says so."""
    return np.array(miss.loads_of(experts, bandwidths), np.int64)


def all_there(active: ActiveExperts, *, serial: bool, hit: bool) -> Activations:
    """The activations where every local expert is there, as ``hit`` or loaded: in one launch, or
    each in its own.
    """
    n = len(active.experts)
    step_start = np.repeat(active.offsets[:-1], np.diff(active.offsets))
    launch = np.arange(n) - step_start if serial else np.zeros(n, np.int64)
    none = np.full(n, -1, np.int64)
    return Activations(
        active.experts, np.full(n, hit), launch, none, none, np.full(n, IN_SLOT, np.int64)
    )
