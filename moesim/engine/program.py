"""A run without its clock: what every pass needs, what it costs, which experts are resident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import WHOLE, Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import new_counts
from moesim.engine.drops import gate_weights
from moesim.engine.fates import Dropped, Fates, Ledger, tells_fates
from moesim.engine.layer_work import Decided, LayerWork
from moesim.engine.layout import Active, Tables, find_active, most_together
from moesim.engine.marks import is_marked
from moesim.engine.prefetch import Undecided
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance, Totals
from moesim.engine.rebalancing import Rebalancing
from moesim.engine.residency.pool_runs import Coming
from moesim.engine.residency.residencies import Residencies
from moesim.engine.residency.storage import Storage
from moesim.engine.residency.variant_residencies import VariantResidencies
from moesim.engine.routing import Key, Routing, of_all
from moesim.engine.views import Views
from moesim.gating.base import routed_by
from moesim.hardware.charge import PREDICTION
from moesim.memory.activations import ActiveExperts, steps_of
from moesim.placement.base import rows_between_gpus


@dataclass(frozen=True, eq=False)
class RoutedPasses:
    """Passes after gating: choices ``kept`` int64[passes, MoE layers, gpus], ``capacity`` and
    ``dropped`` as in ``Routed``, ``lost_weight`` as in ``Chunk``, the active experts of ``works``,
    by MoE layer the prices int64[passes] of dispatch and of combine, none on one GPU, and the
    ``lost_choices`` as ``drops.dropped_choices`` gives them.
    """

    kept: Ints
    capacity: Ints
    dropped: Ints
    lost_weight: Ints
    works: dict[Key, Active]
    exchanges: tuple[Sequence[Ints], Sequence[Ints]]
    lost_choices: Dropped


class Program:
    """The chunks of a case, in order, decided and priced; the clock plays them."""

    held: int | None = None
    """Counts of a pass, layer and GPU that a chunk holds; None: one an expert."""
    tokens: int | None = None
    """Tokens that it holds; see ``Routing.pieces``."""

    def __init__(self, case: Case, *, by_layer: bool = True) -> None:
        """``by_layer``: counts are kept by MoE layer."""
        self.case, self.by_layer = case, by_layer
        self.routing, self._tells_tokens = Routing(case), case.tells_tokens
        self.provenance = Provenance(case.prices)
        self.rebalancing: Rebalancing | None = None
        if (rules := case.rebalance) is not None:
            self.rebalancing = Rebalancing(self.case, rules, self.routing, self.provenance)
            self.routing.reach = self.rebalancing.reach
        self.pricing = Pricing(case, self.routing.logical, self.provenance)
        self.residencies = residencies_of(case, self.routing)
        self.work = LayerWork(case, self.routing, self.provenance)
        cache = case.host_cache
        self.storage = Storage(case, self.routing, cache) if cache is not None else None
        self.ledger = Ledger(case, self.routing) if tells_fates(case) else None
        fetched = self.residencies.fetched
        self.views = Views(case, self.routing, fetched) if case.prefetches else None
        self._played: list[tuple[int, NDArray[np.int8], Dropped]] = []

    def chunks(self) -> Iterator[Chunk]:
        """Decide and price chunk by chunk."""
        for first, last in self.routing.pieces(self.held, self.tokens):
            yield self._chunk(first, last)

    def between(self, first: int, last: int) -> Iterator[Chunk]:
        """Those of passes first:last, the next ones."""
        for low, high in self.routing.pieces_between(first, last, self.held, self.tokens):
            yield self._chunk(low, high)

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to."""
        self._settle(0)
        return tuple(one.mark() for one in self._going_on)

    def back(self, mark: tuple[Any, ...]) -> None:
        """What came since then is not played, and comes again."""
        self._played.clear()
        for one, since in zip(self._going_on, mark, strict=True):
            one.back(since)

    @property
    def _going_on(self) -> list[Any]:
        """What a pass leaves otherwise than it was; what settles into provenance comes before."""
        every: list[Any] = [self.residencies, self.storage, self.ledger, self.work, self.pricing]
        every += [self.views, self.rebalancing, self.provenance]
        return [one for one in every if one is not None]

    def provenance_totals(self) -> Totals:
        """What all prices of the run rest on, by charge and operation, when it is over."""
        self.settle()
        return self.provenance.totals()

    def settle(self) -> None:
        """Count what all prices rest on."""
        self.pricing.settle()
        self.work.settle()
        if self.storage is not None:
            self.storage.settle(self.provenance)

    @property
    def rebalanced(self) -> tuple[int, int, int]:
        """See ``Outcome``."""
        return (0, 0, 0) if self.rebalancing is None else self.rebalancing.told

    @property
    def fates(self) -> Fates | None:
        """What became of choices so far, where that is told."""
        self._settle(0)
        return None if self.ledger is None else self.ledger.total

    def _settle(self, open_chunks: int) -> None:
        """Count what served the passes of all but the last so many chunks, which are played."""
        while self.ledger is not None and len(self._played) > open_chunks:
            self.ledger.add_served(*self._played.pop(0))

    def _served(self, first: int, last: int, dropped: Dropped) -> NDArray[np.int8]:
        """Room for what the clock decides of passes first:last: see ``Undecided``."""
        layers, local = len(self.routing.moe_layers), max(map(len, self.routing.local))
        passes = 0 if self.ledger is None else last - first
        served = np.full((passes, layers, self.case.gpus, local), -1, np.int8)
        if passes:
            self._played.append((first, served, dropped))
            self._settle(2)
        return served

    def _chunk(self, first: int, last: int) -> Chunk:
        routed = self._routed(first, last)
        works, active = self._sharing(routed.works, first, last), self.routing.active(first, last)
        if self.case.order == "least_makespan":
            works = {key: one.by_falling_rows() for key, one in works.items()}
        chunk = Chunk(
            first=first,
            passes=last - first,
            terms=self.pricing.terms(first, last, routed.kept, routed.capacity),
            work={},
            dispatch=dict(enumerate(routed.exchanges[0])),
            combine=dict(enumerate(routed.exchanges[1])),
            dropped=routed.dropped,
            lost_weight=routed.lost_weight,
            counts=new_counts(self.case, last - first, by_layer=self.by_layer),
            placement=self.routing.placement,
        )
        if self.rebalancing is not None:
            self.rebalancing.charge(chunk, self.pricing)
        active_experts = {key: one.needed for key, one in works.items()}
        coming = Coming(active_experts, first, last, lambda key: self.work.offers(key, works[key]))
        if self.case.miss.splits:
            self.residencies.move(self.work.moved(most_together(works.values())))

        if self.views is not None:
            asked = self.residencies.asked(coming)
            predictions = self.views.predictions(first, last, self._needed)
            restarts = self.residencies.restarts(first, last)
            served = self._served(first, last, routed.lost_choices)
            chunk.undecided = Undecided(asked, works, predictions, restarts, served)
            self._count_predictions(first, last)
            return chunk
        marks = self._marks(first, works) if is_marked(self.case) else None
        decided = {
            key: Decided(
                works[key], activations, active[:, key[0]] & self._streamed(key, first, last)
            )
            for key, activations in self.residencies.activations(coming, marks).items()
        }
        chunk.marked = self.residencies.marked
        chunk.work = self.work.of(decided, chunk.counts)
        for key, evicted in self.residencies.evicted.items():
            chunk.work[key] = replace(chunk.work[key], evicted=evicted)
        if self.storage is not None:
            self.storage.fill(chunk)
        if self.ledger is not None:
            self.ledger.add(first, last, chunk.work, routed.lost_choices)
        return chunk

    def _count_predictions(self, first: int, last: int) -> None:
        """Count what predicting experts before passes takes; behind gates it is a term."""
        prefetch, each = self.case.prefetch, np.array([self.case.prediction_ns])
        if prefetch.before_pass and each[0]:
            times = len(range(-first % prefetch.every, last - first, prefetch.every))
            self.provenance.add(
                "prediction", each, each, times=times * self.case.gpus, charge=PREDICTION
            )

    def _routed(self, first: int, last: int) -> RoutedPasses:
        """What gating makes of passes first:last."""
        tokens, active = self.pricing.tokens(first, last), self.routing.active(first, last)
        counts = self.routing.counts(first, last)
        senders = self.case.of_senders(tokens)
        gating = self.case.gating
        routed = routed_by(gating, counts, senders, self.case.trace.top_k)
        lost = gate_weights(self.case, self.routing, (first, last), routed)
        tables = Tables(routed.rows, of_all(routed.kept), lost.kept)
        works = {key: self._active(key, tables, active) for key in self.keys()}
        kept, slices = routed.kept.sum(axis=3), self.case.slices
        if self.case.gathers:
            sent = gathered_rows(self.case, tokens, active)
        elif self.case.once and gating.uneven:
            sent = self.routing.sent_once(first, last)
        else:
            sent = self._dispatched(_where_active(routed.sent, active))
        return RoutedPasses(
            np.repeat(kept, self.case.sharing, axis=2), routed.capacity, slices * routed.dropped,
            slices * lost.sums, works, self._exchanges(sent), lost.dropped,
        )  # fmt: skip

    def _needed(self, first: int, last: int) -> dict[Key, ActiveExperts]:
        """The active experts of passes first:last, before gating drops any."""
        return self.routing.needed(first, last, self.keys())

    def _sharing(self, works: dict[Key, Active], first: int, last: int) -> dict[Key, Active]:
        """The ``works`` of passes first:last with their shares, where these tell tokens."""
        if not self._tells_tokens:
            return works
        shares = self.routing.shares(first, last)
        return {
            key: one._replace(share=shares[steps_of(one.offsets), key[0]])
            for key, one in works.items()
        }

    def _marks(self, first: int, works: dict[Key, Active]) -> dict[Key, Ints]:
        """Whose tokens need the active experts of ``works``, from pass ``first`` on."""
        last = first + len(next(iter(works.values())).offsets) - 1
        active = {key: one.needed for key, one in works.items()}
        return self.routing.of_active(self.routing.marks(first, last), active)

    def keys(self) -> list[Key]:
        """Every MoE layer and GPU."""
        layers, gpus = len(self.routing.moe_layers), self.case.gpus
        return [(layer, gpu) for layer in range(layers) for gpu in range(gpus)]

    def _active(self, key: Key, tables: Tables, active: NDArray[np.bool_]) -> Active:
        """The active experts of a MoE layer on a GPU; ``active`` bool[passes, MoE layers]."""
        (layer, gpu), every = key, self.case.gating.invokes_all
        return find_active(tables, layer, active[:, layer], self.routing.local[gpu], every=every)

    def _streamed(self, key: tuple[int, int], first: int, last: int) -> NDArray[np.bool_]:
        """By pass, whether the layer would be copied whole."""
        layer, gpu = key
        if self.case.prefill != "stream" or self.case.resident(gpu)[layer]:
            return np.zeros(last - first, np.bool_)
        whole: NDArray[np.bool_] = self.case.ways(first, last) == WHOLE
        return whole

    def _dispatched(self, sent: Ints) -> Ints:
        """Rows int64[MoE layers, passes, gpus, gpus] between GPUs, of those ``sent`` to experts
        int64[passes, MoE layers, senders, experts].
        """
        return rows_between_gpus(np.swapaxes(sent, 0, 1), self.case.placement.gpu_of_expert)

    def _exchanges(self, sent: Ints) -> tuple[Sequence[Ints], Sequence[Ints]]:
        """Prices of dispatch and combine of ``sent`` rows int64[MoE layers, passes, gpus, gpus],
        by MoE layer; nothing on one GPU.
        """
        case, layers = self.case, sent.shape[:2]
        if case.gpus == 1:
            return [], []
        if case.gathers and not case.gathers_tokens:
            nothing = np.zeros(layers, np.int64)
            return list(nothing), list(nothing)
        there, back = case.row_bytes(case.model)
        flat = sent.reshape(-1, case.gpus, case.gpus)
        dispatch, combine = (
            self.provenance.add("all_to_all", case.prices.all_to_all_ns(one), one)
            for one in (flat * there, flat.transpose(0, 2, 1) * back)
        )
        return list(dispatch.reshape(layers)), list(combine.reshape(layers))


def residencies_of(case: Case, routing: Routing) -> Residencies:
    """The caches of ``case``."""
    if case.variants is None:
        return Residencies(case, routing)
    return VariantResidencies(case, routing, case.variants)


def gathered_rows(case: Case, tokens: Ints, active: NDArray[np.bool_]) -> Ints:
    """Rows int64[MoE layers, passes, gpus, gpus] where every GPU sends its ``tokens``
    int64[passes, gpus] to all others, in layers that run: ``active`` bool[passes, MoE layers].
    """
    others = 1 - np.eye(case.gpus, dtype=np.int64)
    of_layers = np.where(active.T[:, :, None], tokens, 0)
    return of_layers[..., None] * others


def _where_active(rows: Ints, active: NDArray[np.bool_]) -> Ints:
    """``rows`` [passes, MoE layers, ...], 0 in layers that a pass does not run."""
    if active.all():
        return rows
    return np.where(active.reshape(*active.shape, *[1] * (rows.ndim - 2)), rows, 0)
