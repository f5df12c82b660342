"""What a load does to a service: time to the first token and good requests, over it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.report.drawing.labels import legend
from moesim.report.drawing.panels import panels
from moesim.report.drawing.style import line_style, plain_numbers
from moesim.report.figures.base import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

OPEN: dict[str, Any] = {"markerfacecolor": "white", "zorder": 3}
SATURATED = "open: saturated, grows with the run"
LOADS = ("workload.arrivals.request_rate", "workload.arrivals.max_concurrency")


class GoodputOverLoad(Figure):
    """TTFT with its limit, and requests a second, all and good ones, over rate or concurrency."""

    kind = "goodput_over_load"
    needs = "a sweep of requests that are served, over their rate or their concurrency"

    def obstacle(self, axes: Collection[str]) -> str:
        """Without such an axis."""
        if any(load in axes for load in LOADS):
            return ""
        return f"the sweep's axes are {', '.join(axes)}" if axes else "there is no sweep"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a point: series, load and what it is; median and p99 of TTFT, between which the
        latter lies by prices where that is known, and the limit of TTFT in ms (missing without
        one), requests and good requests a second (missing without promises); whether requests
        came faster than they were served.
        """
        import pandas as pd

        from moesim.report.sweep.metrics import limits_by_prices, promised_ms
        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep
        from moesim.sweep.speeds import numbers
        from moesim.sweep.words import last_word

        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        load = next((axis for axis in LOADS if axis in sweep.axes), None)
        if load is None:
            raise self.unsuitable(folder, self.obstacle(sweep.axes))
        table = pd.DataFrame({
            "series": sweep.labels(without=[load]),
            "load_of": last_word(load),
            "load": [str(value) for value in sweep.table[load]],
            **{name: numbers(sweep.table, name) for name in ("p50_ttft_ms", "p99_ttft_ms")},
            **limits_by_prices(sweep, "p99_ttft_ms"),
            "ttft_limit_ms": promised_ms(sweep, "p99_ttft_ms"),
            "requests_per_s": numbers(sweep.table, "request_throughput"),
            "good_requests_per_s": numbers(sweep.table, "request_goodput"),
            "saturated": sweep.table.get("saturated", False),
        })  # fmt: skip
        ran = (sweep.table["status"] == "ok") & table["p50_ttft_ms"].notna()
        if not ran.any():
            raise self.unsuitable(folder, "no point of it has a time to the first token")
        places = dict.fromkeys(table["series"])  # lines as in other figures of the sweep
        order = {"place": table["series"].map([*places].index), "order": table["load"].map(_number)}
        table = table.assign(**order)[ran].sort_values([*order], kind="stable")
        return table.drop(columns=[*order]).reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """TTFT above, on a logarithmic scale; requests below."""
        from moesim.report.sweep.capacity import error_bars
        from moesim.report.sweep.metrics import BARS, draw_promise

        ttft, rate = panels(axes, ["TTFT (ms)", "Requests/s"])
        names = list(dict.fromkeys(table["series"]))
        several = len(names) > 1
        bars = f", {table[BARS].dropna().iloc[0]}" if BARS in table.columns else ""
        for number, name in enumerate(names):
            own = table[table["series"] == name]
            style = line_style(number)
            look: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": 4}
            load = own["load"].map(_number)
            ttft.plot(load, own["p50_ttft_ms"], label=name if several else None, **look)
            ttft.plot(load, own["p99_ttft_ms"], linestyle=":", **look)
            error_bars(own, "p99_ttft_ms", load, ttft, str(style.color))
            grew = own["saturated"].fillna(value=False).astype(bool)
            for column in ("p50_ttft_ms", "p99_ttft_ms"):
                ttft.plot(load[grew], own.loc[grew, column], linestyle="", **look, **OPEN)
            rate.plot(load, own["requests_per_s"], **look)
            rate.plot(load, own["good_requests_per_s"], linestyle=":", **look)
        color = "#222222" if several else str(line_style(0).color)
        _name_lines(ttft, ["median", f"p99{bars}"], color)
        if table["saturated"].fillna(value=False).astype(bool).any():
            ttft.plot([], [], "o", color=color, markersize=4, label=SATURATED, **OPEN)
        promised = table["good_requests_per_s"].notna().any()
        _name_lines(rate, ["all", *["good"] * bool(promised)], color)
        limit = float(table["ttft_limit_ms"].iloc[0])
        if not math.isnan(limit):
            draw_promise(ttft, limit)
        ttft.set_yscale("log")
        plain_numbers(ttft.yaxis)
        rate.set_ylim(bottom=0)
        for area in (ttft, rate):
            legend(area)
        unit = str(table["load"].iloc[0]).partition(" ")[2] or "requests"
        axes.set_xlabel(f"{str(table['load_of'].iloc[0]).capitalize()} ({unit})")
        axes.set_title("What a load does")

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Room for two."""
        del table
        return (5.6, 4.8)


def _name_lines(area: Axes, names: Sequence[str], color: str) -> None:
    """What whole and dotted lines are, once for all series."""
    for name, style in zip(names, ("-", ":"), strict=False):
        area.plot([], [], linestyle=style, color=color, label=name)


def _number(value: Any) -> float:
    """Of ``8`` or ``4 requests/s``."""
    return float(str(value).split()[0])
