"""A real decode with expert slots on this machine, against moesim's replay of its routing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from verification.check import Measured, check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def has_torch() -> bool:
    """Whether there is a torch to decode with; says so where there is none."""
    try:
        import torch  # noqa: F401
    except ImportError:
        print("no torch here: the closed loop is skipped (pip install 'moesim[record]')")
        return False
    return True


@cache
def compared() -> pd.DataFrame:
    """The closed loop with its default settings: a few minutes."""
    from moesim.calibrate.closed_loop.loop import closed_loop
    from moesim.calibrate.closed_loop.request import Request

    with TemporaryDirectory() as folder:
        return closed_loop(Request(Path(folder))).compared


if has_torch():

    @check(
        "Expert slots on a CPU: measured and simulated ms a token agree",
        tolerance=10,
        why="prices are measured one operation at a time, with noise of some percent; a clock that"
        " overlaps copies, or drops a part of the step, is further off. Nothing is said of GPUs",
        unit="% of the measured",
    )
    def closed_loop_time() -> Measured:
        table = compared()
        worst = table.sort_values("error_percent", key=abs).iloc[-1]
        detail = (
            f"batch {worst['batch']}, {worst['slots']} slots: measured {worst['measured_ms']:.3f},"
            f" simulated {worst['simulated_ms']:.3f} ms; noise {worst['noise_percent']:.1f} %"
        )
        return Measured(abs(float(worst["error_percent"])), detail, lambda axes: draw(table, axes))

    @check(
        "Expert slots on a CPU: hits and misses are those of the real pool, step by step",
        tolerance=0,
        why="both follow the same rules, and decisions do not read the clock",
        unit="settings that differ",
    )
    def closed_loop_decisions() -> Measured:
        return Measured(float((~compared()["decisions_equal"]).sum()))


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Simulated over measured, with the diagonal."""
    for batch, mine in table.groupby("batch"):
        axes.plot(mine["measured_ms"], mine["simulated_ms"], "o", label=f"batch {batch}")
    ends = [table["measured_ms"].min(), table["measured_ms"].max()]
    axes.plot(ends, ends, color="black", linewidth=0.7)
    axes.set(xlabel="measured (ms a token)", ylabel="simulated (ms a token)")
    axes.legend()
