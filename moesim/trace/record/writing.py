"""Recorded requests as a trace."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.trace.assemble import expert_ids, gate_weights, phases, request_columns
from moesim.trace.record.generate import RecordedRequest
from moesim.trace.record.routers import Routers
from moesim.trace.routing import RoutingTrace, TraceMetadata

_ROUNDING = 1.001
_PREDICTED = "predicted_ids: each MoE layer's router on the input of the router {} before"
_WEIGHTS_LEFT_OUT = "gate weights left out: the routers give some outside 0 .. 1"


def recorded_trace(
    model: Any,
    routers: Routers,
    requests: Sequence[RecordedRequest],
    *,
    name: str,
    source: str,
    licence: str = "unknown",
    notes: Sequence[str] = (),
) -> RoutingTrace:
    """The trace of ``requests`` of ``model``, at least one, numbered from 0.

    Weights outside 0 .. 1 (routers that scale each expert) are left out, and the notes say so, as
    they say what predicted.
    """
    ids = expert_ids("router ids", np.concatenate([request.ids for request in requests]))
    weights = np.concatenate([request.weights for request in requests])
    shares = bool(((weights >= 0) & (weights <= _ROUNDING)).all())
    rows = np.cumsum([0, *(len(request.ids) for request in requests)])
    request_id, position = request_columns(rows, np.zeros(len(requests), dtype=np.int64))
    predicted = _predicted(requests)
    said = [*notes, *([] if shares else [_WEIGHTS_LEFT_OUT])]
    if predicted is not None:
        said.append(_PREDICTED.format(_layers(predicted.shape[1])))
    prompt = np.array([request.prompt_tokens for request in requests])[request_id]
    return RoutingTrace(
        expert_ids=ids,
        request_id=request_id,
        position=position,
        phase=phases(position, prompt),
        gate_weights=gate_weights("weights", weights.clip(0, 1), ids.shape) if shares else None,
        predicted_ids=predicted,
        metadata=TraceMetadata(
            model=name,
            experts=routers.experts,
            top_k=routers.top_k,
            moe_layer_ids=routers.layer_ids,
            recorder=_recorder(model),
            source=source,
            licence=licence,
            notes="; ".join(said),
        ),
    )


def _predicted(requests: Sequence[RecordedRequest]) -> NDArray[np.uint16] | None:
    """What was predicted of all tokens, as the first request has it or has it not."""
    found = [request.predicted for request in requests if request.predicted is not None]
    return np.concatenate(found) if found else None


def _layers(distances: int) -> str:
    return "one" if distances == 1 else f"one to {distances}"


def _recorder(model: Any) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch"))
    dtype = str(model.dtype).removeprefix("torch.")
    return f"moesim {version('moesim')} trace record, {libraries}, {dtype} on {model.device.type}"
