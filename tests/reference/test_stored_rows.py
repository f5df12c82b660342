"""Passes of a row each on one GPU under LRU whose host memory is a cache above storage, of which
nothing is kept but what layers miss and which of that is read, against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import run
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.makers import maker_of
from moesim.engine.replay.quick.stored import StoredRows
from moesim.engine.replay.run import run_replay
from moesim.memory.policies.lru import Lru
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary

from .agreement import assert_same
from .strategies import Case, few
from .strategies_host import storage_cases
from .test_handled import SCOPES
from .test_one_row import listed, one_row


def stored(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time, on one GPU above a cache of the host, by slots or by bytes."""
    case = replace(case, config=replace(case.config, one_memory=False, nodes=1))
    theirs = one_row(case, draw)
    logical = theirs.placement.logical
    placement = replace(theirs.placement, logical=np.sort(logical, axis=1))
    initial = draw(st.sampled_from(["empty", "most_used"]))
    policy = Lru(scope=draw(st.sampled_from(SCOPES)))
    theirs = replace(theirs, initial=initial, placement=placement, policy=policy)
    assert theirs.host_cache is not None
    sizes = theirs.stored
    if theirs.host_cache.slots and draw(st.booleans()):
        limit = draw(st.integers(int(sizes.max()), int(sizes.sum()) * logical.shape[1]))
        slots = limit // int(sizes.max())
        theirs = replace(theirs, host_cache=replace(theirs.host_cache, limit=limit, slots=slots))
    assume(maker_of(theirs, None) is StoredRows)
    return theirs


@given(storage_cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = stored(case, data.draw)
    cut = patch.object(routing, "CELLS", cells), patch.object(reuse, "ACTIVATIONS", 40)
    with patch.object(run, "CommonProgram", None), cut[0], cut[1], listed(data.draw):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(storage_cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = stored(case, data.draw)
    with patch.object(run, "CommonProgram", None), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)
