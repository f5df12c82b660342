"""What a kind of fit is: it fits the rows of its ops."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import pandas as pd

from moesim.hardware.prices.calibrated import Fit, Ranges
from moesim.hardware.profile import HardwareProfile

LEAST_POINTS = 30


class About(NamedTuple):
    """What the rows of one fit have in common; ``source`` is a key of the profile's sources."""

    dtype: str | None
    kernel: str | None
    device: str | None
    framework: str | None
    version: str | None
    source: str
    block_scaled: bool | None = None

    @property
    def label(self) -> str:
        """For messages."""
        return " ".join(text for text in (self.dtype, self.kernel, self.framework) if text)


class Fitter:
    """A subclass has its ``kind`` and the ``ops`` of the measurement table that it fits. Rows that
    differ in a column of ``apart`` get fits of their own.

    A kind that is no field of ``Calibrated`` returns an ``OtherFit``, which an operation of the
    same package reads with ``Calibrated.of``.
    """

    kind: ClassVar[str]
    ops: ClassVar[tuple[str, ...]]
    apart: ClassVar[tuple[str, ...]] = ("dtype",)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> Fit | str:
        """The fit of one kernel's rows, or why there is none and what is missing."""
        raise NotImplementedError


def ranges_of(table: pd.DataFrame, columns: tuple[str, ...]) -> Ranges:
    """The least and the largest of whole positive ``columns`` that the table has."""
    present = [name for name in columns if name in table.columns and table[name].notna().any()]
    return {name: (int(table[name].min()), int(table[name].max())) for name in present}
