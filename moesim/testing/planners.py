"""What every placement planner keeps."""

from __future__ import annotations

import numpy as np

from moesim.placement.base import Planner


def places_every_expert_once(planner: Planner, experts: int, gpus: int) -> None:
    """A GPU in range for each expert; every GPU gets one, and equal counts but for one.

    ``experts`` must be at least ``gpus``.
    """
    placed, name = planner.place(experts, gpus), type(planner).__name__
    assert placed.shape == (experts,), f"{name}: {placed.shape} places for {experts} experts"
    assert np.issubdtype(placed.dtype, np.integer), f"{name}: places are {placed.dtype}"
    assert ((placed >= 0) & (placed < gpus)).all(), f"{name}: a GPU outside 0..{gpus - 1}"
    counts = np.bincount(placed, minlength=gpus)
    assert counts.min() >= 1, f"{name}: GPU {counts.argmin()} of {gpus} has no expert"
    assert counts.max() - counts.min() <= 1, f"{name}: uneven counts {counts.tolist()}"


def is_deterministic(planner: Planner, experts: int, gpus: int) -> None:
    """The same question has the same answer."""
    one, other = planner.place(experts, gpus), planner.place(experts, gpus)
    assert np.array_equal(one, other), f"{type(planner).__name__} places differently each time"
