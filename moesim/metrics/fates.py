"""What became of gate weight and choices, as the keys and columns of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Floats, Ints
from moesim.engine.fates import tells_fates
from moesim.engine.outcome import Outcome
from moesim.trace.transforming import LostByToken
from moesim.workload.schedule import Schedule

SHARE_KEYS = ("choice_shares", "gate_weight_shares", "gate_weight_shares_by_layer")
VARIANT_KEYS = ("lowered_share", "slots_by_variant")
FATE_KEYS = (*SHARE_KEYS, *VARIANT_KEYS)


def fate_keys(case: Case) -> tuple[str, ...]:
    """What ``fate_numbers`` says of a run of ``case``."""
    if not tells_fates(case):
        return ()
    return SHARE_KEYS if case.variants is None else (*SHARE_KEYS, *VARIANT_KEYS)


def fate_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Of a run that tells them: the shares of choices and of gate weight by fate, of all layers and
    of each (None without weights in the trace). With variants also what worse ones than the first
    served, and the slots of each, of a layer or of the pool of all.
    """
    if (fates := outcome.fates) is None:
        return {}
    choices, weight = fates.by_layer.sum(axis=1)
    of_each = [_shares(fates.names, of_layer) for of_layer in fates.by_layer[1]]
    shares = (_shares(fates.names, choices), _shares(fates.names, weight), of_each)
    numbers = dict[str, Any](zip(SHARE_KEYS, shares, strict=True))
    if (variants := case.variants) is None:
        return numbers
    of = weight if weight.any() else choices
    lowered = int(of[1 : len(variants.names)].sum()) / max(int(of.sum()), 1)
    slots = variants.slots
    slots = slots.sum(axis=2) if case.policy.scope == "global" else slots.max(axis=2)
    by_variant = dict(zip(variants.names, slots.max(axis=1).tolist(), strict=True))
    return numbers | dict(zip(VARIANT_KEYS, (lowered, by_variant), strict=True))


def fate_columns(outcome: Outcome) -> dict[str, Any]:
    """The shares of each request's gate weight by fate; NaN without weights."""
    if (fates := outcome.fates) is None:
        return {}
    weight = fates.by_request[1]
    return _columns(weight.sum(axis=1), dict(zip(fates.names, weight.T, strict=True)))


def lost_columns(schedule: Schedule, by_token: LostByToken | None) -> dict[str, Any]:
    """The shares of the gate weight that was recorded of each request of ``schedule`` that
    transforms of the routing took, as they name it; NaN where there was none.
    """
    if by_token is None:
        return {}

    def of_requests(tokens: Floats) -> Floats:
        return np.asarray(np.bincount(schedule.request, tokens[schedule.routing_rows]), float)

    lost = {name: of_requests(tokens) for name, tokens in by_token.lost.items()}
    return _columns(of_requests(by_token.recorded), lost)


def _columns(whole: NDArray[Any], parts: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """The share that each of ``parts`` has of the ``whole`` gate weight, by request."""
    some = np.where(whole > 0, whole, 1)
    return {
        f"gate_weight_{name}": np.where(whole > 0, part / some, np.nan)
        for name, part in parts.items()
    }


def _shares(names: tuple[str, ...], sums: Ints) -> dict[str, float | None]:
    whole = int(sums.sum())
    return {
        name: part / whole if whole else None
        for name, part in zip(names, sums.tolist(), strict=True)
    }
