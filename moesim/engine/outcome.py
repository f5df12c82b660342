"""What an engine hands to the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from moesim.config.errors import InputError
from moesim.engine.case import Case, Floats, Ints
from moesim.engine.counts import Counts, Loads
from moesim.engine.fates import Fates
from moesim.hardware.charge import CHARGES
from moesim.workload.schedule import Schedule

TOO_LONG = (
    "the run takes more than 292 years, which is more than a clock of nanoseconds holds; is the"
    " unit of a rate in the hardware or software profile right?"
)


class Span(NamedTuple):
    """One job of an ``engine`` of a GPU, or a part of its time.

    The spans of ``compute`` follow one another without a gap: each is what the GPU's time was
    charged to (``category``). Those of ``communication`` (collectives), ``copy_in``
    (experts), ``read`` (weights that kernels read over the link), ``host`` (what launches), ``cpu``
    (experts, or rows on the link of groups of units), ``rows_out`` and ``rows_in`` (of these) run
    beside them, each engine one thing at a time. ``layer`` of the model, -1 without one;
    ``experts`` with commas between, "" where it names none; ``bytes`` of weights moved.
    """

    gpu: int
    engine: str
    name: str
    category: str
    start_ns: int
    end_ns: int
    step: int
    layer: int
    experts: str = ""
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """One run on the clock.

    ``starts``, ``ends`` int64[passes, gpus]; ``charges`` int64[passes, gpus, categories];
    ``layers`` int64[n, 7]: step, MoE layer, gpu, start, end, stall, barrier (where they were kept);
    ``spans`` where they were kept, and ``held``: (GPU, time, its experts in slots from then on),
    when that changes, but for a policy with buffers; ``seconds`` of the engine alone;
    ``provenance``: by charge and kind of operation, priced nanoseconds by source
    (``hardware.provenance.Source``).
    ``schedule``: the passes that were played; ``fates`` where a case ``tells_fates``;
    ``rebalanced``: how often experts got other places, the bytes that moved, and how long that took
    beside passes, ns summed over GPUs. ``cuts`` int64[n],
    ascending from 0: ``charges`` and ``counts`` have a row for what is from one of these passes to
    the next; None: one for each pass.
    """

    engine: str
    counts: Counts
    starts: Ints
    ends: Ints
    charges: Ints
    layers: Ints
    schedule: Schedule
    spans: list[Span] = field(default_factory=list)
    held: list[tuple[int, int, int]] = field(default_factory=list)
    seconds: float = 0.0
    copies: int = 0
    checks: dict[str, float] = field(default_factory=dict)
    provenance: dict[tuple[str, str], Floats] = field(default_factory=dict)
    categories: tuple[str, ...] = CHARGES
    fates: Fates | None = None
    rebalanced: tuple[int, int, int] = (0, 0, 0)
    cuts: Ints | None = None

    def __post_init__(self) -> None:
        """Refuse a clock that has run beyond what its numbers hold."""
        if (self.starts < 0).any() or (self.ends < self.starts).any():
            raise InputError(TOO_LONG)

    @property
    def duration_ns(self) -> int:
        """End of the last combine and head."""
        return int(self.ends.max())

    def row(self, step: Any) -> Any:
        """The row of ``charges`` and ``counts`` that begins with pass ``step``, or each of them:
        of several, cuts, or the end of the run.
        """
        return step if self.cuts is None else np.searchsorted(self.cuts, step)

    def largest_copy(self, case: Case) -> Ints:
        """As ``Counts`` has it, of every pass."""
        counts = self.counts
        if counts.apart is None:
            return counts.largest_copy(case)
        return np.where(counts.apart.copied, counts.expert_bytes(case)[:, None], 0)

    @cached_property
    def loads(self) -> Loads:
        """How the rows of every pass and MoE layer are shared among the GPUs."""
        apart = self.counts.apart
        return Loads.of(self.counts.rows) if apart is None else apart.loads
