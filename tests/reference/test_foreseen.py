"""Passes of served requests that `replay` plays before they are known, against `des`, which asks
for each one when that before has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.pricing import passes, prices, ragged_launches
from moesim.engine.replay.common import CommonProgram
from moesim.engine.replay.foreseen import Decider, is_foreseen
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.program import QuickProgram
from moesim.engine.replay.run import run_replay
from moesim.engine.replicas import Play, play_replicas
from moesim.memory.policies import registry as policies
from moesim.workload.serving.fleets.fleet import Routed
from moesim.workload.serving.fleets.wire import Roles
from moesim.workload.serving.state import BEGIN, STEPS, State
from moesim.workload.serving.stepping import foreseen
from moesim.workload.serving.stepping.foreseen import Foresight

from .agreement import assert_same
from .served_by_vllm import serving_of
from .serving_cases import ServingCase, of_vllm, with_split
from .strategies import Case, cases, few
from .strategies_concepts import rebalancing_cases
from .strategies_host import reading_ahead_cases
from .strategies_prefetch import prefetching_cases
from .strategies_together import concept_cases
from .strategies_variants import prefetching_variants
from .test_disaggregated import APART, ROUTER, first_come, roles_of
from .test_replay import decided_at_once
from .test_replicas import ROUTERS, routed_of
from .wiring import engine_case

QUICK = sorted(name for name, one in policies.components.items() if not one.looks_ahead)


def served(
    theirs: EngineCase, case: ServingCase, routed: Routed | Roles | None = None
) -> EngineCase:
    """``theirs`` serves requests of its own, ``routed`` to replicas of it."""
    serving = replace(serving_of(theirs, case), routed=routed)
    return replace(theirs, scheduler=serving.passes, serving=serving)


def ending_after(steps: int | None, theirs: EngineCase) -> EngineCase:
    """``theirs``, whose run ends after so many steps; None: with its requests."""
    assert theirs.serving is not None
    theirs.serving.most_steps = steps
    return theirs


def ended(theirs: EngineCase) -> State:
    assert theirs.serving is not None
    assert theirs.serving.state is not None
    return theirs.serving.state


def scaled(serving: ServingCase, scale: int) -> ServingCase:
    """What comes so many times as late, and fits."""
    wishes = [
        replace(one, comes=None if one.comes is None else scale * one.comes)
        for one in serving.wishes
    ]
    least = -(-(18 + serving.settings.ahead) // serving.size) * len(serving.settings.windows)
    room = None if serving.blocks is None else max(serving.blocks, least)
    return replace(serving, wishes=wishes, blocks=room, longest=None)


def steps_of(state: State) -> list[list[list[int]]]:
    """What has become of requests, steps and entries."""
    steps = int(state.numbers[STEPS])
    log = state.log[:, : state.steps[BEGIN, steps]]
    parts = state.requests, state.steps[:, :steps], log, state.numbers[None], state.ranks
    return [one.tolist() for one in (*parts, state.blocks, state.table, state.found)]


def guessing(wild: int) -> Callable[[Foresight, int], int]:
    """Decides ahead by durations that are drawn below ``wild``, 1: that were seen."""
    stream, plain = np.random.default_rng(wild), Foresight.foresee

    def foresee(self: Foresight, most: int) -> int:
        if wild > 1:
            self.past.durations[:] = stream.integers(0, wild, self.past.durations.shape)
        return plain(self, most)

    return foresee


AT_ONCE = st.none() | st.sampled_from(QUICK)
"""The policy of a case that is decided in compiled code at once, or None: by ``Program``."""


def of_any(case: Case, policy: str | None) -> EngineCase:
    """The engine's ``case``, changed as ``AT_ONCE`` says; a policy that keeps lists or has buffers
    goes with no prefetches.
    """
    theirs = engine_case(case)
    if policy is None:
        return theirs
    chosen = policies.get(policy)()
    lists = chosen.lists or chosen.shared_buffers() is not None
    return theirs if lists and theirs.prefetches else decided_at_once(theirs, policy)


def exchanging(theirs: EngineCase, case: ServingCase) -> tuple[EngineCase, ServingCase]:
    """``theirs`` gives slots for blocks as ``case`` says, of those that each layer has but one;
    none of a pool by bytes or of several formats.
    """
    settings = case.settings
    needs = -(-(18 + settings.ahead) // case.size) * len(settings.windows)
    if settings.split == "static" or theirs.room(0) is not None or theirs.variants is not None:
        return theirs, replace(case, settings=replace(settings, split="static"))
    least = int(theirs.slots.min()) - 1
    gives = max(0, min(settings.gives, least))
    settings = replace(settings, gives=gives, least=max(settings.least, needs))
    return replace(theirs, exchanges=True), replace(case, settings=settings)


def rehearsed(plain: Callable[..., Any]) -> Callable[..., Any]:
    """All passes are played, taken back, and played."""

    def between(self: CommonProgram | QuickProgram, first: int, last: int) -> Iterator[Any]:
        mark: Any = self.mark()
        for _ in plain(self, first, last):
            pass
        self.back(mark)
        yield from plain(self, first, last)

    return between


def decided_twice(plain: Callable[..., Any]) -> Callable[..., Any]:
    """As ``rehearsed``, of what is decided on the clock."""

    def play(self: Decider, first: int, last: int) -> Any:
        ahead: Any = self._ahead.mark()
        clock = self._clock.mark()
        plain(self, first, last)
        self._ahead.back(ahead)
        self._clock.back(clock)
        return plain(self, first, last)

    return play


@contextmanager
def foreseeing(most: int, wild: int) -> Iterator[None]:
    """At ``most`` so many steps are foreseen, by durations below ``wild``, in short pieces; prices
    of few shapes are kept.
    """
    with (
        patch.object(passes, "MOST", 2),
        patch.object(prices, "MOST", 2),
        patch.object(ragged_launches, "MOST", 2),
        patch.object(foreseen, "AHEAD", most),
        patch.object(reuse, "ACTIVATIONS", 40),
        patch.object(routing, "CELLS", 40),
        patch.object(Foresight, "foresee", guessing(wild)),
        patch.object(CommonProgram, "between", rehearsed(CommonProgram.between)),
        patch.object(QuickProgram, "between", rehearsed(QuickProgram.between)),
        patch.object(Decider, "play", decided_twice(Decider.play)),
    ):
        yield


@few
@given(
    cases() | cases(prompts=True) | concept_cases(),
    of_vllm() | with_split(),
    AT_ONCE,
    st.sampled_from([1, 2, 3, 64]),
    st.sampled_from([1, 300, 3000]),
    st.sampled_from([1, 100, 50_000]),
    st.data(),
)
def test_what_is_foreseen_is_des(case, serving, policy, most, scale, wild, data):
    """However far guesses of durations are off: what does not hold is taken back."""
    theirs = of_any(case, policy)
    ranks = data.draw(st.sampled_from([n for n in (1, 2, 3, 4) if theirs.gpus % n == 0]))
    theirs, serving = exchanging(theirs, replace(scaled(serving, scale), ranks=ranks))
    first = data.draw(st.none() | st.integers(1, 9))
    foresees, asks = (ending_after(first, served(theirs, serving)) for _ in range(2))
    assume(is_foreseen(foresees))
    with foreseeing(most, wild):
        played = run_replay(foresees)
    assert first is None or len(played.ends) <= first
    assert_same(played, run_des(asks))
    assert steps_of(ended(foresees)) == steps_of(ended(asks))


@few
@given(
    prefetching_cases() | prefetching_variants() | reading_ahead_cases() | rebalancing_cases(),
    of_vllm(),
    st.sampled_from([1, 2, 3, 64]),
    st.sampled_from([1, 300, 3000]),
    st.sampled_from([1, 100, 50_000]),
    st.data(),
)
def test_prefetches_and_places_of_what_is_foreseen_are_des(case, serving, most, scale, wild, data):
    """What is decided on the clock, and experts that moved, are taken back with it."""
    theirs = engine_case(case)
    ranks = data.draw(st.sampled_from([n for n in (1, 2, 3, 4) if theirs.gpus % n == 0]))
    serving = replace(scaled(serving, scale), ranks=ranks)
    foresees, asks = (served(theirs, serving) for _ in range(2))
    assume(is_foreseen(foresees))
    with foreseeing(most, wild):
        played = run_replay(foresees)
    assert_same(played, run_des(asks))
    assert steps_of(ended(foresees)) == steps_of(ended(asks))


def fleets(draw: st.DrawFn) -> tuple[Routed | Roles, ServingCase]:
    """Replicas behind any router, or prompts and answers apart, of what comes as drawn."""
    case, seed = draw(of_vllm()), draw(st.integers(0, 9))
    kinds = st.sampled_from((*ROUTERS, "expert"))
    if draw(st.booleans()):
        interval = draw(st.sampled_from([0, 0, 25]))
        return routed_of(draw(kinds), draw(st.integers(1, 3)), interval, seed), case
    routers = draw(st.lists(ROUTER, min_size=2, max_size=2))
    return roles_of(draw(APART), routers, seed), first_come(case)


def played_apart(case: EngineCase, play: Play) -> tuple[list[Outcome | None], list[list[int]]]:
    """The outcome of each engine, and what has become of requests."""
    outcomes, turns, after = play_replicas(case, play)
    assert after.serving is not None
    assert after.serving.replica is not None
    return outcomes, [list(map(list, turns)), after.serving.replica.tolist()]


@few
@given(
    cases() | cases(prompts=True) | prefetching_cases(),
    st.composite(fleets)(),
    AT_ONCE,
    st.sampled_from([1, 2, 3, 64]),
    st.sampled_from([1, 300, 3000]),
    st.sampled_from([1, 100, 50_000]),
)
def test_what_replicas_foresee_is_des(case, fleet, policy, most, scale, wild):
    """Whatever comes to one of them, and whatever else lets it decide otherwise."""
    theirs, (routed, serving) = of_any(case, policy), fleet
    ranks = serving.ranks if theirs.gpus % serving.ranks == 0 else 1
    serving = replace(scaled(serving, scale), ranks=ranks)
    foresees, asks = (served(theirs, serving, routed) for _ in range(2))
    assume(is_foreseen(foresees))
    with foreseeing(most, wild):
        played, told = played_apart(foresees, run_replay)
    others, others_told = played_apart(asks, run_des)
    assert told == others_told
    for one, other in zip(played, others, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert_same(one, other)
