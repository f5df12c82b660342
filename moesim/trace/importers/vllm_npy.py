"""vLLM's ``RequestOutput.outputs[i].routed_experts`` saved with numpy.

Structure from vllm/model_executor/layers/fused_moe/routed_experts_capturer.py (PR 28284): int32
[tokens, hidden layers, top_k], zeros for dense layers, prompt and generated tokens, no weights. Not
verified against a file recorded by vLLM: none was at hand.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.trace.assemble import as_one, without_lengths, wrong
from moesim.trace.hidden_layers import moe_layers, needed_model
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import REQUEST, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace

_AXES = 3


class VllmNpy(Importer):
    """vLLM routed_experts as npy, or a folder or npz of several; needs --model.

    Each array [tokens, layers, top_k] is one request, or several that --request-tokens takes apart.
    The model says which layers are MoE layers (the zeros of the others are dropped). Prompt lengths
    are not recorded: say them with --prompt-tokens, or all tokens count as decoded.
    """

    kind: Literal["vllm-npy"] = "vllm-npy"

    def recognises(self, recording: Recording) -> bool:
        """A npy file, a folder of them, or an npz of other names than the known formats have."""
        if recording.path.is_dir():
            return any(recording.path.glob("*.npy"))
        if recording.is_npy:
            return True
        names = recording.names
        if not names or {"expert_ids", "router_logits"} & names or "layer_0" in names:
            return False
        return all(a.ndim == _AXES and a.dtype.kind in "iu" for a in recording.arrays.values())

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace: request i is array i by name."""
        arrays = recording.arrays
        model = needed_model(recording, "vLLM")
        parts = [moe_layers(name, array, model) for name, array in arrays.items()]
        if not parts:
            raise InputError("holds no npy file: name a recording of vLLM's routed_experts")
        ids = np.concatenate(parts)
        rows, notes = _rows([len(part) for part in parts], recording)
        return without_lengths(recording, ids, rows, "vllm routed_experts", notes)


def _rows(sizes: list[int], recording: Recording) -> tuple[NDArray[np.int64], list[str]]:
    """Where requests begin in arrays of ``sizes`` tokens, and what is not known of it."""
    given = recording.request_tokens
    if len(sizes) > 1:
        if given is not None:
            what = f"there are {len(sizes)} arrays, each a request of its own; leave it out"
            raise wrong(REQUEST, what)
        return rows_of(sizes, sum(sizes)), []
    return rows_of(given, sizes[0]), [] if given is not None else [as_one(sizes[0])]
