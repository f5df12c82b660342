"""What may be wrong with what a transform of routing gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT
from moesim.trace.transforms.choices import Choices, Floats, Ids, Mask

CHUNK_TOKENS = 4096
"""Looked at together: what is made to look at them stays small beside the trace."""


def fault_of_choices(before: Choices, after: object) -> str:
    """What is wrong with ``after``, which a transform gave of ``before``; "" where nothing is.

    Each choice was made or predicted before, once, and its expert lives; unused places are last;
    what is recorded stays that of its expert; no expert comes back to life.
    """
    if not isinstance(after, Choices):
        return f"gives {type(after).__name__}, not Choices"
    if fault := _fault_of_form(before, after):
        return fault
    tokens = range(0, len(after.ids), CHUNK_TOKENS)
    parts = (slice(first, first + CHUNK_TOKENS) for first in tokens)
    return next((fault for part in parts if (fault := _fault_of_part(before, after, part))), "")


def _fault_of_form(before: Choices, after: Choices) -> str:
    layers, ids = before.ids.shape[:2], after.ids
    if not _is_array(ids, np.uint16) or ids.ndim != before.ids.ndim or ids.shape[:2] != layers:
        return f"gives ids {_said(ids)}, not uint16 of shape {(*layers, 'k')}"
    forms: list[tuple[str, type[np.generic], tuple[int, ...], object]]
    forms = [("living", np.bool_, before.living.shape, before.living)]
    forms += [(name, np.floating, ids.shape, before.recorded) for name in ("weights", "recorded")]
    for name, kind, shape, had in forms:
        column: NDArray[Any] | None = getattr(after, name)
        if (column is None) != (had is None):
            return f"gives {'no ' if column is None else ''}{name}, unlike before"
        if column is not None and (not _is_array(column, kind) or column.shape != shape):
            return f"gives {name} {_said(column)}, not {kind.__name__} of shape {shape}"
    if after.predicted is not before.predicted:
        return "gives another prediction than was recorded"
    if (after.living & ~before.living).any():
        return "brings an expert back to life"
    return _fault_of_words(after)


def _fault_of_words(after: Choices) -> str:
    tokens, learnt = len(after.ids), after.learnt
    if not isinstance(learnt, int | np.integer) or not 0 <= learnt <= tokens:
        return f"has learnt of {learnt!r} of {tokens} tokens"
    if not all(isinstance(note, str) for note in after.notes):
        return "gives notes that are no text"
    return ""


def _fault_of_part(before: Choices, after: Choices, part: slice) -> str:
    ids = after.ids[part]
    chosen, last = ids != NO_EXPERT, after.living.shape[1] - 1
    alive = after.living[np.arange(ids.shape[1])[:, None], np.minimum(ids, last)] & (ids <= last)
    inside = np.sort(ids, axis=2)
    twice = (inside[:, :, 1:] == inside[:, :, :-1]) & (inside[:, :, 1:] != NO_EXPERT)
    had, recorded = _had(before, part, ids)
    faults = {
        "puts an unused place before a choice": chosen[:, :, 1:] & ~chosen[:, :, :-1],
        "chooses an expert that does not live": chosen & ~alive,
        "chooses an expert twice": twice,
        "chooses an expert that was no choice": chosen & ~had,
    }
    if after.weights is not None and after.recorded is not None:
        weights = after.weights[part]
        faults["gives a weight below 0, or none"] = chosen & ~(weights >= 0)
        same = after.recorded[part] == recorded
        faults["gives a choice another recorded weight than it had"] = chosen & ~same
    return next((what for what, wrong in faults.items() if wrong.any()), "")


def _had(before: Choices, part: slice, ids: Ids) -> tuple[Mask, Floats]:
    """Which of ``ids`` were choices before, or predicted, and the recorded weight of each.

    Most transforms leave most choices where they were: only rows in which one moved are searched.
    """
    had, recorded = _unmoved(before, part, ids)
    rows: Mask = np.asarray(~had.all(axis=2))
    had[rows], recorded[rows] = _searched(before, part, ids[rows], rows)
    return had, recorded


def _unmoved(before: Choices, part: slice, ids: Ids) -> tuple[Mask, Floats]:
    """As ``_had``, of those that are where they were; a place that is not used needs nothing."""
    had, recorded = ids == NO_EXPERT, np.zeros(ids.shape)
    width = min(ids.shape[2], before.ids.shape[2])
    had[:, :, :width] |= ids[:, :, :width] == before.ids[part, :, :width]
    if before.recorded is not None:
        recorded[:, :, :width] = before.recorded[part, :, :width]
    return had, recorded


def _searched(before: Choices, part: slice, ids: Ids, rows: Mask) -> tuple[Mask, Floats]:
    """As ``_had``, of the ``rows`` bool[T, L], one by one."""
    had, recorded = np.zeros(ids.shape, np.bool_), np.zeros(ids.shape)
    for place in range(before.ids.shape[2]):
        same = ids == before.ids[part, :, place][rows][:, None]
        had |= same
        if before.recorded is not None:
            np.copyto(recorded, before.recorded[part, :, place][rows][:, None], where=same)
    for predicted in _predicted(before):
        had |= ids == predicted[part][rows][:, None]
    return had, recorded


def _predicted(before: Choices) -> Iterator[Ids]:
    """Each column [T, L] of the recorded prediction, of all distances."""
    if before.predicted is not None:
        ids = before.predicted
        flat = ids[:, None] if ids.ndim == before.ids.ndim else ids
        for distance, place in np.ndindex(flat.shape[1], flat.shape[3]):
            yield flat[:, distance, :, place]


def _is_array(value: object, kind: type[np.generic]) -> bool:
    return isinstance(value, np.ndarray) and bool(np.issubdtype(value.dtype, kind))


def _said(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"as {type(value).__name__}"
    return f"that are {value.dtype} of shape {value.shape}"
