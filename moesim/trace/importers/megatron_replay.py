"""Megatron-LM's ``RouterReplay.get_recorded_data()``: a list of [tokens, top_k], one a MoE layer.

Saved as npz (``numpy.savez("x.npz", *recorded)``, or names that end in the layer's number) or as
JSON (a list of layers, tokens and ids). The static buffer [max_tokens, layers, top_k] is
``expert_ids`` of the npz layout instead. Written from megatron/core/transformer/moe/
router_replay.py's description; not checked against a recording.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.json_text import read_json
from moesim.trace.assemble import array_of_lists, expert_ids, without_lengths, wrong
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import REQUEST, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace

_AXES = 2
_LISTS = re.compile(rb"\s*\[\s*\[\s*\[\s*-?\d")
_NUMBER = re.compile(r"\D*(\d{1,6})")


class MegatronReplay(Importer):
    """Megatron-LM router replay: ids [tokens, top_k] a MoE layer, as npz or JSON lists.

    Its tokens are one request, or several that --request-tokens takes apart; --prompt-tokens says
    where prompts end. No weights are recorded.
    """

    kind: Literal["megatron-replay"] = "megatron-replay"

    def recognises(self, recording: Recording) -> bool:
        """An npz of matrices of integers alone, or JSON that begins with three lists.

        ``layer_0`` in an npz is the name of router logits: there the kind must be named.
        """
        if not recording.is_npz:
            return bool(_LISTS.match(recording.head))
        if "layer_0" in recording.names or not all(map(_NUMBER.fullmatch, recording.names)):
            return False
        arrays = recording.arrays.values()
        return bool(arrays) and all(a.ndim == _AXES and a.dtype.kind in "iu" for a in arrays)

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace; layer i is the i-th of the list, or by the numbers of names."""
        ids = expert_ids("the recorded lists", np.moveaxis(_layers(recording), 0, 1))
        rows = rows_of(recording.request_tokens, len(ids))
        notes = [] if recording.request_tokens else [f"taken as one request without {REQUEST}"]
        return without_lengths(recording, ids, rows, "megatron router replay", notes)


def _layers(recording: Recording) -> NDArray[Any]:
    """[layers, tokens, top_k]."""
    if not recording.is_npz:
        found = read_json(recording.path, strict=False)
        return array_of_lists("the recorded lists", found, "[layers, tokens, top_k]")
    arrays = recording.arrays
    names = sorted(arrays, key=_number)
    shapes = {arrays[name].shape for name in names}
    if len(shapes) != 1:
        raise wrong(names[0] if names else "npz", f"and other layers have shapes {sorted(shapes)}")
    return np.stack([arrays[name] for name in names])


def _number(name: str) -> int:
    if not (match := _NUMBER.fullmatch(name)):
        raise wrong(name, "must end in the layer's number, as in arr_0 or layer_0")
    return int(match[1])
