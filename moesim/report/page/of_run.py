"""The page of one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.report.amounts import number
from moesim.report.page.content import Page
from moesim.report.page.parts import (
    command,
    experiment_text,
    ledger,
    made,
    pictures,
    shares,
    timeline,
    unique,
    waits,
)
from moesim.report.page.upgrades import helped
from moesim.report.run.table import summary_rows
from moesim.report.run.trust import (
    interval_line,
    price_interval_line,
    price_range,
    provenance_line,
    trust_lines,
)
from moesim.results import read_result
from moesim.results.result import setting_in_words

if TYPE_CHECKING:
    from moesim.engine.progress import Progress


def page_of_run(folder: Path, progress: Progress | None = None) -> Page:
    """What the run in ``folder`` says; ``progress`` is told how far what is played again is."""
    result = read_result(folder)
    summary, configuration = result.summary, result.configuration
    ok = summary["status"] == "ok"
    seen, seen_notes = timeline(folder) if ok else ([], [])
    helps, upgrades = helped(folder, summary, progress)
    return Page(
        kind="one run",
        title=str(summary.get("name") or folder.name),
        setting=setting_in_words(configuration),
        verdict=unique(
            [
                answer(summary),
                *interval_line(summary),
                *price_range(summary),
                waits(summary),
            ]
        ),
        command=command(configuration),
        pictures=pictures(folder) if ok else (),
        timeline=seen,
        timeline_notes=seen_notes,
        shares=shares(summary),
        helps=helps,
        upgrades=upgrades,
        ledger=ledger(summary),
        facts=summary_rows(summary),
        trust=unique(
            [
                *price_interval_line(summary),
                *provenance_line(summary),
                *trust_lines(summary),
            ]
        ),
        experiment=experiment_text(configuration),
        made=made(folder),
    )


def answer(summary: dict[str, Any]) -> str:
    """How fast it is, in a sentence, or why it has no numbers."""
    if summary["status"] != "ok":
        return f"{str(summary['status']).replace('_', ' ')}: {summary.get('reason')}"
    output = summary.get("output_throughput")
    speed = f"{number(output or summary.get('total_token_throughput'))} tokens/s"
    found = (summary.get("intervals") or {}).get("output_throughput") or {}
    if output and found.get("low") is not None:
        value, low, high = (number(found[key]) for key in ("value", "low", "high"))
        speed += f"; after the warm-up {value} [{low}, {high}]"
    times = {"to the first token": "mean_ttft_ms", "a token of a request": "mean_tpot_ms"}
    told = [f"{number(summary[key])} ms {of}" for of, key in times.items() if summary.get(key)]
    return ", ".join([speed, *told]) + "."
