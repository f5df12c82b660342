"""What money buys: throughput over dollars a million tokens, with the points that nothing beats."""

from __future__ import annotations

from moesim.report.figures.base import Chart
from moesim.report.figures.throughput_vs_memory import ThroughputVsMemory


class ThroughputVsCost(ThroughputVsMemory):
    """Throughput over the cost of a million output tokens, and its Pareto front."""

    kind = "throughput_vs_cost"
    needs = "a sweep with 'cost' and a point that ran to its end"
    chart = Chart("point", "cost_usd_per_million_output_tokens", "_tokens_per_s", "series")
    less = "cost_usd_per_million_output_tokens"
    unit = 1.0
    across = "Cost of a million output tokens ($)"
    title = "Throughput over cost"
    from_0 = True
