"""Collects what happened, chunk by chunk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import (
    MISSED,
    ROWS,
    Counts,
    OfPasses,
    columns_of,
    together,
)
from moesim.engine.folded import Folded


class Keep(NamedTuple):
    """What is told apart: counts ``by_layer``, by MoE layer, else their sums, but for the rows of
    several GPUs; passes, or what is between the ``cuts`` of ``Outcome``.
    """

    by_layer: bool = True
    cuts: Ints | None = None


ALL = Keep()


class Tally:
    """Collects the counts of ``case`` chunk by chunk."""

    def __init__(self, case: Case, keep: Keep = ALL) -> None:
        self.case, self.keep = case, keep
        self._table, self._rows, self._dropped, self._lost = (Folded(keep.cuts) for _ in range(4))
        self._marked: Folded | None = None
        self._apart = OfPasses() if keep.cuts is not None else None
        self._open: tuple[Ints, Ints, Chunk] | None = None
        self._columns = columns_of(case)

    def add(self, chunk: Chunk) -> Ints:
        """Count ``chunk``; returns the table of its counts, where those of works that are decided
        on the clock are to be filled in before the next one.
        """
        case = self.case
        self._fold()
        layers, table = len(case.model.moe_layers), chunk.counts
        rows = table[..., ROWS]
        if rows.shape[1] < layers and case.gpus > 1:
            rows = np.empty((chunk.passes, layers, case.gpus), np.int64)
            for (layer, gpu), work in chunk.work.items():
                rows[:, layer, gpu] = work.laid.all_rows
        self._open = (table, rows, chunk)
        return table

    def mark(self) -> list[int | None]:
        """What ``back`` goes back to, where each pass is kept."""
        self._fold()
        return [None if one is None else one.mark() for one in self._every]

    def back(self, mark: list[int | None]) -> None:
        """Forget what came since then."""
        self._open = None
        if mark[-1] is None:
            self._marked = None
        for one, since in zip(self._every, mark, strict=True):
            if one is not None and since is not None:
                one.back(since)

    @property
    def _every(self) -> list[Folded | None]:
        return [self._table, self._dropped, self._lost, self._rows, self._marked]

    def total(self) -> Counts:
        """The counts of the whole run."""
        self._fold()
        dropped, lost, forms = self._dropped.values, self._lost.values, self.case.forms
        counts = Counts.of(self._table.values, forms, dropped, lost, self._columns)
        counts.rows = self._rows.values
        counts.marked = None if self._marked is None else self._marked.values
        counts.apart = None if self._apart is None else self._apart.total()
        return counts

    def _fold(self) -> None:
        """Add up the layers of the last chunk, which is over."""
        if self._open is None:
            return
        (table, rows, chunk), self._open = self._open, None
        parts = [table, chunk.dropped, chunk.lost_weight]
        if not self.keep.by_layer:
            parts = [together(part) for part in parts]
        summed, dropped, lost = parts
        if self._apart is not None:
            copies = Counts.of(summed, self.case.forms, dropped, lost).copies
            self._apart.add(rows if self.case.gpus > 1 else summed[..., ROWS], copies > 0)
        if self.case.gpus == 1 or self._apart is not None:
            rows = summed[..., ROWS]
        if chunk.marked is not None:
            self._marked = self._marked or Folded(self.keep.cuts)
            self._marked.add(chunk.marked if self.keep.by_layer else together(chunk.marked))
        table = summed[..., [*self._columns, *range(MISSED, summed.shape[-1])]]
        every = (self._table, self._dropped, self._lost, self._rows)
        for folded, values in zip(every, (table, dropped, lost, rows.copy()), strict=True):
            folded.add(values)
