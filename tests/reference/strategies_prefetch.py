"""Hypothesis strategies: experiments that prefetch."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from .reference_words import NO_EXPERT, Config, Model, Prefetch, Software, Trace
from .strategies import PARAMETERS, POLICIES, Case, configs, few_are_drawn, runnable, ways
from .strategies_parts import models, toy_prices, traces

WITHOUT_LISTS = tuple(name for name in POLICIES if name not in {"arc", "s3fifo", "stream"})


PREDICTIONS = ("oracle", "recorded", "next_layer", "history")


@st.composite
def prefetching_cases(draw: st.DrawFn) -> Case:
    """Half as pressed as any case, the others with more layers, and room or one crowded pool."""
    shape = draw(st.sampled_from(["pressed", "pressed", "room", "crowded"]))
    kind = draw(st.sampled_from(["decode", "decode", "both", "encode"]))
    model, prices = draw(models(encoder=kind == "encode")), draw(toy_prices)
    copy_ns = draw(st.integers(0, 50) | st.integers(100, 1000) | st.integers(1000, 9000))
    model = replace(model, expert_bytes=copy_ns * prices.copy_bytes_a_ns + 1)
    if shape != "pressed":
        more = replace(model.layers[-1], index=len(model.layers), moe=True)
        few, many = min(2, model.top_k), max(6, model.experts)
        model = replace(model, layers=[*model.layers, more], top_k=few, experts=many)
    trace = draw(traces(model, kind))
    config = draw(configs(model, kind, len(set(trace["request_id"]))))
    local = -(-model.experts // config.holders)
    if shape != "pressed":
        batch = draw(st.integers(1, 2))
        config = replace(config, batch_size=batch, gating="dynamic", kernels="grouped")
    if shape == "crowded":
        config = replace(config, slots=1, scope="global")
    elif shape == "room" or config.slots is None:
        config = replace(config, slots=draw(st.integers(1, max(1, local - 1))))
    prefetch = draw(prefetches(model))
    known = [*WITHOUT_LISTS, "lru", "random", "random", "gate_score", "hobbit"]
    policy = draw(st.sampled_from(known))
    name, values = PARAMETERS.get(policy, ("", []))
    parameters = {name: draw(st.sampled_from(values))} if values else {}
    software = replace(config.software, blocking=False, overlap=True)
    if draw(st.booleans()):  # a host that is far behind
        software = replace(software, host_per_copy_ns=float(draw(st.integers(500, 3000))))
    # what decides in open slots is compiled for each policy and way once more
    drawn = ["load"] if few_are_drawn() and policy != "lru" else ways(policy, software)
    if config.miss not in drawn or config.miss == "background":
        config = replace(config, miss="load", uploads=None)
    if shape == "crowded" and prefetch.every == 1 and draw(st.booleans()):  # pinned ones have to go
        prefetch = replace(prefetch, kind="history", budget=None)
    if prefetch.when == "before_pass" and draw(st.booleans()):
        config, software = one_after_the_other(config, software, blocking=draw(st.booleans()))
    config = replace(
        config,
        prefill="cache",
        copies_from=None,  # which goes together with none
        policy=policy,
        parameters=parameters,
        first_part=config.first_part if policy == "static" else 0.25,
        order="id" if config.order == "least_makespan" else config.order,  # which is of streams
        software=software,
        prefetch=prefetch,
    )
    random = Random(draw(st.integers(0, 2**32 - 1)))
    right = draw(st.sampled_from([0.3, 0.7, 1.0]))
    trace["predicted_ids"] = guesses(random, trace, model, right)
    if draw(st.booleans()):  # over each distance
        farther = [guesses(random, trace, model, right) for _ in range(prefetch.layers)]
        trace["predicted_ids"] = [list(of_token) for of_token in zip(*farther, strict=True)]
    return Case(trace, model, runnable(config, trace), prices)


def one_after_the_other(
    config: Config, software: Software, *, blocking: bool
) -> tuple[Config, Software]:
    """Software that copies nothing beside kernels, and what goes with it."""
    if config.miss not in {"load", "zero_copy", "skip"}:
        config = replace(config, miss="load", uploads=None)
    return config, replace(software, blocking=blocking, overlap=False)


@st.composite
def prefetches(draw: st.DrawFn, model: Model) -> Prefetch:
    layers, expert = len(model.moe_layers), model.expert_bytes
    every = draw(st.none() | st.none() | st.integers(1, 3))
    if every is not None:
        return before_passes(draw, expert, every)
    ahead = draw(st.integers(1, layers + 1) | st.just(layers))
    recall: Any = st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0, 1.0])
    precision: Any = st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0, 1.0])
    if draw(st.booleans()):  # one for each layer ahead
        recall, precision = st.tuples(*[recall] * ahead), st.tuples(*[precision] * ahead)
    return Prefetch(
        kind=draw(st.sampled_from(PREDICTIONS)),
        layers=ahead,
        recall=draw(recall),
        precision=draw(precision),
        stop=draw(st.sampled_from(["none", "none", "first_missing"])),
        first_part=draw(st.sampled_from([0.1, 0.28, 0.55, 1.0])),
        budget=draw(st.none() | st.integers(expert, 4 * expert - 1)),
        cost=draw(st.sampled_from([0, 0, 0, 7, 900])),
    )


def before_passes(draw: st.DrawFn, expert: int, every: int) -> Prefetch:
    """Predictions for ``every`` passes at once."""
    kinds = ["oracle", "recorded", "history"] if every == 1 else ["oracle", "recorded"]
    return Prefetch(
        kind=draw(st.sampled_from(kinds)),
        recall=draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        precision=draw(st.sampled_from([0.3, 0.9, 1.0])),
        budget=draw(st.none() | st.integers(expert, 4 * expert - 1)),
        cost=draw(st.sampled_from([0, 0, 0, 7, 900])),
        when="before_pass",
        every=every,
    )


def guesses(random: Random, trace: Trace, model: Model, right: float) -> list[list[list[int]]]:
    """Each choice of each token with a chance of ``right``, else any expert or none."""
    others = [NO_EXPERT, *range(model.experts)]
    return [
        [[e if random.random() < right else random.choice(others) for e in ids] for ids in token]
        for token in trace["expert_ids"]
    ]
