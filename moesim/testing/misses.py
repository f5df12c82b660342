"""What every way to handle misses keeps."""

from __future__ import annotations

from moesim.memory.misses.base import LOADED, ON_HOST, OVER_LINK, MissHandling

Asked = tuple[int, int, int, int, int, int]
"""The arguments of ``place`` before the last: nanoseconds given to copies and to the host so far,
loads made, and the missing expert's copy, kernel and host prices."""


def allowed_by(miss: MissHandling) -> set[int]:
    """What the class variables of ``miss`` allow as an answer."""
    said = {LOADED: miss.loads, ON_HOST: miss.uses_host, OVER_LINK: miss.uses_link}
    return {place for place, allowed in said.items() if allowed}


def answers_as_it_says(miss: MissHandling, asked: Asked) -> None:
    """A place that its class variables name, and no load where ``most_loads`` are made; where it
    does not compare, whatever the prices are; compiled and in Python alike.
    """
    from moesim.config.compiled import njit

    name, most = type(miss).__name__, miss.most_loads()
    answer = miss.place(*asked, most)
    allowed = allowed_by(miss)
    assert answer in allowed, f"{name} answers {answer}, and its class variables allow {allowed}"
    loads = asked[2]
    assert answer != LOADED or loads < most, f"{name} loads after {loads} of {most} loads"
    assert njit()(miss.place)(*asked, most) == answer, f"{name}: compiled, it answers otherwise"
    if not miss.compares:
        free = miss.place(*asked[:3], 0, 0, 0, most)
        assert free == answer, f"{name} reads prices without 'compares = True'"
