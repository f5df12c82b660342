"""Expert-routing traces: the data, its Parquet form, importers, checks and statistics."""

from __future__ import annotations

from moesim.trace.parquet import read_trace, write_trace
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace, TraceMetadata

__all__ = ["NO_EXPERT", "Phase", "RoutingTrace", "TraceMetadata", "read_trace", "write_trace"]
