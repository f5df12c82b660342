"""Prices of launches that follow from decisions, each different one asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moesim.engine.layer_work import LayerWork
from moesim.engine.layout import BLOCK_ROWS
from moesim.engine.pricing.prices import LOW, MULTIPLIER
from moesim.engine.pricing.ragged_launches import sums_of
from moesim.engine.replay.callback import ASK, Callback
from moesim.engine.replay.prefetch.arrays import HEAD, KIND, SHARE, Asked, Patterns
from moesim.engine.replay.prefetch.types import ASKED, PATTERNS, in_place, part
from moesim.engine.routing import tokens_of
from moesim.runtime.by_address import placed
from moesim.runtime.compiled import code_of, types

_FLAT = types.int64[::1]


@part(types.int64(PATTERNS, types.int64))
def _hash(known: Any, length: int) -> int:
    pattern, value = known.asked, length
    for i in range(length):
        value = ((value ^ pattern[i]) & LOW) * MULTIPLIER
        value ^= value >> 29
    return value


@part(types.int64(PATTERNS, types.int64))
def _look_up(known: Any, length: int) -> int:
    """The number of the pattern in ``asked``; -1 - its place in the table where it is not known."""
    table, starts, rows, asked = known.table, known.starts, known.rows, known.asked
    place = _hash(known, length) & (len(table) - 1)
    while table[place] > 0:
        number = table[place] - 1
        start, i = starts[number], 0
        if starts[number + 1] - start == length:
            while i < length and rows[start + i] == asked[i]:
                i += 1
            if i == length:
                return int(number)
        place = (place + 1) & (len(table) - 1)
    return int(-1 - place)


@part(types.int64(PATTERNS, types.int64, types.int64))
def _keep(known: Any, length: int, place: int) -> int:
    """Keep the pattern in ``asked`` at ``place`` of the table; its number."""
    number = known.filled[0]
    start = known.starts[number]
    for i in range(length):
        known.rows[start + i] = known.asked[i]
    known.starts[number + 1] = start + length
    known.filled[0] = known.table[place] = number + 1
    return int(number)


@part(types.int64(types.FunctionType(ASK), PATTERNS, types.int64))
def _number_of(ask: Any, known: Any, length: int) -> int:
    """The number of the pattern in ``asked``; ``ask`` for its price where it is not known."""
    number = _look_up(known, length)
    if number < 0:
        number = _keep(known, length, -1 - number)
        known.price[number] = ask(length)
    return int(number)


@part(types.int64(types.FunctionType(ASK), PATTERNS, types.int64, types.boolean))
def price_of(ask: Any, known: Any, length: int, single_row: bool) -> int:
    """The price of the pattern in ``asked``, which is counted; ``single_row``: all are 1."""
    if single_row:
        kind = known.asked[KIND]
        if known.single_row[kind, length] == 0:
            known.single_row[kind, length] = 1 + _number_of(ask, known, length)
        number = known.single_row[kind, length] - 1
    else:
        number = _number_of(ask, known, length)
    known.uses[number] += 1
    return int(known.price[number])


@in_place(types.void(PATTERNS, ASKED, _FLAT, _FLAT, types.boolean), cache=True)
def _keep_steps(known: Any, asked: Any, kinds: Any, slots: Any, pads: bool) -> None:
    """Keep, without prices, the patterns of all steps as if launches were as long as there are
    ``slots`` int64[works].
    """
    works = len(asked.base)
    gpus = works // len(kinds)
    for work in range(works):
        known.asked[KIND], known.asked[SHARE] = kinds[work // gpus], 0
        for step in range(asked.offsets.shape[1] - 1):
            low = asked.base[work] + asked.offsets[work, step]
            high = asked.base[work] + asked.offsets[work, step + 1]
            if len(asked.share) > 0 and low < high:
                known.asked[SHARE] = asked.share[low]
            while low < high:
                number = min(high - low, slots[work])
                for i in range(number):
                    rows = asked.rows[low + i]
                    known.asked[HEAD + i] = -(-rows // BLOCK_ROWS) * BLOCK_ROWS if pads else rows
                found = _look_up(known, HEAD + number)
                if found < 0:
                    _keep(known, HEAD + number, -1 - found)
                low += number


class LaunchPrices:
    """Prices of launches of a case's ``work``, for compiled code, from chunk to chunk."""

    def __init__(self, work: LayerWork) -> None:
        case, self.provenance = work.case, work.provenance
        self.case, self.launches = case, work.launches
        self.kinds = np.ascontiguousarray(work.variants.T).ravel()
        """By shelf."""
        self.specs = [one.spec for one in work.launches]
        most = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        self.asked = np.zeros(HEAD + most, np.int64)
        one_pool = case.policy.scope == "global"
        self.slots = np.where(one_pool, most, case.slots.T).ravel()
        self.ask = Callback(self._priced, ASK)

    def _priced(self, length: int) -> int:
        launches, share = self.launches[int(self.asked[KIND])], int(self.asked[SHARE])
        return launches.price(self.asked[HEAD:length].copy(), share)

    def expect(self, asked: Asked) -> Patterns:
        """Room for all patterns of a chunk, and prices of those that are likely, which are asked
        for at once.
        """
        steps, active = asked.offsets.shape[0] * (asked.offsets.shape[1] - 1), len(asked.rows)
        of_single_rows = len(self.specs), len(self.asked) + 1
        few = asked.rows.max(initial=0) <= 1 and self.case.kernels != "block_sparse"
        few &= len(asked.share) == 0
        if few:  # a pattern is a kind and a length
            steps, active = 0, of_single_rows[0] * of_single_rows[1] ** 2
        most = steps + 2 * active + 1
        price, uses = np.zeros((2, most), np.int64)
        known = Patterns(
            np.zeros(1 << (2 * most).bit_length(), np.int64), np.zeros(of_single_rows, np.int64),
            np.zeros(most + 1, np.int64), np.zeros(HEAD * most + 2 * active, np.int64), price, uses,
            np.zeros(1, np.int64), self.asked,
        )  # fmt: skip
        if not few and self.case.kernels != "serial" and self.case.flags.on_gpu.all():
            first, pads = self.kinds[: len(self.case.model.moe_layers)], self.case.kernels
            placed_in = placed(known, PATTERNS), placed(asked, ASKED)
            code_of(_keep_steps)(*placed_in, first, self.slots, pads == "block_sparse")
            for own, *shape in self._by_kind(known):
                known.price[own] = self.case.prices.experts_ns(*shape)
        return known

    def _by_kind(self, known: Patterns) -> Iterator[tuple[Any, ...]]:
        """Of each kind of layer, its patterns, and what their prices take."""
        starts = known.starts[: known.filled[0] + 1]
        heads, lengths = starts[:-1], np.diff(starts) - HEAD
        kind, share = known.rows[heads + KIND], known.rows[heads + SHARE]
        is_rows = np.ones(starts[-1], np.bool_)
        is_rows[heads + KIND] = is_rows[heads + SHARE] = False
        rows, kind_of_row = known.rows[: starts[-1]][is_rows], np.repeat(kind, lengths)
        for number in np.unique(kind).tolist():
            own = np.flatnonzero(kind == number)
            begins = np.cumsum(lengths[own]) - lengths[own]
            shape = rows[kind_of_row == number], begins
            told = [tokens_of(share[own], sums_of(*shape))] if share.any() else []
            yield own, self.specs[number], *shape, *told

    def settle(self, known: Patterns) -> None:
        """Count what the prices of a chunk rest on."""
        for own, *shape in self._by_kind(known):
            self.provenance.add("experts", known.price[own] * known.uses[own], *shape)
