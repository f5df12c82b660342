"""Passes of a row each on one GPU under LRU whose misses are not all loaded, or whose rows choose
fewer experts than they may, of which nothing is kept but their numbers, against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.pricing.passes import Pricing
from moesim.engine.replay import run
from moesim.engine.replay.quick.handled import FewerLoaded, FewerRows, HandledRows
from moesim.engine.replay.quick.left import LeftRows
from moesim.engine.replay.quick.makers import maker_of
from moesim.engine.replay.run import run_replay
from moesim.memory.forms import IN_SLOT, LOADED, ON_HOST, OVER_LINK, Form
from moesim.memory.misses import registry
from moesim.memory.misses.base import MissHandling
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.initial import Initial
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary
from moesim.trace.routing import NO_EXPERT, RoutingTrace

from .agreement import assert_same
from .strategies import Case, cases, few
from .test_one_row import listed, one_row, taken

WAYS: list[tuple[str, dict[str, Any]]] = [
    ("load", {}),
    ("skip", {}),
    ("cpu", {}),
    ("zero_copy", {}),
    ("cheapest", {}),
    ("cheapest", {"uploads": 1}),
    ("split", {}),
    ("split", {"rule": "bandwidth", "alpha": 0.5}),
]
SCOPES: list[Literal["layer", "global"]] = ["layer", "global"]
FILLED: list[Initial] = ["most_used", "lowest_ids", "random"]


class FirstTwo(MissHandling):
    """The first two misses are loaded, and what becomes of the others is drawn."""

    kind: Literal["first_two"] = "first_two"
    compares: ClassVar[bool] = True

    @staticmethod
    def place(missing: Any) -> Any:
        """A load, while there are few."""
        return IN_SLOT if missing.loads < 2 else 1


class OrHost(FirstTwo):
    forms: ClassVar[tuple[Form, ...]] = (LOADED, ON_HOST)


class OrRead(FirstTwo):
    forms: ClassVar[tuple[Form, ...]] = (LOADED, OVER_LINK)


class OrLost(FirstTwo):
    forms: ClassVar[tuple[Form, ...]] = (LOADED, Form("given_up", "nowhere", "none"))


class OrLoaded(FirstTwo):
    forms: ClassVar[tuple[Form, ...]] = (LOADED, Form("loaded_late", "gpu", "slot"))


OWN = (OrHost, OrRead, OrLost, OrLoaded)


def handled(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time, on one GPU, with a way to handle misses, and slots that may
    hold some experts at first, or, where nothing is loaded, less than a token needs.
    """
    theirs, (kind, parameters) = one_row(case, draw), draw(st.sampled_from(WAYS))
    if kind == "load" or draw(st.booleans()):
        theirs = replace(theirs, trace=_fewer(theirs.trace, draw))
    miss = registry.get(kind)(**parameters)
    slots = theirs.slots if miss.loads else theirs.slots // draw(st.sampled_from([1, 2, 8]))
    bandwidths = draw(st.sampled_from([(1, 1), (1, 3), (4, 1)]))
    initial = draw(st.sampled_from(["empty", *FILLED]))
    theirs = replace(theirs, miss=miss, slots=slots, bandwidths=bandwidths, initial=initial)
    theirs = replace(theirs, policy=Lru(scope=draw(st.sampled_from(SCOPES))))
    assume(maker_of(theirs, None) in (HandledRows, FewerRows, FewerLoaded, LeftRows))
    return theirs


def _fewer(trace: RoutingTrace, draw: Any) -> RoutingTrace:
    """The trace without some of its choices."""
    ids = trace.expert_ids.copy()
    left = draw(st.lists(st.booleans(), min_size=ids.size, max_size=ids.size))
    ids.reshape(-1)[np.array(left, np.bool_)] = NO_EXPERT
    return replace(trace, expert_ids=ids)


@given(cases(), st.data())
def test_fewer_experts_whose_misses_are_loaded_are_des(case: Case, data: st.DataObject) -> None:
    """Be what their rows take known by how many they are or not."""
    theirs, by_rows = one_row(case, data.draw), data.draw(st.booleans())
    theirs = replace(
        theirs,
        trace=_fewer(theirs.trace, data.draw),
        initial=data.draw(st.sampled_from(["empty", *FILLED])),
        policy=Lru(scope=data.draw(st.sampled_from(SCOPES))),
    )
    assume(maker_of(theirs, None) is FewerLoaded)
    prices = Pricing.by_rows if by_rows else lambda *_: None
    with patch.object(run, "CommonProgram", None), patch.object(Pricing, "by_rows", prices):
        assert_same(run_replay(theirs), run_des(theirs))


@given(cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = handled(case, data.draw)
    cut = patch.object(routing, "CELLS", cells)
    with patch.object(run, "CommonProgram", None), cut, listed(data.draw):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = handled(case, data.draw)
    with patch.object(run, "CommonProgram", None), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


@given(cases(), st.data())
def test_loads_from_filled_slots_are_des(case: Case, data: st.DataObject) -> None:
    """Those who were there at first and have not been used go in ascending order; layers may share
    their slots.
    """
    theirs = one_row(case, data.draw)
    initial = data.draw(st.sampled_from(["empty", *FILLED]))
    policy = Lru(scope=data.draw(st.sampled_from(SCOPES)))
    theirs = replace(theirs, initial=initial, policy=policy)
    with taken(theirs), listed(data.draw):
        assert_same(run_replay(theirs), run_des(theirs))


@given(cases(), st.data(), st.sampled_from(OWN))
def test_a_way_of_ones_own_that_loads_some_is_des(
    case: Case, data: st.DataObject, way: type[MissHandling]
) -> None:
    theirs = replace(one_row(case, data.draw), miss=way(), policy=Lru())
    assert_same(run_replay(theirs), run_des(theirs))
