"""Prices of everything in a forward pass but its expert kernels and copies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from moesim.engine.basis import Basis
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums


class Pricing:
    """Prices of a case, int64[passes, gpus] each; ``experts`` a layer has."""

    def __init__(self, case: Case, experts: int, basis: Basis) -> None:
        self.case, self.experts, self.basis = case, experts, basis
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
        encode = self.case.schedule.phase[first:last] == Phase.ENCODE
        tokens = np.where(encode[:, None], 0, self.tokens[first:last])
        flat = tokens.ravel()
        return self.basis.add("head", self.case.prices.head_ns(flat), flat).reshape(tokens.shape)

    def price_layers(self, chunk: Chunk, choices: Ints, capacity: Ints) -> None:
        """Fill in the prices of every model layer; equal layers are priced once."""
        span = slice(chunk.first, chunk.first + chunk.passes)
        tokens = self.tokens[span]
        alike = [replace(layer, index=0) for layer in self.case.model.layers]
        times = Counter(alike)
        known = {layer: self._layer_prices(layer, span, times[layer]) for layer in times}
        moe_layer = 0
        for layer, same in zip(self.case.model.layers, alike, strict=True):
            chunk.attention[layer.index], shared = known[same]
            if layer.moe is not None and shared is not None:
                chunk.shared[layer.index] = shared
                gate, restore = self._gate_prices(layer, tokens, choices[:, moe_layer], capacity)
                chunk.gate[layer.index], chunk.restore[layer.index] = gate, restore
                moe_layer += 1

    def _layer_prices(self, layer: LayerSpec, span: slice, times: int) -> tuple[Ints, Ints | None]:
        """Prices of one of ``times`` equal layers."""
        sums, prices, add = self.sums[layer.attention.window], self.case.prices, self.basis.add
        tokens = sums.tokens[span]
        flat = tokens.ravel()
        shape = (layer, flat, sums.context_tokens[span].ravel(), sums.kv_tokens[span].ravel())
        attention = add("attention", prices.attention_ns(*shape), *shape, times=times)
        if layer.moe is None:
            dense = add("dense", prices.dense_ns(layer, flat), layer, flat, times=times)
            return (attention + dense).reshape(tokens.shape), None
        shared = add("shared", prices.shared_ns(layer, flat), layer, flat, times=times)
        return attention.reshape(tokens.shape), shared.reshape(tokens.shape)

    def _gate_prices(
        self, layer: LayerSpec, tokens: Ints, choices: Ints, capacity: Ints
    ) -> tuple[Ints, Ints]:
        """Prices of the gate with what it prepares, and of restoring the order; int64[passes,
        gpus].
        """
        case, prices, add = self.case, self.case.prices, self.basis.add
        decide = prices.decide_ns() if case.decide == "device" and case.needs_decision else 0
        if not case.gating.masks:
            rows, flat = choices.ravel(), tokens.ravel()
            permute = add("permute", prices.permute_ns(layer, rows), layer, rows)
            add("permute", permute, layer, rows, charge="dispatch_combine")
            gate = add("gate", prices.gate_ns(layer, flat), layer, flat).reshape(tokens.shape)
            permute = permute.reshape(choices.shape)
            return gate + permute + decide, permute
        most = tokens.max(axis=1)
        masked = (layer, most, self.experts, capacity)
        gate = add("gate", prices.gate_ns(layer, most), layer, most)
        gate = gate + add("masks", prices.masks_ns(*masked), *masked)
        restore = add("combine_product", prices.combine_product_ns(*masked), *masked)
        shape = (1, tokens.shape[1])
        return np.tile(gate[:, None] + decide, shape), np.tile(restore[:, None], shape)
