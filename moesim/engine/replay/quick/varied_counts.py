"""Counts of passes that have a row each, where experts have variants, and what became of their
choices: sums over rows whose lines are as wide as vector instructions take them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.quick.varied import HITS, MISSED, SKIPPED_ROWS, SKIPPED_WEIGHT, WEIGHT
from moesim.runtime.compiled import built_in, njit, record, types


class Chosen(NamedTuple):
    """The gate ``weights`` int64[rows, MoE layers, k] of choices, and what they were ``served`` as,
    uint8 likewise. Of all passes, ``active`` and ``misses`` as of ``VariedLaunches``, and the
    ``request`` of each.
    """

    weights: Any
    served: Any
    active: Any
    misses: Any
    request: Any


class Prices(NamedTuple):
    """The ``forms`` that are copies; what unpacking an expert takes, ``unpacking_ns``
    int64[variants, MoE layers], without rows where that is nothing; and as what nothing serves,
    ``out``, -1: all is served.
    """

    forms: Any
    unpacking_ns: Any
    out: Any


class Sums(NamedTuple):
    """What is added to: ``by_layer`` and ``by_request`` as a ``Ledger`` has them; ``counts`` as of
    ``Laid`` and ``rows`` int64[passes, layers, 1] that are executed; ``copies`` int64[copied forms,
    MoE layers], and what ``unpacking`` takes, int64[passes, 1]. In ``kept``
    uint16[fates, MoE layers x k] and ``kept_weights`` int64 likewise, zeros, a request's choices
    are added up by place of the row, of fates but the first one, of which weights are those of all.
    """

    by_layer: Any
    by_request: Any
    kept: Any
    kept_weights: Any
    counts: Any
    rows: Any
    copies: Any
    unpacking: Any


_INT, _FLAT, _TABLE, _CUBE = (
    types.int64, types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1],
)  # fmt: skip
_BYTES, _NUMBERS = types.uint8[:, :, ::1], types.uint16[:, ::1]
_CHOSEN = record(Chosen, _CUBE, _BYTES, _BYTES, _BYTES, _FLAT)
_PRICES = record(Prices, _FLAT, _TABLE, _INT)
_SUMS = record(
    Sums, _CUBE, _CUBE, _NUMBERS, _TABLE, types.int64[:, :, :, ::1], _CUBE, _TABLE, _TABLE
)


@built_in
def _add(sums: Any, layer: int, request: int, fate: int, number: int, weight: int) -> None:
    """Add a ``number`` of choices and their ``weight``."""
    sums.by_layer[0, layer, fate] += number
    sums.by_layer[1, layer, fate] += weight
    sums.by_request[0, request, fate] += number
    sums.by_request[1, request, fate] += weight


@built_in
def _add_kept(sums: Any, request: int, rows: int, top_k: int) -> None:
    """Add what is kept of so many ``rows`` of a ``request``, and keep nothing."""
    numbers, weights = sums.kept, sums.kept_weights
    for place in range(numbers.shape[1]):
        number, weight = rows, weights[0, place]
        for fate in range(len(numbers) - 1, -1, -1):
            if fate > 0:
                _add(
                    sums, place // top_k, request, fate, numbers[fate, place], weights[fate, place]
                )
                number, weight = number - numbers[fate, place], weight - weights[fate, place]
            else:
                _add(sums, place // top_k, request, fate, number, weight)
            numbers[fate, place] = weights[fate, place] = 0


@built_in
def _leave_out(sums: Any, step: int, served: Any, weights: Any, out: int) -> None:
    """Count the choices of a row, [MoE layers, k], that nothing serves, ``out``."""
    counts, apart = sums.counts, sums.counts.shape[2] > 1
    for layer in range(served.shape[0]):
        row = layer if apart else 0
        for i in range(served.shape[1]):
            if served[layer, i] == out:
                counts[HITS, step, row, 0] -= 1
                counts[MISSED + out, step, row, 0] += 1
                counts[SKIPPED_ROWS, step, row, 0] += 1
                counts[SKIPPED_WEIGHT, step, row, 0] += weights[layer, i]
                sums.rows[step, layer if sums.rows.shape[1] > 1 else 0, 0] -= 1


@built_in
def _add_fates(own: Any, fates: Any, most: int, sums: Any) -> None:
    """Add a row of which ``most`` is the last fate: its weights, ``own``, by place and fate."""
    places, whole = len(own), sums.kept_weights[0]
    for place in range(places):
        whole[place] += own[place]
    for fate in range(1, most + 1):
        numbers, weights = sums.kept[fate], sums.kept_weights[fate]
        for place in range(places):
            numbers[place] += fates[place] == fate
        for place in range(places):
            weights[place] += own[place] if fates[place] == fate else 0


@built_in
def _count_copies(chosen: Any, prices: Any, step: int, sums: Any) -> None:
    """Count what a row loads, and what is unpacked."""
    counts, apart, layers = sums.counts, sums.counts.shape[2] > 1, chosen.active.shape[2]
    for at in range(len(prices.forms)):
        misses, copies, form = chosen.misses[step, at], sums.copies[at], prices.forms[at]
        missed = 0
        for layer in range(layers):
            missed += int(np.int64(misses[layer]))
            copies[layer] += misses[layer]
        if not apart:
            counts[MISSED + form, step, 0, 0] += missed
            counts[HITS, step, 0, 0] -= missed
        for layer in range(layers if apart else 0):
            counts[MISSED + form, step, layer, 0] += misses[layer]
            counts[HITS, step, layer, 0] -= misses[layer]
    unpacking = 0
    for variant in range(len(prices.unpacking_ns)):
        active, each_ns = chosen.active[step, variant], prices.unpacking_ns[variant]
        for layer in range(layers):
            unpacking += active[layer] * each_ns[layer]
    sums.unpacking[step, 0] += unpacking


@built_in
def _weigh(own: Any, top_k: int, step: int, counts: Any) -> None:
    """Count the weights of a row."""
    whole, apart = 0, counts.shape[2] > 1
    for place in range(len(own)):
        whole += own[place]
    if not apart:
        counts[WEIGHT, step, 0, 0] += whole
    for place in range(len(own) if apart else 0):
        counts[WEIGHT, step, place // top_k, 0] += own[place]


@njit(types.void(_CHOSEN, _PRICES, _INT, _SUMS), cache=True, _nrt=False)
def count_rows(chosen: Any, prices: Any, first: int, sums: Any) -> None:
    """Count the rows that have weights, which are ``first`` and the next ones of all passes."""
    rows, layers, top_k = chosen.weights.shape
    places, request, begun = layers * top_k, chosen.request, 0
    for row in range(rows):
        step, most = first + row, 0
        own, fates = chosen.weights[row].reshape(places), chosen.served[row].reshape(places)
        if row > 0 and request[step] != request[step - 1]:
            _add_kept(sums, request[step - 1], row - begun, top_k)
            begun = row
        for place in range(places):
            most = max(most, fates[place])
        _add_fates(own, fates, most, sums)
        _count_copies(chosen, prices, step, sums)
        if prices.out >= 0:
            _weigh(own, top_k, step, sums.counts)
            if most >= prices.out:
                _leave_out(sums, step, chosen.served[row], chosen.weights[row], prices.out)
    if rows > 0:
        _add_kept(sums, request[first + rows - 1], rows - begun, top_k)
