"""What happened, counted: independent of the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk


@dataclass(eq=False)
class Counts:
    """By pass, MoE layer and GPU: int64[passes, layers, gpus]; ``*_choices`` int64[passes, layers].

    ``turns`` are distinct experts executed, ``rows`` rows executed with padding, ``kept_rows``
    without; ``access_hits`` kept rows whose expert was a hit; ``dropped_choices`` choices beyond a
    capacity.
    """

    turns: Ints
    hits: Ints
    rows: Ints
    kept_rows: Ints
    access_hits: Ints
    dropped_choices: Ints

    @property
    def misses(self) -> Ints:
        """Turns that had to load their expert."""
        return self.turns - self.hits


@dataclass(eq=False)
class Tally:
    """Collects the counts chunk by chunk."""

    case: Case
    parts: list[Counts] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Count ``chunk``."""
        layers = len(self.case.model.moe_layers)
        shape = (chunk.passes, layers, self.case.gpus)
        turns, hits, rows, kept_rows, access_hits = (np.zeros(shape, np.int64) for _ in range(5))
        counts = Counts(
            turns=turns,
            hits=hits,
            rows=rows,
            kept_rows=kept_rows,
            access_hits=access_hits,
            dropped_choices=chunk.dropped,
        )
        kept = chunk.kept.sum(axis=2)
        for (layer, gpu), work in chunk.work.items():
            step = np.repeat(np.arange(chunk.passes), np.diff(work.needs.offsets))
            expert = self.case.local_experts(gpu)[work.turns.expert]
            used = kept[step, layer, expert]
            for total, values in (
                (turns, np.ones_like(step)),
                (hits, work.turns.hit),
                (rows, work.rows),
                (kept_rows, used),
                (access_hits, used * work.turns.hit),
            ):
                total[:, layer, gpu] = np.bincount(step, values, chunk.passes).astype(np.int64)
        self.parts.append(counts)

    def total(self) -> Counts:
        """The counts of the whole run."""
        names = Counts.__dataclass_fields__
        return Counts(*(np.concatenate([getattr(p, name) for p in self.parts]) for name in names))
