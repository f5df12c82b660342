"""What a collector is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import Point


class Collector:
    """Measures one family of ops; a subclass has its ``kind`` and says which ``ops``."""

    kind: ClassVar[str]
    ops: ClassVar[tuple[str, ...]]

    def points(self, plan: Plan) -> Iterator[Point]:
        """What to measure, with priorities; torch is used only when a point is prepared."""
        raise NotImplementedError
