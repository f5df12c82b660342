"""What a real decode leaves behind: its choices, its decisions, and what everything took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.calibrate.closed_loop.clock import PARTS
from moesim.calibrate.closed_loop.sizes import Sizes
from moesim.trace.routing import Phase, RoutingTrace, TraceMetadata

PROMPT = 64
"""Cached tokens of a request before its first step."""


@dataclass(frozen=True)
class Setting:
    """Slots a layer (``percent`` of the experts) and requests of a batch."""

    percent: int
    slots: int
    batch: int


@dataclass(frozen=True, eq=False)
class Recording:
    """What ran: ``ids`` uint16[steps, batch, layers, top_k]; ``activations`` and ``hits``
    int64[steps, layers]; every mark of the clock in order: ``layers`` (-1: the model's ends) and
    ``parts`` int64[marks], ``times_ns`` int64[rounds, marks]. ``wall_ns`` int64[rounds, steps] on
    the wall's clock.
    """

    setting: Setting
    ids: NDArray[np.uint16]
    activations: NDArray[np.int64]
    hits: NDArray[np.int64]
    layers: NDArray[np.int64]
    parts: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    wall_ns: NDArray[np.int64]

    def typical_ns(self, rounds: slice = slice(None)) -> NDArray[np.float64]:
        """float64[parts]: the median over ``rounds`` of every mark, added up by part.

        Other programs slow down few rounds at the same mark.
        """
        median = np.median(self.times_ns[rounds], axis=0)
        return np.bincount(self.parts, median, minlength=len(PARTS)).astype(np.float64)

    def layers_ns(self) -> NDArray[np.float64]:
        """float64[layers]: as ``typical_ns``, added up by layer, without the model's ends."""
        inside = self.layers >= 0
        median = np.median(self.times_ns[:, inside], axis=0)
        return np.bincount(self.layers[inside], median).astype(np.float64)

    @property
    def noise(self) -> float:
        """How far the even and the odd rounds are apart, as a share of their mean."""
        halves = [self.typical_ns(slice(first, None, 2)).sum() for first in (0, 1)]
        return float(abs(halves[0] - halves[1]) / np.mean(halves))

    def trace(self, sizes: Sizes, model: str) -> RoutingTrace:
        """The routing, as moesim replays it: each request's decode tokens after its prompt."""
        steps, batch = self.ids.shape[:2]
        by_request = self.ids.transpose(1, 0, 2, 3).reshape(steps * batch, sizes.layers, -1)
        return RoutingTrace(
            expert_ids=np.ascontiguousarray(by_request),
            request_id=np.repeat(np.arange(batch, dtype=np.int32), steps),
            position=np.tile(np.arange(PROMPT, PROMPT + steps, dtype=np.int32), batch),
            phase=np.full(steps * batch, Phase.DECODE, np.uint8),
            gate_weights=None,
            predicted_ids=None,
            metadata=TraceMetadata(
                model=model,
                experts=sizes.experts,
                top_k=sizes.top_k,
                moe_layer_ids=tuple(range(sizes.layers)),
                recorder="moesim calibrate validate",
                source="random weights and tokens",
                licence="CC0-1.0",
            ),
        )
