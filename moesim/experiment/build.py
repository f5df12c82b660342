"""From a resolved experiment to what the engine plays and to its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from moesim.config.errors import InputError
from moesim.config.paths import find
from moesim.engine.case import Case
from moesim.experiment.footprints import footprint_of, residences_of
from moesim.experiment.inputs import check_weights
from moesim.experiment.schema import Experiment
from moesim.experiment.slots import slots_of_run
from moesim.hardware import CostModel, HardwareProfile, load_hardware, load_software
from moesim.memory.footprint import Footprint, Residence
from moesim.model import load_model
from moesim.trace import RoutingTrace, read_trace
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule


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
        return limit_of(self.hardware)

    @property
    def slots_per_layer(self) -> list[int]:
        """By GPU, what each MoE layer has; where they differ the mean, rounded down."""
        per_layer: list[int] = self.case.slots.mean(axis=1).astype(int).tolist()
        return per_layer

    @property
    def slots_by_layer(self) -> list[list[int]] | None:
        """By GPU and MoE layer, where layers differ; else None."""
        slots = self.case.slots
        return slots.tolist() if (slots != slots[:, :1]).any() else None

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
    seats = experiment.workload.batching.seats(requests)
    prefill = experiment.workload.prefill
    experts = max(layer.moe.experts for layer in model.moe_layers if layer.moe)
    gpu_of_expert = experiment.placement.place(experts, gpus)
    miss = experiment.experts.miss
    both = miss.uses_host and miss.loads
    links = hardware.links(gpus, software.pinned, host_reads=both)
    case = Case(
        trace=trace,
        model=model,
        prices=CostModel(
            hardware,
            model,
            serial=experiment.experts.kernels == "serial",
            gpus_per_node=-(-gpus // hardware.host.numa_nodes.value),
        ),
        software=software,
        schedule=Schedule.of(requests, seats, trace, gpus, prefill.chunk),
        gating=experiment.gating,
        gpu_of_expert=gpu_of_expert,
        gpus=gpus,
        slots=np.ones((gpus, len(model.moe_layers)), np.int64),
        policy=experiment.experts.policy,
        miss=experiment.experts.miss,
        kernels=experiment.experts.kernels,
        order=experiment.experts.order,
        initial=experiment.experts.initial,
        seed=experiment.seed,
        execution=experiment.execution,
        decide=experiment.decide,
        prefill=prefill.experts,
    )
    room = experiment.experts
    slots = slots_of_run(case, room.capacity, room.slots, limit_of(hardware))
    case = replace(case, slots=slots)
    if limit_steps is not None:
        case = replace(case, schedule=case.schedule.first(limit_steps))
    if case.offloaded and links.shared("h2d"):
        if case.miss.uses_link:
            raise InputError(
                "experts.miss: 'zero_copy' reads over a link that these GPUs share, which is not"
                " simulated; write load, or a profile whose GPUs have root ports of their own"
            )
        case = replace(case, links=links)
    residences = residences_of(case)
    return Built(case, hardware, footprint_of(case, residences), residences)


def limit_of(hardware: HardwareProfile) -> int:
    """Bytes of a GPU less those of the driver's context."""
    return hardware.memory_bytes - hardware.context_bytes
