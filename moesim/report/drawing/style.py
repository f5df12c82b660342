"""How every figure looks: readable in greyscale, the same bytes from the same table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from moesim.config.files.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

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
    "savefig.pad_inches": 0.03,
}  # fmt: skip
"""What differs in a picture that is narrower than usual, as for a column of a paper."""
BELOW: Mapping[str, Any] = {"legend.loc": "lower center"}
"""What differs where lines are named below the axes instead of beside them."""
TINY: Mapping[str, Any] = {
    **SMALL, **BELOW, "font.size": 6.5, "axes.titlesize": 6.5, "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
}  # fmt: skip
"""The smallest that is read well on paper."""

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
    "#93c01f",
    "#6b4226",
    "#cf00a3",
    "#00705f",
    "#3a4dff",
)
LOGARITHMIC = 16
"""Largest over smallest value of an axis from which on it is drawn in powers of two."""
HEADROOM = 1.03
"""Of the highest value, from zero on: no marker is cut."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)))


def plain_numbers(*axes: Axis) -> None:
    """Let logarithmic axes say 30, where Matplotlib would write 3 x 10^1 in TeX, which is not read
    here; between powers of ten where few of these are in sight.
    """
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def _num_to_string(self, v: float, _vmin: float, _vmax: float) -> str:
            return f"{v:g}"

    for axis in axes:
        if axis.get_scale() == "linear":  # whose own numbers are plain; some ticks would have none
            continue
        base = axis.get_transform().base  # type: ignore[attr-defined]
        axis.set_major_formatter(Plain(base))
        axis.set_minor_formatter(Plain(base))


def numeric_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Name ``values`` along the lower axis, in powers of two where they span far."""
    if min(values) > 0 and max(values) / min(values) >= LOGARITHMIC:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" for value in values])


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
    "least_stale", "gate_score", "stream", "hobbit",
)  # fmt: skip
"""The policies by the number of their style, which is the same in every figure."""


def series_styles(policies: Mapping[str, str]) -> dict[str, LineStyle]:
    """The style of each series by its name, of series and their policies ("" for none).

    Where policies differ, the policy gives the colour, the same in every figure, and what else
    differs the dashes; or the other way round, where one policy has more series than there are
    policies but offline ones, which are black. The marker says both. Policies without a number have
    those of absent ones.
    """
    if len(set(policies.values())) == 1:
        alone = set(policies.values()) == {OFFLINE_POLICY} and len(policies) == 1
        return {name: OFFLINE if alone else line_style(n) for n, name in enumerate(policies)}
    numbers = _numbers([p for p in dict.fromkeys(policies.values()) if p != OFFLINE_POLICY])
    rests = {name: _without(policy, name) for name, policy in policies.items()}
    places = {rest: place for place, rest in enumerate(dict.fromkeys(rests.values()))}
    kinds = {policy: n for n, policy in enumerate(sorted(numbers, key=numbers.__getitem__))}
    by_rest = max(Counter(policies.values()).values()) > len(numbers)
    styles: dict[str, LineStyle] = {}
    for name, policy in policies.items():
        rest = places[rests[name]]
        if policy == OFFLINE_POLICY:
            style = _turned(OFFLINE, rest)
        elif by_rest:
            style = _turned(line_style(rest), kinds[policy], DASHES)
        else:
            style = _turned(line_style(numbers[policy]), rest, DASHES if len(places) > 1 else ())
        styles[name] = _apart(style, styles.values())
    return styles


def _numbers(policies: Sequence[str]) -> dict[str, int]:
    """The number of each policy; those without one have what is left, from the last on."""
    known = {policy: POLICIES.index(policy) for policy in policies if policy in POLICIES}
    left = [n for n in reversed(range(len(POLICIES))) if n not in known.values()]
    others = [policy for policy in policies if policy not in known]
    more = range(len(POLICIES), len(POLICIES) + len(others))
    return known | dict(zip(others, (*left, *more), strict=False))


def _without(policy: str, name: str) -> str:
    """The name of a series but for its policy."""
    words = name.split(", ")
    if policy in words:
        words.remove(policy)
    return ", ".join(words)


def _turned(style: LineStyle, number: int, dashes: Sequence[Any] = ()) -> LineStyle:
    """``style`` for the number ``number`` of those that share its colour: another marker and, of
    ``dashes``, others.
    """
    return LineStyle(
        style.color,
        _marker(style.marker, STRIDE * number) if number else style.marker,
        dashes[number % len(dashes)] if dashes else style.linestyle,
    )


def _apart(style: LineStyle, used: Iterable[LineStyle]) -> LineStyle:
    """``style`` with the next marker that none of ``used`` has with the same colour or dashes."""
    known = {(one.color, one.marker) for one in used}
    known |= {(str(one.linestyle), one.marker) for one in used}
    turns = (_marker(style.marker, n) if n else style.marker for n in range(len(MARKERS)))
    free = (m for m in turns
            if not {(style.color, m), (str(style.linestyle), m)} & known)  # fmt: skip
    return replace(style, marker=next(free, style.marker))


def _marker(marker: str, further: int) -> str:
    """The marker ``further`` places after ``marker``; "" stands before the first."""
    at = MARKERS.index(marker) if marker else -1
    return MARKERS[(at + further) % len(MARKERS)]


STRIDE = 3
"""Markers between those of one colour, so that neighbours in number do not share them."""


def sizes(number: int, of: int) -> dict[str, Any]:
    """Width and marker of series ``number`` of ``of``: the later are drawn over the earlier and are
    smaller, so that none hides an equal one.
    """
    above = of - 1 - number
    scale = marker_area() ** 0.5
    return {"linewidth": scale * (1.4 + 0.25 * above), "markersize": scale * (5 + 0.6 * above)}


def marker_area() -> float:
    """The area of a marker in the picture that is drawn, 1 in one of the usual size."""
    from matplotlib import rcParams

    return float((rcParams["lines.markersize"] / RC["lines.markersize"]) ** 2)


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
    Fill("#fff3c4", "oo"),
    Fill("#b9a58a", "\\\\"),
)
(
    ATTENTION, GATE, EXCHANGE, EXPERTS, HOST, COPIES, GPUS, BLANK, IDLE, WEIGHTS, WORK, CPU, EARTH,
) = FILLS  # fmt: skip


FACES: Mapping[str, Fill] = MappingProxyType({
    "attention": ATTENTION, "gate": GATE, "dispatch_combine": EXCHANGE, "experts": EXPERTS,
    "host": HOST, "waiting_for_weights": COPIES, "waiting_for_gpus": GPUS, "waiting_for_cpu": CPU,
    "waiting_for_storage": WEIGHTS, "idle": IDLE,
    "weights": WEIGHTS, "kv_cache": ATTENTION, "activations": WORK, "masks": GATE,
    "all_to_all_buffers": EXCHANGE, "expert_slots": EXPERTS, "copies_in_flight": COPIES,
    "position_tables": BLANK, "allocator_blocks": HOST, "communication_buffers": GPUS,
    "measured": ATTENTION, "interpolated": WEIGHTS, "fitted": EXCHANGE, "datasheet": GATE,
    "outside": COPIES, "software": HOST, "no_price": IDLE,
})  # fmt: skip
"""The face of each category of time and of memory, in every figure; what a category of memory is
for has the face of its time. And of what a price rests on.
"""


def face(category: str) -> Fill:
    """The face of a category of ``FACES``."""
    return FACES[category]


def faces(categories: Iterable[str]) -> dict[str, Fill]:
    """The faces of the categories of one figure, in their order: those of ``FACES``, and of the
    others, in turn, such as none of them has, as long as there are any.
    """
    names = list(categories)
    known = {name: FACES[name] for name in names if name in FACES}
    seldom_first = (WORK, EARTH, WEIGHTS, CPU, *FILLS)
    free = [one for one in dict.fromkeys(seldom_first) if one not in known.values()]
    others = [name for name in names if name not in known]
    found = known | {name: free[place % len(free)] for place, name in enumerate(others)}
    return {name: found[name] for name in names}


def fill(number: int) -> Fill:
    """The face of ``number``, of what has no face of its own in ``FACES``."""
    return FILLS[number % len(FILLS)]


def save_figure(
    sheet: Figure, path: Path, option: str = "--out", frame: Bbox | None = None
) -> None:
    """Write ``sheet`` to ``path`` (.png, .svg) in one go, what is in ``frame`` (inches) or all that
    is drawn; the same sheet gives the same bytes.

    Raises an InputError, which names ``option``, where that fails.
    """
    with replacing(path, option) as temporary:
        sheet.savefig(temporary, metadata=dict(METADATA[path.suffix[1:]]), bbox_inches=frame)
