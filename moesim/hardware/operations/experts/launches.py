"""The price of launches of experts from fits: the simulator's side of ``calibrated.py``."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from moesim.hardware.card import Card, card_of
from moesim.hardware.operation import TileTable
from moesim.hardware.operations.experts.calibrated import (
    EVEN,
    ShapeArrays,
    choose,
    fits_for,
    interpolated,
    numbers_of,
    outside,
    shapes_of,
    start_for,
)
from moesim.hardware.operations.experts.kernel import ExpertNumbers, Work, ragged_work, terms
from moesim.hardware.operations.experts.tiles import BY_AVERAGE, tiles_of
from moesim.hardware.prices.arrays import NS, Floats, Ints, group_sums
from moesim.hardware.prices.calibrated import ExpertFit, Ratios
from moesim.hardware.prices.parts import MEASURED, Amount, Detail, Part
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import MoeSpec

NAMES = {
    "start": "start of the layer's kernels",
    "activations": "activation traffic",
    "up_memory": "  reading of gate and up",
    "up_compute": "  computing of gate and up",
    "up_cache": "  L2 traffic of gate and up",
    "up": "gate and up: both, overlapped",
    "down_memory": "  reading of down",
    "down_compute": "  computing of down",
    "down_cache": "  L2 traffic of down",
    "down": "down: both, overlapped",
}
"""The terms in words."""


class FittedLaunches:
    """Launches of one layer's experts.

    Tiles follow the launch's tokens (``tokens_of`` its rows, if they are not told) over all experts
    of the layer, or the average rows of the launch's experts (``tiles``); a measured shape's ratio
    (measured over formula) follows its tokens. ``serial`` launches hold one expert, a launch of its
    own shape; without a fit of such launches the grouped kernel's terms stand in, with ``start_ns``
    in place of its start. ``measured``: with the ratios; ``apart_ns`` of a launch have a price of
    their own.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        moe: MoeSpec,
        activation_bytes: int,
        *,
        serial: bool,
        start_ns: float,
        measured: bool = True,
        apart_ns: float = 0.0,
    ) -> None:
        self.profile, self.moe, self.activation_bytes = profile, moe, activation_bytes
        grouped = fits_for(profile, moe.expert)
        own = fits_for(profile, moe.expert, serial=True) if serial else grouped
        self.fits, self.alone = own or grouped, serial and bool(own)
        self.borrowed_start = start_ns if serial and not own else None
        self.measured, self.apart_ns = measured, apart_ns

    @cached_property
    def card(self) -> Card:
        """What the formula takes of the card."""
        return card_of(self.profile)

    @cached_property
    def chosen(self) -> tuple[ExpertFit, Ratios | None]:
        """The fit that prices them, and its measured ratios, if it has any."""
        return choose(self.fits, self._shapes(np.ones(1, np.int64)))

    @cached_property
    def numbers(self) -> ExpertNumbers:
        """That fit's numbers."""
        (fit, ratios), start = self.chosen, self.borrowed_start
        numbers = numbers_of(fit, self.profile)
        if start is None and ratios is None:
            start = start_for(self.profile, fit, self._shapes(np.ones(1, np.int64)))
        return numbers if start is None else replace(numbers, start_ns=start)

    def price(self, counts: Ints, members: Ints, tokens: Ints | None = None) -> Floats:
        """Nanoseconds of launches with ``members[i]`` of the rows ``counts`` each."""
        shapes = self._shapes(group_sums(counts, members), tokens)
        price = terms(self.numbers, self._work(counts, members, shapes), self.card).total
        if self._corrected:
            ratio = self._ratio(shapes.tokens)
            price = price * np.where(np.isnan(ratio), 1.0, ratio)
        return np.asarray(np.maximum(price, self._least(counts, members)), np.float64)

    def part(self, counts: Ints, members: Ints, tokens: Ints | None = None) -> Part:
        """The price of each launch, with the terms of its formula."""
        price = self.price(counts, members, tokens)

        def detail() -> Detail:
            shapes = self._shapes(group_sums(counts, members), tokens)
            work = self._work(counts, members, shapes)
            found = terms(self.numbers, work, self.card)
            named = {text: getattr(found, name) for name, text in NAMES.items()}
            named[MEASURED] = price - found.total
            return Detail([Amount(name, time) for name, time in named.items()], self.chosen[0])

        return Part(price, Source.FITTED, "kernels of the experts", detail)

    def tiles(self, number: Ints) -> TileTable:
        """The tiles of launches by their rows, or average rows, ``number`` [n]."""
        shapes = self._shapes(number)
        family = self.chosen[0].family
        found = tiles_of(family, shapes.tokens, shapes.experts, number.astype(np.float64))
        return TileTable(found.rows, found.group, family in BY_AVERAGE)

    def _least(self, counts: Ints, members: Ints) -> Floats:
        """What reading the weights takes at the datasheet's bandwidth, beside the reorderings.

        A table's launch may have touched fewer experts than its tokens reach, or have found their
        weights in the L2 cache, which those of other layers fill in a run.
        """
        touched = group_sums(np.sign(counts), members) * float(self.moe.expert.bytes)
        least = touched * (NS / self.card.bandwidth) + self.apart_ns
        return np.asarray(np.where(touched > 0, least, 0.0), np.float64)

    def sources(self, counts: Ints, members: Ints, tokens: Ints | None = None) -> Ints:
        """The ``Source`` of each launch's price."""
        total = group_sums(counts, members)
        shapes = self._shapes(total, tokens)
        (fit, ratios), ratio = self.chosen, self._ratio(shapes.tokens)
        beyond, exact = (
            outside(fit, shapes),
            np.isin(shapes.tokens, ratios.tokens if ratios else ()),
        )
        distinct = group_sums(np.sign(counts), members)
        even = distinct >= EVEN * np.minimum(shapes.experts, total)
        formula = np.where(beyond, Source.OUTSIDE, Source.FITTED)
        tabled = np.where(exact & even, Source.MEASURED, Source.INTERPOLATED)
        known = ~np.isnan(ratio) & self._corrected
        return np.asarray(np.where(known, tabled, formula), np.int64)

    @property
    def _corrected(self) -> bool:
        """Whether measured times correct the formula."""
        return self.measured and self.borrowed_start is None

    def _ratio(self, tokens: Ints) -> Floats:
        """Measured over fitted times; nan where nothing was measured."""
        ratios = self.chosen[1]
        return np.full(len(tokens), np.nan) if ratios is None else interpolated(ratios, tokens)

    def _shapes(self, total: Ints, tokens: Ints | None = None) -> ShapeArrays:
        if self.alone:
            tokens = total
        elif tokens is None:
            tokens = tokens_of(self.moe, total)
        return shapes_of(self.moe, np.maximum(tokens, 1), alone=self.alone)

    def _work(self, counts: Ints, members: Ints, shapes: ShapeArrays) -> Work:
        fit, total, number = self.chosen[0], group_sums(counts, members), len(members)
        distinct = group_sums(np.sign(counts), members)
        average = total / np.maximum(distinct, 1)
        tiles = tiles_of(fit.family, shapes.tokens, shapes.experts, average)
        row_tiles, passes = ragged_work(counts, members, tiles)
        expert = self.moe.expert
        return Work(
            family=fit.family,
            total_rows=total,
            distinct=distinct,
            row_tiles=row_tiles,
            passes=passes,
            tiles=tiles,
            average=average,
            hidden=shapes.hidden,
            inter=shapes.inter,
            gated=shapes.gated,
            element_bytes=np.full(number, expert.bytes / expert.matrix_elements),
            activation_bytes=np.full(number, float(self.activation_bytes)),
            peak=np.full(number, self.profile.peak(expert.dtype)),
        )


def tokens_of(moe: MoeSpec, rows: Ints) -> Ints:
    """The tokens whose choices make ``rows`` of a launch, rounded up, where each has ``top_k``."""
    return -(-rows // moe.top_k)
