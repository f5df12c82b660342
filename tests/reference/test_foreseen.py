"""Passes of served requests that `replay` plays before they are known, against `des`, which asks
for each one when that before has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.quick import shared
from moesim.engine.replay.quick.foreseen import is_foreseen
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies
from moesim.workload.serving import foreseen
from moesim.workload.serving.foreseen import Foresight
from moesim.workload.serving.state import BEGIN, STEPS, State

from .agreement import assert_same
from .served_by_vllm import serving_of
from .serving_cases import ServingCase, of_vllm
from .strategies import cases
from .test_replay import decided_at_once
from .wiring import engine_case

QUICK = sorted(name for name, one in policies.components.items() if not one.looks_ahead)


def served(theirs: EngineCase, case: ServingCase) -> EngineCase:
    """``theirs`` serves requests of its own."""
    serving = serving_of(theirs, case)
    return replace(theirs, scheduler=serving.passes, serving=serving)


def ended(theirs: EngineCase) -> State:
    assert theirs.serving is not None
    assert theirs.serving.state is not None
    return theirs.serving.state


def steps_of(state: State) -> list[list[list[int]]]:
    """What has become of requests, steps and entries."""
    steps = int(state.numbers[STEPS])
    log = state.log[:, : state.steps[BEGIN, steps]]
    parts = state.requests, state.steps[:, :steps], log, state.numbers[None], state.ranks
    return [one.tolist() for one in (*parts, state.blocks, state.table[None], state.found)]


def guessing(wild: int) -> Callable[[Foresight, int], int]:
    """Decides ahead by durations that are drawn below ``wild``, 1: that were seen."""
    stream, plain = np.random.default_rng(wild), Foresight.foresee

    def foresee(self: Foresight, most: int) -> int:
        if wild > 1:
            self.past.durations[:] = stream.integers(0, wild, self.past.durations.shape)
        return plain(self, most)

    return foresee


@given(
    cases() | cases(prompts=True),
    of_vllm(),
    st.sampled_from(QUICK),
    st.sampled_from([1, 2, 3, 64]),
    st.sampled_from([1, 300, 3000]),
    st.sampled_from([1, 100, 50_000]),
    st.data(),
)
def test_what_is_foreseen_is_des(case, serving, policy, most, scale, wild, data):
    """However far guesses of durations are off: what does not hold is taken back."""
    theirs = decided_at_once(engine_case(case), policy)
    ranks = data.draw(st.sampled_from([n for n in (1, 2, 3, 4) if theirs.gpus % n == 0]))
    wishes = [
        replace(one, comes=None if one.comes is None else scale * one.comes)
        for one in serving.wishes
    ]
    least = -(-(18 + serving.settings.ahead) // serving.size)
    room = None if serving.blocks is None else max(serving.blocks, least)
    serving = replace(serving, ranks=ranks, wishes=wishes, blocks=room, longest=None)
    foresees, asks = served(theirs, serving), served(theirs, serving)
    assume(is_foreseen(foresees))
    with (
        patch.object(foreseen, "MOST", most),
        patch.object(shared, "ACTIVATIONS", 40),
        patch.object(Foresight, "foresee", guessing(wild)),
    ):
        played = run_replay(foresees)
    assert_same(played, run_des(asks))
    assert steps_of(ended(foresees)) == steps_of(ended(asks))
