"""The forward passes of a run: of batches of the trace's requests, or of served requests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from moesim.experiment.building.speculation import requests_of
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout
from moesim.hardware import SoftwareProfile
from moesim.model import ModelSpec
from moesim.trace import RoutingTrace
from moesim.workload.batching.continuous import Continuous
from moesim.workload.schedule import Schedule
from moesim.workload.serving.clock import NO_TIME, HostTimes
from moesim.workload.serving.requests import Load, served_requests
from moesim.workload.serving.run import Serving
from moesim.workload.serving.state import NEVER, Room
from moesim.workload.timetable import Scheduler

BLOCK_SIZE = 16


class Planned(NamedTuple):
    """Forward passes: those that are known, what says during the run which there are (None: nothing
    does), and how requests are served (None: they are not).
    """

    schedule: Schedule
    scheduler: Scheduler | None
    serving: Serving | None = None


class Engine(NamedTuple):
    """What runs passes: a GPU's share of the model, the software, the GPUs."""

    model: ModelSpec
    software: SoftwareProfile
    layout: Layout


def passes_of_run(experiment: Experiment, trace: RoutingTrace, engine: Engine) -> Planned:
    """The passes that ``experiment`` asks for; InputError where it asks for none that can be."""
    batching, prefill = experiment.workload.batching, experiment.workload.prefill
    if isinstance(batching, Continuous):
        return _served(experiment, trace, engine, batching)
    layout = engine.layout
    requests = requests_of(experiment, trace)
    seats = batching.seats(requests)
    passes = partial(batching.passes, requests, trace, layout.gpus, prefill.chunk)
    schedule = Schedule.of(requests, seats, trace, layout.gpus, prefill.chunk)
    return Planned(schedule, passes if batching.reads_clock else None)


def host_times_of(software: SoftwareProfile) -> HostTimes:
    """What the host takes between steps."""
    return HostTimes(
        schedule_ns=round(software.schedule_ns),
        per_request_ns=round(software.per_request_ns),
        output_ns=round(software.output_ns),
        per_request_out_ns=round(software.per_request_out_ns),
        frontend_ns=round(software.frontend_ns),
    )


def load_of(experiment: Experiment) -> Load:
    """What ``experiment`` asks of an engine that serves requests."""
    workload = experiment.workload
    return Load(
        arrivals=workload.arrivals,
        lengths=workload.lengths,
        binding=workload.routing,
        count=workload.requests,
        prompts=workload.phase == "all",
        seed=experiment.seed,
        folders=experiment.folders,
    )


def _served(
    experiment: Experiment,
    trace: RoutingTrace,
    engine: Engine,
    batching: Continuous,
) -> Planned:
    layout, arrivals = engine.layout, experiment.workload.arrivals
    longest, times = engine.model.longest_context, host_times_of(engine.software)
    served = served_requests(load_of(experiment), trace, BLOCK_SIZE)
    room = Room(
        ranks=layout.gpus // layout.group,
        block_size=BLOCK_SIZE,
        longest=longest or NEVER,
        loop=arrivals.concurrency is not None,
        think_ns=arrivals.think_ns,
        prefilled=experiment.workload.phase == "decode",
        visible_ns=2 * times.frontend_ns,
    )
    ahead = experiment.experts.policy.looks_ahead
    # a client's next request is on its way for a while; a host that takes time is seen by clocks
    clockless = arrivals.clockless and not (room.loop and times.frontend_ns)
    timed = not clockless or (times != NO_TIME and not ahead)
    serving = Serving(served, batching.scheduler, room, layout.gpus, not timed)
    if timed:
        serving = replace(serving, times=times)
    if clockless:
        return Planned(serving.schedule(), serving.passes if timed else None, serving)
    return Planned(serving.as_if_at_once(), serving.passes, serving)
