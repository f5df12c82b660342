"""How every figure looks: readable in greyscale, the same bytes from the same table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

RC: Mapping[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "svg.hashsalt": "moesim",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
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

METADATA: Mapping[str, Mapping[str, Any]] = {
    "svg": {"Date": None, "Creator": "moesim"},
    "png": {"Software": "moesim"},
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


BOUND = LineStyle("#000000", "", (0, (2, 1)))
"""The style of a bound that no choice can pass."""
BOUND_POLICY = "min"


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
