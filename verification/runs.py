"""Laws of whole runs: every nanosecond is charged once, and no run beats its link."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import moesim
from moesim.hardware import load_hardware
from verification.check import Measured, check

if TYPE_CHECKING:
    from moesim.results import Result

CHARGES = ("attention", "gate", "dispatch_combine", "experts", "host", "stall", "barrier")

Settings = dict[str, Any]


def settings() -> Iterator[Settings]:
    """Experiments of many kinds on the shipped trace."""
    for hardware, gpus, batch in (("rtx-4060-8gb", 1, 1), ("h100-sxm", 4, 8), ("dgx-h100", 8, 16)):
        for capacity in ("2 slots/layer", "25 %", "all"):
            for software in ("ideal", "hf-eager"):
                if gpus == 1 and capacity == "all":
                    continue
                yield {
                    "name": f"{hardware}, {gpus} GPUs, {capacity.partition('/')[0]}, {software}",
                    "model": "gpt-oss-20b",
                    "hardware": hardware,
                    "software": software,
                    "trace": "traces/quickstart.parquet",
                    "parallelism": {"expert": gpus},
                    "workload": {
                        "batching": {"kind": "refill", "batch_size": batch},
                        "requests": 2 * batch if batch > 1 else 1,
                    },
                    "experts": {"capacity": capacity},
                }


@cache
def runs() -> tuple[tuple[Settings, Result], ...]:
    """Each experiment run once, with the engine's own invariants checked on the way."""
    return tuple((one, moesim.run(one, check=True)) for one in settings())


@check(
    "Every GPU's time is charged once: charges and idle add up to GPUs x duration",
    tolerance=0,
    why="charges are integer nanoseconds; the utilisation law with no remainder",
    unit="ns",
)
def time_is_charged_once() -> Measured:
    found = []
    for one, result in runs():
        gpus = one["parallelism"]["expert"]
        total = gpus * round(result.summary["duration_ms"] * 1e6)
        charged = sum(int(result.steps[f"{name}_ns"].sum()) for name in CHARGES)
        idle = result.summary["time_share"]["idle"] * total
        found.append((max(abs(total - charged - round(idle)), -round(idle)), one["name"]))
    return Measured(*max(found))


@check(
    "No run is shorter than its copies on the links",
    tolerance=0,
    why="all bytes cross a slot; its raw rate is a physical limit",
    unit="of the duration",
)
def runs_obey_the_link() -> Measured:
    found = []
    for one, result in runs():
        rate = load_hardware(one["hardware"]).datasheet.pcie.value * one["parallelism"]["expert"]
        least_ms = 1e3 * result.summary["bytes_h2d"] / rate
        found.append((least_ms / result.summary["duration_ms"] - 1, one["name"]))
    return Measured(*max(found))


@check(
    "Little's law: live requests over time = arrivals x time in the system",
    tolerance=1e-9,
    why="an identity of the step and request tables, up to rounding of floats",
    unit="of the mean",
)
def little() -> Measured:
    found = []
    for one, result in runs():
        steps = result.steps
        spans = steps["end_ns"] - steps["start_ns"]
        in_steps = float((steps["live_requests"] * spans).sum())
        ends = steps["end_ns"].to_numpy()
        starts = dict(zip(ends.tolist(), steps["start_ns"].tolist(), strict=True))
        by_request = 0.0
        for row in result.requests.itertuples():
            mine = (ends >= row.first_ns) & (ends <= row.last_ns)
            by_request += float(sum(int(end) - starts[int(end)] for end in ends[mine]))
        found.append((abs(by_request / in_steps - 1), one["name"]))
    return Measured(*max(found))
