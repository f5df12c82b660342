"""The figure of an advice: throughput of the choices over slots, and what upgrades bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moesim.report.advice import by_upgrade
from moesim.report.style import KNOWS, OFFLINE, RC, LineStyle, fill, line_style, save_figure
from moesim.sweep.advise.advice import Advice, Scored
from moesim.sweep.advise.choices import EVICTING, NO_PREFETCH


def draw(advice: Advice, path: Path) -> Path:
    """Draw ``advice`` into ``path`` (.png or .svg) and return it.

    The left panel is left out where all experts fit, the right one where no upgrade ran.
    """
    panels = [_choices] * (len(advice.scored) > 1) + [_upgrades] * bool(advice.gains)
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(5.4 * max(len(panels), 1), 4.2), layout="constrained")
        FigureCanvasAgg(sheet)
        for panel, axes in zip(panels, np.ravel(sheet.subplots(1, len(panels) or 1)), strict=False):
            panel(advice, axes)
        sheet.suptitle(f"{advice.model} on {Path(advice.hardware).stem}", x=0.01, ha="left")
        save_figure(sheet, path)
    return path


def _choices(advice: Advice, axes: Axes) -> None:
    """A line a way of handling misses, through its fastest policy; the other policies and what
    prefetches and settings reach as points.
    """
    ran = [one for one in advice.scored if one.throughput]
    ahead = [one for one in ran if one.choice.prefetch != NO_PREFETCH or one.choice.beside]
    plain = [one for one in ran if one not in ahead]
    for place, miss in enumerate(EVICTING):
        own = [one for one in plain if one.choice.miss == miss and not one.choice.offline]
        if own:
            _policies(own, miss, line_style(place), axes)
    offline = _fastest_by_slots([one for one in plain if one.choice.offline])
    if offline:
        axes.plot(
            list(offline), list(offline.values()), label=f"load with min ({KNOWS})",
            color=OFFLINE.color, linestyle=OFFLINE.linestyle,
        )  # fmt: skip
    for one in ahead:
        _star(one, axes)
    if any(one.throughput not in _fastest_by_slots(plain).values() for one in plain):
        axes.scatter([], [], marker="o", s=18, facecolors="white", edgecolors="#333333",
                     label="small, open: other policies")  # fmt: skip
    ticks = sorted({one.slots for one in advice.scored if one.slots})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"Expert slots per MoE layer (of {advice.room.local})")
    axes.set_ylabel("Throughput (tokens/s)")
    axes.set_title("What to do about a miss")
    axes.legend(
        fontsize=9, loc="upper center", bbox_to_anchor=(0.45, -0.16), frameon=False, ncols=2
    )


def _policies(scored: list[Scored], miss: str, style: LineStyle, axes: Axes) -> None:
    """The line of what to do about a miss, and a hollow point for each slower policy."""
    line = _fastest_by_slots(scored)
    axes.plot(
        list(line), list(line.values()),
        label=f"{miss}, its best policy" if len(EVICTING[miss]) > 1 else miss,
        color=style.color, marker=style.marker, linestyle=style.linestyle,
    )  # fmt: skip
    others = [one for one in scored if one.throughput not in line.values()]
    axes.scatter(
        [one.slots or 0 for one in others], [one.throughput or 0.0 for one in others],
        marker=style.marker, s=18, facecolors="white", edgecolors=style.color, zorder=2.5,
    )  # fmt: skip


def _star(one: Scored, axes: Axes) -> None:
    """A choice that prefetches or sets something beside: black if it knows the future, else open,
    its edge as the line of its misses.
    """
    offline = one.choice.offline
    edge = OFFLINE.color if offline else line_style(list(EVICTING).index(one.choice.miss)).color
    kind = f"{one.choice.prefetch} ({KNOWS})" if offline else one.choice.prefetch
    axes.plot(
        [one.slots or 0], [one.throughput or 0.0],
        label=f"{one.choice.miss}, {one.choice.told or f'prefetch: {kind}'}",
        linestyle="none", marker="*", markersize=11, zorder=3,
        markerfacecolor=OFFLINE.color if offline else "white", markeredgecolor=edge,
    )  # fmt: skip


def _fastest_by_slots(scored: list[Scored]) -> dict[int, float]:
    """The highest throughput by slots, ascending."""
    found: dict[int, float] = {}
    for one in scored:
        if one.slots is not None and one.throughput is not None:
            found[one.slots] = max(found.get(one.slots, 0.0), one.throughput)
    return dict(sorted(found.items()))


def _upgrades(advice: Advice, axes: Axes) -> None:
    """Bars of the throughput with each upgrade, a bar a choice; lines at what it is without."""
    found = by_upgrade(advice)
    height = 0.8 / len(advice.chosen)
    for place, one in enumerate(advice.chosen):
        face = fill(place)
        rows = [next((g for g in gains if _same(g.scored, one)), None) for gains in found.values()]
        speeds = [(gain and gain.scored.throughput) or 0.0 for gain in rows]
        at = np.arange(len(found)) + (place - (len(advice.chosen) - 1) / 2) * height
        axes.barh(
            at, speeds, height=height, label=one.choice.words, facecolor=face.facecolor,
            hatch=face.hatch, edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        for y, gain in zip(at, rows, strict=True):
            if gain and gain.ratio:
                axes.text(
                    gain.scored.throughput or 0.0, y, f" x {gain.ratio:.2f}", va="center",
                    fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.1},
                )  # fmt: skip
        axes.axvline(one.throughput or 0.0, color="black", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(np.arange(len(found)), list(found))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel("Throughput (tokens/s); dashed: as it is")
    axes.set_title("One thing changed")
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.4, -0.16), frameon=False, ncols=2)


def _same(one: Scored, other: Scored) -> bool:
    return one.choice == other.choice
