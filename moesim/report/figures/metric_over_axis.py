"""Any number of a sweep's points over any of its axes, on wish relative to a baseline."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from moesim.report.figures.base import Chart, Figure, axis_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from moesim.sweep.found import Sweep


class MetricOverAxis(Figure):
    """One number of the summary over one axis, a line for each combination of the other axes."""

    kind = "metric_over_axis"
    needs = "a sweep over that axis with a point that ran to its end and has that number"
    chart = Chart("line", "axis", "", "series")
    metric: str = Field(description="The number: a column of points.csv, as in mean_tpot_ms.")
    over: str = Field(description="The axis: its path, or the last word of it.")
    relative_to: str | None = Field(
        default=None, description="Divide by the points with this AXIS=VALUE, as in policy=lru."
    )
    gap_to: str | None = Field(
        default=None,
        description="The share of the gap that is closed from those points to the points with this "
        "AXIS=VALUE, as in policy=min.",
    )

    @model_validator(mode="after")
    def _a_gap_has_two_ends(self) -> Self:
        for name in ("relative_to", "gap_to"):
            text = getattr(self, name)
            if text is not None and not all(part.strip() for part in text.partition("=")):
                raise ValueError(f"{name}: '{text}' names no points; write AXIS=VALUE")
        if self.gap_to is not None and self.relative_to is None:
            raise ValueError("gap_to needs relative_to, the points where the gap begins")
        return self

    @property
    def stem(self) -> str:
        """As in ``mean_tpot_ms_over_capacity_relative_to_policy_lru``."""
        parts = [self.metric, "over", self.over.removesuffix(".kind").rpartition(".")[2]]
        parts += ["relative_to", self.relative_to] if self.relative_to else []
        parts += ["gap_to", self.gap_to] if self.gap_to else []
        return "".join(c if c.isalnum() or c in "_-" else "_" for c in "_".join(parts))

    def obstacle(self, axes: Collection[str]) -> str:
        """A sweep without one of the axes."""
        named = [text.partition("=")[0] for text in (self.relative_to, self.gap_to) if text]
        for name in (self.over, *named):
            if axis_of(name, axes) is None:
                sweep = f"the sweep's axes are {', '.join(axes)}" if axes else "there is no sweep"
                return f"'{name}' is no axis: {sweep}"
        return ""

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, policy, status, share of dropped choices, the axis' value in words, in the order
        of its numbers, and the number (``..._ratio`` or ``..._gap_closed_share`` if relative).
        """
        from moesim.report.sweep.metrics import metric_table
        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep

        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        if obstacle := self.obstacle(sweep.axes):
            raise self.unsuitable(folder, obstacle)
        if sweep.ok().empty:
            raise self.unsuitable(folder, "no point of the sweep ran to its end")
        return self._checked(metric_table(sweep, self), sweep)

    def _checked(self, table: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
        if table.iloc[:, -1].isna().all():
            raise self.unsuitable(sweep.folder, f"no point has a '{self.metric}' to show")
        return table

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the axis, bars where it has words; MIN is black; a line at 1 (and 0) for the
        baseline.
        """
        from moesim.report.sweep.metrics import draw_metric

        draw_metric(self, table, axes)
