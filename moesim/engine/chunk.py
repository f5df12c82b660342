"""What the clock plays of a run of forward passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.layout import Layout
from moesim.engine.prefetch import Undecided
from moesim.engine.pricing.terms import Terms
from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.host.host_cache import Reads
from moesim.placement.mapping import Placement

NONE = np.empty(0, np.int64)


class Beside(NamedTuple):
    """Experts that move beside a pass: for ``ns`` from when it has begun on all GPUs. ``until``
    int64[gpus]: what each does before the first all-reduce of those that share its attention,
    NEVER where it has none.
    """

    ns: int
    until: Ints


@dataclass(frozen=True, eq=False)
class Work:
    """One MoE layer on one GPU, for the passes of a chunk.

    ``activations`` as decided, and how they are ``laid`` out. ``kernel_ns`` and ``read_ns`` by
    launch: its kernel, and what reading experts' weights over the link takes beyond it.
    ``hosted_ns`` by expert of the host; ``moved_ns`` int64[2, passes]: their rows down, with the
    host's start, and up. ``streamed`` bool[passes]: the whole layer is copied ahead. ``reads``
    from storage, None where host memory holds all experts. ``copy_ns`` by copy and ``copied``, the
    variant that it brings; nothing where there is one. ``evicted`` int64[passes]: in a pool by
    bytes, how many experts made room; None elsewhere, where each victim does for one.
    """

    active_experts: ActiveExperts
    activations: Activations
    laid: Layout
    kernel_ns: Ints
    read_ns: Ints
    hosted_ns: Ints
    moved_ns: Ints
    streamed: NDArray[np.bool_]
    reads: Reads | None = None
    copy_ns: Ints = field(default_factory=lambda: NONE)
    copied: Ints = field(default_factory=lambda: NONE)
    evicted: Ints | None = None


@dataclass(eq=False)
class Chunk:
    """Passes ``first:first + passes`` with everything the clock needs.

    ``terms`` of the passes; ``work`` by (MoE layer, GPU); ``dispatch``, ``combine``
    int64[passes] by MoE layer; ``dropped`` as the gating routed them; ``lost_weight`` int64[passes,
    MoE layers, 2] as ``drops`` gives it; ``marked`` as in ``Counts``. ``undecided``: where the
    clock has to decide; then ``work`` is empty. ``counts`` int64[passes, MoE layers (or 1, of all
    together), gpus, COUNTED, forms and ``ahead_of``] of what is decided. ``beside``: what
    moves beside the pass, of which there is one then. ``placement``: where experts are in these
    passes; None: where the case has them.
    """

    first: int
    passes: int
    terms: Terms
    work: dict[tuple[int, int], Work]
    dispatch: dict[int, Ints]
    combine: dict[int, Ints]
    dropped: Ints
    lost_weight: Ints
    counts: Ints
    undecided: Undecided | None = None
    marked: Ints | None = None
    beside: Beside | None = None
    placement: Placement | None = None
