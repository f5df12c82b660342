"""Parameters of a synthetic trace from a recorded one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace
from moesim.trace.synthesis.fitting.calibrate import STEPS as CALIBRATION_STEPS
from moesim.trace.synthesis.fitting.calibrate import calibrate
from moesim.trace.synthesis.fitting.clusters import domains_of, order_of
from moesim.trace.synthesis.fitting.emit import gate_weights_of, part_of, requests_of
from moesim.trace.synthesis.fitting.factors import initial
from moesim.trace.synthesis.fitting.maximise import STEPS as MAXIMISATION_STEPS
from moesim.trace.synthesis.fitting.maximise import maximise
from moesim.trace.synthesis.fitting.moments import Ids, measure
from moesim.trace.synthesis.parameters import Part, PhaseName, SyntheticTrace
from moesim.trace.synthesis.planning import PHASES

PART_STEPS = MAXIMISATION_STEPS + CALIBRATION_STEPS
"""How often ``advance`` is called for a phase."""


@dataclass(frozen=True)
class Recorded:
    """A phase of a trace: the routing of each request [tokens, layers, k] in the layers it runs."""

    phase: PhaseName
    first_layer: int
    requests: list[Ids]


def fit(
    trace: RoutingTrace,
    name: str,
    domains: int = 8,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> SyntheticTrace:
    """Parameters whose traces resemble ``trace``, called ``name``; the same for the same seed.

    ``domains``: how many to look for at most, one for ten requests. Every phase gets a part of its
    own. ``advance`` is called after every step, ``PART_STEPS`` times a phase.
    """
    recorded = list(phases_of(trace))
    experts = trace.experts
    measured = [measure(of.requests, of.requests[0].shape[1], experts) for of in recorded]
    domain = domains_of(np.concatenate([of.uses for of in measured], axis=1), domains, seed)
    order = order_of(domain)
    parts: list[Part] = []
    for of, wanted in zip(recorded, measured, strict=True):
        factors = initial(wanted, domain)
        maximise(factors, of.requests, domain, wanted, advance)
        calibrate(factors, of.requests, domain, wanted, seed, advance)
        parts.append(part_of(factors, of.phase, of.first_layer, order.names))
    size = f"{counted(trace.requests, 'request')}, {counted(trace.tokens, 'token')}"
    return SyntheticTrace(
        title=f"fitted to {name} ({size})",
        model=trace.metadata.model,
        experts=experts,
        top_k=trace.top_k,
        moe_layer_ids=trace.metadata.moe_layer_ids,
        source=f"moesim trace fit of {trace.metadata.source}",
        licence=trace.metadata.licence,
        requests=requests_of(trace),
        domains=order,
        parts=tuple(parts),
        gate_weights=gate_weights_of(trace),
    )


def phases_of(trace: RoutingTrace) -> Iterator[Recorded]:
    """The phases that the trace has. Raises InputError where it uses no expert at all."""
    found = False
    for name in PHASES:
        rows = trace.phase == Phase[name.upper()]
        used = (trace.expert_ids[rows] != NO_EXPERT).any(axis=(0, 2))
        if not used.any():
            continue
        found = True
        layers = np.flatnonzero(used)
        first, end = int(layers[0]), int(layers[-1]) + 1
        yield Recorded(name, first, _split(trace, rows, first, end))
    if not found:
        raise InputError("the trace uses no expert; record one with routed tokens")


def _split(trace: RoutingTrace, rows: NDArray[np.bool_], first: int, end: int) -> list[Ids]:
    split = [
        np.ascontiguousarray(trace.expert_ids[start:stop, first:end][rows[start:stop]])
        for start, stop in pairwise(trace.request_offsets())
    ]
    return [_unused_last(ids) for ids in split]


def _unused_last(ids: Ids) -> Ids:
    unused = ids == NO_EXPERT
    if not unused.any():
        return ids
    return np.take_along_axis(ids, np.argsort(unused, axis=2, kind="stable"), axis=2)
