"""Prices of everything in a forward pass but its expert kernels and copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums


class Pricing:
    """Prices of a case, int64[passes, gpus] each; ``experts`` a layer has."""

    def __init__(self, case: Case, experts: int) -> None:
        self.case, self.experts = case, experts
        windows = {layer.attention.window for layer in case.model.layers} | {None}
        self.sums = {
            window: AttentionSums.of(case.schedule, case.trace, case.gpus, window)
            for window in windows
        }

    @property
    def tokens(self) -> Ints:
        """Tokens int64[passes, gpus] of the whole run."""
        return self.sums[None].tokens

    def head(self, first: int, last: int) -> Ints:
        """The final norm and head; nothing where the encoder ran."""
        tokens = self.tokens[first:last]
        encode = self.case.schedule.phase[first:last] == Phase.ENCODE
        return np.where(
            encode[:, None], 0, self.case.prices.head_ns(tokens.ravel()).reshape(tokens.shape)
        )

    def price_layers(self, chunk: Chunk, choices: Ints, capacity: Ints) -> None:
        """Fill in the prices of every model layer; equal layers are priced once."""
        known: dict[LayerSpec, tuple[Ints, Ints | None]] = {}
        span = slice(chunk.first, chunk.first + chunk.passes)
        tokens = self.tokens[span]
        moe_layer = 0
        for layer in self.case.model.layers:
            alike = replace(layer, index=0)
            if alike not in known:
                known[alike] = self._layer_prices(alike, span)
            chunk.attention[layer.index], shared = known[alike]
            if layer.moe is not None and shared is not None:
                chunk.shared[layer.index] = shared
                gate, restore = self._gate_prices(layer, tokens, choices[:, moe_layer], capacity)
                chunk.gate[layer.index], chunk.restore[layer.index] = gate, restore
                moe_layer += 1

    def _layer_prices(self, layer: LayerSpec, span: slice) -> tuple[Ints, Ints | None]:
        sums, prices = self.sums[layer.attention.window], self.case.prices
        tokens = sums.tokens[span]
        flat = tokens.ravel()
        attention = prices.attention_ns(
            layer, flat, sums.context_tokens[span].ravel(), sums.kv_tokens[span].ravel()
        )
        if layer.moe is None:
            return (attention + prices.dense_ns(layer, flat)).reshape(tokens.shape), None
        shared = prices.shared_ns(layer, flat).reshape(tokens.shape)
        return attention.reshape(tokens.shape), shared

    def _gate_prices(
        self, layer: LayerSpec, tokens: Ints, choices: Ints, capacity: Ints
    ) -> tuple[Ints, Ints]:
        """Prices of the gate with what it prepares, and of restoring the order; int64[passes,
        gpus].
        """
        case, prices = self.case, self.case.prices
        decide = prices.decide_ns() if case.decide == "device" and case.needs_decision else 0
        if not case.gating.masks:
            permute = prices.permute_ns(layer, choices.ravel()).reshape(choices.shape)
            gate = prices.gate_ns(layer, tokens.ravel()).reshape(tokens.shape)
            return gate + permute + decide, permute
        most = tokens.max(axis=1)
        gate = prices.gate_ns(layer, most) + prices.masks_ns(layer, most, self.experts, capacity)
        restore = prices.combine_product_ns(layer, most, self.experts, capacity)
        shape = (1, tokens.shape[1])
        return np.tile(gate[:, None] + decide, shape), np.tile(restore[:, None], shape)
