"""The slots of a GPU's MoE layers, in every variant of their experts, and what copies of these are.

A shelf is a MoE layer in one variant; they are numbered variant by variant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.des.layer import names_of
from moesim.engine.prefetch import Asked
from moesim.engine.program import Program
from moesim.engine.residency.layer_slots import LayerSlots
from moesim.engine.residency.variant_residencies import VariantResidencies
from moesim.memory.activations import Activations


class Copied(NamedTuple):
    """The copy of an expert of a model's ``layer``: its bytes, its price, the ``names`` of all."""

    layer: int
    amount: int
    copy_ns: int
    names: list[str]


class Activated(NamedTuple):
    """The activations of a layer, which of them are ``late`` bool[activations], and the ``shelves``
    that serve them, -1 where none does.
    """

    activations: Activations
    late: NDArray[np.bool_]
    shelves: list[int]


class Shelves:
    """Those of ``gpu``."""

    def __init__(self, case: Case, gpu: int, program: Program) -> None:
        self.gpu, self.residencies = gpu, program.residencies
        self.local = len(case.local_experts(gpu))
        self.layers, self.variants = len(case.model.moe_layers), case.variants
        self.count = 1 if case.variants is None else len(case.variants.names)
        shelves = range(self.count * self.layers)
        self.slots = [program.residencies.slots_of((shelf, gpu)) for shelf in shelves]
        """By shelf; None where all experts of the layer are there."""
        self.pools = {shelf: one for shelf, one in enumerate(self.slots) if one is not None}
        every = (self.slots[layer :: self.layers] for layer in range(self.layers))
        self.of_layer = [[one for one in of if one is not None] for of in every]
        """Those of each MoE layer, by variant."""
        self.copied = [self._copied(case, program, layer) for layer in range(self.layers)]
        """By MoE layer and form; one without variants."""
        every_copy = (divmod(shelf, self.layers) for shelf in shelves)
        self.ahead = [self.copied[layer][variant] for variant, layer in every_copy]
        """By shelf, the copy of a prefetch."""
        self._alone: dict[tuple[int, int], Activated] = {}
        """Without variants, by MoE layer and how many there are: each is there until the next."""
        self.worse = case.variants is not None and case.variants.choice.worse

    def _copied(self, case: Case, program: Program, layer: int) -> list[Copied]:
        spec = case.model.moe_layers[layer]
        assert spec.moe is not None, "a dense layer has no routed experts"
        sizes = [spec.moe.expert.bytes]
        if case.variants is not None:
            sizes = case.variants.sizes[layer].tolist()
        prices = program.work.copy_ns_of(layer).tolist()
        names = names_of(case, layer, self.gpu).tolist()
        return [Copied(spec.index, *of) for of in zip(sizes, prices, names, strict=True)]

    def there(self, shelf: int, expert: int) -> LayerSlots | None:
        """The best slots that have ``expert`` and do where ``shelf`` is wanted."""
        variant, layer = divmod(shelf, self.layers)
        for one in range(self.count if self.worse else variant + 1):
            slots = self.pools[one * self.layers + layer]
            if expert in slots:
                return slots
        return None

    def named(self, layer: int, predicted: Ints) -> list[tuple[int, int]]:
        """Shelf and expert of what is ``predicted`` for a MoE layer, numbered by variant."""
        if self.count == 1:
            return [(layer, expert) for expert in predicted.tolist()]
        numbered = (divmod(number, self.local) for number in predicted.tolist())
        return [(variant * self.layers + layer, expert) for variant, expert in numbered]

    def pin(self, layer: int, predicted: Ints, until: int) -> list[tuple[int, int]]:
        """Keep what is ``predicted`` for a MoE layer and in a slot; returns shelf and expert of
        what is in none.
        """
        slots = self.slots[layer]
        if self.count == 1 and slots is not None:
            return [(layer, expert) for expert in slots.pin_all(predicted, until)]
        missing = []
        for shelf, expert in self.named(layer, predicted):
            if (there := self.there(shelf, expert)) is None:
                missing.append((shelf, expert))
            else:
                there.pin(expert, until)
        return missing

    def serving(self, layer: int, at: Asked) -> dict[int, int]:
        """The shelf that serves each expert needed in a pass, of the slots as they are; -1: none
        does.
        """
        experts, slots = at.experts, self.slots[layer]
        if slots is None or at.wanted is None:
            return dict.fromkeys(experts.tolist(), layer)
        assert isinstance(self.residencies, VariantResidencies), "something is wanted"
        cache = self.residencies.cache_of((layer, self.gpu))
        served = cache.served(experts + slots.first, at.wanted)
        return dict(zip(experts.tolist(), self._shelves(layer, served), strict=True))

    def activate(self, step: int, layer: int, at: Asked) -> Activated:
        """The activations of a pass, which has ended the prefetches for the layer."""
        slots = self.pools[layer]
        if at.wanted is None:
            found = slots.decide(step, at.experts, at.next_use, at.weights, at.prices)
            if slots.place or (known := self._alone.get((layer, len(at.experts)))) is None:
                late = np.empty(len(at.experts), np.bool_)
                known = Activated(found, late, [layer] * len(late))
                self._alone[layer, len(late)] = known
            slots.late(*known.activations[:2], known.late)
            return known
        assert isinstance(self.residencies, VariantResidencies), "something is wanted"
        arriving = np.array([one.arriving for one in self.of_layer[layer]])
        cache, number = self.residencies.cache_of((layer, self.gpu)), step * slots.layers
        given = (at.experts + slots.first, at.wanted, at.weights)
        found = cache.decide_step(number + slots.place, *given)
        found = found._replace(expert=found.expert - slots.first)
        variants = self._variant_of(found.form)
        late = found.hit & arriving[np.minimum(variants, self.count - 1), found.expert]
        return Activated(found, late, self._shelves(layer, variants))

    def _variant_of(self, form: Ints) -> Ints:
        assert self.variants is not None, "forms are of them"
        found: Ints = self.variants.variant_of[form]
        return found

    def _shelves(self, layer: int, variants: Ints) -> list[int]:
        found: list[int] = np.where(
            variants < self.count, variants * self.layers + layer, -1
        ).tolist()
        return found
