"""What every batching keeps (docs/semantics.md)."""

from __future__ import annotations

import numpy as np

from moesim.trace.routing import Phase, RoutingTrace
from moesim.workload.batching.base import Batching, fault_of_seats
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule


def runs_every_token_once(
    batching: Batching, requests: Requests, trace: RoutingTrace, gpus: int
) -> Schedule:
    """Every token of ``requests`` in one pass, each request's in order; returns the schedule.

    A request makes one decode token a pass, after its prompt, and a pass holds one phase.
    """
    name = type(batching).__name__
    schedule = Schedule.of(requests, batching.seats(requests), trace, gpus)
    assert sorted(schedule.rows.tolist()) == requests.rows.tolist(), f"{name}: tokens lost or twice"
    at = schedule.pass_of_token()
    phase = trace.phase[schedule.rows]
    assert (phase == schedule.phase[at]).all(), f"{name}: a pass holds several phases"
    for number in range(requests.count):
        own = schedule.request == number
        rows, passes = schedule.rows[own], at[own]
        assert (np.diff(rows) > 0).all(), f"{name}: request {number}'s tokens are out of order"
        decoded = passes[phase[own] == Phase.DECODE]
        assert (np.diff(decoded) > 0).all(), f"{name}: request {number} decodes twice in a pass"
        prompt = passes[phase[own] != Phase.DECODE]
        assert len(set(prompt.tolist())) <= 1, f"{name}: request {number}'s prompt is split"
    return schedule


def keeps_within_the_batch(
    batching: Batching, requests: Requests, trace: RoutingTrace, gpus: int
) -> None:
    """At most ``batch_size`` requests live at any pass, and a request keeps its GPU, slot mod G."""
    seats, name = batching.seats(requests), type(batching).__name__
    fault = fault_of_seats(seats, requests, batching.batch_size)
    assert not fault, f"{name} {fault}"
    schedule = Schedule.of(requests, seats, trace, gpus)
    at = schedule.pass_of_token()
    live = np.zeros(schedule.passes, np.int64)
    for number in range(requests.count):
        own = schedule.request == number
        live[at[own].min() : at[own].max() + 1] += 1
        on, seat = schedule.gpu[own], int(seats.slot[number])
        assert (on == seat % gpus).all(), f"{name}: request {number} of slot {seat} is on GPUs {on}"
    assert (live <= batching.batch_size).all(), f"{name}: {live.max()} requests live at once"


def starts_in_file_order(batching: Batching, requests: Requests, trace: RoutingTrace) -> None:
    """No prompt runs, and no answer starts, before that of a request that stands before it."""
    schedule = Schedule.of(requests, batching.seats(requests), trace, 1)
    at = schedule.pass_of_token()
    decode = schedule.phase[at] == Phase.DECODE
    for kind in (decode, ~decode):
        present = np.unique(schedule.request[kind])
        starts = [int(at[kind & (schedule.request == number)].min()) for number in present]
        assert starts == sorted(starts), f"{type(batching).__name__}: starts {starts}"
