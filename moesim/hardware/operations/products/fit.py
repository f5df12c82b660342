"""Dense products: the five numbers of ``kernel.py``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.hardware.arrays import Floats
from moesim.hardware.calibrated import ProductFit
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
from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import Mask, flag, number
from moesim.hardware.operations.products.kernel import ProductNumbers, product_terms
from moesim.hardware.profile import HardwareProfile

SCALE = 0.03
PRIOR = Prior(
    center=np.array([getattr(ProductNumbers(), name) for name in ProductNumbers.names()]),
    width=np.array([0.5, 0.15, 0.4, 0.7, 0.7]),
    least=np.array([200.0, 0.2, 0.05, 1.0, 0.05]),
    largest=np.array([1e5, 1.0, 1.0, 20.0, 1.0]),
)
MOST_POINTS = 4000
SMALLEST = 256
"""Narrower products are bound by their start alone."""


class Products(Fitter):
    """Rows of one kernel with n and k of at least ``SMALLEST``, weights read from memory."""

    kind: ClassVar[str] = "products"
    ops: ClassVar[tuple[str, ...]] = ("gemm",)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> ProductFit | str:
        """See ``Fitter``."""
        wide = (number(table, "n") >= SMALLEST) & (number(table, "k") >= SMALLEST)
        cold = ~flag(table, "l2_warm", default=False)
        table = table[wide & cold].reset_index(drop=True)
        shape = groups(table, ("n", "k"))
        if len(table) < LEAST_POINTS or len(np.unique(shape)) < LEAST_SHAPES:
            return (
                f"products {about.label}: {len(table)} usable points of {len(np.unique(shape))}"
                f" shapes; a fit needs {LEAST_POINTS} of {LEAST_SHAPES}, with n and k of at least"
                f" {SMALLEST}"
            )
        latency, card = number(table, "latency_ns"), card_of(profile)
        found = _fit(table, profile, card, np.ones(len(table), bool))
        ratio = np.ones(len(table))
        for seen, unseen in halves(shape):
            half = ProductNumbers(*_fit(table, profile, card, seen).numbers.tolist())
            ratio[unseen] = prices(half, table[unseen], profile, card) / latency[unseen]
        assert about.dtype is not None, "a product has a format"
        return ProductFit(
            **about._asdict(),
            points=len(table),
            shapes=len(np.unique(shape)),
            held_out=summary(ratio, shape),
            measured=ranges_of(table, ("m", "n", "k")),
            **_estimates(found, profile, about.dtype),
        )


def prices(
    numbers: ProductNumbers, table: pd.DataFrame, profile: HardwareProfile, card: Card
) -> Floats:
    """The price of each row."""
    dtypes = table["dtype"].to_numpy(object)
    known = {dtype: (BYTES[dtype], profile.peak(dtype)) for dtype in set(dtypes)}
    width, peak = np.array([known[dtype] for dtype in dtypes]).reshape(-1, 2).T
    shape = (number(table, "m"), number(table, "n"), number(table, "k"))
    return product_terms(numbers, shape, width, peak, card).total


def _fit(table: pd.DataFrame, profile: HardwareProfile, card: Card, mask: Mask) -> Found:
    places = np.flatnonzero(mask)
    if len(places) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(places), MOST_POINTS, replace=False)
        places = places[np.sort(chosen)]
    part = table.iloc[places]

    def price(numbers: Floats) -> Floats:
        return prices(ProductNumbers(*numbers.tolist()), part, profile, card)

    return fit_logarithms(price, number(part, "latency_ns"), PRIOR, SCALE)


def _estimates(found: Found, profile: HardwareProfile, dtype: str) -> dict[str, Any]:
    memory = profile.datasheet.memory_bandwidth.value
    units = {"bandwidth": memory, "activation_bandwidth": memory, "compute": profile.peak(dtype)}
    estimates: dict[str, Any] = {}
    for index, name in enumerate(ProductNumbers.names()):
        unit, key = units.get(name, 1.0), "start" if name == "start_ns" else name
        low, high = found.ends[:, index] * unit
        value = found.numbers[index] * unit
        estimates[key] = {"value": read(key, value), "interval": [read(key, low), read(key, high)]}
    return estimates
