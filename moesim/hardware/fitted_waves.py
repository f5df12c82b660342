"""The price of waves of experts from fits: the simulator's side of ``calibrated_experts``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moesim.hardware.calibrated import ExpertFit
from moesim.hardware.calibrated_experts import ShapeArrays, choose, numbers_of
from moesim.hardware.expert_kernel import Card, Work, group_sums, ragged_work, terms
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats, Ints, matrix_elements
from moesim.hardware.tiles import tiles_of
from moesim.model.spec import MoeSpec


def card_of(profile: HardwareProfile) -> Card:
    """The datasheet's part of the formula."""
    sheet = profile.datasheet
    bandwidth, l2 = sheet.memory_bandwidth.value, sheet.l2.value
    return Card(bandwidth, float(l2), sheet.multiprocessors.value)


def fitted_waves_ns(
    profile: HardwareProfile,
    fits: Sequence[ExpertFit],
    moe: MoeSpec,
    activation_bytes: int,
    counts: Ints,
    members: Ints,
) -> Floats:
    """Nanoseconds of waves with ``members[i]`` of the rows ``counts`` each.

    Tiles follow the wave's tokens, rows / top-k, over all experts of the layer; a measured shape's
    ratio (measured over formula) follows its tokens.
    """
    total = group_sums(counts, members)
    tokens = np.maximum(-(-total // moe.top_k), 1)
    shapes = _shapes(moe, tokens)
    which, ratio, _ = choose(fits, shapes)
    time = np.zeros(len(members))
    for index, fit in enumerate(fits):
        if (mine := which == index).any():
            work = _work(profile, fit, moe, activation_bytes, counts, members, shapes)
            price = terms(numbers_of(fit, profile), work, card_of(profile)).total
            time[mine] = (price * np.where(np.isnan(ratio), 1.0, ratio))[mine]
    return time


def _shapes(moe: MoeSpec, tokens: Ints) -> ShapeArrays:
    expert, number = moe.expert, len(tokens)
    return ShapeArrays(
        tokens,
        np.full(number, expert.hidden_size),
        np.full(number, expert.intermediate_size),
        np.full(number, moe.experts),
        np.full(number, moe.top_k),
        np.full(number, expert.gated),
    )


def _work(
    profile: HardwareProfile,
    fit: ExpertFit,
    moe: MoeSpec,
    activation_bytes: int,
    counts: Ints,
    members: Ints,
    shapes: ShapeArrays,
) -> Work:
    total, number = group_sums(counts, members), len(members)
    average = total / moe.experts
    tiles = tiles_of(fit.family, shapes.tokens, shapes.experts, average)
    row_tiles, passes = ragged_work(counts, members, tiles)
    expert = moe.expert
    return Work(
        family=fit.family,
        total_rows=total,
        distinct=group_sums(np.sign(counts), members),
        row_tiles=row_tiles,
        passes=passes,
        tiles=tiles,
        average=average,
        hidden=shapes.hidden,
        inter=shapes.inter,
        gated=shapes.gated,
        element_bytes=np.full(number, expert.bytes / matrix_elements(expert)),
        activation_bytes=np.full(number, float(activation_bytes)),
        peak=np.full(number, profile.peak(expert.dtype)),
    )
