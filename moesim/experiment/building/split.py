"""What experts and keys and values share on a GPU, for a split that moves some of it."""

from __future__ import annotations

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.engine.case import Case
from moesim.experiment.schema.serving import Memory
from moesim.memory.footprint.kv_pool import KvPool
from moesim.workload.serving.blocks import most_held
from moesim.workload.serving.run import Serving
from moesim.workload.serving.state import Exchange
from moesim.workload.splits.base import KeepsSlots, Shared

MANY = 4096
"""Tokens of a pass that spend as little time each as they ever do."""


def exchange_of(case: Case, memory: Memory, pool: KvPool) -> Exchange | None:
    """How slots of ``case`` and blocks of ``pool`` change places; None: they do not. InputError
    where they cannot.
    """
    if not memory.split.moves:
        return None
    shared = shared_of(case, pool)
    if isinstance(memory.split, KeepsSlots):
        _refuse_too_many(memory.split.min_slots or 0, shared)
    return memory.split.exchange(shared)


def _refuse_too_many(min_slots: int, shared: Shared) -> None:
    """InputError where experts are to keep more slots than they have at the start."""
    if min_slots <= shared.slots:
        return
    what = f"{min_slots:,} are more than the {shared.slots:,} that experts have at the start"
    of_all = f" (all experts of a GPU are {shared.most:,})"
    what += f"{of_all if min_slots > shared.most else ''}, so that they never give one; write fewer"
    what += "" if min_slots > shared.most else ", or more experts.capacity"
    raise InputError([Problem("", "memory.split.min_slots", what)])


def shared_of(case: Case, pool: KvPool) -> Shared:
    """What they share, of the GPU with least."""
    assert case.serving is not None, "requests are served"
    if any(case.room(gpu) is not None for gpu in range(case.gpus)):
        what = "a pool over layers whose experts differ in bytes has no slots to move; write"
        raise InputError(f"memory.split: {what} experts.policy.scope: layer")
    unit = _unit_bytes(case) // max(pool.block_bytes(share.model) for share in case.shares)
    if unit < 1:
        what = "a slot in every MoE layer is less than a block; write a smaller memory.block_size"
        raise InputError(f"memory.split: {what}")
    every = case.policy.scope == "global"
    slots = case.slots.sum(axis=1) if every else case.slots.min(axis=1)
    local = min(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    scheduler, each = case.serving.scheduler, case.gpus // case.serving.room.ranks
    first = next(layer.moe for layer in case.model.moe_layers if layer.moe)
    return Shared(
        unit=unit,
        slots=int(slots.min()),
        most=local * (len(case.model.moe_layers) if every else 1),
        top_k=case.trace.top_k,
        blocks=pool.blocks,
        longest=_longest(case.serving, pool),
        watermark=scheduler.watermark_blocks(pool.blocks),
        copy_ns=case.expert_copy_ns(first.expert) // each,
        token_ns=_pass_ns(case, MANY) // MANY,
        step_ns=_pass_ns(case, 1),
    )


def _unit_bytes(case: Case) -> int:
    """Of a slot in every MoE layer, or in the one pool of all."""
    sizes = [layer.moe.expert.bytes for layer in case.model.moe_layers if layer.moe]
    return sizes[0] if case.policy.scope == "global" else sum(sizes)


def _longest(serving: Serving, pool: KvPool) -> int:
    """Blocks of the longest request that all of the pool holds."""
    assert serving.planned is not None, "what comes before a run goes by a plan"
    state, ahead = serving.planned[0], serving.room.look_ahead
    needs = [most_held(state, int(one), ahead) for one in np.unique(serving.served.asked.tokens)]
    return max((one for one in needs if one <= pool.blocks), default=1)


def _pass_ns(case: Case, tokens: int) -> int:
    """What the experts of so many tokens take in all MoE layers, rows as even as they can be."""
    total = 0
    for layer in case.model.moe_layers:
        assert layer.moe is not None, "it is a MoE layer"
        rows = tokens * case.trace.top_k
        each = np.full(min(layer.moe.experts, rows), max(1, rows // layer.moe.experts))
        total += int(case.prices.experts_ns(layer, each, np.zeros(1, np.int64))[0])
    return total
