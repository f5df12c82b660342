"""Passes of a row each on one GPU under LRU whose experts are prefetched one layer ahead by
predictions that are always right, against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import run
from moesim.engine.replay.quick.foretold import is_foretold
from moesim.engine.replay.run import run_replay
from moesim.experiment.running.run import run as simulated
from moesim.memory.prefetch.oracle import Oracle
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary

from .agreement import assert_same
from .strategies import Case, few
from .strategies_prefetch import prefetching_cases
from .test_handled import FILLED
from .test_one_row import one_row


def foretold(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time with an oracle; slots may hold some experts at first."""
    initial = draw(st.sampled_from(["empty", *FILLED]))
    theirs = replace(one_row(case, draw), prefetch=Oracle(), initial=initial)
    assume(is_foretold(theirs))
    return theirs


@given(prefetching_cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = foretold(case, data.draw)
    with patch.object(run, "_play_prefetching", None), patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(prefetching_cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = foretold(case, data.draw)
    with patch.object(run, "_play_prefetching", None), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


OTHERS: list[dict[str, Any]] = [
    {"layers": 2}, {"recall": "90 %"}, {"precision": "90 %"}, {"budget": "1 MB"}, {"cost": "1 us"},
    {"when": "before_pass"},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
@few
@given(case=prefetching_cases(), data=st.data())
def test_other_predictions_are_decided_on_the_clock(
    case: Case, data: st.DataObject, other: dict[str, Any]
) -> None:
    theirs = replace(foretold(case, data.draw), prefetch=Oracle(**other))
    assert not is_foretold(theirs)


@pytest.mark.parametrize("slots", [8, 12])
@pytest.mark.parametrize(
    ("model", "hardware"), [("olmoe-1b-7b@experts=q2_k", "gb200"), ("gpt-oss-20b", "rtx-4090")]
)
def test_at_real_prices(slots: int, model: str, hardware: str) -> None:
    """A copy takes less than its host to issue it, and much more."""
    experiment: dict[str, Any] = {
        "model": model, "hardware": hardware, "software": "vllm", "workload": {"requests": 2},
        "experts": {"capacity": f"{slots} slots/layer", "prefetch": {"kind": "oracle"}},
    }  # fmt: skip
    own = ("engine", "engine_reason", "engine_wall_s", "intervals")
    told = []
    for engine in ("des", "replay"):
        with patch.object(run, "_play_prefetching", None):
            done = simulated({**experiment, "engine": engine}, limit_steps=24).summary
        told.append({key: value for key, value in done.items() if key not in own})
    assert told[0] == told[1]
