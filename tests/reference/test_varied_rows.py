"""Passes of a row each on one GPU under LRU whose experts have variants, which stand in a stack
each, against `des`.
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
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.varied_rows import has_varied_rows
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary

from .agreement import assert_same
from .strategies import Case, few
from .strategies_variants import variant_cases
from .test_one_row import one_row


def varied(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time, on one GPU, each variant with slots that hold what a token
    needs, some of them in use at first.
    """
    theirs = one_row(case, draw)
    assert theirs.variants is not None
    placement = replace(theirs.placement, logical=np.sort(theirs.placement.logical, axis=1))
    top_k, experts = theirs.trace.top_k, placement.physical
    count, _, layers = theirs.variants.slots.shape
    few = st.lists(st.integers(top_k, max(top_k, experts - 1)), min_size=layers, max_size=layers)
    slots = np.array([theirs.slots.tolist(), *([draw(few)] for _ in range(count - 1))])
    theirs = replace(
        theirs,
        placement=placement,
        initial=draw(st.sampled_from(["empty", "most_used", "random"])),
        variants=replace(theirs.variants, slots=slots),
    )
    assume(has_varied_rows(theirs))
    return theirs


@given(variant_cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = varied(case, data.draw)
    cut = patch.object(routing, "CELLS", cells), patch.object(reuse, "ACTIVATIONS", 40)
    with patch.object(run, "VariedProgram", None), cut[0], cut[1]:
        found, others = run_replay(theirs), run_des(theirs)
    assert_same(found, others)
    assert found.fates is not None
    assert others.fates is not None
    assert found.fates.names == others.fates.names
    for name in ("by_layer", "by_request", "unpacking_ns"):
        np.testing.assert_array_equal(getattr(found.fates, name), getattr(others.fates, name))


@few
@given(variant_cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = varied(case, data.draw)
    with patch.object(run, "VariedProgram", None), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


@few
@given(variant_cases(), st.data())
def test_copies_that_differ_are_told_apart_where_the_host_takes_longer(
    case: Case, data: st.DataObject
) -> None:
    """Whose order then matters."""
    rest = [replace(one, nested=True) for one in case.config.variants]
    rest.sort(key=lambda one: -one.expert_bytes)
    nested = replace(case, config=replace(case.config, variants=tuple(rest)))
    theirs = varied(nested, data.draw)
    update = {"host_per_copy_ns": 1e6, "blocking": False}
    slower = replace(theirs, software=theirs.software.model_copy(update=update))
    assert not has_varied_rows(slower)
    assert_same(run_replay(slower), run_des(slower))
    blocked = slower.software.model_copy(update={"blocking": True})
    assert has_varied_rows(replace(slower, software=blocked))


@pytest.mark.parametrize("nested", [False, True])
def test_many_choices_of_many_experts(nested: bool) -> None:
    """Eight of 128: more than are moved up at once, in several lines."""
    low = {"format": "int4", "group": 64, "nested": nested}
    experts = {"variants": {"high": {"capacity": "60 %"}, "low": low}, "capacity": "30 slots/layer"}
    given = {
        "model": {"base": "qwen3-30b-a3b", "format": {"experts": "bf16"}},
        "hardware": "h100-sxm",
        "trace": "auto",
        "workload": {"phase": "decode"},
        "experts": experts | {"choose": {"kind": "gate_cumulative", "high": "50 %"}},
    }
    whole = build(load_experiment(given).experiment).case
    case = replace(whole, schedule=whole.schedule.first(12))
    assert has_varied_rows(case)
    assert_same(run_replay(case), run_des(case))
