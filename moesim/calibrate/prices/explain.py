"""One price, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from rich.table import Table

from moesim.calibrate.prices.arguments import Asking
from moesim.calibrate.prices.of_run import is_of_run, of_machine, parts_of
from moesim.calibrate.prices.operations import priced
from moesim.calibrate.prices.price import METHODS, check_method, price_table
from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.hardware.described.precision import UNITS
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.measurements.columns import COUNTS, OPTIONAL, SHAPES
from moesim.hardware.measurements.validate import LINE, normalised
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Amount, Part
from moesim.hardware.profile import HardwareProfile
from moesim.model.gguf.recipes import RECIPES

WHOLE = "FLOPs with weights on a GPU are of whole tiles: padding is multiplied too"
BOUNDS = {
    "reads": "memory (reads)",
    "reads of threads": "threads (what they read)",
    "products": "compute (products)",
}


class Found(NamedTuple):
    """A price in whole nanoseconds int64[1], and its parts."""

    price_ns: Ints
    parts: list[Part]


OF_TWO_MEMORIES = ("cpu_expert", "copy_h2d", "copy_d2h")
"""What only runs where the CPU has a memory of its own."""
NUMBERS = (
    "memory_bandwidth", "activation_bandwidth_fraction", "bandwidth_fraction", "compute",
    "compute_fraction", "kernel_start",
)  # fmt: skip
"""What of a GPU's datasheet a kernel without a fit is priced by."""
ELSEWHERE = {
    "copy_h2d": ("datasheet", ("copies", "h2d")),
    "copy_d2h": ("datasheet", ("copies", "d2h")),
    "copy": ("datasheet", ("copies",)),
    "cpu_expert": ("host", ()),
    "cpu_layer": ("host", ()),
}
"""The part of a profile, and the path in it, that other operations are priced by."""
OPTIONS = ("tokens", "hidden", "inter", "experts", "top_k")
"""Numbers of a shape that options have; others are set."""


def explained(
    profile: HardwareProfile,
    values: Mapping[str, object],
    method: str,
    asking: Asking | None = None,
) -> Table:
    """A table of the parts of one operation's price; InputError for a shape without one.
    ``asking``: as in ``price_table``.
    """
    check_method(method)
    asking = asking or of_machine(profile, METHODS[method])
    row = {name: _value(name, value) for name, value in values.items() if value is not None}
    mix = row.get("dtype")
    row |= {"dtype": _of_mix(mix)} if mix else {}
    op = str(row["op"])
    if not (of_run := is_of_run(op, asking)):
        _check_read(row)
    frame = pd.DataFrame({name: [value] for name, value in row.items()})
    frame[LINE] = 1
    prices = price_table(profile, frame, method, "operation", asking)
    if of_run:
        found = Found(prices.price_ns, parts_of(asking, row))
    else:
        _, shape = next(priced(profile, normalised(frame), op, METHODS[method]))
        found = Found(shape.price_ns, shape.parts)
    title = f"{profile.name}: {op}, {prices.price_source[0]}"
    lines = [line for part in found.parts if _time(part.time_ns) for line in _lines(part)]
    lines.append(("price", _us(found.price_ns)))
    if prices.outside[0]:
        lines.append(("the shape lies outside what was measured", ""))
    told = _caption(op, found, profile)
    if mix and mix != row["dtype"]:
        told.insert(0, f"{mix} is a mix: priced as {row['dtype']}, which most of its tensors have")
    table = Table("term", title=title, caption_justify="left", caption="\n".join(told) or None)
    table.add_column("us", justify="right")
    if any(len(line) > len(("term", "us")) for line in lines):
        table.add_column("amount", justify="right")
        table.add_column("at")
    for line in lines:
        table.add_row(*line, style="bold" if line[0] == "price" else None)
    return table


def _check_read(row: Mapping[str, object]) -> None:
    """An InputError where a number is given that this operation's price does not read, or one is
    missing.
    """
    if (shape := SHAPES.get(str(row["op"]))) is None:
        return
    of_experts = {"rows", "distinct_experts"}
    read = {*shape, *OPTIONAL} - of_experts | (of_experts if row["op"] == "moe" else set())
    if strangers := sorted(row.keys() & {*COUNTS, *of_experts} - read):
        what = f"a price of '{row['op']}' reads {', '.join(shape) or 'no number'}"
        raise InputError(f"{what}, not {', '.join(strangers)}; leave that out")
    if "rows" not in row and (missing := [name for name in shape if name not in row]):
        what = f"a price of '{row['op']}' reads {', '.join(shape)}; give"
        raise InputError(f"{what} {' '.join(_option(name) for name in missing)}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')} N" if name in OPTIONS else f"--set {name}=N"


def _value(name: str, value: object) -> object:
    if name != "rows":
        return value
    texts = str(value).replace(",", " ").split()
    if not all(text.isdecimal() for text in texts):
        raise InputError(f"--rows '{value}': write whole numbers, as in '4,2,1,1'")
    return [int(text) for text in texts]


def _lines(part: Part) -> Iterator[tuple[str, ...]]:
    """What the part takes, and what is in it."""
    amounts, fit = part.of()
    if len(amounts) == 1 and amounts[0].peak:
        yield part.name, _us(part.time_ns), *_rate(amounts[0])
        return
    yield part.name, _us(part.time_ns)
    for amount in (amount for amount in amounts if _time(amount.time_ns)):
        rate = _rate(amount) if np.isfinite(amount.peak) and amount.peak else ()
        yield f"  {amount.name}", _us(amount.time_ns), *rate
    if amounts and fit is None:
        longest = max(amounts, key=lambda amount: _time(amount.time_ns))
        alone = _time(part.time_ns) <= _time(longest.time_ns)
        told = "the longest counts" if alone else "which hides a part of the others"
        yield "bound by", "", BOUNDS.get(longest.name, longest.name), told


def _of_mix(dtype: object) -> object:
    """The format that most tensors of one of llama-quantize's mixes have; others as they are."""
    return dtype if dtype in UNITS else RECIPES.get(str(dtype), dtype)


def _caption(op: str, found: Found, profile: HardwareProfile) -> list[str]:
    """The fit behind a price, or what an amount means and the sources of the numbers; and that no
    run has it.
    """
    details = [part.of() for part in found.parts]
    fits = [_fit(detail.fit, profile) for detail in details if detail.fit is not None]
    counted_whole = any(len(detail.amounts) > 1 for detail in details)
    told = [fits[0]] if fits else [WHOLE if counted_whole else "", *_rests_on(op, profile)]
    if parts := profile.unverified:
        told.append(f"from memory, not compared with a document: numbers of the {', '.join(parts)}")
    if profile.unified and op in OF_TWO_MEMORIES:
        told.append(f"no run has it: {profile.name} has one memory, in which the GPU reads experts")
    return list(filter(None, told))


def _rests_on(op: str, profile: HardwareProfile) -> list[str]:
    """A line for each source of the numbers that a price without a fit is made from."""
    part, path = ELSEWHERE.get(op, ("datasheet", ()))
    named: dict[str, dict[str, None]] = {}
    for steps, source in sources_used(getattr(profile, part)):
        if steps[: len(path)] == path and (op in ELSEWHERE or steps[0] in NUMBERS):
            name = steps[0] if not path else " ".join(map(str, steps[1:-1]))
            named.setdefault(source, {})[str(name).replace("_", " ")] = None
    return [f"{', '.join(names)}: {profile.sources[source]}" for source, names in named.items()]


def _time(time_ns: ArrayLike) -> float:
    return float(np.ravel(time_ns)[0])


def _us(time_ns: ArrayLike) -> str:
    return f"{_time(time_ns) / 1e3:.3f}"


def _rate(amount: Amount) -> tuple[str, str]:
    """The amount, and the rate with the share of the peak that it is."""
    rate = f"{_scaled(amount.peak * amount.fraction)}{amount.unit}/s"
    if amount.fraction < 1:
        rate += f", {100 * amount.fraction:.3g} % of {_scaled(amount.peak)}{amount.unit}/s"
    size = float(np.ravel(np.asarray(amount.amount, np.float64))[0])
    return f"{_scaled(size)}{amount.unit}", rate


def _scaled(value: float) -> str:
    """With a decimal prefix, before a unit."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:.4g} "


def _fit(fit: Fit, profile: HardwareProfile) -> str:
    """The fit behind a price, and how wrong it was."""
    error, told = fit.unseen, "no held-out error: too few shapes"
    if error is not None:
        told = f"unseen shapes: median {error.median_percent} %, p90 {error.p90_percent} %"
    points = counted(fit.points, "point")
    return f"fit: {fit.label}, {points}; {told}; {profile.sources[fit.source]}"
