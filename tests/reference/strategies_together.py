"""Hypothesis strategies: cases that join several concepts, wherever these go together."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from .agreement_energy import PARTS
from .reference_placement import physical
from .reference_words import PREFILL
from .strategies import NEAR, Case, cases, runnable
from .strategies_concepts import by_bytes_cases
from .strategies_host import (
    above_storage,
    copied_layer_cases,
    on_nodes_of_one,
    reading_ahead,
    with_host_bytes,
    with_window,
)
from .strategies_prefetch import prefetching_cases
from .strategies_routing import rerouted
from .strategies_variants import goes_below, prefetching_variants, variant_cases

CONCEPTS = (
    "storage", "one memory", "host by bytes", "layers ahead", "prompts that stream", "buffers",
    "copied layers", "prefetch", "before a pass", "read ahead", "pool by bytes", "variants",
    "parts", "drafts", "unpacking", "split", "background", "near memory", "unit groups", "skip",
    "substitute", "sliced", "all-reduced", "replicas", "on the CPU", "routing", "pruned", "energy",
)  # fmt: skip
"""What ``concepts_of`` may find in a case."""


def concepts_of(case: Case) -> frozenset[str]:
    """Which of CONCEPTS a case has."""
    config, model = case.config, case.model
    stored, ahead = config.host_slots is not None, config.prefetch.kind != "none"
    sizes = len(set(model.by_layer)) > 1
    streams = config.prefill == "stream" and PREFILL in case.trace["phase"]
    beyond = config.beyond if config.variants else ""
    has = {
        "storage": stored and not config.in_place,
        "one memory": config.in_place,
        "host by bytes": config.host_bytes is not None,
        "layers ahead": config.host_layers_ahead is not None,
        "prompts that stream": streams and config.phase in ("all", "prefill"),
        "buffers": config.policy == "stream",
        "copied layers": config.copied_layers > 0,
        "prefetch": ahead and config.prefetch.when == "layer",
        "before a pass": ahead and config.prefetch.when == "before_pass",
        "read ahead": ahead and stored,
        "pool by bytes": config.scope == "global" and sizes,
        "variants": bool(config.variants),
        "parts": model.reused_bytes > 0,
        "drafts": config.drafts > 0,
        "unpacking": config.unpacks,
        "split": config.miss == "split",
        "background": config.miss == "background",
        "near memory": config.near_memory and config.miss in NEAR,
        "unit groups": config.groups > 1,
        "skip": config.miss == "skip" or beyond == "skip",
        "substitute": beyond == "substitute",
        "sliced": config.sliced,
        "all-reduced": config.reduces,
        "replicas": physical(model, config) > model.experts,
        "on the CPU": config.miss == "cpu",
        "routing": case.recorded is not None,
        "pruned": case.recorded is not None and case.recorded[1].experts > model.experts,
        "energy": bool(case.watts),
    }
    assert set(has) == set(CONCEPTS)
    return frozenset(name for name, there in has.items() if there)


@st.composite
def concept_cases(draw: st.DrawFn) -> Case:
    """A case of one concept or of none, with others above, below and beside it."""
    case = draw(
        st.one_of(
            cases(),
            cases(prompts=True),
            copied_layer_cases(),
            prefetching_cases(),
            by_bytes_cases(),
            st.booleans().flatmap(lambda alone: variant_cases(alone=alone)),
            prefetching_variants(),
        )
    )
    if goes_below(case) and not case.config.copied_layers and draw(st.integers(0, 2)):
        case = below(draw, case)
    case = beside(draw, case)
    if draw(st.integers(0, 3)) == 0:
        case = rerouted(draw, case)
    if draw(st.integers(0, 3)) == 0:
        case = replace(case, watts=tuple(draw(st.integers(0, 400)) for _ in PARTS))
    return case


def below(draw: st.DrawFn, case: Case) -> Case:
    """``case`` with a host that does not hold all, as it goes with what the case has."""
    if case.config.prefetch.kind != "none":
        return reading_ahead(draw, case)
    streams = case.config.prefill == "stream" and not case.config.variants
    case = above_storage(draw, case)
    if case.config.variants:
        return case
    if streams:
        config = replace(on_nodes_of_one(case.config), prefill="stream")
        return replace(case, config=runnable(config, case.trace))
    how = draw(st.sampled_from(["slots", "bytes", "bytes", "layers"]))
    if how == "bytes":
        return with_host_bytes(draw, case)
    return with_window(draw, case) if how == "layers" else case


def beside(draw: st.DrawFn, case: Case) -> Case:
    """``case`` with parts; or with drafts, unpacked experts, both or neither."""
    config = case.config
    whole = not (config.sliced or config.variants or config.copied_layers)
    if whole and config.miss in ("load", "skip") and draw(st.integers(0, 2)) == 0:
        reused = draw(st.integers(1, 700))
        if config.host_bytes is not None:  # with room for the largest
            config = replace(config, host_bytes=config.host_bytes + reused)
        return replace(case, model=replace(case.model, reused_bytes=reused), config=config)
    drafts, unpacks = draw(st.sampled_from([(0, False), (0, True), (1, False), (2, True)]))
    chances = draw(
        st.lists(st.sampled_from([0.0, 0.25, 0.75, 1.0]), min_size=drafts, max_size=drafts)
    )
    width = draw(st.integers(1, 2))
    config = replace(config, chances=tuple(chances), drafts=width * drafts, unpacks=unpacks)
    config = replace(config, draws=draw(st.integers(0, 2)) if drafts else 0)
    prices = replace(case.prices, unpacking=draw(st.integers(1, 60)) if unpacks else 0)
    return replace(case, config=config, prices=prices)
