"""Values of passes that are added up between cuts, however they come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.folded import Folded


def test_by_hand():
    """Passes 0 and 1, then 2 to 4: the second part goes on and begins another."""
    folded = Folded(np.array([0, 2]))
    folded.add(np.array([[1, 10]]))
    folded.add(np.array([[2, 20], [3, 30], [4, 40]]))
    folded.add(np.array([[5, 50]]))
    assert folded.values.tolist() == [[3, 30], [12, 120]]


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=30),
    st.sets(st.integers(1, 29)),
    st.sets(st.integers(1, 29)),
)
def test_sums_are_those_of_the_whole(values, cuts, parts):
    whole = np.array(values)
    starts = np.array([0, *sorted(cut for cut in cuts if cut < len(whole))])
    folded, each = Folded(starts), Folded(None)
    for part in np.split(whole.copy(), sorted(at for at in parts if at < len(whole))):
        folded.add(part)
        each.add(part)
    assert folded.values.tolist() == [one.sum() for one in np.split(whole, starts[1:])]
    assert each.values.tolist() == values
