"""Hypothesis strategies of parts: models, small traces, software, integer prices."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import strategies as st

from .prices import ToyPrices
from .reference_words import (
    DECODE,
    ENCODE,
    NO_EXPERT,
    PREFILL,
    Kernels,
    Layer,
    Model,
    Software,
    Trace,
)

PADDED = ("static", "gshard", "no_drop", "tutel")


@st.composite
def models(draw: st.DrawFn, encoder: bool) -> Model:
    """1..3 MoE layers with dense layers between; with an encoder, at least one layer each."""
    moe_layers = draw(st.integers(1, 3))
    layers: list[Layer] = []
    encoder_layers = draw(st.integers(1, moe_layers)) if encoder else 0
    for nth in range(moe_layers):
        stack = "encoder" if nth < encoder_layers else "decoder"
        window = draw(st.none() | st.integers(1, 20))
        if draw(st.booleans()):
            kind = draw(st.integers(0, 3))
            layers.append(Layer(len(layers), moe=False, stack=stack, window=window, kind=kind))
        kind = draw(st.integers(0, 3))
        layers.append(Layer(len(layers), moe=True, stack=stack, window=window, kind=kind))
    if encoder_layers == moe_layers or draw(st.booleans()):
        layers.append(Layer(len(layers), moe=False))
    experts = draw(st.integers(2, 12))
    return Model(
        layers=layers,
        experts=experts,
        top_k=draw(st.integers(1, min(4, experts))),
        hidden=draw(st.integers(1, 8)),
        activation_bytes=draw(st.sampled_from([1, 2, 4])),
        expert_bytes=draw(st.integers(1, 2000)),
        varies=draw(st.integers(0, 3)) == 0,
    )


@st.composite
def traces(draw: st.DrawFn, model: Model, kind: str) -> Trace:
    """1..6 requests of 1..12 tokens; ``kind``: decode, both (prompt and answer) or encode."""
    random = Random(draw(st.integers(0, 2**32 - 1)))
    padded = draw(st.sampled_from([0.0, 0.0, 0.2, 0.6]))
    spread = draw(st.integers(1, model.experts))  # favourites: reuse between steps
    columns = ("expert_ids", "gate_weights", "request_id", "position", "phase")
    trace: Trace = {column: [] for column in columns}
    name = 0
    for _ in range(draw(st.integers(1, 6))):
        name += draw(st.integers(1, 3))
        tokens = draw(st.integers(1, 12) | st.integers(8, 12))
        prompt = draw(st.integers(0, tokens)) if kind == "both" else 0
        first = draw(st.integers(0, 30)) if kind == "decode" else 0
        phases = [PREFILL] * prompt + [DECODE] * (tokens - prompt)
        positions = list(range(first, first + tokens))
        if kind == "encode":
            encoded, prompt = draw(st.integers(0, 6)), random.choice([0, 0, 1, tokens // 2])
            phases = [ENCODE] * encoded + [PREFILL] * prompt + phases[prompt:]
            positions = list(range(encoded)) + positions
        for phase, position in zip(phases, positions, strict=True):
            trace["request_id"].append(name)
            trace["phase"].append(phase)
            trace["position"].append(position)
            ids = choices(random, model, phase, spread, padded)
            trace["expert_ids"].append(ids)
            trace["gate_weights"].append([[half(random.random()) for _ in of] for of in ids])
    return trace


def half(weight: float) -> float:
    """The nearest number that a trace can hold."""
    return float(np.float16(weight))


def choices(
    random: Random, model: Model, phase: int, spread: int, padded: float
) -> list[list[int]]:
    """One token's experts in every MoE layer; layers of the other stack have none."""
    token = []
    runs = model.layers_of(phase)
    for layer in model.moe_layers:
        favourites = max(spread, model.top_k) if random.random() < 0.8 else model.experts
        ids = random.sample(range(favourites), model.top_k)
        for place in range(model.top_k):
            if random.random() < padded and (place > 0 or random.random() < 0.1):
                ids[place] = NO_EXPERT
        token.append(ids if layer in runs else [NO_EXPERT] * model.top_k)
    return token


few_ns, many_ns = st.integers(0, 80), st.integers(200, 2000)


HALVES = (few_ns | many_ns).map(lambda n: n / 2)  # exact in floating point


kernels = st.builds(
    Kernels,
    *[st.integers(0, 4)] * 7,
    sequence=st.none() | st.integers(0, 4),
    gate_by_gating=st.dictionaries(st.sampled_from(["dynamic", *PADDED]), st.integers(0, 4)),
)


softwares = st.just(Software()) | st.builds(
    Software,
    kernels=kernels,
    launch_ns=HALVES,
    host_per_layer_ns=HALVES,
    host_per_copy_ns=HALVES,
    copies_per_expert=st.integers(1, 3),
    pinned=st.booleans(),
    states_pinned=st.booleans(),
    blocking=st.booleans(),
    overlap=st.booleans(),
    copies_back=st.booleans(),
    logits_to_host=st.booleans(),
    input_copies=st.integers(0, 2),
    synchronisations=st.integers(0, 2),
    cpu_synchronisations=st.none() | st.integers(0, 2),
    resident_synchronisations=st.none() | st.integers(0, 2),
    count_reads=st.integers(1, 3),
    calls_empty=st.booleans(),
    synchronisation_ns=HALVES,
)


small, large = st.integers(0, 20), st.integers(0, 500)


toy_prices = st.builds(
    ToyPrices,
    base=small | large,
    token=small,
    context=st.integers(0, 3),
    expert_start=small | large,
    expert=small | large,
    tile=small | large,
    copy_latency=small | large,
    copy_bytes_a_ns=st.integers(1, 20),
    cpu_start=small | large,
    cpu_row=small | large,
    exchange_latency=small | large,
    exchange_bytes_a_ns=st.integers(1, 20),
)


@st.composite
def plans(draw: st.DrawFn, model: Model, gating: str) -> list[list[int]]:
    """Another order in each MoE layer, with replicas of some where the gating does not pad."""
    spare = draw(st.integers(0, 4)) if gating == "dynamic" else 0
    plan = []
    for _ in model.moe_layers:
        more = [draw(st.integers(0, model.experts - 1)) for _ in range(spare)]
        plan.append(draw(st.permutations([*range(model.experts), *more])))
    return plan
