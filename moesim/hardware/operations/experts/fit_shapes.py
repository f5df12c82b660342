"""What the launches in a measurement table do: shapes and rows as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from moesim.hardware.measurements.columns import BYTES, activation_bytes
from moesim.hardware.measurements.row_lists import row_lists
from moesim.hardware.measurements.validate import Mask, flag, number
from moesim.hardware.operations.experts.kernel import Work, even_work, ragged_work
from moesim.hardware.operations.experts.tiles import Tiles, tiles_of
from moesim.hardware.prices.arrays import Floats, Ints, group_sums
from moesim.hardware.prices.calibrated import Family
from moesim.hardware.profile import HardwareProfile


@dataclass(frozen=True)
class ExpertShapes:
    """n launches of expert networks; arrays [n]. ``counts`` are the rows of each expert of the
    launches with ``listed`` rows, one after another, ``members`` how many each has.
    """

    tokens: Ints
    hidden: Ints
    inter: Ints
    experts: Ints
    top_k: Ints
    gated: Mask
    distinct: Ints
    listed: Mask
    counts: Ints
    members: Ints
    element_bytes: Floats
    peak: Floats

    @property
    def total(self) -> Ints:
        """Rows of a launch."""
        return self.tokens * self.top_k

    @property
    def touched_bytes(self) -> Floats:
        """Bytes of the experts that have rows."""
        matrices = np.where(self.gated, 3, 2)
        size: Floats = self.distinct * self.hidden * self.inter * matrices * self.element_bytes
        return size

    def rows(self) -> tuple[Ints, Ints]:
        """The rows of every expert that a launch has, one launch after another, and how many
        experts each has; rows that are not listed are spread evenly.
        """
        members = self.distinct.copy()
        members[self.listed] = self.members
        owner = np.repeat(np.arange(len(members)), members)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(members) - members, members)
        low, more = np.divmod(self.total, self.distinct)
        counts = low[owner] + (place < more[owner])
        counts[self.listed[owner]] = self.counts
        return counts, members

    def where(self, mask: Mask) -> ExpertShapes:
        """The launches in ``mask``."""
        mine = mask[self.listed]
        parts = {
            field.name: getattr(self, field.name)[mask]
            for field in fields(self)
            if field.name not in ("counts", "members")
        }
        counts = self.counts[np.repeat(mine, self.members)]
        return ExpertShapes(**parts, counts=counts, members=self.members[mine])


def expert_shapes(table: pd.DataFrame, profile: HardwareProfile) -> ExpertShapes:
    """The rows of a valid table with op ``moe``."""
    names = ("tokens", "hidden", "inter", "experts", "top_k")
    tokens, hidden, inter, experts, top_k = (number(table, n).astype(np.int64) for n in names)
    counts, members, _ = row_lists(table)
    listed = members > 0
    reach = np.minimum(experts, tokens * top_k)
    given = number(table, "distinct_experts")
    distinct = np.where(np.isnan(given), reach, given).astype(np.int64)
    distinct[listed] = group_sums(np.sign(counts), members[listed])
    dtypes = table["dtype"].to_numpy(object)
    peaks = {dtype: profile.peak(dtype) for dtype in set(dtypes)}
    return ExpertShapes(
        tokens=tokens,
        hidden=hidden,
        inter=inter,
        experts=experts,
        top_k=top_k,
        gated=flag(table, "gated"),
        distinct=distinct,
        listed=listed,
        counts=counts,
        members=members[listed],
        element_bytes=np.array([BYTES[dtype] for dtype in dtypes]),
        peak=np.array([peaks[dtype] for dtype in dtypes]),
    )


def expert_work(shapes: ExpertShapes, family: Family) -> Work:
    """What these launches do with a family's tiles."""
    average = shapes.total / np.maximum(shapes.distinct, 1)
    tiles = tiles_of(family, shapes.tokens, shapes.experts, average)
    row_tiles, passes = even_work(shapes.total, shapes.distinct, tiles)
    if shapes.listed.any():
        own = tiles.where(shapes.listed)
        work = ragged_work(shapes.counts, shapes.members, own)
        row_tiles[shapes.listed], passes[shapes.listed] = work
    return Work(
        family=family,
        total_rows=shapes.total,
        distinct=shapes.distinct,
        row_tiles=row_tiles,
        passes=passes,
        tiles=tiles,
        average=average,
        hidden=shapes.hidden,
        inter=shapes.inter,
        gated=shapes.gated,
        element_bytes=shapes.element_bytes,
        activation_bytes=activation_bytes(shapes.element_bytes),
        peak=shapes.peak,
    )


def chosen(work: Work, mask: Mask) -> Work:
    """The launches of ``work`` in ``mask``."""
    parts: dict[str, Any] = {}
    for field in fields(work):
        value = getattr(work, field.name)
        if isinstance(value, Tiles):
            parts[field.name] = value.where(mask)
        else:
            parts[field.name] = value if isinstance(value, str) else value[mask]
    return Work(**parts)
