"""Misses per needed expert over the number of expert slots, MIN among them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.report.figures.base import CAPACITY, OVER_CAPACITY, Chart, Figure, over

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class MissRatioVsCapacity(Figure):
    """Miss ratio over expert slots per layer; MIN, where swept, knows the future."""

    kind = "miss_ratio_vs_capacity"
    needs = OVER_CAPACITY
    chart = Chart("line", "slots_per_layer", "miss_ratio_per_expert", "series")

    def obstacle(self, axes: Collection[str]) -> str:
        """A sweep without the capacity."""
        return over(CAPACITY, axes)

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, slots and both miss ratios: per distinct expert of a step, and per access."""
        from moesim.report.sweep.capacity import capacity_table

        return capacity_table(self, folder, miss_ratios)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the slots; MIN is black, dashed and without markers."""
        from moesim.report.sweep.capacity import draw_lines

        draw_lines(table, "miss_ratio_per_expert", axes)
        axes.set_ylabel("Misses per distinct expert and step (ratio)")
        axes.set_title("Miss ratio over expert capacity")


def miss_ratios(points: pd.DataFrame) -> pd.DataFrame:
    """Misses as a share of expert activations (hits, late and misses), and of token-expert
    accesses.
    """
    import pandas as pd

    from moesim.sweep.speeds import numbers

    activations = sum(numbers(points, key) for key in ("hits", "late", "misses"))
    return pd.DataFrame(
        {
            "miss_ratio_per_expert": numbers(points, "misses") / activations,
            "miss_ratio_per_access": 1 - numbers(points, "hit_ratio_per_access"),
        }
    )
