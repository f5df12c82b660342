"""Both engines and the reference on one scene for each thing that the semantics name.

A scene that does not contain what it is there for fails: nothing goes uncompared by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from .agreement import agree
from .prices import ToyPrices
from .reference_placement import local_experts, physical, physical_experts
from .reference_words import (
    DECODE,
    ENCODE,
    PREFILL,
    Config,
    Kernels,
    Layer,
    Model,
    Prefetch,
    Software,
    Verdict,
)
from .strategies import DROPS, MISSES, POLICIES, PREFILLS, Case
from .strategies_parts import PADDED, half
from .strategies_prefetch import PREDICTIONS, WITHOUT_LISTS

Contains = Callable[[Case, Verdict], bool]
Scene = tuple[dict[str, Any], Contains]
"""The reference's choices, and whether a run with them contains what the scene is there for."""

EXPERTS, TOP_K = 8, 2
LAYERS = [Layer(0, moe=True), Layer(1, moe=False), Layer(2, moe=True), Layer(3, moe=True, kind=1)]
SOFTWARE = Software(kernels=Kernels(1, 1, 1, 1, 1, 1, 1), launch_ns=20.0, host_per_copy_ns=15.0)


def case_of(*, encoder: bool = False, base: int = 150, **choices: Any) -> Case:
    """Four requests with a prompt each, five tokens of answer, and fewer slots than needed."""
    random = Random(5)
    layers = [replace(one, stack="encoder") for one in LAYERS[:1]] + LAYERS[1:]
    model = Model(layers if encoder else LAYERS, EXPERTS, TOP_K, 4, 2, 1000)
    first = [ENCODE] * 2 if encoder else []
    phases = [*first, *[PREFILL] * 3, *[DECODE] * 5]
    tokens = [(name, place, phase) for name in range(4) for place, phase in enumerate(phases)]
    ids = [[random.sample(range(EXPERTS), TOP_K) for _ in range(3)] for _ in tokens]
    for token, (_, _, phase) in zip(ids, tokens, strict=True):
        for place, layer in enumerate(model.moe_layers):
            if layer not in model.layers_of(phase):
                token[place] = [65535] * TOP_K
    trace = {
        "expert_ids": ids,
        "predicted_ids": [[[*layer[:1], random.randrange(EXPERTS)] for layer in of] for of in ids],
        "gate_weights": [[[half(random.random()) for _ in of] for of in token] for token in ids],
        "request_id": [name for name, _, _ in tokens],
        "position": [place - len(first) * (place >= len(first)) for _, place, _ in tokens],
        "phase": [phase for _, _, phase in tokens],
    }
    whole: dict[str, Any] = {
        "phase": "all",
        "slots": 3,
        "batch_size": 2,
        "software": SOFTWARE,
    } | choices
    return Case(trace, model, Config(**whole), ToyPrices(base=base))


def activation(**values: Any) -> Contains:
    """Some activation has these values."""
    return lambda _, verdict: any(
        all(getattr(one, name) == value for name, value in values.items())
        for one in verdict.activations
    )


def evicts(_: Case, verdict: Verdict) -> bool:
    return any(one.victim is not None for one in verdict.activations)


def counts(name: str) -> Contains:
    return lambda _, verdict: getattr(verdict, name) > 0


def runs(phase: str) -> Contains:
    return lambda _, verdict: {step["phase"] for step in verdict.steps} >= {phase}


def crosses(_: Case, verdict: Verdict) -> bool:
    return verdict.time_ns["dispatch_combine"] > 0


def replicated(case: Case, _: Verdict) -> bool:
    return physical(case.model, case.config) > case.model.experts


def wanted_twice(case: Case, _: Verdict) -> bool:
    """Some token has both of its experts on one other GPU, or on one other node."""
    size = 1 if case.config.nodes == 1 else case.config.gpus // case.config.nodes
    held = [set(of) for of in local_experts(case.model, case.config)]
    holder = {expert: gpu for gpu, of in enumerate(held) for expert in of}
    pairs = {tuple(sorted(layer)) for token in case.trace["expert_ids"] for layer in token}
    return any(holder[one] // size == holder[other] // size for one, other in pairs)


def held_twice(case: Case, _: Verdict) -> bool:
    held = physical_experts(0, case.model, case.config)
    local = local_experts(case.model, case.config)
    return any(len({held[p] for p in of}) < len(of) for of in local)


def in_both_groups(_: Case, verdict: Verdict) -> bool:
    """In some step and layer, each of two groups of units computed an expert."""
    groups: dict[tuple[int, int], set[int]] = {}
    for one in verdict.activations:
        if one.place == "host":
            groups.setdefault((one.step, one.layer), set()).add(one.expert % 2)
    return any(len(found) == 2 for found in groups.values())


def decided_both_ways(_: Case, verdict: Verdict) -> bool:
    """In some step and layer, one miss was loaded and one computed by the host."""
    ways: dict[tuple[int, int, int], set[str]] = {}
    for one in verdict.activations:
        ways.setdefault((one.step, one.layer, one.gpu), set()).add(one.place)
    return any({"load", "host"} <= places for places in ways.values())


def of_prompts(contains: Callable[[list[Any]], bool]) -> Contains:
    """Of the activations of prompts."""

    def contained(_: Case, verdict: Verdict) -> bool:
        phases = [step["phase"] for step in verdict.steps]
        return contains([one for one in verdict.activations if phases[one.step] == "prefill"])

    return contained


def staged(activations: list[Any]) -> list[Any]:
    return [one for one in activations if one.rule == "staged"]


def alike(case: Case, verdict: Verdict) -> bool:
    """Every GPU has the hits and misses of the others, and there are some."""
    of_gpus = accesses(case, verdict)
    return evicts(case, verdict) and all(mine == of_gpus[0] for mine in of_gpus)


def in_pairs(case: Case, verdict: Verdict) -> bool:
    """Two neighbours have the same hits and misses, the others have none of their experts."""
    first, second, third, fourth = accesses(case, verdict)
    apart = {one[2] for one in first}.isdisjoint(one[2] for one in third)
    return evicts(case, verdict) and first == second and third == fourth and apart


def accesses(case: Case, verdict: Verdict) -> list[list[tuple[int, int, int, bool]]]:
    """By GPU: step, layer, physical expert, and whether it was a hit."""
    return [
        [(one.step, one.layer, one.expert, one.hit) for one in verdict.activations if one.gpu == g]
        for g in range(case.config.gpus)
    ]


def plan(*more: int) -> dict[str, Any]:
    """Another order in each MoE layer, with replicas of ``more``."""
    orders = [Random(layer).sample(range(EXPERTS), EXPERTS) for layer in range(3)]
    return {"placement": "plan", "plan": [[*order, *more] for order in orders]}


SCENES: dict[str, Scene] = {
    "rule free": ({}, activation(rule="free")),
    "rule a": ({}, activation(rule="a")),
    "rule b": ({"slots": 1}, activation(rule="b")),
    "rule c": ({"initial": "most_used"}, activation(rule="c")),
    "slots by layer": ({"slots": [1, 3, 8]}, evicts),
    "all resident": ({"slots": None}, lambda _, verdict: verdict.misses == 0),
    "residents first": ({"order": "resident_first", "initial": "most_used"}, evicts),
    "one pool": ({"scope": "global"}, evicts),
    **{f"policy {policy}": ({"policy": policy}, evicts) for policy in POLICIES},
    **{
        f"one pool of {policy}": ({"policy": policy, "scope": "global"}, evicts)
        for policy in POLICIES
        if policy != "stream"
    },
    "miss load": ({}, activation(place="load")),
    "miss cpu": ({"miss": "cpu", "initial": "most_used"}, activation(place="host")),
    "many tokens copy": (
        {"miss": "cpu", "initial": "most_used", "copies_from": 2, "batch_size": 2},
        activation(place="load"),
    ),
    "miss cheapest": ({"miss": "cheapest", "uploads": 1}, decided_both_ways),
    "miss zero_copy": ({"miss": "zero_copy", "initial": "most_used"}, activation(place="link")),
    "miss skip": ({"miss": "skip", "initial": "most_used"}, activation(place="skip")),
    "miss split": ({"miss": "split"}, activation(place="host")),
    "split, near memory": ({"miss": "split", "near_memory": True}, activation(place="host")),
    "near memory": ({"miss": "cpu", "near_memory": True}, activation(place="host")),
    "groups of units": (
        {"miss": "cpu", "near_memory": True, "unit_groups": 2, "row_ns": (7.5, 20.0)},
        in_both_groups,
    ),
    "cheapest near memory": (
        {"miss": "cheapest", "near_memory": True},
        activation(place="host"),
    ),
    "split by bandwidth": ({"miss": "split", "rule": "bandwidth"}, activation(place="host")),
    "split around": ({"miss": "split", "prefill": "bypass"}, activation(place="host")),
    "nothing protected": ({"protect": "none", "slots": 2}, activation(rule="c")),
    "miss background": ({"miss": "background"}, activation(place="behind", rule="a")),
    "no room in the background": (
        {"miss": "background", "slots": 1},
        lambda _, verdict: {"behind", "host"} <= {one.place for one in verdict.activations},
    ),
    "bounded in the background": ({"miss": "background", "uploads": 1}, activation(place="behind")),
    "waits for the background": (
        {"miss": "background", "base": 0},
        lambda _, verdict: verdict.stall_ns > 0,
    ),
    "around the background": (
        {"miss": "background", "prefill": "bypass"},
        of_prompts(lambda activations: any(one.place == "host" for one in activations)),
    ),
    **{f"phase {phase}": ({"phase": phase}, runs(phase)) for phase in ("decode", "prefill")},
    "phase encode": ({"encoder": True, "phase": "encode"}, runs("encode")),
    "encoder and decoder": ({"encoder": True}, runs("encode")),
    "chunks": ({"chunk": 2}, lambda _, verdict: len(verdict.steps) > 10),
    "refill": ({"batching": "refill"}, evicts),
    **{f"gpus {gpus}": ({"gpus": gpus}, crosses) for gpus in (2, 3, 4)},
    "groups": ({"gpus": 4, "group": 2}, crosses),
    **{
        f"sliced over {gpus}, attention over {group}": (
            {"gpus": gpus, "group": group, "slices": gpus},
            alike,
        )
        for gpus, group in ((2, 1), (3, 1), (4, 1), (2, 2), (4, 4))
    },
    **{
        f"sliced under {gating}": ({"gpus": 2, "slices": 2, "gating": gating}, alike)
        for gating in PADDED
    },
    **{
        f"all-reduced over {gpus}, attention over {group}": (
            {"gpus": gpus, "group": group, "reduces": True},
            lambda _, verdict: verdict.time_ns["waiting_for_gpus"] > 0,
        )
        for gpus, group in ((2, 2), (4, 4), (2, 1), (4, 1))
    },
    **{
        f"sliced over 2 of 4, attention over {group}": (
            {"gpus": 4, "group": group, "slices": 2, "reduces": True},
            in_pairs,
        )
        for group in (1, 4)
    },
    "sliced over 2 of 4, replicas": (
        {"gpus": 4, "slices": 2, "reduces": True} | plan(0, 1),
        replicated,
    ),
    "all-reduced, replicas": (
        {"gpus": 2, "group": 2, "reduces": True} | plan(0, 1),
        replicated,
    ),
    **{
        f"sent once over {gpus} GPUs of {nodes}": (
            {"gpus": gpus, "nodes": nodes, "once": True, "dispatch_dtype": dtype},
            wanted_twice,
        )
        for gpus, nodes, dtype in ((2, 1, None), (4, 1, "nvfp4"), (4, 2, None), (4, 2, "fp8"))
    },
    **{
        f"sent once, {of}": (
            {"gpus": 4, "nodes": 2, "once": True} | more,
            wanted_twice,
        )
        for of, more in (
            ("around the caches", {"prefill": "bypass"}),
            ("with attention in pairs", {"group": 2, "dispatch_dtype": "mxfp8"}),
            ("prefetched", {"prefetch": Prefetch("history")}),
        )
    },
    "sent once, replicas": ({"gpus": 4, "once": True} | plan(0, 1), replicated),
    "gathered in fp8": ({"gpus": 4, "reduces": True, "dispatch_dtype": "fp8_block"}, crosses),
    "gathered, replicas": ({"gpus": 2, "reduces": True} | plan(0, 1), replicated),
    "sliced, skipped": (
        {"gpus": 2, "slices": 2, "miss": "skip", "initial": "most_used"},
        activation(place="skip"),
    ),
    "sliced, at random": ({"gpus": 2, "slices": 2, "policy": "random"}, alike),
    "round robin": ({"gpus": 2, "placement": "round_robin"}, crosses),
    "a plan": ({"gpus": 2} | plan(), crosses),
    "replicas": ({"gpus": 2} | plan(0, 1), replicated),
    "replicas on one GPU": ({"gpus": 2} | plan(0, 0), held_twice),
    **{
        f"gating {gating}": ({"gating": gating, "gpus": 2}, lambda _, v: (v.padding_ratio or 0) > 0)
        for gating in PADDED
    },
    **{
        f"drops {drop}": ({"gating": "gshard", "min_capacity": 1, "drop": drop}, counts("dropped"))
        for drop in DROPS
    },
    "serial": ({"kernels": "serial"}, evicts),
    "block sparse": ({"kernels": "block_sparse"}, evicts),
    "batched": ({"gating": "static", "kernels": "batched"}, evicts),
    "piecewise": ({"execution": "piecewise"}, evicts),
    "splits": ({"execution": "splits"}, evicts),
    "splits of some layers": ({"execution": "splits", "slots": [1, 3, 8]}, evicts),
    "graph": ({"execution": "graph", "decide": "device"}, evicts),
    "decided on the device": ({"decide": "device", "gpus": 2}, evicts),
    "blocking copies": ({"software": replace(SOFTWARE, blocking=True)}, evicts),
    "no overlap": ({"software": replace(SOFTWARE, overlap=False)}, evicts),
    "copies back": ({"software": replace(SOFTWARE, copies_back=True, overlap=False)}, evicts),
}
for way in ("bypass", "stream"):
    SCENES[f"prefill {way}"] = ({"prefill": way}, runs("prefill"))
SCENES |= {
    "staged over another": (
        {"prefill": "bypass"},
        of_prompts(lambda activations: any(one.victim is not None for one in staged(activations))),
    ),
    "staged beside hits": (
        {"prefill": "bypass", "initial": "most_used"},
        of_prompts(
            lambda activations: bool(staged(activations)) and any(one.hit for one in activations)
        ),
    ),
    "staged beside the host": (
        {"prefill": "bypass", "miss": "cheapest", "uploads": 1},
        of_prompts(lambda activations: {"load", "host"} <= {one.place for one in activations}),
    ),
    "staged in chunks": (
        {"prefill": "bypass", "chunk": 2},
        of_prompts(lambda activations: len({one.step for one in staged(activations)}) > 4),
    ),
    "layers": ({"prefill": "stream"}, activation(rule="layer", layer=2)),
    "layers not ahead": (
        {"prefill": "stream", "software": replace(SOFTWARE, blocking=True)},
        activation(rule="layer"),
    ),
}


def ahead(kind: str = "oracle", layers: int = 1, **choices: Any) -> dict[str, Any]:
    return {"prefetch": Prefetch(kind, layers, **choices), "phase": "decode", "batch_size": 1}


CROWDED = {"scope": "global", "slots": 1}
WIDE = {"scope": "global", "batch_size": 2}
SCENES |= {
    **{f"ahead by {kind}": (CROWDED | ahead(kind), counts("prefetched")) for kind in PREDICTIONS},
    **{
        f"ahead with {policy}": (ahead(layers=2) | {"policy": policy}, counts("prefetched"))
        for policy in WITHOUT_LISTS
    },
    "ahead used": (ahead(), counts("prefetches_used")),
    "ahead wasted": (ahead(precision=0.3), lambda _, v: v.prefetched > v.prefetches_used),
    "ahead cancelled": (
        ahead("history", 3) | WIDE | {"slots": 2, "base": 0},
        counts("prefetches_cancelled"),
    ),
    "ahead promoted": (
        ahead(layers=3) | {"base": 0},
        counts("prefetches_promoted"),
    ),
    "ahead late in flight": (
        ahead(),
        lambda _, verdict: verdict.late > verdict.prefetches_promoted,
    ),
    "ahead and missed for it": (ahead("history", 2) | WIDE, counts("misses_caused")),
    "ahead across passes": (ahead(layers=3), counts("prefetched")),
    "ahead within a budget": (ahead(layers=3, budget=1500), counts("prefetched")),
    "ahead in one pool": (ahead() | {"scope": "global"}, counts("prefetched")),
    "ahead on two GPUs": (ahead() | {"gpus": 2, "slots": 2}, counts("prefetched")),
    "rule d": (
        CROWDED | ahead("history", 3) | {"software": replace(SOFTWARE, host_per_copy_ns=2000.0)},
        activation(rule="d"),
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_what_the_semantics_name_is_compared(name: str) -> None:
    choices, contains = SCENES[name]
    case = case_of(**choices)
    assert contains(case, agree(case))


def test_there_is_a_scene_for_every_choice() -> None:
    seen = [case_of(**choices).config for choices, _ in SCENES.values()]
    assert {config.policy for config in seen} == set(POLICIES)
    assert {config.miss for config in seen} == set(MISSES)
    assert {config.prefill for config in seen} == set(PREFILLS)
