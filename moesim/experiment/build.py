"""From a resolved experiment to what the engine plays and to its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from moesim.config.errors import InputError
from moesim.config.paths import find
from moesim.engine.case import Case, Ints
from moesim.experiment.inputs import check_weights
from moesim.experiment.schema import Experiment
from moesim.hardware import CostModel, HardwareProfile, load_hardware, load_software
from moesim.memory.footprint import Footprint, Residence, slots_of
from moesim.model import load_model
from moesim.trace import RoutingTrace, read_trace
from moesim.trace.routing import Phase
from moesim.workload.requests import Requests
from moesim.workload.schedule import AttentionSums, Schedule


@lru_cache(maxsize=2)
def _trace(path: Path, changed_ns: int) -> RoutingTrace:
    """The trace at ``path``, read once a process; ``changed_ns`` tells a changed file from the one
    read.
    """
    del changed_ns
    return read_trace(path)


def trace_of(experiment: Experiment) -> RoutingTrace:
    """The experiment's trace."""
    path = find(experiment.trace, experiment.folders)
    return _trace(path, path.stat().st_mtime_ns)


@dataclass(frozen=True, eq=False)
class Built:
    """A case, the machine, and the bytes of every pass."""

    case: Case
    hardware: HardwareProfile
    footprint: Footprint
    residences: tuple[Residence, ...]

    @property
    def limit_bytes(self) -> int:
        """What a GPU has for the run: its memory less the driver's context."""
        return self.hardware.memory_bytes - self.hardware.context_bytes

    @property
    def out_of_memory(self) -> str | None:
        """What does not fit, or None."""
        return self.footprint.overflow(self.limit_bytes, self.hardware.host_memory_bytes)


def build(experiment: Experiment, limit_steps: int | None = None) -> Built:
    """Resolve ``experiment``; only its first ``limit_steps`` forward passes where given.

    Raises InputError where trace and model, or GPUs and machine, do not fit.
    """
    folders = experiment.folders
    model, hardware = (
        load_model(experiment.model, folders),
        load_hardware(experiment.hardware, folders),
    )
    software = load_software(experiment.software, folders)
    trace, gpus = trace_of(experiment), experiment.parallelism.expert
    trace.check_fits(model)
    check_weights(experiment, trace)
    if hardware.gpus is not None and gpus > hardware.gpus:
        raise InputError(
            f"parallelism.expert: {gpus} GPUs, but '{hardware.name}' has {hardware.gpus}; "
            f"write {hardware.gpus} or less"
        )
    requests = Requests.of(trace, experiment.workload.phase, experiment.workload.requests)
    batching = experiment.workload.batching
    schedule = Schedule.of(requests, batching.seats(requests), trace, gpus)
    if limit_steps is not None:
        schedule = schedule.first(limit_steps)
    experts = max(layer.moe.experts for layer in model.moe_layers if layer.moe)
    gpu_of_expert = experiment.placement.place(experts, gpus)
    local = np.bincount(gpu_of_expert, minlength=gpus).tolist()
    slots = tuple(slots_of(experiment.experts.capacity, model, count) for count in local)
    links = hardware.links(gpus, software.pinned)
    case = Case(
        trace=trace,
        model=model,
        prices=CostModel(hardware, model, serial=experiment.experts.kernels == "serial"),
        software=software,
        schedule=schedule,
        gating=experiment.gating,
        gpu_of_expert=gpu_of_expert,
        gpus=gpus,
        slots=slots,
        policy=experiment.experts.policy,
        kernels=experiment.experts.kernels,
        order=experiment.experts.order,
        initial=experiment.experts.initial,
        seed=experiment.seed,
        execution=experiment.execution,
        decide=experiment.decide,
    )
    if case.offloaded and links.shared("h2d"):
        case = replace(case, links=links)
    buffers = case.policy.shared_buffers()
    residences = tuple(
        Residence(count, have, buffers) for count, have in zip(local, slots, strict=True)
    )
    return Built(case, hardware, footprint_of(case, residences), residences)


def footprint_of(case: Case, residences: tuple[Residence, ...]) -> Footprint:
    """Bytes of every pass of ``case``."""
    kv = np.zeros((case.schedule.passes, case.gpus), np.int64)
    sums: dict[int | None, AttentionSums] = {}
    for layer in case.model.layers:
        window = layer.attention.window
        if window not in sums:
            sums[window] = AttentionSums.of(case.schedule, case.trace, case.gpus, window)
        kv += sums[window].cached_tokens * layer.attention.kv_bytes_per_token
    tokens = next(iter(sums.values())).tokens
    prompt = case.schedule.phase != Phase.DECODE
    requests = np.where(prompt[:, None], np.minimum(tokens, 1), tokens)
    return Footprint.of(
        case.model,
        residences,
        tokens=tokens,
        requests=requests,
        kv_bytes=kv,
        capacity=mask_capacity(case, tokens),
    )


def mask_capacity(case: Case, tokens: Ints) -> Ints | None:
    """Rows per sender and expert int64[passes] of a gating with masks, else None."""
    if not case.gating.masks:
        return None
    nothing = np.zeros((len(tokens), 1, case.gpus, 1), np.int64)
    return case.gating.route(nothing, tokens).capacity
