"""Prefetches in time, worked by hand from docs/semantics.md, every nanosecond of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from .prefetch_scenes import AHEAD, KIND, FlatPrices, of_layer, play, spans, ways
from .reference_words import Software
from .scenes import log


def test_one_that_has_arrived_is_a_hit() -> None:
    verdict = play([[[0], [1]]], copy=50, slots=1, prefetch={"kind": "oracle"})
    # known at 10; copy of 0: 60; launch: 160. The prefetch follows the demand copy: 60 - 110.
    # Layer 1 is known at 170, when it is there: launch 270
    assert spans(verdict, "copy_in") == [(0, (0,), 10, 60), (1, (1,), 60, 110)]
    assert spans(verdict, "compute") == [(0, (0,), 60, 160), (1, (1,), 170, 270)]
    assert (verdict.hits, verdict.late, verdict.misses) == (1, 0, 1)
    assert of_layer(verdict, 0, 1, *AHEAD) == (1, 1, 0, 0)
    assert of_layer(verdict, 0, 0, *AHEAD) == (0, 0, 0, 0)
    assert (verdict.bytes_h2d, verdict.stall_ns, verdict.duration_ns) == (100, 50, 270)


def test_one_in_flight_is_waited_for() -> None:
    verdict = play([[[0], [1]]], copy=150, slots=1, prefetch={"kind": "oracle"})
    # copy of 0: 10 - 160; launch: 260; the prefetch 160 - 310. Known at 270: 40 are missing
    assert spans(verdict, "copy_in") == [(0, (0,), 10, 160), (1, (1,), 160, 310)]
    assert spans(verdict, "compute") == [(0, (0,), 160, 260), (1, (1,), 310, 410)]
    assert of_layer(verdict, 0, 1, "hits", "late", "misses", "stall_ns") == (0, 1, 0, 40)
    assert of_layer(verdict, 0, 1, *AHEAD) == (1, 1, 0, 0)
    assert (verdict.bytes_h2d, verdict.accesses, verdict.access_hits) == (300, 2, 0)


@pytest.mark.parametrize(
    ("copy", "way", "counts"),
    [
        # Layer 1 is known at 10 + copy + 100 + 10; the second could start at 10 + 2 x copy
        (109, "h", (2, 1, 0, 0)),  # 228 < 229
        (110, "h", (1, 1, 1, 0)),  # 230 = 230: has not started, but the first has just ended
        (111, "l", (1, 1, 1, 0)),  # the first ends at 232 > 231
    ],
)
def test_at_one_nanosecond(copy: int, way: str, counts: tuple[int, ...]) -> None:
    """Wrong and not started, the second is cancelled."""
    predicted = [[[], [1, 2]]]
    verdict = play([[[0], [1]]], predicted, copy=copy, slots=2, prefetch={"kind": KIND})
    assert ways(verdict, 0, 1) == way
    assert of_layer(verdict, 0, 1, *AHEAD) == counts
    assert verdict.bytes_h2d == (1 + counts[0]) * copy


def test_one_that_waits_is_promoted_to_its_activations_place() -> None:
    predicted = [[[], [1, 2]]]
    verdict = play([[[0], [0, 1, 2]]], predicted, copy=150, slots=3, prefetch={"kind": KIND})
    # 0: 10 - 160; prefetch of 1: 160 - 310; 2 would follow. Layer 1 is known at 270: activations 0
    # missed, 1 and 2 late. Demand copies are 0: 310 - 460, and 2: 460 - 610. Launch: 610 - 710
    assert ways(verdict, 0, 1) == "mll"
    assert spans(verdict, "copy_in") == [
        (0, (0,), 10, 160),
        (1, (1,), 160, 310),
        (1, (0,), 310, 460),
        (1, (2,), 460, 610),
    ]
    assert spans(verdict, "compute")[1] == (1, (0, 1, 2), 610, 710)
    assert of_layer(verdict, 0, 1, *AHEAD) == (2, 2, 0, 1)
    assert verdict.bytes_h2d == 4 * 150


def test_a_promoted_copy_was_issued_before_and_costs_the_host_nothing() -> None:
    """Layer 0 has no miss: its one prefetch is issued at 10 + 400, after layer 1 is known."""
    software = Software(host_per_copy_ns=400)
    verdict = play(
        [[[0], [0]]],
        copy=50,
        slots=1,
        miss="zero_copy",
        decide="device",
        software=software,
        prefetch={"kind": "oracle"},
    )
    # layer 0: known 10, launch 110 (the link's 50 are shorter). Layer 1: known 120; copy 410 - 460;
    # launch 560. The host has issued at 410, and has nothing else to do
    assert spans(verdict, "copy_in") == [(1, (0,), 410, 460)]
    assert of_layer(verdict, 0, 1, "late", "stall_ns", *AHEAD) == (1, 340, 1, 1, 0, 1)
    assert (verdict.duration_ns, verdict.time_ns["host"]) == (560, 0)


def test_the_host_issues_demand_copies_then_prefetches() -> None:
    software = Software(host_per_copy_ns=200)
    verdict = play(
        [[[0, 1], [0, 1]]],
        copy=50,
        slots=2,
        decide="device",
        software=software,
        prefetch={"kind": "oracle"},
    )
    # known at 10; demand copies are issued at 210 and 410, prefetches at 610 and 810; the host
    # has done all at 810. Launch: 460 - 560. Layer 1 is known at 570: both wait for the host
    assert spans(verdict, "copy_in") == [
        (0, (0,), 210, 260),
        (0, (1,), 410, 460),
        (1, (0,), 610, 660),
        (1, (1,), 810, 860),
    ]
    assert of_layer(verdict, 0, 1, *AHEAD) == (2, 2, 0, 2)
    assert verdict.duration_ns == 960


def test_the_host_has_spent_its_time_for_one_that_is_cancelled() -> None:
    """Known at 10: the prefetch would be issued at 410. Cancelled at 120; the host ends at 410."""
    software = Software(host_per_copy_ns=400)
    verdict = play(
        [[[0], [1]]],
        [[[], [0]]],
        copy=50,
        slots=1,
        miss="zero_copy",
        decide="device",
        software=software,
        prefetch={"kind": KIND},
    )
    assert of_layer(verdict, 0, 1, "misses", *AHEAD) == (1, 0, 0, 1, 0)
    assert spans(verdict, "compute")[1] == (1, (1,), 120, 220)
    assert (verdict.duration_ns, verdict.time_ns["host"]) == (410, 190)


def test_a_cancelled_one_leaves_its_slot_and_an_unneeded_one_stays() -> None:
    passes = [[[0], [3]], [[0], [0, 1]]]
    predicted: list[list[list[int]]] = [[[], [1, 2]], [[], []]]
    verdict = play(passes, predicted, copy=150, slots=3, prefetch={"kind": KIND})
    # Layer 1 is known at 270: 1 is in flight until 310 and stays, 2 waits and is cancelled.
    # 3: 310 - 460; launch 560. Pass 1: layer 0 hits: 670; layer 1: 680: 0 takes the free slot
    assert of_layer(verdict, 0, 1, *AHEAD) == (1, 0, 1, 0)
    assert log(verdict, 1) == [(0, "", None), (0, "free", None), (1, "", None)]
    assert ways(verdict, 1, 1) == "mh"
    # what came in another pass than it was meant for is not used there
    assert verdict.prefetches_used == 0


def test_a_late_expert_that_waits_and_is_evicted_is_cancelled() -> None:
    predicted = [[[], [1, 2]]]
    verdict = play([[[0], [0, 1, 2]]], predicted, copy=150, slots=[1, 2], prefetch={"kind": KIND})
    # Known at 270: 1 in flight until 310, 2 waits. 0 misses and takes the place of 2 (c), whose
    # copy is cancelled; 1 is late; 2 misses and waits for 0 (b), used before 1.
    assert log(verdict, 0)[1:] == [(0, "c", 2), (1, "", None), (2, "b", 0)]
    assert ways(verdict, 0, 1) == "mlm"
    assert of_layer(verdict, 0, 1, *AHEAD, "misses_caused") == (1, 1, 1, 0, 0)
    assert spans(verdict, "copy_in")[2:] == [(1, (0,), 310, 460), (1, (2,), 560, 710)]
    assert verdict.duration_ns == 810


def test_a_late_activation_is_no_resident_for_the_order() -> None:
    """Residents first: 2 stays from pass 0; 1 is in flight, and runs in a launch after 2."""
    passes = [[[0], [2]], [[1], [1, 2]]]
    predicted: list[list[list[int]]] = [[[], []], [[], [1]]]
    verdict = play(
        passes, predicted, copy=150, slots=[1, 2], order="resident_first", prefetch={"kind": KIND}
    )
    # pass 0: 10 - 160 - 260; 270 - 420 - 520. Pass 1: 530 - 680 - 780; the prefetch 680 - 830;
    # layer 1 is known at 790: launch [2] until 890, then [1]
    assert ways(verdict, 1, 1) == "hl"
    assert spans(verdict, "compute")[-2:] == [(1, (2,), 790, 890), (1, (1,), 890, 990)]


def test_a_budget_leaves_out_what_would_exceed_it() -> None:
    """Two of three are in the works at a time; the third is predicted again one layer later."""
    passes = [[[0], [1], [1, 2]]]
    ahead = {"kind": "oracle", "layers": 2, "budget": 2 * 50 + 49}
    verdict = play(passes, copy=50, slots=3, prefetch=ahead)
    # 0: 10 - 60; launch 160; prefetches 60 - 110 (layer 1) and 110 - 160 (expert 1 of layer 2).
    # Layer 1 is known at 170: both have ended: expert 2 170 - 220; launch 270; layer 2 hits at 280
    assert spans(verdict, "copy_in") == [
        (0, (0,), 10, 60),
        (1, (1,), 60, 110),
        (2, (1,), 110, 160),
        (2, (2,), 170, 220),
    ]
    assert (verdict.hits, verdict.duration_ns) == (3, 380)
    short = play(passes, copy=50, slots=3, prefetch={**ahead, "budget": 49})
    assert (short.prefetched, short.misses) == (0, 4)


def test_a_copy_in_flight_counts_for_the_budget() -> None:
    """As above with longer copies: when layer 1 is known at 270, both are still in the works."""
    ahead = {"kind": "oracle", "layers": 2, "budget": 2 * 150}
    verdict = play([[[0], [], [1, 2, 3]]], copy=150, slots=3, prefetch=ahead)
    # layer 0 asks for 1 and 2 of layer 2; 160 - 310 is in flight and 310 - 460 queued at 270.
    assert of_layer(verdict, 0, 2, "misses", "prefetched") == (1, 2)


def test_a_layer_that_is_all_resident_counts_but_gets_nothing() -> None:
    """Layer 1 has slots for all: with one layer ahead, layer 2 gets nothing from layer 0."""
    ahead = {"kind": "oracle", "layers": 1}
    verdict = play([[[0], [1], [2]]], copy=50, slots=[1, 4, 1], prefetch=ahead)
    # layer 0: 10 - 60 - 160; layer 1 is known at 170 and asks for 2: 170 - 220; launch 270
    assert spans(verdict, "copy_in") == [(0, (0,), 10, 60), (2, (2,), 170, 220)]
    assert (verdict.hits, verdict.duration_ns) == (2, 380)


@pytest.mark.parametrize(
    "choices",
    [
        {"software": Software(blocking=True)},
        {"software": Software(overlap=False)},
        {"policy": "arc"},
        {"policy": "s3fifo"},
        {"policy": "stream"},
        {"slots": 4},
    ],
)
def test_where_there_is_none(choices: dict[str, Any]) -> None:
    passes = [[[0], [1]], [[1], [2]]]
    given = {"slots": 1, **choices}
    with_it = play(passes, copy=50, prefetch={"kind": "oracle"}, **given)
    without = play(passes, copy=50, prefetch={}, **given)
    assert with_it == without


def test_a_promoted_copy_counts_for_the_budget() -> None:
    """Two at a time: at 270 expert 1 of layer 1 is in flight and 2 promoted: 3 finds no room."""
    predicted = [[[], [1, 2], [3]]]
    passes = [[[0], [1, 2], [3]]]
    ahead = {"kind": KIND, "budget": 2 * 150}
    verdict = play(passes, predicted, copy=150, slots=2, prefetch=ahead)
    assert of_layer(verdict, 0, 1, *AHEAD) == (2, 2, 0, 1)
    assert of_layer(verdict, 0, 2, "misses", "prefetched") == (1, 0)


@pytest.mark.parametrize(("computed", "up"), [(0, (10, 11)), (30, (160, 161)), (200, (210, 211))])
def test_rows_of_the_host_wait_for_one_in_flight_and_others_for_them(
    computed: int, up: tuple[int, int]
) -> None:
    """Layer 0 is known at 10, and its expert ``computed`` by the host; that of layer 1 is copied
    ahead, 150 ns. At one nanosecond rows come first.
    """
    prices = HostPrices(computed)
    given: dict[str, Any] = {"prefetch": {"kind": "oracle"}, "miss": "cpu", "prices": prices}
    verdict = play([[[0], [1]]], copy=150, slots=1, **given)
    begins = up[1] if computed == 0 else 10
    assert spans(verdict, "copy_in") == [(1, (1,), begins, begins + 150)]
    assert spans(verdict, "host")[0] == (0, (0,), 10, up[1])


@dataclass(frozen=True)
class HostPrices(FlatPrices):
    """With ``computed`` ns for an expert of the host."""

    computed: int

    def cpu_expert_ns(self, layer: Any, rows: int) -> int:
        return self.computed
