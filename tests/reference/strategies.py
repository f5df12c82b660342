"""Hypothesis strategies: whole experiments of every choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from .prices import ToyPrices
from .reference_batches import requests_of
from .reference_placement import local_experts
from .reference_routing import Rule
from .reference_words import ENCODE, Config, Model, Software, Trace, Verdict
from .strategies_parts import PADDED, models, plans, softwares, toy_prices, traces

Test = TypeVar("Test", bound=Callable[..., None])

CLASSIC = ("lru", "fifo", "lifo", "lfu", "random", "static", "min")


OF_TODAY = ("lfu_decay", "lfru", "arc", "s3fifo", "least_stale", "gate_score", "stream", "hobbit")


POLICIES = (*CLASSIC, *OF_TODAY)


NEAR = ("cpu", "cheapest", "split")


UPLOADS = {"cheapest": 0, "background": 1}
"""Ways that bound their copies, and the least bound."""


MISSES = ("load", "cpu", "cheapest", "zero_copy", "skip", "background", "split")


AT_A_DESK = {"arc": "background", "lfu": "cpu"}
"""What policies do with misses beside loads, where few examples are drawn: one with lists of its
own, and one that counts.
"""


PREFILLS = ("cache", "bypass", "stream")


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
    recorded: tuple[Trace, Model, list[Rule]] | None = None
    """What the trace and the model were before rules of routing, and these."""
    watts: tuple[int, ...] = ()
    """What the machine draws: see ``agreement_energy``."""

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


def few_are_drawn() -> bool:
    """Whether this is a test at a desk, which can compile few of all programs."""
    return settings().max_examples < 100


def few(test: Test) -> Test:
    """Of a dear ``test``, whose cases others draw and compare too: two in five at a desk. ``make
    verify`` runs those again, with many.
    """
    most = settings().max_examples
    drawn = settings(max_examples=most * 2 // 5 if few_are_drawn() else most)(test)
    marked: Test = pytest.mark.few(drawn)
    return marked


def of_few_policies(case: Case, policies: tuple[str, ...]) -> Case:
    """``case``; where few are drawn, one of ``policies`` or lru."""
    if not few_are_drawn() or case.config.policy in policies:
        return case
    return replace(case, config=replace(case.config, policy="lru", parameters={}, first_part=0.25))


def ways(policy: str, software: Software) -> list[str]:
    """Ways to handle misses. A program is compiled for each with each policy, which takes seconds:
    where few examples are drawn, ``lru`` has all, and others have loads and what AT_A_DESK says.
    """
    drawn = ["load", "load", "cpu", "cheapest", "cheapest", "zero_copy", "skip", "background"]
    drawn += ["split", "split"]
    # the host and the GPU work at a time: not for software that does one thing after the other
    there = {"load", "zero_copy", "skip"} if not software.overlap else set(drawn)
    if software.blocking:  # nor beside copies that hold the host
        there -= {"background"}
    if few_are_drawn() and policy != "lru":
        there &= {"load", AT_A_DESK.get(policy, "load")}
    return [way for way in drawn if way in there]


@st.composite
def configs(draw: st.DrawFn, model: Model, kind: str, requests: int) -> Config:
    """Every choice of semantics; half of the draws have few slots and large active experts."""
    pressed = draw(st.booleans())
    gpus = draw(st.integers(1, min(4, model.experts)))
    padded = st.sampled_from(PADDED)
    gating = draw(padded if draw(st.integers(0, 3)) < 1 + pressed else st.just("dynamic"))
    parts = [n for n in range(2, gpus + 1) if gpus % n == 0 and (n == gpus or gating == "dynamic")]
    slices = draw(st.sampled_from(parts)) if parts and draw(st.integers(0, 3)) == 0 else 1
    local = -(-model.experts // (gpus // slices))
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
    initials += ["lowest_ids", "random"]
    uploads = {one: st.none() | st.integers(least, 3) for one, least in UPLOADS.items()}
    groups = [n for n in range(1, gpus + 1) if gpus % n == 0]
    group = draw(st.sampled_from([1, gpus] if slices > 1 else groups))
    alike = gpus > 1 and group in (1, gpus) and slices < gpus and gating == "dynamic"
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
        slices=slices,
        reduces=alike and (slices > 1 or draw(st.booleans())),
        once=draw(st.booleans()),
        nodes=draw(st.sampled_from([1, 1, *(n for n in groups if group <= gpus // n)])),
        dispatch_dtype=draw(
            st.sampled_from([None, None, "fp8", "fp8_block", "mxfp8", "nvfp4", "int8"])
        ),
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
        unit_groups=draw(st.sampled_from([1, 2, 3, 5])),
        row_ns=(draw(st.sampled_from([0.0, 3.0, 17.5])), draw(st.sampled_from([0.0, 5.25, 40.0]))),
        copies_from=draw(st.none() | st.integers(1, 6)) if miss == "cpu" else None,
    )
    if config.gathers:  # on one node
        config = replace(config, nodes=1)
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


ORDERS = ("id", "resident_first", "least_makespan")
