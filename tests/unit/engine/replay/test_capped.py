"""What a capacity keeps, by hand: docs/semantics.md, Gating."""

from __future__ import annotations

import numpy as np

from moesim.engine.replay.capped import Kept, Tokens, count_hits, keep_choices
from moesim.trace.routing import NO_EXPERT

IDS = np.array([[[0, 1], [0, 1]], [[0, 2], [3, NO_EXPERT]], [[1, 0], [1, 3]]], np.uint16)
"""Three tokens, two layers, two choices."""
HOME = np.array([[0, 1, 2, 3], [1, 0, 2, 3]])
"""The second layer has experts 0 and 1 the other way round; the first holder has homes 0 and 1."""


def kept_of(capacity: int, senders: list[int]) -> tuple[Tokens, Kept]:
    """What one pass of all tokens keeps."""
    tokens = Tokens(np.arange(3), np.array(senders), np.array([0, 3]), np.ones((1, 2), np.bool_))
    kept = Kept(
        np.zeros((3, 2, 2), np.bool_), np.zeros((1, 2, 2), np.int64), np.zeros((1, 2, 2), np.int64),
        np.zeros((1, 2), np.int64), np.zeros((1, 2, 2), np.int64),
    )  # fmt: skip
    weights, units = np.arange(12, dtype=np.uint16).reshape(3, 2, 2), np.arange(1 << 16) * 10
    holders, room = np.array([0, 0, 1, 1]), np.array([capacity])
    keep_choices(IDS, weights, units, tokens, HOME, holders, room, kept)
    return tokens, kept


def test_all_first_choices_come_before_all_second_ones() -> None:
    """Layer 0: expert 0 is first for tokens 0 and 1 and second for token 2; one is kept of one
    sender: token 0's. Expert 1 is token 2's first choice, so that token 0's second goes.
    """
    _, kept = kept_of(1, [0, 0, 0])
    assert kept.choices[:, 0].tolist() == [[True, False], [False, True], [True, False]]
    assert kept.dropped.tolist() == [[3, 2]]
    assert kept.of_senders.tolist() == [[[3, 0], [3, 0]]]
    assert kept.of_holders.tolist() == [[[2, 1], [2, 1]]]
    assert kept.weight[0, 0].tolist() == [10 * (1 + 4 + 9), 10 * (0 + 1 + 4 + 5 + 8 + 9)]


def test_each_sender_has_room_of_its_own() -> None:
    """Token 1 is another's: its first choice of expert 0 stays, too."""
    _, kept = kept_of(1, [0, 1, 0])
    assert kept.choices[:, 0].tolist() == [[True, False], [True, True], [True, False]]
    assert kept.of_senders[0].tolist() == [[2, 2], [3, 1]]


def test_choices_that_are_kept_are_hits_where_their_expert_is() -> None:
    """Layer 1 keeps experts 0 and 1 of token 0, 3 twice, and 1: home 0 is expert 1's there."""
    tokens, kept = kept_of(9, [0, 0, 0])
    assert kept.dropped.tolist() == [[0, 0]]
    assert kept.of_senders.tolist() == [[[6, 0], [5, 0]]]
    assert kept.of_holders.tolist() == [[[5, 1], [3, 2]]]
    assert kept.weight[0].tolist() == [[0, 10 * 27], [0, 10 * (2 + 3 + 6 + 10 + 11)]]
    found = np.full(1, 5)
    hits = np.array([[True, False, False, True]])
    count_hits(IDS, tokens, kept.choices, 1, HOME[1], hits, found)
    assert found.tolist() == [5 + 4]
