"""Measured over fitted time by tokens, for each measured shape.

Between token counts the ratio is interpolated, not the time: the formula carries the steps of the
tiles, the ratio what the formula misses of a shape.
"""

from __future__ import annotations

import pandas as pd

from moesim.hardware.measurements.validate import Mask, flag
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Ratios

DIGITS = 4


def ratios_of(table: pd.DataFrame, ratio: Floats, mask: Mask) -> tuple[Ratios, ...]:
    """The ratios of the rows in ``mask``, the median where a token count was measured again."""
    columns = ["hidden", "inter", "experts", "top_k"]
    part = table.loc[mask, [*columns, "tokens"]].astype("int64")
    part["gated"], part["ratio"] = flag(table, "gated")[mask], ratio[mask]
    medians = part.groupby([*columns, "gated", "tokens"], sort=True)["ratio"].median()
    result: list[Ratios] = []
    for key, group in medians.groupby(level=[*columns, "gated"], sort=True):
        assert isinstance(key, tuple), "grouped by several levels"
        hidden, inter, experts, top_k, gated = key
        result.append(
            Ratios(
                hidden=int(hidden),
                inter=int(inter),
                experts=int(experts),
                top_k=int(top_k),
                gated=bool(gated),
                tokens=tuple(int(count) for count in group.index.get_level_values("tokens")),
                ratio=tuple(round(float(value), DIGITS) for value in group),
            )
        )
    return tuple(result)
