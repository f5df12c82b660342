"""The requests of a run: what is asked of an engine that serves them, and how many there are."""

from __future__ import annotations

from contextlib import suppress

from moesim.config.errors import InputError
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.workload.requests import Requests
from moesim.workload.serving.requests.requests import Load, times_and_lengths


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


def requests_of_trace(experiment: Experiment) -> int:
    """How many a run in batches has."""
    workload = experiment.workload
    return Requests.of(trace_of(experiment), workload.phase, workload.requests).count


def requests_in_all(experiment: Experiment) -> int | None:
    """How many a run has, of those that are asked for; None where it is refused for them. Arrivals
    that read no file are as many as are asked for.
    """
    workload = experiment.workload
    if not workload.batching.serves:
        return requests_of_trace(experiment)
    if not workload.arrivals.reads:
        return workload.requests
    with suppress(InputError):
        return len(times_and_lengths(load_of(experiment), trace_of(experiment))[0])
    return None
