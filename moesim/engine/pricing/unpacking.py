"""Unpacking of experts: a part of their launches' prices, charged apart after the clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.engine.pricing.provenance import Totals
from moesim.hardware.prices.provenance import Source

EXPERTS, UNPACKING = "experts", "unpacking"


def with_unpacking(case: Case, outcome: Outcome) -> Outcome:
    """``outcome`` in which what unpacking takes is charged to a category of its own: each expert
    that the GPU computes has the same time in all launches of its layer and variant.
    """
    every = [case.model.moe_layers] if case.variants is None else case.variants.layers
    experts = [layer.moe.expert for layers in every for layer in layers if layer.moe]
    if not any(expert.unpacking_bytes for expert in experts):
        return outcome
    spent = _spent(case, outcome)
    charges = np.concatenate((outcome.charges, spent[..., None]), axis=-1)
    charges[..., outcome.categories.index(EXPERTS)] -= spent
    return replace(
        outcome,
        charges=charges,
        categories=(*outcome.categories, UNPACKING),
        provenance=_apart(outcome.provenance, float(spent.sum())),
    )


def _spent(case: Case, outcome: Outcome) -> Ints:
    """What unpacking takes, int64[rows of charges, gpus]."""
    if case.variants is not None and (fates := outcome.fates) is not None:
        of_passes, cuts = fates.unpacking_ns, outcome.cuts
        return of_passes if cuts is None else np.asarray(np.add.reduceat(of_passes, cuts))
    counts, one = outcome.counts, np.ones(1, np.int64)
    prices = [int(case.prices.price("unpacking", layer, one)[0]) for layer in case.model.moe_layers]
    elsewhere = counts.missed[..., ~counts.flags.on_gpu].sum(axis=-1)
    on_gpu = counts.activations - elsewhere
    spent: Ints = (on_gpu * np.array(prices[: on_gpu.shape[1]])[:, None]).sum(axis=1)
    return spent


def _apart(provenance: Totals, spent_ns: float) -> Totals:
    """What rests on the datasheet, since it is unpacking, apart from the kernels."""
    kernels = provenance.get((EXPERTS, EXPERTS))
    if kernels is None:
        return provenance
    unpacking = np.zeros(len(Source))
    unpacking[Source.DATASHEET] = min(spent_ns, kernels[Source.DATASHEET])
    return {
        **provenance,
        (EXPERTS, EXPERTS): kernels - unpacking,
        (UNPACKING, UNPACKING): unpacking,
    }
