"""The figures of an advice: throughput of the choices over slots, and what upgrades bring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet

from moesim.config.counted import counted
from moesim.config.json_text import read_object
from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import (
    KNOWS,
    OFFLINE,
    RC,
    LineStyle,
    fill,
    line_style,
    marker_area,
    save_figure,
)  # fmt: skip
from moesim.report.figures import Figure
from moesim.results.result import setting_in_words
from moesim.results.shape import AdviceFile, check_shape
from moesim.sweep.advise.choices import EVICTING, NO_PREFETCH, ON_HOST, Choice
from moesim.sweep.speeds import OF_A_REQUEST, TOGETHER

ADVICE = "advice.json"
SPEED = "throughput_tokens_per_s"
AXIS = {TOGETHER: "Throughput (tokens/s)", OF_A_REQUEST: "Speed of a request (tokens/s)"}


class AdviceChoices(Figure):
    """Throughput of what can be done about a miss, over expert slots per layer."""

    kind = "advice_choices"
    needs = "the folder of 'moesim advise', of experts that do not all fit"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a choice that ran: what a miss does, policy, prefetch, what is set beside, whether
        it knows the future, slots a layer (and experts), throughput.
        """
        return self._checked(choices_table(read_advice(folder)), folder)

    def _checked(self, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
        if table.empty:
            raise self.unsuitable(folder, "there is nothing of that kind")
        return table

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """A line a way of handling misses; points for what else was tried."""
        draw_choices(table, axes)
        legend(axes)


class AdviceUpgrades(AdviceChoices):
    """Throughput of the best choices with one thing changed."""

    kind = "advice_upgrades"
    needs = "the folder of 'moesim advise' with upgrades that ran"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row an upgrade and choice: throughput before and with it, and their ratio."""
        return self._checked(upgrades_table(read_advice(folder)), folder)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Bars, the first choice the best one; lines at what each is without an upgrade."""
        draw_upgrades(table, axes)
        legend(axes)


def is_advice(folder: Path) -> bool:
    """Whether ``folder`` holds an advice."""
    return (folder / ADVICE).is_file()


def read_advice(folder: Path) -> dict[str, Any]:
    """The advice in ``folder``, as plain data; an InputError where it is damaged."""
    content = read_object(folder / ADVICE)
    check_shape(content, AdviceFile, str(folder / ADVICE))
    return content


def advice_figures(folder: Path) -> list[Figure]:
    """The figures that the advice in ``folder`` has."""
    content = read_advice(folder)
    several, upgrades = _over_slots(content), bool(content["upgrades"])
    return [*[AdviceChoices()] * several, *[AdviceUpgrades()] * upgrades]


def _over_slots(content: Mapping[str, Any]) -> bool:
    """Whether choices with slots were compared."""
    return sum(not one.get("layers_on_cpu") for one in content["choices"]) > 1


def setting_of(content: Mapping[str, Any]) -> str:
    """Model, card and how much of the trace an advice is of."""
    replayed = f"{content['requests']} of {counted(content['recorded_requests'], 'request')}"
    return f"{_question(content)}, {replayed}"


def _question(content: Mapping[str, Any]) -> str:
    return setting_in_words({name: content[name] for name in ("model", "hardware")})


def draw(content: Mapping[str, Any], path: Path) -> Path:
    """Draw the advice ``content`` into ``path`` (.png or .svg) and return it.

    The left panel is left out where all experts fit, the right one where no upgrade ran.
    """
    panels = [
        (panel, table, middle)
        for panel, table, middle, shown in (
            (draw_choices, choices_table(content), 0.45, _over_slots(content)),
            (draw_upgrades, upgrades_table(content), 0.4, bool(content["upgrades"])),
        )
        if shown
    ]
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Sheet(figsize=(5.4 * max(len(panels), 1), 4.2), layout="constrained")
        FigureCanvasAgg(sheet)
        every = np.ravel(sheet.subplots(1, len(panels) or 1))
        for (panel, table, middle), axes in zip(panels, every, strict=False):
            panel(table, axes)
            axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(middle, -0.16),
                        frameon=False, ncols=2)  # fmt: skip
        sheet.suptitle(_question(content), x=0.01, ha="left")
        save_figure(sheet, path)
    return path


def choices_table(content: Mapping[str, Any]) -> pd.DataFrame:
    """See ``AdviceChoices.prepare``."""
    rows = [
        {
            **{key: one[key] for key in ("miss", "policy", "prefetch")},
            "layers_on_cpu": one.get("layers_on_cpu", 0),
            "beside": _choice(one).told,
            "offline": one["offline"],
            "slots_per_layer": one["slots_per_layer"],
            "local_experts": content["local_experts"],
            SPEED: one[SPEED],
            "unit": content.get("unit", TOGETHER),
        }
        for one in content["choices"]
        if one[SPEED] and one["slots_per_layer"]
    ]
    return pd.DataFrame(rows)


def upgrades_table(content: Mapping[str, Any]) -> pd.DataFrame:
    """See ``AdviceUpgrades.prepare``."""
    before = {_choice(one).words: one[SPEED] for one in content["choices"]}
    best = _choice(content["best"]).words
    rows = [
        {
            "upgrade": one["upgrade"],
            "choice": (words := _choice(one).words),
            "best": words == best,
            "before_tokens_per_s": before.get(words),
            SPEED: one[SPEED],
            "ratio": one["ratio"],
            "unit": content.get("unit", TOGETHER),
        }
        for one in content["upgrades"]
    ]
    return pd.DataFrame(rows)


def _choice(plain: Mapping[str, Any]) -> Choice:
    miss, policy, capacity, prefetch = (
        plain[key] for key in ("miss", "policy", "capacity", "prefetch")
    )
    layers = plain.get("layers_on_cpu", 0)
    return Choice(miss, policy, capacity, prefetch, tuple(plain["set"].items()), layers)


def draw_choices(table: pd.DataFrame, axes: Axes) -> None:
    """A line a way of handling misses, through its fastest policy; the other policies and what
    prefetches and settings reach as points.
    """
    table, whole = table.fillna({"beside": ""}), table["layers_on_cpu"] > 0
    top = 1.06 * float(table[SPEED].max())  # a star is whole
    for place, one in enumerate(table[whole].to_dict("records")):
        style = line_style(len(EVICTING) + place)
        whole_layers = "whole layers" if one["miss"] == ON_HOST else "layers"
        axes.axhline(one[SPEED], label=f"{one['layers_on_cpu']} {whole_layers} on the CPU",
                     color=style.color, linestyle=style.linestyle)  # fmt: skip
    table = table[~whole]
    ahead = (table["prefetch"] != NO_PREFETCH) | (table["beside"] != "")
    plain = table[~ahead]
    own = plain[~plain["offline"]]
    for place, miss in enumerate(EVICTING):
        if (own["miss"] == miss).any():
            _policies(own[own["miss"] == miss], miss, line_style(place), axes)
    offline = _fastest_by_slots(plain[plain["offline"]])
    if len(offline):
        axes.plot(offline.index, offline, label=f"load with min ({KNOWS})",
                  color=OFFLINE.color, linestyle=OFFLINE.linestyle)  # fmt: skip
    for one in table[ahead].to_dict("records"):
        _star(one, axes)
    if not plain[SPEED].isin(_fastest_by_slots(plain)).all():
        axes.scatter([], [], marker="o", s=18 * marker_area(), facecolors="white",
                     edgecolors="#333333", label="small, open: other policies")  # fmt: skip
    ticks = sorted(set(table["slots_per_layer"]))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, top)
    axes.set_xlabel(f"Expert slots per MoE layer (of {table['local_experts'].iloc[0]})")
    axes.set_ylabel(AXIS[table["unit"].iloc[0]])
    axes.set_title("What to do about a miss")


def _policies(own: pd.DataFrame, miss: str, style: LineStyle, axes: Axes) -> None:
    """The line of what to do about a miss, and a hollow point for each slower policy."""
    line = _fastest_by_slots(own)
    axes.plot(
        line.index, line,
        label=f"{miss}, its best policy" if len(EVICTING[miss]) > 1 else miss,
        color=style.color, marker=style.marker, linestyle=style.linestyle,
    )  # fmt: skip
    others = own[~own[SPEED].isin(line)]
    axes.scatter(
        others["slots_per_layer"], others[SPEED], marker=style.marker, s=18 * marker_area(),
        facecolors="white", edgecolors=style.color, zorder=2.5,
    )  # fmt: skip


def _star(one: Mapping[Any, Any], axes: Axes) -> None:
    """A choice that prefetches or sets something beside: black if it knows the future, else open,
    its edge as the line of its misses.
    """
    miss, prefetch, offline = str(one["miss"]), one["prefetch"], bool(one["offline"])
    edge = OFFLINE.color if offline else line_style(list(EVICTING).index(miss)).color
    kind = f"{prefetch} ({KNOWS})" if offline else prefetch
    axes.plot(
        [one["slots_per_layer"]], [one[SPEED]],
        label=f"{miss}, {one['beside'] or f'prefetch: {kind}'}",
        linestyle="none", marker="*", markersize=11 * marker_area() ** 0.5, zorder=3,
        markerfacecolor=OFFLINE.color if offline else "white", markeredgecolor=edge,
    )  # fmt: skip


def _fastest_by_slots(table: pd.DataFrame) -> pd.Series[float]:
    """The highest throughput by slots, ascending."""
    return table.groupby("slots_per_layer")[SPEED].max()


def draw_upgrades(table: pd.DataFrame, axes: Axes) -> None:
    """Bars of the throughput with each upgrade, a bar a choice; lines at what it is without."""
    found = list(dict.fromkeys(table["upgrade"]))
    groups = sorted(table.groupby("choice", sort=False), key=lambda own: not own[1]["best"].any())
    height = 0.8 / len(groups)
    for place, (words, rows) in enumerate(groups):
        face = fill(place)
        own = rows.set_index("upgrade").reindex(found)
        at = np.arange(len(found)) + (place - (len(groups) - 1) / 2) * height
        axes.barh(
            at, own[SPEED].fillna(0.0), height=height, label=str(words), facecolor=face.facecolor,
            hatch=face.hatch, edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        for y, speed, ratio in zip(at, own[SPEED], own["ratio"], strict=True):
            if np.isfinite(ratio):
                axes.text(
                    speed, y, f" x {ratio:.2f}", va="center", fontsize=8,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.1},
                )  # fmt: skip
        before = float(rows["before_tokens_per_s"].iloc[0])
        axes.axvline(before, color="black", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(np.arange(len(found)), found)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel(f"{AXIS[table['unit'].iloc[0]]}; dashed: as it is")
    axes.set_title("One thing changed")
