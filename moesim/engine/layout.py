"""What the activations of one MoE layer on one GPU come to, compiled: launches, copies, experts of
the host, and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.counts import (
    ACCESS_HITS,
    ACTIVATIONS,
    HITS,
    KEPT_ROWS,
    LATE,
    MISSED,
    ROWS,
    SKIPPED_ROWS,
    SKIPPED_WEIGHT,
    UNNEEDED,
)
from moesim.memory.activations import Activations, ActiveExperts, offsets_of, steps_of
from moesim.memory.forms import Flags
from moesim.memory.slots import decisions
from moesim.memory.variants import SUBSTITUTED
from moesim.runtime.compiled import code_of, inlined, njit, record, types

BLOCK_ROWS = 128
"""Rows to a multiple of which block-sparse kernels pad each expert (MegaBlocks, arXiv
2211.15841)."""
NOTHING = np.empty(0, np.int64)
NOT_LATE = np.empty(0, np.bool_)
NOT_STREAMED = np.zeros(1, np.bool_)


class Active(NamedTuple):
    """The active experts of a MoE layer on a GPU, by pass from ``offsets`` int64[passes + 1] on, as
    they come: ascending, or by falling rows; aligned with ``experts``, numbered within the GPU:
    their ``rows``, with padding, those ``kept`` without, and the gate ``weight`` of these, where it
    is counted, and the ``share`` of their pass, where it tells tokens; else nothing.
    """

    offsets: Any
    experts: Any
    rows: Any
    kept: Any
    weight: Any
    share: Any = NOTHING

    def by_falling_rows(self) -> Active:
        """In each pass those with most rows first, of equals the lowest: the least makespan where
        one is copied while another computes, in the same time each (Johnson 1954).
        """
        order = np.lexsort((self.experts, -self.rows, steps_of(self.offsets)))
        return Active(self.offsets, *(one[order] if len(one) else one for one in self[1:]))

    def at(self, here: slice) -> Active:
        """Those of a single pass, which are ``here``."""
        return Active(offsets_of(here.stop - here.start), *(one[here] for one in self[1:]))

    @property
    def needed(self) -> ActiveExperts:
        """The experts alone."""
        return ActiveExperts(self.offsets, self.experts)


class Tables(NamedTuple):
    """By pass, MoE layer and physical expert: ``rows`` with padding, ``kept`` ones, and the gate
    ``weight`` of these, without passes where it is not counted.
    """

    rows: Ints
    kept: Ints
    weight: Ints


class Layout(NamedTuple):
    """By activation: ``rows`` int64, with padding, and whether it is ``loaded`` bool: takes a slot,
    after a copy. Which activations are ``on_gpu``, with their ``gpu_rows``, in launches that each
    begin at one of ``starts`` of them and ``read`` int64 so many experts over the link; which are
    ``hosted``. Of copies the expert ``copied``, the launch that needs it and the one for which it
    waits, else -1. ``step_*`` int64[passes + 1] offsets by pass; ``hosted_rows`` and ``all_rows``
    int64[passes], those of the host and of all, as in ``rows``.
    """

    rows: Any
    loaded: Any
    on_gpu: Any
    gpu_rows: Any
    starts: Any
    read: Any
    hosted: Any
    copied: Any
    copy_launch: Any
    copy_wait: Any
    step_launches: Any
    step_hosted: Any
    step_copies: Any
    hosted_rows: Any
    all_rows: Any


ON_GPU, ON_HOST, NOWHERE, IN_SLOT, OVER_LINK = range(len(Flags._fields))
"""Rows of what forms are: the fields of ``Flags``, as one table."""


class How(NamedTuple):
    """How a case serves activations: what its forms are, bool[5, forms] (the fields of ``Flags``),
    whether copies ``overlap`` kernels, whether kernels pad rows to blocks, and of which forms the
    rows ``move`` to the expert with most gate weight that a launch computes, bool[forms].
    """

    forms: Any
    overlaps: Any
    pads: Any
    moves: Any

    @classmethod
    def of(cls, case: Case) -> How:
        """That of ``case``."""
        pads = case.kernels == "block_sparse"
        moves = np.array([form == SUBSTITUTED for form in case.forms], np.bool_)
        return cls(np.stack(case.flags), case.software.overlap, pads, moves)


@njit(cache=True)
def _find(
    rows: Any, kept: Any, weight: Any, active: Any, local: Any, every: bool
) -> tuple[Any, Any, Any, Any, Any]:
    passes, weighs, most = len(rows), len(weight) > 0, len(rows) * len(local)
    offsets, i = np.zeros(passes + 1, np.int64), 0
    experts, own = np.empty(most, np.int64), np.empty(most, np.int64)
    used, sums = np.empty(most, np.int64), np.empty(most if weighs else 0, np.int64)
    for p in range(passes):
        for place in range(len(local) if active[p] else 0):
            e = local[place]
            if every or rows[p, e] > 0:
                experts[i], own[i], used[i] = place, rows[p, e], kept[p, e]
                if weighs:
                    sums[i] = weight[p, e]
                i += 1
        offsets[p + 1] = i
    return offsets, experts[:i].copy(), own[:i].copy(), used[:i].copy(), sums[:i].copy()


def find_active(
    tables: Tables, layer: int, active: NDArray[np.bool_], local: Ints, *, every: bool
) -> Active:
    """The active experts of MoE layer ``layer`` among ``local`` ones, of the passes that run it,
    ``active`` bool[passes]: those with rows, or ``every`` one.
    """
    weight = tables.weight[:, layer] if len(tables.weight) else tables.weight[:, 0]
    found = _find(tables.rows[:, layer], tables.kept[:, layer], weight, active, local, every)
    return Active(*found)


def most_together(actives: Iterable[Active]) -> int:
    """The most rows that a step of a layer has on a GPU."""
    so_far = (np.append(0, one.rows.cumsum())[one.offsets] for one in actives)
    return max((int(np.diff(of_steps).max(initial=0)) for of_steps in so_far), default=0)


@inlined
def _move_rows(
    how: Any, made: Any, low: int, high: int, rows: Any, place: Any, weights: Any, own: Any
) -> None:
    """Rows that another expert computes go to the computed one with most gate weight, of equals the
    lowest; ``own`` are those of each expert.
    """
    moved, best, most = 0, -1, 0
    for i in range(low, high):
        e = made.expert[i]
        own[e], weight = rows[place[e]], weights[place[e]] if len(weights) > 0 else 0
        if how.moves[made.form[i]]:
            moved += own[e]
        elif best < 0 or weight > most or (weight == most and e < best):
            best, most = e, weight
    if moved > 0:
        own[best] += moved


@inlined
def _stream(laid: Any, local: int, copies: int) -> int:
    """The copies of a whole layer, behind so many; returns how many there are then."""
    for e in range(local):
        laid.copied[copies], laid.copy_launch[copies], laid.copy_wait[copies] = e, 0, -1
        copies += 1
    return copies


@inlined
def _count(
    counts: Any, at: tuple[int, int, int], activations: int, hits: int, access_hits: int, rows: int,
    kept: int,
) -> None:  # fmt: skip
    """Add to ``counts`` at a pass, layer and GPU what was counted in it."""
    p, layer, gpu = at
    counts[p, layer, gpu, ACTIVATIONS] += activations
    counts[p, layer, gpu, HITS] += hits
    counts[p, layer, gpu, ACCESS_HITS] += access_hits
    counts[p, layer, gpu, ROWS] += rows
    counts[p, layer, gpu, KEPT_ROWS] += kept


@inlined
def _skip(
    how: Any, form: int, counts: Any, at: tuple[int, int, int], used: int, weights: Any, place: int
) -> None:
    """Count what nothing computes, but for what moves to another expert."""
    p, layer, gpu = at
    if how.forms[NOWHERE, form] and not how.moves[form]:
        counts[p, layer, gpu, SKIPPED_ROWS] += used
        counts[p, layer, gpu, SKIPPED_WEIGHT] += weights[place] if len(weights) > 0 else 0


@inlined
def _copy(laid: Any, copies: int, expert: int, launch: int, wait: int, overlaps: bool) -> int:
    """A copy of ``expert`` for ``launch``, behind so many; returns how many there are then."""
    laid.copied[copies], laid.copy_launch[copies] = expert, launch
    laid.copy_wait[copies] = wait if overlaps else max(wait, launch - 1)
    return copies + 1


_INT, _BOOL, _FLAT, _MASK = types.int64, types.boolean, types.int64[::1], types.boolean[::1]
_TUPLE: Any = types.UniTuple


@njit(
    _TUPLE(_INT, 4)(
        record(How, types.boolean[:, ::1], _BOOL, _BOOL, _MASK),
        record(Active, *[_FLAT] * 6),
        decisions.ACTIVATIONS, _MASK, _MASK, types.int64[:, ::1], types.int64[:, :, :, ::1],
        _INT, _INT,
        record(Layout, _FLAT, _MASK, *[_FLAT] * 13),
    ),
    cache=True, _nrt=False,
)  # fmt: skip
def _lay_out(
    how: Any, active: Any, made: Any, late_of: Any, streamed: Any, room: Any, counts: Any,
    layer: int, gpu: int, laid: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fill in ``laid``, as ``lay_out`` says; returns how many launches, activations in them, of the
    host and copies there are. ``room`` int64[2, experts]. It makes no array, so that no references
    are counted.
    """
    offsets, needed, rows_of, kept_of, weights, _ = active
    expert, hits_of, launch_of, wait_of, _, form_of = made
    on_gpu, on_host, in_slot = how.forms[ON_GPU], how.forms[ON_HOST], how.forms[IN_SLOT]
    over_link, moves, pads, overlaps = how.forms[OVER_LINK], how.moves.any(), how.pads, how.overlaps
    late, local, place, own = len(late_of) > 0, room.shape[1], room[0], room[1]
    all_rows, loaded, members_of, gpu_rows, starts, read, hosted = laid[:7]
    launches = members = hosts = copies = 0
    for p in range(len(streamed)):
        low, high, last, whole = offsets[p], offsets[p + 1], -1, streamed[p]
        rows = kept = hits = access_hits = hosted_rows = 0
        for i in range(low, high):
            place[needed[i]] = i
        if moves:
            _move_rows(how, made, low, high, rows_of, place, weights, own)
        for i in range(low, high):
            e, form, hit, launch = expert[i], form_of[i], hits_of[i], launch_of[i]
            number, used = own[e] if moves else rows_of[place[e]], kept_of[place[e]]
            if on_gpu[form]:
                number = -(-number // BLOCK_ROWS) * BLOCK_ROWS if pads else number
                if launch != last:
                    last, starts[launches], read[launches] = launch, members, 0
                    launches += 1
                members_of[members], gpu_rows[members] = i, number
                members += 1
                read[launches - 1] += over_link[form]
            elif on_host[form]:
                hosted[hosts] = i
                hosts += 1
                hosted_rows += number
            else:
                number = 0
                _skip(how, form, counts, (p, layer, gpu), used, weights, place[e])
            loaded[i], all_rows[i] = in_slot[form] and not hit, number
            if not whole and loaded[i]:
                copies = _copy(laid, copies, e, launch, wait_of[i], overlaps)
            if not hit:
                counts[p, layer, gpu, MISSED + form] += 1
            elif late and late_of[i]:
                counts[p, layer, gpu, LATE] += 1
            else:
                hits += 1
                access_hits += used
            rows += number
            kept += used
        if whole:
            counts[p, layer, gpu, UNNEEDED] += local - (high - low)
            copies = _stream(laid, local, copies)
        _count(counts, (p, layer, gpu), high - low, hits, access_hits, rows, kept)
        laid.all_rows[p], laid.hosted_rows[p] = rows, hosted_rows
        laid.step_launches[p + 1] = launches
        laid.step_hosted[p + 1], laid.step_copies[p + 1] = hosts, copies
    return launches, members, hosts, copies


class Room(NamedTuple):
    """Room for a ``Layout`` of so many activations, copies and passes, and int64[2, experts] for
    what is told of experts.
    """

    laid: Layout
    experts: Any

    def cut(self, most: int, ends: tuple[int, int, int, int]) -> Layout:
        """What ``_lay_out`` filled in of ``most`` activations."""
        launches, members, hosts, copies = ends
        filled = [most] * 2 + [members] * 2 + [launches] * 2 + [hosts] + [copies] * 3
        cut = (one[:number] for one, number in zip(self.laid, filled, strict=False))
        return Layout(*cut, *self.laid[len(filled) :])

    @classmethod
    def of(cls, most: int, copies: int, passes: int, local: int) -> Room:
        """For ``most`` activations of ``local`` experts."""
        rows, on_gpu, gpu_rows, starts, read, hosted = np.empty((6, most), np.int64)
        copied, copy_launch, copy_wait = np.empty((3, copies), np.int64)
        step_launches, step_hosted, step_copies = np.zeros((3, passes + 1), np.int64)
        laid = Layout(
            rows, np.empty(most, np.bool_), on_gpu, gpu_rows, starts, read, hosted, copied,
            copy_launch, copy_wait, step_launches, step_hosted, step_copies,
            *np.empty((2, passes), np.int64),
        )  # fmt: skip
        return cls(laid, np.zeros((2, local), np.int64))


class OnePass:
    """Layouts of single passes of ``local`` experts, in the same room: each is there until the
    next.
    """

    def __init__(self, how: How, local: int) -> None:
        self.how, self.room = how, Room.of(local, local, 1, local)
        self._code = code_of(_lay_out)
        self._known: dict[tuple[int, tuple[int, int, int, int]], Layout] = {}

    def lay_out(
        self, active: Active, made: Activations, late: NDArray[np.bool_], counts: Ints,
        key: tuple[int, int],
    ) -> Layout:  # fmt: skip
        """As ``lay_out``, where some wait for prefetches and no layer is copied whole."""
        laid, experts = self.room
        ends = self._code(self.how, active, made, late, NOT_STREAMED, experts, counts, *key, laid)
        cut = len(made.expert), ends
        if cut not in self._known:
            self._known[cut] = self.room.cut(*cut)
        return self._known[cut]


def lay_out(
    how: How, active: Active, made: Activations, late: NDArray[np.bool_],
    streamed: NDArray[np.bool_], local: int, counts: Ints, at: tuple[int, int],
) -> Layout:  # fmt: skip
    """The ``Layout`` of the activations ``made``, of which some are ``late`` bool[activations], or
    nothing; in ``streamed`` passes bool[passes] the layer's ``local`` experts are copied, all of
    them. Adds to ``counts`` int64[passes, layers, gpus, COUNTED, forms and more], ``at`` a layer
    and GPU.
    """
    most, passes = len(made.expert), len(streamed)
    room = Room.of(most, most + local * int(np.count_nonzero(streamed)), passes, local)
    into = room.experts, counts, *at, room.laid
    return room.cut(most, _code()(how, active, made, late, streamed, *into))


@cache
def _code() -> Any:
    return code_of(_lay_out)
