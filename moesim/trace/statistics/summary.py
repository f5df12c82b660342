"""All statistics of a trace, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from moesim.trace.domains import domain_of
from moesim.trace.routing import Phase, RoutingTrace
from moesim.trace.statistics.batches import distinct_experts
from moesim.trace.statistics.correlation import cramers_v, joint_counts, mutual_information_bits
from moesim.trace.statistics.load import (
    coefficient_of_variation,
    entropy_bits,
    expert_counts,
    max_over_mean,
)
from moesim.trace.statistics.overlap import overlap_previous, overlap_shuffled
from moesim.trace.statistics.predictions import Predictions, predictions
from moesim.trace.statistics.reuse import reuse_distances

Values = dict[str, Any]

DEFINITIONS = {
    "entropy_bits": "Shannon entropy of the experts' shares of a layer's uses",
    "load_max_over_mean": "load of the busiest expert over the mean load",
    "load_cv": "standard deviation of the experts' loads over their mean",
    "overlap_previous": "share of a token's experts that the previous token of its request used",
    "overlap_shuffled": "the same, expected if all tokens are shuffled",
    "reuse_distance": "distinct other experts that the tokens between two uses of an expert use, "
    "within a request; first uses have none",
    "first_use_share": "share of uses whose request did not use the expert before",
    "distinct_experts": "distinct experts a layer needs for a batch of one token from each of B "
    "requests; uniform = E (1 - (1 - k / E)^B); independent = the same with measured popularity",
    "next_layer": "pairs of an expert in a layer and one in the next MoE layer, over all tokens "
    "and their k x k pairs: mutual information in bits, and Cramer's V (0 .. 1)",
    "predictions": "of predicted_ids, over so many MoE layers ahead: recall, the share of what "
    "tokens choose that was predicted for them, and precision, the share of what was predicted "
    "that they choose, in the layers that are predicted",
}
"""What each statistic means."""


def statistics(trace: RoutingTrace) -> Values:
    """Statistics as JSON-ready data: the trace's size, ``mean`` over layers, ``layers``, batches,
    ``predictions`` by distance.

    Values that do not exist (overlap of requests of one token, next layer of the last) are None.
    """
    counts = expert_counts(trace)
    layers = _layers(trace, counts)
    return {
        "model": trace.metadata.model,
        "requests": trace.requests,
        "domains": _domains(trace),
        "tokens": trace.tokens,
        "tokens_by_phase": {p.name.lower(): int((trace.phase == p).sum()) for p in Phase},
        "request_tokens": _spread(np.diff(trace.request_offsets())),
        "moe_layers": trace.moe_layers,
        "experts": trace.experts,
        "top_k": trace.top_k,
        "mean": {name: _mean(layer[name] for layer in layers) for name in list(layers[0])[2:]},
        "distinct_experts": [asdict(row) for row in distinct_experts(trace, counts)],
        **_transformed(trace),
        "predictions": [_prediction(one) for one in predictions(trace)],
        "layers": layers,
        "definitions": DEFINITIONS,
    }


def _transformed(trace: RoutingTrace) -> dict[str, Values]:
    """By which rules it was transformed, and what they lost, where it was."""
    if (losses := trace.metadata.losses) is None:
        return {}
    return {"transformed": {"rules": list(losses.rules), **losses.summary()}}


def _prediction(one: Predictions) -> Values:
    """A distance, and each MoE layer that is predicted over it."""
    layers = [(int(layer), one.recall(layer), one.precision(layer)) for layer in one.layers]
    return {
        "distance": one.distance,
        "recall": one.recall(),
        "precision": one.precision(),
        "layers": [dict(zip(("layer", "recall", "precision"), row, strict=True)) for row in layers],
    }


def _domains(trace: RoutingTrace) -> dict[str, int]:
    """Requests by what they are about."""
    ids = trace.request_id[trace.request_offsets()[:-1]].astype(np.int64)
    of = domain_of(trace.metadata.domains, ids)
    return {one.name: int((of == n).sum()) for n, one in enumerate(trace.metadata.domains)}


def _layers(trace: RoutingTrace, counts: Any) -> list[Values]:
    reuse = reuse_distances(trace)
    joint = [joint_counts(trace, layer) for layer in range(trace.moe_layers - 1)]
    columns: dict[str, Iterable[Any]] = {
        "layer": range(trace.moe_layers),
        "moe_layer_id": trace.metadata.moe_layer_ids,
        "entropy_bits": entropy_bits(counts),
        "load_max_over_mean": max_over_mean(counts),
        "load_cv": coefficient_of_variation(counts),
        "overlap_previous": overlap_previous(trace),
        "overlap_shuffled": overlap_shuffled(counts, trace.tokens),
        "reuse_distance_p50": [None if d < 0 else int(d) for d in reuse.quantile(0.5)],
        "reuse_distance_p90": [None if d < 0 else int(d) for d in reuse.quantile(0.9)],
        "first_use_share": reuse.first_use_share(),
        "next_layer_mutual_information_bits": [*map(mutual_information_bits, joint), None],
        "next_layer_cramers_v": [*map(cramers_v, joint), None],
    }
    rows = zip(*columns.values(), strict=True)
    return [{name: _plain(v) for name, v in zip(columns, row, strict=True)} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(lengths: Any) -> Values:
    return {
        "min": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "max": int(lengths.max()),
    }
