"""What compiled prefetching reads and writes, as named arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

NOT_POOLED = -1
"""The pool of a MoE layer whose local experts all have slots."""
NOBODY = -2
"""The pool that is at hand where no layer was just decided."""
KIND, SHARE, HEAD = range(3)
"""Where the kind and the share stand in a pattern, and how many places are before its rows."""
WAITING = 1 << 62
"""The arrival of a prefetch that has not begun."""
(SERIAL, POOL_LAYERS, PADS, DEPTH, ACROSS_PASSES, BUDGET, BY_SOURCE, FIRST_MISSING, EVERY, COST,
 COST_PLACE, OVERLAPS) = range(12)  # fmt: skip
"""Places in the choices of a case; ``EVERY`` is 0 where nothing is predicted before passes."""
FREE, QUEUED, FLIGHT_END, FLIGHT_BYTES = range(4)
"""A copy engine's state: when it is free, bytes in the queue of prefetches, and the end and bytes
of the prefetch that began last."""
MEANT, BEGUN, PROMOTED, READ = range(4)
"""Prefetches for a layer of a pass: all, those that have begun, those promoted, and those that were
read from storage.
"""
LAUNCHES, COPIES, HOSTED_NS, UP_NS, LOADS, PROMOTED_BYTES, HOST_THERE = range(7)
"""What a decided layer has to do on a GPU."""


class Pools(NamedTuple):
    """Which slots whose they are: ``of_work`` int64[works] pool or NOT_POOLED, ``place`` the
    layer's within it. A work is (MoE layer, GPU). Variants of a pool are pools that follow one
    another; works of all variants are numbered variant by variant, as shelves are: (MoE layer,
    variant).
    """

    of_work: Any
    place: Any


class Queue(NamedTuple):
    """Prefetches by GPU and expert, int64[gpus, shelves x local experts]: neighbours in the
    queue (linked, with one more column, its ends); when the host has ``issued`` each; its
    ``arrival`` (WAITING before its copy begins, 0 where none was made or it was evicted); what it
    is ``meant`` for, as its pin; whether a prefetch ``caused`` its absence; on which ``account`` it
    is counted: ``ended`` int64[gpus, accounts, 4], an account for each (MoE layer, pass of
    ``turns``, a power of two, at a time, variant); and on which ``shelf`` it is. Of shelves
    int64[shelves] the ``bytes`` of an expert and what its copy takes, ``copy_ns``; how many of each
    ``wait`` int64[gpus, shelves]; ``engine`` int64[gpus, 4].
    """

    following: Any
    before: Any
    issued: Any
    arrival: Any
    meant: Any
    caused: Any
    account: Any
    ended: Any
    turns: Any
    shelf: Any
    bytes: Any
    copy_ns: Any
    waits: Any
    engine: Any


class Asked(NamedTuple):
    """A chunk's active experts int16, a row of ``offsets`` int32[works, passes + 1] for each work,
    from ``base`` on, and aligned with them rows int32 with padding and without (none where there is
    no padding), the gate weight of the latter, where it is counted (or none), and the ``share`` of
    their pass, where it tells tokens (or none). As small as they can be: each is read once, from as
    many places as there are works.
    """

    base: Any
    offsets: Any
    experts: Any
    rows: Any
    kept: Any
    kept_weight: Any
    share: Any


class Predicted(NamedTuple):
    """A chunk's predictions: ``index`` int64[origins, MoE layers, gpus] is the row, of which
    0 is empty, of ``offsets`` int32[rows, passes + 1] into ``experts`` int16, from ``base`` on;
    ``active`` bool[passes, MoE layers].
    """

    index: Any
    base: Any
    offsets: Any
    experts: Any
    active: Any


class Patterns(NamedTuple):
    """Prices of launches by pattern (the kind of layer, the share of the pass where it tells
    tokens, else 0, then rows): ``table`` int64[places] the
    number of each pattern plus 1, or 0; ``single_row`` int64[kinds, lengths] likewise of those
    whose experts have a row each; ``starts`` of each in ``rows``, its ``price`` and ``uses``;
    ``filled`` int64[1] patterns so far; ``asked`` int64 the one that is looked for.
    """

    table: Any
    single_row: Any
    starts: Any
    rows: Any
    price: Any
    uses: Any
    filled: Any
    asked: Any


class Beside(NamedTuple):
    """The kind of each shelf. Prices by kind of layer and rows of the host's experts, by rows of
    moving them down and up, and by kind and number of experts of reading them over the link; with
    their uses. Of ``groups`` int64[1] of units the parts of the prices, int64[3 x kinds, rows], and
    room for experts. Empty where not needed.
    """

    kinds: Any
    cpu_ns: Any
    cpu_uses: Any
    moved_ns: Any
    link_ns: Any
    link_uses: Any
    parts_ns: Any
    room: Any
    groups: Any


class Activating(NamedTuple):
    """What is known of a layer's active experts on one GPU, by expert: ``own`` rows, those
    ``kept``, and the gate weight of these; which still are ``arriving`` and, among all, which are
    ``needed``; what the ``forms`` of activations are, bool[5, forms]; room for the ranks of those
    that are no candidates for a moment, ``ranked``, for ``keys``, and for those ``lacking`` of the
    predicted ones, int64[predicted, 4]: MoE layer, pass, expert and variant.
    """

    own: Any
    kept: Any
    kept_weight: Any
    arriving: Any
    needed: Any
    forms: Any
    ranked: Any
    keys: Any
    lacking: Any


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
    """The host memory of each GPU as a cache, of the experts of all layers: who is to ``decide`` in
    it, and in what, whose pools are GPUs; the ``number`` that it has for each expert of a GPU,
    int64[gpus, MoE layers x local experts]. Aligned with that: when the host had ``issued`` a
    prefetch and ``asked`` for its read, when it is ``there``, and whether it was read ``ahead``.
    ``mark`` and ``fresh`` are room for one step. Empty where host memory holds all experts.
    """

    decide: Any
    deciding: Any
    number: Any
    issued: Any
    asked: Any
    there: Any
    ahead: Any
    mark: Any
    fresh: Any


class Variants(NamedTuple):
    """The variants of experts, of which there are so many in ``number``, 1 where they have none:
    ``of_form`` int64[forms] the variant of each form, and whether its rows ``move`` to another
    expert; what copies take, by MoE layer and form, ``copy_ns`` int64[MoE layers, forms].
    ``served`` as in ``ahead.Undecided``.
    """

    number: Any
    of_form: Any
    moves: Any
    copy_ns: Any
    served: Any


class Undecided(NamedTuple):
    """What decides works on the clock, from pass ``first`` on: who is to ``ask`` for prices and
    draws, and to ``restart`` the policy before those passes that ``restarts`` bool[passes] names;
    the case's ``choices``, ``local`` int64[gpus] experts, and ``counts`` int64[passes, MoE layers
    (or 1), gpus, COUNTED and forms], and of these by layer what copies ``rest`` on int64[MoE
    layers, gpus, COUNTED and forms], to which is added. The first pass is this ``step`` of a
    ``pace``, by which passes begin, whose host sees ends so much ``lag``; -1: of none.
    """

    ask: Any
    draw_of: Any
    restart: Any
    restarts: Any
    choices: Any
    deciding: Any
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
    rest: Any
    pace: Any
    step: Any
    lag: Any


class At(NamedTuple):
    """Where and when a layer is decided: ``work``, (MoE ``layer``, ``gpu``), whose GPU has
    ``local`` experts, and the ``place`` of the layer's in its ``pool``; pass ``index`` of the
    chunk, which is pass ``step``, whose active experts are those from ``low`` on; up to which pin
    experts wait for it, ``until``; ``now``; and what a ``copy`` takes of the host.
    """

    work: Any
    layer: Any
    gpu: Any
    local: Any
    place: Any
    pool: Any
    index: Any
    step: Any
    low: Any
    until: Any
    now: Any
    copy: Any
