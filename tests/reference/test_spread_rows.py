"""Passes of a row each on several GPUs under LRU, of which nothing is kept but what layers need and
miss of each GPU, against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import run
from moesim.engine.replay.quick.makers import maker_of
from moesim.engine.replay.quick.spread import MOST, SpreadRows
from moesim.engine.replay.quick.sweeps import SPAN
from moesim.engine.replay.run import run_replay
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary

from .agreement import assert_same
from .prices import ToyPrices
from .reference_words import Config
from .scenes import scene
from .strategies import Case, cases, few, runnable
from .test_handled import FILLED
from .test_one_row import ALONE, apart
from .test_replay import decided_at_once
from .wiring import engine_case

TOGETHER = {"gpus", "group", "placement", "plan"}


def spread(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time, on several GPUs whose slots hold what a token needs of them;
    experts may have replicas, and slots hold some at first.
    """
    assume(case.config.gpus > 1)
    alone = {name: value for name, value in ALONE.items() if name not in TOGETHER}
    kernels = draw(st.sampled_from(["grouped", "batched"]))
    config = runnable(replace(case.config, **alone, kernels=kernels), case.trace)
    theirs = apart(decided_at_once(engine_case(replace(case, config=config)), "lru"), draw)
    held = [len(theirs.local_experts(gpu)) for gpu in range(theirs.gpus)]
    slots = np.array([
        draw(st.lists(
            st.integers(min(theirs.trace.top_k, own), own + 1),
            min_size=theirs.slots.shape[1], max_size=theirs.slots.shape[1],
        ))
        for own in held
    ])  # fmt: skip
    initial = draw(st.sampled_from(["empty", *FILLED]))
    theirs = replace(theirs, slots=slots, kernels=kernels, initial=initial)
    assume(maker_of(theirs, None) is SpreadRows)
    return theirs


@given(cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = spread(case, data.draw)
    with patch.object(run, "CommonProgram", None), patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = spread(case, data.draw)
    with patch.object(run, "CommonProgram", None), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


@pytest.mark.parametrize(
    ("gpus", "held", "taken"),
    [(MOST, 3, True), (2, SPAN - 1, True), (2, SPAN, False), (MOST + 1, 3, False)],
)
def test_the_most_gpus_and_experts(gpus: int, held: int, taken: bool) -> None:
    """Whose ages are the last numbers that there are. (Both at once take minutes in `des`.)"""
    rng, experts = np.random.default_rng(1), gpus * held
    last = sorted({0, 1, held, experts - held, experts - 2, experts - 1})
    steps = [rng.choice(last, 4, replace=False).tolist() for _ in range(15)]
    steps += [rng.choice(experts, 4, replace=False).tolist() for _ in range(15)]
    trace, model = scene(steps, experts)
    slots = min(4, held)
    theirs = engine_case(Case(trace, model, Config(gpus=gpus, slots=slots), ToyPrices()))
    assert (maker_of(theirs, None) is SpreadRows) == taken
    assert_same(run_replay(theirs), run_des(theirs))
