"""What a step takes: its time over its tokens, by what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import line_style, plain_numbers
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.served import served_steps

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_MARKS = 5_000
"""Steps above which points are pixels in an SVG or a PDF, too: 500,000 take 50 MB else."""
WORDS = {"decode": "answers alone", "mixed": "answers and prompts", "prefill": "prompts alone"}


class StepTimeByTokens(Figure):
    """A point a step: its time over its tokens, coloured by whose they are."""

    kind = "step_time_by_tokens"
    needs = "a run of requests that are served (batching: continuous), with records of steps"
    chart = Chart("point", "step_tokens", "step_ms", "phase")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``phase``, ``step_tokens`` and ``step_ms`` of each step, from its begin to its end."""
        import pandas as pd

        steps, _ = served_steps(self, folder)
        return pd.DataFrame({
            "phase": steps["phase"].astype(str),
            "step_tokens": steps["tokens"],
            "step_ms": (steps["end_ns"] - steps["start_ns"]) / 1e6,
        }).reset_index(drop=True)  # fmt: skip

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Both scales are logarithmic."""
        many = len(table) > MOST_MARKS
        for number, (phase, words) in enumerate(WORDS.items()):
            own, style = table[table["phase"] == phase], line_style(number)
            if len(own):
                axes.scatter(own["step_tokens"], own["step_ms"], s=9, color=style.color,
                             marker=style.marker, alpha=0.6, linewidths=0, label=words,
                             rasterized=many)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_numbers(axes.xaxis, axes.yaxis)
        axes.set_xlabel("Size of a step (tokens)")
        axes.set_ylabel("Time of a step (ms)")
        axes.set_title("Time of a step, by whose tokens it holds")
        legend(axes, markerscale=2)
