"""The table of one run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moesim.report.amounts import gib, number, percent
from moesim.report.run import rows as run_rows
from moesim.report.run.components import cause_in_words
from moesim.report.run.rows import Row
from moesim.report.run.trust import (
    interval_line,
    price_interval_line,
    provenance_line,
    trust_lines,
)
from moesim.results import TIME_SHARES

BAR = 30
"""Width of a full bar in characters."""


def summary_table(summary: Mapping[str, Any], setting: str = "") -> RenderableType:
    """One run's numbers: status, speed, hits, stalls, memory and where the time goes; under its
    ``setting`` (model, card, trace and batch), or its name, which may be that of a file that was
    overridden.
    """
    status = str(summary["status"]).replace("_", " ")
    table = Table(title=f"{setting or summary.get('name')}: {status}", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in summary_rows(summary):
        table.add_row(name, value)
    parts: list[RenderableType] = [table]
    if summary.get("reason"):
        parts.append(Text(f"{status}: {summary['reason']}", "bold"))
    if summary.get("time_share"):
        parts.append(share_table(summary["time_share"]))
    parts += [Text(line) for line in _last_lines(summary)]
    return Group(*parts)


def _last_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = (interval_line, price_interval_line, provenance_line, trust_lines)
    return [told for one in lines for told in one(summary)]


def lacks_memory(summary: Mapping[str, Any]) -> bool:
    """Whether the GPUs' memory was too small for a run."""
    needed, limit = (
        summary.get(key) or 0 for key in ("peak_memory_bytes", "memory_capacity_bytes")
    )
    return bool(summary["status"] == "out_of_memory" and needed > limit)


def remedy(
    file: Path, layers: int | None, smaller: str, *, slots: bool, blocks: bool = False
) -> str:
    """What to do where the GPUs' memory is too small for the experiment ``file``; ``layers``: the
    fewest whose experts have to be on the CPU if all others are to be resident (None: that does not
    fit); ``smaller``: a format of fewer bytes, "" for none; ``slots``: whether it may have as many
    of them as fit, ``blocks``: as many blocks of keys and values.
    """
    told = "memory.kv: auto takes the blocks that fit; " if blocks else ""
    told += "experts.capacity: auto takes the slots that fit; " if slots else ""
    if layers:
        told += f"experts.on_cpu: {{layers: {layers}}} with capacity: all leaves those experts to"
        told += " the CPU; "
    if smaller:
        told += f"model: {smaller} needs fewer bytes; "
    return f"remedy: {told}'moesim fit {file}' says which batch, capacity and context do"


def summary_rows(summary: Mapping[str, Any]) -> list[Row]:
    """One run's numbers, each with its name."""
    get = summary.get
    memory = [(f"  {name.replace('_', ' ')}", gib(n)) for name, n in _parts(get("memory_bytes"))]
    whole = ("peak memory of a GPU", gib(get("peak_memory_bytes")))
    peak = [whole, *memory, *run_rows.stages(summary), *run_rows.host(summary)]
    held = [*run_rows.layers_on_cpu(summary), ("slots per layer", run_rows.slots(summary))]
    if summary["status"] != "ok":
        return [*held, *peak]
    hits = f"{percent(get('hit_ratio_per_expert'))} of experts"
    return [
        ("engine", f"{get('engine')}, {number(get('engine_wall_s'), 3)} s"),
        ("tokens, steps", f"{number(get('tokens'))}, {number(get('steps'))}"),
        *run_rows.rejected(summary),
        *run_rows.promises(summary),
        *run_rows.apart(summary),
        *run_rows.blocks(summary),
        ("duration", f"{number(get('duration_ms'))} ms"),
        *run_rows.throughput(summary),
        *run_rows.interval(summary, "output_throughput", "tokens/s"),
        *run_rows.drops(summary),
        *run_rows.skips(summary),
        *run_rows.fates(summary),
        *run_rows.quality(summary),
        *run_rows.routing(summary),
        *run_rows.ttft(summary),
        ("TPOT mean, p99", f"{number(get('mean_tpot_ms'))}, {number(get('p99_tpot_ms'))} ms"),
        *run_rows.interval(summary, "mean_tpot_ms", "ms"),
        *held,
        ("hit ratio", f"{hits}, {percent(get('hit_ratio_per_access'))} of accesses"),
        *run_rows.interval(summary, "hit_ratio_per_expert", ""),
        ("hits, late, misses", ", ".join(number(get(k)) for k in ("hits", "late", "misses"))),
        *run_rows.marks(summary),
        *run_rows.prefetches(summary),
        ("copied to the GPUs", gib(get("bytes_h2d"))),
        ("stalls for weights", f"{number(get('stall_ms'))} ms"),
        ("waits for other GPUs", f"{number(get('barrier_ms'))} ms"),
        *run_rows.storage(summary),
        *run_rows.speculation(summary),
        *run_rows.energy(summary),
        *peak,
    ]


def _parts(memory: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    return [(name, size) for name, size in (memory or {}).items() if size]


def share_table(shares: Mapping[str, float]) -> Table:
    """Where the time goes, as bars; causes without a share are left out."""
    table = Table(title="share of the GPUs' time", show_header=False, box=None)
    known = [*TIME_SHARES, *(cause for cause in shares if cause not in TIME_SHARES)]
    for cause in known:
        share = shares.get(cause) or 0.0
        if share:
            bar = "█" * max(1, round(share * BAR))
            table.add_row(cause_in_words(cause), f"{100 * share:.1f} %", bar)
    return table
