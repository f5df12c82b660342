"""Passes of a row each on one GPU under LRU where experts have variants: what serves each expert,
and what is missed, follows from where they stand in a stack for each variant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.fates import Ledger
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.clock.varied import VariedLaunches, play_varied_of
from moesim.engine.replay.flat import NO_TABLE
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_row import (
    MORE_THAN_ANY,
    numbered_as_they_are,
    room_for,
)
from moesim.engine.replay.quick.program import has_one_row
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.varied import ACCESS_HITS, ACTIVATED, HITS
from moesim.engine.replay.quick.varied_counts import Chosen, Prices, Sums, count_rows
from moesim.engine.replay.quick.varied_program import Varied, VariedProgram, is_varied
from moesim.engine.routing import take_choices
from moesim.memory.curves.recency import LANES, TOGETHER, make_way
from moesim.memory.slots.variant_cache import form_of, serving, serving_of
from moesim.memory.variants import Variants
from moesim.runtime.compiled import built_in, code_of, njit, record, specialised, types

TOGETHER_PASSES = 512
"""Passes whose weights are held at once: they stay in a core's cache."""
FIELD = 8
"""Bits in which what a row needs of a variant, or loads in a form, is counted."""
MOST = (1 << FIELD) - 1
"""Experts that a row may choose."""


class Rows(NamedTuple):
    """The choices ``ids`` uint16[passes, MoE layers, k] of passes of a row each, the variants that
    they want, ``wants`` uint8 likewise, and filled in, which one each is ``served`` as.
    """

    ids: Any
    wants: Any
    served: Any


NEEDED, LOADED, MOVED, SERVES, COLUMNS = range(5)
"""Columns of what a choice comes to."""
RANK = 16
"""Bits of a rank, and of an expert's number."""
ANY_RANK = (1 << RANK) - 1


def serving_table(variants: Variants) -> NDArray[np.uint64]:
    """What follows from the variant that a choice wants and those that are there, a bit each, by
    both numbers, the wanted one above the bits, uint64[n, COLUMNS]: 1 in the field of what is
    needed then, by variant, and of what is loaded, by copied form; ANY_RANK at the place of the
    variant that moves, RANK bits each; and the variant that serves, the one behind all where
    nothing does.
    """
    how, number = serving(variants), len(variants.names)
    wanted, there = np.divmod(np.arange((number + 1) << number), 1 << number)
    slots = (there >> np.arange(number)[:, None] & 1) - 1
    found, copies = np.zeros((len(there), COLUMNS), np.uint64), copied_forms(variants).tolist()
    for at, wants in enumerate(wanted.tolist()):
        best = serving_of(how, slots, 0, at, wants)
        found[at, [NEEDED, SERVES]] = 1 << FIELD * best, best
        if best < number:
            found[at, MOVED] = ANY_RANK << RANK * best
            if slots[best, at] < 0:
                form = form_of(how.upgraded, slots, at, best)
                found[at, LOADED] = 1 << FIELD * copies.index(form)
    return found


class Stacks(NamedTuple):
    """Of each MoE layer and variant the ``slots`` uint16[MoE layers, variants], and as ``move_up``
    has them ``lines`` uint16[MoE layers, variants, experts], a multiple of LANES; behind the
    variants there is one more, of what nothing serves. Room for a row: ``keys`` uint32[k], what
    serves a choice above its expert, by which choices come in the order of variants, then of
    experts, and the ranks that move, ``tops`` uint16[variants, room].
    """

    slots: Any
    lines: Any
    keys: Any
    tops: Any


class Filled(NamedTuple):
    """What is filled in, ``active`` and ``misses`` as of ``VariedLaunches``."""

    active: Any
    misses: Any


_NUMBERS, _BYTES = types.uint16[:, :, ::1], types.uint8[:, :, ::1]
ROWS = record(Rows, _NUMBERS, _BYTES, _BYTES)
STACKS = record(Stacks, types.uint16[:, ::1], _NUMBERS, types.uint32[::1], types.uint16[:, ::1])
FILLED = record(Filled, _BYTES, _BYTES)
VARY_ROWS = types.void(ROWS, types.uint64[:, ::1], STACKS, types.int64, FILLED)
"""The signature of what ``vary_rows_with`` makes."""


class Sizes(NamedTuple):
    """What is known when the code is compiled, so that loops over it are none: how many experts a
    row chooses, ``top_k``, how many ``variants`` they have, in how many ``forms`` copies of these
    come, and how many ``blocks`` of LANES hold all experts.
    """

    top_k: int
    variants: int
    forms: int
    blocks: int


@built_in
def _field(word: Any, number: int) -> Any:
    """The field of this ``number``."""
    return (word >> np.uint64(FIELD * number)) & np.uint64(MOST)


@built_in
def _serve(sizes: Any, rows: Any, table: Any, stacks: Any, at: Any) -> Any:
    """Fill in which variant serves each choice of a row, and what moves; returns what is needed,
    and what is loaded. It follows from a ``serving_table``: what is branched on would be guessed
    wrong.
    """
    (step, layer), needed, loaded = at, np.uint64(0), np.uint64(0)
    lines, slots = stacks.lines[layer], stacks.slots[layer]
    for i in range(sizes[0]):
        expert = rows.ids[step, layer, i]
        pair = np.uint64(rows.wants[step, layer, i]) << np.uint64(sizes[1])
        for variant in range(sizes[1]):
            pair |= np.uint64(lines[variant, expert] < slots[variant]) << np.uint64(variant)
        moved, serves = table[pair, MOVED], table[pair, SERVES]
        for variant in range(sizes[1]):
            mask = np.uint16(moved >> np.uint64(RANK * variant))
            stacks.tops[variant, i] = lines[variant, expert] & mask
        needed += table[pair, NEEDED]
        loaded += table[pair, LOADED]
        rows.served[step, layer, i] = serves
        stacks.keys[i] = (serves << np.uint64(RANK)) | expert
    return needed, loaded


@built_in
def _told(key: Any) -> Any:
    """What serves a choice, and its expert."""
    return np.uint64(key >> np.uint32(RANK)), np.uint64(key & np.uint32(ANY_RANK))


@built_in
def _make_way(sizes: Any, stacks: Any, layer: int, variant: int) -> None:
    """Let what a row needs of a ``variant`` leave its place."""
    ranks, tops = stacks.lines[layer, variant], stacks.tops[variant]
    for first in range(0, sizes[4], TOGETHER):
        for i in range(first, min(first + TOGETHER, sizes[0]) if first > 0 else 0):
            serves, expert = _told(stacks.keys[i])
            tops[i] = ranks[expert] * (serves == variant)  # those before have moved
        for block in range(sizes[3]):
            make_way(ranks[block * LANES : (block + 1) * LANES], tops[first : first + TOGETHER])


@built_in
def _use(sizes: Any, stacks: Any, layer: int, needed: Any) -> None:
    """Let what a row needs be what was used last of its variant, in ascending order: before an
    expert in that order are those of its variant that have higher numbers.
    """
    keys, up_to = stacks.keys, needed  # of each variant and of all better ones
    for _ in range(sizes[1]):
        up_to = (up_to << np.uint64(FIELD)) + needed
    for i in range(sizes[0]):
        serves, expert = _told(keys[i])
        newer = np.int64(_field(up_to, serves)) - sizes[0]
        for j in range(sizes[0]):
            newer += keys[j] > keys[i]
        stacks.lines[layer, serves, expert] = newer


def vary_rows_with(top_k: int, variants: int, forms: int, blocks: int) -> Callable[..., None]:
    """What decides passes of a row each, of such ``Sizes``: compiled code has them in this order,
    and behind them the room for what a row chooses.
    """
    sizes = top_k, variants, forms, blocks, room_for(top_k)

    def vary_rows(rows: Any, table: Any, stacks: Any, first: int, out: Any) -> None:
        """Every layer of passes that are ``first`` and the next ones of those that are filled."""
        passes, layers, _ = rows.ids.shape
        for step in range(passes):
            for layer in range(layers):
                needed, loaded = _serve(sizes, rows, table, stacks, (step, layer))
                for variant in range(variants):
                    out.active[first + step, variant, layer] = _field(needed, variant)
                    _make_way(sizes, stacks, layer, variant)
                for form in range(forms):
                    out.misses[first + step, form, layer] = _field(loaded, form)
                _use(sizes, stacks, layer, needed)

    return vary_rows


@njit(types.void(types.uint8[:, :, ::1], types.int64[:, :, ::1]), cache=True)
def _count_launches(active: Any, used: Any) -> None:
    """Add how many launches have so many experts to ``used`` int64[1 + k, variants, MoE layers], of
    ``active`` uint8[passes, variants, MoE layers]; but for those that have none.
    """
    passes, width = len(active), active.shape[1] * active.shape[2]
    lines, sums = active.reshape(passes, width), used.reshape(len(used), width)
    times = np.zeros(width, np.uint8)
    for first in range(0, passes, MOST):
        for number in range(1, len(used)):
            times[:] = 0
            for step in range(first, min(first + MOST, passes)):
                own = lines[step]
                for at in range(width):
                    times[at] += own[at] == number
            for at in range(width):
                sums[number, at] += times[at]


@lru_cache
def _compiled(sizes: Sizes) -> Any:
    return specialised(vary_rows_with, VARY_ROWS, constants=sizes, allocates=False)


def vary_rows_of(case: Case) -> Any:
    """``vary_rows`` of what ``case`` has, compiled; kept on disk."""
    assert case.variants is not None, "experts have variants"
    number, forms = len(case.variants.names), len(copied_forms(case.variants))
    blocks = -(-len(case.local_experts(0)) // LANES)
    return _compiled(Sizes(case.trace.top_k, number, forms, blocks))


def clock_of(case: Case) -> Any:
    """The clock of ``case``."""
    assert case.variants is not None, "experts have variants"
    of_copies = case.variants.variant_of[copied_forms(case.variants)]
    return play_varied_of(len(case.variants.names), *of_copies.tolist())


def copied_forms(variants: Variants) -> Ints:
    """The forms that are copies."""
    return np.flatnonzero([bool(experts) for experts in variants.copied])


class VariedRows(Varied):
    """Decides a case that ``has_varied_rows``."""

    def __init__(
        self, reuse: Reuse, variants: Variants, provenance: Provenance, ledger: Ledger
    ) -> None:
        super().__init__(reuse, variants, provenance, ledger)
        self._stacks, self._table = self._as_they_are(), serving_table(variants)
        self._clock, self._vary_rows = clock_of(self.case), code_of(vary_rows_of(self.case))
        (layers, count), top_k = self.shelves.slots.shape, self.case.trace.top_k
        self._used = np.zeros((1 + top_k, count, layers), np.int64)
        self._kernel_ns = self.launches.single_row_ns[self.launches.of_variants, : 1 + top_k]
        forms, table = copied_forms(variants), self.how.table
        self._copy_ns = np.ascontiguousarray(table.copy_ns[:, forms])
        unpacking_ns = np.ascontiguousarray(table.unpacking_ns[:, :count].T)
        self._prices = Prices(forms, unpacking_ns if unpacking_ns.any() else NO_TABLE, table.out)
        self._copies = np.zeros((len(forms), layers), np.int64)
        of_fates = len(ledger.names), layers * top_k
        self._kept = np.zeros(of_fates, np.uint16), np.zeros(of_fates, np.int64)
        shape = TOGETHER_PASSES, layers, top_k
        self._chosen = np.empty(shape, np.uint16), np.empty(shape, np.int64)
        self._serves = np.empty(shape, np.uint8)

    def _as_they_are(self) -> Stacks:
        """Where experts are at the start."""
        (layers, count), width = self.shelves.slots.shape, self.shelves.resident.shape[2]
        room = room_for(self.case.trace.top_k)
        lines = np.full((layers, count + 1, -(-width // LANES) * LANES), width, np.uint16)
        slots = np.where(self.shelves.cached[:, None], self.shelves.slots, MORE_THAN_ANY)
        for work, variant in np.argwhere(self.shelves.resident.any(axis=2)).tolist():
            there = np.flatnonzero(self.shelves.resident[work, variant])
            lines[work, variant, there] = np.arange(len(there))[::-1]
        return Stacks(
            slots.astype(np.uint16), lines, np.zeros(room, np.uint32),
            np.zeros((count, room), np.uint16),
        )  # fmt: skip

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: nothing is held by expert, so that all are one run."""
        yield first, last

    def made(self, first: int, last: int) -> Made:
        """See ``Varied``."""
        out, sums = self._filled(last - first), self._sums(first, last)
        copied = int(self._copies.sum())
        request = self.ledger.requests(first, last)
        for low in range(first, last, TOGETHER_PASSES):
            high = min(last, low + TOGETHER_PASSES)
            ids, weights = (one[: high - low] for one in self._chosen)
            take_choices(self.case.trace, self.case.schedule.routing_rows[low:high], ids, weights)
            rows = Rows(ids, self.residencies.wants_of(ids, weights), self._serves)
            self._vary_rows(rows, self._table, self._stacks, low - first, out)
            own = Chosen(weights, rows.served, out.active, out.misses, request)
            code_of(count_rows)(own, self._prices, low - first, sums)
        _count_launches(out.active, self._used)
        sums.counts[ACCESS_HITS] = sums.counts[HITS]
        works = VariedLaunches(out.active, out.misses, self._copy_ns, self._kernel_ns)
        copied = int(self._copies.sum()) - copied
        return Made(sums.rows, sums.counts, Launched(self._clock, works, copied), 1)

    def _filled(self, passes: int) -> Filled:
        """What is filled in of so many ``passes``."""
        _, count, layers = self._used.shape
        active = np.empty((passes, count, layers), np.uint8)
        misses = np.empty((passes, len(self._copies), layers), np.uint8)
        return Filled(active, misses)

    def _sums(self, first: int, last: int) -> Sums:
        """What passes first:last are counted in."""
        passes, finder, ledger = last - first, self.reuse.finder, self.ledger
        of_all = np.int64(self.case.trace.top_k * finder.layers // finder.kept)
        counts = np.zeros((len(self.counted), passes, finder.kept, 1), np.int64)
        counts[ACTIVATED] = counts[HITS] = of_all
        rows = np.full((passes, finder.kept_rows, 1), of_all)
        unpacking = ledger.unpacked(np.zeros((passes, 1), np.int64))
        ledger.requests(first, last)  # there is room for them then
        return Sums(
            ledger.by_layer, ledger.by_request, *self._kept, counts, rows, self._copies, unpacking
        )

    def settle(self, work: LayerWork) -> None:
        """See ``Varied``."""
        np.add.at(
            self.launches.uses[:, : len(self._used)],
            self.launches.of_variants,
            self._used.transpose(2, 1, 0),
        )
        self.copied[:, self._prices.forms] += self._copies.T
        super().settle(work)


class VariedRowsProgram(VariedProgram):
    """``VariedProgram`` of a case that ``has_varied_rows``."""

    decided_by = VariedRows


def _come_in_any_order(case: Case, variants: Variants) -> bool:
    """Whether it takes as long in whatever order a launch copies what it misses: all of it takes
    as long, or none takes less than the host does to issue it.
    """
    software, copied = case.software, [one for one in variants.copied if one]
    if len(copied) == len(variants.names) or software.blocking:
        return True
    experts = {expert for of_form in copied for expert in of_form}
    issued_ns = software.host_per_copy_ns * max(map(software.copies_per_expert, experts)) + 1
    return all(case.expert_copy_ns(expert) >= issued_ns for expert in experts)


def has_varied_rows(case: Case) -> bool:
    """Whether ``VariedRowsProgram`` takes ``case``."""
    if case.variants is None or case.variants.choice.substitutes or case.trace.top_k > MOST:
        return False
    slots = case.variants.slots[:, 0, ~case.resident(0)]
    return (
        is_varied(case)
        and numbered_as_they_are(case)
        and int(slots.min(initial=MORE_THAN_ANY)) >= case.trace.top_k
        and _come_in_any_order(case, case.variants)
        and has_one_row(case)
    )
