"""Slots of every GPU and MoE layer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.engine.case import Case, Ints
from moesim.engine.routing import Routing
from moesim.experiment.building.pools import (
    bytes_of_run,
    sizes_in,
    slots_of_pools,
    without_experts,
)
from moesim.experiment.building.reserved import block_bytes
from moesim.experiment.schema.experts import Experts
from moesim.memory.activations import ActiveExperts
from moesim.memory.footprint.footprint import Footprint, expert_bytes, slots_of
from moesim.memory.footprint.shares import Share
from moesim.memory.slots.slots import EqualSlots


def slots_of_run(case: Case, room: Experts, limit_bytes: int) -> Ints:
    """Slots int64[gpus, MoE layers] of the whole run ``case``, whatever its own slots: as ``room``
    says, none in layers on the CPU or read in place, and all experts in layers that are copied.

    ``limit_bytes``: what a GPU has for the run, on which ``auto`` depends. Raises InputError where
    the layers on the CPU are no MoE layers of the model, or do not go together with the rest.
    """
    shares, on_cpu = case.shares, np.array(room.on_cpu.of(case.model))
    local = [len(case.local_experts(share.gpu)) for share in shares]
    if on_cpu.any():
        check_on_cpu(case, room)
    if case.policy.scope == "global":
        every = bytes_of_run(case, room, limit_bytes)
        return slots_of_pools(case, every, sizes_in(case, room.capacity, case.model))
    copied = np.array([layer.copied for layer in case.model.moe_layers])
    nothing = on_cpu | np.array([layer.zero_copy for layer in case.model.moe_layers])
    sizes = [_sizes(share, nothing | copied) for share in shares]
    if room.capacity.kind == "auto":
        in_blocks = [_in_blocks(case, share, nothing | copied) for share in shares]
        slots = _beside_all_else(case, in_blocks, local, limit_bytes)
    else:
        buffers = case.policy.shared_buffers() is not None
        each = zip(sizes, local, strict=True)
        slots = [slots_of(room.capacity, *one, buffers=buffers) for one in each]
    equal = np.zeros((case.gpus, len(on_cpu)), np.int64)
    for share, count in zip(shares, slots, strict=True):
        equal[share.gpu, share.moe] = count
    equal[:, nothing] = 0
    for share, count in zip(shares, local, strict=True):
        equal[share.gpu, copied] = count
    if isinstance(room.slots, EqualSlots):
        return equal
    return _by_layer(case, equal, room.slots.first_part)


def _sizes(share: Share, apart: NDArray[np.bool_]) -> list[int]:
    """Bytes of an expert by MoE layer of ``share`` that has slots to be shared out."""
    every = zip(expert_bytes(share.model), apart[share.moe], strict=True)
    return [size for size, is_apart in every if not is_apart]


def _in_blocks(case: Case, share: Share, apart: NDArray[np.bool_]) -> list[int]:
    """The same in blocks of the software's allocator."""
    every = zip(block_bytes(case.software.memory, share.model), apart[share.moe], strict=True)
    return [size for size, is_apart in every if not is_apart]


def _beside_all_else(
    case: Case, sizes: Sequence[Sequence[int]], local: Sequence[int], limit_bytes: int
) -> list[int]:
    """By GPU, the slots a layer that fit beside everything but experts, at least 1."""
    without = without_experts(case)
    return [max(1, count) for count in slots_beside(without, sizes, local, limit_bytes)]


def check_on_cpu(case: Case, room: Experts) -> None:
    """An InputError where layers on the CPU do not go together with the rest."""
    key = _key(case)
    if (room.miss.loads and room.miss.uses_host) or not (room.miss.loads or room.miss.uses_host):
        what = f"'{kind_of(type(room.miss))}' does not go together with {key}"
        raise InputError(f"experts.miss: {what}; write cpu")
    if not isinstance(room.slots, EqualSlots):
        raise InputError(f"experts.slots: {key} says which layers have none; write equal")
    if case.policy.scope == "global":
        what = f"one pool would give slots to layers that {key} leaves without"
        raise InputError(f"experts.policy.scope: {what}; write layer")
    if case.prefill == "stream":
        what = f"'stream' would copy layers that {key} leaves on the host"
        raise InputError(f"workload.prefill.experts: {what}; write cache or bypass")


def _key(case: Case) -> str:
    """What leaves layers to the host."""
    return "host_layers" if any(layer.on_host for layer in case.model.layers) else "on_cpu"


def check_loads(case: Case, room: Experts) -> None:
    """An InputError where layers beside those on the CPU would have to load experts."""
    on_gpu = ~np.array(room.on_cpu.of(case.model))
    whole = all(case.resident(gpu)[on_gpu].all() for gpu in range(case.gpus))
    if room.miss.loads and not (on_gpu.all() or whole):
        what = "'load' beside layers on the CPU needs room for all experts of the other layers"
        key = _key(case).replace("on_cpu", "experts.on_cpu")
        raise InputError(f"experts.miss: {what}; write cpu, or more layers in {key}")


def slots_beside(
    others: Footprint, sizes: Sequence[Sequence[int]], local: Sequence[int], limit_bytes: int
) -> list[int]:
    """By GPU, the most whole slots a layer beside the ``others`` at their fullest pass, from 0 to
    ``local``, of layers whose experts have ``sizes``. A copy in flight fills a slot, so it needs no
    room of its own.
    """
    of_all = np.array([max(1, sum(of_layers)) for of_layers in sizes])
    fits = (limit_bytes - others.total.max(axis=0)) // of_all
    return np.clip(fits, 0, local).tolist()  # type: ignore[no-any-return]


def _by_layer(case: Case, equal: Ints, first_part: float) -> Ints:
    """Slots by layer where not all experts fit, from the first ``first_part`` of the passes."""
    from moesim.memory.slots.slots_by_layer import lru_curve, share_out

    through = np.flatnonzero(~case.bypassed)
    if not len(through):
        return equal
    last = through[max(1, ceil(Fraction(str(first_part)) * len(through))) - 1]
    routing = Routing(replace(case, schedule=case.schedule.first(int(last) + 1)))
    slots, first = equal.copy(), case.order == "resident_first"
    for share in case.shares:
        experts, own = len(routing.local[share.gpu]), equal[share.gpu, share.moe]
        if (own < experts).any():
            active_experts = _active_experts(routing, share.gpu)[share.moe]
            curves = [lru_curve(layer, experts, resident_first=first) for layer in active_experts]
            shared = share_out(curves, expert_bytes(share.model), int(own[0]))
            slots[share.gpu, share.moe] = shared
    return slots


def _active_experts(routing: Routing, gpu: int) -> list[list[ActiveExperts]]:
    """What each MoE layer needs on ``gpu``, piece by piece."""
    keys = [(layer, gpu) for layer in range(len(routing.moe_layers))]
    parts = [routing.needed(*piece, keys, through=True) for piece in routing.pieces()]
    return [[part[key] for part in parts] for key in keys]
