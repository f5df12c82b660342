"""What can be measured: a row of the measurement table without its time, and how to get that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from moesim.calibrate.collect.device import Device

FIRST, SECOND, THIRD = 0, 1, 2
"""Priorities: what a profile needs, what makes it finer, what reaches beyond the models."""


class Trial(Protocol):
    """A prepared measurement; it keeps its operands."""

    def warm_up(self) -> None:
        """One call that is not timed: libraries choose and compile their kernels in it."""
        ...

    def samples(self, count: int) -> list[float]:
        """The times of ``count`` calls in nanoseconds."""
        ...


@dataclass(frozen=True)
class Point:
    """One row to measure.

    ``columns`` are those of the measurement table. ``prepare`` makes the operands on a device.
    ``operand_bytes`` is what one set of operands takes from the device's pool. Points of a lower
    ``priority`` are measured first.
    """

    columns: Mapping[str, Any]
    prepare: Callable[[Device], Trial]
    priority: int = FIRST
    operand_bytes: int = 0

    @property
    def key(self) -> str:
        """The columns as text: the same for the same row of another run."""
        return key_of(self.columns)


def key_of(columns: Mapping[str, Any]) -> str:
    """The text by which two runs know a row as the same, whatever the types of its numbers."""
    return " ".join(f"{name}={_plain(columns[name])}" for name in sorted(columns))


def _plain(value: Any) -> str:
    if hasattr(value, "__len__") and not isinstance(value, str):
        return ",".join(str(int(number)) for number in value)
    return value if isinstance(value, str) else f"{float(value):.17g}"
