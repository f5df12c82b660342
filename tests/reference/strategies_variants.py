"""Hypothesis strategies: experts that are kept in several formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from .reference_placement import local_experts, physical
from .reference_words import Config, Variant
from .strategies import Case, cases, few_are_drawn, of_few_policies, runnable
from .strategies_prefetch import prefetching_cases

OF_VARIANTS = ("lru", "gate_score", "random", "s3fifo", "hobbit")
RULES = ("gate_cumulative", "gate_ratio", "hot_cold", "resident_else")
LIMITS = [(0.6, 0.9), (0.0, 0.5), (1.0, 1.0), (0.4, 1.0), (0.0, 0.0)]


@st.composite
def variant_cases(draw: st.DrawFn, *, alone: bool = True) -> Case:
    """A case whose experts are kept in two or three formats; ``alone``: with no concept that goes
    neither with replicas nor with what the CPU computes.
    """
    case = of_few_policies(draw(cases()), OF_VARIANTS)
    overlap = case.config.software.overlap
    any_way = case.config.policy == "lru" or not few_are_drawn()
    miss = draw(st.sampled_from(["load", "cpu"])) if alone and overlap and any_way else "load"
    return in_variants(draw, case if alone else without_replicas(case), miss)


@st.composite
def prefetching_variants(draw: st.DrawFn) -> Case:
    """A case that prefetches such experts."""
    drawn = of_few_policies(draw(prefetching_cases()), OF_VARIANTS)
    case = in_variants(draw, without_replicas(drawn))
    variant = draw(st.sampled_from(["wanted", "high", "low"]))
    prefetch = replace(case.config.prefetch, variant=variant)
    return replace(case, config=replace(case.config, prefetch=prefetch))


def without_replicas(case: Case) -> Case:
    """``case`` with none of its experts twice."""
    if physical(case.model, case.config) == case.model.experts:
        return case
    whole = replace(case.config, placement="contiguous", plan=None)
    return replace(case, config=runnable(whole, case.trace))


def goes_below(case: Case) -> bool:
    """Whether experts of ``case`` may be read from storage, beside variants if it has some."""
    config = case.config
    whole = physical(case.model, config) == case.model.experts
    ahead = config.prefetch.kind != "none"
    return not config.variants or (config.miss == "load" and whole and not ahead)


def in_variants(draw: st.DrawFn, case: Case, miss: str = "load") -> Case:
    """``case`` with its experts in two or three formats."""
    local = max(map(len, local_experts(case.model, case.config)))
    few: Any = case.config.slots
    any_slots = st.integers(1, local)
    if few is None or (isinstance(few, int) and few >= local):
        few = draw(st.integers(1, max(1, local - 1)))
    one_of = draw(st.booleans())  # of a layer, each its own
    layers = len(case.model.moe_layers)
    alike = one_of or case.config.scope == "global"
    slots: Any = any_slots if alike else st.lists(any_slots, min_size=layers, max_size=layers)
    sizes = st.integers(1, case.model.expert_bytes)
    variants = st.builds(Variant, sizes, slots, st.integers(0, 3), st.booleans())
    rest = draw(st.lists(variants, min_size=1, max_size=2))
    if any(one.nested for one in rest):  # slices have fewer bytes
        rest.sort(key=lambda one: -one.expert_bytes)
    rule = draw(st.sampled_from(RULES))
    first, last = draw(st.sampled_from(LIMITS))
    limits = (first, last) if len(rest) == 1 else (first, (first + last) / 2, last)
    if rule == "gate_ratio":
        limits = limits[::-1]
    beyond = ["skip", "low", "substitute", *["high"] * (rule == "resident_else")]
    config = replace(
        case.config,
        slots=few,
        policy="lru" if case.config.policy in ("min", "stream") else case.config.policy,
        gating="dynamic",
        kernels="grouped" if case.config.kernels == "batched" else case.config.kernels,
        prefill="cache",
        miss=miss,
        uploads=None,
        host_start_ns=case.config.host_start_ns if miss == "cpu" else 0,
        near_memory=False,
        variants=(Variant(case.model.expert_bytes, few), *rest),
        choose=rule,
        limits=limits,
        beyond=draw(st.sampled_from(beyond)),
        use_worse=rule == "resident_else" or draw(st.booleans()),
    )
    if case.config.policy in ("min", "stream"):
        config = replace(config, parameters={})
    if miss == "cpu" and config.scope != "global" and draw(st.booleans()):
        config = on_the_cpu(config, draw(st.sets(st.integers(0, layers - 1), min_size=1)), layers)
    return replace(case, config=config)


def on_the_cpu(config: Config, without: set[int], layers: int) -> Config:
    """``config`` with some MoE layers that have no slots in any variant."""

    def slots(given: Any) -> Any:
        every = given if isinstance(given, list) else [given] * layers
        return [0 if layer in without else of for layer, of in enumerate(every)]

    variants = tuple(replace(one, slots=slots(one.slots)) for one in config.variants)
    return replace(config, slots=slots(config.slots), variants=variants)
