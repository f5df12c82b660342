"""What shows itself in a notebook: as a table, as figures and charts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

REPORT = "moesim.report.notebook"
"""Reports know results, not the other way round: so it is called by name, on demand."""


class Shown:
    """A result or a sweep, as a notebook shows it."""

    def figure(self, kind: str, **parameters: Any) -> Any:
        """The figure of that name ('moesim list figures') with its ``parameters``, as a matplotlib
        figure; an InputError where it is unknown, or this lacks its data.

        >>> result.figure("time_breakdown")
        >>> sweep.figure("metric_over_axis", metric="mean_tpot_ms", over="capacity")
        """
        return import_module(REPORT).figure(self, kind, parameters)

    def chart(self, kind: str, **parameters: Any) -> Any:
        """The same table as a Vega-Lite chart: a dictionary that JupyterLab draws, and that
        ``save("chart.html")`` writes as a page.

        >>> sweep.chart("throughput_vs_capacity").save("chart.html")
        """
        return import_module(REPORT).chart(self, kind, parameters)

    def _repr_html_(self) -> str:
        text: str = import_module(REPORT).shown_html(self)
        return text
