"""What happened, counted: independent of the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.memory.misses.base import ON_HOST, OVER_LINK


@dataclass(eq=False)
class Counts:
    """By pass, MoE layer and GPU: int64[passes, layers, gpus]; ``*_choices`` int64[passes, layers].

    ``turns`` are distinct experts executed, ``host_turns`` and ``zero_copy_turns`` those of them
    that missed without a load; ``unneeded`` experts copied with their layer; ``rows`` rows executed
    with padding, ``kept_rows`` without; ``access_hits`` kept rows whose expert was a hit;
    ``dropped_choices`` choices beyond a capacity.
    """

    turns: Ints
    hits: Ints
    rows: Ints
    kept_rows: Ints
    access_hits: Ints
    host_turns: Ints
    zero_copy_turns: Ints
    unneeded: Ints
    dropped_choices: Ints

    @property
    def misses(self) -> Ints:
        """Turns whose expert was not resident."""
        return self.turns - self.hits

    @property
    def copies(self) -> Ints:
        """Experts that were copied."""
        return self.misses - self.host_turns - self.zero_copy_turns + self.unneeded

    @property
    def read(self) -> Ints:
        """Experts whose weights came over the link, into a slot or into a kernel."""
        return self.misses - self.host_turns + self.unneeded


@dataclass(eq=False)
class Tally:
    """Collects the counts chunk by chunk."""

    case: Case
    parts: list[Counts] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Count ``chunk``."""
        layers = len(self.case.model.moe_layers)
        shape = (chunk.passes, layers, self.case.gpus)
        names = [name for name in Counts.__dataclass_fields__ if name != "dropped_choices"]
        parts = {name: np.zeros(shape, np.int64) for name in names}
        kept = chunk.kept.sum(axis=2)
        for (layer, gpu), work in chunk.work.items():
            step = np.repeat(np.arange(chunk.passes), np.diff(work.needs.offsets))
            expert = self.case.local_experts(gpu)[work.turns.expert]
            used = kept[step, layer, expert]
            values = {
                "turns": np.ones_like(step),
                "hits": work.turns.hit,
                "rows": work.rows,
                "kept_rows": used,
                "access_hits": used * work.turns.hit,
                "host_turns": work.turns.place == ON_HOST,
                "zero_copy_turns": work.turns.place == OVER_LINK,
            }
            needed = np.diff(work.needs.offsets)
            local = len(self.case.local_experts(gpu))
            parts["unneeded"][:, layer, gpu] = np.where(work.streamed, local - needed, 0)
            for name, value in values.items():
                counted = np.bincount(step, value, chunk.passes)
                parts[name][:, layer, gpu] = counted.astype(np.int64)
        self.parts.append(Counts(**parts, dropped_choices=chunk.dropped))

    def total(self) -> Counts:
        """The counts of the whole run."""
        names = Counts.__dataclass_fields__
        return Counts(*(np.concatenate([getattr(p, name) for p in self.parts]) for name in names))
