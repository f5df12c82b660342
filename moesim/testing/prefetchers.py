"""What every prefetcher keeps (docs/prefetch.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Key, Prefetcher, View, fault_of_predicted

Mask = NDArray[np.bool_]
"""Which experts are needed: bool[passes, layers, experts]."""


def view_of(needed: Mask, first: int = 0, learned: Mask | None = None, remembers: int = 0) -> View:
    """The passes of ``needed`` from ``first`` on, on one GPU that has every expert; each active
    expert is one choice. Its ``past`` are the last passes before, as many as it ``remembers``.

    Followers are counted, and a look-ahead was recorded, in ``learned`` (default: ``needed``): the
    recorded one names the expert before each that is needed.
    """
    learned = needed if learned is None else learned
    layers, experts = needed.shape[1:]
    return View(
        first=first,
        local=[np.arange(experts)],
        logical=np.tile(np.arange(experts), (layers, 1)),
        active_experts={
            (layer, 0): _active_experts(needed[first:, layer]) for layer in range(layers)
        },
        before=_before(needed, first),
        active=np.ones((len(needed) - first, layers), np.bool_),
        chosen=lambda: needed[first:].astype(np.int64),
        recorded=np.roll(learned[first:], -1, axis=2)[None],
        followers=lambda source, target, _part: _followers(learned, source, target),
        past=_past(needed[max(0, first - remembers) : first]),
    )


def predictions(
    prefetcher: Prefetcher, view: View, source: int, target: int, gpu: int = 0
) -> list[list[int]]:
    """The experts of each pass of ``view``, in the order in which they are to be fetched."""
    found = prefetcher.predict(view, source, target, gpu)
    return [part.tolist() for part in np.split(found.experts, found.offsets[1:-1])]


def predicts_experts_of_the_gpu(
    prefetcher: Prefetcher, view: View, source: int, target: int, gpu: int = 0
) -> None:
    """A list for each pass: numbers of the GPU's experts, each once."""
    found = prefetcher.predict(view, source, target, gpu)
    fault = fault_of_predicted(found, view.passes, len(view.local[gpu]))
    assert not fault, f"{type(prefetcher).__name__} {fault}"


def predicts_the_same_from_any_pass_on(
    prefetcher: Prefetcher, needed: Mask, source: int, target: int, first: int
) -> None:
    """A run is decided in parts: passes from ``first`` on get what they get in the whole run."""
    whole = predictions(prefetcher, view_of(needed), source, target)[first:]
    view = view_of(needed, first, needed, prefetcher.remembers)
    part = predictions(prefetcher, view, source, target)
    assert whole == part, f"{type(prefetcher).__name__}: a pass depends on where the view begins"


def knows_no_more_than_it_says(
    prefetcher: Prefetcher, needed: Mask, source: int, target: int, at: int
) -> None:
    """The prediction of pass ``at`` is the same whatever layers after ``source`` need in it, and
    whatever later passes need; unless it ``looks_ahead``. ``source`` comes before ``target``.
    """
    if prefetcher.looks_ahead:
        return
    other = needed.copy()
    other[at, source + 1 :] ^= True
    other[at + 1 :] ^= True
    one, changed = (view_of(mask, 0, needed) for mask in (needed, other))
    before = predictions(prefetcher, one, source, target)[: at + 1]
    after = predictions(prefetcher, changed, source, target)[: at + 1]
    name = type(prefetcher).__name__
    assert before == after, f"{name} reads what is not known yet, without 'looks_ahead = True'"


def _active_experts(mask: Any) -> ActiveExperts:
    step, experts = np.nonzero(mask)
    number = np.bincount(step, minlength=len(mask))
    return ActiveExperts(np.concatenate(([0], np.cumsum(number))), experts)


def _before(needed: Mask, first: int) -> dict[Key, NDArray[np.int64]]:
    if not first:
        return {}
    return {(layer, 0): np.flatnonzero(mask) for layer, mask in enumerate(needed[first - 1])}


def _past(passes: Mask) -> dict[Key, ActiveExperts]:
    layers = range(passes.shape[1] if len(passes) else 0)
    return {(layer, 0): _active_experts(passes[:, layer]) for layer in layers}


def _followers(learned: Mask, source: int, target: int) -> NDArray[np.int64]:
    return learned[:, source].astype(np.int64).T @ learned[:, target].astype(np.int64)
