"""Activations, launches and copies of a run of passes at once, compiled, where experts have
variants, every miss is loaded and nothing is prefetched.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

from moesim.engine.replay.callback import FirstClass
from moesim.engine.replay.quick.activations import NEEDED
from moesim.memory.policy import CachePolicy
from moesim.memory.slots.decisions import ACTIVATIONS, RULES
from moesim.memory.slots.variant_cache import ROOM, SERVE, SERVING, Pools, Wanted, serve_of
from moesim.runtime.compiled import built_in, code_of, njit, record, types

COUNTED = ("activations", "hits", "access_hits", "skipped_rows", "skipped_weight", "weight")
(ACTIVATED, HITS, ACCESS_HITS, SKIPPED_ROWS, SKIPPED_WEIGHT, WEIGHT, MISSED) = range(7)
"""Columns of what is counted; ``weight`` is of all activations, and misses by form follow."""
LAUNCHES, COPIES, RAGGED, RAGGED_ROWS, MOST_LAUNCHES = range(5)
"""What is filled so far, and the most launches of a step."""


class Table(NamedTuple):
    """What forms are: the ``variant_of`` each, ``out`` the one that nothing serves (-1: none is),
    and whether its rows ``move`` to another expert. By MoE layer and form, what a copy takes and
    unpacking an expert, int64[MoE layers, forms]; the ``kinds`` int64[MoE layers, variants] of
    launches; whether copies ``overlap`` with kernels; the ``logical`` experts of each work,
    int64[works, most local].
    """

    variant_of: Any
    out: Any
    moves: Any
    copy_ns: Any
    unpacking_ns: Any
    kinds: Any
    overlap: Any
    logical: Any


class Shelves(NamedTuple):
    """The slots of all works, (MoE layer, GPU), by variant: ``slots`` and the policy's time ``now``
    int64[works, variants]; ``resident`` bool[works, variants, experts]; ``state``
    int64[works, variants, rows, experts]; ``draws`` float64[works, variants, activations]. A work
    whose experts all have slots is not ``cached`` bool[works].
    """

    slots: Any
    now: Any
    resident: Any
    state: Any
    draws: Any
    cached: Any


class Asked(NamedTuple):
    """What is asked of a run of passes: the variant ``wanted`` int8[passes, MoE layers, logical
    experts], and gate ``weights`` aligned with active experts, with those that the policy ``reads``
    (each empty where it is not needed).
    """

    wanted: Any
    weights: Any
    reads: Any


class How(NamedTuple):
    """By what a case is decided: the ``rules`` of its steps, how variants are ``serving``, and
    the ``table`` of forms.
    """

    rules: Any
    serving: Any
    table: Any


class Space(NamedTuple):
    """Room: ``serving`` a work, ``made`` activations of it, what is ``wanted`` of its active
    experts, and rows and gate weight ``of`` each expert, int64[2, experts].
    """

    serving: Any
    made: Any
    wanted: Any
    of: Any


class Laid(NamedTuple):
    """The decisions of a run of passes, as ``ResidencyPlan`` has them, with the kind of each launch
    and what each copy takes; copies are counted by MoE layer and form, ``copied``. What
    became of each logical expert, ``fate`` int8[passes, MoE layers, experts]; what unpacking takes,
    ``unpacking`` int64[passes, gpus]; ``rows`` int64[passes, layers, gpus] without skipped ones.
    ``counts`` int64[COUNTED and forms, passes, layers, gpus];
    ``filled`` int64[5].
    """

    step_launches: Any
    launch_base: Any
    launch_rows: Any
    launch_kind: Any
    step_copies: Any
    copy_base: Any
    copy_launch: Any
    copy_wait: Any
    copy_ns: Any
    ragged_at: Any
    ragged_starts: Any
    ragged_rows: Any
    copied: Any
    fate: Any
    unpacking: Any
    rows: Any
    counts: Any
    filled: Any


_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_INT, _BYTES = types.int64, types.int8[:, :, ::1]
TABLE = record(
    Table, _FLAT, _INT, types.boolean, _TABLE, _TABLE, _TABLE, types.boolean, _TABLE
)  # fmt: skip
SHELVES = record(
    Shelves, _TABLE, _TABLE, types.boolean[:, :, ::1], types.int64[:, :, :, ::1],
    types.float64[:, :, ::1], types.boolean[::1],
)  # fmt: skip
ASKED = record(Asked, _BYTES, _TABLE, _TABLE)
HOW = record(How, RULES, SERVING, TABLE)
SPACE = record(Space, ROOM, ACTIVATIONS, _FLAT, _TABLE)
LAID = record(
    Laid, _TABLE, _FLAT, _FLAT, _FLAT, _TABLE, *[_FLAT] * 7, _TABLE, _BYTES, _TABLE, _CUBE,
    types.int64[:, :, :, ::1], _FLAT,
)  # fmt: skip


@built_in
def _move_rows(table: Any, made: Any, low: int, high: int, of: Any) -> None:
    """Rows that another expert computes go to the one with most gate weight, of equals the lowest:
    ``of`` are rows and weight of each.
    """
    moved, best = 0, -1
    for i in range(low, high):
        e = made.expert[i]
        if made.form[i] == table.out:
            moved += of[0, e]
        elif best < 0 or of[1, e] > of[1, best] or (of[1, e] == of[1, best] and e < best):
            best = e
    if moved > 0:
        of[0, best] += moved


@built_in
def _count(table: Any, made: Any, of: Any, out: Any, at: Any, low: int, high: int) -> None:
    """Count the activations ``made`` from ``low`` to ``high``, those of a step, before any row
    moves; ``at``: its number, MoE layer, place in the counts, GPU and work. ``of`` as in
    ``_move_rows``.
    """
    step, layer, row, gpu, work = at
    counts, fate, logical = out.counts, out.fate[step, layer], table.logical[work]
    unpacking_ns, skips, hits, access_hits = table.unpacking_ns[layer], not table.moves, 0, 0
    unpacked = weight = skipped = skipped_weight = 0
    for i in range(low, high):
        e, there, form = made.expert[i], made.hit[i], made.form[i]
        used = of[0, e]
        hits += there
        access_hits += used if there else 0
        weight += of[1, e]
        fate[logical[e]] = table.variant_of[form]
        unpacked += unpacking_ns[form]
        if not there:
            counts[MISSED + form, step, row, gpu] += 1
        if form == table.out and skips:
            skipped += used
            skipped_weight += of[1, e]
    counts[ACTIVATED, step, row, gpu] += high - low
    counts[HITS, step, row, gpu] += hits
    counts[ACCESS_HITS, step, row, gpu] += access_hits
    counts[SKIPPED_ROWS, step, row, gpu] += skipped
    counts[SKIPPED_WEIGHT, step, row, gpu] += skipped_weight
    counts[WEIGHT, step, row, gpu] += weight
    out.rows[step, layer if out.rows.shape[1] > 1 else 0, gpu] -= skipped
    out.unpacking[step, gpu] += unpacked


@built_in
def _launch(table: Any, made: Any, layer: int, low: int, high: int, of: Any, out: Any) -> int:
    """The launch that begins with activation ``low``, and its copies; returns where the next one
    begins, ``high`` at last.
    """
    expert, hit, wait, form_of, filled = made.expert, made.hit, made.wait, made.form, out.filled
    this, together, i = made.launch[low], 0, low
    launches, copies = filled[LAUNCHES], filled[COPIES]
    copy_ns, copied, overlap = table.copy_ns[layer], out.copied[layer], table.overlap
    out.launch_kind[launches] = table.kinds[layer, table.variant_of[form_of[low]]]
    while i < high and made.launch[i] == this:
        together += of[0, expert[i]]
        if not hit[i]:
            form = form_of[i]
            out.copy_launch[copies], out.copy_ns[copies] = this, copy_ns[form]
            out.copy_wait[copies] = wait[i] if overlap else max(wait[i], this - 1)
            copied[form] += 1
            copies += 1
        i += 1
    out.launch_rows[launches] = together
    if together != i - low:
        ragged, members = filled[RAGGED], filled[RAGGED_ROWS]
        out.launch_rows[launches] = 0
        out.ragged_at[ragged], out.ragged_starts[ragged] = launches, members
        for j in range(low, i):
            out.ragged_rows[members + j - low] = of[0, expert[j]]
        filled[RAGGED], filled[RAGGED_ROWS] = ragged + 1, members + i - low
    filled[LAUNCHES], filled[COPIES] = launches + 1, copies
    filled[MOST_LAUNCHES] = max(filled[MOST_LAUNCHES], this + 1)
    return int(i)


@njit(types.void(TABLE, NEEDED, ASKED, SPACE, LAID, _INT, _INT, _INT, _INT), cache=True, _nrt=False)
def lay_out(
    table: Any, needed: Any, asked: Any, space: Any, out: Any, work: int, layer: int, row: int,
    gpu: int,
) -> None:  # fmt: skip
    """Launches, copies and counts of the activations of a work, which is ``layer`` on ``gpu``, and
    has ``row`` of the counts.
    """
    offsets, active, rows = needed.offsets[work], needed.experts[work], needed.rows[work]
    made, of, filled, weights = space.made, space.of, out.filled, asked.weights[work]
    step_launches, step_copies = out.step_launches[work], out.step_copies[work]
    launches, copies, weighs = filled[LAUNCHES], filled[COPIES], len(weights) > 0
    step_launches[0] = step_copies[0] = 0
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        for i in range(low, high):
            of[0, active[i]] = rows[i]
            if weighs:
                of[1, active[i]] = weights[i]
        _count(table, made, of, out, (step, layer, row, gpu, work), low, high)
        if table.moves:
            _move_rows(table, made, low, high, of)
        i = low
        while i < high:
            i = (
                i + 1
                if made.form[i] == table.out
                else _launch(table, made, layer, i, high, of, out)
            )
        step_launches[step + 1] = filled[LAUNCHES] - launches
        step_copies[step + 1] = filled[COPIES] - copies


@njit(
    types.void(types.FunctionType(SERVE), HOW, SHELVES, _INT, NEEDED, ASKED, SPACE, LAID),
    cache=True, _nrt=False,
)  # fmt: skip
def _decide_varied(
    serve: Any, how: Any, shelves: Any, first: int, needed: Any, asked: Any, space: Any, out: Any
) -> None:
    """Every work of the passes from ``first`` on, each in one call of ``serve``, as
    ``variant_cache.serve_with`` makes it.
    """
    rules, serving, table = how
    layers, room = asked.wanted.shape[1], space.serving
    gpus, wanted, made = len(needed.offsets) // layers, space.wanted, space.made
    for work in range(len(needed.offsets)):
        layer, gpu = work // gpus, work % gpus
        offsets, experts, logical = (
            needed.offsets[work], needed.experts[work], table.logical[work]
        )  # fmt: skip
        out.launch_base[work], out.copy_base[work] = out.filled[LAUNCHES], out.filled[COPIES]
        if shelves.cached[work]:
            for step in range(len(offsets) - 1):
                of_step = asked.wanted[step, layer]
                for i in range(offsets[step], offsets[step + 1]):
                    wanted[i] = of_step[logical[experts[i]]]
            slots = Pools(
                shelves.slots[work], shelves.resident[work], shelves.state[work],
                shelves.now[work], shelves.draws[work],
            )  # fmt: skip
            wants = Wanted(offsets, experts, wanted, asked.reads[work])
            serve(rules, serving, slots, wants, room, first, made)
        else:
            for step in range(len(offsets) - 1):
                low = offsets[step]
                for i in range(low, offsets[step + 1]):
                    made.expert[i], made.hit[i], made.form[i] = experts[i], True, 0
                    made.launch[i], made.wait[i] = i - low if rules.serial else 0, -1
        row = layer if out.counts.shape[2] > 1 else 0
        lay_out(table, needed, asked, space, out, work, layer, row, gpu)


@lru_cache
def decide_varied_of(policy: type[CachePolicy], *, usual: bool) -> Any:
    """``_decide_varied`` by ``policy``, whose own code is kept on disk; ``usual`` as for
    ``variant_cache.serve_of``.
    """
    code_of(_decide_varied)  # which is then there before a run's seconds are counted
    return partial(_decide_varied, FirstClass(serve_of(policy, usual=usual), SERVE))
