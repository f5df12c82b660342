"""What prefetchers predict, worked by hand from docs/semantics.md."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from .prefetch_scenes import KIND, FlatPrices, of_layer, play, spans, ways
from .reference import reference
from .reference_words import DECODE, NO_EXPERT, Config, Layer, Model, Prefetch, Trace
from .scenes import log


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
