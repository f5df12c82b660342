"""What the activations of one MoE layer on one GPU come to, compiled: launches, copies, experts of
the host, and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from moesim.memory.activations import ActiveExperts
from moesim.memory.forms import Flags
from moesim.memory.variants import SUBSTITUTED
from moesim.runtime.compiled import inlined, njit

BLOCK_ROWS = 128
"""Rows to a multiple of which block-sparse kernels pad each expert (MegaBlocks, arXiv
2211.15841)."""
NOT_LATE = np.empty(0, np.bool_)


class Active(NamedTuple):
    """The active experts of a MoE layer on a GPU, by pass from ``offsets`` int64[passes + 1] on, as
    they come: ascending, or by falling rows; aligned with ``experts``, numbered within the GPU:
    their ``rows``, with padding, those ``kept`` without, and the gate ``weight`` of these, where it
    is counted, else nothing.
    """

    offsets: Any
    experts: Any
    rows: Any
    kept: Any
    weight: Any

    def by_falling_rows(self) -> Active:
        """In each pass those with most rows first, of equals the lowest: the least makespan where
        one is copied while another computes, in the same time each (Johnson 1954).
        """
        step = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        order = np.lexsort((self.experts, -self.rows, step))
        return Active(self.offsets, *(one[order] if len(one) else one for one in self[1:]))

    def at(self, index: int) -> Active:
        """Those of pass ``index`` alone."""
        low, high = self.offsets[index : index + 2].tolist()
        here = slice(low, high)
        columns = self.experts[here], self.rows[here], self.kept[here], self.weight[here]
        return Active(np.array((0, high - low)), *columns)

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
    waits, else -1. ``step_*`` int64[passes + 1] offsets by pass; ``hosted_rows`` int64[passes];
    ``counts`` int64[passes, COUNTED and forms].
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
    counts: Any


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


class Served(NamedTuple):
    """``Activations`` without their victims, and of each whether it waits for a prefetch: ``late``
    bool, or nothing.
    """

    expert: Any
    hit: Any
    launch: Any
    wait: Any
    form: Any
    late: Any


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
    most = 0
    for active in actives:
        sums = np.concatenate(([0], np.cumsum(active.rows)))[active.offsets]
        most = max(most, int(np.diff(sums).max(initial=0)))
    return most


@inlined
def _room(most: int, copies: int, passes: int, columns: int) -> Any:
    """A layout of at most so many activations and copies."""
    return Layout(
        np.empty(most, np.int64), np.empty(most, np.bool_), np.empty(most, np.int64),
        np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most, np.int64),
        np.empty(most, np.int64), np.empty(copies, np.int64), np.empty(copies, np.int64),
        np.empty(copies, np.int64), np.zeros(passes + 1, np.int64), np.zeros(passes + 1, np.int64),
        np.zeros(passes + 1, np.int64), np.zeros(passes, np.int64),
        np.zeros((passes, columns), np.int64),
    )  # fmt: skip


@inlined
def _read_active(active: Any, p: int, own: Any, used: Any, lost: Any) -> None:
    """Rows with and without padding of the active experts of pass ``p``, and their weight."""
    for i in range(active.offsets[p], active.offsets[p + 1]):
        e = active.experts[i]
        own[e], used[e] = active.rows[i], active.kept[i]
        if len(active.weight) > 0:
            lost[e] = active.weight[i]


@inlined
def _move_rows(how: Any, served: Any, low: int, high: int, own: Any, weights: Any) -> None:
    """Rows of ``own`` that another expert computes go to the one with most gate weight in a launch,
    of equals the lowest.
    """
    moved, best = 0, -1
    for i in range(low, high):
        e = served.expert[i]
        if how.moves[served.form[i]]:
            moved += own[e]
        elif how.forms[ON_GPU, served.form[i]]:
            more = best < 0 or weights[e] > weights[best]
            if more or (weights[e] == weights[best] and e < best):
                best = e
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
def _cut(laid: Any, members: int, launches: int, hosts: int, copies: int) -> Any:
    """The layout without the room that is left."""
    return Layout(
        laid.rows, laid.loaded, laid.on_gpu[:members], laid.gpu_rows[:members],
        laid.starts[:launches], laid.read[:launches], laid.hosted[:hosts], laid.copied[:copies],
        laid.copy_launch[:copies], laid.copy_wait[:copies], laid.step_launches, laid.step_hosted,
        laid.step_copies, laid.hosted_rows, laid.counts,
    )  # fmt: skip


@njit(cache=True)
def lay_out(how: Any, active: Any, served: Any, streamed: Any, local: int) -> Any:
    """The ``Layout`` of activations; in ``streamed`` passes bool[passes] the layer's ``local``
    experts are copied, all of them.
    """
    passes, most, late = len(streamed), len(served.expert), len(served.late) > 0
    columns = MISSED + how.forms.shape[1]
    laid = _room(most, most + local * streamed.sum(), passes, columns)
    sums = np.zeros((3, local), np.int64)
    own, used, lost = sums[0], sums[1], sums[2]
    launches = members = hosts = copies = 0
    moves = how.moves.any()
    for p in range(passes):
        low, high, last, counts = active.offsets[p], active.offsets[p + 1], -1, laid.counts[p]
        rows = kept = hits = access_hits = 0
        _read_active(active, p, own, used, lost)
        if moves:
            _move_rows(how, served, low, high, own, lost)
        for i in range(low, high):
            e, form, hit = served.expert[i], served.form[i], served.hit[i]
            number = own[e]
            if how.forms[ON_GPU, form]:
                if how.pads:
                    number = -(-number // BLOCK_ROWS) * BLOCK_ROWS
                if served.launch[i] != last:
                    last, laid.starts[launches] = served.launch[i], members
                    launches += 1
                laid.on_gpu[members], laid.gpu_rows[members] = i, number
                members += 1
                laid.read[launches - 1] += how.forms[OVER_LINK, form]
            elif how.forms[ON_HOST, form]:
                laid.hosted[hosts] = i
                hosts += 1
                laid.hosted_rows[p] += number
            elif how.forms[NOWHERE, form]:
                number = 0
                counts[SKIPPED_ROWS] += 0 if how.moves[form] else used[e]
                counts[SKIPPED_WEIGHT] += 0 if how.moves[form] else lost[e]
            laid.loaded[i] = not hit and how.forms[IN_SLOT, form]
            if laid.loaded[i] and not streamed[p]:
                launch, wait = served.launch[i], served.wait[i]
                laid.copied[copies], laid.copy_launch[copies] = e, launch
                laid.copy_wait[copies] = wait if how.overlaps else max(wait, launch - 1)
                copies += 1
            if not hit:
                counts[MISSED + form] += 1
            elif late and served.late[i]:
                counts[LATE] += 1
            else:
                hits += 1
                access_hits += used[e]
            laid.rows[i] = number
            rows += number
            kept += used[e]
        if streamed[p]:
            counts[UNNEEDED], copies = local - (high - low), _stream(laid, local, copies)
        counts[ACTIVATIONS], counts[HITS], counts[ACCESS_HITS] = high - low, hits, access_hits
        counts[ROWS], counts[KEPT_ROWS] = rows, kept
        laid.step_launches[p + 1], laid.step_hosted[p + 1] = launches, hosts
        laid.step_copies[p + 1] = copies
    return _cut(laid, members, launches, hosts, copies)
