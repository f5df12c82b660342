"""Passes of a row each on one GPU under LRU whose experts are prefetched one layer ahead, by
predictions that are always right and others, against `des`.
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
from moesim.engine.replay.quick import predicted
from moesim.engine.replay.quick.foretold import rows_ahead_of
from moesim.engine.replay.quick.predicted import PredictedRows, is_predicted
from moesim.engine.replay.run import run_replay
from moesim.experiment.running.run import run as simulated
from moesim.memory.prefetch import registry
from moesim.memory.prefetch.oracle import Oracle
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary

from .agreement import assert_same
from .strategies import Case, few
from .strategies_prefetch import prefetching_cases
from .test_handled import FILLED
from .test_one_row import one_row

RIGHT: list[dict[str, Any]] = [
    {}, {"cost": "1 us"}, {"recall": ["100 %"]}, {"kind": "history"},
    {"kind": "history", "cost": "1 us"},
]  # fmt: skip
"""Whose copies follow from the trace: what `history` says is in slots already."""
PREDICTIONS: list[dict[str, Any]] = [
    {"kind": "oracle"}, {"kind": "oracle", "recall": "70 %", "precision": "60 %"},
    {"kind": "oracle", "recall": "0 %"}, {"kind": "oracle", "precision": "10 %", "cost": "1 us"},
    {"kind": "next_layer"}, {"kind": "next_layer", "stop": "first_missing"}, {"kind": "history"},
    {"kind": "recorded"},
]  # fmt: skip


def predicting(case: Case, draw: Any, choices: dict[str, Any]) -> EngineCase:
    """The case one token at a time with a prediction; slots may hold some experts at first."""
    prefetch = registry.get(choices.get("kind", "oracle"))(**choices)
    initial = draw(st.sampled_from(["empty", *FILLED]))
    theirs = replace(one_row(case, draw), prefetch=prefetch, initial=initial)
    assume(is_predicted(theirs))
    assume(not prefetch.recorded or theirs.trace.predicted_ids is not None)
    return theirs


def decided(*, foretold: bool) -> Any:
    """No layer is decided expert by expert; ``foretold``: who is right is known to be."""
    patches: dict[str, Any] = {"_play_prefetching": None}
    if not foretold:
        patches["rows_ahead_of"] = lambda _: PredictedRows
    return patch.multiple(run, **patches)


@pytest.mark.parametrize("every", [RIGHT, PREDICTIONS], ids=["right", "any"])
@few
@given(case=prefetching_cases(), data=st.data(), cells=st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(
    every: list[dict[str, Any]], case: Case, data: st.DataObject, cells: int
) -> None:
    choices = data.draw(st.sampled_from(every))
    theirs = predicting(case, data.draw, choices)
    held = data.draw(st.sampled_from([1, predicted.ACTIVATIONS]))
    at_once = patch.object(predicted, "ACTIVATIONS", held)
    with decided(foretold=every is RIGHT), patch.object(routing, "CELLS", cells), at_once:
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(prefetching_cases(), st.data(), st.sampled_from([1, 40]), st.sampled_from(PREDICTIONS))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int, choices: dict[str, Any]
) -> None:
    theirs = predicting(case, data.draw, choices)
    with decided(foretold=True), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


OTHERS: list[dict[str, Any]] = [{"layers": 2}, {"budget": "1 MB"}, {"when": "before_pass"}]


@pytest.mark.parametrize("other", OTHERS)
@few
@given(case=prefetching_cases(), data=st.data())
def test_other_predictions_are_decided_expert_by_expert(
    case: Case, data: st.DataObject, other: dict[str, Any]
) -> None:
    theirs = replace(predicting(case, data.draw, {}), prefetch=Oracle(**other))
    assert rows_ahead_of(theirs) is None


AT_REAL_PRICES: list[dict[str, Any]] = [
    {"kind": "oracle"}, {"kind": "oracle", "recall": "80 %", "precision": "60 %"},
    {"kind": "next_layer"}, {"kind": "history"},
]  # fmt: skip


@pytest.mark.parametrize("prefetch", AT_REAL_PRICES)
@pytest.mark.parametrize("slots", [8, 12])
@pytest.mark.parametrize(
    ("model", "hardware"), [("olmoe-1b-7b@experts=q2_k", "gb200"), ("gpt-oss-20b", "rtx-4090")]
)
def test_at_real_prices(slots: int, model: str, hardware: str, prefetch: dict[str, Any]) -> None:
    """A copy takes less than its host to issue it, and much more."""
    experiment: dict[str, Any] = {
        "model": model, "hardware": hardware, "software": "vllm", "workload": {"requests": 2},
        "experts": {"capacity": f"{slots} slots/layer", "prefetch": prefetch},
    }  # fmt: skip
    own = ("engine", "engine_reason", "engine_wall_s", "intervals")
    told = []
    for engine in ("des", "replay"):
        with patch.object(run, "_play_prefetching", None):
            done = simulated({**experiment, "engine": engine}, limit_steps=24).summary
        told.append({key: value for key, value in done.items() if key not in own})
    assert told[0] == told[1]
