"""Hypothesis strategies: small traces, every choice of an experiment, integer prices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from .prices import ToyPrices
from .reference_batches import requests_of
from .reference_placement import local_experts
from .reference_words import (
    DECODE,
    ENCODE,
    NO_EXPERT,
    PREFILL,
    Config,
    Kernels,
    Layer,
    Model,
    Prefetch,
    Software,
    Trace,
    Verdict,
)

CLASSIC = ("lru", "fifo", "lifo", "lfu", "random", "static", "min")
OF_TODAY = ("lfu_decay", "lfru", "arc", "s3fifo", "least_stale", "gate_score", "stream", "hobbit")
POLICIES = (*CLASSIC, *OF_TODAY)
NEAR = ("cpu", "cheapest", "split")
UPLOADS = {"cheapest": 0, "background": 1}
"""Ways that bound their copies, and the least bound."""
MISSES = ("load", "cpu", "cheapest", "zero_copy", "skip", "background", "split")
PREFILLS = ("cache", "bypass", "stream")
PADDED = ("static", "gshard", "no_drop", "tutel")
DROPS = ("first_come", "random", "highest_gate_first", "batch_prioritised")
FORMS = {True: ["grouped", "block_sparse"], False: ["batched", "block_sparse"]}
SHARES = [0.1, 0.28, 0.5, 0.9]
PARAMETERS: dict[str, tuple[str, list[Any]]] = {
    "lfu_decay": ("half_life", [1, 3, 8, None]),
    "lfru": ("frequency", [0.0, *SHARES, 1.0]),
    "s3fifo": ("small", SHARES),
    "gate_score": ("decay", [0.0, *SHARES, 1.0]),
    "stream": ("buffers", [1, 2, 3]),
    "hobbit": ("distance", [0.0, *SHARES, 1.0]),
}


@dataclass(frozen=True)
class Case:
    """One experiment for the reference and for an engine."""

    trace: Trace
    model: Model
    config: Config
    prices: ToyPrices

    def arrays(self) -> dict[str, Any]:
        """The trace's columns with the dtypes of a RoutingTrace."""
        shape = (len(self.trace["phase"]), len(self.model.moe_layers), self.model.top_k)
        ids = np.array(self.trace["expert_ids"], dtype=np.uint16).reshape(shape)
        weights, predicted = self.trace.get("gate_weights"), self.trace.get("predicted_ids")
        return {
            "expert_ids": np.ascontiguousarray(ids),
            "request_id": np.array(self.trace["request_id"], dtype=np.int32),
            "position": np.array(self.trace["position"], dtype=np.int32),
            "phase": np.array(self.trace["phase"], dtype=np.uint8),
            "gate_weights": None
            if weights is None
            else np.array(weights, np.float16).reshape(shape),
            "predicted_ids": None
            if predicted is None
            else np.array(predicted, np.uint16).reshape(shape[0], -1, *shape[1:])
            if np.ndim(predicted) > len(shape)
            else np.array(predicted, np.uint16).reshape(shape),
        }


def needs_exceed_slots(case: Case, verdict: Verdict) -> bool:
    """Whether some set N was larger than the slots: rules (b) and (c) had to decide."""
    local = local_experts(case.model, case.config)
    for row in verdict.layers:
        slots = case.config.slots_of(row["layer"])
        if slots is not None and row["distinct_experts"] > slots < len(local[row["gpu"]]):
            return True
    return False


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
    blocking=st.booleans(),
    overlap=st.booleans(),
    synchronisations=st.integers(0, 2),
    cpu_synchronisations=st.none() | st.integers(0, 2),
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


def few_are_drawn() -> bool:
    """Whether this is a test at a desk, which can compile few of all programs."""
    return settings().max_examples < 100


def of_few_policies(case: Case, policies: tuple[str, ...]) -> Case:
    """``case``; where few are drawn, one of ``policies`` or lru."""
    if not few_are_drawn() or case.config.policy in policies:
        return case
    return replace(case, config=replace(case.config, policy="lru", parameters={}, first_part=0.25))


def ways(policy: str, software: Software) -> list[str]:
    """Ways to handle misses. A program is compiled for each with each policy, which takes seconds:
    where few examples are drawn, a policy has loads and one other way, and ``lru`` has all.
    """
    drawn = ["load", "load", "cpu", "cheapest", "cheapest", "zero_copy", "skip", "background"]
    drawn += ["split", "split"]
    # the host and the GPU work at a time: not for software that does one thing after the other
    there = {"load", "zero_copy", "skip"} if not software.overlap else set(drawn)
    if software.blocking:  # nor beside copies that hold the host
        there -= {"background"}
    if few_are_drawn() and policy != "lru":
        there &= {"load", MISSES[1 + POLICIES.index(policy) % (len(MISSES) - 1)]}
    return [way for way in drawn if way in there]


@st.composite
def configs(draw: st.DrawFn, model: Model, kind: str, requests: int) -> Config:
    """Every choice of semantics; half of the draws have few slots and large active experts."""
    pressed = draw(st.booleans())
    gpus = draw(st.integers(1, min(4, model.experts)))
    padded = st.sampled_from(PADDED)
    gating = draw(padded if draw(st.integers(0, 3)) < 1 + pressed else st.just("dynamic"))
    sliced = gpus > 1 and draw(st.integers(0, 3)) == 0
    local = model.experts if sliced else -(-model.experts // gpus)
    if pressed:
        slots: int | list[int] | None = draw(st.integers(1, max(1, min(local - 1, 4))))
        batch_size = draw(st.integers(min(2, requests), requests + 1))
    else:
        few, many = st.integers(1, max(1, local - 1)), st.integers(1, local + 1)
        slots = draw(few | many | st.none())
        batch_size = draw(st.integers(1, 2) | st.integers(1, requests + 1))
    policy = draw(st.sampled_from([*POLICIES, "lru", "min", "arc", "s3fifo"]))
    name, values = PARAMETERS.get(policy, ("", []))
    scope = "layer" if policy == "stream" else draw(st.sampled_from(["layer", "layer", "global"]))
    by_layer = policy != "stream" and scope == "layer" and draw(st.booleans())
    if isinstance(slots, int) and by_layer:
        each = st.integers(1, local + 1) if not pressed else st.integers(1, max(1, slots))
        slots = [draw(each) for _ in model.moe_layers]
    phases = {
        "decode": ["decode", "decode", "all"],
        "both": ["all", "all", "prefill", "decode"],
        "encode": ["encode", "encode", "decode", "all"],
    }
    software = draw(softwares)
    placement = draw(st.sampled_from(["contiguous", "round_robin", "plan", "plan"]))
    miss = draw(st.sampled_from(ways(policy, software)))
    initials = ["empty", "most_used", *["most_used"] * (miss in {"cpu", "zero_copy", "skip"})]
    uploads = {one: st.none() | st.integers(least, 3) for one, least in UPLOADS.items()}
    groups = [n for n in range(1, gpus + 1) if gpus % n == 0]
    group = draw(st.sampled_from([1, gpus] if sliced else groups))
    alike = 1 < gpus == group and not sliced and gating == "dynamic"
    config = Config(
        batching=draw(st.sampled_from(["static", "refill"])),
        batch_size=batch_size,
        phase=draw(st.sampled_from(phases[kind])),
        chunk=draw(st.none() | st.integers(1, 7)),
        prefill=draw(
            st.sampled_from([p for p in PREFILLS if p != "stream" or miss != "background"])
        ),
        gpus=gpus,
        group=group,
        sliced=sliced,
        reduces=alike and draw(st.booleans()),
        gating=gating,
        capacity_fraction=draw(st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 1.0])),
        no_drop=draw(st.booleans()),
        factor=draw(st.sampled_from([0.1, 0.7, 1.0, 1.25, 3.0])),
        min_capacity=draw(st.integers(0, 4)),
        drop=draw(st.sampled_from(DROPS)),
        placement=placement,
        plan=draw(plans(model, gating)) if placement == "plan" else None,
        slots=slots,
        policy=policy,
        parameters={name: draw(st.sampled_from(values))} if values else {},
        scope=scope,
        first_part=draw(st.sampled_from([0.1, 0.28, 0.55, 1.0])) if policy == "static" else 0.25,
        miss=miss,
        uploads=draw(uploads[miss]) if miss in uploads else None,
        rule=draw(st.sampled_from(["bandwidth", "least_makespan", "least_makespan", "cheapest"])),
        alpha=draw(st.sampled_from([0.0, 0.5, 1.0, 1.7])),
        bandwidths=draw(st.sampled_from([(1, 1), (1, 3), (7, 2)])),
        order=draw(st.sampled_from(ORDERS if policy == "stream" else ORDERS[:2])),
        protect="step" if miss == "background" else draw(st.sampled_from(["step", "step", "none"])),
        kernels=draw(st.sampled_from(["grouped", "serial", *FORMS[gating == "dynamic"]])),
        initial=draw(st.sampled_from(initials)),
        seed=draw(st.integers(0, 1000)),
        execution=draw(st.sampled_from(["eager", "piecewise", "splits", "graph"])),
        decide=draw(st.sampled_from(["host", "device"])),
        software=software,
        host_start_ns=draw(st.sampled_from([0, 40]))
        if miss in ("cpu", "cheapest", "background", "split")
        else 0,
        near_memory=miss in NEAR and draw(st.booleans()),
    )
    if config.execution == "graph":  # a graph cannot wait for the host's decision
        config = replace(config, decide="device")
    return config


@st.composite
def cases(draw: st.DrawFn, *, prompts: bool = False) -> Case:
    """``prompts``: with prompts, most of them around the caches."""
    kinds = ["decode", "decode", "both", "both", "encode"] if not prompts else ["both"]
    kind = draw(st.sampled_from(kinds))
    model = draw(models(encoder=kind == "encode"))
    trace = draw(traces(model, kind))
    requests = len(set(trace["request_id"]))
    config = draw(configs(model, kind, requests))
    if prompts:
        phase = draw(st.sampled_from(["all", "all", "prefill"]))
        kinds = [*PREFILLS, "bypass", "stream"]
        config = replace(config, phase=phase, prefill=draw(st.sampled_from(kinds)))
    return Case(trace, model, runnable(config, trace), draw(toy_prices))


def runnable(config: Config, trace: Trace) -> Config:
    """Nothing to run is an error, not an experiment, nor is what a rule refuses."""
    if config.order == "least_makespan" and config.prefill != "cache":
        config = replace(config, order="id")
    if requests_of(trace, config.phase):
        return config
    return replace(config, phase="encode" if trace["phase"][0] == ENCODE else "all")


BY_BYTES = ("lru", "lru", "lfu", "fifo", "lifo", "static")
"""Policies that choose in a pool by bytes."""


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


ORDERS = ("id", "resident_first", "least_makespan")
HOST_POLICIES = ("lru", "lru", "fifo", "lifo", "lfu", "random", "least_stale", "arc")


@st.composite
def speculating_cases(draw: st.DrawFn) -> Case:
    """Cases whose decode steps verify drafts, half of them with misses read from storage."""
    case = draw(storage_cases() if draw(st.booleans()) else cases())
    chances = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=4))
    width = draw(st.integers(1, 2))
    config = replace(case.config, chances=tuple(chances), drafts=width * len(chances))
    return replace(case, config=config)


@st.composite
def storage_cases(draw: st.DrawFn) -> Case:
    """Cases whose host memory does not hold all experts."""
    case = draw(cases())
    config, model = case.config, case.model
    local = -(-model.experts // config.holders)
    if config.slots is None or draw(st.booleans()):
        config = replace(config, slots=draw(st.integers(1, max(1, local - 1))))
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
            st.just(0) | st.integers(1, len(model.moe_layers) * model.experts * config.parts)
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
    case = draw(storage_cases())
    config, model = case.config, case.model
    if config.sliced:
        config = replace(config, sliced=False, gpus=1)
    if config.miss == "background":
        config = replace(config, miss="cpu", uploads=None)
    most = max(len(of) for of in local_experts(model, config))
    ahead = draw(st.integers(0, 3))
    fixed = draw(st.integers(0, len(model.moe_layers)))
    config = replace(
        config,
        group=1,
        reduces=False,
        nodes=config.gpus,
        host_policy="lru",
        one_memory=False,
        host_layers_ahead=ahead,
        host_slots=(1 + ahead + fixed) * most + draw(st.integers(0, most - 1)),
    )
    return replace(case, config=config)


@st.composite
def streaming_cases(draw: st.DrawFn) -> Case:
    """Cases of nodes with one GPU each, prompts that stream among them, and reads from storage."""
    case = draw(storage_cases())
    config = case.config
    if config.sliced:
        config = replace(config, sliced=False, gpus=1)
    if config.miss == "background":
        config = replace(config, miss="cpu", uploads=None)
    config = replace(config, group=1, reduces=False, nodes=config.gpus)
    config = replace(config, prefill="stream", phase="all")
    return replace(case, config=runnable(config, case.trace))


@st.composite
def reading_ahead_cases(draw: st.DrawFn) -> Case:
    """Cases of nodes with one GPU each that prefetch what their hosts may not hold."""
    case = draw(prefetching_cases())
    config, model = case.config, case.model
    if config.sliced:
        config = replace(config, sliced=False, gpus=1)
    if config.plan is not None:  # without replicas
        config = replace(config, plan=[of[: model.experts] for of in config.plan])
        if any(sorted(of) != list(range(model.experts)) for of in config.plan or []):
            config = replace(config, plan=None, placement="contiguous")
    every = len(model.moe_layers) * model.experts
    config = replace(
        config,
        group=1,
        reduces=False,
        nodes=config.gpus,
        host_slots=draw(st.just(0) | st.integers(1, every)),
        one_memory=draw(st.booleans()),
        host_policy=draw(st.sampled_from(HOST_POLICIES[:-1])),
        reads=draw(st.integers(1, 3)),
        mapped=draw(st.booleans()),
        read_chunk=draw(st.none() | st.integers(1, 500)),
    )
    latency, rate = draw(small | large | st.integers(2000, 9000)), draw(st.integers(1, 20))
    prices = replace(case.prices, read_latency=latency, read_bytes_a_ns=rate)
    return replace(case, config=config, prices=prices)


@st.composite
def host_bytes_cases(draw: st.DrawFn) -> Case:
    """Cases whose host memory is a cache by bytes, below slots of each layer or a pool by bytes."""
    case = draw(storage_cases())
    config, layers = case.config, len(case.model.moe_layers)
    sizes = tuple(draw(st.lists(st.integers(1, 900), min_size=layers, max_size=layers)))
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


WITHOUT_LISTS = tuple(
    name for name in POLICIES if name not in {"arc", "s3fifo", "stream", "hobbit"}
)
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
    known = [*WITHOUT_LISTS, "lru", "random", "random", "gate_score"]
    policy = draw(st.sampled_from(known))
    name, values = PARAMETERS.get(policy, ("", []))
    parameters = {name: draw(st.sampled_from(values))} if values else {}
    software = replace(config.software, blocking=False, overlap=True)
    if draw(st.booleans()):  # a host that is far behind
        software = replace(software, host_per_copy_ns=float(draw(st.integers(500, 3000))))
    if config.miss not in ways(policy, software) or config.miss == "background":
        config = replace(config, miss="load", uploads=None)
    if shape == "crowded" and prefetch.every == 1 and draw(st.booleans()):  # pinned ones have to go
        prefetch = replace(prefetch, kind="history", budget=None)
    if prefetch.when == "before_pass" and draw(st.booleans()):
        config, software = one_after_the_other(config, software, blocking=draw(st.booleans()))
    config = replace(
        config,
        prefill="cache",
        policy=policy,
        parameters=parameters,
        first_part=config.first_part if policy == "static" else 0.25,
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


@st.composite
def unpacking_cases(draw: st.DrawFn) -> Case:
    """Cases whose software unpacks experts before their products."""
    case = draw(st.one_of(cases(), cases(), prefetching_cases()))
    prices = replace(case.prices, unpacking=draw(st.integers(1, 60)))
    return replace(case, config=replace(case.config, unpacks=True), prices=prices)
