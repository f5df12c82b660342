"""Slots of every GPU and MoE layer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np

from moesim.config.capacity import ExpertCapacity
from moesim.engine.case import Case, Ints
from moesim.engine.routing import Routing
from moesim.experiment.building.footprints import footprint_of, staging_of
from moesim.memory.activations import ActiveExperts
from moesim.memory.footprint import Footprint, Residence, expert_bytes, slots_of
from moesim.memory.slots import EqualSlots, SlotsByLayer
from moesim.model.spec import ModelSpec


def slots_of_run(
    case: Case, capacity: ExpertCapacity, sharing: EqualSlots | SlotsByLayer, limit_bytes: int
) -> Ints:
    """Slots int64[gpus, MoE layers] of the whole run ``case``, whatever its own slots.

    ``limit_bytes``: what a GPU has for the run, on which ``auto`` depends.
    """
    local = [len(case.local_experts(gpu)) for gpu in range(case.gpus)]
    nothing = (0,) * len(case.model.moe_layers)
    if capacity.kind == "auto":
        residences = (
            Residence(count, nothing, staging=staging_of(case, gpu))
            for gpu, count in enumerate(local)
        )
        without = footprint_of(case, tuple(residences))
        slots = [max(1, count) for count in slots_beside(without, case.model, local, limit_bytes)]
    else:
        slots = [slots_of(capacity, case.model, count) for count in local]
    equal = np.repeat(np.array(slots, np.int64)[:, None], len(case.model.moe_layers), axis=1)
    return equal if isinstance(sharing, EqualSlots) else _by_layer(case, equal, sharing.first_part)


def slots_beside(
    others: Footprint, model: ModelSpec, local: Sequence[int], limit_bytes: int
) -> list[int]:
    """By GPU, the most whole slots a layer beside the ``others`` at their fullest pass, from 0 to
    ``local``. A copy in flight fills a slot, so it needs no room of its own.
    """
    fits = (limit_bytes - others.total.max(axis=0)) // sum(expert_bytes(model))
    return np.clip(fits, 0, local).tolist()  # type: ignore[no-any-return]


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
