"""Cases with prefetches: decisions and clock played together, chunk by chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import STORAGE_READS, Counts
from moesim.engine.pricing.passes import Pricing
from moesim.engine.replay.callback import ASK, DRAW, Callback
from moesim.engine.replay.clock.paced import NO_PACE, Pace
from moesim.engine.replay.clock.records import (
    Filled,
    Fixed,
    Gpus,
    Passes,
    StorageReads,
    Works,
)
from moesim.engine.replay.flat import NO_READS, NO_ROWS, NONE, NONE_STREAMED, priced_of
from moesim.engine.replay.padded_program import program_of
from moesim.engine.replay.prefetch.arrays import Undecided
from moesim.engine.replay.prefetch.beside import BesidePrices
from moesim.engine.replay.prefetch.clock import play_deciding
from moesim.engine.replay.prefetch.prices import LaunchPrices
from moesim.engine.replay.prefetch.stored import hosts_of, stored_of, with_host_draws
from moesim.engine.replay.prefetch.tables import (
    asked_of,
    choices_of,
    deciding_of,
    pools_of,
    predicted_of,
    queue_of,
    scratch_of,
    variants_of,
    with_draws,
)
from moesim.engine.replay.prefetch.types import UNDECIDED
from moesim.engine.tally import Keep, Tally
from moesim.memory.slots.open_slots import decide_open_of, start_request
from moesim.memory.slots.residency import first_of
from moesim.runtime.by_address import placed
from moesim.runtime.compiled import code_of


class Prefetching:
    """The state of a case with prefetches, carried from chunk to chunk."""

    masks = None
    """As of ``CommonProgram``."""

    def __init__(self, case: Case, keep: Keep) -> None:
        self.program = program_of(case, by_layer=keep.by_layer or case.gpus > 1)
        self.case, self.tally = self.program.case, Tally(case, keep)
        policy = type(case.policy)
        decides = decide_open_of(policy, type(case.miss), variants=case.variants is not None)
        self.functions = (decides, first_of(policy))
        self.decide = code_of(play_deciding)
        self.local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
        self.choices, self.queue = choices_of(case), queue_of(self.program)
        self.pools = pools_of(case, self.program.residencies)
        self.deciding = deciding_of(case, self.program.residencies)
        self.scratch = scratch_of(case, self.deciding.slots.slot_of.shape[1])
        decided = self.scratch[1]
        self.hosts = hosts_of(self.program)
        self.stored = stored_of(self.program, decides, self.deciding)
        reads = NO_READS
        if self.hosts:
            one = np.full((1, 1), -1, np.int64)
            reads = StorageReads(one, decided.copy_there, decided.stored, one.copy(), *[NONE] * 4)
        self.works = Works(
            NONE, NO_ROWS, decided.kernel_ns, decided.read_ns, decided.there, NONE, NO_ROWS,
            decided.copy_launch, decided.copy_wait, decided.copy_issued,
            NONE if case.variants is None else decided.copy_ns, NONE_STREAMED, NO_ROWS, NO_ROWS,
            reads,
        )  # fmt: skip
        self.variants = variants_of(self.program)
        self.most_launches = len(decided.kernel_ns)
        self.launches = LaunchPrices(self.program.work)
        self.beside = BesidePrices(self.case, self.program.provenance, self.launches)
        self.caches = list(self.program.residencies.caches.values())

        def draw(pool: int) -> float:
            generator = self.caches[pool].prefetch_draws
            assert generator is not None, "the policy draws"
            return float(generator.random())

        def restart(step: int) -> int:
            start_request(case.policy, self.deciding.slots, self.caches, step)
            return 0

        self.draw, self.restart = Callback(draw, DRAW), Callback(restart, ASK)
        self.loads = np.zeros(len(case.model.moe_layers), np.int64)

    def passes(self, chunk: Chunk) -> tuple[Passes, Ints]:
        """The passes of ``chunk``, and what their terms are charged to."""
        phase = self.case.schedule.phase[chunk.first : chunk.first + chunk.passes]
        priced = priced_of(self.case, chunk.terms, phase)
        exchanges = [self._collective(chunk, way) for way in (chunk.dispatch, chunk.combine)]
        return priced.passes(phase, *exchanges), priced.charges

    @property
    def pricing(self) -> Pricing:
        """What prices the terms of passes."""
        return self.program.pricing

    def end(self) -> None:
        """All passes have come."""

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to: see ``Program``."""
        draws = [one.prefetch_draws for one in self.caches if one.prefetch_draws is not None]
        drawn = [one.bit_generator.state for one in draws]
        changed = self.deciding.slots, self.queue, self.stored
        return self.tally.mark(), self.program.mark(), drawn, *map(_copied, changed)

    def back(self, mark: tuple[Any, ...]) -> None:
        """What came since then is not played, and comes again."""
        tallied, programmed, drawn, slots, self.queue, self.stored = mark
        self.tally.back(tallied)
        self.program.back(programmed)
        draws = [one.prefetch_draws for one in self.caches if one.prefetch_draws is not None]
        for generator, state in zip(draws, drawn, strict=True):
            generator.bit_generator.state = state
        self.deciding = self.deciding._replace(slots=slots)

    def play(
        self, chunk: Chunk, passes: Passes, fixed: Fixed, gpus: Gpus, filled: Filled,
        paced: tuple[Pace, int, int] = (NO_PACE, -1, 0),
    ) -> None:  # fmt: skip
        """Play ``chunk``, and fill in ``filled``; ``paced`` as in ``Undecided``."""
        case = self.case
        assert chunk.undecided is not None, "what is decided beforehand needs no clock"
        draws = [cache.draws for cache in self.caches]
        self.deciding = self.deciding._replace(slots=with_draws(self.deciding.slots, draws))
        beside = self.beside.of(chunk.undecided.active.values())
        asked, deciding = asked_of(case, chunk, self.deciding, beside.moved_ns)
        patterns = self.launches.expect(asked)
        table = self.tally.add(chunk)
        rest = np.zeros((len(case.model.moe_layers), *table.shape[2:]), np.int64)
        predicted = predicted_of(case, chunk.undecided.predictions)
        self.stored = with_host_draws(self.stored, self.hosts, case, asked, predicted)
        undecided = Undecided(
            self.launches.ask, self.draw, self.restart, chunk.undecided.restarts, self.choices,
            deciding, self.pools, self.queue, asked, predicted, patterns, beside, *self.scratch,
            self.stored, self.variants._replace(served=chunk.undecided.served), self.local,
            chunk.first, table, rest, *paced,
        )  # fmt: skip
        given = fixed, passes, self.works, gpus, filled, placed(undecided, UNDECIDED)
        self.decide(*given, *self.functions)
        self.launches.ask.check()
        self.draw.check()
        self.restart.check()
        self.launches.settle(patterns)
        self.beside.settle(beside)
        self._count_copies(rest)

    def _collective(self, chunk: Chunk, prices: dict[int, Ints]) -> Ints:
        shape = (len(self.case.model.moe_layers), chunk.passes)
        return (
            np.stack([prices[layer] for layer in sorted(prices)])
            if prices
            else np.zeros(shape, np.int64)
        )

    def _count_copies(self, rest: Ints) -> None:
        """Count what the prices of a chunk's copies rest on, from counts of all its passes
        int64[MoE layers, gpus, columns].
        """
        none = np.zeros(0, np.int64)
        counts = Counts.of(rest[None], self.case.forms, none, none)
        copies = counts.copies.sum(axis=(0, 2))[:, None]
        if self.case.variants is not None:
            copies = counts.missed.sum(axis=(0, 2))
            copies[:, : self.variants.number] += counts.prefetched_as.sum(axis=(0, 2))
        for layer, numbers in enumerate(copies.tolist()):
            self.program.work.count_copies(layer, numbers)
        if self.program.storage is not None:
            self.program.storage.reads[:, 0] += rest[..., STORAGE_READS].sum(axis=1)


def _copied(record: Any) -> Any:
    """``record`` with arrays of its own, in the records within it, too."""
    own = {
        name: one.copy() if isinstance(one, np.ndarray) else _copied(one)
        for name, one in record._asdict().items()
        if isinstance(one, np.ndarray | tuple)
    }
    return record._replace(**own)
