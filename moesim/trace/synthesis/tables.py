"""The parameters of a part as arrays, ready to draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.synthesis.domains import Domains
from moesim.trace.synthesis.drawing import draw_apart, draw_experts
from moesim.trace.synthesis.parameters import Part
from moesim.trace.synthesis.rows import Floats, per_layer


@dataclass(frozen=True, eq=False)
class Tables:
    """What ``draw_experts`` needs.

    ``base`` [domains, layers, experts] is popularity with the domain's effect, each layer's sum 1;
    ``position`` [stages, layers, experts], a stage from each of ``starts``, in tokens, to the next;
    ``spread`` and ``stay`` [layers]; ``by_age`` [layers, ages]; ``between`` and ``within`` [layers,
    experts, experts], without layers where there is no such effect.
    """

    base: Floats
    position: Floats
    starts: NDArray[np.int64]
    spread: Floats
    stay: Floats
    by_age: Floats
    between: Floats
    within: Floats

    def draw(
        self, domain: int, tokens: int, top_k: int, generator: Generator
    ) -> NDArray[np.uint16]:
        """[tokens, layers, top_k] experts of one request."""
        base = self.base[domain]
        factors = generator.standard_normal(base.shape) * self.spread[:, None]
        ids = np.empty((tokens, base.shape[0], top_k), dtype=np.uint16)
        draws = generator.random((tokens, base.shape[0], 2 * top_k))
        pairs = self.between, self.within
        weights = self.position * (base * np.exp(factors))[None]
        stage = stages(self.starts, tokens)
        if any(map(len, pairs)) or (self.by_age != 1).any():
            draw_experts(weights, stage, self.by_age, self.stay, *pairs, draws, ids)
        else:
            turned = np.ascontiguousarray(weights.transpose(0, 2, 1))
            draw_apart(turned, stage, self.stay, draws, ids)
        return ids


def tables_of(
    part: Part, experts: int, top_k: int, domains: Domains, generator: Generator
) -> Tables:
    """The tables of ``part``; random parts come from ``generator``, in a fixed order.

    Raises InputError if a domain leaves a layer fewer than ``top_k`` experts.
    """
    layers = part.layers
    base = _base(part, experts, domains, generator)
    fewest = int((base > 0).sum(axis=2).min())
    if fewest < top_k:
        raise InputError(
            f"a domain uses {counted(fewest, 'expert')} of a layer, but top_k = {top_k}:"
            " let it use more"
        )
    none = np.ones((0, experts, experts))
    between, within = part.between_layers, part.within_token
    recency, position = part.stickiness.recency, part.position_effect
    return Tables(
        base,
        np.ones((1, layers, experts)) if position is None else position.factors(),
        np.array((0,) if position is None else position.from_tokens, dtype=np.int64),
        per_layer(part.request_spread, layers),
        per_layer(part.stickiness.stay_probability, layers),
        np.ones((layers, 2)) if recency is None else recency.factors(layers),
        none if between is None else between.factors(layers, experts, generator),
        none if within is None else within.factors(layers, experts, generator),
    )


def stages(starts: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """int64[tokens]: the stage of each token of a request."""
    return np.searchsorted(starts, np.arange(tokens), side="right").astype(np.int64) - 1


def _base(part: Part, experts: int, domains: Domains, generator: Generator) -> Floats:
    layers, count = part.layers, len(domains.names)
    popularity = part.popularity.weights(layers, experts, generator)
    power = np.asarray(domains.sharpness or (1.0,) * count)[:, None, None]
    base = popularity[None] ** power
    if part.domain_effect is not None:
        base = base * part.domain_effect.factors(domains.names, layers, experts, generator)
    base /= np.maximum(base.sum(axis=2, keepdims=True), np.finfo(np.float64).tiny)
    even = (popularity > 0) / (popularity > 0).sum(axis=1, keepdims=True)
    base = (1 - part.even_share) * base + part.even_share * even[None]
    mean = np.tensordot(domains.share(), base, axes=1)
    return np.asarray(domains.purity * base + (1 - domains.purity) * mean[None])
