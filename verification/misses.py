"""Laws of handling misses: what may not be slower than what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import moesim
from moesim.engine.des.run import run_des
from moesim.experiment.building.build import build
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from verification.check import Measured, check

if TYPE_CHECKING:
    from moesim.results import Result

TRACE = "traces/quickstart.parquet"
CARDS = ("rtx-4060-8gb", "rtx-4090", "h100-sxm")
SLOTS = (4, 8, 12)


def experiment_of(hardware: str, miss: str, slots: int, batch: int, initial: str) -> dict[str, Any]:
    """gpt-oss-20b's first requests with that way of handling misses."""
    return {
        "model": "gpt-oss-20b",
        "hardware": hardware,
        "trace": TRACE,
        "workload": {"batching": {"kind": "static", "batch_size": batch}, "requests": 4},
        "experts": {
            "capacity": f"{slots} slots/layer",
            "miss": {"kind": miss},
            "initial": initial,
        },
        "records": "summary",
    }


def run(hardware: str, miss: str, slots: int, batch: int, initial: str = "most_used") -> Result:
    """The result of such an experiment."""
    result = moesim.run(experiment_of(hardware, miss, slots, batch, initial))
    assert result.status == "ok", result.summary["reason"]
    return result


def settings() -> Iterator[tuple[str, int, int]]:
    """Cards, slots and batch sizes."""
    return ((card, slots, batch) for card in CARDS for slots in SLOTS for batch in (1, 4))


@check(
    "cheapest is never slower than both load and cpu",
    tolerance=0,
    why="it takes the sooner of both for each expert; one expert's time a layer is allowed for, as "
    "it looks at prices and not at the clock",
    unit="ms beyond that",
)
def cheapest_is_not_the_slowest() -> Measured:
    found = []
    model = load_model("gpt-oss-20b")
    for card, slots, batch in settings():
        time = {miss: run(card, miss, slots, batch).summary for miss in ("load", "cpu", "cheapest")}
        costs, layer = CostModel(load_hardware(card), model), model.moe_layers[0]
        expert_ms = int(costs.cpu_expert_ns(layer, [batch])[0]) / 1e6
        slack = expert_ms * time["cheapest"]["layer_steps"]
        worse = max(time["load"]["duration_ms"], time["cpu"]["duration_ms"])
        beyond = time["cheapest"]["duration_ms"] - worse - slack
        found.append((beyond, f"{card}, {slots} slots, batch {batch}"))
    worst, where = max(found)
    return Measured(worst, f"closest of {len(found)}: {where}")


@check(
    "The time of zero_copy does not depend on the slots",
    tolerance=0,
    why="from empty slots nothing is ever loaded, so all weights cross the link each time",
    unit="ms",
)
def zero_copy_ignores_slots() -> Measured:
    found = []
    for card in CARDS:
        times = [run(card, "zero_copy", slots, 1, "empty").summary for slots in SLOTS]
        durations = [summary["duration_ms"] for summary in times]
        found.append((max(durations) - min(durations), card))
    worst, where = max(found)
    return Measured(worst, f"farthest of {len(found)} cards: {where}")


@check(
    "Weights over the link are the loads and the zero-copy reads, and nothing else",
    tolerance=0,
    why="bytes are integers and are counted once",
    unit="bytes",
)
def bytes_are_conserved() -> Measured:
    expert = load_model("gpt-oss-20b").moe_layers[0].moe
    assert expert is not None, "gpt-oss has experts in every layer"
    found = []
    for miss in ("load", "cpu", "cheapest", "zero_copy"):
        for slots in SLOTS:
            summary = run("rtx-4090", miss, slots, 4).summary
            crossed = summary["misses"] - summary["misses_on_cpu"]
            beyond = abs(summary["bytes_h2d"] - crossed * expert.expert.bytes)
            found.append((beyond, f"{miss}, {slots} slots"))
    worst, where = max(found)
    return Measured(worst, f"farthest of {len(found)}: {where}")


@check(
    "A faster link never makes a run of load or zero_copy slower",
    tolerance=0,
    why="without prefetch and sharing, no decision reads a price or the clock",
    unit="ms",
)
def a_faster_link_never_hurts() -> Measured:
    found = []
    for miss in ("load", "zero_copy"):
        for slots in SLOTS:
            times = [duration_ms(miss, slots, factor) for factor in (1, 2, 4)]
            beyond = max(faster - slower for slower, faster in pairwise(times))
            found.append((beyond, f"{miss}, {slots} slots"))
    worst, where = max(found)
    return Measured(worst, f"closest of {len(found)}: {where}")


def duration_ms(miss: str, slots: int, factor: int) -> float:
    """A run on a card whose pinned copies have ``factor`` times the bandwidth."""
    source = experiment_of("rtx-4090", miss, slots, 1, "most_used")
    case = build(moesim.load_experiment(source).experiment).case
    card = load_hardware("rtx-4090")
    pinned = card.datasheet.copies.h2d.pinned
    rate = pinned.bandwidth.model_copy(update={"value": pinned.bandwidth.value * factor})
    h2d = card.datasheet.copies.h2d.model_copy(
        update={"pinned": pinned.model_copy(update={"bandwidth": rate})}
    )
    copies = card.datasheet.copies.model_copy(update={"h2d": h2d})
    sheet = card.datasheet.model_copy(update={"copies": copies})
    prices = CostModel(card.model_copy(update={"datasheet": sheet}), case.model)
    return run_des(replace(case, prices=prices), records="summary").duration_ns / 1e6
