"""The forward passes of a run as far as its scheduler has said which there are."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.workload.growing import Growing
from moesim.workload.schedule import Ints, Schedule
from moesim.workload.served import Served

Passes = Generator[Schedule, Ints, None]
"""Yields the next forward passes, a short schedule of at least one; is sent when each GPU has ended
all that it yielded before, int64[gpus] in ns, and returns at the end of the run."""
Scheduler = Callable[[], Passes]
"""Begins a run; each has passes of its own."""


def first_passes(scheduler: Scheduler, most: int) -> Scheduler:
    """``scheduler``, whose run ends after ``most`` passes."""

    def passes() -> Passes:
        source, left = scheduler(), most
        with suppress(StopIteration):
            one = next(source)
            while left > one.passes:
                ended = yield one
                left -= one.passes
                one = source.send(ended)
            yield one.first(left)

    return passes


class GrowingSchedule(Schedule):
    """A schedule of the passes that have come so far; it grows."""

    grows = True

    def __init__(self) -> None:
        self._offsets, self._rows, self._gpu = Growing(), Growing(), Growing(zeros=True)
        self._several = False
        self._request, self._phase, self._not_before = Growing(), Growing(np.uint8), Growing()
        self._host, self._kept, self._given = Growing(), Growing(np.bool_), Growing()
        self._served = (Growing(), Growing(np.bool_), Growing(np.bool_))
        self._offsets.extend(np.zeros(1, np.int64))

    @property
    def offsets(self) -> Ints:  # noqa: D102
        return self._offsets.values

    @property
    def rows(self) -> Ints:  # noqa: D102
        return self._rows.values

    @property
    def gpu(self) -> Ints:  # noqa: D102
        return self._gpu.values

    @property
    def request(self) -> Ints:  # noqa: D102
        return self._request.values

    @property
    def phase(self) -> NDArray[np.uint8]:  # noqa: D102
        return self._phase.values

    @property
    def not_before_ns(self) -> Ints:  # noqa: D102
        return self._not_before.values

    @property
    def host_ns(self) -> Ints:  # noqa: D102
        return self._host.values

    @property
    def kept(self) -> NDArray[np.bool_] | None:  # noqa: D102
        values = self._kept.values
        return values if len(values) else None

    @property
    def served(self) -> Served | None:  # noqa: D102
        values = Served(*(one.values for one in self._served))
        return values if len(values.position) else None

    @property
    def given(self) -> Ints | None:  # noqa: D102
        return self._given.values if len(self._given.values) else None

    def _add(self, one: Schedule) -> None:
        if not one.passes:
            raise InputError(EMPTY)
        if self.passes and (one.served is None) != (self.served is None):
            raise InputError(UNSAID)
        if self.passes and (one.kept is None) != (self.kept is None):
            raise InputError(UNKEPT)
        if one.kept is not None:
            self._kept.extend(one.kept)
        for values, more in zip(self._served, one.served or (), strict=False):
            values.extend(more)
        if one.given is not None:
            if not self.passes:
                self._given = Growing(shape=one.given.shape[1:])
            self._given.extend(one.given)
        self._offsets.extend(one.offsets[1:] + len(self.rows))
        self._rows.extend(one.rows)
        self._add_gpu(one.gpu)
        self._request.extend(one.request)
        self._phase.extend(one.phase)
        earliest = one.earliest_starts(0, one.passes)
        self._not_before.extend(earliest)
        self._host.extend(earliest - one.begins(0, one.passes))

    def _add_gpu(self, gpu: Ints) -> None:
        """On one GPU, 0, nothing is written: memory that never is costs nothing."""
        self._several = self._several or bool(gpu.any())
        more = self._gpu.more(len(gpu))
        if self._several:
            more[:] = gpu

    def _reserve(self, tokens: int) -> None:
        """Have room for so many tokens, which are most that will come."""
        for values in (self._rows, self._gpu, self._request, *self._served):
            values.reserve(tokens)

    def _cut(self, passes: int) -> None:
        """Keep the first ``passes``."""
        tokens = int(self.offsets[passes])
        self._offsets.cut(passes + 1)
        of_tokens = (self._rows, self._gpu, self._request, *self._served, self._kept)
        for values in of_tokens:
            values.cut(min(len(values.values), tokens))
        for values in (self._phase, self._not_before, self._host, self._given):
            values.cut(min(len(values.values), passes))


class Timetable(GrowingSchedule):
    """A schedule of the passes that ``scheduler`` has yielded so far.

    ``ended`` gives what the scheduler is sent. Raises InputError where it yields no pass.
    """

    def __init__(self, scheduler: Scheduler, ended: Callable[[], Ints]) -> None:
        super().__init__()
        self._source, self._ended = scheduler(), ended
        try:
            self._add(next(self._source))
        except StopIteration:
            raise InputError(EMPTY) from None

    def more(self) -> bool:
        """Ask the scheduler what comes next, now that all has ended; whether anything does."""
        try:
            self._add(self._source.send(self._ended()))
        except StopIteration:
            return False
        return True


EMPTY = (
    "workload.batching: the scheduler yields a schedule without a forward pass; each that it yields"
    " has at least one, and it returns when the run is over"
)
UNSAID = (
    "workload.batching: the scheduler says of some of its passes where tokens stand (served), and"
    " not of others; it says it of all or of none"
)
UNKEPT = (
    "workload.batching: the scheduler says of some of its passes which drafts are kept, and not of"
    " others; it says it of all or of none"
)
