"""Passes of some rows each on one GPU under LRU, whose layers may need more experts than they have
slots, against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import run, run_clock
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.makers import maker_of
from moesim.engine.replay.quick.some_rows import SomeRows
from moesim.engine.replay.run import run_replay
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary
from moesim.trace.routing import NO_EXPERT

from .agreement import assert_same
from .strategies import Case, cases, few, runnable
from .strategies_concepts import speculating_cases
from .test_handled import FILLED
from .test_one_row import ALONE
from .test_replay import decided_at_once
from .wiring import engine_case


def some_rows(case: Case, draw: Any) -> EngineCase:
    """The case of one GPU whose passes have some rows, with few slots or many."""
    alone = {key: value for key, value in ALONE.items() if key not in ("batch_size", "phase")}
    kernels = draw(st.sampled_from(["grouped", "batched", "serial"]))
    config = runnable(replace(case.config, **alone, kernels=kernels), case.trace)
    theirs = decided_at_once(engine_case(replace(case, config=config)), "lru")
    experts, layers = theirs.placement.physical, theirs.slots.shape[1]
    slots = st.lists(st.integers(1, experts + 1), min_size=layers, max_size=layers)
    initial = draw(st.sampled_from(["empty", *FILLED]))
    theirs = replace(theirs, slots=np.array([draw(slots)]), kernels=kernels, initial=initial)
    if draw(st.booleans()):
        ids = theirs.trace.expert_ids.copy()
        ids[:, :, draw(st.integers(0, ids.shape[2] - 1))] = NO_EXPERT
        theirs = replace(theirs, trace=replace(theirs.trace, expert_ids=ids))
    assume(maker_of(theirs, None) is SomeRows)
    return theirs


@given(cases() | speculating_cases(), st.data(), st.sampled_from([1, 40, reuse.ACTIVATIONS]))
def test_passes_of_some_rows_are_des(case: Case, data: st.DataObject, activations: int) -> None:
    """By the clock of one GPU alone."""
    theirs, by_others = some_rows(case, data.draw), patch.object(run_clock, "play_decided", None)
    cut = patch.object(reuse, "ACTIVATIONS", activations)
    with patch.object(run, "CommonProgram", None), cut, by_others:
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.data())
def test_passes_of_some_rows_are_added_up_as_they_come(case: Case, data: st.DataObject) -> None:
    theirs = some_rows(case, data.draw)
    with patch.object(run, "CommonProgram", None), patch.object(reuse, "ACTIVATIONS", 40):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)
