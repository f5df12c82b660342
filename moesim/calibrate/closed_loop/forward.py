"""One decode step, part by part in the order in which moesim charges them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.nn import functional

from moesim.calibrate.closed_loop.clock import (
    ATTENTION,
    EXPERTS,
    GATE,
    HEAD,
    HOST,
    UNPERMUTE,
    WEIGHTS,
    Clock,
)
from moesim.calibrate.closed_loop.model import Decoder, Layer
from moesim.calibrate.closed_loop.pool import Activation, Pool
from moesim.calibrate.closed_loop.sizes import Sizes

EPSILON = 1e-6


@dataclass(frozen=True)
class Step:
    """What a step chose, by layer: expert ids [batch, top_k] and the activations of the pool."""

    ids: list[Any]
    activations: list[list[Activation]]
    logits: Any


class Decode:
    """The decode of one batch; ``prompt`` cached tokens a request come before its first step."""

    def __init__(self, decoder: Decoder, batch: int, prompt: int, steps: int) -> None:
        self.decoder, self.position = decoder, prompt
        self.caches = decoder.caches(batch, prompt + steps)
        self.rotations = decoder.rotations(prompt + steps)

    def step(self, tokens: Any, pool: Pool, clock: Clock) -> Step:
        """Decode one token a request, ``tokens`` [batch], with experts from ``pool``."""
        layers = self.decoder.layers
        done = Step([], [], None)
        clock.start()
        hidden = functional.embedding(tokens, self.decoder.embedding)
        clock.mark(-1, HEAD)
        for number, layer in enumerate(layers):
            hidden, normed = self._attention(layer, self.caches[number], hidden)
            clock.mark(number, ATTENTION)
            hidden = self._mixture(number, hidden, normed, pool, clock, done)
            clock.mark(number, UNPERMUTE)
        logits = functional.linear(_norm(hidden), self.decoder.head)
        clock.mark(-1, HEAD)
        self.position += 1
        return Step(done.ids, done.activations, logits)

    def _attention(self, layer: Layer, cache: Any, hidden: Any) -> tuple[Any, Any]:
        """The hidden state after attention, and its norm."""
        sizes, end = self.decoder.sizes, self.position + 1
        joint = functional.linear(_norm(hidden), layer.qkv).unflatten(1, (-1, sizes.head))
        turned = joint[:, : sizes.heads + sizes.kv_heads]
        turned.copy_(_rotated(turned, self.rotations[self.position]))
        cache[:, :, self.position] = joint[:, sizes.heads :]
        keys, values = cache[:, :, :end].split(sizes.kv_heads, dim=1)
        mixed = functional.scaled_dot_product_attention(
            joint[:, : sizes.heads, None], keys, values, enable_gqa=sizes.heads != sizes.kv_heads
        )
        hidden = hidden + functional.linear(mixed.flatten(1), layer.output)
        return hidden, _norm(hidden)

    def _mixture(
        self, number: int, hidden: Any, normed: Any, pool: Pool, clock: Clock, done: Step
    ) -> Any:
        """``hidden`` with what the experts add: rows of ``normed`` are ordered by expert,
        computed, put back and summed by weight.
        """
        sizes = self.decoder.sizes
        logits, ids = functional.linear(normed, self.decoder.layers[number].router).topk(
            sizes.top_k
        )
        weights = logits.softmax(-1)
        chosen, order = ids.flatten().sort(stable=True)
        rows = normed.index_select(0, order // sizes.top_k)
        clock.mark(number, GATE)
        counts = [(expert, len(list(same))) for expert, same in groupby(chosen.tolist())]
        activations = pool.begin(number, [expert for expert, _ in counts])
        clock.mark(number, HOST)
        made = []
        for activation, mine in zip(
            activations, rows.split([count for _, count in counts]), strict=True
        ):
            expert = pool.ready(number, activation)
            clock.mark(number, WEIGHTS)
            made.append(feed_forward(sizes, expert, mine))
            pool.ran()
            clock.mark(number, EXPERTS)
        unpermuted = torch.empty_like(rows).index_copy_(0, order, torch.cat(made))
        done.ids.append(ids)
        done.activations.append(activations)
        by_token = unpermuted.unflatten(0, ids.shape)
        return torch.baddbmm(hidden[:, None], weights[:, None], by_token).squeeze(1)


def feed_forward(sizes: Sizes, expert: Any, rows: Any) -> Any:
    """A gated network over ``rows``; ``expert`` [elements] holds gate, up and down in turn."""
    gate, up = expert[: -expert.numel() // 3].view(2, sizes.inter, sizes.hidden)
    down = expert[-expert.numel() // 3 :].view(sizes.hidden, sizes.inter)
    inner = functional.silu(functional.linear(rows, gate)) * functional.linear(rows, up)
    return functional.linear(inner, down)


def _norm(hidden: Any) -> Any:
    return functional.layer_norm(hidden, hidden.shape[-1:], eps=EPSILON)


def _rotated(heads: Any, turn: Any) -> Any:
    """Heads [batch, heads, head], neighbours as complex numbers, turned by ``turn`` [head / 2]."""
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2)
