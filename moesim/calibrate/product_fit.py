"""Fitting dense products: five numbers, in log space, as the experts' nine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from moesim.calibrate.amounts import read
from moesim.calibrate.columns import BYTES
from moesim.calibrate.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.calibrate.validate import Mask, number
from moesim.hardware.calibrated import ProductFit, ProductRange
from moesim.hardware.expert_kernel import Card
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.product_kernel import ProductNumbers, product_ns
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats

SCALE = 0.03
WIDTH = np.array([0.5, 0.15, 0.4, 0.7, 0.7])
LEAST = np.array([200.0, 0.2, 0.05, 1.0, 0.05])
LARGEST = np.array([1e5, 1.0, 1.0, 20.0, 1.0])
MOST_POINTS = 4000
LEAST_POINTS = 30
SMALLEST = 256
"""Narrower products are bound by their start alone."""
CONFIDENCE = 1.96
INSIDE = 1e-6


def fit_products(
    table: pd.DataFrame, profile: HardwareProfile, where: dict[str, str], source: str
) -> ProductFit | str:
    """The fit of one kernel's rows, or why there is none."""
    wide = (number(table, "n") >= SMALLEST) & (number(table, "k") >= SMALLEST)
    table = table[wide].reset_index(drop=True)
    shape = groups(table, ("n", "k"))
    if len(table) < LEAST_POINTS or len(np.unique(shape)) < LEAST_SHAPES:
        return (
            f"products {where.get('dtype', '')} {where.get('kernel_source', '')}: {len(table)}"
            f" usable points of {len(np.unique(shape))} shapes; a fit needs {LEAST_POINTS} of"
            f" {LEAST_SHAPES}, with n and k of at least {SMALLEST}"
        )
    latency, card = number(table, "latency_ns"), card_of(profile)
    numbers, intervals = _fit(table, profile, card, np.ones(len(table), bool))
    ratio = np.ones(len(table))
    for seen, unseen in halves(shape):
        half, _ = _fit(table, profile, card, seen)
        ratio[unseen] = prices(half, table[unseen], profile, card) / latency[unseen]
    ranges = {n: (int(table[n].min()), int(table[n].max())) for n in ("m", "n", "k")}
    return ProductFit(
        dtype=where["dtype"],
        kernel=where.get("kernel_source"),
        device=where.get("device"),
        framework=where.get("framework"),
        version=where.get("version"),
        source=source,
        points=len(table),
        shapes=len(np.unique(shape)),
        held_out=summary(ratio, shape),
        measured=ProductRange(**ranges),
        **_estimates(numbers, intervals, profile, where["dtype"]),
    )


def prices(
    numbers: ProductNumbers, table: pd.DataFrame, profile: HardwareProfile, card: Card
) -> Floats:
    """The price of each row."""
    dtypes = table["dtype"].to_numpy(object)
    known = {dtype: (BYTES[dtype], profile.peak(dtype)) for dtype in set(dtypes)}
    width, peak = np.array([known[dtype] for dtype in dtypes]).reshape(-1, 2).T
    shape = (number(table, "m"), number(table, "n"), number(table, "k"))
    return product_ns(numbers, shape, width, peak, card)


def _fit(
    table: pd.DataFrame, profile: HardwareProfile, card: Card, mask: Mask
) -> tuple[ProductNumbers, NDArray[np.float64]]:
    """The numbers, and the ends of their intervals, float64[2, 5]."""
    places = np.flatnonzero(mask)
    if len(places) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(places), MOST_POINTS, replace=False)
        places = places[np.sort(chosen)]
    part = table.iloc[places]
    measured = np.log(number(part, "latency_ns"))
    center = np.log([getattr(ProductNumbers(), name) for name in ProductNumbers.names()])
    low, high = np.log(LEAST), np.log(LARGEST)

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        price = prices(_numbers(logs), part, profile, card)
        return np.concatenate([(np.log(price) - measured) / SCALE, (logs - center) / WIDTH])

    start = np.clip(center, low + INSIDE, high - INSIDE)
    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1")
    size = max(2 * float(found.cost) / max(len(found.fun) - 10, 1), INSIDE)
    slope = np.asarray(found.jac, np.float64)
    spread = CONFIDENCE * np.sqrt(np.diag(np.linalg.pinv(slope.T @ slope)) * size)
    return _numbers(found.x), np.exp(np.clip([found.x - spread, found.x + spread], low, high))


def _numbers(logs: NDArray[np.float64]) -> ProductNumbers:
    return ProductNumbers(*(float(value) for value in np.exp(logs)))


def _estimates(
    numbers: ProductNumbers, ends: NDArray[np.float64], profile: HardwareProfile, dtype: str
) -> dict[str, Any]:
    memory = profile.datasheet.memory_bandwidth.value
    units = {"bandwidth": memory, "activation_bandwidth": memory, "compute": profile.peak(dtype)}
    estimates: dict[str, Any] = {}
    for index, name in enumerate(ProductNumbers.names()):
        unit, key = units.get(name, 1.0), "start" if name == "start_ns" else name
        low, high = ends[:, index] * unit
        value = getattr(numbers, name) * unit
        estimates[key] = {"value": read(key, value), "interval": [read(key, low), read(key, high)]}
    return estimates
