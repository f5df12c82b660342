"""What fits: the largest batch, the largest expert capacity, and slots against context length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.building.fitted_layers import at_context, fewest_layers, with_layers
from moesim.experiment.building.footprints import footprint_of, residences_of
from moesim.experiment.building.formats import format_notes
from moesim.experiment.building.pools import bytes_of_run, sizes_in, slots_of_pools
from moesim.experiment.building.serving import most_bytes
from moesim.experiment.building.slots import slots_beside
from moesim.experiment.questions.fit_passes import (
    Lengths,
    decode_step,
    fullest_passes,
    layer_cache_bytes,
)
from moesim.experiment.questions.shares import one_memory_notes, share_notes
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.experts import Experts
from moesim.experiment.schema.serving import Memory as ServedMemory
from moesim.memory.footprint.footprint import Footprint, Residence, expert_bytes
from moesim.memory.footprint.shares import stages
from moesim.memory.misses.cpu import Cpu
from moesim.workload.batching.base import LARGEST_BATCH

BATCHES = (1, 4, 16)
SHORTEST_CONTEXT = 1024
UNKNOWN = "copies_in_flight"
"""Part of the slots until the misses are known."""


def largest_fit(
    experiment: Experiment,
    contexts: Sequence[int] | None = None,
    batches: Sequence[int] = BATCHES,
) -> dict[str, Any]:
    """Answers for ``experiment``, at the longest of ``contexts`` where some are given: ``fits`` as
    it stands and ``reason`` if not; ``largest_batch`` with every request as long as the run's
    longest in each phase, of no more than ``seats`` that are served at once (None: any number);
    ``largest_slots`` a layer (None where not even one fits) and its
    ``capacity_bytes``; ``cpu_layers`` of the ``moe_layers``, as ``fewest_on_cpu`` has them;
    ``slot_layers`` of them have slots, the others' experts are the host's;
    ``peak_memory_bytes`` and ``limit_bytes`` of the fullest of the ``gpus``; ``memory_by_batch``
    and ``slots_by_context`` as these functions give them, and ``notes`` of what is left out. Slots
    are those of layers that the experiment does not leave on the CPU; where requests are served,
    those beside the blocks of one of the longest.
    """
    _check_variants(experiment)
    whole = build(experiment)
    rows = list(slots_by_context(_within_share(experiment, whole), contexts, batches))
    if contexts:
        whole = build(at_context(experiment, max(contexts)))
    built = _within_share(experiment, whole)
    local = max(r.local for r in built.residences)
    lengths = _lengths(experiment, built, contexts)
    slots = _largest(lambda n: _with_slots(built, n, lengths), local, built)
    longest = longest_context(built) if built.case.serving is None else lengths.context
    batch = _largest(
        lambda n: fullest_passes(built, n, lengths), _most_at_once(built, lengths), built
    )
    peak = int(whole.footprint.total.max())
    return {
        "notes": [
            *share_notes(experiment),
            *one_memory_notes(whole.hardware, peak),
            *format_notes(whole.case),
            *_pool_notes(built, slots),
        ],
        "fits": whole.out_of_memory is None,
        "reason": whole.out_of_memory,
        "peak_memory_bytes": peak,
        "limit_bytes": whole.limit_bytes,
        "largest_batch": batch,
        "seats": _seats(built),
        "longest_context_tokens": longest,
        "memory_by_batch": list(memory_by_batch(built, batch or 0, lengths)),
        "largest_slots": slots,
        "local_experts": local,
        "slots_per_layer": min(built.slots_per_layer),
        "capacity_bytes": slots * max(map(sum, _sizes(built.case))) if slots else None,
        "gpus": len(built.case.shares),
        "moe_layers": len(built.case.model.moe_layers),
        "slot_layers": int(_with_room(built.case).sum()),
        "cpu_layers": fewest_on_cpu(experiment, max(contexts) if contexts else None),
        "slots_by_context": rows,
    }


def _pool_notes(built: Built, slots: int | None) -> list[str]:
    """How many experts one pool of all layers holds at most, where ``slots`` a layer fit and it may
    hold more.
    """
    case = built.case
    if case.policy.scope != "global" or case.serving is not None or slots is None:
        return []
    auto = Experts(capacity=ExpertCapacity("auto", 1))
    every = bytes_of_run(case, auto, built.limit_bytes)
    held = slots_of_pools(case, every, sizes_in(case, auto.capacity, case.model)).sum(axis=1)
    whole = len(case.model.moe_layers) * max(one.local for one in built.residences)
    what = f"one pool of all layers holds {held.min()} of {whole} experts at most"
    return [f"{what} (experts.policy.scope: global); slots are told a layer, rounded down"]


def _within_share(experiment: Experiment, built: Built) -> Built:
    """``built`` with no more of a GPU's memory than the engine takes; as it is where the room for
    keys and values is written.
    """
    memory = experiment.memory or ServedMemory()
    if built.case.serving is None or not memory.kv.is_left:
        return built
    return replace(built, most_bytes=most_bytes(built.case, memory, built.hardware))


def _lengths(experiment: Experiment, built: Built, contexts: Sequence[int] | None) -> Lengths:
    """Of the run's longest request; of one that is served, at the longest of ``contexts``."""
    lengths = Lengths.of(built.case, experiment.workload.prefill.chunk)
    served = built.case.serving is not None
    return replace(lengths, context=max(contexts)) if served and contexts else lengths


def _most_at_once(built: Built, lengths: Lengths) -> int:
    """The most requests in flight that there may be, as long as ``lengths`` say."""
    case, pool = built.case, built.case.kv_pool
    if case.serving is None or pool is None:
        return LARGEST_BATCH
    fixed, each = built.most_bytes is None, pool.blocks_of(lengths.context)
    most = min(pool.seats, pool.blocks // each) if fixed else pool.seats
    return min(LARGEST_BATCH, most * case.serving.room.ranks)


def _seats(built: Built) -> int | None:
    """The most requests that a scheduler lets run at once, on all ranks; None without any."""
    case, pool = built.case, built.case.kv_pool
    return None if case.serving is None or pool is None else pool.seats * case.serving.room.ranks


def _check_variants(experiment: Experiment) -> None:
    if experiment.experts.variants is not None:
        what = "slots are told of one format of the experts; leave variants out to ask what fits"
        raise InputError(f"experts.variants: {what}")


def fewest_on_cpu(experiment: Experiment, context: int | None = None) -> int | None:
    """Of how many MoE layers, the first ones, the experts have to be on the CPU if all others are
    to be resident, at ``context`` or as long as the run's requests are; None where that does not
    fit, on the GPUs or the host.
    """
    asked = at_context(_all_resident(experiment), context)
    try:
        least = fewest_layers(asked, build, context)
        whole = None if least is None else build(with_layers(asked, least))
    except InputError:  # no room for keys and values, even so
        return None
    return None if whole is None or whole.out_of_memory is not None else least


def _all_resident(experiment: Experiment) -> Experiment:
    """``experiment`` without what is for experts that have no slot, but for the CPU's."""
    asked, workload = experiment.experts, experiment.workload
    kept = {name: getattr(asked, name) for name in ("host", "kernels", "parts")}
    if isinstance(asked.miss, Cpu):
        kept["miss"] = asked.miss
    prompts = workload.prefill.model_copy(update={"experts": "cache"})
    update = {
        "experts": Experts().model_copy(update=kept),
        "workload": workload.model_copy(update={"prefill": prompts}),
    }
    return experiment.model_copy(update=update)


def memory_by_batch(built: Built, largest: int, lengths: Lengths) -> Iterator[dict[str, Any]]:
    """A row for batches 1, 2, 4, ..., ``largest`` and, if there is one, the next power that does
    not fit: bytes by category on the fullest GPU, their sum ``total_bytes``, and whether it
    ``fits``. One for each GPU is the least: smaller batches leave GPUs without work.
    """
    gpus = built.case.gpus
    powers = [gpus << n for n in range((LARGEST_BATCH // gpus).bit_length())]
    below = [batch for batch in powers if batch < largest]
    above = [batch for batch in powers if largest < batch <= _most_at_once(built, lengths)][:1]
    for batch in (*below, *([largest] if largest else []), *above):
        step = fullest_passes(built, batch, lengths)
        fits = step.overflow(built.limit_bytes, built.hardware.host_memory_bytes) is None
        parts = {f"{name}_bytes": size for name, size in step.at_peak().items() if name != UNKNOWN}
        yield {"batch": batch, **parts, "total_bytes": sum(parts.values()), "fits": fits}


def slots_by_context(
    built: Built, contexts: Sequence[int] | None, batches: Sequence[int]
) -> Iterator[dict[str, int | None]]:
    """A row for each batch of ``batches`` and context of ``contexts`` (None: 1024, 2048, ... up to
    the model's longest), in which every request is at the context and decodes.

    ``slots_per_layer``: the most that fit on every GPU, 0 where not even 1; ``cpu_layers``: of how
    many layers, the first ones, the experts have to be on the host if all others are to be resident
    (None: that does not fit, on the GPU or the host); ``resident_bytes``: weights and slots of the
    fullest GPU, and ``kv_bytes`` of its requests. Slots are those of layers that the run has not on
    the CPU; ``cpu_layers`` asks anew, but for layers that the host runs as wholes.
    """
    for batch in batches:
        if not 1 <= batch <= LARGEST_BATCH:
            raise InputError(f"--batch {batch}: must be from 1 to {LARGEST_BATCH}")
        for context in _contexts(built) if contexts is None else contexts:
            _check_context(built, context)
            yield _row(built, batch, context)


def _row(built: Built, batch: int, context: int) -> dict[str, int | None]:
    built = _divided(built, batch, context, 0)
    local = [one.local for one in built.residences]
    without = decode_step(built, batch, context, _equal(built, 0))
    slots = min(slots_beside(without, _sizes(built.case), local, built.limit_bytes))
    step = decode_step(built, batch, context, _equal(built, slots))
    if step.overflow(built.limit_bytes, built.hardware.host_memory_bytes) is not None:
        slots, step = 0, without
    parts = step.at_peak()
    return {
        "batch": batch,
        "context_tokens": context,
        "slots_per_layer": slots,
        "cpu_layers": _on_cpu(built, batch, context),
        "resident_bytes": parts["weights"] + parts["expert_slots"],
        "kv_bytes": parts["kv_cache"],
    }


def _on_cpu(built: Built, batch: int, context: int) -> int | None:
    """As ``cpu_layers`` of ``slots_by_context``."""

    def step(first: int) -> Footprint:
        left = _left_on_cpu(built, batch, context, first)
        return decode_step(left, batch, context, left.residences)

    return _fewest(step, built)


def _left_on_cpu(built: Built, batch: int, context: int, first: int) -> Built:
    """``built`` with all experts resident but those of its ``first`` MoE layers."""
    whole = _divided(built, batch, context, first)
    layers = built.case.model.moe_layers
    held = [place >= first and not one.on_host | one.zero_copy for place, one in enumerate(layers)]
    residences = (
        replace(
            one, slots=tuple(one.local * held[place] for place in places), buffers=None, pool=None
        )
        for places, one in _places(whole)
    )
    return replace(whole, residences=tuple(residences))


def _fewest(footprint: Callable[[int], Footprint], built: Built) -> int | None:
    """The least number of MoE layers whose footprint fits (it shrinks with the number), or None."""
    layers = len(built.case.model.moe_layers)

    def fits(first: int) -> bool:
        return bool(footprint(first).total.max() <= built.limit_bytes)

    least = bisect_left(range(layers + 1), True, key=fits)
    host_bytes = built.hardware.host_memory_bytes
    if least > layers or footprint(least).overflow(built.limit_bytes, host_bytes) is not None:
        return None
    return least


def _divided(built: Built, batch: int, context: int, on_cpu: int) -> Built:
    """``built`` with the stages, if it has some, of a run of so many requests at the context, whose
    first ``on_cpu`` MoE layers' experts are on the host.
    """
    case = built.case
    if not case.stages:
        return built
    local = built.residences[0].local
    slots = [local * (place >= on_cpu) for place in range(len(case.model.moe_layers))]
    cached = [batch * layer_cache_bytes(one, context) for one in case.model.cached_layers]
    return replace(
        built, case=replace(case, stages=stages(case.model, slots, cached, len(case.stages)))
    )


def _places(built: Built) -> list[tuple[range, Residence]]:
    """Of each GPU its MoE layers among those of the model, and its experts."""
    moe = (range(share.moe.start, share.moe.stop) for share in built.case.shares)
    return list(zip(moe, built.residences, strict=True))


def _sizes(case: Case) -> list[list[int]]:
    """By GPU the bytes of an expert in each of its MoE layers that have slots."""
    held = _with_room(case)
    every = (zip(expert_bytes(one.model), held[one.moe], strict=True) for one in case.shares)
    return [[size for size, has in of_gpu if has] for of_gpu in every]


def _with_room(case: Case) -> NDArray[np.bool_]:
    """By MoE layer, whether it has slots: none on the CPU has, and none that is copied."""
    copied = np.array([layer.copied for layer in case.model.moe_layers], bool)
    room: NDArray[np.bool_] = np.any(case.slots > 0, axis=0) & ~copied
    return room


def _contexts(built: Built) -> list[int]:
    longest = built.case.model.longest_context or longest_context(built)
    doubled = (SHORTEST_CONTEXT << n for n in range(longest.bit_length()))
    return [*(context for context in doubled if context < longest), longest]


def _check_context(built: Built, context: int) -> None:
    model = built.case.model
    if context < 1 or context > (model.longest_context or context):
        most = f"from 1 to {model.longest_context}, the longest of {model.name}"
        raise InputError(f"--context {context}: must be {most if context else '1 or more'}")


def longest_context(built: Built) -> int:
    """Tokens in the KV cache of the longest request of the run."""
    return int(built.case.trace.position[built.case.schedule.rows].max()) + 1


def _largest(footprint: Callable[[int], Footprint], most: int, built: Built) -> int | None:
    """The largest number in 1..most whose footprint fits, or None. It grows with the number, but
    that slots for all experts leave none of them to the host.
    """

    def fits(number: int) -> bool:
        limits = built.limit_bytes, built.hardware.host_memory_bytes
        return footprint(number).overflow(*limits) is None

    if most and fits(most):
        return most
    return bisect_left(range(1, most), True, key=lambda number: not fits(number)) or None


def _with_slots(built: Built, slots: int, lengths: Lengths) -> Footprint:
    if built.case.serving is not None:
        ranks = built.case.serving.room.ranks
        return decode_step(built, ranks, lengths.context, _equal(built, slots))
    room = np.where(_with_room(built.case), slots, 0)
    slotted = np.zeros_like(built.case.slots) + room
    case = replace(built.case, slots=slotted, pool_bytes=None)
    return footprint_of(case, residences_of(case))


def _equal(built: Built, slots: int) -> tuple[Residence, ...]:
    """The GPUs' experts with ``slots`` in every layer that has some."""
    held = _with_room(built.case)
    return tuple(
        Residence(one.local, tuple((slots * held[places]).tolist()), staging=one.staging)
        for places, one in _places(built)
    )
