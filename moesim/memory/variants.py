"""Several formats of every expert, each with slots of its own (docs/semantics.md, "Variants")."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moesim.memory.choices.base import VariantChoice
from moesim.memory.forms import LOADED, Form
from moesim.memory.misses.skip import SKIPPED
from moesim.model.spec import FfnSpec, LayerSpec

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Variants:
    """What every expert is kept in, the best variant first: its name, its MoE layers as the model
    would have them, its slots int64[variants, gpus, MoE layers]; and what chooses between them.
    """

    names: tuple[str, ...]
    layers: tuple[tuple[LayerSpec, ...], ...]
    slots: Ints
    choice: VariantChoice

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """How activations are served: variant by variant, and last skipped, if some may be."""
        loaded = [LOADED, *(Form(name, "gpu", "slot") for name in self.names[1:])]
        return (*loaded, SKIPPED) if self.skips else tuple(loaded)

    @property
    def skips(self) -> bool:
        """Whether experts may be left out."""
        return len(self.names) in self.choice.loaded(len(self.names))

    @cached_property
    def experts(self) -> tuple[tuple[FfnSpec, ...], ...]:
        """An expert by variant and MoE layer."""
        return tuple(
            tuple(one.moe.expert for one in layers if one.moe is not None) for layers in self.layers
        )

    @cached_property
    def sizes(self) -> Ints:
        """Bytes of an expert int64[MoE layers, forms]; a skipped one has none."""
        sizes = np.zeros((len(self.layers[0]), len(self.forms)), np.int64)
        for variant, experts in enumerate(self.experts):
            sizes[:, variant] = [expert.bytes for expert in experts]
        return sizes
