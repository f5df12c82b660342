"""Rows between GPUs where a token goes once to each GPU that has experts of its."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.engine.once import send_once
from moesim.trace.routing import NO_EXPERT


def sent(choices, senders, node, gpus=4, active=True):
    """Rows [gpus, gpus] of one pass with a token for each of ``choices``; GPU g has 2g, 2g + 1."""
    ids = np.array(choices, np.uint16)[:, None, :]
    ids.flags.writeable = False
    rows = np.arange(len(choices))
    gpu_of = np.repeat(np.arange(gpus), 2)[None]
    found = np.zeros((1, 1, gpus, gpus), np.int64)
    offsets, runs = np.array([0, len(choices)]), np.array([[active]])
    send_once(ids, rows, np.array(senders), offsets, runs, gpu_of, node, found)
    return {(int(s), int(r)): int(found[0, 0, s, r]) for s, r in np.argwhere(found[0, 0])}


@pytest.mark.parametrize(
    ("choices", "rows"),
    [
        ([2, 3, 4], {(0, 1): 1, (0, 2): 1}),
        ([0, 1, 7], {(0, 3): 1}),
        ([0, 1, NO_EXPERT], {}),
    ],
)
def test_two_experts_of_a_gpu_take_one_row(choices, rows):
    assert sent([choices], [0], 4) == rows


def test_tokens_add_up():
    assert sent([[2, 3], [2, 0], [6, 7]], [0, 0, 1], 4) == {(0, 1): 2, (1, 3): 1}


def test_another_node_is_sent_one_row_which_is_handed_on_there():
    """GPUs 0 and 1 are a node, 2 and 3 one: GPU 1's tokens come to 3, which stands as it does."""
    assert sent([[4, 6, 0]], [1], 2) == {(1, 0): 1, (1, 3): 1, (3, 2): 1}
    assert sent([[4, 5]], [0], 2) == {(0, 2): 1}
    assert sent([[6, 7]], [0], 2) == {(0, 2): 1, (2, 3): 1}


def test_nothing_goes_where_a_layer_does_not_run():
    assert sent([[2, 4]], [0], 4, active=False) == {}
