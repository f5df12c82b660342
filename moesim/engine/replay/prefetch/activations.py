"""The activations of one MoE layer on one GPU, decided on the clock; compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.steps import inlined
from moesim.engine.replay.prefetch.arrays import SERIAL
from moesim.engine.replay.prefetch.storage import lose
from moesim.engine.replay.prefetch.types import AT, DECIDE, UNDECIDED
from moesim.memory.forms import IN_SLOT
from moesim.memory.policy import ARRIVING
from moesim.memory.slots.open_slots import vacate
from moesim.memory.slots.variant_cache import Serving, serving_of, some_served
from moesim.runtime.bare import whole
from moesim.runtime.compiled import types

_INT = types.int64


@inlined(types.void(UNDECIDED, AT, _INT))
def read_active_experts(undecided: Any, at: Any, number: int) -> None:
    """The active experts of a work, so many, and their rows."""
    asked, deciding, activating = undecided.asked, undecided.deciding, undecided.activating
    deciding.offsets[1], weighs, pads = number, len(asked.kept_weight) > 0, len(asked.kept) > 0
    for i in range(number):
        expert = asked.experts[at.low + i]
        deciding.experts[i], deciding.served[i] = expert, 0
        rows = asked.rows[at.low + i]
        activating.own[expert] = rows
        activating.kept[expert] = asked.kept[at.low + i] if pads else rows
        if weighs:
            activating.kept_weight[expert] = asked.kept_weight[at.low + i]


@inlined(types.void(UNDECIDED))
def all_hit(undecided: Any) -> None:
    """The activations where every local expert has a slot."""
    deciding, serial = undecided.deciding, undecided.choices[SERIAL]
    for i in range(deciding.offsets[1]):
        deciding.expert[i], deciding.hit[i] = deciding.experts[i], True
        undecided.activating.arriving[deciding.experts[i]] = False
        deciding.launch[i] = i * serial
        deciding.wait[i], deciding.victim[i], deciding.form[i] = -1, -1, IN_SLOT


@inlined(types.void(UNDECIDED, AT))
def _find_serving(undecided: Any, at: Any) -> None:
    """The variants that serve the active experts of a work, of the slots as they are."""
    deciding, variants = undecided.deciding, undecided.variants.number
    how = Serving(
        deciding.loaded, deciding.worse, deciding.upgraded, deciding.instead, deciding.beside
    )
    number, slot_of = deciding.offsets[1], whole(deciding.slots.slot_of)
    slot_of = slot_of[at.pool : at.pool + variants]
    for i in range(number):
        e, wanted = at.place * at.local + deciding.experts[i], deciding.wanted[at.low + i]
        deciding.served[i] = serving_of(how, slot_of, 0, e, wanted)
    some_served(whole(deciding.served)[:number], variants, how.instead)


@inlined(types.void(UNDECIDED, AT, _INT, _INT))
def _cancel(undecided: Any, at: Any, pool: int, shelf: int) -> None:
    """What waits of a ``shelf`` and is not needed is cancelled."""
    queue, slots, needed = undecided.queue, undecided.deciding.slots, undecided.activating.needed
    flat, first, left = shelf * at.local, at.place * at.local, queue.waits[at.gpu, shelf]
    x = queue.following[at.gpu, queue.following.shape[1] - 1]
    while left > 0:
        after = queue.following[at.gpu, x]
        if queue.shelf[at.gpu, x] == shelf:
            left -= 1
            if not needed[x - flat]:
                lose(undecided, at.gpu, x)
                vacate(slots, pool, first + x - flat)
        x = after


@inlined(types.void(UNDECIDED, AT))
def end_prefetches(undecided: Any, at: Any) -> None:
    """Those for a layer end: what waits and will not serve is cancelled; and what of its active
    experts has not arrived. Its pins are lifted where it is decided.
    """
    queue, deciding, variants = undecided.queue, undecided.deciding, undecided.variants.number
    slots, arriving = deciding.slots, undecided.activating.arriving
    number, needed, first = deciding.offsets[1], undecided.activating.needed, at.place * at.local
    layers = undecided.predicted.active.shape[1]
    if variants > 1:
        _find_serving(undecided, at)
    for variant in range(variants):
        shelf, pool = variant * layers + at.layer, at.pool + variant
        if queue.waits[at.gpu, shelf] > 0:
            for i in range(number):
                needed[deciding.experts[i]] = deciding.served[i] == variant
            _cancel(undecided, at, pool, shelf)
            for i in range(number):
                needed[deciding.experts[i]] = False
        for i in range(number):
            e = deciding.experts[i]
            if deciding.served[i] == variant:
                late = queue.arrival[at.gpu, shelf * at.local + e] > at.now
                arriving[e] = late and slots.slot_of[pool, first + e] >= 0
                slots.state[pool, ARRIVING, first + e] = arriving[e]


@inlined(types.void(UNDECIDED, DECIDE, AT))
def decide_activations(undecided: Any, decide: Any, at: Any) -> None:
    """The activations of a work."""
    deciding, first = undecided.deciding, at.place * at.local
    number, step = deciding.offsets[1], at.step * deciding.layers + at.place
    for i in range(number if first > 0 else 0):
        deciding.experts[i] += first
    decide(deciding, at.pool, at.low, number, step, first, at.local, at.until)
    for i in range(number if first > 0 else 0):
        deciding.expert[i] -= first
        deciding.experts[i] -= first


@inlined(types.void(UNDECIDED, AT))
def note_served(undecided: Any, at: Any) -> None:
    """Keep the forms in which a work is served, where experts have variants."""
    deciding, served = undecided.deciding, undecided.variants.served
    if len(served) > 0:
        for i in range(deciding.offsets[1]):
            served[at.index, at.layer, at.gpu, deciding.expert[i]] = deciding.form[i]
