"""Several formats of an expert."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.pieces import experts_in, wrong_piece
from moesim.experiment.loading.rules.asked import experts_of, in_place, prompts_go
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.choices.base import ByLimits
from moesim.memory.choices.gate_cumulative import GateCumulative
from moesim.memory.misses.cpu import Cpu

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def variants_of_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Variants are decided in slots of their own, variant by variant, with loads alone."""
    room, choose = experiment.experts, experiment.experts.choose
    if room.variants is None:
        if choose is None:
            return None
        what = "says which variant is wanted, and there are none; write experts.variants"
        return Conflict(("experts.choose", "experts.variants"), what)
    has_middle, rule = room.variants.middle is not None, choose or GateCumulative()
    if isinstance(rule, ByLimits) and has_middle != (rule.middle is not None):
        what = "names middle where experts.variants has none, or not where it has one; write both"
        return Conflict(("experts.choose", "experts.variants", "experts.choose.middle"), what)
    return first_wrong(("experts.variants",), "variants work", _beside(experiment, model))


def _beside(experiment: Experiment, model: ModelSpec | None) -> dict[str, str | bool]:
    """By key what is wrong with it beside variants, in words."""
    room, parallelism = experiment.experts, experiment.parallelism
    stored = room.host.capacity.kind != "all" or in_place(experiment, model)
    of_layers = "with layers on the CPU where it computes what else is missing; write miss: cpu"
    miss, on_cpu = kind_of(type(room.miss)), type(room.miss) is Cpu
    experts = max(experts_of(model)) if model is not None and model.moe_layers else 0
    spare = experiment.placement.spare(experts, experiment.folders) if experts else 0
    return {
        "experts.capacity": room.capacity.kind == "all"
        and "with room for a part of the experts; write auto, or another capacity than all",
        "experts.miss": ((not on_cpu and miss != "load") or room.miss.near_memory)
        and "with misses that are loaded or that the CPU computes, 'load' or 'cpu'",
        "experts.host.capacity": on_cpu
        and stored
        and "without experts that the CPU computes and that are read from storage yet; write all",
        "experts.prefetch": room.prefetch.fetches
        and (
            (stored and "without prefetches where experts are read from storage yet; write none")
            or (on_cpu and "without prefetches where the CPU computes what is missing; write none")
            or (spare > 0 and "without prefetches where experts have replicas yet; write none")
        ),
        "experts.policy": (room.policy.looks_ahead or room.policy.shared_buffers() is not None)
        and f"with policies that know them, not '{kind_of(type(room.policy))}'; write lru",
        "experts.slots": room.slots.kind != "equal" and "with equal slots; write slots: equal",
        "experts.on_cpu": model is not None
        and not room.on_cpu.fitted
        and any(room.on_cpu.of(model))
        and not on_cpu
        and of_layers,
        "experts.host.layers_ahead": room.host.layers_ahead is not None
        and "without layers that are read ahead yet; leave layers_ahead out",
        "host_layers": experiment.host_layers > 0 and not on_cpu and of_layers,
        "offload_layers": bool(experiment.offload_layers) and "without copied layers yet; write 0",
        "gating": kind_of(type(experiment.gating)) != "dynamic" and "with dynamic gating alone",
        "parallelism.pipeline": parallelism.pipeline > 1 and "without a pipeline yet; write 1",
        "workload.prefill.experts": prompts_go(experiment) != "cache"
        and "with prompts through the caches; write cache",
        "placement": spare > 0
        and stored
        and "without replicas where experts are read from storage yet",
    }


def worse_ones_are_smaller(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A variant has no more bytes than a better one, and a slice of it fewer, of the same bits."""
    room = experiment.experts.variants
    if model is None or room is None:
        return None
    for (better_name, better), (name, one) in pairwise(room.named):
        if any(wrong_piece(experiment, "", each) for each in (better, one)):
            continue
        sizes = [experts_in(experiment, each)[0].bytes for each in (better, one)]
        key, own, other = f"experts.variants.{name}", sizes[1], sizes[0]
        if one.nested and (one.rank or better.rank):
            what = "is true of a slice of bits, which products of low rank have none of"
            return Conflict((f"{key}.nested", f"{key}.rank", key), f"{what}; leave it out")
        if one.nested and own >= other:
            what = f"is true of a slice, and {own} bytes are none of the {other} of the next"
            return Conflict((f"{key}.nested", key), f"{what} better variant; leave it out")
        if own > other:
            what = f"{name} has {own} bytes an expert, more than the {other} of {better_name}"
            keys = (f"{key}.format", key, f"experts.variants.{better_name}")
            return Conflict(keys, f"{what}, which is to be the better one; write the best first")
    return None


RULES: tuple[Rule, ...] = (variants_of_experts, worse_ones_are_smaller)
