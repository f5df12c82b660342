"""The price of grouped experts from a profile's calibrated part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.described.precision import SAME_UNITS
from moesim.hardware.operations.experts.kernel import ExpertNumbers
from moesim.hardware.operations.experts.tiles import MARLIN
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.calibrated import ExpertFit, Ratios
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import FfnSpec, MoeSpec

EVEN = 0.75
"""Share of the reachable experts from which on a launch counts as evenly spread."""


SHAPE = ("hidden", "inter", "experts", "top_k", "gated")
"""What is the same for all launches of a layer's experts."""


class ShapeArrays(NamedTuple):
    """Shapes of n launches, each [n]."""

    tokens: Ints
    hidden: Ints
    inter: Ints
    experts: Ints
    top_k: Ints
    gated: NDArray[np.bool_]


def fits_for(
    profile: HardwareProfile, expert: FfnSpec, *, serial: bool = False
) -> tuple[ExpertFit, ...]:
    """The fits of the format of ``expert``, the first preferred; bf16 stands for fp16 and the other
    way round. Scales of blocks and of whole matrices stand for each other where the framework of
    the first has no others, and kernels of inputs whose scale was set before only for such.

    ``serial``: those of experts that run one by one, else those of grouped kernels.
    """
    fits = profile.calibrated.experts if profile.calibrated else ()
    kind = tuple(fit for fit in fits if fit.serial == serial)
    own = tuple(fit for fit in kind if fit.dtype == expert.dtype)
    own = own or tuple(fit for fit in kind if fit.dtype == SAME_UNITS.get(expert.dtype))
    if not expert.static_input:
        own = tuple(fit for fit in own if not fit.static_input) or own
    alike = tuple(fit for fit in own if fit.block_scaled in (None, expert.block > 1))
    framework = own[0].framework if own else None
    return alike if any(fit.framework == framework for fit in alike) else own


def numbers_of(fit: ExpertFit, profile: HardwareProfile) -> ExpertNumbers:
    """A fit's numbers as the formula takes them: fractions of the datasheet's values."""
    assert fit.dtype is not None, "an expert network has a format"
    sheet = profile.datasheet
    memory = sheet.memory_bandwidth.value
    return ExpertNumbers(
        start_ns=fit.start.value,
        bandwidth=fit.bandwidth.value / memory,
        compute=fit.compute.value / profile.peak(fit.dtype),
        overlap=fit.overlap.value,
        activation_bandwidth=fit.activation_bandwidth.value / memory,
        l2=fit.l2.value / sheet.l2.value,
        wide=fit.wide.value,
        tail=fit.tail.value,
        slow=fit.slow.value,
        l2_bandwidth=fit.l2_bandwidth.value / memory if fit.l2_bandwidth else np.inf,
    )


def choose(fits: Sequence[ExpertFit], shape: ShapeArrays) -> tuple[ExpertFit, Ratios | None]:
    """The fit to use for launches of one layer, whose ``shape`` is but for their tokens that of the
    first one, and its measured ratios (None: it has none).

    A fit that measured the shape goes before one that did not; among equals the first. Where none
    did, that of the nearest shape, the first of equals: one format's kernels differ from model to
    model.
    """
    for fit in fits:
        for ratios in fit.ratios:
            if all(getattr(ratios, name) == getattr(shape, name)[0] for name in SHAPE):
                return fit, ratios
    return fits[nearest(fits, shape)], None


def shapes_of(moe: MoeSpec, tokens: Ints, *, alone: bool) -> ShapeArrays:
    """Launches of the experts of a layer for ``tokens`` [n]; ``alone``: of one expert each."""
    expert, number = moe.expert, len(tokens)
    experts, top_k = (1, 1) if alone else (moe.experts, moe.top_k)
    return ShapeArrays(
        tokens,
        np.full(number, expert.hidden_size),
        np.full(number, expert.intermediate_size),
        np.full(number, experts),
        np.full(number, top_k),
        np.full(number, expert.gated),
    )


def nearest(fits: Sequence[ExpertFit], shapes: ShapeArrays) -> int:
    """The number of the fit that measured what is nearest to the launches, all of one layer."""
    distances = [distance(fit, shapes) for fit in fits]
    return int(np.argmin(distances))


def start_for(profile: HardwareProfile, fit: ExpertFit, shapes: ShapeArrays) -> float:
    """The start in nanoseconds of launches that ``fit`` prices and did not measure.

    Marlin's kernels start alike in all formats, and the later the more experts they sort by: one
    token on gpt-oss's 128 in mxfp4 takes 0.9 of one on 384 in int4 (RTX PRO 6000, L40S), and on
    896 in mxfp4 1.7 of it (H200). So the start is that of the nearest shape, whatever its format.
    """
    fits = profile.calibrated.experts if profile.calibrated and fit.family == MARLIN else ()
    alike = [one for one in fits if (one.family, one.framework) == (MARLIN, fit.framework)]
    return (alike[nearest(alike, shapes)] if alike else fit).start.value


def distance(fit: ExpertFit, shapes: ShapeArrays) -> float:
    """How far the nearest shape that ``fit`` measured is: 0 for another slice of the same experts,
    else the sum of the ratios' logarithms; without a measured shape as far as can be.
    """
    found = math.inf
    for ratios in fit.ratios:
        if ratios.gated != shapes.gated[0]:
            continue
        beyond = [
            abs(math.log(getattr(ratios, name) / getattr(shapes, name)[0]))
            for name in ("hidden", "experts", "top_k", "inter")
        ]
        found = min(found, sum(beyond) if any(beyond[:3]) else 0.0)
    return found


def interpolated(ratios: Ratios, tokens: Ints) -> Floats:
    """The ratio at ``tokens``, linear in its logarithm over that of tokens; nan beyond the ends."""
    at = np.log(np.asarray(ratios.tokens, np.float64))
    values = np.exp(np.interp(np.log(tokens), at, np.log(np.asarray(ratios.ratio))))
    beyond = (tokens < ratios.tokens[0]) | (tokens > ratios.tokens[-1])
    return np.where(beyond, np.nan, values)


def outside(fit: ExpertFit, shapes: ShapeArrays) -> NDArray[np.bool_]:
    """The launches whose shape lies beyond what the fit was made from."""
    beyond = np.zeros(len(shapes.tokens), bool)
    for name, (least, largest) in fit.measured.items():
        values = getattr(shapes, name)
        beyond |= (values < least) | (values > largest)
    return beyond
