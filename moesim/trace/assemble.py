"""From recorded arrays of any integer type to a RoutingTrace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.trace.lengths import REQUEST, prompts_of, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace, TraceMetadata

_CHOICE_AXES = 3
NO_PROMPTS = "prompt length not recorded: all tokens as decode"
MOST_TOKENS = 1 << 30
"""Of a request: its positions are int32."""


def expert_ids(name: str, array: NDArray[Any]) -> NDArray[np.uint16]:
    """[T, L, k] ids as uint16, -1 becoming NO_EXPERT; an InputError names what is no id."""
    if array.dtype.kind not in "iu":
        what = "expert ids must be integers; convert them, to -1 where a token has none"
        raise wrong(name, f"is {array.dtype}: {what}")
    shape, axes = "[tokens, moe_layers, top_k]", {_CHOICE_AXES}
    if name == "predicted_ids":
        shape, axes = f"{shape} or [tokens, distances, ...]", {_CHOICE_AXES, _CHOICE_AXES + 1}
    if array.ndim not in axes or 0 in array.shape:
        raise wrong(name, f"has shape {array.shape}: must be {shape}, none 0")
    lowest, highest = int(array.min()), int(array.max())
    if lowest < -1 or highest > NO_EXPERT:
        value = lowest if lowest < -1 else highest
        raise wrong(name, f"holds {value}: ids must be from 0 to {NO_EXPERT - 1}, -1 for none")
    return np.ascontiguousarray(array.astype(np.uint16))


def array_of_lists(name: str, value: object, shape: str) -> NDArray[Any]:
    """An array of lists from JSON; an InputError where their lengths differ."""
    try:
        return np.array(value)
    except (ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0][:120]
        raise wrong(name, f"must be {shape}, all lists of equal lengths ({reason})") from None


def gate_weights(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Weights as float16 in the shape of the ids; an InputError if they have another."""
    if array.dtype.kind != "f":
        raise wrong(name, f"is {array.dtype}: gate weights must be floating point")
    if array.shape != shape:
        raise wrong(name, f"has shape {array.shape}: must be that of the expert ids, {shape}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(np.float16))


def offsets(name: str, array: NDArray[Any], tokens: int) -> NDArray[np.int64]:
    """[R + 1] first rows of the requests, checked to rise from 0 to ``tokens``."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise wrong(name, f"is {array.dtype}{list(array.shape)}: must be integers [requests + 1]")
    rows = array.astype(np.int64)
    if len(rows) == 0 or rows[0] != 0 or rows[-1] != tokens or (np.diff(rows) <= 0).any():
        shown = ", ".join(map(str, [*rows[:3], "...", *rows[-2:]] if len(rows) > 5 else rows))  # noqa: PLR2004
        raise wrong(
            name, f"is [{shown}]: must rise from 0 to the {counted(tokens, 'token')} of expert_ids"
        )
    return rows


def request_rows(
    arrays: Mapping[str, NDArray[Any]], recording: Recording, tokens: int
) -> NDArray[np.int64]:
    """[R + 1] first rows of the requests: the file's ``offsets``, or what the user says."""
    if "offsets" not in arrays:
        return rows_of(recording.request_tokens, tokens)
    if recording.request_tokens is not None:
        raise wrong("offsets", f"says where requests begin: leave {REQUEST} out")
    return offsets("offsets", arrays["offsets"], tokens)


def as_one(tokens: int) -> str:
    """What to note of an array of so many ``tokens`` that says nothing of requests."""
    return (
        f"taken as one request of {counted(tokens, 'token')}: if it joins several, give {REQUEST}"
    )


def counts(name: str, array: NDArray[Any], requests: int) -> NDArray[np.int64]:
    """[R] numbers of tokens, checked to be one a request and not negative."""
    if array.dtype.kind not in "iu" or array.shape != (requests,):
        raise wrong(
            name,
            f"is {array.dtype}{list(array.shape)}: must be integers [{requests}], one a request",
        )
    if array.min() < 0:
        raise wrong(name, f"holds {array.min()}: must be 0 or more")
    if array.max() > MOST_TOKENS:
        raise wrong(name, f"holds {array.max()}: must be {MOST_TOKENS} or less")
    return array.astype(np.int64)


def request_columns(
    rows: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Request ids 0, 1, ... and positions first[i], first[i] + 1, ... of requests at ``rows``."""
    lengths = np.diff(rows)
    request = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    place = np.arange(rows[-1]) - np.repeat(rows[:-1], lengths) + np.repeat(first, lengths)
    return request, place.astype(np.int32)


def phases(position: NDArray[np.int32], prompt: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """Prefill below the ``prompt`` length of each token's request, decode from it."""
    if prompt is None:
        return np.full(len(position), Phase.DECODE, dtype=np.uint8)
    return np.where(position < prompt, Phase.PREFILL, Phase.DECODE).astype(np.uint8)


def describe(
    recording: Recording,
    ids: NDArray[np.uint16],
    recorder: str,
    *,
    experts: int | None = None,
    layers: tuple[int, ...] | None = None,
    model: str | None = None,
    notes: str = "",
) -> TraceMetadata:
    """Metadata of an imported trace.

    The user's model says the experts and MoE layers; without one ``experts`` and ``layers`` do, or
    the largest id + 1 and the layers 0, 1, ... of the array.
    """
    spec = recording.model
    if spec is not None:
        mixtures = [(i, layer.moe) for i, layer in enumerate(spec.layers) if layer.moe]
        if len(mixtures) == ids.shape[1]:
            layers = tuple(index for index, _ in mixtures)
            experts = max(moe.experts for _, moe in mixtures)
            model = spec.name
    return TraceMetadata(
        model=model,
        experts=experts or max(largest(ids) + 1, ids.shape[2]),
        top_k=ids.shape[2],
        moe_layer_ids=layers or tuple(range(ids.shape[1])),
        recorder=recorder,
        source=recording.path.name,
        licence="unknown",
        notes=notes,
    )


def largest(ids: NDArray[np.uint16]) -> int:
    """The largest expert id; -1 if there is none."""
    return int((ids + np.uint16(1)).max()) - 1  # NO_EXPERT + 1 wraps around to 0


def without_lengths(
    recording: Recording,
    ids: NDArray[np.uint16],
    rows: NDArray[np.int64],
    recorder: str,
    notes: list[str],
) -> RoutingTrace:
    """The trace of a file that has ids alone: requests at ``rows``, prompts as the user says."""
    first = np.zeros(len(rows) - 1, np.int64)
    request, position = request_columns(rows, first)
    if recording.prompt_tokens is None:
        notes = [*notes, NO_PROMPTS]
    return RoutingTrace(
        expert_ids=ids,
        request_id=request,
        position=position,
        phase=phases(position, prompts_of(recording.prompt_tokens, rows, first)),
        gate_weights=None,
        predicted_ids=None,
        metadata=describe(recording, ids, recorder, notes="; ".join(notes)),
    )


def weight(text: str, line: int) -> float:
    """A gate weight from a text file; an InputError where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise wrong(f"line {line}", f"weight is '{text:.40}': must be a number from 0 to 1")
    return value


def wrong(name: str, what: str) -> InputError:
    """An InputError about the array, key or line ``name``."""
    return InputError([Problem("", name, what)])
