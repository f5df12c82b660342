"""Host memory as a cache, as an experiment asks for it."""

from __future__ import annotations

from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.engine.case import Case
from moesim.engine.residency.host_window import fixed_layers
from moesim.experiment.building.storage_path import path_of, requests_of
from moesim.experiment.schema.experts import HostMemory
from moesim.hardware import HardwareProfile
from moesim.hardware.described.reached import SYSTEM_BYTES
from moesim.hardware.operations.copies.storage_read import no_storage
from moesim.memory.footprint.footprint import Footprint
from moesim.memory.host.host_cache import HostCache
from moesim.memory.policy import THIS_LAYER, CachePolicy
from moesim.memory.policy_reads import reads_of
from moesim.memory.slots.room import goes_by_bytes


def host_cache_of(
    case: Case, room: HostMemory, hardware: HardwareProfile, without: Footprint
) -> HostCache | None:
    """The cache that ``room`` asks for, ``without`` which the host needs what that says; None where
    all experts are in host memory, or on the GPU. A GPU that shares the host's memory reads into
    its own slots.

    A slot holds an expert of any layer, in any of its variants, or a part of it where experts are
    sliced, so it is as large as the largest. Where they differ, a policy that can goes by bytes,
    but for prefetches and windows of layers. Raises InputError where the machine has no storage, or
    too little.
    """
    if not case.offloaded or (room.capacity.kind == "all" and not hardware.unified):
        return None
    experts = [case.slices * layer.moe.experts for layer in case.model.moe_layers if layer.moe]
    of_all = int(experts @ case.stored.sum(axis=1))
    sizes, number = case.stored.ravel().tolist(), sum(experts) * case.stored.shape[1]
    mapped = path_of(room, case.software, hardware).path == "mmap"
    requests = requests_of(room, case.model, mapped=mapped)
    if hardware.unified:
        if not case.slots.all():
            what = "experts on the CPU would have slots of their own in the one memory"
            raise InputError(f"experts.on_cpu: {what}; leave it out")
        if hardware.host.storage is None:
            what = f"the one memory of {hardware.name} has room for {case.slots.min()} of"
            what += f" {len(case.local_experts(0))} experts a layer, and no drive has the others"
            what += "; name one beside the machine, as in storage: nvme-pcie4"
            raise InputError(f"experts.capacity: {what} ('moesim list storage')")
        _check(hardware, of_all)
        return HostCache(0, room.policy, requests, mapped, in_place=True)
    left, limit = hardware.host_memory_bytes - without.host, None
    slots = _slots(room, max(sizes), number, left)
    alone = not case.prefetches and room.layers_ahead is None
    if slots and len(set(sizes)) > 1 and alone and goes_by_bytes(type(room.policy)):
        limit = max(_slots(room, 1, of_all, left), *sizes)
    if slots >= number or (limit is not None and limit >= of_all):
        return None
    _check_policy(case, room)
    _check(hardware, of_all)
    chunk = None if room.chunk is None else int(room.chunk)
    how = (room.policy, requests, mapped, chunk)
    cache = HostCache(slots, *how, limit=limit, layers_ahead=room.layers_ahead)
    if cache.rooms and fixed_layers(cache, case) < 0:
        what = f"{slots} experts are less than {cache.rooms} layers, the one that runs and"
        what += f" layers_ahead: {room.layers_ahead} of them; write more, or fewer ahead"
        raise InputError(f"experts.host.capacity: {what}")
    return cache


def _slots(room: HostMemory, size: int, experts: int, left: int) -> int:
    """Slots of ``size`` bytes, of as many ``experts``; of size 1 they are bytes."""
    match room.capacity.kind:
        case "none":
            return 0
        case "bytes":
            slots = int(room.capacity.amount) // size
        case "fraction":
            slots = int(room.capacity.amount * experts + 1e-9)
        case _:
            slots = (left - SYSTEM_BYTES) // size
    return max(1, slots)


def _check_policy(case: Case, room: HostMemory) -> None:
    """A policy that reads the layer at hand knows of the steps that a node's GPUs have in each."""
    policy = type(room.policy)
    knows = policy.take_turns is not CachePolicy.take_turns
    if case.gpus > case.nodes and THIS_LAYER in (reads_of(policy).rows or ()) and not knows:
        what = f"'{kind_of(policy)}' reads the layer at hand, and takes no turns of several GPUs"
        raise InputError(f"experts.host.policy: {what}; write lru or lfu_decay")


def _check(hardware: HardwareProfile, needed: int) -> None:
    drive = hardware.host.storage
    if drive is None:
        raise InputError(no_storage(hardware.name))
    if needed > drive.capacity.value:
        what = f"holds {drive.capacity.value / 1e9:.0f} GB, and the experts have"
        raise InputError(f"hardware.storage: it {what} {needed / 1e9:.0f} GB; take a larger one")
