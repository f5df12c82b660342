"""Room for experts in bytes, and the slots that one pool of all MoE layers makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.engine.case import Case, Ints
from moesim.experiment.building.footprints import footprint_of, staging_of
from moesim.experiment.building.reserved import block_bytes
from moesim.experiment.schema.experts import Experts
from moesim.memory.footprint.footprint import Footprint, Residence, expert_bytes
from moesim.model.spec import ModelSpec


def bytes_of_run(case: Case, room: Experts, limit_bytes: int) -> Ints:
    """The bytes of each GPU that ``room`` has for experts, int64[gpus]: of ``auto`` what a limit of
    so many leaves beside everything else, 0 where that is nothing.
    """
    apart = room.on_cpu.of(case.model)
    whole = sum(
        size for size, host in zip(expert_bytes(case.model), apart, strict=True) if not host
    )
    amount = room.capacity.amount
    match room.capacity.kind:
        case "auto":
            left: Ints = limit_bytes - without_experts(case).total.max(axis=0)
            return np.maximum(left, 0)
        case "bytes":
            return np.full(case.gpus, int(amount))
        case "slots":
            return np.minimum(int(amount), local_of(case)) * whole
    return np.array([int(Fraction(str(amount)) * local * whole) for local in local_of(case)])


def local_of(case: Case) -> list[int]:
    """By GPU, the experts of each MoE layer that it holds or has on its host."""
    return [len(case.local_experts(gpu)) for gpu in range(case.gpus)]


def slots_of_pools(case: Case, every: Ints, sizes: Sequence[int], least: int = 1) -> Ints:
    """Slots int64[gpus, MoE layers] of pools over all layers, whose experts have ``sizes``, in
    ``every`` bytes int64[gpus]: whole experts of the pool, as many as the bytes hold, of each layer
    the ``least`` at least, 1 or 0, but one expert in all.
    """
    pools = zip(every.tolist(), local_of(case), strict=True)
    return np.array([_of_pool(room, sizes, local, least) for room, local in pools])


def sizes_in(case: Case, capacity: ExpertCapacity, model: ModelSpec) -> list[int]:
    """What an expert of each MoE layer of ``model`` takes of ``capacity``: its bytes, of what all
    else leaves (``auto``) in blocks of the software's allocator.
    """
    in_blocks = capacity.kind == "auto"
    return block_bytes(case.software.memory, model) if in_blocks else expert_bytes(model)


def pool_bytes_of(case: Case, room: Experts, limit_bytes: int) -> Ints | None:
    """Bytes int64[gpus] of each GPU's pool, where it goes by bytes and ``room`` does not say it in
    slots: room for an expert of every layer at least. None elsewhere.
    """
    if room.capacity.kind == "slots" or case.room(0) is None:
        return None
    every, whole = bytes_of_run(case, room, limit_bytes), sum(expert_bytes(case.model))
    in_blocks = sum(sizes_in(case, room.capacity, case.model))
    pool: Ints = every - every // in_blocks * (in_blocks - whole)
    return np.maximum(pool, whole)


def without_experts(case: Case) -> Footprint:
    """What GPUs hold but for experts in slots."""
    residences = (
        Residence(
            len(case.local_experts(share.gpu)),
            (0,) * len(share.model.moe_layers),
            staging=staging_of(case, share.gpu),
        )
        for share in case.shares
    )
    return footprint_of(case, tuple(residences))


def _of_pool(room: int, sizes: Sequence[int], local: int, least: int) -> Ints:
    """Slots int64[MoE layers] whose sum is all that ``room`` bytes hold, as equal as can be.

    A layer with slots for all ``local`` experts would count as resident: none has them but all.
    """
    whole, more = divmod(max(1, room // max(1, *sizes)), len(sizes))
    if len(set(sizes)) > 1:  # a pool by bytes: whole experts of every layer
        whole, more, least = room // sum(sizes), 0, 1
    if whole >= local:
        return np.full(len(sizes), local, np.int64)
    slots = whole + (np.arange(len(sizes)) < more)
    return np.clip(slots, least, max(1, local - 1))  # type: ignore[no-any-return]
