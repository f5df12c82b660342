"""The passes of a case as ``Program`` decides them, in the clock's arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moesim.engine.case import Case
from moesim.engine.chunk import Chunk
from moesim.engine.counts import Counts
from moesim.engine.fates import Fates
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.flat import Played
from moesim.engine.replay.padded_program import program_of
from moesim.engine.replay.shared_links import played_over
from moesim.engine.tally import Keep, Tally


class CommonProgram:
    """As ``QuickProgram``, of any case without prefetches."""

    masks = None

    def __init__(self, case: Case, keep: Keep) -> None:
        self.case, self.tally = case, Tally(case, keep)
        self.program = program_of(case, by_layer=keep.by_layer)

    @property
    def pricing(self) -> Pricing:
        """What prices the terms of passes."""
        return self.program.pricing

    @property
    def provenance(self) -> Provenance:
        """What prices rest on."""
        return self.program.provenance

    @property
    def fates(self) -> Fates | None:
        """What became of choices, where that is told."""
        return self.program.fates

    def stays(self, first: int, last: int) -> int:
        """Up to which pass, ``last`` at most, experts stay where they are in pass ``first``."""
        rebalancing = self.program.rebalancing
        return last if rebalancing is None else rebalancing.stays(first, last)

    @property
    def rebalanced(self) -> tuple[int, int, int]:
        """How often experts got other places, and the bytes that moved."""
        return self.program.rebalanced

    def chunks(self) -> Iterator[tuple[int, Played]]:
        """First pass, and what the clock plays."""
        yield from map(self._played, self.program.chunks())
        self.end()

    def between(self, first: int, last: int) -> Iterator[tuple[int, Played]]:
        """Those of passes first:last, the next ones."""
        return map(self._played, self.program.between(first, last))

    def _played(self, chunk: Chunk) -> tuple[int, Played]:
        self.tally.add(chunk)
        return chunk.first, played_over(self.case, chunk)

    def end(self) -> None:
        """All passes have come."""
        self.program.settle()

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to: see ``Program``."""
        return self.tally.mark(), self.program.mark()

    def back(self, mark: tuple[Any, ...]) -> None:
        """What came since then is not played, and comes again."""
        self.tally.back(mark[0])
        self.program.back(mark[1])

    def total(self) -> Counts:
        """The counts of the whole run."""
        return self.tally.total()
