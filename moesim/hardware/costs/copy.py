"""A copy between host and GPU."""

from __future__ import annotations

from typing import ClassVar

from moesim.hardware.datasheet import Direction
from moesim.hardware.operation import Operation

GIGA = 1_000_000_000


class Copy(Operation):
    """Latency and bandwidth, in whole nanoseconds and exact."""

    kind: ClassVar[str] = "copy"

    def price(self, size: int, direction: Direction, pinned: bool, copies: int) -> int:
        """See ``CostModel.copy_ns``."""
        if size == 0:
            return 0
        copy = self.hardware.datasheet.copy_of(direction, pinned)
        return copies * copy.latency_ns - (-size * GIGA // copy.bytes_per_second)
