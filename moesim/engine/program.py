"""A run without its clock: what every pass needs, what it costs, which experts are resident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moesim.engine.ahead import Undecided, prefetches
from moesim.engine.case import Case, Floats, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.drops import gate_weights
from moesim.engine.layer_work import Decided, Key, LayerWork
from moesim.engine.layout import Active, Tables, find_active
from moesim.engine.pricing import Pricing
from moesim.engine.provenance import Provenance
from moesim.engine.residencies import Residencies
from moesim.engine.routing import Routing, of_all
from moesim.engine.tabled import Tabled
from moesim.engine.views import Views
from moesim.gating.base import Routed
from moesim.placement.base import bytes_between_gpus


class Program:
    """The chunks of a case, in order, decided and priced; the clock plays them."""

    def __init__(self, case: Case) -> None:
        self.case = case = replace(case, prices=Tabled(case.prices))
        self.routing = Routing(case)
        self.provenance = Provenance(case.prices)
        self.pricing = Pricing(case, self.routing.logical, self.provenance)
        self.residencies = Residencies(case, self.routing)
        self.work = LayerWork(case, self.routing, self.provenance)
        self.views = Views(case, self.routing) if prefetches(case) else None

    def chunks(self) -> Iterator[Chunk]:
        """Decide and price chunk by chunk."""
        for first, last in self.routing.pieces():
            yield self._chunk(first, last)

    def provenance_totals(self) -> dict[str, Floats]:
        """What all prices of the run rest on, by charge, when it is over."""
        self.work.settle()
        return self.provenance.totals()

    def _chunk(self, first: int, last: int) -> Chunk:
        tokens = self.pricing.tokens(first, last)
        routed = self._routed(first, last, tokens)
        active = self.routing.active(first, last)
        lost_weight, kept_weight = gate_weights(self.case, self.routing, (first, last), routed)
        chunk = Chunk(
            first=first,
            passes=last - first,
            terms=self.pricing.terms(first, last, routed.kept.sum(axis=3), routed.capacity),
            work={},
            dispatch={},
            combine={},
            dropped=routed.dropped,
            lost_weight=lost_weight,
        )
        if self.case.gpus > 1:
            self._price_collectives(chunk, _where_active(routed.sent, active))
        tables = Tables(routed.rows, of_all(routed.kept), kept_weight)
        works = {key: self._active(key, tables, active) for key in self._keys()}
        active_experts = {key: one.needed for key, one in works.items()}

        def prices(key: Key) -> Ints:
            return self.work.offers(key, works[key])

        if self.views is not None:
            asked = self.residencies.asked(active_experts, first, last, prices)
            chunk.undecided = Undecided(asked, works, self.views.predictions(first, last))
            return chunk
        decided = {
            key: Decided(
                works[key], activations, active[:, key[0]] & self._streamed(key, first, last)
            )
            for key, activations in self.residencies.activations(
                active_experts, first, last, prices
            ).items()
        }
        chunk.work = self.work.of(decided)
        return chunk

    def _keys(self) -> list[Key]:
        layers, gpus = len(self.routing.moe_layers), self.case.gpus
        return [(layer, gpu) for layer in range(layers) for gpu in range(gpus)]

    def _active(self, key: Key, tables: Tables, active: NDArray[np.bool_]) -> Active:
        """The active experts of a MoE layer on a GPU; ``active`` bool[passes, MoE layers]."""
        (layer, gpu), every = key, self.case.gating.invokes_all
        return find_active(tables, layer, active[:, layer], self.routing.local[gpu], every=every)

    def _routed(self, first: int, last: int, tokens: Ints) -> Routed:
        counts = self.routing.counts(first, last)
        return self.case.gating.route(counts, tokens, self.case.trace.top_k)

    def _streamed(self, key: tuple[int, int], first: int, last: int) -> NDArray[np.bool_]:
        """By pass, whether the layer would be copied whole."""
        layer, gpu = key
        streams = self.case.prefill == "stream" and not self.case.resident(gpu)[layer]
        return self.case.bypassed[first:last] & streams

    def _price_collectives(self, chunk: Chunk, sent: Ints) -> None:
        """Dispatch and combine of ``sent`` rows int64[passes, MoE layers, senders, experts]."""
        case = self.case
        row_bytes = case.model.hidden_size * case.model.activation_bytes
        by_layer = np.swapaxes(sent, 0, 1)
        matrix = bytes_between_gpus(by_layer, case.placement.gpu_of_expert, row_bytes)
        flat = matrix.reshape(-1, case.gpus, case.gpus)
        for way, one in ((chunk.dispatch, flat), (chunk.combine, flat.transpose(0, 2, 1))):
            price = self.provenance.add("all_to_all", case.prices.all_to_all_ns(one), one)
            way.update(enumerate(price.reshape(matrix.shape[:2])))


def _where_active(rows: Ints, active: NDArray[np.bool_]) -> Ints:
    """``rows`` [passes, MoE layers, ...], 0 in layers that a pass does not run."""
    if active.all():
        return rows
    return np.where(active.reshape(*active.shape, *[1] * (rows.ndim - 2)), rows, 0)
