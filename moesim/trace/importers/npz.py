"""Arrays in an npz file: expert ids, and optionally weights, requests and first positions.

Verified against the gpt-oss-20b decode recording of 160 requests (int8 ids, float16 weights).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.trace.assemble import (
    NO_PROMPTS,
    as_one,
    counts,
    describe,
    expert_ids,
    gate_weights,
    phases,
    request_columns,
    request_rows,
)
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import prompts_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace


class Npz(Importer):
    """Numpy npz with expert_ids [T, L, k], optional gate_weights, offsets and first_position.

    ``offsets`` [R + 1] are the first rows of the requests (default: --request-tokens, or one),
    ``first_position`` [R] their prompt lengths (default 0), ``predicted_ids`` a look-ahead,
    [T, L, k] or over several distances [T, D, L, k].
    All tokens are decoded ones, unless ``prompt_tokens`` says where the prompts end.
    """

    kind: Literal["npz"] = "npz"

    def recognises(self, recording: Recording) -> bool:
        """An npz file with an array expert_ids."""
        return "expert_ids" in recording.names

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, one request for each pair of offsets."""
        arrays = recording.arrays
        ids = expert_ids("expert_ids", arrays["expert_ids"])
        rows = request_rows(arrays, recording, len(ids))
        requests = len(rows) - 1
        no_prompt = np.zeros(requests, dtype=np.int64)
        first = counts("first_position", arrays.get("first_position", no_prompt), requests)
        request, position = request_columns(rows, first)
        notes = []
        if "offsets" not in arrays and recording.request_tokens is None:
            notes.append(as_one(len(ids)))
        if "first_position" not in arrays and recording.prompt_tokens is None:
            notes.append(NO_PROMPTS)
        weights, predicted = arrays.get("gate_weights"), arrays.get("predicted_ids")
        return RoutingTrace(
            expert_ids=ids,
            request_id=request,
            position=position,
            phase=phases(position, prompts_of(recording.prompt_tokens, rows, first)),
            gate_weights=None
            if weights is None
            else gate_weights("gate_weights", weights, ids.shape),
            predicted_ids=None if predicted is None else expert_ids("predicted_ids", predicted),
            metadata=describe(recording, ids, "npz", notes="; ".join(notes)),
        )
