"""What would help a run, in words and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.metrics.price_interval import TIMED
from moesim.report.amounts import gib, number
from moesim.report.page.content import Board, Column

if TYPE_CHECKING:
    from moesim.engine.progress import Progress
    from moesim.sweep.advise.what_if import Changed, WhatIf

LEAST = 1.005
"""How many times as fast what helps makes a run at least."""
TIMES = {"mean_tpot_ms": "TPOT ms", "mean_ttft_ms": "TTFT ms"}


def helped(
    folder: Path, summary: Mapping[str, Any], progress: Progress | None = None
) -> tuple[list[str], Board | None]:
    """What would help the run in ``folder`` most, what that rests on, and all that was tried, of
    which ``progress`` is told.
    """
    from moesim.sweep.advise.what_if import what_if

    if summary.get("status") != "ok" or not summary.get("time_share"):
        return [], None
    found = what_if(folder, summary, progress)
    return [*_lines(found, summary)], _board(found, summary)


def speed(summary: Mapping[str, Any]) -> float | None:
    """Tokens a second, or of requests that come by the clock the pace of an answer."""
    timed = (summary.get("price_interval") or {}).get("reason") == TIMED
    paced = summary.get("mean_tpot_ms") if timed else None
    found = 1e3 / paced if paced else summary.get("output_throughput")
    return found or summary.get("total_token_throughput")


def _ratio(found: WhatIf, one: Changed) -> float | None:
    before, after = speed(found.as_is), speed(one.summary)
    return after / before if before and after else None


def _lines(found: WhatIf, summary: Mapping[str, Any]) -> Iterator[str]:
    titles = ((_title(one, found, summary), _ratio(found, one)) for one in found.changed)
    ratios = {title: ratio for title, ratio in titles if ratio}
    if ratios:
        best = max(ratios, key=lambda title: ratios[title])
        helps = f"{best}, x {ratios[best]:.2f}" if ratios[best] >= LEAST else "nothing of these"
        yield f"What would help most: {helps}."
    if not found.changed:
        yield "Nothing of the machine is waited for: no upgrade was tried."
    elif found.steps:
        total = int(summary.get("steps") or 0)
        of = f"the first {found.steps:,} of {total:,} passes"
        whole = found.steps >= total
        yield (
            f"Tried when this page was written, by playing {'all passes' if whole else of} again"
            " with one thing changed: what is then waited for counts, and errors that prices with"
            " and without it share mostly cancel. At most: what the share of the time that it"
            " shortens would allow."
        )
    else:
        yield (
            f"No upgrade was tried: {found.why}. At most: what the share of the time allows that"
            " it shortens; 'moesim advise' and 'moesim sensitivity' play them."
        )


def _board(found: WhatIf, summary: Mapping[str, Any]) -> Board | None:
    """A row a change, the one that helps most first."""
    ordered = sorted(found.changed, key=lambda one: -(_ratio(found, one) or 0.0))
    if not ordered:
        return None
    ratios = [_ratio(found, one) for one in ordered]
    columns = [
        Column("changed", [_title(one, found, summary) for one in ordered]),
        Column("times as fast", [_text(ratio, "x {:.2f}") for ratio in ratios], ratios),
        Column("at most", [_text(one.at_most, "x {:.2f}") for one in ordered],
               [one.at_most for one in ordered]),
    ]  # fmt: skip
    if found.steps:
        speeds = [one.summary.get("output_throughput") for one in ordered]
        columns.insert(2, Column("tokens/s", [_text(one) for one in speeds], speeds))
        for key, title in TIMES.items():
            values = [one.summary.get(key) for one in ordered]
            if any(values):
                columns.insert(-1, Column(title, [_text(one) for one in values], values))
    whys = [f"{one.title} was not played: {one.why}" for one in ordered if one.why]
    return Board(columns, notes=whys)


def _title(one: Changed, found: WhatIf, summary: Mapping[str, Any]) -> str:
    """What was changed; of more room for experts how many slots there are, the memory that they
    take, and how much of it the GPU does not have (of the run that ended with ``summary``).
    """
    slots = one.summary.get("slots_per_layer")
    more = _beside_kv(one.summary) - _beside_kv(found.as_is) if slots else 0
    if not slots or more <= 0:
        return one.title
    many = "" if slots == one.summary.get("local_experts") else f"{slots} a layer, "
    told = f"{one.title}: {many}{gib(more)} more memory"
    return f"{told}, {where}" if (where := _where_from(one, more, found, summary)) else told


def _where_from(one: Changed, more: int, found: WhatIf, summary: Mapping[str, Any]) -> str:
    """Where ``more`` memory for experts is from, where that is not free; ""."""
    if not one.roomier:
        given = _kv(found.as_is) - _kv(one.summary)
        return f"{gib(given)} of it from keys and values" if given > 0 else ""
    used = summary.get("kv_usage_max")
    held = round(_kv(summary) * (1.0 if used is None else used))
    short = _beside_kv(summary) + held + more - summary["memory_capacity_bytes"]
    if short > 0:
        return f"{gib(short)} above what this GPU has"
    return "for which memory.kv or memory.gpu_memory_utilization must make room"


def _kv(summary: Mapping[str, Any]) -> int:
    return int(summary["memory_bytes"].get("kv_cache", 0))


def _beside_kv(summary: Mapping[str, Any]) -> int:
    """Bytes of the fullest GPU without keys and values, which take what they are given."""
    return int(summary["peak_memory_bytes"]) - _kv(summary)


def _text(value: float | None, form: str = "") -> str:
    return "-" if value is None else form.format(value) if form else number(value)
