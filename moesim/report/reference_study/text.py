"""The report in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from moesim.reproduce.parameters import PARAMETERS, Assumptions
from moesim.reproduce.published import ids

TITLES: Mapping[str, str] = {
    "latency_breakdown": "Where the time of a batch goes (LM 8, MT 48 sentences a GPU)",
    "throughput_over_batch": "Throughput over batch size, one node, up to what fits",
    "memory": "Memory of a GPU (LM 8, MT 48 sentences a GPU)",
    "miss_rate_over_slots": "Expert buffering: misses over slots by policy (MT decoder)",
    "load_by_planner": "Load before and after balancing (LM)",
    "memory_and_latency": "Expert buffering: memory against latency (MT decoder)",
    "sensitivity": "What each assumption alone makes of an answer",
}
HEAD = """# Towards MoE Deployment (arXiv 2303.06182), rebuilt by mechanism

Nothing is fitted to a result of the study. `simulated` is at the default of every assumption; `low`
and `high` are the least and the most over changes of one assumption at a time, each to the ends of
its range. `published` is empty where it is not known to this project; where it was read later,
`blind` is what was simulated before. Seconds, bytes and ratios come from kernels, links and counts;
`docs/reference-study.md` explains each row.
"""


def report(
    values: Assumptions, table: pd.DataFrame, swings: pd.DataFrame, figures: Sequence[str]
) -> str:
    """The report as Markdown."""
    return "\n".join(
        [HEAD, "## Results\n", *_results(table), "", "## Assumptions\n", *_assumptions(values),
         "", *_strongest(swings), *_shown(figures)]
    )  # fmt: skip


def _results(table: pd.DataFrame) -> Iterator[str]:
    yield "| id | simulated | low | high | blind | published | setting | note |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in table.to_dict("records"):
        numbers = [_number(row[key]) for key in ("simulated", "low", "high", "blind", "published")]
        cells = [f"`{row['id']}`", *numbers, row["setting"], row["note"]]
        yield f"| {' | '.join(cells)} |"


def _assumptions(values: Assumptions) -> Iterator[str]:
    yield "| name (`--set name=value`) | here | range | unit | source |"
    yield "|---|---|---|---|---|"
    for one in PARAMETERS:
        here = values[one.name]
        here = here if isinstance(here, str) else f"{here:g}"
        yield f"| `{one.name}` | {here} | {one.range} | {one.unit} | {one.source} |"


def _strongest(swings: pd.DataFrame) -> Iterator[str]:
    """For each answer, the assumption that moves it most."""
    yield "## What decides each answer\n"
    yield "| id | moved most by | low | high | then by |"
    yield "|---|---|---|---|---|"
    moved = swings[swings["high"] - swings["low"] > 1e-3 * swings["high"].abs()]
    for name in ids():
        if (part := moved[moved["id"] == name]).empty:
            continue
        first = part.iloc[0]
        then = ", ".join(f"`{one}`" for one in part["parameter"].iloc[1:3])
        ends = f"{_number(first['low'])} | {_number(first['high'])}"
        yield f"| `{name}` | `{first['parameter']}` | {ends} | {then} |"
    yield ""


def _shown(figures: Sequence[str]) -> Iterator[str]:
    for name in figures:
        yield f"## {TITLES[name]}\n\n![{TITLES[name]}](figures/{name}.png)\n"


def _number(value: float) -> str:
    """Four digits; nothing where there is no number."""
    return "" if pd.isna(value) else f"{value:.4g}"
