"""Arrays that grow at their end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moesim.workload.growing import Growing

PIECES = 500


def moves(*, reserved: bool) -> int:
    """How often an array moves to which a few values come at a time."""
    values, room = Growing(), set()
    for _ in range(PIECES):
        if reserved:
            values.reserve(3)
        values.more(3)[:] = 1
        room.add(len(values._room))
    assert len(values.values) == 3 * PIECES
    return len(room)


def test_an_array_seldom_moves_whether_room_is_reserved_or_not() -> None:
    assert moves(reserved=True) == moves(reserved=False) < 12


@given(pieces=st.lists(st.lists(st.integers(0, 99)), max_size=20), reserve=st.booleans())
def test_what_was_added_is_there_in_order(pieces: list[list[int]], reserve: bool) -> None:
    values = Growing()
    for piece in pieces:
        if reserve:
            values.reserve(len(piece))
        values.more(len(piece))[:] = piece
    assert values.values.tolist() == [value for piece in pieces for value in piece]
