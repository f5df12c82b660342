"""How many points a process is given at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from moesim.sweep.point import Batch, Point

BATCH_S = 0.25
"""What a batch of points should take: long beside a message and a write to the disk, short beside
the patience of whoever watches, and as much work as a killed process may lose."""
MOST_POINTS = 256
MOST_OF_A_GROUP = 8
"""Points of one group that a process is given at once, however long they take."""


@dataclass
class Queue:
    """The points that nobody has begun, for ``workers`` at the same time."""

    points: Sequence[Point]
    workers: int
    _waiting: deque[Point] = field(init=False)
    _alone: deque[Point] = field(init=False, default_factory=deque)
    _seconds: float = field(init=False, default=BATCH_S)

    def __post_init__(self) -> None:
        self._waiting = deque(self.points)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._alone)

    def take(self) -> tuple[Point, ...]:
        """The next points for one process; few at the end, so that all end together."""
        if self._alone:
            return (self._alone.popleft(),)
        fair = len(self._waiting) // (2 * self.workers)
        size = max(int(BATCH_S / self._seconds), self._of_group())
        size = max(1, min(size, fair, MOST_POINTS))
        return tuple(self._waiting.popleft() for _ in range(min(size, len(self._waiting))))

    def _of_group(self) -> int:
        """How many points of the next one's group come next, no more than a process is given."""
        group = self._waiting[0].group if self._waiting else None
        if group is None:
            return 1
        here = islice(self._waiting, MOST_OF_A_GROUP)
        return sum(1 for _ in takewhile(lambda point: point.group == group, here))

    def learn(self, batch: Batch) -> None:
        """Size the next ones by how long ``batch`` took."""
        self._seconds = max(batch.seconds / len(batch.entries), 1e-9)

    def suspect(self, points: Sequence[Point]) -> None:
        """Give each of ``points`` alone: their process died, and any of them may be why."""
        self._alone.extend(points)
