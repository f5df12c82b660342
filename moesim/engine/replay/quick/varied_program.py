"""The program of cases with variants of experts whose activations are decided, priced and counted
in compiled code at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.fates import Fates, Ledger
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.kept import rules_of
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Made, Maker, works_of
from moesim.engine.replay.quick.program import QuickProgram, decides_alone, loads_from_host
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.varied import (
    COPIES,
    COUNTED,
    LAUNCHES,
    MOST_LAUNCHES,
    RAGGED,
    RAGGED_ROWS,
    Asked,
    How,
    Laid,
    Shelves,
    Space,
    Table,
    decide_varied_of,
)
from moesim.engine.residency.variant_residencies import VariantResidencies
from moesim.memory.activations import Activations
from moesim.memory.slots.variant_cache import Room, is_usual, serving
from moesim.memory.variants import Variants
from moesim.runtime.compiled import njit, types

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]


def is_varied(case: Case) -> bool:
    """Whether ``VariedProgram`` takes ``case``."""
    alike = len({len(case.local_experts(gpu)) for gpu in range(case.gpus)}) == 1
    by_layer = case.variants is not None and case.policy.scope == "layer" and alike
    by_layer &= not case.policy.restarts and case.serving is None  # which may be taken back
    return by_layer and loads_from_host(case) and decides_alone(case)


@njit(types.void(_FLAT, _FLAT, _TABLE, _TABLE, _FLAT), cache=True)
def _look_up(
    launch_rows: Any, launch_kind: Any, single_row_ns: Any, uses: Any, kernel_ns: Any
) -> None:
    """Prices of launches that have one in ``single_row_ns`` [kinds, rows], and their ``uses``."""
    for launch in range(len(launch_rows)):
        kind, rows = launch_kind[launch], launch_rows[launch]
        kernel_ns[launch] = single_row_ns[kind, rows]
        uses[kind, rows] += 1


class VariedLaunches(LaunchPrices):
    """Prices of launches, each of experts in one variant."""

    def price_laid(self, provenance: Provenance, laid: Laid) -> Ints:
        """The prices of all launches."""
        kernel_ns: Ints = np.empty_like(laid.launch_rows)
        _look_up(
            laid.launch_rows,
            laid.launch_kind,
            self.single_row_ns,
            self.uses,
            kernel_ns,
        )
        if len(laid.ragged_at):
            kinds, lengths = (
                laid.launch_kind[laid.ragged_at],
                np.diff(laid.ragged_starts, append=len(laid.ragged_rows)),
            )
            of_row = np.repeat(kinds, lengths)
            for kind, ragged in enumerate(self.ragged):
                own = kinds == kind
                starts = np.cumsum(lengths[own]) - lengths[own]
                kernel_ns[laid.ragged_at[own]] = ragged.prices(
                    provenance, laid.ragged_rows[of_row == kind], starts
                )
        return kernel_ns


class Varied:
    """Finds, decides and prices what passes need where experts have ``variants``."""

    masks = None

    def __init__(
        self, reuse: Reuse, variants: Variants, provenance: Provenance, ledger: Ledger
    ) -> None:
        case, routing = reuse.case, reuse.routing
        self.case, self.reuse, self.variants = case, reuse, variants
        self.launches, self.provenance, self.ledger = VariedLaunches(case), provenance, ledger
        self.counted = (*COUNTED, *(form.counted for form in case.forms))
        self.residencies = VariantResidencies(case, routing, variants)
        work = LayerWork(case, routing, Provenance(case.prices))
        self.shelves = self._shelves()
        layers, count = range(len(routing.moe_layers)), len(variants.names)
        logical = [case.placement.logical[layer][own] for layer in layers for own in routing.local]
        table = Table(
            variants.variant_of, count if variants.leaves_out else -1, variants.choice.substitutes,
            np.stack([work.copy_ns_of(layer) for layer in layers]), ledger.each_ns,
            self.launches.of_variants,
            case.software.overlap, np.ascontiguousarray(np.stack(logical).astype(np.int64)),
        )  # fmt: skip
        self.how = How(rules_of(case), serving(variants), table)
        self.weighs = case.skips and case.trace.gate_weights is not None
        self.copied = np.zeros((len(layers), len(case.forms)), np.int64)

    def _shelves(self) -> Shelves:
        """The caches as they are."""
        case, routing, count = self.case, self.reuse.routing, len(self.variants.names)
        works, local = len(routing.moe_layers) * case.gpus, len(routing.local[0])
        caches = {
            layer * case.gpus + gpu: cache
            for (layer, gpu), cache in self.residencies.of_pools.items()
        }
        rows = max((cache.state.shape[1] for cache in caches.values()), default=0)
        slots, now = np.zeros((2, works, count), np.int64)
        found = Shelves(
            slots, now, np.zeros((works, count, local), np.bool_),
            np.zeros((works, count, rows, local), np.int64), np.zeros((works, count, 0)),
            np.zeros(works, np.bool_),
        )  # fmt: skip
        for work, cache in caches.items():
            found.cached[work], found.slots[work] = True, cache.slots
            found.resident[work], found.state[work] = cache.resident, cache.state
        return self._with_draws(found)

    def _with_draws(self, shelves: Shelves) -> Shelves:
        """``shelves`` with all that has been drawn."""
        of_pools, (works, count) = self.residencies.of_pools, shelves.slots.shape
        most = max((cache.draws.shape[1] for cache in of_pools.values()), default=0)
        draws = np.zeros((works, count, most))
        for (layer, gpu), cache in of_pools.items():
            draws[layer * self.case.gpus + gpu, :, : cache.draws.shape[1]] = cache.draws
        return shelves._replace(draws=draws)

    def fates(self) -> Fates | None:
        """As ``Maker`` says."""
        return self.ledger.total

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says."""
        return self.reuse.runs_of(first, last)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        laid = _cut(self._laid(first, last))
        self.ledger.unpacked(laid.unpacking)
        self.ledger.add_fate(first, first + len(laid.fate), laid.fate)
        kernel_ns = self.launches.price_laid(self.provenance, laid)
        works = works_of(
            (laid.launch_base, laid.step_launches, kernel_ns),
            (laid.copy_base, laid.step_copies, laid.copy_launch, laid.copy_wait),
        )._replace(copy_ns=laid.copy_ns)
        return Made(laid.rows, laid.counts, works, int(laid.filled[MOST_LAUNCHES]))

    def prices_rows(self, pricing: Pricing) -> bool:
        """As ``Maker`` says: it does not."""
        del pricing
        return False

    def mark(self) -> Any:
        """Nothing is played before it is known."""

    def back(self, mark: Any) -> None:
        """As ``mark`` says."""

    def end(self) -> None:
        """As ``Maker`` says."""
        self.reuse.end()

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        self.launches.settle(self.provenance)
        for layer, numbers in enumerate(self.copied.tolist()):
            work.count_copies(layer, numbers)

    def _laid(self, first: int, last: int) -> Laid:
        """The decisions of the run of passes first:last, with the room that is left."""
        found = self.reuse.active_experts(first, last)
        if self.residencies.draw():
            self.shelves = self._with_draws(self.shelves)
        passes, (works, most) = found.offsets.shape[1] - 1, found.experts.shape
        local, reads = self.shelves.resident.shape[2], self.case.policy.weighs
        none = np.empty((works, 0), np.int64)
        weights = self.reuse.finder.weights(first, found) if self.weighs or reads else none
        asked = Asked(
            self.residencies.wanted(first, first + passes), weights if self.weighs else none,
            weights if reads else none,
        )  # fmt: skip
        space = Space(
            Room.of(len(self.variants.names), local, most, reads), Activations.empty(most),
            np.empty(most, np.int64), np.zeros((2, local), np.int64),
        )  # fmt: skip
        out = self._room(int(found.offsets[:, -1].sum()), found.executed.copy())
        decide = deciding_of(self.case)
        decide(self.how, self.shelves, first, found, asked, space, out)
        return out

    def _room(self, activations: int, executed: Ints) -> Laid:
        """Room for what a run of passes may decide that has so many ``activations`` and rows
        ``executed`` int64[passes, layers, gpus].
        """
        passes, _, gpus = executed.shape
        single_rows, kind, launch, wait, copy_ns, ragged_at, ragged_starts, ragged_rows = np.empty(
            (8, activations), np.int64
        )
        works = len(self.shelves.slots)
        launch_base, copy_base = np.empty((2, works), np.int64)
        step_launches, step_copies = np.empty((2, works, passes + 1), np.int64)
        layers, logical = len(self.copied), self.reuse.routing.logical
        return Laid(
            step_launches, launch_base, single_rows, kind, step_copies, copy_base,
            launch, wait, copy_ns, ragged_at, ragged_starts, ragged_rows, self.copied,
            np.zeros((passes, layers, logical), np.int8), np.zeros((passes, gpus), np.int64),
            executed,
            np.zeros((len(self.counted), passes, self.reuse.finder.kept, gpus), np.int64),
            np.zeros(MOST_LAUNCHES + 1, np.int64),
        )  # fmt: skip


def deciding_of(case: Case) -> Any:
    """What decides the activations of a case that ``is_varied``, compiled."""
    return decide_varied_of(type(case.policy), usual=is_usual(rules_of(case)))


def _cut(out: Laid) -> Laid:
    """``out`` without the room that is left."""
    launches, copies, ragged, rows = out.filled[[LAUNCHES, COPIES, RAGGED, RAGGED_ROWS]].tolist()
    return out._replace(
        launch_rows=out.launch_rows[:launches], launch_kind=out.launch_kind[:launches],
        copy_launch=out.copy_launch[:copies], copy_wait=out.copy_wait[:copies],
        copy_ns=out.copy_ns[:copies], ragged_at=out.ragged_at[:ragged],
        ragged_starts=out.ragged_starts[:ragged], ragged_rows=out.ragged_rows[:rows],
    )  # fmt: skip


class VariedProgram(QuickProgram):
    """``QuickProgram`` of a case that ``is_varied``."""

    decided_by: type[Varied] = Varied

    def _maker(self, log: DecisionLog | None) -> Maker:
        """See ``QuickProgram``."""
        del log
        variants = self.case.variants
        assert variants is not None, "the case is varied"
        ledger = Ledger(self.case, self.routing)
        return self.decided_by(self.reuse, variants, self.provenance, ledger)
