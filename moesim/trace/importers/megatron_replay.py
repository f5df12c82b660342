"""Megatron-LM's ``RouterReplay.get_recorded_data()``: a list of [tokens, top_k], one a MoE layer.

Saved as npz (``numpy.savez("x.npz", *recorded)``, or names that end in the layer's number) or as
JSON (a list of layers, tokens and ids). Lists of another program may have tokens first: the model's
MoE layers tell, and a note says which order was read. The static buffer [max_tokens, layers, top_k]
is ``expert_ids`` of the npz layout instead. Written from megatron/core/transformer/moe/
router_replay.py's description; not checked against a recording.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.json_text import read_json
from moesim.trace.assemble import array_of_lists, expert_ids, without_lengths, wrong
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import REQUEST, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace

_AXES = 2
_LISTS = re.compile(rb"\s*\[\s*\[\s*\[\s*-?\d")
_NUMBER = re.compile(r"\D*(\d{1,6})")
_LISTED = "the recorded lists"
_AS_LAYERS, _AS_TOKENS = "[layer][token][choice]", "[token][layer][choice]"
_EXPERT_IDS = f'numpy.savez("x.npz", expert_ids=lists) where they are {_AS_TOKENS}'


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
        recorded = _recorded(recording)
        layers_first, note = _order(recording, recorded.shape)
        ids = expert_ids(_LISTED, np.moveaxis(recorded, 0, 1) if layers_first else recorded)
        rows = rows_of(recording.request_tokens, len(ids))
        notes = [f"{self.kind}: {note}"]
        if not recording.request_tokens:
            notes.append(f"taken as one request without {REQUEST}")
        return without_lengths(recording, ids, rows, "megatron router replay", notes)


def _order(recording: Recording, shape: tuple[int, ...]) -> tuple[bool, str]:
    """Whether layers are the first axis, not tokens, as the model has it, and what to say of it."""
    model = recording.model
    if len(shape) <= _AXES:
        raise wrong(_LISTED, f"has shape {shape}: must be [layers, tokens, top_k]")
    if model is None:
        what = "without --model" if recording.is_npz else f"without --model: else {_EXPERT_IDS}"
        return True, f"read as {_AS_LAYERS}, Megatron's order, {what}"
    layers = len(model.moe_layers)
    fits = [size == layers for size in shape[:_AXES]]
    its = f"the {counted(layers, 'MoE layer')} of model '{model.name}'"
    if not any(fits):
        what = f"is [{shape[0]}][{shape[1]}][{shape[2]}]: neither axis is {its}"
        raise wrong(_LISTED, f"{what}; name the model that it was recorded from")
    if all(fits) and not recording.is_npz:
        what = f"is [{layers}][{layers}][{shape[2]}]: either axis may be {its}"
        layered = f'numpy.savez("x.npz", *lists) where they are {_AS_LAYERS}'
        raise wrong(_LISTED, f"{what}; save them, and import that: {layered}, or {_EXPERT_IDS}")
    if fits[0]:
        return True, f"read as {_AS_LAYERS}, Megatron's order"
    return False, f"read as {_AS_TOKENS}, not Megatron's order: the second axis is {its}"


def _recorded(recording: Recording) -> NDArray[Any]:
    """[layers, tokens, top_k], or tokens first."""
    if not recording.is_npz:
        found = read_json(recording.path, strict=False)
        return array_of_lists(_LISTED, found, "[layers, tokens, top_k]")
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
