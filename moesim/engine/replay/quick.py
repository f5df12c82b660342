"""The program of cases whose turns are decided, priced and counted in compiled code at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from moesim.engine.basis import Basis
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import Counts
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing import Pricing
from moesim.engine.replay.ahead import Ahead
from moesim.engine.replay.flat import LayerPrices, Played, prices_of, runs_of
from moesim.engine.replay.found import Finder, Needed
from moesim.engine.replay.held import RANKS, Held
from moesim.engine.replay.ones import OnesWaves
from moesim.engine.replay.turns import NEXT_USED, take_all_turns
from moesim.engine.routing import Routing
from moesim.engine.tabled import Tabled
from moesim.gating.dynamic import Dynamic
from moesim.memory.misses.load import Load

ACCESSES = 1 << 15
"""Accesses of a GPU that are decided at a time: what they make fits in a core's cache."""


Waves = tuple[Ints, Ints, Ints]
"""Where each (MoE layer, GPU) begins, offsets by pass, and prices."""
Copies = tuple[Ints, Ints, Ints, Ints]
"""Where each (MoE layer, GPU) begins, offsets by pass, and the waves that wait and are awaited."""


def is_quick(case: Case) -> bool:
    """Whether ``QuickProgram`` takes ``case``."""
    return (
        type(case.policy) in RANKS
        and case.policy.scope == "layer"
        and type(case.miss) is Load
        and type(case.gating) is Dynamic
        and case.kernels != "block_sparse"
        and not case.placement.has_replicas
        and not case.bypassed.any()
    )


class QuickProgram:
    """The chunks of a case, as ``program.Program`` makes them, in the clock's arrays.

    ``by_layer``: counts are kept by MoE layer, else added up.
    """

    def __init__(self, case: Case, *, by_layer: bool) -> None:
        self.case = replace(case, prices=Tabled(case.prices))
        self.routing = Routing(case)
        self.basis = Basis(self.case.prices)
        self.pricing = Pricing(self.case, self.routing.logical, self.basis)
        self.finder = Finder(case, self.routing, by_layer=by_layer)
        self.held = Held(case, self.routing)
        self.waves = OnesWaves(self.case)
        self.copies = np.zeros(self.finder.layers, np.int64)
        self.parts: list[tuple[Ints, ...]] = []
        self.ahead = self._look_back() if self.held.rank_of == NEXT_USED else None

    def chunks(self) -> Iterator[tuple[int, Played]]:
        """First pass, and what the clock plays."""
        for first, last in self.routing.pieces():
            priced = self._priced(first, last)
            prices = prices_of(self.case, priced)
            for low, high in self.finder.runs(first, last, ACCESSES * self.case.gpus):
                here = (low - first, high - first)
                head = np.ascontiguousarray(priced.head[slice(*here)])
                yield low, self._played(low, prices.between(*here), head)
        self._settle()

    def _look_back(self) -> Ahead:
        """Find all next uses, from the last pass to the first."""
        ahead = Ahead(self.finder.layers * self.case.gpus, self.finder.width)
        for piece in reversed(list(self.routing.pieces())):
            for low, high in reversed(list(self.finder.runs(*piece, ACCESSES * self.case.gpus))):
                found = self.finder.needs(low, high)
                ahead.look_back(low, found.offsets, found.experts)
        self.held.rank = -ahead.first_uses()
        self.held.open()
        return ahead

    def _priced(self, first: int, last: int) -> Chunk:
        """Passes first:last with all prices but those of experts, copies and collectives."""
        none, head = np.zeros(0, np.int64), self.pricing.head(first, last)
        chunk = Chunk(first, last - first, {}, {}, {}, {}, {}, head, {}, {}, {}, none, none, none)
        choices = self.finder.choices(first, last)
        self.pricing.price_layers(chunk, choices, np.zeros(choices.shape[:2], np.int64))
        return chunk

    def _played(self, first: int, prices: LayerPrices, head: Ints) -> Played:
        """The passes of ``head`` int64[passes, gpus], from ``first`` on."""
        passes, gpus = head.shape
        found = self.finder.needs(first, first + passes)
        phase = self.case.schedule.phase[first : first + passes]
        dispatch, combine = self._collectives(found.crossing, passes)
        nothing = np.empty((0, 0), np.int64)
        waves, copies, most_waves = self._decided(first, found)
        self.copies += copies[1][:, -1].reshape(-1, gpus).sum(axis=1)
        return Played(
            prices, runs_of(self.case, phase), phase, head, dispatch, combine,
            *waves, nothing.ravel(), *copies, nothing.astype(np.bool_), nothing, most_waves,
        )  # fmt: skip

    def _decided(self, first: int, found: Needed) -> tuple[Waves, Copies, int]:
        """Waves and copies of the needs ``found``, and the most waves of a step; counts them."""
        case, held, waves = self.case, self.held, self.waves
        offsets, needs, rows = found.offsets, found.experts, found.rows
        next_use = np.empty((len(offsets), 0), np.int64)
        if self.ahead is not None:
            next_use = self.ahead.next_uses(first, offsets, needs)
        step_waves, step_copies = np.empty_like(offsets), np.empty_like(offsets)
        bases = np.empty((2, len(offsets)), np.int64)
        lists = np.empty((6, int(offsets[:, -1].sum())), np.int64)
        wave_ns, copy_wave, copy_wait, odd_at, odd_starts, odd_rows = lists
        odd_ends = np.zeros((1 + len(waves.specs), 2), np.int64)
        counts = np.zeros((3, *found.executed.shape), np.int64)
        most_waves = take_all_turns(
            held.rank_of, case.kernels == "serial", case.order == "resident_first",
            case.software.overlap, waves.works, waves.kinds, case.gpus,
            offsets, needs, rows, next_use, waves.ones_ns, waves.ones,
            held.slots, held.local, held.resident, held.rank, held.open_rank,
            held.clock, step_waves, bases[0], wave_ns, step_copies, bases[1], copy_wave,
            copy_wait, odd_at, odd_starts, odd_rows, odd_ends, counts,
        )  # fmt: skip
        waves.price_odd(self.basis, wave_ns, odd_at, odd_starts, odd_rows, odd_ends)
        self.parts.append((found.executed, *counts))
        copies = (bases[1], step_copies, copy_wave, copy_wait)
        return (bases[0], step_waves, wave_ns), copies, most_waves

    def _collectives(self, crossing: Ints, passes: int) -> tuple[Ints, Ints]:
        """Dispatch and combine int64[MoE layers, passes]."""
        case, shape = self.case, (self.finder.layers, passes)
        if case.gpus == 1:
            none = np.zeros(shape, np.int64)
            return none, none
        matrix = crossing.reshape(-1, case.gpus, case.gpus)
        matrix = matrix * (case.model.hidden_size * case.model.activation_bytes)
        dispatch, combine = (
            self.basis.add("all_to_all", case.prices.all_to_all_ns(one), one).reshape(shape)
            for one in (matrix, matrix.transpose(0, 2, 1))
        )
        return dispatch, combine

    def _settle(self) -> None:
        """Count what the prices of ones, and of copies, rest on."""
        self.waves.settle(self.basis)
        work = LayerWork(self.case, self.routing, self.basis)
        for layer, number in zip(self.routing.moe_layers, self.copies.tolist(), strict=True):
            work.count_copies(layer, number)

    def total(self) -> Counts:
        """The counts of the whole run; what cannot be is 0."""
        rows, turns, hits, access_hits = map(np.concatenate, zip(*self.parts, strict=True))
        none = np.broadcast_to(np.int64(0), rows.shape)
        counted = dict.fromkeys(Counts.__dataclass_fields__, none)
        counted |= {"turns": turns, "hits": hits, "access_hits": access_hits}
        counted |= {"rows": rows, "kept_rows": rows, "dropped_choices": none[:, :, 0]}
        counted["lost_weight"] = np.broadcast_to(np.int64(0), (*rows.shape[:2], 2))
        return Counts(**counted)
