"""Several formats of every expert, each with slots of its own (docs/semantics.md, "Variants")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moesim.memory.choices.base import VariantChoice
from moesim.memory.forms import LOADED, Form
from moesim.memory.misses.skip import SKIPPED
from moesim.model.spec import FfnSpec, LayerSpec

Ints = NDArray[np.int64]


SUBSTITUTED = Form("substituted", "nowhere", "none")
"""Another expert of the step computes its rows."""


@dataclass(frozen=True, eq=False)
class Variants:
    """What every expert is kept in, the best variant first: its name, its MoE layers as the model
    would have them, its slots int64[variants, gpus, MoE layers]; and what chooses between them.
    ``nested``: by variant, whether it is a slice of the one before it; none where empty.
    ``elsewhere``: how else a miss may be served than by a load, each in every variant.
    """

    names: tuple[str, ...]
    layers: tuple[tuple[LayerSpec, ...], ...]
    slots: Ints
    choice: VariantChoice
    nested: tuple[bool, ...] = ()
    elsewhere: tuple[Form, ...] = ()

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """How activations are served: variant by variant; what is left out, if some may be; what a
        worse one is in a slot of, so that the difference alone is loaded; and ``elsewhere``.
        """
        loaded = [LOADED, *(Form(name, "gpu", "slot") for name in self.names[1:])]
        out = [SUBSTITUTED if self.choice.substitutes else SKIPPED] * self.leaves_out
        pairs = ((self.names[better], self.names[worse]) for better, worse in self.upgrades)
        named = (f"{better}_from_{worse}" for better, worse in pairs)
        upgraded = (Form(name, "gpu", "slot") for name in named)
        return (*loaded, *out, *upgraded, *self._elsewhere())

    def _elsewhere(self) -> Iterator[Form]:
        """What serves a miss without a load, by form and variant: the first's has its own name."""
        for form in self.elsewhere:
            yield form
            for name in self.names[1:]:
                yield replace(form, counted=f"{name}_{form.counted}")

    @property
    def beside(self) -> int:
        """The number of the first form of ``elsewhere``."""
        return len(self.names) + self.leaves_out + len(self.upgrades)

    @property
    def leaves_out(self) -> bool:
        """Whether experts may be left out: skipped, or others compute their rows."""
        return len(self.names) in self.choice.loaded(len(self.names))

    @cached_property
    def upgrades(self) -> tuple[tuple[int, int], ...]:
        """Every better variant and a worse one that is a slice of it."""
        return tuple(
            (better, worse)
            for better in range(len(self.names))
            for worse in range(better + 1, len(self.names))
            if self.nested and all(self.nested[better + 1 : worse + 1])
        )

    @cached_property
    def variant_of(self) -> Ints:
        """The variant of each form; their number where it is left out."""
        own = range(len(self.names) + self.leaves_out)
        rest = [*range(len(self.names))] * len(self.elsewhere)
        return np.array([*own, *(better for better, _ in self.upgrades), *rest], np.int64)

    @cached_property
    def upgraded(self) -> Ints:
        """The form int64[variants, variants] in which a variant is loaded where a worse one is
        there.
        """
        count = len(self.names)
        forms = np.repeat(np.arange(count)[:, None], count, axis=1)
        for number, pair in enumerate(self.upgrades):
            forms[pair] = count + self.leaves_out + number
        return forms

    @cached_property
    def experts(self) -> tuple[tuple[FfnSpec, ...], ...]:
        """An expert by variant and MoE layer."""
        return tuple(
            tuple(one.moe.expert for one in layers if one.moe is not None) for layers in self.layers
        )

    @cached_property
    def stored(self) -> Ints:
        """Bytes that host memory and storage keep of each variant, int64[MoE layers, variants]: all
        of it, or what it has beyond the next one, which is a slice of it.
        """
        own = self.sizes[:, : len(self.names)]
        inside = np.zeros_like(own)
        for variant in range(1, len(self.names)):
            if self.nested and self.nested[variant]:
                inside[:, variant - 1] = own[:, variant]
        return own - inside

    @cached_property
    def wanted(self) -> NDArray[np.bool_]:
        """Of which variants loading in each form brings what is ``stored``, bool[forms, variants]:
        of all up to the slice that is there, or to the last one that is inside.
        """
        count = len(self.names)
        brings = np.zeros((len(self.forms), count), np.bool_)
        for form, variant in enumerate(self.variant_of.tolist()):
            there = dict(enumerate(self.upgrades, count + self.leaves_out)).get(form)
            for one in range(variant, count if there is None else there[1]):
                if one > variant and not (self.nested and self.nested[one]):
                    break
                brings[form, one] = True
        return brings

    @cached_property
    def copied(self) -> tuple[tuple[FfnSpec, ...], ...]:
        """By form and MoE layer the expert whose bytes a copy has; none where there is no copy."""
        differences = (
            tuple(
                replace(best, bytes=best.bytes - there.bytes)
                for best, there in zip(self.experts[better], self.experts[worse], strict=True)
            )
            for better, worse in self.upgrades
        )
        rest = [()] * len(self.names) * len(self.elsewhere)
        return (*self.experts, *[()] * self.leaves_out, *differences, *rest)

    @cached_property
    def sizes(self) -> Ints:
        """Bytes that a copy has int64[MoE layers, forms]; of what is left out none."""
        sizes = np.zeros((len(self.layers[0]), len(self.forms)), np.int64)
        for form, experts in enumerate(self.copied):
            if experts:
                sizes[:, form] = [expert.bytes for expert in experts]
        return sizes
