"""A number of a sweep's points over one of its axes: the table, and its lines."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.config.amounts.capacity import parse_capacity
from moesim.config.amounts.quantity import QuantityError
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.price_errors import CONFIDENCE
from moesim.metrics.service_level import DIMENSIONS, Service
from moesim.report.drawing.labels import label_ends, legend, name_places
from moesim.report.drawing.style import HEADROOM, numeric_ticks, series_styles, sizes
from moesim.report.figures.base import CAPACITY, axis_of
from moesim.report.sweep.capacity import end_label, error_bars, mark_gaps, series_words
from moesim.report.sweep.table import FITTED, ON_CPU
from moesim.results.renamed import RENAMED
from moesim.sweep.found import Sweep
from moesim.sweep.speeds import losses, losses_in_words, numbers
from moesim.sweep.words import in_words, last_word, word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS, PROMISED = "axis", "promised"
Floats = NDArray[np.float64]
BARS, BY_PRICES = "bars", f"bars: {CONFIDENCE:.0%} by prices"
"""The column that says what bars are, where it is not sampling alone."""
_WORD = 2
_KINDS = {"%": "fraction"}
"""What a capacity calls a unit: 0 % is none, and stands before 25 %."""
_BARS = 0.7
"""Of the room of a kind of an axis of words, what its bars take."""
UNITS: Sequence[tuple[str, str, float]] = (
    (r"throughput$", "tokens/s", 1.0),
    (r"_ms$", "ms", 1.0),
    (r"_ns$", "ms", 1e-6),
    (r"bytes_(h2d|storage|wasted)|rebalanced_bytes", "GB", 1e-9),
    (r"(^|_)bytes(_|$|\.)", "GiB", 2.0**-30),
    (r"percent$", "%", 1.0),
    (r"^cost_usd", "$", 1.0),
    (r"^carbon_g", "g", 1.0),
    (r"^joules_per|energy_j", "J", 1.0),
    (r"power_w$", "W", 1.0),
    (r"ratio|share|balancedness|_rate$", "%", 100.0),
)
"""Names of numbers, the unit that they are drawn in, and what to multiply by."""

MOVED: Sequence[tuple[str, str]] = (
    (r"both_bytes_h2d", "copied from host by passes of both"),
    (r"(prompt|decode)_bytes_h2d", r"copied from host by \1 passes"),
    (r"bytes_h2d", "copied from host"),
    (r"prefetch_bytes_wasted", "prefetched and not used"),
    (r"rebalanced_bytes", "moved by rebalancing"),
    (r"bytes_storage_ahead", "read ahead from storage"),
    (r"bytes_storage_unused", "read from storage and not used"),
    (r"bytes_storage", "read from storage"),
)
"""Names of bytes that moved, and what they are in words."""


class MetricAsked(Protocol):
    """What the figure ``metric_over_axis`` is asked for."""

    @property
    def metric(self) -> str:
        """A column of points.csv."""

    @property
    def over(self) -> str:
        """The axis."""

    @property
    def relative_to(self) -> str | None:
        """AXIS=VALUE of the baseline."""

    @property
    def gap_to(self) -> str | None:
        """AXIS=VALUE of the other end of the gap."""


def metric_table(sweep: Sweep, figure: MetricAsked) -> pd.DataFrame:
    """The figure's table, see ``metric_over_axis``."""
    over = _axis(figure.over, sweep)
    values, name = _values(sweep, figure)
    words = sweep.table[over].map(in_words).astype(str)
    head: dict[str, Any] = {
        "series": sweep.labels(without=[over, *sweep.together(over)]),
        "policy": sweep.policies,
        "status": sweep.table["status"],
        **losses(sweep.table),
        "baseline": _at(sweep, figure.relative_to),
        **_layers_on_cpu(sweep, figure),
        AXIS: words,
        **_promised(sweep, figure),
        **_limits(sweep, figure),
        name: values,
    }
    order = {word: place for place, word in enumerate(in_order(list(words)))}
    table = pd.DataFrame(head)
    return table.sort_values(AXIS, key=lambda c: c.map(order), kind="stable").reset_index(drop=True)


def _layers_on_cpu(sweep: Sweep, figure: MetricAsked) -> dict[str, pd.Series[float]]:
    """Of how many layers each point left the experts to the CPU, where that followed from memory
    and is not the number that is drawn; {}: of none.
    """
    if FITTED not in sweep.table or figure.metric == ON_CPU:
        return {}
    fitted = sweep.table[FITTED].fillna(value=False).astype(bool)
    return {name: numbers(sweep.table, name).where(fitted) for name in (ON_CPU, "moe_layers")}


def _axis(name: str, sweep: Sweep) -> str:
    found = axis_of(name, sweep.axes)
    assert found is not None, "the figure has no obstacle"
    return found


def _values(sweep: Sweep, figure: MetricAsked) -> tuple[pd.Series[float], str]:
    """The numbers, and what they are called."""
    values = _numbers(sweep, figure.metric)
    if figure.relative_to is None:
        return values, figure.metric
    base = _partners(sweep, values, figure.relative_to)
    if figure.gap_to is None:
        return (values / base.where(base != 0)).rename(None), f"{figure.metric}_ratio"
    gap = _partners(sweep, values, figure.gap_to) - base
    closed = (values - base) / gap.where(gap != 0) + 0.0  # a zero that has no sign
    return closed, f"{figure.metric}_gap_closed_share"


def _limits(sweep: Sweep, figure: MetricAsked) -> dict[str, Any]:
    """The interval of the number itself, where the sweep has one: by prices, of times of requests
    that are served, else of sampling.
    """
    if figure.relative_to is not None:
        return {}
    return limits_by_prices(sweep, figure.metric) or _interval(sweep, "intervals", figure.metric)


def _promised(sweep: Sweep, figure: MetricAsked) -> dict[str, float]:
    """What clients are promised of the number itself, {}: nothing."""
    limit = promised_ms(sweep, figure.metric) if figure.relative_to is None else math.nan
    return {} if math.isnan(limit) else {PROMISED: limit}


def promised_ms(sweep: Sweep, metric: str) -> float:
    """The limit that ``serving.slo`` sets of a time of requests, as in p90_ttft_ms; NaN: of what it
    says nothing, or not the same in all points.
    """
    found = re.search(rf"({'|'.join(DIMENSIONS)})_ms$", metric)
    said = (sweep.experiment.get("serving") or {}).get("slo")
    if found is None or not said or any(".slo" in axis for axis in sweep.axes):
        return math.nan
    return Service.model_validate({"slo": said}).limits_ms.get(found[1], math.nan)


def limits_by_prices(sweep: Sweep, metric: str) -> dict[str, Any]:
    """Between which ``metric`` lies by prices, and what its bars are; {}: it has no such limits, or
    no requests are served.
    """
    served = "latency_intervals.confidence" in sweep.table.columns
    found = _interval(sweep, "price_interval", metric) if served else {}
    return {BARS: BY_PRICES, **found} if found else {}


def _interval(sweep: Sweep, key: str, metric: str) -> dict[str, pd.Series[float]]:
    """The columns of the interval ``key`` of a number, as ``error_bars`` takes them; {}: none."""
    names = {f"{side}_{metric}": f"{key}.{metric}.{side}" for side in ("low", "high")}
    if not set(names.values()) <= set(sweep.table.columns):
        return {}
    found = {name: numbers(sweep.table, column) for name, column in names.items()}
    return found if any(one.notna().any() for one in found.values()) else {}


def _numbers(sweep: Sweep, metric: str) -> pd.Series[float]:
    """The column ``metric``; an InputError where there is none, or none of numbers."""
    table = sweep.table.drop(columns=list(sweep.axes))
    known = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    if metric in known:
        return numbers(table, metric).where(table["status"] == "ok")
    if metric in RENAMED:
        what = f"is '{RENAMED[metric]}' now"
    else:
        close = [name for name in known if name.startswith(metric)][:4]
        close = close or get_close_matches(metric, known, n=3)
        what = "is no number of this sweep; points.csv has them all in its first line"
        what += f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InputError([Problem(str(sweep.folder), "metric", f"'{metric}' {what}")])


def _at(sweep: Sweep, text: str | None) -> pd.Series[bool]:
    """Which points have the AXIS=VALUE in ``text``; an InputError where none has."""
    if text is None:
        return pd.Series(data=False, index=sweep.table.index)
    name, _, value = text.partition("=")
    words = sweep.table[_axis(name.strip(), sweep)].map(in_words).astype(str)
    found = words == value.strip()
    if not found.any():
        what = f"'{text}': no point has it; {nearest(value.strip(), set(words))}"
        raise InputError([Problem(str(sweep.folder), "metric_over_axis", what)])
    return found


def _partners(sweep: Sweep, values: pd.Series[float], text: str) -> pd.Series[float]:
    """By point, the value of the one with AXIS=VALUE that is equal on all other axes but those that
    change together with AXIS.
    """
    axis = _axis(text.partition("=")[0].strip(), sweep)
    aside = {axis, *sweep.together(axis)}
    others = sweep.table[[other for other in sweep.axes if other not in aside]].astype(str)
    keys = pd.Series(list(map(tuple, others.to_numpy())), index=values.index, dtype=object)
    chosen = _at(sweep, text)
    by_key = dict(zip(keys[chosen], values[chosen], strict=True))
    return keys.map(by_key).astype("float64")


def in_order(words: Sequence[str]) -> list[str]:
    """Each of the values of an axis once: sizes and numbers as such, then words as they come."""
    return sorted(dict.fromkeys(words), key=_rank)


def _rank(word: str) -> tuple[int, str, float]:
    try:
        return (0, "", float(word))
    except ValueError:
        pass
    try:
        capacity = parse_capacity(word)
    except QuantityError:  # no capacity: another number with a unit, or a word
        if (found := split_unit([word])) is None:
            return (_WORD, "", 0.0)
        (value,), unit = found
        return (1, _KINDS.get(unit, unit), value)
    named = capacity.kind in ("auto", "all", "none")
    return (1, "~" + capacity.kind if named else capacity.kind, float(capacity.amount))


def split_unit(words: Sequence[str]) -> tuple[list[float], str] | None:
    """The values of an axis as numbers and their common unit; None where they are not."""
    found = [re.fullmatch(r"(\d+(?:\.\d+)?) ?(\D*)", word) for word in words]
    if not all(found):
        return None
    parts = [match.groups() for match in found if match]
    units = {unit for _, unit in parts}
    return ([float(number) for number, _ in parts], units.pop()) if len(units) == 1 else None


def draw_metric(figure: MetricAsked, table: pd.DataFrame, axes: Axes) -> None:
    """Draw the figure's table, see ``metric_over_axis``."""
    table = table.fillna({"series": "", "policy": ""})
    table[AXIS] = table[AXIS].astype(str)
    column = str(next(c for c in reversed(table.columns) if c != "setting"))
    unit, factor = _unit(figure, column)
    shown = list(dict.fromkeys(table[AXIS]))
    places = _ticks(figure.over, shown, axes)
    own = table[~table["baseline"].astype(bool)]
    ends = []
    in_kinds = all(_rank(word)[0] == _WORD for word in shown)
    groups = list((table if own.empty else own).groupby("series", sort=False))
    styles = series_styles({str(name): str(line["policy"].iloc[0]) for name, line in groups})
    for number, (name, line) in enumerate(groups):
        style = styles[str(name)]
        x = line[AXIS].map(places).astype(float)
        y = line[column].to_numpy(dtype=float) * factor
        if in_kinds:
            width = _BARS / len(groups)
            x += (number - (len(groups) - 1) / 2) * width
            axes.bar(x, y, width, color=style.color, label=series_words(str(name), line))
            error_bars(_scaled(line, column, factor), column, x, axes, "#555555")
            _say_layers(line, x, y, axes)
            continue
        (drawn,) = axes.plot(x, y, color=style.color, marker=style.marker,
                             linestyle=style.linestyle, **sizes(number, len(groups)))  # fmt: skip
        error_bars(_scaled(line, column, factor), column, x, axes, style.color)
        _say_layers(line, x, y, axes)
        if np.isfinite(y).any():
            ends.append(end_label(series_words(str(name), line), x.to_numpy(), y, drawn))
    said = f"\n{table[BARS].iloc[0]}" if BARS in table.columns else ""
    axes.set_ylabel(_label(figure, unit) + said)
    title = f"{_sentence(figure.metric)} over {last_word(figure.over)}"
    axes.set_title("\n".join([title, *_layers_said(own)]))
    if figure.relative_to is None:
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), max(high, HEADROOM * float(axes.dataLim.y1)))
        mark_gaps(own.assign(place=own[AXIS].map(places).astype(float)), "place", column, axes)
    for height in (0.0, 100.0) if figure.gap_to else (1.0,) if figure.relative_to else ():
        axes.axhline(height, color="#777777", linewidth=0.9, linestyle=(0, (1, 2)))
    if PROMISED in table:
        limit = float(table[PROMISED].iloc[0])
        draw_promise(axes, limit)
        axes.annotate(PROMISED, (1, limit), (-4, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", fontsize=9, ha="right")  # fmt: skip
    axes.set_ylim(axes.get_ylim())  # the lines' ends are looked up in the final limits
    label_ends(axes, [end for end in ends if end.text])
    if in_kinds and len(groups) > 1:
        legend(axes)
    elif in_kinds:
        _say_losses(table, axes)


def draw_promise(axes: Axes, limit_ms: float) -> None:
    """A line at what is promised, for a legend."""
    axes.axhline(limit_ms, color="black", linestyle=(0, (4, 2)), linewidth=1, label=PROMISED)


def _layers_said(table: pd.DataFrame) -> list[str]:
    """What the numbers at the points are, where there are some."""
    if ON_CPU not in table or table[ON_CPU].isna().all():
        return []
    of = table["moe_layers"].dropna().unique()
    every = f"the {of[0]:.0f} " if len(of) == 1 else ""
    return [f"at each point: how many of {every}layers have their experts on the CPU (auto)"]


def _say_layers(line: pd.DataFrame, x: pd.Series[float], y: Floats, axes: Axes) -> None:
    """At each point of ``line``, of how many layers the CPU has the experts, where that followed
    from memory.
    """
    if ON_CPU not in line:
        return
    for at, height, layers in zip(x, y, line[ON_CPU], strict=True):
        if np.isfinite(height) and np.isfinite(layers):
            axes.annotate(f"{layers:.0f}", (at, height), (0, 3), fontsize=9,
                          textcoords="offset points", ha="center", va="bottom")  # fmt: skip


def _say_losses(table: pd.DataFrame, axes: Axes) -> None:
    """Below the word of each bar, what its point leaves out."""
    said = {row[AXIS]: losses_in_words(table.loc[[at]]) for at, row in table.iterrows()}
    names = [label.get_text() for label in axes.get_xticklabels()]
    axes.set_xticks(axes.get_xticks(), [f"{n}\n{said[n]}".strip() for n in names])


def _scaled(line: pd.DataFrame, column: str, factor: float) -> pd.DataFrame:
    """``line`` with the limits of ``column`` in the unit that is drawn."""
    limits = [name for name in (f"low_{column}", f"high_{column}") if name in line.columns]
    return line.assign(**{name: line[name].astype(float) * factor for name in limits})


def _ticks(over: str, words: Sequence[str], axes: Axes) -> Mapping[str, float]:
    """Name the places of the axis' values, and say where each is."""
    known = split_unit(words)
    name = _sentence(last_word(over))
    if known is None:
        places = {word: float(place) for place, word in enumerate(words)}
        name_places(axes, [*places.values()], [*places])
        axes.set_xlabel(name)
        axes.margins(x=0.06)
        return places
    values, unit = known
    numeric_ticks(axes, values)
    slots = unit == "slots/layer" and last_word(over) == last_word(CAPACITY)
    axes.set_xlabel("Expert slots per MoE layer and GPU" if slots
                    else f"{name} ({unit})" if unit else name)  # fmt: skip
    return dict(zip(words, values, strict=True))


def _unit(figure: MetricAsked, column: str) -> tuple[str, float]:
    if figure.relative_to is not None:
        return ("%", 100.0) if column.endswith("_share") else ("ratio", 1.0)
    found = ((unit, factor) for rule, unit, factor in UNITS if re.search(rule, figure.metric))
    return next(found, ("", 1.0))


def _label(figure: MetricAsked, unit: str) -> str:
    name = _sentence(figure.metric)
    if figure.gap_to is not None:
        ends = (str(text).partition("=")[2] for text in (figure.relative_to, figure.gap_to))
        return f"{name}: gap closed from {' to '.join(ends)} ({unit})"
    if figure.relative_to is not None:
        axis, _, value = figure.relative_to.partition("=")
        return f"{name} relative to {word(axis.strip(), value.strip())} ({unit})"
    return f"{name} ({unit})" if unit else name


def _sentence(name: str) -> str:
    """A name in words: ``mean_tpot_ms`` as ``Mean TPOT``."""
    for rule, words in MOVED:
        name = re.sub(rf"\b{rule}\b", words, name)
    text = (
        re.sub(r"_(ms|ns|bytes|percent|usd|g|j|w)(?=$|\.|_per)", "", name)
        .replace("_", " ")
        .replace(".", ", ")
    )
    for short in ("tpot", "ttft", "itl", "e2el", "slo", "gpu", "cpu", "kv"):
        text = re.sub(rf"\b{short}", short.upper(), text)
    return text[:1].upper() + text[1:]
