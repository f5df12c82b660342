"""Passes of a row each on one GPU under LRU where experts have variants: what serves each expert,
and what is missed, follows from where they stand in a stack for each variant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case
from moesim.engine.fates import Ledger
from moesim.engine.pricing.provenance import Provenance
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
    COPIES,
    HITS,
    LAID,
    LAUNCHES,
    MISSED,
    MOST_LAUNCHES,
    SKIPPED_ROWS,
    SKIPPED_WEIGHT,
    TABLE,
    WEIGHT,
    Laid,
)
from moesim.engine.replay.quick.varied_program import Varied, VariedProgram, is_varied
from moesim.memory.choices.base import Seen
from moesim.memory.curves.recency import LANES, move_up
from moesim.memory.variant_cache import SERVING
from moesim.memory.variants import Variants
from moesim.runtime.compiled import built_in, record, specialised, types


class Rows(NamedTuple):
    """The choices ``ids`` uint16[passes, MoE layers, k] of passes of a row each, their ``scores``
    and gate ``weights`` int64 (or nothing), and the ``limits`` int64[variants] of scores.
    """

    ids: Any
    scores: Any
    weights: Any
    limits: Any


class Stacks(NamedTuple):
    """Of each MoE layer and variant the ``slots`` uint16[MoE layers, variants], and as ``move_up``
    has them ``lines`` uint16[MoE layers, variants, experts / LANES, LANES]; and room for what a
    pass chose, ``served`` int64[k] and ``needed`` uint16[2, room].
    """

    slots: Any
    lines: Any
    served: Any
    needed: Any


_CUBE, _FLAT = types.int64[:, :, ::1], types.int64[::1]
ROWS = record(Rows, types.uint16[:, :, ::1], _CUBE, _CUBE, _FLAT)
STACKS = record(
    Stacks, types.uint16[:, ::1], types.uint16[:, :, :, ::1], _FLAT, types.uint16[:, ::1]
)
VARY_ROWS = types.void(TABLE, SERVING, ROWS, STACKS, LAID)
"""The signature of what ``vary_rows_with`` makes."""


@built_in
def _serve(serving: Any, rows: Any, stacks: Any, step: int, layer: int, served: Any) -> None:
    """Fill in which variant serves each choice of a row: see ``variant_cache.serving_of``."""
    limits, slots, lines = rows.limits, stacks.slots[layer], stacks.lines[layer]
    for i in range(rows.ids.shape[2]):
        expert, wants = rows.ids[step, layer, i], 0
        while wants < len(limits) and rows.scores[step, layer, i] > limits[wants]:
            wants += 1
        best = serving.loaded[wants]
        last = len(slots) if serving.worse else min(wants + 1, len(slots))
        for variant in range(last - 1, -1, -1):
            if lines[variant, expert // LANES, expert % LANES] < slots[variant]:
                best = variant
        served[i] = best


@built_in
def _form_of(serving: Any, stacks: Any, layer: int, expert: int, variant: int) -> int:
    """How a missing ``variant`` is loaded: see ``variant_cache``."""
    slots, lines = stacks.slots[layer], stacks.lines[layer]
    for worse in range(variant + 1, len(slots)):
        there = lines[worse, expert // LANES, expert % LANES] < slots[worse]
        if there and serving.upgraded[variant, worse] != variant:
            return int(serving.upgraded[variant, worse])
    return variant


@built_in
def _count(rows: Any, table: Any, served: Any, step: int, layer: int, out: Any) -> None:
    """Count what was chosen by who ``served`` it, but for hits and misses."""
    row, top_k = layer if out.counts.shape[2] > 1 else 0, rows.ids.shape[2]
    skipped = weight = skipped_weight = 0
    weighs = rows.weights.shape[0] > 0
    for i in range(top_k):
        out.fate[step, layer, rows.ids[step, layer, i]] = served[i]
        own = rows.weights[step, layer, i] if weighs else 0
        weight += own
        if served[i] == table.out:
            skipped += 1
            skipped_weight += own
    if skipped > 0:
        out.counts[MISSED + table.out, step, row, 0] += skipped
        out.counts[SKIPPED_ROWS, step, row, 0] += skipped
        out.counts[SKIPPED_WEIGHT, step, row, 0] += skipped_weight
    out.counts[ACTIVATED, step, row, 0] += top_k
    out.counts[WEIGHT, step, row, 0] += weight
    out.rows[step, layer if out.rows.shape[1] > 1 else 0, 0] += top_k - skipped


@built_in
def _choose(ids: Any, served: Any, variant: int, lines: Any, needed: Any) -> int:
    """Fill in the experts of a row that a ``variant`` ``served``, ascending, and where they stand
    in its ``lines``; how many.
    """
    number = 0
    for i in range(len(ids)):
        if served[i] == variant:
            expert, place = ids[i], number
            while place > 0 and needed[0, place - 1] > expert:
                needed[0, place] = needed[0, place - 1]
                place -= 1
            needed[0, place] = expert
            number += 1
    for i in range(needed.shape[1]):
        if i >= number:
            needed[0, i] = needed[1, i] = 0
        else:
            needed[1, i] = lines[needed[0, i] // LANES, needed[0, i] % LANES]
    return number


@built_in
def _launch(
    table: Any, serving: Any, stacks: Any, at: Any, number: int, launch: int, out: Any
) -> int:
    """A launch of a ``number`` of needed experts, and its copies; returns how many of them hit.
    ``at``: the step, the MoE layer and the variant.
    """
    step, layer, variant = at
    filled, row, hits = out.filled, layer if out.counts.shape[2] > 1 else 0, 0
    launches, copies, unpacking = filled[LAUNCHES], filled[COPIES], 0
    for i in range(number):
        form = variant
        if stacks.needed[1, i] < stacks.slots[layer, variant]:
            hits += 1
        else:
            form = _form_of(serving, stacks, layer, stacks.needed[0, i], variant)
            out.copy_launch[copies], out.copy_ns[copies] = launch, table.copy_ns[layer, form]
            out.copy_wait[copies] = -1 if table.overlap else launch - 1
            out.copied[layer, form] += 1
            out.counts[MISSED + form, step, row, 0] += 1
            copies += 1
        unpacking += table.unpacking_ns[layer, form]
    out.unpacking[step, 0] += unpacking
    out.launch_ones[launches], out.launch_kind[launches] = number, table.kinds[layer, variant]
    filled[LAUNCHES], filled[COPIES] = launches + 1, copies
    filled[MOST_LAUNCHES] = max(filled[MOST_LAUNCHES], launch + 1)
    return hits


def vary_rows_with(room: int) -> Callable[..., None]:
    """What decides passes of a row each that choose at most ``room`` experts, a multiple of
    TOGETHER.
    """

    def vary_rows(table: Any, serving: Any, rows: Any, stacks: Any, out: Any) -> None:
        """Every layer of the passes, which use all of what ``lay_out`` fills in."""
        passes, layers, _ = rows.ids.shape
        served, needed, filled = stacks.served, stacks.needed, out.filled
        for layer in range(layers):
            row = layer if out.counts.shape[2] > 1 else 0
            launches, copies = filled[LAUNCHES], filled[COPIES]
            out.launch_base[layer], out.copy_base[layer] = launches, copies
            out.step_launches[layer, 0] = out.step_copies[layer, 0] = 0
            for step in range(passes):
                _serve(serving, rows, stacks, step, layer, served)
                _count(rows, table, served, step, layer, out)
                launch = hits = 0
                for variant in range(stacks.slots.shape[1]):
                    lines = stacks.lines[layer, variant]
                    number = _choose(rows.ids[step, layer], served, variant, lines, needed)
                    if number == 0:
                        continue
                    hits += _launch(
                        table, serving, stacks, (step, layer, variant), number, launch, out
                    )
                    launch += 1
                    move_up(lines, needed[0], needed[1], number, room)
                out.counts[HITS, step, row, 0] += hits
                out.counts[ACCESS_HITS, step, row, 0] += hits
                out.step_launches[layer, step + 1] = filled[LAUNCHES] - launches
                out.step_copies[layer, step + 1] = filled[COPIES] - copies

    return vary_rows


@lru_cache
def _compiled(room: int) -> Any:
    return specialised(vary_rows_with, VARY_ROWS, constants=(room,), allocates=False)


def vary_rows_of(top_k: int) -> Any:
    """``vary_rows`` of rows that choose so many experts, compiled; kept on disk."""
    return _compiled(room_for(top_k))


class VariedRows(Varied):
    """Decides a case that ``has_varied_rows``."""

    def __init__(
        self, shared: Shared, variants: Variants, provenance: Provenance, ledger: Ledger
    ) -> None:
        super().__init__(shared, variants, provenance, ledger)
        shared.finder.know_all()
        top_k, (layers, count) = self.case.trace.top_k, self.shelves.slots.shape
        self._vary_rows = vary_rows_of(top_k)
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

    def _laid(self, first: int, last: int) -> Laid:
        """See ``Varied``."""
        ids, weights, _ = self.shared.routing.chosen_weights(first, last)
        scores = self.variants.choice.scores(Seen(ids, weights, self.residencies.usage))
        rows = Rows(
            np.ascontiguousarray(ids), np.ascontiguousarray(scores),
            np.ascontiguousarray(weights if self.weighs else weights[:0]), self.residencies.limits,
        )  # fmt: skip
        shape = (last - first, self.shared.finder.kept_rows, 1)
        out = self._room(ids.size, np.zeros(shape, np.int64))
        self._vary_rows(self.how.table, self.how.serving, rows, self._stacks, out)
        return out


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
