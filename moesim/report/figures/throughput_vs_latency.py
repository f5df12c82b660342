"""What a faster answer costs: tokens a second of each GPU over tokens a second of each user."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.report.drawing.labels import legend
from moesim.report.drawing.point_names import name_points
from moesim.report.drawing.style import series_styles
from moesim.report.figures.base import Chart, Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from moesim.sweep.found import Sweep

LOADS = (
    "workload.arrivals.max_concurrency",
    "workload.arrivals.request_rate",
    "workload.batching.batch_size",
)
"""Axes that make the points of a line."""
GPUS = ("parallelism.expert", "parallelism.pipeline", "serving.replicas")
APART = tuple(f"serving.disaggregation{one}" for one in ("", ".prefill", ".decode"))
APART_PIXELS = 12
"""Below which two points stand on one another."""
USER, GPU = "of_user_tokens_per_s", "of_gpu_tokens_per_s"


class ThroughputVsLatency(Figure):
    """Output throughput of a GPU over that of a user (1 / mean TPOT); a line a series, over its
    loads.
    """

    kind = "throughput_vs_latency"
    needs = "a sweep with a point that decodes"
    chart = Chart("point", "of_user_tokens_per_s", "of_gpu_tokens_per_s", "series")

    def obstacle(self, axes: Collection[str]) -> str:
        """A single run."""
        return "" if axes else "there is no sweep"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series (the axes but that of load), load and what it is, policy; tokens/s of user and
        GPU.
        """
        import pandas as pd

        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep
        from moesim.sweep.speeds import numbers
        from moesim.sweep.words import in_words, last_word

        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        load = next((axis for axis in LOADS if axis in sweep.varying), None)
        speed, tpot = (numbers(sweep.table, n) for n in ("output_throughput", "mean_tpot_ms"))
        table = pd.DataFrame({
            "series": sweep.labels(without=[load] if load else []),
            "load": [in_words(x) for x in sweep.table[load]] if load else "",
            "load_of": last_word(load) if load else "",
            "policy": sweep.policies,
            USER: 1e3 / tpot.where(tpot > 0),
            GPU: speed / gpus_of(sweep),
        })  # fmt: skip
        ran = (sweep.table["status"] == "ok") & table[[USER, GPU]].notna().all(axis=1)
        if not ran.any():
            raise self.unsuitable(folder, "no point of the sweep decodes to its end")
        return table[ran].reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Each point with its load."""
        texts = table[["series", "load", "load_of", "policy"]].astype(object)
        table = table.assign(**texts.where(texts.notna(), ""))
        groups = list(table.groupby("series", sort=False))
        styles = series_styles({str(name): str(own["policy"].iloc[0]) for name, own in groups})
        for name, own in groups:
            style = styles[str(name)]
            axes.plot(own[USER], own[GPU], color=style.color, marker=style.marker or "*",
                      linestyle=style.linestyle, label=str(name))  # fmt: skip
        axes.set_ylim(0, 1.06 * float(table[GPU].max()))
        axes.set_xlim(0, 1.1 * float(table[USER].max()))
        unit = _name_loads(table, axes)
        axes.set_xlabel("Output throughput of a user (tokens/s)")
        axes.set_ylabel("Output throughput of a GPU (tokens/s)")
        of = str(table["load_of"].iloc[0]) + (f" ({unit})" if unit else "")
        axes.set_title(f"Throughput against speed of an answer{f', by {of}' if of else ''}")
        if table["series"].any():
            legend(axes)


def _name_loads(table: pd.DataFrame, axes: Axes) -> str:
    """The load beside each point, where no other name stands; of points that lie on one another
    with one load, beside the first. The unit of all loads, which no name has.
    """
    from moesim.report.sweep.metrics import split_unit

    words = table["load"].astype(str)
    known = split_unit([*words])
    unit = known[1] if known and known[1] else ""
    seen: list[tuple[str, float, float]] = []
    named: list[tuple[str, float, float]] = []
    for load, *point in zip(
        words.str.removesuffix(f" {unit}"), table[USER], table[GPU], strict=True
    ):
        x, y = axes.transData.transform(point)
        if any(load == n and max(abs(x - a), abs(y - b)) < APART_PIXELS for n, a, b in seen):
            continue
        seen.append((load, x, y))
        named.append((load, point[0], point[1]))
    name_points(axes, named)
    return unit


def gpus_of(sweep: Sweep) -> Any:
    """How many GPUs each point has."""
    import pandas as pd

    from moesim.sweep.kinds import settings

    total = pd.Series(1.0, index=sweep.table.index)
    for path in GPUS:
        total *= [float(one or 1) for one in settings(sweep.table, path, sweep.experiment)]
    whole, *parts = (settings(sweep.table, path, sweep.experiment) for path in APART)
    return total * [
        sum(float(one or 1) for one in own) if apart or any(own) else 1.0
        for apart, *own in zip(whole, *parts, strict=True)
    ]
