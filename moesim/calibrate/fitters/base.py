"""What a kind of fit is: it fits the rows of its ops, prices them, and explains a price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.calibrate.datasheet_prices import PRICES, Terms
from moesim.calibrate.validate import Mask, number
from moesim.hardware.calibrated import Fit, Ranges
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats

Method = Literal["auto", "table", "fit", "datasheet"]
METHODS: tuple[str, ...] = get_args(Method)
Texts = NDArray[np.object_]
LEAST_POINTS = 30


class Prices(NamedTuple):
    """Nanoseconds, ``measured | interpolated | fitted | datasheet``, and whether the shape lies
    outside what was measured (false where nothing was); each [n].
    """

    price_ns: Floats
    price_source: Texts
    outside: Mask


class About(NamedTuple):
    """What the rows of one fit have in common; ``source`` is a key of the profile's sources."""

    dtype: str | None
    kernel: str | None
    device: str | None
    framework: str | None
    version: str | None
    source: str

    @property
    def label(self) -> str:
        """For messages."""
        return " ".join(text for text in (self.dtype, self.kernel, self.framework) if text)


class Explained(NamedTuple):
    """The terms of a price in nanoseconds, the formula's sum, and the fit that has them."""

    terms: Mapping[str, float]
    formula_ns: float
    fit: Fit


class Fitter:
    """A subclass has its ``kind``, which is a field of ``Calibrated`` too, and the ``ops`` that it
    prices. Rows that differ in a column of ``apart`` get fits of their own.
    """

    kind: ClassVar[str]
    ops: ClassVar[tuple[str, ...]]
    apart: ClassVar[tuple[str, ...]] = ("dtype",)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> Fit | str:
        """The fit of one kernel's rows, or why there is none and what is missing."""
        raise NotImplementedError

    def price(self, profile: HardwareProfile, table: pd.DataFrame, method: str) -> Prices:
        """The prices of valid rows of one of its ops; the datasheet's where there is no fit."""
        raise NotImplementedError

    def explain(self, profile: HardwareProfile, row: pd.DataFrame) -> Explained | None:
        """The terms of the one valid row's fitted price; None where there is no fit."""
        raise NotImplementedError


def datasheet_terms(profile: HardwareProfile, table: pd.DataFrame, op: str) -> Terms:
    """What the datasheet's prices of rows with one ``op`` are made of."""
    return PRICES[op](table, profile.model_copy(update={"calibrated": None}))


def datasheet(profile: HardwareProfile, table: pd.DataFrame, op: str) -> Prices:
    """The datasheet's prices of rows with one ``op``."""
    price = datasheet_terms(profile, table, op).total_ns()
    none = np.zeros(len(table), bool)
    return Prices(price, np.full(len(table), "datasheet", object), none)


def ranges_of(table: pd.DataFrame, columns: tuple[str, ...]) -> Ranges:
    """The least and the largest of whole positive ``columns`` that the table has."""
    present = [name for name in columns if name in table.columns and table[name].notna().any()]
    return {name: (int(table[name].min()), int(table[name].max())) for name in present}


def beyond(ranges: Ranges, table: pd.DataFrame) -> Mask:
    """The rows that lie outside of ``ranges`` in some column."""
    out = np.zeros(len(table), bool)
    for name, (least, largest) in ranges.items():
        values = number(table, name)
        out |= (values < least) | (values > largest)
    return out
