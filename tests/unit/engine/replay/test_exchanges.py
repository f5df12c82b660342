"""Rows between GPUs by hand: docs/semantics.md, Rows."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.engine.pricing import prices
from moesim.engine.pricing.prices import PriceCache
from moesim.engine.replay.exchanges import busiest_rows, find_exchanges
from tests.unit.engine.replay.routed import (
    CHOICES,
    GPU_OF_EXPERT,
    GPUS,
    OFFSETS,
    PASSES,
    ROWS,
    SENDERS,
    ids,
    running,
)


def test_the_busiest_gpu_sends_or_gets_most() -> None:
    """Pass 0: GPU 0 sends one row (for expert 2), GPU 1 none. Pass 1: GPU 0 sends two. The second
    layer does not run in pass 1; in pass 0 both GPUs send one there, and each gets one.
    """
    other = [[2, 0, 1], [1, 2, 3], [2, 3, 2]]
    active, busiest = running(2), np.full((2, PASSES), -1)
    active[1, 1] = False
    homes = np.stack([GPU_OF_EXPERT, GPU_OF_EXPERT])
    busiest_rows(ids(CHOICES, other), ROWS, SENDERS, OFFSETS, active, homes, GPUS, busiest)
    assert busiest.tolist() == [[1, 2], [1, 0]]


def test_equal_exchanges_are_kept_once() -> None:
    """From GPU 0 to 0 and 1, then from 1: pass 0 has 1, 1, 0, 2 rows and pass 1 0, 2, 0, 0, the
    same in layer 1, which has the choices in another order. Layer 2 does not run in pass 0. Where
    there is no room for the third, it goes on from there.
    """
    active, home = running(3), np.stack([GPU_OF_EXPERT] * 3)
    active[0, 2] = False
    place, turned = np.full((3, PASSES), -1), [one[::-1] for one in CHOICES]
    routed = (ids(CHOICES, turned, CHOICES), ROWS, SENDERS, OFFSETS, active, home, GPUS)
    cache = PriceCache(GPUS * GPUS)
    assert find_exchanges(*routed, cache.kept, 0, place) == 6
    assert cache.kept.keys[: len(cache)].tolist() == [[1, 1, 0, 2], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert place.tolist() == [[0, 1], [0, 1], [2, 1]]
    assert cache.kept.used[:3].tolist() == [2, 3, 1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prices, "ROOM", 2)
        assert find_exchanges(*routed, PriceCache(GPUS * GPUS).kept, 0, place) == 4
