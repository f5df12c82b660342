"""What every way to handle misses keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from moesim.memory.misses.base import MissHandling, Missing, fault_of_answer

Asked = tuple[int, int, int, int, int, int]
"""The members of ``Missing`` before the last: nanoseconds given to copies and to the host so far,
loads made, and the missing expert's copy, kernel and host prices."""


@cache
def _compiled(place: Callable[..., int]) -> Callable[..., int]:
    """``place``, compiled once for all that it is asked."""
    from moesim.runtime.compiled import njit

    return njit()(place)


def answers_as_it_says(miss: MissHandling, asked: Asked, planned: int = 0) -> None:
    """The number of one of its forms, and no load where ``most_loads`` are made; where it
    does not compare, whatever the prices are; compiled and in Python alike. ``planned``: see
    ``Missing``.
    """
    name, most = type(miss).__name__, miss.most_loads()
    missing = Missing(*asked, most, planned)
    answer = miss.place(missing)
    fault = fault_of_answer(miss, missing, answer)
    assert not fault, f"{name} {fault}"
    assert _compiled(miss.place)(missing) == answer, f"{name}: compiled, it answers otherwise"
    if not miss.compares:
        free = miss.place(missing._replace(copy_ns=0, kernel_ns=0, host_ns=0))
        assert free == answer, f"{name} reads prices without 'compares = True'"
