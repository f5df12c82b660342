"""Which choices a capacity keeps, straight from a trace's expert ids, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import inlined, njit, record, types
from moesim.trace.routing import NO_EXPERT


class Tokens(NamedTuple):
    """The tokens of a run of passes: of each the row of the trace and the sender, from ``offsets``
    int64[passes + 1] on; and which MoE layers run, ``active`` bool[passes, MoE layers].
    """

    rows: Any
    senders: Any
    offsets: Any
    active: Any


class Kept(NamedTuple):
    """Of the choices of a run of passes those that are kept, ``choices`` bool[tokens, MoE layers,
    k]; how many of each sender, int64[passes, MoE layers, senders], and of each holder of experts,
    int64[passes, MoE layers (or 1), holders]; how many are ``dropped`` int64[passes, MoE layers];
    and the gate ``weight`` of these, if the first to come are kept, and of all, int64[passes, MoE
    layers, 2].
    """

    choices: Any
    of_senders: Any
    of_holders: Any
    dropped: Any
    weight: Any


_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_IDS = types.Array(types.uint16, 3, "C", readonly=True)
_CHOSEN = types.boolean[:, :, ::1]
_TOKENS = record(Tokens, _FLAT, _FLAT, _FLAT, types.boolean[:, ::1])
_KEPT = record(Kept, _CHOSEN, _CUBE, _CUBE, _TABLE, _CUBE)


@inlined
def _forget(ids: Any, tokens: Any, layer: int, low: int, high: int, own: Any, count: Any) -> None:
    """Set what tokens low:high ``count`` int64[senders, homes] of a layer to 0."""
    for token in range(low, high):
        for k in range(ids.shape[2]):
            expert = ids[tokens.rows[token], layer, k]
            if expert != NO_EXPERT:
                count[tokens.senders[token], own[expert]] = 0


@inlined
def _keep_all(
    ids: Any, weights: Any, units: Any, tokens: Any, home: Any, holder_of_home: Any, kept: Any,
    step: int, layer: int,
) -> None:  # fmt: skip
    """As ``keep_choices``, of a pass whose tokens are no more than the capacity: as the experts of
    a token differ, no expert has more of them.
    """
    at, whole = layer if kept.of_holders.shape[1] > 1 else 0, 0
    first = tokens.offsets[0]
    for token in range(tokens.offsets[step] - first, tokens.offsets[step + 1] - first):
        row, number = tokens.rows[token], 0
        for k in range(ids.shape[2]):
            expert = ids[row, layer, k]
            if expert != NO_EXPERT:
                number += 1
                kept.choices[token, layer, k] = True
                kept.of_holders[step, at, holder_of_home[home[layer, expert]]] += 1
                whole += units[weights[row, layer, k]] if len(weights) > 0 else 0
        kept.of_senders[step, layer, tokens.senders[token]] += number
    kept.weight[step, layer, 1] = whole


@njit(types.void(_IDS, _IDS, _FLAT, _TOKENS, _TABLE, _FLAT, _FLAT, _KEPT), cache=True)
def keep_choices(
    ids: Any, weights: Any, units: Any, tokens: Any, home: Any, holder_of_home: Any, capacity: Any,
    kept: Any,
) -> None:  # fmt: skip
    """Fill in what is ``kept``: of each sender and expert the first ``capacity`` int64[passes], all
    first choices before all second ones, each in the order of the tokens.

    ``weights`` uint16[rows, MoE layers, k]: the trace's fp16 as they are, or without rows, and
    ``units`` int64[65536] what each is; ``home`` int64[MoE layers, experts].
    """
    rows, senders, offsets, active = tokens
    choices, of_senders, of_holders, dropped, weight = kept
    _, layers, top_k = ids.shape
    weighs, count = len(weights) > 0, np.zeros((of_senders.shape[2], len(holder_of_home)), np.int64)
    for step in range(len(offsets) - 1):
        low, high = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
        for layer in range(layers):
            if not active[step, layer]:
                continue
            if high - low <= capacity[step]:
                _keep_all(ids, weights, units, tokens, home, holder_of_home, kept, step, layer)
                continue
            at = layer if of_holders.shape[1] > 1 else 0
            drops = lost = whole = 0
            for k in range(top_k):
                for token in range(low, high):
                    expert = ids[rows[token], layer, k]
                    if expert == NO_EXPERT:
                        continue
                    sender, own = senders[token], home[layer, expert]
                    units_of = units[weights[rows[token], layer, k]] if weighs else 0
                    whole += units_of
                    count[sender, own] += 1
                    if count[sender, own] > capacity[step]:
                        drops += 1
                        lost += units_of
                        continue
                    choices[token, layer, k] = True
                    of_senders[step, layer, sender] += 1
                    of_holders[step, at, holder_of_home[own]] += 1
            dropped[step, layer], weight[step, layer, 0], weight[step, layer, 1] = (
                drops,
                lost,
                whole,
            )
            _forget(ids, tokens, layer, low, high, home[layer], count)


@njit(
    types.void(_IDS, _TOKENS, _CHOSEN, types.int64, _FLAT, types.boolean[:, ::1], _FLAT), cache=True
)
def count_hits(
    ids: Any, tokens: Any, choices: Any, layer: int, home: Any, hits: Any, found: Any
) -> None:
    """Add to ``found`` int64[passes] how many of the ``choices`` that are kept in ``layer`` are
    among the ``hits`` bool[passes, homes]; ``home`` int64[experts].
    """
    rows, _, offsets, _ = tokens
    for step in range(len(offsets) - 1):
        number = 0
        for token in range(offsets[step] - offsets[0], offsets[step + 1] - offsets[0]):
            for k in range(ids.shape[2]):
                if choices[token, layer, k]:
                    number += hits[step, home[ids[rows[token], layer, k]]]
        found[step] += number
