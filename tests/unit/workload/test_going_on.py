"""The passes that come next if requests neither come nor end."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.workload.going_on import FEWEST, GoingOn
from moesim.workload.schedule import Schedule
from moesim.workload.served import Served


def passes(*positions: list[int], gives: bool = True, decodes: bool = True) -> Schedule:
    """Passes of requests 0, 1 and so on at these positions."""
    offsets = np.cumsum([0, *map(len, positions)])
    request = np.concatenate([np.arange(len(one)) for one in positions])
    every = np.ones(len(request), np.bool_)
    served = Served(np.concatenate(positions), every & decodes, every & gives)
    return Schedule.serving(offsets, (request, request % 2, request), served)


def test_each_request_has_its_next_token() -> None:
    found = GoingOn.of(passes([7, 3]), 0)
    assert found is not None
    assert found.schedule.passes >= FEWEST
    assert found.schedule.offsets[:4].tolist() == [0, 2, 4, 6]
    assert found.schedule.served is not None
    assert found.schedule.served.position[:6].tolist() == [7, 3, 8, 4, 9, 5]
    every = passes([7, 3], [8, 4], [9, 5])
    assert found.has(every, 1, 2)
    assert found.has(every, 1, 3)


@pytest.mark.parametrize(
    "other",
    [passes([7, 3], [8]), passes([7, 3], [8, 3]), passes([7, 3], [8, 4], gives=False),
     passes([7, 3], [8, 4], decodes=False), passes([7, 3], [8, 4, 0])],
)  # fmt: skip
def test_other_passes_are_not_these(other: Schedule) -> None:
    found = GoingOn.of(passes([7, 3]), 0)
    assert found is not None
    assert not found.has(other, 1, 2)


def test_nothing_is_known_to_follow_a_prompt() -> None:
    assert GoingOn.of(passes([0, 1], decodes=False), 0) is None
    assert GoingOn.of(passes([7], gives=False), 0) is None
    assert GoingOn.of(passes([7], [8]), 0) is None


def test_it_ends_somewhere() -> None:
    many = passes(*[[at] for at in range(100)])
    found = GoingOn.of(many.first(1), 0)
    assert found is not None
    assert found.has(many, 3, 4)
    assert not found.has(many, 99, 100)
