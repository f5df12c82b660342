"""Several layers as one pool of experts: their steps in execution order, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from moesim.memory.activations import Activations, ActiveExperts, Ints


class Interleaved:
    """The active experts of layers of ``experts`` each, step by step and in each layer by layer.

    Expert e of the i-th layer is number i * experts + e of the pool.
    """

    def __init__(self, layers: Sequence[ActiveExperts], experts: int) -> None:
        self.experts, self._layers = experts, layers

    @cached_property
    def lengths(self) -> Ints:
        """Active experts int64[layers, steps of each]."""
        return np.array([np.diff(one.offsets) for one in self._layers])

    @cached_property
    def offsets(self) -> Ints:
        """Of the steps of all layers in turn."""
        return np.concatenate(([0], np.cumsum(self.lengths.T.ravel())))

    @cached_property
    def places(self) -> list[Ints]:
        """Where the active experts of each layer stand among those of all layers."""
        starts, found = self.offsets[:-1].reshape(-1, len(self.lengths)), list[Ints]()
        for layer, one in enumerate(self._layers):
            places = np.repeat(starts[:, layer] - one.offsets[:-1], self.lengths[layer])
            found.append(places + np.arange(len(places)))
        return found

    def joined(self, of_layers: Sequence[Ints]) -> Ints:
        """Values [..., active experts] of each layer's active experts, in the order of the pool."""
        if len(of_layers) == 1:
            return np.ascontiguousarray(of_layers[0])
        joined = np.empty((*of_layers[0].shape[:-1], int(self.offsets[-1])), np.int64)
        for places, values in zip(self.places, of_layers, strict=True):
            joined[..., places] = values
        return joined

    @cached_property
    def active_experts(self) -> ActiveExperts:
        """The active experts of the pool."""
        if len(self._layers) == 1:
            return self._layers[0]
        numbered = [one.experts + i * self.experts for i, one in enumerate(self._layers)]
        return ActiveExperts(self.offsets, self.joined(numbered))

    def split(self, activations: Activations) -> Iterator[Activations]:
        """The activations of each layer; experts as in the layer, victims as in the pool."""
        if len(self._layers) == 1:
            yield activations
            return
        for layer, at in enumerate(self.places):
            of_layer = Activations(*(values[at] for values in activations))
            yield of_layer._replace(expert=of_layer.expert - layer * self.experts)
