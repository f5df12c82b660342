"""Every registered cache policy, on active experts that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace
from inspect import getsourcelines
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.policy import LAST_USE, ROWS, CachePolicy
from moesim.testing.audit import Setting
from moesim.testing.cache_policies import (
    activations_of,
    carries_its_state,
    is_deterministic,
    keeps_the_rules,
    misses_of,
    residents_after,
)

FOLDER = Path(__file__).parents[2] / "moesim" / "memory" / "policies"


@pytest.fixture(scope="module")
def policies():
    from moesim.memory.policies import registry

    return {kind: policy() for kind, policy in registry.components.items()}


@pytest.fixture(scope="module")
def caches(policies):
    """The policies that keep experts from step to step."""
    return {kind: one for kind, one in policies.items() if one.shared_buffers() is None}


@st.composite
def steps_of(draw, experts, most):
    """1..12 steps of 1..``most`` distinct experts, some of them favourites."""
    spread = draw(st.integers(1, experts))
    anything, favourite = st.integers(0, experts - 1), st.integers(0, spread - 1)
    step = st.sets(favourite | anything, min_size=1, max_size=most).map(sorted)
    return draw(st.lists(step, min_size=1, max_size=12))


@st.composite
def plays(draw, fits=False):
    """Steps and what surrounds the policy; half of the draws have steps larger than the slots."""
    experts = draw(st.integers(2, 10))
    slots = draw(st.integers(1, experts - 1))
    most = slots if fits else draw(st.sampled_from([slots, experts]))
    held = draw(st.sampled_from([0, 0, slots]))
    setting = Setting(
        experts=experts,
        slots=slots,
        serial=draw(st.booleans()),
        resident_first=draw(st.booleans()),
        initial=tuple(draw(st.permutations(range(experts)))[:held]),
        uses=tuple(draw(st.lists(st.integers(0, 3), min_size=experts, max_size=experts))),
        seed=draw(st.integers(0, 9)),
    )
    return draw(steps_of(experts, most)), setting


def test_every_file_of_the_folder_is_registered(policies):
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files <= set(policies)


@given(play=plays())
def test_activations_keep_the_rules(policies, play):
    for policy in policies.values():
        keeps_the_rules(policy, *play)


@given(play=plays(), data=st.data())
def test_state_is_carried_and_nothing_else(policies, play, data):
    steps, setting = play
    cut = data.draw(st.integers(0, len(steps)))
    for policy in policies.values():
        is_deterministic(policy, *play)
        carries_its_state(policy, steps, setting, cut)


@given(play=plays(fits=True))
def test_none_misses_less_than_min_where_every_step_fits(policies, play):
    least = misses_of(policies["min"], *play)
    for kind, policy in policies.items():
        assert misses_of(policy, *play) >= least, kind


@given(play=plays(fits=True))
def test_lru_of_more_slots_holds_all_that_fewer_hold(policies, play):
    steps, setting = play
    setting = replace(setting, initial=(), resident_first=False)
    before = residents_after(policies["lru"], steps, setting)
    misses = misses_of(policies["lru"], steps, setting)
    for slots in range(setting.slots + 1, setting.experts + 1):
        larger = replace(setting, slots=slots)
        after = residents_after(policies["lru"], steps, larger)
        assert all(few <= many for few, many in zip(before, after, strict=True))
        assert misses_of(policies["lru"], steps, larger) <= misses
        before, misses = after, misses_of(policies["lru"], steps, larger)


@given(play=plays())
def test_with_a_slot_for_each_only_first_uses_miss(caches, play):
    steps, setting = play
    setting = replace(setting, slots=setting.experts)
    first = {expert for step in steps for expert in step} - set(setting.initial)
    for kind, policy in caches.items():
        assert misses_of(policy, steps, setting) == len(first), kind


def test_the_studys_lifo(policies):
    """Design 3.2: 2 slots, needs 1, 2, 3: load 1, load 2, then 3 over 2 after 2 has run."""
    activations = activations_of(policies["lifo"], [[1, 2, 3]], Setting(experts=4, slots=2))
    assert activations.hit.tolist() == [False] * 3
    assert activations.victim.tolist() == [-1, -1, 2]
    assert activations.wait.tolist() == [-1, -1, 0]
    assert activations.launch.tolist() == [0, 0, 1]


def test_the_last_in_turn_goes_where_nothing_else_can(caches):
    """Rule (c): 2 and 3 are resident, 1 comes first: 3 goes, and then misses over 1 or 2."""
    setting = Setting(experts=4, slots=2, initial=(2, 3))
    for kind, policy in caches.items():
        activations = activations_of(policy, [[1, 2, 3]], setting)
        assert activations.hit.tolist() == [False, True, False], kind
        assert activations.victim.tolist()[:2] == [3, -1], kind
        assert activations.victim[2] in (1, 2), kind
        assert activations.wait.tolist() == [-1, -1, 0], kind


HAND = [[0], [1], [0], [2], [0, 1]]
"""Two slots. At step 3 expert 2 needs room: 0 was used last, 0 loaded first, 1 used once."""


@pytest.mark.parametrize(
    ("kind", "victims", "misses"),
    [
        ("lru", [-1, -1, -1, 1, -1, 2], 4),
        ("fifo", [-1, -1, -1, 0, 2, -1], 4),  # 0 goes; at its activation 1 is needed, so 2 goes
        ("lifo", [-1, -1, -1, 1, -1, 2], 4),
        ("lfu", [-1, -1, -1, 1, -1, 2], 4),
        ("min", [-1, -1, -1, 1, -1, 2], 4),  # both are next needed at step 4, 1 an activation later
    ],
)
def test_victims_by_hand(policies, kind, victims, misses):
    activations = activations_of(policies[kind], HAND, Setting(experts=3, slots=2))
    assert activations.victim.tolist() == victims
    assert int((~activations.hit).sum()) == misses


class Neighbour(CachePolicy):
    """Orders by the next expert's use: the last expert has none."""

    kind: Literal["neighbour"] = "neighbour"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert + 1]


class OfVictim(CachePolicy):
    """Writes of who left, also where none did."""

    kind: Literal["of_victim"] = "of_victim"
    memory: ClassVar[int] = 1

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        state[ROWS, victim] = now

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert]


@pytest.mark.parametrize(
    ("policy", "function", "index"), [(Neighbour, "key", 6), (OfVictim, "after_activation", -1)]
)
def test_what_reaches_beyond_the_state_is_found(policy, function, index):
    """Compiled it takes whatever stands there, and a run says nothing."""
    steps, setting = [[0, 1], [4, 5], [1, 2], [0, 3]], Setting(experts=6, slots=3)
    activations_of(policy(), steps, setting)
    line = getsourcelines(getattr(policy, function))[1] + 2
    said = rf"reaches beyond 'state', index {index} is out of bounds .*\.py:{line}\)"
    with pytest.raises(AssertionError, match=f"{policy.__name__} {said}"):
        keeps_the_rules(policy(), steps, setting)


class Moody(CachePolicy):
    """The highest id goes in one run and the lowest in the next."""

    kind: Literal["moody"] = "moody"
    memory: ClassVar[int] = 1
    moods: ClassVar[Any] = cycle([-1, 1])

    def start(self, state: Any, slots: Any, resident: Any, layers: Any) -> None:
        state[ROWS] = next(self.moods)

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[ROWS, 0] * expert


def test_one_whose_runs_differ_is_named():
    said = "Moody: 'victim' of the activations differs between equal runs"
    with pytest.raises(AssertionError, match=said):
        carries_its_state(Moody(), [[0], [1], [2]], Setting(experts=3, slots=2), 1)
