"""A decoder in plain torch; its experts lie in a store on the host."""

from __future__ import annotations

from typing import Any

import torch

from moesim.calibrate.closed_loop.sizes import Sizes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BRANCH = 0.3
"""Size of what a block adds over what it reads: small, so that the residual keeps the token."""
TOPICS = 6
TOPIC, OWN = 1.0, 1.0
"""Parts of a token's embedding: its topic's, and its own, over that of all tokens."""
CHANGES = 0.2
"""Share of tokens that may begin another topic."""
SHIFT = 7919
THETA = 10_000.0


class Layer:
    """Weights of one layer but its experts; its norms have none."""

    def __init__(self, sizes: Sizes, draw: Any) -> None:
        self.qkv = draw(sizes.query + 2 * sizes.key_value, sizes.hidden)
        self.output = draw(sizes.hidden, sizes.query) * BRANCH
        self.router = draw(sizes.experts, sizes.hidden)


class Decoder:
    """Random weights of ``seed``, the same on every device.

    Tokens of a topic have similar embeddings, and all tokens a part in common, so that routing is
    sticky and skewed, as in trained models. Token t belongs to topic t modulo ``TOPICS``.
    """

    def __init__(self, sizes: Sizes, device: str, seed: int) -> None:
        self.sizes, self.device, self.dtype = sizes, device, DTYPES[sizes.dtype]
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)
        self.embedding = self._embedding()
        self.layers = [Layer(sizes, self.draw) for _ in range(sizes.layers)]
        self.head = self.draw(sizes.vocabulary, sizes.hidden)

    def draw(self, rows: int, columns: int, device: str | None = None) -> Any:
        """A matrix that about keeps the size of what it multiplies."""
        return self._uniform((rows, columns), (3 / columns) ** 0.5, device)

    def _uniform(self, shape: tuple[int, ...], bound: float, device: str | None = None) -> Any:
        numbers = torch.empty(shape).uniform_(-bound, bound, generator=self.generator)
        return numbers.to(device or self.device, self.dtype)

    def _embedding(self) -> Any:
        tokens, hidden = self.sizes.vocabulary, self.sizes.hidden
        common = self._uniform((1, hidden), 1)
        topics = self._uniform((TOPICS, hidden), TOPIC)
        own = self._uniform((tokens, hidden), OWN)
        return common + topics[torch.arange(tokens, device=self.device) % TOPICS] + own

    def store(self) -> list[Any]:
        """The experts on the host: for each layer a tensor [experts, elements], an expert's gate,
        up and down in turn. All have the same numbers, each from another place on.
        """
        sizes = self.sizes
        gate_and_up = self.draw(2 * sizes.inter, sizes.hidden, "cpu")
        down = self.draw(sizes.hidden, sizes.inter, "cpu") * BRANCH
        whole = torch.empty(sizes.layers, sizes.experts, sizes.expert_elements, dtype=self.dtype)
        for number, expert in enumerate(whole.flatten(0, 1)):
            turned = (part.flatten().roll(number * SHIFT) for part in (gate_and_up, down))
            torch.cat(tuple(turned), out=expert)
        return list(whole)

    def caches(self, batch: int, length: int) -> list[Any]:
        """For each layer keys, then values [batch, 2 x kv heads, length, head], random, always the
        same.
        """
        sizes = self.sizes
        self.generator.manual_seed(self.seed)
        shape = (batch, 2 * sizes.kv_heads, length, sizes.head)
        return [self._uniform(shape, 1) for _ in self.layers]

    def rotations(self, length: int) -> Any:
        """Rotary positions as complex numbers [length, head / 2]."""
        half = torch.arange(0, self.sizes.head, 2, dtype=torch.float32) / self.sizes.head
        angles = torch.outer(torch.arange(length), THETA**-half)
        return torch.polar(torch.ones_like(angles), angles).to(self.device)


def sticky_tokens(vocabulary: int, batch: int, steps: int, seed: int) -> Any:
    """Token ids [steps, batch]: a request keeps to a topic for about six tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, batch)
    groups = vocabulary // TOPICS
    within = torch.randint(groups, shape, generator=generator)
    drawn = torch.randint(TOPICS, shape, generator=generator)
    changes = torch.rand(shape, generator=generator) < CHANGES
    changes[0] = True
    kept = torch.where(changes, torch.arange(steps)[:, None], 0).cummax(0).values
    return within * TOPICS + drawn.gather(0, kept)
