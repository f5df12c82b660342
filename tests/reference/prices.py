"""Prices to compare with: toy formulas in two forms, and a scalar face of any CostModel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ToyPrices:
    """Integer formulas in which every argument matters; the reference's face (plain integers).

    Expert kernels cost a start-up, rise unevenly with each expert's rows and depend on the order,
    so that a wrong launch is noticed. An all-to-all prices out and in differently, so that a matrix
    that was not transposed is noticed.
    """

    base: int = 7
    token: int = 3
    context: int = 1
    expert_start: int = 11
    expert: int = 13
    tile: int = 5
    copy_latency: int = 17
    copy_bytes_a_ns: int = 3
    cpu_start: int = 29
    cpu_row: int = 23
    exchange_latency: int = 19
    exchange_bytes_a_ns: int = 4
    read_latency: int = 31
    read_bytes_a_ns: int = 2
    unpacking: int = 0

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int:
        if tokens == 0:
            return 0
        fixed: int = self.base + layer.kind + self.token * tokens
        alone = sum(place * number for place, number in enumerate(decoding, 3))
        return fixed + self.context * (2 * context_tokens + kv_tokens) + alone

    def cross_attention_ns(self, layer: Any, context: int, kv: int, projected: int) -> int:
        if context == 0:
            return 0
        price: int = self.base // 3 + layer.kind + context + 2 * kv + self.token * projected
        return price

    def dense_ns(self, layer: Any, tokens: int) -> int:
        return 2 * self.base + 3 * layer.kind + 2 * self.token * tokens if tokens else 0

    def gate_ns(self, layer: Any, tokens: int) -> int:
        return self.base + layer.kind + self.token * tokens + tokens // 3 if tokens else 0

    def permute_ns(self, layer: Any, rows: int) -> int:
        return self.base // 2 + 2 * layer.kind + rows + rows // 5 if rows else 0

    def shared_ns(self, layer: Any, tokens: int) -> int:
        """Every other kind of layer has a shared expert."""
        if tokens == 0 or layer.kind % 2 == 0:
            return 0
        return 3 * self.base + self.expert * tokens

    def experts_ns(self, layer: Any, rows: list[int], *tokens: int) -> int:
        """``tokens``: where they are told; one alone need not be."""
        tiles = sum(-(-n // 3) for n in rows)
        by_place = sum(place * (n % 4) for place, n in enumerate(rows))
        uneven = isqrt(sum(rows) * self.expert) + max(rows, default=0)
        price: int = (
            self.expert_start
            + layer.kind
            + self.expert * len(rows)
            + self.tile * tiles
            + uneven
            + by_place
        )
        many = sum(isqrt(97 * (number - 1)) for number in tokens)
        return price + many + self.unpacking_ns(layer, len(rows))

    def unpacking_ns(self, layer: Any, experts: int) -> int:
        """Every fourth kind is in a format that needs none."""
        price: int = self.unpacking * (layer.kind % 4) * experts
        return price

    def cpu_expert_ns(self, layer: Any, rows: int) -> int:
        """One expert on the host; without rows it is invoked all the same."""
        fixed: int = 1 + self.cpu_start + 5 * layer.kind
        return fixed + self.cpu_row * rows + rows * rows // 7

    def near_expert_ns(self, layer: Any, rows: int) -> int:
        """One expert on a near-memory device, dearer by other sizes than the host's."""
        fixed: int = 3 + self.cpu_start // 2 + 2 * layer.kind
        return fixed + max(40, (self.cpu_row // 3) * rows) + rows

    def head_ns(self, tokens: int) -> int:
        return 5 * self.base + self.token * tokens + 1 if tokens else 0

    def sampling_ns(self, tokens: int) -> int:
        return self.base // 2 + 3 * tokens if tokens else 0

    def drafting_ns(self, times: int, *numbers: int) -> int:
        """Of drafts for these tokens and requests, and the sums of their attention."""
        return sum(place * number for place, number in enumerate(numbers, 2)) + times * numbers[5]

    def masks_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return self.base + layer.kind + tokens * experts * capacity // 2 if tokens else 0

    def combine_product_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return 1 + 2 * layer.kind + tokens * experts * capacity // 3 if tokens else 0

    def encode_ns(self, layer: Any, tokens: int, experts: int, capacity: int, rows: int) -> int:
        if tokens == 0:
            return 0
        fixed: int = self.base + 3 * layer.kind + tokens * experts // 5
        return fixed + experts * capacity // 2 + rows + rows // 4

    def decide_ns(self) -> int:
        return self.base + 2

    def copy_ns(
        self, size: int, direction: str, pinned: bool = True, copies: int = 1
    ) -> int:  # the contract's signature
        factor = (1 if pinned else 2) * (1 if direction == "h2d" else 3)
        return copies * self.copy_latency + -(-size * factor // self.copy_bytes_a_ns)

    def all_to_all_ns(self, matrix: list[list[int]]) -> int:
        gpus = range(len(matrix))
        if len(matrix) == 1:
            return 0
        size = max(
            3 * sum(matrix[g][o] for o in gpus if o != g)
            + sum(matrix[o][g] for o in gpus if o != g)
            for g in gpus
        )
        return self.exchange_latency + -(-size // self.exchange_bytes_a_ns)

    def all_reduce_ns(self, gpus: int, size: int) -> int:
        return self.exchange_latency // 2 + gpus * size + gpus if size else 0

    def gather_logits_ns(self, gpus: int, tokens: int) -> int:
        return self.exchange_latency // 3 + 2 * gpus * tokens + 1 if tokens else 0

    def read_logits_ns(self, tokens: int, wait_ns: int) -> int:
        return self.copy_latency + 5 * tokens + wait_ns if tokens else 0

    def step_inputs_ns(self, tokens: int, copies: int) -> int:
        return copies * self.copy_latency + 2 * tokens + 3 if tokens else 0

    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int:
        """The latency is hidden behind other reads in part."""
        busy = self.read_latency // 2 * reads + -(
            -size * (2 if mapped else 1) // self.read_bytes_a_ns
        )
        return busy if queued else busy + self.read_latency


@dataclass(frozen=True)
class Kind:
    """All that a toy price knows of a layer."""

    kind: int


class ToyCostModel:
    """The same prices with CostModel's array signatures (int64 in, int64 out).

    ``kind_of`` tells the kind of whatever stands for a layer.
    """

    def __init__(self, prices: ToyPrices, kind_of: Callable[[Any], int]) -> None:
        self.prices, self.kind_of = prices, kind_of

    def _kind(self, layer: Any) -> Kind:
        return Kind(self.kind_of(layer))

    def _each(self, price: Any, *columns: Any) -> Ints:
        arrays = np.broadcast_arrays(*[np.atleast_1d(np.asarray(c)) for c in columns])
        rows = zip(*[a.ravel().tolist() for a in arrays], strict=True)
        prices = np.array([price(*row) for row in rows], dtype=np.int64)
        return prices.reshape(arrays[0].shape)

    def provenance(self, kind: str, price_ns: Any, *shape: Any) -> npt.NDArray[np.float64]:
        """All of it on measurements, so that a share which was forgotten is noticed."""
        return np.array([float(np.sum(price_ns)), 0.0, 0.0, 0.0, 0.0])

    def price(self, kind: str, *shape: Any) -> Ints:
        return np.asarray(getattr(self, f"{kind}_ns")(*shape))

    def attention_ns(self, layer: Any, *sums: Any) -> Ints:
        price = self.prices.attention_ns
        return self._each(lambda *n: price(self._kind(layer), *n), *sums)

    def cross_attention_ns(self, layer: Any, context: Any, kv: Any, projected: Any) -> Ints:
        price = self.prices.cross_attention_ns
        return self._each(lambda *n: price(self._kind(layer), *n), context, kv, projected)

    def dense_ns(self, layer: Any, tokens: Any) -> Ints:
        return self._each(lambda n: self.prices.dense_ns(self._kind(layer), n), tokens)

    def gate_ns(self, layer: Any, tokens: Any) -> Ints:
        return self._each(lambda n: self.prices.gate_ns(self._kind(layer), n), tokens)

    def layer_copy_ns(self, layer: Any, tokens: Any, pinned: bool) -> Ints:
        copied = self.prices.copy_ns(layer.link_bytes, "h2d", pinned)
        return self._each(lambda n: copied if n else 0, tokens)

    def permute_ns(self, layer: Any, rows: Any) -> Ints:
        return self._each(lambda n: self.prices.permute_ns(self._kind(layer), n), rows)

    def shared_ns(self, layer: Any, tokens: Any) -> Ints:
        return self._each(lambda n: self.prices.shared_ns(self._kind(layer), n), tokens)

    def experts_ns(self, layer: Any, rows: Any, starts: Any, *tokens: Ints) -> Ints:
        rows, starts = np.asarray(rows).tolist(), np.asarray(starts).tolist()
        ends = [*starts[1:], len(rows)][: len(starts)]  # without a launch none
        launches = zip(starts, ends, *(one.tolist() for one in tokens), strict=True)
        price, kind = self.prices.experts_ns, self._kind(layer)
        return np.array([price(kind, rows[a:b], *told) for a, b, *told in launches], np.int64)

    def unpacking_ns(self, layer: Any, experts: Any) -> Ints:
        return self._each(lambda n: self.prices.unpacking_ns(self._kind(layer), n), experts)

    def cpu_expert_ns(self, layer: Any, rows: Any) -> Ints:
        return self._each(lambda n: self.prices.cpu_expert_ns(self._kind(layer), n), rows)

    def near_expert_ns(self, layer: Any, rows: Any) -> Ints:
        return self._each(lambda n: self.prices.near_expert_ns(self._kind(layer), n), rows)

    def head_ns(self, tokens: Any) -> Ints:
        return self._each(self.prices.head_ns, tokens)

    def sampling_ns(self, tokens: Any) -> Ints:
        return self._each(self.prices.sampling_ns, tokens)

    def drafting_ns(self, drafter: Any, *numbers: Any) -> Ints:
        return self._each(lambda *n: self.prices.drafting_ns(drafter.times, *n), *numbers)

    def masks_ns(self, layer: Any, tokens: Any, experts: Any, capacity: Any) -> Ints:
        return self._each(
            lambda *n: self.prices.masks_ns(self._kind(layer), *n), tokens, experts, capacity
        )

    def combine_product_ns(self, layer: Any, tokens: Any, experts: Any, capacity: Any) -> Ints:
        price = self.prices.combine_product_ns
        return self._each(lambda *n: price(self._kind(layer), *n), tokens, experts, capacity)

    def encode_ns(self, layer: Any, tokens: Any, experts: Any, capacity: Any, rows: Any) -> Ints:
        price, kind = self.prices.encode_ns, self._kind(layer)
        return self._each(lambda *n: price(kind, *n), tokens, experts, capacity, rows)

    def decide_ns(self) -> int:
        return self.prices.decide_ns()

    def prediction_ns(self, stated_ns: Any) -> Ints:
        return np.asarray(stated_ns, np.int64)

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return self.prices.copy_ns(int(size), direction, bool(pinned), int(copies))

    def all_to_all_ns(self, matrix: Any) -> Ints:
        return np.array([self.prices.all_to_all_ns(m.tolist()) for m in np.asarray(matrix)])

    def all_reduce_ns(self, gpus: int, size: Any) -> Ints:
        return self._each(lambda n: self.prices.all_reduce_ns(gpus, n), size)

    def gather_logits_ns(self, gpus: int, tokens: Any) -> Ints:
        return self._each(lambda n: self.prices.gather_logits_ns(gpus, n), tokens)

    def read_logits_ns(self, tokens: Any, wait_ns: int) -> Ints:
        return self._each(lambda n: self.prices.read_logits_ns(n, wait_ns), tokens)

    def step_inputs_ns(self, tokens: Any, copies: int) -> Ints:
        return self._each(lambda n: self.prices.step_inputs_ns(n, copies), tokens)

    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int:
        return self.prices.storage_read_ns(size, reads, mapped, queued)


class ScalarPrices:
    """Any CostModel as the reference sees it; ``layers`` are the CostModel's own, by index."""

    def __init__(self, costs: Any, layers: Any) -> None:
        self.costs = costs
        self.layers = {layer.index: layer for layer in layers}

    def _one(self, kind: str, *arguments: Any) -> int:
        columns = [np.array([n], dtype=np.int64) for n in arguments]
        (price,) = self.costs.price(kind, *columns)
        return int(price)

    def _layered(self, kind: str, layer: Any, *arguments: int) -> int:
        columns = [np.array([n], dtype=np.int64) for n in arguments]
        (price,) = self.costs.price(kind, self.layers[layer.index], *columns)
        return int(price)

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int:
        return self._layered("attention", layer, tokens, context_tokens, kv_tokens, *decoding)

    def cross_attention_ns(self, layer: Any, context: int, kv: int, projected: int) -> int:
        return self._layered("cross_attention", layer, context, kv, projected)

    def dense_ns(self, layer: Any, tokens: int) -> int:
        return self._layered("dense", layer, tokens)

    def gate_ns(self, layer: Any, tokens: int) -> int:
        return self._layered("gate", layer, tokens)

    def permute_ns(self, layer: Any, rows: int) -> int:
        return self._layered("permute", layer, rows)

    def shared_ns(self, layer: Any, tokens: int) -> int:
        return self._layered("shared", layer, tokens)

    def experts_ns(self, layer: Any, rows: list[int], *tokens: int) -> int:
        launch, start = np.array(rows, dtype=np.int64), np.array([0], dtype=np.int64)
        told = [np.array([one], dtype=np.int64) for one in tokens]
        (price,) = self.costs.experts_ns(self.layers[layer.index], launch, start, *told)
        return int(price)

    def unpacking_ns(self, layer: Any, experts: int) -> int:
        return self._layered("unpacking", layer, experts)

    def cpu_expert_ns(self, layer: Any, rows: int) -> int:
        return self._layered("cpu_expert", layer, rows)

    def near_expert_ns(self, layer: Any, rows: int) -> int:
        return int(self.costs.price("near_expert", self.layers[layer.index], np.array([rows]))[0])

    def head_ns(self, tokens: int) -> int:
        return self._one("head", tokens)

    def sampling_ns(self, tokens: int) -> int:
        return self._one("sampling", tokens)

    def drafting_ns(self, times: int, *numbers: int) -> int:
        raise NotImplementedError("no case of these prices has what drafts")

    def masks_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return self._layered("masks", layer, tokens, experts, capacity)

    def combine_product_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return self._layered("combine_product", layer, tokens, experts, capacity)

    def encode_ns(self, layer: Any, tokens: int, experts: int, capacity: int, rows: int) -> int:
        return self._layered("encode", layer, tokens, experts, capacity, rows)

    def decide_ns(self) -> int:
        return int(self.costs.price("decide"))

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return int(self.costs.copy_ns(size, direction, pinned, copies))

    def all_to_all_ns(self, matrix: list[list[int]]) -> int:
        return self._one("all_to_all", matrix)

    def all_reduce_ns(self, gpus: int, size: int) -> int:
        (price,) = self.costs.all_reduce_ns(gpus, np.array([size], dtype=np.int64))
        return int(price)

    def gather_logits_ns(self, gpus: int, tokens: int) -> int:
        (price,) = self.costs.price("gather_logits", gpus, np.array([tokens], dtype=np.int64))
        return int(price)

    def read_logits_ns(self, tokens: int, wait_ns: int) -> int:
        (price,) = self.costs.price("read_logits", np.array([tokens], dtype=np.int64), wait_ns)
        return int(price)

    def step_inputs_ns(self, tokens: int, copies: int) -> int:
        (price,) = self.costs.price("step_inputs", np.array([tokens], dtype=np.int64), copies)
        return int(price)

    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int:
        return int(self.costs.price("storage_read", size, reads, mapped, queued))
