"""Experts on groups of a near-memory device's units: by hand, and against laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.unit_groups import on_groups as on_groups_of_des
from moesim.engine.replay.clock.unit_groups import ASKED, all_gathered, room_for
from moesim.hardware.described.unit_groups import UnitGroups

from .agreement import agree
from .prices import ToyPrices
from .reference_misses import on_groups
from .reference_words import DECODE, Config, Layer, Model, Software
from .strategies import Case

PARTS = (10, 100, 30)
"""Of each expert below: rows to its units, what these take, and sums back."""


def ends_of(groups, parts=PARTS):
    """When each of the experts is gathered, by the engine that knows every span."""
    return [spans[-1] for spans in on_groups_of_des([(one, *parts) for one in groups], 0)]


@pytest.mark.parametrize(
    ("groups", "ends"),
    [
        ([0, 0], [140, 280]),  # one after the other
        ([0, 1], [140, 170]),  # the second's rows wait for the link, and so do its sums
        ([0, 1, 0], [140, 170, 310]),  # the third's rows are asked for at 140, behind these sums
        ([0, 1, 2, 3], [140, 170, 200, 230]),
    ],
)
def test_by_hand(groups, ends):
    assert ends_of(groups) == ends


def test_a_run_by_hand():
    """Two experts of one row, in two groups or in one: 3 + 40 + 1 ns each, of which 5 are rows on
    the link, and 7 back. Of two groups the second's sums come at 42, and wait for the first's,
    which take until 44.
    """
    model = Model([Layer(0, moe=True)], experts=4, top_k=2, hidden=1, activation_bytes=1,
                  expert_bytes=10)  # fmt: skip
    config = Config(slots=1, miss="cpu", near_memory=True, unit_groups=2, row_ns=(5.0, 7.0),
                    software=Software(overlap=True), phase="decode")  # fmt: skip

    def waits_ns(*experts: int, **choices: int) -> int:
        trace = {"expert_ids": [[list(experts)]], "request_id": [0], "position": [0],
                 "phase": [DECODE], "gate_weights": [[[0.5, 0.5]]]}  # fmt: skip
        case = Case(trace, model, config, ToyPrices(base=0, copy_latency=0, cpu_start=0, cpu_row=0))
        return agree(case).cpu_wait_ns

    apart, together = waits_ns(0, 1), waits_ns(0, 2)
    assert together - apart == 88 - 51


@given(
    st.lists(st.tuples(st.integers(0, 3), *[st.integers(0, 9)] * 3), min_size=1, max_size=9),
)
def test_laws(experts):
    """Both engines agree. It takes no less than any group, or than the link; no more than all one
    after the other, which it takes on one group.
    """
    room = room_for(len(experts))
    room[:ASKED] = np.array(experts).T
    taken = all_gathered(room, len(experts))
    visits = on_groups_of_des(experts, 100)
    assert taken == max(spans[-1] for spans in visits) - 100
    whole = [sum(parts) for _, *parts in experts]
    of_group = [
        sum(price for price, (group, *_) in zip(whole, experts, strict=True) if group == one)
        for one in range(4)
    ]
    link = sum(sent + back for _, sent, _, back in experts)
    assert max(*of_group, link) <= taken <= sum(whole)
    room[:ASKED] = np.array([(0, *parts) for _, *parts in experts]).T
    assert all_gathered(room, len(experts)) == sum(whole)


@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 3), min_size=1, max_size=9),
    st.integers(2, 4),
    st.tuples(*[st.sampled_from([0.0, 0.5, 3.25, 40.0])] * 2),
)
def test_parts_add_up_to_prices(experts, number, row_ns):
    """Whatever a row takes on the link; and the reference takes as long."""
    ids, rows, prices = np.array(experts, np.int64).T
    groups, *parts = UnitGroups(number, *row_ns).of(ids, rows, prices)
    assert np.min(parts) >= 0
    assert (np.sum(parts, axis=0) == prices).all()
    room = room_for(len(ids))
    room[:ASKED] = groups, *parts
    taken = all_gathered(room, len(ids))
    assert taken == on_groups(groups.tolist(), rows.tolist(), prices.tolist(), row_ns)
