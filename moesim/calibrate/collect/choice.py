"""Which points of a plan are measured, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from moesim.calibrate.collect.ops import registry
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import Point
from moesim.config.errors import InputError, nearest
from moesim.hardware.measurements.columns import SHAPES

LARGEST_SHARE = 8
"""A set of operands takes at most the device's memory divided by this."""


def points_of(plan: Plan, only: Sequence[str] = ()) -> list[Point]:
    """All points, each once, by priority; ``only`` these ops where any are named.

    Left out are points whose operands would fill the memory. InputError for an unknown op.
    """
    wanted = [op.strip() for text in only for op in text.split(",") if op.strip()]
    for op in wanted:
        if op not in SHAPES:
            raise InputError(f"--only '{op}' is no op; {nearest(op, SHAPES)}")
    found: dict[str, Point] = {}
    for collector in registry.components.values():
        if wanted and not set(wanted) & set(collector.ops):
            continue
        for point in sorted(collector().points(plan), key=lambda point: point.priority):
            found.setdefault(point.key, point)
    fitting = [
        point
        for point in found.values()
        if point.operand_bytes <= plan.memory_bytes // LARGEST_SHARE
        and (not wanted or point.columns["op"] in wanted)
    ]
    return _in_turn(fitting)


def _in_turn(points: Sequence[Point]) -> list[Point]:
    """By priority, ops in turn, so that a run that is cut short has something of each."""
    seen: Counter[tuple[int, str]] = Counter()
    keys: dict[str, tuple[int, int]] = {}
    for point in points:
        group = (point.priority, str(point.columns["op"]))
        keys[point.key] = (point.priority, seen[group])
        seen[group] += 1
    return sorted(points, key=lambda point: keys[point.key])
