"""TensorRT-LLM's recorded choices (``EXPERT_STATISTIC_PATH``), safetensors.

``rank<N>_raw.safetensors`` has under "<iteration>_<layer>" the ``token_selected_experts`` [tokens,
top_k] of one forward pass; ``meta_info.json`` beside it says ``num_experts``. ``rank<N>
.safetensors`` has counts alone, from which no trace can be made. A name may have words around the
two numbers, and an array without layers in its name is not read. Written from that description;
not checked against a recorded file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.config.json_text import read_object
from moesim.trace.assemble import describe, expert_ids, phases, request_columns, wrong
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST, prompts_of, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import Phase, RoutingTrace
from moesim.trace.safetensors import begins, integer_arrays

Ints = NDArray[np.int64]
_KEY = re.compile(r"(?:.*[^0-9])?(\d{1,9})_(\d{1,5})(?:[^0-9].*)?")
_META = "meta_info.json"


class TensorrtLlm(Importer):
    """TensorRT-LLM raw expert statistics: one rank's safetensors, or their folder.

    Passes do not say whose tokens their rows are. Without --request-tokens, a pass of as many rows
    as the one before is a decode step in which row i is the same request; any other is the
    beginning of new requests: a prompt where it has several rows and no such pass follows.
    """

    kind: Literal["tensorrt-llm"] = "tensorrt-llm"

    def recognises(self, recording: Recording) -> bool:
        """A safetensors file with names of two numbers, or a folder with such a file's name."""
        if recording.path.is_dir():
            return any(recording.path.glob("rank*.safetensors"))
        return begins(recording.head) and bool(re.search(rb'"[^"]*\d+_\d+', recording.head))

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, in the order of iterations."""
        path = _file(recording.path)
        layers, passes = _passes(integer_arrays(path))
        sizes = np.array([len(one) for one in passes])
        ids = np.concatenate(passes)
        given = recording.request_tokens
        if given is None and recording.prompt_tokens is None:
            order, request, position, phase = _guessed(sizes)
            notes = (
                "whose tokens the rows are is not recorded: passes of equally many rows are taken"
                f" as decode steps of the same requests (say otherwise with {REQUEST}, {PROMPT})"
            )
        else:
            rows = rows_of(given, len(ids))
            first = np.zeros(len(rows) - 1, np.int64)
            order, notes = np.arange(len(ids)), "requests are taken one after another"
            request, position = request_columns(rows, first)
            phase = phases(position, prompts_of(recording.prompt_tokens, rows, first))
        chosen = np.ascontiguousarray(ids[order])
        return RoutingTrace(
            expert_ids=chosen,
            request_id=request,
            position=position,
            phase=phase,
            gate_weights=None,
            predicted_ids=None,
            metadata=describe(
                recording,
                chosen,
                "tensorrt-llm expert statistics",
                experts=_experts(path),
                layers=layers,
                notes=notes,
            ),
        )


def _file(path: Path) -> Path:
    """The file of one rank; ranks have different tokens or the same, which files do not say."""
    if not path.is_dir():
        return path
    raw = sorted(path.glob("rank*_raw.safetensors"))
    if len(raw) == 1:
        return raw[0]
    if not raw:
        raise InputError(
            "has no rank*_raw.safetensors: counts do not say what a token chose; record raw ones"
        )
    raise InputError(
        f"has the files of {counted(len(raw), 'rank')}, which may have recorded the same tokens:"
        f" name one, such as {raw[0].name}"
    )


def _passes(arrays: dict[str, NDArray[Any]]) -> tuple[tuple[int, ...], list[NDArray[np.uint16]]]:
    """The layers, and uint16[tokens, layers, top_k] of each iteration in order."""
    found: dict[int, dict[int, str]] = {}
    for name, array in arrays.items():
        if not (match := _KEY.fullmatch(name)):
            continue
        if array.ndim == 1:
            rule = "counts do not say what a token chose; name the file rank*_raw.safetensors"
            raise wrong(name, f"has shape {array.shape}: {rule}")
        layer_names = found.setdefault(int(match[1]), {})
        if (layer := int(match[2])) in layer_names:
            raise wrong(name, f"is the same iteration and layer as '{layer_names[layer]}'")
        layer_names[layer] = name
    if not found:
        raise InputError('has no array "<iteration>_<layer>"; is it of EXPERT_STATISTIC_PATH?')
    layers = tuple(sorted(next(iter(found.values()))))
    numbers = sorted(found)
    passes = [_pass(found[number], layers, arrays) for number in numbers]
    top_k = passes[0].shape[2]
    for number, one in zip(numbers, passes, strict=True):
        if one.shape[2] != top_k:
            what = f"top-{one.shape[2]} in iteration {number}, top-{top_k} in the first"
            raise InputError(f"has {what}: must be equal; is it of one run?")
    return layers, passes


def _pass(
    names: dict[int, str], layers: tuple[int, ...], arrays: dict[str, NDArray[Any]]
) -> NDArray[np.uint16]:
    first = next(iter(names.values()))
    if tuple(sorted(names)) != layers:
        what = f"has layers {sorted(names)}, the first iteration {list(layers)}"
        raise wrong(first, f"its iteration {what}: every one must have all")
    of_layers = [arrays[names[layer]] for layer in layers]
    shapes = {array.shape for array in of_layers}
    if len(shapes) > 1:
        raise wrong(first, f"and its other layers have shapes {sorted(shapes)}: must be equal")
    return expert_ids(first, np.stack(of_layers, axis=1))


def _guessed(
    sizes: NDArray[np.int_],
) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """The rows by request, and each one's request, position and phase: as the class says.

    ``sizes`` int[passes], the rows of each.
    """
    group = np.cumsum(np.diff(sizes, prepend=sizes[0]) != 0)
    pass_of = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(pass_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    passes = np.bincount(group)[group[pass_of]]
    prompt = (passes == 1) & (sizes[pass_of] > 1)
    seat = np.where(prompt, 0, place)
    order = np.lexsort((place, pass_of, seat, group[pass_of]))
    keys = np.stack([group[pass_of], seat])[:, order]
    new = np.append(True, (np.diff(keys) != 0).any(axis=0))
    starts = np.flatnonzero(new)
    request, position = request_columns(np.append(starts, len(order)), 0 * starts)
    return (
        order,
        request,
        position,
        np.where(prompt[order], Phase.PREFILL, Phase.DECODE).astype(np.uint8),
    )


def _experts(path: Path) -> int | None:
    meta = path.parent / _META
    if not meta.is_file():
        return None
    experts = read_object(meta, strict=False).get("num_experts")
    return experts if type(experts) is int and experts > 0 else None
