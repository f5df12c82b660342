"""Hypothesis strategies of single concepts: drafts, unpacking, pools by bytes, rebalancing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from .reference_words import Rebalance
from .strategies import Case, cases
from .strategies_host import BY_BYTES, storage_cases
from .strategies_prefetch import prefetching_cases


@st.composite
def by_bytes_cases(draw: st.DrawFn) -> Case:
    """Cases of a pool over layers whose experts differ in bytes, few of them far larger."""
    case = draw(cases(prompts=draw(st.booleans())))
    config, layers = case.config, len(case.model.moe_layers)
    sizes = draw(st.lists(st.integers(1, 9), min_size=layers, max_size=layers))
    unit = draw(st.sampled_from([1, 7, 200]))
    model = replace(case.model, by_layer=tuple(unit * size for size in sizes))
    largest, whole = max(model.by_layer), model.experts * sum(model.by_layer)
    few = st.integers(largest, max(largest, whole // 4))
    pool = draw(st.none() | few | st.integers(largest, whole + 1))
    config = replace(
        config,
        scope="global",
        slots=config.slots if isinstance(config.slots, int) else 1,
        pool_bytes=pool if len(set(sizes)) > 1 else None,
        policy=draw(st.sampled_from(BY_BYTES)),
        parameters={},
        miss=draw(st.sampled_from(["load", "load", "load", "cpu", "zero_copy", "skip"])),
        uploads=None,
        order="id" if config.order == "least_makespan" else config.order,
    )
    if config.miss == "cpu" and not config.software.overlap:
        config = replace(config, miss="load")
    return replace(case, model=model, config=config)


@st.composite
def speculating_cases(draw: st.DrawFn) -> Case:
    """Cases whose decode steps verify drafts, half of them with misses read from storage."""
    case = draw(storage_cases() if draw(st.booleans()) else cases())
    chances = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=4))
    width = draw(st.integers(1, 2))
    rejected = draw(st.sampled_from(["continuation", "other"]))
    config = replace(case.config, chances=tuple(chances), drafts=width * len(chances))
    config = replace(config, rejected=rejected, draws=draw(st.integers(0, 3)))
    return replace(case, config=config)


@st.composite
def unpacking_cases(draw: st.DrawFn) -> Case:
    """Cases whose software unpacks experts before their products."""
    case = draw(st.one_of(cases(), cases(), prefetching_cases()))
    prices = replace(case.prices, unpacking=draw(st.integers(1, 60)))
    return replace(case, config=replace(case.config, unpacks=True), prices=prices)


@st.composite
def rebalancing_cases(draw: st.DrawFn) -> Case:
    """Cases of several GPUs with all experts, which get other places during the run."""
    case = draw(cases() | cases(prompts=True))
    config = case.config
    assume(config.gpus > 1 and not config.sliced)
    assume(not any(layer.stack == "encoder" for layer in case.model.layers))
    rules = Rebalance(
        interval=draw(st.integers(1, 5)),
        window=draw(st.integers(1, 7)),
        one_by_one=draw(st.booleans()),
        least=draw(st.sampled_from([1.0, 1.0, 0.8, 0.5])),
        planning=draw(st.sampled_from([0, 30])),
    )
    if rules.one_by_one:
        rules = replace(rules, interval=rules.interval + len(case.model.moe_layers))
    nodes = draw(st.sampled_from([n for n in (1, 2) if config.gpus % n == 0]))
    config = replace(
        config,
        slots=None,
        gating="dynamic",
        prefill="cache",
        miss="load",
        uploads=None,
        near_memory=False,
        host_start_ns=0,
        nodes=nodes if config.group == 1 else config.nodes,
        order="id",
        rebalance=rules,
    )
    return replace(case, config=config)
