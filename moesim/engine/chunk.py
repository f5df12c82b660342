"""What the clock plays of a run of forward passes."""

from __future__ import annotations

from dataclasses import dataclass

from moesim.engine.case import Ints
from moesim.memory.residency import Needs, Turns


@dataclass(frozen=True, eq=False)
class Work:
    """One MoE layer on one GPU, for the passes of a chunk.

    ``turns`` as decided; ``step_waves`` int64[passes + 1] offsets into ``wave_ns``; copies by pass:
    ``step_copies`` int64[passes + 1] offsets into ``copy_wave`` (the wave that needs the copy) and
    ``copy_wait`` (the wave for which it waits, else -1). ``rows`` int64[turns]: rows of each turn;
    ``starts`` the first turn of each wave, ``missed`` the turn of each copy.
    """

    needs: Needs
    turns: Turns
    rows: Ints
    step_waves: Ints
    wave_ns: Ints
    step_copies: Ints
    copy_wave: Ints
    copy_wait: Ints
    starts: Ints
    missed: Ints


@dataclass(frozen=True, eq=False)
class Chunk:
    """Passes ``first:first + passes`` with everything the clock needs; int64[passes, gpus] prices.

    ``attention``, ``gate``, ``shared``, ``restore`` by model layer; ``work`` by (MoE layer, GPU);
    ``dispatch``, ``combine`` int64[passes] by MoE layer; ``kept`` and ``dropped`` as the gating
    routed them.
    """

    first: int
    passes: int
    attention: dict[int, Ints]
    gate: dict[int, Ints]
    shared: dict[int, Ints]
    restore: dict[int, Ints]
    head: Ints
    work: dict[tuple[int, int], Work]
    dispatch: dict[int, Ints]
    combine: dict[int, Ints]
    kept: Ints
    dropped: Ints
