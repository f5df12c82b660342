"""Cases with prefetches: decisions and clock played together, chunk by chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import Counts, Tally
from moesim.engine.program import Program
from moesim.engine.replay.callback import DRAW, Callback
from moesim.engine.replay.flat import Fixed, Mask, priced_of, runs_of
from moesim.engine.replay.prefetch_arrays import COUNTED, MISSED
from moesim.engine.replay.prefetch_beside import BesidePrices
from moesim.engine.replay.prefetch_clock import play_ahead
from moesim.engine.replay.prefetch_prices import WavePrices
from moesim.engine.replay.prefetch_tables import (
    asked_of,
    choices_of,
    pools_of,
    predicted_of,
    queue_of,
    scratch_of,
    with_draws,
)
from moesim.memory.residency import decide_of, first_of


class Prefetching:
    """The state of a case with prefetches, carried from chunk to chunk."""

    def __init__(self, case: Case, fixed: Fixed) -> None:
        self.program, self.fixed = Program(case), fixed
        self.case, self.tally = self.program.case, Tally(case)
        policy = type(case.policy)
        self.functions = (decide_of(policy, type(case.miss)), first_of(policy))
        self.local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
        self.choices, self.queue = choices_of(case), queue_of(case)
        self.pools = pools_of(case, self.program.residencies)
        pool = self.pools.resident.shape[1]
        self.scratch = scratch_of(int(self.local.max()), pool, case.miss.flags)
        self.waves = WavePrices(self.case, self.program.provenance)
        self.beside = BesidePrices(self.case, self.program.provenance, self.waves)
        caches = list(self.program.residencies.caches.values())

        def draw(pool: int) -> float:
            generator = caches[pool].prefetch_draws
            assert generator is not None, "the policy draws"
            return float(generator.random())

        self.draw = Callback(draw, DRAW)
        self.loads = np.zeros(len(case.model.moe_layers), np.int64)

    def runs(self, chunk: Chunk) -> Mask:
        """Which layers each pass of ``chunk`` runs."""
        return runs_of(self.case, self._phase(chunk))

    def _phase(self, chunk: Chunk) -> NDArray[np.uint8]:
        phase = self.case.schedule.phase[chunk.first : chunk.first + chunk.passes]
        return np.ascontiguousarray(phase)

    def play(
        self, chunk: Chunk, state: Ints, starts: Ints, ends: Ints, charges: Ints, records: Ints
    ) -> None:
        """Play ``chunk``, and fill in the rest as ``clock.play`` does."""
        case, layers = self.case, len(self.case.model.moe_layers)
        assert chunk.undecided is not None, "what is decided beforehand needs no clock"
        self.pools = with_draws(self.pools, self.program.residencies)
        asked = asked_of(case, chunk)
        known = self.waves.expect(asked)
        beside = self.beside.of(asked)
        plan, stage_ns, head, of_terms = priced_of(case, chunk.terms, self._phase(chunk))
        counted = MISSED + len(case.miss.forms)
        counts = np.zeros((chunk.passes, layers, case.gpus, counted), np.int64)
        given: list[Any] = [
            *self.functions, self.waves.ask, self.draw,
            self.choices, self.pools, self.queue, asked,
            predicted_of(case, chunk.undecided.predictions), known, beside,
            *self.scratch, self.local, chunk.first,
            self.fixed.fixed, plan, self.fixed.of_layer, self.fixed.launches, self.runs(chunk),
            self._phase(chunk), stage_ns, head, self._collective(chunk, chunk.dispatch),
            self._collective(chunk, chunk.combine), state, starts, ends, charges,
            records, counts,
        ]  # fmt: skip
        play_ahead(*given)
        charges += of_terms
        self.waves.ask.check()
        self.draw.check()
        self.waves.settle(known)
        self.beside.settle(beside)
        self._count(chunk, counts)

    def _collective(self, chunk: Chunk, prices: dict[int, Ints]) -> Ints:
        shape = (len(self.case.model.moe_layers), chunk.passes)
        return (
            np.stack([prices[layer] for layer in sorted(prices)])
            if prices
            else np.zeros(shape, np.int64)
        )

    def _count(self, chunk: Chunk, counts: Ints) -> None:
        self.tally.add(chunk)
        part = self.tally.parts[-1]
        for place, name in enumerate(COUNTED):
            getattr(part, name)[:] = counts[..., place]
        part.missed[:] = counts[..., MISSED:]

    def total(self) -> Counts:
        """The counts of the whole run; counts what prices rest on."""
        counts = self.tally.total()
        work = self.program.work
        runs: Mask = np.any(runs_of(self.case, self.case.schedule.phase), axis=0)
        copies = counts.copies.sum(axis=(0, 2)).tolist()
        for layer, number in zip(self.case.model.moe_layers, copies, strict=True):
            if runs[layer.index]:
                work.count_copies(layer, number)
        return counts
