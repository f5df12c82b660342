"""Rows between GPUs by hand: docs/semantics.md, Rows."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.engine.replay.exchanges import busiest_rows, different_exchanges
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


@pytest.mark.parametrize("draws", [[1, 10, 100, 1000], [0, 0, 0, 0]])
def test_equal_exchanges_are_kept_once(draws: list[int]) -> None:
    """From GPU 0 to 0 and 1, then from 1: pass 0 has 1, 1, 0, 2 rows and pass 1 0, 2, 0, 0, the
    same in layer 1, which has the choices in another order. Layer 2 does not run in pass 0. Sums
    that do not tell them apart change nothing.
    """
    active, home = running(3), np.stack([GPU_OF_EXPERT] * 3)
    active[0, 2] = False
    exchanges, place = np.full((6, GPUS * GPUS), -1), np.full((3, PASSES), -1)
    turned = [one[::-1] for one in CHOICES]
    number = different_exchanges(
        ids(CHOICES, turned, CHOICES), ROWS, SENDERS, OFFSETS, active, home, GPUS,
        np.array(draws), exchanges, place,
    )  # fmt: skip
    assert exchanges[:number].tolist() == [[1, 1, 0, 2], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert place.tolist() == [[0, 1], [0, 1], [2, 1]]
