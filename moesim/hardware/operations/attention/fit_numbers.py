"""Fitting attention: which rows, from which numbers, and errors on shapes left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.hardware.card import card_of
from moesim.hardware.fitting.held_out import groups, summary
from moesim.hardware.fitting.logarithmic import Found, Prior, fit_logarithms
from moesim.hardware.fitting.ratio_tables import Half
from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import Mask, flag, number
from moesim.hardware.operations.attention.calibrated import DECODE, PREFILL
from moesim.hardware.operations.attention.kernel import AttentionNumbers, laid_out, terms_of
from moesim.hardware.operations.attention.tiles import LAYOUTS, AttentionShape
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Layout
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.profile import HardwareProfile

SCALE = 0.05
NAMES = AttentionNumbers.names()
PRIOR = Prior(
    center=np.array([1e4, 0.9, 0.8, 2.0, 0.6, 100.0, 3e3, 2.0, 2.0, 2e3, 50.0, 2e3]),
    width=np.array([0.5, 0.15, 0.4, 0.5, 0.4, 0.7, 0.8, 0.5, 0.6, 0.8, 0.8, 0.8]),
    least=np.array([200.0, 0.2, 0.1, 1.0, 0.05, 8.0, 1.0, 0.3, 1.0, 1.0, 0.01, 1.0]),
    largest=np.array([1e5, 1.0, 2.0, 8.0, 1.0, 1600.0, 1e5, 20.0, 20.0, 1e5, 1e4, 1e5]),
)
MOST_POINTS = 1500
FEW_POINTS = 400
"""Enough to tell layouts apart."""
SHAPE = ("batch", "heads", "kv_heads", "head_dim")
"""What a shape is: all its contexts lie in the same half."""
RANGES = ("batch", "context", "heads", "kv_heads", "head_dim")


class AttentionTable(NamedTuple):
    """The usable rows of one kernel and op, with their times."""

    rows: pd.DataFrame
    profile: HardwareProfile
    op: str

    @property
    def shape(self) -> NDArray[np.int64]:
        """The number of each row's shape."""
        return groups(self.rows, SHAPE)

    def names(self, layout: Layout) -> tuple[str, ...]:
        """The numbers that the rows can show: prompts have no split, packed tiles no reordering."""
        unseen = 3 if self.op == PREFILL else int(layout == "packed")
        return NAMES[: len(NAMES) - unseen]

    def pricing(self, layout: Layout, places: NDArray[np.int64]) -> Callable[[Floats], Floats]:
        """From numbers in the order of ``names`` to the prices of the rows at ``places``."""
        shape, card = shapes(self.rows.iloc[places], self.profile), card_of(self.profile)
        names, laid = self.names(layout), laid_out(layout, shape, card)

        def price(found: Floats) -> Floats:
            numbers = AttentionNumbers(**dict(zip(names, found.tolist(), strict=True)))
            return terms_of(numbers, laid, card).total

        return price


def usable(table: pd.DataFrame, profile: HardwareProfile) -> AttentionTable:
    """Without prompts of one token: kernels run them as decodes."""
    op = str(table["op"].iloc[0])
    rows = table[(number(table, "context") > 1) | (op == DECODE)]
    return AttentionTable(rows.reset_index(drop=True), profile, op)


def shapes(table: pd.DataFrame, profile: HardwareProfile) -> AttentionShape:
    """The shapes of valid rows. Measured again and again, a cache that fits stays in the L2."""
    batch, context, heads, kv_heads, head_dim = (number(table, name) for name in RANGES)
    dtypes = table["dtype"].to_numpy(object)
    known = {dtype: (BYTES[dtype], profile.peak(dtype)) for dtype in set(dtypes)}
    width, peak = np.array([known[dtype] for dtype in dtypes]).reshape(-1, 2).T
    prompt = (table["op"] == PREFILL).to_numpy(bool)
    return AttentionShape(
        batch,
        np.where(prompt, context, 1.0),
        context,
        np.where(prompt, (context + 1) / 2, context),
        heads,
        kv_heads,
        head_dim,
        width,
        peak,
        flag(table, "l2_warm"),
    )


def best_layout(table: AttentionTable) -> Layout:
    """The layout with the least cost on a sample of the rows."""
    return min(LAYOUTS, key=lambda layout: fitted(table, layout, most=FEW_POINTS).cost)


def fitted(
    table: AttentionTable, layout: Layout, mask: Mask | None = None, most: int = MOST_POINTS
) -> Found:
    """The numbers of the rows in ``mask``, all by default; of ``most`` of them, evenly drawn."""
    places = np.arange(len(table.rows)) if mask is None else np.flatnonzero(mask)
    if len(places) > most:
        chosen = np.random.default_rng(0).choice(len(places), most, replace=False)
        places = places[np.sort(chosen)]
    prior = Prior(*(values[: len(table.names(layout))] for values in PRIOR))
    latency = number(table.rows, "latency_ns")[places]
    return fit_logarithms(table.pricing(layout, places), latency, prior, SCALE)


def half_of(table: AttentionTable, layout: Layout, seen: Mask) -> Half:
    """The formula fitted to the rows in ``seen``, and its prices of all."""
    found, everywhere = fitted(table, layout, seen).numbers, np.arange(len(table.rows))
    return Half(seen, ~seen, table.pricing(layout, everywhere)(found))


def errors_of(table: AttentionTable, halved: Iterable[Half]) -> HeldOut:
    """The formula's errors on the half of the shapes that was not fitted, both ways round."""
    latency = number(table.rows, "latency_ns")
    ratio = np.ones(len(latency))
    for half in halved:
        ratio[half.unseen] = (half.formula / latency)[half.unseen]
    return summary(ratio, table.shape)
