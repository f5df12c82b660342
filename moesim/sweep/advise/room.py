"""What fits on the GPU, and how much of the trace is replayed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.experiment.building.build import Built, build
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.sweep.advise.choices import ALL, with_settings
from moesim.workload.requests import Requests

MOST_CHOICES = 600_000
"""Experts chosen in a run, over tokens and MoE layers: a few seconds on one core."""


@dataclass(frozen=True)
class Room:
    """Slots a layer on the fullest GPU of ``local`` experts; whether these are all."""

    slots: int
    local: int

    @property
    def fits(self) -> bool:
        """Whether every expert stays on its GPU."""
        return self.slots >= self.local


def first_requests(experiment: Experiment) -> int:
    """So many requests that a run takes seconds: one full batch at least."""
    workload = experiment.workload
    trace = trace_of(experiment)
    requests = Requests.of(trace, workload.phase, workload.requests)
    if workload.requests is not None:
        return requests.count
    done = np.cumsum(np.bincount(requests.request)) * trace.moe_layers * trace.top_k
    affordable = int(np.searchsorted(done, MOST_CHOICES, side="right"))
    return min(max(affordable, workload.batching.batch_size, 1), requests.count)


def room_of(experiment: Experiment, most: str) -> Room:
    """The slots in ``most`` room for experts; where that is ``auto`` and all experts fit, all.

    InputError where not even one slot a layer fits, or ``most`` does not.
    """
    if most == "auto":
        built = build(with_settings(experiment, {"experts.capacity": ALL}))
        if built.out_of_memory is None:
            local = _local(built)
            return Room(local, local)
    built = build(with_settings(experiment, {"experts.capacity": most}))
    if (reason := built.out_of_memory) is not None:
        remedy = "take a larger machine, shorter requests or a smaller batch"
        what = f"{most}: {reason}; {remedy if most == 'auto' else 'write auto, or less'}"
        raise InputError([Problem(experiment.name, "experts.capacity", what)])
    return Room(min(built.slots_per_layer), _local(built))


def _local(built: Built) -> int:
    return max(one.local for one in built.residences)
