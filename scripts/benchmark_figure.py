"""Draw what the benchmarks measured (benchmarks/results) into docs/figures/benchmarks.png.

python scripts/benchmark_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moesim.report.drawing.style import COLOURS, METADATA, RC, plain_numbers

ROOT = Path(__file__).parents[1]
LOADS = {"libcachesim": "all accesses", "moe-policylang": "first layer, top-1"}
"""The accesses that a library is given (benchmarks/curve_speed.py)."""


def results(name: str) -> Any:
    """The numbers that a benchmark has written."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def engines() -> dict[str, float]:
    """Million layer-steps a second."""
    plain, ahead = results("replay_speed")["engines"], results("prefetch_speed")["cases"]
    rates = {
        "replay": plain["replay"],
        "bare SimPy loop": plain["simpy loop"],
        "des": plain["des"],
        "replay, prefetch": ahead["oracle, batch 1"],
        "des, prefetch": ahead["des"],
    }
    return {name: one["layer_steps_a_second"] / 1e6 for name, one in rates.items()}


def curves() -> dict[str, float]:
    """Million accesses a second, all cache sizes: each library that ran, below moesim on the same
    accesses.
    """
    libraries = {name: one for name, one in results("curve_speed")["textbook"].items() if one}
    rates: dict[str, float] = {}
    for name, title in (("lru", "LRU"), ("belady", "MIN")):
        for library, found in libraries.items():
            rates[f"{title}, {LOADS[library]}: moesim"] = found[name]["our_rate"]
            rates[f"{title}, {LOADS[library]}: {library}"] = found[name]["their_rate"]
    return {name: rate / 1e6 for name, rate in rates.items()}


def bars(axes: Axes, rates: dict[str, float], title: str, unit: str) -> None:
    """Bars on a logarithmic axis, each with its number."""
    if not rates:
        axes.set_visible(False)
        return
    own = [name.startswith("replay") or name.endswith("moesim") for name in rates]
    axes.barh(
        list(rates), list(rates.values()), edgecolor="#333333", linewidth=0.5,
        color=[COLOURS[0] if one else "#c8c8c8" for one in own],
    )  # fmt: skip
    for place, rate in enumerate(rates.values()):
        axes.text(rate * 1.15, place, f"{rate:.3g}", va="center", fontsize=9)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_xlim(right=max(rates.values()) * 6)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(unit)
    axes.set_title(title)


def main() -> None:
    """Draw both panels."""
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(12.5, 3.4), layout="constrained")
        FigureCanvasAgg(sheet)
        left, right = sheet.subplots(1, 2)
        bars(left, engines(), "Engines: 24 layers, top-4 of 32, batch 1",
             "Million layer-steps per processor second")  # fmt: skip
        bars(right, curves(), "Misses of all cache sizes, equal counts",
             "Million accesses per processor second")  # fmt: skip
        sheet.savefig(ROOT / "docs" / "figures" / "benchmarks.png", metadata=METADATA["png"])


if __name__ == "__main__":
    main()
