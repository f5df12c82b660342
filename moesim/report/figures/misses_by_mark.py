"""What chunks of prompts cost: what is copied for answers, for prompts and for both."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.config.amounts.sizes import GIB
from moesim.report.drawing.labels import legend, name_places
from moesim.report.drawing.style import fill
from moesim.report.figures.base import Figure, axis_of, over

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MARKS = {"decode": "answers", "both": "both", "prompt": "prompts"}


class MissesByMark(Figure):
    """Bytes copied for misses by whose tokens need the expert; a bar a point of an axis."""

    kind = "misses_by_mark"
    needs = "a sweep of requests that are served, over max_num_batched_tokens or what 'over' names"
    over: str = "workload.batching.scheduler.max_num_batched_tokens"

    def obstacle(self, axes: Collection[str]) -> str:
        """Without that axis."""
        return "" if axis_of(self.over, axes) else over(self.over, axes)

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a point: the axis' value, and bytes by mark."""
        import pandas as pd

        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep
        from moesim.sweep.speeds import numbers
        from moesim.sweep.words import in_words, last_word

        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        axis = axis_of(self.over, sweep.axes)
        if axis is None:
            raise self.unsuitable(folder, over(self.over, sweep.axes))
        came = {mark: numbers(sweep.table, f"{mark}_bytes_h2d") for mark in MARKS}
        ran = (sweep.table["status"] == "ok") & came["decode"].notna()
        if not ran.any():
            raise self.unsuitable(folder, "no point of it tells misses by mark")
        labels = sweep.labels(without=[axis])
        table = pd.DataFrame({
            "over": last_word(axis),
            "value": [in_words(x) for x in sweep.table[axis]],
            "series": labels,
            **{f"{mark}_bytes": values for mark, values in came.items()},
        })  # fmt: skip
        return table[ran].reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Answers at the bottom."""
        base = 0.0 * table["decode_bytes"].to_numpy(float)
        for number, (mark, words) in enumerate(MARKS.items()):
            height, look = table[f"{mark}_bytes"].to_numpy(float) / GIB, fill(number)
            axes.bar(
                range(len(table)), height, bottom=base, width=0.7, label=words, hatch=look.hatch,
                facecolor=look.facecolor, edgecolor="#333333", linewidth=0.4,
            )  # fmt: skip
            base = base + height
        pairs = zip(table["value"], table["series"], strict=True)
        names = [f"{x}, {s}" if s else str(x) for x, s in pairs]
        name_places(axes, range(len(table)), names)
        axes.set_xlabel(str(table["over"].iloc[0]).capitalize())
        axes.set_ylabel("Copied for misses (GiB)")
        axes.set_title("Whose experts are copied")
        legend(axes)
