"""Hypothesis strategies: experts that host memory and storage hold."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from .reference_placement import local_experts
from .reference_words import Config
from .strategies import Case, cases, runnable
from .strategies_parts import large, small
from .strategies_prefetch import prefetching_cases
from .strategies_variants import variant_cases

HOST_POLICIES = ("lru", "lru", "fifo", "lifo", "lfu", "random", "least_stale", "arc")


BY_BYTES = ("lru", "lru", "lfu", "fifo", "lifo", "static")
"""Policies that choose in a pool by bytes."""


@st.composite
def storage_cases(draw: st.DrawFn) -> Case:
    """Cases whose host memory does not hold all experts."""
    return above_storage(draw, draw(cases()))


@st.composite
def stored_variant_cases(draw: st.DrawFn) -> Case:
    """Cases of variants that host memory does not all hold: a cache of slots, or by bytes."""
    case = above_storage(draw, draw(variant_cases(alone=False)))
    variants = [one.expert_bytes for one in case.config.variants]
    whole = len(case.model.moe_layers) * case.model.experts * sum(variants)
    if not case.config.host_slots or draw(st.booleans()):
        return case
    by_bytes = draw(st.integers(max(variants), max(*variants, whole - 1)))
    policy = draw(st.sampled_from(BY_BYTES))
    return replace(case, config=replace(case.config, host_bytes=by_bytes, host_policy=policy))


def above_storage(draw: st.DrawFn, case: Case) -> Case:
    """``case`` with host memory that does not hold all experts."""
    config, model = case.config, case.model
    local = -(-model.experts // config.holders)
    if not config.variants and (config.slots is None or draw(st.booleans())):
        config = replace(config, slots=draw(st.integers(1, max(1, local - 1))))
    forms = max(1, len(config.variants))
    nodes = (
        [1]
        if config.gathers
        else [n for n in range(1, config.gpus + 1) if config.gpus % (n * config.group) == 0]
    )
    config = replace(
        config,
        prefill="bypass" if config.prefill == "stream" else config.prefill,
        nodes=draw(st.sampled_from(nodes)),
        host_slots=draw(
            st.just(0)
            | st.integers(1, len(model.moe_layers) * model.experts * config.parts * forms)
        ),
        one_memory=draw(st.booleans()),
        host_policy=draw(st.sampled_from(HOST_POLICIES)),
        reads=draw(st.integers(1, 3)),
        mapped=draw(st.booleans()),
        read_chunk=draw(st.none() | st.integers(1, 500)),
    )
    latency, rate = draw(small | large | st.integers(2000, 9000)), draw(st.integers(1, 20))
    prices = replace(case.prices, read_latency=latency, read_bytes_a_ns=rate)
    return replace(case, config=config, prices=prices)


@st.composite
def window_cases(draw: st.DrawFn) -> Case:
    """Cases of nodes with one GPU each whose hosts read whole layers in order."""
    return with_window(draw, draw(storage_cases()))


def with_window(draw: st.DrawFn, case: Case) -> Case:
    """``case``, which is above storage, with hosts that read whole layers in order."""
    config, model = on_nodes_of_one(case.config, behind=True), case.model
    most = max(len(of) for of in local_experts(model, config))
    ahead = draw(st.integers(0, 3))
    fixed = draw(st.integers(0, len(model.moe_layers)))
    config = replace(
        config,
        host_policy="lru",
        one_memory=False,
        host_layers_ahead=ahead,
        host_slots=(1 + ahead + fixed) * most + draw(st.integers(0, most - 1)),
    )
    return replace(case, config=config)


def on_nodes_of_one(config: Config, *, behind: bool = False) -> Config:
    """``config`` with one GPU a node, and nothing that comes ``behind``, if it may not."""
    if config.sliced:
        config = replace(config, slices=1, gpus=1)
    if config.miss == "background" and not behind:
        config = replace(config, miss="cpu", uploads=None)
    return replace(config, group=1, reduces=False, nodes=config.gpus)


@st.composite
def streaming_cases(draw: st.DrawFn) -> Case:
    """Cases of nodes with one GPU each, prompts that stream among them, and reads from storage."""
    case = draw(storage_cases())
    config = replace(on_nodes_of_one(case.config), prefill="stream", phase="all")
    return replace(case, config=runnable(config, case.trace))


@st.composite
def reading_ahead_cases(draw: st.DrawFn) -> Case:
    """Cases of nodes with one GPU each that prefetch what their hosts may not hold."""
    return reading_ahead(draw, draw(prefetching_cases()))


def reading_ahead(draw: st.DrawFn, case: Case) -> Case:
    """``case``, which prefetches, with hosts that may not hold what it does."""
    config, model = on_nodes_of_one(case.config), case.model
    if config.plan is not None:  # without replicas
        config = replace(config, plan=[of[: model.experts] for of in config.plan])
        if any(sorted(of) != list(range(model.experts)) for of in config.plan or []):
            config = replace(config, plan=None, placement="contiguous")
    if config.scope == "layer" and draw(st.booleans()):  # experts of layers differ
        layers = len(model.moe_layers)
        sizes = st.lists(st.integers(1, 2 * model.expert_bytes), min_size=layers, max_size=layers)
        model = replace(model, by_layer=tuple(draw(sizes)))
    every = len(model.moe_layers) * model.experts
    config = replace(
        config,
        host_slots=draw(st.just(0) | st.integers(1, every)),
        one_memory=draw(st.booleans()),
        host_policy=draw(st.sampled_from(HOST_POLICIES[:-1])),
        reads=draw(st.integers(1, 3)),
        mapped=draw(st.booleans()),
        read_chunk=draw(st.none() | st.integers(1, 500)),
    )
    latency, rate = draw(small | large | st.integers(2000, 9000)), draw(st.integers(1, 20))
    prices = replace(case.prices, read_latency=latency, read_bytes_a_ns=rate)
    return replace(case, model=model, config=config, prices=prices)


@st.composite
def host_bytes_cases(draw: st.DrawFn) -> Case:
    """Cases whose host memory is a cache by bytes, below slots of each layer or a pool by bytes."""
    return with_host_bytes(draw, draw(storage_cases()))


def with_host_bytes(draw: st.DrawFn, case: Case) -> Case:
    """``case``, which is above storage, with hosts that are caches by bytes."""
    config, layers = case.config, len(case.model.moe_layers)
    sizes = tuple(draw(st.lists(st.integers(1, 900), min_size=layers, max_size=layers)))
    sizes = case.model.by_layer or sizes
    whole = case.model.experts * config.parts * sum(sizes)
    pools = config.policy in BY_BYTES and config.miss in ("load", "cpu", "zero_copy", "skip")
    config = replace(
        config,
        scope=config.scope if pools else "layer",
        host_bytes=draw(st.integers(max(sizes), whole)) if config.host_slots else None,
        host_policy=draw(st.sampled_from(BY_BYTES)),
    )
    return replace(case, model=replace(case.model, by_layer=sizes), config=config)


@st.composite
def copied_layer_cases(draw: st.DrawFn) -> Case:
    """Cases of one GPU whose first layers are copied whole in every pass, or read in place."""
    case = draw(cases())
    config, model = case.config, case.model
    number, experts = draw(st.integers(1, len(model.layers))), model.experts
    few = st.integers(1, max(1, experts - 1)) | st.none()
    of_host = 0 if config.miss == "zero_copy" else None  # read in place, or copied with their layer
    slots = [of_host if one.index < number else draw(few) for one in model.moe_layers]
    config = replace(
        config,
        gpus=1,
        nodes=1,
        slices=1,
        group=1,
        placement="contiguous",
        plan=None,
        prefill="cache" if config.prefill == "stream" else config.prefill,
        miss="cpu" if config.miss == "background" else config.miss,
        uploads=None if config.miss == "background" else config.uploads,
        scope="layer",
        slots=slots,
        copied_layers=number,
    )
    return replace(case, config=config)
