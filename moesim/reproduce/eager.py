"""What unfused kernels move beyond the prices of fused ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Ints
from moesim.hardware import CostModel
from moesim.hardware.operations.attention.attention import PASSES
from moesim.hardware.operations.kernels.masks import MASK_TRAFFIC
from moesim.hardware.operations.kernels.positions import POSITION_TRAFFIC
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.roofline import activation_elements
from moesim.model.spec import LayerSpec
from moesim.reproduce.machines import PRODUCT_GBPS
from moesim.reproduce.parameters import Assumptions, number
from moesim.reproduce.settings import Phase

LOGIT_PRICED = 2
"""Bytes a logit that the head's price has: fp16, written."""


class EagerPrices:
    """``prices`` with fairseq's unfused attention, softmax and logits.

    Scores are made in full, also of the tokens that a prompt's mask hides, and every kernel between
    the products reads and writes them, ``score_bytes`` in all. What an expert's products read and
    write is in the rate of large products already, so ``expert_passes`` leaves it out.
    """

    def __init__(self, prices: CostModel, phase: Phase, values: Assumptions) -> None:
        self._prices, self.phase = prices, phase
        self.values = {
            name: number(values, name)
            for name in (
                "score_bytes", "elementwise_passes", "logit_traffic_bytes", "mask_traffic_bytes",
                "position_traffic_bytes", "expert_passes",
            )
        }  # fmt: skip
        self.bytes_per_second = 1e9 * number(values, "elementwise_gbps")

    def __getattr__(self, name: str) -> Any:
        """Whatever else the prices have."""
        return getattr(self._prices, name)

    def price(self, kind: str, *shape: Any) -> Ints:
        """As ``CostModel.price``."""
        own = getattr(type(self), f"{kind}_ns", None)
        return own(self, *shape) if own else self._prices.price(kind, *shape)

    def attention_ns(self, layer: LayerSpec, tokens: Ints, context: Ints, kv: Ints) -> Ints:
        """As ``CostModel.attention_ns``."""
        scores = 2 * context - tokens if self.phase == "prefill" else context
        each = self.values["score_bytes"] * layer.attention.heads
        moved = scores * each + tokens * self._passes(layer)
        return self._more(self._prices.attention_ns(layer, tokens, scores, kv), moved)

    def cross_attention_ns(
        self, layer: LayerSpec, context: Ints, kv: Ints, projected: Ints
    ) -> Ints:
        """As ``CostModel.cross_attention_ns``."""
        price = self._prices.cross_attention_ns(layer, context, kv, projected)
        heads = layer.cross_attention.heads if layer.cross_attention else 0
        return self._more(price, context * (self.values["score_bytes"] * heads))

    def _passes(self, layer: LayerSpec) -> float:
        """Bytes a token of the passes over hidden rows that no price has; of a dense layer's."""
        model = self._prices.model
        network = layer.dense or (layer.moe.expert if layer.moe else None)
        assert network is not None
        priced = PASSES + activation_elements(network) / model.hidden_size
        beyond = self.values["elementwise_passes"] - priced
        return float(beyond * model.hidden_size * model.activation_bytes)

    def head_ns(self, tokens: Ints) -> Ints:
        """As ``CostModel.head_ns``."""
        beyond = self.values["logit_traffic_bytes"] - LOGIT_PRICED
        moved = tokens * (beyond * self._prices.model.vocab_size)
        return self._more(self._prices.head_ns(tokens), moved)

    def masks_ns(self, layer: LayerSpec, tokens: Ints, experts: int, capacity: Ints) -> Ints:
        """As ``CostModel.masks_ns``."""
        elements = tokens.astype(np.float64) * experts * capacity
        beyond = (self.values["mask_traffic_bytes"] - MASK_TRAFFIC) * elements
        beyond = beyond + self._positions(layer, tokens, experts)
        price = self._prices.masks_ns(layer, tokens, experts, capacity)
        return _whole(price + beyond / PRODUCT_GBPS)

    def encode_ns(
        self, layer: LayerSpec, tokens: Ints, experts: int, capacity: Ints, rows: Ints
    ) -> Ints:
        """As ``CostModel.encode_ns``."""
        price = self._prices.encode_ns(layer, tokens, experts, capacity, rows)
        return _whole(price + self._positions(layer, tokens, experts) / PRODUCT_GBPS)

    def _positions(self, layer: LayerSpec, tokens: Ints, experts: int) -> Floats:
        """Bytes of the choices' positions beyond those that are priced."""
        assert layer.moe is not None, "a dense layer has no choices"
        each = (self.values["position_traffic_bytes"] - POSITION_TRAFFIC) * layer.moe.top_k
        return tokens.astype(np.float64) * experts * each

    def experts_ns(self, layer: LayerSpec, rows: Ints, starts: Ints, *tokens: Ints) -> Ints:
        """As ``CostModel.experts_ns``."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        model, network = self._prices.model, layer.moe.expert
        elements = self.values["expert_passes"] * network.hidden_size - activation_elements(network)
        running = np.concatenate(([0], np.cumsum(rows)))
        of_launch = running[np.append(starts, len(rows))[1:]] - running[starts]
        price = self._prices.experts_ns(layer, rows, starts, *tokens)
        return self._more(price, of_launch * (elements * model.activation_bytes))

    def _more(self, price: Ints, moved: Any) -> Ints:
        return _whole(price + np.asarray(moved, np.float64) * (NS / self.bytes_per_second))


def _whole(price: Floats) -> Ints:
    return np.asarray(np.maximum(price, 0.0) + 0.5, np.int64)
