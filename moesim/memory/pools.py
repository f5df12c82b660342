"""Several layers as one pool of experts: their steps in execution order, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moesim.memory.turns import Needs, Turns

Ints = NDArray[np.int64]


class Interleaved:
    """The needs of layers of ``experts`` each, step by step and in each layer by layer.

    Expert e of the i-th layer is number i * experts + e of the pool.
    """

    def __init__(self, layers: Sequence[Needs], experts: int) -> None:
        self.experts = experts
        self.lengths = np.array([np.diff(needs.offsets) for needs in layers])
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths.T.ravel())))
        self.places = [self._places(layer, needs) for layer, needs in enumerate(layers)]

    def _places(self, layer: int, needs: Needs) -> Ints:
        """Where the needs of ``layer`` stand among those of all layers: int64[needs]."""
        starts = self.offsets[:-1].reshape(-1, len(self.lengths))[:, layer]
        places: Ints = np.repeat(starts - needs.offsets[:-1], self.lengths[layer])
        return places + np.arange(len(places))

    def joined(self, of_layers: Sequence[Ints]) -> Ints:
        """Values [..., needs] of each layer's needs, in the order of the pool."""
        joined = np.empty((*of_layers[0].shape[:-1], int(self.offsets[-1])), np.int64)
        for places, values in zip(self.places, of_layers, strict=True):
            joined[..., places] = values
        return joined

    def needs(self, layers: Sequence[Needs]) -> Needs:
        """The needs of the pool."""
        numbered = [one.experts + i * self.experts for i, one in enumerate(layers)]
        return Needs(self.offsets, self.joined(numbered))

    def split(self, turns: Turns) -> Iterator[Turns]:
        """The turns of each layer; experts as in the layer, victims as in the pool."""
        for layer, at in enumerate(self.places):
            yield Turns(
                turns.expert[at] - layer * self.experts,
                turns.hit[at],
                turns.wave[at],
                turns.wait[at],
                turns.victim[at],
                turns.form[at],
            )
