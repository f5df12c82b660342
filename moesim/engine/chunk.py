"""What the clock plays of a run of forward passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.engine.ahead import Undecided
from moesim.engine.case import Ints
from moesim.engine.terms import Terms
from moesim.memory.activations import Activations, ActiveExperts


@dataclass(frozen=True, eq=False)
class Work:
    """One MoE layer on one GPU, for the passes of a chunk.

    ``activations`` as decided, ``rows`` int64[activations] of each; int64 which of them are
    ``on_gpu``, in waves, and which ``hosted``; ``loaded`` bool[activations]: those that take a
    slot, after a copy. ``step_waves`` int64[passes + 1] offsets into ``wave_ns``, ``read`` (experts
    whose weights a wave reads over the link) and ``read_ns`` (what that takes beyond its kernel);
    ``starts`` the first of ``on_gpu`` of each wave. Copies by pass: ``step_copies`` int64[passes +
    1] offsets into ``copy_wave`` (the wave that needs the copy), ``copy_wait`` (the wave for which
    it waits, else -1) and ``copied`` (the expert, numbered as in ``activations``). ``streamed``
    bool[passes]: the whole layer is copied ahead. ``step_hosted`` int64[passes + 1] offsets into
    ``hosted_ns`` (the host's experts); ``moved_ns`` int64[2, passes]: their rows down and up.
    ``counts`` int64[passes, COUNTED and forms] (``counts.py``).
    """

    active_experts: ActiveExperts
    activations: Activations
    rows: Ints
    on_gpu: Ints
    hosted: Ints
    loaded: NDArray[np.bool_]
    step_waves: Ints
    wave_ns: Ints
    read: Ints
    read_ns: Ints
    step_copies: Ints
    copy_wave: Ints
    copy_wait: Ints
    starts: Ints
    copied: Ints
    streamed: NDArray[np.bool_]
    step_hosted: Ints
    hosted_ns: Ints
    moved_ns: Ints
    counts: Ints


@dataclass(eq=False)
class Chunk:
    """Passes ``first:first + passes`` with everything the clock needs.

    ``terms`` of the passes; ``work`` by (MoE layer, GPU); ``dispatch``, ``combine``
    int64[passes] by MoE layer; ``dropped`` as the gating routed them; ``lost_weight`` int64[passes,
    MoE layers, 2] as ``drops`` gives it. ``undecided``: where the clock has to decide; then
    ``work`` is empty.
    """

    first: int
    passes: int
    terms: Terms
    work: dict[tuple[int, int], Work]
    dispatch: dict[int, Ints]
    combine: dict[int, Ints]
    dropped: Ints
    lost_weight: Ints
    undecided: Undecided | None = None
