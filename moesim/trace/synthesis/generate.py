"""A trace from parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.domains import domains_of
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace, TraceMetadata
from moesim.trace.synthesis.parameters import GateWeights, SyntheticTrace
from moesim.trace.synthesis.planning import PHASES, Request, generator, plan
from moesim.trace.synthesis.room import check_room
from moesim.trace.synthesis.tables import Tables, tables_of

_WEIGHT_STREAM, _FIRST_PART, _PREDICTION_STREAM = 1, 2, 1 << 20
"""Streams of random numbers; 0 is the plan's."""
RECORDER = "moesim trace synthesize"


def synthesize(
    parameters: SyntheticTrace,
    requests: int | None = None,
    tokens: int | None = None,
    seed: int | None = None,
    domain: str | None = None,
) -> RoutingTrace:
    """A trace of ``parameters``, the same for the same arguments.

    ``requests``, ``seed``: instead of the parameters' own; ``tokens``: as many requests as have so
    many, the last one cut; ``domain``: all requests are of this domain. Layers that a phase does
    not run hold NO_EXPERT. Raises InputError for parameters that leave too few experts, and for a
    trace that does not fit in memory.
    """
    if seed is not None:
        parameters = parameters.model_copy(update={"seed": seed})
    check_room(parameters, requests, tokens)
    planned = plan(parameters, requests, tokens, domain)
    tables = part_tables(parameters)
    ids = np.concatenate([_route(parameters, tables, request) for request in planned])
    columns = [_columns(request) for request in planned]
    lengths = [sum(request.tokens) for request in planned]
    return RoutingTrace(
        expert_ids=ids,
        request_id=np.repeat(np.arange(len(planned), dtype=np.int32), lengths),
        position=np.concatenate([position for position, _ in columns]),
        phase=np.concatenate([phase for _, phase in columns]),
        gate_weights=_gate_weights(parameters, ids),
        predicted_ids=_predicted(parameters, ids),
        metadata=_metadata(parameters, planned),
    )


def part_tables(parameters: SyntheticTrace) -> list[Tables]:
    """The tables of every part; a part's random numbers do not depend on the other parts."""
    return [
        tables_of(
            part,
            parameters.experts,
            parameters.top_k,
            parameters.domains,
            np.random.default_rng([parameters.routing_seed, number]),
        )
        for number, part in enumerate(parameters.parts)
    ]


def _route(
    parameters: SyntheticTrace, tables: list[Tables], request: Request
) -> NDArray[np.uint16]:
    """[tokens, L, k] of one request."""
    shape = sum(request.tokens), len(parameters.moe_layer_ids), parameters.top_k
    ids = np.full(shape, NO_EXPERT, dtype=np.uint16)
    phase = np.repeat(PHASES, request.tokens)
    for number, (part, of_part) in enumerate(zip(parameters.parts, tables, strict=True)):
        rows = np.flatnonzero(np.isin(phase, part.phases))
        random = generator(parameters.seed, request.number, _FIRST_PART + number)
        drawn = of_part.draw(request.domain, len(rows), parameters.top_k, random)
        ids[rows, part.first_layer : part.first_layer + part.layers] = drawn
    return ids


def _columns(request: Request) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    encode, prefill, decode = request.tokens
    starts = (0, 0, request.first_decode)
    parts = [np.arange(first, first + n) for first, n in zip(starts, request.tokens, strict=True)]
    values = (Phase.ENCODE, Phase.PREFILL, Phase.DECODE)
    phase = np.repeat(np.array(values, dtype=np.uint8), (encode, prefill, decode))
    return np.concatenate(parts).astype(np.int32), phase


def _gate_weights(
    parameters: SyntheticTrace, ids: NDArray[np.uint16]
) -> NDArray[np.float16] | None:
    given: GateWeights | None = parameters.gate_weights
    if given is None:
        return None
    means = np.asarray(given.means) / sum(given.means)
    random = np.random.default_rng([parameters.seed, 0, _WEIGHT_STREAM])
    drawn = random.standard_gamma(given.concentration * means, ids.shape)
    drawn[..., 0] += drawn.sum(axis=2) == 0  # all underflow where the concentration is tiny
    drawn *= given.total / drawn.sum(axis=2, keepdims=True)
    drawn.sort(axis=2)
    weights = drawn[..., ::-1].astype(np.float16, order="C")
    weights[ids == NO_EXPERT] = 0
    return weights


def _predicted(parameters: SyntheticTrace, ids: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
    """[tokens, L, k]: the choices, but for wrong ones, which are any other expert."""
    if parameters.prediction is None:
        return None
    random = np.random.default_rng([parameters.seed, 0, _PREDICTION_STREAM])
    right = random.random(ids.shape) < parameters.prediction.right
    other = random.integers(1, max(parameters.experts, 2), ids.shape)
    wrong = ((ids + other) % parameters.experts).astype(np.uint16)
    return np.where(right | (ids == NO_EXPERT), ids, wrong)


def _metadata(parameters: SyntheticTrace, planned: list[Request]) -> TraceMetadata:
    names, own = parameters.domains.names, [request.domain for request in planned]
    counts = np.bincount(own, minlength=len(names))
    listed = ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True) if n)
    return TraceMetadata(
        model=parameters.model,
        experts=parameters.experts,
        top_k=parameters.top_k,
        moe_layer_ids=parameters.moe_layer_ids,
        recorder=RECORDER,
        source=parameters.source,
        licence=parameters.licence,
        notes=f"synthetic, seed {parameters.seed}: {parameters.title}; requests: {listed}",
        domains=domains_of([names[one] for one in own], np.arange(len(own)))
        if len(names) > 1
        else (),
    )
