"""Collects what happened, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import MISSED, Counts, counted_names


@dataclass(eq=False)
class Tally:
    """Collects the counts chunk by chunk."""

    case: Case
    parts: list[Counts] = field(default_factory=list)

    def add(self, chunk: Chunk) -> Ints:
        """Count ``chunk``; returns the table of its counts, where those of works that are decided
        on the clock are to be filled in.
        """
        case, forms = self.case, self.case.miss.forms
        shape = (chunk.passes, len(case.model.moe_layers), case.gpus, MISSED + len(forms))
        table = np.zeros(shape, np.int64)
        for (layer, gpu), work in chunk.work.items():
            table[:, layer, gpu] = work.counts
        self.parts.append(Counts.of(table, forms, chunk.dropped, chunk.lost_weight))
        return table

    def total(self) -> Counts:
        """The counts of the whole run."""
        counted = {
            name: np.concatenate([getattr(part, name) for part in self.parts])
            for name in counted_names()
        }
        return Counts(**counted, forms=self.case.miss.forms)
