"""Recording a trace: a Hugging Face MoE model runs over prompts, and its routers are listened to.

Needs the extra ``record`` (torch, transformers); both are imported inside functions.
"""

from __future__ import annotations

from moesim.trace.record.finding import find_routers
from moesim.trace.record.generate import RecordedRequest, record
from moesim.trace.record.loading import load_causal_lm, load_encoder
from moesim.trace.record.prompts import check_prompts, read_prompts
from moesim.trace.record.routers import Routers
from moesim.trace.record.writing import recorded_trace

__all__ = [
    "RecordedRequest",
    "Routers",
    "check_prompts",
    "find_routers",
    "load_causal_lm",
    "load_encoder",
    "read_prompts",
    "record",
    "recorded_trace",
]
