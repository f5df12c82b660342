"""Passes of a row each on one GPU under LRU where experts have variants: what serves each expert,
and what is missed, follows from where they stand in a stack for each variant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case
from moesim.engine.fates import Ledger
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.clock.varied import VariedLaunches, play_varied
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_row import (
    MORE_THAN_ANY,
    numbered_as_they_are,
    room_for,
)
from moesim.engine.replay.quick.program import has_one_row
from moesim.engine.replay.quick.shared import Shared
from moesim.engine.replay.quick.varied import (
    ACCESS_HITS,
    ACTIVATED,
    HITS,
    MISSED,
    SKIPPED_ROWS,
    SKIPPED_WEIGHT,
    TABLE,
    WEIGHT,
)
from moesim.engine.replay.quick.varied_program import Varied, VariedProgram, is_varied
from moesim.memory.choices.base import Seen
from moesim.memory.curves.recency import LANES, move_up
from moesim.memory.variant_cache import SERVING
from moesim.memory.variants import Variants
from moesim.runtime.compiled import built_in, record, specialised, types


class Rows(NamedTuple):
    """The choices ``ids`` uint16[passes, MoE layers, k] of passes of a row each, their ``scores``
    and gate ``weights`` int64, the ``limits`` int64[variants] of scores, and the ``request`` of
    each row.
    """

    ids: Any
    scores: Any
    weights: Any
    limits: Any
    request: Any


class Stacks(NamedTuple):
    """Of each MoE layer and variant the ``slots`` uint16[MoE layers, variants], and as ``move_up``
    has them ``lines`` uint16[MoE layers, variants, experts / LANES, LANES]; and room for what a
    pass chose, ``served`` int64[k] and ``needed`` uint16[2, room].
    """

    slots: Any
    lines: Any
    served: Any
    needed: Any


class Filled(NamedTuple):
    """What is filled in: ``needs``, ``misses``, ``copy_at`` and ``copy_ns`` as of
    ``VariedLaunches``, ``rows`` int64[passes, layers, 1] that are executed, and ``counts`` as of
    ``Laid``; and what is added to: how many launches ``used`` so many experts, int64[MoE layers,
    variants, 1 + k], how many copies of each form were made, ``copied`` int64[MoE layers, forms],
    the fates ``by_layer`` and ``by_request`` as a ``Ledger`` has them, and what unpacking takes,
    ``unpacking`` int64[passes, 1].
    """

    needs: Any
    misses: Any
    copy_at: Any
    copy_ns: Any
    rows: Any
    counts: Any
    used: Any
    copied: Any
    by_layer: Any
    by_request: Any
    unpacking: Any


_CUBE, _FLAT, _TABLE = types.int64[:, :, ::1], types.int64[::1], types.int64[:, ::1]
_NUMBERS = types.uint16[:, :, ::1]
ROWS = record(Rows, _NUMBERS, _CUBE, _CUBE, _FLAT, _FLAT)
STACKS = record(
    Stacks, types.uint16[:, ::1], types.uint16[:, :, :, ::1], _FLAT, types.uint16[:, ::1]
)
FILLED = record(
    Filled, _NUMBERS, _NUMBERS, _TABLE, _FLAT, _CUBE, types.int64[:, :, :, ::1], _CUBE, _TABLE,
    _CUBE, _CUBE, _TABLE,
)  # fmt: skip
VARY_ROWS = types.int64(TABLE, SERVING, ROWS, STACKS, FILLED)
"""The signature of what ``vary_rows_with`` makes."""


class Sizes(NamedTuple):
    """What is known when the code is compiled, so that loops over it are none: how many experts a
    row chooses, ``top_k``, how many ``variants`` they have, and whether copies of one may
    ``differ``, by the worse ones that are there.
    """

    top_k: int
    variants: int
    differ: bool


@built_in
def _serve(sizes: Any, serving: Any, rows: Any, stacks: Any, at: Any, served: Any) -> None:
    """Fill in which variant serves each choice of a row: see ``variant_cache.serving_of``."""
    step, layer = at
    limits, slots, lines = rows.limits, stacks.slots[layer], stacks.lines[layer]
    for i in range(sizes[0]):
        expert, wants = rows.ids[step, layer, i], 0
        for variant in range(sizes[1]):
            wants += rows.scores[step, layer, i] > limits[variant]
        best = serving.loaded[wants]
        for variant in range(sizes[1] - 1, -1, -1):
            there = lines[variant, expert // LANES, expert % LANES] < slots[variant]
            best = variant if there and (variant <= wants or serving.worse) else best
        served[i] = best


@built_in
def _form_of(sizes: Any, serving: Any, stacks: Any, layer: int, expert: int, variant: int) -> int:
    """How a missing ``variant`` is loaded: see ``variant_cache``."""
    slots, lines, found = stacks.slots[layer], stacks.lines[layer], variant
    for worse in range(sizes[1] - 1, variant, -1):
        there = lines[worse, expert // LANES, expert % LANES] < slots[worse]
        upgraded = serving.upgraded[variant, worse]
        found = upgraded if there and upgraded != variant else found
    return int(found)


@built_in
def _add_fates(top_k: int, rows: Any, served: Any, at: Any, fate: int, out: Any) -> Any:
    """Count the choices of a row that had such a ``fate``, and their weight; returns both."""
    step, layer = at
    number, weight, request = 0, 0, rows.request[step]
    for i in range(top_k):
        here, own = served[i] == fate, rows.weights[step, layer, i]
        number += here
        weight += own if here else 0
    out.by_layer[0, layer, fate] += number
    out.by_layer[1, layer, fate] += weight
    out.by_request[0, request, fate] += number
    out.by_request[1, request, fate] += weight
    return number, weight


@built_in
def _leave_out(top_k: int, rows: Any, out_as: int, served: Any, at: Any, out: Any) -> None:
    """Count what of a row nothing serves, and whose weight is lost."""
    step, layer = at
    row, weight = layer if out.counts.shape[2] > 1 else 0, 0
    skipped, lost = _add_fates(top_k, rows, served, at, out_as, out)
    for i in range(top_k):
        weight += rows.weights[step, layer, i]
    out.counts[WEIGHT, step, row, 0] += weight
    out.counts[HITS, step, row, 0] -= skipped
    out.counts[MISSED + out_as, step, row, 0] += skipped
    out.counts[SKIPPED_ROWS, step, row, 0] += skipped
    out.counts[SKIPPED_WEIGHT, step, row, 0] += lost
    out.rows[step, row, 0] -= skipped


@built_in
def _choose(sizes: Any, ids: Any, served: Any, variant: int, lines: Any, needed: Any) -> None:
    """Fill in the experts of a row that a ``variant`` ``served``, ascending where copies of them
    may differ, and where they stand in its ``lines``.
    """
    number = 0
    for i in range(sizes[0]):
        expert, place = ids[i], number
        here = served[i] == variant
        while sizes[2] and here and place > 0 and needed[0, place - 1] > expert:
            needed[0, place] = needed[0, place - 1]
            place -= 1
        needed[0, place] = expert
        number += here
    for i in range(sizes[3]):
        expert = needed[0, i]
        needed[0, i] = expert = expert if i < number else 0
        rank = lines[expert // LANES, expert % LANES]
        needed[1, i] = rank if i < number else 0


@built_in
def _launch(
    sizes: Any, table: Any, serving: Any, stacks: Any, at: Any, number: int, copies: int, out: Any
) -> int:
    """A launch of a ``number`` of needed experts, and its copies behind so many ``copies``; returns
    how many there are then. ``at``: the step, the MoE layer and the variant.
    """
    step, layer, variant = at
    row, first, unpacking = layer if out.counts.shape[2] > 1 else 0, copies, 0
    for i in range(sizes[0]):
        form, missed = variant, stacks.needed[1, i] >= stacks.slots[layer, variant]
        if sizes[2] and missed:
            form = _form_of(sizes, serving, stacks, layer, stacks.needed[0, i], variant)
        out.copy_ns[copies] = table.copy_ns[layer, form]
        if sizes[2]:
            out.copied[layer, form] += missed
            out.counts[MISSED + form, step, row, 0] += missed
        copies += missed
        own_ns = table.unpacking_ns[layer, form]
        unpacking += own_ns if i < number else 0
    if not sizes[2]:
        out.copied[layer, variant] += copies - first
        out.counts[MISSED + variant, step, row, 0] += copies - first
    out.unpacking[step, 0] += unpacking
    out.needs[step, layer, variant], out.misses[step, layer, variant] = number, copies - first
    out.used[layer, variant, number] += 1
    return copies


def vary_rows_with(top_k: int, variants: int, differ: bool) -> Callable[..., int]:
    """What decides passes of a row each, of such ``Sizes``: compiled code has them in this order,
    and behind them the room for what a row chooses.
    """
    sizes = top_k, variants, differ, room_for(top_k)

    def vary_rows(table: Any, serving: Any, rows: Any, stacks: Any, out: Any) -> int:
        """Every layer of the passes, which have all of what is ``Filled``; how many copies."""
        passes, layers, _ = rows.ids.shape
        served, needed, copies = stacks.served, stacks.needed, 0
        for step in range(passes):
            for layer in range(layers):
                row, first = layer if out.counts.shape[2] > 1 else 0, copies
                out.copy_at[step, layer] = copies
                _serve(sizes, serving, rows, stacks, (step, layer), served)
                if table.out >= 0:
                    _leave_out(top_k, rows, table.out, served, (step, layer), out)
                for variant in range(variants):
                    number, _ = _add_fates(top_k, rows, served, (step, layer), variant, out)
                    out.needs[step, layer, variant] = 0
                    if number == 0:
                        continue
                    lines = stacks.lines[layer, variant]
                    _choose(sizes, rows.ids[step, layer], served, variant, lines, needed)
                    at = step, layer, variant
                    copies = _launch(sizes, table, serving, stacks, at, number, copies, out)
                    move_up(lines, needed[0], needed[1], number, sizes[3])
                out.counts[HITS, step, row, 0] -= copies - first
        return copies

    return vary_rows


@lru_cache
def _compiled(sizes: Sizes) -> Any:
    return specialised(vary_rows_with, VARY_ROWS, constants=sizes, allocates=False)


def vary_rows_of(case: Case) -> Any:
    """``vary_rows`` of what ``case`` has, compiled; kept on disk."""
    assert case.variants is not None, "experts have variants"
    number, forms = len(case.variants.names), len(case.forms)
    return _compiled(Sizes(case.trace.top_k, number, forms > number + case.variants.leaves_out))


class VariedRows(Varied):
    """Decides a case that ``has_varied_rows``."""

    def __init__(
        self, shared: Shared, variants: Variants, provenance: Provenance, ledger: Ledger
    ) -> None:
        super().__init__(shared, variants, provenance, ledger)
        shared.finder.know_all()
        top_k, (layers, count) = self.case.trace.top_k, self.shelves.slots.shape
        self._vary_rows = vary_rows_of(self.case)
        width = self.shelves.resident.shape[2]
        lines = np.full((layers, count, -(-width // LANES), LANES), width, np.uint16)
        slots = np.where(self.shelves.cached[:, None], self.shelves.slots, MORE_THAN_ANY)
        for work, variant in np.argwhere(self.shelves.resident.any(axis=2)).tolist():
            there = np.flatnonzero(self.shelves.resident[work, variant])
            lines[work, variant].reshape(-1)[there] = np.arange(len(there))[::-1]
        self._stacks = Stacks(
            slots.astype(np.uint16), lines, np.zeros(top_k, np.int64),
            np.zeros((2, room_for(top_k)), np.uint16),
        )  # fmt: skip
        self._used = np.zeros((layers, count, 1 + top_k), np.int64)
        self._kernel_ns = self.launches.ones_ns[self.launches.of_variants, : 1 + top_k]

    def made(self, first: int, last: int) -> Made:
        """See ``Varied``."""
        ids, weights, _ = self.shared.routing.chosen_weights(first, last)
        scores = self.variants.choice.scores(Seen(ids, weights, self.residencies.usage))
        request = self.ledger.requests(first, last)
        rows = Rows(
            np.ascontiguousarray(ids), np.ascontiguousarray(scores),
            np.ascontiguousarray(weights), self.residencies.limits, request,
        )  # fmt: skip
        out = self._filled(first, ids)
        copies = self._vary_rows(self.how.table, self.how.serving, rows, self._stacks, out)
        out.counts[ACCESS_HITS] = out.counts[HITS]
        works = VariedLaunches(*out[:3], out.copy_ns[:copies], self._kernel_ns)
        return Made(out.rows, out.counts, Launched(play_varied, works, copies), 1)

    def _filled(self, first: int, ids: NDArray[np.uint16]) -> Filled:
        """What passes from ``first`` on begin with, which choose ``ids``."""
        (passes, layers, top_k), finder = ids.shape, self.shared.finder
        of_all = np.int64(top_k * layers // finder.kept)
        counts = np.zeros((len(self.counted), passes, finder.kept, 1), np.int64)
        counts[ACTIVATED] = counts[HITS] = of_all
        needs, misses = np.empty((2, passes, layers, self._used.shape[1]), np.uint16)
        unpacking = self.ledger.unpacked(np.zeros((passes, 1), np.int64))
        return Filled(
            needs, misses, np.empty((passes, layers), np.int64), np.empty(ids.size + 1, np.int64),
            np.full((passes, finder.kept_rows, 1), of_all), counts, self._used, self.copied,
            self.ledger.by_layer, self.ledger.by_request, unpacking,
        )  # fmt: skip

    def settle(self, work: LayerWork) -> None:
        """See ``Varied``."""
        np.add.at(
            self.launches.ones[:, : self._used.shape[2]], self.launches.of_variants, self._used
        )
        super().settle(work)


class VariedRowsProgram(VariedProgram):
    """``VariedProgram`` of a case that ``has_varied_rows``."""

    decided_by = VariedRows


def has_varied_rows(case: Case) -> bool:
    """Whether ``VariedRowsProgram`` takes ``case``."""
    if case.variants is None or case.variants.choice.substitutes:
        return False
    slots = case.variants.slots[:, 0, ~case.resident(0)]
    return (
        is_varied(case)
        and numbered_as_they_are(case)
        and int(slots.min(initial=MORE_THAN_ANY)) >= case.trace.top_k
        and has_one_row(case)
    )
