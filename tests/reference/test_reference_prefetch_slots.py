"""Which slots prefetches take and keep, worked by hand from docs/semantics.md."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from .prefetch_scenes import AHEAD, KIND, of_layer, play, spans, ways
from .reference_words import Software
from .scenes import log


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


def test_what_is_predicted_beyond_the_first_missing_is_kept() -> None:
    """One pool of 2: layer 1 lacks 1, and 0 of layer 2 is predicted: it stays, so 1 has no room."""
    predicted: list[list[list[int]]] = [[[], [], []], [[], [1], [0]]]
    passes = [[[0], [], [0]], [[0], [1], [0]]]
    ahead = {"kind": KIND, "layers": 2, "stop": "first_missing"}
    verdict = play(passes, predicted, copy=50, slots=1, scope="global", prefetch=ahead)
    assert of_layer(verdict, 1, 1, "prefetched") == (1,)
    assert ways(verdict, 1, 2) == "h"
