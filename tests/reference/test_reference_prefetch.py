"""Prefetches worked by hand from docs/semantics.md, every nanosecond of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from .reference import reference
from .reference_words import (
    DECODE,
    NO_EXPERT,
    Config,
    Layer,
    Model,
    Prefetch,
    Software,
    Trace,
    Verdict,
)
from .scenes import activations_of, log

KIND = "recorded"
AHEAD = ("prefetched", "prefetches_used", "prefetches_cancelled", "prefetches_promoted")


@dataclass(frozen=True)
class FlatPrices:
    """Attention 10, a launch 100, a copy of an expert its bytes; all else is free."""

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int:
        return 10

    def experts_ns(self, layer: Any, rows: list[int]) -> int:
        return 100

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return size if direction == "h2d" else 0

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_ns"):
            raise AttributeError(name)
        return lambda *arguments: 0


def play(
    passes: list[list[list[int]]],
    predicted: list[list[list[int]]] | None = None,
    *,
    copy: int,
    experts: int = 4,
    prefetch: dict[str, Any],
    prices: Any = None,
    **choices: Any,
) -> Verdict:
    """``passes[s][m]``: what decode step s needs in MoE layer m; a copy takes ``copy`` ns."""
    rows = [*passes, *(predicted or [])]
    top_k = max(len(ids) for row in rows for ids in row)
    trace: Trace = {
        "expert_ids": padded(passes, top_k),
        "request_id": [0] * len(passes),
        "position": list(range(len(passes))),
        "phase": [DECODE] * len(passes),
    }
    if predicted is not None:
        trace["predicted_ids"] = padded(predicted, top_k)
    layers = [Layer(m, moe=True) for m in range(len(passes[0]))]
    model = Model(layers, experts, top_k, 1, 1, expert_bytes=copy)
    config = Config(prefetch=Prefetch(**prefetch), **choices)
    return reference(trace, model, config, prices or FlatPrices())


def padded(rows: list[list[list[int]]], top_k: int) -> list[list[list[int]]]:
    return [[ids + [NO_EXPERT] * (top_k - len(ids)) for ids in row] for row in rows]


def spans(verdict: Verdict, engine: str) -> list[tuple[int, tuple[int, ...], int, int]]:
    """(layer, experts, start, end)."""
    found = [span for span in verdict.spans if span.engine == engine]
    return [(span.layer, span.experts, span.start_ns, span.end_ns) for span in found]


def of_layer(verdict: Verdict, step: int, layer: int, *names: str) -> tuple[int, ...]:
    (row,) = [r for r in verdict.layers if (r["step"], r["layer"]) == (step, layer)]
    return tuple(row[name] for name in names)


def ways(verdict: Verdict, step: int, layer: int) -> str:
    """Of each activation: hit, late or missed."""
    activations = [
        activation for activation in activations_of(verdict, step) if activation.layer == layer
    ]
    return "".join(
        "h" if activation.hit else "l" if activation.late else "m" for activation in activations
    )


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


def test_what_is_predicted_and_there_is_pinned() -> None:
    """One layer, 2 slots. At pass 1, 0 is pinned for pass 2 and 1 is needed: 2 finds no slot."""
    verdict = play([[[0]], [[1]], [[0, 2]]], copy=50, slots=2, prefetch={"kind": "oracle"})
    assert [ways(verdict, s, 0) for s in range(3)] == ["m", "h", "hm"]
    assert log(verdict, 2) == [(0, "", None), (2, "a", 1)]
    assert [of_layer(verdict, s, 0, *AHEAD)[0] for s in range(3)] == [0, 1, 0]


def test_prefetches_and_rule_a_pass_over_pins_under_one_pool() -> None:
    """Two layers, a pool of 3. What layer 0 needs again stays, though it was used longest ago."""
    passes = [[[0], [0, 1]], [[0], [2]]]
    ahead = {"kind": "history", "layers": 2}
    verdict = play(passes, copy=50, slots=[2, 1], scope="global", prefetch=ahead)
    # pass 0: 0; 0, 1 of layer 1: full, all pinned for pass 1 by history.
    # pass 1: 0 hits; then 2 of layer 1, whose pins are lifted: 0, not 0 of layer 0, goes (a)
    assert log(verdict, 1) == [(0, "", None), (2, "a", 0)]
    assert ways(verdict, 1, 0) == "h"


def test_rule_d_takes_the_pinned_expert_whose_layer_comes_last() -> None:
    passes = [[[0, 1, 2], [0]], [[1], [0]]]
    ahead = {"kind": "history", "layers": 2}
    verdict = play(passes, copy=50, slots=1, scope="global", prefetch=ahead)
    # a pool of 2: 0, 1, and 2 over 0 (b). History pins 1 and 2 for pass 1, and 0 finds no slot.
    # Layer 1 needs 0: both are pinned: 2 goes
    assert log(verdict, 0)[2:] == [(2, "b", 0), (0, "d", 2)]
    assert ways(verdict, 1, 0) == "h"


def test_rule_d_looks_for_the_last_layer_from_here() -> None:
    """A pool of 3 pinned for pass 1: 0 of layer 0, 0 and 1 of layer 1. Layer 2: 1 of layer 1."""
    ahead = {"kind": "history", "layers": 3}
    passes = [[[0], [0, 1], [3]], [[0], [0, 1], [3]]]
    verdict = play(passes, copy=50, slots=1, scope="global", prefetch=ahead)
    assert log(verdict, 0)[3] == (3, "d", 1)
    assert [ways(verdict, 1, layer) for layer in (0, 1)] == ["h", "hm"]


def test_a_copy_that_rule_d_evicts_is_cancelled() -> None:
    """Four layers, a pool of 4, and a host that needs 1000 for each copy."""
    passes: list[list[list[int]]] = [[[0], [], [0], [0]]]
    predicted: list[list[list[int]]] = [[[], [], [], [0, 1, 2, 3]]]
    verdict = play(
        passes,
        predicted,
        copy=50,
        slots=1,
        scope="global",
        decide="device",
        software=Software(host_per_copy_ns=1000),
        prefetch={"kind": KIND, "layers": 3},
    )
    # layer 0: 0 1010 - 1060; launch 1160; for layer 3: 0, 1, 2 at 2010, 3010 and 4010; the host
    # 4010 layer 1, 1170: nothing is needed: 3 takes the place of 0 of layer 0: 2170; the host 5010
    # layer 2, 1180: all are pinned for layer 3: 3 goes (d) and is cancelled. The copy waits for
    #   the host, and no prefetch starts meanwhile: 2180 - 2230; launch 2330; the host 6010
    # layer 3, 2340: 0 came 2230 - 2280; 1 and 2 wait for the host and are cancelled
    assert log(verdict, 0) == [(0, "free", None), (0, "d", 3), (0, "", None)]
    assert spans(verdict, "copy_in") == [
        (0, (0,), 1010, 1060),
        (2, (0,), 2180, 2230),
        (3, (0,), 2230, 2280),
    ]
    assert of_layer(verdict, 0, 3, "hits", *AHEAD) == (1, 1, 1, 3, 0)
    assert verdict.duration_ns == 6010


def test_a_prefetch_that_takes_the_place_of_what_is_needed_causes_a_miss() -> None:
    predicted: list[list[list[int]]] = [[[], []], [[], [1]], [[], []]]
    passes = [[[0], [0]], [[0], [0]], [[0], [1]]]
    verdict = play(passes, predicted, copy=50, slots=1, prefetch={"kind": KIND})
    # pass 1: 1 takes the slot of 0 in layer 1, and 0 takes it back (a); 1 then was evicted by it
    assert log(verdict, 1) == [(0, "", None), (0, "a", 1)]
    assert [of_layer(verdict, s, 1, "misses_caused")[0] for s in range(3)] == [0, 1, 0]
    assert of_layer(verdict, 1, 1, *AHEAD) == (1, 0, 0, 0)
    assert verdict.bytes_h2d == (4 + 1) * 50


def test_the_insertion_order_is_the_policy_time() -> None:
    """Layer 1 has activations 0, 1: then 2 is prefetched at time 2, and 3 is loaded over it by
    lifo.
    """
    predicted: list[list[list[int]]] = [[[], []], [[], [2]]]
    passes = [[[0], [0, 1]], [[0], [3]]]
    for policy, victim in (("lifo", 2), ("fifo", 0), ("lru", 2), ("lfu", 2)):
        choices: dict[str, Any] = {"slots": [1, 3], "policy": policy, "experts": 5}
        verdict = play(passes, predicted, copy=50, prefetch={"kind": KIND}, **choices)
        assert log(verdict, 1)[1] == (3, "a", victim), policy


def test_random_draws_victims_of_prefetches_from_a_second_stream() -> None:
    predicted: list[list[list[int]]] = [[[], []], [[], [3, 4]]]
    passes = [[[0], [0, 1, 2]], [[0], [0, 1, 2]]]
    choices: dict[str, Any] = {"slots": [1, 3], "policy": "random", "experts": 6, "seed": 5}
    verdict = play(passes, predicted, copy=50, prefetch={"kind": KIND}, **choices)
    stream = np.random.default_rng([5, zlib.crc32(b"cache_policy.random.prefetch"), 0, 1])
    left = [0, 1, 2]
    for _ in (3, 4):  # each takes the place of one that is neither pinned nor needed
        left.remove(left[int(stream.random() * len(left))])
    assert ways(verdict, 1, 1) == "".join("h" if e in left else "m" for e in range(3))
    assert of_layer(verdict, 1, 1, "prefetched", "misses_caused") == (2, 2)


def test_recorded_predicts_what_the_trace_names_in_this_pass_only() -> None:
    predicted = [[[3], [2, 1]], [[3], [2]]]
    ahead = {"kind": KIND, "layers": 3}
    verdict = play([[[0], [1]], [[0], [1]]], predicted, copy=50, slots=2, prefetch=ahead)
    # 0: 10 - 60, then 1 and 2 of layer 1, in ascending id: 60 - 110, 110 - 160. Never 3.
    # pass 1: 1 and 2 are there
    expected = [(0, (0,), 10, 60), (1, (1,), 60, 110), (1, (2,), 110, 160)]
    assert spans(verdict, "copy_in") == expected
    assert (verdict.prefetched, verdict.prefetches_used) == (2, 1)


def test_history_is_what_the_last_pass_needed() -> None:
    passes = [[[0], [1]], [[2], [3]], [[0], [1]]]
    verdict = play(passes, copy=50, slots=1, prefetch={"kind": "history", "layers": 2})
    # pass 0, layer 0: nothing is known of layer 1; its own 0 is pinned for pass 1.
    #   0: 10 - 60; launch 160; layer 1: 170 - 220; launch 320
    # pass 1: 2 over 0: 330 - 380; launch 480. For layer 1 in this pass 1, which is there.
    #   layer 1: 490 - 540; 3 over 1; launch 640. For layer 0 in pass 2: 2, there
    # pass 2: the same again: no prefetch at all with one slot
    assert verdict.prefetched == 0
    assert verdict.duration_ns == 960
    wide = play(passes, copy=50, slots=2, prefetch={"kind": "history", "layers": 2})
    # nothing is evicted, so that what history names is there
    assert (wide.prefetched, wide.hits) == (0, 2)


def test_history_brings_back_what_was_evicted() -> None:
    """A pool of 3: in pass 0, 3 of layer 2 takes the place of 0 of layer 0 (a), used longest ago.

    Layer 2 then asks for 0 again, over 1 of layer 1.
    """
    passes = [[[0], [1, 2], [3]], [[0], [2], []]]
    verdict = play(passes, copy=50, slots=1, scope="global", prefetch={"kind": "history"})
    assert log(verdict, 0)[-1] == (3, "a", 0)
    assert ways(verdict, 1, 0) == ways(verdict, 1, 1) == "h"
    assert of_layer(verdict, 1, 0, "prefetched", "prefetches_used") == (1, 1)


def test_what_is_predicted_and_there_is_pinned_before_others_take_slots() -> None:
    """One layer, 2 slots, that needs 0, 1, 2: 0 was evicted (b). History predicts all three."""
    passes = [[[0, 1, 2], [0]], [[0], [0]]]
    for layers in (1, 2):
        ahead = {"kind": "history", "layers": layers}
        verdict = play(passes, copy=50, slots=[2, 1], prefetch=ahead)
        # at layer 1 (and, with two layers ahead, at layer 0), 1 and 2 are pinned: no slot for 0
        assert of_layer(verdict, 1, 0, "prefetched") == (0,)
        assert ways(verdict, 1, 0) == "m"


def test_no_prefetch_for_a_near_layer_takes_what_a_far_one_is_predicted_to_need() -> None:
    """A pool of 3: 1 of layer 2 was used longest ago when pass 2 is decided."""
    predicted: list[list[list[int]]] = [[[], [], []], [[], [], []], [[], [2], [1]]]
    passes = [[[0], [1], [1]], [[0], [1], []], [[0], [2], [1]]]
    ahead = {"kind": KIND, "layers": 2}
    verdict = play(passes, predicted, copy=50, slots=1, scope="global", prefetch=ahead)
    # pass 2, layer 0: 1 of layer 2 is pinned, so 2 of layer 1 takes the place of 1 of layer 1
    assert [ways(verdict, 2, layer) for layer in range(3)] == ["h", "h", "h"]
    assert of_layer(verdict, 2, 1, "prefetched", "prefetches_used") == (1, 1)


# Tokens choose (0, 1), (0, 2), (0, 2), (3, 2): c[0][1] = 1, c[0][2] = 2, c[3][2] = 1.
@pytest.mark.parametrize(
    ("first_part", "used"),
    [
        (1, [0, 1, 1, 1]),  # 0 calls for 2
        (0.26, [1, 0, 0, 0]),  # two tokens: 1 and 2 once each: the lowest; nothing of 3
        (0.25, [1, 0, 0, 0]),  # one token
    ],
)
def test_next_layer_goes_by_what_was_chosen_together(first_part: float, used: list[int]) -> None:
    passes = [[[0], [1]], [[0], [2]], [[0], [2]], [[3], [2]]]
    ahead = {"kind": "next_layer", "layers": 2, "first_part": first_part}
    verdict = play(passes, copy=50, slots=1, prefetch=ahead)
    found = [int(ways(verdict, s, 1) == "h") for s in range(4)]
    # an expert that was loaded in the pass before stays where nothing else is predicted
    stays = [0, 0, 0, 1 if first_part != 1 else 0]
    assert found == [max(a, b) for a, b in zip(used, stays, strict=True)]


def test_next_layer_predicts_as_many_as_were_chosen_by_score() -> None:
    """Token 0 chooses 0 and 1 before 3 and 2; then 0 alone: 2 and 3 score 2, 1 scores 1."""
    passes = [[[0, 1], [3, 2]], [[0], [3, 1]]]
    ahead = {"kind": "next_layer", "first_part": 1}
    verdict = play(passes, copy=50, slots=3, prefetch=ahead)
    # c[0] = {2: 1, 3: 2, 1: 1}, c[1] = {2: 1, 3: 1}. Pass 0: 3 scores 3, 2 scores 2, 1 scores 1:
    # two are chosen: 3 first. 0: 10 - 60, 1: 60 - 110; 3: 110 - 160; 2: 160 - 210
    assert spans(verdict, "copy_in")[2:4] == [(1, (3,), 110, 160), (1, (2,), 160, 210)]
    assert ways(verdict, 0, 1) == "hh"
    # pass 1: 0 calls for 3, there; 1 misses
    assert ways(verdict, 1, 1) == "mh"


@pytest.mark.parametrize(("recall", "precision"), [(0.5, 0.5), (1.0, 0.4), (0.7, 1.0), (0.0, 0.1)])
def test_oracle_draws_right_and_wrong_ones(recall: float, precision: float) -> None:
    """Layer 1 with 4 of 5 slots; each pass of it starts with what it had, so look at the first."""
    passes = [[[0], [1, 3]], [[0], [1, 3]]]
    for seed in range(20):
        ahead = {"kind": "oracle", "recall": recall, "precision": precision}
        verdict = play(passes, copy=10, experts=5, slots=[1, 4], seed=seed, prefetch=ahead)
        u = np.random.default_rng([seed, zlib.crc32(b"prefetch.oracle"), 0, 1]).random((2, 6))[0]
        right = [e for e in (1, 3) if u[e] < recall]
        wrong = int(len(right) * (1 - precision) / precision + u[5])
        others = sorted([0, 2, 4], key=lambda e: u[e])[:wrong]
        expected = sorted(right + others)[:4]  # as many as there are slots
        first = [e for layer, (e,), *_ in spans(verdict, "copy_in") if layer == 1]
        assert first[: len(expected)] == expected
        assert of_layer(verdict, 0, 1, "prefetched") == (len(expected),)


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


def test_first_missing_loads_for_the_nearest_layer_that_lacks_something() -> None:
    """Layer 1 has what it needs; layer 2 lacks 1, and layer 3 2, which nobody asks for in time."""
    passes = [[[0], [0], [0], [0]], [[0], [0], [1], [2]]]
    ahead = {"kind": "oracle", "layers": 3}
    first = play(passes, copy=50, slots=2, prefetch={**ahead, "stop": "first_missing"})
    every = play(passes, copy=50, slots=2, prefetch=ahead)
    # pass 0 at layer 0: only layer 1 is loaded for. At layer 3, layers 0, 1 and 2 of pass 1: 2
    # lacks 1; layer 3 is asked for at layer 0 of pass 1, with nothing before it
    assert [of_layer(first, 0, m, "prefetched") for m in (1, 2, 3)] == [(1,), (1,), (1,)]
    loaded = [(layer, ids, start) for layer, ids, start, _ in spans(first, "copy_in")]
    # known at 10: 0 of layer 0, then of layer 1 alone; of layer 2 when layer 1 is known, at 170
    assert loaded[:4] == [(0, (0,), 10), (1, (0,), 60), (2, (0,), 170), (3, (0,), 280)]
    assert [start for _, _, start, _ in spans(every, "copy_in")][:4] == [10, 60, 110, 160]


def test_what_is_predicted_beyond_the_first_missing_is_kept() -> None:
    """One pool of 2: layer 1 lacks 1, and 0 of layer 2 is predicted: it stays, so 1 has no room."""
    predicted: list[list[list[int]]] = [[[], [], []], [[], [1], [0]]]
    passes = [[[0], [], [0]], [[0], [1], [0]]]
    ahead = {"kind": KIND, "layers": 2, "stop": "first_missing"}
    verdict = play(passes, predicted, copy=50, slots=1, scope="global", prefetch=ahead)
    assert of_layer(verdict, 1, 1, "prefetched") == (1,)
    assert ways(verdict, 1, 2) == "h"


def test_a_recorded_look_ahead_has_distances() -> None:
    """Seen from layer 0, layer 2 needs 2; seen from layer 1, it needs 1."""
    verdict = play([[[0], [0], [1]]], copy=50, slots=2, prefetch={})
    assert verdict.prefetched == 0
    near, far = [[NO_EXPERT], [0], [1]], [[NO_EXPERT], [NO_EXPERT], [2]]
    trace: Trace = {
        "expert_ids": [[[0], [0], [1]]],
        "request_id": [0],
        "position": [0],
        "phase": [DECODE],
        "predicted_ids": [[near, far]],
    }
    model = Model([Layer(m, moe=True) for m in range(3)], 4, 1, 1, 1, expert_bytes=50)
    config = Config(prefetch=Prefetch(KIND, layers=2), slots=2)
    seen = reference(trace, model, config, FlatPrices())
    assert [ids for layer, ids, *_ in spans(seen, "copy_in") if layer == 2] == [(2,), (1,)]
