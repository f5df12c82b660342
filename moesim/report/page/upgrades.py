"""What would help a run, in words and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.metrics.price_interval import timed
from moesim.report.amounts import gib, number
from moesim.report.page.content import Board, Column

if TYPE_CHECKING:
    from moesim.engine.progress import Progress
    from moesim.sweep.advise.what_if import Changed, WhatIf

LEAST = 1.005
"""How many times as fast what helps makes a run at least."""
AS_IS = "as it is"
MEASURED = {
    "output_throughput": "tokens/s", "mean_tpot_ms": "TPOT ms", "mean_ttft_ms": "TTFT ms",
}  # fmt: skip


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
    paced = summary.get("mean_tpot_ms") if timed(summary) else None
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
            f" and without it share mostly cancel. {_measure(found)}."
        )
    else:
        yield (
            f"No upgrade was tried: {found.why}. {_measure(found)};"
            " 'moesim advise' and 'moesim sensitivity' play them."
        )


def _measure(found: WhatIf) -> str:
    """What times as fast are of, and what shares of the time say of them."""
    if timed(found.as_is):
        return (
            "Requests come by the clock: times as fast is of an answer's pace, 1 / TPOT, and the"
            " share is that of the time in passes which a change shortens, no bound of a pace"
        )
    return "At most: what the share of the time that it shortens would allow"


def _board(found: WhatIf, summary: Mapping[str, Any]) -> Board | None:
    """A row for the run as it is, where it was played again, and one a change, the one that helps
    most first.
    """
    ordered = sorted(found.changed, key=lambda one: -(_ratio(found, one) or 0.0))
    if not ordered:
        return None
    from moesim.sweep.advise.what_if import Changed

    whys = [f"{one.title} was not played: {one.why}" for one in ordered if one.why]
    titles = [_title(one, found, summary) for one in ordered]
    if found.steps:
        ordered, titles = [Changed(AS_IS, found.as_is), *ordered], [AS_IS, *titles]
    ratios = [_ratio(found, one) for one in ordered]
    columns = [
        Column("changed", titles),
        Column("times as fast", [_text(ratio, "x {:.2f}") for ratio in ratios], ratios),
        *(_played(ordered) if found.steps else ()),
        _allowed(ordered, timed(found.as_is)),
    ]
    return Board(columns, notes=whys)


def _played(rows: Sequence[Changed]) -> Iterator[Column]:
    """What each row's replay gave, where one has it."""
    for key, title in MEASURED.items():
        values = [one.summary.get(key) for one in rows]
        if any(values):
            yield Column(title, [_text(one) for one in values], values)


def _allowed(rows: Sequence[Changed], by_clock: bool) -> Column:
    """What the share of the time allows; the share itself where it bounds nothing."""
    if by_clock:
        shares = [None if one.share is None else 100 * one.share for one in rows]
        return Column("% of the time in passes", [_text(one, "{:.1f}") for one in shares], shares)
    most = [one.at_most for one in rows]
    return Column("at most", [_text(one, "x {:.2f}") for one in most], most)


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
