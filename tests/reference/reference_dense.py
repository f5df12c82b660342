"""Attention and dense networks of a layer, of one GPU or of those that share them."""

from __future__ import annotations

from dataclasses import replace

from .reference_batches import Pass
from .reference_host import Gpu, Host, nearest
from .reference_words import (
    DECODE,
    DRAFTING,
    ENCODE,
    INPUTS,
    LAYER_COPIES,
    LOGITS,
    MIXED,
    REBALANCING,
    Config,
    Layer,
    Model,
    Prices,
    Trace,
)


class Dense:
    """What a clock does before the gate."""

    trace: Trace
    model: Model
    config: Config
    prices: Prices
    gpus: list[Gpu]
    host: Host
    padded: int
    links_free: int
    beside: int

    def attention(self, layer: Layer, one: Pass, tokens: list[int]) -> None:
        for g, gpu in enumerate(self.gpus):
            sums = self.attention_sums(one, g, layer.window)
            padding = max(0, self.padded - self.of_node(tokens, g))
            if one.phase == MIXED:  # scores of what is decoded are a kernel of their own
                sums += (*self.decoding_sums(one, g, layer.window), padding)
            elif padding:
                sums += (0, 0, 0, padding)
            together = self.present(tokens, g)
            if together:
                if layer.index < self.config.copied_layers:
                    size = self.model.layer_bytes(layer, self.config.reads_layers)
                    pinned = self.config.software.pinned or self.config.reads_layers
                    gpu.t += self.prices.copy_ns(size, "h2d", pinned, 1)
                    gpu.charge(LAYER_COPIES, gpu.t)
                gpu.t += self.prices.attention_ns(layer, together, *sums)
                gpu.t += self.source_ns(layer, one, g)
                if self.config.group > 1:  # the all-reduce needs the links
                    gpu.charge("attention", max(gpu.t, self.links_free - self.beside))
                    gpu.t = max(gpu.t, self.links_free)
                    gpu.charge(REBALANCING, gpu.t)
                gpu.t += self.reduced_ns(together)
                if not layer.moe:
                    gpu.t += self.prices.dense_ns(layer, together) + self.reduced_ns(together)
            gpu.charge("attention", gpu.t)
            gpu.host += self.host.attention if one.phase == DECODE else self.host.sequence

    def together(self, g: int) -> range:
        """The GPUs with which this one splits attention, dense FFNs and shared experts."""
        first = g - g % self.config.group
        return range(first, first + self.config.group)

    def of_node(self, tokens: list[int], g: int) -> int:
        return sum(tokens[other] for other in self.together(g))

    def present(self, tokens: list[int], g: int) -> int:
        """With those that a captured pass is padded with."""
        return max(self.of_node(tokens, g), self.padded)

    def gated(self, tokens: list[int], g: int) -> int:
        """Groups pad what they share; alone, a GPU pads its own."""
        return self.present(tokens, g) if self.config.group == 1 else tokens[g]

    def reduced_ns(self, tokens: int) -> int:
        """An all-reduce of the hidden vectors of a node's tokens; alone there is nothing to add."""
        if self.config.group == 1:
            return 0
        size = tokens * self.model.hidden * self.model.activation_bytes
        return self.prices.all_reduce_ns(self.config.group, size)

    def gathered_ns(self, tokens: int) -> int:
        """The logits of a node's tokens, of which each GPU has made a part."""
        group = self.config.group
        return self.prices.gather_logits_ns(group, tokens) if group > 1 else 0

    def tokens_read(self, one: Pass, g: int) -> int:
        """Of the node, whose logits choose a token: of prompts that no scheduler cuts none."""
        read = [part for part in one.parts if part.first is not None or one.phase == DECODE]
        return sum(part.logits for part in read if part.gpu in self.together(g))

    def drafting(self, one: Pass, g: int, gpu: Gpu, tokens: list[int]) -> None:
        """What makes drafts: over all tokens of the pass, then over one of each request that
        decodes; it attends as the model's last layer does.
        """
        if not self.config.draws or one.phase == ENCODE:
            return
        decodes = [part for part in one.parts if one.phase == DECODE]
        requests = [sum(part.gpu == n for part in decodes) for n in range(self.config.gpus)]
        gathers = self.config.sliced or self.config.reduces
        shared = self.of_node(requests, g)
        first = self.present(tokens, g) if gathers else self.gated(tokens, g)
        numbers = [first, self.present(tokens, g), sum(tokens)]
        numbers += [shared if gathers else requests[g], shared, sum(requests)]
        sums = self.attention_sums(one, g, self.model.layers[-1].window)
        padding = max(0, self.padded - self.of_node(tokens, g))
        sums += (0, 0, 0, padding) if padding else ()
        gpu.t += self.prices.drafting_ns(self.config.draws, *numbers, *sums)
        gpu.charge(DRAFTING, gpu.t)

    def between_passes(self, one: Pass, g: int, gpu: Gpu, tokens: list[int]) -> None:
        """The host reads the logits, then hands over what the next pass begins with."""
        software = self.config.software
        if software.logits_to_host:
            wait_ns = nearest(software.synchronisation_ns)
            gpu.t += self.prices.read_logits_ns(self.tokens_read(one, g), wait_ns)
            gpu.charge(LOGITS, gpu.t)
        if software.input_copies:
            together = self.present(tokens, g)
            gpu.t += self.prices.step_inputs_ns(together, software.input_copies)
            gpu.charge(INPUTS, gpu.t)

    def decoding_sums(self, one: Pass, g: int, window: int | None) -> tuple[int, ...]:
        """Tokens that are decoded, the keys that they attend to and cached tokens they read."""
        decoded = [part for part in one.parts if one.decoding(part)]
        tokens = sum(len(part.rows) for part in decoded if part.gpu in self.together(g))
        return tokens, *self.attention_sums(replace(one, parts=decoded), g, window)

    def attention_sums(self, one: Pass, g: int, window: int | None) -> tuple[int, ...]:
        """Keys attended to by the new tokens of the GPU, or of those it works with, and cached
        tokens read once.
        """
        context = cached = 0
        for part in one.parts:
            if part.gpu not in self.together(g):
                continue
            positions = [self.trace["position"][row] for row in part.places]
            if part.first is not None:
                positions = list(range(part.first, part.first + len(part.rows)))
            reach = [p + 1 if window is None else min(p + 1, window) for p in positions]
            if one.phase == ENCODE:  # every token attends to all tokens of its request
                context += len(positions) * len(positions)
                cached += len(positions)
            elif not one.decoding(part):
                context += sum(reach)
                cached += max(positions) + 1
            else:
                context += sum(reach)  # those that are read by some token of the request
                most = len(positions) - 1 + (window or positions[-1] + 1)
                cached += min(positions[-1] + 1, most)
        return context, cached

    def source_ns(self, layer: Layer, one: Pass, g: int) -> int:
        """What the decoder does with the sources of the requests."""
        encodes = any(other.stack == "encoder" for other in self.model.layers)
        if one.phase == ENCODE or not encodes:
            return 0
        context = read = projected = 0
        for part in one.parts:
            if part.gpu not in self.together(g):
                continue
            of_request = part.request.every_row
            source = sum(self.trace["phase"][row] == ENCODE for row in of_request)
            decoder = [row for row in of_request if self.trace["phase"][row] != ENCODE]
            context += source * len(part.rows)
            read += source
            projected += source if decoder[0] in part.places else 0
        return self.prices.cross_attention_ns(layer, context, read, projected)
