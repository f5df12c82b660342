"""Distances between two traces, beside those between two halves of the first."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.config.errors import InputError, nearest
from moesim.trace.distance.features import Features
from moesim.trace.distance.measures import DEFINITIONS, measures
from moesim.trace.distance.part import check_alike, halves, of_phase
from moesim.trace.routing import Phase, RoutingTrace

Values = dict[str, Any]


def compare(first: RoutingTrace, second: RoutingTrace, phase: str | None = None) -> Values:
    """Every measure of ``first`` and ``second`` and their distance, as JSON-ready data.

    ``phase``: the tokens compared, ``all`` or a phase; by default decode tokens if the first trace
    has any, else all. Halves are every other request of the first trace. Raises InputError if the
    traces have other layers or experts, or no such tokens.
    """
    chosen = _phase(first, phase)
    parts = of_phase(first, chosen, "first"), of_phase(second, chosen, "second")
    check_alike(*parts)
    one, other = (Features(part) for part in parts)
    split = halves(parts[0])
    baseline = None if split is None else measures(*(Features(half) for half in split))
    rows: list[Values] = [
        {
            "measure": name,
            "unit": row.unit,
            "first": row.first,
            "second": row.second,
            "distance": row.distance,
            "halves": None if baseline is None or name not in baseline else baseline[name].distance,
        }
        for name, row in measures(one, other).items()
    ]
    return {
        "phase": "all" if chosen is None else chosen.name.lower(),
        "moe_layers": parts[0].moe_layers,
        "tokens": [part.tokens for part in parts],
        "requests": [part.requests for part in parts],
        "measures": rows,
        "lru_miss_ratio": [np.mean(of.lru, axis=0).tolist() for of in (one, other)],
        "definitions": DEFINITIONS,
    }


def _phase(trace: RoutingTrace, name: str | None) -> Phase | None:
    if name is None:
        return Phase.DECODE if (trace.phase == Phase.DECODE).any() else None
    names = {phase.name.lower(): phase for phase in Phase}
    if name != "all" and name not in names:
        raise InputError(f"--phase '{name}' is not known; {nearest(name, [*names, 'all'])}")
    return names.get(name)
