"""One pool over layers whose experts differ in bytes (docs/semantics.md, "A pool by bytes")."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.activations import ActiveExperts, Ints
from moesim.memory.policies import registry as policies
from moesim.memory.slots.residency import Given, LayerCache
from moesim.memory.slots.room import Room

from .agreement import agree
from .prices import ToyPrices
from .reference_words import DECODE, NO_EXPERT, Config, Layer, Model, Trace, Verdict
from .strategies import Case, few
from .strategies_concepts import by_bytes_cases
from .strategies_host import BY_BYTES

KINDS = sorted(set(BY_BYTES))


@few
@given(by_bytes_cases())
def test_the_engines_agree_with_the_reference(case: Case) -> None:
    agree(case)


# --- by hand


def played(steps: list[list[list[int]]], sizes: tuple[int, ...], **choices: Any) -> Verdict:
    """Decode step s needs ``steps[s][m]`` of MoE layer m, 3 experts of ``sizes[m]`` bytes."""
    most = max(len(ids) for step in steps for ids in step)
    trace: Trace = {
        "expert_ids": [[ids + [NO_EXPERT] * (most - len(ids)) for ids in step] for step in steps],
        "request_id": [0] * len(steps),
        "position": list(range(len(steps))),
        "phase": [DECODE] * len(steps),
    }
    layers = [Layer(m, moe=True) for m in range(len(sizes))]
    model = Model(layers, 3, most, 1, 1, max(sizes), by_layer=sizes)
    return agree(Case(trace, model, Config(scope="global", **choices), ToyPrices()))


def log(verdict: Verdict, step: int) -> list[tuple[int, int, str, int]]:
    """(layer, expert, rule of the last victim, how many went) of every activation of a step."""
    mine = [one for one in verdict.activations if one.step == step]
    return [(one.layer, one.expert, one.rule, one.evicted) for one in mine]


def test_one_large_expert_pushes_out_as_many_as_it_takes() -> None:
    """500 bytes: three of 100 leave room for one of 200. The next one of 200 takes the room of the
    two that were used longest ago, 0 and 1; 2 is still there.
    """
    steps = [[[], [0]], [[], [1]], [[], [2]], [[0], []], [[1], [2]]]
    verdict = played(steps, (200, 100), pool_bytes=500)
    assert log(verdict, 3) == [(0, 0, "free", 0)]
    assert log(verdict, 4) == [(0, 1, "a", 2), (1, 2, "", 0)]
    assert (verdict.hits, verdict.misses, verdict.bytes_h2d) == (1, 5, 3 * 100 + 2 * 200)


def test_more_may_go_than_has_to() -> None:
    """300 bytes hold 0 and 1 of 100 each; one of 200 takes the room of 0 alone, and another one of
    200 that of 1, which leaves 100 free, and then of the one before.
    """
    steps = [[[], [0]], [[], [1]], [[0], []], [[1], []], [[], [0]]]
    verdict = played(steps, (200, 100), pool_bytes=300)
    assert [log(verdict, step) for step in (2, 3, 4)] == [
        [(0, 0, "a", 1)],
        [(0, 1, "a", 2)],
        [(1, 0, "free", 0)],
    ]


def test_a_copy_waits_for_the_launch_of_what_goes_for_it_in_its_step() -> None:
    """200 bytes: 2 of layer 0 takes the room of 0, which ran in the launch before. It is all that
    has to go, since experts of a layer are alike; 0 of layer 1 then takes that of both others.
    """
    verdict = played([[[0, 1, 2], [0]]], (100, 150), pool_bytes=200)
    assert log(verdict, 0) == [(0, 0, "free", 0), (0, 1, "free", 0), (0, 2, "b", 1), (1, 0, "a", 2)]
    assert [one.launch for one in verdict.activations] == [0, 0, 1, 0]


@pytest.mark.parametrize("protect", ["step", "none"])
def test_what_the_step_has_used_goes_only_where_nothing_else_is_left(protect: str) -> None:
    """Layer 0 needs 0, 1 and 2 of 200 in 400 bytes, beside one of 100 of the pass before: that goes
    first, which is too little, then 0.
    """
    steps = [[[], [0]], [[0, 1, 2], []]]
    verdict = played(steps, (200, 100), pool_bytes=400, protect=protect)
    assert log(verdict, 1) == [(0, 0, "free", 0), (0, 1, "a", 1), (0, 2, "b", 1)]


def test_the_most_used_are_there_up_to_the_first_that_does_not_fit() -> None:
    """Of 350 bytes the most used take 200 and 100; the third, of 200, does not fit, and the fourth,
    which would, is left out too.
    """
    steps = [[[0, 1], [0, 1]]]
    trace = [[[0], [0]], [[0], [0]], [[1], [1]], *steps]
    verdict = played(trace, (200, 100), pool_bytes=350, initial="most_used", miss="cpu",
                     first_part=1.0)  # fmt: skip
    assert [one.hit for one in verdict.activations if one.step == 3] == [True, False, True, False]


# --- laws


@dataclass(frozen=True)
class Scene:
    """What a pool of some layers needs step by step, and how it goes."""

    layers: int
    experts: int
    steps: list[list[int]]
    policy: str
    serial: bool
    resident_first: bool
    protects: bool
    initial: list[int]

    def cache(self, room: Room | None, slots: int) -> LayerCache:
        usage = np.arange(self.layers * self.experts, dtype=np.int64)[::-1] % 5
        resident = np.array(self.initial[:slots], np.int64)
        return LayerCache(
            policies.get(self.policy)(scope="global"), slots, usage, serial=self.serial,
            resident_first=self.resident_first, layers=self.layers,
            given=Given(resident=resident, protects=self.protects, room=room),
        )  # fmt: skip

    def active(self) -> ActiveExperts:
        """Step s is of layer s modulo their number."""
        lengths = [len(ids) for ids in self.steps]
        numbered = [
            s % self.layers * self.experts + e for s, ids in enumerate(self.steps) for e in ids
        ]
        return ActiveExperts(np.cumsum([0, *lengths]), np.array(numbered, np.int64))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    layers, experts = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    ids = st.sets(st.integers(0, experts - 1), max_size=min(4, experts)).map(sorted)
    return Scene(
        layers,
        experts,
        draw(st.lists(ids, min_size=1, max_size=30)),
        draw(st.sampled_from(KINDS)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.permutations(range(layers * experts))),
    )


@few
@given(scenes(), st.integers(1, 8), st.integers(1, 9), st.integers(0, 8))
def test_with_equal_sizes_it_is_a_pool_of_slots(
    scene: Scene, slots: int, size: int, spare: int
) -> None:
    sizes = np.full(scene.layers * scene.experts, size)
    room = Room(slots * size + min(spare, size - 1), sizes)
    by_slots, by_bytes = (scene.cache(one, slots) for one in (None, room))
    mine, theirs = (cache.decide(scene.active()) for cache in (by_bytes, by_slots))
    for name in mine._fields:
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    np.testing.assert_array_equal(by_bytes.resident, by_slots.resident)
    np.testing.assert_array_equal(np.diff(by_bytes.victims.offsets), theirs.victim >= 0)


@given(scenes(), st.data())
def test_the_pool_never_holds_more_than_its_bytes(scene: Scene, data: st.DataObject) -> None:
    """And only as much goes as has to: without the last victim there were no room."""
    of_layers = [data.draw(st.integers(1, 9)) for _ in range(scene.layers)]
    sizes = np.repeat(of_layers, scene.experts)
    limit = data.draw(st.integers(max(of_layers), int(sizes.sum())))
    cache = scene.cache(Room(limit, sizes), 0)
    residents, active = set[int](), scene.active()
    decided = cache.decide(active)
    offsets, gone = cache.victims.offsets.tolist(), cache.victims.experts.tolist()
    for i, (expert, hit) in enumerate(zip(decided.expert.tolist(), decided.hit, strict=True)):
        assert hit == (expert in residents)
        for victim in gone[offsets[i] : offsets[i + 1]]:
            assert sizes[[*residents, expert]].sum() > limit
            residents.remove(victim)
        residents.add(expert)
        assert sizes[list(residents)].sum() <= limit
    np.testing.assert_array_equal(np.flatnonzero(cache.resident), sorted(residents))


def misses(scene: Scene, limit: int, sizes: Ints) -> int:
    return int(np.count_nonzero(~scene.cache(Room(limit, sizes), 0).decide(scene.active()).hit))


@given(scenes(), st.data())
def test_a_larger_pool_under_lru_never_misses_more(scene: Scene, data: st.DataObject) -> None:
    """What it holds is what was used last, as far as it goes, and the larger one's goes farther."""
    scene = replace(scene, policy="lru", resident_first=False)
    of_layers = [data.draw(st.integers(1, 9)) for _ in range(scene.layers)]
    sizes = np.repeat(of_layers, scene.experts)
    limits = st.integers(max(of_layers), int(sizes.sum()))
    few, many = sorted((data.draw(limits), data.draw(limits)))
    assert misses(scene, many, sizes) <= misses(scene, few, sizes)
