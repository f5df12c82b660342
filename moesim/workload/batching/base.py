"""Which requests share a forward pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer
from moesim.trace.routing import RoutingTrace
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule, Seats
from moesim.workload.timetable import Passes

LARGEST_BATCH = 1 << 20


class AnyBatching(Params):
    """A rule that says which requests share a forward pass.

    One that does not read the clock answers for the whole run at once, which is what policies that
    look ahead (``min``) need. One whose batches depend on the clock says so with ``reads_clock``
    and writes ``passes`` too; what is planned before the run, be it memory or placement, goes by
    its ``seats``. One that ``serves`` schedules tokens of requests as an engine does, and its
    passes are made of a workload's arrivals, lengths and routing.
    """

    reads_clock: ClassVar[bool] = False
    serves: ClassVar[bool] = False

    @property
    def in_flight(self) -> int:
        """The most requests in flight, over all GPUs."""
        raise NotImplementedError

    def seats(self, requests: Requests) -> Seats:
        """Slot, turn and admission of every request of ``requests``."""
        raise NotImplementedError

    def passes(
        self, requests: Requests, trace: RoutingTrace, gpus: int, chunk: int | None = None
    ) -> Passes:
        """The forward passes of ``requests``, here all at once; ``chunk`` as in ``Schedule.of``."""
        yield Schedule.of(requests, self.seats(requests), trace, gpus, chunk)


class Batching(AnyBatching):
    """A rule that seats requests in batches; ``batch_size`` counts the whole group of GPUs."""

    batch_size: int = Field(
        default=1, ge=1, le=LARGEST_BATCH, description="Requests in flight, over all GPUs."
    )

    @property
    def in_flight(self) -> int:
        """See ``AnyBatching``."""
        return self.batch_size


def seats_by(batching: AnyBatching, requests: Requests) -> Seats:
    """Those of ``requests``; an InputError where ``batching`` gives none that can be."""
    with answering("workload.batching", batching):
        seats = batching.seats(requests)
    if fault := fault_of_seats(seats, requests, batching.in_flight):
        raise wrong_answer("workload.batching", batching, fault)
    return seats


def fault_of_seats(seats: object, requests: Requests, slots: int) -> str:
    """What is wrong with ``seats`` of ``requests`` in a batch of so many ``slots``; "": nothing."""
    if not isinstance(seats, Seats):
        return f"gives {type(seats).__name__}, not Seats"
    for name, column in vars(seats).items():
        if fault := _fault_of_column(name, column, requests):
            return fault
    if seats.slot.min() < 0 or seats.slot.max() >= slots:
        return f"gives a slot outside 0..{slots - 1}"
    if seats.step.min() < 0:
        return "begins a request before step 0"
    order = np.lexsort((requests.decode_tokens, seats.step, seats.slot))
    slot, step = seats.slot[order], seats.step[order]
    ends = step + requests.decode_tokens[order]
    overlap = (slot[1:] == slot[:-1]) & (step[1:] < ends[:-1])
    return "gives a slot to two requests at once" if overlap.any() else ""


def _fault_of_column(name: str, column: object, requests: Requests) -> str:
    if not isinstance(column, np.ndarray):
        return f"gives a {name} as {type(column).__name__}, not as an array"
    if column.shape != (requests.count,):
        return f"gives a {name} of shape {column.shape} for {requests.count} requests"
    if not np.issubdtype(column.dtype, np.integer):
        return f"gives a {name} that is {column.dtype}, no whole number"
    return ""
