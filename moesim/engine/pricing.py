"""Prices of everything in a forward pass but its expert kernels and copies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np

from moesim.engine.basis import Basis
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums
from moesim.workload.sources import SourceSums

BLOCK = 1 << 15
"""Passes of which attention is priced at once: many have the same shape."""


class Pricing:
    """Prices of a case, int64[passes, gpus] each; ``experts`` a layer has."""

    def __init__(self, case: Case, experts: int, basis: Basis) -> None:
        self.case, self.experts, self.basis = case, experts, basis
        self._blocks: dict[LayerSpec, dict[int, tuple[Ints, Ints | None]]] = {}
        windows = {layer.attention.window for layer in case.model.layers} | {None}
        self.sums = {
            window: AttentionSums.of(case.schedule, case.trace, case.gpus, window)
            for window in windows
        }
        self.shared_sums = {
            window: sums.of_groups(case.group) for window, sums in self.sums.items()
        }
        self.sources: SourceSums | None = None
        if any(layer.cross_attention for layer in case.model.layers):
            sources = SourceSums.of(case.schedule, case.trace, case.gpus)
            self.sources = sources.of_groups(case.group)

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
        known = {layer: self._of_passes(layer, span, times[layer]) for layer in times}
        moe = [layer for layer in self.case.model.layers if layer.moe is not None]
        apart = self.case.prepares_beside or self.case.gating.agrees
        for layer, same in zip(self.case.model.layers, alike, strict=True):
            chunk.attention[layer.index], shared = known[same]
            if shared is not None:
                chunk.shared[layer.index] = shared
        for group in _equal_layers(moe, choices, capacity):
            layer, kept, room = moe[group[0]], choices[:, group[0]], capacity[:, group[0]]
            gate, prepare, restore = self._gate_prices(layer, tokens, kept, room, len(group))
            gate = gate if apart else gate + prepare
            prepare = prepare if apart else np.zeros_like(prepare)
            if self.case.group > 1:
                restore = restore + self._gathered(span, len(group))
            for index in (moe[number].index for number in group):
                chunk.gate[index], chunk.prepare[index] = gate, prepare
                chunk.restore[index] = restore

    def _of_passes(self, layer: LayerSpec, span: slice, times: int) -> tuple[Ints, Ints | None]:
        """Prices of ``_layer_prices``, which are worked out block by block."""
        known = self._blocks.setdefault(layer, {})
        numbers = range(span.start // BLOCK, (span.stop - 1) // BLOCK + 1)
        for number in numbers:
            if number not in known:
                block = slice(number * BLOCK, (number + 1) * BLOCK)
                known[number] = self._layer_prices(layer, block, times)
        for passed in [number for number in known if number < numbers[0]]:
            del known[passed]
        cut = slice(span.start - numbers[0] * BLOCK, span.stop - numbers[0] * BLOCK)
        attention, shared = zip(*(known[number] for number in numbers), strict=True)
        beside = None if layer.moe is None else np.concatenate(shared)[cut]
        return np.concatenate(attention)[cut], beside

    def _layer_prices(self, layer: LayerSpec, span: slice, times: int) -> tuple[Ints, Ints | None]:
        """Prices of one of ``times`` equal layers."""
        sums = self.shared_sums[layer.attention.window]
        prices, add = self.case.prices, self.basis.add
        tokens = sums.tokens[span]
        flat = tokens.ravel()
        shape = (layer, flat, sums.context_tokens[span].ravel(), sums.kv_tokens[span].ravel())
        attention = add("attention", prices.attention_ns(*shape), *shape, times=times)
        if layer.cross_attention is not None:
            attention = attention + self._crossed(layer, span, times)
        if self.case.group > 1:
            attention = attention + self._reduced(flat, times, "attention")
        if layer.moe is None:
            dense = add("dense", prices.dense_ns(layer, flat), layer, flat, times=times)
            if self.case.group > 1:
                dense = dense + self._reduced(flat, times, "attention")
            return (attention + dense).reshape(tokens.shape), None
        shared = add("shared", prices.shared_ns(layer, flat), layer, flat, times=times)
        return attention.reshape(tokens.shape), shared.reshape(tokens.shape)

    def _crossed(self, layer: LayerSpec, span: slice, times: int) -> Ints:
        """What one of ``times`` equal decoder layers does with the sources, int64[n]."""
        sources = self.sources
        assert sources is not None, "some layer attends to them"
        context, kv, projected = (
            of[span].ravel()
            for of in (sources.context_tokens, sources.kv_tokens, sources.projected_tokens)
        )
        price = self.case.prices.cross_attention_ns(layer, context, kv, projected)
        shape = (layer, context, kv, projected)
        return self.basis.add("cross_attention", price, *shape, times=times)

    def _gathered(self, span: slice, times: int) -> Ints:
        """The all-reduce at the end of a MoE layer, int64[passes, gpus]."""
        tokens = self.shared_sums[None].tokens[span]
        return self._reduced(tokens.ravel(), times, "dispatch_combine").reshape(tokens.shape)

    def _reduced(self, tokens: Ints, times: int, charge: str) -> Ints:
        """All-reduces over a group of ``tokens`` int64[n] of hidden vectors."""
        case, row_bytes = self.case, self.case.model.hidden_size * self.case.model.activation_bytes
        shape = (case.group, tokens * row_bytes)
        price = case.prices.all_reduce_ns(*shape)
        return self.basis.add("all_reduce", price, *shape, times=times, charge=charge)

    def _gate_prices(
        self, layer: LayerSpec, tokens: Ints, kept: Ints, capacity: Ints, times: int
    ) -> tuple[Ints, Ints, Ints]:
        """Prices int64[passes, gpus] of the gate, of preparing its rows and of restoring their
        order, in one of ``times`` equal layers; ``tokens`` and ``kept`` choices int64[passes,
        gpus], ``capacity`` int64[passes].
        """
        case, prices, add = self.case, self.case.prices, partial(self.basis.add, times=times)
        decide = prices.decide_ns() if case.decide == "device" and case.needs_decision else 0
        if case.gating.uneven:
            flat = tokens.ravel()
            gate = add("gate", prices.gate_ns(layer, flat), layer, flat).reshape(tokens.shape)
            prepare = restore = self._reordered(layer, kept, times)
            self._restored(layer, kept, restore, times)
            return gate + decide, prepare, restore
        most = tokens.max(axis=1)
        gate = add("gate", prices.gate_ns(layer, most), layer, most) + decide
        gate = np.tile(gate[:, None], (1, tokens.shape[1]))
        if not case.gating.masks:
            restore = self._restored(layer, kept, prices.permute_ns(layer, kept.ravel()), times)
            return gate, self._encoded(layer, most, kept, capacity, times), restore
        masked = (layer, most, self.experts, capacity)
        prepare = add("masks", prices.masks_ns(*masked), *masked)
        restore = add("combine_product", prices.combine_product_ns(*masked), *masked)
        shape = (1, tokens.shape[1])
        return gate, np.tile(prepare[:, None], shape), np.tile(restore[:, None], shape)

    def _reordered(self, layer: LayerSpec, rows: Ints, times: int) -> Ints:
        flat = rows.ravel()
        price = self.case.prices.permute_ns(layer, flat)
        return self.basis.add("permute", price, layer, flat, times=times).reshape(rows.shape)

    def _restored(self, layer: LayerSpec, rows: Ints, price: Ints, times: int) -> Ints:
        shape = (price.ravel(), layer, rows.ravel())
        self.basis.add("permute", *shape, times=times, charge="dispatch_combine")
        return price.reshape(rows.shape)

    def _encoded(
        self, layer: LayerSpec, most: Ints, kept: Ints, capacity: Ints, times: int
    ) -> Ints:
        most, capacity = (np.repeat(one, kept.shape[1]) for one in (most, capacity))
        shape = (layer, most, self.experts, capacity, kept.ravel())
        price = self.basis.add("encode", self.case.prices.encode_ns(*shape), *shape, times=times)
        return price.reshape(kept.shape)


def _equal_layers(layers: list[LayerSpec], choices: Ints, capacity: Ints) -> list[list[int]]:
    """Places of MoE layers that are alike and have the same choices int64[passes, layers, gpus] and
    capacity int64[passes, layers]: their gates cost the same.
    """
    groups: list[list[int]] = []
    alike = [replace(layer, index=0) for layer in layers]
    for place, layer in enumerate(alike):
        for group in groups:
            same = alike[group[0]] == layer
            same = same and np.array_equal(choices[:, group[0]], choices[:, place])
            if same and np.array_equal(capacity[:, group[0]], capacity[:, place]):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups
