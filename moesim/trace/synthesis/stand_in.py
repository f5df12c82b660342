"""A stand-in for models that nobody recorded: parameters from the nearest shipped trace, scaled."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.model import ModelSpec
from moesim.trace.cards import trace_card
from moesim.trace.parquet import read_trace
from moesim.trace.routing import Phase, RoutingTrace
from moesim.trace.statistics.load import entropy_bits, expert_counts
from moesim.trace.statistics.overlap import overlap_previous, overlap_shuffled
from moesim.trace.synthesis.generate import synthesize
from moesim.trace.synthesis.lengths import Fixed
from moesim.trace.synthesis.parameters import GateWeights, Part, Requests, SyntheticTrace
from moesim.trace.synthesis.popularity import Dirichlet
from moesim.trace.synthesis.rows import Floats
from moesim.trace.synthesis.stickiness import Stickiness

RECORDED = ("gemma-4-26b-a4b", "gpt-oss-120b", "gpt-oss-20b", "qwen3-30b-a3b")
"""Shipped traces of models that people serve."""
CONCENTRATION = 1.8
"""Of the popularity of experts over many requests: that of gpt-oss-20b's trace, which alone has
many.
"""
REQUESTS, MOST, PROMPT_TOKENS, DECODE_TOKENS = 32, 1024, 32, 64
_SAMPLES, _WEIGHT_CONCENTRATION, _MOST_SPREAD = 40, 20.0, 5.0


def nearest_trace(model: ModelSpec) -> str:
    """The name of the recorded trace whose MoE layers, experts and top-k are the nearest: the least
    sum of the ratios' logarithms; of equals the first by name.
    """

    def distance(name: str) -> float:
        return float(np.abs(np.log(np.array(_recorded(name)) / np.array(_shape(model)))).sum())

    return min(RECORDED, key=distance)


@lru_cache
def _recorded(name: str) -> tuple[int, int, int]:
    trace = read_trace(str(trace_card(name)))
    return trace.moe_layers, trace.experts, trace.top_k


def stand_in(
    model: ModelSpec, recorded: RoutingTrace, name: str, requests: int = 0
) -> RoutingTrace:
    """A trace drawn for ``model`` with what ``recorded``, called ``name``, shows; its notes say so.
    It has as many ``requests`` as are needed, from ``REQUESTS`` to ``MOST``.

    The share of a token's experts that the one before it had, layer by layer at the same depth; how
    unevenly one request uses the experts; the mean gate weights by rank. InputError for a model
    without experts.
    """
    _, experts, top_k = _shape(model)
    drawn = synthesize(
        SyntheticTrace(
            title=f"stand-in for {model.name}, scaled from {name}",
            model=model.name,
            experts=experts,
            top_k=top_k,
            moe_layer_ids=tuple(n for n, layer in enumerate(model.layers) if layer.moe),
            source=f"stand-in scaled from {name} ({recorded.metadata.source})",
            licence=recorded.metadata.licence,
            requests=Requests(
                count=min(max(requests, REQUESTS), MOST),
                prefill_tokens=Fixed(tokens=PROMPT_TOKENS),
                decode_tokens=Fixed(tokens=DECODE_TOKENS),
            ),
            parts=(_part(recorded, *_shape(model)),),
            gate_weights=_weights(recorded, top_k),
        )
    )
    notes = f"no recording: {drawn.metadata.notes}"
    return replace(drawn, metadata=replace(drawn.metadata, notes=notes))


def _shape(model: ModelSpec) -> tuple[int, int, int]:
    """MoE layers, the fewest experts of a layer, top-k."""
    moes = [layer.moe for layer in model.moe_layers if layer.moe]
    if not moes:
        what = f"'{model.name}' has no experts, so there is no routing to draw"
        raise InputError([Problem("", "model", what)])
    if model.has_encoder:
        what = f"there is none of '{model.name}', and stand-ins are of decoders; write an"
        what += " experiment with 'trace: FILE', a trace with tokens of an encoder ('moesim trace"
        what += " import') or a file of parameters to draw one from ('moesim trace synthesize')"
        raise InputError([Problem("", "trace", what)])
    return len(moes), min(moe.experts for moe in moes), max(moe.top_k for moe in moes)


def _part(recorded: RoutingTrace, layers: int, experts: int, top_k: int) -> Part:
    """Both phases; a layer is as sticky as the recorded one at its depth."""
    stay, shares = _measured(recorded)
    depth = np.arange(layers) * recorded.moe_layers // layers
    return Part(
        phases=("prefill", "decode"),
        layers=layers,
        popularity=Dirichlet(concentration=CONCENTRATION),
        request_spread=tuple(_spreads(shares[depth], experts, top_k).round(4).tolist()),
        stickiness=Stickiness(stay_probability=tuple(stay[depth].round(4).tolist())),
    )


def _measured(recorded: RoutingTrace) -> tuple[Floats, Floats]:
    """By layer, the share of a token's experts that stay, beyond those that come again by chance;
    and the entropy of a request's loads as a share of the largest. Means over the requests' decode
    tokens.
    """
    stays, shares, tokens = [], [], []
    for first, end in pairwise(recorded.request_offsets().tolist()):
        one = _rows(recorded, first, end)
        counts = expert_counts(one)
        chance = overlap_shuffled(counts, one.tokens)
        most = 1 - chance  # 0 where a request always chooses the same
        beyond = overlap_previous(one) - chance
        stays.append(np.divide(beyond, most, out=np.zeros_like(beyond), where=most > 0))
        used = np.maximum(counts.sum(axis=1), 1)
        # few choices look less even than they are (Miller and Madow)
        bias = ((counts > 0).sum(axis=1) - 1) / (2 * np.log(2) * used)
        shares.append(np.minimum(entropy_bits(counts) + bias, np.log2(one.experts)))
        tokens.append(one.tokens)
    stay = np.average(stays, axis=0, weights=tokens)
    share = np.average(shares, axis=0, weights=tokens) / np.log2(recorded.experts)
    return np.clip(stay, 0, 1), share


def _rows(trace: RoutingTrace, first: int, end: int) -> RoutingTrace:
    """The decode tokens of the request in rows first:end."""
    rows = np.arange(first, end)[trace.phase[first:end] == Phase.DECODE]
    return replace(
        trace,
        expert_ids=trace.expert_ids[rows],
        request_id=trace.request_id[rows],
        position=trace.position[rows],
        phase=trace.phase[rows],
        gate_weights=None,
        predicted_ids=None,
    )


def _spreads(shares: Floats, experts: int, top_k: int) -> Floats:
    """The spreads of a request's own factors that leave its loads ``shares`` of the largest
    entropy, from 0 to ``_MOST_SPREAD``; none where there is one expert.
    """
    if experts == 1:
        return np.zeros_like(shares)
    random = np.random.default_rng(0)
    popular = np.log(random.standard_gamma(CONCENTRATION, (_SAMPLES, experts)))
    own = random.standard_normal((_SAMPLES, experts))
    spreads = np.linspace(0, _MOST_SPREAD, 51)
    found = []
    for spread in spreads:
        loads = _loads(popular + spread * own, top_k)
        entropy = -(loads * np.log2(np.maximum(loads, 1e-300))).sum(axis=1).mean()
        found.append(entropy / np.log2(experts))
    return np.interp(shares, np.minimum.accumulate(found)[::-1], spreads[::-1])


def _loads(log_weights: Floats, top_k: int) -> Floats:
    """[samples, experts] shares of the uses where ``top_k`` are drawn by these weights without
    replacement: an expert is among them as if the draws came in continuous time, 1 - exp(-rate).
    """
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    low, high = np.zeros((len(weights), 1)), np.full((len(weights), 1), 80.0)
    for _ in range(40):
        middle = (low + high) / 2
        drawn = -np.expm1(-weights * np.expm1(middle)).sum(axis=1, keepdims=True)
        low, high = np.where(drawn < top_k, middle, low), np.where(drawn < top_k, high, middle)
    loads = -np.expm1(-weights * np.expm1(high))
    return np.asarray(loads / loads.sum(axis=1, keepdims=True))


def _weights(recorded: RoutingTrace, top_k: int) -> GateWeights | None:
    """The mean weights by rank, stretched to ``top_k`` ranks."""
    if recorded.gate_weights is None:
        return None
    used = recorded.gate_weights[recorded.phase == Phase.DECODE].astype(np.float64)
    means = np.sort(used, axis=2)[..., ::-1].mean(axis=(0, 1))
    ranks = np.linspace(0, 1, len(means))
    stretched = np.interp(np.linspace(0, 1, top_k), ranks, means) if top_k > 1 else np.ones(1)
    stretched = np.maximum(stretched / stretched.sum(), 1e-4)
    return GateWeights(
        means=tuple(stretched.round(4).tolist()), concentration=_WEIGHT_CONCENTRATION
    )
