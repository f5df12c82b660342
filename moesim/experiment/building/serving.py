"""The forward passes of a run: of batches of the trace's requests, or of served requests."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from moesim.experiment.building.speculation import requests_of
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout
from moesim.model import ModelSpec
from moesim.trace import RoutingTrace
from moesim.workload.batching.continuous import Continuous
from moesim.workload.schedule import Schedule
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


def passes_of_run(
    experiment: Experiment, trace: RoutingTrace, model: ModelSpec, layout: Layout
) -> Planned:
    """The passes that ``experiment`` asks for; InputError where it asks for none that can be."""
    batching, prefill = experiment.workload.batching, experiment.workload.prefill
    if isinstance(batching, Continuous):
        return _served(experiment, trace, layout, (batching, model.longest_context))
    requests = requests_of(experiment, trace)
    seats = batching.seats(requests)
    passes = partial(batching.passes, requests, trace, layout.gpus, prefill.chunk)
    schedule = Schedule.of(requests, seats, trace, layout.gpus, prefill.chunk)
    return Planned(schedule, passes if batching.reads_clock else None)


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
    layout: Layout,
    engine: tuple[Continuous, int | None],
) -> Planned:
    (batching, longest), arrivals = engine, experiment.workload.arrivals
    served = served_requests(load_of(experiment), trace, BLOCK_SIZE)
    room = Room(
        ranks=layout.gpus // layout.group,
        block_size=BLOCK_SIZE,
        longest=longest or NEVER,
        loop=arrivals.concurrency is not None,
        think_ns=arrivals.think_ns,
        prefilled=experiment.workload.phase == "decode",
    )
    serving = Serving(served, batching.scheduler, room, layout.gpus, arrivals.clockless)
    if arrivals.clockless:
        return Planned(serving.schedule(), None, serving)
    return Planned(serving.as_if_at_once(), serving.passes, serving)
