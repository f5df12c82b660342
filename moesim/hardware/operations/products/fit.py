"""Dense products: the five numbers of ``kernel.py``, and measured ratios over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.hardware.card import Card, card_of
from moesim.hardware.fitting.amounts import read
from moesim.hardware.fitting.fitter import (
    LEAST_POINTS,
    About,
    Fitter,
    ranges_of,
)
from moesim.hardware.fitting.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.hardware.fitting.logarithmic import Found, Prior, fit_logarithms
from moesim.hardware.fitting.ratio_tables import Columns, Half, left_out, ratio_table, worthwhile
from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import Mask, flag, number
from moesim.hardware.operations.products.kernel import ProductNumbers, ProductTerms, product_terms
from moesim.hardware.prices.arrays import NS, Floats, Ints
from moesim.hardware.prices.calibrated import ProductFit
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.prices.ratio_table import SHAPES, Beyond, RatioTable
from moesim.hardware.profile import HardwareProfile

SCALE = 0.03
BLOCK_NS = 0.3
"""A block's prior: some two clocks."""
PRIOR = Prior(
    center=np.array(
        [*(getattr(ProductNumbers(), name) for name in ProductNumbers.names()), BLOCK_NS]
    ),
    width=np.array([0.5, 0.15, 0.4, 0.7, 0.7, 1.0]),
    least=np.array([200.0, 0.2, 0.05, 1.0, 0.05, 1e-3]),
    largest=np.array([1e5, 1.0, 1.0, 20.0, 1.0, 10.0]),
)
QUANTISES = "deepgemm"
"""Kernels by a part of their name in whose times inputs are quantised by SGLang's kernel."""
MOST_POINTS = 4000
SMALLEST = 256
"""Narrower products are bound by their start alone."""
SHAPE = ("n", "k")


ONE_TILE = 128
COLUMNS = Columns(
    shape={"n": 1.0, "k": 0.5},
    grid=("m",),
    beyond=Beyond(column="m", above=ONE_TILE, shape={"n": 1.0, "k": 0.15}),
)
"""Up to one tile of rows a product waits for its weights, whose columns and depth count alike to
memory; of more rows, tiles fill waves, whose number depends on the columns alone (the scales are
chosen by the errors that tables of four cards have at shapes left out, in two drawings).
"""


class Products(Fitter):
    """Rows of one kernel whose weights came from memory: the numbers from n and k of at least
    ``SMALLEST``, the table from all.
    """

    kind: ClassVar[str] = "products"
    ops: ClassVar[tuple[str, ...]] = ("gemm",)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> ProductFit | str:
        """See ``Fitter``."""
        table = table[_cold(table, profile)].reset_index(drop=True)
        wide = _wide(table)
        points, shapes = int(wide.sum()), len(np.unique(groups(table, SHAPE)[wide]))
        if points < LEAST_POINTS or shapes < LEAST_SHAPES:
            return (
                f"products {about.label}: {points} usable points of {shapes}"
                f" shapes; a fit needs {LEAST_POINTS} of {LEAST_SHAPES}, with n and k of at least"
                f" {SMALLEST}"
            )
        assert about.dtype is not None, "a product has a format"
        found = _fit(table, profile, np.ones(len(table), bool))
        held_out, ratios = _table(table, profile, found)
        return ProductFit(
            **about._asdict(),
            points=points,
            shapes=shapes,
            held_out=held_out,
            measured=ranges_of(table[wide] if ratios is None else table, ("m", *SHAPE)),
            **_estimates(found, profile, about.dtype),
            table=ratios,
        )


def _cold(table: pd.DataFrame, profile: HardwareProfile) -> Mask:
    """Rows that are not of weights in a cache, by what they say or by their time."""
    card, width = card_of(profile), np.array([BYTES[dtype] for dtype in table["dtype"]])
    size = number(table, "n") * number(table, "k") * width
    reading = size * NS / (card.bandwidth * profile.datasheet.bandwidth_fraction.value)
    stayed = (size <= card.l2) & (number(table, "latency_ns") < reading)
    return np.asarray(~(flag(table, "l2_warm", default=False) | stayed), bool)


def _wide(table: pd.DataFrame) -> Mask:
    return (number(table, "n") >= SMALLEST) & (number(table, "k") >= SMALLEST)


def _table(
    table: pd.DataFrame, profile: HardwareProfile, found: Found
) -> tuple[HeldOut, RatioTable | None]:
    """The formula's errors on shapes left out, and the measured ratios where theirs are smaller."""
    latency, wide, shape = number(table, "latency_ns"), _wide(table), groups(table, SHAPE)
    by_shape = [_half(table, profile, seen) for seen in _halves(shape, wide)]
    formula = np.ones(len(table))
    for half in by_shape:
        formula[half.unseen] = (half.formula / latency)[half.unseen]
    held_out = summary(formula[wide], shape[wide])
    ratio = left_out(table, COLUMNS, by_shape)
    errors = {SHAPES: summary(ratio[wide], shape[wide])}
    if not worthwhile(errors[SHAPES], held_out):
        return held_out, None
    if not wide.all():
        errors["narrow"] = summary(ratio[~wide], shape[~wide])
    points, (price, steps) = np.arange(len(table)), _priced(found, table, profile)
    by_point = (Half(seen, unseen, price, steps) for seen, unseen in halves(points))
    errors["points"] = summary(left_out(table, COLUMNS, by_point), points)
    return held_out, ratio_table(table, price, COLUMNS, errors, steps)


def _halves(part: Ints, wide: Mask) -> Iterator[Mask]:
    """Rows of one half of the parts, and of the other; both have of those that are wide."""
    of_wide, of_narrow = halves(np.where(wide, part, -1)), halves(np.where(wide, -1, part))
    for (a, _), (b, _) in zip(of_wide, of_narrow, strict=True):
        yield np.where(wide, a, b)


def _half(table: pd.DataFrame, profile: HardwareProfile, seen: Mask) -> Half:
    return Half(seen, ~seen, *_priced(_fit(table, profile, seen), table, profile))


def _priced(found: Found, table: pd.DataFrame, profile: HardwareProfile) -> tuple[Floats, Floats]:
    """The price of each row, and over what it would be without blocks that quantise: an odd row
    more makes many.
    """
    numbers = ProductNumbers(*found.numbers.tolist())
    terms = _terms(numbers, table, profile, card_of(profile))
    return terms.total, terms.total / (terms.total - terms.quantising)


def prices(
    numbers: ProductNumbers, table: pd.DataFrame, profile: HardwareProfile, card: Card
) -> Floats:
    """The price of each row."""
    return _terms(numbers, table, profile, card).total


def _terms(
    numbers: ProductNumbers, table: pd.DataFrame, profile: HardwareProfile, card: Card
) -> ProductTerms:
    dtypes = table["dtype"].to_numpy(object)
    known = {dtype: (BYTES[dtype], profile.peak(dtype)) for dtype in set(dtypes)}
    width, peak = np.array([known[dtype] for dtype in dtypes]).reshape(-1, 2).T
    shape = (number(table, "m"), number(table, "n"), number(table, "k"))
    return product_terms(numbers, shape, width, peak, card)


def _fit(table: pd.DataFrame, profile: HardwareProfile, mask: Mask) -> Found:
    """The numbers of the wide rows in ``mask``."""
    places, card = np.flatnonzero(mask & _wide(table)), card_of(profile)
    if len(places) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(places), MOST_POINTS, replace=False)
        places = places[np.sort(chosen)]
    part = table.iloc[places]

    def price(numbers: Floats) -> Floats:
        return prices(ProductNumbers(*numbers.tolist()), part, profile, card)

    known = len(ProductNumbers.names(quantises=_quantises(table)))
    prior = Prior(*(values[:known] for values in PRIOR))
    return fit_logarithms(price, number(part, "latency_ns"), prior, SCALE)


def _quantises(table: pd.DataFrame) -> bool:
    """Whether the kernel, which is one for all rows, quantises inputs."""
    return "kernel_source" in table and QUANTISES in str(table["kernel_source"].iloc[0]).lower()


def _estimates(found: Found, profile: HardwareProfile, dtype: str) -> dict[str, Any]:
    memory = profile.datasheet.memory_bandwidth.value
    units = {"bandwidth": memory, "activation_bandwidth": memory, "compute": profile.peak(dtype)}
    estimates: dict[str, Any] = {}
    quantises = len(found.numbers) > len(ProductNumbers.names())
    for index, name in enumerate(ProductNumbers.names(quantises=quantises)):
        unit, key = units.get(name, 1.0), name.removesuffix("_ns")
        low, high = found.ends[:, index] * unit
        value = found.numbers[index] * unit
        estimates[key] = {"value": read(key, value), "interval": [read(key, low), read(key, high)]}
    return estimates
