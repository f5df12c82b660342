"""A run without its clock: what every pass needs, what it costs, which experts are resident."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moesim.engine.basis import Basis
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing import Pricing
from moesim.engine.residencies import Residencies
from moesim.engine.routing import Routing
from moesim.placement.base import bytes_between_gpus


class Program:
    """The chunks of a case, in order, decided and priced; the clock plays them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.routing = Routing(case)
        self.basis = Basis(case.prices)
        self.pricing = Pricing(case, self.routing.experts, self.basis)
        self.residencies = Residencies(case, self.routing)

    def chunks(self) -> Iterator[Chunk]:
        """Decide and price chunk by chunk."""
        for first, last in self.routing.pieces():
            yield self._chunk(first, last)

    def _chunk(self, first: int, last: int) -> Chunk:
        tokens = self.pricing.tokens[first:last]
        routed = self.case.gating.route(self.routing.counts(first, last), tokens)
        active = self.routing.active(first, last)
        rows = np.where(active[:, :, None], routed.rows, 0)
        chunk = Chunk(
            first=first,
            passes=last - first,
            attention={},
            gate={},
            shared={},
            restore={},
            head=self.pricing.head(first, last),
            work={},
            dispatch={},
            combine={},
            kept=routed.kept,
            dropped=routed.dropped,
        )
        self.pricing.price_layers(chunk, routed.kept.sum(axis=3), routed.capacity)
        self._price_collectives(chunk, np.where(active[:, :, None, None], routed.sent, 0))
        needs = {
            (layer, gpu): self.routing.needs(rows[:, layer], active[:, layer], gpu)
            for layer in range(len(self.routing.moe_layers))
            for gpu in range(self.case.gpus)
        }
        work = LayerWork(self.case, self.routing, self.basis)

        def prices(key: tuple[int, int]) -> Ints:
            return work.offers(key, needs[key], rows[:, key[0]])

        for key, turns in self.residencies.turns(needs, first, last, prices).items():
            streamed = active[:, key[0]] & self._streamed(key, first, last)
            chunk.work[key] = work.of(key, needs[key], turns, rows[:, key[0]], streamed)
        return chunk

    def _streamed(self, key: tuple[int, int], first: int, last: int) -> NDArray[np.bool_]:
        """By pass, whether the layer would be copied whole."""
        layer, gpu = key
        streams = self.case.prefill == "stream" and not self.case.resident(gpu)[layer]
        return self.case.bypassed[first:last] & streams

    def _price_collectives(self, chunk: Chunk, sent: Ints) -> None:
        """Dispatch and combine of ``sent`` rows int64[passes, MoE layers, senders, experts]."""
        case = self.case
        if case.gpus == 1:
            return
        row_bytes = case.model.hidden_size * case.model.activation_bytes
        for layer in range(len(self.routing.moe_layers)):
            matrix = bytes_between_gpus(sent[:, layer], case.gpu_of_expert, row_bytes)
            back, price = matrix.transpose(0, 2, 1), case.prices.all_to_all_ns
            chunk.dispatch[layer] = self.basis.add("all_to_all", price(matrix), matrix)
            chunk.combine[layer] = self.basis.add("all_to_all", price(back), back)
