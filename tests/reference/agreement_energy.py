"""Joules, after the clock: of the engine's metrics, and plainly from a verdict."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from moesim.engine.case import Case as EngineCase
from moesim.engine.outcome import Outcome
from moesim.hardware import load_hardware
from moesim.hardware.energy import Energy
from moesim.metrics.energy import Bill

from .reference_words import Activation, Verdict
from .strategies import Case

PARTS = (
    "gpu",
    "gpu_waiting",
    "cpu",
    "cpu_idle",
    "storage",
    "storage_idle",
    "dram",
    "link",
    "other",
)
"""What ``Case.watts`` are of: W, but of memory in W/GB and of links in pJ/bit."""
MACHINE = load_hardware("rtx-4090")
"""Whose host has one NUMA node; of it nothing counts but the size of its memory."""
UNITS = {"dram": "W/GB", "link": "pJ/bit"}


def same_energy(case: Case, verdict: Verdict, theirs: EngineCase, outcome: Outcome) -> None:
    """Each part that has a plain account, and that no other is left out."""
    watts = dict(zip(PARTS, case.watts, strict=True))
    energy: Any = {part: f"{value} {UNITS.get(part, 'W')}" for part, value in watts.items()}
    found = Bill(MACHINE, Energy(**energy), None).numbers(theirs, outcome, 0)
    plain = joules(case, verdict, watts)
    assert found["energy_j"].keys() == plain.keys()
    for part, value in plain.items():
        if value is not None:
            assert found["energy_j"][part] == pytest.approx(value, rel=1e-9, abs=1e-15), part
    assert sum(found["gpu_energy_j"].values()) == pytest.approx(found["energy_j"]["gpu"])
    assert sum(found["energy_j"].values()) == pytest.approx(found["total_energy_j"])


def joules(case: Case, verdict: Verdict, watts: dict[str, int]) -> dict[str, float | None]:
    """By part; None where no plain account is written for what this case does."""
    seconds, nodes = verdict.duration_ns / 1e9, case.config.nodes
    rests = {c for c in verdict.time_ns if c in ("host", "idle") or c.startswith("waiting_for_")}
    waits = sum(verdict.time_ns[category] for category in rests) / 1e9
    busy = verdict.gpus * seconds - waits
    working = {"cpu": cpu_seconds(case, verdict), "storage": drive_seconds(case, verdict)}
    found: dict[str, float | None] = {
        "gpu": busy * watts["gpu"] + waits * watts["gpu_waiting"],
        "dram": watts["dram"] / 1e9 * MACHINE.host.memory.value * nodes * seconds,
        "link": watts["link"] * 8e-12 * verdict.bytes_h2d,
        "other": watts["other"] * nodes * seconds,
    }
    for part, spent in working.items():
        idle = watts[f"{part}_idle"]
        more = None if spent is None else (watts[part] - idle) * spent
        found[part] = None if more is None else idle * nodes * seconds + more
    return found


def cpu_seconds(case: Case, verdict: Verdict) -> float | None:
    """The node's: those of a layer on a GPU at the mean rows of what it misses there, on the GPU's
    share of the cores.
    """
    if not verdict.host_activations:
        return 0.0
    if case.config.variants or case.config.near_memory:
        return None
    cells: dict[tuple[int, int, int], list[Activation]] = defaultdict(list)
    for one in verdict.activations:
        cells[one.step, one.layer, one.gpu].append(one)
    spent = sum(cell_ns(case, *of) for of in cells.items())
    return spent / 1e9 / (case.config.gpus // case.config.nodes)


def cell_ns(case: Case, where: tuple[int, int, int], cell: list[Activation]) -> int:
    """What the CPU computes in one layer of one GPU."""
    hosted = sum(one.place in ("host", "behind") for one in cell)
    if not hosted:
        return 0
    rows = sum(one.kept_rows for one in cell if not one.hit and one.place != "skip")
    mean = max(round(rows / sum(not one.hit for one in cell)), 1)
    each = case.prices.cpu_expert_ns(case.model.moe_layers[where[1]], mean)
    return hosted * each + case.config.host_start_ns


def drive_seconds(case: Case, verdict: Verdict) -> float | None:
    """Of all drives, each read as behind another."""
    config = case.config
    if config.host_slots is None:
        return 0.0
    if config.variants or case.model.by_layer:
        return None
    size = case.model.stored_in(0)
    each = case.prices.storage_read_ns(size, config.reads, config.mapped, True)
    return verdict.storage_reads * each / 1e9
