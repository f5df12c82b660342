"""Choices of experts with replicas by hand, and as the placement counts them."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.placed import Replicas, place_choices
from moesim.placement.mapping import Placement
from moesim.trace.routing import NO_EXPERT


def placed(placement: Placement, ids: Any, senders: list[int], offsets: list[int]) -> Any:
    places = np.arange(placement.physical)
    replicas = Replicas.of(placement, places, int(placement.logical.max()) + 1)
    chosen = np.ascontiguousarray(ids, np.uint16)
    chosen.flags.writeable = False
    rows = np.arange(len(senders))
    return place_choices(chosen, rows, np.array(senders), np.array(offsets), replicas)


def test_choices_go_to_replicas_in_turn_from_the_senders_on():
    """Expert 0 is at 0 and 2. Of GPU 1 the first choice goes to the second replica; a pass later
    that begins anew. A place that names no expert stays one.
    """
    placement = Placement.of(np.array([[0, 1, 0, 2]]), 2)
    assert placement.logical.tolist() == [[0, 1, 0, 2]]
    ids = [[[0, 1]], [[0, 2]], [[0, NO_EXPERT]], [[0, 1]]]
    found = placed(placement, ids, [1, 1, 0, 1], [5, 8, 9])
    assert found[:, 0].tolist() == [[2, 1], [0, 3], [0, NO_EXPERT], [2, 1]]


def test_they_are_as_many_as_the_placement_says():
    rng = np.random.default_rng(3)
    plan = np.stack([rng.permutation([0, 1, 2, 3, 0, 0, 2, 1]) for _ in range(2)])
    placement, ids = Placement.of(plan, 2), rng.integers(0, 4, (60, 2, 3))
    senders, passes = rng.integers(0, 3, 60), np.repeat(np.arange(3), 20)
    counts = np.zeros((3, 2, 3, 4), np.int64)
    own = np.zeros((3, 2, 3, 8), np.int64)
    found = placed(placement, ids, senders.tolist(), [0, 20, 40, 60])
    for into, chosen in ((counts, ids), (own, found)):
        where = passes[:, None, None], np.arange(2)[:, None], senders[:, None, None]
        np.add.at(into, (*where, chosen), 1)
    np.testing.assert_array_equal(own, placement.spread(counts))
