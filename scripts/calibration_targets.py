"""What the expert-kernel fit reaches on the wheel's tables: left-out shapes, left-out token counts,
power-law rows, a left-out GPU. ``python scripts/calibration_targets.py WHEEL``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from profiles import TABLES

from moesim.calibrate.tables.importing import import_measurements
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.card import Card, card_of
from moesim.hardware.fitting.held_out import groups
from moesim.hardware.measurements.validate import number
from moesim.hardware.operations.experts.fit import SHAPE
from moesim.hardware.operations.experts.fit_numbers import Fitted, families_of, fit_experts, vector
from moesim.hardware.operations.experts.fit_rows import used_rows
from moesim.hardware.operations.experts.fit_shapes import (
    ExpertShapes,
    chosen,
    expert_shapes,
    expert_work,
)
from moesim.hardware.operations.experts.kernel import ExpertNumbers, terms
from moesim.hardware.prices.calibrated import Family

SPLITS = 10
MOST_TOKENS = 4096
LIKE_THE_B200 = ("b300-sxm", "gb200", "gb300")
"""Cards of its architecture, in no mean of the others: a left-out card has none like it there."""


class Data(NamedTuple):
    """A card's bf16 rows of one kernel."""

    table: pd.DataFrame
    shapes: ExpertShapes
    latency: NDArray[np.float64]
    used: NDArray[np.bool_]
    shape: NDArray[np.int64]
    card: Card
    profile: HardwareProfile
    families: tuple[Family, ...]


def load(wheel: Path, name: str) -> Data:
    """The unsliced bf16 rows of the kernel with the most rows."""
    profile = load_hardware(name)
    table = import_measurements(wheel, only=[TABLES[name]]).table
    table = table[(table["dtype"] == "bf16") & (table["tensor_parallel"] == 1)]
    kernel = table["kernel_source"].value_counts().index[0]
    table = table[table["kernel_source"] == kernel].reset_index(drop=True)
    shapes = expert_shapes(table, profile)
    used, latency = used_rows(table, shapes, profile), number(table, "latency_ns")
    shape, families = groups(table, SHAPE), families_of(str(kernel))
    return Data(table, shapes, latency, used, shape, card_of(profile), profile, families)


def priced(data: Data, fitted: Fitted, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Price over measured of the rows in ``mask``."""
    work = chosen(expert_work(data.shapes, fitted.family), mask)
    ratio: NDArray[np.float64] = terms(fitted.numbers, work, data.card).total / data.latency[mask]
    return ratio


def told(ratio: NDArray[np.float64]) -> str:
    """Median and p90 of the error, in percent."""
    error = np.abs(ratio - 1) * 100
    return f"{np.median(error):.2f} / {np.percentile(error, 90):.2f}"


def left_out_shapes(data: Data) -> str:
    """Fitted on half of the shapes, priced on the other half: the mean over ten splits."""
    reached = []
    present = np.unique(data.shape[data.used])
    for seed in range(SPLITS):
        half = np.random.default_rng(seed).permutation(present)[: len(present) // 2]
        seen = data.used & np.isin(data.shape, half)
        fitted = fit_experts(data.shapes, data.latency, data.card, seen, data.families)
        error = np.abs(priced(data, fitted, data.used & ~seen) - 1) * 100
        reached.append((np.median(error), np.percentile(error, 90)))
    mean, worst = np.mean(reached, axis=0), np.max(reached, axis=0)
    return f"{mean[0]:.2f} / {mean[1]:.2f} (worst split {worst[0]:.2f} / {worst[1]:.2f})"


def left_out_tokens(data: Data, fitted: Fitted) -> str:
    """Each inner token count of a shape from its neighbours' ratios."""
    ratio = 1 / priced(data, fitted, data.used)
    frame = data.table.loc[data.used, ["tokens"]].assign(r=ratio, s=data.shape[data.used])
    errors = []
    for _, part in frame.groupby("s"):
        curve = part.groupby("tokens")["r"].median()
        at, values = np.log(curve.index.to_numpy(float)), np.log(curve.to_numpy())
        for i in range(1, len(at) - 1):
            guess = np.interp(at[i], [at[i - 1], at[i + 1]], [values[i - 1], values[i + 1]])
            errors.append(np.exp(guess - values[i]))
    return told(np.array(errors))


def uneven(data: Data, fitted: Fitted) -> str:
    """Power-law rows with the balanced fit."""
    large = data.shapes.touched_bytes > data.card.l2
    mask = data.shapes.listed & (data.shapes.tokens <= MOST_TOKENS) & large & ~data.used
    return told(priced(data, fitted, mask)) if mask.any() else "(fitted on power-law rows)"


def main(wheel: Path) -> int:
    """Print every target for every card."""
    cards = {name: load(wheel, name) for name in TABLES}
    fits = {}
    for name, data in cards.items():
        fits[name] = fit_experts(data.shapes, data.latency, data.card, data.used, data.families)
        print(f"{name} ({fits[name].family}), median / p90 percent")
        print(f"  left-out shapes       {left_out_shapes(data)}")
        print(f"  left-out token counts {left_out_tokens(data, fits[name])}")
        print(f"  power-law rows        {uneven(data, fits[name])}")
    print("left-out GPU: the other cards' mean numbers, the card's own datasheet and tile family")
    for name, data in cards.items():
        others = fits.keys() - {name, *LIKE_THE_B200}
        logs = [np.log(vector(fits[other].numbers)) for other in sorted(others)]
        values = (float(value) for value in np.exp(np.mean(logs, axis=0)))
        guess = fits[name]._replace(numbers=ExpertNumbers(*values))
        print(f"  {name:16} {told(priced(data, guess, data.used))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
