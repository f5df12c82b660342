"""Miss-ratio curves of a trace: all slot counts, by policy, in each MoE layer and over all."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem, nearest
from moesim.memory.curves.active_experts import layer_active_experts, layer_weights, one_by_one
from moesim.memory.curves.curve import MissCurve, miss_curve
from moesim.memory.policies import registry
from moesim.memory.policy import CachePolicy
from moesim.trace.routing import NO_EXPERT, RoutingTrace
from moesim.workload.batching.static import Static
from moesim.workload.requests import PhaseChoice, Requests
from moesim.workload.schedule import Schedule

Ints = NDArray[np.int64]
Rule = Literal["step", "textbook"]
POLICIES = ("lru", "lfu", "fifo", "lifo", "static", "min")
WHOLE = -1
"""The ``layer`` of the sums over all layers, with as many slots in each."""
COLUMNS = ("policy", "layer", "slots", "activations", "misses", "miss_ratio", "method")


def miss_curves(
    trace: RoutingTrace,
    policies: Sequence[str] = POLICIES,
    *,
    batch_size: int = 1,
    phase: PhaseChoice = "decode",
    rule: Rule = "step",
) -> pd.DataFrame:
    """The misses of every policy with 1, 2, ... slots a MoE layer on one GPU, from empty slots.

    Columns: ``policy``; ``layer``, the number of a MoE layer from 0, or WHOLE; ``slots`` of a
    layer; ``activations``; ``misses``; ``miss_ratio``, their quotient, NaN without activations;
    ``method``, ``one pass`` or ``simulated``.

    Batches are ``static`` ones of ``batch_size`` requests, activations in ``id`` order. Under
    ``textbook`` every activation is a step of its own, which protects no other expert. Raises
    InputError for an unknown policy, for one that reads gate weights that the trace lacks, and for
    a phase without tokens.
    """
    kinds = list(dict.fromkeys(policies))
    if not kinds:
        raise InputError([Problem("--policy", "", "names no policy; write one, as in lru")])
    chosen = [_policy(kind, trace) for kind in kinds]
    requests = _requests(trace, phase)
    schedule = Schedule.of(requests, Static(batch_size=batch_size).seats(requests), trace, gpus=1)
    curves: list[list[MissCurve]] = []
    activations = []
    for layer in range(trace.moe_layers):
        active = layer_active_experts(trace, schedule, layer)
        counted = active if rule == "step" else one_by_one(active)
        given = [_given(policy, trace, schedule, layer) for policy in chosen]
        curves.append(
            [miss_curve(policy, counted, **one) for policy, one in zip(chosen, given, strict=True)]
        )
        activations.append(len(active.experts))
    if not any(activations):
        raise InputError(
            f"the trace uses no expert in phase '{phase}'; record one with routed tokens"
        )
    tables = [
        _table(kind, of_layers, np.array(activations))
        for kind, of_layers in zip(kinds, zip(*curves, strict=True), strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def _requests(trace: RoutingTrace, phase: PhaseChoice) -> Requests:
    try:
        return Requests.of(trace, phase)
    except InputError as error:
        raise InputError(Problem("--phase", "", found.what) for found in error.problems) from None


def _policy(kind: str, trace: RoutingTrace) -> CachePolicy:
    if kind not in registry.components:
        others = f"{nearest(kind, registry.components)}{registry.why_missing(kind)}"
        what = f"'{kind}' is no cache policy; {others}"
        raise InputError([Problem("--policy", "", what)])
    policy = registry.get(kind)()
    if policy.restarts:
        what = f"'{kind}' begins anew with each request, and a curve is of all; run it, or take lru"
        raise InputError([Problem("--policy", "", what)])
    if policy.weighs and trace.gate_weights is None:
        what = f"'{kind}' reads gate weights, and the trace has none"
        remedy = "record a trace with weights, or take another policy"
        raise InputError([Problem("--policy", "", f"{what}; {remedy}")])
    return policy


def _given(
    policy: CachePolicy, trace: RoutingTrace, schedule: Schedule, layer: int
) -> dict[str, Any]:
    """What a policy reads beside the active experts, as in a run with seed 0."""
    learnt = ceil(Fraction(str(policy.learning_part())) * trace.tokens)
    ids = trace.expert_ids[:learnt, layer]
    given: dict[str, Any] = {
        "usage": np.bincount(ids[ids != NO_EXPERT], minlength=trace.experts).astype(np.int64)
    }
    if policy.weighs:
        given["weights"] = layer_weights(trace, schedule, layer)
    if policy.draws:
        stream = [0, zlib.crc32(b"cache_policy.random"), 0, layer]
        most = min(trace.experts * schedule.passes, trace.top_k * len(schedule.rows))
        given["draws"] = np.random.default_rng(stream).random(most)
    return given


def _table(kind: str, of_layers: Sequence[MissCurve], activations: Ints) -> pd.DataFrame:
    """The rows of one policy: over all layers, then of each; ``activations`` int64[layers]."""
    misses = np.stack([one.misses for one in of_layers])
    one_pass = np.stack([one.one_pass for one in of_layers])
    misses = np.concatenate([misses.sum(axis=0, keepdims=True), misses])
    one_pass = np.concatenate([one_pass.all(axis=0, keepdims=True), one_pass])
    layers, sizes = misses.shape
    all_activations = np.repeat([activations.sum(), *activations], sizes)
    flat, none = misses.ravel(), np.full(misses.size, np.nan)
    columns = {
        "policy": kind,
        "layer": np.repeat(np.arange(WHOLE, layers + WHOLE), sizes),
        "slots": np.tile(np.arange(1, sizes + 1), layers),
        "activations": all_activations,
        "misses": flat,
        "miss_ratio": np.divide(flat, all_activations, out=none, where=all_activations > 0),
        "method": np.where(one_pass.ravel(), "one pass", "simulated"),
    }
    return pd.DataFrame(columns, columns=COLUMNS)


def whole(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each policy of ``miss_curves``, the rows over all layers, by slots."""
    over_all = curves[curves["layer"] == WHOLE]
    return {
        str(kind): rows.set_index("slots") for kind, rows in over_all.groupby("policy", sort=False)
    }
