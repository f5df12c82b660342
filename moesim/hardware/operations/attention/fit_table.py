"""Measured over fitted times of decodes, and how wrong their interpolation is."""

from __future__ import annotations

import numpy as np

from moesim.hardware.fitting.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.hardware.fitting.ratio_tables import Columns, Half, left_out, ratio_table, worthwhile
from moesim.hardware.operations.attention.calibrated import DECODE
from moesim.hardware.operations.attention.fit_numbers import AttentionTable
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Layout
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.prices.ratio_table import SHAPES, RatioTable

COLUMNS = Columns({"heads": 1.0, "kv_heads": 1.0, "head_dim": 3.0}, ("batch", "context"))
"""Head sizes are further apart than as many heads (chosen by the errors that tables of two cards
have at heads left out).
"""


def decode_table(
    table: AttentionTable, layout: Layout, numbers: Floats, halved: list[Half], formula: HeldOut
) -> RatioTable | None:
    """Ratios of decodes over the formula with ``numbers``, where their errors on shapes left out
    are below its own (``formula``); ``halved``: it on halves of the shapes. Prompts and few heads
    have none.
    """
    rows, shape = table.rows, table.shape
    heads = groups(rows, tuple(COLUMNS.shape))
    if table.op != DECODE or len(np.unique(heads)) < LEAST_SHAPES:
        return None
    errors = {SHAPES: summary(left_out(rows, COLUMNS, halved), shape)}
    if not worthwhile(errors[SHAPES], formula):
        return None
    price = table.pricing(layout, np.arange(len(rows)))(numbers)
    for name, part in {"heads": heads, "points": np.arange(len(rows))}.items():
        others = (Half(seen, unseen, price) for seen, unseen in halves(part))
        errors[name] = summary(left_out(rows, COLUMNS, others), part)
    return ratio_table(rows, price, COLUMNS, errors)
