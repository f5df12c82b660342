"""What compiled prefetching reads and writes, as named arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

NOT_POOLED = -1
"""The pool of a MoE layer whose local experts all have slots."""
WAITING = 1 << 62
"""The arrival of a prefetch that has not begun."""
(SERIAL, RESIDENT_FIRST, MOST_LOADS, POOL_LAYERS, PADS, DEPTH, ACROSS_PASSES, BUDGET, PROTECTS,
 BY_SOURCE, FIRST_MISSING, EVERY, COST, COST_PLACE, OVERLAPS) = range(15)  # fmt: skip
"""Places in the choices of a case; ``EVERY`` is 0 where nothing is predicted before passes."""
FREE, QUEUED, FLIGHT_END, FLIGHT_BYTES = range(4)
"""A copy engine's state: when it is free, bytes in the queue of prefetches, and the end and bytes
of the prefetch that began last."""
MEANT, BEGUN, PROMOTED, READ = range(4)
"""Prefetches for a layer of a pass: all, those that have begun, those promoted, and those that were
read from storage.
"""
LAUNCHES, COPIES, HOSTED_NS, LOADS, PROMOTED_BYTES, HOST_THERE = range(6)
"""What a decided layer has to do on a GPU."""


HOST_SLOTS, HOST_LOADS, HOST_LAYERS = range(3)
"""Places in the choices of host memory: its slots (0 also where it holds all experts), the most
loads of a step, the MoE layers of a pass.
"""


class Pools(NamedTuple):
    """The caches, side by side, and padded to the widest: ``of_work`` int64[works] pool or
    NOT_POOLED, ``place`` the layer's within it; ``slots``, ``now`` int64[pools]; ``size`` experts;
    ``draws`` float64 of all pools, each from ``draws_at`` int64[pools + 1] on; ``loads_of``
    int64 as for ``split.divide``. A work is (MoE layer, GPU). Variants of a pool are pools that
    follow one another; works of all variants are numbered variant by variant, as shelves are: (MoE
    layer, variant).
    """

    of_work: Any
    place: Any
    slots: Any
    size: Any
    now: Any
    resident: Any
    state: Any
    draws: Any
    draws_at: Any
    loads_of: Any


class Queue(NamedTuple):
    """Prefetches by GPU and expert, int64[gpus, shelves x local experts]: neighbours in the
    queue (linked, with one more column, its ends); when the host has ``issued`` each; its
    ``arrival`` (WAITING before its copy begins, 0 where none was made or it was evicted); what it
    is ``meant`` for, as its pin; whether a prefetch ``caused`` its absence. ``ended`` int64[gpus,
    MoE layers, passes at a time, variants, 4] counts; ``engine`` int64[gpus, 4].
    """

    following: Any
    before: Any
    issued: Any
    arrival: Any
    meant: Any
    caused: Any
    ended: Any
    engine: Any


class Asked(NamedTuple):
    """A chunk's active experts, a row of ``offsets`` int64[works, passes + 1] for each work, from
    ``base`` on, and aligned with them next uses, weights (or none), prices int64[OFFERED, active
    experts] (or [OFFERED, 0]), and rows with and without padding, and the gate weight of the
    latter, where it is counted (or none), and the variant that is ``wanted`` (or none).
    """

    base: Any
    offsets: Any
    experts: Any
    next_use: Any
    weights: Any
    prices: Any
    rows: Any
    kept: Any
    kept_weight: Any
    wanted: Any


class Predicted(NamedTuple):
    """A chunk's predictions: ``index`` int64[origins, MoE layers, gpus] is the row, of which
    0 is empty, of ``offsets`` int64[rows, passes + 1] into ``experts``, from ``base`` on;
    ``active`` bool[passes, MoE layers].
    """

    index: Any
    base: Any
    offsets: Any
    experts: Any
    active: Any


class Patterns(NamedTuple):
    """Prices of launches by pattern (the kind of layer, then rows): ``table`` int64[places] the
    number of each pattern plus 1, or 0; ``starts`` of each in ``rows``, its ``price`` and ``uses``;
    ``filled`` int64[1] patterns so far; ``asked`` int64 the one that is looked for.
    """

    table: Any
    starts: Any
    rows: Any
    price: Any
    uses: Any
    filled: Any
    asked: Any


class Beside(NamedTuple):
    """The kind of each shelf and the ``bytes`` of its experts. Prices by kind of layer and rows of
    the host's experts, by rows of moving them, and by kind and number of experts of reading them
    over the link; with their uses. Empty where not needed.
    """

    kinds: Any
    bytes: Any
    cpu_ns: Any
    cpu_uses: Any
    moved_ns: Any
    link_ns: Any
    link_uses: Any


class Activating(NamedTuple):
    """Where one layer's activations on one GPU are decided: see ``decisions.decide``; rows and
    marks by expert of the pool or the layer, and room for the ``keys`` of candidates; what the
    ``forms`` of activations are, bool[5, forms]; the variant in which active experts are
    ``served``; and the ``cells`` of the pool.
    """

    offsets: Any
    active_experts: Any
    expert: Any
    hit: Any
    launch: Any
    wait: Any
    victim: Any
    form: Any
    own: Any
    kept: Any
    kept_weight: Any
    arriving: Any
    needed: Any
    candidates: Any
    keys: Any
    prices: Any
    forms: Any
    served: Any
    cells: Any


class Decided(NamedTuple):
    """One layer's launches and copies on one GPU; ``there`` when what was in flight arrives, by
    launch, and when what the launch wants is ``stored`` in host memory; the expert of each copy,
    what it takes, and when what it brings may be copied, ``copy_there``; ``told`` int64[6].
    """

    copy_launch: Any
    copy_issued: Any
    copy_wait: Any
    there: Any
    kernel_ns: Any
    read_ns: Any
    stored: Any
    copy_expert: Any
    copy_there: Any
    copy_ns: Any
    told: Any


class Stored(NamedTuple):
    """The host memory of each GPU as a cache, of the experts of all layers, as ``Pools``: who is to
    ``decide`` in it, its ``choices`` int64[3]; ``draws`` from ``draws_at`` int64[gpus + 1] on; the
    ``number`` that it has for each expert of a GPU, int64[gpus, MoE layers x local experts].
    Aligned with that: when the host had ``issued`` a prefetch and ``asked`` for its read, when it
    is ``there``, and whether it was read ``ahead``. The rest is room for one step, its ``cells``
    among it. Empty where host memory holds all experts.
    """

    decide: Any
    choices: Any
    resident: Any
    state: Any
    now: Any
    draws: Any
    draws_at: Any
    number: Any
    issued: Any
    asked: Any
    there: Any
    ahead: Any
    mark: Any
    fresh: Any
    wanted: Any
    hit: Any
    out: Any
    offsets: Any
    none: Any
    no_prices: Any
    cells: Any


class Variants(NamedTuple):
    """The variants of experts; there is one where they have none. Who is to ``serve``, and how, as
    ``variant_cache`` has it; ``of_form`` int64[forms] the variant of each form, and whether its
    rows ``move`` to another expert; what copies take, by MoE layer and form, ``copy_ns``
    int64[MoE layers, forms], and of prefetches, ``ahead_ns`` int64[shelves]. ``room`` to serve one
    step; and how many slots
    are ``taken`` int64[variants], and which variant serves each expert of a pool, ``serves``.
    ``served`` as in ``ahead.Undecided``.
    """

    serve: Any
    how: Any
    of_form: Any
    moves: Any
    copy_ns: Any
    ahead_ns: Any
    room: Any
    taken: Any
    serves: Any
    served: Any


class Undecided(NamedTuple):
    """What decides works on the clock, from pass ``first`` on: who is to ``ask`` for prices and
    draws, the case's ``choices``, ``local`` int64[gpus] experts, and ``counts`` int64[passes, MoE
    layers, gpus, COUNTED and forms], which are filled in.
    """

    ask: Any
    draw_of: Any
    choices: Any
    pools: Any
    queue: Any
    asked: Any
    predicted: Any
    patterns: Any
    beside: Any
    activating: Any
    decided: Any
    stored: Any
    variants: Any
    local: Any
    first: Any
    counts: Any


class At(NamedTuple):
    """Where and when a layer is decided: ``work``, (MoE layer, GPU), of ``gpus``, whose GPU has
    ``local`` experts; pass ``index`` of the chunk, which is pass ``step``; ``now``; and what a
    ``copy`` takes of the host.
    """

    work: Any
    gpus: Any
    local: Any
    index: Any
    step: Any
    now: Any
    copy: Any
