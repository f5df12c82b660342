"""Collects what happened, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import MISSED, ROWS, Counts


@dataclass(eq=False)
class Tally:
    """Collects the counts chunk by chunk; ``by_layer``: by MoE layer, else their sums, but for the
    rows of several GPUs.
    """

    case: Case
    by_layer: bool = True
    _tables: list[Ints] = field(default_factory=list)
    _rows: list[Ints] = field(default_factory=list)
    _routed: list[tuple[Ints, Ints]] = field(default_factory=list)

    def add(self, chunk: Chunk) -> Ints:
        """Count ``chunk``; returns the table of its counts, where those of works that are decided
        on the clock are to be filled in before the next one.
        """
        case = self.case
        self._fold()
        shape = (chunk.passes, len(case.model.moe_layers), case.gpus)
        table = np.zeros((*shape, MISSED + len(case.forms)), np.int64)
        for (layer, gpu), work in chunk.work.items():
            table[:, layer, gpu] = work.laid.counts
        self._tables.append(table)
        self._routed.append((chunk.dropped, chunk.lost_weight))
        return table

    def total(self) -> Counts:
        """The counts of the whole run."""
        self._fold()
        dropped, lost_weight = (np.concatenate(one) for one in zip(*self._routed, strict=True))
        table = np.concatenate(self._tables)
        counts = Counts.of(table, self.case.forms, dropped, lost_weight)
        counts.rows = np.concatenate(self._rows)
        return counts

    def _fold(self) -> None:
        """Add up the layers of the last chunk, which is over."""
        if len(self._rows) == len(self._tables):
            return
        table = self._tables[-1]
        self._rows.append(table[..., ROWS])
        if not self.by_layer:
            self._tables[-1] = _together(table)
            self._rows[-1] = (
                table[..., ROWS].copy() if self.case.gpus > 1 else _together(table[..., ROWS])
            )
            dropped, lost_weight = self._routed[-1]
            self._routed[-1] = _together(dropped), _together(lost_weight)


def _together(values: Ints) -> Ints:
    """The sum of all layers, as one."""
    together: Ints = values.sum(axis=1, keepdims=True)
    return together
