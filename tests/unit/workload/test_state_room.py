"""How much memory the state of served requests takes, and that what it notes stays as it grows."""

from __future__ import annotations

import numpy as np

from moesim.workload.serving.state import ENTRIES, Asked, Room, new_state, with_room

MIB = 1 << 20


def asked(requests: int) -> Asked:
    none = np.zeros(requests, np.int64)
    return Asked(none + 100, none + 1000, none, none, none - 1, none)


def test_what_is_noted_of_each_rank_and_step_takes_no_more_on_many_ranks():
    one, many = (new_state(asked(4096), Room(ranks=n, blocks=10), 1024, (0, 0, 0)) for n in (1, 64))
    for state in (one, many):
        assert state.steps.shape[1] == state.units.shape[1]
        assert state.units.nbytes <= 64 * MIB
        assert state.steps.nbytes <= 512 * MIB


def test_a_log_that_grows_keeps_what_is_in_it():
    state = new_state(asked(2), Room(ranks=2, blocks=10), 2, (0, 0, 0))
    state.log[:, :3], state.steps[:, :2], state.units[:, :2] = 7, 8, 9
    state.numbers[ENTRIES] = 3
    grown = with_room(state)
    for name, kept in (("log", 3), ("steps", 2), ("units", 2)):
        before, after = getattr(state, name), getattr(grown, name)
        assert after.shape == (len(before), 2 * before.shape[1])
        np.testing.assert_array_equal(after[:, :kept], before[:, :kept])
        assert not after[:, kept:].any()
