"""Misses per needed expert over the number of expert slots, with MIN as the bound."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from moesim.report.capacity import NEEDS, capacity_table, draw_lines
from moesim.report.figures.base import Figure
from moesim.report.series import numbers


class MissRatioVsCapacity(Figure):
    """Miss ratio over expert slots per layer; MIN, where swept, bounds every policy from below."""

    kind = "miss_ratio_vs_capacity"
    needs = NEEDS

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, slots and both miss ratios: per distinct expert of a step, and per access."""
        return capacity_table(self, folder, miss_ratios)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the slots; the bound is black, dashed and without markers."""
        draw_lines(table, "miss_ratio_per_expert", axes)
        axes.set_ylabel("Misses per distinct expert and step (ratio)")
        axes.set_title("Miss ratio over expert capacity")


def miss_ratios(points: pd.DataFrame) -> pd.DataFrame:
    """Misses as a share of expert turns (hits, late and misses), and of token-expert accesses."""
    turns = sum(numbers(points, key) for key in ("hits", "late", "misses"))
    return pd.DataFrame(
        {
            "miss_ratio_per_expert": numbers(points, "misses") / turns,
            "miss_ratio_per_access": 1 - numbers(points, "hit_ratio_per_access"),
        }
    )
