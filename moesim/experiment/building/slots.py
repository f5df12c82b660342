"""Slots of every GPU and MoE layer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np

from moesim.config.capacity import ExpertCapacity
from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.engine.case import Case, Ints
from moesim.engine.routing import Routing
from moesim.experiment.building.footprints import footprint_of, staging_of
from moesim.experiment.schema.experiment import Experts
from moesim.memory.activations import ActiveExperts
from moesim.memory.footprint import Footprint, Residence, expert_bytes, slots_of
from moesim.memory.slots import EqualSlots


def slots_of_run(case: Case, room: Experts, limit_bytes: int) -> Ints:
    """Slots int64[gpus, MoE layers] of the whole run ``case``, whatever its own slots: as ``room``
    says, none in layers on the CPU.

    ``limit_bytes``: what a GPU has for the run, on which ``auto`` depends. Raises InputError where
    the layers on the CPU are no MoE layers of the model, or do not go together with the rest.
    """
    local = [len(case.local_experts(gpu)) for gpu in range(case.gpus)]
    on_cpu, nothing = np.array(room.on_cpu.of(case.model)), (0,) * len(case.model.moe_layers)
    if on_cpu.any():
        _check_on_cpu(case, room)
    sizes = [size for size, host in zip(expert_bytes(case.model), on_cpu, strict=True) if not host]
    if room.capacity.kind == "auto":
        residences = (
            Residence(count, nothing, staging=staging_of(case, gpu))
            for gpu, count in enumerate(local)
        )
        without = footprint_of(case, tuple(residences))
        slots = [max(1, count) for count in slots_beside(without, sizes, local, limit_bytes)]
    else:
        slots = [slots_of(room.capacity, sizes, count) for count in local]
    equal = np.repeat(np.array(slots, np.int64)[:, None], len(nothing), axis=1)
    if case.policy.scope == "global" and room.capacity.kind == "bytes":
        equal[:, ~on_cpu] = [_of_pool(room.capacity, sizes, count) for count in local]
    equal[:, on_cpu] = 0
    if isinstance(room.slots, EqualSlots):
        return equal
    return _by_layer(case, equal, room.slots.first_part)


def _check_on_cpu(case: Case, room: Experts) -> None:
    """An InputError where layers on the CPU do not go together with the rest."""
    if (room.miss.loads and room.miss.uses_host) or not (room.miss.loads or room.miss.uses_host):
        what = f"'{kind_of(type(room.miss))}' does not go together with on_cpu"
        raise InputError(f"experts.miss: {what}; write cpu")
    if not isinstance(room.slots, EqualSlots):
        raise InputError("experts.slots: on_cpu says which layers have none; write equal")
    if case.policy.scope == "global":
        what = "one pool would give slots to layers that on_cpu leaves without"
        raise InputError(f"experts.policy.scope: {what}; write layer")
    if case.prefill == "stream":
        what = "'stream' would copy layers that on_cpu leaves on the host"
        raise InputError(f"workload.prefill.experts: {what}; write cache or bypass")


def check_loads(case: Case, room: Experts) -> None:
    """An InputError where layers beside those on the CPU would have to load experts."""
    on_gpu = ~np.array(room.on_cpu.of(case.model))
    whole = all(case.resident(gpu)[on_gpu].all() for gpu in range(case.gpus))
    if room.miss.loads and not (on_gpu.all() or whole):
        what = "'load' beside layers on the CPU needs room for all experts of the other layers"
        raise InputError(f"experts.miss: {what}; write cpu, or more layers in experts.on_cpu")


def slots_beside(
    others: Footprint, sizes: Sequence[int], local: Sequence[int], limit_bytes: int
) -> list[int]:
    """By GPU, the most whole slots a layer beside the ``others`` at their fullest pass, from 0 to
    ``local``, of layers whose experts have ``sizes``. A copy in flight fills a slot, so it needs no
    room of its own.
    """
    fits = (limit_bytes - others.total.max(axis=0)) // max(1, sum(sizes))
    return np.clip(fits, 0, local).tolist()  # type: ignore[no-any-return]


def _of_pool(capacity: ExpertCapacity, sizes: Sequence[int], local: int) -> Ints:
    """Slots int64[MoE layers] whose sum is all that the bytes hold, as equal as can be.

    A layer with slots for all ``local`` experts would count as resident: none has them but all.
    """
    whole, more = divmod(int(capacity.amount) // max(sizes), len(sizes))
    slots = whole + (np.arange(len(sizes)) < more)
    if whole >= local:
        return np.full(len(sizes), local, np.int64)
    return np.clip(slots, 1, max(1, local - 1))  # type: ignore[no-any-return]


def _by_layer(case: Case, equal: Ints, first_part: float) -> Ints:
    """Slots by layer where not all experts fit, from the first ``first_part`` of the passes."""
    from moesim.memory.slots_by_layer import lru_curve, share_out

    through = np.flatnonzero(~case.bypassed)
    if not len(through):
        return equal
    last = through[max(1, ceil(Fraction(str(first_part)) * len(through))) - 1]
    routing = Routing(replace(case, schedule=case.schedule.first(int(last) + 1)))
    sizes, slots = expert_bytes(case.model), equal.copy()
    first = case.order == "resident_first"
    for gpu, experts in enumerate(len(local) for local in routing.local):
        if equal[gpu, 0] < experts:
            active_experts = _active_experts(routing, gpu)
            curves = [lru_curve(layer, experts, resident_first=first) for layer in active_experts]
            slots[gpu] = share_out(curves, sizes, int(equal[gpu, 0]))
    return slots


def _active_experts(routing: Routing, gpu: int) -> list[list[ActiveExperts]]:
    """What each MoE layer needs on ``gpu``, piece by piece."""
    active_experts: list[list[ActiveExperts]] = [[] for _ in routing.moe_layers]
    for first, last in routing.pieces():
        counts, active = routing.counts(first, last).sum(axis=2), routing.active(first, last)
        through = ~routing.case.bypassed[first:last]
        counts, active = counts[through], active[through]
        for layer, pieces in enumerate(active_experts):
            pieces.append(routing.active_experts(counts[:, layer], active[:, layer], gpu))
    return active_experts
