"""What became of gate weight and choices, as the keys and columns of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome

FATE_KEYS = (
    "choice_shares", "gate_weight_shares", "gate_weight_shares_by_layer", "lowered_share",
    "slots_by_variant",
)  # fmt: skip


def fate_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Of a run with variants: the shares of choices and of gate weight by fate, of all layers and
    of each (None without weights in the trace), what worse variants than the first served, and the
    slots of each, of a layer or of the pool of all.
    """
    fates, variants = outcome.fates, case.variants
    if fates is None or variants is None:
        return {}
    choices, weight = fates.by_layer.sum(axis=1)
    of = weight if weight.any() else choices
    lowered = int(of[1 : len(variants.names)].sum())
    slots = variants.slots
    slots = slots.sum(axis=2) if case.policy.scope == "global" else slots.max(axis=2)
    numbers = (
        _shares(fates.names, choices),
        _shares(fates.names, weight),
        [_shares(fates.names, of_layer) for of_layer in fates.by_layer[1]],
        lowered / max(int(of.sum()), 1),
        dict(zip(variants.names, slots.max(axis=1).tolist(), strict=True)),
    )
    return dict(zip(FATE_KEYS, numbers, strict=True))


def fate_columns(outcome: Outcome) -> dict[str, Any]:
    """The shares of each request's gate weight by fate; NaN without weights."""
    if (fates := outcome.fates) is None:
        return {}
    weight = fates.by_request[1]
    whole = weight.sum(axis=1)
    parts = zip(fates.names, weight.T, strict=True)
    return {
        f"gate_weight_{name}": np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
        for name, part in parts
    }


def _shares(names: tuple[str, ...], sums: Ints) -> dict[str, float | None]:
    whole = int(sums.sum())
    return {
        name: part / whole if whole else None
        for name, part in zip(names, sums.tolist(), strict=True)
    }
