"""How every figure looks: readable in greyscale, the same bytes from the same table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from moesim.config.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RC: Mapping[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "svg.hashsalt": "moesim",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
}
"""Matplotlib settings; the hash salt and the missing date make an SVG reproducible."""

SMALL: Mapping[str, Any] = {
    "font.size": 8, "axes.titlesize": 8, "lines.linewidth": 1.2, "lines.markersize": 4,
}  # fmt: skip
"""What differs in a picture that is narrower than usual, as for a column of a paper."""

METADATA: Mapping[str, Mapping[str, Any]] = {
    "svg": {"Date": None, "Creator": "moesim"},
    "png": {"Software": "moesim"},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": "moesim", "Producer": "moesim"},
}

COLOURS = (
    "#0b3c6f",
    "#d1603d",
    "#4f9d69",
    "#8b5fa8",
    "#c99a1e",
    "#3a9fbf",
    "#9c2f4b",
    "#6d6d6d",
    "#e58bb0",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)))


@dataclass(frozen=True)
class LineStyle:
    """What distinguishes one series from the others, with or without colour."""

    color: str
    marker: str
    linestyle: Any


def line_style(number: int) -> LineStyle:
    """The style of series ``number``; marker, dash and colour have coprime periods."""
    return LineStyle(
        COLOURS[number % len(COLOURS)],
        MARKERS[number % len(MARKERS)],
        DASHES[number % len(DASHES)],
    )


OFFLINE = LineStyle("#000000", "", (0, (2, 1)))
"""The style of an offline policy, which knows the future."""
OFFLINE_POLICY = "min"
KNOWS = "knows the future"

POLICIES = (
    "lru", "lfu", "fifo", "lifo", "random", "static", "arc", "lfu_decay", "lfru", "s3fifo",
    "least_stale", "gate_score", "stream",
)  # fmt: skip
"""The policies by the number of their style, which is the same in every figure."""


def series_styles(policies: Mapping[str, str]) -> dict[str, LineStyle]:
    """The style of each series by its name, of series and their policies ("" for none).

    Where policies differ, the policy gives colour and marker, the same in every figure, and of
    series with the same policy the later ones have other dashes. Policies without a number have
    those after the known ones.
    """
    if len(set(policies.values())) == 1:
        alone = set(policies.values()) == {OFFLINE_POLICY} and len(policies) == 1
        return {name: OFFLINE if alone else line_style(n) for n, name in enumerate(policies)}
    others = [p for p in dict.fromkeys(policies.values()) if p not in (*POLICIES, OFFLINE_POLICY)]
    places = {policy: place for place, policy in enumerate((*POLICIES, *others))}
    seen: dict[str, int] = {}
    styles = {}
    for name, policy in policies.items():
        again = seen[policy] = seen.get(policy, -1) + 1
        styles[name] = _again(
            OFFLINE if policy == OFFLINE_POLICY else line_style(places[policy]), again
        )
    return styles


def _again(style: LineStyle, again: int) -> LineStyle:
    """``style`` for the series that is the number ``again`` with it: other dashes, then markers."""
    if not again:
        return style
    at = DASHES.index(style.linestyle) if style.linestyle in DASHES else -1
    turns = (at + again) // len(DASHES)
    marker = (
        MARKERS[(MARKERS.index(style.marker) + turns) % len(MARKERS)]
        if style.marker
        else (MARKERS[again % len(MARKERS)])
    )
    return LineStyle(style.color, marker, DASHES[(at + again) % len(DASHES)])


def sizes(number: int, of: int) -> dict[str, Any]:
    """Width and marker of series ``number`` of ``of``: the later are drawn over the earlier and are
    smaller, so that none hides an equal one.
    """
    above = of - 1 - number
    return {"linewidth": 1.4 + 0.25 * above, "markersize": 5 + 0.6 * above}


@dataclass(frozen=True)
class Fill:
    """The face of one category of a stack: light enough for its hatch to be seen in grey."""

    facecolor: str
    hatch: str


FILLS = (
    Fill("#4c6a92", ""),
    Fill("#e9c46a", "///"),
    Fill("#c8d5b9", "..."),
    Fill("#d98f6c", "\\\\\\"),
    Fill("#efefef", "xxx"),
    Fill("#d3e5f3", "---"),
    Fill("#d8c6e4", "+++"),
    Fill("#ffffff", ""),
    Fill("#9c9c9c", "ooo"),
    Fill("#f3d9dc", "|||"),
    Fill("#7f9f8f", "///"),
)
ATTENTION, GATE, EXCHANGE, EXPERTS, HOST, COPIES, GPUS, CPU, IDLE, WEIGHTS, WORK = FILLS


FACES: Mapping[str, Fill] = MappingProxyType({
    "attention": ATTENTION, "gate": GATE, "dispatch_combine": EXCHANGE, "experts": EXPERTS,
    "host": HOST, "waiting_for_weights": COPIES, "waiting_for_gpus": GPUS, "waiting_for_cpu": CPU,
    "idle": IDLE,
    "weights": WEIGHTS, "kv_cache": ATTENTION, "activations": WORK, "masks": GATE,
    "all_to_all_buffers": EXCHANGE, "expert_slots": EXPERTS, "copies_in_flight": COPIES,
})  # fmt: skip
"""The face of each category of time and of memory, in every figure; what a category of memory is
for has the face of its time.
"""


def face(category: str) -> Fill:
    """The face of a category of ``FACES``."""
    return FACES[category]


def fill(number: int) -> Fill:
    """The face of ``number``, of what has no face of its own in ``FACES``."""
    return FILLS[number % len(FILLS)]


def save_figure(sheet: Figure, path: Path, option: str = "--out") -> None:
    """Write ``sheet`` to ``path`` (.png, .svg) in one go; the same sheet gives the same bytes.

    Raises an InputError, which names ``option``, where that fails.
    """
    with replacing(path, option) as temporary:
        sheet.savefig(temporary, metadata=dict(METADATA[path.suffix[1:]]))
