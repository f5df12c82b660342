"""What fits on the GPU, and how much of the trace is replayed."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.building.fitted_layers import fewest_layers
from moesim.experiment.building.footprints import footprint_of, residences_of
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.running.engines import outside_replay
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.hardware.described.reached import SYSTEM_BYTES
from moesim.memory.footprint.footprint import Footprint, Residence
from moesim.memory.misses.cpu import Cpu
from moesim.sweep.advise.choices import (
    ALL,
    ON_CPU,
    ON_HOST,
    PLAIN,
    PREFETCHES,
    RESIDENT,
    Choice,
    with_settings,
)
from moesim.sweep.advise.smaller import smaller
from moesim.workload.requests import Requests

MOST_CHOICES = 600_000
"""Experts chosen in a run, over tokens and MoE layers: a second or two on one core."""
MOST_WITH_EVENTS = 150_000
"""The same where only ``des`` plays a choice, which takes many times as long."""
DRIVE = (
    "name a drive that experts are read from: hardware: {..., storage: nvme-pcie4} (a phone's:"
    " ufs-4), with a MODEL --storage nvme-pcie4 ('moesim list storage')"
)


@dataclass(frozen=True)
class Memory:
    """Bytes of the fullest GPU, ``gpus`` in all, with all experts on it: ``weights``, ``kv`` cache
    and ``work`` space, beside the ``limit``; of them those of ``experts``. ``host``: what the host
    has for experts.
    """

    weights: int
    experts: int
    kv: int
    work: int
    limit: int
    host: int
    gpus: int

    @property
    def needed(self) -> int:
        """All bytes."""
        return self.weights + self.kv + self.work


@dataclass(frozen=True)
class Room:
    """Slots a layer on the fullest GPU of ``local`` experts, 0 where not even one; of how many of
    the ``layers`` with experts these may be ``on_cpu``: the fewest that leave room for the others,
    and all, where the host holds as many; how many whole layers may be ``on_host``, the fewest;
    why there is no slot; and the bytes of experts that no memory has room for, but the ``drive``.
    """

    slots: int
    local: int
    layers: int = 0
    on_cpu: tuple[int, ...] = ()
    memory: Memory | None = field(default=None, compare=False)
    without_slots: str | None = field(default=None, compare=False)
    on_host: int | None = field(default=None, compare=False)
    drive: int = field(default=0, compare=False)

    @property
    def fewest_on_cpu(self) -> int | None:
        """The fewest layers; None where it fits with none."""
        return min(self.on_cpu, default=None)

    @property
    def fits(self) -> bool:
        """Whether every expert stays on its GPU."""
        return self.slots >= self.local


def first_requests(experiment: Experiment, most: int = MOST_CHOICES) -> int:
    """So many requests that a run has no more than ``most`` choices: full batches, one at least. As
    many as the experiment asks for, where it says so: of a trace, or of what is served by one.
    """
    workload = experiment.workload
    if workload.batching.serves and workload.requests is not None:
        return workload.requests
    trace = trace_of(experiment)
    requests = Requests.of(trace, workload.phase, workload.requests)
    if workload.requests is not None:
        return requests.count
    done = np.cumsum(np.bincount(requests.request)) * trace.moe_layers * trace.top_k
    affordable, batch = int(np.searchsorted(done, most, side="right")), workload.batching
    if not batch.serves:  # a last batch of fewer would be slower than what is asked for
        affordable = min(affordable, requests.count) // batch.in_flight * batch.in_flight
    return min(max(affordable, batch.in_flight, 1), requests.count)


def prefetches_by_events(experiment: Experiment) -> tuple[str, ...]:
    """Of what a miss does, where only ``des`` plays prefetches beside it."""
    return tuple(miss for miss in PREFETCHES if _by_events(experiment, miss))


def _by_events(experiment: Experiment, miss: str) -> bool:
    settings = {"experts.capacity": "1 slots/layer", "experts.miss.kind": miss}
    settings |= {"experts.prefetch.kind": "next_layer"}
    try:
        case = build(with_settings(experiment, PLAIN.settings | settings), 1).case
    except InputError:
        return False
    return next(outside_replay(case, "summary", check=False), None) is not None


BELOW = {"experts.host.capacity": "auto"}
"""What is set where a drive is named."""


def with_drive(experiment: Experiment) -> Experiment:
    """``experiment``, whose host reads what it has no room for, where the machine names a drive and
    the experiment no room, and no near-memory device holds all experts.
    """
    machine = load_hardware(experiment.hardware, experiment.folders)
    asked = experiment.experts.host.capacity.kind
    if machine.unified or machine.host.storage is None or asked != "all":
        return experiment
    if experiment.experts.miss.near_memory:
        return experiment
    return with_settings(experiment, BELOW)


def reads_drive(experiment: Experiment) -> bool:
    """Whether experts that memory does not hold are read from a drive."""
    machine = load_hardware(experiment.hardware, experiment.folders)
    if machine.unified:
        return machine.host.storage is not None
    return experiment.experts.host.capacity.kind != "all"


def room_of(experiment: Experiment, most: str) -> Room:
    """The slots in ``most`` room for experts; where that is ``auto`` and all experts fit, all.

    InputError where not even one slot a layer fits, nor the others with any layers on the CPU, or
    ``most`` does not.
    """
    whole = build(with_settings(experiment, RESIDENT.settings))
    local, layers, memory = _local(whole), len(whole.case.model.moe_layers), memory_of(whole)
    if most == "auto" and whole.out_of_memory is None:
        return Room(local, local, layers, memory=memory)
    unified, stored = whole.hardware.unified, reads_drive(experiment)
    if most == "auto" and unified and not stored:
        example = smaller(experiment, memory.limit - memory.kv - memory.work)
        raise too_small(experiment, most, whole.out_of_memory or "", example, host=False)
    least = _fewest_on_cpu(experiment) if most == "auto" else None
    counts = dict.fromkeys((least, layers)) if least else {}
    on_cpu = tuple(count for count in counts if count and _runs(experiment, _first(count)))
    on_host = fewest_on_host(experiment, whole) if most == "auto" and not unified else None
    built = build(with_settings(experiment, {**PLAIN.settings, "experts.capacity": most}))
    drive = _on_drive(whole, built, least) if stored else 0
    if (reason := built.out_of_memory) is None:
        slots = min(built.slots_per_layer)
        return Room(slots, local, layers, on_cpu, memory, on_host=on_host, drive=drive)
    if not (on_cpu or on_host):
        if most == "auto":
            example = smaller(experiment, _beside(memory))
            reason = _least(whole, least)
            raise too_small(experiment, most, reason, example, drive=not stored)
        raise InputError([_problem(experiment, f"{most}: {reason}; write auto, or less")])
    return Room(0, local, layers, on_cpu, memory, reason, on_host, drive)


def _on_drive(whole: Built, slotted: Built, least: int | None) -> int:
    """Bytes of experts that neither GPU nor host has room for: of the one memory with the slots of
    ``slotted``, else with the experts of the ``least`` layers on the CPU (None: of all).
    """
    if whole.hardware.unified:
        return int(whole.footprint.total.max() - slotted.footprint.total.max())
    layers = least or len(whole.case.model.moe_layers)
    return max(0, with_layers_on_cpu(whole, layers).host - slotted.footprint.host)


def _first(count: int) -> dict[str, str]:
    """What is set for the experts of the first ``count`` layers on the CPU."""
    return Choice(ON_CPU, PLAIN.policy, ALL, layers=count).settings


def _runs(experiment: Experiment, settings: dict[str, str]) -> bool:
    """Whether GPUs and host hold ``experiment`` with ``settings``; not where it is refused."""
    try:
        return build(with_settings(experiment, settings)).out_of_memory is None
    except InputError:
        return False


def fewest_on_host(experiment: Experiment, whole: Built) -> int | None:
    """How many layers, the first ones, have to be on the CPU as wholes so that the GPU holds all
    others; None where that does not go, or needs more than the host has.
    """
    most = len(whole.case.model.layers)

    def settings(first: int) -> dict[str, str]:
        return Choice(ON_HOST, PLAIN.policy, ALL, layers=first).settings

    least = bisect_left(range(1, most + 1), True, key=lambda n: _fits(experiment, settings(n))) + 1
    return least if least <= most and _runs(experiment, settings(least)) else None


def _fits(experiment: Experiment, settings: dict[str, str]) -> bool:
    """Whether the GPUs hold it, whatever the host does."""
    try:
        built = build(with_settings(experiment, settings))
    except InputError:
        return False
    return bool(built.footprint.total.max() <= built.limit_bytes)


def memory_of(whole: Built) -> Memory:
    """The bytes of a case whose experts are all on its GPUs."""
    parts = whole.footprint.at_peak()
    weights, kv = parts.pop("weights"), parts.pop("kv_cache")
    shares = zip(whole.residences, whole.case.shares, strict=True)
    experts = max(one.resident_bytes(share.model) for one, share in shares)
    host, gpus = whole.hardware.host_memory_bytes, len(whole.case.shares)
    return Memory(weights, experts, kv, sum(parts.values()), whole.limit_bytes, host, gpus)


def _fewest_on_cpu(experiment: Experiment) -> int | None:
    """As ``fewest_layers``; None, too, where layers on the CPU are refused."""
    try:
        return fewest_layers(with_settings(experiment, _first(1)), build)
    except InputError:
        return None


def with_layers_on_cpu(whole: Built, first: int) -> Footprint:
    """The bytes of ``whole`` with the experts of its ``first`` layers on the host."""
    slots = whole.case.slots.copy()
    slots[:, :first] = 0
    case = replace(whole.case, slots=slots, miss=Cpu())
    residences: tuple[Residence, ...] = residences_of(case)
    return footprint_of(case, residences)


def _least(whole: Built, least: int | None) -> str:
    """What is missing where even ``least`` layers on the CPU, or all of them, do not help."""
    layers, there = len(whole.case.model.moe_layers), whole.hardware.host_memory_bytes
    step = with_layers_on_cpu(whole, least or layers)
    if least is None:
        fullest, limit = int(step.total.max()) / 1e9, whole.limit_bytes / 1e9
        return f"the GPU needs {fullest:.1f} of {limit:.1f} GB even with all experts on the CPU"
    needed, has = step.host / 1e9, there / 1e9
    what = f"with the experts of the fewest layers on the CPU that the GPU allows, {least} of"
    return f"{what} {layers}, the host needs {needed:.1f} GB for them, and has {has:.1f} GB"


def _beside(memory: Memory) -> int:
    """Bytes that GPUs and host together have for weights, less what the host's system takes."""
    gpu = memory.limit - memory.kv - memory.work
    return memory.gpus * gpu + memory.host - SYSTEM_BYTES


def too_small(
    experiment: Experiment, most: str, reason: str, example: str = "", *, host: bool = True,
    drive: bool = True,
) -> InputError:  # fmt: skip
    """The error that ``most`` room for experts is too little, for that ``reason``; a format of
    fewer bits, as this ``example``, and a larger ``host`` would help, too, or not, and a ``drive``.
    """
    larger = "a larger GPU or host" if host else "a larger machine"
    remedy = f"take {larger}, fewer bits a weight{example}, a shorter context, a smaller batch"
    named = f", or {DRIVE}" if drive else ""
    return InputError([_problem(experiment, f"{most}: {reason}; {remedy}{named}")])


def _problem(experiment: Experiment, what: str) -> Problem:
    return Problem(experiment.name, "experts.capacity", what)


def _local(built: Built) -> int:
    return max(one.local for one in built.residences)
