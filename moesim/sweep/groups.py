"""Points of a sweep in which only prices differ, and which therefore decide the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OF_PRICES = {"hardware", "software", "execution", "decide"}
"""Keys of an experiment of which decisions seldom read anything but prices. Where they do
(``capacity: auto`` on another GPU), nothing is shared: this says in which order points come.
"""


def groups_of(axes: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of the first point that decides the same, for each point by its axes."""
    first: dict[str, int] = {}
    return [first.setdefault(_others(point), number) for number, point in enumerate(axes)]


def _others(point: Mapping[str, Any]) -> str:
    """The axes that are not of prices."""
    kept = {path: value for path, value in point.items() if path.split(".")[0] not in OF_PRICES}
    return repr(sorted(kept.items()))
