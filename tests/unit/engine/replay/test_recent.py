"""What LRU decides for a step at once, against what it decides expert by expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.marks import BOTH, DECODE, MARKED
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.quick.activations import COUNTED_HERE, Known, Order, decide_all_of
from moesim.engine.replay.quick.kept import Kept
from moesim.engine.replay.quick.recent import decide_by_recency
from moesim.engine.replay.quick.residency_plan import cut, room_for_plan
from moesim.memory.policies.lru import Lru
from moesim.memory.policy import INSERTED, LAST_PASS, LAST_USE, ROWS
from moesim.memory.slots.decisions import Rules

LAYERS, GPUS, EXPERTS, PASSES = 3, 2, 9, 12
WORKS = LAYERS * GPUS
RULES = Rules(
    1 << 62, 1, serial=False, resident_first=False, emptied=False, prefetched=False,
    loads_of=np.empty(0, np.int64), protects=True,
)  # fmt: skip


def slots_of(draw: np.random.Generator) -> Kept:
    """Some experts are resident at first, and one layer's all are, without a cache."""
    slots = draw.integers(1, EXPERTS, WORKS)
    resident = np.zeros((WORKS, EXPERTS), np.bool_)
    for work, own in enumerate(slots):
        there = int(draw.integers(0, own + 1))
        resident[work, draw.permutation(EXPERTS)[:there]] = True
    state = np.zeros((ROWS, EXPERTS), np.int64)
    state[[LAST_USE, INSERTED, LAST_PASS]] = -1
    cached = np.arange(WORKS) > 0
    slots[~cached] = 1 << 16
    state_at = np.cumsum([0, *(cached * state.size)])
    return Kept(
        np.full(GPUS, EXPERTS), slots, np.zeros(WORKS, np.int64), resident,
        np.tile(state.ravel(), int(cached.sum())), state_at, np.zeros(0),
        np.zeros(WORKS + 1, np.int64), np.zeros((WORKS, EXPERTS), np.int64),
    )  # fmt: skip


def needs_of(draw: np.random.Generator) -> Needed:
    """Passes that need none, some or all of a layer's experts, of one row each or of more."""
    needs = draw.random((WORKS, PASSES, EXPERTS)) < draw.random((WORKS, PASSES, 1))
    offsets = np.zeros((WORKS, PASSES + 1), np.int64)
    np.cumsum(needs.sum(axis=2), axis=1, out=offsets[:, 1:])
    experts, rows = np.zeros((2, WORKS, PASSES * EXPERTS), np.int64)
    for work, own in enumerate(needs):
        (found,) = np.nonzero(own.ravel())
        experts[work, : len(found)] = found % EXPERTS
        rows[work, : len(found)] = draw.choice([1, 1, 1, 2, 7], len(found))
    return Needed(offsets, experts, rows, np.zeros((PASSES, LAYERS, GPUS), np.int64))


def decided(by: Any, seed: int, *, marked: bool, overlap: bool) -> tuple[list[Any], Kept]:
    """What three runs of passes come to, and what slots hold then."""
    draw, plans = np.random.default_rng(seed), []
    kept, kinds = slots_of(draw), np.array([0, 1, 0])
    works = (np.array([0, 2, 1])[:, None] * GPUS + np.arange(GPUS)).ravel()
    for _ in range(3):
        needed = needs_of(draw)
        marks = draw.integers(DECODE, BOTH + 1, needed.experts.shape).astype(np.int8)
        nothing = np.empty((WORKS, 0), np.int64)
        known = Known(
            nothing, nothing, nothing.astype(np.uint16), marks if marked else marks[:, :0]
        )
        counted = len(COUNTED_HERE) + (len(MARKED) if marked else 0)
        number = int(needed.offsets[:, -1].sum())
        kept_layers = LAYERS if seed % 2 else 1
        out = room_for_plan((LAYERS, PASSES, GPUS), number, kept_layers, kinds, counted)
        by(Order(works, kinds, overlap), kept, needed, known, out)
        plans.append(cut(out))
    return plans, kept


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_step_is_decided_as_its_experts_are(marked: bool, overlap: bool) -> None:
    def one_by_one(*given: Any) -> None:
        decide_all_of(Lru)(RULES, 0, *given)

    for seed in range(40):
        plans, kept = decided(decide_by_recency, seed, marked=marked, overlap=overlap)
        expected, before = decided(one_by_one, seed, marked=marked, overlap=overlap)
        for plan, other in zip(plans, expected, strict=True):
            for name, values in plan._asdict().items():
                np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)
        np.testing.assert_array_equal(kept.resident, before.resident)
        np.testing.assert_array_equal(kept.evicted_by, before.evicted_by)
