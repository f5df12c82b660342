"""Advice for the terminal: the choices, the upgrades, and what they mean in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moesim.config.counted import counted
from moesim.hardware.described.reached import faults_reach
from moesim.hardware.operations.kernels.cpu_expert import REACHED
from moesim.report.advice.ends import choice_depends, ended, upgrade_depends
from moesim.report.amounts import number, percent
from moesim.report.comparison.intervals import sentence
from moesim.report.run.trust import price_interval_line, provenance_line, trust_lines
from moesim.sweep.advise.abilities import ENGINES, engine_named
from moesim.sweep.advise.advice import Advice, Gain
from moesim.sweep.advise.choices import (
    ALL,
    EVICTING,
    NO_PREFETCH,
    ON_CPU,
    ON_HOST,
    WAYS,
    Settings,
)
from moesim.sweep.advise.limits import CAUSES, MEANING
from moesim.sweep.advise.ranges import DRIVE, HOST, NODES, TRACE, span
from moesim.sweep.advise.room import Room
from moesim.sweep.advise.scored import Scored
from moesim.sweep.speeds import share_in_words

NOTABLE = 0.1
"""Share of the time from which a further limit is named, and gain from which an upgrade helps."""


LEAST_RANGE = 0.005
"""Of the speed: less is none."""
FAULTS = "at a rate that was seen on another machine"
RANGES = {
    HOST: "if experts on the CPU reach {:.0f} to {:.0f} % of the DRAM peak, which nobody measured "
    "here".format(*(100 * share for share in REACHED)),
    NODES: "if the engine splits experts over all NUMA nodes without loss: one node's count here",
    DRIVE: "if page faults reach {:.0f} to {:.0f} % of the drive's reads, as on two other "
    "machines".format(*(100 * share for share in faults_reach())),
    TRACE: "over stand-ins of all shipped traces: routing of the model itself was not recorded",
}


def rendered(advice: Advice) -> list[RenderableType]:
    """Tables (of the choices only where there is more than one), then the sentences."""
    tables = [choices_table(advice)] if len(advice.scored) > 1 else []
    tables += [upgrades_table(advice)] if advice.gains else []
    told = [*sentences(advice), *trust(advice)]
    return [*tables, *(Text(line) for line in told)]


def choices_table(advice: Advice) -> Table:
    """A row a way, tokens/s by slots a layer; shares at the most slots."""
    slotted = [one for one in advice.scored if not one.choice.layers]
    rooms = list(dict.fromkeys(one.choice.capacity for one in slotted)) or [ALL]
    slotless = advice.unit if not advice.room.slots else ""
    table = _sheet(slotless or f"{advice.unit} by expert slots a layer (of {advice.room.local})")
    rows = _rows(advice.scored)
    prefetching = any(prefetch != NO_PREFETCH for _, prefetch, _, _ in rows)
    setting = any(beside for _, _, _, beside in rows)
    shown = {"miss": True, "prefetch": prefetching, "policy": True, "set": setting}
    for name in (name for name, show in shown.items() if show):
        table.add_column(name)
    slots = {one.choice.capacity: one.slots for one in slotted if one.slots}
    drive = any(one.summary.get("storage_path") for one in advice.scored)
    shares = ("hits\n%", "link\n%", "CPU\n%", *(["drive\n%"] if drive else []))
    for heading in (*(number(slots.get(room)) for room in rooms), *shares):
        table.add_column(heading, justify="right")
    for (miss, prefetch, policy, _), row in rows.items():
        by_room = {rooms[0] if o.choice.layers else o.choice.capacity: o for o in row}
        speeds = [_speed(by_room.get(room), advice.best) for room in rooms]
        name = policy if miss in (ON_CPU, ON_HOST) or len(EVICTING[miss]) > 1 else "-"
        offline = " (offline)" if row[0].choice.offline else ""
        ahead = ["-" if prefetch == NO_PREFETCH else prefetch] if prefetching else []
        other = [row[0].choice.told] if setting else []
        waits = _shares(row[0])[: len(shares)]
        table.add_row(miss, *ahead, f"{name}{offline}", *other, *speeds, *waits)
    table.caption = "* the best; shares at the most slots; offline: knows the future"
    return table


def _sheet(title: str) -> Table:
    return Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)


def _rows(scored: Sequence[Scored]) -> dict[tuple[str, str, str, Settings], list[Scored]]:
    rows: dict[tuple[str, str, str, Settings], list[Scored]] = {}
    for one in scored:
        rows.setdefault(one.choice.way, []).append(one)
    return dict(sorted(rows.items(), key=lambda row: WAYS.index(row[0][0])))


def _speed(one: Scored | None, best: Scored) -> Text:
    if one is None:
        return Text("")
    if one.throughput is None:
        return Text(str(one.summary["status"]).replace("_", " "))
    mark = one.choice == best.choice
    return Text(number(one.throughput) + (" *" if mark else ""), "bold" if mark else "")


def _shares(one: Scored) -> list[str]:
    """Hits, and waits for weights, for the CPU and for the drive, in percent."""
    share = one.summary.get("time_share") or {}
    waits = (cause for limit in ("link", "CPU", "drive") for cause in CAUSES[limit])
    ratios = (one.summary.get("hit_ratio_per_expert"), *map(share.get, waits))
    return [percent(ratio).removesuffix(" %") for ratio in ratios]


def upgrades_table(advice: Advice) -> Table:
    """A row an upgrade: tokens/s and gain of the best choice, and of the best that loads."""
    ran = {gain.scored.choice for gain in advice.gains}
    ones = [one for one in advice.chosen if one.choice in ran]
    table = _sheet("with one thing changed")
    table.add_column("upgrade")
    for one in ones:
        table.add_column(f"{one.choice.words}\n{advice.unit}", justify="right")
        table.add_column("\ngain", justify="right", no_wrap=True)
    now = [(number(one.throughput), "") for one in ones]
    table.add_row("as it is", *(cell for pair in now for cell in pair))
    for title, gains in by_upgrade(advice).items():
        found = {gain.scored.choice: gain for gain in gains}
        cells = [_cells(found[one.choice], advice) for one in ones]
        table.add_row(title, *(cell for pair in cells for cell in pair))
    return table


def by_upgrade(advice: Advice) -> dict[str, list[Gain]]:
    """The gains of each upgrade, the fastest of the best choice first."""
    found: dict[str, list[Gain]] = {}
    for gain in sorted(advice.gains, key=lambda one: one.scored.choice != advice.best.choice):
        found.setdefault(gain.upgrade.title, []).append(gain)
    return found


def _cells(gain: Gain, advice: Advice) -> tuple[str, str]:
    if gain.ratio is None:
        return str(gain.scored.summary["status"]).replace("_", " "), ""
    ends = ended(advice.gain_ends(gain))
    return number(gain.scored.throughput), f"x {gain.ratio:.2f}{ends}"


def sentences(advice: Advice) -> Iterator[str]:
    """Whether it fits, the best and by how much, its limit, and the most useful upgrade."""
    room, best = advice.room, advice.best
    if room.fits:
        yield f"Fits: all {room.local} experts of a layer stay on the GPU, so nothing is missing."
        yield f"Speed: {number(best.throughput)} {advice.unit}."
        yield from _setting(advice)
    else:
        yield _without_room(room)
        yield _best(advice)
        yield from _beyond_engine(advice)
        yield from drive(advice)
        yield from ranges(advice)
        yield from choice_depends(advice)
        yield from _setting(advice)
        yield from _apart(advice)
    yield limited(advice)
    yield from moves(advice)
    yield from upgrade(advice)
    yield from left_out(advice)


def _without_room(room: Room) -> str:
    if room.slots:
        return f"Fits? No: {room.slots} of {room.local} experts of a layer do."
    if not room.on_cpu:
        return f"Fits? No: only with {counted(room.on_host or 0, 'whole layer')} on the CPU."
    layers = f"{room.fewest_on_cpu} of {counted(room.layers, 'layer')}"
    return f"Fits? No: only with the experts of {layers} on the CPU."


def limited(advice: Advice) -> str:
    """What the best choice waits for."""
    shares = [
        f"{name} ({percent(share)} of the time {MEANING[name]})"
        for place, (name, share) in enumerate(advice.limits.items())
        if place == 0 or share >= NOTABLE
    ]
    return f"Limited by: {', then '.join(shares)}."


def moves(advice: Advice) -> Iterator[str]:
    """Whether experts should move between GPUs in time, how many redundant ones, and how often."""
    found = advice.rebalanced
    if found is None:
        return
    best, of = found.best, counted(len(found.tried), "setting")
    if best is None:
        yield f"EPLB: leave it off: {of}, and none ran."
        return
    said = {True: "turn it on", False: "leave it off", None: "it makes no difference here"}
    moved = (best.scored.summary.get("rebalanced_bytes") or 0) / 1e9
    share = (best.scored.summary.get("time_share") or {}).get("rebalancing")
    reached = f"{number(best.scored.throughput)} {advice.unit}, x {found.ratio(best):.3f}"
    yield (
        f"EPLB: {said[found.worth]}. The best of {of} is {best.words}: {reached} of experts that"
        f" stay, for {number(moved)} GB and {percent(share)} of the time."
    )


def left_out(advice: Advice) -> Iterator[str]:
    """What has no numbers, and why."""
    for miss, reason in advice.left_out.items():
        yield f"Left out: {miss}: {reason}."
    failed = {one.choice.miss: one for one in advice.scored if one.throughput is None}
    for miss, one in failed.items():
        yield f"Without numbers: {miss}: {one.summary.get('reason')}."


def ranges(advice: Advice) -> Iterator[str]:
    """How far the best choice moves with what nobody measured, a line each."""
    own = advice.best.throughput or 0.0
    for of, why in RANGES.items():
        found = span(advice.varied, of, own)
        if found is not None and found[1] - found[0] > LEAST_RANGE * own:
            yield f"Range: {number(found[0])} to {number(found[1])} {advice.unit} {why}."
        elif found is not None and of == TRACE:
            yield f"Routing: {number(own)} {advice.unit} with every stand-in trace alike."


def drive(advice: Advice) -> Iterator[str]:
    """What the best choice reads from a drive, how, and whether the engine does so at all."""
    summary = advice.best.summary
    path, tokens = summary.get("storage_path"), summary.get("tokens")
    if path is None or not tokens:
        return
    how = f"by page faults, {FAULTS}" if path == "mmap" else "as fast as it reads"
    read, left = number(summary["bytes_storage"] / tokens / 1e9), advice.room.drive / 1e9
    kept = summary.get("host_hit_ratio")
    had = "" if kept is None else f"; the host had {percent(kept)} of what misses asked for"
    yield f"Drive: memory has no room for {number(left)} GB of experts{had}."
    yield f"{read} GB a token come from the drive, {how}."
    engine = advice.fit.engine or engine_named(advice.fit.software)
    if engine is not None and not ENGINES[engine].maps:
        yield f"{engine} itself reads no experts from a drive: this is what it would bring."


def _beyond_engine(advice: Advice) -> Iterator[str]:
    """That the engine whose costs the file's software has cannot do what is best."""
    software, best = advice.fit.software, advice.best.choice
    engine = engine_named(software)
    if engine is None or advice.room.fits or best.miss in ENGINES[engine].ways:
        return
    ways = [one for one in advice.scored if one.choice.miss in ENGINES[engine].ways]
    most = max((one.throughput or 0.0 for one in ways), default=0.0)
    own = f"; the best of what it has: {number(most)} {advice.unit}" if most else ""
    yield f"{engine} itself cannot do that: this is what it would bring{own}."


def _best(advice: Advice) -> str:
    best, plain, offline = advice.best, advice.plain, advice.offline
    text = f"Best: {best.choice.words}, {number(best.throughput)} {advice.unit}"
    if plain is not None and plain.throughput and best.throughput and plain != best:
        ratio = best.throughput / plain.throughput
        ends = advice.over_ends(plain)
        text += f", x {ratio:.2f}{ended(ends and (1 / ends[1], 1 / ends[0]))}"
        text += " of the plain LRU cache that loads what is missing"
    if offline is not None:
        text += f" (with the future known, {offline.choice.words} would reach"
        text += f" {number(offline.throughput)})"
    return f"{text}."


def _setting(advice: Advice) -> Iterator[str]:
    """What the experiment should set, where that makes the best choice faster."""
    best, before = advice.best, advice.as_it_stands
    if before is None or not before.throughput or not best.throughput:
        return
    ran, own = best.summary.get("execution"), before.summary.get("execution")
    gain = f"x {best.throughput / before.throughput:.2f}"
    yield f"Set {best.choice.told} ({ran} instead of {own}): {gain}; upgrades come on top of it."


def _apart(advice: Advice) -> Iterator[str]:
    """The best over the next, and over the plain LRU cache where that is another."""
    best = advice.best
    others = {o.choice: o for o in (advice.next_best, advice.plain) if o is not None and o != best}
    for choice, other in others.items():
        if (apart := best.over(other)) is not None:
            yield f"After the warm-up: {sentence(best.choice.words, choice.words, apart)}."


def upgrade(advice: Advice) -> Iterator[str]:
    """The upgrade that brings most."""
    first = advice.most_useful
    ratio = None if first is None else advice.over_best(first)
    if first is None or ratio is None:
        return
    if (depends := upgrade_depends(advice)) is not None:
        yield f"Most useful upgrade: {depends}."
        return
    choice = first.scored.choice  # a larger GPU leaves fewer layers on the CPU than it has now
    of = "now" if choice == advice.best.choice else "with"
    ends = ended(advice.gain_ends(first))
    what = f"{first.upgrade.title}, x {ratio:.2f}{ends} ({of}: {choice.words})"
    if ratio < 1 + NOTABLE:
        yield f"No single upgrade helps by more than a tenth; most: {what}."
    else:
        yield f"Most useful upgrade: {what}."


def trust(advice: Advice) -> list[str]:
    """How far the numbers go, and what the best choice's prices rest on."""
    replayed = f"replayed: {advice.requests} of {counted(advice.recorded, 'request')}"
    cached = advice.beyond is not None or not (advice.room.fits or advice.best.choice.layers)
    if advice.requests < advice.recorded and cached:
        replayed += (
            "; the slots start with the most used experts of the trace's first part, so a short"
            " replay flatters choices that keep them (--requests)"
        )
    summary = advice.best.summary
    return [
        *advice.notes,
        replayed,
        *_drops(summary),
        *price_interval_line(summary),
        *provenance_line(summary),
        *trust_lines(summary),
    ]


def _drops(summary: Mapping[str, Any]) -> list[str]:
    """What the gating, which is that of the experiment in every run, drops for these speeds."""
    share = summary.get("dropped_share")
    return [f"the gating drops {share_in_words(share)} of all choices"] if share else []
