"""What every transform of routing keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import RoutingTrace
from moesim.trace.transforming import transform
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices
from moesim.trace.transforms.faults import fault_of_choices
from moesim.trace.validate import findings


def makes_a_sound_trace(one: Transform, trace: RoutingTrace) -> None:
    """Of a sound ``trace`` it makes one: same tokens, each expert once, ids of living experts."""
    name = type(one).__name__
    found = transform(trace, [one])
    assert not (wrong := findings(found.trace)), f"{name}: {[one.what for one in wrong]}"
    assert found.trace.tokens == trace.tokens, f"{name}: changes the number of tokens"
    assert (found.trace.largest_ids < found.experts).all(), f"{name}: ids beyond the living experts"
    losses = found.losses
    for lost in (losses.gate_weight_lost, losses.learnt, losses.held_out):
        assert lost is None or 0 <= lost <= 1, f"{name}: loses {lost} of the gate weight"


def chooses_what_there_was(one: Transform, choices: Choices) -> None:
    """Each choice was made or predicted before, none is of a dead expert, none stands behind an
    unused place; what is recorded stays that of its expert; no expert comes back to life.
    """
    name = type(one).__name__
    before = [_copy(values) for values in _arrays(choices)]
    after = one.apply(choices)
    for old, new in zip(before, _arrays(choices), strict=True):
        same = old is None or new is None or np.array_equal(old, new)
        assert same, f"{name} changes its input"
    fault = fault_of_choices(choices, after)
    assert not fault, f"{name} {fault}"


def _arrays(choices: Choices) -> list[NDArray[np.generic] | None]:
    return [choices.ids, choices.weights, choices.recorded, choices.living, choices.predicted]


def _copy(values: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
    return None if values is None else values.copy()
