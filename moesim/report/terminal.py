"""The short tables of the terminal: one run, one sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moesim.config.counted import counted
from moesim.hardware.operations.experts.error import PriceError
from moesim.report.components import cause_in_words
from moesim.results import TIME_SHARES
from moesim.sweep.speeds import (
    CUT,
    LOSSES,
    LOWERED,
    SKIPPED,
    SKIPPED_WEIGHT,
    how_lost,
    knows_future,
    losses,
    numbers,
    ranked,
    share_in_words,
)
from moesim.sweep.words import in_words, last_word, word

GIB = 2**30
BAR = 30
"""Width of a full bar in characters."""

Row = tuple[str, str]


def number(value: Any, digits: int = 4) -> str:
    """``value`` with ``digits`` significant ones and thousands separated; a dash for none."""
    if value is None or pd.isna(value):
        return "-"
    if isinstance(value, int) or (float(value).is_integer()):
        return f"{int(value):,}"
    small = abs(value) < 10**digits
    return f"{float(value):#.{digits}g}".rstrip(".") if small else f"{float(value):,.0f}"


def gib(value: Any) -> str:
    """Bytes in GiB."""
    return "-" if value is None or pd.isna(value) else f"{float(value) / GIB:.2f} GiB"


def percent(value: Any) -> str:
    """A ratio in percent."""
    return "-" if value is None or pd.isna(value) else f"{100 * float(value):.1f} %"


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
    return [*interval_line(summary), *provenance_line(summary), *trust_lines(summary)]


def lacks_memory(summary: Mapping[str, Any]) -> bool:
    """Whether the GPUs' memory was too small for a run."""
    needed, limit = (
        summary.get(key) or 0 for key in ("peak_memory_bytes", "memory_capacity_bytes")
    )
    return bool(summary["status"] == "out_of_memory" and needed > limit)


def remedy(capacity: str, file: Path, layers: int | None, smaller: str) -> str:
    """What to do where the GPUs' memory is too small for the experiment ``file`` under this kind of
    ``capacity``; ``layers``: the fewest whose experts have to be on the CPU if all others are to be
    resident (None: that does not fit); ``smaller``: a format of fewer bytes, "" for none.
    """
    told = "" if capacity == "auto" else "experts.capacity: auto takes the slots that fit; "
    if layers:
        told += f"experts.on_cpu: {{layers: {layers}}} with capacity: all leaves those experts to"
        told += " the CPU; "
    if smaller:
        told += f"model: {smaller} needs fewer bytes; "
    return f"remedy: {told}'moesim fit {file}' says which batch, capacity and context do"


MOST_OUTSIDE = 0.1
"""Share of the time on prices outside of what was measured, beyond which a run warns."""


def provenance_line(summary: Mapping[str, Any]) -> list[str]:
    """What the priced time of one run rests on."""
    known = {name: share for name, share in (summary.get("price_share") or {}).items() if share}
    texts = (f"{percent(share)} {name}" for name, share in known.items())
    return ["time rests on prices: " + ", ".join(texts)] if known else []


def trust_lines(summary: Mapping[str, Any]) -> list[str]:
    """How wrong such prices were; a warning where too much lies outside of what was measured."""
    shares = summary.get("price_share") or {}
    lines = [
        f"note: {of}: {note}"
        for of in ("model", "host", "routing", "speculation", "energy", "quality")
        for note in summary.get(f"{of}_notes") or ()
    ]
    if (error := summary.get("price_error")) and summary["status"] == "ok":
        lines.append(PriceError(**error).text)
    if shares.get("outside", 0.0) > MOST_OUTSIDE:
        lines.append(
            "warning: more than a tenth of the time rests on shapes outside of what the profile"
            " measured (price_share.outside); 'moesim calibrate collect' measures yours"
        )
    return lines


def _ttft(summary: Mapping[str, Any]) -> list[Row]:
    mean, p99 = (summary.get(f"{which}_ttft_ms") for which in ("mean", "p99"))
    return [] if mean is None else [("TTFT mean, p99", f"{number(mean)}, {number(p99)} ms")]


def summary_rows(summary: Mapping[str, Any]) -> list[Row]:
    """One run's numbers, each with its name."""
    get = summary.get
    memory = [(f"  {name.replace('_', ' ')}", gib(n)) for name, n in _parts(get("memory_bytes"))]
    whole = ("peak memory of a GPU", gib(get("peak_memory_bytes")))
    peak = [whole, *memory, *_stages(summary), *_host(summary)]
    if summary["status"] != "ok":
        return [("slots per layer", _slots(summary)), *peak]
    hits = f"{percent(get('hit_ratio_per_expert'))} of experts"
    return [
        ("engine", f"{get('engine')}, {number(get('engine_wall_s'), 3)} s"),
        ("tokens, steps", f"{number(get('tokens'))}, {number(get('steps'))}"),
        ("duration", f"{number(get('duration_ms'))} ms"),
        *_throughput(summary),
        *_interval(summary, "output_throughput", "tokens/s"),
        *_drops(summary),
        *_skips(summary),
        *_fates(summary),
        *_quality(summary),
        *_routing(summary),
        *_ttft(summary),
        ("TPOT mean, p99", f"{number(get('mean_tpot_ms'))}, {number(get('p99_tpot_ms'))} ms"),
        *_interval(summary, "mean_tpot_ms", "ms"),
        ("slots per layer", _slots(summary)),
        ("hit ratio", f"{hits}, {percent(get('hit_ratio_per_access'))} of accesses"),
        *_interval(summary, "hit_ratio_per_expert", ""),
        ("hits, late, misses", ", ".join(number(get(k)) for k in ("hits", "late", "misses"))),
        *_prefetches(summary),
        ("copied to the GPUs", gib(get("bytes_h2d"))),
        ("stalls for weights", f"{number(get('stall_ms'))} ms"),
        ("waits for other GPUs", f"{number(get('barrier_ms'))} ms"),
        *_storage(summary),
        *_speculation(summary),
        *_energy(summary),
        *peak,
    ]


def _storage(summary: Mapping[str, Any]) -> list[Row]:
    """What came from storage, of a run whose host memory does not hold all experts."""
    if summary.get("bytes_storage") is None:
        return []
    had = f"{percent(summary['host_hit_ratio'])} of what it was asked for"
    return [
        *([("host memory had", had)] if summary["host_hit_ratio"] is not None else []),
        ("read from storage", gib(summary["bytes_storage"])),
        ("waits for storage", f"{number(summary['storage_wait_ms'])} ms"),
    ]


def _speculation(summary: Mapping[str, Any]) -> list[Row]:
    """What verifying drafts gives, of a run that does."""
    kept, rate = summary.get("mean_acceptance_length"), summary.get("draft_acceptance_rate")
    if kept is None:
        return []
    distinct = number(summary.get("distinct_experts_per_pass"))
    return [
        ("tokens a step of a request", f"{number(kept)}, {percent(rate)} of drafts accepted"),
        ("experts of a layer and step", distinct),
    ]


def _energy(summary: Mapping[str, Any]) -> list[Row]:
    """What a run that asks for it draws and costs, by token where it decodes, else by all."""
    get, rows = summary.get, []
    of = "output_token" if get("output_throughput") else "token"
    if get("total_energy_j") is not None:
        rows += [
            (f"joules a {of.replace('_', ' ')}", f"{number(get(f'joules_per_{of}'))} J"),
            *((f"  {part}", percent(x / summary["total_energy_j"])) for part, x in
              (get("energy_j") or {}).items() if x),
            ("mean power", f"{number(get('mean_power_w'))} W"),
        ]  # fmt: skip
    for name, what, unit in (("carbon_g", "CO2", "g"), ("cost_usd", "cost", "$")):
        if (value := get(f"{name}_per_million_{of}s")) is not None:
            rows.append((f"{what} a million {of.replace('_', ' ')}s", f"{number(value)} {unit}"))
    return rows


def _fates(summary: Mapping[str, Any]) -> list[Row]:
    """In which variants the experts were that served the tokens, of a run that has some."""
    if (slots := summary.get("slots_by_variant")) is None:
        return []
    what, shares = "gate weight", summary["gate_weight_shares"]
    if shares["full"] is None:  # the trace has no weights
        what, shares = "choices", summary["choice_shares"]
    told = ", ".join(f"{share_in_words(share)} {name}" for name, share in shares.items())
    return [(what, told), ("slots of variants", ", ".join(f"{n} {of}" for of, n in slots.items()))]


def _quality(summary: Mapping[str, Any]) -> list[Row]:
    """What the user's table says of the answers, of a run that names one."""
    said = (summary.get("quality") or {}).items()
    beyond = "not known: beyond its table"
    return [(name, beyond if x is None else f"{number(x)}, by its table") for name, x in said]


def _routing(summary: Mapping[str, Any]) -> list[Row]:
    """What transforms of the routing leave and lose, of a run that has some."""
    get = summary.get
    if get("mean_choices") is None:
        return []
    row = ("choices a token", f"{number(get('mean_choices'))} of {number(get('recorded_choices'))}")
    lost = get("gate_weight_lost")
    if lost is None:
        return [row, ("gate weight lost", "not known: the trace has none")]
    held_out = get("gate_weight_lost_held_out")
    beside = "" if held_out is None else f", {percent(held_out)} in tokens held out"
    return [row, ("gate weight lost", f"{percent(lost)}{beside}")]


def _prefetches(summary: Mapping[str, Any]) -> list[Row]:
    """What prefetches did, of a run that starts some."""
    started, late, hidden = (
        summary.get(key) for key in ("prefetches", "late_share", "stall_hidden_share")
    )
    if not started:
        return []
    late_share = "" if late is None else f", {percent(late)} of them late"
    used = f"{number(summary.get('prefetches_used'))} of {number(started)} started{late_share}"
    stall = [] if hidden is None else [("stall hidden by them", percent(hidden))]
    return [("prefetches used", used), *stall]


def _slots(summary: Mapping[str, Any]) -> str:
    """Slots a layer, in how many there are none, and how far they reach where others differ."""
    text, by_layer = number(summary.get("slots_per_layer")), summary.get("slots_by_layer") or ()
    some = [slots for gpu in by_layer for slots in gpu if slots]
    none = max((gpu.count(0) for gpu in by_layer), default=0)
    if len(set(some)) > 1:
        text = f"{text}, from {min(some)} to {max(some)}"
    return f"{text}, none in {counted(none, 'layer')}" if none else text


def _stages(summary: Mapping[str, Any]) -> list[Row]:
    """What the GPU of each stage holds at most, where layers are split over GPUs."""
    rows = enumerate(summary.get("stages") or ())
    return [
        (
            f"GPU {gpu}: layers {row['first_layer']} to {row['last_layer']}",
            f"{gib(row['peak_memory_bytes'])}, {number(row['slots_per_layer'])} slots per layer",
        )
        for gpu, row in rows
    ]


def _host(summary: Mapping[str, Any]) -> list[Row]:
    """What offloaded experts take on the host, if there are any."""
    host, pinned = (summary.get(f"{name}_memory_bytes") or 0 for name in ("host", "pinned"))
    return [("host memory", f"{gib(host)} {'pinned' if pinned else 'pageable'}")] if host else []


def _throughput(summary: Mapping[str, Any]) -> list[Row]:
    """Decoded tokens a second; all tokens where prompts are among them."""
    output, total = summary.get("output_throughput"), summary.get("total_token_throughput")
    rows = [("output throughput", f"{number(output)} tokens/s")] if output else []
    if not output or (total and total > output):
        rows.append(("total token throughput", f"{number(total)} tokens/s"))
    return rows


def _drops(summary: Mapping[str, Any]) -> list[Row]:
    """What the gating dropped for that throughput."""
    share, choices = summary.get("dropped_share"), number(summary.get("dropped_choices"))
    return [("choices dropped", f"{share_in_words(share)} ({choices})")] if share else []


def _skips(summary: Mapping[str, Any]) -> list[Row]:
    """The choices whose experts were skipped, and how much of the tokens' gate weight that is."""
    share, choices = summary.get(SKIPPED), number(summary.get("skipped_choices"))
    weight = summary.get(SKIPPED_WEIGHT)
    if not share:
        return []
    of_weight = "the trace has no gate weights"
    if weight is not None:
        of_weight = f"{share_in_words(weight)} of gate weight"
    return [("choices skipped", f"{share_in_words(share)} ({choices}); {of_weight}")]


def _interval(summary: Mapping[str, Any], name: str, unit: str) -> list[Row]:
    """A number after the warm-up with its interval, if it has one; a ratio without a unit."""
    found = (summary.get("intervals") or {}).get(name) or {}
    if found.get("low") is None:
        return []
    value, low, high = (number(found[k] * (1 if unit else 100)) for k in ("value", "low", "high"))
    return [("  after the warm-up", f"{value} [{low}, {high}] {unit or '%'}")]


def interval_line(summary: Mapping[str, Any]) -> list[str]:
    """What the intervals of one run were made from, or why there are none."""
    made = summary.get("intervals")
    if not made:
        return []
    steps = "step" if made["warm_up_steps"] == 1 else "steps"
    share = percent(made["warm_up_share"])
    left_out = f"warm-up: {number(made['warm_up_steps'])} {steps} ({share})"
    if made["reason"]:
        return [f"no intervals: {made['reason']} ({left_out})"]
    blocks = {"batch": "batches", "steps": "blocks"}[made["block"]]
    size = f"{made['blocks']} {blocks} of {number(made['steps_per_block'], 3)} steps"
    what = f"[low, high]: {percent(made['confidence'])} intervals of sampling alone, over {size}"
    return [f"{what}; {left_out}"]


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


def _share(share: float) -> str:
    """A share in percent, without the sign; a dash where it is not known."""
    return "-" if pd.isna(share) else share_in_words(share).removesuffix(" %")


OUTPUT, PROCESSED = "output_throughput", "total_token_throughput"
COLUMNS: Sequence[tuple[str, str, Callable[[Any], str]]] = (
    (OUTPUT, "tokens/s", number),
    (PROCESSED, "processed\ntokens/s", number),
    ("dropped_share", "dropped\n%", _share),
    (SKIPPED_WEIGHT, "skipped\nweight %", _share),
    (SKIPPED, "skipped\n%", _share),
    (CUT, "cut\nweight %", _share),
    (LOWERED, "lowered\nweight %", _share),
    ("interval", "\n95 %", str),
    ("mean_tpot_ms", "TPOT\nms", lambda ms: number(ms, 3)),
    ("hit_ratio_per_expert", "hits\n%", lambda ratio: percent(ratio).removesuffix(" %")),
    ("time_share.waiting_for_weights", "stall\n%", lambda x: percent(x).removesuffix(" %")),
    ("time_share.waiting_for_storage", "drive\n%", lambda x: percent(x).removesuffix(" %")),
    ("peak_memory_bytes", "peak\nGiB", lambda size: gib(size).removesuffix(" GiB")),
)

GIVEN_UP = (
    "interval", "peak_memory_bytes", "time_share.waiting_for_weights", "hit_ratio_per_expert",
    "time_share.waiting_for_storage", "mean_tpot_ms",
)  # fmt: skip
"""Columns that a narrow terminal loses, the first first: the files have them."""
GAP = 2
"""Characters between two columns of a sweep's table."""


def sweep_table(
    points: pd.DataFrame,
    axes: Sequence[str],
    width: int | None = None,
    *,
    most: int | None = None,
    allow_drops: bool = False,
) -> RenderableType:
    """One row a point with its axes and key numbers; of the points that leave out no choice (with
    ``allow_drops``: of all) the fastest is marked and bold.

    Below it, once each, the reasons of the points that have no numbers, and what the prices
    rest on. Where it is wider than ``width`` characters, numbers are left out as in ``GIVEN_UP``.
    Of more than ``most`` points the first are shown, and the marked one.
    """
    every, best = points, _best(points, allow_drops=allow_drops)
    places = [n for n in range(len(points)) if most is None or n < most or n == best]
    points, best = points.iloc[places], places.index(best) if best in places else -1
    table = Table(
        title=_title(every),
        caption=_caption(every, allow_drops=allow_drops),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    points = with_shown(points)
    units = {axis: _common_unit(points[axis]) for axis in axes}
    headings = [_heading(axis, axes, units[axis]) for axis in axes]
    least = [min(_width([heading]), 12) for heading in headings]
    for heading, characters in zip(headings, least, strict=True):
        table.add_column(heading, overflow="fold", min_width=characters)
    states = [
        str(status).replace("_", " ") + (" *" if place == best else "")
        for place, status in enumerate(points["status"])
    ]
    columns = {
        title: [form(value) for value in points[name]]
        for name, title, form in _fitting(points, [*least, _width(["status", *states])], width)
    }
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for place, (_, row) in enumerate(points.iterrows()):
        cells = [in_words(_value(row[axis])).removesuffix(units[axis]).strip() for axis in axes]
        numbers = [texts[place] for texts in columns.values()]
        table.add_row(*cells, *numbers, states[place], style="bold" if place == best else None)
    return Group(table, *(Text(line) for line in (*reasons(every), *sweep_trust(every))))


def _fitting(
    points: pd.DataFrame, others: Sequence[int], width: int | None
) -> list[tuple[str, str, Callable[[Any], str]]]:
    """The columns of numbers that fit into ``width`` beside columns as wide as ``others``."""
    columns = [column for column in COLUMNS if column[0] in points.columns]
    wide = {
        name: _width([title, *(form(value) for value in points[name])])
        for name, title, form in columns
    }
    for name in GIVEN_UP:
        if width is None or sum(n + GAP for n in (*others, *wide.values())) - GAP <= width:
            break
        wide.pop(name, None)
    return [column for column in columns if column[0] in wide]


def _width(texts: Sequence[str]) -> int:
    """Characters of the longest line."""
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def with_shown(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with those of ``COLUMNS`` that say something of them."""
    return _with_losses(_with_intervals(points))


def _with_intervals(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the throughput of all tokens where some put none out, alone where all do so,
    and the column ``interval`` where one has an interval of it.
    """
    decoding = numbers(points, OUTPUT) > 0
    silent = ~decoding & (numbers(points, PROCESSED) > 0)
    alone = bool(silent.any() and not decoding.any())
    without = [OUTPUT] if alone else [] if silent.any() else [PROCESSED]
    points, speed = points.drop(columns=without, errors="ignore"), PROCESSED if alone else OUTPUT
    names = [f"intervals.{speed}.{side}" for side in ("low", "high")]
    if not set(names) <= set(points.columns) or points[names[0]].isna().all():
        return points
    return points.assign(interval=[span(*pair) for pair in points[names].to_numpy()])


def _with_losses(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the columns of what they leave out only where a point does: of skipped
    experts the gate weight, and the share of choices where a trace has no weights.
    """
    found = losses(points)
    if SKIPPED in found:
        weighed = (found[SKIPPED] == 0) | found[SKIPPED_WEIGHT].notna()
        found[SKIPPED_WEIGHT] = found[SKIPPED_WEIGHT].fillna(0.0).where(weighed)
        found[SKIPPED] = found[SKIPPED].where(~weighed)
    shown = found.loc[:, (found > 0).any()]
    others = points.drop(columns=[*LOSSES, SKIPPED_WEIGHT, LOWERED], errors="ignore")
    return others.join(shown)


def span(low: Any, high: Any) -> str:
    """``2.04-4.21``; a dash for none."""
    return "-" if pd.isna(low) or pd.isna(high) else f"{number(low, 3)}-{number(high, 3)}"


def _heading(axis: str, axes: Sequence[str], unit: str) -> str:
    """The last word of the path (the word before ``kind``) where it is one axis's alone."""
    alone = sum(last_word(other) == last_word(axis) for other in axes) == 1
    return f"{last_word(axis) if alone else axis}\n{unit}".strip()


def _common_unit(values: pd.Series[Any]) -> str:
    """The unit that all values of an axis with a number end with, "" where there is none."""
    units = {str(value).partition(" ")[2] for value in values if str(value) != "all"}
    return units.pop() if len(units) == 1 else ""


def sweep_trust(points: pd.DataFrame) -> list[str]:
    """The same for all points of a sweep, each line once."""
    lines: list[str] = []
    for _, row in points.iterrows():
        parts: dict[str, Any] = {"price_share": {}, "price_error": {}}
        for name in row.index[row.notna()]:
            part, _, key = str(name).partition(".")
            if part in parts:
                parts[part][key] = row[name]
        for key in ("model_notes", "host_notes", "routing_notes"):
            parts[key] = json.loads(row[key]) if row.notna().get(key) else []
        lines += trust_lines({"status": row["status"], **parts})
    return list(dict.fromkeys(lines))


def _value(value: Any) -> str:
    return "-" if pd.isna(value) else word("", value).strip()


def reasons(points: pd.DataFrame) -> list[str]:
    """Each reason once, with the number of points that have it."""
    known = points[points["reason"].notna()]
    return [
        f"{str(status).replace('_', ' ')} ({len(group)} of {len(points)}): {reason}"
        for (status, reason), group in known.groupby(["status", "reason"], sort=False)
    ]


def _title(points: pd.DataFrame) -> str:
    counts = points["status"].value_counts()
    return ", ".join(f"{n} {str(status).replace('_', ' ')}" for status, n in counts.items())


def _best(points: pd.DataFrame, *, allow_drops: bool) -> int:
    """The place of the point with the star, -1 where none has one."""
    speed = ranked(points, allow_drops=allow_drops)
    return int(points.index.get_loc(speed.index[0])) if len(speed) else -1  # type: ignore[arg-type]


def _caption(points: pd.DataFrame, *, allow_drops: bool) -> str:
    """What the star says, and what it passes over."""
    lost = "" if allow_drops else how_lost(points)
    if lost and ranked(points).empty:
        how = how_lost(points, "s")
        return f"no star: every point {how} choices; --allow-drops marks the fastest"
    over = [f"{lost} no choice"] if lost else []
    known = knows_future(points)
    over += ["do not know the future"] * bool(known.any() and not known.all())
    of = f"points that {' and '.join(over)}" if over else "sweep"
    text = f"* the highest throughput of the {of}{_lowered(points, allow_drops=allow_drops)}"
    return f"{text}; --allow-drops: of all" if lost else text


def _lowered(points: pd.DataFrame, *, allow_drops: bool) -> str:
    """What the point with the star serves in lower formats."""
    found, best = losses(points), _best(points, allow_drops=allow_drops)
    share = float(found[LOWERED].iloc[best]) if LOWERED in found and best >= 0 else 0.0
    return f", with {_share(share)} % of the gate weight in lower formats" if share else ""
