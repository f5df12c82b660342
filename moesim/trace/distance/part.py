"""The part of a trace that is compared: the tokens of one phase, in the layers that they run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace


def of_phase(trace: RoutingTrace, phase: Phase | None, which: str) -> RoutingTrace:
    """The tokens of ``phase`` (None: all) in the MoE layers that they use; ``which`` trace it is.

    Raises InputError if there are none.
    """
    rows = np.ones(trace.tokens, dtype=bool) if phase is None else trace.phase == phase
    layers = np.flatnonzero((trace.expert_ids[rows] != NO_EXPERT).any(axis=(0, 2)))
    if not len(layers):
        name = "" if phase is None else f"{phase.name.lower()} "
        what = f"the {which} trace has no {name}tokens with experts; choose another --phase"
        raise InputError(what)
    return _rows(trace, rows, layers)


def halves(trace: RoutingTrace) -> tuple[RoutingTrace, RoutingTrace] | None:
    """Every other request, from the first and from the second; None for a single request."""
    if trace.requests < 2:  # noqa: PLR2004
        return None
    number = np.repeat(np.arange(trace.requests), np.diff(trace.request_offsets()))
    layers = np.arange(trace.moe_layers)
    return _rows(trace, number % 2 == 0, layers), _rows(trace, number % 2 == 1, layers)


def check_alike(one: RoutingTrace, other: RoutingTrace) -> None:
    """Raise an InputError if the two differ in MoE layers or experts."""
    for what in ("moe_layers", "experts"):
        first, second = getattr(one, what), getattr(other, what)
        if first != second:
            name = "MoE layer" if what == "moe_layers" else "expert"
            raise InputError(
                f"the first trace has {counted(first, name)} here, the second {second}: only traces"
                " of one model can be compared"
            )


def _rows(trace: RoutingTrace, rows: NDArray[np.bool_], layers: NDArray[np.int64]) -> RoutingTrace:
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(trace.expert_ids[rows][:, layers]),
        request_id=trace.request_id[rows],
        position=trace.position[rows],
        phase=trace.phase[rows],
        gate_weights=None,
        predicted_ids=None,
        metadata=trace.metadata.of_layers(layers.tolist()),
    )
